//! A directory in which files come and go: what is in it, and the removal of what is known.
#![allow(unsafe_code)]

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::lock;
use super::mark;

/// What tells a file from any other, also from one that has its name, or even its number, later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Original {
    pub(crate) device: u64,
    /// 0 where a file does not keep it, and has a time of birth.
    pub(crate) number: u64,
    /// Numbers are given again at once on ext4. Not every file system knows when a file was made.
    pub(crate) made: Option<SystemTime>,
}

/// A file that has a name in the directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) original: Original,
    pub(crate) bytes: u64,
    pub(crate) modified: SystemTime,
}

/// A directory that is held open: it stays that directory, whatever it is called by now.
pub(crate) trait Folder: Debug + Send {
    /// Every name that is Unicode, of whatever.
    fn names(&self) -> io::Result<Vec<String>>;

    /// The regular file of this name; `None`: there is none, or it is something else.
    fn look(&self, name: &str) -> io::Result<Option<Found>>;

    /// Whether a writer has it.
    fn is_in_use(&self, name: &str) -> io::Result<bool>;

    /// Whether it bears the mark of a writer that has not closed it.
    fn is_unfinished(&self, name: &str) -> io::Result<bool>;

    /// Takes the name away, whatever has it.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Has the file of this name begin with `head`, durably, and then takes `new` for its name, which
    /// nobody may have. Not a file that is known by another name as well, or that anybody has open: whoever
    /// reads it would see it change. An error says that it has its old name, be the new head in it or not.
    fn recycle(&self, name: &str, original: &Original, head: &[u8], new: &str) -> io::Result<()>;

    /// Makes durable what has become of the names.
    fn sync(&self) -> io::Result<()>;

    fn space(&self) -> io::Result<Space>;

    /// Waits until the space of what was removed counts as free, where that takes its time.
    fn reclaim(&self);
}

/// Of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// Free for whoever is not root.
    pub(crate) free: u64,
    pub(crate) size: u64,
}

/// In the operating system.
pub(crate) fn folder(path: &Path) -> io::Result<Box<dyn Folder>> {
    Ok(Box::new(SystemFolder::open(path)?))
}

fn is_in_use(file: &File) -> io::Result<bool> {
    let is_free = lock::try_lock(file)?;
    if is_free {
        lock::unlock(file);
    }
    Ok(!is_free)
}

fn found(metadata: &std::fs::Metadata, (device, number): (u64, u64)) -> io::Result<Found> {
    let original = Original { device, number, made: metadata.created().ok() };
    Ok(Found { original, bytes: metadata.len(), modified: metadata.modified()? })
}

/// Some file systems have no flush for a directory, and never will: the label of a writer there says so.
#[cfg(unix)]
fn tolerate(synced: io::Result<()>) -> io::Result<()> {
    match synced {
        Err(error) if super::open::cannot_sync(&error) => Ok(()),
        synced => synced,
    }
}

