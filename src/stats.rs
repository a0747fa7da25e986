//! Counters and latency histograms, recorded without locks and read as a snapshot.

use std::ops::AddAssign;
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Ordering, plain};

/// A figure that one thread adds to at a time, and by which nothing is decided.
#[derive(Debug, Default)]
pub(crate) struct Counter(plain::AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// For an exclusive owner that keeps the sum itself: no read-modify-write.
    #[inline]
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// For the only one who counts: no read-modify-write.
    #[inline]
    pub(crate) fn add_alone(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    pub(crate) fn raise(&self, n: u64) {
        // A look first: the maximum seldom changes, and a look does not claim the cache line.
        if self.get() < n {
            self.0.fetch_max(n, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A figure that something waits for.
#[derive(Debug, Default)]
pub(crate) struct Signal(AtomicU64);

impl Signal {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What producers count, on a cache line of its own.
#[derive(Debug, Default)]
pub(crate) struct ProducerCounters {
    pub(crate) writes: Counter,
    pub(crate) high_water: Counter,
}

/// What a stream counts: beside the producers' own, the driver's and those of rare events.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) producer: CachePadded<ProducerCounters>,
    pub(crate) gap_bytes: Counter,
    pub(crate) sealed: Counter,
    pub(crate) device_bytes: Counter,
    pub(crate) zeros: Counter,
    pub(crate) fences_asked: Signal,
    pub(crate) fences_done: Counter,
    pub(crate) flushes: Counter,
    pub(crate) patches: Counter,
    pub(crate) copied: Counter,
    pub(crate) resubmitted: Counter,
    pub(crate) fence_latency: Recorder,
    pub(crate) device_writes: Recorder,
    pub(crate) device_flushes: Recorder,
}

impl Counters {
    pub(crate) fn sealed(&self, bytes: usize) {
        self.sealed.add(1);
        self.device_bytes.add(bytes as u64);
    }

    pub(crate) fn fenced(&self, latency: Duration) {
        self.fences_done.add(1);
        self.fence_latency.record(latency);
    }
}

/// What a writer has done so far. Counts since open; taken without a lock, so the figures of one
/// snapshot may be a few operations apart.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that took bytes.
    pub writes: u64,
    /// Bytes accepted since open, the zeros of short gaps included.
    pub bytes: u64,
    /// Bytes in gaps that the file system made, behind a `seek` of [`std::io::Seek`]: the accepted
    /// position has grown by these and `bytes`.
    pub gap_bytes: u64,
    /// Pieces handed to the device: full buffers and those sealed by a fence.
    pub sealed: u64,
    /// Bytes handed to the device, padding and rewritten tail blocks included; patches are not.
    pub device_bytes: u64,
    /// Bytes of zeros written ahead of the data ([`Options::zero_ahead`](crate::Options::zero_ahead)).
    pub zero_bytes: u64,
    /// Fences asked for: tickets, flushes, checkpoints (two each), close.
    pub fences: u64,
    /// Of those, the ones that shared a fence with others, or found nothing to do.
    pub fences_coalesced: u64,
    /// Flushes asked of the kernel, whether as a call or carried by a write.
    pub flushes: u64,
    /// Patches, in pieces of at most 32 KiB.
    pub patches: u64,
    /// Times that bytes were lost because no buffer had room.
    pub overruns: u64,
    /// Bytes lost that way.
    pub overrun_bytes: u64,
    /// The longest loss without an accepted byte in between, in bytes.
    pub longest_overrun: u64,
    /// The most bytes that were ever in the buffers at once, as seen when a buffer filled up.
    pub high_water: u64,
    /// Bytes copied beside the one copy that takes them in: tails, patched blocks, grants that
    /// crossed the end of the ring.
    pub copied: u64,
    /// Writes that the kernel cut short or interrupted, and that went on.
    pub resubmitted: u64,
    /// Bytes of memory allocated for the buffers. Beside them a writer has 1/512 as much to count
    /// copies, and less than 1 MiB. At close their pages go back to the system (Unix); the addresses
    /// stay taken until the last handle is gone.
    pub memory: u64,
    /// From the moment the driver sees a fence until it is granted.
    pub fence_latency: Histogram,
    /// From the submission of a data write to its completion.
    pub device_writes: Histogram,
    /// From the submission of a flush call to its completion; fences that a write carries are in
    /// `device_writes`.
    pub device_flushes: Histogram,
}

/// Together with another writer's: counts and memory are added, and the most is the most of either.
impl AddAssign<&Self> for Stats {
    fn add_assign(&mut self, other: &Self) {
        self.writes += other.writes;
        self.bytes += other.bytes;
        self.gap_bytes += other.gap_bytes;
        self.sealed += other.sealed;
        self.device_bytes += other.device_bytes;
        self.zero_bytes += other.zero_bytes;
        self.fences += other.fences;
        self.fences_coalesced += other.fences_coalesced;
        self.flushes += other.flushes;
        self.patches += other.patches;
        self.overruns += other.overruns;
        self.overrun_bytes += other.overrun_bytes;
        self.longest_overrun = self.longest_overrun.max(other.longest_overrun);
        self.high_water = self.high_water.max(other.high_water);
        self.copied += other.copied;
        self.resubmitted += other.resubmitted;
        self.memory += other.memory;
        self.fence_latency += &other.fence_latency;
        self.device_writes += &other.device_writes;
        self.device_flushes += &other.device_flushes;
    }
}

// A histogram of 16 steps to each power of two: an error of at most 1/16 of the value.
const STEPS_LOG2: u32 = 4;
const STEPS: u64 = 1 << STEPS_LOG2;
/// Up to 2^41 ns, about 36 minutes; longer goes into the last bucket.
const BUCKETS: usize = ((41 - STEPS_LOG2 as usize) + 1) * STEPS as usize;

fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds < STEPS {
        return nanoseconds as usize;
    }
    let shift = nanoseconds.ilog2() - STEPS_LOG2;
    let index = (u64::from(shift) + 1) * STEPS + (nanoseconds >> shift) - STEPS;
    (index as usize).min(BUCKETS - 1)
}

/// The largest value that falls into a bucket.
fn bucket_top(index: usize) -> u64 {
    let (row, step) = (index as u64 / STEPS, index as u64 % STEPS);
    if row == 0 { step } else { ((STEPS + step + 1) << (row - 1)) - 1 }
}

/// A histogram that is being recorded.
pub(crate) struct Recorder {
    buckets: Box<[plain::AtomicU64]>,
    longest: Counter,
    /// Nanoseconds of all.
    sum: Counter,
}

impl Recorder {
    pub(crate) fn record(&self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanoseconds)].fetch_add(1, Ordering::Relaxed);
        self.longest.raise(nanoseconds);
        self.sum.add(nanoseconds);
    }

    pub(crate) fn snapshot(&self) -> Histogram {
        let buckets = self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Histogram { buckets, longest: self.longest.get(), sum: self.sum.get() }
    }
}

impl Default for Recorder {
    fn default() -> Self {
        let buckets = (0..BUCKETS).map(|_| Default::default()).collect();
        Self { buckets, longest: Counter::default(), sum: Counter::default() }
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// A snapshot of latencies, each kept to within 1/16 of its value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: Vec<u64>,
    longest: u64,
    sum: u64,
}

impl Histogram {
    /// Number of values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The longest value, exact.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    /// The sum of all values, exact.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// What has come since an earlier snapshot of the same histogram; its longest value is that of all.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.buckets.iter().copied().chain(std::iter::repeat(0));
        let buckets =
            self.buckets.iter().zip(before).map(|(now, before)| now.saturating_sub(before));
        Self {
            buckets: buckets.collect(),
            longest: self.longest,
            sum: self.sum.saturating_sub(earlier.sum),
        }
    }

    /// The value that `fraction` (0 to 1) of all values do not exceed; zero when there are none.
    pub fn quantile(&self, fraction: f64) -> Duration {
        let rank = (fraction.clamp(0.0, 1.0) * self.count() as f64).ceil() as u64;
        let mut seen = 0;
        for (top, count) in self.buckets() {
            seen += count;
            if seen >= rank {
                return top.min(self.max());
            }
        }
        self.max()
    }

    /// The buckets that hold something: the largest value that falls into each, and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let occupied = self.buckets.iter().enumerate().filter(|&(_, &count)| count > 0);
        occupied.map(|(index, &count)| (Duration::from_nanos(bucket_top(index)), count))
    }
}

