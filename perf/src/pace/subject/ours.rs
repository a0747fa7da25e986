//! writeflush with a driver of its own.

use std::io;
use std::path::Path;

use writeflush::{Drive, Error, Options, Ticket, Writer};

use super::Recorder;

struct Ours {
    writer: Writer,
    /// The youngest: older ones are granted with it.
    ticket: Option<Ticket>,
}

pub(super) fn open(path: &Path, memory: u64, drive: Drive) -> io::Result<Box<dyn Recorder>> {
    // Buffers of 1 MiB where that makes at least two.
    let buffers = (memory >> 20).max(2);
    let size = (memory / buffers / 4096).max(1) * 4096;
    let options = Options::new().buffers(buffers as usize).buffer_size(size as usize);
    // One record at a time has to fit; that of a grant is not used.
    let writer = options.grant_limit(4096).memory_limit(2 << 30).drive(drive).create(path)?;
    Ok(Box::new(Ours { writer, ticket: None }))
}

impl Recorder for Ours {
    fn offer(&mut self, record: &[u8]) -> io::Result<bool> {
        match self.writer.try_write(record) {
            Ok(_) => Ok(true),
            Err(Error::Full { .. } | Error::TooLong { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn fence(&mut self) -> io::Result<()> {
        self.ticket = Some(self.writer.fence());
        Ok(())
    }

    fn durable(&self) -> u64 {
        self.writer.positions().durable
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        self.writer.close().map(drop).map_err(|failed| io::Error::other(failed.to_string()))
    }
}
