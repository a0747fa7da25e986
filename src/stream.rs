//! What producers, waiters and the driver share about one file.
#![allow(unsafe_code)]

mod doorbell;
mod gap;
mod tasks;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::buffers::{Memory, Sequencer};
use crate::canary::Slip;
use crate::error::{Error, Operation};
use crate::file::Handle;
use crate::follow::Post;
use crate::fork::Process;
use crate::overrun::{OnFull, OverrunLog};
use crate::stats::Counters;
use crate::survive::RingFile;
use crate::sync::{
    AtomicBool, AtomicU64, Event, Mutex, OnceLock, Ordering, fence, ignore_poison, raise,
};

pub(crate) use doorbell::Doorbell;
use gap::Gap;
pub(crate) use tasks::{Place, Tasks, unharmed};

/// Four file positions, each the end of a prefix of the file. At any instant
/// `accepted ≥ submitted ≥ written ≥ durable`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Positions {
    /// Taken into a buffer; survives nothing, or a kill where it
    /// [lies in a file](crate::Options::survive_kill). On a shared handle, bytes that a producer is still
    /// copying are included.
    pub accepted: u64,
    /// Handed to the kernel; nothing is promised yet.
    pub submitted: u64,
    /// The kernel has all of it; survives a crash of the process.
    pub written: u64,
    /// A fence that covers it has completed; survives a power cut.
    pub durable: u64,
}

/// What the callers have asked for so far; each figure only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Positions below have to reach the kernel.
    pub(crate) written: u64,
    /// Positions below have to become durable.
    pub(crate) durable: u64,
    /// Patches up to this number have to become durable.
    pub(crate) patches: u64,
}

/// How far the patches have got, by the number of the last of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patched {
    /// A reader of the file sees them.
    pub(crate) in_file: u64,
    pub(crate) durable: u64,
}

/// What a fence has to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Goal {
    pub(crate) position: u64,
    pub(crate) patches: u64,
}

/// Who may have waited for the end of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyEnd {
    /// The driver: a piece may be whole. The stream reaches to `accepted` now.
    Buffer { accepted: u64 },
    /// A fence, a drain, or a patch.
    Awaited,
    /// Nobody.
    Unnoticed,
}

/// A positional overwrite on its way to the driver.
#[derive(Clone, Debug)]
pub(crate) struct Patch {
    /// 1 for the first patch of the stream, then one more each.
    pub(crate) number: u64,
    pub(crate) from: u64,
    pub(crate) bytes: Arc<[u8]>,
}

/// The patches between their callers and the driver.
#[derive(Debug)]
struct Patches {
    waiting: VecDeque<Patch>,
    /// The one that the driver has at hand, or had last.
    #[cfg(any(windows, test))]
    taken: Option<Patch>,
}

impl Patch {
    /// The longest patch that travels as one; longer ones are split.
    pub(crate) const MAX: usize = 32 * 1024;
    /// Patches that may wait for the driver; bounds the memory they take.
    pub(crate) const QUEUE: usize = 8;

    pub(crate) fn to(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }
}

/// See the module. All methods may be called from any thread; those that take a lock or wake a
/// thread say so.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) path: Arc<Path>,
    pub(crate) sequencer: Sequencer,
    pub(crate) memory: Memory,
    pub(crate) counters: CachePadded<Counters>,
    pub(crate) overruns: CachePadded<OverrunLog>,
    /// Producers share the stream: `committed` is found by counting cells.
    shared: AtomicBool,
    /// Of a ring file: no memory is released while producers begin to share it.
    sharing: Mutex<()>,
    process: Process,
    // Apart, so that neither the driver nor who asks takes away the cache lines that a push reads.
    published: CachePadded<Published>,
    requests: CachePadded<Requests>,
    pub(crate) gap: CachePadded<Gap>,
    patches: CachePadded<Mutex<Patches>>,
    failure: OnceLock<Error>,
    /// What followers in other processes see.
    post: OnceLock<Post>,
    /// It failed for want of space, nothing is in flight, and no fence has failed: what the file
    /// holds below `written` is all that will be there.
    cut_short: AtomicBool,
    /// Announced when `written`, `durable` or the failure changes.
    pub(crate) progress: CachePadded<Event>,
    /// Announced when memory is released or a patch is taken, and at a failure.
    pub(crate) space: CachePadded<Event>,
    doorbell: Arc<Doorbell>,
    /// Of the streams of its driver.
    place: usize,
    /// Woken when `durable` or the failure changes.
    pub(crate) tasks: CachePadded<Tasks>,
    /// Those that await room, by the limit that they need; woken when `space` is announced.
    pub(crate) rooms: CachePadded<Tasks>,
}

