//! The producer that owns its stream.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Deref;
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "futures-io")]
use super::async_writer::AsyncWriter;
use super::fill_budget;
use super::grant::Grant;
use super::parts::{Part, Parts, Record};
use super::room::Room;
use super::shared::SharedWriter;
use crate::buffers::Refused;
use crate::control::Control;
use crate::core::Core;
use crate::error::Error;
#[cfg(unix)]
use crate::file::OsFile;
use crate::file::{Handle, OpenMode};
use crate::options::Options;
use crate::overrun::{OnFull, Push};
use crate::stream::Stream;
use crate::summary::{CloseError, Summary};
use crate::sync::{Instant, Ordering};

/// Takes bytes from one producer and makes them durable.
///
/// Made by [`Options::create`] and its sisters. `Send`: it may move between threads. It
/// dereferences to [`Control`] for positions, fences, patches and statistics.
///
/// Dropping it drains and trims like [`close`](Self::close) as well as that goes, and nobody
/// hears of an error: close it.
///
/// One that is never dropped, in a static or leaked, is ended with its process on Unix: the return
/// of `main`, [`std::process::exit`] and C's `exit` drain, fence and trim every open writer, for at
/// most five seconds in all, and pushes of other threads get [`Error::Closed`] from then on. Fill
/// bytes that are owed are left out. `exit` may be called anywhere; in a waker on the driver's
/// thread, and in a forked child, it leaves the file as it is. `_exit`, `abort` (also by
/// `panic = "abort"`) and a kill run nothing: what was *written* is there then, the rest is lost.
///
/// In a waker, which runs on the thread of a driver (see [`Ticket`](crate::Ticket)), a call that
/// would have to wait answers [`Error::InWaker`], and has taken nothing; those with room don't wait.
pub struct Writer {
    control: Control,
    /// The core's stream, without the way through the core.
    stream: Arc<Stream>,
    /// The accepted position: `committed` of the sequencer, which only this writer moves (or the
    /// driver, over a gap that this writer waits for).
    position: u64,
    /// Where that position lies in the ring.
    offset: usize,
    /// A limit that the sequencer had: reservations may end there, or further by now.
    limit: u64,
    /// End of the buffer that is being filled.
    buffer_end: u64,
    /// Where `std::io::Seek` has put the cursor, if not at the end.
    pub(super) cursor: Option<u64>,
    shared: bool,
    /// What may be borrowed: it stays open as long as the writer is there, whoever closes the stream.
    #[cfg(unix)]
    file: Option<Arc<OsFile>>,
}

impl Writer {
    pub(crate) fn open(options: &Options, path: &Path, mode: OpenMode) -> Result<Self, Error> {
        Core::open(options, path, mode).map(Self::over)
    }

    pub(crate) fn resume<E: From<Error>>(
        options: &Options,
        path: &Path,
        recover: impl FnOnce(&Arc<dyn Handle>) -> Result<(), E>,
    ) -> Result<Self, E> {
        Core::resume(options, path, recover).map(Self::over)
    }

    pub(crate) fn adopt(options: &Options, file: &File) -> Result<Self, Error> {
        Core::adopt(options, file).map(Self::over)
    }

    /// Goes on at `to`, behind a gap that the file system makes. Waits for what came before to be in
    /// the file.
    pub(super) fn go_on_at(&mut self, to: u64) -> Result<(), Error> {
        self.core().make_gap(to)?;
        self.place_at(to);
        Ok(())
    }

    fn place_at(&mut self, position: u64) {
        let size = self.core().facts.piece;
        self.position = position;
        self.offset = self.stream.memory.offset(position);
        self.buffer_end = position - position % size + size;
    }

    fn over(core: Core) -> Self {
        let core = Arc::new(core);
        #[cfg(unix)]
        let file = core.os_file().ok(); // before the end of the process may let go of it
        #[cfg(any(windows, all(unix, not(any(loom, shuttle)))))]
        crate::process_end::remember(&core);
        let start = core.facts.start;
        let mut writer = Self {
            #[cfg(unix)]
            file,
            stream: core.stream.clone(),
            control: Control { core },
            position: 0,
            offset: 0,
            limit: 0,
            buffer_end: 0,
            cursor: None,
            shared: false,
        };
        writer.place_at(start);
        writer
    }

