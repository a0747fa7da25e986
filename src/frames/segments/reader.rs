//! Reading a recording in segments: forwards, from its start, a place, a number or a time.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::chain::{Chain, Met};
use super::item::{Begins, Item};
use crate::frames;
use crate::frames::error::Error;
use crate::frames::format::{HEAD, HEADER, Head, Header, Kind};
use crate::frames::reader::{DEFAULT_LIMIT, End, Frame, Hole, Spot, Stepped, View};
use crate::host::System;
use crate::segments::{Listing, Segment};

/// Reads the frames of all segments of a pattern, one after the other, the oldest first. Where a new
/// recording was begun in the same folder, an [`Item::Segment`] says so.
///
/// The recording may go on meanwhile: the reader ends in the first segment that its writer still has,
/// and [`refresh`](Self::refresh) looks again. (To wait for what comes, follow it. Whether a writer has it
/// is asked of its lock, which the reader holds for a moment then.) Segments that are
/// removed meanwhile are missing as if they had been before.
///
/// As an iterator it gives [`Item`]s that own their payload, and ends behind the last segment or the
/// first error; [`read`](Self::read) lends the payload instead. Every call may read from the disk, and
/// blocks as that does. One segment is open at a time; memory as of a
/// [`frames::Reader`](crate::frames::Reader). See [the module](super) for an example.
#[derive(Debug)]
pub struct Reader {
    listing: Listing,
    segments: Vec<Segment>,
    /// The next one in them.
    next: usize,
    open: Option<frames::Reader<File>>,
    /// Nobody writes to that any more, and all of it is seen.
    is_whole: bool,
    /// What is to be told before anything more is read.
    held: Vec<Held>,
    chain: Chain,
    limit: usize,
    end: Option<End>,
    failed: bool,
}

#[derive(Debug)]
enum Held {
    Segment(Begins),
    Hole(Hole),
    Frame(Spot),
}

impl Reader {
    /// Looks which segments the pattern has, and stands at the beginning of the oldest.
    ///
    /// # Errors
    /// [`Error::Writer`] as of [`segments::list`](crate::segments::list).
    pub fn open(pattern: impl AsRef<Path>) -> Result<Self, Error> {
        let listing = Listing::new(pattern.as_ref(), &System)?;
        Ok(Self {
            segments: listing.segments()?,
            listing,
            next: 0,
            open: None,
            is_whole: false,
            held: Vec::new(),
            chain: Chain::default(),
            limit: DEFAULT_LIMIT,
            end: None,
            failed: false,
        })
    }

    /// The longest payload to read, as of [`frames::Reader`](crate::frames::Reader::limit).
    #[must_use]
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// The segments that are read, the oldest first.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The one in which it stands.
    pub fn segment(&self) -> Option<&Segment> {
        self.open.as_ref().and(self.next.checked_sub(1)).and_then(|at| self.segments.get(at))
    }

    /// Where it stands in the file of that segment.
    pub fn position(&self) -> u64 {
        let stands = |reader: &frames::Reader<File>| reader.position();
        let held = self.held.iter().find_map(|held| match held {
            Held::Frame(spot) => Some(spot.position),
            _ => None,
        });
        held.unwrap_or_else(|| self.open.as_ref().map_or(0, stands))
    }

