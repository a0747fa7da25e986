//! A thread that the kernel kills if it enters it: for tests that promise no system call.

#[path = "seccomp.rs"]
mod seccomp;

use std::sync::atomic::{AtomicBool, Ordering};

use seccomp::{end, filter, look_at, unless};

/// From now on every system call of this thread but `exit` ends the process with SIGSYS. Stricter
/// than the kernel's strict mode, which lets `write` pass.
pub fn forbid_system_calls() {
    let mut steps = [
        look_at(0),
        unless(libc::SYS_exit as u32, 1),
        end(libc::SECCOMP_RET_ALLOW),
        end(libc::SECCOMP_RET_KILL_PROCESS),
    ];
    assert!(filter(&mut steps, 0).is_ok());
}

/// Whether reading the clock is a system call on this machine, which it is where the processor's own
/// counter can't be used (vdso(7)).
#[allow(dead_code)] // each test file uses its own part
pub fn the_clock_is_one() -> bool {
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = std::fs::read_to_string(source).unwrap_or_default();
    ["hpet", "acpi_pm", "jiffies", "refined-jiffies"].contains(&source.trim())
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
