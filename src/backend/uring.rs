//! Linux io_uring: registered files and buffers, many operations in flight.
//!
//! Neither IOSQE_IO_DRAIN (hangs with DEFER_TASKRUN, slow without) nor SQPOLL is used; see
//! ARCHITECTURE.md for what was measured.
#![allow(unsafe_code)]

mod bell;
mod ring;
mod tables;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{opcode, squeue, types};

use self::bell::Ear;
use self::ring::Ring;
use self::tables::{HeldOf, Tables};
use super::{Abilities, Backend, Completion, FileId, Files, Inline, Io, Op, Places, Token, Wake};
use crate::buffers::{Region, zeros};
use crate::canary::Canary;
use crate::error::Error;
use crate::file::{Handle, OsFile, free_space, os_file};
use crate::fork::Process;
use crate::options::Drive;

/// The token of the operation that waits for the doorbell.
const BELL: Token = Token::MAX;
/// The token of what asks for a worker, and of what calls something off.
const ASIDE: Token = Token::MAX - 1;
/// Operations of the ring's own: the doorbell's, and what is called off.
const ASIDES: usize = 2;
/// How long the kernel may take to start a worker: a few times 10 µs, on a busy machine more.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct UringBackend {
    /// Its mappings are not there in a child: nothing may touch it there.
    ring: Ring,
    process: Process,
    files: Places<Attached>,
    tables: Tables,
    ear: Ear,
    bell_armed: bool,
    /// Submitted and not yet reaped, the doorbell and what goes on aside left out.
    in_flight: usize,
    /// That.
    aside: usize,
    chains: Chains,
    depth: usize,
    shortfalls: Vec<String>,
    shortage: Shortage,
}

/// The kernel refuses to enter for want of memory (EAGAIN, ENOMEM): asked again after a pause, and
/// not for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shortage {
    /// In a row.
    refusals: u32,
    /// Not before that moment.
    again: Option<Instant>,
    /// Too often: the ring is not entered again.
    last: Option<i32>,
}

impl Shortage {
    /// With the pauses between them some ten seconds.
    const MOST: u32 = 110;
    const LONGEST: Duration = Duration::from_millis(100);

    fn is_one(code: i32) -> bool {
        matches!(code, libc::EAGAIN | libc::ENOMEM)
    }

    /// How long to wait until the next try.
    fn left(&self, now: Instant) -> Duration {
        self.again.map_or(Duration::ZERO, |again| again.saturating_duration_since(now))
    }

    /// It has refused once more, with that error.
    fn refused(&mut self, now: Instant, code: i32) {
        self.refusals += 1;
        let pause = Duration::from_millis(1 << self.refusals.min(7)).min(Self::LONGEST);
        self.again = Some(now + pause);
        self.last = (self.refusals > Self::MOST).then_some(code);
    }

    /// An error once it may not be asked again.
    fn may_be_asked(&self) -> io::Result<()> {
        self.last.map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
    }
}

/// The most operations in flight: a ring has 32768 entries at most (IORING_MAX_ENTRIES), and no
/// device does so much at once.
const MOST: usize = 4096;
/// The fewest with which a ring is better than none: a write, a patch, a linked pair, and one more.
const FEWEST: usize = 8;

/// Writes and the flushes that are linked behind them, on their way to the kernel: a file has one such
/// pair in flight at most.
///
/// Short of memory the kernel takes the head of a chain alone and leaves the rest in the queue (it
/// submits what it has of a link when it can't have another request, io_submit_sqes in Linux
/// 6.18): what it takes next is linked to nothing. So a pair that went in two steps was none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chains {
    /// What is in the submission queue, and whether the next is linked behind it.
    queued: VecDeque<(Token, bool)>,
    /// Flushes that were taken by themselves: whatever they answer, they never ran behind their write.
    cut: Vec<Token>,
}

impl Chains {
    fn with_room(depth: usize) -> Self {
        Self { queued: VecDeque::with_capacity(depth), cut: Vec::with_capacity(depth) }
    }

