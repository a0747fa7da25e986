//! What lies under a path, down to the last device in sight, and what the kernel counts of it
//! (Documentation/block/stat.rst, Documentation/ABI/stable/sysfs-block).

mod counters;
mod disk;
mod fua;
#[cfg(all(test, target_os = "linux"))]
mod tests;
mod walk;

use std::path::Path;
use std::sync::{Arc, Mutex};

pub use self::counters::{Counters, Counts};
pub use self::disk::Disk;
pub use self::fua::FuaWrites;
use crate::kernel::Kernel;

/// The way from a path to the devices that its data ends on. Works without root.
#[derive(Clone, Debug)]
pub struct Device {
    /// What is passed, from the top: file systems, files, devices.
    pub way: Vec<String>,
    /// Disks with a request queue of their own, from the top; the first is the one that the file
    /// system lies on.
    pub disks: Vec<Disk>,
    /// Where the way ends.
    pub end: End,
    /// Counts writes with FUA, once that is asked for.
    fua: Option<Arc<Mutex<FuaWrites>>>,
}

/// Where data ends, as far as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// At disks whose flushes are counted.
    Disks,
    /// In memory of this machine; what keeps it there.
    Memory(String),
    /// Out of sight; why.
    Unseen(String),
}

impl Device {
    /// What lies under `path` (a file or folder that exists).
    ///
    /// # Errors
    /// The path does not exist, or the platform shows nothing. A place without any disk is no
    /// error: [`end`](Self::end) says what it is.
    pub fn under(path: &Path) -> Result<Self, String> {
        if !cfg!(target_os = "linux") {
            return Err("device counters are read from sysfs, which exists on Linux only".into());
        }
        let path = std::path::absolute(path).map_err(|error| error.to_string())?;
        std::fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self::seen_by(&Kernel::here(), &path))
    }

    /// From now on [`counts`](Self::counts) has the writes with FUA, too: those of all disks on the
    /// way that take them, by anybody. Takes the rights to read the kernel's trace points, and a
    /// descriptor for each disk and processor until the last clone is dropped.
    ///
    /// # Errors
    /// They can't be counted here; why.
    pub fn count_fua(&mut self) -> Result<(), String> {
        let takers: Vec<&Disk> = self.disks.iter().filter(|disk| disk.takes_fua()).collect();
        self.fua = Some(Arc::new(Mutex::new(FuaWrites::start(&takers)?)));
        Ok(())
    }

    pub(crate) fn seen_by(kernel: &Kernel, path: &Path) -> Self {
        walk::from(kernel, path)
    }

    /// The counters now.
    ///
    /// # Errors
    /// When there is no disk in sight, or the kernel does not count its flushes.
    pub fn counts(&self) -> Result<Counters, String> {
        Counters::of(self)
    }
}
