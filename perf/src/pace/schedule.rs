//! When records are due. Pure.

use std::time::Duration;

/// Records at a fixed rate: a record that is late never shifts those after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) bytes_per_s: u64,
    pub(crate) record: usize,
    pub(crate) records: u64,
}

impl Schedule {
    /// At least one record.
    pub(crate) fn new(bytes_per_s: u64, record: usize, time: Duration) -> Self {
        let bytes = u128::from(bytes_per_s) * time.as_nanos() / 1_000_000_000;
        let records = u64::try_from(bytes / record as u128).unwrap_or(u64::MAX);
        Self { bytes_per_s, record, records: records.max(1) }
    }

    /// When record `index` is due, from the beginning.
    pub(crate) fn due(&self, index: u64) -> Duration {
        let bytes = u128::from(index) * self.record as u128;
        Duration::from_nanos((bytes * 1_000_000_000 / u128::from(self.bytes_per_s)) as u64)
    }

    /// From the first record to the moment when one after the last would be due.
    pub(crate) fn length(&self) -> Duration {
        self.due(self.records)
    }

    /// Whether a producer that has handed over the last record at this moment could not keep up: it
    /// is further behind than a stall of the last moments explains.
    pub(crate) fn is_missed_at(&self, end: Duration) -> bool {
        let behind = end.saturating_sub(self.due(self.records - 1));
        behind > (self.length() / 100).max(Duration::from_millis(250))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.records.saturating_mul(self.record as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_at_their_rate_without_drift() {
        let schedule = Schedule::new(200_000_000, 64 << 10, Duration::from_secs(10));
        assert_eq!(schedule.records, 2_000_000_000 / (64 << 10));
        assert_eq!(schedule.due(0), Duration::ZERO);
        // 65,536 bytes at 200 MB/s: 327.68 µs.
        assert_eq!(schedule.due(1), Duration::from_nanos(327_680));
        assert_eq!(schedule.due(1_000_000), Duration::from_nanos(327_680_000_000));
        assert!(!schedule.is_missed_at(schedule.length() + Duration::from_millis(200)));
        assert!(schedule.is_missed_at(schedule.length() + Duration::from_millis(300)));
        let long = Schedule::new(1000, 1, Duration::from_secs(100));
        assert!(!long.is_missed_at(Duration::from_millis(100_900)));
        assert!(long.is_missed_at(Duration::from_millis(101_100)));
        assert_eq!(Schedule::new(1, 4096, Duration::from_secs(1)).records, 1);
    }
}
