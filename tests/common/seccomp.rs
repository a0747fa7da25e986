//! What the kernel makes of system calls (seccomp(2)). Nothing here allocates or takes a lock: it may
//! run between fork and exec.
#![allow(dead_code)] // each test file uses its own part
#![allow(unsafe_code)]

use std::io;

/// A step of a filter, which goes through them in order.
pub type Step = libc::sock_filter;

const fn step(code: u32, jt: u8, jf: u8, k: u32) -> Step {
    Step { code: code as u16, jt, jf, k }
}

/// Looks at this part of `seccomp_data`; at 0 lies the number of the call.
pub const fn look_at(offset: u32) -> Step {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

/// Leaves out so many steps unless that is `value`.
pub const fn unless(value: u32, steps: u8) -> Step {
    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, steps, value)
}

/// The end: what becomes of the call.
pub const fn end(action: u32) -> Step {
    step(libc::BPF_RET | libc::BPF_K, 0, 0, action)
}

/// From now on this call fails with this error in this thread and in what it starts.
pub fn refuse(call: libc::c_long, error: i32) -> io::Result<()> {
    let refused = end(libc::SECCOMP_RET_ERRNO | error as u32);
    let mut steps = [look_at(0), unless(call as u32, 1), refused, end(libc::SECCOMP_RET_ALLOW)];
    filter(&mut steps, 0).map(|_| ())
}

/// From now on all calls of this thread, and of what it starts, go through these steps. Gives what
/// the kernel answers, which depends on the flags.
pub fn filter(steps: &mut [Step], flags: libc::c_ulong) -> io::Result<libc::c_long> {
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: plain system calls with a live program.
    let answer = unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
