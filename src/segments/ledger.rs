//! One running total over all segments: what is durable of a recording in many files.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::cut::Cut;
use crate::canary::Canary;
use crate::control::Control;
use crate::file::Original;
use crate::stats::Stats;
use crate::stream::Positions;
use crate::sync::{AtomicU64, Mutex, Ordering, ignore_poison};

/// One file of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Segment {
    /// Its number.
    pub sequence: u64,
    /// Its file.
    pub path: Arc<Path>,
}

/// Not yet.
const NEVER: u64 = u64::MAX;

/// A segment that is written, was, or will be next.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) segment: Segment,
    pub(super) control: Control,
    /// The file that was made.
    pub(super) original: Option<Original>,
    /// Bytes before its data.
    pub(super) head: u64,
    begins: AtomicU64,
    ends: AtomicU64,
    /// Nanoseconds since 1970.
    began: AtomicU64,
    ended: AtomicU64,
    /// Who rewrites its head; the close is the last.
    pub(super) header: Mutex<()>,
}

impl Live {
    /// Whose head is written, and nothing more.
    pub(super) fn new(segment: Segment, control: Control, original: Option<Original>) -> Self {
        Self {
            segment,
            head: control.positions().accepted,
            control,
            original,
            begins: AtomicU64::new(NEVER),
            ends: AtomicU64::new(NEVER),
            began: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            header: Mutex::default(),
        }
    }

    /// Its data begins here, of the whole recording. No lock.
    pub(super) fn begin(&self, total: u64, now: SystemTime) {
        self.began.store(nanoseconds(now), Ordering::Relaxed);
        self.begins.store(total, Ordering::Release);
    }

    /// Its data ends here; whatever comes behind it in the file is none. No lock.
    pub(super) fn end(&self, total: u64, now: SystemTime) {
        self.ended.store(nanoseconds(now), Ordering::Relaxed);
        self.ends.store(total, Ordering::Release);
    }

    pub(super) fn begins(&self) -> Option<u64> {
        Some(self.begins.load(Ordering::Acquire)).filter(|at| *at != NEVER)
    }

    pub(super) fn ends(&self) -> Option<u64> {
        Some(self.ends.load(Ordering::Acquire)).filter(|at| *at != NEVER)
    }

    pub(super) fn began(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.began.load(Ordering::Relaxed))
    }

    pub(super) fn ended(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.ended.load(Ordering::Relaxed))
    }

    /// Bytes of its data that a file of this length has.
    pub(super) fn data_in(&self, len: u64) -> u64 {
        let most = self.begins().zip(self.ends()).map(|(begins, ends)| ends.saturating_sub(begins));
        len.saturating_sub(self.head).min(most.unwrap_or(u64::MAX))
    }

    /// What the total is made of; `None` before it begins.
    fn part(&self, cut: Cut) -> Option<Part> {
        let begins = self.begins()?;
        // The positions first: what is written behind its end comes after that is known.
        let positions = self.control.positions();
        let ends = self.ends();
        let data = |position: u64| position.saturating_sub(self.head);
        // A full disk takes half a frame away, until the end of the segment is there.
        let kept = |position: u64| match data(position) {
            data if ends.is_some_and(|ends| begins.saturating_add(data) >= ends) => data,
            data => cut.whole(data),
        };
        let data = Positions {
            accepted: data(positions.accepted),
            submitted: data(positions.submitted),
            written: kept(positions.written),
            durable: kept(positions.durable),
        };
        Some(Part { begins, ends, data })
    }
}

fn nanoseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// How far the data of one segment is.
#[derive(Clone, Copy, Debug)]
struct Part {
    begins: u64,
    ends: Option<u64>,
    data: Positions,
}

impl Part {
    fn reaches(&self, data: u64) -> u64 {
        let at = self.begins.saturating_add(data);
        self.ends.map_or(at, |ends| at.min(ends))
    }
}

