//! Who may touch which file positions: the lock-free heart of a push. Pure atomics, no bytes.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use crossbeam_utils::CachePadded;

use crate::canary::Slip;
use crate::sync::{AtomicBool, AtomicU64, Ordering, fence, raise};

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
    words: Words,
    /// No reservation may end past it. Zero when the stream has failed.
    limit: CachePadded<AtomicU64>,
    capacity: u64,
    /// The stream grants nothing any more.
    stopped: AtomicBool,
    /// The exclusive producer has seen that, or is gone: it copies nothing any more.
    left: AtomicBool,
}

/// The two ends that say what producers have brought.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Ends {
    /// First position that no producer has asked for; the top bit says that the stream is shut.
    pub(crate) reserved: CachePadded<AtomicU64>,
    /// Every byte below is in memory and belongs to the driver. Only grows.
    pub(crate) committed: CachePadded<AtomicU64>,
}

/// What says which bytes were accepted: of the process, or in a file that outlives it.
#[derive(Debug)]
pub(crate) struct Words {
    ends: NonNull<Ends>,
    /// Bytes ever committed in each cell of the ring, counted from position 0 of the file as if
    /// the ring had been there from the start. Of no meaning until a stream is shared.
    cells: NonNull<[AtomicU64]>,
    is_ours_to_free: bool,
}

// SAFETY: nothing but atomics behind the pointers, which live as long as this.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    fn new(cells: u64) -> Self {
        let zero = || AtomicU64::new(0);
        let ends = Ends { reserved: CachePadded::new(zero()), committed: CachePadded::new(zero()) };
        let cells: Box<[AtomicU64]> = (0..cells).map(|_| zero()).collect();
        Self {
            ends: NonNull::from(Box::leak(Box::new(ends))),
            cells: NonNull::from(Box::leak(cells)),
            is_ours_to_free: true,
        }
    }

    /// In memory of somebody else, who keeps it as long as these words live.
    ///
    /// # Safety
    /// That is so, and nobody touches it but by these atomics.
    #[cfg_attr(any(not(target_os = "linux"), loom, shuttle), allow(dead_code))]
    pub(crate) unsafe fn in_place(ends: NonNull<Ends>, cells: NonNull<[AtomicU64]>) -> Self {
        Self { ends, cells, is_ours_to_free: false }
    }

    #[inline]
    fn ends(&self) -> &Ends {
        // SAFETY: lives as long as this; nothing but atomics.
        unsafe { self.ends.as_ref() }
    }

    fn cells(&self) -> &[AtomicU64] {
        // SAFETY: as above.
        unsafe { self.cells.as_ref() }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        if self.is_ours_to_free {
            // SAFETY: leaked by `new`, and never used again.
            unsafe {
                drop(Box::from_raw(self.ends.as_ptr()));
                drop(Box::from_raw(self.cells.as_ptr()));
            }
        }
    }
}

/// The top bit of `reserved`: no further reservation.
const SHUT: u64 = 1 << 63;

/// The position that a word of `reserved` says, be it shut or not.
#[cfg_attr(any(not(target_os = "linux"), loom, shuttle), allow(dead_code))]
pub(crate) fn position_of(reserved: u64) -> u64 {
    reserved & !SHUT
}

/// Bytes that fell into cell `index` of a ring when the positions `0..to` have passed.
pub(crate) fn expected(capacity: u64, index: u64, to: u64) -> u64 {
    let laps = to / capacity;
    let within = (to % capacity).saturating_sub(index * Sequencer::CELL);
    laps * Sequencer::CELL + within.min(Sequencer::CELL)
}

impl Sequencer {
    /// Bytes in a cell. A fence may have to wait for a copy that began after it only when both
    /// meet in one cell.
    pub(crate) const CELL: u64 = 4096;

    /// A sequencer whose first byte will be at `start`; `released` is the first position whose
    /// memory is in use (below `start` when the head of a block was read back).
    #[cfg(test)]
    pub(crate) fn new(start: u64, released: u64, capacity: u64) -> Self {
        Self::over(None, start, released, capacity)
    }

    /// As `new`, over words that lie elsewhere.
    pub(crate) fn over(words: Option<Words>, start: u64, released: u64, capacity: u64) -> Self {
        assert!(capacity.is_multiple_of(Self::CELL) && released <= start);
        let words = words.unwrap_or_else(|| Words::new(capacity / Self::CELL));
        assert!(words.cells().len() as u64 == capacity / Self::CELL);
        words.ends().reserved.store(start, Ordering::Relaxed);
        words.ends().committed.store(start, Ordering::Relaxed);
        Self {
            words,
            limit: CachePadded::new(AtomicU64::new(released - released % Self::CELL + capacity)),
            capacity,
            stopped: AtomicBool::new(false),
            left: AtomicBool::new(false),
        }
    }

    // ---- both kinds of producer -------------------------------------------------------------

