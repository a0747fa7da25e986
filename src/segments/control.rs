//! What the producer, the keeper and everybody else share of a recording in segments.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_utils::atomic::AtomicCell;

use super::cut::Cut;
use super::keeper::Found;
use super::ledger::{Ledger, Live, Segment};
use crate::error::Error;
use crate::frames::Book;
use crate::stats::Counter;
use crate::stream::Positions;
use crate::sync::{AtomicU32, AtomicU64, Event, Instant, Mutex, OnceLock, Ordering, ignore_poison};

/// A segment with its writer.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) writer: crate::Writer,
    pub(super) live: Arc<Live>,
    /// What is known of its frames, where the recording has some.
    pub(super) book: Option<Box<Book>>,
}

/// What a push has to look at before it goes on as usual; none of it is the rule.
pub(super) mod asks {
    /// The segment is to end.
    pub(in super::super) const ROTATE: u32 = 1;
    /// The disk has to have more free space first.
    pub(in super::super) const PAUSE: u32 = 2;
    /// The recording has failed.
    pub(in super::super) const FAIL: u32 = 4;
    /// The recording is to end.
    pub(in super::super) const END: u32 = 8;
}

/// What the producer hands over when the recording ends.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) current: Open,
    /// One that it had taken and not begun.
    pub(super) spare: Option<Box<Open>>,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) rotations: Counter,
    pub(super) late: Counter,
    pub(super) closed: Counter,
    pub(super) removed: Counter,
    pub(super) removed_bytes: Counter,
    pub(super) recycled: Counter,
}

pub(super) struct Shared {
    pub(super) ledger: Ledger,
    pub(super) cut: Cut,
    /// From the keeper to the producer: the next segment.
    pub(super) next: AtomicCell<Option<Box<Open>>>,
    /// From the producer to the keeper: the last one. The keeper has emptied this place before it
    /// fills the other, so a producer that has the next one finds it empty.
    pub(super) old: AtomicCell<Option<Box<Open>>>,
    pub(super) last: Mutex<Option<Last>>,
    asks: AtomicU32,
    /// The lowest number of a segment that is needed.
    needed: AtomicU64,
    failure: OnceLock<Error>,
    /// The keeper has something to do.
    pub(super) stirred: Event,
    /// Whether a rotation wakes it; else it looks by itself.
    pub(super) wakes: bool,
    /// There is space again, or none will come; or the recording has ended.
    pub(super) changed: Event,
    pub(super) outcome: Mutex<Option<Result<Summary, CloseError>>>,
    pub(super) counters: Counters,
    pub(super) found: Found,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segments")
            .field("segment", &self.ledger.current().map(|live| live.segment.clone()))
            .field("positions", &self.positions())
            .field("failure", &self.failure.get())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(cut: Cut, wakes: bool, found: Found) -> Self {
        Self {
            ledger: Ledger::default(),
            cut,
            next: AtomicCell::new(None),
            old: AtomicCell::new(None),
            last: Mutex::default(),
            asks: AtomicU32::new(0),
            needed: AtomicU64::new(0),
            failure: OnceLock::new(),
            stirred: Event::default(),
            wakes,
            changed: Event::default(),
            outcome: Mutex::default(),
            counters: Counters::default(),
            found,
        }
    }

    #[inline]
    pub(super) fn asks(&self) -> u32 {
        self.asks.load(Ordering::Acquire)
    }

    pub(super) fn ask(&self, bits: u32) {
        self.asks.fetch_or(bits, Ordering::AcqRel);
    }

    /// Returns what was asked before.
    pub(super) fn ask_no_more(&self, bits: u32) -> u32 {
        self.asks.fetch_and(!bits, Ordering::AcqRel)
    }

    /// The lowest number of a segment that is needed.
    pub(super) fn needed(&self) -> u64 {
        self.needed.load(Ordering::Acquire)
    }

    /// The recording has failed; what came first counts.
    pub(super) fn fail(&self, error: Error) {
        let _ = self.failure.set(error);
        self.ask(asks::FAIL);
        self.changed.announce();
    }

