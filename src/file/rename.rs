//! A rename that never destroys what has the new name already.
#![allow(unsafe_code)]

use std::io;
use std::path::Path;

/// In one step where the file system can (renameat2(2), RENAME_NOREPLACE).
#[cfg(target_os = "linux")]
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    let [old, new] = [from, to].map(|path| CString::new(path.as_os_str().as_bytes()));
    let (old, new) = (old?, new?);
    // SAFETY: two live strings; plain integers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            old.as_ptr(),
            libc::AT_FDCWD,
            new.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // Kernels before 3.15, and file systems that know no such rename.
        Some(libc::ENOSYS | libc::EINVAL) => rename_by_link(from, to),
        _ => Err(error),
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    rename_by_link(from, to)
}

/// A link is never made over a name that is taken.
#[cfg(unix)]
fn rename_by_link(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)
}

/// Returns when the new name is on disk.
#[cfg(windows)]
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
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

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn neither_way_destroys_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        for rename in [rename, rename_by_link] {
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
