//! The one place where the crate names its synchronisation primitives, and the one blocking
//! primitive that it uses: [`Event`].
//!
//! With `--cfg loom` they are loom's, with `--cfg shuttle` shuttle's, so that what is checked is
//! what ships. loom looks at every interleaving and every memory order of a small part; shuttle at
//! many interleavings of the whole pipeline, each as if everything were sequentially consistent.

#[cfg(loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
        mpsc,
    },
    thread, thread_local,
};
#[cfg(shuttle)]
pub(crate) use shuttle::{
    hint::spin_loop,
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
        mpsc,
    },
    thread, thread_local,
};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::{
    hint::spin_loop,
    sync::{
        Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
        mpsc,
    },
    thread, thread_local,
    time::Instant,
};

#[cfg(all(not(any(loom, shuttle)), not(target_os = "linux")))]
use std::sync::Condvar;

use std::time::Duration;

use crate::canary::Slip;

#[cfg(any(loom, shuttle))]
mod modelled;
#[cfg(any(loom, shuttle))]
pub(crate) use modelled::{Instant, OnceLock};

/// For figures by which nothing is decided: the checkers would only lose time over them.
pub(crate) mod plain {
    pub(crate) use std::sync::atomic::AtomicU64;
}

/// A word to sleep on (futex(2)), within this process.
#[cfg(all(not(any(loom, shuttle)), target_os = "linux"))]
#[allow(unsafe_code)]
pub(crate) mod futex {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    /// Whoever sleeps, and whoever is woken, of all who might.
    pub(crate) const ANYBODY: u32 = u32::MAX;

    /// Sleeps while the word has this value, for so long at most. Every end (woken, changed, timed out,
    /// interrupted) means: look again.
    pub(crate) fn wait(word: &AtomicU32, value: u32, left: Option<Duration>) {
        let timeout = left.map(|left| libc::timespec {
            tv_sec: left.as_secs().min(i32::MAX as u64) as libc::time_t,
            tv_nsec: left.subsec_nanos() as libc::c_long,
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word and the timespec live through the call; the kernel only reads them.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, timeout) };
    }

    pub(crate) fn wake_all(word: &AtomicU32) {
        wake(word, ANYBODY);
    }

    /// Wakes those whose bits are among these ([`wait`] sleeps with all).
    pub(crate) fn wake(word: &AtomicU32, whom: u32) {
        let operation = libc::FUTEX_WAKE_BITSET | libc::FUTEX_PRIVATE_FLAG;
        let nothing = std::ptr::null::<libc::c_void>();
        let (all, address) = (i32::MAX, word.as_ptr());
        // SAFETY: the kernel uses the address only to find sleepers.
        unsafe { libc::syscall(libc::SYS_futex, address, operation, all, nothing, nothing, whom) };
    }
}

/// Something that threads wait for and that one thread announces to all of them at once.
///
/// A waiter reads a [`ticket`](Event::ticket), then looks at its condition, then sleeps; an
/// announcement between the look and the sleep changes the epoch, so that the sleep returns at
/// once. An announcement that nobody waits for makes no system call.
#[derive(Debug, Default)]
pub(crate) struct Event {
    epoch: AtomicU32,
    waiters: AtomicU32,
    #[cfg(any(loom, shuttle, not(target_os = "linux")))]
    fallback: (Mutex<()>, Condvar),
}

