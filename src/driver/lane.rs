//! One file in the driver: carries out what the plan says, and tells the plan what became of it.
#![allow(unsafe_code)]

mod idle;
mod zeros;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::ahead::Ahead;
use super::cadence::{Cadence, Every};
use super::checksum::Checksum;
use super::length::Length;
use super::outcome::{InFlight, Outcome, Patience};
use super::plan::{Covers, Plan, Write, WriteFence};
use super::put_off::{Obstacle, PutOff};
use crate::backend::{FileId, Inline, Io, Op, Token};
use crate::blocks::{align_down, align_up, split_patch};
use crate::buffers::Region;
use crate::canary::Canary;
use crate::error::Operation;
use crate::file::NoSignal;
use crate::options::DiskFull;
use crate::stream::{Patch, Stream, Wanted};
use crate::sync::Instant;

/// What a completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneToken {
    pub(crate) lane: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A data write, by its slot.
    Write(usize),
    Flush,
    Patch,
    Zeros,
}

impl LaneToken {
    const FLUSH: u64 = 0xffff;
    const PATCH: u64 = 0xfffe;
    const ZEROS: u64 = 0xfffd;

    fn pack(self) -> Token {
        let kind = match self.kind {
            Kind::Write(slot) => slot as u64,
            Kind::Flush => Self::FLUSH,
            Kind::Patch => Self::PATCH,
            Kind::Zeros => Self::ZEROS,
        };
        (self.lane as u64) << 16 | kind
    }

    pub(crate) fn unpack(token: Token) -> Self {
        let kind = match token & 0xffff {
            Self::FLUSH => Kind::Flush,
            Self::PATCH => Kind::Patch,
            Self::ZEROS => Kind::Zeros,
            slot => Kind::Write(slot as usize),
        };
        Self { lane: (token >> 16) as usize, kind }
    }
}

#[derive(Debug)]
pub(crate) struct Lane {
    index: usize,
    stream: Arc<Stream>,
    file: FileId,
    block: u64,
    /// Length of the file before the first write: a tail's block may hold older bytes behind it.
    existing: u64,
    length: Length,
    ahead: Ahead,
    /// From when on its padding may be cut off, if somebody has looked since the last start.
    cut_from: Option<Instant>,
    cadence: Cadence,
    /// What starts next was asked for by nobody.
    unasked: bool,
    /// The way beside the backend, if waiters may take it.
    inline: Option<Arc<dyn Inline>>,
    plan: Plan,
    writes: Vec<Option<InFlight>>,
    put_off: PutOff,
    patience: Patience,
    on_disk_full: DiskFull,
    /// The patch whose disk part waits for writes in flight, or is in flight itself.
    patch: Option<PatchOnDisk>,
    /// The last thing that was started was a step of a patch.
    patched_last: bool,
    flush_since: Option<Instant>,
    /// When the lane first saw the fence that is now being worked on.
    fence_since: Option<Instant>,
    last_fence: Duration,
    /// Blocks whose bytes behind the tail lie in the bounce: the next tail in them needs no read.
    tail_read: Option<TailBlocks>,
    changed: Changed,
    checksum: Checksum,
    /// A planted bug: the file that flushes go to.
    mixed_up: Option<FileId>,
}

/// What a lane has to know of its file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    /// Alignment of device writes.
    pub(crate) block: u64,
    /// Length of what was in the file before and stays.
    pub(crate) existing: u64,
    /// As `existing`, with the space that was asked for ahead: no shorter is it cut.
    pub(crate) kept: u64,
}

/// The blocks of a tail: it starts at `from`, and `padded` is the end of its last block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TailBlocks {
    from: u64,
    padded: u64,
}

#[derive(Debug)]
struct PatchOnDisk {
    patch: Patch,
    /// End of the part that goes to the file.
    to: u64,
    in_flight: Option<InFlight>,
}

#[derive(Debug, Default)]
struct Changed {
    progress: bool,
    space: bool,
}

