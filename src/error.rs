//! Every way in which a call can fail.

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What the crate was doing when the operating system said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Opening or creating the file.
    Open,
    /// Taking the advisory lock.
    Lock,
    /// Reserving or zeroing space ahead of the data.
    Preallocate,
    /// Setting up the backend (the io_uring instance, the driver thread).
    Start,
    /// Writing data.
    Write,
    /// Reading back a block that a patch covers in part.
    Read,
    /// Flushing the file to stable media.
    Flush,
    /// Waiting for completions.
    Wait,
    /// Cutting the file to its exact length.
    Trim,
    /// Flushing the directory that names the file.
    SyncDirectory,
    /// Removing a file that was kept long enough.
    Remove,
    /// Keeping the damaged tail of a file beside it, before it is cut.
    KeepTail,
    /// Closing the file: what a file system kept to itself until then (close(2) on FUSE and NFS).
    Close,
}

impl Operation {
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Lock => "lock",
            Self::Preallocate => "preallocate space for",
            Self::Start => "start writing to",
            Self::Write => "write to",
            Self::Read => "read back a block of",
            Self::Flush => "flush",
            Self::Wait => "wait for completions on",
            Self::Trim => "set the length of",
            Self::SyncDirectory => "sync the directory of",
            Self::Remove => "remove",
            Self::KeepTail => "keep the tail of",
            Self::Close => "close",
        }
    }
}

