//! What goes on from one segment to the next: which numbers are due, and what is missing. Pure.

use super::item::Gap;
use crate::frames::format::Head;

/// Where a reader is in the recordings of a pattern.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chain {
    /// The generation of the recording.
    generation: Option<u64>,
    /// The number that is due; `None`: whatever comes.
    due: Option<u64>,
    /// The segment that was read before the one that is read now.
    before: Option<u64>,
    segment: u64,
    /// Of this segment something was met already, a frame or a hole.
    is_within: bool,
}

/// What a frame is to be told with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// So many numbers are missing directly before it.
    Frame { missing: u64 },
    /// First comes this; then the frame, before which nothing more is missing.
    Gap(Gap),
}

impl Chain {
    /// Whatever comes next is due.
    pub(super) fn let_go(&mut self) {
        (self.due, self.before, self.generation) = (None, None, None);
    }

    /// Nothing is missing before what comes next.
    pub(super) fn due_is_whatever(&mut self) {
        (self.due, self.is_within) = (None, true);
    }

    /// What a segment whose head is damaged would go on with: the generation, and the number that is due.
    pub(super) fn goes_on(&self) -> Option<(u64, u64)> {
        self.generation.map(|generation| (generation, self.due.unwrap_or(0)))
    }

    /// The generation of the recording to which a segment belongs: without a head to that before it.
    pub(super) fn recording(&self, head: Option<&Head>) -> u64 {
        head.map(|head| head.recording).or(self.generation).unwrap_or(0)
    }

    /// A segment begins, with this head; whether its recording is another one than before. `origin`:
    /// the first number of that.
    pub(super) fn begins(&mut self, segment: u64, generation: u64, origin: Option<u64>) -> bool {
        let is_another = self.generation != Some(generation);
        if is_another {
            self.due = origin;
            self.before = None;
        }
        (self.generation, self.segment, self.is_within) = (Some(generation), segment, false);
        is_another
    }

    /// The segment has ended.
    pub(super) fn ends(&mut self) {
        self.before = Some(self.segment);
    }

    pub(super) fn hole(&mut self) {
        self.is_within = true;
    }

    /// A frame of this number; its file says that `missing` are missing before it.
    pub(super) fn frame(&mut self, sequence: u64, missing: u64) -> Met {
        let is_first = !std::mem::replace(&mut self.is_within, true);
        let missing = self.due.map_or(missing, |due| sequence.saturating_sub(due));
        self.due = Some(sequence.saturating_add(1));
        match is_first && missing > 0 {
            true => Met::Gap(Gap { after: self.before, before: self.segment, messages: missing }),
            false => Met::Frame { missing },
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    const NONE: Met = Met::Frame { missing: 0 };

    fn gap(after: Option<u64>, before: u64, messages: u64) -> Met {
        Met::Gap(Gap { after, before, messages })
    }

    #[test]
    fn what_is_missing_between_segments_is_told_once() {
        let mut chain = Chain::default();
        assert!(chain.begins(3, 7, Some(10)));
        assert_eq!(chain.frame(25, 0), gap(None, 3, 15)); // the oldest are gone
        assert_eq!(chain.frame(26, 0), NONE);
        assert_eq!(chain.frame(28, 1), Met::Frame { missing: 1 });
        chain.ends();
        assert!(!chain.begins(4, 7, Some(10)));
        assert_eq!(chain.frame(29, 0), NONE);
        chain.ends();
        assert!(!chain.begins(7, 7, Some(10)));
        assert_eq!(chain.frame(40, 0), gap(Some(4), 7, 10));
        assert_eq!(chain.frame(41, 0), NONE);
    }

    #[test]
    fn a_hole_at_its_beginning_has_what_is_missing() {
        let mut chain = Chain::default();
        chain.begins(1, 7, Some(0));
        chain.hole();
        assert_eq!(chain.frame(2, 0), Met::Frame { missing: 2 });
    }

    #[test]
    fn another_recording_has_numbers_of_its_own() {
        let mut chain = Chain::default();
        chain.begins(1, 7, Some(0));
        assert_eq!(chain.frame(0, 0), NONE);
        chain.ends();
        assert!(chain.begins(2, 8, Some(5)));
        assert_eq!(chain.frame(5, 0), NONE);
        chain.ends();
        chain.let_go();
        assert!(chain.begins(9, 8, None));
        assert_eq!(chain.frame(500, 0), NONE);
    }
}
