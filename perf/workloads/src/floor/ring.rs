//! io_uring by hand: a registered file, a registered buffer.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use io_uring::{IoUring, opcode, types};

use super::memory::Aligned;

pub(super) fn ring(file: &File, memory: &mut Aligned, entries: u32) -> io::Result<IoUring> {
    let ring = IoUring::builder().setup_coop_taskrun().build(entries)?;
    let bytes = memory.bytes();
    let part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    ring.submitter().register_files(&[file.as_raw_fd()])?;
    // SAFETY: the memory lives as long as the ring: both are fields of one struct, and no
    // operation is in flight between two calls.
    unsafe { ring.submitter().register_buffers(&[part])? };
    Ok(ring)
}

pub(super) fn write(ring: &mut IoUring, bytes: &[u8], at: u64, linked: bool) -> io::Result<usize> {
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
    let file = super::open(path, super::flags(true, false))?;
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
