//! An open file as the writer sees it, apart from its data: the seam between the order of steps
//! ([`super::open`]) and what carries them out, a real system or a simulated one.
#![allow(unsafe_code)]

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
#[cfg(unix)]
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
#[cfg(unix)]
use std::sync::atomic::{AtomicBool, Ordering};

use super::directory::{Entry, Wanted};
#[cfg(unix)]
use super::identity::Identity;
#[cfg(target_os = "linux")]
use super::limit;
use super::lock::{self, Share};
use super::mark::{self, Mark};
use super::open::{MAX_BLOCK, OpenMode};
use super::place::{self, Place};
use crate::blocks::{align_down, align_up};
use crate::options::Options;
use crate::survive::Bond;

/// An open file. Its data goes through a backend.
pub(crate) trait Handle: Debug + Send + Sync {
    /// `Ok(false)`: somebody else has it.
    fn try_lock(&self) -> io::Result<bool>;

    fn unlock(&self);

    fn len(&self) -> io::Result<u64>;

    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Switches to direct I/O; returns the block that writes have to be aligned to.
    fn go_direct(&self, buffer_size: usize) -> io::Result<u64>;

    /// How long the file may be where it lies, if that is less than 4 GiB. Only of a file that has
    /// gone direct: of those the kernel does not say so.
    fn longest(&self) -> Option<u64> {
        None
    }

    /// Space up to `bytes` that can't run out any more; the length grows to it.
    fn reserve(&self, bytes: u64) -> io::Result<()>;

    /// Writes `zeros`, aligned as direct I/O may ask, at once; returns how many bytes got there.
    fn write_zeros(&self, zeros: &[u8], at: u64) -> io::Result<usize>;

    /// Writes over bytes that are there, at once; `block`: what writes have to be aligned to.
    fn overwrite(&self, at: u64, bytes: &[u8], block: u64) -> io::Result<()>;

    /// Flushes data and length.
    fn sync_all(&self) -> io::Result<()>;

    /// Makes the file's name durable, in the directory that it was opened in, wherever that lies by
    /// now. Of an adopted file, whose names are its opener's, this and what follows of names is
    /// nothing.
    fn sync_directory(&self) -> io::Result<()>;

    /// Flushes whatever directory the path leads to by now: a planted bug (`Canary::DirectoryByPath`).
    fn sync_directory_at(&self, path: &Path) -> io::Result<()> {
        Entry::find(path)?.sync()
    }

    /// Sets the mark of an open file, or takes it away.
    fn set_mark(&self, mark: Option<Mark>) -> io::Result<()>;

    fn mark(&self) -> Option<Mark>;

    /// Says which ring file belongs to the file, or that none does.
    fn set_bond(&self, bond: Option<Bond>) -> io::Result<()> {
        match bond {
            Some(_) => Err(io::ErrorKind::Unsupported.into()),
            None => Ok(()),
        }
    }

    /// Device and number.
    fn identity(&self) -> io::Result<[u64; 2]> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// `None` also where the file system can't say so.
    fn bond(&self) -> Option<Bond> {
        None
    }

    /// Reads what is there through the page cache, before direct I/O begins.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize>;

    /// Where the first bytes from `from` on are that nobody has written; `None`: there are none, or that
    /// can't be seen here. May move the offset of the open file.
    fn hole(&self, _from: u64) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// The file once more, for reading what was written, whatever its name is by now.
    fn open_for_reading(&self, name: &Path) -> io::Result<Box<dyn ReadAt>>;

    /// Whether it still has a name: without one it is durable for nobody.
    fn is_named(&self) -> io::Result<bool>;

    /// Whether the name under which it was opened is still its own.
    fn has_its_name(&self) -> io::Result<bool>;

    /// Takes back its name, unless another file has that by now.
    fn remove(&self) -> io::Result<()>;

    /// The last use of it: what the file system has kept to itself until now is heard here.
    fn close(&self) -> io::Result<()>;

    fn place(&self) -> Place;

    /// The file for backends of the operating system.
    fn os_file(&self) -> Option<&Arc<OsFile>>;

    /// Tells the files of a simulated computer apart.
    #[cfg(all(test, unix, not(loom)))]
    fn number(&self) -> u64 {
        0
    }
}

/// A file that is read at positions, since its descriptor may be shared with a writer.
pub(crate) trait ReadAt: Debug + Send {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize>;
}

