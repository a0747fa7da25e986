//! A computer in memory on which the whole writer runs: seeded, deterministic, without a clock. Its
//! power can be cut at any moment.
//!
//! # The fault model
//!
//! *Writes.* A write that was submitted may reach the medium at any time from then on: whole, in
//! part (sectors of 512 bytes, each on its own), or not at all. It is certain only once a flush
//! that was submitted after the write's completion has itself completed without an error, or if it
//! carried its own fence and completed at full length. Completions come in any order, also in the
//! midst of other calls.
//!
//! *Lengths.* A file's length is metadata: it is volatile like a write, and becomes certain with
//! the same flush. Bytes behind the certain length may be gone, or be zeros.
//!
//! *Names.* A new file's name is certain only once its directory was flushed. Without it the whole
//! file may be gone, whatever becomes of its neighbours. Another file may take a name between the
//! open and the lock. The directory may move away before it is flushed, and another may take its
//! name: then a flush of that one makes nothing certain.
//!
//! *Failures.* Writes are interrupted, short, or fail (EIO or ENOSPC); what a failed write leaves
//! behind is like what a torn one does. A short write ends at any byte behind the end of the file
//! (a limit of its size, a full medium) and at the edge of a sector before it: no kernel tears what
//! it copies into one sector. A direct write takes a block at least, or, as any other may, nothing.
//! Several of these may come together. A full medium may have room again after so many writes have
//! found none. A flush fails with EIO, or with ENOSPC where space is found for data only then
//! (delayed allocation). A failed flush forgets its writes: the *next* flush succeeds and makes
//! nothing of them certain. A write that is linked to what follows cancels it (ECANCELED) if it
//! fails or is short. What a cancelled operation would have done has not been begun.
//!
//! *Reads* see what was written, fenced or not, or fail (EIO). So may a change of the length, and a
//! close.
//!
//! *Who carries out* what was submitted ([`io::Kernel`]): calls themselves, so that a seed decides
//! all; or a device with a thread of its own, which may be slow, stall until it is repaired, and go on
//! after the writer is gone; or a kernel that blocks.
//!
//! *What is forbidden*, and ends the test: two writes in flight that share a block, one through the page
//! cache that begins behind the end of the file (a kill would leave a hole), a buffer that changes while
//! it is in flight, a write that is not aligned as the file asked, and waiting where
//! nothing can ever complete.
//!
//! Not modelled: a device that lies about a flush, reads that return other bytes than were written,
//! and decay.

mod disk;
mod host;
mod io;
#[cfg(not(shuttle))]
mod seeds;
#[cfg(not(shuttle))]
mod tests;
mod threads;

pub(crate) use disk::{Asked, Computer, Faults, Image};
#[cfg(not(shuttle))]
pub(crate) use seeds::each_seed;
