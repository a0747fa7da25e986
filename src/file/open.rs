//! Opening a file so that nothing of value is lost, and finishing it so that its length is true.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::place::{self, Place};
use crate::error::{Error, Operation};
use crate::options::{Direct, Options, Preallocate};

/// The largest block that direct I/O may ask for; memory is aligned to it.
pub(crate) const MAX_BLOCK: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenMode {
    Create,
    CreateNew,
    Append,
    Overwrite,
}

/// A file that is open, locked, as long as asked, and named durably.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) path: Arc<Path>,
    pub(crate) file: File,
    pub(crate) directory: Directory,
    pub(crate) mode: OpenMode,
    /// Where the first byte goes.
    pub(crate) start: u64,
    /// Length of what was in the file and stays.
    pub(crate) existing: u64,
    /// Alignment of device writes: 1 through the page cache.
    pub(crate) block: u64,
    pub(crate) place: Place,
    /// Why something asked for with `Auto` was not to be had.
    pub(crate) fallbacks: Vec<String>,
}

/// The directory that names the file.
#[derive(Debug)]
pub(crate) struct Directory(#[cfg_attr(not(unix), allow(dead_code))] PathBuf);

impl Directory {
    /// Makes the file's name durable.
    fn sync(&self, #[allow(unused)] file: &File) -> io::Result<()> {
        #[cfg(unix)]
        match File::open(&self.0) {
            // A directory that may be searched but not read: everything on the file system then.
            #[cfg(target_os = "linux")]
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => sync_all_of(file),
            directory => directory?.sync_all(),
        }
        // Windows has no such call for a directory; NTFS journals names with the file's flush.
        #[cfg(not(unix))]
        Ok(())
    }
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

impl OpenFile {
    pub(crate) fn new(options: &Options, path: &Path, mode: OpenMode) -> Result<Self, Error> {
        let path: Arc<Path> = path.into();
        let fail = |operation| {
            let path = path.clone();
            move |error| Error::io(operation, &path, error)
        };
        refuse_special(&path)?;
        let (file, created) = open_mode(options, &path, mode).map_err(fail(Operation::Open))?;
        if options.lock {
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Error::Locked { path }),
                Err(TryLockError::Error(error)) => return Err(fail(Operation::Lock)(error)),
            }
        }
        let opened = Self {
            place: place::look(&file),
            directory: Directory(directory_of(&path).map_err(fail(Operation::Open))?),
            path: path.clone(),
            file,
            mode,
            start: 0,
            existing: 0,
            block: 1,
            fallbacks: Vec::new(),
        };
        let result = opened.prepare(options);
        if result.is_err() && created {
            // What this call made and could not finish is not left behind.
            let _ = std::fs::remove_file(&path);
        }
        result
    }

    /// Length, space, and a durable name: before the first durable claim.
    fn prepare(mut self, options: &Options) -> Result<Self, Error> {
        let path = self.path.clone();
        let fail = |operation| {
            let path = path.clone();
            move |error| Error::io(operation, &path, error)
        };
        if options.direct != Direct::Off {
            match go_direct(&self.file, options.buffer_size) {
                Ok(block) => self.block = block,
                Err(error) if options.direct == Direct::On => {
                    return Err(fail(Operation::Open)(error));
                }
                Err(error) => self.fallbacks.push(format!("direct I/O was refused ({error})")),
            }
        }
        match self.mode {
            OpenMode::Create | OpenMode::CreateNew => {
                self.file.set_len(0).map_err(fail(Operation::Open))?;
            }
            OpenMode::Append | OpenMode::Overwrite => {
                self.existing = self.file.metadata().map_err(fail(Operation::Open))?.len();
            }
        }
        if self.mode == OpenMode::Append {
            self.start = self.existing;
        }
        preallocate(&self.file, options.preallocate, self.existing)
            .map_err(fail(Operation::Preallocate))?;
        self.file.sync_all().map_err(fail(Operation::Flush))?;
        self.directory.sync(&self.file).map_err(fail(Operation::SyncDirectory))?;
        Ok(self)
    }
}

/// Cuts the file to `len`, then flushes file and directory, in this order. For a file whose data
/// is durable already. Returns every error.
pub(crate) fn finish(file: &File, directory: &Directory, path: &Arc<Path>, len: u64) -> Vec<Error> {
    let trim = || {
        if file.metadata()?.len() == len { Ok(()) } else { file.set_len(len) }
    };
    let steps: [(Operation, io::Result<()>); 3] = [
        (Operation::Trim, trim()),
        (Operation::Flush, file.sync_all()),
        (Operation::SyncDirectory, still_named(file).and_then(|()| directory.sync(file))),
    ];
    let errors = steps.into_iter().filter_map(|(operation, result)| {
        result.err().map(|error| Error::io(operation, path, error))
    });
    errors.collect()
}

/// A file whose last name was removed is durable for nobody.
fn still_named(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) == 0 {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the file was removed while it was being written",
        ));
    }
    let _ = file;
    Ok(())
}

/// A FIFO would block the open, and neither it nor a device or directory can be made durable.
fn refuse_special(path: &Path) -> Result<(), Error> {
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(Error::Options(
            format!("{} is not a regular file: name a file to record to", path.display()).into(),
        )),
        _ => Ok(()),
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
fn go_direct(file: &File, buffer_size: usize) -> io::Result<u64> {
    use std::os::fd::AsRawFd;
    let block = place::direct_block(file).ok_or_else(unsupported)?;
    if !(buffer_size as u64).is_multiple_of(block) || block > MAX_BLOCK as u64 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "direct I/O needs blocks of {block} bytes here: give a buffer size that is a \
                 multiple, or open without direct I/O"
            ),
        ));
    }
    let fd = file.as_raw_fd();
    // SAFETY: a live descriptor; plain integers.
    let refused = unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        flags < 0 || libc::fcntl(fd, libc::F_SETFL, flags | libc::O_DIRECT) < 0
    };
    if refused { Err(io::Error::last_os_error()) } else { Ok(block) }
}

#[cfg(not(target_os = "linux"))]
fn go_direct(_file: &File, _buffer_size: usize) -> io::Result<u64> {
    Err(unsupported())
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

fn preallocate(file: &File, ahead: Preallocate, existing: u64) -> io::Result<()> {
    match ahead {
        Preallocate::None => Ok(()),
        Preallocate::Reserve(bytes) if bytes <= existing => Ok(()),
        Preallocate::Reserve(bytes) => reserve(file, bytes),
        Preallocate::Zero(bytes) => {
            if bytes > existing {
                reserve(file, bytes)?;
            }
            zero(file, existing, bytes)
        }
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
    let memory = Memory::new(PIECE as usize, 1, 0, Memory::ALIGN)
        .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let region = memory.ring(0, PIECE);
    // SAFETY: zeroed memory that nobody else knows.
    let zeros = unsafe { std::slice::from_raw_parts(region.address, region.len) };
    // Whole blocks only, so that the same code serves direct I/O; the close trims.
    let block = Memory::ALIGN as u64;
    let (mut at, end) = (from.next_multiple_of(block), to.next_multiple_of(block));
    while at < end {
        let len = PIECE.min(end - at) as usize;
        at += write_some(file, &zeros[..len], at)? as u64;
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
