//! The program under test: records as a scenario says, and claims what it knows.

use std::ffi::CString;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{bail, ensure};
use writeflush::{CloseError, Control, Error, Push, SharedWriter, Summary, Ticket, Writer, mmio};

use crate::claims::{Claim, Claims};
use crate::content::{HEADER, bytes, header, kept, name, old, patched, salt};
use crate::scenario::{Ending, Face, GRANT, Mode, Plan, Renamed, Scenario, TAKES};

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
    pub(crate) fn work(&self, folder: &Path, claims: &Path) -> anyhow::Result<()> {
        let claims = Claims::at(claims)?;
        self.prepare(folder)?;
        claims.say(Claim::Begun)?;
        let record = |take| {
            let plan = &self.takes[take as usize];
            Take { scenario: self, plan, take, folder, claims: &claims }.record()
        };
        if self.side_by_side {
            std::thread::scope(|scope| {
                let other = scope.spawn(|| record(1));
                record(0).and(joined(other.join()))
            })?;
        } else {
            (0..TAKES).try_for_each(record)?;
        }
        claims.say(Claim::Ended)
    }

    /// The folder as it is before the recording.
    pub(crate) fn prepare(&self, folder: &Path) -> anyhow::Result<()> {
        for (take, plan) in (0..TAKES).zip(&self.takes) {
            if plan.old > 0 {
                let path = folder.join(name(take));
                std::fs::write(&path, old(self.seed_of(take), plan.old))?;
                File::open(&path)?.sync_all()?;
            }
        }
        Ok(File::open(folder)?.sync_all()?)
    }

    pub(crate) fn open(
        &self,
        mode: Mode,
        path: &Path,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<Writer> {
        let options = self.options(random);
        Ok(match mode {
            Mode::CreateNew => options.create_new(path)?,
            Mode::Create | Mode::CreateOver => options.create(path)?,
            Mode::Append => options.append(path)?,
            Mode::Open => options.open(path)?,
        })
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
}

impl Take<'_> {
    fn say(&self, claim: Claim) -> anyhow::Result<()> {
        self.claims.say(claim)
    }

    fn path(&self) -> PathBuf {
        self.folder.join(name(self.take))
    }

    fn kept(&self) -> PathBuf {
        self.folder.join(kept(self.take))
    }

    fn seed(&self) -> u64 {
        self.scenario.seed_of(self.take)
    }

    fn record(&self) -> anyhow::Result<()> {
        let mut random = fastrand::Rng::with_seed(self.scenario.seed * TAKES + self.take);
        let (end, patches) = match self.plan.face {
            Face::Mmio => self.record_by_messages(&mut random)?,
            _ => self.record_by_writer(&mut random)?,
        };
        let length = if self.plan.is_recycled() { end.max(self.plan.old) } else { end };
        self.say(Claim::End(self.take, end))?;
        self.say(Claim::Durable(self.take, end, patches))?;
        self.say(Claim::Closed(self.take, length))?;
        match self.plan.renamed {
            Renamed::Never => Ok(()),
            Renamed::WhileRecording => self.say(Claim::Renamed(self.take)),
            Renamed::Complete => {
                self.say(Claim::Renaming(self.take))?;
                rename_by_message(&self.path(), &self.kept())?;
                self.say(Claim::Renamed(self.take))
            }
        }
    }

    /// Half way through, by somebody who knows nothing of the writer.
    fn half_way(&self) -> anyhow::Result<()> {
        if self.plan.renamed == Renamed::WhileRecording {
            self.say(Claim::Renaming(self.take))?;
            std::fs::rename(self.path(), self.kept())?;
        }
        Ok(())
    }

    /// Where it ended, and how many patches there were.
    fn record_by_writer(&self, random: &mut fastrand::Rng) -> anyhow::Result<(u64, u64)> {
        let writer = self.scenario.open(self.plan.mode, &self.path(), random)?;
        self.say(Claim::Named(self.take))?;
        let control = writer.control().clone();
        let mut producer = Producer::new(writer, self.plan.face);
        producer.write(&header(0))?;
        let mut hand = Hand { of: *self, producer, number: 0, tickets: Vec::new(), patches: 0 };
        let (is_shared, stop) =
            (matches!(hand.producer, Producer::Turns(_)), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let flusher = is_shared.then(|| scope.spawn(|| self.flush_again(&control, &stop)));
            let recorded = match self.plan.face {
                Face::Threads => self.record_at_once(&mut hand, random),
                _ => hand.record(STEPS, random),
            };
            stop.store(true, Ordering::Relaxed);
            let flushed = flusher.map_or(Ok(()), |flusher| joined(flusher.join()));
            recorded.and(flushed)
        })?;
        let end = control.positions().accepted;
        drop(control);
        let Hand { producer, patches, tickets, .. } = hand;
        drop(tickets);
        match self.plan.ending {
            Ending::Close => drop(producer.close()?),
            Ending::Drop => drop(producer),
        }
        Ok((end, patches))
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
        for step in 0..steps {
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
            Producer::Seeks(writer) if random.u8(..4) == 0 => {
                let gap = random.u64(1..10_000);
                let behind = writer.seek(SeekFrom::End(gap as i64))?;
                writer.write_all(&bytes(self.of.seed(), behind, len))?;
                self.of.say(Claim::Lies(self.of.take, at, gap, 0))
            }
            producer => Ok(producer.write(&bytes(self.of.seed(), at, len))?),
        }
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

impl Take<'_> {
    /// As a program that speaks MMIO.
    fn record_by_messages(&self, random: &mut fastrand::Rng) -> anyhow::Result<(u64, u64)> {
        let every = random.bool().then_some(BREATH);
        let options = self.scenario.options(random);
        mmio::Settings::new().options(options).fence_every(every).apply();
        let create = match self.plan.mode {
            Mode::CreateNew | Mode::Create | Mode::CreateOver => mmio::MMIO_CREATE,
            Mode::Append | Mode::Open => 0,
        };
        let mut file = mmio::File::open(self.path(), create | mmio::MMIO_READWRITE)?;
        self.say(Claim::Named(self.take))?;
        let (mut end, mut patches) = (self.plan.start(), 0);
        for step in 0..STEPS {
            if step == STEPS / 2 {
                self.half_way()?;
            }
            match random.u8(..8) {
                0..3 => end = self.write_by_message(&mut file, end, random)?,
                3..5 => {
                    patches += 1;
                    self.overwrite_by_message(&mut file, (end, patches), random)?;
                }
                5 => {
                    let gap = random.u64(1..10_000);
                    self.say(Claim::Lies(self.take, end, gap, 0))?;
                    end = self.write_by_message(&mut file, end + gap, random)?;
                }
                _ => {
                    file.flush()?;
                    self.say(Claim::Durable(self.take, end, patches))?;
                }
            }
        }
        match self.plan.ending {
            Ending::Close => file.close()?,
            Ending::Drop => drop(file),
        }
        Ok((end, patches))
    }

    fn write_by_message(
        &self,
        file: &mut mmio::File,
        at: u64,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<u64> {
        let data = bytes(self.seed(), at, length(random));
        file.seek(SeekFrom::Start(at))?;
        file.write(&data)?;
        Ok(at + data.len() as u64)
    }

    fn overwrite_by_message(
        &self,
        file: &mut mmio::File,
        (end, number): (u64, u64),
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<()> {
        let (from, to) = place_of_patch(self.plan, end, random);
        self.say(Claim::Patched(self.take, number, from, to - from))?;
        let data: Vec<u8> = (from..to).map(|at| patched(self.seed(), number, at)).collect();
        file.seek(SeekFrom::Start(from))?;
        Ok(file.write(&data)?)
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
