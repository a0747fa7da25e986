//! Memory of the ring, filled in place by a producer.
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

use super::Writer;
use super::shared::Producers;

/// Contiguous memory to fill in place; see [`Writer::grant`].
///
/// The bytes are whatever they were before: fill all that you commit. Leaking it (`mem::forget`)
/// leaves nothing behind either.
#[derive(Debug)]
#[must_use = "a grant that is not committed takes no bytes"]
pub struct Grant<'a> {
    writer: &'a mut Writer,
    len: usize,
}

impl<'a> Grant<'a> {
    pub(super) fn new(writer: &'a mut Writer, len: usize) -> Self {
        Self { writer, len }
    }

    /// Accepts the first `len` bytes of the grant; returns the file position of the first. Never
    /// waits. A grant that crosses the end of the ring costs a copy of the part behind it.
    ///
    /// # Panics
    /// If `len` is more than was granted.
    pub fn commit(self, len: usize) -> u64 {
        assert!(len <= self.len, "{len} bytes committed of a grant of {}", self.len);
        let position = self.writer.accepted();
        let stream = &self.writer.core().stream;
        if stream.is_left_behind() {
            return position; // the parent has the grant, too
        }
        // SAFETY: the grant owns these positions and the overhang (it borrows the only producer).
        let copied = unsafe { stream.memory.fold_overhang(position, len) };
        if copied > 0 {
            stream.counters.copied.add(copied as u64);
        }
        self.writer.accept(len as u64)
    }

    fn address(&self) -> *mut u8 {
        self.writer.core().stream.memory.grant(self.writer.accepted(), self.len)
    }
}

impl Deref for Grant<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as in `commit`; room for `len` bytes was found when the grant was made. Shared,
        // since several such slices may be there at once.
        unsafe { std::slice::from_raw_parts(self.address(), self.len) }
    }
}

impl DerefMut for Grant<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.address(), self.len) }
    }
}

/// Contiguous memory that has its place in the file already, and holds up everybody behind it: see
/// [`SharedWriter::grant`](crate::SharedWriter::grant).
///
/// The bytes are whatever they were before: fill them all. Dropped, it leaves zeros in its place (the
/// byte of the policy [`Fill`](crate::OnFull::Fill), if that is the policy), which count as lost, with
/// their place. Never leak it (`mem::forget`): what lies behind it would never become durable.
#[derive(Debug)]
#[must_use = "a grant that is dropped leaves zeros in its place, and counts as a loss"]
pub struct SharedGrant<'a> {
    producers: &'a Producers,
    from: u64,
    len: usize,
}

impl<'a> SharedGrant<'a> {
    /// Of positions that were just reserved, and have room.
    pub(super) fn new(producers: &'a Producers, from: u64, len: usize) -> Self {
        Self { producers, from, len }
    }

    /// The file position of the first byte.
    pub fn position(&self) -> u64 {
        self.from
    }

    /// Accepts all of the grant; returns the file position of the first byte. Never waits, takes no
    /// lock, allocates nothing; system calls as [`try_write`](crate::SharedWriter::try_write). One
    /// that crosses the end of the ring costs a copy of the part behind it.
    pub fn commit(self) -> u64 {
        let grant = ManuallyDrop::new(self); // not given up
        // SAFETY: these positions are the grant's; and the overhang is, if it reaches there: a second
        // one finds room behind the ring's next end only when this one has been written.
        unsafe { grant.producers.accept_grant(grant.from, grant.len) };
        grant.from
    }

    fn address(&self) -> *mut u8 {
        self.producers.memory().grant(self.from, self.len)
    }
}

impl Drop for SharedGrant<'_> {
    fn drop(&mut self) {
        // SAFETY: as in `commit`.
        unsafe { self.producers.give_up_grant(self.from, self.len) };
    }
}

impl Deref for SharedGrant<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as in `commit`; initialised memory. Shared, since several such slices may be there
        // at once.
        unsafe { std::slice::from_raw_parts(self.address(), self.len) }
    }
}

impl DerefMut for SharedGrant<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.address(), self.len) }
    }
}