    /// How the last segment ends, once nothing more came; `None` also if there is none.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// What comes next; `None` at the end of the last segment. A frame's payload is lent until the
    /// next call.
    ///
    /// # Errors
    /// [`Error::NotFramed`] and [`Error::Version`] for a segment that is none: the next call goes on in
    /// the one behind it. [`Error::TooLong`] and [`Error::Io`]: the next call tries the same place again.
    pub fn read(&mut self) -> Result<Option<Item<View<'_>>>, Error> {
        loop {
            match self.held.pop() {
                Some(Held::Segment(begins)) => return Ok(Some(Item::Segment(begins))),
                Some(Held::Hole(hole)) => return Ok(Some(Item::Hole(hole))),
                Some(Held::Frame(spot)) => return self.lend(spot),
                None => {}
            }
            match self.step()? {
                Next::Item(item) => return Ok(Some(item)),
                Next::Frame(spot) => return self.lend(spot),
                Next::Over => {}
                Next::End => return Ok(None),
            }
        }
    }

    fn lend(&mut self, spot: Spot) -> Result<Option<Item<View<'_>>>, Error> {
        let Some(reader) = &mut self.open else { return Ok(None) };
        reader.view(spot).map(|view| Some(Item::Frame(view)))
    }

    fn step<F>(&mut self) -> Result<Next<F>, Error> {
        let Some(reader) = &mut self.open else {
            return Ok(if self.open_next()? { Next::Over } else { Next::End });
        };
        match reader.step()? {
            Stepped::Frame(spot) => {
                Ok(match self.chain.frame(spot.header.sequence, spot.missing) {
                    Met::Frame { missing } => Next::Frame(Spot { missing, ..spot }),
                    Met::Gap(gap) => {
                        self.held.push(Held::Frame(Spot { missing: 0, ..spot }));
                        Next::Item(Item::Gap(gap))
                    }
                })
            }
            Stepped::Hole(hole) => {
                self.chain.hole();
                Ok(Next::Item(Item::Hole(hole)))
            }
            Stepped::End(end) => self.segment_ended(end),
        }
    }

    /// A segment that its writer still has is the last for now, whatever may lie behind it.
    fn segment_ended<F>(&mut self, end: End) -> Result<Next<F>, Error> {
        let is_closed = matches!(end, End::Closed { .. });
        let is_last = self.next == self.segments.len();
        if is_last || !is_closed && self.listing.is_in_use(&self.segments[self.next - 1])? {
            self.end = Some(end);
            return Ok(Next::End);
        }
        // What came until nobody had it any more.
        if let Some(reader) = self.open.as_mut().filter(|_| !is_closed && !self.is_whole) {
            reader.refresh()?;
            self.is_whole = true;
            return Ok(Next::Over);
        }
        self.open = None;
        self.chain.ends();
        Ok(match end {
            End::Torn { from, to } => Next::Item(Item::Hole(Hole { from, to })),
            _ => Next::Over,
        })
    }

    /// Begins the next segment that is there, and has a head; `false`: there is none.
    fn open_next(&mut self) -> Result<bool, Error> {
        while let Some(segment) = self.segments.get(self.next).cloned() {
            self.next += 1;
            let opened = frames::Reader::open_if_begun(&segment, self.chain.goes_on())?;
            let Some(reader) = opened else { continue };
            let reader = reader.limit(self.limit);
            let generation = self.chain.recording(reader.head());
            let origin = reader.head().map(|head| head.origin);
            let anew = self.chain.begins(segment.sequence, generation, origin);
            if origin.is_none() {
                self.chain.hole();
                self.held.push(Held::Hole(Hole { from: 0, to: HEAD as u64 }));
            }
            self.held.push(Held::Segment(Begins { segment, generation, anew }));
            (self.open, self.is_whole) = (Some(reader), false);
            return Ok(true);
        }
        Ok(false)
    }

    /// Looks which segments have come, and what has been written to the one in which it stands, and
    /// goes on there.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`Error::Io`].
    pub fn refresh(&mut self) -> Result<(), Error> {
        let last = self.next.checked_sub(1).map(|at| self.segments[at].sequence);
        let mut segments = self.listing.segments()?;
        segments.retain(|segment| last.is_none_or(|last| segment.sequence > last));
        self.segments.truncate(self.next);
        self.segments.append(&mut segments);
        (self.end, self.failed) = (None, false);
        match &mut self.open {
            Some(reader) => reader.refresh(),
            None => Ok(()),
        }
    }

    // ---- seeking ----------------------------------------------------------------------------------

    /// Goes on at the first frame that begins at `position` or behind in the segment of this number; if
    /// that is not there, or ends before, at the first frame of the segments behind it. Whether there is
    /// one. Nothing is missing before it.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn seek_position(&mut self, segment: u64, position: u64) -> Result<bool, Error> {
        let at = self.segments.partition_point(|it| it.sequence < segment);
        self.go_to(at, |reader, number| {
            reader.seek_position(if number == segment { position } else { 0 })
        })
    }

    /// Goes on at the first frame whose number is `sequence` or higher, of the newest recording of the
    /// pattern; whether there is one.
    ///
    /// Segments are halved by their first frames, of which some hundred bytes are read; in one segment
    /// as [`frames::Reader`](crate::frames::Reader::seek_sequence).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn seek_sequence(&mut self, sequence: u64) -> Result<bool, Error> {
        let newest = self.newest()?;
        let is_older = |first: &First| Some(first.recording) != newest;
        let before = |first: &First| is_older(first) || first.sequence < sequence;
        let mut at = self.first_not_before(before)?;
        if let Some(last) = at.checked_sub(1)
            && first_of(&self.segments[last])?.is_some_and(|first| !is_older(&first))
        {
            at = last; // it begins before, and may go beyond
        }
        self.go_to(at, |reader, _| reader.seek_sequence(sequence))
    }

    /// Goes on at the first frame whose time is `time` or later; whether there is one. Where times
    /// descend along the recording it is some frame of that time or later, not for certain the first.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn seek_time(&mut self, time: u64) -> Result<bool, Error> {
        let at = self.first_not_before(|first| first.time < time)?;
        self.go_to(at.saturating_sub(1), |reader, _| reader.seek_time(time))
    }

    /// The generation of the newest recording.
    fn newest(&self) -> Result<Option<u64>, Error> {
        for segment in self.segments.iter().rev() {
            if let Some(first) = first_of(segment)? {
                return Ok(Some(first.recording));
            }
        }
        Ok(None)
    }

    /// The first segment whose first frame is not before what is sought. One without a frame goes with
    /// the one behind it.
    fn first_not_before(&self, is_before: impl Fn(&First) -> bool) -> Result<usize, Error> {
        let (mut from, mut to) = (0, self.segments.len());
        while from < to {
            let middle = from + (to - from) / 2;
            let mut found = None;
            for at in middle..to {
                if let Some(first) = first_of(&self.segments[at])? {
                    found = Some((at, first));
                    break;
                }
            }
            match found {
                Some((at, first)) if is_before(&first) => from = at + 1,
                _ => to = middle,
            }
        }
        Ok(from)
    }

    /// To the first frame that `seek` finds, from this segment on.
    fn go_to(
        &mut self,
        at: usize,
        seek: impl Fn(&mut frames::Reader<File>, u64) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        (self.next, self.open) = (at, None);
        (self.end, self.failed) = (None, false);
        self.held.clear();
        self.chain.let_go();
        while self.open_next()? {
            self.chain.due_is_whatever();
            self.held.retain(|held| matches!(held, Held::Segment(_)));
            let number = self.segments[self.next - 1].sequence;
            if let Some(reader) = &mut self.open
                && seek(reader, number)?
            {
                return Ok(true);
            }
            if self.next == self.segments.len() {
                self.held.clear();
                return Ok(false); // its end is the next that is read
            }
            self.held.clear();
            self.open = None;
        }
        Ok(false)
    }
}

