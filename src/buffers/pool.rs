//! Memory that goes from a stream that is over to the next one of the same recording.

use std::alloc::Layout;
use std::fmt;

use crossbeam_utils::atomic::AtomicCell;

use super::memory::Allocation;
use crate::sync::{AtomicU64, Ordering};

/// Memory of streams that are over, with all of its pages. No lock: a forked child may drop what lies
/// here, too.
///
/// Taken anew for each segment it would be cleared each time, by whoever makes the segment: 36 ms of a
/// core for 32 MiB, which the producer may have to wait for (ARCHITECTURE.md).
#[derive(Default)]
pub(crate) struct Pool {
    idle: [AtomicCell<Option<Box<Allocation>>>; Self::PLACES as usize],
    /// Of the idle ones, and of those that come when their last handle goes.
    taken: AtomicU64,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl Pool {
    /// One goes round. A second place, for that a ticket somewhere may keep one back for long.
    const PLACES: u64 = 2;

    /// What has another layout goes to the system.
    pub(super) fn take(&self, layout: Layout) -> Option<Allocation> {
        let found = self.idle.iter().find_map(AtomicCell::take)?;
        self.taken.fetch_sub(1, Ordering::Relaxed);
        found.is_of(layout).then_some(*found)
    }

    /// Whether there is a place. Who has got one has to [`put`](Self::put).
    pub(super) fn give_place(&self) -> bool {
        let one_more = |taken| (taken < Self::PLACES).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    pub(super) fn put(&self, allocation: Allocation) {
        let mut moved = Some(Box::new(allocation));
        for place in &self.idle {
            moved = place.swap(moved);
            if moved.is_none() {
                return;
            }
        }
    }

    /// How many lie here; nobody else takes one meanwhile.
    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) fn idle(&self) -> usize {
        let idle: Vec<_> = self.idle.iter().filter_map(AtomicCell::take).collect();
        let count = idle.len();
        idle.into_iter().for_each(|allocation| self.put(*allocation));
        count
    }
}
