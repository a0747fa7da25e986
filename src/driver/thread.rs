//! The threads of the crate: what they don't take over from whoever opened.
#![allow(unsafe_code)]

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::options::ThreadSetup;
use crate::sync::thread::{self, JoinHandle};

/// Starts a thread that no signal of the process is handled on: a handler that runs here could wait
/// for what this thread has to bring about, and a write that meets a limit gets its error. Policy
/// and cores are an ordinary thread's.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let _blocked = signals::Blocked::new(); // a new thread has the mask of the one that starts it
    thread::Builder::new().name(name.into()).spawn(move || {
        scheduling::shed();
        work()
    })
}

/// Makes this thread what the options ask for.
pub(super) fn set_up(setup: &ThreadSetup) -> io::Result<()> {
    let Some(setup) = &setup.0 else { return Ok(()) };
    let panicked = |_| io::Error::other("the setup of the driver's thread panicked");
    catch_unwind(AssertUnwindSafe(|| setup())).map_err(panicked)?
}

pub(super) use scheduling::is_real_time;

#[cfg(unix)]
mod signals {
    use std::mem::MaybeUninit;

    /// As long as it lives, this thread gets no signal but those that say that it is at fault.
    pub(super) struct Blocked {
        before: libc::sigset_t,
    }

    /// Sent to the thread that has caused them: a handler may mend it, or tell more than "killed".
    const ITS_OWN: [i32; 6] =
        [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];

    impl Blocked {
        pub(super) fn new() -> Self {
            let mut set = MaybeUninit::<libc::sigset_t>::uninit();
            let mut before = MaybeUninit::<libc::sigset_t>::uninit();
            // SAFETY: `sigfillset` fills the set, and `pthread_sigmask` the one before; neither
            // fails with these arguments.
            unsafe {
                libc::sigfillset(set.as_mut_ptr());
                for signal in ITS_OWN {
                    libc::sigdelset(set.as_mut_ptr(), signal);
                }
                libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr());
                Self { before: before.assume_init() }
            }
        }
    }

    impl Drop for Blocked {
        fn drop(&mut self) {
            // SAFETY: the mask that this thread had.
            unsafe {
                libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut());
            }
        }
    }
}

#[cfg(not(unix))]
mod signals {
    pub(super) struct Blocked;

    impl Blocked {
        pub(super) fn new() -> Self {
            Self
        }
    }
}

/// Linux hands policy, priority and cores of a thread on to those that it starts (sched(7),
/// sched_setaffinity(2)). System calls and not libc's functions: glibc remembers what a thread's
/// policy was, and musl has none of them.
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
mod scheduling {
    use std::mem::MaybeUninit;

    /// Whether this thread goes before the kernel's own workers.
    pub(in crate::driver) fn is_real_time() -> bool {
        const SCHED_DEADLINE: libc::c_long = 6;
        // SAFETY: plain numbers; 0 is this thread.
        let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
        let policy = policy & !libc::c_long::from(libc::SCHED_RESET_ON_FORK);
        [libc::SCHED_FIFO.into(), libc::SCHED_RR.into(), SCHED_DEADLINE].contains(&policy)
    }

    /// Lets go of a real-time policy, and of cores that whoever opened is bound to: the process
    /// may use what its main thread may. Where that is refused, this thread stays as it is.
    pub(super) fn shed() {
        if is_real_time() {
            let none = MaybeUninit::<libc::sched_param>::zeroed();
            // SAFETY: 0 is this thread; the parameter is read, and all zeros is one.
            unsafe {
                libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, none.as_ptr());
            }
        }
        let main = libc::pid_t::try_from(std::process::id()).unwrap_or(0);
        if let (Some(mine), Some(all)) = (cores_of(0), cores_of(main))
            && mine != all
        {
            // SAFETY: 0 is this thread; the set is read.
            unsafe {
                let len = size_of_val(&all);
                libc::syscall(libc::SYS_sched_setaffinity, 0, len, all.as_ptr());
            }
        }
    }

    /// A bit a core, as many as any kernel has.
    type Cores = [u64; 128];

    fn cores_of(thread: libc::pid_t) -> Option<Cores> {
        let mut cores: Cores = [0; 128];
        let len = size_of_val(&cores);
        // SAFETY: the kernel fills at most `len` bytes.
        let filled =
            unsafe { libc::syscall(libc::SYS_sched_getaffinity, thread, len, cores.as_mut_ptr()) };
        (filled > 0).then_some(cores)
    }
}

#[cfg(not(all(target_os = "linux", not(any(loom, shuttle)))))]
mod scheduling {
    pub(in crate::driver) fn is_real_time() -> bool {
        false
    }

    pub(super) fn shed() {}
}