    /// An entry went into the submission queue.
    fn pushed(&mut self, token: Token, link: bool) {
        self.queued.push_back((token, link));
    }

    /// The kernel has taken what it could; so many entries are left in the submission queue.
    fn taken(&mut self, left: usize) {
        let mut ends_in_a_link = false;
        while self.queued.len() > left {
            ends_in_a_link = self.queued.pop_front().is_some_and(|(_, link)| link);
        }
        if ends_in_a_link && let Some((flush, _)) = self.queued.front() {
            self.cut.push(*flush);
        }
    }

    /// Whether this completion is that of a flush which was cut off.
    fn is_cut(&mut self, token: Token) -> bool {
        let cut = self.cut.iter().position(|flush| *flush == token);
        cut.map(|at| self.cut.swap_remove(at)).is_some()
    }
}

#[derive(Debug)]
struct Attached {
    file: Arc<OsFile>,
    held: HeldOf,
}

impl Attached {
    /// What names the file in an operation.
    fn target(&self, id: FileId) -> (types::Fd, squeue::Flags) {
        match self.held.file {
            true => (types::Fd(id.0 as i32), squeue::Flags::FIXED_FILE),
            false => {
                // No number, which is refused (EBADF), where somebody else has closed it.
                let number = self.file.ours().map_or(-1, |file| file.as_raw_fd());
                (types::Fd(number), squeue::Flags::empty())
            }
        }
    }
}

impl std::fmt::Debug for UringBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UringBackend")
            .field("files", &self.files)
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

impl UringBackend {
    /// A ring for `depth` operations, or for fewer where memory is short. Fails where the kernel, a
    /// seccomp profile or the sysctl `kernel.io_uring_disabled` refuses io_uring.
    pub(crate) fn new(depth: usize, drive: Drive, files: Files) -> io::Result<Self> {
        let asked = depth.min(MOST);
        let mut depth = asked;
        let mut ring = loop {
            match Ring::new((depth + ASIDES).next_power_of_two() as u32, drive) {
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && depth > FEWEST => {
                    depth = (depth / 2).max(FEWEST);
                }
                ring => break ring?,
            }
        };
        let smaller = (depth < asked).then(|| {
            format!(
                "a ring for {asked} operations was refused, one for {depth} is used: {}",
                locked_memory()
            )
        });
        let mut ear = match ring.knows(opcode::FutexWait::CODE) {
            true => Ear::of_a_word(),
            false => Ear::of_a_line().inspect_err(|_| ring.let_go())?,
        };
        let tables = ear.file().and_then(|bell| Tables::new(&ring, files, bell));
        let tables = tables.inspect_err(|_| ring.let_go())?;
        if files == Files::Many {
            ear.is_held();
        }
        Ok(Self {
            ring,
            process: Process::this(),
            files: Places::default(),
            tables,
            ear,
            bell_armed: false,
            in_flight: 0,
            aside: 0,
            chains: Chains::with_room(depth + ASIDES),
            depth,
            shortfalls: smaller.into_iter().collect(),
            shortage: Shortage::default(),
        })
    }

    fn push(&mut self, entry: squeue::Entry, token: Token, link: bool) {
        let flags = if link { squeue::Flags::IO_LINK } else { squeue::Flags::empty() };
        let entry = entry.flags(flags).user_data(token); // beside the flags that it has
        // SAFETY: what the entry points to (a region, the doorbell) outlives the operation: the driver
        // keeps memory and files until everything has been reaped, and dropping the backend reaps
        // the doorbell.
        unsafe { self.ring.submission().push(&entry) }.expect("room() was asked before");
        self.chains.pushed(token, link);
    }

    /// Not in a child: a waker may have forked on the thread that drives.
    fn is_ours(&self) -> io::Result<()> {
        if self.process.is_gone() { Err(Error::Forked.into()) } else { Ok(()) }
    }

    fn push_aside(&mut self, entry: squeue::Entry) {
        self.push(entry, ASIDE, false);
        self.aside += 1;
    }