    /// First position that no producer has taken.
    pub(crate) fn accepted(&self) -> u64 {
        let reserved = self.words.ends().reserved.load(Ordering::Acquire) & !SHUT;
        reserved.max(self.words.ends().committed.load(Ordering::Acquire))
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

    /// Hands everything below `to` to the driver. (Over a gap the driver does, while the producer waits.)
    #[inline]
    pub(crate) fn commit_exclusive(&self, to: u64) {
        self.words.ends().committed.store(to, Ordering::Release);
    }

    /// Outside of a push: says that there will be no other one.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    /// Everything that the producer ever pushed is committed.
    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// As [`room`](Self::room), for a producer that remembers a limit it has seen: it only grows,
    /// but for the end. So the line that the driver writes at each completion is read once a
    /// buffer and not at each push; `stopped` lies on a line that nobody writes until the end.
    #[inline]
    pub(crate) fn room_within(&self, seen: &mut u64, from: u64, len: u64) -> Result<(), Refused> {
        if from + len <= *seen && !self.stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        *seen = self.limit();
        self.room(from, len)
    }

    // ---- many producers ---------------------------------------------------------------------

    /// Makes the cells agree with what the exclusive producer left.
    pub(crate) fn share(&self) {
        let at = self.words.ends().committed.load(Ordering::Acquire);
        for (index, cell) in self.words.cells().iter().enumerate() {
            cell.store(self.expected(index as u64, at), Ordering::Relaxed);
        }
        self.words.ends().reserved.store(at, Ordering::Release);
    }

    /// Takes `len` positions if they all have room now; returns the first.
    pub(crate) fn try_reserve(&self, len: u64) -> Result<u64, Refused> {
        let mut from = self.words.ends().reserved.load(Ordering::Relaxed);
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
        let mut from = self.words.ends().reserved.load(Ordering::Relaxed);
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
        self.words
            .ends()
            .reserved
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
            let order = match Slip::RelaxedCommit.is_planted() {
                true => Ordering::Relaxed,
                false => Ordering::Release,
            };
            self.words.cells()[index as usize].fetch_add(part, order);
            at += part;
        }
    }

    /// Moves `committed` over every byte that is known to be copied, and returns it. Any thread
    /// may call it at any time.
    pub(crate) fn advance(&self) -> u64 {
        let known = self.words.ends().committed.load(Ordering::Acquire);
        let mut at = known;
        loop {
            let index = at % self.capacity / Self::CELL;
            let cell = at - at % Self::CELL..at - at % Self::CELL + Self::CELL;
            let count = self.words.cells()[index as usize].load(Ordering::Acquire);
            if count >= self.expected(index, cell.end) {
                at = cell.end;
                continue;
            }
            // Not whole. If nothing has been reserved past what is counted, the cell is quiet:
            // every byte that anyone asked for is there. `reserved` is read after the count, so a
            // copy that began later makes the two differ.
            fence(Ordering::SeqCst);
            let reserved = self.words.ends().reserved.load(Ordering::Acquire) & !SHUT;
            if cell.contains(&reserved) && count == self.expected(index, reserved) {
                at = at.max(reserved);
            }
            break;
        }
        if at > known {
            raise(&self.words.ends().committed, at, Ordering::AcqRel);
        }
        at
    }

    /// Refuses every later reservation; those that were granted go on. Returns the final position.
    pub(crate) fn shut(&self) -> u64 {
        self.words.ends().reserved.fetch_or(SHUT, Ordering::AcqRel) & !SHUT
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.words.ends().reserved.load(Ordering::Acquire) & SHUT != 0
    }

    fn expected(&self, index: u64, to: u64) -> u64 {
        expected(self.capacity, index, to)
    }

    // ---- the driver -------------------------------------------------------------------------

    /// Every byte below is the driver's.
    pub(crate) fn committed(&self) -> u64 {
        let order = match Slip::RelaxedLook.is_planted() {
            true => Ordering::Relaxed,
            false => Ordering::Acquire,
        };
        self.words.ends().committed.load(order)
    }

    /// The memory that a [`release`](Self::release) would give back, by position: whole cells.
    pub(crate) fn releasable(&self, in_use: u64) -> std::ops::Range<u64> {
        let to = in_use - in_use % Self::CELL;
        match self.limit() {
            0 => to..to,
            limit => (limit - self.capacity).min(to)..to,
        }
    }

    /// Gives the memory of every whole cell below `in_use` back to the producers; returns whether
    /// that is news. Whole cells only: a cell's count must never mix two laps of the ring.
    pub(crate) fn release(&self, in_use: u64) -> bool {
        let limit = in_use - in_use % Self::CELL + self.capacity;
        let news = limit > self.limit() && !self.stopped.load(Ordering::Relaxed);
        if news {
            self.limit.store(limit, Ordering::Release);
            fence(Ordering::SeqCst); // see `stop`
            if self.stopped.load(Ordering::Relaxed) {
                self.limit.store(0, Ordering::Release);
            }
        }
        news
    }

    /// Grants nothing any more, for ever, while the driver goes on or not.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        // Pairs with the fence in `release`: the driver sees the end, or its limit is taken back.
        fence(Ordering::SeqCst);
        self.limit.store(0, Ordering::Release);
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
