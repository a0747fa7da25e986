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
use crate::error::{INTERRUPTED, LOST};
use crate::output::{print, say};
use crate::scratch::Scratch;
use crate::stop::Stop;
use crate::verdict::{Verdict, Word};

const VERDICTS: &str = "\
HONEST        every fence was seen as a flush at the last device in sight, and at all before it, or
              the device says it has no volatile cache; whether a drive obeys, no program can see
NOOP          fewer flushes than fences, or everything is in memory: a power cut can take what was
              called durable
UNVERIFIABLE  nothing in sight would decide, or the check failed; the reason says why

Exit status: 0 all are HONEST; 1 something is a NOOP, or no writer opens here; 2 the options or the
directory can't be used; 3 nothing is a NOOP, and something is UNVERIFIABLE; 130 interrupted";

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

    /// Look at nothing; print what this result file says
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "fences"])]
    replay: Option<PathBuf>,

    /// Keep the result in this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Overwrite the result file
    #[arg(long)]
    force: bool,
}

/// Bytes of each commit.
const RECORD: usize = 4096;
const ALLOWED: &str = "allowed";

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// What writeflush chooses here by default.
    choice: Choice,
    /// `allowed`, or the reason why not.
    io_uring: String,
    /// `possible`, or the reason why not.
    direct_io: String,
    pub(crate) checks: Vec<Check>,
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
pub(crate) struct Check {
    pub(crate) subject: String,
    pub(crate) fences: u64,
    pub(crate) device_flushes: Option<u64>,
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
}

/// Exit status: nothing was seen to be wrong, and something could not be seen.
const UNDECIDED: u8 = 3;

/// Looks.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.replay {
        let document = Document::load(file)?;
        print(render(&document));
        return Ok(ExitCode::from(document.result.status()));
    }
    document::check_free(args.json.as_deref(), args.force)?;
    let stop = Stop::install().context("could not listen for signals")?;
    let scratch = Scratch::new(&args.directory, (args.fences + 2) * RECORD as u64)?;
    let orderly = stop.leave_in_time(scratch.path());
    let environment = Environment::of(&args.directory);
    let Some(probe) = probe(scratch.path(), args.fences, &environment, &stop)? else {
        say("interrupted: nothing was kept");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    drop(orderly);
    let document = Document::new(environment, probe);
    print(render(&document));
    if let Some(path) = &args.json {
        document.save(path, args.force)?;
        say(format_args!("kept in {}", path.display()));
    }
    Ok(ExitCode::from(document.result.status()))
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
    let io_uring = tried(Options::new().backend(BackendChoice::Uring), ALLOWED);
    let direct_io = tried(Options::new().direct(Direct::On), "possible");
    let mut names = vec!["floor page cache+fdatasync", "writeflush sync caller"];
    if io_uring == ALLOWED {
        names.push("writeflush io_uring caller"); // where it is refused, nobody relies on it
    }
    let mut checks = Vec::new();
    for kind in subject::kinds().iter().filter(|kind| names.contains(&kind.name)) {
        let check = match flushes(kind, &path, fences, stop) {
            Ok(_) if stop.asked() => return Ok(None),
            Ok(seen) => (seen, Verdict::of(fences, seen, environment)),
            Err(error) => (None, Verdict::failed(error)),
        };
        let (device_flushes, verdict) = check;
        checks.push(Check { subject: kind.name.into(), fences, device_flushes, verdict });
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
fn flushes(kind: &Kind, path: &Path, fences: u64, stop: &Stop) -> io::Result<Option<u64>> {
    let state = FileState::Written;
    let place = Place { path, state, committers: 1, record: RECORD, direct: true, commits: fences };
    state.prepare(path, place.len())?;
    let subject = (kind.open)(&place)?;
    let device = Device::under(path).ok();
    let counts = || device.as_ref().and_then(|device| device.counts().ok());
    let before = counts();
    for _ in 0..fences {
        if stop.asked() {
            break;
        }
        subject.commit(0, &[7; RECORD])?;
    }
    Ok(counts().zip(before).map(|(after, before)| after.since(&before).flushes))
}

fn render(document: &Document<Probe>) -> String {
    let made = ("made".to_owned(), document.made.clone());
    let place = document.environment.lines();
    let place = place.into_iter().map(|(name, value)| (name.to_owned(), value));
    let lines = std::iter::once(made).chain(place).chain(document.result.lines());
    let lines: Vec<(String, String)> = lines.collect();
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    lines.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

impl Probe {
    fn status(&self) -> u8 {
        let any = |word| self.checks.iter().any(|check| check.verdict.word == word);
        match () {
            () if any(Word::Noop) => LOST,
            // No check at all has seen nothing, either.
            () if any(Word::Unverifiable) || self.checks.is_empty() => UNDECIDED,
            () => 0,
        }
    }

    /// Each finding with its name, for people.
    fn lines(&self) -> Vec<(String, String)> {
        let checks = self.checks.iter().map(|check| {
            let Verdict { word, reason } = &check.verdict;
            (check.subject.clone(), format!("{word}: {reason}"))
        });
        self.facts().into_iter().chain(checks).collect()
    }

    /// Those that need no check.
    pub(crate) fn facts(&self) -> Vec<(String, String)> {
        let Probe { choice, io_uring, direct_io, .. } = self;
        let mut facts: Vec<(String, String)> = Vec::new();
        let mut fact = |name: &str, value: &str| facts.push((name.into(), value.into()));
        fact("io_uring", io_uring);
        fact("direct I/O", direct_io);
        let way = if choice.direct { "direct I/O" } else { "the page cache" };
        fact("writeflush takes", &format!("{} with {way}", choice.backend));
        fact("durable means", &choice.durability);
        for reason in &choice.fallbacks {
            fact("since", reason);
        }
        facts
    }
}
