//! The program under test: records as a scenario says, and claims what it knows.

use std::cell::Cell;
use std::ffi::CString;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use writeflush::{
    CloseError, Control, Error, Preallocate, Push, SharedWriter, Summary, Ticket, Writer, frames,
    mmio, segments,
};

use crate::claims::{Claim, Claims};
use crate::content::{HEADER, bytes, header, kept, name, old, patched, pattern, salt};
use crate::messages::{self, message};
use crate::scenario::{
    Ending, Face, Folder, GRANT, Mode, Opener, Plan, Renamed, Scenario, Space, State, TAKES,
};
use crate::space::{fill, give_back};

const STEPS: usize = 60;
const LONGEST: usize = 24_000;
/// Producers that run at once.
const PRODUCERS: u64 = 3;
/// Between two flushes of another thread.
const BREATH: Duration = Duration::from_millis(3);
/// A recorder that has nothing to say; what a writer does when it idles has begun by then.
const PAUSE: Duration = Duration::from_millis(130);

/// A producer's side of a writer.
pub(crate) enum Producer {
    One(Writer),
    Grants(Writer),
    Seeks(Writer),
    /// Two clones that take turns.
    Turns([SharedWriter; 2]),
}

impl Producer {
    pub(crate) fn new(writer: Writer, face: Face) -> Self {
        match face {
            Face::Exclusive | Face::Mmio => Self::One(writer),
            Face::Grants => Self::Grants(writer),
            Face::Seeks => Self::Seeks(writer),
            Face::Turns | Face::Threads => {
                let writer = writer.into_shared();
                Self::Turns([writer.clone(), writer])
            }
        }
    }

    pub(crate) fn control(&self) -> &Control {
        match self {
            Self::One(writer) | Self::Grants(writer) | Self::Seeks(writer) => writer.control(),
            Self::Turns([writer, _]) => writer.control(),
        }
    }

    pub(crate) fn write(&mut self, data: &[u8]) -> Result<(), Error> {
        match self {
            Self::One(writer) => writer.write(data).map(drop),
            Self::Grants(writer) => write_by_grants(writer, data),
            // An error of ours, as it went through `std::io`.
            Self::Seeks(writer) => match std::io::Write::write_all(writer, data) {
                Ok(()) => Ok(()),
                Err(_) => writer.write(&[]).map(drop),
            },
            Self::Turns(writers) => {
                writers.swap(0, 1);
                writers[0].write(data).map(drop)
            }
        }
    }

    pub(crate) fn write_flush(&mut self, data: &[u8]) -> Result<u64, Error> {
        match self {
            Self::One(writer) | Self::Seeks(writer) => writer.write_flush(data),
            Self::Grants(writer) => {
                write_by_grants(writer, data)?;
                writer.flush()
            }
            Self::Turns([writer, _]) => writer.write_flush(data),
        }
    }

    pub(crate) fn close(self) -> Result<Summary, CloseError> {
        match self {
            Self::One(writer) | Self::Grants(writer) | Self::Seeks(writer) => writer.close(),
            Self::Turns([writer, _]) => writer.close(),
        }
    }
}

