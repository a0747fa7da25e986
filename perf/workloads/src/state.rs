//! The states that a file can be in before the first write: they decide what a fence costs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What the file holds where the writes will go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileState {
    /// Nothing: every write makes the file longer.
    Growing,
    /// Space reserved by `fallocate` that was never written.
    Reserved,
    /// Bytes that were written before, as in a recycled file.
    Written,
}

impl FileState {
    /// All states, the dearest first.
    pub const ALL: [Self; 3] = [Self::Growing, Self::Reserved, Self::Written];

    /// The word for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Growing => "growing",
            Self::Reserved => "reserved",
            Self::Written => "written",
        }
    }

    /// Makes the file at `path` be in this state for `len` bytes, durably. An older file goes.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn prepare(self, path: &Path, len: u64) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(path)?;
        match self {
            Self::Growing => {}
            Self::Reserved => reserve(&file, len)?,
            Self::Written => {
                let piece = vec![0x5a; 1 << 20];
                let mut left = len;
                while left > 0 {
                    let n = left.min(piece.len() as u64);
                    file.write_all(&piece[..n as usize])?;
                    left -= n;
                }
            }
        }
        file.sync_all()?;
        match path.parent() {
            Some(directory) if cfg!(unix) => File::open(directory)?.sync_all(),
            _ => Ok(()),
        }
    }
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn reserve(file: &File, len: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: a live descriptor and plain integers.
    match unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len as i64) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(file: &File, len: u64) -> io::Result<()> {
    file.set_len(len)
}

/// Where benches put their files: `WRITEFLUSH_BENCH_DIR`, else the target folder of the build.
pub fn scratch_dir() -> PathBuf {
    match std::env::var_os("WRITEFLUSH_BENCH_DIR") {
        Some(dir) => dir.into(),
        None => std::env::current_exe()
            .ok()
            .and_then(|exe| exe.parent().map(Path::to_owned))
            .unwrap_or_else(std::env::temp_dir),
    }
}