    /// A handle for other threads.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Takes all the bytes, any number of them, or does what the overrun policy
    /// ([`OnFull`]) says when they don't fit. Never waits for the disk while there is room.
    /// MMIOM_WRITE.
    ///
    /// While there is room it takes no lock, allocates nothing, and with
    /// [`Drive::Poll`](crate::Drive::Poll) makes no system call.
    ///
    /// # Errors
    /// The error that poisoned the stream; [`Error::Deadline`] or [`Error::Full`] by policy;
    /// [`Error::TooLong`] for every policy but `Block` and more bytes than all buffers but one hold;
    /// [`Error::InWaker`]. Under a policy other than `Block` an error means that no byte was taken.
    pub fn write(&mut self, bytes: &[u8]) -> Result<Push, Error> {
        self.push(bytes)
    }

    /// Takes all the bytes or none; never waits. Returns the file position of the first.
    ///
    /// No lock, no allocation, and with [`Drive::Poll`](crate::Drive::Poll) no system call, on
    /// any path: also when it says `Full`. With [`Drive::Caller`](crate::Drive::Caller) and an
    /// asynchronous backend a push that fills a buffer, or finds all of them full, does what the
    /// driver has to do at that moment, with its locks and system calls, and at worst reads the
    /// block of a patch: not for a deadline thread.
    ///
    /// # Errors
    /// [`Error::Full`]: nothing was taken, try again; [`Error::TooLong`]: more than all buffers
    /// but one hold; or the error that poisoned the stream.
    #[inline]
    pub fn try_write(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        self.try_push(bytes)
    }

