//! The driver on a disk of a few lines that does what a script says: interrupted and short writes,
//! failures, cancelled flushes. What a real kernel seldom does on demand.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::backend::{Abilities, Backend, Completion, FileId, Op, Token, Wake};
use crate::buffers::{Memory, Region, zeros};
use crate::error::Error;
use crate::file::Handle;
use crate::options::DiskFull;

const BUFFER: usize = 8192;

/// What becomes of the next operation of the kind.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Fine,
    /// Only so many bytes are taken; a linked flush is cancelled.
    Short(usize),
    Error(i32),
}

#[derive(Debug, Default)]
struct Disk {
    /// What the clock has gone on by: it goes to a deadline when somebody waits for it.
    clock: Duration,
    bytes: Vec<u8>,
    writes: VecDeque<Fate>,
    flushes: VecDeque<Fate>,
    flushes_seen: usize,
    reads_seen: usize,
    writes_seen: usize,
    /// What becomes of every write, for ever.
    stuck: Option<Fate>,
    /// Of those ahead of the data.
    zeros: VecDeque<Fate>,
    zeros_seen: Vec<(u64, usize)>,
}

#[derive(Debug)]
struct ScriptedIo {
    began: Instant,
    disk: Arc<Mutex<Disk>>,
    done: VecDeque<Completion>,
    link_broken: bool,
    blocking: bool,
    never_cancels: bool,
}

impl Default for ScriptedIo {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            disk: Arc::default(),
            done: VecDeque::new(),
            link_broken: false,
            blocking: false,
            never_cancels: false,
        }
    }
}

#[derive(Debug)]
struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

impl ScriptedIo {
    fn perform(&mut self, op: Op) -> io::Result<usize> {
        let mut disk = self.disk.lock().unwrap();
        match op {
            Op::Zeros { at, len } => {
                let size = disk.bytes.len().max(at as usize + len);
                let taken = match disk.zeros.pop_front().unwrap_or(Fate::Fine) {
                    Fate::Fine => len,
                    Fate::Short(taken) => taken.min(len),
                    Fate::Error(code) => return Err(io::Error::from_raw_os_error(code)),
                };
                disk.zeros_seen.push((at, len));
                disk.bytes.resize(size, 0);
                disk.bytes[at as usize..][..taken].copy_from_slice(&zeros(len)[..taken]);
                Ok(taken)
            }
            Op::Write { at, region, link, .. } => {
                disk.writes_seen += 1;
                let stuck = disk.stuck;
                let fate = stuck.or_else(|| disk.writes.pop_front()).unwrap_or(Fate::Fine);
                let len = match fate {
                    Fate::Fine => region.len,
                    Fate::Short(len) => len.min(region.len),
                    Fate::Error(code) => {
                        self.link_broken = link;
                        return Err(io::Error::from_raw_os_error(code));
                    }
                };
                self.link_broken = link && len < region.len;
                // SAFETY: the driver keeps the region until the completion.
                let bytes = unsafe { std::slice::from_raw_parts(region.address, len) };
                let end = at as usize + len;
                let size = disk.bytes.len().max(end);
                disk.bytes.resize(size, 0);
                disk.bytes[at as usize..end].copy_from_slice(bytes);
                Ok(len)
            }
            Op::Flush if std::mem::take(&mut self.link_broken) => {
                Err(io::Error::from_raw_os_error(libc::ECANCELED))
            }
            Op::Flush => {
                disk.flushes_seen += 1;
                match disk.flushes.pop_front().unwrap_or(Fate::Fine) {
                    Fate::Error(code) => Err(io::Error::from_raw_os_error(code)),
                    _ => Ok(0),
                }
            }
        }
    }
}

impl Io for ScriptedIo {
    fn kind(&self) -> Backend {
        Backend::Sync
    }

    fn abilities(&self) -> Abilities {
        Abilities { blocking: self.blocking, dsync: true, link: true, cancels: !self.never_cancels }
    }

