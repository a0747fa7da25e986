//! The disk fails under a recording: what the producer, those who wait, the close and the file say.
//!
//! A producer that waits for room, a thread that flushes, one that holds tickets and one that
//! patches are at work when it happens. All have to hear of the same failure; nobody may hang; and
//! what was called durable has to survive a power cut at any moment of it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use writeflush::{Control, Error, Operation, Options};

use crate::claims::{Claim, Claims};
use crate::content::{bytes, header, name};
use crate::medium::FileSystem;
use crate::recording::Producer;
use crate::rig::Orders;
use crate::scenario::{Face, Scenario, Way};

/// What happens to the disk.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// Writes fail with EIO.
    Writes,
    /// Flushes fail with EIO.
    Flushes,
    /// Writes to blocks that were never written fail with ENOSPC: a thin device that is full. Later
    /// there is room.
    ThinDevice,
    /// Every request fails: the device was pulled.
    Gone,
    /// Every request takes two seconds more, then all is well.
    Stall,
    /// The file system is full; later there is room again.
    Full,
}

impl Fault {
    pub(crate) const ALL: [Self; 6] =
        [Self::Writes, Self::Flushes, Self::ThinDevice, Self::Gone, Self::Stall, Self::Full];

    fn order(self) -> Option<&'static str> {
        match self {
            Self::Writes => Some("fail writes 5"),
            Self::Flushes => Some("fail flushes 5"),
            Self::ThinDevice => Some("fail new 28"),
            Self::Gone => Some("gone"),
            Self::Stall => Some("stall 2000"),
            Self::Full => None,
        }
    }

    /// What a writer may say that it was doing, and why it could not. A file system that could not
    /// write its own journal says EIO, or that it is read-only now.
    fn may_fail(self, operation: Operation, code: Option<i32>) -> bool {
        let codes: &[i32] = match self {
            Self::Writes | Self::Flushes => &[libc::EIO, libc::EROFS],
            Self::Gone => &[libc::EIO, libc::EROFS, libc::ENODEV],
            Self::ThinDevice => &[libc::ENOSPC, libc::EIO, libc::EROFS],
            Self::Full => &[libc::ENOSPC],
            Self::Stall => &[],
        };
        // A patch reads the block that it covers in part: in vain from a device that is gone, or
        // from a file system that has given up since it could not write.
        let reads = self != Self::Full && operation == Operation::Read;
        (reads || matches!(operation, Operation::Write | Operation::Flush))
            && code.is_some_and(|code| codes.contains(&code))
    }

    /// On xfs a flush of what is in the page cache never comes back from a thin device that is full:
    /// nobody would hear anything.
    pub(crate) fn is_possible(self, file_system: FileSystem, way: Way) -> bool {
        let cached = matches!(way, Way::UringPageCache | Way::SyncPageCache);
        !(self == Self::ThinDevice && file_system == FileSystem::Xfs && cached)
    }

    /// Whether a writer has to fail.
    pub(crate) fn is_failure(self) -> bool {
        self != Self::Stall
    }
}

/// What everybody said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    /// The failure, if there was one.
    pub(crate) error: Option<String>,
    /// What was being done, and the operating system's number.
    pub(crate) operation: Option<String>,
    pub(crate) code: Option<i32>,
    pub(crate) durable: u64,
    /// How long a fence took at the most, in ms.
    pub(crate) longest_fence_ms: f64,
    /// What is not as it has to be.
    pub(crate) wrong: Vec<String>,
}

/// Bytes that are durable before anything fails.
const BEFORE: u64 = 10_000;
const RECORD: usize = 3_000;
/// A recording that outlives its fault by so much has seen it.
const STALLED: Duration = Duration::from_millis(2_500);
/// A failure that nobody has heard of by then is never told.
const DEAF: Duration = Duration::from_secs(40);
/// Between two calls of those who wait.
const BREATH: Duration = Duration::from_millis(2);
/// The most that is written before something fails: a replay looks at all of it. Where the disk
/// fills up there is no end.
const MOST: u64 = 1 << 20;
/// What a writer writes that is at work for long.
const LONG: u64 = 16 << 20;
/// All is well for so long, if for no longer.
pub(crate) const CALM: Duration = Duration::from_millis(60);

