//! Another program at the same disk: it writes 4 KiB and syncs them, on and on.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use cpu_time::ThreadTime;

/// Bytes of its file, which it writes again and again.
pub(crate) const SPACE: u64 = 64 << 20;

/// As long as it lives.
#[derive(Debug)]
pub(crate) struct Neighbour {
    leave: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Duration>>,
}

impl Neighbour {
    pub(crate) fn moves_in(folder: &Path) -> io::Result<Self> {
        let mut file = File::create(folder.join("neighbour"))?;
        let leave = Arc::new(AtomicBool::new(false));
        let told = leave.clone();
        let live = move || {
            let begun = ThreadTime::now();
            let block = [9u8; 4096];
            let mut offset = 0;
            while !told.load(Ordering::Relaxed) {
                file.seek(SeekFrom::Start(offset))?;
                file.write_all(&block)?;
                file.sync_all()?;
                offset = (offset + 4096) % SPACE;
            }
            Ok(begun.elapsed())
        };
        let thread = std::thread::Builder::new().name("neighbour".into()).spawn(live)?;
        Ok(Self { leave, thread })
    }

    /// Ends it. Returns the processor time that it took.
    pub(crate) fn moves_out(self) -> io::Result<Duration> {
        self.leave.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the neighbour panicked")))
    }
}