/// A file of the operating system. Somebody else may have closed its descriptor by number, and
/// another file may have got the number: that one is not closed here.
#[derive(Debug)]
pub(crate) struct OsFile {
    file: ManuallyDrop<File>,
    #[cfg(unix)]
    identity: Option<Identity>,
    #[cfg(unix)]
    is_closed: AtomicBool,
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
    pub(crate) fn open_for_reading(&self, name: &Path) -> io::Result<Self> {
        // A description of its own: this one may be for direct I/O.
        let path = format!("/proc/self/fd/{}", self.ours()?.as_raw_fd());
        File::open(path).map(Self::new).or_else(|_| {
            let file = Self::new(File::open(name)?); // where there is no /proc
            if file.identity == self.identity { Ok(file) } else { Err(no_longer_named(name)) }
        })
    }

    /// Elsewhere this handle itself is through the page cache, and everybody reads and writes it at
    /// positions.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn open_for_reading(&self, _name: &Path) -> io::Result<Self> {
        self.ours()?.try_clone().map(Self::new)
    }

    /// Writes all the bytes at a position, past every backend and through the page cache.
    #[cfg(any(windows, test))]
    pub(crate) fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        write_all(self.ours()?, bytes, at)
    }

    pub(crate) fn new(file: File) -> Self {
        Self {
            #[cfg(unix)]
            identity: Identity::of(file.as_raw_fd()).ok(),
            #[cfg(unix)]
            is_closed: AtomicBool::new(false),
            #[cfg(windows)]
            direct_block: 1.into(),
            file: ManuallyDrop::new(file),
        }
    }

    /// Whether the descriptor is still that of the file that was opened.
    #[cfg(unix)]
    pub(super) fn is_itself(&self) -> bool {
        self.ours().is_ok()
    }

    /// The file, for a call on its descriptor: an error where that is another one's by now, or
    /// nobody's. Costs a system call on Unix ([`Identity::check`]).
    pub(crate) fn ours(&self) -> io::Result<&File> {
        #[cfg(unix)]
        self.identity
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?
            .check(self.file.as_raw_fd(), "its")?;
        Ok(&self.file)
    }

    /// Closes the descriptor, or a duplicate of it where somebody may still use its number: either
    /// tells the file system (close(2), "Dealing with error returns").
    #[cfg(unix)]
    fn close(self: &Arc<Self>) -> io::Result<()> {
        use std::os::fd::IntoRawFd;
        if !self.is_itself() || self.is_closed.load(Ordering::Relaxed) {
            return Ok(()); // not ours to close, as the steps before have told
        }
        let number = if Arc::strong_count(self) > 1 {
            let Ok(copy) = self.file.try_clone() else { return Ok(()) };
            copy.into_raw_fd()
        } else {
            self.is_closed.store(true, Ordering::Relaxed);
            self.file.as_raw_fd()
        };
        // SAFETY: a live descriptor, which nobody uses again.
        if unsafe { libc::close(number) } == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            // Linux has closed it all the same, and what it held was flushed before.
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        }
    }

    /// CloseHandle says nothing of the file.
    #[cfg(not(unix))]
    fn close(self: &Arc<Self>) -> io::Result<()> {
        Ok(())
    }
}

