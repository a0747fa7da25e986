//! Many producers, one file.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use super::grant::SharedGrant;
use super::parts::{Part, Parts, Record};
use super::room::Room;
use super::{fill_budget, taken};
use crate::buffers::{Memory, Refused};
use crate::control::Control;
use crate::core::Core;
use crate::error::Error;
use crate::overrun::{OnFull, Push};
use crate::stream::CopyEnd;
use crate::summary::{CloseError, Summary};
use crate::sync::{Instant, Ordering};

/// Takes bytes from many producers: each write is contiguous, all are in one order, and each
/// returns its file position.
///
/// Made by [`Writer::into_shared`](crate::Writer::into_shared); `Clone + Send + Sync`. Lock-free.
/// While there is room, a producer that is preempted in mid-copy holds up no other. But its bytes
/// hold back everything behind them: nothing from there on is written, its memory is not released,
/// so once the others have filled the rest of the buffers they are `Full` until it goes on; and a
/// fence waits for copies in progress below its position (and, within 4 KiB of it, for such as began
/// after it). Choose buffers for the longest preemption, too.
///
/// Dropping the last clone closes the file as dropping a [`Writer`](crate::Writer) does.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("take");
/// let shared = writeflush::Options::new().create(&path)?.into_shared();
/// std::thread::scope(|scope| {
///     for thread in 0..4u8 {
///         let shared = shared.clone();
///         scope.spawn(move || shared.write_flush(&[thread; 100])); // threads share fences
///     }
/// });
/// let summary = shared.close()?;
/// assert_eq!(summary.positions.durable, 400);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SharedWriter {
    producers: Arc<Producers>,
}

/// What the clones share; its end is the end of the last clone.
#[derive(Debug)]
pub(super) struct Producers {
    control: Control,
}

impl SharedWriter {
    pub(super) fn new(control: Control) -> Self {
        Self { producers: Arc::new(Producers { control }) }
    }

    /// A handle for threads that don't push.
    pub fn control(&self) -> &Control {
        &self.producers.control
    }

    /// As [`Writer::write`](crate::Writer::write). A write that is longer than all buffers but
    /// one takes its place in the order at once, and the writes behind it wait until it is in.
    ///
    /// # Errors
    /// As for the exclusive writer.
    pub fn write(&self, bytes: &[u8]) -> Result<Push, Error> {
        self.producers.write(bytes)
    }

    /// Takes all the bytes or none; never waits. Returns the file position of the first.
    ///
    /// Lock-free, allocates nothing, and with [`Drive::Poll`](crate::Drive::Poll) makes no system
    /// call, on any path; with [`Drive::Caller`](crate::Drive::Caller) as
    /// [`Writer::try_write`](crate::Writer::try_write) says.
    ///
    /// # Errors
    /// As [`Writer::try_write`](crate::Writer::try_write).
    pub fn try_write(&self, bytes: &[u8]) -> Result<u64, Error> {
        self.producers.try_write(bytes)
    }

