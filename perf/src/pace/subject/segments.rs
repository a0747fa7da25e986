//! writeflush in many files, each of which is ready before the one before it is full.

use std::io;

use writeflush::Drive;
use writeflush::segments::{self, Ticket, Writer};

use super::{Recorder, Setup, ours};

struct Segments {
    writer: Writer,
    /// Of the buffers of one file.
    memory: u64,
    /// How a file is written.
    way: String,
    /// The youngest: older ones are granted with it.
    ticket: Option<Ticket>,
}

pub(super) fn open(setup: &Setup<'_>) -> io::Result<Box<dyn Recorder>> {
    let (below, memory) = ours::options(setup, Drive::Thread);
    let mut pattern = setup.path.as_os_str().to_owned();
    pattern.push("-{seq:06}");
    let writer = segments::Options::new(pattern).below(below).size(setup.split).open()?;
    let way = writer.of_segment().as_ref().map(ours::way).unwrap_or_default();
    Ok(Box::new(Segments { writer, memory, way, ticket: None }))
}

impl Recorder for Segments {
    fn memory(&self) -> u64 {
        self.memory
    }

    fn way(&self) -> String {
        self.way.clone()
    }

    fn offer(&mut self, record: &[u8]) -> io::Result<bool> {
        ours::was_taken(self.writer.try_write(record))
    }

    fn fence(&mut self) -> io::Result<()> {
        self.ticket = Some(self.writer.fence()?);
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