    fn attach(&mut self, _file: &Arc<dyn Handle>, _memory: &[Region]) -> io::Result<FileId> {
        Ok(FileId(0))
    }

    fn detach(&mut self, _: FileId) {}

    fn room(&mut self) -> usize {
        8
    }

    fn submit(&mut self, _file: FileId, token: Token, op: Op) {
        let result = self.perform(op);
        self.done.push_back(Completion { token, result });
    }

    fn kick(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        if let (true, Some(at)) = (self.done.is_empty(), deadline) {
            let left = at.saturating_duration_since(self.now());
            self.disk.lock().unwrap().clock += left;
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        self.began + self.disk.lock().unwrap().clock
    }

    fn reap(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(Nobody)
    }

    fn read(&mut self, _file: FileId, at: u64, region: Region) -> io::Result<usize> {
        let mut disk = self.disk.lock().unwrap();
        disk.reads_seen += 1;
        let known = disk.bytes.get(at as usize..).unwrap_or_default();
        let len = known.len().min(region.len);
        // SAFETY: the driver alone touches the bounce that it asks to be filled.
        unsafe { region.address.copy_from_nonoverlapping(known.as_ptr(), len) };
        Ok(len)
    }
}

struct Rig {
    driver: Engine,
    stream: Arc<Stream>,
    disk: Arc<Mutex<Disk>>,
    model: Vec<u8>,
}

impl Rig {
    fn new(forms: Forms, block: u64) -> Self {
        Self::over(ScriptedIo::default(), forms, block, 0)
    }

    /// Over a file of `existing` bytes.
    fn over(io: ScriptedIo, forms: Forms, block: u64, existing: u64) -> Self {
        Self::with(io, forms, (block, existing), DiskFull::Fail)
    }

    fn with(io: ScriptedIo, forms: Forms, around: (u64, u64), on_disk_full: DiskFull) -> Self {
        let (block, existing) = around;
        io.disk.lock().unwrap().bytes = vec![0xaa; existing as usize];
        let disk = io.disk.clone();
        let memory = Memory::new(BUFFER, 2, 4096, 4096).unwrap();
        let mut driver = Engine::new(Box::new(io), 1);
        let path = std::path::Path::new("scripted").into();
        let stream = Arc::new(Stream::new(path, memory, (0, 0), (driver.doorbell().clone(), 0)));
        let geometry = Geometry { block, buffer: BUFFER as u64, bounce: Memory::BOUNCE as u64 };
        let plan = Plan::new(geometry, forms, 0, 3);
        let (block, existing) = around;
        let around = Around { block, existing, kept: existing };
        let joined = driver.join(|_, place, _| {
            let lane = Lane::new(place, stream.clone(), FileId(0), plan, around, 3);
            Ok::<_, Infallible>(lane.on_disk_full(on_disk_full))
        });
        assert_eq!(joined, Ok(0));
        Self { driver, stream, disk, model: Vec::new() }
    }

    fn lane(&self) -> &Lane {
        self.driver.lanes().next().unwrap()
    }

    fn advance(&mut self) -> bool {
        let Engine { io, lanes, .. } = &mut self.driver;
        lanes[0].as_mut().unwrap().lane.advance(&mut **io)
    }

    fn push(&mut self, len: usize) -> &mut Self {
        let from = self.model.len() as u64;
        let bytes: Vec<u8> = (from..from + len as u64).map(|at| (at % 249) as u8 + 1).collect();
        // SAFETY: the only producer, and there is room.
        unsafe { self.stream.memory.copy_in(from, &bytes) };
        self.model.extend(bytes);
        self.stream.sequencer.commit_exclusive(self.model.len() as u64);
        self
    }

    fn ask(&mut self) {
        self.stream.want_durable(self.model.len() as u64, self.stream.patches_queued());
        self.turn();
    }

    /// Until there is nothing more to do now.
    fn turn(&mut self) {
        while self.driver.turn() {}
    }

