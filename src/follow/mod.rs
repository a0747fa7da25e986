//! Following a recording while it is written, from another process or from this one: a reader that
//! never sees a byte above the watermark that it has chosen. Linux only.
//!
//! The writer is opened with [`Options::followed`](crate::Options::followed). Then its driver posts
//! `written` and `durable`, where it publishes them for its own process, to a *board*: shared memory,
//! a file of a few bytes in `/dev/shm` whose name is made of the recording's device and number, so that
//! it is found whatever the recording is called. The driver wakes whoever sleeps on it (futex(2)). A
//! push does nothing more than before. Followers can't write to the board, so none of them disturbs the
//! writer, or another. Both have to see the same `/dev/shm`, as in one container, and the board's owner
//! has to be root, the owner of the recording, or the follower himself.
//!
//! The board appears when the open of the writer has succeeded, and its name goes when the writer is
//! closed; followers that are at it keep it. A killed writer leaves it behind: that its lock is free
//! says so, and the next writer of the recording takes it away.
//!
//! # How a follower ends
//!
//! With the last byte of a writer that was closed ([`End::Closed`]); or, behind the last byte below
//! the watermark, with an error that says [`End::Failed`], [`End::Died`] or [`End::Replaced`].
//! Nothing hangs: a sleeping follower looks every 100 ms whether its writer lives. (A child that was
//! forked from it, and has started no other program, holds its lock as long as it lives.)
//!
//! # Replaced
//!
//! The next writer of the file, or a recovery, takes the name of the board away before it changes a
//! byte, and a follower looks behind each read whether that has happened: then what it has read is not
//! given out. Behind a close it looks at the time of the last change of the file instead (before Linux
//! 6.13 that is counted in ticks of up to 10 ms). Who writes to the file of a killed writer without
//! this library, without its lock, or as another user who may not take that name away, is not noticed.
//!
//! # What it does not see
//!
//! Patches: a byte below the watermark may be read as it was before a patch, or after it; a checkpoint
//! changes a header that a follower has passed.

use std::fmt;
use std::io;

#[cfg(any(target_os = "linux", loom, shuttle))]
mod board;
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
mod follower;
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
mod post;
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
mod shared;

#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
pub use follower::Follower;
#[cfg(not(all(target_os = "linux", not(any(loom, shuttle)))))]
pub(crate) use nobody::{Post, retire};
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
pub(crate) use post::{Post, retire};

/// Up to where a follower reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Watermark {
    /// [`Positions::written`](crate::Positions::written): what survives a crash of the writer.
    Written,
    /// [`Positions::durable`](crate::Positions::durable): what survives a power cut.
    Durable,
}

/// How a recording that was followed has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum End {
    /// Its writer was closed: `len` bytes, all durable.
    Closed {
        /// Its length.
        len: u64,
    },
    /// Its writer has failed, or was abandoned. Bytes up to `at` are below the watermark.
    Failed {
        /// The watermark.
        at: u64,
    },
    /// Its writer was killed, or ended without a close. Bytes up to `at` are below the watermark.
    Died {
        /// The watermark.
        at: u64,
    },
    /// Another writer has the file by now: what was not read before is not of this recording.
    Replaced,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { len } => write!(f, "the recording was closed with {len} bytes"),
            Self::Failed { at } => write!(f, "the recording's writer has failed behind byte {at}"),
            Self::Died { at } => write!(
                f,
                "the recording's writer has died behind byte {at}: recover the file, and go on"
            ),
            Self::Replaced => f.write_str(
                "another writer has the file that was followed: follow it anew, from its start",
            ),
        }
    }
}

/// Every end but a close.
impl std::error::Error for End {}

impl From<End> for io::Error {
    fn from(end: End) -> Self {
        let kind = match end {
            End::Replaced => io::ErrorKind::StaleNetworkFileHandle,
            _ => io::ErrorKind::UnexpectedEof,
        };
        io::Error::new(kind, end)
    }
}

/// Where processes share no memory that a follower could know of.
#[cfg(not(all(target_os = "linux", not(any(loom, shuttle)))))]
mod nobody {
    use std::io;

    use crate::file::OsFile;

    #[derive(Debug)]
    pub(crate) enum Post {}

    impl Post {
        pub(crate) fn new(_: &OsFile, _: u64) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn appear(&self) -> io::Result<()> {
            match *self {}
        }

        pub(crate) fn withdraw(&self) {
            match *self {}
        }

        pub(crate) fn post(&self, _: u64, _: u64) {
            match *self {}
        }

        pub(crate) fn fail(&self) {
            match *self {}
        }

        pub(crate) fn leave(&self, _: &OsFile, _: bool) {
            match *self {}
        }
    }

    pub(crate) fn retire(_: &OsFile) {}
}
