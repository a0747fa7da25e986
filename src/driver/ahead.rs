//! Zeros ahead of the data, so that a fence finds the blocks and the length of the file as they will
//! be: how far, and when. Pure numbers; the lane writes them.
//!
//! A write into such zeros overwrites: the file system has nothing to record beside it. Each byte goes to
//! the device twice for that, so it is for those who fence every few bytes, and nobody else.

use std::ops::Range;
use std::time::Duration;

use crate::blocks::{align_down, align_up};
use crate::buffers::ZEROS;
use crate::sync::Instant;

/// A fence of more bytes costs less to grow the file than to write the zeros.
const FEW: u64 = 32 << 10;

/// So many fences of [`FEW`] bytes in a row, and there will be more.
const HABIT: u32 = 8;

/// The least window. It follows the rate from here: see [`Ahead::started`].
const LEAST: u64 = 64 << 10;

/// A window that is used up in less time is too small, and one that lasts for longer than eight times
/// that too large.
const LASTS: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Ahead {
    block: u64,
    /// The largest window; 0: nothing is written ahead.
    most: u64,
    window: u64,
    /// Below it the file has no hole, and nothing that grows it.
    filled: u64,
    /// Zeros on their way: no data may go there.
    writing: Option<Range<u64>>,
    /// When the last went out.
    since: Option<Instant>,
    /// What the last fence reached, and how many of few bytes there were in a row.
    fenced: u64,
    habit: u32,
}

impl Ahead {
    /// Of a file that is written in `block`s, and in which all below `filled` was written before: a
    /// recycled file keeps that, also in the block where it ends.
    pub(super) fn new(block: u64, most: u64, fenced: u64, filled: u64) -> Self {
        let window = LEAST.min(most);
        let filled = align_up(filled, block);
        Self { block, most, window, filled, writing: None, since: None, fenced, habit: 0 }
    }

    /// Whether the file may end in them.
    pub(super) fn is_on(&self) -> bool {
        self.most > 0
    }

    /// A fence has ended that reaches there.
    pub(super) fn note_fence(&mut self, durable: u64) {
        if self.most == 0 {
            return;
        }
        let bytes = durable - self.fenced;
        self.fenced = durable;
        match bytes {
            0 => {} // of patches
            1..=FEW => self.habit = (self.habit + 1).min(HABIT),
            _ => self.habit = 0,
        }
    }

    /// The zeros to be written now, in whole blocks; the data, with its padding, ends at `end`.
    pub(super) fn next(&self, end: u64) -> Option<Range<u64>> {
        if self.habit < HABIT || self.writing.is_some() {
            return None; // as nearly always
        }
        let left = self.filled.saturating_sub(end);
        if left > self.window / 2 {
            return None;
        }
        let from = self.filled.max(align_up(end, self.block));
        let to = align_down((end + self.window).min(from + ZEROS as u64), self.block);
        (from < to).then_some(from..to)
    }

    /// They go out. The window follows the rate: a fixed one is too small for a fast writer, and a slow
    /// one would write more zeros than data.
    pub(super) fn started(&mut self, zeros: Range<u64>, now: Instant) {
        let lasted = self.since.map(|since| now.saturating_duration_since(since));
        if lasted.is_some_and(|lasted| lasted < LASTS) {
            self.window = (self.window * 2).min(self.most);
        } else if lasted.is_some_and(|lasted| lasted > 8 * LASTS) {
            self.window = (self.window / 2).max(LEAST.min(self.most));
        }
        self.since = Some(now);
        self.writing = Some(zeros);
    }

    /// So many bytes of them are there.
    pub(super) fn ended(&mut self, taken: u64) {
        if let Some(zeros) = self.writing.take() {
            self.filled = zeros.start + align_down(taken, self.block);
        }
    }

    /// They could not be written, for the moment: another habit is waited for.
    pub(super) fn put_off(&mut self) {
        self.writing = None;
        self.habit = 0;
    }

    /// They can't be written, or harm others.
    pub(super) fn give_up(&mut self) {
        self.writing = None;
        (self.most, self.window, self.habit) = (0, 0, 0);
    }

