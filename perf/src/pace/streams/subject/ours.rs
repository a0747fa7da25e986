//! Writers of this crate, on one driver or each with its own.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use writeflush::{Driver, DriverOptions, Error, Options, Ticket, Writer};
use writeflush_workloads::FileState;

use super::{Recorder, Setup};
use crate::pace::streams::ledger::Ledger;
use crate::pace::subject::buffers;

struct Ours {
    /// `None`: each writer has its own.
    driver: Option<Driver>,
    /// Buffers of all writers.
    memory: u64,
    streams: Vec<Stream>,
    ledger: Arc<Ledger>,
}

struct Stream {
    writer: Writer,
    /// Fences so far.
    fences: u64,
    /// Fences that are on their way, with what hears of their end.
    pending: VecDeque<(Ticket, Waker)>,
}

/// Hears, on the driver's thread, that a fence has ended. Whether it ended well the next poll says;
/// if not, the recording has failed, and its figures are nobody's.
struct Heard {
    ledger: Arc<Ledger>,
    stream: usize,
    fence: u64,
}

impl Wake for Heard {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ledger.know(self.stream, self.fence);
    }
}

pub(super) fn open_shared(setup: &Setup<'_>) -> io::Result<Box<dyn Recorder>> {
    // Twice the buffers, since a writer has more than those.
    let limit = (setup.memory.saturating_mul(2) + (1 << 20)) as usize * setup.paths.len();
    let driver = DriverOptions::new().backend(setup.backend).memory_limit(limit).start()?;
    let options = Options::new().driver(&driver);
    open(setup, options, Some(driver))
}

pub(super) fn open_own(setup: &Setup<'_>) -> io::Result<Box<dyn Recorder>> {
    open(setup, Options::new().backend(setup.backend), None)
}

fn open(
    setup: &Setup<'_>,
    options: Options,
    driver: Option<Driver>,
) -> io::Result<Box<dyn Recorder>> {
    let (count, size) = buffers(setup.memory);
    let options = options
        .buffers(count as usize)
        .buffer_size(size as usize)
        .memory_limit((count * size) as usize)
        .grant_limit(4096); // not used
    let mut streams = Vec::with_capacity(setup.paths.len());
    for path in setup.paths {
        let writer = match setup.state {
            FileState::Growing => options.create(path)?,
            FileState::Reserved | FileState::Written => options.open(path)?,
        };
        streams.push(Stream { writer, fences: 0, pending: VecDeque::with_capacity(16) });
    }
    let memory = count * size * streams.len() as u64;
    Ok(Box::new(Ours { driver, memory, streams, ledger: setup.ledger.clone() }))
}

impl Stream {
    /// Leaves those that are through, and hears how they ended.
    fn settle(&mut self) -> io::Result<()> {
        while let Some((ticket, waker)) = self.pending.front_mut() {
            match Pin::new(ticket).poll(&mut Context::from_waker(waker)) {
                Poll::Ready(answer) => drop(answer?),
                Poll::Pending => break,
            }
            self.pending.pop_front();
        }
        Ok(())
    }
}

impl Recorder for Ours {
    fn memory(&self) -> u64 {
        self.memory
    }

    fn way(&self) -> String {
        let Some(Stream { writer, .. }) = self.streams.first() else { return String::new() };
        let path = if writer.is_direct() { "direct I/O" } else { "the page cache" };
        let (backend, label) = (writer.backend(), writer.durability());
        let which = if self.driver.is_some() { "one driver" } else { "a driver each" };
        format!("{which}, {backend} with {path}; durable is {label}")
    }

    fn offer(&mut self, stream: usize, record: &[u8]) -> io::Result<bool> {
        match self.streams[stream].writer.try_write(record) {
            Ok(_) => Ok(true),
            Err(Error::Full { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn fence(&mut self, stream: usize) -> io::Result<()> {
        let this = &mut self.streams[stream];
        this.settle()?;
        let mut ticket = this.writer.fence();
        let heard = Heard { ledger: self.ledger.clone(), stream, fence: this.fences };
        let waker = Waker::from(Arc::new(heard));
        match Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => {
                answer?;
                self.ledger.know(stream, this.fences);
            }
            Poll::Pending => this.pending.push_back((ticket, waker)),
        }
        this.fences += 1;
        Ok(())
    }

    fn check(&mut self) -> io::Result<()> {
        self.streams.iter_mut().try_for_each(Stream::settle)
    }

    fn close(mut self: Box<Self>) -> io::Result<()> {
        let checked = self.check();
        let mut first = Ok(());
        for Stream { writer, .. } in self.streams {
            let closed = writer.close().map(drop);
            first = first.and(closed.map_err(|failed| io::Error::other(failed.to_string())));
        }
        checked.and(first)
    }
}
