//! Long streams: bytes go through two buffers of a given size, and one fence ends them.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use writeflush::{BackendChoice, Drive, Options, Writer};

/// What a producer hands over at a time.
const RECORD: usize = 64 << 10;

/// Writes `bytes` bytes to an existing file at `path` and makes them durable; opening and closing
/// are part of it. The buffer size is a multiple of 4096, the bytes a multiple of the buffer size.
///
/// # Errors
/// What the operating system says.
pub type Run = fn(path: &Path, buffer: usize, bytes: u64) -> io::Result<()>;

/// A way to stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamKind {
    /// Its name in tables and files.
    pub name: &'static str,
    /// How to run it.
    pub run: Run,
}

const fn kind(name: &'static str, run: Run) -> StreamKind {
    StreamKind { name, run }
}

/// All that are built in, floors first.
pub fn stream_kinds() -> Vec<StreamKind> {
    let mut all = Vec::new();
    #[cfg(target_os = "linux")]
    all.extend([
        kind("floor", |path, buffer, bytes| floor(path, crate::floor::Aligned::new, buffer, bytes)),
        kind("floor in huge pages", |path, buffer, bytes| {
            floor(path, crate::floor::Aligned::huge, buffer, bytes)
        }),
    ]);
    all.extend([
        kind("writeflush io_uring caller", |path, buffer, bytes| {
            ours(path, BackendChoice::Uring, Drive::Caller, buffer, bytes)
        }),
        kind("writeflush io_uring thread", |path, buffer, bytes| {
            ours(path, BackendChoice::Uring, Drive::Thread, buffer, bytes)
        }),
        kind("writeflush io_uring poll", |path, buffer, bytes| {
            ours(path, BackendChoice::Uring, Drive::Poll, buffer, bytes)
        }),
        kind("writeflush sync thread", |path, buffer, bytes| {
            ours(path, BackendChoice::Sync, Drive::Thread, buffer, bytes)
        }),
        kind("BufWriter+sync_data", standard),
    ]);
    all
}

/// The same writes by hand, two in flight, from memory that nothing is copied into.
#[cfg(target_os = "linux")]
fn floor(
    path: &Path,
    memory: fn(usize) -> crate::floor::Aligned,
    buffer: usize,
    bytes: u64,
) -> io::Result<()> {
    crate::floor::stream(path, memory(2 * buffer), buffer, 2, bytes / buffer as u64)
}

fn ours(
    path: &Path,
    backend: BackendChoice,
    drive: Drive,
    buffer: usize,
    bytes: u64,
) -> io::Result<()> {
    let options = Options::new().backend(backend).drive(drive).buffer_size(buffer).buffers(2);
    let mut writer = options.open(path)?;
    stream_through(&mut writer, RECORD.min(buffer), bytes)
}

/// Pushes `bytes` bytes in records of `record` bytes, and one fence.
///
/// # Errors
/// What the writer says.
pub fn stream_through(writer: &mut Writer, record: usize, bytes: u64) -> io::Result<()> {
    let record = vec![3u8; record];
    for _ in 0..bytes / record.len() as u64 {
        let _ = writer.write(&record)?;
    }
    writer.flush()?;
    Ok(())
}

fn standard(path: &Path, buffer: usize, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let mut writer = BufWriter::with_capacity(buffer, file);
    let record = vec![3u8; RECORD.min(buffer)];
    for _ in 0..bytes / record.len() as u64 {
        writer.write_all(&record)?;
    }
    writer.flush()?;
    writer.get_ref().sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_writes_all_of_it() {
        let folder = tempfile::tempdir_in(crate::scratch_dir()).expect("a folder");
        for kind in stream_kinds() {
            let path = folder.path().join("file");
            crate::FileState::Written.prepare(&path, 1 << 20).expect("a file");
            if let Err(error) = (kind.run)(&path, 64 << 10, 1 << 20) {
                crate::skip::skip(kind.name, &format!("refused here ({error})"));
                continue;
            }
            let found = std::fs::read(&path).expect("the file");
            assert!(found.len() == 1 << 20 && found.iter().all(|byte| *byte != 0x5a));
        }
    }
}
