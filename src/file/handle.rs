//! An open file as the writer sees it, apart from its data: the seam between the order of steps
//! ([`super::open`]) and what carries them out, a real system or a simulated one.
#![allow(unsafe_code)]

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lock::{self, Share};
#[cfg(any(target_os = "linux", windows))]
use super::open::MAX_BLOCK;
use super::open::OpenMode;
use super::place::{self, Place};
use crate::options::Options;

/// An open file. Its data goes through a backend.
pub(crate) trait Handle: Debug + Send + Sync {
    /// `Ok(false)`: somebody else has it.
    fn try_lock(&self) -> io::Result<bool>;

    fn unlock(&self);

    fn len(&self) -> io::Result<u64>;

    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Switches to direct I/O; returns the block that writes have to be aligned to.
    fn go_direct(&self, buffer_size: usize) -> io::Result<u64>;

    /// Space up to `bytes` that can't run out any more; the length grows to it.
    fn reserve(&self, bytes: u64) -> io::Result<()>;

    /// Zeros from `from` (rounded up to a block) to `to`.
    fn zero(&self, from: u64, to: u64) -> io::Result<()>;

    /// Flushes data and length.
    fn sync_all(&self) -> io::Result<()>;

    /// Makes the file's name durable.
    fn sync_directory(&self) -> io::Result<()>;

    /// Whether it still has a name: without one it is durable for nobody.
    fn is_named(&self) -> io::Result<bool>;

    fn place(&self) -> Place;

    /// The file for backends of the operating system.
    fn os_file(&self) -> Option<&Arc<OsFile>>;

    /// Tells the files of a simulated computer apart.
    #[cfg(all(test, unix, not(loom)))]
    fn number(&self) -> u64 {
        0
    }
}

/// A file of the operating system. Somebody else may have closed its descriptor by number, and
/// another file may have got the number: that one is not closed here.
#[derive(Debug)]
pub(crate) struct OsFile {
    file: ManuallyDrop<File>,
    #[cfg(unix)]
    identity: Option<(u64, u64)>,
    /// What backends that open it again have to align to: 1 with buffering.
    #[cfg(windows)]
    direct_block: std::sync::atomic::AtomicU64,
}

impl OsFile {
    #[cfg(windows)]
    pub(crate) fn direct_block(&self) -> u64 {
        self.direct_block.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The same file once more, for reading through the page cache, whatever its name is by now.
    #[cfg(target_os = "linux")]
    pub(crate) fn open_for_reading(&self, name: &Path) -> io::Result<File> {
        use std::os::fd::AsRawFd;
        // A description of its own: this one may be for direct I/O.
        File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd())).or_else(|_| {
            let file = File::open(name)?; // where there is no /proc
            if identity(&file) == self.identity { Ok(file) } else { Err(no_longer_named(name)) }
        })
    }

    /// Elsewhere this handle itself is through the page cache, and everybody reads and writes it at
    /// positions.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn open_for_reading(&self, _name: &Path) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Writes all the bytes at a position, past every backend and through the page cache.
    #[cfg(any(windows, test))]
    pub(crate) fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            done += write_some(&self.file, &bytes[done..], at + done as u64)?;
        }
        Ok(())
    }

    fn new(file: File) -> Self {
        Self {
            #[cfg(unix)]
            identity: identity(&file),
            #[cfg(windows)]
            direct_block: 1.into(),
            file: ManuallyDrop::new(file),
        }
    }
}

#[cfg(target_os = "linux")]
fn no_longer_named(name: &Path) -> io::Error {
    let sentence = format!(
        "{} is another file by now, and without /proc the open one can't be read back",
        name.display()
    );
    io::Error::new(io::ErrorKind::NotFound, sentence)
}

/// Device and number; `None` for a descriptor that is not open.
#[cfg(unix)]
fn identity(file: &File) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

impl std::ops::Deref for OsFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for OsFile {
    fn drop(&mut self) {
        #[cfg(unix)]
        if identity(&self.file) != self.identity {
            return;
        }
        // SAFETY: never used again.
        unsafe { ManuallyDrop::drop(&mut self.file) };
    }
}

