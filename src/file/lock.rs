//! Advisory locks: the one that keeps a second writer out, and those that say who may have a file
//! open beside whom.

#[cfg(not(windows))]
pub(crate) use flock::{try_lock, unlock};
pub(crate) use shares::try_share;
#[cfg(windows)]
pub(crate) use windows::{try_lock, unlock};

/// What one open of a file does, and what it lets nobody else do meanwhile. Nothing of either is the
/// default, and costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) reads: bool,
    pub(crate) writes: bool,
    pub(crate) denies_reading: bool,
    pub(crate) denies_writing: bool,
}

/// One byte stands for each thing that an open does or denies; whoever does or denies it holds a
/// shared lock on that byte.
#[cfg(any(target_os = "linux", windows))]
impl Share {
    const READS: u32 = 0;
    const WRITES: u32 = 1;
    const DENIES_READING: u32 = 2;
    const DENIES_WRITING: u32 = 3;

    /// The bytes to hold, each with the one that nobody else may hold then.
    fn bytes(self) -> impl Iterator<Item = (u32, u32)> {
        let all = [
            (self.reads, Self::READS, Self::DENIES_READING),
            (self.writes, Self::WRITES, Self::DENIES_WRITING),
            (self.denies_reading, Self::DENIES_READING, Self::READS),
            (self.denies_writing, Self::DENIES_WRITING, Self::WRITES),
        ];
        all.into_iter().filter(|(asked, ..)| *asked).map(|(_, held, free)| (held, free))
    }
}

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
    pub(super) fn try_lock_shared(file: &File) -> io::Result<bool> {
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
        #[cfg(target_os = "linux")]
        super::shares::release(file);
    }
}

/// Locks of the open file description (fcntl(2), F_OFD_SETLK), far behind the end of the file: they
/// don't meet flock's, are the same between and within processes, and go with the last descriptor.
#[cfg(target_os = "linux")]
mod shares {
    #![allow(unsafe_code)]

    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;

    use super::{Share, flock};

    fn lock(kind: i32, byte: u32, bytes: i64) -> libc::flock64 {
        // SAFETY: flock64 is plain data, zero is valid.
        let mut lock: libc::flock64 = unsafe { std::mem::zeroed() };
        lock.l_type = kind as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        lock.l_start = (i64::MAX - 16 + i64::from(byte)) as libc::off64_t;
        lock.l_len = bytes as libc::off64_t;
        lock
    }

