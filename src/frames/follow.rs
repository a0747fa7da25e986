//! Reading frames while they are written.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

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
        let path = path.as_ref();
        let mut follower = follow::Follower::open(path, watermark)?;
        let begun = wait_behind(&mut follower, HEAD as u64 - 1);
        begun.map_err(|error| Error::io("follow", Some(path), error))?;
        let reader = Reader::new(SoFar(follower)).map_err(|error| error.of(path))?;
        Ok(Self { reader })
    }

    /// The next frame or hole; waits for it. `None`: the recording was closed, and this was all.
    ///
    /// # Errors
    /// [`Error::Io`] with an [`End`] that is no close; and as of [`Reader::read`].
    pub fn read(&mut self) -> Result<Option<Item>, Error> {
        loop {
            if let Some(item) = self.reader.next() {
                return item.map(Some);
            }
            let seen = self.reader.len();
            let more = wait_behind(&mut self.reader.source().0, seen);
            if !more.map_err(|error| Error::io("follow", None, error))? {
                return Ok(None);
            }
            self.reader.refresh()?;
        }
    }

    /// How the recording has ended, once a read has met that.
    pub fn end(&mut self) -> Option<End> {
        self.reader.source().0.end()
    }
}

/// Waits for the byte at a position; `false` if the recording was closed without it.
fn wait_behind(follower: &mut follow::Follower, position: u64) -> io::Result<bool> {
    follower.seek(SeekFrom::Start(position))?;
    loop {
        match follower.try_read(&mut [0])? {
            Some(read) => return Ok(read > 0),
            None => drop(follower.wait(Duration::MAX)?),
        }
    }
}
