//! `probe`: what a place can promise, and whether it keeps it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use writeflush::{BackendChoice, Direct, Drive, FenceForm, Options};
use writeflush_workloads::subject::{self, Place, Subject};
use writeflush_workloads::{Device, FileState};

use crate::document::{self, Document, Findings};
use crate::environment::Environment;
use crate::error::{INTERRUPTED, LOST};
use crate::output::{print, say};
use crate::scratch::Scratch;
use crate::stop::Stop;
use crate::units::whole;
use crate::verdict::{Seen, Verdict, Word};

const VERDICTS: &str = "\
HONEST        every fence was seen as a flush at the last device in sight, and at all before it, and
              no write had to carry its own fence (FUA) but on a drive that itself announces FUA; or
              the device says it has no volatile cache. Whether a drive obeys, no program can see
NOOP          fewer flushes and writes with FUA than fences, or everything is in memory: a power cut
              can take what was called durable
UNVERIFIABLE  nothing in sight would decide, or the check failed; the reason says why. So is what
              needs FUA of a drive of which only its standard says that it honours it (NVMe)

Each form of a fence is judged by itself, on a file that is written already unless it says growing.

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
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = whole(1..=100_000_u64))]
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
    /// Writes that carried their own fence.
    #[serde(default)]
    pub(crate) fua_writes: Option<u64>,
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
    let mut environment = Environment::of(&args.directory);
    let Some(probe) = probe(scratch.path(), args.fences, &mut environment, &stop)? else {
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
    environment: &mut Environment,
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
    let device = device(folder, environment);
    let mut checks = Vec::new();
    for case in cases(io_uring == ALLOWED) {
        let check = match case.check(&path, fences, device.as_ref(), stop) {
            Ok(_) if stop.asked() => return Ok(None),
            Ok(seen) => (seen, Verdict::of(fences, seen, environment)),
            Err(error) => (Seen::default(), Verdict::failed(error)),
        };
        let (Seen { flushes: device_flushes, fua_writes }, verdict) = check;
        checks.push(Check { subject: case.name, fences, device_flushes, fua_writes, verdict });
    }
    Ok(Some(Probe { choice, io_uring, direct_io, checks }))
}

/// What counts below a folder, with writes with FUA where that is possible.
fn device(folder: &Path, environment: &mut Environment) -> Option<Device> {
    let mut device = Device::under(folder).ok()?;
    if let Err(reason) = device.count_fua() {
        environment.unseen.push(format!("writes with FUA: {reason}"));
    }
    Some(device)
}

type Open = Box<dyn Fn(&Place<'_>) -> io::Result<Box<dyn Subject>>>;

/// Something that asks for fences.
struct Case {
    name: String,
    state: FileState,
    open: Open,
}

/// What programs do by hand, what writeflush does by itself, and each form of its fences.
fn cases(io_uring: bool) -> Vec<Case> {
    use FileState::{Growing, Written};
    let mut all = Vec::new();
    let kinds = subject::kinds();
    if let Some(kind) = kinds.iter().find(|kind| kind.name == "floor page cache+fdatasync") {
        for (state, name) in [(Written, ""), (Growing, ", growing")] {
            let (open, name) = (kind.open, format!("{}{name}", kind.name));
            all.push(Case { name, state, open: Box::new(open) });
        }
    }
    let forms = [
        (FenceForm::Auto, Written, ""),
        (FenceForm::Auto, Growing, ", growing"),
        (FenceForm::Dsync, Written, ", form Dsync"),
        (FenceForm::Link, Written, ", form Link"),
        (FenceForm::Flush, Written, ", form Flush"),
    ];
    let mut backends = vec![("sync", BackendChoice::Sync)];
    if io_uring {
        backends.push(("io_uring", BackendChoice::Uring)); // where it is refused, nobody relies on it
    }
    for (backend, choice) in backends {
        for (form, state, name) in forms {
            if backend == "sync" && form == FenceForm::Link {
                continue; // there is nothing to link
            }
            let options = Options::new().backend(choice).drive(Drive::Caller).fence_form(form);
            let open: Open = Box::new(move |place| subject::writer(place, &options));
            all.push(Case { name: format!("writeflush {backend} caller{name}"), state, open });
        }
    }
    all
}

/// A journal that commits by its clock adds a write with FUA or two.
const TRIES: usize = 3;

impl Case {
    /// What is counted while so many fences are asked for one by one.
    fn check(
        &self,
        path: &Path,
        fences: u64,
        device: Option<&Device>,
        stop: &Stop,
    ) -> io::Result<Seen> {
        let mut best = Seen::default();
        for index in 0..TRIES {
            let seen = self.count(path, fences, device, stop)?;
            if index == 0 || seen.fua_writes < best.fua_writes {
                best = seen;
            }
            if !(1..fences).contains(&best.fua_writes.unwrap_or_default()) || stop.asked() {
                break;
            }
        }
        Ok(best)
    }

    fn count(
        &self,
        path: &Path,
        fences: u64,
        device: Option<&Device>,
        stop: &Stop,
    ) -> io::Result<Seen> {
        let (state, record) = (self.state, RECORD);
        let place = Place { path, state, committers: 1, record, direct: true, commits: fences };
        state.prepare(path, place.len())?;
        let subject = (self.open)(&place)?;
        let counts = || device.and_then(|device| device.counts().ok());
        let before = counts();
        for _ in 0..fences {
            if stop.asked() {
                break;
            }
            subject.commit(0, &[7; RECORD])?;
        }
        let seen = counts().zip(before).map(|(after, before)| after.since(&before));
        Ok(Seen {
            flushes: seen.map(|counts| counts.flushes),
            fua_writes: seen.and_then(|counts| counts.fua_writes),
        })
    }
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
        self.facts().into_iter().chain(checks).chain(self.advice()).collect()
    }

    /// Where one form is well and another is not: which to take.
    fn advice(&self) -> Option<(String, String)> {
        let ours = |word| {
            let all = self.checks.iter().filter(|check| check.subject.starts_with("writeflush"));
            let of_word = all.filter(move |check| check.verdict.word == word);
            of_word.map(|check| check.subject.as_str()).collect::<Vec<_>>()
        };
        let (honest, doubtful) = (ours(Word::Honest), ours(Word::Unverifiable));
        let mixed = !honest.is_empty() && !doubtful.is_empty();
        mixed.then(|| ("carry the promise here".into(), honest.join("; ")))
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