    /// Waits for the clock, so often at the most.
    fn sleep(&mut self, times: usize) {
        for _ in 0..times {
            if self.lane().pauses_until().is_none() {
                break;
            }
            self.driver.wait(None);
            self.turn();
        }
    }

    fn fence(&mut self) {
        self.ask();
        self.sleep(10_000);
    }

    fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    fn assert_durable(&self) {
        assert_eq!(self.stream.durable(), self.model.len() as u64);
        assert_eq!(self.disk.lock().unwrap().bytes[..self.model.len()], self.model);
    }
}

const EVERY_FORM: [Forms; 3] = [
    Forms { dsync: true, link: false },
    Forms { dsync: false, link: true },
    Forms { dsync: false, link: false },
];

fn each_rig(test: impl Fn(Rig)) {
    for forms in EVERY_FORM {
        for block in [1, 4096] {
            test(Rig::new(forms, block));
        }
    }
}

#[test]
fn what_is_interrupted_goes_on() {
    for code in [libc::EINTR, libc::EAGAIN, libc::ENOMEM, libc::ECANCELED] {
        each_rig(|mut rig| {
            rig.disk.lock().unwrap().writes = [Fate::Error(code), Fate::Error(code)].into();
            rig.push(5000).fence();
            rig.assert_durable();
            assert_eq!(rig.stream.counters.resubmitted.get(), 2);
        });
    }
}

#[test]
fn a_short_write_goes_on_and_its_fence_is_asked_again() {
    each_rig(|mut rig| {
        rig.disk.lock().unwrap().writes = [Fate::Short(4096)].into();
        rig.push(8000).fence();
        rig.assert_durable();
        assert_eq!(rig.stream.counters.resubmitted.get(), 1);
        assert!(rig.disk.lock().unwrap().flushes_seen >= 1, "the rest carries no fence");
    });
}

#[test]
fn a_write_that_takes_nothing_or_next_to_nothing_is_an_error_in_the_end() {
    for taken in [0, 1, 511] {
        each_rig(|mut rig| {
            rig.disk().stuck = Some(Fate::Short(taken));
            while rig.stream.sequencer.room(rig.model.len() as u64, BUFFER as u64).is_ok() {
                rig.push(BUFFER);
            }
            rig.fence();
            // A buffer is at its end before the driver has lost its patience, or it isn't.
            if taken < 511 || rig.stream.failure().is_some() {
                let error = rig.stream.failure().unwrap();
                assert_eq!(error.kind(), io::ErrorKind::WriteZero);
                assert_eq!(rig.stream.durable(), 0);
            }
            assert!(rig.disk().writes_seen < 3000);
        });
    }
}

#[test]
fn a_write_that_takes_a_block_at_a_time_comes_to_its_end() {
    for taken in [4096, 5000] {
        each_rig(|mut rig| {
            rig.disk().stuck = Some(Fate::Short(taken));
            rig.push(BUFFER).push(5000).fence();
            rig.assert_durable();
        });
    }
}

#[test]
fn a_flush_that_never_ran_is_asked_again() {
    for code in [libc::ECANCELED, libc::EFAULT] {
        let mut rig = Rig::new(EVERY_FORM[2], 1);
        rig.disk.lock().unwrap().flushes = [Fate::Error(code)].into();
        rig.push(5000).fence();
        rig.assert_durable();
        assert_eq!(rig.disk.lock().unwrap().flushes_seen, 2);
    }
}

/// A system call is not dropped before it began: the error is the file system's, and the next flush
/// would say 0.
#[test]
fn a_flush_by_call_that_says_cancelled_has_failed() {
    for code in [libc::ECANCELED, libc::EFAULT] {
        let io = ScriptedIo { never_cancels: true, ..ScriptedIo::default() };
        let mut rig = Rig::over(io, EVERY_FORM[2], 1, 0);
        rig.disk.lock().unwrap().flushes = [Fate::Error(code)].into();
        rig.push(5000).fence();
        assert_eq!(rig.stream.durable(), 0);
        assert_eq!(rig.stream.failure().unwrap().raw_os_error(), Some(code));
        assert_eq!(rig.disk.lock().unwrap().flushes_seen, 1);
    }
}

#[test]
fn a_flush_that_failed_is_never_asked_again() {
    for forms in [EVERY_FORM[1], EVERY_FORM[2]] {
        let mut rig = Rig::new(forms, 1);
        rig.push(100).fence();
        rig.assert_durable();
        rig.disk.lock().unwrap().flushes = [Fate::Error(libc::EIO)].into();
        rig.push(5000).fence();
        for _ in 0..3 {
            rig.fence(); // who asks again hears the same, and the disk hears nothing
        }
        assert_eq!(rig.disk.lock().unwrap().flushes_seen, 2);
        assert_eq!(rig.stream.durable(), 100);
        let error = rig.stream.failure().unwrap();
        assert!(matches!(error, Error::Io { operation: Operation::Flush, .. }));
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
    }
}

#[test]
fn after_a_failed_write_nothing_is_written_or_claimed() {
    each_rig(|mut rig| {
        rig.push(4096).fence();
        rig.assert_durable();
        let before = rig.disk.lock().unwrap().bytes.clone();
        rig.disk.lock().unwrap().writes = [Fate::Error(libc::EIO)].into();
        rig.push(4096).fence();
        rig.push(3000).fence();
        assert_eq!(rig.stream.positions().durable, 4096);
        assert_eq!(rig.disk.lock().unwrap().bytes, before);
        assert!(rig.stream.sequencer.room(0, 1).is_err());
    });
}

#[test]
fn a_patch_survives_an_interruption_and_a_short_write() {
    for fate in [Fate::Error(libc::EINTR), Fate::Short(4096)] {
        let mut rig = Rig::new(EVERY_FORM[0], 4096);
        rig.push(BUFFER).fence();
        rig.disk.lock().unwrap().writes = [fate].into();
        let bytes = [0xee; 200];
        rig.model[4000..4200].copy_from_slice(&bytes); // across two blocks
        rig.stream.try_queue_patch(4000, &bytes).unwrap();
        rig.fence();
        rig.assert_durable();
        assert_eq!(rig.stream.patches_durable(), 1);
    }
}

/// Invariant 7: what never gets anywhere is no reason to wait for ever.
#[test]
fn what_is_interrupted_for_ever_fails_in_the_end() {
    for code in [libc::EINTR, libc::EAGAIN, libc::ENOMEM, libc::ECANCELED] {
        each_rig(|mut rig| {
            rig.disk().stuck = Some(Fate::Error(code));
            rig.push(5000).fence();
            let error = rig.stream.failure().unwrap();
            assert_eq!(error.raw_os_error(), Some(code));
            // `write_all`, and loops that poll, would ask for ever.
            let asks_again = [io::ErrorKind::Interrupted, io::ErrorKind::WouldBlock];
            assert!(!asks_again.contains(&error.kind()));
            assert!(!asks_again.contains(&io::Error::from(error.clone()).kind()));
            assert_eq!(rig.stream.durable(), 0);
        });
    }
    let mut rig = Rig::new(EVERY_FORM[2], 1);
    let never = std::iter::repeat_n(Fate::Error(libc::ECANCELED), 2 * 1000);
    rig.disk.lock().unwrap().flushes = never.collect();
    rig.push(5000).fence();
    assert_eq!(rig.stream.failure().unwrap().raw_os_error(), Some(libc::ECANCELED));
}

/// A backend that does one thing at a time, and a producer that always has a buffer ready.
#[test]
fn a_producer_that_keeps_up_does_not_starve_a_fence() {
    for forms in EVERY_FORM {
        let io = ScriptedIo { blocking: true, ..ScriptedIo::default() };
        let mut rig = Rig::over(io, forms, 4096, 0);
        rig.push(BUFFER);
        let goal = rig.model.len() as u64;
        rig.stream.want_durable(goal, 0);
        // After every operation the producer fills what has become free.
        for _ in 0..8 {
            let advanced = rig.advance();
            assert!(advanced || rig.stream.durable() >= goal);
            rig.driver.reap();
            let at = rig.model.len() as u64;
            while rig.stream.sequencer.room(rig.model.len() as u64, BUFFER as u64).is_ok() {
                rig.push(BUFFER);
            }
            assert!(rig.model.len() as u64 > at || rig.stream.durable() >= goal);
        }
        assert!(rig.stream.durable() >= goal, "{forms:?}: the fence never came");
    }
}

/// The same, and a patcher that always has a patch ready.
#[test]
fn a_patcher_that_keeps_up_starves_nobody() {
    for forms in EVERY_FORM {
        let io = ScriptedIo { blocking: true, ..ScriptedIo::default() };
        let mut rig = Rig::over(io, forms, 4096, 0);
        rig.push(100).fence();
        rig.push(BUFFER);
        rig.stream.want_durable(rig.model.len() as u64, 0);
        for _ in 0..20 {
            while rig.stream.try_queue_patch(0, &[7; 10]).is_some() {}
            rig.advance();
            rig.driver.reap();
        }
        assert!(rig.stream.patches_queued() > 8, "{forms:?}: no patch was taken");
        assert_eq!(rig.stream.durable(), rig.model.len() as u64, "{forms:?}");
    }
}

/// Where one operation follows another without end, whoever waits for one of them is told, and
/// whoever turns gets away.
#[test]
fn a_driver_that_is_never_done_tells_those_who_wait_and_lets_go() {
    let mut rig = Rig::new(EVERY_FORM[0], 4096);
    rig.push(BUFFER);
    let ticket = rig.stream.space.ticket();
    let rounds = std::cell::Cell::new(0);
    let stream = rig.stream.clone();
    rig.driver.turn_until(|| {
        rounds.set(rounds.get() + 1);
        // The producer fills again what has been written.
        let at = stream.sequencer.committed();
        if stream.sequencer.room(at, BUFFER as u64).is_ok() {
            stream.sequencer.commit_exclusive(at + BUFFER as u64);
        }
        assert!(rounds.get() < 1000, "a turn that never ends");
        false
    });
    assert!(rounds.get() > 2, "there was always more to do");
    assert!(stream.space.ticket() != ticket, "nobody has been told of room");
}

#[test]
fn a_tail_that_grows_reads_what_lies_behind_it_once() {
    let mut rig = Rig::over(ScriptedIo::default(), EVERY_FORM[0], 4096, 3 * 4096);
    for _ in 0..20 {
        rig.push(300).fence();
        rig.assert_durable();
    }
    let disk = rig.disk.lock().unwrap();
    assert_eq!(disk.bytes.len(), 3 * 4096);
    assert!(disk.bytes[rig.model.len()..].iter().all(|byte| *byte == 0xaa), "what lay behind");
    // Of the first block, by the write that crosses into the second, and by the one after it.
    assert_eq!(disk.reads_seen, 3);
}

#[test]
fn a_patch_of_blocks_that_somebody_cut_off_is_surrounded_by_zeros() {
    let mut rig = Rig::new(EVERY_FORM[0], 4096);
    rig.push(BUFFER).fence();
    // Leaves other bytes in the block where patches are merged.
    rig.stream.try_queue_patch(0, &[0xdd; 10]).unwrap();
    rig.fence();
    rig.model[..10].fill(0xdd);
    rig.disk.lock().unwrap().bytes.truncate(4100);
    rig.stream.try_queue_patch(5000, &[0xee; 100]).unwrap();
    rig.fence();
    let mut expected = rig.model[..4100].to_vec();
    expected.resize(BUFFER, 0);
    expected[5000..5100].fill(0xee);
    assert_eq!(rig.disk.lock().unwrap().bytes, expected);
}

#[test]
fn want_of_memory_is_no_reason_to_spin() {
    each_rig(|mut rig| {
        rig.disk().stuck = Some(Fate::Error(libc::EAGAIN));
        rig.push(5000).ask();
        for _ in 0..100 {
            rig.ask();
        }
        assert_eq!(rig.disk().writes_seen, 1, "asked again before the pause was over");
        rig.sleep(10_000);
        let clock = rig.disk().clock;
        assert!(rig.stream.failure().is_some() && clock > Duration::from_secs(5), "{clock:?}");
    });
}

// ---- a full medium --------------------------------------------------------------------------------

const NO_SPACE: [i32; 3] = [libc::ENOSPC, libc::EDQUOT, libc::EFBIG];

/// Two buffers: what becomes of each, and what is durable in the end.
fn full_at(fates: &[Fate], durable: u64, test: impl Fn(Rig)) {
    for forms in EVERY_FORM {
        for block in [1, 4096] {
            let mut rig = Rig::new(forms, block);
            rig.push(BUFFER).push(BUFFER);
            rig.disk().writes = fates.iter().copied().collect();
            rig.fence();
            let positions = rig.stream.positions();
            assert_eq!((positions.durable, positions.written), (durable, durable), "{forms:?}");
            test(rig);
        }
    }
}

#[test]
fn a_full_disk_ends_with_the_prefix_durable() {
    for code in NO_SPACE {
        let half = BUFFER as u64;
        let cases: [(&[Fate], u64); 4] = [
            (&[Fate::Error(code)], 0), // the other buffer is behind a gap
            (&[Fate::Fine, Fate::Error(code)], half),
            (&[Fate::Short(4096), Fate::Fine, Fate::Error(code)], 4096),
            (&[Fate::Fine, Fate::Short(4096), Fate::Error(code)], half + 4096),
        ];
        for (fates, durable) in cases {
            full_at(fates, durable, |mut rig| {
                let error = rig.stream.failure().unwrap();
                assert!(matches!(error, Error::Io { operation: Operation::Write, .. }));
                assert_eq!(error.raw_os_error(), Some(code));
                assert!(rig.stream.is_cut_short());
                let seen = rig.disk().writes_seen;
                rig.fence();
                assert_eq!(rig.disk().writes_seen, seen, "nothing is asked again");
                let durable = durable as usize;
                assert_eq!(rig.disk().bytes[..durable], rig.model[..durable]);
            });
        }
    }
}

#[test]
fn a_full_disk_whose_last_flush_fails_grants_nothing() {
    let mut rig = Rig::new(EVERY_FORM[2], 4096);
    rig.push(BUFFER).push(BUFFER);
    rig.disk().writes = [Fate::Fine, Fate::Error(libc::ENOSPC)].into();
    rig.disk().flushes = [Fate::Error(libc::EIO)].into();
    rig.fence();
    assert_eq!(rig.stream.durable(), 0);
    let error = rig.stream.failure().unwrap();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "the error that came first");
    assert!(!rig.stream.is_cut_short(), "the file is left as it is");
    assert_eq!(rig.disk().flushes_seen, 1);
}

