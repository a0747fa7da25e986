//! One recording at a fixed rate, watched from its producer.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use cpu_time::{ProcessTime, ThreadTime};
use hdrhistogram::Histogram;
use spin_sleep::SpinSleeper;

use super::result::Take;
use super::schedule::Schedule;
use super::subject::Recorder;
use crate::latency::Latency;
use crate::output::amount;
use crate::stop::{LOOK_EVERY, Stop};

/// How a recording goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacing<'a> {
    pub(crate) schedule: Schedule,
    /// Zero: one fence at the end.
    pub(crate) fence_every: Duration,
    /// The first loss ends it.
    pub(crate) give_up: bool,
    pub(crate) stop: &'a Stop,
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Seen {
    service: Histogram<u64>,
    response: Histogram<u64>,
    durable: Histogram<u64>,
    records: u64,
    overruns: u64,
    missed: u64,
    taken: u64,
    most_held: u64,
    memory: u64,
    way: String,
    stalls: Longest,
    lag: Vec<(f64, u64)>,
    /// Records that are not known to be durable yet: when they were due, and where they end.
    pending: VecDeque<(Duration, u64)>,
    /// From the first due moment to the end of the last hand-over.
    pub(crate) length: Duration,
    cpu: Duration,
    error: Option<String>,
}

/// Stretches of the time for which the lag is kept.
const STRETCHES: u64 = 100;
/// How long the producer spins before a record is due, so that a late wake-up of its own does not
/// pass for a stall.
const SPIN: Duration = Duration::from_micros(100);
/// What a histogram counts as its longest: an hour, in ns.
const LONGEST: u64 = 3_600_000_000_000;
/// Give up waiting for the last fence.
const PATIENCE: Duration = Duration::from_secs(120);

impl Seen {
    fn new(schedule: &Schedule, memory: u64, way: String) -> io::Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, LONGEST, 3).map_err(io::Error::other);
        Ok(Self {
            service: histogram()?,
            response: histogram()?,
            durable: histogram()?,
            records: 0,
            overruns: 0,
            missed: 0,
            taken: 0,
            most_held: 0,
            memory,
            way,
            stalls: Longest::default(),
            lag: Vec::with_capacity(STRETCHES as usize + 1),
            pending: VecDeque::with_capacity(schedule.records.min(1 << 20) as usize),
            length: Duration::ZERO,
            cpu: Duration::ZERO,
            error: None,
        })
    }

    /// What has been written and become durable until now.
    fn settle(&mut self, written: u64, durable: u64, now: Duration) {
        self.most_held = self.most_held.max(self.taken.saturating_sub(written));
        while self.pending.front().is_some_and(|(_, end)| *end <= durable) {
            if let Some((due, _)) = self.pending.pop_front() {
                note(&mut self.durable, now - due);
            }
        }
        if let Some((_, most)) = self.lag.last_mut() {
            *most = (*most).max(self.taken.saturating_sub(durable));
        }
    }

    /// A record was offered between two moments.
    fn offered(&mut self, took: bool, length: usize, times: [Duration; 3], next: Duration) {
        let [due, begun, ended] = times;
        self.records += 1;
        note(&mut self.service, ended - begun);
        note(&mut self.response, ended.saturating_sub(due));
        if ended > next {
            self.missed += 1;
            self.stalls.add(due, ended - due);
        }
        match took {
            true => {
                self.taken += length as u64;
                self.pending.push_back((due, self.taken));
            }
            false => self.overruns += 1,
        }
    }

    /// What is said of a producer that could not keep up: then nothing here is about that rate.
    fn too_slow(&self, schedule: &Schedule) -> Option<String> {
        let bytes = (self.records * schedule.record as u64) as f64;
        let reached = amount(bytes / self.length.as_secs_f64().max(1e-9));
        schedule.is_missed_at(self.length).then(|| {
            format!(
                "the producer could not keep up: it reached {reached}/s instead of {}/s, since \
                 this machine, or the hand-over (service p50), is too slow; give a lower --rate \
                 or a larger --record",
                amount(schedule.bytes_per_s as f64)
            )
        })
    }

    /// Processor time of the process that was somebody else's.
    pub(crate) fn not_ours(&mut self, time: Duration) {
        self.cpu = self.cpu.saturating_sub(time);
    }

    /// As it is kept.
    pub(crate) fn take(self, subject: &str, neighbour: bool, schedule: &Schedule) -> Take {
        let record = schedule.record as u64;
        // A record stands for the time until the next is due.
        let time = self.length.max(schedule.due(self.records)).as_secs_f64().max(1e-9);
        let mb_per_s = |bytes: u64| bytes as f64 / time / 1e6;
        Take {
            subject: subject.into(),
            way: Some(self.way),
            memory_bytes: self.memory,
            neighbour,
            records: self.records,
            overruns: self.overruns,
            lost_bytes: self.overruns * record,
            missed_slots: self.missed,
            service_us: Latency::of_histogram(&self.service),
            response_us: Latency::of_histogram(&self.response),
            durable_us: Latency::of_histogram(&self.durable),
            mb_per_s: mb_per_s(self.taken),
            offered_mb_per_s: Some(mb_per_s(self.records * record)),
            cpu_s_per_gb: self.cpu.as_secs_f64() / (self.taken.max(1) as f64 / 1e9),
            stalls: self.stalls.in_order(),
            most_held_bytes: Some(self.most_held),
            lag: self.lag,
            error: self.error,
        }
    }
}

