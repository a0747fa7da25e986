//! The CRC32C of a file, from the memory that it is written from: computed as what was written becomes a
//! longer prefix, before its memory goes back to producers.
#![allow(unsafe_code)]

use crc32c::crc32c_append;

use crate::buffers::Memory;

/// Of all bytes before a position, while nobody has changed any of them in the file.
#[derive(Debug)]
pub(super) struct Checksum {
    /// `None`: nobody asks for it, or what is in the file is not only what was in the ring.
    sum: Option<u32>,
    at: u64,
}

impl Checksum {
    pub(super) fn none() -> Self {
        Self { sum: None, at: 0 }
    }

    /// Of a file in which nothing is.
    pub(super) fn of_nothing() -> Self {
        Self { sum: Some(0), at: 0 }
    }

    pub(super) fn sum(&self) -> Option<u32> {
        self.sum
    }

    /// Something is, or will be, in the file below the position that the ring has not.
    pub(super) fn give_up(&mut self) {
        self.sum = None;
    }

    /// Bytes from `from` on change in memory: what was summed up of them is in the file no more.
    pub(super) fn change(&mut self, from: u64) {
        if from < self.at {
            self.give_up();
        }
    }

    /// All before `written` is in the file. Its memory has not been released from the position of the
    /// last call on.
    pub(super) fn reach(&mut self, written: u64, memory: &Memory) {
        let Some(sum) = self.sum else { return };
        let len = written.saturating_sub(self.at) as usize;
        if len == 0 {
            return;
        }
        // SAFETY: below `committed`, so the driver's, and not released: nobody writes them.
        let (first, rest) = unsafe { memory.slices(self.at, len) };
        self.sum = Some(crc32c_append(crc32c_append(sum, first), rest));
        self.at = written;
    }
}
