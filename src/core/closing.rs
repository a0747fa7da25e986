//! How a writer ends: closed, in a waker, or with its process.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use super::Core;
#[cfg(any(windows, test))]
use crate::blocks::align_down;
use crate::driver::run::CloseLater;
use crate::error::Error;
use crate::file::{self, Handle, NoSignal, OpenMode};
use crate::options::FenceForm;
use crate::stream::Stream;
use crate::summary::{CloseError, Summary};
use crate::sync::{Instant, Ordering, ignore_poison};

/// How long an end waits for copies in progress: those of a thread that ends the process in the midst
/// of one never come, and an owner may never push again.
pub(super) const COPIES: Duration = Duration::from_millis(250);

/// Who closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closer {
    /// The producer, or the last handle.
    Owner,
    /// Somebody else, while the owner may be pushing.
    Another,
}

/// What the close still needs.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) file: Arc<dyn Handle>,
    pub(super) mode: OpenMode,
    pub(super) existing: u64,
    pub(super) locked: bool,
    pub(super) marked: bool,
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
    pub(super) fn finish(&self, stream: &Stream, end: u64) -> Vec<Error> {
        let errors = file::finish(&*self.file, &stream.path, self.len(end), self.marked, false);
        let whole = errors.is_empty() && stream.durable() == end;
        stream.leave_followers(&*self.file, whole);
        stream.leave_ring(&*self.file, whole);
        self.unlock();
        errors
    }

    /// Explicitly: a forked child may hold the descriptor still.
    fn unlock(&self) {
        if self.locked {
            self.file.unlock();
        }
    }

    /// The last step of a close. A file whose every byte is durable, up to `whole`, is cut there; if
    /// the medium was full, behind the last one before a gap. After any other failure whatever got
    /// there stays. Also gives the length that the file has then.
    ///
    /// `fenced`: the last fence covers the length of a whole file, too.
    fn let_go(
        self,
        stream: &Stream,
        whole: Option<u64>,
        fenced: bool,
    ) -> (Vec<Error>, Option<u64>) {
        let end = whole.or_else(|| stream.is_cut_short().then(|| stream.written()));
        let fenced = fenced && whole.is_some();
        let finish =
            |end| file::finish(&*self.file, &stream.path, self.len(end), self.marked, fenced);
        let mut errors = end.map(finish).unwrap_or_default();
        let len = self.file.len().ok();
        stream.leave_followers(&*self.file, whole.is_some() && errors.is_empty());
        stream.leave_ring(&*self.file, whole.is_some());
        self.unlock();
        errors.extend(file::close(&*self.file, &stream.path).err());
        (errors, len)
    }
}

impl Core {
    /// Drains, trims, flushes file and directory, lets go of everything.
    ///
    /// # Errors
    /// Every error; the summary is true either way. `Closed` if it was closed before; `InWaker` if
    /// the driver's thread does it all when the waker has returned, and keeps its errors as the
    /// stream's.
    pub(crate) fn close(&self) -> Result<Summary, CloseError> {
        self.close_as(Closer::Owner)
    }

    /// For whoever does not own the writer. In a waker nothing is done.
    pub(super) fn close_beside_the_owner(&self) -> Result<Summary, CloseError> {
        self.may_close_beside_the_owner()?;
        self.close_as(Closer::Another)
    }

    pub(super) fn may_close_beside_the_owner(&self) -> Result<(), CloseError> {
        if self.stream.is_not_ours() {
            return Err(self.not_closed(Error::Forked));
        }
        self.may_wait().map_err(|error| self.not_closed(error))
    }

    fn close_as(&self, closer: Closer) -> Result<Summary, CloseError> {
        if self.stream.is_not_ours() {
            // File, lock and driver are the parent's, maybe this memory.
            return Err(self.not_closed(Error::Forked));
        }
        match self.claim_as(closer) {
            true => self.carry_out(closer),
            false => Err(self.not_closed(Error::Closed)),
        }
    }

    /// Whether the close is this caller's from now on: nobody else begins one.
    pub(super) fn claim(&self) -> bool {
        !self.closing.swap(true, Ordering::SeqCst)
    }

    /// As `claim`; where the owner may be pushing, nothing more is taken from him then.
    pub(super) fn claim_as(&self, closer: Closer) -> bool {
        let is_ours = self.claim();
        if is_ours && closer == Closer::Another {
            self.take_no_more();
            self.stream.announce_space();
        }
        is_ours
    }

