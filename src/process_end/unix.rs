//! `exit`, by whatever name: the return of `main`, `std::process::exit`, C's `exit`.
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::panic::catch_unwind;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, MutexGuard, TryLockError, Weak};
use std::time::{Duration, Instant};

use super::Open;
use crate::core::Core;
use crate::fork::Process;

/// How long `exit` may take for all writers together; an idle disk takes milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// The writers of one process. A child has a list of its own: its parent's may be locked for ever, by
/// a thread that the child has not.
struct List {
    process: Process,
    open: Open,
}

/// Of this process, or of its parent, or none.
static LIST: AtomicPtr<List> = AtomicPtr::new(ptr::null_mut());

/// The list of this process, if it has ever opened a writer.
fn known() -> Option<&'static List> {
    // SAFETY: null, or a list, and those are never freed.
    let list = unsafe { LIST.load(Ordering::Acquire).as_ref() };
    list.filter(|list| !list.process.is_gone())
}

/// The writers of this process. No lock: a child may find any lock taken.
pub(super) fn open() -> &'static Open {
    loop {
        if let Some(list) = known() {
            return &list.open;
        }
        let others = LIST.load(Ordering::Acquire);
        let mine = Box::new(List { process: Process::this(), open: Open::default() });
        let mine = Box::into_raw(mine);
        let put = LIST.compare_exchange(others, mine, Ordering::AcqRel, Ordering::Acquire);
        if put.is_err() {
            // SAFETY: nobody else has seen it.
            drop(unsafe { Box::from_raw(mine) });
        }
    }
}

/// From the first writer on, an `exit` of this process, or of a child, ends every writer that is open.
pub(super) fn listen() {
    static LISTENS: AtomicBool = AtomicBool::new(false);
    if !LISTENS.swap(true, Ordering::AcqRel) {
        // SAFETY: the handler does not unwind. In a library that is unloaded, libc runs it then
        // (atexit(3)). Where there is no memory for it, `exit` is as `_exit`.
        unsafe { libc::atexit(exits) };
    }
}

extern "C" fn exits() {
    let _ = catch_unwind(|| end_all(Instant::now() + LIMIT));
}

/// Another thread does it, with what stays of this one's stack and locks out of reach: `exit` may
/// have been called anywhere, in a waker or a signal's handler too, with a lock of ours held. So
/// whatever hangs, this one goes on in time.
fn end_all(by: Instant) {
    let Some(list) = known() else { return }; // in a forked child, unless it has opened one
    let Some(open) = open_writers(&list.open, by) else { return };
    let open: Vec<_> = open.into_iter().filter(|core| core.can_end_here()).collect();
    if open.is_empty() {
        return;
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
fn open_writers(open: &Open, by: Instant) -> Option<Vec<ManuallyDrop<Arc<Core>>>> {
    let by = by.min(Instant::now() + Duration::from_millis(500));
    let open: MutexGuard<'_, Vec<Weak<Core>>> = loop {
        match open.try_lock() {
            Ok(open) => break open,
            Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if Instant::now() >= by => return None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    Some(open.iter().filter_map(Weak::upgrade).map(ManuallyDrop::new).collect())
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::options::{Drive, Options};

    #[test]
    fn a_child_opens_a_writer_though_its_parents_list_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("take");
        let locked = open().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // SAFETY: plain system calls; the child leaves without running anything of the harness, and is
        // ended where it hangs.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: as above.
            unsafe { libc::alarm(20) };
            let written = || {
                let mut writer = Options::new().drive(Drive::Caller).create(&path).ok()?;
                writer.try_write(b"a child's").ok()?;
                std::mem::forget(writer);
                exits(); // its own writer is on its list
                std::fs::read(&path).ok().filter(|found| found == b"a child's")
            };
            // SAFETY: as above.
            unsafe { libc::_exit(if written().is_some() { 42 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: the child of this process, and a live integer.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        drop(locked);
        assert!(libc::WIFEXITED(status), "it hung: signal {}", libc::WTERMSIG(status));
        assert_eq!(libc::WEXITSTATUS(status), 42);
    }
}
