//! A board in memory that processes share: a file of `/dev/shm` whose name says which recording it
//! belongs to. (In a file on a disk a store may find no space, on btrfs each time, which ends the
//! process: SIGBUS.)
#![allow(unsafe_code)]

use std::fs::{File, Metadata, TryLockError};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::board::Board;

/// Where the board of the recording with this device and number is found.
pub(super) fn place_of([device, number]: [u64; 2]) -> PathBuf {
    format!("/dev/shm/writeflush-{device:x}-{number:x}").into()
}

pub(super) fn identity(file: &Metadata) -> [u64; 2] {
    [file.dev(), file.ino()]
}

#[derive(Debug)]
pub(super) struct Page {
    board: *const Board,
    file: File,
}

// SAFETY: the board holds nothing but atomics, and stays mapped as long as the page lives.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// Of a writer: new, of zeros, and locked as long as it lives; to be read by whom `mode` lets.
    pub(super) fn create(path: &Path, mode: u32) -> io::Result<Self> {
        let mut options = File::options();
        let options = options.read(true).write(true).create_new(true).mode(mode);
        let mut file = options.open(path)?;
        file.write_all(&[0; Board::BYTES])?; // the space now, where its want is an error
        file.try_lock()?;
        Self::map(file, libc::PROT_READ | libc::PROT_WRITE)
    }

    /// Of a follower, who can't write.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK; // whatever somebody has left there
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() != Board::BYTES as u64 {
            return Err(io::ErrorKind::NotFound.into());
        }
        Self::map(file, libc::PROT_READ)
    }

    fn map(file: File, protection: i32) -> io::Result<Self> {
        let (null, shared, number) = (std::ptr::null_mut(), libc::MAP_SHARED, file.as_raw_fd());
        // SAFETY: a new mapping of a live descriptor, at a place of the kernel's choice.
        let page = unsafe { libc::mmap(null, Board::BYTES, protection, shared, number, 0) };
        match page {
            libc::MAP_FAILED => Err(io::Error::last_os_error()),
            page => Ok(Self { board: page.cast(), file }),
        }
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Whether it can be found, under whatever name.
    pub(super) fn is_named(&self) -> io::Result<bool> {
        Ok(self.metadata()?.nlink() > 0)
    }

    /// Of a follower: whether the writer lives.
    pub(super) fn is_locked(&self) -> io::Result<bool> {
        match self.file.try_lock_shared() {
            Ok(()) => self.file.unlock().map(|()| false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl std::ops::Deref for Page {
    type Target = Board;

    fn deref(&self) -> &Board {
        // SAFETY: mapped, aligned to a page, of this size; any content is a board, since it is nothing
        // but atomics. A follower calls only what reads.
        unsafe { &*self.board }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, with this length, and never used again.
        unsafe { libc::munmap(self.board.cast_mut().cast(), Board::BYTES) };
    }
}
