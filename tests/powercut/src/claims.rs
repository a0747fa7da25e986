//! What the program under test says: to the disk, so that claims and requests have one order.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use memmap2::MmapMut;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Claim {
    /// Everything before is preparation.
    Begun,
    /// The file is open: its name survives.
    Named(u64),
    /// The bytes below a position are durable, and so many patches. (Of messages: so many.)
    Durable(u64, u64, u64),
    /// A patch is asked for: its number, its first byte, and how many bytes it has.
    Patched(u64, u64, u64, u64),
    /// A checkpoint is asked for, and perhaps through.
    Asked(u64, u64),
    Checkpoint(u64, u64),
    /// The file is closed, and so long.
    Closed(u64, u64),
    /// Its directory is to move.
    Moving(u64),
    /// It is to get its other name, and has it.
    Renaming(u64),
    Renamed(u64),
    Ended,
    /// A disk is full: nobody waits, or whoever waits gets room from now on.
    Full,
    /// Of the whole recording, whenever the power goes: so many bytes from a position on are those
    /// of a record with this salt, or zeros (salt 0).
    Lies(u64, u64, u64, u64),
    /// Likewise: nothing was ever written from here on.
    End(u64, u64),
    /// Likewise: the next segment begins at this position of the whole.
    Begins(u64, u64),
}

/// Where they go.
#[derive(Debug)]
pub(crate) struct Claims(Mutex<Place>);

#[derive(Debug)]
enum Place {
    /// A file of the disk that remembers.
    File(File),
    /// The disk itself, behind its file system: a block each.
    Disk { disk: File, next: u64, block: MmapMut },
}

const BLOCK: usize = 4096;

impl Claims {
    pub(crate) fn at(path: &Path) -> anyhow::Result<Self> {
        let file = File::options().write(true).open(path).context("no place for claims")?;
        Ok(Self(Mutex::new(Place::File(file))))
    }

    /// On a device from a byte on, past the page cache.
    pub(crate) fn on_disk(device: &Path, from: u64) -> anyhow::Result<Self> {
        let disk = File::options().write(true).custom_flags(libc::O_DIRECT).open(device);
        let disk = disk.with_context(|| format!("{} can't be opened", device.display()))?;
        // Direct I/O wants memory at the start of a page.
        let block = MmapMut::map_anon(BLOCK)?;
        Ok(Self(Mutex::new(Place::Disk { disk, next: from, block })))
    }

    /// What is prepared is durable, also on a disk that drops FUA.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Place::File(_) => Ok(()),
            Place::Disk { disk, .. } => disk.sync_all().context("the disk can't be flushed"),
        }
    }

    pub(crate) fn say(&self, claim: Claim) -> anyhow::Result<()> {
        let line = serde_json::to_string(&claim)?;
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Place::File(file) => file.write_all(line.as_bytes()).context("the disk took no claim"),
            Place::Disk { disk, next, block } => {
                block.fill(0);
                block[..line.len()].copy_from_slice(line.as_bytes());
                let at = std::mem::replace(next, *next + BLOCK as u64);
                disk.write_all_at(block, at).context("the disk took no claim")
            }
        }
    }
}
