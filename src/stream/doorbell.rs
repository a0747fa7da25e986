//! What wakes a driver. The streams of one driver share it.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::backend::Wake;
use crate::canary::Slip;
use crate::sync::{AtomicBool, Ordering, fence};

/// Wakes the driver, and makes no system call unless the driver has said that it sleeps.
#[derive(Debug)]
pub(crate) struct Doorbell {
    sleeping: CachePadded<AtomicBool>,
    waker: Arc<dyn Wake>,
}

impl Doorbell {
    pub(crate) fn new(waker: Arc<dyn Wake>) -> Self {
        Self { sleeping: CachePadded::new(AtomicBool::new(false)), waker }
    }

    /// Wakes the driver if it has announced that it sleeps; otherwise makes no system call.
    #[inline]
    pub(crate) fn ring(&self) {
        // Pairs with the fence in `going_to_sleep`: either the driver sees what was published
        // before this call, or this call sees that the driver sleeps.
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// The driver is about to sleep: it has to look for work once more after this call.
    pub(crate) fn going_to_sleep(&self) {
        // Swaps, as the ringer's, so that of one who looked long ago each is seen or comes before:
        // loom takes a plain store for one that may be overwritten unseen.
        self.sleeping.swap(true, Ordering::Relaxed);
        if !Slip::UnfencedSleep.is_planted() {
            fence(Ordering::SeqCst);
        }
    }

    pub(crate) fn awake(&self) {
        self.sleeping.swap(false, Ordering::Relaxed);
    }

    /// See [`Wake::halt`].
    #[cfg(any(windows, test))]
    pub(crate) fn halt(&self) {
        self.waker.halt();
    }
}
