//! Overwrites of accepted bytes, and the last header of a full medium.

use super::Core;
use crate::error::{Error, Operation};
use crate::stream::Patch;
use crate::sync::{MutexGuard, Ordering, fence, ignore_poison};

impl Core {
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
}
