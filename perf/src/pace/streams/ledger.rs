//! When each fence was known to be durable. Whoever comes to know it, on whatever thread, notes it
//! without a lock or an allocation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One moment for each fence of each stream.
#[derive(Debug)]
pub(crate) struct Ledger {
    begun: Instant,
    /// Fences of each stream.
    fences: u64,
    /// In ns since the beginning; 0: not known yet.
    known: Box<[AtomicU64]>,
}

impl Ledger {
    pub(super) fn new(streams: usize, fences: u64) -> Self {
        let known = (0..streams as u64 * fences).map(|_| AtomicU64::new(0)).collect();
        Self { begun: Instant::now(), fences, known }
    }

    fn place(&self, stream: usize, fence: u64) -> &AtomicU64 {
        &self.known[stream * self.fences as usize + fence as usize]
    }

    /// A fence, the first is 0, is through. Only the first time counts.
    pub(super) fn know(&self, stream: usize, fence: u64) {
        let now = (self.begun.elapsed().as_nanos() as u64).max(1);
        let place = self.place(stream, fence);
        let _ = place.compare_exchange(0, now, Ordering::Release, Ordering::Relaxed);
    }

    /// All fences of a stream from one to before another are through.
    pub(super) fn know_all(&self, stream: usize, from: u64, to: u64) {
        (from..to.min(self.fences)).for_each(|fence| self.know(stream, fence));
    }

    /// How long after a moment a fence was known; `None`: it is not yet.
    pub(super) fn known_after(&self, stream: usize, fence: u64, due: Instant) -> Option<Duration> {
        let known = self.place(stream, fence).load(Ordering::Acquire);
        let known = self.begun + Duration::from_nanos(known);
        (known > self.begun).then(|| known.saturating_duration_since(due))
    }

    /// Whether everybody's last fence is known, and so every one.
    pub(super) fn is_full(&self) -> bool {
        let mut last = self.known.chunks(self.fences.max(1) as usize).filter_map(<[_]>::last);
        last.all(|known| known.load(Ordering::Acquire) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_moment_at_which_a_fence_was_known_counts() {
        let ledger = Ledger::new(2, 3);
        assert!(!ledger.is_full());
        ledger.know(0, 0);
        let first = ledger.known_after(0, 0, ledger.begun).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        ledger.know_all(0, 0, 3);
        assert_eq!(ledger.known_after(0, 0, ledger.begun), Some(first));
        assert!(ledger.known_after(0, 2, ledger.begun).unwrap() > first);
        assert_eq!(ledger.known_after(1, 0, ledger.begun), None);
        assert!(!ledger.is_full());
        ledger.know_all(1, 0, 99);
        assert!(ledger.is_full());
        assert_eq!(ledger.known_after(1, 2, Instant::now()), Some(Duration::ZERO));
    }
}