/// What the driver writes and everybody reads.
#[derive(Debug)]
struct Published {
    submitted: AtomicU64,
    written: AtomicU64,
    durable: AtomicU64,
    patches_taken: AtomicU64,
    patches_in_file: AtomicU64,
    patches_durable: AtomicU64,
    /// A fence is in flight: its end makes the driver look for the next one.
    fencing: AtomicBool,
    /// The medium has no room at the moment.
    waiting_for_space: AtomicBool,
    /// Of the bytes below `written`, with a bit above it; 0: not known.
    checksum: AtomicU64,
}

/// What callers ask for and the driver reads.
#[derive(Debug)]
struct Requests {
    written: AtomicU64,
    durable: AtomicU64,
    patches: AtomicU64,
    patches_queued: AtomicU64,
    /// The writer is being closed: nobody waits for space any more.
    ending: AtomicBool,
}

impl Stream {
    /// A stream whose next byte goes to `start`, with memory from `released` on in use, at a
    /// place of its driver.
    pub(crate) fn new(
        path: Arc<Path>,
        memory: Memory,
        (released, start): (u64, u64),
        (doorbell, place): (Arc<Doorbell>, usize),
    ) -> Self {
        let words = memory.ring_file().map(|file| {
            file.begin(start);
            file.words()
        });
        let sequencer = Sequencer::over(words, start, released, memory.capacity() as u64);
        Self {
            path,
            sequencer,
            memory,
            counters: CachePadded::default(),
            overruns: CachePadded::default(),
            shared: AtomicBool::new(false),
            sharing: Mutex::new(()),
            process: Process::this(),
            published: CachePadded::new(Published {
                submitted: AtomicU64::new(start),
                written: AtomicU64::new(start),
                durable: AtomicU64::new(start),
                patches_taken: AtomicU64::new(0),
                patches_in_file: AtomicU64::new(0),
                patches_durable: AtomicU64::new(0),
                fencing: AtomicBool::new(false),
                waiting_for_space: AtomicBool::new(false),
                checksum: AtomicU64::new(0),
            }),
            requests: CachePadded::new(Requests {
                written: AtomicU64::new(start),
                durable: AtomicU64::new(start),
                patches: AtomicU64::new(0),
                patches_queued: AtomicU64::new(0),
                ending: AtomicBool::new(false),
            }),
            gap: CachePadded::default(),
            patches: CachePadded::new(Mutex::new(Patches {
                waiting: VecDeque::with_capacity(Patch::QUEUE),
                #[cfg(any(windows, test))]
                taken: None,
            })),
            failure: OnceLock::new(),
            post: OnceLock::new(),
            cut_short: AtomicBool::new(false),
            progress: CachePadded::default(),
            space: CachePadded::default(),
            doorbell,
            place,
            tasks: CachePadded::default(),
            rooms: CachePadded::default(),
        }
    }

    // ---- positions ------------------------------------------------------------------------------

    pub(crate) fn positions(&self) -> Positions {
        // The smallest first: each only grows, and the driver publishes the largest first, so
        // the order between them holds in the result.
        let durable = self.durable();
        let written = self.written();
        let submitted = self.published.submitted.load(Ordering::Acquire);
        let accepted = self.sequencer.accepted();
        Positions { accepted, submitted, written, durable }
    }

    pub(crate) fn durable(&self) -> u64 {
        self.published.durable.load(Ordering::Acquire)
    }

    pub(crate) fn written(&self) -> u64 {
        self.published.written.load(Ordering::Acquire)
    }

    /// Read after this they are in the file, as far as they lie below `written`.
    pub(crate) fn patches_in_file(&self) -> u64 {
        self.published.patches_in_file.load(Ordering::Acquire)
    }

