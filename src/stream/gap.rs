//! A gap that the producer wants made, and the driver's answer.

use std::io;

use crate::sync::{AtomicU64, Mutex, Ordering, ignore_poison};

/// One at a time: the only producer asks, and waits for the answer.
#[derive(Debug, Default)]
pub(crate) struct Gap {
    /// Where the file is to go on; 0 while nobody asks, since no gap ends there.
    to: AtomicU64,
    refused: Mutex<Option<io::Error>>,
}

impl Gap {
    pub(super) fn ask(&self, to: u64) {
        self.to.store(to, Ordering::Release);
    }

    /// Where the file is to go on, as long as there is no answer.
    pub(crate) fn wanted(&self) -> Option<u64> {
        Some(self.to.load(Ordering::Acquire)).filter(|to| *to != 0)
    }

    /// Of the driver.
    pub(crate) fn answer(&self, made: io::Result<()>) {
        *ignore_poison(self.refused.lock()) = made.err();
        self.to.store(0, Ordering::Release);
    }

    /// What the answer was.
    pub(crate) fn outcome(&self) -> io::Result<()> {
        match ignore_poison(self.refused.lock()).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}
