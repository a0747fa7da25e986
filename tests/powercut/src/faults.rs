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
use writeflush::{Control, Error, OnFull, Options, Writer};

use crate::content::{bytes, header, name};
use crate::rig::Orders;
use crate::scenario::{Claim, Claims, Scenario};

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
    /// Writes fail with ENOSPC: a thin device that is full.
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
            Self::ThinDevice => Some("fail writes 28"),
            Self::Gone => Some("gone"),
            Self::Stall => Some("stall 2000"),
            Self::Full => None,
        }
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
/// Between two calls of those who wait.
const BREATH: Duration = Duration::from_millis(2);
/// The most that is written before something fails: a replay looks at all of it. Where the disk
/// fills up there is no end.
const MOST: u64 = 8 << 20;

/// Records until the fault has been heard by all, or is over.
pub(crate) fn suffer(
    scenario: &Scenario,
    fault: Fault,
    folder: &Path,
    claims: &Path,
    orders: &Orders,
) -> anyhow::Result<Told> {
    let mut claims = Claims::at(claims)?;
    let path = folder.join(name(0));
    std::fs::File::open(folder)?.sync_all()?;
    claims.say(Claim::Begun)?;
    let options = scenario.way.options().buffers(3).buffer_size(8192).on_full(OnFull::Block);
    let mut writer = options.create(&path)?;
    claims.say(Claim::Named(0))?;
    let first = [&header(0)[..], &content(scenario, 16, BEFORE as usize - 16)].concat();
    let durable = writer.write_flush(&first)?;
    ensure!(durable == BEFORE, "durable at {durable}");
    claims.say(Claim::Durable(0, durable))?;

    let stop = AtomicBool::new(false);
    let most = if fault == Fault::Full { u64::MAX } else { MOST };
    let claims = Mutex::new(claims);
    let control = writer.control().clone();
    let claimed = |durable| lock(&claims).say(Claim::Durable(0, durable)).map_or((), drop);
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
            ("producer", scope.spawn(|| produce(&mut writer, scenario, most, &stop))),
            ("flusher", scope.spawn(|| again(&stop, flush))),
            ("ticket", scope.spawn(|| again(&stop, || control.fence().wait().map(claimed)))),
            ("patcher", scope.spawn(|| again(&stop, || control.patch(0, &header(0))))),
        ];
        std::thread::sleep(Duration::from_millis(60));
        let broken = break_it(fault, folder, orders);
        if fault == Fault::Stall {
            std::thread::sleep(STALLED);
            orders.give("heal")?;
            stop.store(true, Ordering::Relaxed);
        }
        let heard = all.map(|(who, thread)| Heard { who, ended: thread.join() });
        broken.map(|()| heard.into())
    })?;
    let longest = *lock(&longest);
    let mut told = judge(fault, &heard, &control, longest);
    let accepted = control.positions().accepted;
    let closed = writer.close();
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
    let durable = control.positions().durable;
    lock(&claims).say(Claim::Durable(0, durable))?;
    if fault == Fault::Full {
        told.wrong.extend(go_on(&path, folder, scenario, durable)?);
    }
    lock(&claims).say(Claim::Ended)?;
    Ok(told)
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

/// There is room again: a new writer goes on behind what was durable.
fn go_on(
    path: &Path,
    folder: &Path,
    scenario: &Scenario,
    durable: u64,
) -> anyhow::Result<Option<String>> {
    std::fs::remove_file(folder.join(FILLER))?;
    std::fs::File::open(folder)?.sync_all()?;
    let mut next = Options::new().buffer_size(8192).append(path)?;
    let start = next.positions().accepted;
    next.write_flush(b"and on")?;
    next.close().map_err(|failed| anyhow::anyhow!("{failed}"))?;
    let found = std::fs::read(path)?;
    let whole = found.len() as u64 == start + 6
        && start >= durable
        && found[16..durable as usize] == content(scenario, 16, durable as usize - 16)
        && found.ends_with(b"and on");
    Ok((!whole).then(|| "the next writer did not go on".into()))
}

/// What one of them heard in the end.
#[derive(Debug)]
struct Heard {
    who: &'static str,
    ended: std::thread::Result<Option<Error>>,
}

fn produce(
    writer: &mut Writer,
    scenario: &Scenario,
    most: u64,
    stop: &AtomicBool,
) -> Option<Error> {
    while !stop.load(Ordering::Relaxed) {
        let at = writer.positions().accepted;
        if at < most {
            if let Err(error) = writer.write(&content(scenario, at, RECORD)) {
                return Some(error);
            }
        } else if let Some(error) = writer.error() {
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
    let error = control.error().map(|error| error.to_string());
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
    Told { error, longest_fence_ms: longest, wrong }
}

/// What a recording has written on its standard output.
pub(crate) fn told(output: &std::process::Output) -> anyhow::Result<Told> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the recording failed: {said}");
    serde_json::from_slice(&output.stdout).context("the recording says nothing")
}