impl Lane {
    pub(crate) fn new(
        index: usize,
        stream: Arc<Stream>,
        file: FileId,
        plan: Plan,
        Around { block, existing, kept }: Around,
        slots: usize,
    ) -> Self {
        Self {
            index,
            stream,
            file,
            block,
            existing,
            length: Length::new(kept),
            ahead: Ahead::new(block, 0, 0, 0),
            cut_from: None,
            cadence: Cadence::new(Every::default(), 0, Instant::now()),
            unasked: false,
            inline: None,
            plan,
            writes: vec![None; slots],
            put_off: PutOff::new(slots),
            patience: Patience::new(block),
            on_disk_full: DiskFull::Fail,
            patch: None,
            patched_last: false,
            flush_since: None,
            fence_since: None,
            last_fence: Duration::ZERO,
            tail_read: None,
            changed: Changed::default(),
            checksum: Checksum::none(),
            mixed_up: None,
        }
    }

    /// A planted bug.
    pub(super) fn mix_up(&mut self, file: Option<FileId>) {
        self.mixed_up = file;
    }

    /// What a full medium means to it.
    pub(crate) fn on_disk_full(mut self, policy: DiskFull) -> Self {
        self.on_disk_full = policy;
        self
    }

    /// No file may be longer.
    pub(crate) fn file_limit(mut self, limit: Option<u64>) -> Self {
        self.patience.file_limit = limit;
        self
    }

    /// Zeros are written ahead, so many bytes at most; what was written before ends at `filled`.
    pub(crate) fn zeros_ahead(mut self, most: u64, filled: u64) -> Self {
        self.ahead = Ahead::new(self.block, most, self.plan.durable(), filled);
        self
    }

    /// The checksum of the file is computed, if nothing is in it yet.
    pub(crate) fn checksum(mut self, wanted: bool) -> Self {
        if wanted && self.existing == 0 && self.plan.written() == 0 {
            self.checksum = Checksum::of_nothing();
            self.stream.set_checksum(self.checksum.sum());
        }
        self
    }

    /// What is done though nobody asks, from now on.
    pub(crate) fn unasked(mut self, every: Every, now: Instant) -> Self {
        self.cadence = Cadence::new(every, self.plan.written(), now);
        self
    }

    /// Whoever waits may take this way to the file.
    pub(crate) fn inline_by(mut self, way: Option<Arc<dyn Inline>>) -> Self {
        self.inline = way;
        self
    }

    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    pub(crate) fn file(&self) -> FileId {
        self.file
    }

    /// Whether an operation is in the kernel's hands, the lane's failure notwithstanding.
    pub(crate) fn in_flight(&self) -> bool {
        self.flush_since.is_some()
            || self.writes.iter().any(Option::is_some)
            || self.ahead.is_writing()
            || self.patch.as_ref().is_some_and(|patch| patch.in_flight.is_some())
    }

    /// A whole buffer waits to be written, or a patch.
    pub(crate) fn is_urgent(&self) -> bool {
        let committed = self.stream.committed();
        self.next_write(committed, &Wanted::default()).is_some() || self.patch_ready(committed)
    }

    /// How long the last fence took: from the moment the lane saw it until it was granted.
    pub(crate) fn last_fence(&self) -> Duration {
        self.last_fence
    }

    // ---- submitting -----------------------------------------------------------------------------

    /// Submits what can start now; returns whether anything did. A blocking backend gets one
    /// operation a call, so that its effect is published before the next.
    pub(crate) fn advance(&mut self, io: &mut dyn Io) -> bool {
        self.fence_by_bytes();
        let mut moved = false;
        while !self.stream.is_lost() && io.room() >= 2 && self.start_one(io) {
            moved = true;
            if io.abilities().blocking {
                break;
            }
        }
        moved
    }

    /// That way, if a fence is asked for that is one small step, and nothing else is under way or to
    /// be done: more goes through the backend at once, and needs no patience of who waits.
    pub(super) fn inline(&self) -> Option<Arc<dyn Inline>> {
        let way = self.inline.as_ref()?;
        let rest = self.stream.committed() - self.plan.submitted();
        let is_small = rest <= self.plan.buffer() && self.stream.gap.wanted().is_none();
        let is_free = self.plan.idle() && !self.in_flight() && self.put_off.is_clear();
        let is_asked_for = !self.stream.is_lost() && self.is_behind(&self.wanted());
        (is_small && is_free && is_asked_for).then(|| way.clone())
    }

