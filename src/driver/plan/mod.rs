//! The fence planner: what is dirty, what is in flight, what is wanted → what to do next.
//!
//! Pure logic about positions: no I/O, no clock, no bytes. The lane asks [`Plan::next_write`] and
//! [`Plan::fence_due`] until both are content, tells the plan what it started, and what became
//! of it. The rules:
//!
//! 1. A full buffer is written as soon as it is committed. A partly filled one is *sealed* only
//!    when somebody wants its bytes written or durable.
//! 2. A write starts at a block boundary. The block that a sealed tail shares with the bytes after
//!    it is written again by the next write, which waits until the tail's write has completed.
//! 3. A fence covers what had *completed at full length* when the flush was submitted; never what
//!    was in flight beside it.
//! 4. If one write is all that is dirty, the write carries the fence itself (`Dsync`, or a linked
//!    flush); else every covered write completes first and a flush follows.
//! 5. While a fence is in flight no tail is sealed for the next one: whoever asks meanwhile
//!    shares it (group commit).
//! 6. A write that the medium has *refused* for want of space holds back every new one, until all
//!    that were refused have completed after all. Fences go on meanwhile, over what is there.

use crate::blocks::{align_down, align_up};
use crate::canary::Canary;
use crate::stream::{Patched, Wanted};

/// How a fence becomes durable. Chosen once, at open, from what the backend and file system give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forms {
    /// A write may carry its own fence (RWF_DSYNC), and the kernel is known to flush for it.
    pub(crate) dsync: bool,
    /// A flush may be linked behind a write in one submission.
    pub(crate) link: bool,
}

/// Sizes that the plan reckons with, all powers or multiples as [`Plan::new`] asserts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    /// Alignment of offsets and lengths of data writes; 1 when the page cache takes any.
    pub(crate) block: u64,
    /// Bytes in a buffer; no write crosses a multiple of it.
    pub(crate) buffer: u64,
    /// The longest range that is copied aside as a whole when its end is not aligned.
    pub(crate) bounce: u64,
}

/// What the fence of a write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteFence {
    /// None: a later flush covers the write.
    None,
    /// The write itself is durable when it completes at full length.
    Dsync,
    /// A flush linked behind it, cancelled by the kernel if the write is short.
    Link,
}

/// A data write to submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// First position; block-aligned.
    pub(crate) from: u64,
    /// End of the data; the device write is padded to a block.
    pub(crate) to: u64,
    /// Whether the bytes are copied aside first, since producers go on in the same block.
    pub(crate) bounce: bool,
    pub(crate) fence: WriteFence,
}

/// What a fence in flight will make durable: what was true when it was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Covers {
    pub(crate) position: u64,
    pub(crate) patches: u64,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    write: Write,
    /// First position that no earlier write holds; `write.from` is the start of its block.
    fresh_from: u64,
    /// What its own fence, if it carries one, makes durable.
    covers: Covers,
    /// The medium had no room for it, and it has not completed since.
    refused: bool,
}

#[derive(Debug)]
pub(crate) struct Plan {
    geometry: Geometry,
    forms: Forms,
    /// First position that no issued write holds. A patch of a tail that producers still share
    /// steps it back to the start of that block.
    next: u64,
    /// The highest that `next` has been.
    submitted: u64,
    /// Writes in flight, in order of position; each starts where the one before ends.
    flights: Vec<Flight>,
    /// The flush in flight.
    flush: Option<Covers>,
    /// A patch write is in flight; the flag says whether it carries its own fence.
    patching: Option<WriteFence>,
    /// The medium had no room for the patch at hand.
    patch_held: bool,
    /// A write or patch has completed since the last flush was submitted, unfenced.
    dirty: bool,
    /// A write that carried its own fence was refused: no telling the write's error from one of the
    /// fence, and a failed fence leaves nothing to grant.
    in_doubt: bool,
    /// End of the highest patch that was applied in memory only.
    patched_in_memory: u64,
    /// Patches applied: their disk part has completed, their memory part is in the ring.
    patches_applied: u64,
    written: u64,
    durable: u64,
    patches_durable: u64,
}

impl Plan {
    /// `start` is the first position to be written; everything before it is durable already.
    pub(crate) fn new(geometry: Geometry, forms: Forms, start: u64, flights: usize) -> Self {
        assert!(geometry.buffer.is_multiple_of(geometry.block));
        assert!(geometry.bounce.is_multiple_of(geometry.block));
        Self {
            geometry,
            forms,
            next: start,
            submitted: start,
            flights: Vec::with_capacity(flights),
            flush: None,
            patching: None,
            patch_held: false,
            dirty: false,
            in_doubt: false,
            patched_in_memory: 0,
            patches_applied: 0,
            written: start,
            durable: start,
            patches_durable: 0,
        }
    }