/// Its flush may be what failed, and the next one would say 0.
#[test]
fn after_a_refused_write_with_a_fence_of_its_own_nothing_is_granted() {
    for code in NO_SPACE {
        let mut rig = Rig::new(EVERY_FORM[0], 4096);
        rig.push(100).fence();
        rig.disk().writes = [Fate::Error(code)].into();
        rig.push(100).fence();
        assert_eq!(rig.stream.durable(), 100);
        assert_eq!(rig.stream.failure().unwrap().raw_os_error(), Some(code));
        assert_eq!(rig.disk().flushes_seen, 0);
        assert!(rig.stream.is_cut_short());
    }
}

/// A file system that writes every change elsewhere.
#[test]
fn a_patch_that_finds_no_space_ends_with_the_prefix_durable() {
    for forms in EVERY_FORM {
        let mut rig = Rig::new(forms, 4096);
        rig.push(BUFFER).fence();
        rig.push(4096);
        rig.stream.want_written(rig.model.len() as u64);
        rig.driver.turn();
        rig.stream.try_queue_patch(0, &[7; 10]).unwrap();
        rig.disk().writes = [Fate::Error(libc::ENOSPC)].into();
        rig.fence();
        assert_eq!(rig.stream.durable(), rig.model.len() as u64, "{forms:?}");
        assert_eq!(rig.stream.patches_durable(), 0);
        assert_eq!(rig.stream.failure().unwrap().raw_os_error(), Some(libc::ENOSPC));
    }
}