#[cfg(target_os = "linux")]
use linux::SystemFolder;

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::{CStr, CString};
    use std::os::fd::{AsRawFd, FromRawFd};
    use std::os::unix::fs::{FileExt, MetadataExt};
    use std::path::PathBuf;

    use super::super::lease::Lease;
    use super::super::rename::rename;
    use super::*;
    use crate::canary::Canary;
    use crate::file::{OsFile, place};

    #[derive(Debug)]
    pub(super) struct SystemFolder {
        file: OsFile,
        /// As it was called.
        path: PathBuf,
        keeps_numbers: bool,
    }

    impl SystemFolder {
        pub(super) fn open(path: &Path) -> io::Result<Self> {
            use std::os::unix::fs::OpenOptionsExt;
            let file = File::options().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
            let keeps_numbers = place::keeps_numbers(&file);
            Ok(Self { file: OsFile::new(file), path: path.into(), keeps_numbers })
        }

        /// Looks only: it changes nothing, waits for no FIFO, and follows no link.
        fn peek(&self, name: &CStr) -> io::Result<File> {
            let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
            self.open_at(name, flags | libc::O_NOCTTY | libc::O_LARGEFILE)
        }

        fn found(&self, metadata: &std::fs::Metadata) -> io::Result<Found> {
            let is_known_by_number = self.keeps_numbers || metadata.created().is_err();
            let number = if is_known_by_number { metadata.ino() } else { 0 };
            found(metadata, (metadata.dev(), number))
        }

        fn open_at(&self, name: &CStr, flags: i32) -> io::Result<File> {
            // SAFETY: a live descriptor and a live string.
            let number =
                unsafe { libc::openat(self.file.ours()?.as_raw_fd(), name.as_ptr(), flags) };
            if number < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: a descriptor that was just made and belongs to nobody else.
            Ok(unsafe { File::from_raw_fd(number) })
        }
    }

    impl Folder for SystemFolder {
        fn names(&self) -> io::Result<Vec<String>> {
            let held = PathBuf::from(format!("/proc/self/fd/{}", self.file.ours()?.as_raw_fd()));
            let entries = std::fs::read_dir(held).or_else(|_| std::fs::read_dir(&self.path))?;
            let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string()));
            names.filter_map(|name| name.map(Result::ok).transpose()).collect()
        }

        fn look(&self, name: &str) -> io::Result<Option<Found>> {
            let name = CString::new(name)?;
            let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
            let metadata = match self.open_at(&name, flags) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file?.metadata()?,
            };
            metadata.is_file().then(|| self.found(&metadata)).transpose()
        }

        fn is_in_use(&self, name: &str) -> io::Result<bool> {
            is_in_use(&self.peek(&CString::new(name)?)?)
        }

        fn is_unfinished(&self, name: &str) -> io::Result<bool> {
            Ok(mark::get(&self.peek(&CString::new(name)?)?).is_some())
        }

        fn recycle(
            &self,
            name: &str,
            original: &Original,
            head: &[u8],
            new: &str,
        ) -> io::Result<()> {
            let flags = libc::O_RDWR | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
            let flags = flags | libc::O_NOCTTY | libc::O_LARGEFILE;
            let file = self.open_at(&CString::new(name)?, flags)?;
            let metadata = file.metadata()?;
            let is_it = metadata.is_file() && self.found(&metadata)?.original == *original;
            if !is_it || metadata.nlink() != 1 || !lock::try_lock(&file)? {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            let lease = Lease::alone(&file)?;
            file.write_all_at(head, 0)?;
            drop(lease);
            if !Canary::RecycledUnflushed.is_planted() {
                file.sync_data()?;
            }
            rename(&self.path.join(name), &self.path.join(new)).map(drop)
        }

        fn remove(&self, name: &str) -> io::Result<()> {
            let (number, name) = (self.file.ours()?.as_raw_fd(), CString::new(name)?);
            // SAFETY: a live descriptor and a live string.
            match unsafe { libc::unlinkat(number, name.as_ptr(), 0) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        }

        fn sync(&self) -> io::Result<()> {
            tolerate(self.file.ours()?.sync_all())
        }

        fn space(&self) -> io::Result<Space> {
            // SAFETY: statvfs64 is plain data, zero is valid; the call fills it.
            let mut stat: libc::statvfs64 = unsafe { std::mem::zeroed() };
            // SAFETY: a live descriptor and a live struct.
            match unsafe { libc::fstatvfs64(self.file.ours()?.as_raw_fd(), &raw mut stat) } {
                0 => {
                    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize as u64);
                    Ok(Space { free: bytes(stat.f_bavail), size: bytes(stat.f_blocks) })
                }
                _ => Err(io::Error::last_os_error()),
            }
        }

        /// The journal has to commit, and xfs and btrfs do the rest behind it (syncfs(2)).
        fn reclaim(&self) {
            if let Ok(file) = self.file.ours() {
                // SAFETY: a live descriptor.
                unsafe { libc::syncfs(file.as_raw_fd()) };
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
use by_path::SystemFolder;

/// Platforms without a descriptor to hold: the path, links resolved, stands for it.
#[cfg(not(target_os = "linux"))]
mod by_path {
    use std::path::PathBuf;

    use super::*;

    #[derive(Debug)]
    pub(super) struct SystemFolder(PathBuf);

    impl SystemFolder {
        pub(super) fn open(path: &Path) -> io::Result<Self> {
            let path = std::fs::canonicalize(path)?;
            std::fs::read_dir(&path)?; // a directory
            Ok(Self(path))
        }
    }

    impl Folder for SystemFolder {
        fn names(&self) -> io::Result<Vec<String>> {
            let names = std::fs::read_dir(&self.0)?
                .map(|entry| entry.map(|entry| entry.file_name().into_string()));
            names.filter_map(|name| name.map(Result::ok).transpose()).collect()
        }

        fn look(&self, name: &str) -> io::Result<Option<Found>> {
            let metadata = match std::fs::symlink_metadata(self.0.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                metadata => metadata?,
            };
            #[cfg(unix)]
            let identity = {
                use std::os::unix::fs::MetadataExt;
                (metadata.dev(), metadata.ino())
            };
            #[cfg(not(unix))]
            let identity = (0, 0);
            metadata.is_file().then(|| found(&metadata, identity)).transpose()
        }

        fn is_in_use(&self, name: &str) -> io::Result<bool> {
            is_in_use(&File::open(self.0.join(name))?)
        }

        fn is_unfinished(&self, name: &str) -> io::Result<bool> {
            Ok(mark::get(&File::open(self.0.join(name))?).is_some())
        }

        fn recycle(&self, _: &str, _: &Original, _: &[u8], _: &str) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into()) // nobody can be asked who has it open
        }

        fn remove(&self, name: &str) -> io::Result<()> {
            std::fs::remove_file(self.0.join(name))
        }

        fn sync(&self) -> io::Result<()> {
            #[cfg(unix)]
            return tolerate(File::open(&self.0)?.sync_all());
            #[cfg(not(unix))]
            Ok(()) // NTFS journals names
        }

        #[cfg(unix)]
        fn space(&self) -> io::Result<Space> {
            use std::os::fd::AsRawFd;
            let directory = File::open(&self.0)?;
            // SAFETY: statvfs is plain data, zero is valid; the call fills it.
            let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
            // SAFETY: a live descriptor and a live struct.
            match unsafe { libc::fstatvfs(directory.as_raw_fd(), &raw mut stat) } {
                0 => {
                    let bytes = |blocks| (blocks as u64).saturating_mul(stat.f_frsize as u64);
                    Ok(Space { free: bytes(stat.f_bavail), size: bytes(stat.f_blocks) })
                }
                _ => Err(io::Error::last_os_error()),
            }
        }

        fn reclaim(&self) {}

        #[cfg(windows)]
        fn space(&self) -> io::Result<Space> {
            use std::os::windows::ffi::OsStrExt;
            use windows_sys::Win32::Storage::FileSystem::GetDiskFreeSpaceExW;
            let path: Vec<u16> = self.0.as_os_str().encode_wide().chain([0]).collect();
            let (mut free, mut size, none) = (0, 0, std::ptr::null_mut());
            // SAFETY: a live string that ends with a zero, and live numbers.
            match unsafe { GetDiskFreeSpaceExW(path.as_ptr(), &raw mut free, &raw mut size, none) }
            {
                0 => Err(io::Error::last_os_error()),
                _ => Ok(Space { free, size }),
            }
        }
    }
}
