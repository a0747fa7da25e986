//! What a reader of a recording in segments meets.

use crate::frames::reader::{Frame, Hole};
use crate::segments::Segment;

/// What a reader meets: `F` is a [`Frame`] or a [`View`](crate::frames::View), whose position is that
/// in its segment's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<F = Frame> {
    /// A segment begins; what follows is in it.
    Segment(Begins),
    /// A frame.
    Frame(F),
    /// Bytes of the segment in which no valid frame lies: damage, or what a power cut has lost, also at
    /// the end of a segment that is not the last.
    Hole(Hole),
    /// Messages that are missing at the beginning of the segment.
    Gap(Gap),
}

/// The beginning of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Begins {
    /// Which one.
    pub segment: Segment,
    /// The generation of its recording.
    pub generation: u64,
    /// Whether its recording is another one than that of the segment before: numbers begin anew. True
    /// of the first that is read, and behind a seek.
    pub anew: bool,
}

/// Messages that are missing between two segments: those of segments that are gone (removed since they
/// were not to be kept, or lost), or messages that were lost when they were pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// Number of the segment before; `None` if none of this recording was read before. Where it is
    /// not the one directly below `before`, there is no file of the numbers between.
    pub after: Option<u64>,
    /// Number of the segment in which the recording goes on.
    pub before: u64,
    /// How many messages are missing.
    pub messages: u64,
}
