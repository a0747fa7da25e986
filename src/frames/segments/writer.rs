//! The producer of a framed recording in segments.

use std::ops::Deref;
use std::time::Duration;

use crc32c::{crc32c, crc32c_append};

use crate::canary::Canary;
use crate::error::Error;
use crate::frames::format::HEADER;
use crate::frames::writer::{Grant, Placed, Push};
use crate::segments::{self, CloseError, Control, Place, Summary, Ticket};

/// Takes messages from one producer, and writes each as a frame, in one file after the other. Made by
/// [`Options`](super::Options); `Send`.
///
/// It stands on [`segments::Writer`]: what that says of a push, of rotations, of waiting and of errors
/// holds here. A push takes its frame whole or not at all, allocates nothing, and takes one pass of
/// CRC32C over the payload more than a plain one. It dereferences to [`Control`] for positions, flushes
/// by other threads and statistics. (Who checkpoints through it has to leave the frames alone.)
///
/// Dropped without a close it ends the recording all the same, with the footers; nobody hears of an
/// error then.
#[derive(Debug)]
pub struct Writer {
    below: segments::Writer,
    recording: u64,
    longest: usize,
}

impl Writer {
    pub(super) fn over(below: segments::Writer, recording: u64, longest: usize) -> Self {
        Self { below, recording, longest }
    }

    /// A handle for other threads.
    pub fn control(&self) -> &Control {
        self.below.control()
    }

    /// Writes a message, or does what the overrun policy says when there is no room for its frame: as
    /// [`frames::Writer::write`](crate::frames::Writer::write). Positions are those of the whole
    /// recording.
    ///
    /// # Errors
    /// As there; [`Error::SpaceFloor`].
    pub fn write(&mut self, time: u64, payload: &[u8]) -> Result<Push, Error> {
        self.push(time, payload.len(), crc32c(payload), |writer, header| {
            writer.write_parts(&[header, payload])
        })
    }

    /// Writes a message if there is room for all of its frame, and never waits. A message that does
    /// not fit uses up no number: [`lose`](Self::lose) does, for one that is given up.
    ///
    /// # Errors
    /// [`Error::Full`], also while [`Floor::Wait`](crate::segments::Floor::Wait) takes nothing; and as
    /// [`write`](Self::write).
    #[inline]
    pub fn try_write(&mut self, time: u64, payload: &[u8]) -> Result<Placed, Error> {
        self.fits(payload.len())?;
        self.below.try_make_way(HEADER + payload.len())?;
        let Place { writer, book, shift } = self.below.place()?;
        let header = book.data(time, payload.len(), crc32c(payload));
        let position = writer.try_write_parts(&[&header[..], payload])?;
        Ok(book.placed(position, time, payload.len()).raised(shift))
    }

    /// As [`write`](Self::write), of a message that lies in up to 15 parts, which follow each other in
    /// one payload.
    ///
    /// # Errors
    /// As [`write`](Self::write); [`Error::Options`] for more parts.
    pub fn write_parts(&mut self, time: u64, payload: &[&[u8]]) -> Result<Push, Error> {
        const MOST: usize = 15;
        if payload.len() > MOST {
            return Err(Error::Options("a frame takes up to 15 parts: join some of them".into()));
        }
        let len = payload.iter().fold(0usize, |sum, part| sum.saturating_add(part.len()));
        let sum = payload.iter().fold(0, |sum, part| crc32c_append(sum, part));
        self.push(time, len, sum, |writer, header| {
            let mut parts = [&[][..]; MOST + 1];
            parts[0] = header;
            parts[1..=payload.len()].copy_from_slice(payload);
            writer.write_parts(&parts[..=payload.len()])
        })
    }