    // ---- what is ------------------------------------------------------------------------------

    /// Everything below has been in an issued write.
    pub(crate) fn submitted(&self) -> u64 {
        self.submitted
    }

    /// The highest prefix whose writes have completed at full length.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    pub(crate) fn patches_durable(&self) -> u64 {
        self.patches_durable
    }

    /// First position whose memory is still needed.
    pub(crate) fn in_use(&self) -> u64 {
        align_down(self.settled(), self.geometry.block)
    }

    /// Start of the block that the next data write begins with: bytes below it are never taken
    /// from memory again.
    pub(crate) fn floor(&self) -> u64 {
        align_down(self.next, self.geometry.block)
    }

    /// Bytes in a buffer.
    pub(crate) fn buffer(&self) -> u64 {
        self.geometry.buffer
    }

    /// Nothing is in flight.
    pub(crate) fn idle(&self) -> bool {
        self.flights.is_empty() && self.flush.is_none() && self.patching.is_none()
    }

    /// Whether the file holds all that is committed, with what was patched in memory.
    pub(crate) fn is_through(&self, committed: u64) -> bool {
        self.idle() && self.next >= committed
    }

    /// Whether a write in flight touches a byte below `end`.
    pub(crate) fn in_flight_below(&self, end: u64) -> bool {
        self.flights.iter().any(|flight| flight.write.from < end)
    }

    /// The end of the prefix that is complete on the way to the device right now. Unlike
    /// `written` it steps back with a patch.
    fn settled(&self) -> u64 {
        self.flights.first().map_or(self.next, |oldest| oldest.fresh_from.min(self.next))
    }

    /// A fence is on its way; its end may make the next one due.
    pub(crate) fn fence_in_flight(&self) -> bool {
        self.flush.is_some()
            || self.flights.iter().any(|flight| flight.write.fence != WriteFence::None)
            || self.patching.is_some_and(|fence| fence != WriteFence::None)
    }

    /// Some write, or a patch, was refused and has not completed since: nothing new is written.
    pub(crate) fn is_held(&self) -> bool {
        self.patch_held || self.flights.iter().any(|flight| flight.refused)
    }

    fn fence_wanted(&self, wanted: &Wanted) -> bool {
        wanted.durable > self.durable || wanted.patches > self.patches_durable
    }

    // ---- what to do ---------------------------------------------------------------------------

    /// The next data write, if one may start now. `committed` bounds what is in memory.
    pub(crate) fn next_write(&self, committed: u64, wanted: &Wanted) -> Option<Write> {
        if self.next >= committed || self.flights.len() == self.flights.capacity() {
            return None;
        }
        if self.is_held() {
            return None; // rule 6
        }
        let Geometry { block, buffer, bounce } = self.geometry;
        let from = self.floor();
        if self.flights.iter().any(|flight| align_up(flight.write.to, block) > from) {
            return None; // rule 2
        }
        let buffer_end = align_down(from, buffer) + buffer;
        let sealed_by = self.seal(committed, wanted);
        let to = if committed >= buffer_end { buffer_end } else { sealed_by? };
        let body_end = align_down(to, block);
        let write = if to == body_end {
            Write { from, to, bounce: false, fence: WriteFence::None }
        } else if align_up(to, block) - from <= bounce {
            Write { from, to, bounce: true, fence: WriteFence::None }
        } else {
            Write { from, to: body_end, bounce: false, fence: WriteFence::None }
        };
        Some(Write { fence: self.fence_of(&write, wanted), ..write })
    }

    /// Where to seal a partly filled buffer, if somebody wants its bytes now.
    fn seal(&self, committed: u64, wanted: &Wanted) -> Option<u64> {
        let patch_waits =
            wanted.patches > self.patches_durable && self.patched_in_memory > self.next;
        let for_write = wanted.written > self.next;
        let for_fence = (wanted.durable > self.next || patch_waits) && !self.fence_in_flight(); // rule 5
        // A copy still in progress below the wanted position: seal once, when it is in.
        let whole = committed >= wanted.written.max(wanted.durable);
        ((for_write || for_fence) && whole).then_some(committed)
    }

    /// Rule 4: the fence that a write can carry.
    fn fence_of(&self, write: &Write, wanted: &Wanted) -> WriteFence {
        let first = self.flights.is_empty() || Canary::LinkLastOnly.is_planted();
        let alone = first && self.flush.is_none() && self.patching.is_none();
        let covers_all = write.to >= wanted.durable
            && write.to >= self.patched_in_memory
            && self.patches_applied >= wanted.patches;
        if !alone || !covers_all || !self.fence_wanted(wanted) {
            WriteFence::None
        } else if self.forms.dsync && !self.dirty {
            WriteFence::Dsync
        } else if self.forms.link {
            WriteFence::Link
        } else {
            WriteFence::None
        }
    }

    /// The fence of a patch write that would start now: its own if it is all that is dirty.
    pub(crate) fn fence_of_patch(&self, number: u64, wanted: &Wanted) -> WriteFence {
        let all = self.idle()
            && !self.dirty
            && wanted.durable <= self.durable
            && self.patched_in_memory <= self.settled()
            && wanted.patches == number;
        if all && self.forms.dsync { WriteFence::Dsync } else { WriteFence::None }
    }

    /// Patches that a reader of the file sees, where all below `position` has been written: none that
    /// is in memory only and behind that, nor any after it.
    fn patches_below(&self, position: u64) -> u64 {
        match position >= self.patched_in_memory {
            true => self.patches_applied,
            false => self.patches_durable,
        }
    }

    /// The patches as far as they have got: known to be in the file, and durable.
    pub(crate) fn patches(&self) -> Patched {
        Patched { in_file: self.patches_below(self.settled()), durable: self.patches_durable }
    }

    /// What a flush submitted now would cover, if one is due.
    pub(crate) fn fence_due(&self, wanted: &Wanted) -> Option<Covers> {
        let too_early = Canary::FlushTooEarly.is_planted();
        let position = if too_early { self.next } else { self.settled() };
        // A patch in memory that no completed write holds: no patch is claimed, wanted or not.
        let patches = self.patches_below(position);
        let enough = match self.is_held() {
            // What is wanted may never come: those who wait for less are not kept waiting.
            true => position > self.durable || patches > self.patches_durable,
            false => position >= wanted.durable && patches >= wanted.patches,
        };
        let due = self.fence_wanted(wanted) && !self.fence_in_flight() && enough;
        due.then_some(Covers { position, patches })
    }

    /// What one more flush would cover when nothing is in flight any more and nothing will be
    /// written: everything below `written`. `None`: it is durable already, or a fence may have
    /// failed, after which nothing is granted.
    pub(crate) fn last_fence(&self) -> Option<Covers> {
        let patches = self.patches_below(self.settled());
        let news = self.written > self.durable || patches > self.patches_durable;
        (news && !self.in_doubt).then_some(Covers { position: self.written, patches })
    }

    // ---- what happened ------------------------------------------------------------------------

    pub(crate) fn write_started(&mut self, write: Write) {
        assert!(write.from <= self.next && write.to > self.next);
        assert!(self.flights.len() < self.flights.capacity());
        let covers = Covers { position: write.to, patches: self.patches_applied };
        self.flights.push(Flight { write, fresh_from: self.next, covers, refused: false });
        self.next = write.to;
        self.submitted = self.submitted.max(write.to);
        if write.fence == WriteFence::Link {
            self.flush_started(covers);
        }
    }

    /// The write that began at `from` was short: the rest goes out again, without its fence. A
    /// flush linked behind it proves nothing about these bytes, whatever it says.
    pub(crate) fn write_shortened(&mut self, from: u64) {
        let flight = self.flights.iter_mut().find(|flight| flight.write.from == from);
        let flight = flight.expect("a known flight");
        if flight.write.fence == WriteFence::Link
            && let Some(covers) = &mut self.flush
        {
            *covers = Covers { position: self.durable, patches: self.patches_durable };
        }
        flight.write.fence = WriteFence::None;
        self.dirty = true;
    }

    /// The medium had no room for what is left of the write that began at `from`: it has taken the
    /// bytes below `taken`, and the rest may go out again, without its fence. A refused write
    /// changes no byte that an earlier one has brought there: both have the same.
    pub(crate) fn write_refused(&mut self, from: u64, taken: u64) {
        let index = self.flights.iter().position(|flight| flight.write.from == from);
        let index = index.expect("a known flight");
        self.in_doubt |= self.flights[index].write.fence == WriteFence::Dsync;
        self.write_shortened(from);
        let flight = &mut self.flights[index];
        flight.refused = true;
        let taken = if Canary::RefusedCounts.is_planted() { flight.write.to } else { taken };
        flight.fresh_from = flight.fresh_from.max(taken.min(flight.write.to));
        self.note_written();
    }

    /// The write that began at `from` has completed at full length.
    pub(crate) fn write_completed(&mut self, from: u64) {
        let index = self.flights.iter().position(|flight| flight.write.from == from);
        let flight = self.flights.remove(index.expect("a known flight"));
        match flight.write.fence {
            WriteFence::Dsync => self.fenced(flight.covers),
            WriteFence::Link => {} // its flush is on the way
            WriteFence::None => self.dirty = true,
        }
        self.note_written();
        let has_waited = Canary::SpaceUnfenced.is_planted() && flight.refused;
        if has_waited || Canary::DurableWhenWritten.is_planted() {
            self.fenced(Covers { position: self.written, patches: self.patches_applied });
        }
    }

    /// A tail that a patch made stale while it was in flight has been written all the same.
    fn note_written(&mut self) {
        let oldest = self.flights.first().map_or(self.submitted, |oldest| oldest.fresh_from);
        self.written = self.written.max(oldest);
    }

    /// The file goes on at `to`, in a later block: what lies between reads as zeros, and is in the
    /// file like all that came before. A fence makes it durable.
    pub(crate) fn left_gap(&mut self, to: u64) {
        let block = self.geometry.block;
        assert!(self.idle() && align_down(to, block) >= align_up(self.next, block));
        (self.next, self.submitted, self.written) = (to, to, to);
        self.dirty = true;
        if Canary::GapUnfenced.is_planted() {
            self.fenced(Covers { position: to, patches: self.patches_applied });
        }
    }

    /// Something else than data has changed the file: the next fence is a flush, which takes it along.
    pub(crate) fn note_change(&mut self) {
        self.dirty = true;
    }

    pub(crate) fn flush_started(&mut self, covers: Covers) {
        assert!(self.flush.is_none());
        self.dirty = false;
        self.flush = Some(covers);
    }

    pub(crate) fn flush_completed(&mut self) {
        let covers = self.flush.take().expect("a flush in flight");
        self.fenced(covers);
    }

    /// The flush was cancelled before it ran (behind a short write, or with the thread that
    /// submitted it): as if it had never been asked.
    pub(crate) fn flush_cancelled(&mut self) {
        self.flush = None;
        self.dirty = true;
    }

    /// A patch went into memory at positions `from..to`; if an issued tail holds some of them,
    /// that tail is written again.
    pub(crate) fn patched_memory(&mut self, from: u64, to: u64) {
        assert!(from >= self.floor());
        if from < self.next {
            self.next = self.floor();
        }
        self.patched_in_memory = self.patched_in_memory.max(to);
    }

    /// The disk part of a patch is on the way.
    pub(crate) fn patch_started(&mut self, fence: WriteFence) {
        assert!(self.patching.is_none());
        self.patching = Some(fence);
    }

    /// Its write was short: the rest goes out again, without its fence.
    pub(crate) fn patch_shortened(&mut self) {
        self.patching = Some(WriteFence::None);
        self.dirty = true;
    }

    /// All of it goes out again later, without its fence.
    pub(crate) fn patch_put_off(&mut self) {
        self.patching = None;
        self.dirty = true;
    }

    /// The medium had no room for it (a file system that writes every change elsewhere).
    pub(crate) fn patch_refused(&mut self) {
        self.in_doubt |= self.patching == Some(WriteFence::Dsync);
        self.patch_held = true;
        self.patch_put_off();
    }

    /// Patch `number` is in the ring and in the file as far as it has a part there.
    pub(crate) fn patch_applied(&mut self, number: u64) {
        assert_eq!(number, self.patches_applied + 1);
        self.patches_applied = number;
        self.patch_held = false;
        match self.patching.take() {
            // It was all that was dirty when it started, so every patch before it is durable.
            Some(WriteFence::Dsync) => self.patches_durable = number,
            Some(_) => self.dirty = true,
            None => {} // in memory only: the data write that takes it makes the file dirty
        }
        if Canary::PatchDurableEarly.is_planted() {
            self.patches_durable = number;
        }
    }

    fn fenced(&mut self, covers: Covers) {
        self.durable = self.durable.max(covers.position);
        self.patches_durable = self.patches_durable.max(covers.patches);
        if Canary::FlushTooEarly.is_planted() || Canary::LinkLastOnly.is_planted() {
            self.written = self.written.max(self.durable); // else the positions betray it
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
