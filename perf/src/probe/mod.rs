//! `probe`: what a place can promise, and whether it keeps it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use writeflush::{BackendChoice, Direct, Options};
use writeflush_workloads::subject::{self, Kind, Place};
use writeflush_workloads::{Device, FileState};

use crate::document::{self, Document, Findings};
use crate::environment::Environment;
use crate::error::INTERRUPTED;
use crate::output::{print, say};
use crate::scratch::Scratch;
use crate::stop::Stop;
use crate::verdict::{Verdict, Word};

const VERDICTS: &str = "\
HONEST        every fence was seen as a flush at the device, or the device says it has no volatile
              cache; whether the drive obeys a flush, no program can see
NOOP          fewer flushes than fences: a power cut can take what was called durable
UNVERIFIABLE  nothing in sight would decide; the reason says why

Exit status: 0 all honest; 1 something is not; 2 the directory can't be used; 130 interrupted";

/// Tell what a directory can promise: file system, device, backends, and whether fences flush
///
/// Needs no rights beyond writing there; flushes of other programs on the same device are counted
/// too, so do it while they rest.
#[derive(Debug, clap::Args)]
#[command(after_help = VERDICTS)]
pub(crate) struct Args {
    /// The directory to look at
    #[arg(default_value = ".")]
    directory: PathBuf,

    /// Fences to ask for in each check
    #[arg(long, default_value_t = 100, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=100_000))]
    fences: u64,

    /// Keep the result in this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Overwrite the result file
    #[arg(long)]
    force: bool,
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// What writeflush chooses here by default.
    choice: Choice,
    /// `allowed`, or the reason why not.
    io_uring: String,
    /// `possible`, or the reason why not.
    direct_io: String,
    checks: Vec<Check>,
}

impl Findings for Probe {
    const KIND: &'static str = "probe";
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Choice {
    backend: String,
    direct: bool,
    /// The durability label.
    durability: String,
    fallbacks: Vec<String>,
}

/// Fences asked for, and what the device counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Check {
    subject: String,
    fences: u64,
    device_flushes: Option<u64>,
    #[serde(flatten)]
    verdict: Verdict,
}

/// Looks.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    document::check_free(args.json.as_deref(), args.force)?;
    let stop = Stop::install().context("could not listen for signals")?;
    let scratch = Scratch::new(&args.directory, (args.fences + 2) * 4096)?;
    let environment = Environment::of(&args.directory);
    let Some(probe) = probe(scratch.path(), args.fences, &environment, &stop)? else {
        say("interrupted: nothing was kept");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let honest = probe.checks.iter().all(|check| check.verdict.word == Word::Honest);
    let document = Document::new(environment, probe);
    print(render(&document));
    if let Some(path) = &args.json {
        document.save(path)?;
    }
    Ok(ExitCode::from(u8::from(!honest)))
}

/// `None`: interrupted.
fn probe(
    folder: &Path,
    fences: u64,
    environment: &Environment,
    stop: &Stop,
) -> anyhow::Result<Option<Probe>> {
    let path = folder.join("probe");
    let choice = choice(&path).context("no writer opens here")?;
    let tried = |options: Options, well: &str| match options.create(&path) {
        Ok(_) => well.to_owned(),
        Err(error) => error.to_string(),
    };
    let io_uring = tried(Options::new().backend(BackendChoice::Uring), "allowed");
    let direct_io = tried(Options::new().direct(Direct::On), "possible");
    let names =
        ["floor page cache+fdatasync", "writeflush io_uring caller", "writeflush sync caller"];
    let mut checks = Vec::new();
    for kind in subject::kinds().iter().filter(|kind| names.contains(&kind.name)) {
        if stop.asked() {
            return Ok(None);
        }
        // What is refused here is said above; it can't be checked.
        if let Ok(seen) = flushes(kind, &path, fences) {
            let verdict = Verdict::of(fences, seen, environment);
            let subject = kind.name.into();
            checks.push(Check { subject, fences, device_flushes: seen, verdict });
        }
    }
    Ok(Some(Probe { choice, io_uring, direct_io, checks }))
}

fn choice(path: &Path) -> Result<Choice, writeflush::Error> {
    let writer = Options::new().create(path)?;
    Ok(Choice {
        backend: writer.backend().to_string(),
        direct: writer.is_direct(),
        durability: writer.durability().to_string(),
        fallbacks: writer.fallbacks().to_vec(),
    })
}

/// Flushes that the device counts while so many fences are asked for one by one. `None`: it can't
/// be seen.
fn flushes(kind: &Kind, path: &Path, fences: u64) -> io::Result<Option<u64>> {
    let state = FileState::Written;
    let place = Place { path, state, committers: 1, record: 4096, direct: true, commits: fences };
    state.prepare(path, place.len())?;
    let subject = (kind.open)(&place)?;
    let device = Device::under(path).ok();
    let counts = || device.as_ref().and_then(|device| device.counts().ok());
    let before = counts();
    for _ in 0..fences {
        subject.commit(0, &[7; 4096])?;
    }
    Ok(counts().zip(before).map(|(after, before)| after.since(before).flushes))
}

fn render(document: &Document<Probe>) -> String {
    let place = document.environment.lines();
    let place = place.into_iter().map(|(name, value)| (name.to_owned(), value));
    let lines: Vec<(String, String)> = place.chain(document.result.lines()).collect();
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    lines.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

impl Probe {
    /// Each finding with its name, for people.
    pub(crate) fn lines(&self) -> Vec<(String, String)> {
        let Probe { choice, io_uring, direct_io, checks } = self;
        let mut lines: Vec<(String, String)> = Vec::new();
        let mut line = |name: &str, value: &str| lines.push((name.into(), value.into()));
        line("io_uring", io_uring);
        line("direct I/O", direct_io);
        let way = if choice.direct { "direct I/O" } else { "the page cache" };
        line("writeflush takes", &format!("{} with {way}", choice.backend));
        line("durable means", &choice.durability);
        for reason in &choice.fallbacks {
            line("since", reason);
        }
        for check in checks {
            let Verdict { word, reason } = &check.verdict;
            line(&check.subject, &format!("{word}: {reason}"));
        }
        lines
    }
}
