//! Recordings in segments on the simulated computer, whose power goes at every moment: what was durable
//! is there, in as many segments as it was, and what goes is what was meant. `WRITEFLUSH_SIM_SEEDS`
//! says for how many seeds.
//!
//! The keeper has no thread: the program turns it, between any two of its own calls.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::control::Shared;
use super::hooks::Event;
use super::keeper::{Keeper, Turn};
use super::options::Options;
use super::writer::Writer;
use crate::error::Error;
use crate::options::{DiskFull, FenceForm, Preallocate};
use crate::sim::{Computer, Faults, Image};

/// The byte at a position of the whole recording.
fn byte(position: u64) -> u8 {
    (position.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8 | 1
}

fn bytes(from: u64, len: u64) -> Vec<u8> {
    (from..from + len).map(byte).collect()
}

/// A header that says nothing yet.
const UNKNOWN: [u8; 8] = [0xFF; 8];
const TAIL: &[u8] = b"the end";
const STRANGER: &[u8] = b"another file";

/// Data of a segment, in the whole recording.
#[derive(Clone, Debug)]
struct Extent {
    sequence: u64,
    path: PathBuf,
    begins: u64,
    ends: Option<u64>,
}

/// What the program knows, for whoever looks at the medium.
#[derive(Debug, Default)]
struct Known {
    shared: Option<Arc<Shared>>,
    has_header: bool,
    keep: Option<u64>,
    /// Lower ones were let go.
    needed: u64,
    closed: Vec<Extent>,
    removed: Vec<u64>,
    /// Segments whose names somebody else has taken.
    strangers: Vec<u64>,
    wrong: Option<String>,
    cuts: u64,
}

impl Known {
    /// Those that are closed, and those that have begun.
    fn extents(&self) -> Vec<Extent> {
        let mut extents = self.closed.clone();
        let unsettled = self.shared.iter().flat_map(|shared| shared.ledger.before(u64::MAX));
        extents.extend(unsettled.filter_map(|live| {
            Some(Extent {
                sequence: live.segment.sequence,
                path: live.segment.path.to_path_buf(),
                begins: live.begins()?,
                ends: live.ends(),
            })
        }));
        extents
    }

    /// The limit lets it go: enough were closed behind it.
    fn may_be_gone(&self, sequence: u64) -> bool {
        let behind = self.closed.iter().filter(|other| other.sequence > sequence).count();
        let is_closed = self.closed.iter().any(|other| other.sequence == sequence);
        is_closed && (sequence < self.needed || self.keep.is_some_and(|keep| behind as u64 >= keep))
    }

    /// What was wrong with what a cut has left.
    fn check(&self, image: &Image) -> Result<(), String> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let durable = shared.positions().durable;
        for extent in self.extents() {
            let (sequence, file) = (extent.sequence, image.get(&extent.path));
            if self.strangers.contains(&sequence) {
                if file.is_none_or(|file| file != STRANGER) {
                    return Err(format!("the stranger's {sequence} is gone"));
                }
                continue;
            }
            if self.removed.contains(&sequence) && file.is_some() {
                return Err(format!("{sequence} was removed, and is there"));
            }
            if extent.begins >= durable || self.may_be_gone(sequence) {
                continue;
            }
            let Some(file) = file else {
                return Err(format!("{sequence} is gone, durable {durable}, {extent:?}"));
            };
            let to = extent.ends.map_or(durable, |ends| ends.min(durable));
            self.check_file(file, &extent, to - extent.begins)?;
        }
        Ok(())
    }

    fn check_file(&self, file: &[u8], extent: &Extent, durable: u64) -> Result<(), String> {
        let (head, data) = match self.has_header {
            true => file.split_at_checked(8).ok_or("a head is missing")?,
            false => (&[][..], file),
        };
        let good = data.iter().zip(extent.begins..).take_while(|(found, at)| **found == byte(*at));
        let good = good.count() as u64;
        if good < durable {
            return Err(format!("{good} bytes good, {durable} durable, {extent:?}"));
        }
        match <[u8; 8]>::try_from(head) {
            Ok(header) if header != UNKNOWN && u64::from_le_bytes(header) > good => {
                Err(format!("a header of {header:?} over {good} bytes, {extent:?}"))
            }
            _ => Ok(()),
        }
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn faults(random: &mut fastrand::Rng) -> Faults {
    let mut faults = Faults::default();
    match random.u8(..6) {
        0 | 1 => {}
        2 => (faults.interrupted, faults.short) = (random.u8(..60), random.u8(..90)),
        3 => faults.failing_flush = Some((random.u64(1..40), libc::EIO)),
        4 => faults.failing_write = Some((random.u64(1..40), libc::EIO)),
        _ => faults.space = Some(random.u64(2000..20_000)),
    }
    faults
}

/// One recording, and those who turn it.
struct Program {
    computer: Computer,
    writer: Writer,
    keeper: Keeper,
    known: Arc<Mutex<Known>>,
    frame: Option<u64>,
    random: fastrand::Rng,
    now: Instant,
    over: bool,
}

impl Program {
    fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.random.u32(..80) {
            if self.random.u8(..3) == 0 {
                self.turn();
            }
            self.step()?;
        }
        let total = self.writer.positions().accepted;
        let _ = self.writer.end(); // where there is no thread nobody waits
        while !self.over {
            self.turn();
        }
        let outcome = self.writer.control.shared.wait_for_the_end(None);
        match outcome {
            Ok(Some(summary)) if summary.positions.durable == total => self.check_files(),
            Ok(ended) => Err(format!("ended with {ended:?} of {total}")),
            Err(failed) => self.check_failed(&failed.errors),
        }
    }

    fn turn(&mut self) {
        self.now += Duration::from_secs(1);
        self.over = self.keeper.turn(self.now) == Turn::Over;
    }

    fn step(&mut self) -> Result<(), String> {
        let total = self.writer.positions().accepted;
        let whole = self.writer.control.shared.cut.whole(total);
        match self.random.u8(..13) {
            0..7 => {
                let len = self.random.u64(..700);
                let pushed = self.writer.write(&bytes(total, len));
                if let Ok(crate::Push::Accepted(at)) = pushed
                    && (at != total || self.writer.positions().accepted != total + len)
                {
                    return Err(format!("{len} bytes at {total} went to {at}"));
                }
            }
            7 => {
                let flushed = self.writer.flush();
                let durable = self.writer.positions().durable;
                if flushed.is_ok_and(|flushed| flushed != whole || durable < whole) {
                    return Err(format!("a flush at {total} left {durable}"));
                }
            }
            8 => {
                let waited = self.writer.fence().and_then(|ticket| ticket.wait());
                let durable = self.writer.positions().durable;
                if waited.is_ok_and(|position| position != whole || durable < whole) {
                    return Err(format!("a fence at {total} left {durable}"));
                }
            }
            9 if lock(&self.known).has_header => {
                let _ = self.writer.checkpoint(0, |_, data| data.to_le_bytes());
            }
            10 => self.replace_one(),
            11 => self.truncate(),
            _ => drop(self.writer.rotate()),
        }
        Ok(())
    }

    /// Up to any segment that there is or might be.
    fn truncate(&mut self) {
        let most = lock(&self.known).closed.len() as u64 + 4;
        let needed = self.random.u64(..most);
        let mut known = lock(&self.known);
        known.needed = known.needed.max(needed);
        drop(known);
        self.writer.truncate_front(needed);
    }

    /// Somebody takes the name of a segment that is closed.
    fn replace_one(&mut self) {
        let mut known = lock(&self.known);
        let candidates: Vec<Extent> = known
            .closed
            .iter()
            .filter(|it| !known.may_be_gone(it.sequence) && !known.strangers.contains(&it.sequence))
            .cloned()
            .collect();
        if let Some(one) = self.random.choice(candidates)
            && self.random.u8(..3) == 0
        {
            known.strangers.push(one.sequence);
            drop(known);
            self.computer.replace(&one.path, STRANGER);
        }
    }

    /// After a close without error: each file is its segment, and nothing else is there.
    fn check_files(&self) -> Result<(), String> {
        let known = lock(&self.known);
        for extent in &known.closed {
            let sequence = extent.sequence;
            let is_removed = known.removed.contains(&sequence);
            let Some(file) = self.computer.read(&extent.path) else {
                // Also where the flush of the directory has failed.
                match known.may_be_gone(sequence) {
                    true => continue,
                    false => return Err(format!("{sequence} is gone")),
                }
            };
            if known.strangers.contains(&sequence) || is_removed {
                continue; // looked at after each event
            }
            let data = extent.ends.unwrap_or(0) - extent.begins;
            let mut expected = bytes(extent.begins, data);
            if known.has_header {
                let whole = self.writer.control.shared.cut.whole(data);
                expected.splice(..0, whole.to_le_bytes());
                expected.extend(TAIL);
            }
            if file != expected {
                let differs = file.iter().zip(&expected).position(|(found, it)| found != it);
                let len = file.len();
                return Err(format!("{len} bytes, differ at {differs:?}, {extent:?}"));
            }
        }
        Ok(())
    }

    /// After a full disk no file ends in the midst of a frame, unless the recording does.
    fn check_failed(&self, errors: &[Error]) -> Result<(), String> {
        let (Some(frame), known) = (self.frame, lock(&self.known)) else { return Ok(()) };
        if errors.iter().any(|error| error.raw_os_error() != Some(libc::ENOSPC)) {
            return Ok(());
        }
        let head = if known.has_header { 8 } else { 0 };
        for extent in known.extents().iter().filter(|it| !known.strangers.contains(&it.sequence)) {
            let Some(file) = self.computer.read(&extent.path) else { continue };
            let data = (file.len() as u64).saturating_sub(head);
            let all = extent.ends.map_or(u64::MAX, |ends| ends - extent.begins);
            if data < all && !data.is_multiple_of(frame) {
                return Err(format!("{data} bytes of frames of {frame}, {extent:?}"));
            }
        }
        Ok(())
    }
}

/// How many cuts were looked at.
pub(crate) fn run(seed: u64) -> Result<u64, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let block = if random.bool() { 4096 } else { 1 };
    let computer = Computer::new(seed, block, faults(&mut random));
    let forms = [FenceForm::Auto, FenceForm::Dsync, FenceForm::Link, FenceForm::Flush];
    let ahead = [Preallocate::None, Preallocate::Reserve(3000), Preallocate::Zero(3000)];
    let below = computer
        .options()
        .buffer_size(4096)
        .on_disk_full(DiskFull::Fail)
        .fence_form(random.choice(forms).unwrap())
        .preallocate(random.choice(ahead).unwrap());
    let frame = random.bool().then(|| random.u64(1..40));
    let (has_header, keep) = (random.bool(), random.bool().then(|| random.u64(..4)));
    let known = Arc::new(Mutex::new(Known { has_header, keep, ..Known::default() }));
    let mut options = Options::new("{seq}").below(below).size(random.u64(100..3000));
    if let Some(frame) = frame {
        options = options.frame_bytes(frame);
    }
    if let Some(keep) = keep {
        options = options.keep_count(keep);
    }
    if has_header {
        options = options.head(|_| UNKNOWN.into()).tail(|tail| {
            tail.write(TAIL)?;
            tail.checkpoint(0, u64::to_le_bytes)
        });
    }
    let told = known.clone();
    let options = options.on_event(move |event| match event {
        Event::Closed(closed) => lock(&told).closed.push(Extent {
            sequence: closed.segment.sequence,
            path: closed.segment.path.to_path_buf(),
            begins: closed.position,
            ends: Some(closed.position + closed.bytes),
        }),
        Event::Removed(segment) => lock(&told).removed.push(segment.sequence),
        _ => {}
    });
    let (watcher, mut dice) = (known.clone(), random.fork());
    let watched = computer.watch(Box::new(move |medium| {
        if dice.u8(..3) == 0 {
            let mut known = lock(&watcher);
            for _ in 0..3 {
                let checked = known.check(&medium.cut(&mut dice));
                known.wrong = known.wrong.take().or(checked.err());
                known.cuts += 1;
            }
        }
    }));
    let mut ended = Ok(());
    if let Ok((writer, keeper)) = options.begin() {
        lock(&known).shared = Some(writer.control.shared.clone());
        let (computer, known, now) = (computer.clone(), known.clone(), Instant::now());
        let mut program =
            Program { computer, writer, keeper, known, frame, random, now, over: false };
        ended = program.run();
    }
    drop(watched);
    let mut known = lock(&known);
    known.shared = None; // it may hold the last handle of a writer, whose drop writes
    let wrong = known.wrong.take().or(ended.err());
    wrong.map_or(Ok(known.cuts), |wrong| Err(format!("seed {seed}: {wrong}")))
}

#[test]
fn what_is_durable_is_there_in_all_segments() {
    crate::sim::each_seed(run);
}