    pub(super) fn failure(&self) -> Option<Error> {
        self.failure.get().cloned()
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        self.failure().map_or(Ok(()), Err)
    }

    pub(super) fn positions(&self) -> Positions {
        self.ledger.positions(self.cut)
    }

    /// Asks for fences over everything before the position, a segment each.
    pub(super) fn ask_durable(&self, position: u64) -> Vec<crate::Ticket> {
        ask_of(&self.ledger.before(position))
    }

    /// Waits until everything before the position is durable; `Ok(false)` when the deadline has passed.
    pub(super) fn wait_durable(&self, position: u64, by: Option<Instant>) -> Result<bool, Error> {
        let mut segments = self.ledger.before(position);
        let newest = segments.pop();
        let older = ask_of(&segments);
        if let Some(live) = newest {
            let through = match by {
                None => live.control.flush().map(Some),
                Some(by) => live.control.flush_timeout(left(by)),
            };
            if through?.is_none() {
                return Ok(false);
            }
        }
        self.wait_for(older, position, by)
    }

    /// Of fences that were [asked for](Self::ask_durable): as [`wait_durable`](Self::wait_durable).
    pub(super) fn wait_for(
        &self,
        fences: Vec<crate::Ticket>,
        position: u64,
        by: Option<Instant>,
    ) -> Result<bool, Error> {
        for ticket in fences {
            let through = match by {
                None => ticket.wait().map(Some),
                Some(by) => ticket.wait_timeout(left(by)),
            };
            if through?.is_none() {
                return Ok(false);
            }
        }
        match self.failure() {
            Some(error) if self.positions().durable < position => Err(error),
            _ => Ok(true),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let (counters, below) = (&self.counters, self.ledger.stats());
        Stats {
            rotations: counters.rotations.get(),
            late_rotations: counters.late.get(),
            closed: counters.closed.get(),
            removed: counters.removed.get(),
            removed_bytes: counters.removed_bytes.get(),
            recycled: counters.recycled.get(),
            overruns: below.overruns,
            overrun_bytes: below.overrun_bytes,
        }
    }

    pub(super) fn summary(&self) -> Summary {
        Summary { positions: self.positions(), stats: self.stats() }
    }

    /// How the recording has ended, for the first who asks; `None` when the deadline has passed.
    pub(super) fn wait_for_the_end(
        &self,
        by: Option<Instant>,
    ) -> Result<Option<Summary>, CloseError> {
        loop {
            let ticket = self.changed.ticket();
            if let Some(outcome) = ignore_poison(self.outcome.lock()).take() {
                return outcome.map(Some);
            }
            if by.is_some_and(|by| Instant::now() >= by) {
                return Ok(None);
            }
            self.changed.sleep(ticket, by);
        }
    }
}

/// What a recording has done so far; taken without a lock that a push takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Segments that have ended, and the recording went on in the next one.
    pub rotations: u64,
    /// Of those the ones that came late: the next segment was not ready yet, and the recording went on
    /// in the one before, past its size or its time.
    pub late_rotations: u64,
    /// Segments that are closed and durable.
    pub closed: u64,
    /// Segments that were removed since they were not to be kept any longer.
    pub removed: u64,
    /// Bytes of those.
    pub removed_bytes: u64,
    /// How many of the removed have become the next segment ([`recycle`](super::Options::recycle)).
    pub recycled: u64,
    /// Times that bytes were lost because no buffer had room.
    pub overruns: u64,
    /// Bytes lost that way.
    pub overrun_bytes: u64,
}

/// What a recording has done, from its close.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// The final positions of the whole; all four are equal after a close without error.
    pub positions: Positions,
    /// Counters.
    pub stats: Stats,
}

/// A close that did not end well: every error, and what is true all the same.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CloseError {
    /// The errors, the one that came first at the front; never empty.
    pub errors: Vec<Error>,
    /// What was done; `positions.durable` is true.
    pub summary: Box<Summary>,
}

impl fmt::Display for CloseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            write!(f, "{error}; ")?;
        }
        let durable = self.summary.positions.durable;
        write!(f, "the first {durable} bytes of the recording are durable")
    }
}

impl std::error::Error for CloseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.errors.first().map(|error| error as _)
    }
}