enum Next<F> {
    Item(Item<F>),
    Frame(Spot),
    /// Something is held, or the next segment is due.
    Over,
    End,
}

impl Iterator for Reader {
    type Item = Result<Item, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.end.is_some() {
            return None;
        }
        let owned = |item| match item {
            Item::Segment(begins) => Item::Segment(begins),
            Item::Frame(view) => Item::Frame(Frame::from(view)),
            Item::Hole(hole) => Item::Hole(hole),
            Item::Gap(gap) => Item::Gap(gap),
        };
        let next = self.read().map(|item| item.map(owned));
        self.failed = next.is_err();
        next.transpose()
    }
}

/// The first frame of a segment, by its header alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    recording: u64,
    pub(super) sequence: u64,
    time: u64,
}

/// `None`: it has none, or that is damaged, or the file is gone.
pub(super) fn first_of(segment: &Segment) -> Result<Option<First>, Error> {
    let failed = |error| Error::io("read", Some(&segment.path), error);
    let file = match File::open(&segment.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let mut bytes = Vec::with_capacity(HEAD + HEADER);
    file.take((HEAD + HEADER) as u64).read_to_end(&mut bytes).map_err(failed)?;
    let head = Head::decode(&bytes).ok().filter(|head| !head.is_of_another(segment.sequence));
    let header = bytes.get(HEAD..).and_then(|frame| Header::decode(frame, HEAD as u64));
    Ok(head.zip(header).and_then(|(Head { generation, recording, .. }, header)| {
        let Header { sequence, time, .. } = header;
        let is_its = header.kind == Kind::Data && header.generation == generation;
        is_its.then_some(First { recording, sequence, time })
    }))
}
