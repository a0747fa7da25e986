//! What many streams have cost, as it is kept (`results/README.md` documents the fields).

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::timetable::Timetable;
use super::visit::Visit;
use crate::latency::Latency;
use crate::output::count;

/// All subjects of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Streams {
    /// Files that grew at once.
    pub(crate) streams: usize,
    /// Visits of each subject; in each lap one of all, in random order.
    pub(crate) laps: u32,
    /// Fences of each stream that count, of all laps.
    pub(crate) rounds: u64,
    /// `spread` or `together`.
    pub(crate) phases: String,
    /// Records and fences that nothing is done about: its processor time is taken off the others'.
    pub(crate) generator: Row,
    pub(crate) rows: Vec<Row>,
}

impl Streams {
    /// The conditions, for people.
    pub(crate) fn name(&self) -> String {
        let phases = match self.phases.as_str() {
            "together" => "all fences at the same moment",
            _ => "fences one after the other",
        };
        let (streams, laps) = (self.streams as u64, u64::from(self.laps));
        format!("{}, {phases}, {}", count(streams, "stream"), count(laps, "lap"))
    }
}

/// A subject, of all laps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) subject: String,
    /// How bytes got to the disk, and what durable meant.
    pub(crate) way: String,
    /// What it really had for bytes that were not yet written, of all streams.
    pub(crate) memory_bytes: u64,
    /// Of all streams and laps, those before the count included.
    pub(crate) records: u64,
    pub(crate) overruns: u64,
    pub(crate) lost_bytes: u64,
    /// Taken.
    pub(crate) bytes: u64,
    /// Files that were read back after the close and held exactly what they had been given.
    pub(crate) exact_files: u64,
    /// That count.
    pub(crate) fences: u64,
    /// From the moment at which a fence was due until it was known to be durable.
    pub(crate) fence_us: Latency,
    /// Processor time of the process without the generator's, for a second of one stream: the
    /// median of the laps. Of the generator itself, all of it.
    pub(crate) cpu_ms_per_stream_s: Option<f64>,
    /// The same of each lap.
    pub(crate) cpu_ms_by_lap: Vec<f64>,
    /// For a fence of every stream.
    pub(crate) device_flushes_per_round: Option<f64>,
    /// Above what the process had before, at the end of a visit: the most of any lap.
    pub(crate) descriptors: Option<u64>,
    pub(crate) threads: Option<u64>,
    /// Of io_uring, which the kernel starts and ends.
    pub(crate) kernel_workers: Option<u64>,
    /// The most that a record or fence was handed over after its moment.
    pub(crate) late_us: f64,
    /// Opening a file, on average.
    pub(crate) open_us: f64,
    /// What went wrong; it ended the subject's part.
    pub(crate) error: Option<String>,
}

/// What a second of one stream took of the processors, in ms.
fn cpu_ms(visit: &Visit, streams: usize) -> f64 {
    let seconds = visit.time.as_secs_f64().max(1e-9);
    visit.cpu.as_secs_f64() * 1e3 / seconds / streams as f64
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some(f64::midpoint(sorted[low], sorted[high]))
}

impl Row {
    /// Of the visits of a subject; `base` are those of the generator alone in the same laps.
    pub(super) fn of(subject: &str, visits: &[Visit], base: &[Visit], table: &Timetable) -> Self {
        let whole: Vec<(usize, &Visit)> =
            visits.iter().enumerate().filter(|(_, visit)| visit.error.is_none()).collect();
        let cpu = |(lap, visit): &(usize, &Visit)| {
            let base = base.get(*lap).map_or(0.0, |base| cpu_ms(base, table.streams));
            cpu_ms(visit, table.streams) - base
        };
        let by_lap: Vec<f64> = whole.iter().map(cpu).collect();
        let flushes: Option<u64> = whole.iter().map(|(_, visit)| visit.flushes).sum();
        let rounds = (whole.len() as u64 * table.rounds).max(1) as f64;
        let held = visits.iter().filter_map(|visit| visit.held).reduce(|a, b| a.most(b));
        let sum = |of: fn(&Visit) -> u64| visits.iter().map(of).sum::<u64>();
        let overruns = sum(|visit| visit.overruns);
        let late = visits.iter().map(|visit| visit.late).max();
        let opens = visits.iter().map(|visit| visit.open.as_secs_f64()).sum::<f64>();
        let opened = (visits.len() * table.streams).max(1) as f64;
        Self {
            subject: subject.into(),
            way: visits.first().map(|visit| visit.way.clone()).unwrap_or_default(),
            memory_bytes: visits.iter().map(|visit| visit.memory).max().unwrap_or_default(),
            records: sum(|visit| visit.records),
            overruns,
            lost_bytes: overruns * table.record as u64,
            bytes: sum(|visit| visit.taken_bytes),
            exact_files: sum(|visit| visit.exact_files),
            fences: whole.iter().map(|(_, visit)| visit.fences.len() as u64).sum(),
            fence_us: latency(&whole),
            cpu_ms_per_stream_s: median(&by_lap),
            cpu_ms_by_lap: by_lap,
            device_flushes_per_round: flushes
                .filter(|_| !whole.is_empty())
                .map(|flushes| flushes as f64 / rounds),
            descriptors: held.map(|held| held.descriptors),
            threads: held.map(|held| held.threads),
            kernel_workers: held.map(|held| held.workers),
            late_us: late.unwrap_or_default().as_secs_f64() * 1e6,
            open_us: opens * 1e6 / opened,
            error: visits.iter().find_map(|visit| visit.error.clone()),
        }
    }
}