    /// As [`Writer::write_parts`](crate::Writer::write_parts): the parts of the record follow each
    /// other in the file, whoever else pushes meanwhile.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_parts<P: Part>(&self, parts: &[P]) -> Result<Push, Error> {
        self.producers.write(Parts::new(parts)?)
    }

    /// As [`try_write`](Self::try_write), of one record that lies in several parts: they have one
    /// place in the order, so no other producer's bytes come between them.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("log");
    /// let log = writeflush::Options::new().create(&path)?.into_shared();
    /// std::thread::scope(|scope| {
    ///     for name in ["one", "two"] {
    ///         let log = &log;
    ///         scope.spawn(move || log.try_write_parts(&[name.as_bytes(), b": a line\n"]));
    ///     }
    /// });
    /// log.close()?;
    /// let text = std::fs::read_to_string(&path)?;
    /// assert!(text.contains("one: a line\n") && text.contains("two: a line\n"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write).
    pub fn try_write_parts<P: Part>(&self, parts: &[P]) -> Result<u64, Error> {
        self.producers.try_write(Parts::new(parts)?)
    }

    /// Memory for `len` bytes that **until it is committed or dropped holds back every byte behind
    /// it, of all producers**: none of them becomes written or durable, and once they have filled the
    /// buffers they are `Full`; the close waits for it, and so does a fence that is asked for behind
    /// it, with all earlier ones that are not through by then. It takes its place in the file at once,
    /// which is known from then on. So fill it at once, by a read from a device or an encoder, and
    /// wait meanwhile for nothing of this writer: that would wait for itself.
    ///
    /// It is committed whole. Dropped, it leaves zeros in its place, which count as lost. At most the
    /// grant limit of the options; never waits; lock-free, as [`try_write`](Self::try_write).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::io::Read;
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("take");
    /// # let mut device = &b"hello"[..];
    /// let shared = writeflush::Options::new().create(&path)?.into_shared();
    /// let mut grant = shared.grant(5)?;
    /// let position = grant.position(); // known before the bytes are there
    /// device.read_exact(&mut grant)?; // if it fails: five zeros, counted as lost
    /// grant.commit();
    /// # assert_eq!(position, 0);
    /// shared.close()?;
    /// assert_eq!(std::fs::read(&path)?, b"hello");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write); [`Error::TooLong`] for more than the grant limit.
    pub fn grant(&self, len: usize) -> Result<SharedGrant<'_>, Error> {
        self.producers.grant(len)
    }

    /// As [`Writer::write_flush`](crate::Writer::write_flush). Calls from many threads share
    /// fences.
    ///
    /// # Errors
    /// The error that poisoned the stream, or [`Error::Closed`].
    pub fn write_flush(&self, bytes: &[u8]) -> Result<u64, Error> {
        if bytes.is_empty() {
            self.producers.repay_all();
        } else {
            self.producers.core().may_wait()?;
            self.producers.write_blocking(bytes)?;
        }
        self.control().flush()
    }

    /// As [`Writer::flush`](crate::Writer::flush): the same as `write_flush` with no bytes, fill
    /// bytes that are owed included, which [`Control::flush`] does not know of.
    ///
    /// # Errors
    /// As [`write_flush`](Self::write_flush).
    pub fn flush(&self) -> Result<u64, Error> {
        self.write_flush(&[])
    }

    /// As [`Writer::room`](crate::Writer::room). Other producers may take the room before this one
    /// does: try, and if it is [`Error::Full`] wait again.
    ///
    /// ```
    /// use writeflush::{Error, SharedWriter};
    ///
    /// /// Waits for the disk, and holds up no other task meanwhile.
    /// async fn push(shared: &SharedWriter, record: &[u8]) -> Result<u64, Error> {
    ///     loop {
    ///         match shared.try_write(record) {
    ///             Err(Error::Full { .. }) => shared.room(record.len()).await?,
    ///             result => return result,
    ///         }
    ///     }
    /// }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::task::{Context, Poll, Waker};
    /// # let directory = tempfile::tempdir()?;
    /// # let shared = writeflush::Options::new().create(directory.path().join("take"))?.into_shared();
    /// # let mut pushed = std::pin::pin!(push(&shared, b"a record"));
    /// # let polled = pushed.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    /// # assert!(matches!(polled, Poll::Ready(Ok(0))));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for the exclusive writer; [`Error::Closed`] when a clone closes it.
    pub fn room(&self, len: usize) -> Room<'_> {
        Room::new(self.producers.core(), len)
    }

    /// As [`Writer::lose`](crate::Writer::lose): records that the source lost `len` bytes before
    /// they could be offered. Never waits; the place is where the file ends at this moment.
    pub fn lose(&self, len: usize) {
        self.producers.lose(len);
    }

    /// As [`Writer::close`](crate::Writer::close), for every clone: writes that have been taken
    /// are finished, later ones get [`Error::Closed`].
    ///
    /// # Errors
    /// As for the exclusive writer; [`Error::Closed`] if a clone has closed it before.
    pub fn close(self) -> Result<Summary, CloseError> {
        self.producers.repay_all();
        self.producers.core().close()
    }
}