    pub(super) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Whether a write of these bytes has to wait for zeros on their way.
    pub(super) fn is_in_the_way(&self, from: u64, to: u64) -> bool {
        self.writing.as_ref().is_some_and(|zeros| from < zeros.end && zeros.start < to)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    const BLOCK: u64 = 4096;

    fn with_habit(most: u64, end: u64) -> Ahead {
        let mut ahead = Ahead::new(BLOCK, most, 0, 0);
        (1..=u64::from(HABIT)).for_each(|fence| ahead.note_fence(end * fence / u64::from(HABIT)));
        ahead
    }

    #[test]
    fn who_fences_few_bytes_again_and_again_gets_zeros() {
        let mut ahead = Ahead::new(BLOCK, 1 << 20, 0, 0);
        for fence in 1..u64::from(HABIT) {
            ahead.note_fence(fence * 100);
            assert_eq!(ahead.next(4096), None);
        }
        ahead.note_fence(100 * u64::from(HABIT));
        assert_eq!(ahead.next(4096), Some(4096..65536 + 4096));
        ahead.note_fence(100_000); // a large one
        assert_eq!(ahead.next(4096), None);
    }

    #[test]
    fn zeros_lie_behind_the_data_in_whole_blocks_and_never_beyond_the_window() {
        let random = &mut fastrand::Rng::with_seed(3);
        for _ in 0..500 {
            let most = BLOCK << random.u64(0..11);
            let (mut ahead, mut end, mut now) = (with_habit(most, 1000), 1000, Instant::now());
            let mut reached = 0;
            for _ in 0..200 {
                end += random.u64(1..20_000);
                now += Duration::from_millis(random.u64(0..2000));
                while let Some(zeros) = ahead.next(end) {
                    assert!(
                        zeros.start >= end.max(reached).next_multiple_of(BLOCK)
                            || zeros.start == reached
                    );
                    assert!(
                        zeros.start >= end && zeros.end <= end + most,
                        "{zeros:?} {end} {most}"
                    );
                    assert!(zeros.start % BLOCK == 0 && zeros.end % BLOCK == 0);
                    assert!(zeros.end - zeros.start <= ZEROS as u64);
                    ahead.started(zeros.clone(), now);
                    assert!(ahead.is_in_the_way(zeros.end - 1, zeros.end + 9));
                    assert!(!ahead.is_in_the_way(zeros.end, zeros.end + 9));
                    assert_eq!(ahead.next(end), None, "one at a time");
                    let taken = match random.u8(..4) {
                        0 => random.u64(1..=zeros.end - zeros.start),
                        _ => zeros.end - zeros.start,
                    };
                    ahead.ended(taken);
                    reached = ahead.filled;
                    if taken < BLOCK {
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn the_window_follows_the_rate() {
        let (mut ahead, mut now) = (with_habit(4 << 20, 1000), Instant::now());
        let mut run = |ahead: &mut Ahead, per_second: u64, seconds: u64, from: u64| {
            let mut end = from;
            for _ in 0..seconds * 100 {
                (end, now) = (end + per_second / 100, now + Duration::from_millis(10));
                while let Some(zeros) = ahead.next(end) {
                    ahead.started(zeros.clone(), now);
                    ahead.ended(zeros.end - zeros.start);
                }
            }
            end
        };
        let end = run(&mut ahead, 40_000_000, 3, 1000);
        assert_eq!(ahead.window, 4 << 20);
        run(&mut ahead, 4_000, 3600, end);
        assert_eq!(ahead.window, LEAST);
    }

    #[test]
    fn what_was_there_needs_no_zeros() {
        let mut ahead = Ahead::new(BLOCK, 1 << 20, 0, 1 << 20);
        (1..=8).for_each(|fence| ahead.note_fence(fence * 4096));
        assert_eq!(ahead.next(65536), None);
        assert_eq!(ahead.next((1 << 20) - 100), Some(1 << 20..(1 << 20) + 65536 - BLOCK));
        let mut recycled = Ahead::new(BLOCK, 1 << 20, 0, 10_000);
        (1..=8).for_each(|fence| recycled.note_fence(fence));
        assert_eq!(recycled.next(4096).map(|zeros| zeros.start), Some(12_288));
    }

    #[test]
    fn what_could_not_be_written_is_put_off_or_given_up() {
        let mut ahead = with_habit(1 << 20, 1600);
        let zeros = ahead.next(4096).unwrap();
        ahead.started(zeros, Instant::now());
        ahead.put_off();
        assert!(!ahead.is_writing() && ahead.next(4096).is_none() && ahead.is_on());
        (0..HABIT).for_each(|fence| ahead.note_fence(2000 + u64::from(fence)));
        assert!(ahead.next(4096).is_some());
        ahead.give_up();
        (0..HABIT).for_each(|fence| ahead.note_fence(3000 + u64::from(fence)));
        assert!(ahead.next(4096).is_none() && !ahead.is_on());
    }
}
