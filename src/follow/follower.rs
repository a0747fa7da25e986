//! The reader.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::board::{Look, State};
use super::post::modified;
use super::shared::{Page, identity, place_of};
use super::{End, Watermark};
use crate::error::{Error, Operation};

/// How long a follower sleeps before it looks whether its writer is alive.
const PULSE: Duration = Duration::from_millis(100);

/// Reads a recording while it is written: see [the module](super).
///
/// As [`Read`] it waits for more, and ends (`Ok(0)`) when the writer was closed and all is read; any
/// other [`End`] is an error, each time. Every read is two system calls: put a
/// [`BufReader`](io::BufReader) over it. It starts at the first byte; [`seek`](Seek::seek) moves it,
/// and the end is the watermark at that moment. Never allocates after the open.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("take");
/// use std::io::Read;
/// use writeflush::follow::{End, Follower, Watermark};
///
/// let mut writer = writeflush::Options::new().followed(true).create(&path)?;
/// // In another process, as a rule.
/// let mut follower = Follower::open(&path, Watermark::Durable)?;
/// writer.write_flush(b"durable")?;
/// writer.write(b" and not yet")?;
/// let mut bytes = [0; 100];
/// assert_eq!(follower.read(&mut bytes)?, 7);
/// writer.close()?;
/// let mut rest = String::new();
/// follower.read_to_string(&mut rest)?;
/// assert_eq!(rest, " and not yet");
/// assert_eq!(follower.end(), Some(End::Closed { len: 19 }));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Follower {
    recording: File,
    page: Page,
    watermark: Watermark,
    at: u64,
    end: Option<End>,
}

impl Follower {
    /// Follows the recording that is being written at `path`. Does not wait.
    ///
    /// # Errors
    /// [`Error::Io`]; of the kind `NotFound` while nobody records there who can be followed.
    pub fn open(path: impl AsRef<Path>, watermark: Watermark) -> Result<Self, Error> {
        let path = path.as_ref();
        let failed = |error| Error::io(Operation::Open, &Arc::from(path), error);
        if let Some(follower) = Self::find(path, watermark).map_err(failed)? {
            return Ok(follower);
        }
        Err(failed(io::Error::new(
            io::ErrorKind::NotFound,
            "nobody records it who can be followed: open its writer with Options::followed, or read \
             it as a file",
        )))
    }

    /// `None` if there is nobody to follow.
    fn find(path: &Path, watermark: Watermark) -> io::Result<Option<Self>> {
        // A FIFO of that name is not waited for.
        let recording = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let metadata = recording.metadata()?;
        let page = match Page::open(&place_of(identity(&metadata))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            page => page?,
        };
        // Anybody may leave a file of that name there.
        let owner = page.metadata()?.uid();
        // SAFETY: changes nothing.
        let is_trusted =
            owner == metadata.uid() || owner == 0 || owner == unsafe { libc::geteuid() };
        let is_its = page.has_begun() && page.file() == identity(&metadata);
        if !is_trusted || !is_its || !page.is_locked()? {
            return Ok(None);
        }
        Ok(Some(Self { recording, page, watermark, at: 0, end: None }))
    }

    /// Where it stands: behind what it has read.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Up to where it may read now. No system call.
    pub fn limit(&self) -> u64 {
        self.limit_of(&self.page.look())
    }

    /// How the recording has ended, once a read has met that.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// As `read` of [`Read`], but never waits: `None` if nothing more is there yet.
    ///
    /// # Errors
    /// An [`End`] that is no close; those of reading.
    pub fn try_read(&mut self, bytes: &mut [u8]) -> io::Result<Option<usize>> {
        if self.end == Some(End::Replaced) {
            return self.ends(End::Replaced);
        }
        if bytes.is_empty() {
            return Ok(Some(0));
        }
        let look = self.page.look();
        let limit = self.limit_of(&look);
        if self.at >= limit {
            return match (self.end, look.state) {
                (Some(end), _) => self.ends(end),
                (None, State::Live) => Ok(None),
                (None, State::Closed) => self.ends(End::Closed { len: limit }),
                (None, State::Failed) => self.ends(End::Failed { at: limit }),
            };
        }
        let len = bytes.len().min(usize::try_from(limit - self.at).unwrap_or(usize::MAX));
        let read = self.recording.read_at(&mut bytes[..len], self.at)?;
        // A file that is too short was cut by others.
        if read == 0 || self.is_replaced()? {
            return self.ends(End::Replaced);
        }
        self.at += read as u64;
        Ok(Some(read))
    }