    /// As [`write`](Self::write), of one record that lies in several parts: they follow each other
    /// in the file, and the overrun policy holds for the record as a whole, which is taken whole, or
    /// lost whole and counted once.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_parts<P: Part>(&mut self, parts: &[P]) -> Result<Push, Error> {
        self.push(Parts::new(parts)?)
    }

    /// As [`try_write`](Self::try_write), of one record that lies in several parts: takes all of
    /// them, one behind the other, or none; never waits. Returns the file position of the first
    /// byte. A fence covers all of them or none.
    ///
    /// A part is a `&[u8]` or an [`IoSlice`](std::io::IoSlice).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("take");
    /// let mut writer = writeflush::Options::new().create(&path)?;
    /// let samples = [7u8; 3];
    /// let header = (samples.len() as u32).to_le_bytes();
    /// let position = writer.try_write_parts(&[&header[..], &samples])?;
    /// assert_eq!(position, 0);
    /// writer.close()?;
    /// assert_eq!(std::fs::read(&path)?, [3, 0, 0, 0, 7, 7, 7]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write).
    pub fn try_write_parts<P: Part>(&mut self, parts: &[P]) -> Result<u64, Error> {
        self.try_push(Parts::new(parts)?)
    }

    /// Takes the bytes, waits until they and everything before them are durable, and returns the
    /// durable position. With no bytes it is a plain flush. MMIOM_WRITEFLUSH.
    ///
    /// It waits for the disk, so it waits for room too: the overrun policy does not apply, and
    /// fill bytes that the policy `Fill` still owes are written first. ([`Control::flush`] does
    /// not know of those.)
    ///
    /// # Errors
    /// The error that poisoned the stream.
    pub fn write_flush(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        if bytes.is_empty() {
            self.repay_all();
        } else {
            self.write_all_blocking(bytes)?;
        }
        self.core().flush()
    }

    /// Waits until everything accepted so far, every patch, and every fill byte that is owed, is
    /// durable; returns the durable position. The same as `write_flush` with no bytes.
    ///
    /// This, and not the weaker `flush` of `std::io::Write` (which means *written*), is what
    /// `writer.flush()` calls, also where that trait is in scope.
    ///
    /// # Errors
    /// The error that poisoned the stream.
    pub fn flush(&mut self) -> Result<u64, Error> {
        self.write_flush(&[])
    }

    /// Memory for `len` bytes to fill in place, at most the grant limit of the options. The bytes
    /// are accepted when it is committed; dropped, it leaves nothing behind. Never waits.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("take");
    /// let mut writer = writeflush::Options::new().create(&path)?;
    /// let mut grant = writer.grant(4096)?;
    /// grant[..5].copy_from_slice(b"hello"); // a device reads into it
    /// let position = grant.commit(5);
    /// assert_eq!(position, 0);
    /// writer.close()?;
    /// assert_eq!(std::fs::read(&path)?, b"hello");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write).
    pub fn grant(&mut self, len: usize) -> Result<Grant<'_>, Error> {
        let limit = self.core().facts.options.longest_grant();
        if len > limit {
            return Err(Error::TooLong { offered: len, limit });
        }
        self.make_room(len)?;
        Ok(Grant::new(self, len))
    }

    /// Resolves when `len` more bytes have room: then the next push of so many finds it. For tasks
    /// that have to wait for the disk without holding up their runtime.
    ///
    /// While fill bytes are owed ([`OnFull::Fill`]) that push may still answer [`Error::Full`], since
    /// it lays down some of them first: wait again. Making the future costs nothing; see [`Room`] for
    /// a poll.
    ///
    /// ```
    /// # use std::task::{Context, Poll, Waker};
    /// # fn block_on<T>(future: impl std::future::Future<Output = T>) -> T {
    /// #     let mut future = std::pin::pin!(future);
    /// #     loop {
    /// #         match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
    /// #             Poll::Ready(done) => return done,
    /// #             Poll::Pending => std::thread::yield_now(),
    /// #         }
    /// #     }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let options = writeflush::Options::new().buffer_size(4096);
    /// # let mut writer = options.create(directory.path().join("take"))?;
    /// # block_on(async {
    /// for record in [[7; 1000]; 100] {
    ///     writer.room(record.len()).await?; // in any runtime
    ///     writer.try_write(&record)?;
    /// }
    /// # Ok::<(), writeflush::Error>(())
    /// # })?;
    /// assert_eq!(writer.close()?.positions.durable, 100_000);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The error that poisoned the stream; [`Error::TooLong`], at once, for more than all buffers but
    /// one hold.
    pub fn room(&self, len: usize) -> Room<'_> {
        Room::new(self.core(), len)
    }

    /// Records that the source lost `len` bytes before they could be offered (a device's own
    /// overrun, a grant that was `Full`). Under [`OnFull::Fill`] they will be filled; under any
    /// other policy they are only counted. Never waits.
    pub fn lose(&mut self, len: usize) {
        self.stream.overruns.lose(self.position, len as u64, self.policy());
    }

    /// Turns this writer into one for tasks: `AsyncWrite` of the crate `futures-io`. A cursor that
    /// was moved is forgotten.
    #[cfg(feature = "futures-io")]
    pub fn into_async(self) -> AsyncWriter {
        AsyncWriter::new(self)
    }

    /// Turns this writer into one that many producers share.
    pub fn into_shared(mut self) -> SharedWriter {
        self.stream.share();
        self.shared = true;
        SharedWriter::new(self.control.clone())
    }

    /// Writes out everything, cuts the file to its exact length, and makes data, length and name
    /// durable. After an error whatever got to the file stays, and the summary's `durable` is
    /// true. A btrfs without a free block refuses even to cut a file within a block: then up to a
    /// block of zeros stays behind what direct I/O wrote, and the errors name it
    /// ([`Operation::Trim`](crate::Operation::Trim)).
    ///
    /// In a waker it answers [`Error::InWaker`], and so does a drop: the driver's thread goes on
    /// by itself, and does all of this when the waker has returned. An error that it meets then is the
    /// stream's ([`Control::error`]). Fill bytes that had no room stay owed.
    ///
    /// # Errors
    /// Every error: what poisoned the stream, or what the last steps met.
    pub fn close(mut self) -> Result<Summary, CloseError> {
        self.repay_all();
        self.let_go();
        self.core().close()
    }

    // ---- inside -----------------------------------------------------------------------------------

    /// Nobody can borrow the descriptor any more: the close closes it.
    fn let_go(&mut self) {
        #[cfg(unix)]
        {
            self.file = None;
        }
    }

    pub(super) fn core(&self) -> &Core {
        &self.control.core
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.position
    }

    pub(crate) fn policy(&self) -> OnFull {
        self.core().facts.options.on_full
    }

    /// Takes all the bytes, whatever the policy.
    pub(crate) fn append_blocking(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write_all_blocking(bytes).map(drop)
    }

    pub(crate) fn longest_whole(&self) -> usize {
        self.core().longest_whole()
    }

    /// Refuses what would have to wait in a waker.
    pub(crate) fn may_wait(&self) -> Result<(), Error> {
        self.core().may_wait()
    }

    /// Whether this is a forked child, whose parent has opened it.
    pub(crate) fn is_not_ours(&self) -> bool {
        self.stream.is_not_ours()
    }

    /// Always inline: where two modules push it would else be a call, at five instructions a push.
    #[inline(always)]
    pub(super) fn push(&mut self, record: impl Record) -> Result<Push, Error> {
        if self.has_room(record.len()) {
            return Ok(Push::Accepted(self.put(record)));
        }
        match self.try_push(record) {
            Err(Error::Full { .. }) => self.overrun(record),
            Err(Error::TooLong { .. }) if self.policy() == OnFull::Block => self.overrun(record),
            result => result.map(Push::Accepted),
        }
    }

    #[inline]
    fn try_push(&mut self, record: impl Record) -> Result<u64, Error> {
        self.make_room(record.len())?;
        Ok(self.put(record))
    }

    /// Room for all of `len` bytes now, behind whatever still has to be filled.
    #[inline]
    fn make_room(&mut self, len: usize) -> Result<(), Error> {
        if self.has_room(len) { Ok(()) } else { self.look_for_room(len) }
    }

    /// Whether nothing stands in the way of the next `len` bytes. Part of each push: a `Result`, or
    /// what is not the rule, would make it a call, at a quarter of a push's instructions.
    #[inline]
    fn has_room(&mut self, len: usize) -> bool {
        let stream = &*self.stream;
        let owes_nothing = stream.overruns.debt.load(Ordering::Relaxed) == 0;
        let within = stream.sequencer.room_within(&mut self.limit, self.position, len as u64);
        owes_nothing && !stream.is_left_behind() && within.is_ok()
    }

    #[cold]
    fn look_for_room(&mut self, len: usize) -> Result<(), Error> {
        if self.stream.is_left_behind() {
            return Err(Error::Forked);
        }
        self.repay(len)?;
        match self.stream.sequencer.room_within(&mut self.limit, self.position, len as u64) {
            Ok(()) => Ok(()),
            Err(refused) => Err(self.refused(refused, len)),
        }
    }

    #[cold]
    fn refused(&self, refused: Refused, offered: usize) -> Error {
        let limit = self.core().longest_whole();
        self.core().runner.nudge(); // where callers drive, trying again has to help
        match refused {
            Refused::Stopped => self.told_to_stop(),
            Refused::Full { .. } if offered > limit => Error::TooLong { offered, limit },
            Refused::Full { free } => Error::Full { offered, free: free as usize },
        }
    }

    /// Nothing more is taken: whoever has ended the stream may wait for this producer to be outside.
    #[cold]
    fn told_to_stop(&self) -> Error {
        self.stream.sequencer.leave();
        self.core().stopped()
    }

    /// Copies the bytes to where there is room for them, and hands them over; returns where they
    /// begin.
    #[inline]
    fn put(&mut self, record: impl Record) -> u64 {
        // SAFETY: the exclusive producer owns everything past `committed`, and there is room.
        unsafe { record.copy_in_at(&self.stream.memory, self.offset) };
        self.accept(record.len() as u64)
    }

    /// One call of the user's took the next `len` bytes, which are in place; returns where they
    /// begin.
    #[inline]
    pub(super) fn accept(&mut self, len: u64) -> u64 {
        let from = self.position;
        self.count_write();
        self.hand_over(len);
        from
    }

    #[inline]
    fn count_write(&mut self) {
        self.stream.counters.producer.writes.add_alone(1);
    }

    /// Hands the next `len` bytes, which are in place, to the driver.
    #[inline]
    fn hand_over(&mut self, len: u64) {
        self.position += len;
        self.offset += len as usize;
        if self.offset >= self.stream.memory.capacity() {
            self.offset -= self.stream.memory.capacity();
        }
        self.stream.sequencer.commit_exclusive(self.position);
        if self.position >= self.buffer_end {
            self.buffer_filled();
        }
    }

    #[inline(never)]
    fn buffer_filled(&mut self) {
        let size = self.core().facts.piece;
        self.buffer_end = self.position - self.position % size + size;
        self.core().note_high_water(self.position);
        self.core().runner.nudge();
    }

    /// The bytes did not fit: what the policy says.
    #[cold]
    fn overrun(&mut self, record: impl Record) -> Result<Push, Error> {
        match self.policy() {
            OnFull::Block => self.write_all_blocking(record).map(Push::Accepted),
            OnFull::BlockFor(limit) => self.write_by_deadline(record, limit).map(Push::Accepted),
            OnFull::Fail => self.try_push(record).map(Push::Accepted),
            OnFull::Drop | OnFull::Fill(_) => {
                self.lose(record.len());
                Ok(Push::Lost(record.len()))
            }
        }
    }

    /// Takes the bytes piece by piece as room appears.
    fn write_all_blocking(&mut self, record: impl Record) -> Result<u64, Error> {
        self.core().may_wait()?;
        self.repay_all();
        let from = self.position;
        record.try_each(|part| self.hand_over_as_room_appears(part))?;
        self.count_write();
        Ok(from)
    }

    fn hand_over_as_room_appears(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.stream.is_left_behind() {
                return Err(Error::Forked); // the words may be the parent's, too
            }
            let position = self.position;
            self.core().wait_room(position, 1, None)?;
            let free = self.stream.sequencer.limit().saturating_sub(position);
            let (piece, later) = rest.split_at(rest.len().min(free as usize));
            // SAFETY: the exclusive producer owns everything past `committed`; these have room.
            unsafe { self.stream.memory.copy_in(position, piece) };
            self.hand_over(piece.len() as u64);
            rest = later;
        }
        Ok(())
    }

    fn write_by_deadline(&mut self, record: impl Record, limit: Duration) -> Result<u64, Error> {
        let (position, by) = (self.position, Instant::now().checked_add(limit));
        if self.core().wait_room(position, record.len() as u64, by)? {
            self.try_push(record)
        } else {
            Err(Error::Deadline { waited: limit })
        }
    }

    // ---- the debt of the policy Fill --------------------------------------------------------------

    /// Lays down fill bytes for an earlier loss, as many as a call of `len` bytes may.
    fn repay(&mut self, len: usize) -> Result<(), Error> {
        if self.stream.overruns.debt.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        self.repay_some(fill_budget(len))?;
        match self.stream.overruns.debt.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err(Error::Full { offered: len, free: 0 }),
        }
    }

    #[cold]
    fn repay_some(&mut self, budget: u64) -> Result<(), Error> {
        let OnFull::Fill(byte) = self.policy() else { return Ok(()) };
        let stream = &self.stream;
        if stream.is_left_behind() {
            return Err(Error::Forked);
        }
        let limit = stream.sequencer.limit();
        if limit == 0 {
            return Err(self.told_to_stop());
        }
        let debt = stream.overruns.debt.load(Ordering::Acquire);
        let len = debt.min(budget).min(limit - self.position);
        // SAFETY: the exclusive producer owns everything past `committed`; these have room.
        unsafe { stream.memory.fill(self.position, len as usize, byte) };
        stream.overruns.debt.fetch_sub(len, Ordering::AcqRel);
        self.hand_over(len);
        Ok(())
    }

    /// Fill bytes that have no room yet.
    pub(crate) fn owed(&self) -> u64 {
        self.stream.overruns.debt.load(Ordering::Acquire)
    }

    /// Lays down all of it, waiting for room: for calls that wait anyway. A failure shows there.
    pub(crate) fn repay_all(&mut self) {
        self.repay_by(None);
    }

    /// As much of it as finds room until the deadline.
    pub(super) fn repay_by(&mut self, by: Option<Instant>) {
        while self.owed() > 0 {
            let position = self.position;
            let has_room = matches!(self.core().wait_room(position, 1, by), Ok(true));
            if !has_room || self.repay_some(u64::MAX).is_err() {
                return;
            }
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Writer").field(self.core()).finish()
    }
}

