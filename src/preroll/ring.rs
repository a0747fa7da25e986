//! What is kept: records in memory that was allocated once, the newest over the oldest.
#![allow(unsafe_code)]

use std::sync::Arc;

use super::ends::Ends;
use crate::buffers::Memory;
use crate::sync::{Ordering, plain::AtomicU64};

/// What stands before each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the records before it, from the first of all on.
    pub(super) position: u64,
    /// Nanoseconds since 1970.
    pub(super) time: u64,
    /// Bytes that were lost before it, from the first of all on.
    pub(super) lost: u64,
    /// Bytes of the record.
    len: u64,
}

impl Header {
    pub(super) const BYTES: usize = 32;

    /// What the record takes in the ring.
    fn taken(&self) -> u64 {
        Self::BYTES as u64 + self.len
    }

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let numbers = [self.position, self.time, self.lost, self.len];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }

    fn of(bytes: [u8; Self::BYTES]) -> Self {
        let (numbers, _) = bytes.as_chunks();
        let [position, time, lost, len] = [0, 1, 2, 3].map(|at| u64::from_ne_bytes(numbers[at]));
        Self { position, time, lost, len }
    }
}

/// The ring as everybody may look at it; its [`Head`] and its [`Tail`] are what moves.
#[derive(Debug)]
pub(super) struct Ring {
    memory: Memory,
    ends: Ends,
    /// Bytes of all records so far.
    accepted: AtomicU64,
    /// Position and time of the oldest one, as far as is known.
    oldest: (AtomicU64, AtomicU64),
}

impl Ring {
    /// Allocates and faults in; `None` where the system has not got the memory. There is one head and one
    /// tail.
    pub(super) fn new(keep: usize, capacity: usize, now: u64) -> Option<(Arc<Self>, Head, Tail)> {
        let ring = Arc::new(Self {
            memory: Memory::new(capacity, 1, 0, Memory::ALIGN)?,
            ends: Ends::new(keep as u64, capacity as u64),
            accepted: AtomicU64::new(0),
            oldest: (AtomicU64::new(0), AtomicU64::new(now)),
        });
        let head = Head { ring: ring.clone(), at: 0, accepted: 0 };
        let tail = Tail { ring: ring.clone(), at: 0, is_held: false, whole: Vec::new() };
        Some((ring, head, tail))
    }

    /// Where the next record will begin in the ring.
    pub(super) fn head(&self) -> u64 {
        self.ends.head()
    }

    pub(super) fn in_use(&self) -> u64 {
        self.ends.in_use()
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Bytes that are kept, and since when. Of a ring that moves meanwhile each by itself.
    pub(super) fn kept(&self) -> (u64, u64) {
        let (position, time) = &self.oldest;
        let from = position.load(Ordering::Relaxed);
        (self.accepted().saturating_sub(from), time.load(Ordering::Relaxed))
    }

    fn note_oldest(&self, position: u64, time: u64) {
        self.oldest.0.store(position, Ordering::Relaxed);
        self.oldest.1.store(time, Ordering::Relaxed);
    }

    /// # Safety
    /// A record begins here, and nobody writes it meanwhile.
    unsafe fn header(&self, at: u64) -> Header {
        let mut bytes = [0; Header::BYTES];
        // SAFETY: the caller's promise, passed on.
        let (first, rest) = unsafe { self.memory.slices(at, Header::BYTES) };
        bytes[..first.len()].copy_from_slice(first);
        bytes[first.len()..].copy_from_slice(rest);
        Header::of(bytes)
    }
}

/// The producer's end.
#[derive(Debug)]
pub(super) struct Head {
    ring: Arc<Ring>,
    at: u64,
    accepted: u64,
}

impl Head {
    /// Takes a record, over the oldest ones if nobody holds them; returns its position. With an error: what
    /// is free. `lost` is the sum of what was lost before.
    pub(super) fn push(&mut self, record: &[u8], time: u64, lost: u64) -> Result<u64, u64> {
        let ring = &*self.ring;
        let (at, position) = (self.at, self.accepted);
        let header = Header { position, time, lost, len: record.len() as u64 };
        // SAFETY: this head alone writes into the ring, and not here.
        let next = |at| at + unsafe { ring.header(at) }.taken();
        let moved = ring.ends.make_room(at, header.taken(), next)?;
        // SAFETY: room that was made at the head is the head's until it is published.
        unsafe {
            ring.memory.copy_in(at, &header.to_bytes());
            ring.memory.copy_in(at + Header::BYTES as u64, record);
        }
        self.at += header.taken();
        self.accepted += header.len;
        ring.accepted.store(self.accepted, Ordering::Relaxed);
        ring.ends.publish(self.at);
        match moved {
            Some(oldest) if oldest < at => {
                // SAFETY: this head alone writes into the ring.
                let oldest = unsafe { ring.header(oldest) };
                ring.note_oldest(oldest.position, oldest.time);
            }
            Some(_) => ring.note_oldest(position, time),
            None if ring.ends.in_use() == header.taken() => ring.note_oldest(position, time),
            None => {}
        }
        Ok(position)
    }
}

/// The other end: whoever holds the records reads them, the oldest first.
#[derive(Debug)]
pub(super) struct Tail {
    ring: Arc<Ring>,
    /// Where the oldest record begins, while it is held.
    at: u64,
    is_held: bool,
    /// A record that goes round the end of the ring.
    whole: Vec<u8>,
}

impl Tail {
    /// From now on nothing is overwritten.
    pub(super) fn hold(&mut self) {
        if !self.is_held {
            self.at = self.ring.ends.hold();
            self.is_held = true;
        }
    }

    /// The oldest records go, until no more are kept than should be; then the producer overwrites again.
    pub(super) fn let_go(&mut self) {
        while self.is_held && self.ring.in_use() > self.ring.ends.keep() {
            let Some((header, _)) = self.next(u64::MAX) else { break };
            self.release(header);
        }
        self.is_held = false;
        self.ring.ends.let_go();
    }

    /// The oldest record, if it is held, and begins before `end`.
    pub(super) fn next(&mut self, end: u64) -> Option<(Header, &[u8])> {
        if !self.is_held || self.at >= end.min(self.ring.head()) {
            return None;
        }
        // SAFETY: it is published, and held: nobody writes it until it is released, for which the
        // borrow has to end.
        let (header, (first, rest)) = unsafe {
            let header = self.ring.header(self.at);
            let body = self.at + Header::BYTES as u64;
            (header, self.ring.memory.slices(body, header.len as usize))
        };
        if rest.is_empty() {
            return Some((header, first));
        }
        self.whole.clear();
        self.whole.extend_from_slice(first);
        self.whole.extend_from_slice(rest);
        Some((header, &self.whole))
    }

    /// The record that [`next`](Self::next) has shown is no longer needed.
    pub(super) fn release(&mut self, shown: Header) {
        if !self.is_held {
            return;
        }
        self.at += shown.taken();
        self.ring.ends.release(self.at);
        self.ring.note_oldest(shown.position + shown.len, shown.time);
    }
}
