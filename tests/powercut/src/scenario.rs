//! What is recorded, and what has to be left of it: the program under test, and its judge.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::content::{HEADER, byte, bytes, header, name, patched, position};
use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use writeflush::{
    BackendChoice, CloseError, Control, Direct, Drive, Error, FenceForm, Options, Preallocate,
    SharedWriter, Summary, Ticket, Writer,
};

/// How the writer is set up. Where the planner may choose among forms of a fence, recordings with
/// consecutive seeds take them in turn.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    UringDsync,
    UringLink,
    UringFlush,
    UringPageCache,
    SyncDirect,
    SyncPageCache,
}

/// The file before the recording. What is reserved is zeroed in every second recording.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    Growing,
    Reserved,
    Written,
}

impl Way {
    pub(crate) const ALL: [Self; 6] = [
        Self::UringDsync,
        Self::UringLink,
        Self::UringFlush,
        Self::UringPageCache,
        Self::SyncDirect,
        Self::SyncPageCache,
    ];

    /// Some that share nothing: direct and not, asynchronous and not.
    pub(crate) const FEW: [Self; 3] = [Self::UringLink, Self::UringPageCache, Self::SyncDirect];

    fn forms(self) -> &'static [FenceForm] {
        use FenceForm::{Auto, Dsync, Flush, Link};
        match self {
            Self::UringDsync => &[Dsync, Auto],
            Self::UringLink => &[Link],
            Self::UringFlush => &[Flush],
            Self::UringPageCache => &[Auto, Link, Flush, Dsync],
            Self::SyncDirect | Self::SyncPageCache => &[Auto, Flush],
        }
    }

    fn options(self, seed: u64) -> Options {
        let forms = self.forms();
        let options = Options::new().fence_form(forms[seed as usize % forms.len()]);
        let (backend, direct) = match self {
            Self::UringDsync | Self::UringLink | Self::UringFlush => {
                (BackendChoice::Uring, Direct::On)
            }
            Self::UringPageCache => (BackendChoice::Uring, Direct::Off),
            Self::SyncDirect => (BackendChoice::Sync, Direct::On),
            Self::SyncPageCache => (BackendChoice::Sync, Direct::Off),
        };
        options.backend(backend).direct(direct)
    }
}

impl State {
    pub(crate) const ALL: [Self; 3] = [Self::Growing, Self::Reserved, Self::Written];
}

/// One recording: everything about it follows from these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scenario {
    pub(crate) way: Way,
    pub(crate) state: State,
    pub(crate) seed: u64,
}

/// Files are short: to read them again is what a check costs.
const RESERVED: u64 = 1 << 20;
const STEPS: usize = 60;
const LONGEST: usize = 24_000;
/// Files of one recording, one after the other.
const TAKES: u64 = 2;
/// Between two flushes of another thread.
const BREATH: Duration = Duration::from_millis(3);

// ---- the program under test -------------------------------------------------------------------------

/// Claims, in the order of the disk.
#[derive(Debug)]
pub(crate) struct Claims(File);

impl Claims {
    pub(crate) fn at(path: &Path) -> anyhow::Result<Self> {
        Ok(Self(File::options().write(true).open(path).context("no place for claims")?))
    }

    pub(crate) fn say(&mut self, claim: Claim) -> anyhow::Result<()> {
        let line = serde_json::to_string(&claim)?;
        self.0.write_all(line.as_bytes()).context("the disk took no claim")
    }
}

/// What the program under test says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Claim {
    /// Everything before is preparation.
    Begun,
    /// The file is open: its name survives.
    Named(u64),
    /// The bytes below a position are durable, and so many patches.
    Durable(u64, u64, u64),
    /// A patch is asked for: its number, its first byte, and how many bytes it has.
    Patched(u64, u64, u64, u64),
    /// A checkpoint is asked for, and perhaps through.
    Asked(u64, u64),
    Checkpoint(u64, u64),
    /// The file is closed, and so long.
    Closed(u64, u64),
    Ended,
}

/// The face of the producer.
pub(crate) enum Face {
    One(Writer),
    /// Two clones that take turns.
    Many([SharedWriter; 2]),
}

