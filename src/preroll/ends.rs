//! The two ends of what is kept, and who may move which. Pure atomics, no bytes.

use crossbeam_utils::CachePadded;

use crate::canary::Slip;
use crate::sync::{AtomicU64, Ordering};

/// ```text
///   tail ≤ … ≤ head ≤ … ≤ tail + capacity
///     records     free: the producer's
/// ```
///
/// The producer alone moves `head`. As long as nobody holds the records it moves `tail` as well, over the
/// oldest of them, so that no more than `keep` bytes are kept. Once they are held, whoever holds them
/// does. Which of the two it is stands in the same word as the tail: so no record is both overwritten
/// and read.
#[derive(Debug)]
pub(super) struct Ends {
    head: CachePadded<AtomicU64>,
    /// The top bit says that the records are held.
    tail: CachePadded<AtomicU64>,
    keep: u64,
    capacity: u64,
}

const HELD: u64 = 1 << 63;

impl Ends {
    /// Records of `keep` bytes at the most while nobody holds them, and of `capacity` while somebody does.
    pub(super) fn new(keep: u64, capacity: u64) -> Self {
        let begin = || CachePadded::new(AtomicU64::new(0));
        Self { head: begin(), tail: begin(), keep, capacity }
    }

    pub(super) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    pub(super) fn keep(&self) -> u64 {
        self.keep
    }

    /// Bytes between the ends, at some moment of the call.
    pub(super) fn in_use(&self) -> u64 {
        let tail = self.tail.load(Ordering::Acquire) & !HELD; // first: it is never past the head
        self.head() - tail
    }

    // ---- the producer -------------------------------------------------------------------------------

    /// Room for `len` bytes at `head`, at most `keep`. `next` says where the record ends that begins at a
    /// position. Returns where the oldest record begins, if that has changed; or what is free, where the
    /// records are held. No loop but over the records that are overwritten.
    pub(super) fn make_room(
        &self,
        head: u64,
        len: u64,
        next: impl Fn(u64) -> u64,
    ) -> Result<Option<u64>, u64> {
        let mut tail = self.tail.load(Ordering::Acquire);
        if tail & HELD == 0 {
            match self.overwrite(tail, head + len, next) {
                Ok(moved) => return Ok(moved),
                Err(now) => tail = now,
            }
        }
        // They are held, or were so a moment ago: nothing is overwritten.
        let free = self.capacity - (head - (tail & !HELD));
        if len <= free { Ok(None) } else { Err(free) }
    }

    fn overwrite(
        &self,
        tail: u64,
        end: u64,
        next: impl Fn(u64) -> u64,
    ) -> Result<Option<u64>, u64> {
        let mut to = tail;
        while end - to > self.keep {
            to = next(to);
        }
        if to == tail {
            return Ok(None);
        }
        if Slip::BlindOverwrite.is_planted() {
            self.tail.store(to, Ordering::Release);
            return Ok(Some(to));
        }
        // Acquire, if it fails: what was released may be written.
        let moved = self.tail.compare_exchange(tail, to, Ordering::AcqRel, Ordering::Acquire);
        moved.map(|_| Some(to))
    }

    /// Everything below is there to be read.
    pub(super) fn publish(&self, head: u64) {
        self.head.store(head, Ordering::Release);
    }

    // ---- whoever holds the records ------------------------------------------------------------------

    /// Nothing is overwritten from now on. Returns where the oldest record begins.
    pub(super) fn hold(&self) -> u64 {
        self.tail.fetch_or(HELD, Ordering::AcqRel) & !HELD
    }

    /// The records below are no longer needed.
    pub(super) fn release(&self, tail: u64) {
        self.tail.store(tail | HELD, Ordering::Release);
    }

