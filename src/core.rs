//! One open file with everything that serves it, behind the public faces.
#![allow(unsafe_code)]

#[cfg(all(unix, not(any(loom, shuttle))))]
mod ending;

use std::path::Path;
use std::sync::Arc;

use crate::backend::{Abilities, Backend, Io};
use crate::blocks::align_down;
use crate::buffers::Memory;
use crate::canary::Canary;
use crate::driver::run::{CloseLater, Runner, Waited};
use crate::driver::{Around, Driver, Forms, Geometry, Lane, Plan};
use crate::error::{Error, Operation};
use crate::file::{
    self, Durability, Handle, MAX_BLOCK, NoSignal, OpenFile, OpenMode, below_the_end, file_limit,
};
use crate::options::{BackendChoice, DiskFull, FenceForm, Options};
use crate::stats::Stats;
pub(crate) use crate::stream::Goal;
use crate::stream::{Patch, Stream};
use crate::summary::{CloseError, Summary};
use crate::sync::{AtomicBool, Instant, Mutex, MutexGuard, Ordering, fence, ignore_poison};

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

/// What the close still needs.
#[derive(Debug)]
struct Held {
    file: Arc<dyn Handle>,
    mode: OpenMode,
    existing: u64,
    locked: bool,
    marked: bool,
}

impl Held {
    /// Of the file, if what was written ends at `end`.
    fn len(&self, end: u64) -> u64 {
        match self.mode {
            OpenMode::Overwrite => end.max(self.existing),
            _ => end,
        }
    }

    /// Gives the file its length and lets it go; what was written ends at `end`, and is durable.
    #[cfg(all(unix, not(any(loom, shuttle))))]
    fn finish(&self, stream: &Stream, end: u64) -> Vec<Error> {
        let errors = file::finish(&*self.file, &stream.path, self.len(end), self.marked);
        self.unlock();
        errors
    }

    /// Explicitly: a forked child may hold the descriptor still.
    fn unlock(&self) {
        if self.locked {
            self.file.unlock();
        }
    }

    /// The last step of a close. A file whose every byte is durable is cut behind the last one; if
    /// the medium was full, behind the last one before a gap. After any other failure whatever got
    /// there stays. Also gives the length that the file has then.
    fn let_go(self, stream: &Stream, is_whole: bool) -> (Vec<Error>, Option<u64>) {
        let end = match is_whole {
            true => Some(stream.sequencer.accepted()),
            false => stream.is_cut_short().then(|| stream.written()),
        };
        let finish = |end| file::finish(&*self.file, &stream.path, self.len(end), self.marked);
        let mut errors = end.map(finish).unwrap_or_default();
        let len = self.file.len().ok();
        self.unlock();
        errors.extend(file::close(&*self.file, &stream.path).err());
        (errors, len)
    }
}

/// What a writer needs beside a file.
#[derive(Debug)]
struct Means {
    memory: Memory,
    io: Box<dyn Io>,
    fallback: Option<String>,
    /// Bytes in a device write.
    piece: usize,
    /// Writes under way at a time.
    flights: usize,
}

impl Means {
    fn new(options: &Options, path: &Path) -> Result<Self, Error> {
        let start_failed = |error| Error::io(Operation::Start, &path.into(), error);
        let piece = options.device_write();
        let pieces = options.buffer_size / piece * options.buffers;
        let memory = Memory::new(piece, pieces, options.longest_grant(), MAX_BLOCK)
            .ok_or_else(|| start_failed(std::io::ErrorKind::OutOfMemory.into()))?;
        // A write a piece and one for a tail; a flush, a patch, and a linked pair's second half.
        let flights = pieces + 1;
        let (io, fallback) = options.host.backend(options, flights + 3).map_err(start_failed)?;
        Ok(Self { memory, io, fallback, piece, flights })
    }
}