/// Why a call failed. Cloning is cheap (reference counts), and making [`Error::Full`] allocates
/// nothing, so that a deadline thread may see it.
///
/// An [`Error::Io`] from a write or a flush is *sticky*: the writer is poisoned, and every waiter
/// and every later call gets the same error.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The options can't work; the sentence says what to change.
    Options(Cow<'static, str>),
    /// The operating system refused an operation on the file.
    Io {
        /// What was being done.
        operation: Operation,
        /// To which file.
        path: Arc<Path>,
        /// The operating system's own error.
        source: Arc<io::Error>,
    },
    /// Another writer holds the advisory lock on this file.
    Locked {
        /// The file.
        path: Arc<Path>,
        /// How long the open has waited for it at least ([`Options::lock_wait`]).
        ///
        /// [`Options::lock_wait`]: crate::Options::lock_wait
        waited: Duration,
    },
    /// The open was called off ([`Options::cancel_open`]).
    ///
    /// [`Options::cancel_open`]: crate::Options::cancel_open
    Cancelled,
    /// The file was not closed by the writer that had it last, and ends in zeros that may be data,
    /// or padding, or space that was asked for ahead: an append might go on behind bytes that nobody
    /// wrote. [`Options::append_at`](crate::Options::append_at) goes on at a position that you know.
    Unfinished {
        /// The file.
        path: Arc<Path>,
        /// Where its zeros begin: at its end, or in a hole.
        from: u64,
        /// Its length.
        to: u64,
    },
    /// What judges the file could not say how much of it is good ([`recover`](crate::recover::recover));
    /// it is as it was. Or a ring file ([`recover::ring`](crate::recover::ring())) is not what it says,
    /// or not of this file.
    Unrecoverable {
        /// The file.
        path: Arc<Path>,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// No buffer had room for all the bytes, so none were taken.
    Full {
        /// Bytes offered.
        offered: usize,
        /// Bytes that would have fitted.
        free: usize,
    },
    /// The bytes did not find room within the policy's limit, so none were taken.
    Deadline {
        /// How long the call waited.
        waited: Duration,
    },
    /// A [recording in segments](crate::segments) has stopped, since the disk has less free space than
    /// it may leave ([`Floor`](crate::segments::Floor)). What it had accepted is not lost.
    SpaceFloor {
        /// The folder.
        path: Arc<Path>,
        /// Bytes that were free.
        free: u64,
        /// Bytes that have to be.
        floor: u64,
    },
    /// The policy `Drop` has lost the bytes, and counted them, in a call that can say so no other
    /// way: `write` of [`std::io::Write`].
    Lost {
        /// Bytes lost.
        bytes: usize,
    },
    /// The bytes can never fit under the policy in force.
    TooLong {
        /// Bytes offered.
        offered: usize,
        /// The most that such a call can take.
        limit: usize,
    },
    /// A patch may only overwrite bytes that were accepted before it.
    PatchRange {
        /// First byte of the patch.
        offset: u64,
        /// Bytes in the patch.
        len: usize,
        /// The accepted position: the patch has to end there or before.
        accepted: u64,
    },
    /// The call would have to wait for a driver on the thread of a driver, which is where a waker
    /// runs. Nothing was taken, and no patch was queued; a close is finished by the driver.
    InWaker,
    /// The writer is closed.
    Closed,
    /// The writer was opened before this process was forked, however (`fork`, `_Fork`, clone(2)):
    /// it belongs to the parent, which goes on undisturbed. In a child that shares its parent's
    /// memory (`vfork`) closing, patching and waiting for another thread answer this; a push there
    /// is one of the parent's.
    Forked,
}

impl Error {
    /// What the operating system said; an error of our own that came that way is itself again.
    pub(crate) fn io(operation: Operation, path: &Arc<Path>, source: io::Error) -> Self {
        if let Some(own) = source.get_ref().and_then(|inner| inner.downcast_ref::<Self>()) {
            return own.clone();
        }
        Self::Io { operation, path: path.clone(), source: Arc::new(source) }
    }

    /// The operating system's error code, where one is behind this error.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// The nearest kind of [`io::Error`]. Never `Interrupted`, and `WouldBlock` only where a later
    /// call may succeed: loops like `write_all` would ask a failed writer for ever.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Options(_) | Self::TooLong { .. } | Self::PatchRange { .. } => {
                io::ErrorKind::InvalidInput
            }
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::Interrupted => io::ErrorKind::Other,
                io::ErrorKind::WouldBlock => io::ErrorKind::ResourceBusy,
                kind => kind,
            },
            Self::Locked { .. } | Self::Full { .. } => io::ErrorKind::WouldBlock,
            Self::Unfinished { .. } | Self::Unrecoverable { .. } => io::ErrorKind::InvalidData,
            Self::SpaceFloor { .. } => io::ErrorKind::StorageFull,
            Self::Deadline { .. } => io::ErrorKind::TimedOut,
            Self::InWaker => io::ErrorKind::Deadlock,
            Self::Cancelled => io::ErrorKind::Other, // not Interrupted, which asks for another try
            Self::Lost { .. } => io::ErrorKind::Other,
            Self::Closed | Self::Forked => io::ErrorKind::BrokenPipe,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Options(sentence) => f.write_str(sentence),
            Self::Io { operation, path, source } => {
                write!(f, "could not {} {}: {source}", operation.verb(), path.display())
            }
            Self::Locked { path, waited } => write!(
                f,
                "another writer holds {} (waited {waited:?}): close it, or record to another file",
                path.display()
            ),
            Self::Cancelled => f.write_str("the open was called off"),
            Self::Unfinished { path, from, to } => write!(
                f,
                "{} was not closed: its bytes from {from} to {to} are, or begin with, zeros that \
                 nobody may have written; append at the position up to which you know it, or at {from} if no record ends \
                 in zeros",
                path.display()
            ),
            Self::Unrecoverable { path, source } => {
                write!(f, "{} is left as it was: {source}", path.display())
            }
            Self::Full { offered, free } => write!(
                f,
                "the buffers are full: {offered} bytes offered, {free} free; \
                 try again later, or open with more or larger buffers"
            ),
            Self::Deadline { waited } => write!(
                f,
                "no room for the bytes after {waited:?}; open with more or larger buffers"
            ),
            Self::SpaceFloor { path, free, floor } => write!(
                f,
                "{free} bytes are free in {}, and {floor} have to stay: the recording has stopped; \
                 make room, or lower the floor",
                path.display()
            ),
            Self::Lost { bytes } => write!(
                f,
                "{bytes} bytes were lost, since the buffers were full and the policy is to drop; \
                 open with more or larger buffers, or another policy"
            ),
            Self::TooLong { offered, limit } => write!(
                f,
                "{offered} bytes can't be taken whole, {limit} at the most; \
                 split them, or open with larger buffers or the blocking policy"
            ),
            Self::PatchRange { offset, len, accepted } => write!(
                f,
                "a patch of {len} bytes at {offset} reaches past the accepted position {accepted}; \
                 write those bytes before patching them"
            ),
            Self::InWaker => f.write_str(
                "a waker must not wait for a driver, on whose thread it runs: make this call from \
                 another thread",
            ),
            Self::Closed => f.write_str("the writer is closed; open a new one"),
            Self::Forked => f.write_str(
                "the writer belongs to the process that opened it; a forked child has to open one \
                 of its own",
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::Unrecoverable { source, .. } => Some(&**source),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    /// Keeps the kind, and the whole error as the inner one.
    fn from(error: Error) -> Self {
        io::Error::new(error.kind(), error)
    }
}

/// Whether the medium, a quota or a limit has no room for a write: ENOSPC, EDQUOT, EFBIG.
pub(crate) fn lacks_space(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