    /// Whether [`advance`](Self::advance) would start something.
    pub(crate) fn has_work(&self, io: &mut dyn Io) -> bool {
        let committed = self.stream.committed();
        let wanted = self.wanted();
        if self.stream.is_lost() || io.room() < 2 {
            return false;
        }
        match self.put_off.obstacle {
            Obstacle::Full(_) => !self.in_flight(),
            Obstacle::Pause { until } if !self.is_over(until, io) => {
                self.plan.fence_due(&wanted).is_some()
            }
            _ => {
                !self.put_off.is_empty()
                    || self.next_write(committed, &wanted).is_some()
                    || self.plan.fence_due(&wanted).is_some()
                    || self.gap_ready(committed).is_some()
                    || self.patch_ready(committed)
                    || self.zeros_ready(committed, &wanted).is_some()
            }
        }
    }

    /// When it wants to be asked again, though nothing is in flight.
    pub(crate) fn pauses_until(&self) -> Option<Instant> {
        match self.put_off.obstacle {
            Obstacle::Pause { until } if !self.stream.is_lost() => Some(until),
            _ => None,
        }
    }

    /// Whoever closes waits for no space: one more try, at once.
    fn is_over(&self, until: Instant, io: &dyn Io) -> bool {
        io.now() >= until || (self.plan.is_held() && !self.waits_for_space())
    }

    fn waits_for_space(&self) -> bool {
        self.on_disk_full == DiskFull::Wait && !self.stream.is_ending()
    }

    fn patch_ready(&self, committed: u64) -> bool {
        match &self.patch {
            Some(patch) => patch.in_flight.is_none() && !self.plan.in_flight_below(patch.to),
            None => self.stream.gap.wanted().is_none() && self.stream.patch_waits(committed),
        }
    }

    /// What is asked for. In front of a gap everything is to be in the file, what was patched in
    /// memory too.
    fn wanted(&self) -> Wanted {
        let wanted = self.stream.wanted();
        match self.stream.gap.wanted() {
            Some(_) => Wanted { written: self.stream.committed(), ..wanted },
            None => wanted,
        }
    }

    // ---- gaps -----------------------------------------------------------------------------------

    /// Where a gap ends that can be made now: all before it is in the file, and nothing is in flight.
    fn gap_ready(&self, committed: u64) -> Option<u64> {
        let to = self.stream.gap.wanted()?;
        let is_free = self.plan.is_through(committed) && !self.ahead.is_writing();
        (is_free && self.patch.is_none()).then_some(to)
    }

    /// Makes the gap that the producer waits for. One that is refused harms nobody: nothing of what
    /// follows has been taken, and the file is as it was.
    fn make_gap(&mut self, committed: u64, io: &mut dyn Io) -> bool {
        let Some(to) = self.gap_ready(committed) else { return false };
        let made = {
            let _unsignalled = NoSignal::here();
            io.lengthen(self.file, to)
        };
        if made.is_ok() {
            self.stream.note_written(to); // first: nothing is brought from the ring any more
            let head = align_down(to, self.block);
            // SAFETY: nothing is in flight, and all that the ring held is in the file; the producer
            // owns what follows, and waits for the answer.
            unsafe { self.stream.memory.fill(head, (to - head) as usize, 0) };
            self.length.reaches(to);
            self.checksum.give_up();
            self.plan.left_gap(to);
            self.stream.go_on_at(to);
            self.publish();
        }
        self.stream.gap.answer(made);
        self.changed.progress = true;
        self.cut_from = None;
        true
    }

    fn start_one(&mut self, io: &mut dyn Io) -> bool {
        // What is wanted before what is committed: a fence never asks for more than is accepted.
        let wanted = self.wanted();
        let committed = self.stream.committed();
        self.note_fence(&wanted, io);
        match self.put_off.obstacle {
            Obstacle::Full(_) => return self.end_full(io),
            Obstacle::Pause { until } if !self.is_over(until, io) => {
                return self.start_due_flush(&wanted, io);
            }
            Obstacle::Pause { .. } => self.put_off.obstacle = Obstacle::None,
            Obstacle::None => {}
        }
        if self.ask_again(io) || self.make_gap(committed, io) {
            return true;
        }
        // A patcher, or a producer, that keeps up with a backend which does one thing at a time
        // always has something to do: they take turns.
        let started = match self.patched_last {
            true => {
                self.start_data(committed, &wanted, io) || self.start_patch(committed, &wanted, io)
            }
            false => {
                self.start_patch(committed, &wanted, io) || self.start_data(committed, &wanted, io)
            }
        } || self.start_zeros(committed, &wanted, io);
        if started {
            // Whoever reads along may believe the length behind bytes that nobody asked for.
            self.cut_from = std::mem::take(&mut self.unasked).then(Instant::now);
        }
        started
    }

