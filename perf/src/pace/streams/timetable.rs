//! When records and fences of many streams are due. Pure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Records come in periods, as from an audio card: what falls due within one is handed over at its
/// end, so that the generator wakes no more often than a recorder would. A fence has its own moment.
pub(super) const PERIOD: Duration = Duration::from_millis(5);
/// Fences of each stream that are not counted: the first pays for what is done once.
pub(super) const WARM_UP: u64 = 1;

/// What every subject is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timetable {
    pub(super) streams: usize,
    /// Of each stream.
    pub(super) bytes_per_s: u64,
    pub(super) record: usize,
    pub(super) every: Duration,
    /// Fences of each stream that count.
    pub(super) rounds: u64,
    /// Fences of different streams fall due one after the other; or all at the same moment.
    pub(super) spread: bool,
}

/// Something that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Event {
    pub(super) due: Duration,
    pub(super) what: What,
    pub(super) stream: usize,
}

/// Records come before fences of the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Record(u64),
    Fence(u64),
}

impl Timetable {
    /// Fences of each stream, those before the count included.
    pub(super) fn fences(&self) -> u64 {
        self.rounds + WARM_UP
    }

    /// Records of each stream.
    pub(super) fn records(&self) -> u64 {
        let bytes = u128::from(self.bytes_per_s) * self.end().as_nanos() / 1_000_000_000;
        u64::try_from(bytes / self.record as u128).unwrap_or(u64::MAX)
    }

    /// Bytes of each stream.
    pub(super) fn bytes(&self) -> u64 {
        self.records().saturating_mul(self.record as u64)
    }

    /// From here on everything is counted: the first moment at which a counted fence can be due.
    pub(super) fn begin(&self) -> Duration {
        self.every.saturating_mul(WARM_UP as u32 + 1)
    }

    /// How long is counted.
    pub(super) fn length(&self) -> Duration {
        self.every.saturating_mul(u32::try_from(self.rounds).unwrap_or(u32::MAX))
    }

    /// No record or fence is due later, but for the end of a period.
    pub(super) fn end(&self) -> Duration {
        self.begin() + self.length()
    }

    pub(super) fn fence_due(&self, stream: usize, fence: u64) -> Duration {
        let phase = match self.spread {
            true => self.every.mul_f64(stream as f64 / self.streams as f64),
            false => Duration::ZERO,
        };
        phase + self.every.saturating_mul(u32::try_from(fence + 1).unwrap_or(u32::MAX))
    }

    /// At the end of its period. The last byte of a record decides; streams are spread over the time
    /// of one record, whatever is done about fences.
    fn record_due(&self, stream: usize, record: u64) -> Duration {
        let records = u128::from(record) * self.streams as u128 + stream as u128;
        let nanos = records * self.record as u128 * 1_000_000_000
            / (u128::from(self.bytes_per_s) * self.streams as u128);
        let periods = (nanos as u64).div_ceil(PERIOD.as_nanos() as u64);
        Duration::from_nanos(periods.saturating_mul(PERIOD.as_nanos() as u64))
    }

    /// All events in their order.
    pub(super) fn events(&self) -> Events {
        let first = |stream| {
            let record = Event { due: self.record_due(stream, 0), what: What::Record(0), stream };
            let due = self.fence_due(stream, 0);
            [record, Event { due, what: What::Fence(0), stream }]
        };
        let next = (0..self.streams).flat_map(first).map(Reverse).collect();
        Events { of: *self, records: self.records(), next }
    }
}

/// The events that are still to come.
#[derive(Clone, Debug)]
pub(super) struct Events {
    of: Timetable,
    records: u64,
    /// The next record and the next fence of each stream.
    next: BinaryHeap<Reverse<Event>>,
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let Reverse(event) = self.next.pop()?;
        let (of, stream) = (&self.of, event.stream);
        let following = match event.what {
            What::Record(record) if record + 1 < self.records => {
                Some((of.record_due(stream, record + 1), What::Record(record + 1)))
            }
            What::Fence(fence) if fence + 1 < of.fences() => {
                Some((of.fence_due(stream, fence + 1), What::Fence(fence + 1)))
            }
            _ => None,
        };
        let following = following.map(|(due, what)| Reverse(Event { due, what, stream }));
        self.next.extend(following);
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(streams: usize, spread: bool) -> Timetable {
        let every = Duration::from_millis(100);
        Timetable { streams, bytes_per_s: 1_000_000, record: 16 << 10, every, rounds: 10, spread }
    }

    #[test]
    fn every_record_and_every_fence_comes_once_and_in_order() {
        for (streams, spread) in [(1, true), (4, true), (4, false), (64, true)] {
            let table = of(streams, spread);
            // 1.2 s of 1 MB/s in records of 16 KiB; eleven fences, of which ten count.
            assert_eq!((table.records(), table.fences(), table.bytes()), (73, 11, 73 << 14));
            let events: Vec<Event> = table.events().collect();
            assert_eq!(events.len(), streams * (73 + 11));
            assert!(events.is_sorted());
            for stream in 0..streams {
                let own = || events.iter().filter(|event| event.stream == stream);
                let records = own().filter(|event| matches!(event.what, What::Record(_)));
                assert!(records.map(|event| event.what).eq((0..73).map(What::Record)));
                let fences = own().filter(|event| matches!(event.what, What::Fence(_)));
                assert!(fences.map(|event| event.what).eq((0..11).map(What::Fence)));
            }
            let counted = events
                .iter()
                .filter(|event| matches!(event.what, What::Fence(_)) && event.due >= table.begin());
            assert_eq!(counted.count(), streams * 10);
            assert!(events.last().unwrap().due <= table.end() + PERIOD);
        }
    }

    #[test]
    fn phases_are_spread_over_the_time_between_two_fences_or_are_one() {
        let due = |spread| (0..4).map(move |stream| of(4, spread).fence_due(stream, 0).as_millis());
        assert!(due(true).eq([100, 125, 150, 175]));
        assert!(due(false).eq([100; 4]));
    }

    /// What a fence covers is what its stream was given before, at its rate.
    #[test]
    fn records_come_at_their_rate_at_the_ends_of_periods() {
        let table = of(4, true);
        for event in table.events() {
            let What::Record(record) = event.what else { continue };
            let exact = record as f64 * 16_384.0 / 1e6 + event.stream as f64 * 16_384.0 / 4e6;
            let late = event.due.as_secs_f64() - exact;
            assert!((-1e-9..0.005).contains(&late), "{event:?}: {late}");
            assert_eq!(event.due.as_nanos() % PERIOD.as_nanos(), 0);
        }
    }
}
