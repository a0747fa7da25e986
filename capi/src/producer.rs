//! Who may push: many threads at once, or one at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

use rust::{SharedWriter, Writer};

use crate::failure::{busy, closed, invalid, wf_status};

pub(crate) enum Producer {
    Many(SharedWriter),
    One(One),
}

impl Producer {
    /// Pushes, outside of a grant.
    pub(crate) fn push<T>(
        &self,
        many: impl FnOnce(&SharedWriter) -> T,
        one: impl FnOnce(&mut Writer) -> T,
    ) -> Result<T, wf_status> {
        match self {
            Self::Many(writer) => Ok(many(writer)),
            Self::One(writer) => writer.push(one),
        }
    }
}

/// A writer that one thread at a time uses: a second one is refused, and never waits. So the lock is
/// only ever tried, which makes no system call.
pub(crate) struct One {
    /// `None` once it is being closed.
    writer: Mutex<Option<Writer>>,
    /// Bytes of the grant that is open. Changed by whoever has the writer; looked at before the lock
    /// is tried, so that the thread that fills a grant does not find the lock taken by one that is
    /// refused because of it.
    granted: AtomicUsize,
}

/// No grant: more bytes than any has.
const NONE: usize = usize::MAX;

/// The writer, held by its producer of this moment.
type Held<'a> = MutexGuard<'a, Option<Writer>>;

impl One {
    pub(crate) fn new(writer: Writer) -> Self {
        let one = Self { writer: Mutex::new(Some(writer)), granted: AtomicUsize::new(NONE) };
        drop(one.enter()); // where a lock is made at its first use, it is made now
        one
    }

    pub(crate) fn enter(&self) -> Result<Held<'_>, wf_status> {
        match self.writer.try_lock() {
            Ok(held) => Ok(held),
            // Whoever panicked in there has poisoned the stream: every push says so.
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(busy("another thread is pushing, and the writer is open for one producer"))
            }
        }
    }

    fn has_no_grant(&self) -> Result<(), wf_status> {
        match self.granted.load(Ordering::Acquire) {
            NONE => Ok(()),
            _ => Err(busy("a grant is open: commit it or abandon it first")),
        }
    }

    /// The writer, outside of a grant.
    fn enter_alone(&self) -> Result<Held<'_>, wf_status> {
        self.has_no_grant()?;
        let held = self.enter()?;
        self.has_no_grant()?;
        Ok(held)
    }

    /// Pushes, outside of a grant.
    pub(crate) fn push<T>(&self, act: impl FnOnce(&mut Writer) -> T) -> Result<T, wf_status> {
        self.enter_alone()?.as_mut().map(act).ok_or_else(closed)
    }

    /// Takes the writer away, to close it: from now on every push is refused.
    pub(crate) fn take(&self) -> Result<Writer, wf_status> {
        self.enter_alone()?.take().ok_or_else(closed)
    }

    /// Opens a grant; where its memory is.
    pub(crate) fn begin(&self, len: usize) -> Result<Result<*mut u8, rust::Error>, wf_status> {
        self.push(|writer| {
            // Let go here and made again by the commit: until then nothing moves.
            let memory = writer.grant(len)?.as_mut_ptr();
            self.granted.store(len, Ordering::Release);
            Ok(memory)
        })
    }

    /// Ends the grant with its first `len` bytes taken; where they begin.
    pub(crate) fn commit(&self, len: usize) -> Result<Result<u64, rust::Error>, wf_status> {
        let mut held = self.end(|granted| match len <= granted {
            true => Ok(()),
            false => Err(invalid("more bytes than were granted")),
        })?;
        let writer = held.as_mut().ok_or_else(closed)?;
        // The same memory: the position is where it was, and what had room then has room now.
        Ok(writer.grant(len).map(|grant| grant.commit(len)))
    }

    /// Ends the grant with nothing taken.
    pub(crate) fn abandon(&self) -> Result<(), wf_status> {
        self.end(|_| Ok(())).map(drop)
    }

    /// Ends the grant if its length is right.
    fn end(
        &self,
        check: impl FnOnce(usize) -> Result<(), wf_status>,
    ) -> Result<Held<'_>, wf_status> {
        let held = self.enter()?;
        match self.granted.load(Ordering::Acquire) {
            NONE => Err(invalid("no grant is open")),
            granted => {
                check(granted)?;
                self.granted.store(NONE, Ordering::Release);
                Ok(held)
            }
        }
    }
}
