//! One open file with everything that serves it, behind the public faces.

mod closing;
mod elsewhere;
#[cfg(all(unix, not(any(loom, shuttle))))]
mod ending;
mod opening;
mod patches;
mod tasks;

use std::sync::Arc;

use crate::backend::Backend;
use crate::buffers::Refused;
use crate::driver::run::{Runner, Waited};
use crate::error::{Error, Operation};
use crate::file::{self, Durability, below_the_end};
use crate::options::Options;
use crate::stats::Stats;
pub(crate) use crate::stream::Goal;
use crate::stream::Stream;
use crate::sync::{AtomicBool, Instant, Mutex, ignore_poison};
use closing::Held;
use elsewhere::Elsewhere;

/// What does not change while the file is open.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) options: Options,
    pub(crate) backend: Backend,
    pub(crate) durability: Durability,
    pub(crate) fallbacks: Vec<String>,
    /// Alignment of device writes.
    pub(crate) block: u64,
    /// Bytes in a device write when nobody asks for a fence.
    pub(crate) piece: u64,
    pub(crate) start: u64,
    /// Bytes that were in the file before and stay, where nobody writes over them.
    pub(crate) existing: u64,
}

pub(crate) struct Core {
    pub(crate) stream: Arc<Stream>,
    pub(crate) runner: Runner,
    pub(crate) facts: Facts,
    closing: AtomicBool,
    elsewhere: Elsewhere,
    held: Mutex<Option<Held>>,
    /// One patcher at a time, so that a long patch is one.
    patching: Arc<Mutex<()>>,
    /// Errors that came after the one that everybody hears: the close tells them.
    late_errors: Mutex<Vec<Error>>,
}

impl std::fmt::Debug for Core {
    /// What a person wants to know: the buffers and logs behind it would fill pages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("path", &self.stream.path)
            .field("backend", &self.facts.backend)
            .field("positions", &self.stream.positions())
            .field("failure", &self.stream.failure())
            .finish_non_exhaustive()
    }
}

impl Core {
    /// The file of the system, while it is open; a simulated computer has none.
    pub(crate) fn os_file(&self) -> std::io::Result<Arc<file::OsFile>> {
        let held = ignore_poison(self.held.lock());
        let held = held.as_ref().ok_or(Error::Closed)?;
        file::os_file(&*held.file)
    }

    /// The open file once more, for reading.
    pub(crate) fn open_for_reading(&self) -> std::io::Result<Box<dyn file::ReadAt>> {
        let held = ignore_poison(self.held.lock());
        held.as_ref().ok_or(Error::Closed)?.file.open_for_reading(&self.stream.path)
    }

    /// The error of a stream that grants nothing any more.
    pub(crate) fn stopped(&self) -> Error {
        self.stream.failure().cloned().unwrap_or(Error::Closed)
    }

    /// Refuses what would have to wait in a waker, before anything is taken.
    pub(crate) fn may_wait(&self) -> Result<(), Error> {
        if self.runner.may_wait() { Ok(()) } else { Err(Error::InWaker) }
    }

    // ---- fences -----------------------------------------------------------------------------------

    /// Asks for a fence over everything accepted and every patch so far. Does not wait.
    pub(crate) fn fence(&self) -> Goal {
        let goal = self.goal();
        self.want(goal);
        goal
    }

    /// Everything accepted and every patch so far.
    pub(crate) fn goal(&self) -> Goal {
        Goal { patches: self.stream.patches_queued(), position: self.stream.sequencer.accepted() }
    }

    pub(crate) fn want(&self, goal: Goal) {
        self.note_wanted(goal);
        if !self.reached(goal) {
            self.stream.tell_of_fence();
        }
    }

    /// For whoever tells the driver next.
    fn note_wanted(&self, goal: Goal) {
        self.stream.counters.fences_asked.add(1);
        if !self.reached(goal) {
            self.stream.note_wanted(goal.position, goal.patches);
        }
    }

    pub(crate) fn reached(&self, goal: Goal) -> bool {
        self.stream.patches_durable() >= goal.patches && self.stream.durable() >= goal.position
    }

    /// Waits for a fence; `Ok(false)` when the deadline has passed.
    pub(crate) fn wait_durable(&self, goal: Goal, by: Option<Instant>) -> Result<bool, Error> {
        self.judge(self.runner.wait(&self.stream.progress, by, || self.reached(goal)))
    }

    /// `Ok(false)` when the deadline has passed.
    fn judge(&self, waited: Waited) -> Result<bool, Error> {
        match waited {
            Waited::Ready => Ok(true),
            Waited::TimedOut => Ok(false),
            Waited::Failed => Err(self.stopped()),
            Waited::InWaker => Err(Error::InWaker),
            Waited::NotOurs => Err(Error::Forked),
        }
    }

    /// Carries the fence out on this thread where that is quicker.
    pub(crate) fn flush(&self) -> Result<u64, Error> {
        let goal = self.goal();
        self.note_wanted(goal);
        self.judge(self.runner.commit(&self.stream.progress, || self.reached(goal)))?;
        Ok(goal.position)
    }

