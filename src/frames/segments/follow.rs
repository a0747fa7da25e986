//! Reading a recording in segments while it is written.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::chain::{Chain, Met};
use super::item::{Begins, Item};
use super::reader::first_of;
use crate::follow::{End, Watermark};
use crate::frames;
use crate::frames::error::Error;
use crate::frames::format::Head;
use crate::frames::reader::{self, Frame};
use crate::host::System;
use crate::segments::{Listing, Segment};

/// Reads the frames of a recording in segments while it is written, by another process or by this one, up
/// to a watermark: a [`Reader`](super::Reader) that waits. It goes from each segment to the next, no
/// frame is given twice, and none that is above its watermark. See [`follow`](crate::follow).
///
/// Segments that have ended are read as the files that they are; what lies before a footer is durable. One
/// that goes before it is read is a [`Gap`](super::Gap). The last frames of a segment come before the first of the next,
/// so a rotation may hold up a follower for as long as the close of a file takes.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let pattern = directory.path().join("take-{seq}.frames");
/// use writeflush::follow::Watermark;
/// use writeflush::frames::segments::{Follower, Item, Options};
///
/// let below = writeflush::Options::new().followed(true);
/// let files = writeflush::segments::Options::new(&pattern).below(below).size(100);
/// let mut writer = Options::from(files).open()?;
/// let mut follower = Follower::open(&pattern, Watermark::Durable)?;
/// for number in 0..10u64 {
///     writer.write(number, b"a message of some length")?;
/// }
/// writer.close()?;
/// let mut numbers = Vec::new();
/// while let Some(item) = follower.read()? {
///     if let Item::Frame(frame) = item {
///         numbers.push(frame.sequence);
///     }
/// }
/// assert!(numbers.into_iter().eq(0..10));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Follower {
    listing: Listing,
    path: PathBuf,
    watermark: Watermark,
    /// Frames with lower numbers are not given.
    from: u64,
    /// The segment that was looked at last.
    after: Option<u64>,
    segment: Option<Open>,
    /// What comes next: a frame behind a gap, or the first segment.
    held: Option<Item>,
    chain: Chain,
}

/// What became of a segment that was to be opened.
enum Found {
    Open(Open),
    /// Nothing is in it, or it is gone.
    Nothing,
    /// Its writer is at its open, and the deadline has passed.
    NotYet,
}

/// The segment that is read.
#[derive(Debug)]
enum Open {
    /// Its writer is at work.
    Live(Box<frames::Follower>),
    /// It was closed.
    Whole(Box<frames::Reader<File>>),
}

impl Open {
    /// `None` when the deadline has passed.
    fn read_by(&mut self, by: Option<Instant>) -> Result<Option<Option<reader::Item>>, Error> {
        match self {
            Self::Live(follower) => follower.read_by(by),
            Self::Whole(reader) => reader.next().transpose().map(Some),
        }
    }

    fn head(&self) -> Option<&Head> {
        match self {
            Self::Live(follower) => follower.reader.head(),
            Self::Whole(reader) => reader.head(),
        }
    }
}

impl Follower {
    /// Follows the recording of this pattern from the oldest segment on that is there. Its writer's
    /// options below need [`followed`](crate::Options::followed).
    ///
    /// # Errors
    /// [`Error::Writer`] as of [`segments::list`](crate::segments::list), and as [`read`](Self::read);
    /// of the kind `NotFound` while no segment is there.
    pub fn open(pattern: impl AsRef<Path>, watermark: Watermark) -> Result<Self, Error> {
        Self::open_at(pattern, watermark, 0)
    }