impl Deref for SharedWriter {
    type Target = Control;

    fn deref(&self) -> &Control {
        self.control()
    }
}

/// Each `write` is one record, in one piece, whoever else writes: a formatter makes several of them
/// for a line (`write!`), so give it the line as a whole. `flush` returns when the kernel has
/// everything (*written*); it is no fence, unless
/// [`Options::durable_flush`](crate::Options::durable_flush) makes it one.
///
/// Bytes that the policy [`Fill`](OnFull::Fill) loses count as written; under
/// [`Drop`](OnFull::Drop) a loss is an error, [`Error::Lost`], though it is counted as ever.
///
/// Of a reference only, as `File` has it: for the writer itself `flush` by name would be this weaker
/// one wherever somebody has a `&mut SharedWriter`.
impl io::Write for &SharedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let push = SharedWriter::write(self, bytes)?;
        taken(push, bytes.len(), self.producers.policy())
    }

    /// All the parts are one record.
    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let record = Parts::new(parts)?;
        taken(self.producers.write(record)?, record.len(), self.producers.policy())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.producers.core().facts.options.durable_flush {
            return Ok(SharedWriter::flush(self).map(drop)?);
        }
        Ok(self.producers.core().drain()?)
    }
}

impl UnwindSafe for SharedWriter {}
impl RefUnwindSafe for SharedWriter {}

impl Drop for Producers {
    fn drop(&mut self) {
        self.repay_all();
        let _ = self.core().close();
    }
}

impl Producers {
    fn write(&self, record: impl Record) -> Result<Push, Error> {
        match self.try_write(record) {
            Err(Error::Full { .. }) => self.overrun(record),
            Err(Error::TooLong { .. }) if self.policy() == OnFull::Block => {
                self.write_long(record).map(Push::Accepted)
            }
            result => result.map(Push::Accepted),
        }
    }

    fn try_write(&self, record: impl Record) -> Result<u64, Error> {
        self.repay(record.len())?;
        let from = self.reserve(record.len())?;
        let memory = &self.core().stream.memory;
        // SAFETY: these positions were just reserved by this call, and have room.
        unsafe { record.copy_in_at(memory, memory.offset(from)) };
        self.commit(from, record.len() as u64);
        self.core().stream.counters.producer.writes.add(1);
        Ok(from)
    }

    fn core(&self) -> &Core {
        &self.control.core
    }

    fn policy(&self) -> OnFull {
        self.core().facts.options.on_full
    }

    fn reserve(&self, len: usize) -> Result<u64, Error> {
        if self.core().stream.is_left_behind() {
            return Err(Error::Forked);
        }
        self.core().stream.sequencer.try_reserve(len as u64).map_err(|refused| {
            let limit = self.core().longest_whole();
            self.core().runner.nudge(); // where callers drive, trying again has to help
            match refused {
                Refused::Stopped => self.core().stopped(),
                Refused::Full { .. } if len > limit => Error::TooLong { offered: len, limit },
                Refused::Full { free } => Error::Full { offered: len, free: free as usize },
            }
        })
    }