impl ReadAt for OsFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_at(self.ours()?, bytes, at);
        #[cfg(windows)]
        return std::os::windows::fs::FileExt::seek_read(self.ours()?, bytes, at);
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for OsFile {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
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

impl Drop for OsFile {
    fn drop(&mut self) {
        #[cfg(unix)]
        if *self.is_closed.get_mut() || !self.is_itself() {
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
    let (file, entry, created) = open_mode(options, path, mode)?;
    let (file, share) = (Arc::new(OsFile::new(file)), options.share);
    Ok((Arc::new(SystemFile { file, share, entry: Some(entry), not_ours: None }), created))
}

/// Of a file that somebody else has opened: `not_ours` says why its description is his.
pub(super) fn adopted_handle(file: File, not_ours: Option<String>) -> Arc<dyn Handle> {
    let (file, share) = (Arc::new(OsFile::new(file)), Share::default());
    Arc::new(SystemFile { file, share, entry: None, not_ours })
}

#[derive(Debug)]
struct SystemFile {
    file: Arc<OsFile>,
    share: Share,
    /// The name under which it was opened; none of an adopted one.
    entry: Option<Entry>,
    /// Why the flags of its description are not this writer's to change.
    not_ours: Option<String>,
}

impl Handle for SystemFile {
    fn try_lock(&self) -> io::Result<bool> {
        let file = self.file.ours()?;
        Ok(lock::try_lock(file)? && lock::try_share(file, self.share)?)
    }

    fn unlock(&self) {
        if let Ok(file) = self.file.ours() {
            lock::unlock(file);
        }
    }

    fn len(&self) -> io::Result<u64> {
        length(self.file.ours()?)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.ours()?.set_len(len)
    }

    fn go_direct(&self, buffer_size: usize) -> io::Result<u64> {
        match &self.not_ours {
            Some(why) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("the open file can't be opened anew: {why}"),
            )),
            None => go_direct(&self.file, buffer_size),
        }
    }

    #[cfg(target_os = "linux")]
    fn longest(&self) -> Option<u64> {
        limit::longest(self.file.ours().ok()?)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        reserve(self.file.ours()?, bytes)
    }

    fn write_zeros(&self, zeros: &[u8], at: u64) -> io::Result<usize> {
        write_at(self.file.ours()?, zeros, at)
    }

    fn overwrite(&self, at: u64, bytes: &[u8], block: u64) -> io::Result<()> {
        overwrite(self.file.ours()?, at, bytes, block)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.ours()?.sync_all()
    }

    fn sync_directory(&self) -> io::Result<()> {
        let Some(entry) = &self.entry else { return Ok(()) };
        entry.sync_name_of(self.file.ours()?)
    }

    fn set_mark(&self, mark: Option<Mark>) -> io::Result<()> {
        mark::set(self.file.ours()?, mark)
    }

    fn mark(&self) -> Option<Mark> {
        mark::get(self.file.ours().ok()?)
    }

    #[cfg(target_os = "linux")]
    fn set_bond(&self, bond: Option<Bond>) -> io::Result<()> {
        mark::set_bond(self.file.ours()?, bond)
    }

    #[cfg(target_os = "linux")]
    fn identity(&self) -> io::Result<[u64; 2]> {
        use std::os::unix::fs::MetadataExt;
        let metadata = self.file.ours()?.metadata()?;
        Ok([metadata.dev(), metadata.ino()])
    }

    #[cfg(target_os = "linux")]
    fn bond(&self) -> Option<Bond> {
        mark::bond(self.file.ours().ok()?)
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(bytes, at)
    }

    #[cfg(target_os = "linux")]
    fn hole(&self, from: u64) -> io::Result<Option<u64>> {
        let file = self.file.ours()?;
        let len = length(file)?;
        let Ok(from) = i64::try_from(from) else { return Ok(None) };
        let fd = file.as_raw_fd();
        // What was read of space that nobody has written counts as data while the page cache has it.
        // SAFETY: a live descriptor; plain integers.
        unsafe { libc::posix_fadvise64(fd, 0, 0, libc::POSIX_FADV_DONTNEED) };
        // SAFETY: as above.
        match u64::try_from(unsafe { libc::lseek64(fd, from, libc::SEEK_HOLE) }) {
            Ok(found) => Ok((found < len).then_some(found)), // behind the end is one, too
            Err(_) => match io::Error::last_os_error() {
                error if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::EINVAL)) => {
                    Ok(None)
                }
                error => Err(error),
            },
        }
    }

    fn open_for_reading(&self, name: &Path) -> io::Result<Box<dyn ReadAt>> {
        Ok(Box::new(self.file.open_for_reading(name)?))
    }

    fn is_named(&self) -> io::Result<bool> {
        Ok(self.entry.is_none() || has_a_name(self.file.ours()?)?)
    }

    fn has_its_name(&self) -> io::Result<bool> {
        let Some(entry) = &self.entry else { return Ok(true) };
        entry.names(self.file.ours()?)
    }

    fn remove(&self) -> io::Result<()> {
        let Some(entry) = &self.entry else { return Ok(()) };
        entry.remove(self.file.ours()?)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn place(&self) -> Place {
        let mut place = place::look(&self.file.file);
        if self.entry.is_none() && has_a_name(&self.file.file).is_ok_and(|named| !named) {
            place
                .durability
                .weaken("it has no name, and is gone after a power cut until it has one");
        }
        place
    }

    fn os_file(&self) -> Option<&Arc<OsFile>> {
        Some(&self.file)
    }
}

/// Bytes of an open file.
#[cfg(not(windows))]
pub(crate) fn length(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.len())
}

/// Bytes of an open file. `File::metadata` also asks for the volume, which takes a millisecond under
/// Wine.
#[cfg(windows)]
pub(crate) fn length(file: &File) -> io::Result<u64> {
    use std::os::windows::io::AsRawHandle;
    use windows_sys::Win32::Storage::FileSystem::GetFileSizeEx;
    let mut bytes = 0;
    // SAFETY: a live handle and a live place for the result.
    match unsafe { GetFileSizeEx(file.as_raw_handle(), &raw mut bytes) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(bytes.cast_unsigned()),
    }
}