    /// As [`open`](Self::open), from the frame of this number on: where an earlier follower has stopped.
    /// Whole segments that end before are not read.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_at(
        pattern: impl AsRef<Path>,
        watermark: Watermark,
        sequence: u64,
    ) -> Result<Self, Error> {
        let path = pattern.as_ref().to_path_buf();
        let listing = Listing::new(&path, &System)?;
        let mut follower = Self {
            after: before(&listing.segments()?, sequence)?,
            listing,
            path,
            watermark,
            from: sequence,
            segment: None,
            held: None,
            chain: Chain::default(),
        };
        let Some(segment) = follower.next_segment()? else {
            let nothing =
                io::Error::new(io::ErrorKind::NotFound, "no segment of that name is there");
            return Err(Error::io("follow", Some(&follower.path), nothing));
        };
        if let Some(Some(begins)) = follower.begin(&segment, None)? {
            follower.held = Some(Item::Segment(begins));
        }
        Ok(follower)
    }

    /// The next segment, frame, hole or gap; waits for it. `None`: the recording was closed, and this
    /// was all.
    ///
    /// # Errors
    /// [`Error::Io`] with an [`End`] that is no close; [`Error::Writer`] of the kind `NotFound` at a
    /// segment that nobody has closed and nobody can be followed in (its recorder was killed: see
    /// [`Options::resume`](super::Options::resume)); and as of
    /// [`Reader::read`](super::Reader::read).
    pub fn read(&mut self) -> Result<Option<Item>, Error> {
        loop {
            if let Some(item) = self.read_by(None)? {
                return Ok(item);
            }
        }
    }

    /// As [`read`](Self::read), but waits for at most `limit`; `None` if nothing whole has come by then,
    /// and `Some(None)` when the recording was closed, and this was all.
    ///
    /// # Errors
    /// As [`read`](Self::read). Reading itself is not cut short, however long the disk takes.
    pub fn read_timeout(&mut self, limit: Duration) -> Result<Option<Option<Item>>, Error> {
        self.read_by(Instant::now().checked_add(limit))
    }

    /// `None` when the deadline has passed; never without one.
    fn read_by(&mut self, by: Option<Instant>) -> Result<Option<Option<Item>>, Error> {
        if let Some(item) = self.held.take() {
            return Ok(Some(Some(item)));
        }
        loop {
            let Some(open) = &mut self.segment else {
                let Some(segment) = self.next_segment()? else { return Ok(Some(None)) };
                match self.begin(&segment, by)? {
                    Some(Some(begins)) => return Ok(Some(Some(Item::Segment(begins)))),
                    Some(None) => continue,
                    None => return Ok(None),
                }
            };
            let Some(item) = open.read_by(by)? else { return Ok(None) };
            if let Some(item) = self.pass(item) {
                return Ok(Some(Some(item)));
            }
        }
    }

    /// What is given of what was read; `None` at the end of a segment too.
    fn pass(&mut self, item: Option<reader::Item>) -> Option<Item> {
        match item {
            Some(reader::Item::Frame(frame)) if frame.sequence < self.from => {
                self.chain.due_is_whatever();
                None
            }
            Some(reader::Item::Frame(frame)) => Some(self.give(frame)),
            Some(reader::Item::Hole(hole)) => {
                self.chain.hole();
                Some(Item::Hole(hole))
            }
            None => {
                self.chain.ends();
                self.segment = None;
                None
            }
        }
    }

    fn give(&mut self, frame: Frame) -> Item {
        match self.chain.frame(frame.sequence, frame.missing) {
            Met::Frame { missing } => Item::Frame(Frame { missing, ..frame }),
            Met::Gap(gap) => {
                self.held = Some(Item::Frame(Frame { missing: 0, ..frame }));
                Item::Gap(gap)
            }
        }
    }

    /// When a segment was closed, the next one is there already, or none will be.
    fn next_segment(&self) -> Result<Option<Segment>, Error> {
        let segments = self.listing.segments()?.into_iter();
        let mut behind = segments.filter(|it| self.after.is_none_or(|after| it.sequence > after));
        Ok(behind.next())
    }

    /// Opens a segment; `Some(None)`: nothing is in it, or it is gone; `None`: the deadline has passed.
    fn begin(
        &mut self,
        segment: &Segment,
        by: Option<Instant>,
    ) -> Result<Option<Option<Begins>>, Error> {
        let found = self.find(segment, by)?;
        if matches!(found, Found::NotYet) {
            return Ok(None); // it is looked for again
        }
        self.after = Some(segment.sequence);
        let Found::Open(open) = found else { return Ok(Some(None)) };
        let generation = self.chain.recording(open.head());
        let origin = open.head().map(|head| head.origin).filter(|_| self.from == 0);
        let anew = self.chain.begins(segment.sequence, generation, origin);
        self.segment = Some(open);
        Ok(Some(Some(Begins { segment: segment.clone(), generation, anew })))
    }

    fn find(&self, segment: &Segment, by: Option<Instant>) -> Result<Found, Error> {
        const SOON: Duration = Duration::from_millis(10);
        let path = &segment.path;
        loop {
            let nobody = match frames::Follower::open_by(path, self.watermark, by) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => error,
                follower => {
                    let live = |it: frames::Follower| match it.reader.head() {
                        // It became another one before it was open.
                        Some(head) if head.is_of_another(segment.sequence) => Found::Nothing,
                        _ => Found::Open(Open::Live(Box::new(it))),
                    };
                    return follower.map(|it| it.map_or(Found::NotYet, live));
                }
            };
            // Asked before it is read: who has it may close it, or begin it, meanwhile.
            let is_in_use = self.listing.is_in_use(segment)?;
            let reader = frames::Reader::open_if_begun(segment, self.chain.goes_on())?;
            let Some(mut reader) = reader else {
                if !is_in_use {
                    return Ok(Found::Nothing);
                }
                if by.is_some_and(|by| Instant::now() >= by) {
                    return Ok(Found::NotYet);
                }
                std::thread::sleep(SOON); // its open goes on
                continue;
            };
            if reader.is_closed()? {
                return Ok(Found::Open(Open::Whole(Box::new(reader))));
            }
            match first_of(segment)? {
                None if !is_in_use => return Ok(Found::Nothing), // it was ready, and never began
                _ => return Err(nobody),
            }
        }
    }

    /// How the recording has ended, once a read has met that: by an end of the last segment's writer.
    pub fn end(&mut self) -> Option<End> {
        match &mut self.segment {
            Some(Open::Live(follower)) => follower.end(),
            _ => None,
        }
    }
}

/// The segment before the last one that begins with this number or before: all up to it are passed over.
fn before(segments: &[Segment], sequence: u64) -> Result<Option<u64>, Error> {
    for (at, segment) in segments.iter().enumerate().rev() {
        if first_of(segment)?.is_some_and(|first| first.sequence <= sequence) {
            return Ok(at.checked_sub(1).map(|before| segments[before].sequence));
        }
    }
    Ok(None)
}
