//! Reading a recording in segments while it is written.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// The segment that is read.
#[derive(Debug)]
enum Open {
    /// Its writer is at work.
    Live(Box<frames::Follower>),
    /// It was closed.
    Whole(Box<frames::Reader<File>>),
}

impl Open {
    fn read(&mut self) -> Result<Option<reader::Item>, Error> {
        match self {
            Self::Live(follower) => follower.read(),
            Self::Whole(reader) => reader.next().transpose(),
        }
    }

    fn generation(&self) -> u64 {
        match self {
            Self::Live(follower) => follower.reader.generation(),
            Self::Whole(reader) => reader.generation(),
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
        follower.held = follower.begin(&segment)?.map(Item::Segment);
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
        if let Some(item) = self.held.take() {
            return Ok(Some(item));
        }
        loop {
            let Some(open) = &mut self.segment else {
                let Some(segment) = self.next_segment()? else { return Ok(None) };
                if let Some(begins) = self.begin(&segment)? {
                    return Ok(Some(Item::Segment(begins)));
                }
                continue;
            };
            match open.read()? {
                Some(reader::Item::Frame(frame)) if frame.sequence < self.from => {
                    self.chain.due_is_whatever();
                }
                Some(reader::Item::Frame(frame)) => return Ok(Some(self.give(frame))),
                Some(reader::Item::Hole(hole)) => {
                    self.chain.hole();
                    return Ok(Some(Item::Hole(hole)));
                }
                None => {
                    self.chain.ends();
                    self.segment = None;
                }
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

    /// Opens a segment; `None`: nothing is in it, or it is gone.
    fn begin(&mut self, segment: &Segment) -> Result<Option<Begins>, Error> {
        let open = self.find(segment)?;
        self.after = Some(segment.sequence);
        let Some(open) = open else { return Ok(None) };
        let generation = open.generation();
        let origin = open.head().map(|head| head.origin).filter(|_| self.from == 0);
        let anew = self.chain.begins(segment.sequence, generation, origin);
        self.segment = Some(open);
        Ok(Some(Begins { segment: segment.clone(), generation, anew }))
    }

    fn find(&self, segment: &Segment) -> Result<Option<Open>, Error> {
        const SOON: Duration = Duration::from_millis(10);
        let path = &segment.path;
        loop {
            let nobody = match frames::Follower::open(path, self.watermark) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => error,
                follower => return follower.map(|it| Some(Open::Live(Box::new(it)))),
            };
            // Asked before it is read: who has it may close it, or begin it, meanwhile.
            let is_in_use = self.listing.is_in_use(segment)?;
            let reader = frames::Reader::open_if_begun(path, self.chain.generation())?;
            let Some(mut reader) = reader else {
                if !is_in_use {
                    return Ok(None);
                }
                std::thread::sleep(SOON); // its open goes on
                continue;
            };
            if reader.is_closed()? {
                return Ok(Some(Open::Whole(Box::new(reader))));
            }
            match first_of(segment)? {
                None if !is_in_use => return Ok(None), // it was ready, and never began
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