impl Face {
    pub(crate) fn new(writer: Writer, shared: bool) -> Self {
        if !shared {
            return Self::One(writer);
        }
        let writer = writer.into_shared();
        Self::Many([writer.clone(), writer])
    }

    pub(crate) fn control(&self) -> &Control {
        match self {
            Self::One(writer) => writer.control(),
            Self::Many([writer, _]) => writer.control(),
        }
    }

    pub(crate) fn write(&mut self, data: &[u8]) -> Result<(), Error> {
        match self {
            Self::One(writer) => writer.write(data).map(drop),
            Self::Many(writers) => {
                writers.swap(0, 1);
                writers[0].write(data).map(drop)
            }
        }
    }

    pub(crate) fn write_flush(&mut self, data: &[u8]) -> Result<u64, Error> {
        match self {
            Self::One(writer) => writer.write_flush(data),
            Self::Many([writer, _]) => writer.write_flush(data),
        }
    }

    pub(crate) fn close(self) -> Result<Summary, CloseError> {
        match self {
            Self::One(writer) => writer.close(),
            Self::Many([writer, _]) => writer.close(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One file that is being recorded.
struct Take<'a> {
    take: u64,
    seed: u64,
    face: Face,
    /// Each with the number of patches before it.
    tickets: Vec<(Ticket, u64)>,
    patches: u64,
    claims: &'a Mutex<Claims>,
}

impl Take<'_> {
    fn say(&self, claim: Claim) -> anyhow::Result<()> {
        lock(self.claims).say(claim)
    }

    fn accepted(&self) -> u64 {
        self.face.control().positions().accepted
    }

    fn record(&mut self, random: &mut fastrand::Rng) -> anyhow::Result<()> {
        self.face.write(&header(0))?;
        for _ in 0..STEPS {
            self.step(random)?;
            if random.u8(..4) == 0 {
                self.say(Claim::Durable(self.take, self.face.control().positions().durable, 0))?;
            }
        }
        Ok(())
    }

    fn step(&mut self, random: &mut fastrand::Rng) -> anyhow::Result<()> {
        let (take, position) = (self.take, self.accepted());
        // Mostly short, now and then longer than all buffers together.
        let longest = if random.u8(..8) == 0 { LONGEST } else { 3000 };
        let data = bytes(self.seed, position, random.usize(1..longest));
        match random.u8(..13) {
            0..4 => self.face.write(&data)?,
            4..6 => {
                let durable = self.face.write_flush(&data)?;
                self.say(Claim::Durable(take, durable, self.patches))?;
            }
            6..8 => {
                self.face.write(&data)?;
                self.tickets.push((self.face.control().fence(), self.patches));
            }
            8 => {
                for (ticket, patches) in std::mem::take(&mut self.tickets) {
                    self.say(Claim::Durable(take, ticket.wait()?, patches))?;
                }
            }
            9 => {
                let asked = |position| {
                    // Once the header may be on its way, its position may be found.
                    let _ = lock(self.claims).say(Claim::Asked(take, position));
                    header(position)
                };
                let position = self.face.control().checkpoint(0, asked)?;
                self.say(Claim::Checkpoint(take, position))?;
                self.say(Claim::Durable(take, position, self.patches))?;
            }
            _ => self.patch(random)?,
        }
        Ok(())
    }

    /// Overwrites what was just written, or what has been settled for long.
    fn patch(&mut self, random: &mut fastrand::Rng) -> anyhow::Result<()> {
        let (least, end) = (HEADER as u64, self.accepted());
        let from = if random.bool() { least } else { end.saturating_sub(8192).max(least) };
        let from = random.u64(from..=end);
        let longest = if random.u8(..8) == 0 { LONGEST } else { 6000 };
        let to = end.min(from + random.u64(..longest as u64));
        self.patches += 1;
        let number = self.patches;
        // It may be on its way before the call returns.
        self.say(Claim::Patched(self.take, number, from, to - from))?;
        let data: Vec<u8> = (from..to).map(|at| patched(self.seed, number, at)).collect();
        Ok(self.face.control().patch(from, &data)?)
    }
}

impl Scenario {
    /// Records, and claims what it knows.
    pub(crate) fn work(&self, folder: &Path, claims: &Path) -> anyhow::Result<()> {
        let claims = Mutex::new(Claims::at(claims)?);
        let mut random = fastrand::Rng::with_seed(self.seed);
        self.prepare(folder)?;
        lock(&claims).say(Claim::Begun)?;
        for take in 0..TAKES {
            self.take(take, folder, &mut random, &claims)?;
        }
        lock(&claims).say(Claim::Ended)
    }

    /// The folder as it is before the recording.
    pub(crate) fn prepare(&self, folder: &Path) -> anyhow::Result<()> {
        if self.state == State::Written {
            for take in 0..TAKES {
                let path = folder.join(name(take));
                std::fs::write(&path, vec![0; RESERVED as usize])?;
                File::open(&path)?.sync_all()?;
            }
        }
        Ok(File::open(folder)?.sync_all()?)
    }

    /// Who drives differs between the recordings with consecutive seeds, whatever form and space
    /// they have.
    pub(crate) fn open(&self, path: &Path, random: &mut fastrand::Rng) -> anyhow::Result<Writer> {
        let drive = match random.u8(..8) {
            0 => Drive::Poll,
            _ if (self.seed ^ self.seed >> 1) & 1 == 0 => Drive::Caller,
            _ => Drive::Thread,
        };
        let options = self.way.options(self.seed).drive(drive).buffers(random.usize(2..5));
        let options = options.buffer_size(4096 * random.usize(1..5)).grant_limit(4096);
        let ahead = match (self.seed / 2).is_multiple_of(2) {
            true => Preallocate::Reserve(RESERVED),
            false => Preallocate::Zero(RESERVED),
        };
        Ok(match self.state {
            State::Growing => options.create(path)?,
            State::Reserved => options.preallocate(ahead).create(path)?,
            State::Written => options.open(path)?,
        })
    }

    /// Every second file is recorded through a shared writer, while another thread flushes it.
    fn take(
        &self,
        take: u64,
        folder: &Path,
        random: &mut fastrand::Rng,
        claims: &Mutex<Claims>,
    ) -> anyhow::Result<()> {
        let writer = self.open(&folder.join(name(take)), random)?;
        lock(claims).say(Claim::Named(take))?;
        let control = writer.control().clone();
        let shared = (self.seed + take).is_multiple_of(2);
        let face = Face::new(writer, shared);
        let (seed, stop) = (self.seed ^ take, AtomicBool::new(!shared));
        let mut recording = Take { take, seed, face, tickets: Vec::new(), patches: 0, claims };
        std::thread::scope(|scope| {
            let flusher = scope.spawn(|| -> anyhow::Result<()> {
                while !stop.load(Ordering::Relaxed) {
                    let durable = control.flush()?;
                    lock(claims).say(Claim::Durable(take, durable, 0))?;
                    std::thread::sleep(BREATH);
                }
                Ok(())
            });
            let recorded = recording.record(random);
            stop.store(true, Ordering::Relaxed);
            let flushed = flusher.join().unwrap_or_else(|_| bail!("the flusher panicked"));
            recorded.and(flushed)
        })?;
        let end = control.positions().accepted;
        recording.face.close()?;
        let length = if self.state == State::Written { end.max(RESERVED) } else { end };
        lock(claims).say(Claim::Durable(take, end, recording.patches))?;
        lock(claims).say(Claim::Closed(take, length))
    }

    // ---- the judge ----------------------------------------------------------------------------------

    /// Whether everything that was claimed is there. The error says what is not.
    pub(crate) fn judge<'a>(
        &self,
        folder: &Path,
        claims: impl Iterator<Item = &'a str>,
    ) -> anyhow::Result<()> {
        let mut expected: [Expected; TAKES as usize] = Default::default();
        for claim in claims {
            match serde_json::from_str(claim).context("a claim that nobody understands")? {
                Claim::Begun | Claim::Ended => {}
                Claim::Named(take) => expected[take as usize].named = true,
                Claim::Durable(take, position, patches) => {
                    let known = &mut expected[take as usize];
                    known.durable = position.max(known.durable);
                    known.patches_durable = patches.max(known.patches_durable);
                }
                Claim::Patched(take, number, from, len) => {
                    expected[take as usize].patches.push(Patch { number, from, to: from + len });
                }
                Claim::Asked(take, position) => expected[take as usize].asked = position,
                Claim::Checkpoint(take, position) => expected[take as usize].checkpoint = position,
                Claim::Closed(take, length) => expected[take as usize].closed = Some(length),
            }
        }
        for (take, expected) in (0..).zip(&expected) {
            self.judge_take(take, expected, folder)
                .with_context(|| format!("{}: claimed {expected:?}", name(take)))?;
        }
        Ok(())
    }

    fn judge_take(&self, take: u64, expected: &Expected, folder: &Path) -> anyhow::Result<()> {
        let content = match std::fs::read(folder.join(name(take))) {
            Ok(content) => content,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !expected.named => {
                return Ok(());
            }
            Err(error) => bail!("it can't be read: {error}"),
        };
        if let Some(length) = expected.closed {
            let found = content.len() as u64;
            ensure!(found == length, "it is {found} bytes long after the close");
        }
        let content = Found { content: &content, seed: self.seed ^ take, expected };
        content.exact(expected.durable)?;
        content.nothing_strange(expected.durable)?;
        if expected.durable >= HEADER as u64 {
            let found = content.content.first_chunk().and_then(position);
            let described = found.context("its header is damaged")?;
            let least = expected.checkpoint;
            ensure!(described >= least, "its header describes {described}, less than was promised");
            let most = expected.asked.max(least);
            ensure!(described <= most, "its header describes {described}, which nobody wrote");
            content.exact(described).context("what its header describes")?;
        }
        Ok(())
    }
}

/// What has to be there.
#[derive(Clone, Debug, Default)]
struct Expected {
    named: bool,
    durable: u64,
    patches: Vec<Patch>,
    /// So many of them have to show.
    patches_durable: u64,
    asked: u64,
    checkpoint: u64,
    closed: Option<u64>,
}

/// Bytes that were, or may have been, overwritten.
#[derive(Clone, Copy, Debug)]
struct Patch {
    number: u64,
    from: u64,
    to: u64,
}

/// What is there.
struct Found<'a> {
    content: &'a [u8],
    seed: u64,
    expected: &'a Expected,
}