/// Fills memory of the ring in place; waits, by a fence, while there is none.
fn write_by_grants(writer: &mut Writer, mut data: &[u8]) -> Result<(), Error> {
    while !data.is_empty() {
        let len = data.len().min(GRANT);
        match writer.grant(len) {
            Ok(mut grant) => {
                grant[..len].copy_from_slice(&data[..len]);
                grant.commit(len);
                data = &data[len..];
            }
            Err(Error::Full { .. }) => writer.flush().map(drop)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Scenario {
    /// Records, and claims what it knows.
    pub(crate) fn work(&self, folder: &Path, claims: &Claims) -> anyhow::Result<()> {
        self.prepare(folder)?;
        self.leave_little_room(folder)?;
        claims.settle()?;
        claims.say(Claim::Begun)?;
        let (steps, over) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let returns = self.space == Space::Returns;
            let give_back = || match give_back(folder, &steps, &over)? {
                true => claims.say(Claim::Full),
                false => Ok(()),
            };
            let room = returns.then(|| scope.spawn(give_back));
            let recorded = self.record_all(folder, claims, &steps);
            over.store(true, Ordering::Relaxed);
            recorded.and(room.map_or(Ok(()), |room| joined(room.join())))
        })?;
        claims.say(Claim::Ended)
    }

    fn record_all(&self, folder: &Path, claims: &Claims, steps: &AtomicU64) -> anyhow::Result<()> {
        let record = |take| {
            let plan = &self.takes[take as usize];
            Take { scenario: self, plan, take, folder, claims, steps }.record()
        };
        if !self.side_by_side {
            return (0..TAKES).try_for_each(record);
        }
        std::thread::scope(|scope| {
            let other = scope.spawn(|| record(1));
            record(0).and(joined(other.join()))
        })
    }

    fn leave_little_room(&self, folder: &Path) -> anyhow::Result<()> {
        let blocks = fastrand::Rng::with_seed(self.seed).u64(4..16);
        match self.space {
            Space::Ample => Ok(()),
            Space::RunsOut | Space::Returns => fill(folder, blocks * 4096),
        }
    }

    /// The folder as it is before the recording.
    pub(crate) fn prepare(&self, folder: &Path) -> anyhow::Result<()> {
        for (take, plan) in (0..TAKES).zip(&self.takes) {
            let [before, after] = plan.folder.places(take).map(|place| folder.join(place));
            let above = after.parent().context("no directory above")?;
            let others: &[&Path] = match plan.folder {
                Folder::Stays => &[],
                Folder::Renamed => &[&before],
                Folder::Replaced => &[&before, &after],
                Folder::Moved => &[&before, above],
            };
            others.iter().try_for_each(std::fs::create_dir)?;
            if plan.old > 0 && plan.frames {
                let pattern = before.join(pattern(take));
                messages::leave(&pattern, self.seed_of(take), plan.old)?;
            } else if plan.old > 0 {
                let path = before.join(name(take));
                std::fs::write(&path, old(self.seed_of(take), plan.old))?;
                File::open(&path)?.sync_all()?;
            }
            File::open(&before)?.sync_all()?;
        }
        Ok(File::open(folder)?.sync_all()?)
    }
}

fn joined<T>(ended: std::thread::Result<anyhow::Result<T>>) -> anyhow::Result<T> {
    ended.unwrap_or_else(|_| bail!("a thread panicked"))
}

/// One file of the recording.
#[derive(Clone, Copy)]
struct Take<'a> {
    scenario: &'a Scenario,
    plan: &'a Plan,
    take: u64,
    folder: &'a Path,
    claims: &'a Claims,
    /// Of all producers: who waits makes none.
    steps: &'a AtomicU64,
}

/// How a recording ended.
enum Ended {
    /// After so many bytes and patches.
    Whole(u64, u64),
    /// The disk was full, and nobody waited.
    NoRoom,
}

/// Whether it is the error of a disk that is full.
fn is_full(error: &anyhow::Error) -> bool {
    let says_so = |error: &Error| error.raw_os_error() == Some(libc::ENOSPC);
    let system = error.downcast_ref::<std::io::Error>();
    let inner = system.and_then(std::io::Error::get_ref).and_then(|inner| inner.downcast_ref());
    error.downcast_ref().or(inner).is_some_and(says_so)
        || system.and_then(std::io::Error::raw_os_error) == Some(libc::ENOSPC)
        || error.downcast_ref::<mmio::Failure>().is_some_and(|it| it.sentence.contains(NO_ROOM))
}

/// ENOSPC, in a sentence.
const NO_ROOM: &str = "(os error 28)";