/// Each position of the whole: it passes the end of a segment only when it has reached that.
/// `settled`: what lies in segments that are closed.
fn total(settled: u64, parts: &[Part]) -> Positions {
    let reached = |position: fn(&Positions) -> u64| {
        let mut at = settled;
        for part in parts {
            at = part.reaches(position(&part.data));
            let is_through = part.ends == Some(at) || Canary::BoundaryUnfenced.is_planted();
            if !is_through {
                break;
            }
        }
        at
    };
    Positions {
        accepted: reached(|data| data.accepted),
        submitted: reached(|data| data.submitted),
        written: reached(|data| data.written),
        durable: reached(|data| data.durable),
    }
}

/// The segments that are not settled, in their order: those that are being closed, the one that is
/// written, the one that is ready.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    live: Mutex<Unsettled>,
}

#[derive(Debug, Default)]
struct Unsettled {
    settled: u64,
    /// What the writers of the settled segments have counted.
    stats: Stats,
    segments: Vec<Arc<Live>>,
}

impl Ledger {
    pub(super) fn add(&self, live: Arc<Live>) {
        ignore_poison(self.live.lock()).segments.push(live);
    }

    /// The oldest is closed, and durable to its end; or the one that was ready is never used.
    pub(super) fn settle(&self, live: &Arc<Live>) {
        let stats = live.control.stats();
        let mut ledger = ignore_poison(self.live.lock());
        if live.begins().is_some() {
            ledger.stats += &Stats { memory: 0, ..stats }; // that has gone back
        }
        ledger.settled = live.ends().unwrap_or(ledger.settled);
        ledger.segments.retain(|other| !Arc::ptr_eq(other, live));
    }

    pub(super) fn positions(&self, cut: Cut) -> Positions {
        let ledger = ignore_poison(self.live.lock());
        let parts: Vec<Part> = ledger.segments.iter().filter_map(|live| live.part(cut)).collect();
        total(ledger.settled, &parts)
    }

    /// What the writers of all segments with data have counted together.
    pub(super) fn stats(&self) -> Stats {
        let ledger = ignore_poison(self.live.lock());
        let mut stats = ledger.stats.clone();
        let begun = ledger.segments.iter().filter(|live| live.begins().is_some());
        begun.for_each(|live| stats += &live.control.stats());
        stats
    }

    /// The one that is written.
    pub(super) fn current(&self) -> Option<Arc<Live>> {
        let ledger = ignore_poison(self.live.lock());
        ledger.segments.iter().rfind(|live| live.begins().is_some()).cloned()
    }

    /// Those with data before this position that is not settled.
    pub(super) fn before(&self, position: u64) -> Vec<Arc<Live>> {
        let ledger = ignore_poison(self.live.lock());
        let is_before = |live: &&Arc<Live>| live.begins().is_some_and(|begins| begins < position);
        ledger.segments.iter().filter(is_before).cloned().collect()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn part(begins: u64, ends: Option<u64>, accepted: u64, durable: u64) -> Part {
        let data = Positions { accepted, submitted: accepted, written: durable, durable };
        Part { begins, ends, data }
    }

    #[test]
    fn durable_passes_an_end_only_when_all_before_it_is_durable() {
        assert_eq!(total(70, &[]).durable, 70);
        let behind = part(100, None, 40, 40);
        let all = total(0, &[part(0, Some(100), 100, 99), behind]);
        assert_eq!((all.durable, all.accepted), (99, 140));
        let all = total(0, &[part(0, Some(100), 100, 100), behind]);
        assert_eq!((all.durable, all.accepted), (140, 140));
        // A trailer behind the data is none of it.
        let all = total(0, &[part(0, Some(100), 130, 130), part(100, None, 0, 0)]);
        assert_eq!((all.durable, all.accepted), (100, 100));
        // The next one has begun, as far as the reader sees, and the end of this one is not known.
        let all = total(50, &[part(50, None, 50, 50), behind]);
        assert_eq!((all.durable, all.accepted), (100, 100));
    }
}
