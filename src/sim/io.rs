//! The simulated backend: completions in any order, and everything that can go wrong with them.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::disk::{Asked, Computer, Medium, SECTOR, fails_at};
use crate::backend::{
    Abilities, Backend, Bell, Completion, FileId, Inline, Io, Op, Places, Token, Wake,
};
use crate::buffers::{Region, zeros};
use crate::canary::Canary;
use crate::file::Handle;
use crate::sync::{Instant, Mutex, MutexGuard, ignore_poison, thread};

/// Who carries out operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Whoever calls: one thread does everything, so that a seed decides all.
    InCalls,
    /// A device: a thread of its own, which has all the time in the world.
    Device,
    /// Each call, before it returns.
    Blocking,
}

/// A wait for longer is none for another try.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct SimulatedIo {
    began: Instant,
    computer: Computer,
    kernel: Kernel,
    files: Places<u64>,
    depth: usize,
    queue: Arc<Mutex<Queue>>,
    bell: Arc<Bell>,
}

impl SimulatedIo {
    pub(super) fn new(computer: Computer, kernel: Kernel, depth: usize) -> Self {
        let (queue, bell) = (Arc::default(), Arc::default());
        Self {
            began: Instant::now(),
            computer,
            kernel,
            files: Places::default(),
            depth,
            queue,
            bell,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        ignore_poison(self.queue.lock())
    }

    /// One operation that can end does; returns whether there was one.
    fn complete_one(&self) -> bool {
        self.queue().complete_one(&mut self.computer.medium())
    }
}

/// The way to one file beside the backend. Whoever takes it may meet any other operation there, but
/// none of this writer's.
#[derive(Debug)]
struct Beside {
    computer: Computer,
    file: u64,
}

impl Inline for Beside {
    fn carry_out(&self, op: Op) -> io::Result<usize> {
        let mut queue = Queue::default();
        queue.submit(&mut self.computer.medium(), self.file, 0, unlinked(op));
        loop {
            let ticket = self.computer.stirred().ticket();
            let mut medium = self.computer.medium();
            if !medium.is_stalled() {
                assert!(queue.complete_one(&mut medium), "it is not linked to anything");
                return queue.reap().expect("it has completed").result;
            }
            drop(medium);
            self.computer.stirred().sleep(ticket, None);
        }
    }
}

fn unlinked(op: Op) -> Op {
    match op {
        Op::Write { at, region, dsync, .. } => Op::Write { at, region, dsync, link: false },
        Op::Zeros { .. } | Op::Flush => op,
    }
}

/// What one backend has submitted and not yet reaped.
#[derive(Debug, Default)]
struct Queue {
    flights: Vec<Flight>,
    done: VecDeque<Completion>,
    submitted: u64,
    /// The backend is gone: nobody reaps any more.
    abandoned: bool,
}

#[derive(Debug)]
struct Flight {
    order: u64,
    token: Token,
    file: u64,
    work: Work,
    /// It starts when that one has completed at full length.
    after: Option<u64>,
}

#[derive(Debug)]
enum Work {
    Write {
        number: u64,
        at: u64,
        region: Region,
        bytes: Vec<u8>,
        dsync: bool,
        link: bool,
        /// Ahead of the data: nobody has to hear that there is no room for them.
        zeros: bool,
    },
    /// What had completed when it was submitted, or started behind its link.
    Flush { covered: Option<Vec<u64>> },
}

impl Queue {
    /// Operations that have not been reaped.
    fn len(&self) -> usize {
        self.flights.len() + self.done.len()
    }

    fn in_flight(&self) -> usize {
        self.flights.len()
    }

    fn in_flight_of(&self, file: u64) -> usize {
        self.flights.iter().filter(|flight| flight.file == file).count()
    }

    fn has_completions(&self) -> bool {
        !self.done.is_empty()
    }

    fn reap(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }

