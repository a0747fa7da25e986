//! What the recorders of today have in common: a thread that takes bytes from somewhere, writes
//! them, and syncs when it is asked.

use std::fs::{File, OpenOptions};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use writeflush_workloads::FileState;

use super::Setup;

/// How bytes get to the disk.
pub(super) const WAY: &str = "write and fdatasync, through the page cache";

/// What the thread and the producer tell each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Taken from the producer.
    pub(super) accepted: AtomicU64,
    /// The producer wants everything before to be durable.
    pub(super) wanted: AtomicU64,
    /// Handed to the kernel: their place in memory is free again.
    pub(super) written: AtomicU64,
    pub(super) durable: AtomicU64,
    pub(super) ending: AtomicBool,
    pub(super) failed: AtomicBool,
}

impl Shared {
    /// Whether a sync is due now that so many bytes are written.
    pub(super) fn sync_due(&self, written: u64) -> bool {
        let wanted = self.wanted.load(Ordering::Acquire);
        wanted > self.durable.load(Ordering::Relaxed) && written >= wanted
    }

    pub(super) fn synced(&self, written: u64) {
        self.durable.store(written, Ordering::Release);
    }
}

/// The thread.
#[derive(Debug)]
pub(super) struct WriterThread {
    pub(super) shared: Arc<Shared>,
    handle: JoinHandle<io::Result<()>>,
}

impl WriterThread {
    pub(super) fn spawn(
        setup: &Setup<'_>,
        work: impl FnOnce(File, &Shared) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let growing = setup.state == FileState::Growing;
        let mut options = OpenOptions::new();
        let file = options.create(true).write(true).truncate(growing).open(setup.path)?;
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let handle = std::thread::Builder::new().name("writer".into()).spawn(move || {
            let result = work(file, &theirs);
            theirs.failed.store(result.is_err(), Ordering::Release);
            result
        })?;
        Ok(Self { shared, handle })
    }

    pub(super) fn took(&self, bytes: usize) {
        self.shared.accepted.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn check(&self) -> io::Result<()> {
        match self.shared.failed.load(Ordering::Acquire) {
            true => Err(io::Error::other("the writer thread has failed")),
            false => Ok(()),
        }
    }

    pub(super) fn want_all(&self) {
        let accepted = self.shared.accepted.load(Ordering::Relaxed);
        self.shared.wanted.store(accepted, Ordering::Release);
    }

    /// Ends the thread, which drains first; `wake` gets it to look.
    pub(super) fn end(self, wake: impl FnOnce()) -> io::Result<()> {
        self.want_all();
        self.shared.ending.store(true, Ordering::Release);
        wake();
        self.handle.join().unwrap_or_else(|_| Err(io::Error::other("it panicked")))
    }
}
