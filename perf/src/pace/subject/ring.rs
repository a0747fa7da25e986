//! A lock-free ring of bytes (`rtrb`), and a thread that looks into it every millisecond.

use std::io::{self, BufWriter, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};

use super::writer_thread::{Shared, WAY, WriterThread};
use super::{Recorder, Setup};

struct Ring {
    bytes: Producer<u8>,
    thread: WriterThread,
}

pub(super) fn open(setup: &Setup<'_>) -> io::Result<Box<dyn Recorder>> {
    let memory = setup.memory as usize;
    // The ring ends the process where there is no memory: asked for here first.
    Vec::<u8>::new().try_reserve_exact(memory).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let (mut bytes, theirs) = RingBuffer::new(memory);
    // Faults the memory in, as the others do.
    if let Ok(chunk) = bytes.write_chunk(memory) {
        drop(chunk);
    }
    let thread = WriterThread::spawn(setup, move |file, shared| write(file, theirs, shared))?;
    Ok(Box::new(Ring { bytes, thread }))
}

fn write(file: std::fs::File, mut bytes: Consumer<u8>, shared: &Shared) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(64 << 10, file);
    let mut written = 0;
    loop {
        let ending = shared.ending.load(Ordering::Acquire); // before the look: the last is final
        let ready = bytes.slots();
        if let Ok(chunk) = bytes.read_chunk(ready) {
            let (head, tail) = chunk.as_slices();
            writer.write_all(head)?;
            writer.write_all(tail)?;
            written += ready as u64;
            chunk.commit_all();
            shared.written.store(written, Ordering::Release);
        }
        if shared.sync_due(written) || ending {
            writer.flush()?;
            writer.get_ref().sync_data()?;
            shared.synced(written);
        }
        if ending {
            return Ok(());
        }
        if ready == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Recorder for Ring {
    fn memory(&self) -> u64 {
        self.bytes.buffer().capacity() as u64
    }

    fn way(&self) -> String {
        WAY.into()
    }

    fn offer(&mut self, record: &[u8]) -> io::Result<bool> {
        self.thread.check()?;
        // All or nothing.
        if self.bytes.slots() < record.len() {
            return Ok(false);
        }
        let Ok(mut chunk) = self.bytes.write_chunk(record.len()) else { return Ok(false) };
        let (head, tail) = chunk.as_mut_slices();
        let (first, second) = record.split_at(head.len());
        head.copy_from_slice(first);
        tail.copy_from_slice(second);
        chunk.commit_all();
        self.thread.took(record.len());
        Ok(true)
    }

    fn fence(&mut self) -> io::Result<()> {
        self.thread.want_all();
        Ok(())
    }

    fn written(&self) -> u64 {
        self.thread.shared.written.load(Ordering::Acquire)
    }

    fn durable(&self) -> u64 {
        self.thread.shared.durable.load(Ordering::Acquire)
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        self.thread.end(|| ())
    }
}