impl Core {
    pub(crate) fn open(options: &Options, path: &Path, mode: OpenMode) -> Result<Self, Error> {
        options.check()?;
        let _unsignalled = NoSignal::here();
        // What can be refused without touching the file comes first.
        let means = Means::new(options, path)?;
        let mut opened = OpenFile::new(&*options.host, options, path, mode)?;
        let started = Self::start_or_fall_back(options, &opened, means);
        let ready = started.and_then(|core| match opened.cut(options) {
            Ok(()) => Ok(core),
            Err(error) => {
                core.abandon();
                Err(error)
            }
        });
        if ready.is_err() {
            opened.take_back(options);
        }
        ready
    }

    /// It never came to be: its file is the open's to take back.
    fn abandon(&self) {
        self.closing.store(true, Ordering::SeqCst);
        *ignore_poison(self.held.lock()) = None;
        self.runner.retire();
    }

    /// Another backend, where the choice is free, if this one can't work on the driver's thread.
    fn start_or_fall_back(
        options: &Options,
        opened: &OpenFile,
        means: Means,
    ) -> Result<Self, Error> {
        let is_free = options.backend == BackendChoice::Auto && means.io.kind() != Backend::Sync;
        match Self::start(options, opened, means) {
            Err(error) if is_free => {
                let plain = options.clone().backend(BackendChoice::Sync);
                Means::new(&plain, &opened.path).and_then(|mut means| {
                    means.fallback = Some(error.to_string());
                    Self::start(options, opened, means)
                })
            }
            started => started,
        }
    }

    fn start(options: &Options, opened: &OpenFile, means: Means) -> Result<Self, Error> {
        let Means { memory, mut io, fallback, piece, flights } = means;
        let start_failed = |error| Error::io(Operation::Start, &opened.path, error);
        let id = io.attach(&opened.file, &memory.registrable()).map_err(start_failed)?;
        let floor = align_down(opened.start, opened.block);
        if floor < opened.start {
            // The block that the first write shares with what is already there.
            let head = memory.patch_bounce().first(opened.block as usize);
            if !Canary::HeadNotRead.is_planted() {
                io.read(id, floor, head)
                    .map_err(|error| Error::io(Operation::Read, &opened.path, error))?;
            }
            // SAFETY: nobody else knows the memory yet.
            unsafe {
                let len = (opened.start - floor) as usize;
                memory.copy_in(floor, std::slice::from_raw_parts(head.address, len));
            }
        }

        let geometry =
            Geometry { block: opened.block, buffer: piece as u64, bounce: Memory::BOUNCE as u64 };
        // An error of a write with a fence of its own may be the fence's: then nobody may go on.
        let dsync_flushes = opened.place.dsync_flushes && options.on_disk_full != DiskFull::Wait;
        let forms = forms(options.fence_form, io.abilities(), dsync_flushes);
        let plan = Plan::new(geometry, forms, opened.start, flights);
        let facts = Facts {
            options: options.clone(),
            backend: io.kind(),
            durability: match options.fence_form {
                FenceForm::WriteThrough => Durability::trusting_the_drive(),
                _ => opened.place.durability.clone(),
            },
            fallbacks: opened
                .fallbacks
                .iter()
                .cloned()
                .chain(fallback)
                .chain(io.shortfalls())
                .collect(),
            block: opened.block,
            piece: piece as u64,
            start: opened.start,
            existing: opened.existing,
        };
        let bounds = (floor, opened.start);
        let stream = Arc::new(Stream::new(opened.path.clone(), memory, bounds, io.waker()));
        let (block, existing) = (opened.block, opened.existing);
        let around = Around { block, existing, kept: options.preallocate.kept(existing) };
        let lane = Lane::new(0, stream.clone(), id, plan, around, flights)
            .on_disk_full(options.on_disk_full)
            .file_limit(file_limit());
        let driver = Driver::new(io, vec![lane]);
        let runner = Runner::new(driver, stream.clone(), options.drive, &options.thread_setup)
            .map_err(start_failed)?;
        let held = Held {
            file: opened.file.clone(),
            mode: opened.mode,
            existing: opened.existing,
            locked: options.lock,
            marked: opened.marked,
        };
        Ok(Self {
            stream,
            runner,
            facts,
            closing: AtomicBool::new(false),
            held: Mutex::new(Some(held)),
            patching: Arc::default(),
            late_errors: Mutex::default(),
        })
    }

