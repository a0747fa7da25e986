//! The plan against a model disk that keeps what is volatile apart from what is durable.
//!
//! The disk knows versions, not bytes: each position has a version that a patch raises. A write
//! carries the versions of its submission; they reach the disk when it completes, and stable
//! media by the rule of ARCHITECTURE.md: only what completed before a flush was submitted, what a
//! linked flush stood behind, and what a completed dsync write carried.

use proptest::prelude::*;

use super::*;
use crate::blocks::split_patch;

const GEOMETRY: Geometry = Geometry { block: 16, buffer: 64, bounce: 32 };

/// Versions of the positions from `from` on.
type Versions = Vec<u32>;

struct InFlight {
    write: Write,
    versions: Versions,
    short: bool,
    /// The medium had no room for it, and it has not gone out again since.
    refused: bool,
}

struct PatchOnDisk {
    number: u64,
    from: u64,
    to: u64,
    fence: Option<WriteFence>,
}

struct Disk {
    plan: Plan,
    committed: u64,
    wanted: Wanted,
    /// What memory, the disk's cache and stable media hold, by position.
    memory: Versions,
    cache: Versions,
    stable: Versions,
    flights: Vec<InFlight>,
    /// What the flush in flight will make stable, and the write that it is linked behind.
    flush: Option<(Versions, Option<u64>)>,
    patch: Option<PatchOnDisk>,
    patches: u64,
    /// Something was refused that carried its own fence.
    in_doubt: bool,
    /// `(number, from, to, version)` of every patch.
    history: Vec<(u64, u64, u64, u32)>,
}

impl Disk {
    fn new(forms: Forms, geometry: Geometry, start: u64) -> Self {
        let known = vec![1; start as usize];
        Self {
            plan: Plan::new(geometry, forms, start, 4),
            committed: start,
            wanted: Wanted { written: start, durable: start, patches: 0 },
            memory: known.clone(),
            cache: known.clone(),
            stable: known,
            flights: Vec::new(),
            flush: None,
            patch: None,
            patches: 0,
            in_doubt: false,
            history: Vec::new(),
        }
    }

    fn push(&mut self, len: u64) {
        // The ring: no more than four buffers past what is still in use.
        let limit = self.plan.in_use() + 4 * GEOMETRY.buffer;
        self.committed = (self.committed + len).min(limit);
        self.memory.resize(self.committed as usize, 1);
    }

    fn queue_patch(&mut self, at: u64, len: u64) {
        if self.patch.is_some() || self.committed == 0 {
            return;
        }
        let from = at % self.committed;
        let to = (from + len).min(self.committed);
        self.patches += 1;
        let (number, version) = (self.patches, self.patches as u32 + 1);
        self.history.push((number, from, to, version));
        // Memory keeps the truth of every position; below the floor it stands for the patch's
        // own bytes.
        self.memory[from as usize..to as usize].fill(version);
        let split = split_patch(from, to, self.plan.floor());
        if let Some((from, to)) = split.memory {
            self.plan.patched_memory(from, to);
        }
        match split.disk {
            Some((from, to)) => {
                self.patch = Some(PatchOnDisk { number, from, to, fence: None });
            }
            None => self.plan.patch_applied(number),
        }
    }

    /// Submits one thing, as the lane does.
    fn start_one(&mut self) -> bool {
        if let Some(patch) = &mut self.patch
            && patch.fence.is_none()
            && !self.plan.in_flight_below(patch.to)
        {
            let fence = self.plan.fence_of_patch(patch.number, &self.wanted);
            self.plan.patch_started(fence);
            patch.fence = Some(fence);
            return true;
        }
        if let Some(write) = self.plan.next_write(self.committed, &self.wanted) {
            self.check_write(&write);
            let versions = self.memory[write.from as usize..write.to as usize].to_vec();
            let before = self.cache.clone();
            self.plan.write_started(write);
            if write.fence == WriteFence::Link {
                self.flush = Some((before, Some(write.from)));
            }
            assert!(!self.flights.iter().any(|flight| flight.refused), "rule 6: {write:?}");
            self.flights.push(InFlight { write, versions, short: false, refused: false });
            return true;
        }
        if let Some(covers) = self.plan.fence_due(&self.wanted) {
            self.plan.flush_started(covers);
            self.flush = Some((self.cache.clone(), None));
            return true;
        }
        false
    }

    fn check_write(&self, write: &Write) {
        let Geometry { block, buffer, bounce } = GEOMETRY;
        let end = align_up(write.to, block);
        assert!(write.from.is_multiple_of(block) && write.to <= self.committed);
        assert_eq!(write.from / buffer, (end - 1) / buffer, "crosses a buffer: {write:?}");
        assert_eq!(write.bounce, !write.to.is_multiple_of(block), "{write:?}");
        assert!(!write.bounce || end - write.from <= bounce);
        for flight in &self.flights {
            let other = flight.write.from..align_up(flight.write.to, block);
            assert!(end <= other.start || other.end <= write.from, "overlap: {write:?}");
        }
    }

