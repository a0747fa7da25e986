//! Memory that goes from a stream that is over to the next one of the same recording.

use std::alloc::Layout;

use super::memory::Allocation;
use crate::sync::{AtomicU64, Mutex, Ordering, ignore_poison};

/// Memory of streams that are over, with all of its pages.
///
/// Taken anew for each segment it would be cleared each time, by whoever makes the segment: 36 ms of a
/// core for 32 MiB, which the producer may have to wait for (ARCHITECTURE.md).
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Allocation>>,
    /// Of the idle ones, and of those that come when their last handle goes.
    places: AtomicU64,
}

impl Pool {
    /// One goes round. A second place, for that a ticket somewhere may keep one back for long.
    const PLACES: u64 = 2;

    pub(super) fn take(&self, layout: Layout) -> Option<Allocation> {
        let mut idle = ignore_poison(self.idle.lock());
        let at = idle.iter().position(|it| it.is_of(layout))?;
        self.places.fetch_sub(1, Ordering::Relaxed);
        Some(idle.swap_remove(at))
    }

    /// Whether there is a place. Who has got one has to [`put`](Self::put).
    pub(super) fn give_place(&self) -> bool {
        let one_more = |places| (places < Self::PLACES).then_some(places + 1);
        self.places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    pub(super) fn put(&self, allocation: Allocation) {
        ignore_poison(self.idle.lock()).push(allocation);
    }

    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) fn idle(&self) -> usize {
        ignore_poison(self.idle.lock()).len()
    }
}
