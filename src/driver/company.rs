//! Group commit: who shares the next fence.

use std::time::Duration;

use crate::sync::{AtomicU64, Instant, Ordering, thread};

/// Those whom one fence has just let go are about to ask for the next. Whoever drives gives them
/// a moment, so that all share it; else they would split into two groups that take turns, each
/// half as large.
///
/// A guess about the near future and nothing else: it may delay a fence, by no more than the last
/// one took and never by more than [`MOST`](Self::MOST), and it never decides what a fence covers.
#[derive(Debug, Default)]
pub(crate) struct Company {
    /// Callers that the last fence and the one before its start had to do with: they may be back.
    group: AtomicU64,
    /// Fences that had been asked for when it began, and when the one before it began.
    served: AtomicU64,
    served_before: AtomicU64,
    took_nanoseconds: AtomicU64,
}

impl Company {
    /// Those who come back do so as soon as they run. Whoever has not by then does something else.
    const MOST: Duration = Duration::from_millis(2);

    /// Whether several shared the last fence.
    pub(crate) fn is_group(&self) -> bool {
        self.group.load(Ordering::Relaxed) > 1
    }

    /// Before a fence begins: waits until as many have `asked` as took part last time, or
    /// something is `urgent`. A lone caller never waits.
    pub(crate) fn gather(&self, asked: impl Fn() -> u64, urgent: impl Fn() -> bool) {
        let mut until = None;
        self.gather_while(asked, || {
            let until = *until.get_or_insert_with(|| Instant::now() + self.patience());
            !urgent() && Instant::now() < until
        });
    }

    fn gather_while(&self, asked: impl Fn() -> u64, mut patient: impl FnMut() -> bool) {
        let group = self.group.load(Ordering::Relaxed);
        let served = self.served.load(Ordering::Relaxed);
        if group > 1 {
            while asked().saturating_sub(served) < group && patient() {
                thread::yield_now();
            }
        }
        self.served_before.store(served, Ordering::Relaxed);
        self.served.store(asked(), Ordering::Relaxed);
    }

    fn patience(&self) -> Duration {
        Duration::from_nanos(self.took_nanoseconds.load(Ordering::Relaxed)).min(Self::MOST)
    }

    /// After a fence has ended: how many `waiting` there are, how many have `asked` ever, and how
    /// long it took. Not all who wait have asked (several may hold one ticket), and not all who
    /// ask wait.
    pub(crate) fn disband(&self, waiting: u32, asked: u64, took: Duration) {
        let took_part = asked.saturating_sub(self.served_before.load(Ordering::Relaxed));
        self.group.store(took_part.min(waiting.into()), Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.took_nanoseconds.store(nanoseconds, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    const NEVER: fn() -> bool = || false;

    /// Asks once more at every look.
    fn asking(from: u64) -> (std::rc::Rc<std::cell::Cell<u64>>, impl Fn() -> u64) {
        let looks = std::rc::Rc::new(std::cell::Cell::new(from));
        let seen = looks.clone();
        (looks, move || {
            seen.set(seen.get() + 1);
            seen.get()
        })
    }

    #[test]
    fn a_lone_caller_never_waits_and_a_group_waits_until_it_is_whole() {
        let company = Company::default();
        let (looks, asked) = asking(0);
        company.disband(1, 1, Duration::MAX);
        company.gather(&asked, NEVER);
        assert_eq!(looks.get(), 1);
        company.disband(4, 5, Duration::from_secs(1));
        company.gather_while(&asked, || true); // one asked before: four more make the group
        assert_eq!(company.served.load(Ordering::Relaxed), 6);
    }

    #[test]
    fn several_who_wait_for_one_fence_are_no_group() {
        let company = Company::default();
        company.gather(|| 1, NEVER);
        company.disband(7, 1, Duration::MAX);
        let (looks, asked) = asking(1);
        company.gather(asked, NEVER);
        assert_eq!(looks.get(), 2, "it looked only once");
    }

    #[test]
    fn a_group_that_does_not_come_back_is_not_waited_for_longer_than_a_fence() {
        let company = Company::default();
        company.disband(100, 100, Duration::ZERO);
        company.gather(|| 0, NEVER);
    }

    #[test]
    fn what_is_urgent_does_not_wait_for_company() {
        let company = Company::default();
        company.disband(100, 100, Duration::MAX);
        let (looks, asked) = asking(0);
        company.gather(asked, || true);
        assert_eq!(looks.get(), 2);
    }
}
