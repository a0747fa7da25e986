//! Fences that nobody asks for: what makes a program durable that has never heard of them.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::control::Control;

/// A thread that makes a file durable at an interval, until it is dropped.
#[derive(Debug)]
pub(super) struct PeriodicFences {
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl PeriodicFences {
    pub(super) fn start(every: Duration, control: Control) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("fences".into())
            .spawn(move || fence(every, &control, &stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

fn fence(every: Duration, control: &Control, stop: &Receiver<()>) {
    while stop.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        // With nothing new it returns at once. An error is sticky: whoever writes next gets it.
        if control.flush().is_err() {
            return;
        }
    }
}

impl Drop for PeriodicFences {
    /// Waits for a fence that is under way.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