    /// A flush or a data write.
    fn start_data(&mut self, committed: u64, wanted: &Wanted, io: &mut dyn Io) -> bool {
        // A fence that is due first: there may always be another write.
        let started =
            self.start_due_flush(wanted, io) || self.start_next_write(committed, wanted, io);
        if started {
            self.patched_last = false;
        }
        started
    }

    fn start_next_write(&mut self, committed: u64, wanted: &Wanted, io: &mut dyn Io) -> bool {
        let write = self.next_write(committed, wanted);
        write.map(|write| self.start_write(write, io)).is_some()
    }

    /// What the plan says, unless zeros are on their way to the same place.
    fn next_write(&self, committed: u64, wanted: &Wanted) -> Option<Write> {
        let write = self.plan.next_write(committed, wanted)?;
        let is_in_the_way = self.ahead.is_in_the_way(write.from, align_up(write.to, self.block));
        (!is_in_the_way || Canary::ZerosBesideData.is_planted()).then_some(write)
    }

    fn start_due_flush(&mut self, wanted: &Wanted, io: &mut dyn Io) -> bool {
        let due = self.plan.fence_due(wanted);
        due.map(|covers| self.start_flush(covers, io)).is_some()
    }

    /// The first of the writes that were put off goes out again.
    fn ask_again(&mut self, io: &mut dyn Io) -> bool {
        let Some(rest) = self.put_off.next() else { return false };
        let slot = self.writes.iter().position(Option::is_none).expect("as many slots as flights");
        self.writes[slot] = Some(rest);
        self.resubmit(Kind::Write(slot), rest, io);
        true
    }

    /// The medium is full: once nothing is in flight, what is there is fenced, and then the stream
    /// fails. This flush is the first after the failure: none has failed before (invariant 6).
    fn end_full(&mut self, io: &mut dyn Io) -> bool {
        if self.in_flight() {
            return false;
        }
        if let Some(covers) = self.plan.last_fence() {
            self.start_flush(covers, io);
            return true;
        }
        self.publish();
        if let Some(error) = self.put_off.take_full() {
            self.stream.fail_full(error);
        }
        false
    }

    /// The next step of a patch: into the ring, or to the file.
    fn start_patch(&mut self, committed: u64, wanted: &Wanted, io: &mut dyn Io) -> bool {
        let started = self.take_patch(committed) || self.write_patch(wanted, io);
        self.patched_last |= started;
        started
    }

    /// A fence is asked for that is not through.
    fn is_behind(&self, wanted: &Wanted) -> bool {
        wanted.durable > self.plan.durable() || wanted.patches > self.plan.patches_durable()
    }

    fn note_fence(&mut self, wanted: &Wanted, io: &dyn Io) {
        if self.is_behind(wanted) && self.fence_since.is_none() {
            let now = io.now();
            self.fence_since = Some(now);
            if wanted.durable > self.plan.durable() {
                self.cadence.fence_begins(now);
            }
        }
    }

    fn start_write(&mut self, write: Write, io: &mut dyn Io) {
        let region = if write.bounce {
            match self.copy_tail(&write, io) {
                Ok(region) => region,
                Err(error) => return self.fail(Operation::Read, error),
            }
        } else {
            self.stream.memory.ring(write.from, write.to)
        };
        self.check_alignment(write.from, region);
        self.length.reaches(write.from + region.len as u64);
        let slot = self.writes.iter().position(Option::is_none).expect("as many slots as flights");
        let flight = InFlight { from: write.from, at: write.from, region, since: Instant::now() };
        self.writes[slot] = Some(flight);
        self.plan.write_started(write);
        self.stream.counters.sealed(region.len);
        let link = write.fence == WriteFence::Link;
        let dsync = write.fence == WriteFence::Dsync;
        let op = Op::Write { at: write.from, region, dsync, link };
        io.submit(self.file, self.token(Kind::Write(slot)), op);
        if link {
            self.submit_flush(io);
        } else if dsync {
            self.stream.counters.flushes.add(1);
        }
    }

