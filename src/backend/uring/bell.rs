//! What wakes a driver that sleeps in the ring: one operation of the ring waits for it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use io_uring::{opcode, squeue, types};

use crate::backend::Wake;
use crate::file::OsFile;
use crate::sync::futex;

/// Rung from any thread.
#[derive(Debug)]
pub(super) enum Bell {
    /// A word of ours that the ring waits on: there is no descriptor that somebody could close, or
    /// get.
    Word(Word),
    /// One end of a connection, whose inode is its own: it is looked at before each ring. The other
    /// end the ring holds in its table of files, where it has no number. No pipe: without a reader it
    /// ends whoever writes (SIGPIPE). No eventfd(2): all of them have one inode.
    Line(OsFile),
}

/// What the ring waits on, and beside it the thread that drives, where it sleeps apart.
#[derive(Debug)]
pub(super) struct Word {
    /// [`QUIET`] or [`RUNG`].
    state: AtomicU32,
    /// The thread sleeps apart: the ring need not hear of it.
    apart: AtomicBool,
}

const QUIET: u32 = 0;
const RUNG: u32 = 1;

/// Who waits on the word, in bits: the thread has all, the ring this one.
const THE_RING: u32 = 2;
const NOT_THE_RING: u32 = !THE_RING;

impl Word {
    fn ring(&self) {
        // After what this wake is for, and before the driver's look at it: see `Ear::hears`.
        self.state.store(RUNG, Ordering::Release);
        // Where this comes late, and the driver sleeps elsewhere by now, it has looked since.
        let whom = match self.apart.load(Ordering::Relaxed) {
            true => NOT_THE_RING,
            false => futex::ANYBODY,
        };
        // Always, though it may have been rung: whoever rang it may not have come to this.
        futex::wake(&self.state, whom);
    }
}

impl Wake for Bell {
    fn wake(&self) {
        match self {
            Self::Word(word) => word.ring(),
            Self::Line(end) => {
                // One that is lost the ring hears of itself: the other end is at its end.
                let Ok(end) = end.ours() else { return };
                let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
                let byte = 1u8;
                // SAFETY: one byte of a live one. A full buffer wakes as well.
                unsafe { libc::send(end.as_raw_fd(), (&raw const byte).cast(), 1, flags) };
            }
        }
    }

    /// The ring alone hears a line.
    fn sleeps_apart(&self) -> bool {
        matches!(self, Self::Word(_))
    }

    fn goes_apart(&self, apart: bool) {
        if let Self::Word(word) = self {
            word.apart.store(apart, Ordering::Relaxed);
        }
    }

    fn sleep(&self, deadline: Option<Instant>) {
        let Self::Word(Word { state, .. }) = self else { return };
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if left != Some(Duration::ZERO) {
            futex::wait(state, QUIET, left);
        }
        state.swap(QUIET, Ordering::AcqRel); // what was published before the ring is seen next
    }
}

/// The driver's side of a bell.
#[derive(Debug)]
pub(super) struct Ear {
    bell: Arc<Bell>,
    /// The end of a line that is heard, until the ring has it.
    end: Option<OsFile>,
    /// Where rings are read to: on the heap, so that they stay where the kernel writes.
    bytes: Box<[u8; 64]>,
    lost: Option<String>,
}

impl Ear {
    /// For a ring that can wait on a word (Linux 6.7).
    pub(super) fn of_a_word() -> Self {
        let word = Word { state: AtomicU32::new(QUIET), apart: AtomicBool::new(false) };
        Self::new(Bell::Word(word), None)
    }

    pub(super) fn of_a_line() -> io::Result<Self> {
        let mut ends = [-1; 2];
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        // SAFETY: a live array, which the call fills.
        if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: descriptors that were just made and belong to nobody else.
        let [rung, heard] =
            ends.map(|end| OsFile::new(unsafe { OwnedFd::from_raw_fd(end) }.into()));
        Ok(Self::new(Bell::Line(rung), Some(heard)))
    }

    fn new(bell: Bell, end: Option<OsFile>) -> Self {
        Self { bell: Arc::new(bell), end, bytes: Box::new([0; 64]), lost: None }
    }

    pub(super) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// What the ring has to hold in its table of files.
    pub(super) fn file(&self) -> io::Result<Option<RawFd>> {
        self.end.as_ref().map(|end| Ok(end.ours()?.as_raw_fd())).transpose()
    }

    /// The ring holds it.
    pub(super) fn is_held(&mut self) {
        self.end = None;
    }

    /// What waits for the bell, the end of whose line is held at that `place`.
    pub(super) fn operation(&mut self, place: u32) -> squeue::Entry {
        // Of <linux/futex.h>: the flags of futex2.
        const SIZE_U32: u32 = 2;
        const PRIVATE: u32 = 128;
        match &*self.bell {
            Bell::Word(Word { state, .. }) => {
                let (quiet, flags) = (QUIET.into(), SIZE_U32 | PRIVATE);
                opcode::FutexWait::new(state.as_ptr(), quiet, THE_RING.into(), flags).build()
            }
            Bell::Line(_) => {
                let (bytes, len) = (self.bytes.as_mut_ptr(), self.bytes.len() as u32);
                opcode::Read::new(types::Fixed(place), bytes, len).build()
            }
        }
    }

    /// The operation has ended: what has rung, if anything, is taken note of. Whoever drives looks for
    /// what it was rung for after this.
    pub(super) fn hears(&mut self, result: i32) {
        if let Bell::Word(Word { state, .. }) = &*self.bell {
            state.swap(QUIET, Ordering::AcqRel);
        }
        let is_line = matches!(*self.bell, Bell::Line(_));
        match -result {
            0 if is_line => self.is_lost(),
            // It had rung before; called off, as at the end of the thread that waited; short of memory.
            libc::EAGAIN | libc::ECANCELED | libc::EINTR | libc::ENOMEM => {}
            error if error > 0 => {
                let error = io::Error::from_raw_os_error(error);
                self.lost = Some(format!("nothing wakes io_uring any more: {error}"));
            }
            _ => {}
        }
    }

    /// How long may be slept before a look at whether it can still be rung.
    pub(super) fn looks_after(&self) -> Option<Duration> {
        match *self.bell {
            Bell::Word(_) => None,
            // Its end is heard at once, unless a child has a copy of the number that was closed.
            Bell::Line(_) => Some(Duration::from_secs(1)),
        }
    }

    /// That look.
    pub(super) fn looks(&mut self) {
        if let Bell::Line(end) = &*self.bell
            && end.ours().is_err()
        {
            self.is_lost();
        }
    }

    fn is_lost(&mut self) {
        self.lost = Some("somebody else closed the descriptor that wakes io_uring".into());
    }

    /// An error once nobody can ring any more.
    pub(super) fn works(&self) -> io::Result<()> {
        self.lost.as_ref().map_or(Ok(()), |why| Err(io::Error::other(why.clone())))
    }
}