    fn submit(&mut self, medium: &mut Medium, file: u64, token: Token, op: Op) {
        // The last operation may be linked to this one.
        let after = self.flights.last().and_then(|last| match last.work {
            Work::Write { link: true, .. } if last.order == self.submitted => Some(last.order),
            _ => None,
        });
        self.submitted += 1;
        let work = match op {
            Op::Write { at, region, dsync, link } => {
                let dsync = dsync && !Canary::flushes_nothing();
                let (number, bytes) = self.begin_write(medium, file, at, region);
                Work::Write { number, at, region, bytes, dsync, link, zeros: false }
            }
            Op::Zeros { at, len } => {
                let address = zeros(len).as_ptr().cast_mut(); // nobody writes there
                let region = Region { address, len, index: 0 };
                let (number, bytes) = self.begin_write(medium, file, at, region);
                let (dsync, link, zeros) = (false, false, true);
                Work::Write { number, at, region, bytes, dsync, link, zeros }
            }
            Op::Flush => Work::Flush { covered: after.is_none().then(|| medium.covered(file)) },
        };
        medium.in_flight += 1;
        self.flights.push(Flight { order: self.submitted, token, file, work, after });
    }

    fn begin_write(
        &self,
        medium: &mut Medium,
        file: u64,
        at: u64,
        region: Region,
    ) -> (u64, Vec<u8>) {
        self.check(file, at, region.len, medium.block);
        let len = medium.file(file).current.len() as u64;
        assert!(medium.block > 1 || at <= len, "a write at {at} behind the end of a file of {len}");
        let bytes = bytes_of(region);
        (medium.begin_write(file, at, &bytes), bytes)
    }

    /// One operation that can end does; returns whether there was one.
    fn complete_one(&mut self, medium: &mut Medium) -> bool {
        let ready: Vec<usize> =
            (0..self.flights.len()).filter(|index| self.flights[*index].after.is_none()).collect();
        let Some(index) = medium.random.choice(ready) else { return false };
        let before = self.flights.len();
        let flight = self.flights.remove(index);
        let (result, whole) = perform(medium, &flight);
        self.done.push_back(Completion { token: flight.token, result });
        self.release(flight.order, whole, medium);
        medium.in_flight -= before - self.flights.len();
        true
    }

    /// What was linked behind an operation starts now, or never.
    fn release(&mut self, order: u64, whole: bool, medium: &mut Medium) {
        let Some(index) = self.flights.iter().position(|flight| flight.after == Some(order)) else {
            return;
        };
        if whole {
            let flight = &mut self.flights[index];
            flight.after = None;
            if let Work::Flush { covered } = &mut flight.work {
                *covered = Some(medium.covered(flight.file));
            }
            return;
        }
        let cancelled = self.flights.remove(index);
        if let Work::Write { number, .. } = cancelled.work {
            medium.cancel_write(cancelled.file, number);
        }
        let result = Err(io::Error::from_raw_os_error(libc::ECANCELED));
        self.done.push_back(Completion { token: cancelled.token, result });
        self.release(cancelled.order, false, medium);
    }