    /// Copies a tail aside, so that producers may go on in its block at once, and completes the
    /// block with what the file holds behind it.
    fn copy_tail(&mut self, write: &Write, io: &mut dyn Io) -> io::Result<Region> {
        let len = (write.to - write.from) as usize;
        let blocks = TailBlocks { from: write.from, padded: align_up(write.to, self.block) };
        let target = self.stream.memory.tail_bounce().first((blocks.padded - write.from) as usize);
        // A tail that grows within its blocks finds them as the last one left them.
        if self.tail_read != Some(blocks) {
            self.tail_read = None;
            self.read_last_block(write, target, io)?;
            self.tail_read = Some(blocks);
        }
        // SAFETY: no write is in flight from the tail bounce (the next tail waits for the last
        // one's completion, rule 2); positions below `committed` belong to the driver.
        unsafe { self.stream.memory.copy_out(write.from, target.first(len)) };
        self.stream.counters.copied.add(len as u64);
        Ok(target)
    }

    /// Fills the last block of `target` with what the file holds there, zeros behind its end.
    fn read_last_block(&self, write: &Write, target: Region, io: &mut dyn Io) -> io::Result<()> {
        let last = target.rest(target.len - self.block as usize);
        let mut found = 0;
        if write.to < self.existing && !Canary::TailZeroed.is_planted() {
            let at = write.from + (target.len - last.len) as u64;
            found = io.read(self.file, at, last)?;
        }
        zero(last.rest(found));
        Ok(())
    }

    fn start_flush(&mut self, covers: Covers, io: &mut dyn Io) {
        self.plan.flush_started(covers);
        self.submit_flush(io);
    }

    fn submit_flush(&mut self, io: &mut dyn Io) {
        self.flush_since = Some(Instant::now());
        self.stream.counters.flushes.add(1);
        let file = self.mixed_up.unwrap_or(self.file);
        io.submit(file, self.token(Kind::Flush), Op::Flush);
    }

    fn token(&self, kind: Kind) -> Token {
        LaneToken { lane: self.index, kind }.pack()
    }

    /// Direct I/O needs it, and not every system that accepts direct I/O checks it.
    fn check_alignment(&self, at: u64, region: Region) {
        let block = self.block;
        assert!(
            at.is_multiple_of(block)
                && (region.len as u64).is_multiple_of(block)
                && (region.address as u64).is_multiple_of(block),
            "a device write must be aligned to {block}"
        );
    }

    // ---- patches --------------------------------------------------------------------------------

    /// Takes the next patch: its memory part goes into the ring at once.
    fn take_patch(&mut self, committed: u64) -> bool {
        if self.patch.is_some() || self.stream.gap.wanted().is_some() {
            return false;
        }
        let Some(patch) = self.stream.take_patch(committed) else { return false };
        self.changed.space = true; // room in the queue
        let split = split_patch(patch.from, patch.to(), self.plan.floor());
        if let Some((from, to)) = split.memory {
            let bytes = &patch.bytes[(from - patch.from) as usize..];
            // SAFETY: below `committed`, so the driver's; not in flight from the ring, since
            // every write that is lies below the floor; released only when written.
            unsafe { self.stream.memory.copy_in(from, bytes) };
            self.plan.patched_memory(from, to);
            self.checksum.change(from);
        }
        match split.disk {
            Some((_, to)) => {
                self.checksum.give_up();
                self.patch = Some(PatchOnDisk { patch, to, in_flight: None });
            }
            None => {
                self.plan.patch_applied(patch.number);
                self.stream.patch_is_through(patch.number);
            }
        }
        true
    }

