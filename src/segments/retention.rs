//! Which segments have to go. Pure.

use std::time::{Duration, SystemTime};

/// What is kept at the most. The segment that is being written, and the one that is ready for later,
/// don't count: they never go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Bytes of all segments together.
    pub(super) bytes: Option<u64>,
    /// Segments.
    pub(super) count: Option<u64>,
    /// How long ago a segment has ended.
    pub(super) age: Option<Duration>,
    /// The lowest number.
    pub(super) needed: u64,
}

/// What the plan looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) sequence: u64,
    pub(super) bytes: u64,
    pub(super) ended: SystemTime,
}

impl Limits {
    /// How many of the segments, the oldest first, have to go. A clock that was set back makes none
    /// older than it is.
    pub(super) fn surplus(
        &self,
        kept: impl Iterator<Item = Kept> + Clone,
        now: SystemTime,
    ) -> usize {
        let (mut count, mut bytes) = (0u64, 0u64);
        kept.clone().for_each(|it| (count, bytes) = (count + 1, bytes.saturating_add(it.bytes)));
        let mut surplus = 0;
        for it in kept {
            let age = now.duration_since(it.ended).unwrap_or_default();
            let is_too_much = self.bytes.is_some_and(|most| bytes > most)
                || self.count.is_some_and(|most| count > most)
                || self.age.is_some_and(|most| age > most)
                || it.sequence < self.needed;
            if !is_too_much {
                break;
            }
            (count, bytes, surplus) = (count - 1, bytes.saturating_sub(it.bytes), surplus + 1);
        }
        surplus
    }
}

/// How many of the oldest have to go for `missing` more bytes of free space.
pub(super) fn making_room(kept: impl Iterator<Item = Kept>, missing: u64) -> usize {
    let mut gained = 0u64;
    let needed = kept.take_while(|it| {
        let is_needed = gained < missing;
        gained = gained.saturating_add(it.bytes);
        is_needed
    });
    needed.count()
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Of 100 bytes each, ended at 10, 20, …
    fn kept(count: u64) -> impl Iterator<Item = Kept> + Clone {
        (1..=count).map(|number| Kept { sequence: number, bytes: 100, ended: at(10 * number) })
    }

    #[test]
    fn the_oldest_go_as_far_as_a_limit_asks() {
        let none = Limits::default();
        assert_eq!(none.surplus(kept(5), at(1000)), 0);
        let bytes = |most| Limits { bytes: Some(most), ..none }.surplus(kept(5), at(50));
        assert_eq!([500, 499, 400, 399, 0].map(bytes), [0, 1, 1, 2, 5]);
        let count = |most| Limits { count: Some(most), ..none }.surplus(kept(5), at(50));
        assert_eq!([6, 5, 4, 0].map(count), [0, 0, 1, 5]);
        let age = |seconds, now| {
            let age = Some(Duration::from_secs(seconds));
            Limits { age, ..none }.surplus(kept(5), at(now))
        };
        assert_eq!((age(30, 40), age(30, 41), age(30, 61)), (0, 1, 3));
        assert_eq!(age(0, 0), 0); // set back
        let needed = |needed| Limits { needed, ..none }.surplus(kept(5), at(50));
        assert_eq!([0, 1, 2, 5, 6, 100].map(needed), [0, 0, 1, 4, 5, 5]);
        let age = Some(Duration::from_secs(35));
        let all = Limits { bytes: Some(450), count: Some(2), age, needed: 1 };
        assert_eq!(all.surplus(kept(5), at(50)), 3);
    }

    #[test]
    fn room_is_made_by_no_more_than_it_takes() {
        let going = [0, 1, 100, 101, 500, 501].map(|missing| making_room(kept(5), missing));
        assert_eq!(going, [0, 1, 1, 2, 5, 5]);
    }
}
