//! What a program does of its own at the ends of a segment. All of it is called on the keeper's thread
//! (the first head on the thread that opens).

use std::fmt;
use std::time::SystemTime;

use super::cut::Cut;
use super::ledger::{Live, Segment};
use crate::error::Error;
use crate::frames::{Book, Framed, Framing};
use crate::summary::Summary;

/// What has happened to the segments.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A segment is closed, and durable.
    Closed(Box<Closed>),
    /// A segment was not to be kept any longer, and is gone, durably.
    Removed(Segment),
    /// A segment should have gone, and is still there: somebody writes to it, another file has its name,
    /// or the system says no. It is left alone from now on.
    NotRemoved(Error),
    /// The next segment can't be made. The recording goes on in the current one, and it is tried again
    /// from time to time; told once.
    NotReady(Error),
}

/// A segment that is closed, and durable: its name, its bytes, its length.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Closed {
    /// Which one.
    pub segment: Segment,
    /// Where its data begins in the whole recording.
    pub position: u64,
    /// Bytes of its data, without head and tail.
    pub bytes: u64,
    /// When it began to take data: at the rotation, or at the open.
    pub began: SystemTime,
    /// When it ended: at the rotation, or at the close.
    pub ended: SystemTime,
    /// Which frames are in it, where the recording has [frames](crate::frames::segments).
    pub frames: Option<Framed>,
    /// Of its writer: losses and where they are in the file, length, histograms.
    pub summary: Summary,
}

impl Closed {
    pub(super) fn new(live: &Live, frames: Option<Framed>, summary: Summary) -> Self {
        let (position, end) = (live.begins().unwrap_or(0), live.ends().unwrap_or(0));
        Self {
            segment: live.segment.clone(),
            position,
            bytes: end.saturating_sub(position),
            began: live.began(),
            ended: live.ended(),
            frames,
            summary,
        }
    }
}

/// The end of a segment: what a [tail](super::Options::tail) may still do to it.
#[derive(Debug)]
pub struct Tail<'a> {
    writer: &'a mut crate::Writer,
    live: &'a Live,
    cut: Cut,
}

impl<'a> Tail<'a> {
    pub(super) fn new(writer: &'a mut crate::Writer, live: &'a Live, cut: Cut) -> Self {
        Self { writer, live, cut }
    }

    /// Which one.
    pub fn segment(&self) -> &Segment {
        &self.live.segment
    }

    /// Bytes of its head.
    pub fn head(&self) -> u64 {
        self.live.head
    }

    /// Bytes of its data.
    pub fn bytes(&self) -> u64 {
        self.live.data_in(u64::MAX)
    }

    /// When it began to take data.
    pub fn began(&self) -> SystemTime {
        self.live.began()
    }

    /// When it ended.
    pub fn ended(&self) -> SystemTime {
        self.live.ended()
    }

    /// Appends to the file: a trailer. Blocks.
    ///
    /// # Errors
    /// The error that ended the recording.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.writer.append_blocking(bytes)
    }

    /// Makes everything before it durable, then overwrites the bytes at `offset` with what `header` makes
    /// of the bytes of data that are durable (of whole frames, where there are frames): all of them, but
    /// on a disk that is full. Then that is made durable, too. Blocks.
    ///
    /// # Errors
    /// As [`Control::checkpoint`](crate::Control::checkpoint).
    pub fn checkpoint<H: AsRef<[u8]>>(
        &mut self,
        offset: u64,
        header: impl FnOnce(u64) -> H,
    ) -> Result<(), Error> {
        let (live, cut) = (self.live, self.cut);
        let header = |position| header(cut.whole(live.data_in(position)));
        self.writer.checkpoint(offset, header).map(drop)
    }
}

type Head = dyn FnMut(&Segment) -> Vec<u8> + Send;
type TailHook = dyn FnMut(&mut Tail<'_>) -> Result<(), Error> + Send;
type OnEvent = dyn FnMut(Event) + Send;

/// What the program gave.
pub(super) struct Hooks {
    pub(super) head: Box<Head>,
    pub(super) tail: Box<TailHook>,
    pub(super) event: Box<OnEvent>,
    /// Frames have heads and footers of their own.
    pub(super) framing: Option<Framing>,
    /// The program has said what a head or a tail is.
    pub(super) has_ends: bool,
}

impl Hooks {
    /// What a segment begins with. `over`: in a file that keeps its old blocks.
    pub(super) fn begin(&mut self, segment: &Segment, over: bool) -> (Vec<u8>, Option<Box<Book>>) {
        match &mut self.framing {
            Some(framing) => {
                let (head, book) = framing.begin(over.then_some(segment.sequence));
                (head.into(), Some(Box::new(book)))
            }
            None => ((self.head)(segment), None),
        }
    }

    /// What it ends with.
    pub(super) fn end(
        &mut self,
        tail: &mut Tail<'_>,
        book: Option<&mut Book>,
    ) -> Result<(), Error> {
        match book {
            Some(book) => book.write_footer(tail.writer),
            None => (self.tail)(tail),
        }
    }
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            head: Box::new(|_| Vec::new()),
            tail: Box::new(|_| Ok(())),
            event: Box::new(drop),
            framing: None,
            has_ends: false,
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}
