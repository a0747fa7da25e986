//! Group commit: who shares the next fence.

use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, Ordering};

/// Those whom one fence has just let go are about to ask for the next. Whoever drives gives them
/// a moment, so that all share it; else they would split into two groups that take turns, each
/// half as large.
///
/// A guess about the near future and nothing else: it may delay a fence, by no more than the last
/// one took, and it never decides what a fence covers.
#[derive(Debug, Default)]
pub(crate) struct Company {
    /// Callers that waited when the last fence ended.
    group: AtomicU64,
    /// Fences that had been asked for when it began: it served them all.
    served: AtomicU64,
    took_nanoseconds: AtomicU64,
}

impl Company {
    /// Before a fence begins: waits until as many have `asked` as waited last time. A lone caller
    /// never waits.
    pub(crate) fn gather(&self, asked: impl Fn() -> u64) {
        let group = self.group.load(Ordering::Relaxed);
        if group > 1 {
            let served = self.served.load(Ordering::Relaxed);
            let took = Duration::from_nanos(self.took_nanoseconds.load(Ordering::Relaxed));
            let until = Instant::now() + took;
            while asked().saturating_sub(served) < group && Instant::now() < until {
                std::thread::yield_now();
            }
        }
        self.served.store(asked(), Ordering::Relaxed);
    }

    /// After a fence has ended: how many waited, and how long it took.
    pub(crate) fn disband(&self, group: u32, took: Duration) {
        self.group.store(group.into(), Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.took_nanoseconds.store(nanoseconds, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_caller_never_waits_and_a_group_waits_until_it_is_whole() {
        let company = Company::default();
        let looks = std::cell::Cell::new(0);
        let asked = || {
            looks.set(looks.get() + 1);
            looks.get()
        };
        company.disband(1, Duration::MAX);
        company.gather(asked);
        assert_eq!(looks.get(), 1);
        company.disband(4, Duration::from_secs(1 << 30));
        company.gather(asked); // one asked before: four more make the group
        assert_eq!(company.served.load(Ordering::Relaxed), 6);
    }

    #[test]
    fn a_group_that_does_not_come_back_is_not_waited_for_longer_than_a_fence() {
        let company = Company::default();
        company.disband(100, Duration::ZERO);
        company.gather(|| 0);
    }
}