impl Take<'_> {
    fn say(&self, claim: Claim) -> anyhow::Result<()> {
        self.claims.say(claim)
    }

    /// The directory, before and after it has moved.
    fn places(&self) -> [PathBuf; 2] {
        self.plan.folder.places(self.take).map(|place| self.folder.join(place))
    }

    /// Where it is opened.
    fn path(&self) -> PathBuf {
        self.places()[0].join(name(self.take))
    }

    /// Both its names, when the directory has moved.
    fn names(&self) -> [PathBuf; 2] {
        let [_, folder] = self.places();
        [name(self.take), kept(self.take)].map(|name| folder.join(name))
    }

    /// An open may also find no room where the writer would wait for some.
    fn may_be_refused(&self, error: &anyhow::Error) -> bool {
        self.scenario.space != Space::Ample && is_full(error)
    }

    fn may_fail(&self, error: &anyhow::Error) -> bool {
        self.scenario.space == Space::RunsOut && is_full(error)
    }

    fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    fn seed(&self) -> u64 {
        self.scenario.seed_of(self.take)
    }

    fn record(&self) -> anyhow::Result<()> {
        let mut random = fastrand::Rng::with_seed(self.scenario.seed * TAKES + self.take);
        let ended = match self.plan.face {
            _ if self.plan.frames => self.record_messages(&mut random)?,
            _ if self.plan.rotates => self.record_in_segments(&mut random)?,
            Face::Mmio => self.record_by_messages(&mut random)?,
            _ => self.record_by_writer(&mut random)?,
        };
        let Ended::Whole(end, patches) = ended else { return self.say(Claim::Full) };
        let length = if self.plan.is_recycled() { end.max(self.plan.old) } else { end };
        self.say(Claim::End(self.take, end))?;
        self.say(Claim::Durable(self.take, end, patches))?;
        self.say(Claim::Closed(self.take, length))?;
        match self.plan.renamed {
            Renamed::Never => Ok(()),
            Renamed::WhileRecording => {
                // Else the close has made it durable.
                if self.plan.opener == Opener::Recorder {
                    let [_, folder] = self.places();
                    File::open(folder)?.sync_all()?;
                }
                self.say(Claim::Renamed(self.take))
            }
            Renamed::Complete => {
                let [name, kept] = self.names();
                self.say(Claim::Renaming(self.take))?;
                rename_by_message(&name, &kept)?;
                self.say(Claim::Renamed(self.take))
            }
        }
    }

    /// Half way through, by somebody who knows nothing of the writer.
    fn half_way(&self) -> anyhow::Result<()> {
        let [before, after] = self.places();
        let flags = match self.plan.folder {
            Folder::Replaced => RenameFlags::EXCHANGE,
            _ => RenameFlags::empty(),
        };
        if self.plan.folder != Folder::Stays {
            self.say(Claim::Moving(self.take))?;
            renameat_with(CWD, before, CWD, after, flags).context("a directory can't be moved")?;
        }
        if self.plan.renamed == Renamed::WhileRecording {
            let [name, kept] = self.names();
            self.say(Claim::Renaming(self.take))?;
            std::fs::rename(name, kept)?;
        }
        Ok(())
    }

    fn record_by_writer(&self, random: &mut fastrand::Rng) -> anyhow::Result<Ended> {
        let writer = match self.scenario.open(self.plan, &self.path(), random) {
            Err(error) if self.may_be_refused(&error) => return Ok(Ended::NoRoom),
            writer => writer?,
        };
        self.say(Claim::Named(self.take))?;
        let control = writer.control().clone();
        let mut producer = Producer::new(writer, self.plan.face);
        producer.write(&header(0))?;
        let mut hand = Hand { of: *self, producer, number: 0, tickets: Vec::new(), patches: 0 };
        let (is_shared, stop) =
            (matches!(hand.producer, Producer::Turns(_)), AtomicBool::new(false));
        let recorded = std::thread::scope(|scope| {
            let flusher = is_shared.then(|| scope.spawn(|| self.flush_again(&control, &stop)));
            let recorded = match self.plan.face {
                Face::Threads => self.record_at_once(&mut hand, random),
                _ => hand.record(STEPS, random),
            };
            stop.store(true, Ordering::Relaxed);
            let flushed = flusher.map_or(Ok(()), |flusher| joined(flusher.join()));
            recorded.and(flushed)
        });
        let recorded = match self.scenario.space {
            Space::Ample => recorded,
            // A close waits for no space.
            Space::RunsOut | Space::Returns => {
                recorded.and_then(|()| Ok(control.flush().map(drop)?))
            }
        };
        let end = control.positions().accepted;
        drop(control);
        match recorded {
            Err(error) if self.may_fail(&error) => return self.end_without_room(hand),
            recorded => recorded?,
        }
        let Hand { producer, patches, tickets, .. } = hand;
        drop(tickets);
        match self.plan.ending {
            Ending::Close => drop(producer.close()?),
            Ending::Drop => drop(producer),
        }
        Ok(Ended::Whole(end, patches))
    }

    /// The disk was full: what a recorder does then.
    fn end_without_room(&self, mut hand: Hand) -> anyhow::Result<Ended> {
        let refused =
            hand.checkpoint().err().context("a checkpoint hides that the disk was full")?;
        ensure!(is_full(&refused), "another error: {refused:#}");
        let found = hand.producer.control().positions();
        self.say(Claim::End(self.take, found.accepted))?;
        self.say(Claim::Durable(self.take, found.durable, 0))?;
        let Hand { producer, tickets, .. } = hand;
        drop(tickets);
        if self.plan.ending == Ending::Drop {
            return Ok(Ended::NoRoom);
        }
        let failed = producer.close().err().context("the close hides that the disk was full")?;
        let file_len = failed.summary.file_len.context("the close knows no length")?;
        // Else something failed in the end that leaves the file as it is.
        if failed.errors.len() == 1 && found.durable == found.written {
            self.say(Claim::Closed(self.take, file_len))?;
            let behind = self.plan.start() + HEADER as u64;
            if found.durable >= behind {
                self.say(Claim::Checkpoint(self.take, found.durable))?;
            }
        }
        Ok(Ended::NoRoom)
    }

    fn flush_again(&self, control: &Control, stop: &AtomicBool) -> anyhow::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let durable = control.flush()?;
            self.say(Claim::Durable(self.take, durable, 0))?;
            std::thread::sleep(BREATH);
        }
        Ok(())
    }

    /// Several threads with a writer each; the first patches, too, and makes checkpoints.
    fn record_at_once(&self, hand: &mut Hand, random: &mut fastrand::Rng) -> anyhow::Result<()> {
        let Producer::Turns([writer, _]) = &hand.producer else { bail!("no shared writer") };
        let others: Vec<_> = (1..PRODUCERS).map(|number| (number, writer.clone())).collect();
        std::thread::scope(|scope| {
            let start = |(number, writer): (u64, SharedWriter)| {
                let mut random = random.fork();
                scope.spawn(move || self.produce(number, &writer, &mut random))
            };
            let others: Vec<_> = others.into_iter().map(start).collect();
            let recorded = hand.record(STEPS / 2, random);
            others.into_iter().fold(recorded, |all, other| all.and(joined(other.join())))
        })
    }

    /// One of several producers: its records lie wherever they get to.
    fn produce(
        &self,
        number: u64,
        writer: &SharedWriter,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<()> {
        for count in 0..STEPS as u64 / 2 {
            self.step();
            self.write_record(writer, salt(self.seed(), number, count), length(random))?;
            if random.u8(..3) == 0 {
                let durable = writer.flush()?;
                self.say(Claim::Durable(self.take, durable, 0))?;
            }
        }
        Ok(())
    }

    fn write_record(&self, writer: &SharedWriter, salt: u64, len: usize) -> anyhow::Result<()> {
        match writer.write(&bytes(salt, 0, len))? {
            Push::Accepted(at) => self.say(Claim::Lies(self.take, at, len as u64, salt)),
            Push::Lost(lost) => bail!("{lost} bytes were lost"),
        }
    }
}