    /// The open file once more, for reading.
    pub(crate) fn open_for_reading(&self) -> std::io::Result<file::OsFile> {
        let held = ignore_poison(self.held.lock());
        let held = held.as_ref().ok_or(Error::Closed)?;
        file::os_file(&*held.file)?.open_for_reading(&self.stream.path)
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
        let goal = Goal {
            patches: self.stream.patches_queued(),
            position: self.stream.sequencer.accepted(),
        };
        self.want(goal);
        goal
    }

    pub(crate) fn want(&self, goal: Goal) {
        self.stream.counters.fences_asked.add(1);
        if !self.reached(goal) {
            self.stream.want_durable(goal.position, goal.patches);
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

    pub(crate) fn flush(&self) -> Result<u64, Error> {
        let goal = self.fence();
        self.wait_durable(goal, None)?;
        Ok(goal.position)
    }

    /// Waits until the kernel has everything accepted so far, and every patch.
    pub(crate) fn drain(&self) -> Result<(), Error> {
        // Patches on their way have no position of their own: only a fence knows that they are in
        // the file.
        if self.stream.patches_queued() > self.stream.patches_durable() {
            return self.flush().map(drop);
        }
        let position = self.stream.sequencer.accepted();
        self.stream.want_written(position);
        let written = || self.stream.written() >= position;
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
        self.wait_space(by, || self.stream.sequencer.room(from, len).is_ok())
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
        self.stream.gap.outcome().map_err(refused)
    }

    /// A buffer has filled up: how much of the memory is in use now?
    pub(crate) fn note_high_water(&self, accepted: u64) {
        let capacity = self.stream.memory.capacity() as u64;
        let in_use = self.stream.sequencer.limit().saturating_sub(capacity);
        // A write longer than the buffers is accepted before it has room.
        let held = accepted.saturating_sub(in_use).min(capacity);
        self.stream.counters.producer.high_water.raise(held);
    }

    // ---- patches ----------------------------------------------------------------------------------

    /// Queues an overwrite of accepted bytes; waits only while the queue is full.
    pub(crate) fn patch(&self, offset: u64, bytes: &[u8]) -> Result<u64, Error> {
        let accepted = self.stream.sequencer.accepted();
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > accepted) {
            return Err(Error::PatchRange { offset, len: bytes.len(), accepted });
        }
        if self.stream.is_not_ours() {
            return Err(Error::Forked);
        }
        let number = {
            let _whole = self.begin_patch(bytes.len().div_ceil(Patch::MAX))?;
            self.queue_patch(offset, bytes)?
        };
        // A close that a waker began waits for that.
        fence(Ordering::SeqCst);
        if self.closing.load(Ordering::Relaxed) {
            self.stream.ring_doorbell();
        }
        match self.stream.failure() {
            Some(error) => Err(error.clone()),
            None => Ok(number),
        }
    }

    /// Keeps other patchers out. In a waker all pieces have to find room in the queue now.
    fn begin_patch(&self, pieces: usize) -> Result<MutexGuard<'_, ()>, Error> {
        let whole = if self.runner.may_wait() {
            ignore_poison(self.patching.lock())
        } else {
            match self.patching.try_lock() {
                Ok(whole) if pieces <= self.stream.patch_room() => whole,
                _ => return Err(Error::InWaker),
            }
        };
        if self.closing.load(Ordering::SeqCst) { Err(self.stopped()) } else { Ok(whole) }
    }

    fn queue_patch(&self, offset: u64, bytes: &[u8]) -> Result<u64, Error> {
        let mut number = self.stream.patches_queued();
        for (index, piece) in bytes.chunks(Patch::MAX).enumerate() {
            let from = offset + (index * Patch::MAX) as u64;
            let queued = std::cell::Cell::new(None);
            let queue = || {
                if queued.get().is_none() {
                    queued.set(self.stream.try_queue_patch(from, piece));
                }
                queued.get().is_some()
            };
            self.judge(self.runner.wait(&self.stream.space, None, queue))?;
            number = queued.get().unwrap_or(number);
            self.stream.counters.patches.add(1);
        }
        Ok(number)
    }

