//! How a writer ends: closed, in a waker, or with its process.
#![allow(unsafe_code)]

use std::sync::Arc;

use super::Core;
#[cfg(any(windows, test))]
use crate::blocks::align_down;
use crate::driver::run::CloseLater;
use crate::error::Error;
use crate::file::{self, Handle, NoSignal, OpenMode};
use crate::stream::Stream;
use crate::summary::{CloseError, Summary};
use crate::sync::{Ordering, ignore_poison};

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

impl Core {
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