    fn complete_write(&mut self, pick: usize, short: bool) {
        if self.flights.is_empty() {
            return;
        }
        let index = pick % self.flights.len();
        if short && !self.flights[index].short {
            self.flights[index].short = true;
            return self.plan.write_shortened(self.flights[index].write.from);
        }
        let InFlight { write, versions, short, .. } = self.flights.remove(index);
        let range = write.from as usize..write.to as usize;
        raise(&mut self.cache, range.clone(), &versions);
        match write.fence {
            WriteFence::Dsync if !short => raise(&mut self.stable, range, &versions),
            WriteFence::Link if !short => {
                if let Some((covered, behind)) = &mut self.flush {
                    raise(covered, range, &versions);
                    *behind = None;
                }
            }
            _ => {}
        }
        self.plan.write_completed(write.from);
    }

    /// The medium has taken so many blocks of a write, in pieces, and has no room for the rest.
    fn refuse_write(&mut self, pick: usize, blocks: u64) {
        if self.flights.is_empty() {
            return;
        }
        let index = pick % self.flights.len();
        let InFlight { write, versions, short, refused } = &mut self.flights[index];
        let all = align_down(write.to - write.from, GEOMETRY.block);
        let taken = write.from + (blocks * GEOMETRY.block).min(all);
        let (range, known) = (write.from as usize..taken as usize, taken - write.from);
        raise(&mut self.cache, range, &versions[..known as usize]);
        // What is left of a short write has no fence of its own.
        self.in_doubt |= write.fence == WriteFence::Dsync && !*short;
        (*short, *refused) = (true, true);
        self.plan.write_refused(write.from, taken);
    }

    fn refuse_patch(&mut self) {
        let Some(patch) = &mut self.patch else { return };
        if let Some(fence) = patch.fence.take() {
            self.in_doubt |= fence == WriteFence::Dsync;
            self.plan.patch_refused();
        }
    }

    fn complete_flush(&mut self, cancel_lies: bool) {
        let behind = self.flush.as_ref().and_then(|(_, behind)| *behind);
        match behind {
            None => {
                if let Some((covered, _)) = self.flush.take() {
                    raise(&mut self.stable, 0..covered.len(), &covered);
                    self.plan.flush_completed();
                }
            }
            Some(from) => {
                let shortened = self.flights.iter().any(|f| f.write.from == from && f.short)
                    || !self.flights.iter().any(|f| f.write.from == from);
                if !shortened {
                    return; // the kernel holds it back
                }
                self.flush = None;
                // A kernel that said "flushed" all the same must change nothing.
                if cancel_lies { self.plan.flush_completed() } else { self.plan.flush_cancelled() }
            }
        }
    }

    /// The kernel never ran the flush: the thread that submitted it has ended.
    fn lose_flush(&mut self) {
        if self.flush.take().is_some() {
            self.plan.flush_cancelled();
        }
    }

    fn complete_patch(&mut self, short: bool) {
        let Some(patch) = &mut self.patch else { return };
        let Some(fence) = patch.fence else { return };
        if short {
            patch.fence = Some(WriteFence::None);
            return self.plan.patch_shortened();
        }
        let patch = self.patch.take().expect("just seen");
        let range = patch.from as usize..patch.to as usize;
        let versions = self.memory[range.clone()].to_vec();
        raise(&mut self.cache, range.clone(), &versions);
        if fence == WriteFence::Dsync {
            raise(&mut self.stable, range, &versions);
        }
        self.plan.patch_applied(patch.number);
    }

    fn check(&self) {
        let plan = &self.plan;
        assert!(plan.submitted() >= plan.written() && plan.written() >= plan.durable());
        assert!(plan.submitted() <= self.committed);
        let holds = |disk: &Versions, end: u64| {
            disk.iter().take(end as usize).filter(|&&version| version > 0).count() as u64 == end
        };
        assert!(holds(&self.cache, plan.written()), "written lies: {plan:?}");
        assert!(holds(&self.stable, plan.durable()), "durable lies: {plan:?}");
        self.check_patches(&self.stable, plan.patches_durable());
        self.check_last_fence();
    }

    fn check_patches(&self, disk: &Versions, patches: u64) {
        for &(number, from, to, version) in &self.history {
            if number <= patches {
                let there = &disk[from as usize..to as usize];
                let whole = there.iter().all(|&v| v >= version);
                assert!(whole, "patch {number} lies: {:?}", self.plan);
            }
        }
    }