/// Records until the fault has been heard by all, or is over.
pub(crate) fn suffer(
    scenario: &Scenario,
    (fault, calm): (Fault, Duration),
    folder: &Path,
    claims: &Path,
    orders: &Orders,
) -> anyhow::Result<Told> {
    let claims = Claims::at(claims)?;
    let path = folder.join(name(0));
    scenario.prepare(folder)?;
    claims.say(Claim::Begun)?;
    let mut random = fastrand::Rng::with_seed(scenario.seed);
    let writer = scenario.open(&scenario.takes[0], &path, &mut random)?;
    let face = if random.bool() { Face::Turns } else { Face::Exclusive };
    let mut producer = Producer::new(writer, face);
    claims.say(Claim::Named(0))?;
    let first = [&header(0)[..], &content(scenario, 16, BEFORE as usize - 16)].concat();
    let durable = producer.write_flush(&first)?;
    ensure!(durable == BEFORE, "durable at {durable}");
    claims.say(Claim::Durable(0, durable, 0))?;

    let stop = AtomicBool::new(false);
    let most = match fault {
        Fault::Full => u64::MAX,
        _ if calm > CALM => LONG,
        Fault::ThinDevice => 4 * MOST, // more than there is space for, less than the file system has
        _ => MOST,
    };
    // A writer that is at work for long is, all the time.
    let pace = if calm > CALM { calm / (LONG / RECORD as u64) as u32 } else { Duration::ZERO };
    let control = producer.control().clone();
    let claimed = |durable| claims.say(Claim::Durable(0, durable, 0)).map_or((), drop);
    // As a caller feels it: a fence that is asked for while the driver is inside a call waits too.
    let longest = Mutex::new(Duration::ZERO);
    let flush = || {
        let since = Instant::now();
        let flushed = control.flush();
        let mut longest = lock(&longest);
        *longest = since.elapsed().max(*longest);
        flushed.map(claimed)
    };
    let heard = std::thread::scope(|scope| -> anyhow::Result<Vec<Heard>> {
        let all = [
            ("producer", scope.spawn(|| produce(&mut producer, scenario, (most, pace), &stop))),
            ("flusher", scope.spawn(|| again(&stop, flush))),
            ("ticket", scope.spawn(|| again(&stop, || control.fence().wait().map(claimed)))),
            ("patcher", scope.spawn(|| again(&stop, || control.patch(0, &header(0))))),
        ];
        std::thread::sleep(calm);
        let broken = break_it(fault, folder, orders);
        if fault == Fault::Stall {
            std::thread::sleep(STALLED);
            orders.give("heal")?;
            stop.store(true, Ordering::Relaxed);
        } else if !within(DEAF, || control.error().is_some()) {
            stop.store(true, Ordering::Relaxed); // nobody will ever hear of it
        }
        let heard = all.map(|(who, thread)| Heard { who, ended: thread.join() });
        broken.map(|()| heard.into())
    })?;
    let longest = *lock(&longest);
    let mut told = judge(fault, &heard, &control, longest);
    let accepted = control.positions().accepted;
    let closed = producer.close();
    match (&closed, fault.is_failure()) {
        (Err(failed), true) => {
            let first = failed.errors[0].to_string();
            if Some(&first) != told.error.as_ref() {
                told.wrong.push(format!("the close says: {first}"));
            }
        }
        (Ok(summary), false) if summary.positions.durable == accepted => {}
        (Ok(_), true) => told.wrong.push("the close hides the failure".into()),
        (closed, false) => told.wrong.push(format!("the close: {closed:?}")),
    }
    told.durable = control.positions().durable;
    claims.say(Claim::Durable(0, told.durable, 0))?;
    if fault == Fault::Full {
        std::fs::remove_file(folder.join(FILLER))?;
        std::fs::File::open(folder)?.sync_all()?;
        told.wrong.extend(go_on(scenario, folder, told.durable)?);
    }
    claims.say(Claim::Ended)?;
    Ok(told)
}

/// Whether something comes true in time.
fn within(limit: Duration, is_true: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !is_true() {
        if begun.elapsed() > limit {
            return false;
        }
        std::thread::sleep(BREATH);
    }
    true
}

fn content(scenario: &Scenario, from: u64, len: usize) -> Vec<u8> {
    bytes(scenario.seed, from, len)
}

