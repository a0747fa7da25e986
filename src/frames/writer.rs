//! Writing frames: a header and a payload in one push.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crc32c::{crc32c, crc32c_append};

use super::cookie::Cookie;
use super::format::{End, Entry, HEADER, Head, Header, Kind};
use super::index::Table;
use crate::control::Control;
use crate::error::Error;
use crate::summary::{CloseError, Summary};

/// The time for a frame: nanoseconds since 1970-01-01 UTC; 0 before that. On Linux no system call on
/// usual machines.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Where a frame was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placed {
    /// Where its header begins in the file.
    pub position: u64,
    /// Its number.
    pub sequence: u64,
    /// Where it ends: it is durable when [`durable`](crate::Positions::durable) is not below.
    pub end: u64,
}

/// Which frames are in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Framed {
    /// How many.
    pub frames: u64,
    /// Number of the first; that of the next one, if there is none.
    pub first_sequence: u64,
    /// The number behind the last that was given in this file.
    pub next_sequence: u64,
    /// Numbers that were given, and that no frame has: messages that were lost.
    pub missing: u64,
    /// Time of the first frame, as the producer gave it; 0 if there is none.
    pub first_time: u64,
    /// Time of the last.
    pub last_time: u64,
}

impl Placed {
    /// In a recording of which the file is a part; with wrapping.
    pub(super) fn raised(self, shift: u64) -> Self {
        let (position, end) = (self.position.wrapping_add(shift), self.end.wrapping_add(shift));
        Self { position, end, ..self }
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// Accepted.
    Accepted(Placed),
    /// Lost by the policy [`Drop`](crate::OnFull::Drop). Its number is used up: a reader sees it
    /// missing.
    Lost {
        /// Its number.
        sequence: u64,
    },
}

/// What the writer knows of its frames.
#[derive(Debug)]
pub(crate) struct Book {
    generation: u64,
    /// Where the next frame begins.
    pub(super) position: u64,
    /// Its number.
    pub(super) next: u64,
    pub(super) frames: u64,
    pub(super) first_time: u64,
    pub(super) last_time: u64,
    pub(super) table: Table,
    /// The number that was due when the file began.
    begun: u64,
    /// The last of the recording.
    pub(super) cookie: Option<Arc<Cookie>>,
}

impl Book {
    /// Of a file without frames.
    pub(super) fn new(head: &Head) -> Self {
        Self {
            generation: head.generation,
            position: super::format::HEAD as u64,
            next: head.first.unwrap_or(head.origin),
            frames: 0,
            first_time: 0,
            last_time: 0,
            table: Table::new(),
            begun: head.first.unwrap_or(head.origin),
            cookie: None,
        }
    }

    /// The number of the first frame, as far as its place is known.
    pub(super) fn first(&self) -> Option<u64> {
        self.table.entries().first().map(|entry| entry.sequence)
    }

    /// The header of the next data frame.
    pub(super) fn data(&self, time: u64, len: usize, sum: u32) -> [u8; HEADER] {
        self.header(Kind::Data, time, len, sum)
    }

    /// The next `messages` numbers are of messages that were lost.
    pub(super) fn lose(&mut self, messages: u64) {
        const LAST: u64 = 1 << 63; // far from the end, which no push then reaches
        self.next = self.next.max(self.next.saturating_add(messages).min(LAST));
    }

    /// Of a file that follows another one of the same recording, which gets no more frames.
    pub(crate) fn follow(&mut self, before: &Self) {
        (self.next, self.begun) = (before.next, before.next);
        self.cookie.clone_from(&before.cookie); // no copy
    }

    /// What is in the file.
    pub(crate) fn framed(&self) -> Framed {
        Framed {
            frames: self.frames,
            first_sequence: self.first().unwrap_or(self.next),
            next_sequence: self.next,
            missing: (self.next - self.begun).saturating_sub(self.frames),
            first_time: self.first_time,
            last_time: self.last_time,
        }
    }

    /// Behind frames that are durable, which it vouches for. A failure is sticky: the close tells of it.
    pub(crate) fn write_footer(&mut self, below: &mut crate::Writer) -> Result<(), Error> {
        below.flush()?;
        let footer = self.footer();
        below.write_flush(&footer).map(drop)
    }

    /// Durable with all that lies before it in this file.
    pub(super) fn write_cookie(
        &mut self,
        below: &mut crate::Writer,
        bytes: &[u8],
    ) -> Result<u64, Error> {
        let cookie = Cookie::new(bytes, self.next)?;
        let frame = self.frame(Kind::Cookie, &cookie.encode());
        let durable = below.write_flush(&frame);
        let end = self.position + frame.len() as u64;
        if below.positions().accepted == end {
            self.position = end;
        }
        if durable.is_ok() {
            self.cookie = Some(Arc::new(cookie));
        }
        durable
    }

    /// One that is no message.
    fn frame(&self, kind: Kind, payload: &[u8]) -> Vec<u8> {
        let header = self.header(kind, self.last_time, payload.len(), crc32c(payload));
        [&header[..], payload].concat()
    }