    /// Two writes in flight never share a block, and are aligned as the file asks.
    fn check(&self, file: u64, from: u64, len: usize, block: u64) {
        let aligned = from.is_multiple_of(block) && (len as u64).is_multiple_of(block);
        assert!(aligned, "a write of {len} bytes at {from} is not aligned to {block}");
        let (first, last) = (from / block, (from + len as u64).div_ceil(block));
        for flight in self.flights.iter().filter(|flight| flight.file == file) {
            if let Work::Write { at, bytes, .. } = &flight.work {
                let end = (at + bytes.len() as u64).div_ceil(block);
                assert!(last <= at / block || end <= first, "two writes in flight share a block");
            }
        }
    }
}

fn bytes_of(region: Region) -> Vec<u8> {
    // SAFETY: the driver keeps what it has submitted until the completion.
    unsafe { std::slice::from_raw_parts(region.address, region.len) }.to_vec()
}

/// Ends an operation; says whether what is linked to it may start.
fn perform(medium: &mut Medium, flight: &Flight) -> (io::Result<usize>, bool) {
    let file = flight.file;
    match &flight.work {
        Work::Flush { covered } => {
            let mut covered = covered.as_deref().unwrap_or_default();
            if Canary::flushes_nothing() {
                covered = &[];
            }
            (medium.end_flush(file, covered).map(|()| 0), true)
        }
        Work::Write { number, at, region, bytes, dsync, zeros, .. } => {
            assert!(bytes_of(*region) == *bytes, "a buffer has changed in flight");
            let fate = fate(medium, file, *at, bytes.len());
            let taken = match &fate {
                Ok(taken) => *taken,
                // Nothing was begun.
                Err(error)
                    if error.kind() == io::ErrorKind::Interrupted
                        || error.kind() == io::ErrorKind::WouldBlock =>
                {
                    medium.cancel_write(file, *number);
                    return (fate, false);
                }
                // A refused write behind the end leaves the file as long as it was, and what it may
                // have brought there is cut off by the file system (ext4, xfs).
                Err(error) if *zeros && error.raw_os_error() == Some(libc::ENOSPC) => {
                    medium.cancel_write(file, *number);
                    return (fate, false);
                }
                // What a failed write leaves behind stays possible for ever.
                Err(error) => {
                    let code = error.raw_os_error().unwrap_or_default();
                    return (Err(medium.refuse(file, Asked::Write, code)), false);
                }
            };
            let whole = taken == bytes.len();
            medium.end_write(file, *number, taken, *dsync && whole);
            (fate, whole)
        }
    }
}

/// What becomes of a write.
fn fate(medium: &mut Medium, file: u64, at: u64, len: usize) -> io::Result<usize> {
    let code = |code| Err(io::Error::from_raw_os_error(code));
    medium.writes_seen += 1;
    let (faults, seen) = (medium.faults, medium.writes_seen);
    if let Some(error) = fails_at(faults.failing_write, seen) {
        return code(error);
    }
    if let Some(room) = medium.room(file, at as usize + len) {
        // Whole blocks, as direct I/O has it.
        let block = medium.block as usize;
        return match room.saturating_sub(at as usize) / block * block {
            0 => {
                medium.lacked_space();
                code(libc::ENOSPC)
            }
            taken => Ok(taken),
        };
    }
    if medium.random.u8(..) < faults.interrupted {
        return code(if medium.random.bool() { libc::EINTR } else { libc::EAGAIN });
    }
    if medium.random.u8(..) < faults.meagre {
        let step = SECTOR.max(medium.block as usize);
        let end = (at as usize / step + 1) * step;
        let taken = if medium.random.u8(..4) == 0 { 0 } else { end - at as usize };
        return Ok(taken.min(len));
    }
    if len > 1 && medium.random.u8(..) < faults.short {
        return Ok(short(medium, file, at as usize, len));
    }
    Ok(len)
}

/// Any byte behind the end of the file, where a limit may cut; before it only the edge of a sector.
/// At least a block: a write that takes nothing is an error to the driver.
fn short(medium: &mut Medium, file: u64, at: usize, len: usize) -> usize {
    let least = medium.block as usize;
    if len <= least {
        return len;
    }
    let end = at + medium.random.usize(least..len);
    if end >= medium.file(file).current.len() {
        return end - at;
    }
    match (end / SECTOR * SECTOR).saturating_sub(at) {
        0 => len,
        taken => taken,
    }
}

/// Carries out what is submitted, one after another in any order, until the backend is gone and
/// nothing is left: a kernel goes on with what it has, whoever has let go of the memory.
fn device(computer: &Computer, queue: &Mutex<Queue>, bell: &Bell) {
    loop {
        let ticket = computer.stirred().ticket();
        let (moved, over) = {
            let mut queue = ignore_poison(queue.lock());
            let mut medium = computer.medium();
            let moved = !medium.is_stalled() && queue.complete_one(&mut medium);
            (moved, queue.abandoned && queue.in_flight() == 0)
        };
        if moved {
            bell.wake();
        } else if over {
            return;
        } else {
            computer.stirred().sleep(ticket, None);
        }
    }
}

impl Io for SimulatedIo {
    fn kind(&self) -> Backend {
        Backend::Sync
    }