fn each_patient_rig(test: impl Fn(Rig)) {
    for forms in &EVERY_FORM[1..] {
        for block in [1, 4096] {
            let io = ScriptedIo::default();
            test(Rig::with(io, *forms, (block, 0), DiskFull::Wait));
        }
    }
}

#[test]
fn who_waits_for_space_goes_on_with_every_byte() {
    for code in NO_SPACE {
        each_patient_rig(|mut rig| {
            rig.push(BUFFER).push(5000);
            let full = std::iter::repeat_n(Fate::Error(code), 40);
            rig.disk().writes = full.collect();
            rig.ask();
            assert!(rig.stream.is_waiting_for_space());
            let seen = rig.disk().writes_seen;
            for _ in 0..100 {
                rig.ask();
            }
            assert_eq!(rig.disk().writes_seen, seen, "asked again before the pause was over");
            rig.sleep(10_000);
            rig.assert_durable();
            assert!(!rig.stream.is_waiting_for_space());
            let clock = rig.disk().clock;
            assert!((5..30).contains(&clock.as_secs()), "{clock:?}");
            rig.push(3000).fence();
            rig.assert_durable();
        });
    }
}

/// The space that a write of many blocks needs comes a block at a time.
#[test]
fn space_that_comes_in_pieces_is_taken_in_pieces() {
    each_patient_rig(|mut rig| {
        let full = Fate::Error(libc::ENOSPC);
        rig.disk().writes = [full, full, Fate::Short(4096), full, full].into();
        rig.push(BUFFER).push(BUFFER).fence();
        rig.assert_durable();
    });
}

