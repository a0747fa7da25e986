//! A file system with room for a few blocks, and room that comes back.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::fs::{FallocateFlags, fallocate, syncfs};

const FILLER: &str = "filler";

/// Whoever has not got on for so long waits for room: longer than any pause of a recording.
const PATIENCE: Duration = Duration::from_millis(250);
const BREATH: Duration = Duration::from_millis(5);

/// Takes all the space but so many bytes, and writes next to nothing.
pub(crate) fn fill(folder: &Path, room: u64) -> anyhow::Result<()> {
    let filler = File::create(folder.join(FILLER))?;
    let mut len = 0;
    for piece in [16 << 20, 1 << 20, 64 << 10, 4096] {
        while fallocate(&filler, FallocateFlags::empty(), len, piece).is_ok() {
            len += piece;
        }
    }
    filler.set_len(len.saturating_sub(room)).context("the filler can't be cut")?;
    filler.sync_all()?;
    Ok(syncfs(&filler)?)
}

/// Gives the space back once nobody makes a step any more; not at all if it is `over` before. Returns
/// whether it did.
pub(crate) fn give_back(
    folder: &Path,
    steps: &AtomicU64,
    over: &AtomicBool,
) -> anyhow::Result<bool> {
    let (mut last, mut since) = (steps.load(Ordering::Relaxed), Instant::now());
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(BREATH);
        let now = steps.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > PATIENCE {
            std::fs::remove_file(folder.join(FILLER)).context("the filler stays")?;
            return Ok(true);
        }
    }
    Ok(false)
}
