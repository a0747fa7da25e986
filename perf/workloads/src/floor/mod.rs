//! Floors: the system calls of a durable write, written out by hand with nothing around them.
#![allow(unsafe_code)]

mod many;
mod memory;
mod ring;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use io_uring::IoUring;
use memmap2::{MmapOptions, MmapRaw};

pub use many::ManyFiles;
pub use memory::{Aligned, Memory};
pub use ring::stream;

/// Which calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Calls {
    /// `pwrite`, then `fdatasync`.
    WriteThenSync,
    /// `pwritev2` with `RWF_DSYNC`.
    DsyncWrite,
    /// `pwrite` on a file opened with `O_DSYNC`.
    OpenDsync,
    /// A copy into a shared mapping, then `msync` (through the page cache, whatever is asked).
    MapThenSync,
    /// io_uring, registered file and buffer: one write with `RWF_DSYNC`.
    UringDsync,
    /// io_uring, registered file and buffer: a write and a linked `fdatasync`, one submission.
    UringLinked,
}

/// Direct I/O goes by blocks of this many bytes: a record that ends inside one is written with the
/// whole block, and the next record writes that block again. What the file holds behind the record
/// is kept: it is read once for each block.
const BLOCK: usize = 4096;

/// One durable write after another, at the position where the last one ended.
pub struct Floor {
    calls: Calls,
    file: File,
    /// Zero where writes go through the page cache.
    block: usize,
    memory: Aligned,
    /// Where in it the block of the next record begins.
    cursor: usize,
    /// Length of the file when it was opened, or as a mapping has made it since: up to here there
    /// is something to keep.
    existing: u64,
    /// The block in the file whose bytes behind the last record are in memory.
    kept: Option<u64>,
    ring: Option<IoUring>,
    map: Option<MmapRaw>,
    start: u64,
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

fn flags(direct: bool, dsync: bool) -> i32 {
    (if direct { libc::O_DIRECT } else { 0 }) | (if dsync { libc::O_DSYNC } else { 0 })
}

fn open(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

impl Floor {
    /// Opens an existing file for writes of up to `largest` bytes.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: &Path, calls: Calls, direct: bool, largest: usize) -> io::Result<Self> {
        Self::open_region(path, calls, direct, Memory::like_a_writer(largest), 0..u64::MAX)
    }

    /// As [`open`](Self::open), for the bytes of `region` alone, which begins at a multiple of
    /// 4096: committers that share a file each have one. A mapping covers the region or 1 GiB of
    /// it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open_region(
        path: &Path,
        calls: Calls,
        direct: bool,
        memory: Memory,
        region: std::ops::Range<u64>,
    ) -> io::Result<Self> {
        let direct = direct && calls != Calls::MapThenSync;
        let file = open(path, flags(direct, calls == Calls::OpenDsync))?;
        let mut memory = memory.allocate();
        let ring = match calls {
            Calls::UringDsync | Calls::UringLinked => Some(ring::ring(&file, &mut memory, 4)?),
            _ => None,
        };
        let map = match calls {
            Calls::MapThenSync => {
                let len = (region.end - region.start).min(1 << 30) as usize;
                Some(MmapOptions::new().offset(region.start).len(len).map_raw(&file)?)
            }
            _ => None,
        };
        let block = if direct { BLOCK } else { 0 };
        let existing = file.metadata()?.len();
        let (start, at) = (region.start, region.start);
        let (cursor, kept) = (0, None);
        Ok(Self { calls, file, block, memory, cursor, existing, kept, ring, map, start, at })
    }

    /// Starts again at the beginning.
    pub fn rewind(&mut self) {
        self.at = self.start;
        self.kept = None;
    }