    fn arm_bell(&mut self) {
        if !self.bell_armed {
            let entry = self.ear.operation(self.tables.place_of_bell());
            self.push(entry, BELL, false);
            self.bell_armed = true;
        }
    }

    /// Waits for completions of the trial, for a limited time; returns their results.
    fn trials(&mut self, want: usize) -> io::Result<Vec<i32>> {
        let until = Instant::now() + PATIENCE;
        let mut results = Vec::new();
        while results.len() < want && Instant::now() < until {
            self.enter(1, Some(until))?;
            results.extend(self.ring.completion().map(|entry| entry.result()));
        }
        self.aside -= results.len();
        Ok(results)
    }

    fn enter(&mut self, want: usize, deadline: Option<Instant>) -> io::Result<()> {
        self.shortage.may_be_asked()?;
        if self.shortage.again.is_some() && !self.pause(want, deadline) {
            return Ok(());
        }
        let left = |at: Instant| at.saturating_duration_since(Instant::now());
        let limit = deadline.map(|at| left(at).min(Duration::from_secs(1 << 30)));
        let result = self.ring.enter(want, limit);
        let left = self.ring.submission().len();
        self.chains.taken(left);
        let Err(error) = result else {
            self.shortage = Shortage::default();
            return Ok(());
        };
        match error.raw_os_error() {
            // What is in the queue stays there.
            Some(code) if Shortage::is_one(code) => {
                self.shortage.refused(Instant::now(), code);
                self.shortage.may_be_asked()
            }
            // Interrupted, timed out, or completions have to be reaped first: look again.
            Some(libc::EINTR | libc::ETIME | libc::EBUSY) => Ok(()),
            _ => Err(error),
        }
    }

    /// The kernel refused a moment ago: whoever waits sleeps until it may be asked again, or to the
    /// deadline; nobody else does. Says whether it may be asked now.
    fn pause(&self, want: usize, deadline: Option<Instant>) -> bool {
        let now = Instant::now();
        let left = self.shortage.left(now);
        if left.is_zero() {
            return true;
        }
        if want > 0 {
            let limit = deadline.map_or(left, |at| at.saturating_duration_since(now));
            std::thread::sleep(left.min(limit));
        }
        false
    }
}

impl Io for UringBackend {
    fn kind(&self) -> Backend {
        Backend::Uring
    }

    fn abilities(&self) -> Abilities {
        Abilities { blocking: false, dsync: true, link: true, cancels: true }
    }

    fn shortfalls(&self) -> Vec<String> {
        self.shortfalls.iter().chain(&self.tables.refused).cloned().collect()
    }