    /// The medium stays full: what one more flush would be taken to cover is in the file.
    fn check_last_fence(&self) {
        let in_flight = self.flights.iter().any(|flight| !flight.refused)
            || self.flush.is_some()
            || self.patch.as_ref().is_some_and(|patch| patch.fence.is_some());
        if in_flight {
            return; // nobody asks yet
        }
        if let Some(covers) = self.plan.last_fence() {
            assert!(!self.in_doubt, "a fence may have failed: {:?}", self.plan);
            let there = &self.cache[..covers.position as usize];
            assert!(there.iter().all(|&version| version > 0), "a gap: {:?}", self.plan);
            self.check_patches(&self.cache, covers.patches);
        }
    }

    fn run_dry(&mut self) {
        for round in 0.. {
            assert!(round < 1000, "no end: {:?} {:?}", self.plan, self.wanted);
            while self.start_one() {}
            if self.plan.idle() && self.patch.is_none() {
                break;
            }
            self.complete_write(round, false);
            self.complete_patch(false);
            self.complete_flush(false);
            self.check();
        }
        assert!(self.plan.durable() >= self.wanted.durable, "{:?}", self.plan);
        assert!(self.plan.written() >= self.wanted.written, "{:?}", self.plan);
        assert!(self.plan.patches_durable() >= self.wanted.patches, "{:?}", self.plan);
    }
}

fn raise(disk: &mut Versions, range: std::ops::Range<usize>, versions: &[u32]) {
    if disk.len() < range.end {
        disk.resize(range.end, 0);
    }
    // A write puts what it carries, also where that is older: the plan must never let it.
    disk[range].copy_from_slice(versions);
}

#[derive(Clone, Debug)]
enum Step {
    Push(u64),
    WantDurable,
    WantWritten,
    Patch(u64, u64),
    WantPatches,
    Start,
    Complete(usize, bool),
    Flushed(bool),
    FlushLost,
    Patched(bool),
    Refused(usize, u64),
    PatchRefused,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u64..100).prop_map(Step::Push),
        2 => Just(Step::WantDurable),
        1 => Just(Step::WantWritten),
        2 => (any::<u16>(), 1u64..40).prop_map(|(at, len)| Step::Patch(at.into(), len)),
        2 => Just(Step::WantPatches),
        8 => Just(Step::Start),
        6 => (any::<usize>(), prop::bool::weighted(0.2)).prop_map(|(i, s)| Step::Complete(i, s)),
        4 => any::<bool>().prop_map(Step::Flushed),
        1 => Just(Step::FlushLost),
        3 => prop::bool::weighted(0.2).prop_map(Step::Patched),
        1 => (any::<usize>(), 0u64..5).prop_map(|(pick, taken)| Step::Refused(pick, taken)),
        1 => Just(Step::PatchRefused),
    ]
}

/// 400, or more if PROPTEST_CASES says so.
fn cases() -> ProptestConfig {
    let asked = ProptestConfig::default();
    ProptestConfig { cases: asked.cases.max(400), ..asked }
}

proptest! {
    #![proptest_config(cases())]

    /// Invariants 3, 4 and 6: whatever completes in whatever order, short or whole, `written` and
    /// `durable` are never more than the truth, and what is wanted is reached, also where the medium
    /// has no room at times.
    #[test]
    fn durable_is_never_more_than_the_truth(
        dsync: bool,
        link: bool,
        start in 0u64..100,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut disk = Disk::new(Forms { dsync, link }, GEOMETRY, start);
        for step in steps {
            match step {
                Step::Push(len) => disk.push(len),
                Step::WantDurable => disk.wanted.durable = disk.committed,
                Step::WantWritten => disk.wanted.written = disk.committed,
                Step::Patch(at, len) => disk.queue_patch(at, len),
                Step::WantPatches => disk.wanted.patches = disk.patches,
                Step::Start => drop(disk.start_one()),
                Step::Complete(pick, short) => disk.complete_write(pick, short),
                Step::Flushed(lie) => disk.complete_flush(lie),
                Step::FlushLost => disk.lose_flush(),
                Step::Patched(short) => disk.complete_patch(short),
                Step::Refused(pick, taken) => disk.refuse_write(pick, taken),
                Step::PatchRefused => disk.refuse_patch(),
            }
            disk.check();
        }
        disk.run_dry();
    }
}

fn plan(dsync: bool, link: bool) -> Plan {
    Plan::new(GEOMETRY, Forms { dsync, link }, 0, 4)
}

fn want(durable: u64) -> Wanted {
    Wanted { durable, ..Wanted::default() }
}

#[test]
fn nothing_wanted_seals_nothing() {
    assert_eq!(plan(true, true).next_write(63, &want(0)), None);
    assert_eq!(plan(true, true).fence_due(&want(0)), None);
}

