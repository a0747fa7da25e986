//! What the program under test says: to the disk, so that claims and requests have one order.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Claim {
    /// Everything before is preparation.
    Begun,
    /// The file is open: its name survives.
    Named(u64),
    /// The bytes below a position are durable, and so many patches.
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
}

#[derive(Debug)]
pub(crate) struct Claims(Mutex<File>);

impl Claims {
    pub(crate) fn at(path: &Path) -> anyhow::Result<Self> {
        let file = File::options().write(true).open(path).context("no place for claims")?;
        Ok(Self(Mutex::new(file)))
    }

    pub(crate) fn say(&self, claim: Claim) -> anyhow::Result<()> {
        let line = serde_json::to_string(&claim)?;
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes()).context("the disk took no claim")
    }
}