fn break_it(fault: Fault, folder: &Path, orders: &Orders) -> anyhow::Result<()> {
    match fault.order() {
        Some(order) => orders.give(order),
        None => fill(folder),
    }
}

const FILLER: &str = "filler";

/// Takes all the space that is left.
fn fill(folder: &Path) -> anyhow::Result<()> {
    use std::io::Write;
    let mut filler = std::fs::File::create(folder.join(FILLER))?;
    for piece in [1 << 20, 64 << 10, 4096] {
        while filler.write_all(&vec![1; piece]).and_then(|()| filler.sync_data()).is_ok() {}
    }
    Ok(())
}

/// There is room again: a new writer goes on behind what was durable. Says what is wrong.
pub(crate) fn go_on(
    scenario: &Scenario,
    folder: &Path,
    durable: u64,
) -> anyhow::Result<Option<String>> {
    let path = folder.join(name(0));
    let options = Options::new().buffer_size(8192);
    let mut next = match options.append(&path) {
        // The writer that failed has not closed it.
        Err(Error::Unfinished { from, .. }) => options.append_at(&path, from.max(durable))?,
        next => next?,
    };
    let start = next.positions().accepted;
    let more = content(scenario, start, RECORD);
    next.write_flush(&more)?;
    next.close().map_err(|failed| anyhow::anyhow!("{failed}"))?;
    let found = std::fs::read(&path)?;
    let whole = found.len() as u64 == start + RECORD as u64
        && start >= durable
        && found[16..durable as usize] == content(scenario, 16, durable as usize - 16)
        && found.ends_with(&more);
    Ok((!whole).then(|| "the next writer did not go on".into()))
}

/// What one of them heard in the end.
#[derive(Debug)]
struct Heard {
    who: &'static str,
    ended: std::thread::Result<Option<Error>>,
}

fn produce(
    producer: &mut Producer,
    scenario: &Scenario,
    (most, pace): (u64, Duration),
    stop: &AtomicBool,
) -> Option<Error> {
    while !stop.load(Ordering::Relaxed) {
        let at = producer.control().positions().accepted;
        if at < most {
            if let Err(error) = producer.write(&content(scenario, at, RECORD)) {
                return Some(error);
            }
            std::thread::sleep(pace);
        } else if let Some(error) = producer.control().error() {
            return Some(error);
        } else {
            std::thread::sleep(BREATH);
        }
    }
    None
}

fn again(stop: &AtomicBool, mut call: impl FnMut() -> Result<(), Error>) -> Option<Error> {
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = call() {
            return Some(error);
        }
        std::thread::sleep(BREATH);
    }
    None
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn judge(fault: Fault, all: &[Heard], control: &Control, longest: Duration) -> Told {
    let first = control.error();
    let error = first.as_ref().map(ToString::to_string);
    let mut wrong = Vec::new();
    for Heard { who, ended } in all {
        match ended {
            Err(_) => wrong.push(format!("the {who} panicked")),
            Ok(heard) => {
                let said = heard.as_ref().map(ToString::to_string);
                if said != error {
                    wrong.push(format!("the {who} heard {said:?}"));
                }
            }
        }
    }
    if error.is_some() != fault.is_failure() {
        wrong.push(format!("the stream says {error:?}"));
    }
    let longest = longest.as_secs_f64() * 1000.0;
    if fault == Fault::Stall && longest < 1000.0 {
        wrong.push(format!("no fence took longer than {longest} ms: the stall was not felt"));
    }
    let code = first.as_ref().and_then(Error::raw_os_error);
    let operation = match first {
        Some(Error::Io { operation, .. }) => {
            if !fault.may_fail(operation, code) {
                wrong.push(format!("{operation:?} and {code:?} are no outcome of this fault"));
            }
            Some(format!("{operation:?}"))
        }
        Some(_) => {
            wrong.push("no failure of the operating system".into());
            None
        }
        None => None,
    };
    Told { error, operation, code, durable: 0, longest_fence_ms: longest, wrong }
}

/// What a recording has written on its standard output.
pub(crate) fn told<T: serde::de::DeserializeOwned>(
    output: &std::process::Output,
) -> anyhow::Result<T> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the recording failed: {said}");
    serde_json::from_slice(&output.stdout).context("the recording says nothing")
}
