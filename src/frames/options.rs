//! How a framed file is opened.

use std::path::Path;
use std::sync::Arc;

use super::cookie::Cookie;
use super::error::Error;
use super::format::{HEAD, Head, LAST_FIRST, LONGEST};
use super::reader::{DEFAULT_LIMIT, End};
use super::recover::{self, Goes, Recovered};
use super::writer::Writer;
use crate::overrun::OnFull;
use crate::random;
use crate::recover::Locked;

/// How to open a framed [`Writer`]: the [options](crate::Options) of the writer below, and what is the
/// frames' own.
///
/// Every open blocks: it makes the head of the file durable.
///
/// ```
/// # fn main() -> Result<(), writeflush::frames::Error> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("take");
/// use writeflush::{Drive, OnFull, frames};
///
/// let below = writeflush::Options::new().drive(Drive::Poll).on_full(OnFull::Drop);
/// let mut writer = frames::Options::from(below).create(&path)?;
/// writer.write(frames::now(), b"a message")?;
/// # writer.close().unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) below: crate::Options,
    first: u64,
    generation: Option<u64>,
    longest: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self::from(crate::Options::new())
    }
}

/// Over a writer that is opened so. [`OnFull::Fill`] can't be: what is lost shows by its number.
impl From<crate::Options> for Options {
    fn from(below: crate::Options) -> Self {
        Self { below, first: 0, generation: None, longest: DEFAULT_LIMIT }
    }
}

impl Options {
    /// The number of the first frame (default 0, at most 2^62): of a recording in several files it
    /// goes on where the last one stopped.
    pub fn first_sequence(mut self, number: u64) -> Self {
        self.first = number;
        self
    }

    /// The generation, not 0 (default: a random number). Of a recycled file it must be none that the
    /// file ever had: else its old frames are taken for new ones.
    pub fn generation(mut self, number: u64) -> Self {
        self.generation = Some(number);
        self
    }

    /// The longest payload, in bytes (default 64 MiB, the limit of a reader; at most
    /// [`LONGEST`]). A recovery takes as much memory at the most.
    pub fn longest(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }

