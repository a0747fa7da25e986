//! Whether anybody else has a file open (fcntl(2), F_SETLEASE).
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Of the kernel (include/uapi/asm-generic/fcntl.h); libc has it for some of its targets only.
const F_SETSIG: i32 = 10;

/// While it lasts nobody else has the file open: who opens it waits until it is dropped.
#[derive(Debug)]
pub(super) struct Lease<'a>(&'a File);

impl<'a> Lease<'a> {
    /// An error says that somebody has the file open, in whatever way, or that the file system can't tell
    /// (of another's files it tells nobody).
    pub(super) fn alone(file: &'a File) -> io::Result<Self> {
        // Whoever comes meanwhile has this process told by SIGIO, which would end it; of SIGURG it takes no
        // notice by default.
        Self::ask(file, F_SETSIG, libc::SIGURG)?;
        Self::ask(file, libc::F_SETLEASE, libc::F_WRLCK)?;
        Ok(Self(file))
    }

    fn ask(file: &File, command: i32, what: i32) -> io::Result<()> {
        // SAFETY: a live descriptor and a number.
        match unsafe { libc::fcntl(file.as_raw_fd(), command, what) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let _ = Self::ask(self.0, libc::F_SETLEASE, libc::F_UNLCK); // the close lets go of it too
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_has_it_and_who_comes_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"old").unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let reader = File::open(&path).unwrap();
        Lease::alone(&file).unwrap_err();
        drop(reader);
        let lease = Lease::alone(&file).unwrap();
        let other = std::thread::spawn(move || std::fs::read(path).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(50)); // time enough to open it, were it let
        std::os::unix::fs::FileExt::write_all_at(&file, b"new", 0).unwrap();
        drop(lease);
        assert_eq!(other.join().unwrap(), b"new");
    }
}
