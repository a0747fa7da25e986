//! A thread that the kernel kills if it enters it: for tests that promise no system call.

use std::sync::atomic::{AtomicBool, Ordering};

/// From now on every system call of this thread but `exit` ends the process with SIGSYS. Stricter
/// than the kernel's strict mode, which lets `write` pass.
pub fn forbid_system_calls() {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let (load, equal, end) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    );
    let mut steps = [
        step(load, 0, 0, 0), // the number of the system call
        step(equal, 0, 1, libc::SYS_exit as u32),
        step(end, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(end, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: plain system calls with a live program.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
    }
}

/// Runs `push` in a thread that may not make a system call, to its end.
pub fn without_system_calls(push: impl FnOnce() + Send + 'static) {
    static DONE: AtomicBool = AtomicBool::new(false);
    std::thread::spawn(move || {
        forbid_system_calls();
        push();
        DONE.store(true, Ordering::SeqCst);
        // SAFETY: the one call that is allowed; it ends this thread, whose stack stays and of
        // which nothing is used any more.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    while !DONE.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
}
