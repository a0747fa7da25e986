//! What a writer tells its followers: positions, and how it ended. Lies in memory that processes
//! share; only the writer writes there, so that no follower can disturb it.
#![allow(unsafe_code)]

use std::time::Duration;

use crate::sync::{AtomicU32, AtomicU64, Ordering};
#[cfg(any(loom, shuttle))]
use crate::sync::{Condvar, Mutex, ignore_poison};

/// `wffollow`, and a version.
const MAGIC: u64 = u64::from_le_bytes(*b"wffollo1");

/// How far a writer has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It records.
    Live,
    /// It was closed, and the file is exactly what was written.
    Closed,
    /// It has failed, or was abandoned.
    Failed,
}

/// What a follower sees at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) state: State,
    pub(super) written: u64,
    pub(super) durable: u64,
}

/// See the module. Every field is an atomic of its natural size, so that the layout is the same in
/// every process of a machine.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Board {
    magic: AtomicU64,
    /// Device and number of the recording.
    file: [AtomicU64; 2],
    /// One more with every change: what followers sleep on.
    turn: AtomicU32,
    state: AtomicU32,
    written: AtomicU64,
    durable: AtomicU64,
    /// When the file was modified last, as its writer has left it; 0 while it has it.
    left: AtomicU64,
    #[cfg(any(loom, shuttle))]
    sleepers: (Mutex<()>, Condvar),
}

impl Board {
    pub(super) const BYTES: usize = size_of::<Self>();

    #[cfg(any(loom, shuttle))]
    pub(super) fn new() -> Self {
        Self {
            magic: AtomicU64::new(0),
            file: [AtomicU64::new(0), AtomicU64::new(0)],
            turn: AtomicU32::new(0),
            state: AtomicU32::new(0),
            written: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            left: AtomicU64::new(0),
            sleepers: Default::default(),
        }
    }

    // ---- the writer's -----------------------------------------------------------------------------

    /// Of zeroed memory that no follower knows yet.
    pub(super) fn begin(&self, file: [u64; 2], start: u64) {
        self.file[0].store(file[0], Ordering::Relaxed);
        self.file[1].store(file[1], Ordering::Relaxed);
        self.written.store(start, Ordering::Relaxed);
        self.durable.store(start, Ordering::Relaxed);
        self.magic.store(MAGIC, Ordering::Release);
    }

    /// The larger first: who reads the smaller first sees them in order.
    pub(super) fn post(&self, written: u64, durable: u64) {
        self.written.store(written, Ordering::Release);
        self.durable.store(durable, Ordering::Release);
        self.turn();
    }

    /// Positions don't move any more. The first end stays.
    pub(super) fn end(&self, state: State) {
        if self.state.load(Ordering::Relaxed) == State::Live as u32 {
            self.state.store(state as u32, Ordering::Release);
        }
        self.turn();
    }

    /// From now on others may write to the file.
    pub(super) fn leave(&self, modified: u64) {
        self.left.store(modified, Ordering::Release);
    }

    fn turn(&self) {
        self.turn.fetch_add(1, Ordering::Release);
        self.wake();
    }

    // ---- a follower's -----------------------------------------------------------------------------

    /// Whether a writer of this version has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.magic.load(Ordering::Acquire) == MAGIC
    }

    pub(super) fn file(&self) -> [u64; 2] {
        [self.file[0].load(Ordering::Relaxed), self.file[1].load(Ordering::Relaxed)]
    }

    /// To be read before a look, for [`sleep`](Self::sleep).
    pub(super) fn ticket(&self) -> u32 {
        self.turn.load(Ordering::Acquire)
    }

    /// The state first: behind an end no position moves. Of the positions the smaller first.
    pub(super) fn look(&self) -> Look {
        let state = match self.state.load(Ordering::Acquire) {
            0 => State::Live,
            1 => State::Closed,
            _ => State::Failed,
        };
        let durable = self.durable.load(Ordering::Acquire);
        let written = self.written.load(Ordering::Acquire);
        Look { state, written, durable }
    }

    /// How the writer has left the file; `None` while it has it.
    pub(super) fn left(&self) -> Option<u64> {
        match self.left.load(Ordering::Acquire) {
            0 => None,
            modified => Some(modified),
        }
    }
}

