//! Floors: the system calls of a durable write, written out by hand with nothing around them.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::ptr::NonNull;

use io_uring::{IoUring, opcode, types};

/// Which calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Calls {
    /// `pwrite`, then `fdatasync`.
    WriteThenSync,
    /// `pwritev2` with `RWF_DSYNC`.
    DsyncWrite,
    /// io_uring, registered file and buffer: one write with `RWF_DSYNC`.
    UringDsync,
    /// io_uring, registered file and buffer: a write and a linked `fdatasync`, one submission.
    UringLinked,
}

/// Aligned memory, zeroed and faulted in.
#[derive(Debug)]
pub struct Aligned {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Aligned {}

impl Aligned {
    /// `len` bytes on a page boundary.
    ///
    /// # Panics
    /// If `len` is zero or the memory is not to be had.
    pub fn new(len: usize) -> Self {
        let layout = Layout::from_size_align(len, 4096).expect("a size that memory can have");
        assert!(len > 0);
        // SAFETY: the size is not zero.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("memory");
        let mut memory = Self { base, layout };
        memory.bytes().fill(1);
        memory
    }

    /// As [`new`](Self::new), in huge pages where the system has any: a direct write from them
    /// reaches the device in fewer requests.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn huge(len: usize) -> Self {
        let layout = Layout::from_size_align(len, 2 << 20).expect("a size that memory can have");
        assert!(len > 0);
        // SAFETY: the size is not zero; the advice names our own memory before its first touch,
        // which fills all of it.
        unsafe {
            let base = NonNull::new(alloc(layout)).expect("memory");
            libc::madvise(base.as_ptr().cast(), len, libc::MADV_HUGEPAGE);
            base.as_ptr().write_bytes(1, len);
            Self { base, layout }
        }
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: allocated with this size, initialised, borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// One durable write after another, at the position where the last one ended.
pub struct Floor {
    calls: Calls,
    file: File,
    memory: Aligned,
    ring: Option<IoUring>,
    at: u64,
}

impl std::fmt::Debug for Floor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Floor")
            .field("calls", &self.calls)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

fn open(path: &Path, direct: bool) -> io::Result<File> {
    let flags = if direct { libc::O_DIRECT } else { 0 };
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}

impl Floor {
    /// Opens an existing file for writes of up to `largest` bytes (a multiple of 4096 with
    /// `direct`).
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: &Path, calls: Calls, direct: bool, largest: usize) -> io::Result<Self> {
        let file = open(path, direct)?;
        let mut memory = Aligned::new(largest);
        let ring = match calls {
            Calls::UringDsync | Calls::UringLinked => Some(ring(&file, &mut memory, 4)?),
            _ => None,
        };
        Ok(Self { calls, file, memory, ring, at: 0 })
    }

    /// Starts again at the beginning of the file.
    pub fn rewind(&mut self) {
        self.at = 0;
    }

    /// Copies the bytes into the aligned buffer, as every writer has to, and makes them durable.
    ///
    /// # Errors
    /// What the operating system says; a short write is an error.
    pub fn write_flush(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len();
        self.memory.bytes()[..len].copy_from_slice(bytes);
        let piece = &self.memory.bytes()[..len];
        let done = match self.calls {
            Calls::WriteThenSync => {
                let done = self.file.write_at(piece, self.at)?;
                self.file.sync_data()?;
                done
            }
            Calls::DsyncWrite => dsync_write(&self.file, piece, self.at)?,
            Calls::UringDsync | Calls::UringLinked => {
                let ring = self.ring.as_mut().expect("opened with the ring");
                uring_write(ring, piece, self.at, self.calls == Calls::UringLinked)?
            }
        };
        if done != len {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.at += len as u64;
        Ok(())
    }
}

fn dsync_write(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the vector names live bytes.
    let n =
        unsafe { libc::pwritev2(file.as_raw_fd(), &raw const part, 1, at as i64, libc::RWF_DSYNC) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

fn ring(file: &File, memory: &mut Aligned, entries: u32) -> io::Result<IoUring> {
    let ring = IoUring::builder().setup_coop_taskrun().build(entries)?;
    let bytes = memory.bytes();
    let part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    ring.submitter().register_files(&[file.as_raw_fd()])?;
    // SAFETY: the memory lives as long as the ring: both are fields of one struct, and no
    // operation is in flight between two calls.
    unsafe { ring.submitter().register_buffers(&[part])? };
    Ok(ring)
}

fn uring_write(ring: &mut IoUring, bytes: &[u8], at: u64, linked: bool) -> io::Result<usize> {
    let write =
        opcode::WriteFixed::new(types::Fixed(0), bytes.as_ptr(), bytes.len() as u32, 0).offset(at);
    let entries = if linked {
        let sync = opcode::Fsync::new(types::Fixed(0)).flags(types::FsyncFlags::DATASYNC);
        vec![
            write.build().flags(io_uring::squeue::Flags::IO_LINK).user_data(0),
            sync.build().user_data(1),
        ]
    } else {
        vec![write.rw_flags(libc::RWF_DSYNC).build().user_data(0)]
    };
    // SAFETY: the bytes live until the completions below have been reaped.
    unsafe { ring.submission().push_multiple(&entries) }.expect("an empty ring has room");
    let mut left = entries.len();
    let mut written = 0;
    while left > 0 {
        ring.submit_and_wait(left)?;
        for completion in ring.completion() {
            let result = completion.result();
            if result < 0 {
                return Err(io::Error::from_raw_os_error(-result));
            }
            if completion.user_data() == 0 {
                written = result as usize;
            }
            left -= 1;
        }
    }
    Ok(written)
}

/// Writes `pieces` pieces of `piece` bytes with at most `depth` in flight through io_uring and
/// direct I/O from the memory given, without copying anything into it, then one `fdatasync`.
///
/// # Errors
/// What the operating system says; a short write is an error.
///
/// # Panics
/// If the memory does not hold `depth` pieces.
pub fn stream(
    path: &Path,
    mut memory: Aligned,
    piece: usize,
    depth: usize,
    pieces: u64,
) -> io::Result<()> {
    let file = open(path, true)?;
    assert!(memory.bytes().len() >= piece * depth);
    let mut ring = ring(&file, &mut memory, depth as u32 + 1)?;
    let base = memory.bytes().as_ptr();
    let mut idle: Vec<usize> = (0..depth).collect();
    let (mut next, mut done) = (0, 0);
    while done < pieces {
        while next < pieces
            && let Some(slot) = idle.pop()
        {
            let address = base.wrapping_add(slot * piece);
            let entry = opcode::WriteFixed::new(types::Fixed(0), address, piece as u32, 0)
                .offset(next * piece as u64)
                .build()
                .user_data(slot as u64);
            // SAFETY: the slot is not in flight; the memory outlives the ring's operations.
            unsafe { ring.submission().push(&entry) }.expect("as many entries as slots");
            next += 1;
        }
        ring.submit_and_wait(1)?;
        for completion in ring.completion() {
            if completion.result() != piece as i32 {
                return Err(io::Error::from_raw_os_error(-completion.result().min(-1)));
            }
            idle.push(completion.user_data() as usize);
            done += 1;
        }
    }
    file.sync_data()
}
