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
        self.prepare_all(&[path.to_owned()], len)
    }

    /// As [`prepare`](Self::prepare), for files of one folder, in this order.
    ///
    /// A growing or reserved file is a new inode. A written one keeps its blocks and is written
    /// once more, so that whatever was there before leaves nothing behind. Nothing of it stays in
    /// the page cache, where a direct write would have to look for it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn prepare_all(self, paths: &[PathBuf], len: u64) -> io::Result<()> {
        let files =
            paths.iter().map(|path| self.make(path, len)).collect::<io::Result<Vec<_>>>()?;
        let Some(folder) = paths.first().and_then(|path| path.parent()) else { return Ok(()) };
        settle(folder, &files)?;
        files.iter().try_for_each(forget)
    }

    /// The file with its content, which may not have reached the disk.
    fn make(self, path: &Path, len: u64) -> io::Result<File> {
        if self == Self::Written {
            let mut file =
                OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
            file.set_len(len)?;
            let piece = vec![0x5a; 1 << 20];
            let mut left = len;
            while left > 0 {
                let n = left.min(piece.len() as u64);
                file.write_all(&piece[..n as usize])?;
                left -= n;
            }
            return Ok(file);
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = File::create_new(path)?;
        if self == Self::Reserved {
            reserve(&file, len)?;
        }
        Ok(file)
    }
}

/// Everything of the folder reaches the disk. One call for all files: a fence each would take as
/// long as what is measured.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn settle(folder: &Path, _files: &[File]) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let folder = File::open(folder)?;
    // SAFETY: a live descriptor.
    match unsafe { libc::syncfs(folder.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn settle(folder: &Path, files: &[File]) -> io::Result<()> {
    files.iter().try_for_each(File::sync_all)?;
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Drops what the page cache keeps of a clean file. A hint: a file system in memory can't.
///
/// # Errors
/// What the operating system says.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub fn forget(file: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: a live descriptor and plain integers.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Does nothing here.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn forget(_file: &File) -> io::Result<()> {
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lap_begins_with_files_that_remember_nothing() {
        let folder = tempfile::tempdir_in(scratch_dir()).expect("a folder");
        let paths = [1, 2].map(|name| folder.path().join(name.to_string()));
        for state in FileState::ALL {
            state.prepare_all(&paths, 8192).expect("files");
            std::fs::write(&paths[0], "what a lap left").expect("a write");
            state.prepare_all(&paths, 8192).expect("files");
            for path in &paths {
                let found = std::fs::read(path).expect("the file");
                match state {
                    FileState::Growing => assert!(found.is_empty()),
                    FileState::Reserved => assert!(found == [0; 8192]),
                    FileState::Written => assert!(found == [0x5a; 8192]),
                }
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_growing_file_is_a_new_inode_and_a_written_one_keeps_its_own() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir_in(scratch_dir()).expect("a folder");
        let path = folder.path().join("file");
        let inode = |state: FileState| {
            // Held open, so that its number is not free for the next.
            let older = File::open(&path);
            state.prepare(&path, 4096).expect("a file");
            drop(older);
            std::fs::metadata(&path).expect("the file").ino()
        };
        let written = inode(FileState::Written);
        assert_eq!(inode(FileState::Written), written);
        let growing = inode(FileState::Growing);
        assert_ne!(growing, written);
        assert_ne!(inode(FileState::Growing), growing);
    }
}
