//! The producer of a recording in segments.

use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::control::{CloseError, Control, Last, Open, Shared, Summary, Ticket, asks};
use crate::error::Error;
use crate::frames::Book;
use crate::overrun::{OnFull, Push};
use crate::sync::{Instant, ignore_poison};

/// Takes bytes from one producer and makes them durable, in one file after the other. Made by
/// [`Options::open`](super::Options::open); `Send`.
///
/// It stands on [`crate::Writer`]: what that says of a push, of waiting and of errors holds here, in
/// positions of the whole recording. A push that begins the next segment swaps two pointers more, looks at
/// the clock, and wakes the keeper's thread, for which it may make one system call (none with
/// [`Drive::Poll`](crate::Drive::Poll)). It dereferences to [`Control`] for positions, flushes by
/// other threads and checkpoints.
///
/// Dropped without a close it ends the recording all the same, waits for it, and nobody hears of an
/// error: close it.
#[derive(Debug)]
pub struct Writer {
    /// The segment that is written; `None` once the recording has ended.
    current: Option<Open>,
    /// The next one, taken from the keeper.
    spare: Option<Box<Open>>,
    pub(super) control: Control,
    /// What a position in the file has to be raised by (with wrapping) to be one of the whole.
    shift: u64,
    /// Where in the file the segment may have to end: before it a push needs no look.
    due: u64,
    /// It should have ended.
    is_late: bool,
}

/// Where a frame goes.
pub(crate) struct Place<'a> {
    pub(crate) writer: &'a mut crate::Writer,
    pub(crate) book: &'a mut Book,
    /// What a position in the file has to be raised by (with wrapping) to be one of the whole.
    pub(crate) shift: u64,
}

impl UnwindSafe for Writer {}
impl RefUnwindSafe for Writer {}

