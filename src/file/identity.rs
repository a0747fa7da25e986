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

#[cfg(target_os = "linux")]
fn device_and_inode(number: RawFd) -> io::Result<(u64, u64)> {
    // SAFETY: stat64 is plain data, zero is valid; the call fills it.
    let mut stat: libc::stat64 = unsafe { std::mem::zeroed() };
    // SAFETY: any number, and a live struct.
    match unsafe { libc::fstat64(number, &raw mut stat) } {
        0 => Ok((stat.st_dev, stat.st_ino)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn device_and_inode(number: RawFd) -> io::Result<(u64, u64)> {
    use std::os::fd::FromRawFd;
    use std::os::unix::fs::MetadataExt;
    // SAFETY: only looked at, and never closed here.
    let file = std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(number) });
    file.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}
