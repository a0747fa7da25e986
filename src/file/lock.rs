//! The advisory lock that keeps a second writer out.

#[cfg(not(windows))]
pub(crate) use flock::{try_lock, try_lock_shared, unlock};
#[cfg(windows)]
pub(crate) use windows::{try_lock, try_lock_shared, unlock};

/// std's, which are advisory there.
#[cfg(not(windows))]
mod flock {
    use std::fs::{File, TryLockError};
    use std::io;

    /// `Ok(false)`: somebody else has it.
    pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
        taken(file.try_lock())
    }

    /// As above, but so that no other reader is kept out by it.
    pub(crate) fn try_lock_shared(file: &File) -> io::Result<bool> {
        taken(file.try_lock_shared())
    }

    fn taken(result: Result<(), TryLockError>) -> io::Result<bool> {
        match result {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub(crate) fn unlock(file: &File) {
        let _ = file.unlock(); // the close lets go of it too
    }
}

/// Locks of Windows are mandatory: one on the bytes of the file would keep readers out, and the
/// writer's own second handle. One far behind its end keeps out whoever asks for the same.
#[cfg(windows)]
mod windows {
    #![allow(unsafe_code)]

    use std::fs::File;
    use std::io;
    use std::os::windows::io::AsRawHandle;

    use windows_sys::Win32::Foundation::{ERROR_IO_PENDING, ERROR_LOCK_VIOLATION};
    use windows_sys::Win32::Storage::FileSystem::{
        LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, UnlockFileEx,
    };
    use windows_sys::Win32::System::IO::OVERLAPPED;

    /// The last byte that a file can have.
    fn place() -> OVERLAPPED {
        // SAFETY: OVERLAPPED is plain data, zero is valid.
        let mut place: OVERLAPPED = unsafe { std::mem::zeroed() };
        place.Anonymous.Anonymous.Offset = u32::MAX - 1;
        place.Anonymous.Anonymous.OffsetHigh = i32::MAX as u32;
        place
    }

    fn lock(file: &File, flags: u32) -> io::Result<bool> {
        let mut place = place();
        let flags = flags | LOCKFILE_FAIL_IMMEDIATELY;
        // SAFETY: a live handle for synchronous I/O; the OVERLAPPED only says where.
        if unsafe { LockFileEx(file.as_raw_handle(), flags, 0, 1, 0, &raw mut place) } != 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error().map(|code| code as u32) {
            Some(ERROR_LOCK_VIOLATION | ERROR_IO_PENDING) => Ok(false),
            _ => Err(error),
        }
    }

    /// `Ok(false)`: somebody else has it.
    pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
        lock(file, LOCKFILE_EXCLUSIVE_LOCK)
    }

    /// As above, but so that no other reader is kept out by it.
    pub(crate) fn try_lock_shared(file: &File) -> io::Result<bool> {
        lock(file, 0)
    }

    pub(crate) fn unlock(file: &File) {
        let mut place = place();
        // SAFETY: as above. An error changes nothing: the close lets go of it too.
        unsafe { UnlockFileEx(file.as_raw_handle(), 0, 1, 0, &raw mut place) };
    }
}