    /// `Ok(false)`: somebody else's lock is in the way.
    fn hold(file: &File, byte: u32) -> io::Result<bool> {
        let lock = lock(libc::F_RDLCK, byte, 1);
        // SAFETY: a live descriptor and a live struct.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } == 0 {
            return Ok(true);
        }
        match io::Error::last_os_error() {
            error if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            error => Err(error),
        }
    }

    fn others_hold(file: &File, byte: u32) -> io::Result<bool> {
        let mut lock = lock(libc::F_WRLCK, byte, 1);
        // SAFETY: a live descriptor and a live struct.
        match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) } {
            0 => Ok(lock.l_type != libc::F_UNLCK as libc::c_short),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// `Ok(false)`: somebody else has the file open in a way that does not go with this one. Of two
    /// that try at once both may be kept out.
    pub(crate) fn try_share(file: &File, share: Share) -> io::Result<bool> {
        let mut taken = share.writes // who writes has the writers' lock
            || !share.denies_writing
            || flock::try_lock_shared(file)?;
        for (held, _) in share.bytes() {
            taken = taken && hold(file, held)?;
        }
        for (_, free) in share.bytes() {
            taken = taken && !others_hold(file, free)?;
        }
        if !taken {
            flock::unlock(file);
        }
        Ok(taken)
    }

    pub(super) fn release(file: &File) {
        let lock = lock(libc::F_UNLCK, 0, 4);
        // SAFETY: a live descriptor and a live struct. The close lets go of them too.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    }
}

/// Only readers against writers, and the other way round: with the writers' lock.
#[cfg(not(any(target_os = "linux", windows)))]
mod shares {
    use std::fs::File;
    use std::io;

    use super::{Share, flock};

    /// `Ok(false)`: somebody else has the file open in a way that does not go with this one.
    pub(crate) fn try_share(file: &File, share: Share) -> io::Result<bool> {
        match share {
            Share { writes: true, .. } => Ok(true), // who writes has the lock
            Share { denies_reading: true, .. } => flock::try_lock(file),
            Share { denies_writing: true, .. } => flock::try_lock_shared(file),
            _ => Ok(true),
        }
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

    /// The last byte that a file can have; those of [`Share`](super::Share) lie before it.
    pub(super) const WRITERS: u32 = u32::MAX - 1;

    pub(super) const SHARED: u32 = LOCKFILE_FAIL_IMMEDIATELY;
    pub(super) const EXCLUSIVE: u32 = LOCKFILE_FAIL_IMMEDIATELY | LOCKFILE_EXCLUSIVE_LOCK;
    pub(super) const EXCLUSIVE_IN_TURN: u32 = LOCKFILE_EXCLUSIVE_LOCK;

    fn place(byte: u32) -> OVERLAPPED {
        // SAFETY: OVERLAPPED is plain data, zero is valid.
        let mut place: OVERLAPPED = unsafe { std::mem::zeroed() };
        place.Anonymous.Anonymous.Offset = byte;
        place.Anonymous.Anonymous.OffsetHigh = i32::MAX as u32;
        place
    }

    pub(super) fn lock(file: &File, byte: u32, flags: u32) -> io::Result<bool> {
        let mut place = place(byte);
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
        lock(file, WRITERS, EXCLUSIVE)
    }

    /// As above, but so that no other reader is kept out by it.
    pub(super) fn try_lock_shared(file: &File) -> io::Result<bool> {
        lock(file, WRITERS, SHARED)
    }

    pub(crate) fn unlock(file: &File) {
        unlock_byte(file, WRITERS);
        super::shares::release(file);
    }

    pub(super) fn unlock_byte(file: &File, byte: u32) {
        let mut place = place(byte);
        // SAFETY: as above. An error changes nothing: the close lets go of it too.
        unsafe { UnlockFileEx(file.as_raw_handle(), 0, 1, 0, &raw mut place) };
    }
}

/// Windows' own share modes would keep out the writer's own handles. Here nobody can be asked
/// whether he holds a byte, so one tries to lock it, in turn.
#[cfg(windows)]
mod shares {
    use std::fs::File;
    use std::io;

    use super::Share;
    use super::windows::{
        EXCLUSIVE, EXCLUSIVE_IN_TURN, SHARED, WRITERS, lock, try_lock_shared, unlock, unlock_byte,
    };

    const FIRST: u32 = WRITERS - 16;
    const TURN: u32 = WRITERS - 1;

    /// `Ok(false)`: somebody else has the file open in a way that does not go with this one.
    pub(crate) fn try_share(file: &File, share: Share) -> io::Result<bool> {
        if share == Share::default() {
            return Ok(true);
        }
        lock(file, TURN, EXCLUSIVE_IN_TURN)?;
        let taken = take(file, share);
        unlock_byte(file, TURN);
        if !matches!(taken, Ok(true)) {
            unlock(file);
        }
        taken
    }

    fn take(file: &File, share: Share) -> io::Result<bool> {
        let mut taken = share.writes // who writes has the writers' lock
            || !share.denies_writing
            || try_lock_shared(file)?;
        for (_, free) in share.bytes() {
            if taken && lock(file, FIRST + free, EXCLUSIVE)? {
                unlock_byte(file, FIRST + free);
            } else {
                taken = false;
            }
        }
        for (held, _) in share.bytes() {
            taken = taken && lock(file, FIRST + held, SHARED)?;
        }
        Ok(taken)
    }

    pub(super) fn release(file: &File) {
        (0..4).for_each(|byte| unlock_byte(file, FIRST + byte));
    }
}