// No call leaves anything half done where a panic of the program ends it: there is no foreign code in
// a push, and what is shared with the driver are atomics, or is behind locks that ignore poison.
impl UnwindSafe for Writer {}
impl RefUnwindSafe for Writer {}

/// The writer's own descriptor of its file, for what the writer does not do: fstat(2),
/// posix_fadvise(2), linkat(2) of a file without a name. It stays open as long as it is borrowed,
/// also when a [`Control`] has ended the stream.
///
/// Only to look at: whoever writes through it, cuts the file, takes or lets go of a lock (which a
/// duplicate shares), or changes its flags (F_SETFL: `O_DIRECT` is among them) breaks what the writer
/// promises. It may be in direct I/O, where a read has to be aligned.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// use std::os::fd::AsFd;
///
/// let mut writer = writeflush::Options::new().create(directory.path().join("take"))?;
/// writer.write_flush(&[1; 100])?;
/// let file = std::fs::File::from(writer.as_fd().try_clone_to_owned()?);
/// assert!(file.metadata()?.len() >= 100); // live, it may end in padding
/// # drop(file);
/// # writer.close()?;
/// # Ok(())
/// # }
/// ```
#[cfg(unix)]
impl AsFd for Writer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_ref().expect("only a simulated computer has no descriptors").as_fd()
    }
}

impl Deref for Writer {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.shared {
            self.repay_all();
        }
        self.stream.sequencer.leave();
        self.let_go();
        if !self.shared {
            let _ = self.core().close();
        }
    }
}
