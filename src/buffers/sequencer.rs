//! Who may touch which file positions: the lock-free heart of a push. Pure atomics, no bytes.

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Ordering, fence};

/// Why a reservation was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No room now; this much is free.
    Full { free: u64 },
    /// No reservation is granted any more: look for the reason.
    Stopped,
}

/// Positions of one stream, as the producers and the driver share them.
///
/// ```text
///   released ≤ … ≤ committed ≤ … ≤ reserved ≤ … ≤ limit = released + capacity
///        driver's         being copied       free
/// ```
///
/// An *exclusive* producer owns everything from `committed` on and moves `committed` itself.
/// *Shared* producers move `reserved` by compare-and-swap, copy, and add the bytes to the count of
/// each [cell](Self::CELL) that they touched; `committed` is then found by whoever
/// [advances](Self::advance) it: a cell is whole when its count has reached its end.
#[derive(Debug)]
pub(crate) struct Sequencer {
    /// First position that no producer has asked for; the top bit says that the stream is shut.
    reserved: CachePadded<AtomicU64>,
    /// Every byte below is in memory and belongs to the driver. Only grows.
    committed: CachePadded<AtomicU64>,
    /// No reservation may end past it. Zero when the stream has failed.
    limit: CachePadded<AtomicU64>,
    /// Bytes ever committed in each cell of the ring, counted from position 0 of the file as if
    /// the ring had been there from the start. Empty until a stream is shared.
    cells: Box<[AtomicU64]>,
    capacity: u64,
}

/// The top bit of `reserved`: no further reservation.
const SHUT: u64 = 1 << 63;

impl Sequencer {
    /// Bytes in a cell. A fence may have to wait for a copy that began after it only when both
    /// meet in one cell.
    pub(crate) const CELL: u64 = 4096;

    /// A sequencer whose first byte will be at `start`; `released` is the first position whose
    /// memory is in use (below `start` when the head of a block was read back).
    pub(crate) fn new(start: u64, released: u64, capacity: u64) -> Self {
        assert!(capacity.is_multiple_of(Self::CELL) && released <= start);
        let cells = (0..capacity / Self::CELL).map(|_| AtomicU64::new(0)).collect();
        Self {
            reserved: CachePadded::new(AtomicU64::new(start)),
            committed: CachePadded::new(AtomicU64::new(start)),
            limit: CachePadded::new(AtomicU64::new(released - released % Self::CELL + capacity)),
            cells,
            capacity,
        }
    }

    // ---- both kinds of producer -------------------------------------------------------------

