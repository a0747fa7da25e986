//! writeflush with a driver of its own.

use std::io;

use writeflush::{Control, Drive, Error, Options, Ticket, Writer};
use writeflush_workloads::FileState;

use super::{Recorder, Setup};

struct Ours {
    writer: Writer,
    /// Of the buffers alone.
    memory: u64,
    /// The youngest: older ones are granted with it.
    ticket: Option<Ticket>,
}

const BLOCK: u64 = 4096;

/// Buffers of 1 MiB where that makes at least two: their number and size. Together they are no
/// less than the memory, and all but one hold half of it.
pub(in crate::pace) fn buffers(memory: u64) -> (u64, u64) {
    let count = (memory >> 20).clamp(2, 1000);
    (count, memory.div_ceil(count).max(1).next_multiple_of(BLOCK))
}

/// And the bytes of the buffers.
pub(super) fn options(setup: &Setup<'_>, drive: Drive) -> (Options, u64) {
    let (count, size) = buffers(setup.memory);
    let options = Options::new()
        .buffers(count as usize)
        .buffer_size(size as usize)
        .memory_limit((count * size) as usize)
        .grant_limit(4096) // not used
        .backend(setup.backend)
        .drive(drive);
    (options, count * size)
}

pub(super) fn open(setup: &Setup<'_>, drive: Drive) -> io::Result<Box<dyn Recorder>> {
    let (options, memory) = options(setup, drive);
    let writer = match setup.state {
        FileState::Growing => options.create(setup.path)?,
        FileState::Reserved | FileState::Written => options.open(setup.path)?,
    };
    Ok(Box::new(Ours { writer, memory, ticket: None }))
}

/// How a file is written.
pub(super) fn way(file: &Control) -> String {
    let path = if file.is_direct() { "direct I/O" } else { "the page cache" };
    format!("{} with {path}; durable is {}", file.backend(), file.durability())
}

/// Whether there was room for a record.
pub(super) fn was_taken(pushed: Result<u64, Error>) -> io::Result<bool> {
    match pushed {
        Ok(_) => Ok(true),
        Err(Error::Full { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Recorder for Ours {
    fn memory(&self) -> u64 {
        self.memory
    }

    fn way(&self) -> String {
        way(self.writer.control())
    }

    fn offer(&mut self, record: &[u8]) -> io::Result<bool> {
        was_taken(self.writer.try_write(record))
    }

    fn fence(&mut self) -> io::Result<()> {
        self.ticket = Some(self.writer.fence());
        Ok(())
    }

    fn written(&self) -> u64 {
        self.writer.positions().written
    }

    fn durable(&self) -> u64 {
        self.writer.positions().durable
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        self.writer.close().map(drop).map_err(|failed| io::Error::other(failed.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_no_less_than_the_memory_and_a_record_fits() {
        for memory in [1, 4096, 200_000, 1 << 20, 5_500_000, 32 << 20, 3 << 30] {
            let (count, size) = buffers(memory);
            assert!(count * size >= memory && size.is_multiple_of(BLOCK), "{memory}");
            assert!(count * size < memory + count * BLOCK, "{memory}");
            assert!((count - 1) * size >= memory / 2, "{memory}");
        }
    }
}