    /// Copies the bytes into the aligned buffer, as every writer has to, and makes them durable.
    ///
    /// # Errors
    /// What the operating system says; a short write is an error.
    pub fn write_flush(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.map.is_some() {
            self.copy_and_sync(bytes)?;
        } else {
            self.write_blocks(bytes)?;
        }
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn write_blocks(&mut self, bytes: &[u8]) -> io::Result<()> {
        let block = self.block.max(1);
        let head = self.at as usize % block;
        let end = head + bytes.len();
        let len = end.next_multiple_of(block);
        self.make_way(len, head > 0);
        if len > end {
            self.keep_what_follows(self.at + bytes.len() as u64)?;
        }
        let (from, to) = (self.cursor + head, self.cursor + end);
        self.memory.bytes()[from..to].copy_from_slice(bytes);
        if self.write(self.cursor, len, self.at - head as u64)? != len {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.cursor += end - end % block;
        Ok(())
    }

    /// Room for `len` bytes from the cursor on: the memory is a ring, and a record lies in it in
    /// one piece.
    fn make_way(&mut self, len: usize, begun: bool) {
        if self.cursor + len > self.memory.bytes().len() {
            if begun {
                let block = self.cursor..self.cursor + self.block;
                self.memory.bytes().copy_within(block, 0);
            }
            self.cursor = 0;
        }
    }

    /// The last block of a record that ends at `end`: what the file holds of it, once.
    fn keep_what_follows(&mut self, end: u64) -> io::Result<()> {
        let last = end - end % self.block as u64;
        if end >= self.existing || self.kept == Some(last) {
            return Ok(());
        }
        let offset = self.cursor + (last - (self.at - self.at % self.block as u64)) as usize;
        let target = &mut self.memory.bytes()[offset..offset + BLOCK];
        let found = self.file.read_at(target, last)?;
        target[found..].fill(0);
        self.kept = Some(last);
        Ok(())
    }

    /// `len` bytes of the memory, to `at`, durably; returns how many went.
    fn write(&mut self, from: usize, len: usize, at: u64) -> io::Result<usize> {
        let piece = &self.memory.bytes()[from..from + len];
        match self.calls {
            Calls::WriteThenSync => {
                let done = self.file.write_at(piece, at)?;
                self.file.sync_data()?;
                Ok(done)
            }
            Calls::OpenDsync | Calls::MapThenSync => self.file.write_at(piece, at),
            Calls::DsyncWrite => dsync_write(&self.file, piece, at),
            Calls::UringDsync | Calls::UringLinked => {
                let ring = self.ring.as_mut().expect("opened with the ring");
                ring::write(ring, piece, at, self.calls == Calls::UringLinked)
            }
        }
    }

    fn copy_and_sync(&mut self, bytes: &[u8]) -> io::Result<()> {
        let map = self.map.as_ref().expect("opened with the mapping");
        let (from, end) = (self.at, self.at + bytes.len() as u64);
        let offset = (from - self.start) as usize;
        if offset + bytes.len() > map.len() {
            return Err(io::Error::other("the mapping ends here: a shorter run fits"));
        }
        if self.existing < end {
            // Others may have made it longer since.
            let len = self.file.metadata()?.len();
            if len < end {
                self.file.set_len(end)?;
            }
            self.existing = len.max(end);
        }
        // SAFETY: inside the mapping, and inside the file, which this process alone changes.
        unsafe {
            map.as_mut_ptr().add(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        map.flush_range(offset, bytes.len())
    }
}

fn dsync_write(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the vector names live bytes.
    let n =
        unsafe { libc::pwritev2(file.as_raw_fd(), &raw const part, 1, at as i64, libc::RWF_DSYNC) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skip::skip;

    const ALL: [Calls; 6] = [
        Calls::WriteThenSync,
        Calls::DsyncWrite,
        Calls::OpenDsync,
        Calls::MapThenSync,
        Calls::UringDsync,
        Calls::UringLinked,
    ];

    #[test]
    fn what_the_file_holds_behind_a_record_is_kept() {
        let folder = tempfile::tempdir_in(crate::scratch_dir()).expect("a folder");
        let path = folder.path().join("file");
        for (calls, direct) in ALL.iter().flat_map(|calls| [(*calls, true), (*calls, false)]) {
            let older: Vec<u8> = (0..20_000u32).map(|n| (n % 251) as u8).collect();
            std::fs::write(&path, &older).expect("a file");
            let region = 0..20_000;
            // Memory for one record: it goes round with every other record.
            let opened = Floor::open_region(&path, calls, direct, Memory::for_one(5000), region);
            let mut floor = match opened {
                Err(error) if direct => {
                    skip(&format!("{calls:?}"), &format!("no direct I/O here ({error})"));
                    continue;
                }
                floor => floor.expect("it opens"),
            };
            let mut expected = older;
            let mut written = 0;
            for (index, len) in [300, 300, 5000, 3796, 4000, 9].into_iter().enumerate() {
                let record = vec![index as u8 + 1; len];
                floor.write_flush(&record).expect("a write");
                expected[written..written + len].copy_from_slice(&record);
                written += len;
                let found = std::fs::read(&path).expect("the file");
                assert!(found[..20_000] == expected, "{calls:?}, direct {direct}, {written}");
            }
        }
    }

    #[test]
    fn every_floor_writes_what_it_was_given_at_any_length() {
        let folder = tempfile::tempdir_in(crate::scratch_dir()).expect("a folder");
        for (calls, direct) in ALL.iter().flat_map(|calls| [(*calls, true), (*calls, false)]) {
            let path = folder.path().join(format!("{calls:?}-{direct}"));
            File::create(&path).expect("a file");
            let mut floor = match Floor::open(&path, calls, direct, 9000) {
                Err(error) if direct => {
                    skip(&format!("{calls:?}"), &format!("no direct I/O here ({error})"));
                    continue;
                }
                floor => floor.expect("it opens"),
            };
            let mut expected = Vec::new();
            for (index, len) in [1, 255, 4096, 9000, 3840, 7].into_iter().enumerate() {
                let record = vec![index as u8 + 1; len];
                floor.write_flush(&record).expect("a write");
                expected.extend(record);
            }
            let found = std::fs::read(&path).expect("the file");
            assert!(found.starts_with(&expected), "{calls:?}, direct {direct}");
        }
    }
}