    /// As [`Options::create`](crate::Options::create).
    ///
    /// # Errors
    /// [`Error::Options`], and [`Error::Writer`] as there.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<Writer, Error> {
        let head = self.head(None)?;
        self.begin(self.below.create(path)?, head)
    }

    /// As [`Options::create_new`](crate::Options::create_new).
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_new(&self, path: impl AsRef<Path>) -> Result<Writer, Error> {
        let head = self.head(None)?;
        self.begin(self.below.create_new(path)?, head)
    }

    /// Overwrites an existing file from its start, as [`Options::open`](crate::Options::open): its
    /// blocks are there already, which makes fences cheaper. Its length stays if it is greater, so a
    /// reader finds the footer only by reading up to it.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn recycle(&self, path: impl AsRef<Path>) -> Result<Writer, Error> {
        let below = self.below.open(path)?;
        let mut old = [0; HEAD];
        let read = below.open_for_reading().and_then(|file| file.read_at(&mut old, 0));
        let read = read.map_err(|error| Error::io("read", Some(below.path()), error))?;
        let old = Head::decode(&old[..read]).ok();
        let head = self.head(old.map(|old| old.generation))?;
        self.begin(below, head)
    }

    /// [Recovers](Self::recover) the file and goes on behind its last whole frame, with its numbers
    /// and its generation; creates it if it is not there, or is empty. A closed file is not read but
    /// for its footer.
    ///
    /// The lock is held from the one to the other.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("take");
    /// # let mut writer = writeflush::frames::Options::default().create(&path)?;
    /// # writer.write(0, b"before the crash")?;
    /// # writer.flush()?;
    /// # writer.abandon();
    /// # drop(writer);
    /// let (mut writer, found) = writeflush::frames::Options::default().resume(&path)?;
    /// eprintln!("goes on at number {}", found.next_sequence);
    /// # assert_eq!(found.next_sequence, 1);
    /// writer.write(writeflush::frames::now(), b"a message")?;
    /// writer.close()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`recover`](Self::recover), and [`Error::Writer`] as of
    /// [`Options::append`](crate::Options::append). Options for the number and the generation of a
    /// new file are looked at, too.
    pub fn resume(&self, path: impl AsRef<Path>) -> Result<(Writer, Recovered), Error> {
        let path = path.as_ref();
        let fresh = self.head(None)?;
        let (mut recovered, mut goes) = (Recovered::nothing(), Goes::anew());
        let below = crate::Writer::resume(&self.below, path, |file| {
            (recovered, goes) = recover::run(self, path, file)?;
            Ok::<_, Error>(())
        })?;
        let writer = match goes.head {
            Some(head) => Writer::over(below, head, self.longest, goes.book),
            None => self.begin(below, fresh)?,
        };
        Ok((writer, recovered))
    }

    /// Finds the valid prefix of a file whose writer is gone, keeps what is damaged behind it as
    /// `NAME.torn-OFFSET` beside it, and cuts it off: [the module](super) says how. What is left ends
    /// behind a whole frame, and is durable. A second recovery changes nothing.
    ///
    /// Blocks: reads the file once (of a closed one the footer only), and writes as much as the tail
    /// has. Waits for the lock as long as [`lock_wait`](crate::Options::lock_wait) of the options below
    /// says, and holds it until it is done.
    ///
    /// # Errors
    /// [`Error::Writer`] with [`Locked`](crate::Error::Locked) while a writer has the file, or if it is
    /// not there; [`Error::NotFramed`], [`Error::Version`], [`Error::TooLong`] (see
    /// [`longest`](Self::longest)); [`Error::Io`]. Nothing has been cut then, unless it is the flush
    /// behind the cut that failed.
    pub fn recover(&self, path: impl AsRef<Path>) -> Result<Recovered, Error> {
        self.check()?;
        let path = path.as_ref();
        let locked = Locked::new(&self.below, path)?;
        recover::run(self, path, &locked.file).map(|(recovered, _)| recovered)
    }

    /// Recovers a file that has a head, and gives it its footer, unless it has one; with the cookie of
    /// the file before, if it has none itself.
    pub(super) fn finish(
        &self,
        path: &Path,
        before: Option<&Arc<Cookie>>,
    ) -> Result<Recovered, Error> {
        let (mut writer, recovered) = self.resume(path)?;
        writer.inherit(before);
        let closed = match recovered.found {
            Some(End::Closed { .. }) => writer.into_inner().close(),
            _ => writer.close(),
        };
        closed.map_err(crate::Error::from)?;
        Ok(recovered)
    }

    pub(super) fn below(&self) -> &crate::Options {
        &self.below
    }

    pub(super) fn limit(&self) -> usize {
        self.longest
    }

    fn check(&self) -> Result<(), Error> {
        if let OnFull::Fill(_) = self.below.on_full {
            return Err(Error::Options(
                "fill bytes are no frames: choose the policy Drop, under which a loss shows as a gap \
                 of numbers",
            ));
        }
        if self.longest > LONGEST {
            return Err(Error::Options("a frame has at most 1 GiB: give a lower limit"));
        }
        if self.first > LAST_FIRST {
            return Err(Error::Options("a recording begins with a number up to 2^62: give one"));
        }
        if self.generation == Some(0) {
            return Err(Error::Options("0 is no generation: give another number, or none"));
        }
        Ok(())
    }

    /// Of a new recording, in a file that had the generation `old`.
    fn head(&self, old: Option<u64>) -> Result<Head, Error> {
        self.check()?;
        if self.generation.is_some() && self.generation == old {
            return Err(Error::Options(
                "the recycled file has this generation: give another, or none for a random one",
            ));
        }
        let generation = self.generation.unwrap_or_else(random::number);
        Ok(Head::of(generation, Some(self.first), 0))
    }

    /// With the head durable: no power cut shows an older head, or none, before the first frame.
    fn begin(&self, mut below: crate::Writer, head: Head) -> Result<Writer, Error> {
        below.write_flush(&head.encode())?;
        Ok(Writer::over(below, head, self.longest, super::writer::Book::new(&head)))
    }
}