    pub(crate) fn patches_durable(&self) -> u64 {
        self.published.patches_durable.load(Ordering::Acquire)
    }

    /// Every byte below belongs to the driver.
    pub(crate) fn committed(&self) -> u64 {
        if self.is_shared() { self.sequencer.advance() } else { self.sequencer.committed() }
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Acquire)
    }

    /// From now on producers share the stream.
    pub(crate) fn share(&self) {
        if self.is_left_behind() {
            return; // the words may be the parent's, too
        }
        self.sequencer.share();
        match self.memory.ring_file() {
            None => self.shared.store(true, Ordering::Release),
            Some(file) => self.share_ring(file),
        }
    }

    /// A copy that a kill interrupts leaves in its place what lay there: it has to be nothing.
    fn share_ring(&self, file: &RingFile) {
        let _released_by_nobody = ignore_poison(self.sharing.lock());
        self.shared.store(true, Ordering::Release);
        let (from, to) = (self.sequencer.committed(), self.sequencer.limit());
        // SAFETY: past `committed` all that has room is the producer's, which waits for this.
        unsafe { self.memory.fill(from, to.saturating_sub(from) as usize, 0) };
        file.share();
    }

    /// Of the driver: gives memory below `in_use` back to the producers; returns whether that is news.
    pub(crate) fn release(&self, in_use: u64) -> bool {
        if self.memory.ring_file().is_none() {
            return self.sequencer.release(in_use);
        }
        if self.sequencer.releasable(in_use).is_empty() {
            return false;
        }
        let _shared_by_nobody = ignore_poison(self.sharing.lock());
        if self.is_shared() {
            let memory = self.sequencer.releasable(in_use);
            // SAFETY: the driver's until it is released; nothing of it is in flight.
            unsafe { self.memory.fill(memory.start, (memory.end - memory.start) as usize, 0) };
        }
        self.sequencer.release(in_use)
    }

    /// Of a driver: ring or file show the patches up to this one.
    pub(crate) fn patch_is_through(&self, number: u64) {
        if let Some(file) = self.memory.ring_file() {
            file.patch_applied(number);
        }
    }

    /// Of a driver: everything below is in the file, whether published or not.
    pub(crate) fn note_written(&self, written: u64) {
        if let Some(file) = self.memory.ring_file() {
            file.post_written(written);
        }
    }

    /// Of a writer that lets go of its file; `whole`: the file has all that was accepted.
    pub(crate) fn leave_ring(&self, file: &dyn Handle, whole: bool) {
        match self.memory.ring_file() {
            Some(ring) if whole => {
                ring.remove();
                let _ = file.set_bond(None); // of a ring that is gone: a later writer takes it away
            }
            Some(ring) => ring.leave(),
            None => {}
        }
    }

    // ---- requests to the driver -----------------------------------------------------------------

    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            written: self.requests.written.load(Ordering::Acquire),
            durable: self.requests.durable.load(Ordering::Acquire),
            patches: self.requests.patches.load(Ordering::Acquire),
        }
    }

    /// Every fence that was asked for has ended.
    pub(crate) fn is_content(&self) -> bool {
        let wanted = self.wanted();
        wanted.durable <= self.durable() && wanted.patches <= self.patches_durable()
    }

    /// Asks for a fence over `position` and the first `patches` patches, and wakes the driver if
    /// it sleeps for want of work.
    pub(crate) fn want_durable(&self, position: u64, patches: u64) {
        self.note_wanted(position, patches);
        self.tell_of_fence();
    }

    /// As [`want_durable`](Self::want_durable), for whoever [tells](Self::tell_of_fence) the driver
    /// next, or carries the fence out himself.
    pub(crate) fn note_wanted(&self, position: u64, patches: u64) {
        raise(&self.requests.patches, patches, Ordering::AcqRel);
        raise(&self.requests.durable, position, Ordering::AcqRel);
        if self.is_shared() {
            // Settle what is quiet now, so that copies that begin later can't delay this fence.
            self.sequencer.advance();
        }
    }

    /// A fence was asked for: wakes the driver if it sleeps for want of work.
    pub(crate) fn tell_of_fence(&self) {
        // Pairs with the fence of a driver that goes to sleep: if the fence in flight is seen here, its end
        // will see this request.
        fence(Ordering::SeqCst);
        if !self.published.fencing.load(Ordering::Relaxed) {
            self.ring_doorbell();
        }
    }

    /// Nobody waits for space any more: a full medium fails the stream from now on.
    pub(crate) fn end_patience(&self) {
        self.requests.ending.store(true, Ordering::Release);
        self.ring_doorbell();
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.requests.ending.load(Ordering::Acquire)
    }

    /// Asks for everything below `position` to be handed to the kernel.
    pub(crate) fn want_written(&self, position: u64) {
        raise(&self.requests.written, position, Ordering::AcqRel);
        self.ring_doorbell();
    }

    /// Counts the bytes of a producer that shares the stream as copied, and says who may have
    /// waited for that. `piece` is what the driver writes whole.
    pub(crate) fn commit_shared(&self, from: u64, len: u64, piece: u64) -> CopyEnd {
        self.sequencer.commit_shared(from, len);
        // Whoever reserves past the end of this piece later commits later, and looks again.
        fence(Ordering::SeqCst);
        let accepted = self.sequencer.accepted();
        if Slip::SilentCommit.is_planted() {
            CopyEnd::Unnoticed
        } else if accepted / piece > from / piece {
            CopyEnd::Buffer { accepted }
        } else if self.is_awaited_past(from) {
            CopyEnd::Awaited
        } else {
            CopyEnd::Unnoticed
        }
    }

    /// Of a producer that has no bytes for what it reserved: they become `byte`, count as lost, and are
    /// handed over, so that nobody behind them waits.
    ///
    /// # Safety
    /// As [`Memory::fill`]; they are handed over once.
    pub(crate) unsafe fn give_up(&self, from: u64, len: usize, byte: u8, piece: u64) -> CopyEnd {
        // SAFETY: passed on.
        unsafe { self.memory.fill(from, len, byte) };
        self.overruns.lose(from, len as u64, OnFull::Drop); // its place is filled: nothing is owed
        self.commit_shared(from, len as u64, piece)
    }

    /// A fence or a drain waits for bytes that end past `position`, or a patch for some before it.
    ///
    /// So does one that waits for bytes before it in the same cell: they don't count as copied
    /// while anything in their cell is being copied, so the last copy there has to tell.
    fn is_awaited_past(&self, position: u64) -> bool {
        let cell = position - position % Sequencer::CELL;
        let wanted = self.wanted();
        (wanted.durable > cell && wanted.durable > self.durable())
            || (wanted.written > cell && wanted.written > self.written())
            || self.patches_wait()
    }

    /// Wakes the driver if it has announced that it sleeps; otherwise makes no system call.
    #[inline]
    pub(crate) fn ring_doorbell(&self) {
        self.doorbell.ring_for(self.place);
    }

    /// Of the only producer, which waits for the answer: asks for a gap that ends at `to`.
    pub(crate) fn want_gap(&self, to: u64) {
        self.gap.ask(to);
        self.ring_doorbell();
    }

    /// Of the driver: the file goes on at `to`, behind a gap, and its producer there when it has the
    /// answer.
    pub(crate) fn go_on_at(&self, to: u64) {
        self.counters.gap_bytes.add(to - self.sequencer.committed());
        self.sequencer.commit_exclusive(to);
    }

    // ---- patches --------------------------------------------------------------------------------

    /// Patches that may be queued now. Takes a lock.
    pub(crate) fn patch_room(&self) -> usize {
        Patch::QUEUE - ignore_poison(self.patches.lock()).waiting.len()
    }

    /// Number of the last patch queued.
    pub(crate) fn patches_queued(&self) -> u64 {
        self.requests.patches_queued.load(Ordering::Acquire)
    }

    /// Queues one patch of at most [`Patch::MAX`] bytes if there is room; returns its number.
    /// Takes a lock.
    pub(crate) fn try_queue_patch(&self, from: u64, bytes: &[u8]) -> Option<u64> {
        let mut patches = ignore_poison(self.patches.lock());
        if patches.waiting.len() == Patch::QUEUE {
            return None;
        }
        let number = self.patches_queued() + 1;
        if let Some(file) = self.memory.ring_file() {
            file.put_patch(number, from, bytes);
        }
        patches.waiting.push_back(Patch { number, from, bytes: bytes.into() });
        self.requests.patches_queued.store(number, Ordering::Release);
        drop(patches);
        self.ring_doorbell();
        Some(number)
    }

    /// There are patches that the driver has not taken.
    fn patches_wait(&self) -> bool {
        self.patches_queued() != self.published.patches_taken.load(Ordering::Relaxed)
    }

    /// The driver takes the oldest patch, if its bytes are all below `committed`.
    pub(crate) fn take_patch(&self, committed: u64) -> Option<Patch> {
        if !self.patches_wait() {
            return None;
        }
        let mut patches = ignore_poison(self.patches.lock());
        let ready = patches.waiting.front().is_some_and(|patch| patch.to() <= committed);
        let patch = if ready { patches.waiting.pop_front() } else { None }?;
        #[cfg(any(windows, test))]
        patches.taken.replace(patch.clone());
        self.published.patches_taken.store(patch.number, Ordering::Relaxed);
        Some(patch)
    }

    /// Whether [`take_patch`](Self::take_patch) would give one.
    pub(crate) fn patch_waits(&self, committed: u64) -> bool {
        self.patches_wait()
            && ignore_poison(self.patches.lock())
                .waiting
                .front()
                .is_some_and(|patch| patch.to() <= committed)
    }

    /// The patches that may not be in the file when the driver is gone, in order; none if another
    /// thread that is gone holds them. Neither allocates nor frees.
    #[cfg(any(windows, test))]
    pub(crate) fn each_abandoned_patch(
        &self,
        act: impl FnMut(&Patch) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let Ok(patches) = self.patches.try_lock() else { return Ok(()) };
        patches.taken.iter().chain(&patches.waiting).try_for_each(act)
    }

    /// Ends what the backend has under way: of a driver that is gone.
    #[cfg(any(windows, test))]
    pub(crate) fn halt(&self) {
        self.doorbell.halt();
    }

    // ---- what the driver publishes --------------------------------------------------------------

    /// Publishes positions, the largest first; returns whether a waiter may care. Writes nothing
    /// that has not changed: a polling driver calls it all the time.
    pub(crate) fn publish(
        &self,
        submitted: u64,
        written: u64,
        durable: u64,
        patches: Patched,
    ) -> bool {
        assert!(submitted >= written && written >= durable, "positions out of order");
        let raise = |published: &AtomicU64, now: u64| {
            let news = published.load(Ordering::Relaxed) < now;
            if news {
                published.store(now, Ordering::Release);
            }
            news
        };
        raise(&self.published.submitted, submitted);
        let end = written;
        let written = raise(&self.published.written, end);
        if written {
            self.note_written(end);
        }
        let patched = raise(&self.published.patches_in_file, patches.in_file);
        let patches = raise(&self.published.patches_durable, patches.durable);
        let durable = raise(&self.published.durable, durable);
        if (written || durable)
            && let Some(post) = self.post.get()
        {
            post.post(self.written(), self.durable());
        }
        written || patched || patches || durable
    }

    /// Of what is written when the next positions are published.
    pub(crate) fn set_checksum(&self, sum: Option<u32>) {
        let word = sum.map_or(0, |sum| u64::from(sum) | Self::IS_SUM);
        if self.published.checksum.load(Ordering::Relaxed) != word {
            self.published.checksum.store(word, Ordering::Relaxed);
        }
    }

    /// Of what is written, while nothing more is.
    pub(crate) fn checksum(&self) -> Option<u32> {
        let word = self.published.checksum.load(Ordering::Relaxed);
        (word & Self::IS_SUM != 0).then_some(word as u32)
    }

    const IS_SUM: u64 = 1 << 32;

    /// Before anything is written.
    pub(crate) fn be_followed(&self, post: Post) {
        let set = self.post.set(post);
        debug_assert!(set.is_ok(), "followed twice");
    }

    /// Of a writer that lets go of its file; `whole`: it is exactly what was written.
    pub(crate) fn leave_followers(&self, file: &dyn Handle, whole: bool) {
        if let (Some(post), Some(file)) = (self.post.get(), file.os_file()) {
            post.leave(file, whole);
        }
    }

    /// Says whether a fence is in flight. The driver calls it before it goes to sleep.
    pub(crate) fn set_fencing(&self, fencing: bool) {
        if self.published.fencing.load(Ordering::Relaxed) != fencing {
            self.published.fencing.store(fencing, Ordering::Relaxed);
        }
    }

    /// Says whether the medium has no room at the moment.
    pub(crate) fn set_waiting_for_space(&self, waiting: bool) {
        if self.is_waiting_for_space() != waiting {
            self.published.waiting_for_space.store(waiting, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_waiting_for_space(&self) -> bool {
        self.published.waiting_for_space.load(Ordering::Relaxed)
    }

    /// The error that poisoned the stream.
    pub(crate) fn failure(&self) -> Option<&Error> {
        self.failure.get()
    }

    /// Poisons the stream: the first error stays, nothing is granted any more, everybody wakes.
    pub(crate) fn fail(&self, error: Error) {
        // A close tells its end itself; a child's copy of the stream tells nothing.
        let is_told = !matches!(error, Error::Closed) && !self.process.is_gone();
        let _ = self.failure.set(error);
        self.sequencer.stop();
        if is_told && let Some(post) = self.post.get() {
            post.fail();
        }
        self.progress.announce();
        self.announce_space();
        self.wake_tasks();
    }

    /// Poisons a stream whose medium is full, once nothing is in flight and what is there has been
    /// fenced as far as it can be.
    pub(crate) fn fail_full(&self, error: std::io::Error) {
        self.cut_short.store(true, Ordering::Release);
        self.fail_io(Operation::Write, error);
    }

    /// See the field.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.cut_short.load(Ordering::Acquire)
    }

    /// A fence has failed after all: the file is left as it is.
    pub(crate) fn leave_as_it_is(&self) {
        self.cut_short.store(false, Ordering::Release);
    }

    pub(crate) fn fail_io(&self, operation: Operation, error: std::io::Error) {
        self.fail(Error::io(operation, &self.path, error));
    }

    /// Whether this process has a copy of the stream, and another opened it. Then the copy is
    /// poisoned, without a wake-up: the child has no other thread, and may find any lock taken.
    #[inline]
    pub(crate) fn is_left_behind(&self) -> bool {
        let gone = self.process.is_gone();
        if gone {
            self.leave_behind();
        }
        gone
    }

    /// Nothing moves any more: it has failed, or is a child's copy.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_left_behind() || self.failure().is_some()
    }

    /// Whether this is another process than the one that opened the stream: one with a copy, or
    /// one that shares its memory, where nothing is poisoned, since the stream is its owner's.
    /// Makes a system call.
    pub(crate) fn is_not_ours(&self) -> bool {
        self.is_left_behind() || self.is_lent()
    }

    /// Whether this is another process, which shares the memory. Makes a system call.
    pub(crate) fn is_lent(&self) -> bool {
        self.process.is_lent()
    }

    #[cold]
    fn leave_behind(&self) {
        let _ = self.failure.set(Error::Forked);
        self.sequencer.stop();
    }

    /// Where callers drive: whoever waits looks whether he can take the driver.
    pub(crate) fn driver_is_free(&self) {
        self.progress.announce();
        self.space.announce();
    }

    /// Memory was released, or a patch taken, or nothing is granted any more. What a waker does runs
    /// here, so call it where no lock is held.
    pub(crate) fn announce_space(&self) {
        self.space.announce();
        self.rooms.wake(|| {
            let position = match self.sequencer.is_shut() || self.failure().is_some() {
                true => u64::MAX,
                false => self.sequencer.limit(),
            };
            Goal { position, patches: u64::MAX }
        });
    }

    /// Whether a task waits for anything.
    pub(crate) fn has_tasks(&self) -> bool {
        !self.tasks.is_empty() || !self.rooms.is_empty()
    }

    /// Wakes the tasks whose fence is through, all of them after a failure. What a waker does runs
    /// here, so call it where no lock is held.
    pub(crate) fn wake_tasks(&self) {
        self.tasks.wake(|| match self.failure() {
            Some(_) => Goal { position: u64::MAX, patches: u64::MAX },
            None => Goal { position: self.durable(), patches: self.patches_durable() },
        });
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