    fn header(&self, kind: Kind, time: u64, len: usize, sum: u32) -> [u8; HEADER] {
        let (sequence, generation) = (self.next, self.generation);
        let len = len as u32; // the limit is below
        Header { kind, len, sequence, time, generation, sum }.encode(self.position)
    }

    /// A data frame was found, or put, at this place; its number is not below the next one.
    #[inline]
    pub(super) fn note(&mut self, entry: Entry, bytes: u64) {
        if self.frames == 0 {
            self.first_time = entry.time;
        }
        self.last_time = entry.time;
        self.frames += 1;
        self.table.note(entry);
        self.next = entry.sequence.saturating_add(1);
        self.position = entry.position + bytes;
    }

    #[inline]
    pub(super) fn placed(&mut self, position: u64, time: u64, payload: usize) -> Placed {
        debug_assert_eq!(position, self.position, "somebody else has pushed");
        let (sequence, bytes) = (self.next, (HEADER + payload) as u64);
        self.note(Entry { position, sequence, time }, bytes);
        Placed { position, sequence, end: position + bytes }
    }

    /// Index, cookie and end.
    fn footer(&mut self) -> Vec<u8> {
        let end = End { index: self.position, frames: self.frames, first_time: self.first_time };
        let cookie = self.cookie.as_ref().map(|cookie| (Kind::Cookie, cookie.encode()));
        let parts = [Some((Kind::Index, self.table.encode())), cookie];
        let mut footer = Vec::new();
        for (kind, payload) in parts.into_iter().flatten().chain([(Kind::End, end.encode().into())])
        {
            let frame = self.frame(kind, &payload);
            self.position += frame.len() as u64;
            footer.extend(frame);
        }
        footer
    }
}

/// Takes messages from one producer, and writes each as a frame. Made by [`Options`](super::Options); `Send`.
///
/// It stands on [`crate::Writer`]: what that says of a push, of waiting and of errors holds here. A
/// push takes its frame whole or not at all, allocates nothing, and takes one pass of CRC32C over the
/// payload more than a plain one. It dereferences to [`Control`] for fences, positions and
/// statistics. (Who patches through it has to leave the frames alone.)
///
/// Dropped without a close it leaves a file without a footer, which is otherwise whole: a reader
/// reads it, and [`resume`](super::Options::resume) reads all of it first.
#[derive(Debug)]
pub struct Writer {
    below: crate::Writer,
    longest: usize,
    book: Book,
}

impl Writer {
    /// Over a file with a head.
    pub(super) fn over(below: crate::Writer, head: Head, longest: usize, book: Book) -> Self {
        debug_assert_eq!(
            (below.positions().accepted, head.generation),
            (book.position, book.generation)
        );
        Self { below, longest, book }
    }

    /// Writes a message, or does what the overrun policy says when there is no room for its frame:
    /// as [`Writer::write`](crate::Writer::write). `time` is the producer's, in whatever unit and of
    /// whatever clock ([`now`] gives one): to find messages by it, let it never descend.
    ///
    /// Under [`Drop`](crate::OnFull::Drop) a message that is lost uses up its number. Behind any error
    /// it does not: the same message may be offered again.
    ///
    /// # Errors
    /// As [`Writer::write`](crate::Writer::write), whose bytes are 40 more than the payload's; and
    /// [`Error::TooLong`] for more than [`longest`](super::Options::longest).
    pub fn write(&mut self, time: u64, payload: &[u8]) -> Result<Push, Error> {
        self.fits(payload.len())?;
        let header = self.book.header(Kind::Data, time, payload.len(), crc32c(payload));
        let push = self.below.write_parts(&[&header[..], payload])?;
        Ok(self.pushed(push, time, payload.len()))
    }

    /// Writes a message if there is room for all of its frame, and never waits: as
    /// [`Writer::try_write`](crate::Writer::try_write). A message that does not fit uses up no number:
    /// [`lose`](Self::lose) does, for one that is given up.
    ///
    /// # Errors
    /// [`Error::Full`], and as [`write`](Self::write).
    #[inline]
    pub fn try_write(&mut self, time: u64, payload: &[u8]) -> Result<Placed, Error> {
        self.fits(payload.len())?;
        let header = self.book.header(Kind::Data, time, payload.len(), crc32c(payload));
        let position = self.below.try_write_parts(&[&header[..], payload])?;
        Ok(self.book.placed(position, time, payload.len()))
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
        self.fits(len)?;
        let sum = payload.iter().fold(0, |sum, part| crc32c_append(sum, part));
        let header = self.book.header(Kind::Data, time, len, sum);
        let mut parts = [&[][..]; MOST + 1];
        parts[0] = &header;
        parts[1..=payload.len()].copy_from_slice(payload);
        let push = self.below.write_parts(&parts[..=payload.len()])?;
        Ok(self.pushed(push, time, len))
    }

