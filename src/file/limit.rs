//! How long a file may be. The process may have a limit (RLIMIT_FSIZE): a write beyond it fails with
//! EFBIG, and raises a signal that ends the process (SIGXFSZ, signal(7)): the thread that makes the
//! call gets it, and that may be one of the program's own. And a file system may: FAT, 4 GiB less a byte.
#![allow(unsafe_code)]

use std::marker::PhantomData;

#[cfg(all(unix, not(target_os = "linux")))]
use libc::{RLIM_INFINITY, getrlimit, rlimit};
#[cfg(target_os = "linux")] // of 32 bits, too
use libc::{RLIM64_INFINITY as RLIM_INFINITY, getrlimit64 as getrlimit, rlimit64 as rlimit};

/// The limit of this process now, if there is one.
pub(crate) fn file_limit() -> Option<u64> {
    #[cfg(unix)]
    {
        let mut limit = rlimit { rlim_cur: RLIM_INFINITY, rlim_max: 0 };
        // SAFETY: a live struct. A failure leaves it as it is.
        unsafe { getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
        (limit.rlim_cur != RLIM_INFINITY).then_some(limit.rlim_cur)
    }
    #[cfg(not(unix))]
    None
}

/// The limit of the file system that an open file lies on, where that is below 4 GiB. Nobody else may
/// use the file's own place in it meanwhile.
#[cfg(target_os = "linux")]
pub(super) fn longest(file: &std::fs::File) -> Option<u64> {
    use std::io::{Seek, SeekFrom};
    let mut file = file;
    let longest = last_taken(1 << 32, |place| file.seek(SeekFrom::Start(place)).is_ok());
    let _ = file.rewind();
    longest
}

/// The last place that is taken (lseek(2) refuses those that no file reaches), if `beyond` is not.
#[cfg(target_os = "linux")]
fn last_taken(beyond: u64, mut is_taken: impl FnMut(u64) -> bool) -> Option<u64> {
    if is_taken(beyond) {
        return None;
    }
    let (mut last, mut refused) = (0, beyond);
    while refused - last > 1 {
        let middle = last.midpoint(refused);
        if is_taken(middle) {
            last = middle;
        } else {
            refused = middle;
        }
    }
    Some(last)
}

/// As long as it lives the signal does not reach this thread, and one that came meanwhile is taken
/// away. A few system calls where there is a limit; nothing elsewhere.
#[derive(Debug)]
pub(crate) struct NoSignal {
    #[cfg(unix)]
    before: Option<Before>,
    /// The mask is this thread's.
    _here: PhantomData<*const ()>,
}

/// What to go back to. Two flags and no set of signals: it is moved about at each commit of a caller.
#[cfg(unix)]
#[derive(Debug)]
struct Before {
    was_blocked: bool,
    was_pending: bool,
}

impl NoSignal {
    /// For calls in this thread that change the length of a file.
    pub(crate) fn here() -> Self {
        Self::where_limited(file_limit().is_some())
    }

    pub(crate) fn where_limited(limited: bool) -> Self {
        #[cfg(not(unix))]
        let _ = limited;
        Self {
            #[cfg(unix)]
            before: limited.then(|| Before { was_pending: is_pending(), was_blocked: block() }),
            _here: PhantomData,
        }
    }
}

#[cfg(unix)]
impl Drop for NoSignal {
    fn drop(&mut self) {
        let Some(before) = &self.before else { return };
        // SAFETY: live sets; it does not wait, since the signal is there.
        unsafe {
            if !before.was_pending && is_pending() {
                let mut taken = 0;
                libc::sigwait(&raw const *only_it(&mut std::mem::zeroed()), &raw mut taken);
            }
            if !before.was_blocked {
                let mut set = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_UNBLOCK, only_it(&mut set), std::ptr::null_mut());
            }
        }
    }
}

/// Blocks the signal in this thread, and says whether it was blocked before.
#[cfg(unix)]
fn block() -> bool {
    // SAFETY: plain data, and live sets.
    unsafe {
        let (mut set, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::pthread_sigmask(libc::SIG_BLOCK, only_it(&mut set), &raw mut before);
        libc::sigismember(&raw const before, libc::SIGXFSZ) == 1
    }
}

#[cfg(unix)]
fn is_pending() -> bool {
    // SAFETY: a live set.
    unsafe {
        let mut pending = std::mem::zeroed();
        libc::sigpending(&raw mut pending);
        libc::sigismember(&raw const pending, libc::SIGXFSZ) == 1
    }
}

#[cfg(unix)]
fn only_it(set: &mut libc::sigset_t) -> &libc::sigset_t {
    // SAFETY: a live set.
    unsafe {
        libc::sigemptyset(set);
        libc::sigaddset(set, libc::SIGXFSZ);
    }
    set
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_is_found() {
        for last in [0, 1, 4095, (1 << 31) - 1, (1 << 32) - 2, (1 << 32) - 1] {
            assert_eq!(last_taken(1 << 32, |place| place <= last), Some(last));
        }
        assert_eq!(last_taken(1 << 32, |_| true), None);
        assert_eq!(longest(&tempfile::tempfile().unwrap()), None, "no FAT");
    }
}
