//! How operations reach the kernel: a small completion-based trait, and its implementations.
//!
//! A backend has no policy: it neither orders, retries, splits nor interprets. The driver submits
//! operations, each with a token; completions come back in any order.

mod bell;
#[cfg(windows)]
mod overlapped;
mod sync;
#[cfg(all(target_os = "linux", target_pointer_width = "64", not(any(loom, shuttle))))]
mod uring;

use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::buffers::Region;
use crate::file::Handle;
use crate::options::{BackendChoice, Options};
use crate::sync::Instant;

pub(crate) use bell::Bell;
#[cfg(windows)]
pub(crate) use overlapped::OverlappedBackend;
pub(crate) use sync::{SyncBackend, cancelled, fill, read_full};
#[cfg(all(target_os = "linux", target_pointer_width = "64", not(any(loom, shuttle))))]
pub(crate) use uring::UringBackend;

/// Which backend a writer uses, as [`Control::backend`](crate::Control::backend) reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// Linux io_uring: many operations in flight, one system call a batch.
    Uring,
    /// Windows overlapped I/O: many writes in flight, on a handle opened for write-through.
    Overlapped,
    /// One positional write or flush at a time, on Unix and Windows.
    Sync,
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Uring => "io_uring",
            Self::Overlapped => "overlapped",
            Self::Sync => "sync",
        })
    }
}

/// One of the files that a backend serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(pub(crate) u32);

/// How many files a backend is to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Files {
    One,
    /// Any number, which come and go.
    Many,
}

/// What a backend knows of each file, by its number.
#[derive(Debug)]
pub(crate) struct Places<T>(Vec<Option<T>>);

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self(Vec::with_capacity(1))
    }
}

impl<T> Places<T> {
    /// The number that the next file gets.
    pub(crate) fn free(&self) -> FileId {
        let free = self.0.iter().position(Option::is_none);
        FileId(free.unwrap_or(self.0.len()) as u32)
    }

    pub(crate) fn add(&mut self, file: T) -> FileId {
        let id = self.free();
        match self.0.get_mut(id.0 as usize) {
            Some(place) => *place = Some(file),
            None => self.0.push(Some(file)),
        }
        id
    }

    pub(crate) fn of(&self, file: FileId) -> &T {
        self.0[file.0 as usize].as_ref().expect("attached, and not yet detached")
    }

    #[cfg(windows)]
    pub(crate) fn count(&self) -> usize {
        self.0.iter().flatten().count()
    }

    pub(crate) fn take(&mut self, file: FileId) -> Option<T> {
        self.0.get_mut(file.0 as usize)?.take()
    }
}

/// What the driver calls an operation, to know its completion again.
pub(crate) type Token = u64;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Writes the region at a file offset. With `dsync`, completes only when these bytes are
    /// durable. With `link`, the next submission starts only if this one completes at full
    /// length, and is cancelled (ECANCELED) otherwise.
    Write { at: u64, region: Region, dsync: bool, link: bool },
    /// Writes so many zeros, without a fence: see [`ZEROS`](crate::buffers::ZEROS).
    Zeros { at: u64, len: usize },
    /// Flushes the file's data, and the metadata needed to read it, to stable media.
    Flush,
}

impl Op {
    pub(crate) fn is_linked(&self) -> bool {
        matches!(self, Self::Write { link: true, .. })
    }