/// What a histogram counts as its longest: an hour, in ns.
const LONGEST: u64 = 3_600_000_000_000;

fn latency(visits: &[(usize, &Visit)]) -> Latency {
    let Ok(mut histogram) = Histogram::<u64>::new_with_bounds(1, LONGEST, 3) else {
        return Latency::default();
    };
    for time in visits.iter().flat_map(|(_, visit)| &visit.fences) {
        histogram.saturating_record(time.as_nanos() as u64);
    }
    Latency::of_histogram(&histogram)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::process::Held;
    use super::*;

    pub(crate) fn table() -> Timetable {
        let every = Duration::from_millis(100);
        let (bytes_per_s, record, rounds) = (1_000_000, 1 << 14, 10);
        Timetable { streams: 4, bytes_per_s, record, every, rounds, spread: true }
    }

    fn visit(cpu_ms: u64, flushes: u64) -> Visit {
        Visit {
            way: "by hand".into(),
            memory: 1000,
            records: 292,
            overruns: 2,
            taken_bytes: 290 << 14,
            exact_files: 4,
            fences: vec![Duration::from_micros(300); 40],
            cpu: Duration::from_millis(cpu_ms),
            time: Duration::from_secs(1),
            flushes: Some(flushes),
            held: Some(Held { descriptors: cpu_ms, threads: 1, workers: 2 }),
            late: Duration::from_micros(cpu_ms),
            open: Duration::from_micros(400),
            error: None,
        }
    }

    #[test]
    fn laps_are_added_and_the_generator_is_taken_off_lap_by_lap() {
        let visits = [visit(20, 30), visit(44, 32), visit(24, 34)];
        let base = [visit(4, 0), visit(24, 0), visit(4, 0)];
        let row = Row::of("ring", &visits, &base, &table());
        assert_eq!((row.records, row.overruns, row.lost_bytes), (876, 6, 6 << 14));
        assert_eq!((row.exact_files, row.fences, row.bytes), (12, 120, 870 << 14));
        // 16, 20 and 20 ms a second of four streams.
        assert_eq!(row.cpu_ms_by_lap, [4.0, 5.0, 5.0]);
        assert_eq!(row.cpu_ms_per_stream_s, Some(5.0));
        // 96 flushes in 30 rounds.
        assert_eq!(row.device_flushes_per_round, Some(3.2));
        assert_eq!(
            (row.descriptors, row.threads, row.kernel_workers),
            (Some(44), Some(1), Some(2))
        );
        assert!((row.open_us - 100.0).abs() < 1e-6, "{}", row.open_us);
        assert!((row.late_us - 44.0).abs() < 1e-6, "{}", row.late_us);
        assert!((row.fence_us.mean - 300.0).abs() < 1.0);
        assert_eq!((row.fence_us.p99, row.error), (None, None));
    }

    /// A lap that failed has no figures; what was lost in it is told.
    #[test]
    fn a_lap_that_failed_counts_for_nothing_but_its_losses() {
        let failed = Visit { error: Some("worn out".into()), flushes: None, ..visit(1000, 0) };
        let row = Row::of("ring", &[visit(20, 30), failed.clone()], &[visit(4, 0)], &table());
        assert_eq!((row.fences, row.cpu_ms_by_lap.len(), row.overruns), (40, 1, 4));
        assert_eq!(row.device_flushes_per_round, Some(3.0));
        assert_eq!(row.error.as_deref(), Some("worn out"));
        let row = Row::of("ring", &[failed], &[], &table());
        assert_eq!((row.cpu_ms_per_stream_s, row.device_flushes_per_round), (None, None));
    }
}
