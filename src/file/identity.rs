//! Whose a descriptor's number is: somebody else may close it, and then open something of his own.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;

/// What a descriptor stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// An error for a number that is not open. Costs a system call.
    pub(crate) fn of(number: RawFd) -> io::Result<Self> {
        let (device, inode) = device_and_inode(number)?;
        Ok(Self { device, inode })
    }

    /// An error unless the number still stands for this. Costs a system call. Who closes it between
    /// this look and the call that follows is not found out.
    pub(crate) fn check(self, number: RawFd, whose: &str) -> io::Result<()> {
        if Self::of(number)? == self {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "somebody else closed {whose} descriptor, and another file has the number now"
        )))
    }
}

/// Nothing else is asked for: who asks for the times makes the next write of the file take new ones
/// and dirty the inode (multigrain timestamps, Linux 6.13), which costs a commit 10 µs.
#[cfg(target_os = "linux")]
fn device_and_inode(number: RawFd) -> io::Result<(u64, u64)> {
    // SAFETY: statx is plain data, zero is valid; the call fills it.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let (flags, mask) = (libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC, libc::STATX_INO);
    // SAFETY: any number, an empty name that ends in NUL, and a live struct.
    match unsafe { libc::statx(number, c"".as_ptr(), flags, mask, &raw mut found) } {
        0 => Ok((libc::makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino)),
        _ => by_fstat(number), // before Linux 4.11, or refused by a profile of seccomp
    }
}

#[cfg(not(target_os = "linux"))]
fn device_and_inode(number: RawFd) -> io::Result<(u64, u64)> {
    by_fstat(number)
}

fn by_fstat(number: RawFd) -> io::Result<(u64, u64)> {
    use std::os::fd::FromRawFd;
    use std::os::unix::fs::MetadataExt;
    // SAFETY: only looked at, and never closed here.
    let file = std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(number) });
    file.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}
