//! Fences that nobody asks for: what makes a program durable that has never heard of them.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::control::Control;
use crate::driver::thread::spawn;
use crate::fork::Process;
use crate::sync::thread::JoinHandle;

/// A thread that makes a file durable at an interval, until it is dropped.
#[derive(Debug)]
pub(super) struct PeriodicFences {
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    /// What it makes durable.
    of: Control,
    thread: Option<JoinHandle<()>>,
    process: Process,
}

impl PeriodicFences {
    pub(super) fn start(every: Duration, control: Control) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let of = control.clone();
        let thread = spawn("fences", move || fence(every, &control, &stopped))?;
        Ok(Self { stop: Some(stop), of, thread: Some(thread), process: Process::this() })
    }
}

fn fence(every: Duration, of: &Control, stop: &Receiver<()>) {
    while stop.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        // With nothing new it returns at once. An error is sticky: whoever writes next gets it.
        if of.flush().is_err() {
            return;
        }
    }
}

impl Drop for PeriodicFences {
    /// Waits for a fence that is under way: the file is being closed, so not for space. A child has
    /// no such thread to wait for, and what it shares of the stream is its parent's.
    fn drop(&mut self) {
        if !self.process.is_this() {
            return std::mem::forget((self.stop.take(), self.thread.take()));
        }
        self.of.core.stream.end_patience();
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