#[test]
fn while_it_waits_for_space_what_is_there_is_fenced() {
    each_patient_rig(|mut rig| {
        rig.push(BUFFER).push(5000);
        rig.disk().writes = [Fate::Fine].into();
        rig.stream.want_durable(BUFFER as u64, 0);
        rig.stream.want_durable(rig.model.len() as u64, 0);
        let full = std::iter::repeat_n(Fate::Error(libc::ENOSPC), 5);
        rig.disk().writes.extend(full);
        rig.driver.turn();
        assert!(rig.stream.is_waiting_for_space());
        assert_eq!(rig.stream.durable(), BUFFER as u64);
        rig.sleep(10);
        rig.assert_durable();
    });
}

#[test]
fn who_closes_waits_for_no_space() {
    each_patient_rig(|mut rig| {
        rig.disk().stuck = Some(Fate::Error(libc::ENOSPC));
        rig.push(BUFFER).ask();
        rig.sleep(100);
        assert!(rig.stream.failure().is_none());
        let seen = rig.disk().writes_seen;
        rig.stream.end_patience();
        rig.driver.turn();
        assert_eq!(rig.stream.failure().unwrap().raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(rig.disk().writes_seen, seen + 1, "one more try");
    });
}

#[test]
fn a_patch_waits_for_space_too() {
    each_patient_rig(|mut rig| {
        rig.push(BUFFER).fence();
        let bytes = [0xee; 200];
        rig.model[4000..4200].copy_from_slice(&bytes);
        rig.stream.try_queue_patch(4000, &bytes).unwrap();
        rig.disk().writes = std::iter::repeat_n(Fate::Error(libc::ENOSPC), 20).collect();
        rig.push(5000).ask();
        assert!(rig.stream.is_waiting_for_space());
        rig.sleep(10_000);
        rig.assert_durable();
        assert_eq!(rig.stream.patches_durable(), 1);
    });
}

// ---- zeros ahead ----------------------------------------------------------------------------------

const WINDOW: u64 = 256 << 10;

/// That has its habit: fences of 700 bytes.
fn going_ahead(forms: Forms, block: u64, zeros: &[Fate]) -> Rig {
    let mut rig = Rig::new(forms, block);
    rig.disk().zeros = zeros.iter().copied().collect();
    let lane = rig.driver.lanes[0].take().unwrap();
    rig.driver.lanes[0] = Some(Served { lane: lane.lane.zeros_ahead(WINDOW, 0), ..lane });
    for _ in 0..8 {
        rig.push(700).fence();
    }
    rig
}

#[test]
fn zeros_go_ahead_of_the_data_and_only_there() {
    for forms in EVERY_FORM {
        for block in [1, 4096] {
            let mut rig = going_ahead(forms, block, &[]);
            for _ in 0..200 {
                rig.push(700).fence();
                rig.assert_durable();
                let disk = rig.disk();
                assert!(disk.bytes[rig.model.len()..].iter().all(|byte| *byte == 0));
            }
            let (disk, mut end) = (rig.disk(), 0);
            assert!(disk.zeros_seen.len() >= 2);
            for (at, len) in &disk.zeros_seen {
                assert!(
                    *at >= end && at.is_multiple_of(block) && (*len as u64).is_multiple_of(block)
                );
                end = at + *len as u64;
            }
            assert_eq!(disk.bytes.len() as u64, end, "every fence found them there");
            drop(disk);
            assert_eq!(
                rig.stream.counters.zeros.get(),
                rig.disk().zeros_seen.iter().map(|it| it.1 as u64).sum()
            );
        }
    }
}

/// The next fence takes along what the file system has to record of them.
#[test]
fn the_fence_behind_zeros_is_a_flush() {
    let mut rig = going_ahead(Forms { dsync: true, link: false }, 4096, &[]);
    let before = rig.disk().flushes_seen;
    rig.push(700).fence();
    assert_eq!(rig.disk().flushes_seen, before + 1);
    rig.push(700).fence();
    assert_eq!(rig.disk().flushes_seen, before + 1, "and those behind it are as ever");
}

#[test]
fn zeros_that_find_no_space_are_given_up_and_harm_nobody() {
    for code in [libc::ENOSPC, libc::EDQUOT, libc::EFBIG, libc::EINVAL] {
        let mut rig = going_ahead(EVERY_FORM[0], 4096, &[Fate::Error(code)]);
        for _ in 0..100 {
            rig.push(700).fence();
        }
        rig.assert_durable();
        assert!(rig.disk().zeros_seen.is_empty() && rig.stream.failure().is_none());
    }
}

#[test]
fn zeros_that_pass_by_are_tried_again_later() {
    for fate in [Fate::Error(libc::EAGAIN), Fate::Error(libc::ECANCELED), Fate::Short(100)] {
        let mut rig = going_ahead(EVERY_FORM[0], 4096, &[fate, Fate::Short(9000)]);
        for _ in 0..100 {
            rig.push(700).fence();
        }
        rig.assert_durable();
        let whole = rig.disk().zeros_seen.iter().filter(|(_, len)| *len > 9000).count();
        assert!(whole >= 1 && rig.stream.failure().is_none(), "{fate:?}");
    }
}

/// The data would meet the same.
#[test]
fn a_medium_that_is_ill_under_the_zeros_fails_the_stream() {
    let rig = going_ahead(EVERY_FORM[0], 4096, &[Fate::Error(libc::EIO)]);
    assert!(rig.stream.failure().is_some());
    assert_eq!(rig.stream.durable(), rig.model.len() as u64, "what was granted stays so");
}