    /// The medium was full, and the file will be cut to what is durable: writes a header that
    /// describes no more than that over bytes that are there, and flushes it. The driver has ended
    /// all it had under way. Grants nothing; an error of its own is told by the close.
    pub(crate) fn last_header<H: AsRef<[u8]>>(&self, offset: u64, header: impl FnOnce(u64) -> H) {
        if !self.stream.is_cut_short() || self.stream.is_not_ours() {
            return;
        }
        let durable = self.stream.durable();
        let header = header(durable); // before any lock: it is the caller's code
        let header = header.as_ref();
        let held = ignore_poison(self.held.lock());
        let (true, Some(held)) = (self.stream.is_cut_short(), held.as_ref()) else { return };
        if offset.checked_add(header.len() as u64).is_none_or(|end| end > durable) {
            return; // it has no place in the file that will be left
        }
        let told = |operation| move |error| Error::io(operation, &self.stream.path, error);
        let written = held.file.overwrite(offset, header, self.facts.block);
        let written = written.map_err(told(Operation::Write));
        let flushed = written.and_then(|()| {
            let flushed = held.file.sync_all().map_err(told(Operation::Flush));
            flushed.inspect_err(|_| self.stream.leave_as_it_is())
        });
        if let Err(error) = flushed {
            ignore_poison(self.late_errors.lock()).push(error);
        }
    }

    // ---- closing ----------------------------------------------------------------------------------

    /// Drains, trims, flushes file and directory, lets go of everything.
    ///
    /// # Errors
    /// Every error; the summary is true either way. `Closed` if it was closed before; `InWaker` if
    /// the driver's thread does it all when the waker has returned, and keeps its errors as the
    /// stream's.
    pub(crate) fn close(&self) -> Result<Summary, CloseError> {
        let (errors, file_len) = if self.stream.is_not_ours() {
            (vec![Error::Forked], None) // file, lock and driver are the parent's, maybe this memory
        } else if self.closing.swap(true, Ordering::SeqCst) {
            (vec![Error::Closed], None)
        } else if self.runner.may_wait() {
            self.finish()
        } else {
            (self.finish_later(), None)
        };
        let summary = self.summary(file_len);
        if errors.is_empty() {
            Ok(summary)
        } else {
            Err(CloseError { errors, summary: Box::new(summary) })
        }
    }

    /// Also gives the length of the file that it leaves.
    fn finish(&self) -> (Vec<Error>, Option<u64>) {
        let _unsignalled = NoSignal::here();
        self.shut();
        drop(ignore_poison(self.patching.lock())); // a patch under way is let in whole
        let mut errors = Vec::new();
        if let Err(error) = self.flush() {
            errors.push(error);
        }
        self.runner.retire();
        self.stream.sequencer.stop();
        self.stream.memory.give_pages_back();
        errors.extend(ignore_poison(self.late_errors.lock()).drain(..));
        let mut file_len = None;
        if let Some(held) = ignore_poison(self.held.lock()).take() {
            let (late, len) = held.let_go(&self.stream, errors.is_empty());
            errors.extend(late);
            file_len = len;
        }
        (errors, file_len)
    }

    /// Of a waker: the driver's thread does what has to wait.
    fn finish_later(&self) -> Vec<Error> {
        self.shut();
        let (stream, held) = (self.stream.clone(), ignore_poison(self.held.lock()).take());
        let finish = move || {
            if stream.is_left_behind() {
                return; // the waker forked: the parent's thread does it
            }
            stream.sequencer.stop();
            stream.memory.give_pages_back();
            let is_whole = stream.failure().is_none();
            let errors = held.map(|held| held.let_go(&stream, is_whole).0);
            if let Some(error) = errors.and_then(|errors| errors.into_iter().next()) {
                stream.fail(error); // there is nobody else to tell
            }
        };
        let patching = self.patching.clone();
        self.runner.retire_later(CloseLater { patching, finish: Box::new(finish) });
        vec![Error::InWaker]
    }

