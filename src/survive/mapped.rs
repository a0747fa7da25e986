//! A ring file of this process: made, mapped, and removed.
#![allow(unsafe_code)]

use std::fs::{File, Metadata, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::layout::{Extent, Head, PatchHead, State, Word, at};
use crate::buffers::{Memory, Sequencer, Sizes, Words};

/// Locked as long as its writer has it.
#[derive(Debug)]
pub(crate) struct RingFile {
    path: PathBuf,
    file: File,
    base: NonNull<u8>,
    extent: Extent,
    is_ready: AtomicBool,
}

// SAFETY: what lies there is touched by atomics, by the sequencer's protocol, or under the lock of the
// patches.
unsafe impl Send for RingFile {}
// SAFETY: as above.
unsafe impl Sync for RingFile {}

/// What lies there already.
#[derive(Debug)]
pub(crate) enum Found {
    Nothing,
    /// A writer that lives, or a recovery.
    Locked,
    /// What a writer has left that had accepted nothing.
    Rest(File),
    /// What a killed writer had accepted.
    Ring(File),
    /// No ring file.
    Other,
}

/// Opens and locks what has the name.
pub(crate) fn open_found(path: &Path) -> io::Result<Found> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK; // whatever somebody has left there
    let file = match File::options().read(true).write(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Ok(Found::Other),
        Err(error) if error.raw_os_error() == Some(libc::EISDIR) => return Ok(Found::Other),
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Ok(Found::Other);
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Found::Locked),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    if !is_named_so(&file, path)? {
        return Ok(Found::Locked); // it went while its lock was had: look again
    }
    judge(file)
}

fn judge(file: File) -> io::Result<Found> {
    if file.metadata()?.len() == 0 {
        return Ok(Found::Rest(file));
    }
    let (mut magic, mut state) = ([0; 16], [0; 8]);
    let whole = file.read_exact_at(&mut magic, 0);
    match whole.and_then(|()| file.read_exact_at(&mut state, at::STATE as u64)) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Found::Other),
        read => read?,
    }
    Ok(match () {
        () if !Head::is_begun(&magic) => Found::Other,
        () if u64::from_ne_bytes(state) == State::Making.word() => Found::Rest(file),
        () => Found::Ring(file),
    })
}

fn identity(file: &Metadata) -> [u64; 2] {
    [file.dev(), file.ino()]
}