    /// As `read` of [`Read`], but waits for at most `limit`; `None` if nothing more is there by then.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("take");
    /// # use std::time::Duration;
    /// use writeflush::follow::{Follower, Watermark};
    ///
    /// let mut writer = writeflush::Options::new().followed(true).create(&path)?;
    /// let mut follower = Follower::open(&path, Watermark::Durable)?;
    /// let (mut bytes, limit) = ([0; 100], Duration::from_millis(1));
    /// assert_eq!(follower.read_timeout(&mut bytes, limit)?, None); // not yet
    /// writer.write_flush(b"durable")?;
    /// assert_eq!(follower.read_timeout(&mut bytes, limit)?, Some(7));
    /// writer.close()?;
    /// assert_eq!(follower.read_timeout(&mut bytes, limit)?, Some(0)); // and no more
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read). Reading itself is not cut short, however long the disk takes.
    pub fn read_timeout(&mut self, bytes: &mut [u8], limit: Duration) -> io::Result<Option<usize>> {
        self.read_by(bytes, Instant::now().checked_add(limit))
    }

    /// `None` when the deadline has passed; never without one.
    pub(crate) fn read_by(
        &mut self,
        bytes: &mut [u8],
        by: Option<Instant>,
    ) -> io::Result<Option<usize>> {
        loop {
            let read = self.try_read(bytes)?;
            if read.is_some() || !self.wait_by(by)? {
                return Ok(read);
            }
        }
    }

    /// Waits until there is something to read, or the recording has ended; for `limit` at most. `false`
    /// when that has passed.
    ///
    /// # Errors
    /// Those of asking whether the writer lives.
    pub fn wait(&mut self, limit: Duration) -> io::Result<bool> {
        self.wait_by(Instant::now().checked_add(limit))
    }

    fn wait_by(&mut self, by: Option<Instant>) -> io::Result<bool> {
        loop {
            let ticket = self.page.ticket();
            let look = self.page.look();
            if self.end.is_some() || look.state != State::Live || self.at < self.limit_of(&look) {
                return Ok(true);
            }
            let left = by.map_or(PULSE, |by| by.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return self.has_died(); // so that who never waits hears of it too
            }
            self.page.sleep(ticket, left.min(PULSE));
            if self.page.ticket() == ticket && self.has_died()? {
                return Ok(true);
            }
        }
    }

    /// Whether nobody writes any more who has said nothing of it.
    fn has_died(&mut self) -> io::Result<bool> {
        if self.page.is_locked()? {
            return Ok(false);
        }
        // Whatever it posted is there by now.
        let look = self.page.look();
        let at = self.limit_of(&look);
        if look.state == State::Live && self.at >= at {
            self.end = Some(if self.is_replaced()? { End::Replaced } else { End::Died { at } });
        }
        Ok(self.end.is_some())
    }

    /// Whether somebody else may have written to the file.
    fn is_replaced(&self) -> io::Result<bool> {
        if self.page.is_named()? {
            return Ok(false); // every other writer takes the name away first
        }
        Ok(match self.page.left() {
            Some(left) => modified(&self.recording.metadata()?) != left,
            None => true,
        })
    }

    fn ends(&mut self, end: End) -> io::Result<Option<usize>> {
        self.end = Some(end);
        match end {
            End::Closed { .. } => Ok(Some(0)),
            end => Err(end.into()),
        }
    }

    fn limit_of(&self, look: &Look) -> u64 {
        match self.watermark {
            Watermark::Written => look.written,
            Watermark::Durable => look.durable,
        }
    }
}

impl Read for Follower {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(self.read_by(bytes, None)?.unwrap_or(0)) // without a deadline there is an answer
    }
}

impl Seek for Follower {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(from) => self.limit().checked_add_signed(from),
            SeekFrom::Current(from) => self.at.checked_add_signed(from),
        };
        let before = || io::Error::new(io::ErrorKind::InvalidInput, "before the start of the file");
        self.at = at.ok_or_else(before)?;
        Ok(self.at)
    }
}