    fn grant(&self, len: usize) -> Result<SharedGrant<'_>, Error> {
        let limit = self.core().facts.options.longest_grant();
        if len > limit {
            return Err(Error::TooLong { offered: len, limit });
        }
        self.repay(len)?;
        Ok(SharedGrant::new(self, self.reserve(len)?, len))
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.core().stream.memory
    }

    /// The bytes of a grant are in place.
    ///
    /// # Safety
    /// They were reserved for the caller, and are handed over once; the overhang is his, if they
    /// reach there.
    pub(super) unsafe fn accept_grant(&self, from: u64, len: usize) {
        if self.core().stream.is_left_behind() {
            return; // the parent has the grant, too
        }
        let counters = &self.core().stream.counters;
        // SAFETY: passed on.
        let copied = unsafe { self.memory().fold_overhang(from, len) };
        if copied > 0 {
            counters.copied.add(copied as u64);
        }
        self.commit(from, len as u64);
        counters.producer.writes.add(1);
    }

    /// Nobody has bytes for a grant.
    ///
    /// # Safety
    /// As [`accept_grant`](Self::accept_grant).
    pub(super) unsafe fn give_up_grant(&self, from: u64, len: usize) {
        let core = self.core();
        if core.stream.is_left_behind() {
            return; // the parent has the grant, too
        }
        let byte = match self.policy() {
            OnFull::Fill(byte) => byte,
            _ => 0,
        };
        // SAFETY: passed on.
        let end = unsafe { core.stream.give_up(from, len, byte, core.facts.piece) };
        self.tell(end);
    }

    /// Counts the bytes in, and wakes the driver if something may have waited for them.
    fn commit(&self, from: u64, len: u64) {
        let core = self.core();
        self.tell(core.stream.commit_shared(from, len, core.facts.piece));
    }

    fn tell(&self, end: CopyEnd) {
        let core = self.core();
        match end {
            CopyEnd::Buffer { accepted } => {
                core.note_high_water(accepted);
                core.runner.nudge();
            }
            CopyEnd::Awaited => core.stream.ring_doorbell(),
            CopyEnd::Unnoticed => {}
        }
    }

    #[cold]
    fn overrun(&self, record: impl Record) -> Result<Push, Error> {
        match self.policy() {
            OnFull::Block => self.write_blocking(record).map(Push::Accepted),
            OnFull::BlockFor(limit) => {
                let by = Instant::now().checked_add(limit);
                self.write_by(record, by)?
                    .map(Push::Accepted)
                    .ok_or(Error::Deadline { waited: limit })
            }
            OnFull::Fail => self.try_write(record).map(Push::Accepted),
            OnFull::Drop | OnFull::Fill(_) => {
                self.lose(record.len());
                Ok(Push::Lost(record.len()))
            }
        }
    }

    fn lose(&self, len: usize) {
        let stream = &self.core().stream;
        stream.overruns.lose(stream.sequencer.accepted(), len as u64, self.policy());
    }

    fn write_blocking(&self, record: impl Record) -> Result<u64, Error> {
        if record.len() > self.core().longest_whole() {
            return self.write_long(record);
        }
        let at = self.write_by(record, None)?;
        Ok(at.expect("without a deadline the wait ends with room or an error"))
    }

    /// Tries until the deadline; `None` if there was no room by then.
    fn write_by(&self, record: impl Record, by: Option<Instant>) -> Result<Option<u64>, Error> {
        loop {
            match self.try_write(record) {
                Err(Error::Full { .. }) => {}
                result => return result.map(Some),
            }
            if !self.core().wait_more_room(record.len() as u64, by)? {
                return Ok(None);
            }
        }
    }

    /// Longer than the buffers: its place first, then piece by piece.
    fn write_long(&self, record: impl Record) -> Result<u64, Error> {
        self.core().may_wait()?;
        self.repay_all();
        let stream = &self.core().stream;
        if stream.is_left_behind() {
            return Err(Error::Forked);
        }
        let from = stream.sequencer.reserve_ahead(record.len() as u64);
        let from = from.map_err(|_| self.core().stopped())?;
        let mut at = from;
        record.try_each(|part| {
            for piece in part.chunks(self.core().longest_whole()) {
                self.core().wait_room(at, piece.len() as u64, None)?;
                // SAFETY: reserved by this call, and there is room.
                unsafe { stream.memory.copy_in(at, piece) };
                self.commit(at, piece.len() as u64);
                at += piece.len() as u64;
            }
            Ok(())
        })?;
        stream.counters.producer.writes.add(1);
        Ok(from)
    }

    // ---- the debt of the policy Fill --------------------------------------------------------------

    fn repay(&self, len: usize) -> Result<(), Error> {
        let debt = &self.core().stream.overruns.debt;
        if debt.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        self.repay_some(fill_budget(len))?;
        match debt.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err(Error::Full { offered: len, free: 0 }),
        }
    }

    #[cold]
    fn repay_some(&self, budget: u64) -> Result<(), Error> {
        let OnFull::Fill(byte) = self.policy() else { return Ok(()) };
        let stream = &self.core().stream;
        let debt = &stream.overruns.debt;
        let budget = budget.min(self.core().longest_whole() as u64);
        // Taken first, so that two producers never fill the same loss.
        let (owed, taken) = loop {
            let owed = debt.load(Ordering::Acquire);
            let taken = owed.min(budget);
            let swap =
                debt.compare_exchange(owed, owed - taken, Ordering::AcqRel, Ordering::Acquire);
            if swap.is_ok() {
                break (owed, taken);
            }
        };
        if owed == 0 {
            return Ok(());
        }
        match self.reserve(taken as usize) {
            Ok(from) => {
                // SAFETY: reserved by this call, and there is room.
                unsafe { stream.memory.fill(from, taken as usize, byte) };
                self.commit(from, taken);
                Ok(())
            }
            Err(error) => {
                stream.overruns.owe(taken);
                Err(error)
            }
        }
    }

    fn repay_all(&self) {
        let stream = &self.core().stream;
        while stream.overruns.debt.load(Ordering::Acquire) > 0 {
            let whole = self.core().longest_whole() as u64;
            let len = stream.overruns.debt.load(Ordering::Acquire).min(whole);
            let room = self.core().wait_more_room(len, None);
            match room.and_then(|_| self.repay_some(u64::MAX)) {
                Ok(()) | Err(Error::Full { .. }) => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use crate::{Drive, Options};

    /// A copy in progress, a record behind it with a patch, a checkpoint behind that: the end of
    /// the copy is what all of them wait for, though no fence reaches so far.
    #[test]
    fn the_end_of_a_copy_wakes_the_driver_for_the_patches_behind_it() {
        for drive in [Drive::Thread, Drive::Caller] {
            let directory = tempfile::tempdir().unwrap();
            let options = Options::new().drive(drive);
            let writer = options.create(directory.path().join("take")).unwrap().into_shared();
            writer.write_flush(&[1; 50]).unwrap();

            let slow = &writer.producers;
            let from = slow.reserve(100).unwrap();
            writer.try_write(&[2; 100]).unwrap();
            writer.patch(from + 100, &[3; 10]).unwrap();
            let (tell, told) = channel();
            let goal = slow.core().stream.durable();
            let header = slow.core().patch(0, &[4; 10]).unwrap();
            let core = slow.control.core.clone();
            let waiter = std::thread::spawn(move || {
                let goal = crate::core::Goal { position: goal, patches: header };
                core.want(goal);
                tell.send(core.wait_durable(goal, None).unwrap()).unwrap();
            });
            // The driver has nothing to do: it sleeps, or is about to.
            assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
            // SAFETY: reserved above, by this thread.
            unsafe { slow.core().stream.memory.copy_in(from, &[5; 100]) };
            slow.commit(from, 100);
            let told = told.recv_timeout(Duration::from_secs(60));
            assert_eq!(told, Ok(true), "{drive:?}: nobody woke the driver");
            waiter.join().unwrap();
            let mut expected = [vec![1; 50], vec![5; 100], vec![2; 100]].concat();
            expected[..10].fill(4);
            expected[150..160].fill(3);
            writer.close().unwrap();
            assert_eq!(std::fs::read(directory.path().join("take")).unwrap(), expected);
        }
    }
}
