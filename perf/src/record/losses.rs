//! Losses, told as they happen.

use std::time::{Duration, Instant};

use super::events::{self, Event};

/// How often a loss that goes on is told.
const EVERY: Duration = Duration::from_millis(50);

/// What is lost where the recording is now.
#[derive(Debug)]
pub(crate) struct Losses {
    position: Option<u64>,
    /// Bytes that have not been told yet.
    untold: u64,
    next: Instant,
}

impl Losses {
    pub(crate) fn new() -> Self {
        Self { position: None, untold: 0, next: Instant::now() }
    }

    /// Bytes found no room at this position, where no loss is going on.
    pub(crate) fn lose(&mut self, position: u64, bytes: usize) {
        self.position.get_or_insert(position);
        self.untold += bytes as u64;
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        if now >= self.next {
            self.next = now + EVERY;
            self.tell();
        }
    }

    /// There is room again, or the recording is over.
    pub(crate) fn end(&mut self) {
        if self.position.is_some() {
            self.tell();
            self.position = None;
        }
    }

    fn tell(&mut self) {
        if let (Some(position), 1..) = (self.position, self.untold) {
            let bytes = std::mem::take(&mut self.untold);
            events::emit(&Event::Lost { position, bytes });
        }
    }
}