    /// The close, of whoever has claimed it.
    pub(super) fn carry_out(&self, closer: Closer) -> Result<Summary, CloseError> {
        let (errors, file_len) = match self.runner.may_wait() {
            true => self.finish(closer),
            false => (self.finish_later(), None),
        };
        let summary = self.summary(file_len);
        if errors.is_empty() {
            Ok(summary)
        } else {
            Err(CloseError { errors, summary: Box::new(summary) })
        }
    }

    /// The answer to a close that was not.
    pub(super) fn not_closed(&self, error: Error) -> CloseError {
        CloseError { errors: vec![error], summary: Box::new(self.summary(None)) }
    }

    /// Also gives the length of the file that it leaves.
    fn finish(&self, closer: Closer) -> (Vec<Error>, Option<u64>) {
        let _unsignalled = NoSignal::here();
        match closer {
            Closer::Owner => self.shut(),
            Closer::Another => self.wait_for_the_owner(),
        }
        drop(ignore_poison(self.patching.lock())); // a patch under way is let in whole
        let (end, mut errors) = match self.flush() {
            Ok(end) => (Some(end), Vec::new()),
            Err(error) => (None, vec![error]),
        };
        self.runner.retire();
        if closer == Closer::Another {
            self.stream.fail(Error::Closed); // its owner may ask for something that nobody does now
        }
        self.stream.sequencer.stop();
        self.stream.memory.give_pages_back();
        errors.extend(ignore_poison(self.late_errors.lock()).drain(..));
        let mut file_len = None;
        if let Some(held) = ignore_poison(self.held.lock()).take() {
            let whole = end.filter(|_| errors.is_empty());
            let (late, len) = held.let_go(&self.stream, whole, self.fences_cover_the_length());
            errors.extend(late);
            file_len = len;
        }
        (errors, file_len)
    }

    /// Whether a fence over everything covers the length of the file, too: what is written exact, and
    /// flushed, brings it along (fdatasync(2); Microsoft: FlushFileBuffers flushes all there is to a
    /// file, NtFlushBuffersFileEx what is needed to find its data). A file that is padded is cut in idle
    /// time, beside all fences; one that has to be cut now, or bears a mark, needs its flush anyway.
    fn fences_cover_the_length(&self) -> bool {
        let flushed = self.facts.options.fence_form != FenceForm::WriteThrough;
        // On Windows the name of a new file comes with its first fence: of an empty one there was none.
        let is_named = cfg!(not(windows)) || self.stream.positions().durable > 0;
        flushed && is_named && self.facts.block == 1
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
            let whole = stream.failure().is_none().then(|| stream.sequencer.accepted());
            let errors = held.map(|held| held.let_go(&stream, whole, false).0);
            if let Some(error) = errors.and_then(|errors| errors.into_iter().next()) {
                stream.fail(error); // there is nobody else to tell
            }
        };
        let patching = self.patching.clone();
        self.runner.retire_later(CloseLater { patching, finish: Box::new(finish) });
        vec![Error::InWaker]
    }

    /// Takes no byte more. Waits for nothing.
    pub(crate) fn take_no_more(&self) {
        match self.stream.is_shared() {
            true => drop(self.stream.sequencer.shut()),
            false => self.stream.sequencer.stop(),
        }
        self.stream.space.announce();
        self.stream.end_patience();
    }

    /// A push that was under way when no more was taken is let in whole. A push leaves no trace before
    /// it has ended, so that is known when its owner calls again, or lets the writer go.
    fn wait_for_the_owner(&self) {
        const SLICE: Duration = Duration::from_millis(1);
        let (stream, by) = (&self.stream, Instant::now() + COPIES);
        // Shared producers are counted: a fence waits for them. Nobody announces the end of a push,
        // which makes no system call.
        let is_inside = || !stream.is_lost() && !stream.sequencer.has_left();
        while !stream.is_shared() && is_inside() && Instant::now() < by {
            stream.space.sleep(stream.space.ticket(), Some(Instant::now() + SLICE));
        }
    }

    /// No producer gets a place any more, and nobody waits for space.
    fn shut(&self) {
        self.stream.end_patience();
        if self.stream.is_shared() {
            self.stream.sequencer.shut();
            self.stream.announce_space();
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
        let positions = self.stream.positions();
        let is_exact =
            positions.written == positions.accepted && file_len == Some(positions.accepted);
        Summary {
            path: self.stream.path.clone(),
            positions,
            file_len,
            checksum: self.stream.checksum().filter(|_| is_exact),
            stats: self.stats(),
            overruns: self.stream.overruns.places(),
            backend: self.facts.backend,
            durability: self.facts.durability.clone(),
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::options::{BackendChoice, Options};

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
}