/// A word that processes share (futex(2), not private). The wake is a system call each time: a count of
/// sleepers would have to be the followers' to write.
#[cfg(not(any(loom, shuttle)))]
impl Board {
    /// Sleeps until something has changed since the ticket, for so long at most. May wake for no
    /// reason.
    pub(super) fn sleep(&self, ticket: u32, limit: Duration) {
        let limit = libc::timespec {
            tv_sec: limit.as_secs().min(i32::MAX as u64) as libc::time_t,
            tv_nsec: limit.subsec_nanos() as libc::c_long,
        };
        let (word, limit) = (self.turn.as_ptr(), std::ptr::from_ref(&limit));
        // SAFETY: word and timespec live through the call; the kernel only reads them.
        unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, ticket, limit) };
    }

    fn wake(&self) {
        let word = self.turn.as_ptr();
        // SAFETY: the kernel uses the address only to find sleepers.
        unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, i32::MAX) };
    }
}

/// As the kernel has it: the look at the word and the sleep are one step.
#[cfg(any(loom, shuttle))]
impl Board {
    pub(super) fn sleep(&self, ticket: u32, _limit: Duration) {
        let (lock, condvar) = &self.sleepers;
        let guard = ignore_poison(lock.lock());
        if self.ticket() == ticket {
            drop(ignore_poison(condvar.wait(guard)));
        }
    }

    fn wake(&self) {
        drop(ignore_poison(self.sleepers.0.lock()));
        self.sleepers.1.notify_all();
    }
}

/// A writer that writes to the "file" (one atomic: what its length is), posts, and ends; followers
/// that never see a position above what is there, nor sleep for ever.
#[cfg(all(test, any(loom, shuttle)))]
mod model_tests {
    use super::*;
    #[cfg(loom)]
    use loom::sync::Arc;
    #[cfg(shuttle)]
    use shuttle::sync::Arc;

    use crate::sync::thread;

    struct Model {
        board: Board,
        /// Bytes in the file, and behind a flush. Relaxed: only what is posted orders them.
        file: AtomicU64,
        flushed: AtomicU64,
    }

    fn record(model: &Model, steps: u64, end: State) {
        for step in 1..=steps {
            model.file.store(10 * step, Ordering::Relaxed);
            model.board.post(10 * step, 10 * (step - 1));
            model.flushed.store(10 * step, Ordering::Relaxed);
            model.board.post(10 * step, 10 * step);
        }
        model.board.end(end);
    }

    /// Reads to the end, as a follower does; returns where that is.
    fn follow(model: &Model) -> (State, u64) {
        let mut last = Look { state: State::Live, written: 0, durable: 0 };
        loop {
            let ticket = model.board.ticket();
            let look = model.board.look();
            assert!(look.durable <= look.written);
            assert!(look.written >= last.written && look.durable >= last.durable);
            assert!(model.file.load(Ordering::Relaxed) >= look.written, "not there yet");
            assert!(model.flushed.load(Ordering::Relaxed) >= look.durable, "not durable yet");
            if look.state != State::Live {
                assert_eq!(model.board.look(), look, "an end is the end");
                return (look.state, look.durable);
            }
            if look == last {
                model.board.sleep(ticket, Duration::MAX);
            }
            last = look;
        }
    }

    fn run(steps: u64, followers: usize, end: State) {
        let atomic = || AtomicU64::new(0);
        let model = Arc::new(Model { board: Board::new(), file: atomic(), flushed: atomic() });
        let followers: Vec<_> = (0..followers)
            .map(|_| {
                let model = model.clone();
                thread::spawn(move || follow(&model))
            })
            .collect();
        record(&model, steps, end);
        for follower in followers {
            assert_eq!(follower.join().unwrap(), (end, 10 * steps));
        }
    }

    #[cfg(loom)]
    mod loom_tests {
        use super::*;

        #[test]
        fn a_follower_sees_no_position_before_its_bytes_and_every_end() {
            crate::sync::model(|| run(1, 1, State::Closed));
        }

        #[test]
        fn a_follower_that_comes_late_hears_of_the_end() {
            crate::sync::model(|| run(0, 2, State::Failed));
        }
    }

    #[cfg(shuttle)]
    #[test]
    fn followers_in_many_orders() {
        let schedules = std::env::var("WRITEFLUSH_SCHEDULES").ok();
        // Small ones: ten times as many as of the whole pipeline.
        let schedules = 10 * schedules.map_or(100, |text| text.parse::<usize>().unwrap());
        shuttle::check_random(|| run(3, 2, State::Closed), schedules);
    }
}
