//! What is recorded: the program under test.

use std::ffi::CString;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::content::{HEADER, bytes, header, kept, name, patched};
use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use writeflush::{
    BackendChoice, CloseError, Control, Direct, Drive, Error, FenceForm, Options, Preallocate,
    SharedWriter, Summary, Ticket, Writer, mmio,
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
pub(crate) const TAKES: u64 = 2;
/// Between two flushes of another thread.
const BREATH: Duration = Duration::from_millis(3);

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
    /// It is to get its other name, and has it.
    Renaming(u64),
    Renamed(u64),
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
        lock(claims).say(Claim::Closed(take, length))?;
        lock(claims).say(Claim::Renaming(take))?;
        rename(&folder.join(name(take)), &folder.join(kept(take)))?;
        lock(claims).say(Claim::Renamed(take))
    }
}

/// As a program that speaks MMIO renames a file.
fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
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