    /// `Ok(None)` when the deadline has passed.
    pub(crate) fn flush_by(&self, by: Option<Instant>) -> Result<Option<u64>, Error> {
        let goal = self.fence();
        let through = self.wait_durable(goal, by)?;
        Ok(through.then_some(goal.position))
    }

    /// Waits until the kernel has everything accepted so far, and every patch.
    pub(crate) fn drain(&self) -> Result<(), Error> {
        let (position, patches) = (self.stream.sequencer.accepted(), self.stream.patches_queued());
        self.stream.want_written(position);
        let written =
            || self.stream.written() >= position && self.stream.patches_in_file() >= patches;
        self.judge(self.runner.wait(&self.stream.progress, None, written)).map(drop)
    }

    /// Waits until `len` bytes from position `from` on, which the caller owns, have room;
    /// `Ok(false)` when the deadline has passed.
    pub(crate) fn wait_room(
        &self,
        from: u64,
        len: u64,
        by: Option<Instant>,
    ) -> Result<bool, Error> {
        let room = || self.stream.sequencer.room(from, len);
        if room().is_ok() {
            return Ok(true); // as nearly always
        }
        let in_time = self.wait_space(by, || !matches!(room(), Err(Refused::Full { .. })))?;
        match room() {
            Err(Refused::Stopped) => {
                self.stream.sequencer.leave(); // nothing is being copied while one waits
                Err(self.stopped())
            }
            _ => Ok(in_time),
        }
    }

    /// Waits until `len` more bytes have room, or the stream is shut: whoever owns no position
    /// yet may never get one.
    pub(crate) fn wait_more_room(&self, len: u64, by: Option<Instant>) -> Result<bool, Error> {
        let sequencer = &self.stream.sequencer;
        self.wait_space(by, || {
            sequencer.is_shut() || sequencer.room(sequencer.accepted(), len).is_ok()
        })
    }

    fn wait_space(&self, by: Option<Instant>, ready: impl Fn() -> bool) -> Result<bool, Error> {
        self.judge(self.runner.wait(&self.stream.space, by, ready))
    }

    /// For the only producer: the file goes on at `to`, in a later block than all that was accepted,
    /// behind a gap that reads as zeros and that the file system makes. Waits until what came before
    /// is in the file.
    ///
    /// # Errors
    /// Sticky only if the stream has failed: after any other nothing has changed.
    pub(crate) fn make_gap(&self, to: u64) -> Result<(), Error> {
        if self.stream.is_not_ours() {
            return Err(Error::Forked);
        }
        self.may_wait()?;
        let refused = |error| Error::io(Operation::Trim, &self.stream.path, error);
        self.stream.want_gap(below_the_end(to).map_err(refused)?);
        let answered = || self.stream.gap.wanted().is_none();
        self.judge(self.runner.wait(&self.stream.progress, None, answered))?;
        // It may have failed beside the refusal: then everybody hears of the failure.
        let failed = |error| self.stream.failure().cloned().unwrap_or_else(|| refused(error));
        self.stream.gap.outcome().map_err(failed)
    }

    /// A buffer has filled up: how much of the memory is in use now?
    pub(crate) fn note_high_water(&self, accepted: u64) {
        let capacity = self.stream.memory.capacity() as u64;
        let limit = self.stream.sequencer.limit();
        if limit == 0 {
            return; // stopped meanwhile
        }
        let in_use = limit.saturating_sub(capacity);
        // A write longer than the buffers is accepted before it has room.
        let held = accepted.saturating_sub(in_use).min(capacity);
        self.stream.counters.producer.high_water.raise(held);
    }

    pub(crate) fn stats(&self) -> Stats {
        let (stream, counters) = (&self.stream, &self.stream.counters);
        let (overruns, overrun_bytes, longest_overrun) = stream.overruns.totals();
        let fences = counters.fences_asked.get();
        let gap_bytes = counters.gap_bytes.get();
        Stats {
            writes: counters.producer.writes.get(),
            bytes: (stream.sequencer.accepted() - self.facts.start).saturating_sub(gap_bytes),
            gap_bytes,
            sealed: counters.sealed.get(),
            device_bytes: counters.device_bytes.get(),
            zero_bytes: counters.zeros.get(),
            fences,
            fences_coalesced: fences.saturating_sub(counters.fences_done.get()),
            flushes: counters.flushes.get(),
            patches: counters.patches.get(),
            overruns,
            overrun_bytes,
            longest_overrun,
            high_water: counters.producer.high_water.get(),
            copied: counters.copied.get(),
            resubmitted: counters.resubmitted.get(),
            memory: stream.memory.footprint() as u64,
            fence_latency: counters.fence_latency.snapshot(),
            device_writes: counters.device_writes.snapshot(),
            device_flushes: counters.device_flushes.snapshot(),
        }
    }

    /// The longest write that is sure to find room whole: with all but one buffer empty.
    pub(crate) fn longest_whole(&self) -> usize {
        self.stream.memory.capacity() - self.facts.options.buffer_size
    }
}

impl Drop for Core {
    /// The last handle of any kind is gone: whatever has not been closed is, as well as it goes.
    fn drop(&mut self) {
        let _ = self.close();
    }
}