    /// Memory for a payload of up to `len` bytes, to fill in place; never waits. At most 40 bytes less
    /// than the [grant limit](crate::Options::grant_limit). Committed it is a frame; dropped, it leaves
    /// nothing behind.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("take");
    /// let mut writer = writeflush::frames::Options::default().create(&path)?;
    /// let mut grant = writer.grant(1500)?;
    /// grant[..4].copy_from_slice(b"ping"); // a device reads into it
    /// let placed = grant.commit(writeflush::frames::now(), 4);
    /// assert_eq!(placed.sequence, 0);
    /// writer.close()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Writer::grant`](crate::Writer::grant), of 40 bytes more.
    pub fn grant(&mut self, len: usize) -> Result<Grant<'_>, Error> {
        self.fits(len)?;
        let memory = self.below.grant(HEADER + len)?;
        Ok(Grant { memory, book: &mut self.book, shift: 0 })
    }

    /// Makes everything accepted so far durable together with these bytes of the application's, at
    /// most [`LONGEST_COOKIE`](super::LONGEST_COOKIE), and returns the durable position. Of all that were
    /// written a recovery gives the last one back, and it is there only if every message before it is:
    /// so it says where to go on. Blocks and waits for room, whatever the overrun policy says;
    /// allocates some times its length.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("take");
    /// use writeflush::frames::Options;
    ///
    /// let mut writer = Options::default().create(&path)?;
    /// writer.write(0, b"two records of the source")?;
    /// writer.flush_with(b"source read up to 2")?;
    /// writer.write(0, b"a third")?;
    /// drop(writer); // it crashes
    ///
    /// let (writer, found) = Options::default().resume(&path)?;
    /// let cookie = found.cookie.expect("one was durable");
    /// assert_eq!((&cookie.bytes[..], cookie.next_sequence), (&b"source read up to 2"[..], 1));
    /// # writer.close()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::TooLong`]; the error that poisoned the stream; [`Error::InWaker`].
    pub fn flush_with(&mut self, cookie: &[u8]) -> Result<u64, Error> {
        self.book.write_cookie(&mut self.below, cookie)
    }

    /// The next `messages` numbers are of messages that the source lost before they could be offered:
    /// a reader sees them missing. Never waits.
    pub fn lose(&mut self, messages: u64) {
        self.book.lose(messages);
    }

    /// The number of the next message.
    pub fn next_sequence(&self) -> u64 {
        self.book.next
    }

    /// Where the next frame begins in the file.
    pub fn position(&self) -> u64 {
        self.book.position
    }

    /// The generation of the recording.
    pub fn generation(&self) -> u64 {
        self.book.generation
    }

    /// Makes everything durable, then writes the footer, then closes as
    /// [`Writer::close`](crate::Writer::close). If what lies before the footer can't be made durable,
    /// no footer is written. Blocks, and allocates some 25 KB.
    ///
    /// # Errors
    /// As [`Writer::close`](crate::Writer::close).
    pub fn close(mut self) -> Result<Summary, CloseError> {
        let _ = self.book.write_footer(&mut self.below);
        self.below.close()
    }

    /// The writer below, for a close with a limit of time: without a footer, which a reader does not
    /// need. Whatever else is written with it is no frame.
    pub fn into_inner(self) -> crate::Writer {
        self.below
    }

    pub(super) fn inherit(&mut self, before: Option<&Arc<Cookie>>) {
        self.book.cookie = self.book.cookie.take().or_else(|| before.cloned());
    }

    #[inline]
    fn fits(&self, len: usize) -> Result<(), Error> {
        match len > self.longest {
            true => Err(Error::TooLong { offered: len, limit: self.longest }),
            false => Ok(()),
        }
    }

    fn pushed(&mut self, push: crate::Push, time: u64, len: usize) -> Push {
        match push {
            crate::Push::Accepted(position) => {
                Push::Accepted(self.book.placed(position, time, len))
            }
            crate::Push::Lost(_) => {
                let sequence = self.book.next;
                self.lose(1);
                Push::Lost { sequence }
            }
        }
    }
}

impl Deref for Writer {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.below
    }
}

/// Memory for a payload; see [`Writer::grant`]. The bytes are whatever they were before.
#[derive(Debug)]
#[must_use = "a grant that is not committed takes no bytes"]
pub struct Grant<'a> {
    pub(super) memory: crate::Grant<'a>,
    pub(super) book: &'a mut Book,
    /// What a position in the file has to be raised by, to be one of the recording.
    pub(super) shift: u64,
}

impl Grant<'_> {
    /// Makes a frame of the first `len` bytes. Never waits.
    ///
    /// # Panics
    /// If `len` is more than was granted.
    pub fn commit(self, time: u64, len: usize) -> Placed {
        let Self { mut memory, book, shift } = self;
        let sum = crc32c(&memory[HEADER..HEADER + len]);
        let header = book.header(Kind::Data, time, len, sum);
        memory[..HEADER].copy_from_slice(&header);
        let position = memory.commit(HEADER + len);
        book.placed(position, time, len).raised(shift)
    }
}

impl Deref for Grant<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[HEADER..]
    }
}

impl DerefMut for Grant<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[HEADER..]
    }
}