/// Where the next push goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// To the current segment.
    Here,
    /// So many bytes of it to the current segment, and the rest to the next one, which is at hand.
    Across(usize),
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, first: Open) -> Self {
        let mut writer = Self {
            current: None,
            spare: None,
            control: Control { shared },
            shift: 0,
            due: 0,
            is_late: false,
        };
        writer.begin(first, 0, SystemTime::now());
        writer
    }

    /// A handle for other threads.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Takes all the bytes, as one record, or does what the overrun policy says when they don't fit: as
    /// [`Writer::write`](crate::Writer::write). The position is one of the whole recording.
    ///
    /// A record lies in one segment, also if it is longer than a segment should be. With
    /// [`frame_bytes`](super::Options::frame_bytes) it may lie across two, cut between frames.
    ///
    /// # Errors
    /// As [`Writer::write`](crate::Writer::write); [`Error::SpaceFloor`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<Push, Error> {
        match self.way(bytes.len()) {
            Ok(Way::Here) => {
                let pushed = self.open()?.writer.write(bytes)?;
                Ok(self.of_the_whole(pushed))
            }
            Ok(Way::Across(first)) => self.write_across(bytes, first),
            Err(Error::Full { .. }) => match self.wait_for_floor(bytes.len())? {
                true => self.write(bytes),
                false => Ok(Push::Lost(bytes.len())),
            },
            Err(error) => Err(error),
        }
    }

    /// Takes all the bytes, as one record, or none; never waits: as
    /// [`Writer::try_write`](crate::Writer::try_write). Returns the position of the first in the whole
    /// recording.
    ///
    /// # Errors
    /// [`Error::Full`], also while [`Floor::Wait`](super::Floor::Wait) takes nothing; and as
    /// [`write`](Self::write).
    #[inline]
    pub fn try_write(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        match self.way(bytes.len())? {
            Way::Here => {
                let at = self.open()?.writer.try_write(bytes)?;
                Ok(at.wrapping_add(self.shift))
            }
            Way::Across(first) => self.try_across(bytes, first),
        }
    }

    /// Records that the source lost `len` bytes before they could be offered: as
    /// [`Writer::lose`](crate::Writer::lose).
    pub fn lose(&mut self, len: usize) {
        if let Some(open) = &mut self.current {
            open.writer.lose(len);
        }
    }

    /// Takes the bytes, as one record, waits until they and everything before them are durable, and
    /// returns the durable position of the whole. With no bytes it is a plain flush. It waits for room,
    /// so the overrun policy does not apply; but [`Floor::Wait`](super::Floor::Wait) is answered with
    /// [`Error::Full`].
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_flush(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        if bytes.is_empty() {
            return self.flush();
        }
        let rest = match self.way(bytes.len())? {
            Way::Here => bytes,
            Way::Across(first) => {
                let (end, rest) = bytes.split_at(first);
                self.open()?.writer.write_flush(end)?;
                self.go_on_in_the_next();
                rest
            }
        };
        self.flush_with(rest)
    }

    /// Waits until everything accepted so far is durable, in whatever segments it lies; returns the
    /// durable position of the whole (of whole frames, where there are frames).
    ///
    /// # Errors
    /// The error that ended the recording; [`Error::InWaker`].
    pub fn flush(&mut self) -> Result<u64, Error> {
        self.flush_with(&[])
    }

    /// Asks for a fence over everything accepted so far. Never waits, takes no lock.
    ///
    /// # Errors
    /// [`Error::Closed`] once the recording has ended.
    pub fn fence(&self) -> Result<Ticket, Error> {
        let open = self.current.as_ref().ok_or(Error::Closed)?;
        let below = open.writer.fence();
        Ok(Ticket {
            shared: self.control.shared.clone(),
            begins: self.begins(),
            position: self.control.shared.cut.whole(below.position().wrapping_add(self.shift)),
            below,
        })
    }

    /// Ends the segment here. `false`: it has no data, or may not end here (within a frame), or the next
    /// one is not ready; then (but in the first case) it ends with a later push, as soon as may be.
    /// Never waits.
    ///
    /// # Errors
    /// The error that ended the recording.
    pub fn rotate(&mut self) -> Result<bool, Error> {
        self.control.shared.check()?;
        if self.total() == self.begins() {
            return Ok(false);
        }
        let may_end = self.control.shared.cut.whole(self.total()) == self.total();
        if may_end && self.has_next() {
            self.go_on_in_the_next();
            return Ok(true);
        }
        self.control.shared.ask(asks::ROTATE);
        Ok(false)
    }

    /// For sources that can wait, as a file or a pipe can: if a push of `len` bytes would have to begin the
    /// next segment, waits until that is ready, for `limit` at most. Called before each push it keeps
    /// segments as short as was asked, however fast the source is. Once a segment is late nothing is
    /// waited for any more, until the next has begun.
    ///
    /// # Errors
    /// The error that ended the recording; [`Error::InWaker`].
    pub fn wait_for_next(&mut self, len: usize, limit: Duration) -> Result<(), Error> {
        let end = self.accepted().saturating_add(len as u64);
        if end <= self.due || self.is_late || self.has_next() {
            return Ok(());
        }
        self.open()?.writer.may_wait()?;
        let (shared, by) = (self.control.shared.clone(), Instant::now().checked_add(limit));
        loop {
            let ticket = shared.changed.ticket();
            shared.check()?;
            if self.has_next() || by.is_some_and(|by| Instant::now() >= by) {
                return Ok(());
            }
            shared.changed.sleep(ticket, by);
        }
    }

    /// Ends the recording: writes out everything, closes every segment with its tail, and makes all of
    /// it durable. A segment that was ready and never begun goes. Blocks, but waits for no space on a full
    /// disk: who wants to wait for that flushes first.
    ///
    /// # Errors
    /// Every error. [`Error::InWaker`] in a waker: then the keeper's thread goes on by itself.
    pub fn close(mut self) -> Result<Summary, CloseError> {
        self.end()?;
        let ended = self.control.shared.wait_for_the_end(None)?;
        ended.ok_or_else(|| self.not_closed(Error::Closed))
    }

    /// As [`close`](Self::close), but waits for at most `limit`, whatever the disk does; `None`: the
    /// close goes on, and [`Control::wait_for_the_end`] waits for it.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub fn close_timeout(mut self, limit: Duration) -> Result<Option<Summary>, CloseError> {
        self.end()?;
        self.control.wait_for_the_end(limit)
    }

    // ---- frames -----------------------------------------------------------------------------------

    /// A record of `len` bytes, which is made for its place, goes to the [`place`](Self::place) from now
    /// on. Waits only for the floor, as the policy says; `false`: the record is lost to it.
    pub(crate) fn make_way(&mut self, len: usize) -> Result<bool, Error> {
        loop {
            match self.way(len) {
                Ok(_) => return Ok(true),
                Err(Error::Full { .. }) if !self.wait_for_floor(len)? => return Ok(false),
                Err(Error::Full { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// As [`make_way`](Self::make_way), but never waits.
    #[inline]
    pub(crate) fn try_make_way(&mut self, len: usize) -> Result<(), Error> {
        self.way(len).map(drop)
    }

    /// Waits until the segments before the one that is written are durable.
    pub(crate) fn wait_for_those_before(&mut self) -> Result<(), Error> {
        self.open()?.writer.may_wait()?;
        self.control.shared.wait_durable(self.begins(), None).map(drop)
    }

    /// The segment that is written.
    #[inline]
    pub(crate) fn place(&mut self) -> Result<Place<'_>, Error> {
        let Some(Open { writer, book: Some(book), .. }) = &mut self.current else {
            return Err(Error::Closed);
        };
        Ok(Place { writer, book, shift: self.shift })
    }

    pub(crate) fn book(&self) -> Option<&Book> {
        self.current.as_ref().and_then(|open| open.book.as_deref())
    }

    // ---- inside -----------------------------------------------------------------------------------

    fn open(&mut self) -> Result<&mut Open, Error> {
        self.current.as_mut().ok_or(Error::Closed)
    }

    fn accepted(&self) -> u64 {
        self.current.as_ref().map_or(0, |open| open.writer.accepted())
    }

    /// Bytes of the whole recording so far.
    fn total(&self) -> u64 {
        self.accepted().wrapping_add(self.shift)
    }

    fn begins(&self) -> u64 {
        self.current.as_ref().and_then(|open| open.live.begins()).unwrap_or(0)
    }

    fn of_the_whole(&self, push: Push) -> Push {
        match push {
            Push::Accepted(at) => Push::Accepted(at.wrapping_add(self.shift)),
            lost @ Push::Lost(_) => lost,
        }
    }

    pub(crate) fn policy(&self) -> OnFull {
        self.current.as_ref().map_or(OnFull::Fail, |open| open.writer.policy())
    }

    fn flush_with(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        let begins = self.begins();
        let older = self.control.shared.ask_durable(begins);
        let at = self.open()?.writer.write_flush(bytes)?;
        let shared = &self.control.shared;
        shared.wait_for(older, begins, None)?;
        Ok(shared.cut.whole(at.wrapping_add(self.shift)))
    }

    /// Part of each push: all that is not the rule is elsewhere.
    #[inline]
    fn way(&mut self, len: usize) -> Result<Way, Error> {
        let end = self.accepted().saturating_add(len as u64);
        match end <= self.due && self.control.shared.asks() == 0 {
            true => Ok(Way::Here),
            false => self.look_for_way(len),
        }
    }

    #[cold]
    fn look_for_way(&mut self, len: usize) -> Result<Way, Error> {
        let shared = &self.control.shared;
        let asks = shared.asks();
        shared.check()?;
        if asks & asks::PAUSE != 0 {
            return Err(Error::Full { offered: len, free: 0 });
        }
        let (begins, total) = (self.begins(), self.total());
        let asked = asks & asks::ROTATE != 0;
        if asked && begins == total {
            shared.ask_no_more(asks::ROTATE); // of a segment without data
        }
        let Some(first) = shared.cut.within(begins, total, len as u64, asked) else {
            return Ok(Way::Here);
        };
        if !self.has_next() {
            if !std::mem::replace(&mut self.is_late, true) {
                self.control.shared.counters.late.add(1);
            }
            return Ok(Way::Here);
        }
        match first as usize {
            0 => {
                self.go_on_in_the_next();
                Ok(Way::Here)
            }
            first => Ok(Way::Across(first)),
        }
    }

    /// Whether the segment may give way to the next one. Not while it owes fill bytes, which belong into
    /// it; and not once it has failed, which everybody has to hear.
    fn has_next(&mut self) -> bool {
        let may_end = |open: &Open| open.writer.owed() == 0 && open.writer.error().is_none();
        if !self.current.as_ref().is_some_and(may_end) {
            return false;
        }
        if self.spare.is_none() {
            self.spare = self.control.shared.next.take();
        }
        self.spare.is_some()
    }

    /// Never waits, allocates nothing, frees nothing.
    fn go_on_in_the_next(&mut self) {
        let (total, now) = (self.total(), SystemTime::now());
        let Some(mut next) = self.spare.take() else { return };
        let Some(mut current) = self.current.take() else { return };
        if let (Some(book), Some(next)) = (&mut current.book, &mut next.book) {
            next.follow(book);
        }
        current.live.end(total, now);
        let next_open = std::mem::replace(&mut *next, current);
        self.begin(next_open, total, now);
        let shared = &self.control.shared;
        shared.old.store(Some(next));
        shared.ask_no_more(asks::ROTATE);
        shared.counters.rotations.add(1);
        if shared.wakes {
            shared.stirred.announce();
        }
    }

    fn begin(&mut self, open: Open, total: u64, now: SystemTime) {
        open.live.begin(total, now);
        self.shift = total.wrapping_sub(open.live.head);
        let room = self.control.shared.cut.due(total).saturating_sub(total);
        self.due = open.live.head.saturating_add(room);
        self.is_late = false;
        self.current = Some(open);
    }

    /// All of it or nothing: the next segment has room for the rest, since nothing else is in it.
    fn try_across(&mut self, bytes: &[u8], first: usize) -> Result<u64, Error> {
        let (end, rest) = bytes.split_at(first);
        let limit = self.spare.as_ref().map_or(0, |next| next.writer.longest_whole());
        if rest.len() > limit {
            return Err(Error::TooLong { offered: bytes.len(), limit });
        }
        let at = self.open()?.writer.try_write(end)?;
        let position = at.wrapping_add(self.shift);
        self.go_on_in_the_next();
        self.open()?.writer.try_write(rest)?;
        Ok(position)
    }

    #[cold]
    fn write_across(&mut self, bytes: &[u8], first: usize) -> Result<Push, Error> {
        let policy = self.policy();
        match (self.try_across(bytes, first), policy) {
            (Err(Error::Full { .. }), OnFull::Drop | OnFull::Fill(_)) => {
                self.lose(bytes.len());
                Ok(Push::Lost(bytes.len()))
            }
            (Err(Error::Full { .. }), OnFull::Block | OnFull::BlockFor(_))
            | (Err(Error::TooLong { .. }), OnFull::Block) => {
                let (end, rest) = bytes.split_at(first);
                let pushed = self.open()?.writer.write(end)?;
                let pushed = self.of_the_whole(pushed);
                self.go_on_in_the_next();
                self.open()?.writer.write(rest)?;
                Ok(pushed)
            }
            (result, _) => result.map(Push::Accepted),
        }
    }

    /// Nothing is taken until there is more free space: what the policy says of the next `len` bytes.
    /// `false`: they are lost.
    #[cold]
    fn wait_for_floor(&mut self, len: usize) -> Result<bool, Error> {
        let by = match self.policy() {
            OnFull::Drop | OnFull::Fill(_) => {
                self.lose(len);
                return Ok(false);
            }
            OnFull::Fail => return Err(Error::Full { offered: len, free: 0 }),
            OnFull::Block => None,
            OnFull::BlockFor(limit) => Some((limit, Instant::now().checked_add(limit))),
        };
        self.open()?.writer.may_wait()?;
        let shared = self.control.shared.clone();
        loop {
            let ticket = shared.changed.ticket();
            if shared.asks() & (asks::PAUSE | asks::FAIL) != asks::PAUSE {
                return Ok(true);
            }
            let deadline = by.and_then(|(_, at)| at);
            if let (Some((waited, _)), Some(at)) = (by, deadline)
                && Instant::now() >= at
            {
                return Err(Error::Deadline { waited });
            }
            shared.changed.sleep(ticket, deadline);
        }
    }

    /// Hands the last segment to the keeper, who ends the recording.
    pub(crate) fn end(&mut self) -> Result<(), CloseError> {
        let Some(current) = self.current.take() else { return Err(self.not_closed(Error::Closed)) };
        if current.writer.is_not_ours() {
            // The keeper is the parent's, and so may be a lock that is held.
            let errors = vec![Error::Forked];
            return Err(CloseError { errors, summary: Box::default() });
        }
        let may_wait = current.writer.may_wait();
        let shared = &self.control.shared;
        *ignore_poison(shared.last.lock()) = Some(Last { current, spare: self.spare.take() });
        shared.ask(asks::END);
        for live in shared.ledger.before(u64::MAX) {
            live.control.stop_waiting_for_space(); // a close waits for none
        }
        shared.stirred.announce();
        may_wait.map_err(|error| self.not_closed(error))
    }

    fn not_closed(&self, error: Error) -> CloseError {
        let summary = Box::new(self.control.shared.summary());
        CloseError { errors: vec![error], summary }
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
        if self.end().is_ok() {
            let _ = self.control.shared.wait_for_the_end(None);
        }
    }
}