fn note(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(time.as_nanos() as u64);
}

/// The longest stalls.
#[derive(Debug, Default)]
struct Longest(BinaryHeap<Reverse<(Duration, Duration)>>);

impl Longest {
    const KEPT: usize = 500;

    fn add(&mut self, due: Duration, late: Duration) {
        self.0.push(Reverse((late, due)));
        if self.0.len() > Self::KEPT {
            self.0.pop();
        }
    }

    fn in_order(self) -> Vec<(f64, f64)> {
        let mut stalls: Vec<(Duration, Duration)> =
            self.0.into_iter().map(|Reverse((late, due))| (due, late)).collect();
        stalls.sort();
        let kept = |(due, late): (Duration, Duration)| {
            (due.as_secs_f64(), late.as_nanos() as f64 / 1000.0)
        };
        stalls.into_iter().map(kept).collect()
    }
}

/// Records to the end of the schedule, then makes it durable and closes. `None`: interrupted.
/// What goes wrong in mid-recording is part of what was seen.
pub(crate) fn run(
    mut recorder: Box<dyn Recorder>,
    pacing: &Pacing<'_>,
) -> io::Result<Option<Seen>> {
    let mut seen = Seen::new(&pacing.schedule, recorder.memory(), recorder.way())?;
    let (process, thread) = (ProcessTime::now(), ThreadTime::now());
    let epoch = Instant::now() + Duration::from_millis(1);
    let outcome = record(&mut *recorder, pacing, epoch, &mut seen).and_then(|end| {
        let end = match end {
            End::Whole => settle_all(&mut *recorder, epoch, &mut seen, pacing.stop)?,
            early => early,
        };
        recorder.close()?;
        Ok(end)
    });
    // Everything but the producer, which spins to be on time.
    seen.cpu = process.elapsed().saturating_sub(thread.elapsed());
    seen.error = match outcome {
        Ok(End::Stopped) => return Ok(None),
        Ok(End::Whole) => seen.too_slow(&pacing.schedule),
        Ok(End::GivenUp) => None,
        Err(error) => Some(error.to_string()),
    };
    Ok(Some(seen))
}

/// How a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With the last record.
    Whole,
    /// With the first loss.
    GivenUp,
    /// With a signal.
    Stopped,
}

