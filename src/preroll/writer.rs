//! The producer of a pre-roll.

use std::fmt;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use super::control::{CloseError, Control, Summary};
use super::ring::Head;
use crate::error::Error;
use crate::frames::now;
use crate::overrun::{OnFull, Push};
use crate::sync::Instant;

/// Takes records from one producer, and keeps the newest of them. Made by
/// [`Options::start`](super::Options::start); `Send`.
///
/// It dereferences to [`Control`], which is also for other threads.
///
/// Dropped before a trigger it has written nothing, and what it kept is gone. Dropped in a recording it
/// ends that, waits for it, and nobody hears of an error: close it. A process that ends without either
/// (`exit`, a kill) loses what was not yet written; of the recording there is what
/// [its writer](crate::Writer) had.
pub struct Writer<S: Clone = crate::Summary> {
    head: Head,
    control: Control<S>,
    policy: OnFull,
    /// The longest record.
    longest: usize,
    /// Bytes, of all that were lost.
    lost: u64,
    /// What came last was lost.
    is_losing: bool,
    has_ended: bool,
}

impl<S: Clone> UnwindSafe for Writer<S> {}
impl<S: Clone> RefUnwindSafe for Writer<S> {}

impl<S: Clone> fmt::Debug for Writer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.control, f)
    }
}

impl<S: Clone> Writer<S> {
    pub(super) fn new(head: Head, control: Control<S>, policy: OnFull, longest: usize) -> Self {
        Self { head, control, policy, longest, lost: 0, is_losing: false, has_ended: false }
    }

    /// A handle for other threads.
    pub fn control(&self) -> &Control<S> {
        &self.control
    }

    /// Takes the bytes, as one record, or does what the overrun policy says when there is no room, which
    /// happens in a recording only.
    ///
    /// While there is room it is as [`try_write`](Self::try_write). Under [`OnFull::Block`] and
    /// [`BlockFor`](OnFull::BlockFor) it waits for the disk where there is none: not for a deadline thread.
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write); [`Error::Full`] or [`Error::Deadline`] by policy;
    /// [`Error::InWaker`]. With an error nothing was taken.
    pub fn write(&mut self, record: &[u8]) -> Result<Push, Error> {
        match (self.try_write(record), self.policy) {
            (Ok(position), _) => Ok(Push::Accepted(position)),
            (Err(Error::Full { .. }), OnFull::Drop | OnFull::Fill(_)) => {
                self.lose(record.len());
                Ok(Push::Lost(record.len()))
            }
            (Err(Error::Full { .. }), OnFull::Block) => self.write_by(record, None),
            (Err(Error::Full { .. }), OnFull::BlockFor(limit)) => {
                self.write_by(record, Some(limit))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Takes the bytes, as one record, or none; never waits. Returns the position of the first, in bytes
    /// of all that was ever taken.
    ///
    /// A look at the clock and one copy, before a trigger over the oldest records: as many as it takes, so
    /// a long record after many short ones takes longer. It takes no lock, allocates nothing, waits for
    /// nobody, and makes no system call (but for the clock, where the system has no faster one), whatever
    /// becomes of a recording meanwhile. Nothing at all is taken of no bytes.
    ///
    /// # Errors
    /// [`Error::Full`], in a recording only; [`Error::TooLong`] for more than is kept, or than there is
    /// headroom; the error that ended the pre-roll; [`Error::Forked`].
    pub fn try_write(&mut self, record: &[u8]) -> Result<u64, Error> {
        let shared = &self.control.shared;
        shared.check()?;
        let offered = record.len();
        if offered == 0 {
            return Ok(shared.ring.accepted());
        }
        if offered > self.longest {
            return Err(Error::TooLong { offered, limit: self.longest });
        }
        match self.head.push(record, now(), self.lost) {
            Ok(position) => {
                self.is_losing = false;
                Ok(position)
            }
            Err(free) => {
                let free = free.saturating_sub(super::PER_RECORD as u64);
                Err(Error::Full { offered, free: usize::try_from(free).unwrap_or(usize::MAX) })
            }
        }
    }

    /// Records that `len` bytes were lost before they could be offered. They count in the recording that
    /// has what comes before and behind them. Never waits.
    pub fn lose(&mut self, len: usize) {
        if len == 0 {
            return;
        }
        let counters = &self.control.shared.counters;
        self.lost = self.lost.saturating_add(len as u64);
        counters.lost.set(self.lost);
        if !std::mem::replace(&mut self.is_losing, true) {
            counters.overruns.add(1);
        }
    }

    /// Ends a recording, if one goes on, behind what was taken, and waits until all are closed. Without a
    /// trigger no file is touched. Blocks, also for space on a full disk under
    /// [`DiskFull::Wait`](crate::DiskFull::Wait), unless the recording's own
    /// [`Control`](crate::Control::stop_waiting_for_space) ends that.
    ///
    /// # Errors
    /// Every error that has ended the pre-roll. [`Error::InWaker`] in a waker: then the keeper's thread
    /// goes on by itself.
    pub fn close(mut self) -> Result<Summary<S>, CloseError<S>> {
        self.end()?;
        let ended = self.control.shared.wait_for_the_end(None)?;
        ended.ok_or_else(|| self.control.shared.not_closed(Error::Closed))
    }

    /// As [`close`](Self::close), but waits for at most `limit`, whatever the disk does; `None`: the close
    /// goes on, and [`Control::wait_for_the_end`] waits for it.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub fn close_timeout(mut self, limit: Duration) -> Result<Option<Summary<S>>, CloseError<S>> {
        self.end()?;
        self.control.wait_for_the_end(limit)
    }

    // ---- inside -------------------------------------------------------------------------------------

    #[cold]
    fn write_by(&mut self, record: &[u8], limit: Option<Duration>) -> Result<Push, Error> {
        self.control.shared.may_wait()?;
        let by = limit.and_then(|limit| Instant::now().checked_add(limit));
        let shared = self.control.shared.clone();
        loop {
            let ticket = shared.changed.ticket();
            match self.try_write(record) {
                Err(Error::Full { .. }) => {}
                result => return result.map(Push::Accepted),
            }
            if let (Some(waited), Some(by)) = (limit, by)
                && Instant::now() >= by
            {
                return Err(Error::Deadline { waited });
            }
            shared.changed.sleep(ticket, by);
        }
    }

    fn end(&mut self) -> Result<(), CloseError<S>> {
        self.has_ended = true;
        let shared = &self.control.shared;
        let ended = shared.end().and_then(|()| shared.may_wait());
        ended.map_err(|error| shared.not_closed(error))
    }
}

impl<S: Clone> Deref for Writer<S> {
    type Target = Control<S>;

    fn deref(&self) -> &Control<S> {
        &self.control
    }
}

impl<S: Clone> Drop for Writer<S> {
    fn drop(&mut self) {
        if !self.has_ended && self.end().is_ok() {
            let _ = self.control.shared.wait_for_the_end(None);
        }
    }
}