    fn abilities(&self) -> Abilities {
        let blocking = self.kernel == Kernel::Blocking;
        Abilities { blocking, dsync: true, link: !blocking, cancels: !blocking }
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.kernel == Kernel::Device {
            let (computer, bell) = (self.computer.clone(), self.bell.clone());
            let queue = self.queue.clone();
            thread::Builder::new()
                .name("device".into())
                .spawn(move || device(&computer, &queue, &bell))?;
        }
        Ok(())
    }

    fn attach(&mut self, file: &Arc<dyn Handle>, _memory: &[Region]) -> io::Result<FileId> {
        Ok(self.files.add(file.number()))
    }

    fn detach(&mut self, file: FileId) {
        let file = self.files.take(file).expect("attached before");
        assert_eq!(self.queue().in_flight_of(file), 0, "a file let go beside operations in flight");
    }

    fn inline(&self, file: FileId) -> Option<Arc<dyn Inline>> {
        let file = *self.files.of(file);
        Some(Arc::new(Beside { computer: self.computer.clone(), file }))
    }

    fn room(&mut self) -> usize {
        self.depth - self.queue().len()
    }

    fn submit(&mut self, file: FileId, token: Token, op: Op) {
        assert!(self.room() > 0, "more operations than there is room for");
        let file = *self.files.of(file);
        self.queue().submit(&mut self.computer.medium(), file, token, op);
        match self.kernel {
            Kernel::InCalls => {}
            Kernel::Device => self.computer.stirred().announce(),
            Kernel::Blocking => assert!(self.complete_one(), "it is not linked to anything"),
        }
    }

    fn kick(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        if self.kernel != Kernel::InCalls {
            self.bell.wait(deadline, || self.queue().has_completions());
        } else if !self.queue().has_completions() && !self.complete_one() {
            let deadline = deadline.expect("it waits, and nothing will ever complete");
            let pause = deadline.saturating_duration_since(self.now());
            assert!(pause < LONGEST_PAUSE, "it waits {pause:?}, and nothing will ever complete");
            self.computer.medium().clock += pause;
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        if self.kernel != Kernel::InCalls {
            return Instant::now();
        }
        // Whoever only looks, and never waits, has to see it go on too.
        let mut medium = self.computer.medium();
        medium.clock += Duration::from_millis(10);
        self.began + medium.clock
    }

    fn reap(&mut self) -> Option<Completion> {
        if self.kernel == Kernel::InCalls {
            // Completions come while other things are done, not only when somebody waits.
            let by_itself = self.computer.medium().random.u8(..4) == 0;
            if by_itself && !self.queue().has_completions() {
                self.complete_one();
            }
        }
        self.queue().reap()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.bell.clone()
    }

    fn read(&mut self, file: FileId, at: u64, region: Region) -> io::Result<usize> {
        // SAFETY: the driver alone touches the memory that it asks to be filled, and it is initialised.
        let bytes = unsafe { std::slice::from_raw_parts_mut(region.address, region.len) };
        self.computer.medium().read(*self.files.of(file), bytes, at)
    }

    fn free_space(&mut self, _: FileId) -> Option<u64> {
        let mut medium = self.computer.medium();
        let is_known = medium.random.bool();
        is_known.then(|| medium.space().0)
    }

    fn set_len(&mut self, file: FileId, len: u64) -> io::Result<()> {
        let file = *self.files.of(file);
        assert_eq!(self.queue().in_flight_of(file), 0, "a cut beside operations in flight");
        self.computer.medium().cut_padding(file, len)
    }

    fn lengthen(&mut self, file: FileId, len: u64) -> io::Result<()> {
        let file = *self.files.of(file);
        assert_eq!(self.queue().in_flight_of(file), 0, "a gap beside operations in flight");
        self.computer.medium().lengthen(file, len)
    }
}

impl Drop for SimulatedIo {
    /// Invariant 8, where no device is left to find out.
    fn drop(&mut self) {
        let mut queue = self.queue();
        queue.abandoned = true;
        let left = queue.in_flight();
        drop(queue);
        self.computer.stirred().announce();
        if self.kernel != Kernel::Device && !std::thread::panicking() {
            assert_eq!(left, 0, "operations in flight when their backend is dropped");
        }
    }
}