/// The producer.
fn record(
    recorder: &mut dyn Recorder,
    pacing: &Pacing<'_>,
    epoch: Instant,
    seen: &mut Seen,
) -> io::Result<End> {
    let schedule = pacing.schedule;
    let record = vec![7u8; schedule.record];
    let sleeper = SpinSleeper::new(SPIN.as_nanos() as u32);
    let mut next_fence = pacing.fence_every;
    for index in 0..schedule.records {
        if seen.lag.len() as u64 <= index * STRETCHES / schedule.records {
            let end = (seen.lag.len() + 1) as f64 / STRETCHES as f64;
            seen.lag.push((schedule.length().as_secs_f64() * end, 0));
        }
        let due = schedule.due(index);
        if !sleep_until(&sleeper, epoch + due, pacing.stop) {
            return Ok(End::Stopped);
        }
        seen.settle(recorder.written(), recorder.durable(), epoch.elapsed());
        let begun = epoch.elapsed();
        let took = recorder.offer(&record)?;
        let ended = epoch.elapsed();
        seen.offered(took, record.len(), [due, begun, ended], schedule.due(index + 1));
        seen.length = ended;
        if !took && pacing.give_up {
            return Ok(End::GivenUp);
        }
        if !pacing.fence_every.is_zero() && ended >= next_fence {
            recorder.fence()?;
            next_fence = ended + pacing.fence_every;
        }
    }
    Ok(End::Whole)
}

