//! `exit`, by whatever name: the return of `main`, `std::process::exit`, C's `exit`.
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::panic::catch_unwind;
use std::sync::{Arc, MutexGuard, Once, TryLockError, Weak};
use std::time::{Duration, Instant};

use super::OPEN;
use crate::core::Core;

/// How long `exit` may take for all writers together; an idle disk takes milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// From the first writer on, an `exit` of this process ends every writer that is open.
pub(super) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler does not unwind. In a library that is unloaded, libc runs it then
        // (atexit(3)). Where there is no memory for it, `exit` is as `_exit`.
        unsafe { libc::atexit(exits) };
    });
}

extern "C" fn exits() {
    let _ = catch_unwind(|| end_all(Instant::now() + LIMIT));
}

/// Another thread does it, with what stays of this one's stack and locks out of reach: `exit` may
/// have been called anywhere, in a waker or a signal's handler too, with a lock of ours held. So
/// whatever hangs, this one goes on in time.
fn end_all(by: Instant) {
    let Some(open) = open_writers(by) else { return };
    let open: Vec<_> = open.into_iter().filter(|core| core.can_end_here()).collect();
    if open.is_empty() {
        return; // in a forked child, always
    }
    let open = Arc::new(open);
    let others = open.clone();
    let work = move || {
        others.iter().for_each(|core| core.take_no_more());
        others.iter().for_each(|core| core.end(by));
    };
    let thread = std::thread::Builder::new().name("writeflush-exit".into());
    let Ok(thread) = thread.spawn(work.clone()) else {
        return work(); // with no thread to be had
    };
    // In slices: completions of what this thread has submitted come only when it enters the kernel.
    while !thread.is_finished() && Instant::now() < by {
        std::thread::sleep(Duration::from_millis(1));
    }
    if thread.is_finished() {
        let _ = thread.join();
    }
}

/// Those that are open, for good: the last one's drop would close it. `None` if a thread is opening
/// one, and does not come to an end.
fn open_writers(by: Instant) -> Option<Vec<ManuallyDrop<Arc<Core>>>> {
    let by = by.min(Instant::now() + Duration::from_millis(500));
    let open: MutexGuard<'_, Vec<Weak<Core>>> = loop {
        match OPEN.try_lock() {
            Ok(open) => break open,
            Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if Instant::now() >= by => return None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    Some(open.iter().filter_map(Weak::upgrade).map(ManuallyDrop::new).collect())
}