impl Found<'_> {
    /// Every byte before `end` is the one that was written, or was put there by a patch; a patch
    /// that has to show leaves nothing that is older.
    fn exact(&self, end: u64) -> anyhow::Result<()> {
        let len = self.content.len() as u64;
        ensure!(len >= end, "{len} bytes are left of {end} durable ones");
        let newest = self.newest(end);
        let wrong = (HEADER..newest.len())
            .filter(|at| self.content[*at] != newest[*at])
            .find(|at| !self.may_be(*at as u64, self.content[*at]));
        match wrong {
            Some(at) => {
                bail!("byte {at} of {end} durable ones is lost (it reads {})", self.content[at])
            }
            None => Ok(()),
        }
    }

    /// The bytes before `end` if every patch shows.
    fn newest(&self, end: u64) -> Vec<u8> {
        let mut newest = bytes(self.seed, 0, end as usize);
        for patch in &self.expected.patches {
            for at in patch.from..patch.to.min(end) {
                newest[at as usize] = patched(self.seed, patch.number, at);
            }
        }
        newest
    }

    /// Behind what is durable there is nothing but later bytes and zeros.
    fn nothing_strange(&self, durable: u64) -> anyhow::Result<()> {
        const STRIDE: usize = 512;
        let least = (durable as usize).max(HEADER);
        let pieces = self.content.chunks(STRIDE).enumerate().skip(least / STRIDE);
        let written = pieces.filter(|(_, piece)| piece.iter().any(|byte| *byte != 0));
        let places = written.flat_map(|(number, piece)| {
            (number * STRIDE..number * STRIDE + piece.len()).filter(|at| *at >= least)
        });
        match { places }.find(|at| self.is_strange(*at as u64, self.content[*at])) {
            Some(at) => bail!(
                "byte {at} behind {durable} durable ones is {}, which nobody wrote",
                self.content[at]
            ),
            None => Ok(()),
        }
    }

    fn is_strange(&self, at: u64, found: u8) -> bool {
        let mut patched = self.over(at).map(|patch| patched(self.seed, patch.number, at));
        found != 0 && found != byte(self.seed, at) && !patched.any(|byte| byte == found)
    }

    fn may_be(&self, at: u64, found: u8) -> bool {
        let mut fine = byte(self.seed, at) == found;
        for patch in self.over(at) {
            let certain = patch.number <= self.expected.patches_durable;
            fine = fine && !certain || patched(self.seed, patch.number, at) == found;
        }
        fine
    }

    fn over(&self, at: u64) -> impl Iterator<Item = &Patch> {
        self.expected.patches.iter().filter(move |patch| (patch.from..patch.to).contains(&at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCENARIO: Scenario = Scenario { way: Way::SyncDirect, state: State::Growing, seed: 7 };

    fn judged(content: &[u8], claims: &[Claim]) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("take-0"), content).unwrap();
        let lines: Vec<String> =
            claims.iter().map(|claim| serde_json::to_string(claim).unwrap()).collect();
        SCENARIO
            .judge(folder.path(), lines.iter().map(String::as_str))
            .map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_judge_accepts_what_was_claimed_and_misses_nothing() {
        let mut content = [&header(0)[..], &bytes(7, 16, 984)].concat();
        let claims = [Claim::Begun, Claim::Named(0), Claim::Durable(0, 1000, 0)];
        judged(&content, &claims).unwrap();
        // A zero behind what is durable is nobody's business, another byte is.
        content.push(0);
        judged(&content, &claims).unwrap();
        content[1000] = byte(7, 1000) ^ 1;
        assert!(judged(&content, &claims).unwrap_err().contains("byte 1000 behind 1000"));
        content.truncate(999);
        assert!(judged(&content, &claims).unwrap_err().contains("999 bytes are left"));
        content.push(0);
        assert!(judged(&content, &claims).unwrap_err().contains("byte 999"));

        content[..16].copy_from_slice(&header(500));
        let with = |content: &[u8], claim| judged(content, &[Claim::Durable(0, 900, 0), claim]);
        let refused = |claim| with(&content, claim).unwrap_err();
        with(&content, Claim::Asked(0, 500)).unwrap();
        assert!(refused(Claim::Named(0)).contains("nobody wrote"));
        assert!(refused(Claim::Checkpoint(0, 600)).contains("less than"));
        assert!(refused(Claim::Closed(0, 1001)).contains("1000 bytes long"));
        content[3] ^= 1;
        assert!(with(&content, Claim::Asked(0, 500)).unwrap_err().contains("damaged"));
        assert!(judged(&[], &[Claim::Named(1)]).unwrap_err().contains("take-1"));
    }

    #[test]
    fn a_patch_that_was_fenced_has_to_show_and_another_may() {
        let mut content = [&header(0)[..], &bytes(7, 16, 984)].concat();
        let asked = [Claim::Patched(0, 1, 100, 50), Claim::Durable(0, 1000, 0)];
        let fenced = [Claim::Patched(0, 1, 100, 50), Claim::Durable(0, 1000, 1)];
        judged(&content, &asked).unwrap();
        assert!(judged(&content, &fenced).unwrap_err().contains("byte 100 of"));
        (100..149).for_each(|at| content[at] = patched(7, 1, at as u64));
        judged(&content, &asked).unwrap(); // torn
        assert!(judged(&content, &fenced).unwrap_err().contains("byte 149 of"));
        content[149] = patched(7, 1, 149);
        judged(&content, &fenced).unwrap();
        assert!(judged(&content, &fenced[1..]).unwrap_err().contains("byte 100 of"));
    }
}