/// Returns whether it got there: not, if a signal came.
fn sleep_until(sleeper: &SpinSleeper, due: Instant, stop: &Stop) -> bool {
    loop {
        if stop.asked() {
            return false;
        }
        let now = Instant::now();
        if due <= now + LOOK_EVERY {
            sleeper.sleep_until(due);
            return true;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What the producer reaches when records are copied to one place and nothing is waited for: the
/// best of three short tries.
pub(crate) fn most_bytes_per_s(schedule: &Schedule) -> io::Result<f64> {
    let record = vec![7u8; schedule.record];
    let mut place = vec![0u8; schedule.record];
    let mut best = 0.0f64;
    for _ in 0..3 {
        let mut seen = Seen::new(schedule, 0, String::new())?;
        let epoch = Instant::now();
        while seen.length < Duration::from_millis(50) {
            let due = epoch.elapsed();
            seen.settle(u64::MAX, u64::MAX, due);
            place.copy_from_slice(&record);
            std::hint::black_box(&place);
            let ended = epoch.elapsed();
            seen.offered(true, record.len(), [due, due, ended], ended);
            seen.length = ended;
        }
        best = best.max(seen.taken as f64 / seen.length.as_secs_f64());
    }
    Ok(best)
}

/// The last fence.
fn settle_all(
    recorder: &mut dyn Recorder,
    epoch: Instant,
    seen: &mut Seen,
    stop: &Stop,
) -> io::Result<End> {
    recorder.fence()?;
    let begun = Instant::now();
    while !seen.pending.is_empty() {
        seen.settle(recorder.written(), recorder.durable(), epoch.elapsed());
        if stop.asked() {
            return Ok(End::Stopped);
        }
        if begun.elapsed() > PATIENCE {
            return Err(io::Error::other("the last fence has not come back for two minutes"));
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    Ok(End::Whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes records into memory; from the tenth on it has room for every other one only, and the
    /// twentieth takes long.
    #[derive(Default)]
    struct Script {
        offered: u64,
        taken: u64,
        durable: u64,
        fences: u64,
        /// Every hand-over takes long.
        slow: bool,
        /// No fence ever comes back.
        stuck: bool,
    }

    impl Recorder for Script {
        fn memory(&self) -> u64 {
            0
        }

        fn way(&self) -> String {
            "scripted".into()
        }

        fn written(&self) -> u64 {
            self.durable
        }

        fn offer(&mut self, record: &[u8]) -> io::Result<bool> {
            self.offered += 1;
            if self.offered == 20 || self.slow {
                std::thread::sleep(Duration::from_millis(20));
            }
            let room = self.offered < 10 || self.offered.is_multiple_of(2);
            self.taken += if room { record.len() as u64 } else { 0 };
            Ok(room)
        }

        fn fence(&mut self) -> io::Result<()> {
            self.fences += 1;
            self.durable = if self.stuck { 0 } else { self.taken };
            match self.offered {
                35.. => Err(io::Error::other("worn out")),
                _ => Ok(()),
            }
        }

        fn durable(&self) -> u64 {
            self.durable
        }

        fn close(self: Box<Self>) -> io::Result<()> {
            Ok(())
        }
    }

    fn paced(script: Script, records: u64, give_up: bool, stop: &Stop) -> Option<Take> {
        let schedule = Schedule::new(1_000_000, 1000, Duration::from_millis(records));
        let fence_every = Duration::from_millis(5);
        let pacing = Pacing { schedule, fence_every, give_up, stop };
        let seen = run(Box::new(script), &pacing).unwrap()?;
        Some(seen.take("script", false, &schedule))
    }

    fn whole(records: u64, give_up: bool) -> Take {
        paced(Script::default(), records, give_up, &Stop::unset()).unwrap()
    }

    #[test]
    fn losses_stalls_and_lag_are_seen() {
        let take = whole(34, false);
        assert_eq!((take.records, take.overruns, take.lost_bytes), (34, 12, 12_000));
        assert!(take.missed_slots >= 1 && take.service_us.max >= 20_000.0, "{take:?}");
        let longest = take.stalls.iter().map(|stall| stall.1).fold(0.0, f64::max);
        assert!(longest >= 20_000.0, "{take:?}");
        assert!(take.stalls.windows(2).all(|pair| pair[0].0 < pair[1].0));
        // The record that was due while another stalled is late; its service is not.
        assert!(take.response_us.mean > take.service_us.mean, "{take:?}");
        assert!(take.lag.iter().any(|(_, bytes)| *bytes >= 1000));
        assert!(take.most_held_bytes.unwrap() >= 1000, "{take:?}");
        assert_eq!(take.error, None);
    }

    #[test]
    fn a_search_gives_up_at_the_first_loss() {
        let take = whole(34, true);
        assert_eq!((take.records, take.overruns), (11, 1));
    }

    #[test]
    fn what_fails_on_the_way_is_told() {
        assert_eq!(whole(100, false).error.as_deref(), Some("worn out"));
    }

    #[test]
    fn a_producer_that_falls_behind_is_told() {
        // 20 ms a record where one is due each millisecond: 34 of them end 640 ms late.
        let slow = Script { slow: true, ..Script::default() };
        let take = paced(slow, 34, false, &Stop::unset()).unwrap();
        let error = take.error.unwrap();
        assert!(error.contains("could not keep up") && error.contains("1.00 MB/s"), "{error}");
        assert!(take.offered_mb_per_s.unwrap() < 0.06);
    }

    /// Asked after a moment; with a generous limit in place of an hour or two minutes.
    fn is_stopped(script: Script, schedule: Schedule) {
        let stop = Stop::unset();
        let later = stop.clone();
        let asks = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            later.ask();
        });
        let begun = Instant::now();
        let fence_every = Duration::ZERO;
        let pacing = Pacing { schedule, fence_every, give_up: false, stop: &stop };
        assert!(run(Box::new(script), &pacing).unwrap().is_none());
        assert!(begun.elapsed() < Duration::from_secs(60));
        asks.join().unwrap();
    }

    #[test]
    fn a_signal_ends_the_wait_for_the_last_fence() {
        let stuck = Script { stuck: true, ..Script::default() };
        is_stopped(stuck, Schedule::new(1_000_000, 1000, Duration::from_millis(5)));
    }

    #[test]
    fn a_signal_ends_the_wait_for_a_record_that_is_due_in_an_hour() {
        is_stopped(Script::default(), Schedule::new(1, 3600, Duration::from_secs(7200)));
    }
}
