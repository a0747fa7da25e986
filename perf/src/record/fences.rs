//! Fences at their interval, so that the recorder itself never waits for the disk.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use writeflush::Ticket;

use super::sink::Control;
use super::wav::Header;

/// Who fences while the recording goes on.
#[derive(Debug)]
pub(crate) enum Fences {
    /// Nobody: there is one fence, at the close; or segments, which do it by themselves.
    AtEnd,
    /// The recorder asks, and looks later whether the fence is through.
    Tickets(Tickets),
    /// A thread of its own: between the data and the header that describes it, it has to wait.
    Checkpoints(Checkpoints),
}

impl Fences {
    pub(crate) fn start(
        every: Duration,
        header: Option<Header>,
        control: &Control,
    ) -> io::Result<Self> {
        match header {
            _ if every.is_zero() => Ok(Self::AtEnd),
            None if !matches!(control, Control::File(_)) => Ok(Self::AtEnd),
            None => Ok(Self::Tickets(Tickets::new(every, control))),
            Some(header) => Checkpoints::start(every, header, control).map(Self::Checkpoints),
        }
    }

    /// Does what is due at this instant; never waits. A failure shows in `Control::error`.
    pub(crate) fn tick(&mut self, control: &Control, now: Instant) {
        if let Self::Tickets(tickets) = self {
            tickets.tick(control, now);
        }
    }

    /// When the next tick has something to do.
    pub(crate) fn next(&self) -> Option<Instant> {
        match self {
            Self::Tickets(tickets) => Some(tickets.next),
            Self::AtEnd | Self::Checkpoints(_) => None,
        }
    }

    /// Ends; a checkpoint that is under way is waited for.
    pub(crate) fn stop(&mut self) {
        let ended = std::mem::replace(self, Self::AtEnd);
        if let Self::Checkpoints(Checkpoints { stop, thread }) = ended {
            drop(stop);
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Tickets {
    every: Duration,
    next: Instant,
    /// The fence in flight. A slow disk gets one at a time.
    pending: Option<Ticket>,
    /// What the last fence asked for covers.
    covered: u64,
}

impl Tickets {
    fn new(every: Duration, control: &Control) -> Self {
        let covered = control.positions().durable;
        Self { every, next: Instant::now() + every, pending: None, covered }
    }

    fn tick(&mut self, control: &Control, now: Instant) {
        // Also moves things on where the caller drives.
        let through = self.pending.as_ref().is_none_or(|it| !matches!(it.is_durable(), Ok(false)));
        if now < self.next {
            return;
        }
        self.next = now + self.every;
        if through && control.positions().accepted > self.covered {
            self.pending = control.fence();
            self.covered = self.pending.as_ref().map_or(0, Ticket::position);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Checkpoints {
    /// Dropped to end the thread.
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Checkpoints {
    fn start(every: Duration, header: Header, control: &Control) -> io::Result<Self> {
        let (stop, stopped) = channel();
        // Before the first data comes.
        let (control, described) = (control.clone(), control.positions().accepted);
        let thread = std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || keep_header_true(&control, &header, described, every, &stopped))?;
        Ok(Self { stop, thread })
    }
}

fn keep_header_true(
    control: &Control,
    header: &Header,
    mut described: u64,
    every: Duration,
    stop: &Receiver<()>,
) {
    while stop.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        let accepted = control.positions().accepted;
        if accepted > described {
            if control.checkpoint(header).is_err() {
                return; // the stream is poisoned: the recorder sees it for itself
            }
            described = accepted;
        }
    }
}