#[test]
fn a_write_that_is_all_that_is_dirty_carries_its_fence() {
    let mut plan = plan(true, true);
    let write = plan.next_write(40, &want(20)).unwrap();
    let whole = Write { from: 0, to: 40, bounce: false, fence: WriteFence::None };
    // 40 is not a block's end and more than the bounce holds: body first, without a fence.
    assert_eq!(write, Write { to: 32, fence: WriteFence::Dsync, ..whole });
    plan.write_started(write);
    plan.write_completed(0);
    assert_eq!(plan.durable(), 32);
    assert_eq!(plan.fence_due(&want(20)), None);
}

#[test]
fn a_refused_write_holds_back_new_ones_and_not_the_fence_over_what_is_there() {
    let mut plan = plan(false, true);
    let first = plan.next_write(200, &want(0)).unwrap();
    plan.write_started(first);
    let second = plan.next_write(200, &want(0)).unwrap();
    plan.write_started(second);
    plan.write_completed(first.from);
    plan.write_refused(second.from, 96);
    assert!(plan.is_held());
    assert_eq!(plan.written(), 96, "what it has taken counts");
    assert_eq!(plan.next_write(200, &want(200)), None);
    let covers = plan.fence_due(&want(200)).unwrap();
    assert_eq!(covers.position, 96, "whoever waits for less is not kept waiting");
    plan.flush_started(covers);
    plan.flush_completed();
    assert_eq!((plan.durable(), plan.fence_due(&want(200))), (96, None));
    plan.write_completed(second.from);
    assert!(!plan.is_held() && plan.next_write(200, &want(200)).is_some());
}

#[test]
fn after_a_refused_write_with_its_own_fence_no_last_fence_is_offered() {
    for (dsync, offered) in [(true, false), (false, true)] {
        let mut plan = plan(dsync, false);
        let first = plan.next_write(64, &want(0)).unwrap();
        plan.write_started(first);
        plan.write_completed(first.from);
        if dsync {
            let covers = plan.fence_due(&want(64)).unwrap();
            plan.flush_started(covers);
            plan.flush_completed();
        }
        let second = plan.next_write(128, &want(128)).unwrap();
        assert_eq!(second.fence == WriteFence::Dsync, dsync);
        plan.write_started(second);
        plan.write_refused(second.from, 96);
        assert_eq!(plan.last_fence().map(|covers| covers.position), offered.then_some(96));
    }
}

#[test]
fn a_gap_is_written_at_once_and_durable_with_the_next_fence() {
    let mut plan = plan(true, false);
    let wanted = Wanted { written: 20, ..want(0) };
    let write = plan.next_write(20, &wanted).unwrap();
    plan.write_started(write);
    assert!(!plan.is_through(20), "it is in flight");
    plan.write_completed(write.from);
    plan.patched_memory(17, 19);
    assert!(!plan.is_through(20), "the patched tail goes out once more");
    let write = plan.next_write(20, &wanted).unwrap();
    plan.write_started(write);
    plan.write_completed(write.from);
    assert!(plan.is_through(20) && !plan.is_through(21));
    plan.flush_started(plan.fence_due(&want(20)).unwrap());
    plan.flush_completed();

    plan.left_gap(1000);
    assert_eq!((plan.submitted(), plan.written(), plan.durable()), (1000, 1000, 20));
    assert_eq!((plan.in_use(), plan.floor()), (992, 992), "from its block on memory is needed");
    // The length is metadata of its own: no write's own fence is taken for enough.
    let write = plan.next_write(1010, &want(1010)).unwrap();
    assert_eq!((write.from, write.to, write.fence), (992, 1010, WriteFence::None));
    assert_eq!(plan.fence_due(&want(1000)).unwrap().position, 1000);
}

#[test]
fn a_fence_waits_for_every_covered_write_and_is_not_shared_with_later_ones() {
    let mut plan = plan(true, true);
    let wanted = want(70);
    let first = plan.next_write(70, &wanted).unwrap();
    assert_eq!((first.from, first.to, first.fence), (0, 64, WriteFence::None));
    plan.write_started(first);
    let second = plan.next_write(70, &wanted).unwrap();
    assert_eq!((second.from, second.to, second.fence), (64, 70, WriteFence::None));
    plan.write_started(second);
    plan.write_completed(64);
    assert_eq!(plan.fence_due(&wanted), None);
    plan.write_completed(0);
    let covers = plan.fence_due(&wanted).unwrap();
    assert_eq!(covers, Covers { position: 70, patches: 0 });
    plan.flush_started(covers);
    // Rule 5: who asks now shares the next fence.
    assert_eq!(plan.next_write(80, &want(80)), None);
    plan.flush_completed();
    assert_eq!(plan.durable(), 70);
    let next = plan.next_write(90, &want(80)).unwrap();
    assert_eq!((next.from, next.to, next.fence), (64, 90, WriteFence::Dsync));
}