/// The error that came first.
impl From<CloseError> for Error {
    fn from(error: CloseError) -> Self {
        error.errors.into_iter().next().unwrap_or(Error::Closed)
    }
}

/// Everything about a recording but pushing: cheap to clone, for any thread.
///
/// Its calls take a lock for a moment, which no push takes; none of them is for a deadline thread but
/// [`rotate`](Self::rotate).
#[derive(Clone, Debug)]
pub struct Control {
    pub(super) shared: Arc<Shared>,
}

impl UnwindSafe for Control {}
impl RefUnwindSafe for Control {}

impl Control {
    /// The four positions of the whole recording, in bytes of its data: heads and tails of the
    /// segments don't count. Each is the end of a prefix of the recording, so `durable` passes the end
    /// of a segment only when all of that segment is durable. Where there are
    /// [frames](super::Options::frame_bytes), `written` and `durable` count whole ones, until the
    /// recording has ended, and so do flushes and tickets: a full disk takes half a frame away.
    pub fn positions(&self) -> Positions {
        self.shared.positions()
    }

    /// A snapshot of the counters. Allocates.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// What the writers of all segments have counted together, those that are closed included; memory is
    /// that of the open ones. No figure of it goes back at a rotation but that. Allocates.
    pub fn totals(&self) -> crate::Stats {
        self.shared.ledger.stats()
    }

    /// What was in the folder when the recording began.
    pub fn found(&self) -> &Found {
        &self.shared.found
    }

    /// The segment that is written; `None` once the recording has ended.
    pub fn segment(&self) -> Option<Segment> {
        self.shared.ledger.current().map(|live| live.segment.clone())
    }

    /// The control of that segment's writer, for what is the writer's: backend, durability, histograms.
    /// Its positions are those of the file. `None` once the recording has ended.
    pub fn of_segment(&self) -> Option<crate::Control> {
        self.shared.ledger.current().map(|live| live.control.clone())
    }

    /// The error that has ended the recording, if one did.
    pub fn error(&self) -> Option<Error> {
        let of_segments = || {
            let unsettled = self.shared.ledger.before(u64::MAX);
            unsettled.into_iter().find_map(|live| live.control.error())
        };
        self.shared.failure().or_else(of_segments)
    }

    /// Whether nothing is taken until there is more free space ([`Floor::Wait`](super::Floor::Wait)), or
    /// the writer below waits for some ([`DiskFull::Wait`](crate::DiskFull::Wait)).
    pub fn is_waiting_for_space(&self) -> bool {
        self.shared.asks() & asks::PAUSE != 0
            || self.of_segment().is_some_and(|control| control.is_waiting_for_space())
    }

    /// Has the segment end with the next push that may end it. Never waits: no lock, no system call.
    /// A segment without data goes on.
    pub fn rotate(&self) {
        self.shared.ask(asks::ROTATE);
    }