    /// No producer gets a place any more, and nobody waits for space.
    fn shut(&self) {
        self.stream.end_patience();
        if self.stream.is_shared() {
            self.stream.sequencer.shut();
            self.stream.space.announce();
        }
    }

    /// Whether its file is the operating system's, and no simulated one.
    #[cfg(all(unix, not(any(loom, shuttle))))]
    pub(crate) fn is_of_the_system(&self) -> bool {
        self.held
            .try_lock()
            .is_ok_and(|held| held.as_ref().is_some_and(|held| held.file.os_file().is_some()))
    }

    /// The process is ending, and every other thread is gone, the driver's with it: writes with
    /// plain calls what the kernel has not got yet, trims and flushes. Waits for no lock, and neither
    /// allocates nor frees, since the thread that holds a lock, or the heap, may be gone too.
    #[cfg(any(windows, test))]
    pub(crate) fn rescue(&self) -> std::io::Result<()> {
        let out_of_reach = || std::io::Error::from(std::io::ErrorKind::WouldBlock);
        if self.stream.is_not_ours() || self.stream.failure().is_some() {
            return Err(out_of_reach());
        }
        let held = self.held.try_lock().map_err(|_| out_of_reach())?;
        let held = held.as_ref().ok_or_else(out_of_reach)?; // closed
        let file = held.file.os_file().ok_or_else(out_of_reach)?;
        self.stream.halt();
        let mut end = self.stream.committed();
        if end - self.stream.written() > self.stream.memory.capacity() as u64 {
            end = self.stream.written(); // behind a gap that was just being made: all else is there
        }
        // From the block on that the last write may have ended in: a patch may have changed it in
        // memory since. No patch goes to the disk alone from there on (`Plan::floor`).
        let mut at = align_down(self.stream.written(), self.facts.block);
        while at < end {
            let to = end.min(align_down(at, self.facts.piece) + self.facts.piece);
            let region = self.stream.memory.ring(at, to);
            // SAFETY: committed bytes that nobody changes any more: there is no other thread.
            let bytes = unsafe { std::slice::from_raw_parts(region.address, region.len) };
            file.write_all_at(bytes, at)?;
            at = to;
        }
        // The one that was at hand may be there already: then it changes nothing.
        self.stream.each_abandoned_patch(|patch| file.write_all_at(&patch.bytes, patch.from))?;
        let file = file.ours()?;
        file.set_len(held.len(end))?;
        file.sync_all()
    }

