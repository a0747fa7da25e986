//! A forked child inherits the memory of a writer, but neither its thread nor a right to its file:
//! what the child does must not reach the file, nor wait for a thread that it doesn't have.
//!
//! The child is told apart by a count that `fork` raises (`pthread_atfork`): a look costs a load.

use std::sync::atomic::{AtomicU64, Ordering};

static FORKS: AtomicU64 = AtomicU64::new(0);

/// The process in which something was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u64);

impl Process {
    /// This one.
    pub(crate) fn this() -> Self {
        #[cfg(unix)]
        unix::count_forks();
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Whether it is another one than this.
    #[inline]
    pub(crate) fn is_gone(self) -> bool {
        FORKS.load(Ordering::Relaxed) != self.0
    }
}

#[cfg(unix)]
mod unix {
    #![allow(unsafe_code)]

    use std::sync::Once;
    use std::sync::atomic::Ordering;

    use super::FORKS;

    extern "C" fn in_the_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_forks() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // SAFETY: the handler lives for ever, and does nothing that a child may not do. Where
            // there is no memory for it, forks stay unseen.
            unsafe { libc::pthread_atfork(None, None, Some(in_the_child)) };
        });
    }
}