fn has_a_name(file: &File) -> io::Result<bool> {
    #[cfg(unix)]
    return Ok(std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) > 0);
    #[cfg(not(unix))]
    {
        let _ = file;
        Ok(true)
    }
}

/// Switches the open file to direct I/O; returns the block that it has to be aligned to.
///
/// A flag set after the open (fcntl(2) F_SETFL) rather than at it: a refusal then leaves nothing
/// half created.
#[cfg(target_os = "linux")]
fn go_direct(file: &OsFile, buffer_size: usize) -> io::Result<u64> {
    let file = file.ours()?;
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
    let block = fitting_block(file.ours()?, buffer_size)?;
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
fn open_mode(options: &Options, path: &Path, mode: OpenMode) -> io::Result<(File, Entry, bool)> {
    let mut entry = Entry::find(path)?;
    let mut tries = 0..16;
    let may_come = !matches!(mode, OpenMode::Overwrite | OpenMode::Recycle);
    loop {
        let made = may_come.then(|| entry.open(Wanted::New, options.mode));
        let found = match made {
            Some(Ok(file)) => return Ok((file, entry, true)),
            Some(Err(error))
                if mode == OpenMode::CreateNew || error.kind() != io::ErrorKind::AlreadyExists =>
            {
                return Err(error);
            }
            _ => entry.open(Wanted::Old, options.mode),
        };
        match found {
            Ok(file) if file.metadata()?.is_file() => return Ok((file, entry, false)),
            Ok(_) => {
                let sentence = "it became something that is not a regular file";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
            }
            // It went, or became a link, since it was looked at.
            Err(error) if may_come && tries.next().is_some() && went(&error) => {
                entry = Entry::find(path)?;
            }
            Err(error) => return Err(error),
        }
    }
}

fn went(error: &io::Error) -> bool {
    #[cfg(unix)]
    let is_link = error.raw_os_error() == Some(libc::ELOOP);
    #[cfg(not(unix))]
    let is_link = false;
    is_link || error.kind() == io::ErrorKind::NotFound
}

#[cfg(target_os = "linux")]
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    // What can't be had is not tried: the kernel would hand out all that is free before it sees that,
    // to the harm of everybody else, and on ext4 an index block stays behind.
    if let Some(free) = place::free_space(file)
        && free.saturating_add(file.metadata()?.blocks() * 512) < bytes
        && bytes <= i64::MAX as u64
    {
        return Err(io::Error::from_raw_os_error(libc::ENOSPC));
    }
    // Mode 0 also sets the length, so that appends inside need no new length in the inode.
    fallocate(file, bytes)
}

#[cfg(target_os = "linux")]
fn fallocate(file: &File, bytes: u64) -> io::Result<()> {
    let bytes = i64::try_from(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "more than a file can hold"))?;
    let mut signals = 0..1000;
    loop {
        // SAFETY: a live descriptor; plain integers.
        if unsafe { libc::fallocate64(file.as_raw_fd(), 0, 0, bytes) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted || signals.next().is_none() {
            return Err(error);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)
}

/// Changes some bytes of whole blocks: reads those, and writes them again.
fn overwrite(file: &File, at: u64, bytes: &[u8], block: u64) -> io::Result<()> {
    use crate::backend::read_full;
    use crate::buffers::Memory;
    let (from, to) = (align_down(at, block), align_up(at + bytes.len() as u64, block));
    let size = align_up(to - from, MAX_BLOCK as u64) as usize;
    let memory = Memory::new(size.max(Memory::ALIGN), 1, 0, MAX_BLOCK)
        .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let region = memory.ring(0, to - from);
    read_full(file, from, region)?; // zeros behind the end of the file
    // SAFETY: initialised memory that nobody else knows.
    let blocks = unsafe { std::slice::from_raw_parts_mut(region.address, region.len) };
    let start = (at - from) as usize;
    blocks[start..start + bytes.len()].copy_from_slice(bytes);
    write_all(file, blocks, from)
}

fn write_all(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    const MOST_INTERRUPTED: u32 = 1000;
    let (mut done, mut interrupted) = (0, 0);
    while done < bytes.len() {
        match write_at(file, &bytes[done..], at + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => (done, interrupted) = (done + taken, 0),
            Err(error)
                if error.kind() == io::ErrorKind::Interrupted && interrupted < MOST_INTERRUPTED =>
            {
                interrupted += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::write_at(file, bytes, at);
    #[cfg(windows)]
    return std::os::windows::fs::FileExt::seek_write(file, bytes, at);
}