/// For backends that need a file of the operating system.
pub(crate) fn os_file(handle: &dyn Handle) -> io::Result<Arc<OsFile>> {
    handle.os_file().cloned().ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// Opens without emptying, in the operating system; says whether the file is new.
pub(crate) fn open(
    options: &Options,
    path: &Path,
    mode: OpenMode,
) -> io::Result<(Arc<dyn Handle>, bool)> {
    let (file, created) = open_mode(options, path, mode)?;
    let directory = directory_of(path)?;
    let (file, share) = (Arc::new(OsFile::new(file)), options.share);
    Ok((Arc::new(SystemFile { file, share, directory }), created))
}

#[derive(Debug)]
struct SystemFile {
    file: Arc<OsFile>,
    share: Share,
    /// The directory that names the file.
    #[cfg_attr(not(unix), allow(dead_code, reason = "NTFS has no flush of a directory"))]
    directory: PathBuf,
}

impl Handle for SystemFile {
    fn try_lock(&self) -> io::Result<bool> {
        Ok(lock::try_lock(&self.file)? && lock::try_share(&self.file, self.share)?)
    }

    fn unlock(&self) {
        lock::unlock(&self.file);
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn go_direct(&self, buffer_size: usize) -> io::Result<u64> {
        go_direct(&self.file, buffer_size)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        reserve(&self.file, bytes)
    }

    fn zero(&self, from: u64, to: u64) -> io::Result<()> {
        zero(&self.file, from, to)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn sync_directory(&self) -> io::Result<()> {
        sync_directory(&self.directory, &self.file)
    }

    fn is_named(&self) -> io::Result<bool> {
        #[cfg(unix)]
        return Ok(std::os::unix::fs::MetadataExt::nlink(&self.file.metadata()?) > 0);
        #[cfg(not(unix))]
        Ok(true)
    }

    fn place(&self) -> Place {
        place::look(&self.file)
    }

    fn os_file(&self) -> Option<&Arc<OsFile>> {
        Some(&self.file)
    }
}

/// Makes the name of a file durable: of one that is there, or that was until a moment ago.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    #[cfg(unix)]
    return File::open(directory)?.sync_all();
    #[cfg(not(unix))]
    return directory.metadata().map(drop); // as `sync_directory`
}

/// Makes the names in a directory durable; `file` is one of its files.
#[cfg(unix)]
fn sync_directory(directory: &Path, file: &File) -> io::Result<()> {
    match File::open(directory) {
        // A directory that may be searched but not read: everything on the file system then.
        #[cfg(target_os = "linux")]
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => sync_all_of(file),
        directory => {
            let _ = file;
            directory?.sync_all()
        }
    }
}

/// Windows has no such call for a directory; NTFS journals names with the file's flush.
#[cfg(not(unix))]
fn sync_directory(_directory: &Path, _file: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn sync_all_of(file: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: a live descriptor.
    match unsafe { libc::syncfs(file.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The directory that holds the file itself, symbolic links resolved.
fn directory_of(path: &Path) -> io::Result<PathBuf> {
    let mut directory = std::fs::canonicalize(path)?;
    directory.pop();
    Ok(directory)
}

/// Switches the open file to direct I/O; returns the block that it has to be aligned to.
///
/// A flag set after the open (fcntl(2) F_SETFL) rather than at it: a refusal then leaves nothing
/// half created.
#[cfg(target_os = "linux")]
fn go_direct(file: &OsFile, buffer_size: usize) -> io::Result<u64> {
    use std::os::fd::AsRawFd;
    let block = fitting_block(file, buffer_size)?;
    let fd = file.as_raw_fd();
    // SAFETY: a live descriptor; plain integers.
    let refused = unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        flags < 0 || libc::fcntl(fd, libc::F_SETFL, flags | libc::O_DIRECT) < 0
    };
    if refused { Err(io::Error::last_os_error()) } else { Ok(block) }
}

/// Only notes it: the backend opens the file again without buffering.
#[cfg(windows)]
fn go_direct(file: &OsFile, buffer_size: usize) -> io::Result<u64> {
    let block = fitting_block(file, buffer_size)?;
    file.direct_block.store(block, std::sync::atomic::Ordering::Relaxed);
    Ok(block)
}

#[cfg(not(any(target_os = "linux", windows)))]
fn go_direct(_file: &OsFile, _buffer_size: usize) -> io::Result<u64> {
    Err(unsupported())
}

/// The block of direct I/O, if buffers of this size can keep to it.
#[cfg(any(target_os = "linux", windows))]
fn fitting_block(file: &File, buffer_size: usize) -> io::Result<u64> {
    let block = place::direct_block(file).ok_or_else(unsupported)?;
    if (buffer_size as u64).is_multiple_of(block) && block <= MAX_BLOCK as u64 {
        return Ok(block);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "direct I/O needs blocks of {block} bytes here: give a buffer size that is a \
             multiple, or open without direct I/O"
        ),
    ))
}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "no direct I/O on this file system or platform")
}

/// Opens without emptying: the lock comes first. Says whether the file is new.
fn open_mode(options: &Options, path: &Path, mode: OpenMode) -> io::Result<(File, bool)> {
    let mut open = OpenOptions::new();
    open.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, options.mode);
    #[cfg(not(unix))]
    let _ = options;
    match mode {
        OpenMode::CreateNew => open.create_new(true).open(path).map(|file| (file, true)),
        OpenMode::Overwrite => open.open(path).map(|file| (file, false)),
        OpenMode::Create | OpenMode::Append => match open.clone().create_new(true).open(path) {
            Ok(file) => Ok((file, true)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                open.create(true).open(path).map(|file| (file, false))
            }
            Err(error) => Err(error),
        },
    }
}

#[cfg(target_os = "linux")]
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let bytes = i64::try_from(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "more than a file can hold"))?;
    // SAFETY: a live descriptor. Mode 0 also sets the length, so that appends inside need no new
    // length in the inode.
    match unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)
}

/// Writes zeros from `from` (rounded up to a block) to `to`, from aligned memory.
fn zero(file: &File, from: u64, to: u64) -> io::Result<()> {
    use crate::buffers::Memory;
    const PIECE: u64 = 1 << 20;
    let memory = Memory::new(PIECE as usize, 1, 0, MAX_BLOCK)
        .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let region = memory.ring(0, PIECE);
    // SAFETY: zeroed memory that nobody else knows.
    let zeros = unsafe { std::slice::from_raw_parts(region.address, region.len) };
    // Whole blocks only, of the largest kind, so that the same code serves direct I/O; the close
    // trims.
    let block = MAX_BLOCK as u64;
    let (mut at, end) = (from.next_multiple_of(block), to.next_multiple_of(block));
    while at < end {
        let len = PIECE.min(end - at) as usize;
        at += write_some(file, &zeros[..len], at)? as u64 / block * block;
    }
    Ok(())
}

fn write_some(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    #[cfg(unix)]
    let result = std::os::unix::fs::FileExt::write_at(file, bytes, at);
    #[cfg(windows)]
    let result = std::os::windows::fs::FileExt::seek_write(file, bytes, at);
    match result {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        other => other,
    }
}