impl Event {
    /// The epoch to hand to [`sleep`](Event::sleep); read it before looking at the condition.
    pub(crate) fn ticket(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Sleeps until the next announcement after `ticket`, or until `deadline`. May wake for no
    /// reason: look at the condition again.
    pub(crate) fn sleep(&self, ticket: u32, deadline: Option<Instant>) {
        self.waiters.fetch_add(1, Ordering::Relaxed);
        if !Slip::UnfencedWait.is_planted() {
            fence(Ordering::SeqCst); // see `announce`
        }
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if left != Some(Duration::ZERO) && self.epoch.load(Ordering::Acquire) == ticket {
            self.block(ticket, left);
        }
        self.waiters.fetch_sub(1, Ordering::Relaxed);
    }

    /// Threads that sleep here, or are about to.
    pub(crate) fn sleepers(&self) -> u32 {
        self.waiters.load(Ordering::Relaxed)
    }

    /// Wakes every waiter. Call it after the change that they wait for is visible.
    pub(crate) fn announce(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
        // Pairs with the fence of the waiter, who counts itself and then looks at the epoch: one
        // of the two sees the other.
        fence(Ordering::SeqCst);
        if self.waiters.load(Ordering::Relaxed) > 0 {
            self.wake();
        }
    }

    #[cfg(all(not(any(loom, shuttle)), target_os = "linux"))]
    fn block(&self, ticket: u32, left: Option<Duration>) {
        futex::wait(&self.epoch, ticket, left);
    }

    #[cfg(all(not(any(loom, shuttle)), target_os = "linux"))]
    fn wake(&self) {
        futex::wake_all(&self.epoch);
    }

    #[cfg(any(loom, shuttle, not(target_os = "linux")))]
    fn block(&self, ticket: u32, left: Option<Duration>) {
        #[cfg(any(loom, shuttle))]
        if left.is_some() {
            return thread::yield_now(); // they know no time: it is as if something had woken it
        }
        let (lock, condvar) = &self.fallback;
        let guard = ignore_poison(lock.lock());
        if self.epoch.load(Ordering::Acquire) != ticket {
            return;
        }
        match left {
            Some(left) => drop(ignore_poison(condvar.wait_timeout(guard, left)).0),
            None => drop(ignore_poison(condvar.wait(guard))),
        }
    }

    #[cfg(any(loom, shuttle, not(target_os = "linux")))]
    fn wake(&self) {
        drop(ignore_poison(self.fallback.0.lock()));
        self.fallback.1.notify_all();
    }
}

/// Now and then lets every other thread go as far as it gets.
#[cfg(shuttle)]
pub(crate) fn dawdle() {
    use shuttle::rand::Rng;
    if shuttle::rand::thread_rng().gen_bool(0.2) {
        thread::yield_now();
    }
}

/// Raises `at` to `value` unless it is higher already.
///
/// `fetch_max` by another name, and the same instructions on x86: ThreadSanitizer does not see
/// `fetch_max` at all, and would take what it orders for races.
pub(crate) fn raise(at: &AtomicU64, value: u64, order: Ordering) {
    let mut before = at.load(Ordering::Relaxed);
    while let Err(now) =
        at.compare_exchange_weak(before, before.max(value), order, Ordering::Relaxed)
    {
        before = now;
    }
}

/// The guard of a lock whose last holder may have panicked: every state that the crate keeps
/// behind a lock is whole between two statements, so the panic of another thread changes nothing.
pub(crate) fn ignore_poison<G>(result: Result<G, std::sync::PoisonError<G>>) -> G {
    result.unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Forgets that the last holder of a lock panicked. (In loom none does.)
pub(crate) fn clear_poison<T>(mutex: &Mutex<T>) {
    #[cfg(not(loom))]
    mutex.clear_poison();
    #[cfg(loom)]
    let _ = mutex;
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn an_announcement_before_the_sleep_is_not_missed() {
        let event = Event::default();
        let ticket = event.ticket();
        event.announce();
        event.sleep(ticket, None);
    }

    #[test]
    fn a_deadline_in_the_past_returns_at_once() {
        let event = Event::default();
        event.sleep(event.ticket(), Some(Instant::now()));
    }

    #[test]
    fn every_waiter_is_woken() {
        let event = Arc::new(Event::default());
        let flag = Arc::new(AtomicBool::new(false));
        let waiters: Vec<_> = (0..8)
            .map(|_| {
                let (event, flag) = (event.clone(), flag.clone());
                std::thread::spawn(move || {
                    loop {
                        let ticket = event.ticket();
                        if flag.load(Ordering::SeqCst) {
                            break;
                        }
                        event.sleep(ticket, None);
                    }
                })
            })
            .collect();
        std::thread::yield_now();
        flag.store(true, Ordering::SeqCst);
        event.announce();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    }
}

/// Every interleaving of a program in which one thread is put aside for another, where it could have
/// gone on, at most so often: most bugs need it once or twice, and more takes hours.
#[cfg(all(test, loom))]
pub(crate) fn model(program: impl Fn() + Send + Sync + 'static) {
    model_with(3, program);
}

/// With at most so many preemptions.
#[cfg(all(test, loom))]
pub(crate) fn model_with(preemptions: usize, program: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = builder.max_branches.max(10_000); // a driver's thread takes many steps
    builder.check(program);
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    /// Invariant 7: an announcement that follows the change wakes whoever looked before it.
    #[test]
    fn no_wake_up_is_lost() {
        loom::model(|| {
            let shared = Arc::new((Event::default(), AtomicBool::new(false)));
            let waiter = {
                let shared = shared.clone();
                loom::thread::spawn(move || {
                    let (event, flag) = &*shared;
                    loop {
                        let ticket = event.ticket();
                        if flag.load(Ordering::Acquire) {
                            break;
                        }
                        event.sleep(ticket, None);
                    }
                })
            };
            let (event, flag) = &*shared;
            flag.store(true, Ordering::Release);
            event.announce();
            waiter.join().unwrap();
        });
    }
}