/// Mostly short, now and then longer than all buffers together.
fn length(random: &mut fastrand::Rng) -> usize {
    let longest = if random.u8(..8) == 0 { LONGEST } else { 3000 };
    random.usize(1..longest)
}

/// Bytes to overwrite: those just written, or those that have been settled for long. The header is
/// nobody's business.
fn place_of_patch(plan: &Plan, end: u64, random: &mut fastrand::Rng) -> (u64, u64) {
    let header = if plan.has_header() { HEADER as u64 } else { 0 };
    let least = plan.start() + header;
    let longest = if random.u8(..8) == 0 { LONGEST as u64 } else { 6000 };
    let (from, limit) = match random.u8(..4) {
        0 if plan.start() > 0 => (0, plan.start()), // what was there before the recording
        0 | 1 => (least, end),
        _ => (end.saturating_sub(8192).max(least), end),
    };
    let from = random.u64(from..=limit);
    (from, limit.min(from + random.u64(..longest)))
}

impl Take<'_> {
    /// Many files, each of which takes a few records.
    fn segments(&self, random: &mut fastrand::Rng) -> segments::Options {
        const AHEAD: u64 = 32 << 10; // for each of them
        let below = self.scenario.options(random);
        let below = match (self.scenario.state, random.bool()) {
            (State::Reserved, true) => below.preallocate(Preallocate::Reserve(AHEAD)),
            (State::Reserved, false) => below.preallocate(Preallocate::Zero(AHEAD)),
            _ => below,
        };
        let options = segments::Options::new(self.folder.join(pattern(self.take))).below(below);
        options.size(random.u64(5_000..40_000))
    }

    fn record_in_segments(&self, random: &mut fastrand::Rng) -> anyhow::Result<Ended> {
        let mut writer = self.segments(random).open()?;
        self.say(Claim::Begins(self.take, 0))?;
        self.say(Claim::Named(self.take))?;
        let mut tickets = Vec::new();
        for _ in 0..STEPS {
            self.step();
            self.step_in_segments(&mut writer, &mut tickets, random)?;
            // For the next segment.
            std::thread::sleep(Duration::from_micros(random.u64(..3000)));
            let durable = writer.positions().durable;
            self.say(Claim::Durable(self.take, durable, 0))?;
        }
        drop(tickets);
        let end = writer.positions().accepted;
        match self.plan.ending {
            Ending::Close => drop(writer.close()?),
            Ending::Drop => drop(writer),
        }
        Ok(Ended::Whole(end, 0))
    }

    /// Claims are of messages, by their number.
    fn record_messages(&self, random: &mut fastrand::Rng) -> anyhow::Result<Ended> {
        let files = match self.plan.recycles {
            true => {
                let files = self.segments(random).size(random.u64(3_000..9_000));
                files.keep_count(messages::KEPT).recycle(true)
            }
            false => self.segments(random),
        };
        let (options, old) = (frames::segments::Options::from(files), self.plan.old);
        let mut writer = match old {
            0 => options.open()?,
            _ => options.resume()?.0,
        };
        ensure!(writer.next_sequence() == old, "{old} were left: {}", writer.next_sequence());
        self.say(Claim::Named(self.take))?;
        // Where each message ends in the whole.
        let (mut ends, mut tickets) = (Vec::new(), Vec::new());
        for _ in 0..STEPS {
            self.step();
            if self.plan.recycles {
                // Else there are few segments.
                writer.wait_for_next(1 << 40, Duration::from_secs(1))?;
            }
            let durable = self.step_in_messages(&mut writer, &mut ends, &mut tickets, random)?;
            let count = |position| old + ends.partition_point(|end| *end <= position) as u64;
            self.say(Claim::Durable(self.take, count(durable), 0))?;
            // For the next segment.
            std::thread::sleep(Duration::from_micros(random.u64(..3000)));
            let durable = writer.control().positions().durable;
            self.say(Claim::Durable(self.take, count(durable), 0))?;
        }
        drop(tickets);
        match self.plan.ending {
            Ending::Close => drop(writer.close()?),
            Ending::Drop => drop(writer),
        }
        Ok(Ended::Whole(old + ends.len() as u64, 0))
    }

    /// Returns what is durable for certain.
    fn step_in_messages(
        &self,
        writer: &mut frames::segments::Writer,
        ends: &mut Vec<u64>,
        tickets: &mut Vec<segments::Ticket>,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<u64> {
        let number = writer.next_sequence();
        let mut durable = 0;
        match random.u8(..8) {
            0..5 => {
                let _ = writer.write(number, &message(self.seed(), number))?;
                ends.push(writer.control().positions().accepted);
                if random.u8(..3) == 0 {
                    tickets.push(writer.fence()?);
                }
            }
            5 => {
                for ticket in tickets.drain(..) {
                    durable = ticket.wait()?.max(durable);
                }
            }
            6 if random.bool() => durable = writer.flush()?,
            6 => durable = writer.flush_with(&number.to_le_bytes())?,
            _ => drop(writer.rotate()?),
        }
        Ok(durable)
    }

    fn step_in_segments(
        &self,
        writer: &mut segments::Writer,
        tickets: &mut Vec<segments::Ticket>,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<()> {
        let before = (writer.stats().rotations, writer.positions().accepted);
        let record = bytes(self.seed(), before.1, length(random));
        let mut durable = 0;
        match random.u8(..8) {
            0..3 => drop(writer.write(&record)?),
            3 => durable = writer.write_flush(&record)?,
            4 => {
                let _ = writer.write(&record)?;
                tickets.push(writer.fence()?);
            }
            5 => {
                for ticket in tickets.drain(..) {
                    durable = ticket.wait()?.max(durable);
                }
            }
            6 => durable = writer.control().flush()?,
            _ => drop(writer.rotate()?),
        }
        if writer.stats().rotations > before.0 {
            self.say(Claim::Begins(self.take, before.1))?; // where a record is never split
        }
        self.say(Claim::Durable(self.take, durable, 0))
    }
}

/// One producer at work.
struct Hand<'a> {
    of: Take<'a>,
    producer: Producer,
    /// Records of this one, where several write at once.
    number: u64,
    /// Each with the number of patches before it.
    tickets: Vec<(Ticket, u64)>,
    patches: u64,
}

