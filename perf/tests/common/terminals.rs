//! Terminals and pipes that take nothing.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Action, tcflow};

/// A terminal of a test's own: the end that a window holds, and the one that programs write to.
pub struct Terminal {
    pub window: OwnedFd,
    pub programs: File,
}

impl Terminal {
    pub fn open() -> Self {
        let window = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&window).unwrap();
        unlockpt(&window).unwrap();
        let name = ptsname(&window, Vec::new()).unwrap();
        Self { programs: open_again(name.to_str().unwrap(), 0), window }
    }

    /// Ctrl-S and Ctrl-Q.
    pub fn flow(&self, action: Action) {
        tcflow(&self.programs, action).unwrap();
    }

    pub fn stderr(&self) -> Stdio {
        self.programs.try_clone().unwrap().into()
    }
}

/// A description of its own, so that not waiting is nobody else's.
fn open_again(name: &str, more: i32) -> File {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = libc::O_NOCTTY | more;
    OpenOptions::new().read(more == 0).write(true).custom_flags(flags).open(name).unwrap()
}

/// Writes until nothing more is taken, also not a moment later: the kernel hands on what a terminal
/// was given in its own time.
pub fn fill(to: &impl AsRawFd) {
    let mut to = open_again(&format!("/proc/self/fd/{}", to.as_raw_fd()), libc::O_NONBLOCK);
    while to.write(&[b'x'; 64]).is_ok() {
        while to.write(&[b'x'; 64]).is_ok() {}
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A pipe that takes nothing, and the end that would empty it.
pub fn full_pipe() -> (std::io::PipeReader, Stdio) {
    let (reader, writer) = std::io::pipe().unwrap();
    fill(&writer);
    (reader, writer.into())
}

/// Waits for the end of a process that measures; one that a terminal holds up has none.
#[track_caller]
pub fn ends(mut child: Child) -> Output {
    let limit = Instant::now() + Duration::from_secs(300);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > limit {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}
