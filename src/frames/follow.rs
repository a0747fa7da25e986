//! Reading frames while they are written.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::Error;
use super::format::HEAD;
use super::reader::{Item, Reader};
use crate::follow::{self, End, Watermark};

/// Reads the frames of a recording while it is written, by another process or by this one, up to a
/// watermark: a [`Reader`] that waits. See [`follow`](crate::follow).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("take");
/// use writeflush::follow::Watermark;
/// use writeflush::frames::{Follower, Item, Options};
///
/// let mut writer = Options::from(writeflush::Options::new().followed(true)).create(&path)?;
/// let mut follower = Follower::open(&path, Watermark::Durable)?;
/// writer.write(1_000, b"a message")?;
/// writer.flush()?;
/// let Some(Item::Frame(frame)) = follower.read()? else { panic!() };
/// assert_eq!(frame.payload, b"a message");
/// writer.close()?;
/// assert_eq!(follower.read()?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Follower {
    pub(super) reader: Reader<SoFar>,
}

/// A recording that ends at the watermark of the moment.
#[derive(Debug)]
pub(super) struct SoFar(follow::Follower);

impl Read for SoFar {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(self.0.try_read(bytes)?.unwrap_or(0))
    }
}

impl Seek for SoFar {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl Follower {
    /// Follows the framed recording that is being written at `path`. Waits until its head is below the
    /// watermark, as it is when the open of its writer has returned.
    ///
    /// # Errors
    /// [`Error::Writer`] as of [`follow::Follower::open`]; [`Error::Io`] with an [`End`]; and as of
    /// [`Reader::new`].
    pub fn open(path: impl AsRef<Path>, watermark: Watermark) -> Result<Self, Error> {
        loop {
            if let Some(follower) = Self::open_by(path.as_ref(), watermark, None)? {
                return Ok(follower);
            }
        }
    }

    /// As [`open`](Self::open); `None` when the deadline has passed, and never without one.
    pub(super) fn open_by(
        path: &Path,
        watermark: Watermark,
        by: Option<Instant>,
    ) -> Result<Option<Self>, Error> {
        let mut follower = follow::Follower::open(path, watermark)?;
        let begun = wait_behind(&mut follower, HEAD as u64 - 1, by);
        if begun.map_err(|error| Error::io("follow", Some(path), error))?.is_none() {
            return Ok(None);
        }
        let reader = Reader::new(SoFar(follower)).map_err(|error| error.of(path))?;
        Ok(Some(Self { reader }))
    }

    /// The next frame or hole; waits for it. `None`: the recording was closed, and this was all.
    ///
    /// # Errors
    /// [`Error::Io`] with an [`End`] that is no close; and as of [`Reader::read`].
    pub fn read(&mut self) -> Result<Option<Item>, Error> {
        loop {
            if let Some(item) = self.read_by(None)? {
                return Ok(item);
            }
        }
    }

    /// As [`read`](Self::read), but waits for at most `limit`; `None` if no whole frame has come by then,
    /// and `Some(None)` when the recording was closed, and this was all.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("take");
    /// # use std::time::Duration;
    /// # use writeflush::follow::Watermark;
    /// # use writeflush::frames::{Follower, Item, Options};
    /// let mut writer = Options::from(writeflush::Options::new().followed(true)).create(&path)?;
    /// let mut follower = Follower::open(&path, Watermark::Durable)?;
    /// let limit = Duration::from_millis(1);
    /// assert_eq!(follower.read_timeout(limit)?, None); // not yet: look after something else
    /// writer.write(1_000, b"a message")?;
    /// writer.flush()?;
    /// assert!(matches!(follower.read_timeout(limit)?, Some(Some(Item::Frame(_)))));
    /// writer.close()?;
    /// assert_eq!(follower.read_timeout(limit)?, Some(None)); // no more
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`read`](Self::read). Reading itself is not cut short, however long the disk takes.
    pub fn read_timeout(&mut self, limit: Duration) -> Result<Option<Option<Item>>, Error> {
        self.read_by(Instant::now().checked_add(limit))
    }

    /// `None` when the deadline has passed; never without one.
    pub(super) fn read_by(&mut self, by: Option<Instant>) -> Result<Option<Option<Item>>, Error> {
        loop {
            if let Some(item) = self.reader.next() {
                return item.map(|item| Some(Some(item)));
            }
            let seen = self.reader.len();
            let more = wait_behind(&mut self.reader.source().0, seen, by);
            match more.map_err(|error| Error::io("follow", None, error))? {
                Some(true) => self.reader.refresh()?,
                Some(false) => return Ok(Some(None)),
                None => return Ok(None),
            }
        }
    }

    /// How the recording has ended, once a read has met that.
    pub fn end(&mut self) -> Option<End> {
        self.reader.source().0.end()
    }
}

/// Waits for the byte at a position; `false` if the recording was closed without it, `None` when the
/// deadline has passed.
fn wait_behind(
    follower: &mut follow::Follower,
    position: u64,
    by: Option<Instant>,
) -> io::Result<Option<bool>> {
    follower.seek(SeekFrom::Start(position))?;
    Ok(follower.read_by(&mut [0], by)?.map(|read| read > 0))
}