    /// Starts the disk part of the patch at hand once no write in flight touches its blocks.
    fn write_patch(&mut self, wanted: &Wanted, io: &mut dyn Io) -> bool {
        let Some(on_disk) = &self.patch else { return false };
        if on_disk.in_flight.is_some() || self.plan.in_flight_below(on_disk.to) {
            return false;
        }
        let (number, from, to) = (on_disk.patch.number, on_disk.patch.from, on_disk.to);
        let at = align_down(from, self.block);
        let len = (align_up(to, self.block) - at) as usize;
        let region = self.stream.memory.patch_bounce().first(len);
        let bytes = &on_disk.patch.bytes[..(to - from) as usize];
        if bytes.len() < len {
            match io.read(self.file, at, region) {
                // Short where somebody has cut the file: zeros, as a hole would read.
                Ok(found) => zero(region.rest(found)),
                Err(error) => {
                    self.fail(Operation::Read, error);
                    return false;
                }
            }
        }
        // SAFETY: the driver alone touches the patch bounce, and one patch is in flight at most.
        unsafe {
            let target = region.rest((from - at) as usize).address;
            target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        self.check_alignment(at, region);
        // A recovery brings what the ring has from `written` on, and the ring has no such patch.
        debug_assert!(self.stream.written() >= to, "a patch of what may be brought from a ring");
        let fence = self.plan.fence_of_patch(number, wanted);
        self.plan.patch_started(fence);
        let since = Instant::now();
        let token = self.token(Kind::Patch);
        if let Some(on_disk) = &mut self.patch {
            on_disk.in_flight = Some(InFlight { from, at, region, since });
        }
        let dsync = fence == WriteFence::Dsync;
        io.submit(self.file, token, Op::Write { at, region, dsync, link: false });
        self.stream.counters.copied.add(len as u64);
        self.stream.counters.flushes.add(dsync.into());
        true
    }

    // ---- completing -----------------------------------------------------------------------------

    pub(crate) fn complete(
        &mut self,
        token: LaneToken,
        result: io::Result<usize>,
        io: &mut dyn Io,
    ) {
        match token.kind {
            Kind::Write(slot) => self.write_ended(slot, result, io),
            Kind::Flush => self.flush_ended(result, io.abilities().cancels),
            Kind::Patch => self.patch_ended(result, io),
            Kind::Zeros => self.zeros_ended(result),
        }
    }

    fn write_ended(&mut self, slot: usize, result: io::Result<usize>, io: &mut dyn Io) {
        let flight = self.writes[slot].take().expect("a completion belongs to a write in flight");
        if self.stream.failure().is_some() {
            return;
        }
        match self.patience.judge(&flight, result) {
            Outcome::Complete => {
                self.stream.counters.device_writes.record(flight.since.elapsed());
                self.plan.write_completed(flight.from);
            }
            Outcome::Rest(rest) => {
                self.plan.write_shortened(rest.from);
                self.writes[slot] = Some(rest);
                self.resubmit(Kind::Write(slot), rest, io);
            }
            Outcome::NotNow => {
                self.plan.write_shortened(flight.from);
                self.put_off(flight, io);
            }
            Outcome::Refused(error) => {
                self.plan.write_refused(flight.from, flight.at);
                self.put_off(flight, io);
                self.refused(error);
            }
            Outcome::Failed(error) => self.fail(Operation::Write, error),
        }
    }

    fn patch_ended(&mut self, result: io::Result<usize>, io: &mut dyn Io) {
        let mut on_disk = self.patch.take().expect("a completion belongs to the patch in flight");
        let flight = on_disk.in_flight.take().expect("a completion belongs to a write in flight");
        if self.stream.failure().is_some() {
            return;
        }
        match self.patience.judge(&flight, result) {
            Outcome::Complete => {
                self.plan.patch_applied(on_disk.patch.number);
                self.stream.patch_is_through(on_disk.patch.number);
            }
            Outcome::Rest(rest) => {
                self.plan.patch_shortened();
                on_disk.in_flight = Some(rest);
                self.patch = Some(on_disk);
                self.resubmit(Kind::Patch, rest, io);
            }
            // All of it once more, from the read on.
            Outcome::NotNow => {
                self.plan.patch_put_off();
                self.patch = Some(on_disk);
                self.pause(io);
            }
            Outcome::Refused(error) => {
                self.plan.patch_refused();
                self.patch = Some(on_disk);
                self.pause(io);
                self.refused(error);
            }
            Outcome::Failed(error) => self.fail(Operation::Write, error),
        }
    }

    fn put_off(&mut self, rest: InFlight, io: &dyn Io) {
        self.put_off.add(rest);
        self.pause(io);
    }

    fn pause(&mut self, io: &dyn Io) {
        self.put_off.pause(io.now(), &mut self.patience);
    }

    /// The medium is full: unless the policy waits, what was put off is not asked for again.
    fn refused(&mut self, error: io::Error) {
        if !self.waits_for_space() {
            self.put_off.fill(error);
        }
    }

    /// The stream fails, and nothing more is granted; if the medium was full before, with that.
    fn fail(&mut self, operation: Operation, error: io::Error) {
        match self.put_off.take_full() {
            Some(first) => self.stream.fail_io(Operation::Write, first),
            None => self.stream.fail_io(operation, error),
        }
    }

    fn resubmit(&mut self, kind: Kind, rest: InFlight, io: &mut dyn Io) {
        self.stream.counters.resubmitted.add(1);
        let op = Op::Write { at: rest.at, region: rest.region, dsync: false, link: false };
        io.submit(self.file, self.token(kind), op);
    }

    /// A failed flush is never tried again: the kernel may have dropped the pages that it could
    /// not write, and the next flush would say 0 (ARCHITECTURE.md, facts).
    fn flush_ended(&mut self, result: io::Result<usize>, cancels: bool) {
        let since = self.flush_since.take().expect("a completion belongs to a flush in flight");
        if self.stream.failure().is_some() {
            return;
        }
        match result {
            Ok(_) => {
                self.patience.flushed();
                self.stream.counters.device_flushes.record(since.elapsed());
                self.plan.flush_completed();
            }
            Err(error) if cancels && self.patience.may_flush_again(&error) => {
                self.plan.flush_cancelled();
            }
            Err(_) if Canary::FlushErrorSwallowed.is_planted() => self.plan.flush_completed(),
            Err(error) => self.fail(Operation::Flush, error),
        }
    }

    // ---- publishing -----------------------------------------------------------------------------

    /// Publishes positions and gives memory back; says whether a fence has ended. After a failure
    /// nothing moves any more.
    pub(crate) fn publish(&mut self) -> bool {
        if self.stream.failure().is_some() {
            return false;
        }
        let (plan, stream) = (&self.plan, &self.stream);
        self.checksum.reach(plan.written(), &stream.memory);
        stream.set_checksum(self.checksum.sum());
        let fenced =
            plan.durable() > stream.durable() || plan.patches_durable() > stream.patches_durable();
        if stream.publish(plan.submitted(), plan.written(), plan.durable(), plan.patches()) {
            self.changed.progress = true;
        }
        if stream.release(plan.in_use()) {
            self.changed.space = true;
        }
        stream.set_fencing(plan.fence_in_flight());
        stream.set_waiting_for_space(plan.is_held());
        if fenced {
            self.ahead.note_fence(self.plan.durable());
        }
        if fenced && let Some(since) = self.fence_since.take() {
            self.last_fence = since.elapsed();
            stream.counters.fenced(self.last_fence);
            return true;
        }
        false
    }

    /// Wakes whoever waits for what has changed since the last call.
    pub(crate) fn announce(&mut self) {
        let changed = std::mem::take(&mut self.changed);
        if changed.progress {
            self.stream.progress.announce();
            self.stream.wake_tasks();
        }
        if changed.space {
            self.stream.announce_space();
        }
    }

    /// As [`announce`](Self::announce), but wakes no task. Whether none waits; else what has changed
    /// is still to be announced.
    pub(crate) fn announce_to_threads(&mut self) -> bool {
        if self.changed.progress {
            self.stream.progress.announce();
        }
        if self.changed.space {
            self.stream.space.announce();
        }
        let has_tasks = self.stream.has_tasks();
        if !has_tasks {
            self.changed = Changed::default();
        }
        !has_tasks
    }
}

fn zero(region: Region) {
    // SAFETY: a bounce of the driver's own, with nothing in flight from it.
    unsafe { region.address.write_bytes(0, region.len) };
}
