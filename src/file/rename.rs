//! A rename that never destroys what has the new name already.
#![allow(unsafe_code)]

use std::io;
use std::path::Path;

use super::directory::Entry;
use super::open::cannot_sync;

/// Both names of a file that was renamed.
#[derive(Debug)]
pub(crate) struct Renamed {
    old: Entry,
    new: Entry,
}

impl Renamed {
    /// Makes it durable, in the directories that the names were in. Where the file system can't
    /// flush a directory nothing more can be done: an open says so in its label.
    pub(crate) fn sync(&self) -> io::Result<()> {
        for entry in [&self.new, &self.old] {
            match entry.sync() {
                Err(error) if !cannot_sync(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// In one step where the file system can.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<Renamed> {
    let (old, new) = (Entry::at(from)?, Entry::at(to)?);
    #[cfg(target_os = "linux")]
    old.rename(&new)?;
    #[cfg(not(target_os = "linux"))]
    rename_by_path(old.path(), new.path())?;
    Ok(Renamed { old, new })
}

/// A link is never made over a name that is taken.
#[cfg(all(unix, not(target_os = "linux")))]
fn rename_by_path(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)
}

/// Returns when the new name is on disk.
#[cfg(windows)]
fn rename_by_path(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::windows::ffi::OsStrExt;
    use windows_sys::Win32::Storage::FileSystem::{MOVEFILE_WRITE_THROUGH, MoveFileExW};
    let wide = |path: &Path| path.as_os_str().encode_wide().chain([0]).collect::<Vec<u16>>();
    let (from, to) = (wide(from), wide(to));
    // SAFETY: two live strings that end with a zero.
    match unsafe { MoveFileExW(from.as_ptr(), to.as_ptr(), MOVEFILE_WRITE_THROUGH) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn neither_way_destroys_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let by_link = |from: &Path, to: &Path| Entry::at(from)?.rename_by_link(&Entry::at(to)?);
        let at_once = |from: &Path, to: &Path| rename(from, to).map(drop);
        let ways: [fn(&Path, &Path) -> io::Result<()>; 2] = [at_once, by_link];
        for rename in ways {
            std::fs::write(&from, b"new").unwrap();
            rename(&from, &to).unwrap();
            std::fs::write(&from, b"newer").unwrap();
            let refused = rename(&from, &to).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read(&from).unwrap(), b"newer");
            assert_eq!(std::fs::read(&to).unwrap(), b"new");
            std::fs::remove_file(&to).unwrap();
        }
    }
}