    fn summary(&self, file_len: Option<u64>) -> Summary {
        Summary {
            path: self.stream.path.clone(),
            positions: self.stream.positions(),
            file_len,
            stats: self.stats(),
            overruns: self.stream.overruns.places(),
            backend: self.facts.backend,
            durability: self.facts.durability.clone(),
        }
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

/// Which forms of a fence the planner may choose.
fn forms(asked: FenceForm, able: Abilities, dsync_flushes: bool) -> Forms {
    match asked {
        FenceForm::Auto => Forms { dsync: able.dsync && dsync_flushes, link: able.link },
        // Asked for by name: but never where it is known not to flush.
        FenceForm::Dsync => Forms { dsync: able.dsync && dsync_flushes, link: false },
        FenceForm::Link => Forms { dsync: false, link: able.link },
        FenceForm::Flush | FenceForm::WriteThrough => Forms { dsync: false, link: false },
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// As the handle of the rescue is on Windows, whatever the backend's is.
    #[cfg(target_os = "linux")]
    fn through_the_page_cache(core: &Core) {
        use std::os::fd::AsRawFd;
        let held = core.held.lock().unwrap();
        let file = held.as_ref().unwrap().file.os_file().unwrap();
        // SAFETY: a live descriptor; plain integers.
        assert_eq!(unsafe { libc::fcntl(file.ours().unwrap().as_raw_fd(), libc::F_SETFL, 0) }, 0);
    }

    /// Of a process that ends: its driver never turns again.
    #[test]
    fn a_rescue_brings_what_the_driver_has_not() {
        use crate::options::{Direct, Drive};
        let direct = [Direct::Off, Direct::On];
        let scenes = direct.map(|direct| [1, 2, 3].map(|scene| (direct, scene))).concat();
        for (direct, scene) in scenes {
            if cfg!(windows) && direct == Direct::On {
                continue; // needs the overlapped backend there
            }
            // Beside this program: what is temporary may lie in memory, without direct I/O.
            let program = std::env::current_exe().unwrap();
            let dir = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
            let path = dir.path().join("take");
            std::fs::write(&path, [1; 5000]).unwrap();
            let options = Options::new()
                .backend(BackendChoice::Sync)
                .drive(Drive::Caller)
                .direct(direct)
                .buffer_size(8192);
            // Nothing closes it.
            let mut writer = std::mem::ManuallyDrop::new(options.append(&path).unwrap());
            let mut wanted = vec![1; 5000];
            let mut write = |writer: &mut crate::Writer, byte, len| {
                assert!(writer.try_write(&vec![byte; len]).is_ok());
                wanted.resize(wanted.len() + len, byte);
            };
            write(&mut writer, 2, 4000);
            writer.flush().unwrap();
            write(&mut writer, 3, 5000);
            let core = &writer.control().core;
            let mut patch = |from: usize, bytes: &[u8]| {
                core.patch(from as u64, bytes).unwrap();
                wanted[from..from + bytes.len()].copy_from_slice(bytes);
            };
            let take = || core.stream.take_patch(core.stream.committed()).unwrap();
            match (scene, direct) {
                (1, _) => {}
                (2, _) | (_, Direct::Off) => {
                    // One that the driver took and never wrote, behind it two that it never took.
                    patch(100, b"taken");
                    patch(102, b"waiting");
                    patch(9100, b"in memory");
                    take();
                }
                _ => {
                    // One that only changed the ring, in the block that the last write ended in, and
                    // one that was taken after it.
                    patch(8990, b"below written");
                    let taken = take();
                    // SAFETY: nobody else touches the ring.
                    unsafe { core.stream.memory.copy_in(taken.from, &taken.bytes) };
                    patch(9500, b"then another");
                    take();
                }
            }
            #[cfg(target_os = "linux")]
            through_the_page_cache(core);
            core.rescue().unwrap();
            let found = std::fs::read(&path).unwrap();
            assert_eq!(found.len(), wanted.len());
            let differs = found.iter().zip(&wanted).position(|(a, b)| a != b);
            assert_eq!(differs, None, "{direct:?}, scene {scene}");
            core.stream.fail(Error::Closed); // its memory goes, its file stays as it is
            drop(std::mem::ManuallyDrop::into_inner(writer));
        }
    }

    #[test]
    fn a_rescue_leaves_the_rest_of_a_recycled_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("take");
        std::fs::write(&path, [1; 5000]).unwrap();
        let options = Options::new().backend(BackendChoice::Sync).direct(crate::Direct::Off);
        let mut writer = options.drive(crate::Drive::Caller).open(&path).unwrap();
        writer.try_write(&[2; 100]).unwrap();
        writer.control().core.rescue().unwrap();
        let found = std::fs::read(&path).unwrap();
        assert!(found.len() == 5000 && found[..100] == [2; 100] && found[100..] == [1; 4900]);
        writer.control().core.stream.fail(Error::Closed); // its memory goes, its file stays as it is
    }

    #[test]
    fn a_form_that_is_not_known_to_flush_is_never_chosen() {
        let able = Abilities { blocking: false, dsync: true, link: true, cancels: true };
        for asked in [FenceForm::Auto, FenceForm::Dsync, FenceForm::Link, FenceForm::Flush] {
            assert!(!forms(asked, able, false).dsync);
        }
        assert!(forms(FenceForm::Auto, able, true).dsync);
    }
}