impl Hand<'_> {
    fn accepted(&self) -> u64 {
        self.producer.control().positions().accepted
    }

    fn record(&mut self, steps: usize, random: &mut fastrand::Rng) -> anyhow::Result<()> {
        let take = self.of.take;
        let pauses = random.u8(..4) == 0;
        let leap = self.of.plan.leaps.then(|| random.usize(..steps));
        for step in 0..steps {
            self.of.step();
            if leap == Some(step) {
                self.write_behind(LONG_GAP + random.u64(1..64 << 10), length(random))?;
            }
            if step == steps / 2 {
                self.of.half_way()?;
                std::thread::sleep(if pauses { PAUSE } else { Duration::ZERO });
            }
            self.step(random)?;
            if random.u8(..4) == 0 {
                let durable = self.producer.control().positions().durable;
                self.of.say(Claim::Durable(take, durable, 0))?;
            }
        }
        Ok(())
    }

    fn step(&mut self, random: &mut fastrand::Rng) -> anyhow::Result<()> {
        let take = self.of.take;
        match random.u8(..13) {
            0..4 => self.write(random)?,
            4..6 => {
                let mut data = Vec::new();
                match self.of.plan.face {
                    Face::Threads => self.write(random)?, // its bytes don't follow from a position
                    _ => data = bytes(self.of.seed(), self.accepted(), length(random)),
                }
                let durable = self.producer.write_flush(&data)?;
                self.of.say(Claim::Durable(take, durable, self.patches))?;
            }
            6..8 => {
                self.write(random)?;
                self.tickets.push((self.producer.control().fence(), self.patches));
            }
            8 => {
                for (ticket, patches) in std::mem::take(&mut self.tickets) {
                    self.of.say(Claim::Durable(take, ticket.wait()?, patches))?;
                }
            }
            9 => self.checkpoint()?,
            _ => self.patch(random)?,
        }
        Ok(())
    }

    fn write(&mut self, random: &mut fastrand::Rng) -> anyhow::Result<()> {
        let (len, at) = (length(random), self.accepted());
        match &mut self.producer {
            Producer::Turns([writer, _]) if self.of.plan.face == Face::Threads => {
                self.number += 1;
                self.of.write_record(writer, salt(self.of.seed(), 0, self.number), len)
            }
            Producer::Seeks(_) if random.u8(..4) == 0 => {
                self.write_behind(random.u64(1..10_000), len)
            }
            producer => Ok(producer.write(&bytes(self.of.seed(), at, len))?),
        }
    }

    /// Behind a gap.
    fn write_behind(&mut self, gap: u64, len: usize) -> anyhow::Result<()> {
        self.of.say(Claim::Lies(self.of.take, self.accepted(), gap, 0))?;
        let Producer::Seeks(writer) = &mut self.producer else { bail!("nobody can seek") };
        let at = writer.seek(SeekFrom::End(gap as i64))?;
        Ok(writer.write_all(&bytes(self.of.seed(), at, len))?)
    }

    fn checkpoint(&mut self) -> anyhow::Result<()> {
        let (take, say) = (self.of.take, |claim| self.of.say(claim));
        let asked = |position| {
            // Once the header may be on its way, its position may be found.
            let _ = say(Claim::Asked(take, position));
            header(position)
        };
        let position = self.producer.control().checkpoint(self.of.plan.start(), asked)?;
        say(Claim::Checkpoint(take, position))?;
        say(Claim::Durable(take, position, self.patches))
    }

    fn patch(&mut self, random: &mut fastrand::Rng) -> anyhow::Result<()> {
        let (from, to) = place_of_patch(self.of.plan, self.accepted(), random);
        self.patches += 1;
        let number = self.patches;
        // It may be on its way before the call returns.
        self.of.say(Claim::Patched(self.of.take, number, from, to - from))?;
        let data: Vec<u8> = (from..to).map(|at| patched(self.of.seed(), number, at)).collect();
        match &mut self.producer {
            Producer::Seeks(writer) => {
                writer.seek(SeekFrom::Start(from))?;
                writer.write_all(&data)?;
                writer.seek(SeekFrom::End(0))?;
                Ok(())
            }
            producer => Ok(producer.control().patch(from, &data)?),
        }
    }
}