    /// A flush needs a worker thread of the kernel's. Where a limit on threads forbids it the
    /// flush is cancelled without end, or waits for ever: so one is tried now.
    fn begin(&mut self) -> io::Result<()> {
        let nothing = opcode::Nop::new().build().flags(squeue::Flags::ASYNC);
        self.push_aside(nothing);
        match self.trials(1)?[..] {
            [0] => return self.ring.settle_on_this_thread(),
            [] => {
                self.push_aside(opcode::AsyncCancel::new(ASIDE).build());
                self.trials(2)?;
            }
            _ => {} // cancelled, since there is nobody to do it
        }
        Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            "the kernel can start no worker thread for io_uring, which flushes need: raise the \
             limit on threads, or choose the sync backend",
        ))
    }

    fn attach(&mut self, file: &Arc<dyn Handle>, memory: &[Region]) -> io::Result<FileId> {
        let file = os_file(&**file)?;
        let (id, number, bell) = (self.files.free(), file.ours()?.as_raw_fd(), self.ear.file()?);
        let held = self.tables.hold(&self.ring, id, number, bell, memory)?;
        self.ear.is_held();
        Ok(self.files.add(Attached { file, held }))
    }

    fn detach(&mut self, file: FileId) {
        if let Some(attached) = self.files.take(file) {
            self.tables.let_go(&self.ring, file, attached.held);
        }
    }

    fn inline(&self, file: FileId) -> Option<Arc<dyn Inline>> {
        Some(self.files.of(file).file.clone())
    }

    fn room(&mut self) -> usize {
        if self.process.is_gone() { 0 } else { self.depth - self.in_flight }
    }

    fn submit(&mut self, file: FileId, token: Token, op: Op) {
        let attached = self.files.of(file);
        let (target, named) = attached.target(file);
        let entry = match op {
            Op::Write { at, region, dsync, .. } => {
                let dsync = dsync && !Canary::flushes_nothing();
                let flags = if dsync { libc::RWF_DSYNC } else { 0 };
                let (address, len) = (region.address.cast_const(), region.len as u32);
                if let Some(held) = attached.held.memory {
                    opcode::WriteFixed::new(target, address, len, held.index_of(region))
                        .offset(at)
                        .rw_flags(flags)
                        .build()
                        .flags(named)
                } else {
                    let write = opcode::Write::new(target, address, len);
                    write.offset(at).rw_flags(flags).build().flags(named)
                }
            }
            Op::Zeros { at, len } => {
                let write = opcode::Write::new(target, zeros(len).as_ptr(), len as u32);
                write.offset(at).build().flags(named)
            }
            Op::Flush if Canary::flushes_nothing() => opcode::Nop::new().build(),
            Op::Flush => {
                let flags = types::FsyncFlags::DATASYNC;
                opcode::Fsync::new(target).flags(flags).build().flags(named)
            }
        };
        self.in_flight += 1;
        self.push(entry, token, matches!(op, Op::Write { link: true, .. }));
    }

    fn kick(&mut self) -> io::Result<()> {
        self.is_ours()?;
        if self.ring.submission().is_empty() { Ok(()) } else { self.enter(0, None) }
    }

    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.is_ours()?;
        if !self.ring.completion().is_empty() {
            return self.kick();
        }
        self.ear.works()?;
        self.arm_bell();
        let look = self.ear.looks_after().map(|time| Instant::now() + time);
        self.enter(1, look.into_iter().chain(deadline).min())?;
        if look.is_some() && self.ring.completion().is_empty() {
            self.ear.looks();
        }
        Ok(())
    }

    fn reap(&mut self) -> Option<Completion> {
        self.is_ours().ok()?;
        loop {
            let entry = self.ring.completion().next()?;
            match entry.user_data() {
                BELL => {
                    self.bell_armed = false;
                    self.ear.hears(entry.result());
                    if entry.result() == -libc::ENOMEM {
                        self.shortage.refused(Instant::now(), libc::ENOMEM); // not at once again
                    }
                    continue;
                }
                ASIDE => {
                    self.aside -= 1;
                    continue;
                }
                _ => self.in_flight -= 1,
            }
            let code = match self.chains.is_cut(entry.user_data()) {
                true => -libc::ECANCELED,
                false => entry.result(),
            };
            let result = usize::try_from(code).map_err(|_| io::Error::from_raw_os_error(-code));
            return Some(Completion { token: entry.user_data(), result });
        }
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.ear.bell().clone()
    }

    fn read(&mut self, file: FileId, at: u64, region: Region) -> io::Result<usize> {
        super::sync::read_full(self.files.of(file).file.ours()?, at, region)
    }

    fn free_space(&mut self, file: FileId) -> Option<u64> {
        free_space(self.files.of(file).file.ours().ok()?)
    }

    fn set_len(&mut self, file: FileId, len: u64) -> io::Result<()> {
        self.files.of(file).file.ours()?.set_len(len)
    }

    fn lengthen(&mut self, file: FileId, len: u64) -> io::Result<()> {
        super::lengthen(self.files.of(file).file.ours()?, len)
    }
}

/// Why buffers are not registered: each write looks up and pins their pages anew.
fn buffers_refused(memory: &[Region], error: &io::Error) -> String {
    let asked: usize = memory.iter().map(|region| region.len).sum();
    let asked = asked.div_ceil(1024);
    match error.raw_os_error() {
        Some(libc::ENOMEM) => format!(
            "registered buffers were refused, {asked} KiB to pin ({error}): {}",
            locked_memory()
        ),
        _ => format!("registered buffers were refused ({error})"),
    }
}