fn is_named_so(file: &File, path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok(identity(&named) == identity(&file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes the name away from this very file.
pub(crate) fn remove(file: &File, path: &Path) -> io::Result<()> {
    match is_named_so(file, path)? {
        true => std::fs::remove_file(path),
        false => Ok(()),
    }
}

/// Whether a file lies in memory (tmpfs): a store to a mapped page of another one may find no space,
/// which ends the process, and makes the disk write it.
pub(crate) fn is_in_memory(file: &File) -> io::Result<bool> {
    const TMPFS: i64 = 0x0102_1994;
    // SAFETY: statfs is plain data, zero is valid; a live descriptor and a live struct.
    let (result, found) = unsafe {
        let mut found: libc::statfs = std::mem::zeroed();
        (libc::fstatfs(file.as_raw_fd(), &raw mut found), found)
    };
    match result {
        #[allow(clippy::unnecessary_cast)] // another type on other platforms
        0 => Ok(found.f_type as i64 == TMPFS),
        _ => Err(io::Error::last_os_error()),
    }
}

impl RingFile {
    /// A new file of this name, locked, with all of its space.
    ///
    /// # Errors
    /// `AlreadyExists`: something has the name.
    pub(crate) fn create(path: &Path, sizes: Sizes) -> io::Result<Self> {
        let extent = Extent::new(sizes.capacity as u64, sizes.total as u64)
            .filter(|extent| usize::try_from(extent.len + Memory::HUGE as u64).is_ok())
            .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
        let made = Self::fill(&file, path, &extent).and_then(|()| map(&file, &extent));
        match made {
            Ok(base) => {
                let path = path.to_path_buf();
                let ring = Self { path, file, base, extent, is_ready: AtomicBool::new(false) };
                ring.settle();
                Ok(ring)
            }
            Err(error) => {
                let _ = remove(&file, path);
                Err(error)
            }
        }
    }

    fn fill(file: &File, path: &Path, extent: &Extent) -> io::Result<()> {
        match file.try_lock() {
            Ok(()) if is_named_so(file, path)? => {}
            Ok(()) | Err(TryLockError::WouldBlock) => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if !is_in_memory(file)? {
            let why = "a ring file has to lie in memory: name one on tmpfs, as in /dev/shm";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let mut page = [0; Memory::ALIGN];
        page[..Head::magic().len()].copy_from_slice(Head::magic());
        file.write_all_at(&page, 0)?; // at once: whoever finds less of it does not know what it is
        file.set_len(extent.len)?;
        // The space now, where its want is an error: later it would end the process (SIGBUS).
        allocate(file, 0, extent.control)?;
        allocate(file, extent.ring, extent.len - extent.ring)
    }

    /// Every page of the ring is there and mapped from now on, huge where that can be, and in no child.
    fn settle(&self) {
        let (ring, len) = (self.ring(), self.extent.len - self.extent.ring);
        const COLLAPSE: i32 = 25; // MADV_COLLAPSE, which not every libc knows
        let huge = self.extent.capacity - self.extent.capacity % Memory::HUGE as u64;
        // SAFETY: pages of our own mapping, which nobody else knows; each advice is a wish, but the
        // last: and where children have the ring all the same, they are kept from it by what they
        // are told (`Forked`).
        unsafe {
            ring.as_ptr().write_bytes(0, len as usize);
            ptr::write_bytes(self.base.as_ptr().add(at::WORDS), 0, self.control() - at::WORDS);
            if huge > 0 {
                // A ring without huge pages costs direct writes a third of their rate, and tmpfs has
                // none by default; this asks for them once (Linux 6.1).
                libc::madvise(ring.as_ptr().cast(), huge as usize, COLLAPSE);
            }
            libc::madvise(ring.as_ptr().cast(), len as usize, libc::MADV_DONTFORK);
        }
    }

    fn control(&self) -> usize {
        self.extent.control as usize
    }

    /// The first byte of the ring.
    pub(crate) fn ring(&self) -> NonNull<u8> {
        // SAFETY: within the mapping.
        unsafe { self.base.add(self.extent.ring as usize) }
    }

    /// Bytes of memory in all.
    pub(crate) fn footprint(&self) -> usize {
        (self.extent.len - self.extent.ring + self.extent.control) as usize
    }

    /// Those of the sequencer. Nobody may use them when the file is gone.
    pub(crate) fn words(&self) -> Words {
        let cells = (self.extent.capacity / Sequencer::CELL) as usize;
        // SAFETY: within the mapping, aligned to a page, and touched by atomics only; a sequencer lies
        // in one stream with the memory that has this file.
        unsafe {
            let first = self.base.add(at::CELLS).cast::<AtomicU64>();
            Words::in_place(
                self.base.add(at::WORDS).cast(),
                NonNull::slice_from_raw_parts(first, cells),
            )
        }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: within the mapping and aligned; nothing but atomics.
        unsafe { self.base.add(at).cast::<AtomicU64>().as_ref() }
    }

    /// The first byte goes to `start`.
    pub(crate) fn begin(&self, start: u64) {
        self.post_written(start);
    }

    /// From now on the cells count. They do when this is called.
    pub(crate) fn share(&self) {
        self.word(Word::Shared.at()).store(1, Ordering::Release);
    }

    /// Of the driver: everything below is in the file. Before its memory is released.
    pub(crate) fn post_written(&self, written: u64) {
        self.word(Word::Written.at()).store(written, Ordering::Release);
    }

    /// A patch, before its call returns; under the lock of the patches.
    pub(crate) fn put_patch(&self, number: u64, from: u64, bytes: &[u8]) {
        let head = PatchHead::of(number, from, bytes).bytes();
        let place = PatchHead::place(number);
        // SAFETY: the slot of a patch that is not needed any more (there are as many as may be on their
        // way), within the mapping.
        unsafe {
            let slot = self.base.as_ptr().add(place);
            ptr::copy_nonoverlapping(head.as_ptr(), slot, head.len());
            ptr::copy_nonoverlapping(bytes.as_ptr(), slot.add(PatchHead::BYTES), bytes.len());
        }
        self.word(Word::Queued.at()).store(number, Ordering::Release);
    }

    /// Of the driver: ring or file show all patches up to this one.
    pub(crate) fn patch_applied(&self, number: u64) {
        self.word(Word::Applied.at()).store(number, Ordering::Release);
    }

    /// The open is through: from now on it is worth a recovery.
    pub(crate) fn ready(&self, head: Head) {
        let head = Head { capacity: self.extent.capacity, total: self.total(), ..head }.bytes();
        // SAFETY: within the mapping; nobody reads it before the state says so.
        unsafe { ptr::copy_nonoverlapping(head.as_ptr(), self.base.as_ptr(), head.len()) };
        self.is_ready.store(true, Ordering::Relaxed);
        self.word(at::STATE).store(State::Ready.word(), Ordering::Release);
    }

    fn total(&self) -> u64 {
        self.extent.len - self.extent.ring
    }

    /// All that was accepted is in its file: this one goes, and its memory.
    pub(crate) fn remove(&self) {
        let _ = remove(&self.file, &self.path);
        // Handles may keep the addresses, and a late producer may still write there: to nobody.
        // SAFETY: whole pages of our own mapping; no operation is in flight.
        unsafe {
            libc::madvise(self.ring().as_ptr().cast(), self.total() as usize, libc::MADV_REMOVE);
        }
    }

    /// It stays, for a recovery.
    pub(crate) fn leave(&self) {
        let _ = self.file.unlock(); // explicitly: handles, or a forked child, may keep it open
    }
}

impl Drop for RingFile {
    fn drop(&mut self) {
        if !*self.is_ready.get_mut() {
            let _ = remove(&self.file, &self.path); // its writer never came to be
        }
        // SAFETY: mapped by `map`, with this length, and never used again.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.extent.len as usize) };
    }
}

fn allocate(file: &File, from: u64, len: u64) -> io::Result<()> {
    loop {
        // SAFETY: a live descriptor; plain integers, which `Extent` bounds.
        let result = unsafe { libc::fallocate64(file.as_raw_fd(), 0, from as i64, len as i64) };
        match result {
            0 => return Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// The whole file, at an address that huge pages can have.
fn map(file: &File, extent: &Extent) -> io::Result<NonNull<u8>> {
    let (len, huge) = (extent.len as usize, Memory::HUGE);
    let (access, number) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
    let room = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let none = libc::PROT_NONE;
    // SAFETY: a new mapping of a place that the kernel chooses, and a second one over a part of it,
    // whose rest is let go of.
    unsafe {
        let wide = libc::mmap(ptr::null_mut(), len + huge, none, room, -1, 0);
        if wide == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let before = wide.addr().next_multiple_of(huge) - wide.addr();
        let base = wide.byte_add(before);
        let how = libc::MAP_SHARED | libc::MAP_FIXED;
        if libc::mmap(base, len, access, how, number, 0) == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            libc::munmap(wide, len + huge);
            return Err(error);
        }
        if before > 0 {
            libc::munmap(wide, before);
        }
        let end = (before + len).next_multiple_of(4096);
        if end < len + huge {
            libc::munmap(wide.byte_add(end), len + huge - end);
        }
        NonNull::new(base.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }
}
