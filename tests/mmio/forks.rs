//! A forked child closes what its parent has open.

use super::caller::{CREATE, Caller, name, place};
use super::common::{child_succeeds, child_task, watched};
use writeflush::mmio::*;

/// How many answers of a child were wrong. It may not allocate much or panic: only this thread is
/// there.
fn wrong_in_a_child(body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child calls `body` and leaves without running anything else of this process.
    unsafe {
        // As `_Fork` does: nothing has told the child's C library that its other threads are gone.
        #[cfg(target_os = "linux")]
        let child = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t;
        #[cfg(not(target_os = "linux"))]
        let child = libc::fork();
        match child {
            0 => libc::_exit(body()),
            child => {
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                assert!(libc::WIFEXITED(status), "the child was killed: {status}");
                libc::WEXITSTATUS(status)
            }
        }
    }
}

/// It waits for none of the threads that it doesn't have: neither the driver's nor that of the
/// fences.
#[test]
fn a_forked_child_ends_without_its_parents_threads() {
    let test = "forks::a_forked_child_ends_without_its_parents_threads";
    if child_task().is_none() {
        return child_succeeds(test, "alone", |_| {});
    }
    watched(test, || {
        let (_dir, path) = place();
        let mut caller = Caller::open(&name(&path), CREATE).unwrap();
        assert_eq!(caller.write_flush(&[1; 1000]), 1000);
        let wrong = wrong_in_a_child(|| {
            // SAFETY: a hang ends the child.
            unsafe { libc::alarm(60) };
            let refused = caller.write_flush(&[2; 100_000]) == -1;
            let closed = caller.close() != 0;
            i32::from(!refused) + i32::from(!closed)
        });
        assert_eq!(wrong, 0);
        assert_eq!(caller.write_flush(&[3; 1000]), 1000);
        assert_eq!(caller.close(), 0);
        assert_eq!(std::fs::read(path).unwrap(), [[1; 1000], [3; 1000]].concat());
    });
}

#[test]
fn a_forked_child_gives_up_no_lock_of_its_parent() {
    let test = "forks::a_forked_child_gives_up_no_lock_of_its_parent";
    if child_task().is_none() {
        return child_succeeds(test, "alone", |_| {});
    }
    let (_dir, path) = place();
    std::fs::write(&path, b"content").unwrap();
    for flags in [MMIO_READ | MMIO_DENYWRITE, MMIO_READWRITE] {
        let mut holder = Caller::open(&name(&path), flags).unwrap();
        wrong_in_a_child(|| holder.close() as i32);
        let other = Caller::open(&name(&path), MMIO_READWRITE);
        assert_eq!(other.err(), Some(MMIOERR_SHARINGVIOLATION as isize), "{flags:#x}");
        assert_eq!(holder.close(), 0);
    }
    assert_eq!(std::fs::read(path).unwrap(), b"content");
}
