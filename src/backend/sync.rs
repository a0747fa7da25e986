//! The portable backend: one positional call at a time, in the thread that drives.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;

use super::{Abilities, Backend, Bell, Completion, FileId, Inline, Io, Op, Places, Token, Wake};
use crate::buffers::{Region, zeros};
use crate::canary::Canary;
#[cfg(target_os = "linux")]
use crate::file::free_space;
use crate::file::{Handle, OsFile, os_file};
use crate::sync::Instant;

#[derive(Debug)]
pub(crate) struct SyncBackend {
    files: Places<Arc<OsFile>>,
    completions: VecDeque<Completion>,
    depth: usize,
    /// The last write failed or was short and asked for a link: cancel what follows it.
    broken_link: bool,
    bell: Arc<Bell>,
}

impl SyncBackend {
    pub(crate) fn new(depth: usize) -> Self {
        Self {
            files: Places::default(),
            completions: VecDeque::with_capacity(depth),
            depth,
            broken_link: false,
            bell: Arc::default(),
        }
    }

    fn perform(&mut self, file: FileId, op: Op) -> io::Result<usize> {
        if std::mem::take(&mut self.broken_link) {
            return Err(cancelled());
        }
        let result = self.files.of(file).carry_out(op);
        self.broken_link = !op.is_whole(&result) && op.is_linked();
        result
    }
}

impl Inline for OsFile {
    fn carry_out(&self, op: Op) -> io::Result<usize> {
        let file = self.ours()?;
        match op {
            Op::Write { at, region, dsync, .. } => {
                // SAFETY: the driver keeps the region alive and unchanged until the completion.
                let bytes = unsafe { std::slice::from_raw_parts(region.address, region.len) };
                write_at(file, bytes, at, dsync && !Canary::flushes_nothing())
            }
            Op::Zeros { at, len } => write_at(file, zeros(len), at, false),
            Op::Flush if Canary::NoFlush.is_planted() => Ok(0),
            #[cfg(target_os = "linux")]
            Op::Flush if Canary::RangeOnly.is_planted() => {
                use std::os::fd::AsRawFd;
                // SAFETY: a live descriptor; the planted bug is that it is no flush.
                match unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, 7) } {
                    0 => Ok(0),
                    _ => Err(io::Error::last_os_error()),
                }
            }
            Op::Flush => file.sync_data().map(|()| 0),
        }
    }
}

impl Io for SyncBackend {
    fn kind(&self) -> Backend {
        Backend::Sync
    }

    fn abilities(&self) -> Abilities {
        // A link saves nothing where calls are made one by one; it works, for the planner's tests.
        Abilities { blocking: true, dsync: cfg!(target_os = "linux"), link: false, cancels: false }
    }

    fn attach(&mut self, file: &Arc<dyn Handle>, _memory: &[Region]) -> io::Result<FileId> {
        let file = os_file(&**file)?;
        #[cfg(windows)]
        if file.direct_block() > 1 {
            let text = "direct I/O needs the overlapped backend on Windows";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        Ok(self.files.add(file))
    }

    fn detach(&mut self, file: FileId) {
        self.files.take(file);
    }

    fn inline(&self, file: FileId) -> Option<Arc<dyn Inline>> {
        Some(self.files.of(file).clone())
    }

    fn room(&mut self) -> usize {
        self.depth - self.completions.len()
    }

    fn submit(&mut self, file: FileId, token: Token, op: Op) {
        assert!(self.completions.len() < self.depth);
        let result = self.perform(file, op);
        self.completions.push_back(Completion { token, result });
    }

    fn kick(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.bell.wait(deadline, || !self.completions.is_empty());
        Ok(())
    }

    fn reap(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.bell.clone()
    }

    fn read(&mut self, file: FileId, at: u64, region: Region) -> io::Result<usize> {
        read_full(self.files.of(file).ours()?, at, region)
    }

    #[cfg(target_os = "linux")]
    fn free_space(&mut self, file: FileId) -> Option<u64> {
        free_space(self.files.of(file).ours().ok()?)
    }

    fn set_len(&mut self, file: FileId, len: u64) -> io::Result<()> {
        self.files.of(file).ours()?.set_len(len)
    }

    fn lengthen(&mut self, file: FileId, len: u64) -> io::Result<()> {
        super::lengthen(self.files.of(file).ours()?, len)
    }
}

/// What an operation behind a broken link answers.
pub(crate) fn cancelled() -> io::Error {
    #[cfg(unix)]
    return io::Error::from_raw_os_error(libc::ECANCELED);
    #[cfg(not(unix))]
    return io::Error::new(io::ErrorKind::Interrupted, "cancelled");
}

/// Reads until the region is full or the file ends.
pub(crate) fn read_full(file: &File, at: u64, region: Region) -> io::Result<usize> {
    // SAFETY: the caller alone touches this region; it is initialised memory.
    let bytes = unsafe { std::slice::from_raw_parts_mut(region.address, region.len) };
    fill(bytes, |rest, done| read_at(file, rest, at + done as u64))
}

/// Reads into all of it, as far as there is something; interrupted for ever is an error.
pub(crate) fn fill(
    bytes: &mut [u8],
    mut read: impl FnMut(&mut [u8], usize) -> io::Result<usize>,
) -> io::Result<usize> {
    const MOST_INTERRUPTED: u32 = 1000;
    let (mut done, mut interrupted) = (0, 0);
    while done < bytes.len() {
        match read(&mut bytes[done..], done) {
            Ok(0) => break,
            Ok(n) => (done, interrupted) = (done + n, 0),
            Err(error)
                if error.kind() == io::ErrorKind::Interrupted && interrupted < MOST_INTERRUPTED =>
            {
                interrupted += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(target_os = "linux")]
fn write_at(file: &File, bytes: &[u8], at: u64, dsync: bool) -> io::Result<usize> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileExt;

    // A position of 64 bits everywhere: musl knows no other.
    #[cfg(not(target_env = "gnu"))]
    use libc::pwritev2;
    #[cfg(target_env = "gnu")]
    use libc::pwritev64v2 as pwritev2;

    if !dsync {
        return file.write_at(bytes, at);
    }
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the vector names `bytes`, which live through the call.
    let n = unsafe { pwritev2(file.as_raw_fd(), &part, 1, at as i64, libc::RWF_DSYNC) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

#[cfg(all(unix, not(target_os = "linux")))]
fn write_at(file: &File, bytes: &[u8], at: u64, _dsync: bool) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, at)
}

#[cfg(windows)]
fn write_at(file: &File, bytes: &[u8], at: u64, _dsync: bool) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, at)
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, at)
}

#[cfg(windows)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, bytes, at)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_is_interrupted_for_ever_ends_with_an_error() {
        let mut bytes = [0; 10];
        let error = fill(&mut bytes, |_, _| Err(io::ErrorKind::Interrupted.into())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        let mut turn = 0;
        let by_one = |rest: &mut [u8], done: usize| {
            turn += 1;
            rest[0] = done as u8;
            if turn % 2 == 0 { Ok(1) } else { Err(io::ErrorKind::Interrupted.into()) }
        };
        assert_eq!(fill(&mut bytes, by_one).unwrap(), 10);
        assert_eq!(bytes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
}
