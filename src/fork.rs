//! A child process inherits a writer, but neither its thread nor a right to its file: what the
//! child does must not reach the file, nor wait for a thread that it doesn't have.
//!
//! Two kinds of children, told apart in two ways:
//!
//! - A copy of the memory (`fork`, `_Fork`, a bare clone(2)): it finds a mark wiped. The kernel does
//!   that whoever called it and however (`MADV_WIPEONFORK`, Linux 4.14), which handlers of
//!   `pthread_atfork` can't say: `_Fork` and clone(2) run none. A look costs a load.
//! - The same memory (`vfork`, `CLONE_VM`): nothing in it can tell, only the number of the process
//!   can. A look is a system call, so a push never looks.

use std::sync::atomic::{AtomicU32, Ordering};

/// The process in which something was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    mark: &'static AtomicU32,
    id: u32,
}

/// What a mark says where it was made; it is 0 in a child.
const HERE: u32 = 1;

impl Process {
    /// This one.
    pub(crate) fn this() -> Self {
        Self { mark: mark(), id: std::process::id() }
    }

    /// Whether this process has a copy of the memory in which it was made.
    #[inline]
    pub(crate) fn is_gone(self) -> bool {
        self.mark.load(Ordering::Relaxed) != HERE
    }

    /// Whether this is the process. Makes a system call.
    pub(crate) fn is_this(self) -> bool {
        !self.is_gone() && !self.is_lent()
    }

    /// Whether this is another process which shares that memory. Makes a system call.
    pub(crate) fn is_lent(self) -> bool {
        !self.is_gone() && std::process::id() != self.id
    }
}

#[cfg(unix)]
use unix::mark;

/// Nothing forks there.
#[cfg(not(unix))]
fn mark() -> &'static AtomicU32 {
    static MARK: AtomicU32 = AtomicU32::new(HERE);
    &MARK
}

#[cfg(unix)]
mod unix {
    #![allow(unsafe_code)]

    use std::ptr;
    use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

    use super::HERE;

    /// The mark of this process, or the wiped one of its parent, or none.
    static CURRENT: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

    /// No lock: a child may find any lock taken. Of two first callers at once one leaves its mark
    /// unused.
    pub(super) fn mark() -> &'static AtomicU32 {
        let known = CURRENT.load(Ordering::Acquire);
        // SAFETY: null, or a mark, and those are never freed.
        if let Some(mark) = unsafe { known.as_ref() }
            && mark.load(Ordering::Relaxed) == HERE
        {
            return mark;
        }
        // A wiped mark stays wiped: what was made before the fork is told by it.
        let mine = wiped_by_the_kernel().unwrap_or_else(wiped_by_a_handler);
        let put = (&raw const *mine).cast_mut();
        match CURRENT.compare_exchange(known, put, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => mine,
            // SAFETY: only marks are put there, and they are never freed.
            Err(theirs) => unsafe { &*theirs },
        }
    }

    #[cfg(target_os = "linux")]
    fn wiped_by_the_kernel() -> Option<&'static AtomicU32> {
        const LEN: usize = 4096; // rounded up to a page by the kernel
        // SAFETY: new memory of its own, which is never unmapped; zeroed and aligned for the mark.
        unsafe {
            let (access, kind) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let page = libc::mmap(ptr::null_mut(), LEN, access, kind, -1, 0);
            if page == libc::MAP_FAILED {
                return None;
            }
            // Emulators that take every advice, and heed none, are found out by one that there is
            // not (qemu-user before 7.2).
            if libc::madvise(page, LEN, -1) == 0
                || libc::madvise(page, LEN, libc::MADV_WIPEONFORK) != 0
            {
                libc::munmap(page, LEN);
                return None;
            }
            let mark = &*page.cast::<AtomicU32>();
            mark.store(HERE, Ordering::Relaxed);
            Some(mark)
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn wiped_by_the_kernel() -> Option<&'static AtomicU32> {
        None
    }

    fn wiped_by_a_handler() -> &'static AtomicU32 {
        extern "C" fn in_the_child() {
            // SAFETY: null, or a mark, and those are never freed.
            if let Some(mark) = unsafe { CURRENT.load(Ordering::Acquire).as_ref() } {
                mark.store(0, Ordering::Relaxed);
            }
        }
        static REGISTERED: AtomicBool = AtomicBool::new(false);
        if !REGISTERED.swap(true, Ordering::AcqRel) {
            // SAFETY: the handler lives for ever, and does nothing that a child may not do. Where
            // there is no memory for it, forks stay unseen.
            unsafe { libc::pthread_atfork(None, None, Some(in_the_child)) };
        }
        Box::leak(Box::new(AtomicU32::new(HERE)))
    }

    #[cfg(all(test, not(any(loom, shuttle))))]
    mod tests {
        use super::super::Process;
        use super::*;

        /// What `body` answers in a child that `fork` makes.
        fn child_says(fork: impl FnOnce() -> libc::pid_t, body: impl FnOnce() -> bool) -> bool {
            // SAFETY: plain system calls; the child leaves without running anything else.
            unsafe {
                match fork() {
                    0 => libc::_exit(body().into()),
                    child => {
                        let mut status = 0;
                        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                        assert!(libc::WIFEXITED(status), "the child was killed: {status}");
                        libc::WEXITSTATUS(status) != 0
                    }
                }
            }
        }

        fn fork() -> libc::pid_t {
            // SAFETY: see `child_says`.
            unsafe { libc::fork() }
        }

        #[test]
        fn a_copy_knows_itself_and_what_it_makes_is_its_own() {
            let parent = Process::this();
            assert!(!parent.is_gone() && !parent.is_lent());
            assert!(child_says(fork, || {
                let child = Process::this();
                let mine = parent.is_gone() && !child.is_gone() && !child.is_lent();
                mine && child_says(fork, || {
                    let grandchild = Process::this();
                    parent.is_gone() && child.is_gone() && !grandchild.is_gone()
                })
            }));
            assert!(!parent.is_gone());
        }

        /// `clone` as glibc's `fork` calls it, without what `fork` does around it.
        #[cfg(target_os = "linux")]
        #[test]
        fn a_copy_that_no_handler_saw_knows_itself() {
            let parent = Process::this();
            let clone = || {
                // SAFETY: no stack and no flags but the signal: a fork.
                unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t }
            };
            assert!(child_says(clone, || parent.is_gone()));
        }

        #[test]
        fn where_the_kernel_wipes_nothing_a_handler_does() {
            let mark = wiped_by_a_handler();
            let before = CURRENT.swap((&raw const *mark).cast_mut(), Ordering::AcqRel);
            let seen = child_says(fork, || mark.load(Ordering::Relaxed) == 0);
            CURRENT.store(before, Ordering::Release);
            // Others may have met it meanwhile: it stays, and is no leak.
            static KEPT: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
            std::hint::black_box(&KEPT).store((&raw const *mark).cast_mut(), Ordering::Release);
            assert!(seen && mark.load(Ordering::Relaxed) == HERE);
        }
    }
}