thread_local! {
    /// What the file that this thread wrote to last says is durable.
    static DURABLE: Cell<u64> = const { Cell::new(0) };
}

/// The procedure of the library, which is asked what is durable behind every message.
///
/// # Safety
/// As [`mmio::io_procedure`].
#[allow(unsafe_code)]
unsafe extern "system" fn asking(
    info: *mut mmio::MMIOINFO,
    message: u32,
    first: mmio::LPARAM,
    second: mmio::LPARAM,
) -> mmio::LRESULT {
    // SAFETY: passed on.
    let answer = unsafe { mmio::io_procedure(info, message, first, second) };
    if matches!(message, mmio::MMIOM_WRITE | mmio::MMIOM_WRITEFLUSH) {
        let mut durable = 0u64;
        // SAFETY: the MMIOINFO that was passed on, and a live number.
        let known = unsafe {
            mmio::io_procedure(info, mmio::WFM_DURABLE, &raw mut durable as mmio::LPARAM, 0)
        };
        if known == 0 {
            DURABLE.set(durable);
        }
    }
    answer
}

impl Take<'_> {
    /// As a program that speaks MMIO.
    fn record_by_messages(&self, random: &mut fastrand::Rng) -> anyhow::Result<Ended> {
        let every = random.bool().then_some(BREATH);
        let options = self.scenario.options(random);
        mmio::Settings::new().options(options).fence_every(every).apply();
        let create = match self.plan.mode {
            Mode::CreateNew | Mode::Create | Mode::CreateOver => mmio::MMIO_CREATE,
            Mode::Append | Mode::Open => 0,
        };
        let flags = create | mmio::MMIO_READWRITE;
        // SAFETY: the library's own procedure, which takes messages as its own file sends them.
        #[allow(unsafe_code)]
        let opened = unsafe { mmio::File::open_with(asking, self.path(), flags) };
        let file = match opened.map_err(anyhow::Error::from) {
            Err(error) if self.may_be_refused(&error) => return Ok(Ended::NoRoom),
            file => file?,
        };
        self.say(Claim::Named(self.take))?;
        DURABLE.set(0);
        let end = self.plan.start();
        let mut messages = Messages { of: *self, file, end, reach: end, patches: 0 };
        let recorded = messages.record(random);
        let Messages { file, end, reach, patches, .. } = messages;
        let has_room = match recorded {
            Err(error) if self.may_fail(&error) => false,
            recorded => recorded.map(|()| true)?,
        };
        if !has_room {
            self.say(Claim::End(self.take, reach))?;
        }
        match (self.plan.ending, has_room) {
            (Ending::Close, true) => file.close()?,
            (Ending::Close, false) => {
                ensure!(file.close().is_err(), "the close hides that the disk was full");
            }
            (Ending::Drop, _) => drop(file),
        }
        Ok(if has_room { Ended::Whole(end, patches) } else { Ended::NoRoom })
    }
}