    /// Truncates the recording from the front: the segments with lower numbers than this are not needed
    /// any more, those of earlier recordings of the pattern among them. The closed ones go soon, as by the
    /// rules on what is kept, or are [recycled](super::Options::recycle); one that is not closed yet goes
    /// when it is. Waits for nothing; makes one system call.
    ///
    /// Whoever has read the messages of a recording up to some number finds the segment of the next one
    /// with a reader:
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let pattern = directory.path().join("log-{seq:06}.frames");
    /// use writeflush::{frames, segments};
    ///
    /// let files = segments::Options::new(&pattern).size(4096);
    /// let mut writer = frames::segments::Options::from(files).open()?;
    /// for number in 0..100 {
    ///     writer.write(number, &[0; 1000])?;
    /// }
    /// let mut reader = frames::segments::Reader::open(&pattern)?;
    /// if reader.seek_sequence(50)? && let Some(segment) = reader.segment() {
    ///     writer.truncate_front(segment.sequence);
    /// }
    /// writer.close()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn truncate_front(&self, segment: u64) {
        self.shared.needed.fetch_max(segment, Ordering::AcqRel);
        self.shared.stirred.announce();
    }

    /// Waits until everything accepted so far is durable, in whatever segments it lies; returns the
    /// position of the whole that is durable (of whole frames, where there are frames).
    ///
    /// # Errors
    /// The error that ended the recording; [`Error::InWaker`].
    pub fn flush(&self) -> Result<u64, Error> {
        let position = self.shared.cut.whole(self.positions().accepted);
        self.shared.wait_durable(position, None).map(|_| position)
    }

    /// As [`flush`](Self::flush), but waits for at most `limit`; `None` if not everything is durable by
    /// then.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn flush_timeout(&self, limit: Duration) -> Result<Option<u64>, Error> {
        let position = self.shared.cut.whole(self.positions().accepted);
        let by = Instant::now().checked_add(limit);
        Ok(self.shared.wait_durable(position, by)?.then_some(position))
    }

    /// Makes everything accepted so far durable, then overwrites the bytes at `offset` of the segment
    /// that is written with what `header` makes of the bytes of data that are durable in it (of whole
    /// frames, where there are frames), then makes that durable too: as
    /// [`Control::checkpoint`](crate::Control::checkpoint). Returns the position of the whole that it
    /// describes. A segment that is being closed is left to its [tail](super::Options::tail).
    ///
    /// # Errors
    /// As [`Control::checkpoint`](crate::Control::checkpoint); [`Error::Closed`] once the recording has
    /// ended.
    pub fn checkpoint<H: AsRef<[u8]>>(
        &self,
        offset: u64,
        header: impl FnOnce(&Segment, u64) -> H,
    ) -> Result<u64, Error> {
        loop {
            let live = self.shared.ledger.current().ok_or(Error::Closed)?;
            let _header = ignore_poison(live.header.lock());
            let (Some(begins), None) = (live.begins(), live.ends()) else {
                self.shared.check()?;
                std::thread::yield_now(); // its keeper is about to close it
                continue;
            };
            self.shared.wait_durable(begins, None)?;
            let whole = |position| self.shared.cut.whole(live.data_in(position));
            let header = |position| header(&live.segment, whole(position));
            let position = live.control.checkpoint(offset, header)?;
            return Ok(begins + whole(position));
        }
    }

    /// Waits for the end of a recording whose [close](super::Writer::close_timeout) goes on, for at most
    /// `limit`; `None` if it has not ended by then. Who hears of it first has its result; later calls
    /// wait in vain.
    ///
    /// # Errors
    /// As [`Writer::close`](super::Writer::close).
    pub fn wait_for_the_end(&self, limit: Duration) -> Result<Option<Summary>, CloseError> {
        self.shared.wait_for_the_end(Instant::now().checked_add(limit))
    }
}

/// A handle on everything that was accepted before it was made; see [`Writer::fence`](super::Writer::fence).
#[derive(Clone, Debug)]
#[must_use = "a ticket says when the fence is through; nobody hears of its error otherwise"]
pub struct Ticket {
    pub(super) shared: Arc<Shared>,
    /// Where the segment begins that was written then.
    pub(super) begins: u64,
    pub(super) position: u64,
    pub(super) below: crate::Ticket,
}

impl Ticket {
    /// The position of the whole that is durable once this fence is through.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Waits for the fence; returns its position. Blocks.
    ///
    /// # Errors
    /// The error that ended the recording before the fence was through; [`Error::InWaker`].
    pub fn wait(&self) -> Result<u64, Error> {
        self.shared.wait_durable(self.begins, None)?;
        self.below.wait().map(|_| self.position)
    }

    /// Whether the fence is through. Takes a lock for a moment, and waits for no disk.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn is_durable(&self) -> Result<bool, Error> {
        Ok(self.below.is_durable()? && self.shared.positions().durable >= self.position)
    }
}

/// Of all before one is waited for: one behind the other each would cost a flush of the device.
fn ask_of(segments: &[Arc<Live>]) -> Vec<crate::Ticket> {
    segments.iter().map(|live| live.control.fence()).collect()
}

fn left(by: Instant) -> Duration {
    by.saturating_duration_since(Instant::now())
}

/// The path of a file in the folder, for errors.
pub(super) fn named(folder: &Path, name: &str) -> Arc<Path> {
    folder.join(name).into()
}