    /// Memory for a payload of up to `len` bytes, to fill in place; never waits. As
    /// [`frames::Writer::grant`](crate::frames::Writer::grant). It lies in the segment that a message
    /// of `len` bytes would.
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write), and as there.
    pub fn grant(&mut self, len: usize) -> Result<Grant<'_>, Error> {
        self.fits(len)?;
        self.below.try_make_way(HEADER + len)?;
        let Place { writer, book, shift } = self.below.place()?;
        let memory = writer.grant(HEADER + len)?;
        Ok(Grant { memory, book, shift })
    }

    /// The next `messages` numbers are of messages that the source lost before they could be offered:
    /// a reader sees them missing. Never waits.
    pub fn lose(&mut self, messages: u64) {
        if let Ok(Place { book, .. }) = self.below.place() {
            book.lose(messages);
        }
    }

    /// The number of the next message.
    pub fn next_sequence(&self) -> u64 {
        self.below.book().map_or(0, |book| book.next)
    }

    /// The generation of the recording, which a resume goes on with. (A segment that is recycled has one
    /// of its own.)
    pub fn generation(&self) -> u64 {
        self.recording
    }

    /// Waits until everything accepted so far is durable, in whatever segments it lies; returns the
    /// durable position of the whole.
    ///
    /// # Errors
    /// The error that ended the recording; [`Error::InWaker`].
    pub fn flush(&mut self) -> Result<u64, Error> {
        self.below.flush()
    }

    /// Makes everything accepted so far durable together with these bytes of the application's: as
    /// [`frames::Writer::flush_with`](crate::frames::Writer::flush_with). [`Resumed`](super::Resumed)
    /// gives the last one back, in whatever segment it was written, and be that gone by now: each
    /// segment that is closed repeats it. (So it is lost with the last of those, where the segment that
    /// is written has none and the rules keep not even one that is closed.)
    ///
    /// # Errors
    /// As there; [`Error::Full`] while [`Floor::Wait`](crate::segments::Floor::Wait) takes nothing;
    /// [`Error::SpaceFloor`].
    pub fn flush_with(&mut self, cookie: &[u8]) -> Result<u64, Error> {
        let len = HEADER.saturating_add(cookie.len());
        self.below.try_make_way(len)?;
        if !Canary::CookieAhead.is_planted() {
            self.below.wait_for_those_before()?;
        }
        let Place { writer, book, .. } = self.below.place()?;
        book.write_cookie(writer, cookie)?;
        self.below.flush()
    }

    /// As [`segments::Writer::fence`].
    ///
    /// # Errors
    /// As there.
    pub fn fence(&self) -> Result<Ticket, Error> {
        self.below.fence()
    }

    /// As [`segments::Writer::rotate`].
    ///
    /// # Errors
    /// As there.
    pub fn rotate(&mut self) -> Result<bool, Error> {
        self.below.rotate()
    }

    /// As [`segments::Writer::wait_for_next`], of a payload of `len` bytes.
    ///
    /// # Errors
    /// As there.
    pub fn wait_for_next(&mut self, len: usize, limit: Duration) -> Result<(), Error> {
        self.below.wait_for_next(HEADER.saturating_add(len), limit)
    }

    /// Ends the recording: as [`segments::Writer::close`], with a footer in each segment.
    ///
    /// # Errors
    /// As there.
    pub fn close(self) -> Result<Summary, CloseError> {
        self.below.close()
    }

    /// As [`segments::Writer::close_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn close_timeout(self, limit: Duration) -> Result<Option<Summary>, CloseError> {
        self.below.close_timeout(limit)
    }

    /// `write`: as much of the frame as the payload's writer is to be told.
    fn push(
        &mut self,
        time: u64,
        len: usize,
        sum: u32,
        write: impl FnOnce(&mut crate::Writer, &[u8]) -> Result<crate::Push, Error>,
    ) -> Result<Push, Error> {
        self.fits(len)?;
        let has_way = self.below.make_way(HEADER + len)?;
        let Place { writer, book, shift } = self.below.place()?;
        let header = book.data(time, len, sum);
        let pushed = match has_way {
            true => write(writer, &header)?,
            false => crate::Push::Lost(HEADER + len),
        };
        Ok(match pushed {
            crate::Push::Accepted(position) => {
                Push::Accepted(book.placed(position, time, len).raised(shift))
            }
            crate::Push::Lost(_) => {
                let sequence = book.next;
                book.lose(1);
                Push::Lost { sequence }
            }
        })
    }

    #[inline]
    fn fits(&self, len: usize) -> Result<(), Error> {
        match len > self.longest {
            true => Err(Error::TooLong { offered: len, limit: self.longest }),
            false => Ok(()),
        }
    }

    #[cfg(all(test, unix, not(any(loom, shuttle))))]
    pub(super) fn inner(&mut self) -> &mut segments::Writer {
        &mut self.below
    }
}

impl Deref for Writer {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.below
    }
}