    /// First position that no producer has taken.
    pub(crate) fn accepted(&self) -> u64 {
        let reserved = self.reserved.load(Ordering::Acquire) & !SHUT;
        reserved.max(self.committed.load(Ordering::Acquire))
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Acquire)
    }

    // ---- one exclusive producer -------------------------------------------------------------

    /// Whether the exclusive producer may fill `from..from + len`.
    #[inline]
    pub(crate) fn room(&self, from: u64, len: u64) -> Result<(), Refused> {
        let limit = self.limit();
        if from + len <= limit {
            return Ok(());
        }
        Err(if limit == 0 {
            Refused::Stopped
        } else {
            Refused::Full { free: limit.saturating_sub(from) }
        })
    }

    /// Hands everything below `to` to the driver.
    #[inline]
    pub(crate) fn commit_exclusive(&self, to: u64) {
        self.committed.store(to, Ordering::Release);
    }

    // ---- many producers ---------------------------------------------------------------------

    /// Makes the cells agree with what the exclusive producer left.
    pub(crate) fn share(&self) {
        let at = self.committed.load(Ordering::Acquire);
        for (index, cell) in self.cells.iter().enumerate() {
            cell.store(self.expected(index as u64, at), Ordering::Relaxed);
        }
        self.reserved.store(at, Ordering::Release);
    }

    /// Takes `len` positions if they all have room now; returns the first.
    pub(crate) fn try_reserve(&self, len: u64) -> Result<u64, Refused> {
        let mut from = self.reserved.load(Ordering::Relaxed);
        loop {
            if from & SHUT != 0 {
                return Err(Refused::Stopped);
            }
            self.room(from, len)?;
            match self.claim(from, len) {
                Ok(()) => return Ok(from),
                Err(now) => from = now,
            }
        }
    }

    /// Takes `len` positions whether or not they have room yet: for a write that is longer than
    /// the ring. The caller waits for [`room`](Self::room) piece by piece.
    pub(crate) fn reserve_ahead(&self, len: u64) -> Result<u64, Refused> {
        let mut from = self.reserved.load(Ordering::Relaxed);
        loop {
            if from & SHUT != 0 || self.limit() == 0 {
                return Err(Refused::Stopped);
            }
            match self.claim(from, len) {
                Ok(()) => return Ok(from),
                Err(now) => from = now,
            }
        }
    }

    fn claim(&self, from: u64, len: u64) -> Result<(), u64> {
        self.reserved
            .compare_exchange_weak(from, from + len, Ordering::AcqRel, Ordering::Relaxed)
            .map(drop)
    }

    /// Counts `from..from + len` as copied.
    pub(crate) fn commit_shared(&self, from: u64, len: u64) {
        let (mut at, end) = (from, from + len);
        while at < end {
            let cell_end = (at / Self::CELL + 1) * Self::CELL;
            let part = end.min(cell_end) - at;
            // Release: whoever sees the count sees the bytes.
            let index = at % self.capacity / Self::CELL;
            self.cells[index as usize].fetch_add(part, Ordering::Release);
            at += part;
        }
    }

    /// Moves `committed` over every byte that is known to be copied, and returns it. Any thread
    /// may call it at any time.
    pub(crate) fn advance(&self) -> u64 {
        let known = self.committed.load(Ordering::Acquire);
        let mut at = known;
        loop {
            let index = at % self.capacity / Self::CELL;
            let cell = at - at % Self::CELL..at - at % Self::CELL + Self::CELL;
            let count = self.cells[index as usize].load(Ordering::Acquire);
            if count >= self.expected(index, cell.end) {
                at = cell.end;
                continue;
            }
            // Not whole. If nothing has been reserved past what is counted, the cell is quiet:
            // every byte that anyone asked for is there. `reserved` is read after the count, so a
            // copy that began later makes the two differ.
            fence(Ordering::SeqCst);
            let reserved = self.reserved.load(Ordering::Acquire) & !SHUT;
            if cell.contains(&reserved) && count == self.expected(index, reserved) {
                at = at.max(reserved);
            }
            break;
        }
        if at > known {
            self.committed.fetch_max(at, Ordering::AcqRel);
        }
        at
    }

    /// Refuses every later reservation; those that were granted go on. Returns the final position.
    pub(crate) fn shut(&self) -> u64 {
        self.reserved.fetch_or(SHUT, Ordering::AcqRel) & !SHUT
    }

    /// Bytes that fell into cell `index` of the ring when the positions `0..to` have passed.
    fn expected(&self, index: u64, to: u64) -> u64 {
        let laps = to / self.capacity;
        let within = (to % self.capacity).saturating_sub(index * Self::CELL);
        laps * Self::CELL + within.min(Self::CELL)
    }

    // ---- the driver -------------------------------------------------------------------------

    /// Every byte below is the driver's.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Gives the memory of every whole cell below `in_use` back to the producers; returns whether
    /// that is news. Whole cells only: a cell's count must never mix two laps of the ring.
    pub(crate) fn release(&self, in_use: u64) -> bool {
        let limit = in_use - in_use % Self::CELL + self.capacity;
        let news = limit > self.limit();
        if news {
            self.limit.store(limit, Ordering::Release);
        }
        news
    }

    /// Grants nothing any more, for ever.
    pub(crate) fn stop(&self) {
        self.limit.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    const CELL: u64 = Sequencer::CELL;

    #[test]
    fn an_exclusive_producer_is_stopped_at_the_limit() {
        let sequencer = Sequencer::new(0, 0, 2 * CELL);
        assert_eq!(sequencer.room(0, 2 * CELL), Ok(()));
        assert_eq!(sequencer.room(1, 2 * CELL), Err(Refused::Full { free: 2 * CELL - 1 }));
        sequencer.release(CELL + 10);
        assert_eq!(sequencer.room(CELL, 2 * CELL), Ok(()));
        assert!(sequencer.room(CELL + 1, 2 * CELL).is_err());
        sequencer.stop();
        assert_eq!(sequencer.room(10, 1), Err(Refused::Stopped));
    }

    #[test]
    fn a_copy_in_progress_holds_back_committed_and_only_that() {
        let sequencer = Sequencer::new(100, 0, 4 * CELL);
        sequencer.share();
        let slow = sequencer.try_reserve(50).unwrap();
        let quick = sequencer.try_reserve(70).unwrap();
        assert_eq!((slow, quick), (100, 150));
        sequencer.commit_shared(quick, 70);
        assert_eq!(sequencer.advance(), 100);
        sequencer.commit_shared(slow, 50);
        assert_eq!(sequencer.advance(), 220);
        assert_eq!(sequencer.accepted(), 220);
    }

    #[test]
    fn shut_lets_granted_reservations_finish() {
        let sequencer = Sequencer::new(0, 0, CELL);
        sequencer.share();
        let at = sequencer.try_reserve(10).unwrap();
        assert_eq!(sequencer.shut(), 10);
        assert_eq!(sequencer.try_reserve(1), Err(Refused::Stopped));
        assert_eq!(sequencer.reserve_ahead(1), Err(Refused::Stopped));
        sequencer.commit_shared(at, 10);
        assert_eq!(sequencer.advance(), 10);
    }

    #[test]
    fn a_reservation_longer_than_the_ring_is_taken_ahead() {
        let sequencer = Sequencer::new(0, 0, CELL);
        sequencer.share();
        assert_eq!(sequencer.reserve_ahead(3 * CELL), Ok(0));
        assert_eq!(sequencer.try_reserve(1), Err(Refused::Full { free: 0 }));
        for piece in 0..3 {
            assert_eq!(sequencer.room(piece * CELL, CELL), Ok(()));
            sequencer.commit_shared(piece * CELL, CELL);
            assert_eq!(sequencer.advance(), (piece + 1) * CELL);
            sequencer.release((piece + 1) * CELL);
        }
    }

    proptest! {
        /// Whatever order copies end in, `committed` is exactly the prefix that has been copied,
        /// or stays behind it by less than a cell.
        #[test]
        fn committed_is_a_copied_prefix(
            start in 0..3 * CELL,
            lens in prop::collection::vec(1..2 * CELL, 1..40),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 120),
        ) {
            let capacity = 8 * CELL;
            let sequencer = Sequencer::new(start, start, capacity);
            sequencer.share();
            let mut open: Vec<(u64, u64)> = Vec::new();
            let mut lens = lens.into_iter();
            let mut next = start;
            for pick in picks {
                let reserve = open.is_empty() || pick.index(2) == 0;
                let reserved = reserve.then(|| lens.next()).flatten()
                    .and_then(|len| Some((sequencer.try_reserve(len).ok()?, len)));
                if let Some((at, len)) = reserved {
                    prop_assert_eq!(at, next);
                    next += len;
                    open.push((at, len));
                } else if !open.is_empty() {
                    let (at, len) = open.swap_remove(pick.index(open.len()));
                    sequencer.commit_shared(at, len);
                }
                let prefix = open.iter().map(|&(at, _)| at).min().unwrap_or(next);
                let committed = sequencer.advance();
                prop_assert!(committed <= prefix, "{} > {}", committed, prefix);
                prop_assert!(prefix - committed < CELL);
                if open.is_empty() {
                    prop_assert_eq!(committed, next);
                }
                sequencer.release(committed);
            }
        }
    }

    #[test]
    fn many_threads_lose_nothing_and_share_nothing() {
        let sequencer = Arc::new(Sequencer::new(5, 5, 64 * CELL));
        sequencer.share();
        let threads: Vec<_> = (1..5u64)
            .map(|len| {
                let sequencer = sequencer.clone();
                std::thread::spawn(move || {
                    let mut taken = Vec::new();
                    while taken.len() < 2000 {
                        if let Ok(at) = sequencer.try_reserve(len * 7) {
                            sequencer.commit_shared(at, len * 7);
                            taken.push((at, len * 7));
                        }
                        let committed = sequencer.advance();
                        sequencer.limit.fetch_max(committed + 64 * CELL, Ordering::AcqRel);
                    }
                    taken
                })
            })
            .collect();
        let mut all: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        all.sort_unstable();
        let end = all.iter().fold(5, |at, &(from, len)| {
            assert_eq!(at, from);
            from + len
        });
        assert_eq!(sequencer.advance(), end);
    }
}