/// Together with the values of another one.
impl AddAssign<&Self> for Histogram {
    fn add_assign(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.longest = self.longest.max(other.longest);
        self.sum = self.sum.saturating_add(other.sum);
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max())
            .finish()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_brackets_its_values(nanoseconds in 0u64..1 << 41) {
            let index = bucket(nanoseconds);
            prop_assert!(nanoseconds <= bucket_top(index));
            prop_assert!(index == 0 || nanoseconds > bucket_top(index - 1));
            prop_assert!(bucket_top(index) - nanoseconds <= nanoseconds / STEPS);
        }
    }

    #[test]
    fn quantiles_of_known_values() {
        let recorder = Recorder::default();
        (1..=1000).for_each(|us| recorder.record(Duration::from_micros(us)));
        recorder.record(Duration::from_secs(100_000));
        let histogram = recorder.snapshot();
        assert_eq!(histogram.count(), 1001);
        assert_eq!(histogram.max(), Duration::from_secs(100_000));
        let median = histogram.quantile(0.5).as_micros();
        assert!((500..=532).contains(&median), "{median}");
        assert_eq!(
            histogram.quantile(1.0),
            histogram.max().min(Duration::from_nanos(bucket_top(BUCKETS - 1)))
        );
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }

    #[test]
    fn histograms_of_two_and_of_the_time_between() {
        let recorder = Recorder::default();
        recorder.record(Duration::from_micros(3));
        let before = recorder.snapshot();
        recorder.record(Duration::from_millis(5));
        let mut both = recorder.snapshot();
        assert_eq!(both.sum(), Duration::from_micros(5003));
        let between = both.since(&before);
        assert_eq!((between.count(), between.sum()), (1, Duration::from_millis(5)));
        let mut all = Histogram::default();
        all += &before;
        all += &between;
        assert_eq!(all, both);
        both += &before;
        assert_eq!((both.count(), both.sum()), (3, Duration::from_micros(5006)));
        assert_eq!(both.since(&Histogram::default()), both);
    }
}