    /// The producer overwrites the oldest again.
    pub(super) fn let_go(&self) {
        self.tail.fetch_and(!HELD, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// Records of ten bytes.
    fn push(ends: &Ends, head: &mut u64, len: u64) -> Result<Option<u64>, u64> {
        let room = ends.make_room(*head, len, |at| at + 10)?;
        *head += len;
        ends.publish(*head);
        Ok(room)
    }

    #[test]
    fn the_oldest_go_only_while_nobody_holds_them() {
        let (ends, mut head) = (Ends::new(35, 50), 0);
        for _ in 0..3 {
            assert_eq!(push(&ends, &mut head, 10), Ok(None));
        }
        assert_eq!(push(&ends, &mut head, 10), Ok(Some(10)), "40 bytes are more than are kept");
        assert_eq!(push(&ends, &mut head, 20), Ok(Some(30)), "as many as it takes");
        assert_eq!((ends.hold(), ends.in_use()), (30, 30));
        assert_eq!(push(&ends, &mut head, 10), Ok(None));
        assert_eq!(push(&ends, &mut head, 10), Ok(None));
        assert_eq!(push(&ends, &mut head, 1), Err(0));
        ends.release(40);
        assert_eq!(push(&ends, &mut head, 11), Err(10));
        assert_eq!(push(&ends, &mut head, 10), Ok(None));
        ends.let_go();
        assert_eq!(push(&ends, &mut head, 10), Ok(Some(70)));
        assert_eq!(ends.in_use(), 30);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    //! Bytes are cells that loom watches for races; a record is one of them.
    #![allow(unsafe_code)]

    use super::*;
    use crate::sync::thread;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    struct Ring {
        ends: Ends,
        cells: Vec<UnsafeCell<u64>>,
    }

    impl Ring {
        fn new(keep: u64, capacity: u64) -> Arc<Self> {
            let cells = (0..capacity).map(|_| UnsafeCell::new(0)).collect();
            Arc::new(Self { ends: Ends::new(keep, capacity), cells })
        }

        fn cell(&self, at: u64) -> &UnsafeCell<u64> {
            &self.cells[at as usize % self.cells.len()]
        }

        /// As the producer: so many records, each its own position. Those that find no room are left out.
        fn push(&self, records: u64) -> u64 {
            let mut head = 0;
            for _ in 0..records {
                // It reads what it has written, as the heads of records.
                let next = |at: u64| {
                    // SAFETY: loom reports it if somebody writes meanwhile.
                    let seen = self.cell(at).with(|cell| unsafe { *cell });
                    assert_eq!(seen, at);
                    at + 1
                };
                if self.ends.make_room(head, 1, next).is_err() {
                    continue;
                }
                // SAFETY: as above.
                self.cell(head).with_mut(|cell| unsafe { *cell = head });
                head += 1;
                self.ends.publish(head);
            }
            head
        }

        /// As the keeper: everything from the oldest on, one after the other.
        fn drain(&self, from: u64) -> u64 {
            let head = self.ends.head();
            assert!(from <= head);
            for at in from..head {
                // SAFETY: as above.
                let seen = self.cell(at).with(|cell| unsafe { *cell });
                assert_eq!(seen, at, "overwritten, or not there yet");
                self.ends.release(at + 1);
            }
            head
        }
    }

    /// A trigger in the midst of pushes: what is held is whole, and goes on without a gap.
    #[test]
    fn what_is_held_is_neither_overwritten_nor_lost() {
        crate::sync::model(|| {
            let ring = Ring::new(1, 3);
            let producer = {
                let ring = ring.clone();
                thread::spawn(move || ring.push(4))
            };
            let from = ring.ends.hold();
            let drained = ring.drain(from);
            let head = producer.join().unwrap();
            assert_eq!(ring.drain(drained), head);
            assert!(from + 4 >= head && ring.ends.in_use() == 0);
        });
    }

    /// The end of a recording, and the next one, while pushes go on.
    #[test]
    fn what_is_let_go_is_overwritten_again_and_held_again() {
        crate::sync::model(|| {
            let ring = Ring::new(1, 2);
            let producer = {
                let ring = ring.clone();
                thread::spawn(move || ring.push(3))
            };
            let first = ring.drain(ring.ends.hold());
            ring.ends.let_go();
            let from = ring.ends.hold();
            assert!(from >= first, "a record twice");
            let drained = ring.drain(from);
            let head = producer.join().unwrap();
            assert_eq!(ring.drain(drained), head);
        });
    }
}
