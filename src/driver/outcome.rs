//! What became of a write, and how often, and after what pauses, it is asked for again. No I/O.

use std::io;
use std::time::Duration;

use crate::blocks::align_down;
use crate::buffers::Region;
use crate::canary::Canary;
use crate::error::lacks_space;
use crate::sync::Instant;

/// A write in the kernel's hands: what is left of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    /// The plan's name for it.
    pub(super) from: u64,
    pub(super) at: u64,
    pub(super) region: Region,
    pub(super) since: Instant,
}

/// What became of a write.
pub(super) enum Outcome {
    Complete,
    /// This much is left, to be asked for again at once.
    Rest(InFlight),
    /// The system has no memory for it at the moment: to be asked for again in a while.
    NotNow,
    /// The medium has no room for it.
    Refused(io::Error),
    Failed(io::Error),
}

/// Operations in a row that may get nowhere before the stream fails.
const MOST_FRUITLESS: u32 = 1000;
/// Of those, how many may be for want of memory: with the pauses between them some ten seconds.
const MOST_WITHOUT_MEMORY: u32 = 30;
/// A write that takes less than this each time gets nowhere either.
const MEAGRE: u64 = 512;
/// Pauses between two tries double from the first to the longest of these.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];

/// How long a lane puts up with what gets nowhere.
#[derive(Debug)]
pub(super) struct Patience {
    block: u64,
    /// No file may be longer.
    pub(super) file_limit: Option<u64>,
    /// Operations that had to be asked again since the last one that got anywhere.
    fruitless: u32,
    /// How long the last pause was; zero once something has got anywhere.
    pause: Duration,
}

impl Patience {
    pub(super) fn new(block: u64) -> Self {
        Self { block, file_limit: None, fruitless: 0, pause: Duration::ZERO }
    }

    /// A write has ended: was it whole? A short one goes on from the last whole block.
    pub(super) fn judge(&mut self, flight: &InFlight, result: io::Result<usize>) -> Outcome {
        match result {
            Ok(n) if n == flight.region.len => {
                self.got_on();
                Outcome::Complete
            }
            Ok(n) => {
                let mut done = align_down(n as u64, self.block);
                if Canary::RestSkips.is_planted() {
                    done = (done + self.block).min(flight.region.len as u64 - self.block);
                }
                let rest = InFlight {
                    at: flight.at + done,
                    region: flight.region.rest(done as usize),
                    ..*flight
                };
                if done >= MEAGRE {
                    self.got_on();
                    Outcome::Rest(rest)
                } else if done == 0 && self.is_beyond_limit(flight) {
                    Outcome::Refused(too_long())
                } else if self.may_ask_again(MOST_FRUITLESS) {
                    Outcome::Rest(rest) // it may say why
                } else {
                    Outcome::Failed(took_too_little(n, flight.region.len))
                }
            }
            Err(error) if lacks_space(&error) => Outcome::Refused(error),
            Err(error)
                if error.kind() == io::ErrorKind::InvalidInput && self.is_beyond_limit(flight) =>
            {
                Outcome::Refused(too_long())
            }
            Err(error) if lacks_memory(&error) && self.may_ask_again(MOST_WITHOUT_MEMORY) => {
                Outcome::NotNow
            }
            Err(error) if is_dropped(&error) && self.may_ask_again(MOST_FRUITLESS) => {
                Outcome::Rest(*flight)
            }
            Err(error) => Outcome::Failed(error),
        }
    }

    /// The kernel cuts a write at the limit on the length of files, and direct I/O takes no part of
    /// a block: EINVAL, or next to nothing, where others get EFBIG.
    fn is_beyond_limit(&self, flight: &InFlight) -> bool {
        let end = flight.at + flight.region.len as u64;
        self.block > 1 && self.file_limit.is_some_and(|limit| end > limit)
    }

    /// Whether an operation that got nowhere may be submitted once more: not for ever, since
    /// whoever waits for it would wait for ever.
    fn may_ask_again(&mut self, most: u32) -> bool {
        self.fruitless += 1;
        self.fruitless <= most
    }

    fn got_on(&mut self) {
        self.fruitless = 0;
        self.pause = Duration::ZERO;
    }

    /// A flush has ended well.
    pub(super) fn flushed(&mut self) {
        self.fruitless = 0;
    }

    /// Whether a flush with this error never ran, and may be submitted once more.
    pub(super) fn may_flush_again(&mut self, error: &io::Error) -> bool {
        never_ran(error) && self.may_ask_again(MOST_FRUITLESS)
    }

    /// Whether a write with this error may be asked for again later.
    pub(super) fn is_passing(error: &io::Error) -> bool {
        lacks_memory(error) || is_dropped(error)
    }

    pub(super) fn next_pause(&mut self) -> Duration {
        let [first, longest] = PAUSES;
        self.pause = (self.pause * 2).clamp(first, longest);
        self.pause
    }
}

/// Whether a flush was dropped before it began: its linked write was short (ECANCELED), or the
/// thread that submitted it has ended. io_uring answers a linked request whose thread is ending
/// with EFAULT (io_req_task_submit in Linux 6.18), which a flush, having no memory, never gets
/// otherwise.
fn never_ran(error: &io::Error) -> bool {
    #[cfg(target_os = "linux")]
    if error.raw_os_error() == Some(libc::EFAULT) {
        return true;
    }
    is_cancelled(error)
}

/// Whether a write was dropped before it began. Cancelled: io_uring drops what a thread submitted
/// that has ended since, if nobody has started it; another thread drives now.
fn is_dropped(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted || is_cancelled(error)
}

/// Whether the system had no memory for a write: EAGAIN, ENOMEM.
fn lacks_memory(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory)
}

fn too_long() -> io::Error {
    #[cfg(unix)]
    return io::Error::from_raw_os_error(libc::EFBIG);
    #[cfg(not(unix))]
    return io::ErrorKind::FileTooLarge.into();
}

fn took_too_little(taken: usize, len: usize) -> io::Error {
    let text =
        format!("the kernel took {taken} of {len} bytes again and again, and gave no reason");
    io::Error::new(io::ErrorKind::WriteZero, text)
}

fn is_cancelled(error: &io::Error) -> bool {
    #[cfg(unix)]
    const CANCELLED: i32 = libc::ECANCELED;
    #[cfg(windows)]
    const CANCELLED: i32 = windows_sys::Win32::Foundation::ERROR_OPERATION_ABORTED as i32;
    error.raw_os_error() == Some(CANCELLED)
}
