//! Where a segment ends. Pure.

/// When a recording is cut, and where it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Bytes of data that a segment takes at the most; `u64::MAX`: any number.
    pub(super) size: u64,
    /// Cuts lie at multiples of this of the whole recording, also in the midst of what is pushed at
    /// once; `None`: only between two pushes.
    pub(super) frame: Option<u64>,
}

impl Cut {
    /// How many of the next `len` bytes still belong to the segment that began at `begins`, of a
    /// recording of `total` bytes so far; `None`: all, and it goes on. `asked`: it is to end as soon
    /// as may be.
    pub(super) fn within(&self, begins: u64, total: u64, len: u64, asked: bool) -> Option<u64> {
        let end = total.saturating_add(len);
        let at = match self.frame {
            None if asked || end > begins.saturating_add(self.size) => total,
            None => return None,
            Some(frame) => self.frame_end(begins, total, frame, asked),
        };
        (at > begins && at < end).then(|| at - total)
    }

    /// The position up to which whatever comes next goes into the same segment.
    pub(super) fn due(&self, begins: u64) -> u64 {
        match self.frame {
            None => begins.saturating_add(self.size),
            Some(frame) => self.frame_end(begins, begins, frame, false),
        }
    }

    /// So many bytes of data as far as they are whole frames.
    pub(super) fn whole(&self, data: u64) -> u64 {
        self.frame.map_or(data, |frame| data - data % frame)
    }

    /// The next place for a cut that is not before `total`.
    fn frame_end(&self, begins: u64, total: u64, frame: u64, asked: bool) -> u64 {
        let least = if asked { total } else { begins.saturating_add(self.size) };
        let wanted = if asked { up(least, frame) } else { least - least % frame };
        // Behind its time, or with a frame longer than a segment: at the next end of a frame.
        wanted.max(up(total, frame)).max(up(begins.saturating_add(1), frame))
    }
}

fn up(position: u64, frame: u64) -> u64 {
    position.checked_next_multiple_of(frame).unwrap_or(u64::MAX)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RECORDS: Cut = Cut { size: 100, frame: None };
    const FRAMES: Cut = Cut { size: 100, frame: Some(30) };

    #[test]
    fn a_record_is_never_split_and_no_segment_is_empty() {
        assert_eq!(RECORDS.within(0, 90, 10, false), None);
        assert_eq!(RECORDS.within(0, 90, 11, false), Some(0));
        assert_eq!(RECORDS.within(500, 500, 1000, false), None); // longer than a segment
        assert_eq!(RECORDS.within(500, 1500, 1, false), Some(0));
        assert_eq!(RECORDS.within(500, 510, 1, true), Some(0));
        assert_eq!(RECORDS.within(500, 500, 1, true), None);
    }

    #[test]
    fn frames_are_cut_at_their_ends() {
        assert_eq!(FRAMES.within(0, 80, 10, false), None); // full, and nothing behind it
        assert_eq!(FRAMES.within(0, 80, 11, false), Some(10));
        assert_eq!(FRAMES.within(0, 90, 11, false), Some(0));
        assert_eq!(FRAMES.within(0, 95, 30, false), Some(25)); // late
        assert_eq!(FRAMES.within(90, 100, 100, true), Some(20));
        assert_eq!(FRAMES.within(90, 90, 100, true), Some(30));
    }

    proptest! {
        #[test]
        fn a_cut_lies_within_the_push_and_where_it_may(
            frame in prop::option::of(1u64..40), size in 1u64..200, begins in 0u64..1000,
            used in 0u64..300, len in 0u64..300, asked: bool,
        ) {
            let begins = frame.map_or(begins, |frame| begins - begins % frame);
            let (cut, total) = (Cut { size, frame }, begins + used);
            if let Some(first) = cut.within(begins, total, len, asked) {
                prop_assert!(first < len && total + first > begins);
                prop_assert!(frame.is_none_or(|frame| (total + first).is_multiple_of(frame)));
                prop_assert!(frame.is_some() || first == 0);
            } else if !asked && used > 0 && len > 0 && total + len > cut.due(begins) {
                prop_assert!(frame.is_some_and(|frame| len <= frame));
            }
        }

        #[test]
        fn what_ends_before_it_is_due_needs_no_look(
            frame in prop::option::of(1u64..40), size in 1u64..200, used in 0u64..300, len in 0u64..300,
        ) {
            let cut = Cut { size, frame };
            if used + len <= cut.due(0) {
                prop_assert_eq!(cut.within(0, used, len, false), None);
            }
        }
    }
}
