//! What a pipe says before anything is taken out of it. Whoever is killed, or can't begin, has taken
//! whole frames or nothing, and who reads the same pipe next goes on behind them.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, tee};

/// A longer unit is taken in parts: not every pipe has room for it.
const LONGEST: usize = 4096;
/// Between two looks at a unit that has come in part.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Looks at a part that does not grow until it is taken: a pipe of many small pieces may be full.
const LOOKS: u32 = 5000;

pub(super) fn is_pipe(file: &File) -> bool {
    file.metadata().is_ok_and(|known| known.file_type().is_fifo())
}

/// Waits for whole units of `unit` bytes, and answers how many bytes they are. At the end of the
/// input they may be fewer, and at last none.
pub(super) fn wait(pipe: &File, unit: usize) -> io::Result<usize> {
    let unit = if unit > LONGEST { 1 } else { unit };
    let (mut part, mut looks) = (0, 0);
    loop {
        let mut fds = [PollFd::new(pipe, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        let is_over = fds[0].revents().contains(PollFlags::HUP);
        let there = usize::try_from(ioctl_fionread(pipe)?).unwrap_or(usize::MAX);
        match there - there % unit {
            0 if is_over || looks == LOOKS => return Ok(there),
            0 => {
                looks = if there > 0 && there == part { looks + 1 } else { 0 };
                part = there;
                std::thread::sleep(LOOK_EVERY);
            }
            whole => return Ok(whole),
        }
    }
}

/// Waits for the first `len` bytes, which stay in the pipe; at the end of the input there may be
/// fewer.
pub(super) fn peek(pipe: &File, len: usize) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    if wait(pipe, len)? > 0 {
        let (from, to) = pipe_with(PipeFlags::CLOEXEC)?;
        tee(pipe, &to, len, SpliceFlags::NONBLOCK)?;
        drop(to);
        File::from(from).read_to_end(&mut first)?;
    }
    Ok(first)
}