    /// Whether it has ended as it was asked for: what is linked behind it may start.
    pub(crate) fn is_whole(&self, result: &io::Result<usize>) -> bool {
        match self {
            Self::Write { region, .. } => matches!(result, Ok(n) if *n == region.len),
            Self::Zeros { len, .. } => matches!(result, Ok(n) if n == len),
            Self::Flush => result.is_ok(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    /// Bytes written (0 for a flush), or the operating system's error.
    pub(crate) result: io::Result<usize>,
}

/// What a backend can do; the fence planner chooses from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    /// `submit` returns only when the operation has ended.
    pub(crate) blocking: bool,
    /// `dsync` writes exist.
    pub(crate) dsync: bool,
    /// `link` works.
    pub(crate) link: bool,
    /// A flush may be dropped before it began, and end with an error that says so. Elsewhere that
    /// error is the file system's own.
    pub(crate) cancels: bool,
}

/// Carries out one operation in the thread that calls, before it returns: beside a backend, and
/// without whoever drives it.
pub(crate) trait Inline: Send + Sync + std::fmt::Debug {
    /// As the backend would: bytes written (0 for a flush), or the operating system's error. A
    /// `link` is the caller's to keep.
    fn carry_out(&self, op: Op) -> io::Result<usize>;
}

/// Wakes a thread out of [`Io::wait`], from any thread.
pub(crate) trait Wake: Send + Sync + std::fmt::Debug {
    fn wake(&self);

    /// Whether [`sleep`](Self::sleep) works: some bells only their backend hears.
    fn sleeps_apart(&self) -> bool {
        false
    }

    /// Whether the next rings are for whoever [sleeps](Self::sleep) apart, and not for the backend.
    /// Told by the thread that drives, before it says that it is going to sleep, and after it has
    /// slept.
    fn goes_apart(&self, _apart: bool) {}

    /// Sleeps as [`Io::wait`] does, but without the backend, which has nothing under way: until it
    /// rings, or has rung since the last sleep, or until the deadline. Only the thread that drives,
    /// which looks for what it was rung for after this.
    fn sleep(&self, _deadline: Option<Instant>) {}

    /// The thread that drove is gone with its process: takes back what the kernel has not begun, and
    /// waits for the rest, so that it can't land on what is written after this call.
    #[cfg(any(windows, test))]
    fn halt(&self) {}
}

/// A way to the kernel. The name `Io` keeps it apart from the public [`Backend`] label.
pub(crate) trait Io: Send + std::fmt::Debug {
    fn kind(&self) -> Backend;

    fn abilities(&self) -> Abilities;

    /// What the system refused of what makes it fast, each in a sentence: of the backend, and of the
    /// file that was attached last.
    fn shortfalls(&self) -> Vec<String> {
        Vec::new()
    }

    /// Called once, by the thread that will drive, before anything is submitted. Fails where that
    /// thread can't have what the backend needs.
    fn begin(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Takes on a file and the memory that its writes come from. Both live until the last
    /// completion of this file has been reaped.
    fn attach(&mut self, file: &Arc<dyn Handle>, memory: &[Region]) -> io::Result<FileId>;

    /// Lets go of a file, of which nothing is under way: its number may be given to the next.
    fn detach(&mut self, file: FileId);

    /// The way to a file beside this backend; `None` if there is none.
    fn inline(&self, _file: FileId) -> Option<Arc<dyn Inline>> {
        None
    }

    /// Operations that can be submitted now: a linked pair needs two.
    fn room(&mut self) -> usize;

    /// Takes an operation; it may wait for the next [`wait`](Io::wait) or [`kick`](Io::kick).
    fn submit(&mut self, file: FileId, token: Token, op: Op);

    /// Hands what was submitted to the kernel, without waiting.
    fn kick(&mut self) -> io::Result<()>;

    /// Kicks, then sleeps until a completion is there, somebody wakes, or the deadline has
    /// passed.
    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()>;

    fn reap(&mut self) -> Option<Completion>;

    fn waker(&self) -> Arc<dyn Wake>;

    /// The clock by which [`wait`](Io::wait) keeps a deadline.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Reads into the region at once, for the rare block that has to be merged. Returns the bytes
    /// read, fewer only at the end of the file.
    fn read(&mut self, file: FileId, at: u64, region: Region) -> io::Result<usize>;

    /// Bytes that are free where the file lies; `None` if that is not known.
    fn free_space(&mut self, _file: FileId) -> Option<u64> {
        None
    }

    /// Gives the file a length at once, while nothing is under way on it.
    fn set_len(&mut self, _file: FileId, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes the file at least so long at once, while nothing is under way on it: behind its end it
    /// reads as zeros.
    fn lengthen(&mut self, _file: FileId, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn lengthen(file: &File, len: u64) -> io::Result<()> {
    if crate::file::length(file)? < len { file.set_len(len) } else { Ok(()) }
}

/// The best backend that works here, or the one that was asked for, with the reason for a
/// fallback.
pub(crate) fn choose(
    options: &Options,
    depth: usize,
    files: Files,
) -> io::Result<(Box<dyn Io>, Option<String>)> {
    let sync = || Box::new(SyncBackend::new(depth)) as Box<dyn Io>;
    match options.backend {
        BackendChoice::Sync => Ok((sync(), None)),
        BackendChoice::Uring => Ok((uring(options, depth, files)?, None)),
        BackendChoice::Overlapped => Ok((overlapped(options, depth)?, None)),
        BackendChoice::Auto => {
            let (name, best) = if cfg!(windows) {
                (Backend::Overlapped, overlapped(options, depth))
            } else {
                (Backend::Uring, uring(options, depth, files))
            };
            Ok(best.map_or_else(|error| (sync(), Some(refusal(name, &error))), |io| (io, None)))
        }
    }
}

/// Why the best backend is not to be had. (ENOMEM is all that io_uring says of a limit on pinned
/// memory.)
fn refusal(name: Backend, error: &io::Error) -> String {
    #[cfg(all(target_os = "linux", target_pointer_width = "64", not(any(loom, shuttle))))]
    if error.raw_os_error() == Some(libc::ENOMEM) {
        return format!("{name} was refused ({error}): {}", uring::locked_memory());
    }
    format!("{name} was refused ({error})")
}

#[cfg(all(target_os = "linux", target_pointer_width = "64", not(any(loom, shuttle))))]
fn uring(options: &Options, depth: usize, files: Files) -> io::Result<Box<dyn Io>> {
    Ok(Box::new(UringBackend::new(depth, options.drive, files)?))
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", not(any(loom, shuttle)))))]
fn uring(_: &Options, _: usize, _: Files) -> io::Result<Box<dyn Io>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring is used on Linux of 64 bits only"))
}

#[cfg(windows)]
fn overlapped(options: &Options, depth: usize) -> io::Result<Box<dyn Io>> {
    Ok(Box::new(OverlappedBackend::new(depth, options.fence_form)?))
}

#[cfg(not(windows))]
fn overlapped(_: &Options, _: usize) -> io::Result<Box<dyn Io>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "overlapped I/O exists on Windows only"))
}