/// The limit on pinned memory, which counts for all processes of a user together, and how to raise
/// it (RLIMIT_MEMLOCK, getrlimit(2)).
pub(super) fn locked_memory() -> String {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a live struct.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } == 0;
    match limit.rlim_cur {
        kept if known && kept != libc::RLIM_INFINITY => format!(
            "raise `ulimit -l`, which is {} KiB here, for all programs of this user together",
            kept / 1024
        ),
        _ => "memory is short".into(),
    }
}

impl UringBackend {
    /// Waits, where the ring can't be entered any more, for what the kernel has taken: that ends by
    /// itself, in the thread that submitted it, at its next way out of the kernel. What is still in
    /// the queue never begins, and nobody looks at it again.
    fn wait_outside(&mut self) {
        loop {
            while self.reap().is_some() {}
            let known = self.in_flight + self.aside + usize::from(self.bell_armed);
            if known <= self.ring.submission().len() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for UringBackend {
    /// Waits for every operation: the kernel must not write from, or into, freed memory.
    fn drop(&mut self) {
        if self.process.is_gone() {
            return;
        }
        if self.bell_armed {
            self.ear.bell().wake(); // also where nothing can be submitted any more
            self.push_aside(opcode::AsyncCancel::new(BELL).build());
        }
        loop {
            while self.reap().is_some() {}
            if self.in_flight == 0 && !self.bell_armed {
                break;
            }
            if self.enter(1, None).is_err() {
                self.wait_outside();
                break;
            }
        }
        self.ring.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_memory_is_asked_again_and_not_for_ever() {
        let mut shortage = Shortage::default();
        let (mut now, start) = (Instant::now(), Instant::now());
        let mut before = Duration::ZERO;
        loop {
            shortage.refused(now, libc::ENOMEM);
            if shortage.may_be_asked().is_err() {
                break;
            }
            let pause = shortage.left(now);
            assert!(pause >= before && pause > Duration::ZERO, "{pause:?} after {before:?}");
            (now, before) = (now + pause, pause);
        }
        let all = now - start;
        assert!((5..20).contains(&all.as_secs()), "{all:?}");
    }

    const WRITE: Token = 1;
    const FLUSH: Token = 2;

    fn pair() -> Chains {
        let mut chain = Chains::default();
        chain.pushed(WRITE, true);
        chain.pushed(FLUSH, false);
        chain
    }

    #[test]
    fn a_pair_that_is_taken_at_once_is_whole() {
        let mut chain = pair();
        chain.pushed(3, false);
        chain.taken(3); // nothing taken: the kernel was busy
        chain.taken(1);
        assert!(!chain.is_cut(FLUSH));
    }

    #[test]
    fn a_flush_that_is_taken_by_itself_proves_nothing() {
        let mut chain = pair();
        chain.pushed(3, false);
        chain.taken(2); // the write alone
        chain.taken(0);
        assert!(!chain.is_cut(WRITE));
        assert!(chain.is_cut(FLUSH));
        assert!(!chain.is_cut(FLUSH), "the next flush is another one");
    }

    #[test]
    fn of_several_pairs_the_one_is_cut_in_which_the_kernel_stopped() {
        let mut chains = Chains::default();
        for file in 0..3 {
            chains.pushed(10 * file, true);
            chains.pushed(10 * file + 1, false);
        }
        chains.taken(3); // the first pair and the head of the second
        chains.taken(1); // the second flush, and the head of the third
        chains.taken(0);
        assert!(!chains.is_cut(1));
        assert!(chains.is_cut(11) && chains.is_cut(21));
    }

    #[test]
    fn a_pair_behind_others_is_not_cut_between_them() {
        let mut chain = Chains::default();
        chain.pushed(7, false);
        chain.pushed(WRITE, true);
        chain.pushed(FLUSH, false);
        chain.taken(2); // all but the pair
        chain.taken(0);
        assert!(!chain.is_cut(FLUSH));
    }
}
