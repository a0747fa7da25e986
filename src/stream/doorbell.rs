//! What wakes a driver. The streams of one driver share it.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::backend::Wake;
use crate::canary::Slip;
use crate::sync::{AtomicBool, AtomicU64, Ordering, fence};

/// Wakes the driver, and makes no system call unless the driver has said that it sleeps.
#[derive(Debug)]
pub(crate) struct Doorbell {
    sleeping: CachePadded<AtomicBool>,
    /// Who has rung, a bit for each place. Empty where there is one stream only.
    rung: Box<[AtomicU64]>,
    waker: Arc<dyn Wake>,
}

impl Doorbell {
    /// For so many streams.
    pub(crate) fn new(waker: Arc<dyn Wake>, streams: usize) -> Self {
        let words = if streams > 1 { streams.div_ceil(64) } else { 0 };
        let rung = (0..words).map(|_| AtomicU64::new(0)).collect();
        Self { sleeping: CachePadded::new(AtomicBool::new(false)), rung, waker }
    }

    /// As [`ring`](Self::ring): the stream at this place has something to do.
    #[inline]
    pub(crate) fn ring_for(&self, place: usize) {
        if let Some(word) = self.rung.get(place / 64) {
            let bit = 1 << (place % 64);
            // Pairs with the fence in `take_rung`: either the driver sees what was published before
            // this call, or its taking is seen here.
            fence(Ordering::SeqCst);
            if word.load(Ordering::Relaxed) & bit != 0 {
                return; // whoever has set it wakes the driver
            }
            word.fetch_or(bit, Ordering::AcqRel);
        }
        self.ring();
    }

    /// Of the driver: takes the streams that have rung, in words of 64. Where there is one only, it
    /// is to be looked at each time.
    pub(crate) fn take_rung(&self, mut each: impl FnMut(usize, u64)) {
        if self.rung.is_empty() {
            return each(0, 1);
        }
        let mut any = false;
        for (at, word) in self.rung.iter().enumerate() {
            if word.load(Ordering::Relaxed) != 0 {
                each(at, word.swap(0, Ordering::AcqRel));
                any = true;
            }
        }
        if any && !Slip::UnfencedTaking.is_planted() {
            fence(Ordering::SeqCst);
        }
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
