//! How a framed recording in segments is begun.

use std::sync::Arc;

use super::resume::{self, Resumed};
use super::writer::Writer;
use crate::canary::Canary;
use crate::frames::cookie::Cookie;
use crate::frames::error::Error;
use crate::frames::format::{HEAD, Head, LAST_FIRST, LONGEST};
use crate::frames::reader::DEFAULT_LIMIT;
use crate::frames::writer::Book;
use crate::overrun::OnFull;
use crate::random;
use crate::segments;

/// How to begin a framed recording in segments: the [options](crate::segments::Options) of the
/// segments below, and what is the frames' own.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let folder = directory.path();
/// use writeflush::frames::segments::Options;
/// use writeflush::segments::{self, Event};
///
/// let files = segments::Options::new(folder.join("take-{seq:06}.frames")).size(1 << 30).on_event(|event| {
///     if let Event::Closed(closed) = event
///         && let Some(frames) = closed.frames
///     {
///         println!("{}: {} messages", closed.segment.path.display(), frames.frames);
///     }
/// });
/// let mut writer = Options::from(files).longest(1 << 20).open()?;
/// writer.write(writeflush::frames::now(), b"a message")?;
/// writer.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Options {
    pub(super) below: segments::Options,
    first: u64,
    pub(super) longest: usize,
}

/// Over segments that are made so. They have no [head](crate::segments::Options::head) or
/// [tail](crate::segments::Options::tail) of the program's, no
/// [`frame_bytes`](crate::segments::Options::frame_bytes), and no [`OnFull::Fill`]. Their
/// [size](crate::segments::Options::size) counts the frames with their headers.
impl From<segments::Options> for Options {
    fn from(below: segments::Options) -> Self {
        Self { below, first: 0, longest: DEFAULT_LIMIT }
    }
}

impl Options {
    /// The number of the first frame of a new recording (default 0, at most 2^62).
    pub fn first_sequence(mut self, number: u64) -> Self {
        self.first = number;
        self
    }

    /// The longest payload, in bytes (default 64 MiB, at most [`LONGEST`]). One that is longer than a
    /// segment should be gets a segment of its own.
    pub fn longest(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }

    /// Begins a new recording, as [`segments::Options::open`]: what an earlier one has left stays as it
    /// is, and readers read it before this one. Blocks.
    ///
    /// # Errors
    /// [`Error::Options`], and [`Error::Writer`] as there.
    pub fn open(self) -> Result<Writer, Error> {
        self.check()?;
        let framing = Framing::anew(self.first);
        self.begin(framing)
    }

    /// Goes on with the recording that is in the folder, whatever became of its last writer: recovers
    /// the segments that nobody has closed, and begins the next one, with its generation and its
    /// numbers. Where none is, it begins a new recording. [The module](super) says how. Blocks: reads
    /// those segments.
    ///
    /// # Errors
    /// [`Error::Writer`] with [`Locked`](crate::Error::Locked) while a writer has one of them;
    /// [`Error::NotFramed`] if one of them is somebody else's file; as
    /// [`frames::Options::recover`](crate::frames::Options::recover), and as [`open`](Self::open).
    /// What has been recovered by then stays so.
    pub fn resume(self) -> Result<(Writer, Resumed), Error> {
        self.check()?;
        let (resumed, framing) = resume::run(&self)?;
        let framing = framing.unwrap_or_else(|| Framing::anew(self.first));
        let next_sequence = framing.next();
        Ok((self.begin(framing)?, Resumed { next_sequence, ..resumed }))
    }

    fn begin(self, framing: Framing) -> Result<Writer, Error> {
        let recording = framing.recording;
        let below = self.below.framed(framing).open()?;
        Ok(Writer::over(below, recording, self.longest))
    }

    /// As [`open`](Self::open), without the thread.
    #[cfg(all(test, unix, not(any(loom, shuttle))))]
    pub(super) fn begin_by_hand(self) -> Result<(Writer, segments::Keeper), Error> {
        self.check()?;
        let framing = Framing::anew(self.first);
        let recording = framing.recording;
        let (below, keeper) = self.below.framed(framing).begin()?;
        Ok((Writer::over(below, recording, self.longest), keeper))
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if let Some(sentence) = self.below.refuses_frames() {
            return Err(Error::Options(sentence));
        }
        if self.first > LAST_FIRST {
            return Err(Error::Options("a recording begins with a number up to 2^62: give one"));
        }
        if self.longest > LONGEST {
            return Err(Error::Options("a frame has at most 1 GiB: give a lower limit"));
        }
        if let OnFull::Fill(_) = self.below.of_each().on_full {
            return Err(Error::Options(
                "fill bytes are no frames: choose the policy Drop, under which a loss shows as a gap \
                 of numbers",
            ));
        }
        Ok(())
    }
}

/// What the heads of a recording's segments say.
#[derive(Clone, Debug)]
pub(crate) struct Framing {
    /// The generation of all segments but those that are recycled.
    recording: u64,
    /// Number of the recording's first frame.
    origin: u64,
    /// Number of the first frame of the next segment, if that is known.
    first: Option<u64>,
    /// The last one so far; goes on with the next segment.
    cookie: Option<Arc<Cookie>>,
}

impl Framing {
    fn anew(first: u64) -> Self {
        Self { recording: random::number(), origin: first, first: Some(first), cookie: None }
    }

    pub(super) fn going_on(head: &Head, next: u64, cookie: Option<Arc<Cookie>>) -> Self {
        Self { recording: head.recording, origin: head.origin, first: Some(next), cookie }
    }

    fn next(&self) -> u64 {
        self.first.unwrap_or(self.origin)
    }

    /// For the next segment: all but the first are made before anybody knows what comes into them.
    /// `over`: that number, in a file that keeps its old blocks.
    pub(crate) fn begin(&mut self, over: Option<u64>) -> ([u8; HEAD], Book) {
        let Self { recording, origin, .. } = *self;
        let generation = match over {
            Some(_) if !Canary::SameGeneration.is_planted() => random::number(),
            _ => recording,
        };
        let (first, segment) = (self.first.take(), over.unwrap_or(0));
        let head = Head { generation, recording, first, origin, segment };
        let mut book = Book::new(&head);
        book.cookie = self.cookie.take();
        (head.encode(), book)
    }
}