/// A program that speaks MMIO at work.
struct Messages<'a> {
    of: Take<'a>,
    file: mmio::File,
    end: u64,
    /// Nothing was ever sent that ends behind this.
    reach: u64,
    patches: u64,
}

/// A gap of more bytes than this is made by the file system.
const LONG_GAP: u64 = 4 << 20;
/// What `mmio::File` keeps to itself: more than this is sent at once.
const KEPT: usize = 8192;

impl Messages<'_> {
    fn record(&mut self, random: &mut fastrand::Rng) -> anyhow::Result<()> {
        let leap = self.of.plan.leaps.then(|| random.usize(..STEPS));
        for step in 0..STEPS {
            self.of.step();
            if step == STEPS / 2 {
                self.of.half_way()?;
            }
            match random.u8(..8) {
                _ if leap == Some(step) => self.leap(random)?,
                0..3 => self.write(self.end, length(random))?,
                3..5 => self.overwrite(random)?,
                5 => {
                    let gap = random.u64(1..10_000);
                    self.of.say(Claim::Lies(self.of.take, self.end, gap, 0))?;
                    self.write(self.end + gap, length(random))?;
                }
                _ => {
                    self.file.flush()?;
                    self.of.say(Claim::Durable(self.of.take, self.end, self.patches))?;
                }
            }
            self.of.say(Claim::Durable(self.of.take, DURABLE.get(), 0))?;
        }
        if self.of.scenario.space == Space::Ample {
            return Ok(());
        }
        Ok(self.file.flush()?) // a close waits for no space
    }

    fn write(&mut self, at: u64, len: usize) -> anyhow::Result<()> {
        let data = bytes(self.of.seed(), at, len);
        self.reach = at + len as u64;
        self.file.seek(SeekFrom::Start(at))?;
        self.file.write(&data)?;
        self.end = self.reach;
        Ok(())
    }

    fn leap(&mut self, random: &mut fastrand::Rng) -> anyhow::Result<()> {
        let gap = LONG_GAP + random.u64(1..64 << 10);
        let to = self.end + gap;
        self.of.say(Claim::Lies(self.of.take, self.end, gap, 0))?;
        self.write(to, KEPT + length(random))
    }

    fn overwrite(&mut self, random: &mut fastrand::Rng) -> anyhow::Result<()> {
        let (take, seed) = (self.of.take, self.of.seed());
        let (from, to) = place_of_patch(self.of.plan, self.end, random);
        self.patches += 1;
        let number = self.patches;
        self.of.say(Claim::Patched(take, number, from, to - from))?;
        let data: Vec<u8> = (from..to).map(|at| patched(seed, number, at)).collect();
        self.file.seek(SeekFrom::Start(from))?;
        Ok(self.file.write(&data)?)
    }
}

/// As a program that speaks MMIO renames a file.
fn rename_by_message(from: &Path, to: &Path) -> anyhow::Result<()> {
    let [from, to] = [from, to].map(|path| CString::new(path.as_os_str().as_bytes()));
    let (from, to) = (from?, to?);
    // SAFETY: both names end with a zero.
    #[allow(unsafe_code)]
    let answer = unsafe {
        let (from, to) = (from.as_ptr() as isize, to.as_ptr() as isize);
        mmio::io_procedure(std::ptr::null_mut(), mmio::MMIOM_RENAME, from, to)
    };
    ensure!(answer == 0, "MMIOM_RENAME answers {answer}");
    Ok(())
}
