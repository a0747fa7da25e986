//! What the application wants to find again together with the messages before it. No I/O.

use super::format::u64_at;
use crate::error::Error;

/// The longest [`Cookie`]: 64 KiB less the 8 bytes of its number.
pub const LONGEST_COOKIE: usize = (64 << 10) - NUMBER;

const NUMBER: usize = 8;

/// The application's own bytes, as [`flush_with`](super::Writer::flush_with) took them: whatever it
/// needs to go on, such as where its source stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cookie {
    /// As they were given.
    pub bytes: Vec<u8>,
    /// The number of the first message behind it: every message that was accepted with a lower number
    /// is in the recording, and was durable when the cookie was.
    pub next_sequence: u64,
}

impl Cookie {
    pub(super) fn new(bytes: &[u8], next_sequence: u64) -> Result<Self, Error> {
        match bytes.len() > LONGEST_COOKIE {
            true => Err(Error::TooLong { offered: bytes.len(), limit: LONGEST_COOKIE }),
            false => Ok(Self { bytes: bytes.to_vec(), next_sequence }),
        }
    }

    /// The payload of its frame.
    pub(super) fn encode(&self) -> Vec<u8> {
        [&self.next_sequence.to_le_bytes()[..], &self.bytes].concat()
    }

    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let bytes = payload.get(NUMBER..)?;
        Some(Self { bytes: bytes.to_vec(), next_sequence: u64_at(payload, 0) })
    }
}
