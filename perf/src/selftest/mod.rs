//! `selftest`: whether the gate is right on this machine.

mod args;
mod build;
mod case;
mod result;
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;

pub(crate) use self::args::Args;
use self::build::Built;
use self::case::{Case, Layout, Planted};
use self::result::{SelfTest, Told, Trial};
use crate::document::{self, Document};
use crate::environment::Environment;
use crate::error::{self, BAD, Bad, INTERRUPTED, LOST};
use crate::gate::{self, Extent, Gate, Pair, Plan, Side, Start, Word};
use crate::output::{print, say};
use crate::pace::neighbour::{self, Neighbour};
use crate::scratch::Scratch;
use crate::stop::Stop;

/// For all files of all operations, and the programs.
const SPACE: u64 = (1 << 30) + neighbour::SPACE;
/// How much longer a longer command line is, and a padded file.
const LONGER: usize = 3000;
const PADDING: usize = 69_069;

/// Tries, or prints what an older run has found.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    Ok(selftest(args).unwrap_or_else(|error| {
        error::report(&error);
        ExitCode::from(BAD)
    }))
}

fn selftest(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.replay {
        return show(args, &Document::load(file)?);
    }
    let mut found = begun(args)?;
    document::check_free(args.plot.as_deref(), args.force)?;
    if let Some(keep) = args.keep.as_ref().filter(|keep| keep.exists() && !keep.is_dir()) {
        let shown = keep.display();
        return Err(Bad::new(format!("{shown} is no folder: name another one with --keep")).into());
    }
    let stop = Stop::install().context("could not listen for signals")?;
    let scratch = Scratch::new(&args.directory, SPACE)?;
    let environment = Environment::of(&args.directory);
    let lab = Lab::new(args, scratch.path(), &stop)?;
    let neighbour = args.neighbour.then(|| Neighbour::moves_in(scratch.path())).transpose()?;
    let whole = lab.try_all(&mut found, &environment);
    if let Some(neighbour) = neighbour {
        neighbour.moves_out().context("the neighbour could not sync its writes")?;
    }
    if !whole? {
        say("interrupted");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    show(args, &Document::new(environment, found))
}

/// Nothing yet, or what is to be gone on with.
fn begun(args: &Args) -> Result<SelfTest, Bad> {
    let new = SelfTest {
        neighbour: args.neighbour,
        turns: args.turns(),
        tier: args.tier(),
        limit_percent: args.limit,
        operations: args.operations.clone(),
        trials: Vec::new(),
    };
    let Some(file) = args.json.as_deref().filter(|file| args.resume && file.exists()) else {
        document::check_free(args.json.as_deref(), args.force)?;
        return Ok(new);
    };
    let older = Document::<SelfTest>::load(file)?.result;
    let alike = SelfTest { trials: Vec::new(), ..older.clone() };
    if alike != new {
        return Err(Bad::new(format!(
            "{} holds trials of another kind: give the same --operations, --by, --turns, --limit and --neighbour",
            file.display()
        )));
    }
    Ok(older)
}

fn show(args: &Args, document: &Document<SelfTest>) -> anyhow::Result<ExitCode> {
    print(table::render(document));
    if let Some(plot) = &args.plot {
        document::save(plot, &table::svg(&document.result), args.force)?;
        say(format_args!("drawn into {}", plot.display()));
    }
    let failed = !document.result.failures().is_empty();
    Ok(if failed { ExitCode::from(LOST) } else { ExitCode::SUCCESS })
}

/// Where trials are made.
struct Lab<'a> {
    args: &'a Args,
    folder: &'a Path,
    stop: &'a Stop,
    built: Built,
    padded: PathBuf,
}

impl<'a> Lab<'a> {
    fn new(args: &'a Args, folder: &'a Path, stop: &'a Stop) -> Result<Self, Bad> {
        let built = match (&args.program, &args.relinked) {
            (Some(plain), Some(relinked)) => {
                let copied = |from: &Path, name| build::copy(from, &folder.join(name));
                let (plain, relinked) = (copied(plain, "plain")?, copied(relinked, "relinked")?);
                Built { plain, relinked }
            }
            _ => build::build(folder)?,
        };
        let padded = build::copy(&built.plain, &folder.join("padded"))?;
        let more = std::fs::OpenOptions::new().append(true).open(&padded);
        more.and_then(|mut file| file.write_all(&[0; PADDING]))
            .map_err(|error| Bad::new(format!("{} can't be padded: {error}", padded.display())))?;
        Ok(Self { args, folder, stop, built, padded })
    }

    /// All trials that were not made yet. Whether it was not interrupted.
    fn try_all(&self, found: &mut SelfTest, environment: &Environment) -> anyhow::Result<bool> {
        let known = |found: &SelfTest, case: &Case, seed| {
            found.trials.iter().any(|trial| trial.case == case.name && trial.seed == seed)
        };
        let trials: Vec<_> = case::schedule(self.args.trials())
            .into_iter()
            .map(|(case, number)| (case, self.args.seed + number))
            .filter(|(case, seed)| !known(found, case, *seed))
            .collect();
        let count = trials.len();
        let mut replace = self.args.force || self.args.resume;
        for (number, (case, seed)) in trials.into_iter().enumerate() {
            let begun = Instant::now();
            let Some(gate) = self.try_one(case, seed, environment)? else { return Ok(false) };
            self.keep(case, seed, &gate, environment)?;
            found.trials.push(trial(case, seed, &gate, begun.elapsed().as_secs_f64()));
            say(format_args!("{} of {count}: {}: {}", number + 1, case.name, gate.verdict.name()));
            if let Some(file) = &self.args.json {
                Document::new(environment.clone(), found.clone()).save(file, replace)?;
                replace = true;
            }
        }
        Ok(true)
    }

    /// `None`: interrupted.
    fn try_one(
        &self,
        case: &Case,
        seed: u64,
        environment: &Environment,
    ) -> Result<Option<Gate>, Bad> {
        let side = |start: Start| Side { name: start.program.display().to_string(), start };
        let pair = Pair {
            base: side(Start::of(&self.built.plain)),
            candidate: side(self.candidate(case.planted)),
        };
        let plan = Plan {
            pair,
            operations: match case.operation {
                Some(operation) => vec![operation.into()],
                None => self.args.operations.clone(),
            },
            tiers: match case.is_timed() {
                true => vec![self.args.tier()],
                false => case.tiers.to_vec(),
            },
            extent: Extent::of(self.args.turns() as usize),
            seed,
            ignore_steal: false,
            limit_percent: self.args.limit,
        };
        let measured = plan.measure(self.folder, environment, self.stop);
        if self.stop.asked() { Ok(None) } else { measured }
    }

    fn candidate(&self, planted: Planted) -> Start {
        let mut start = Start::of(match planted {
            Planted::Nothing(Layout::Padded) => &self.padded,
            Planted::Nothing(Layout::Relinked) => &self.built.relinked,
            _ => &self.built.plain,
        });
        match planted {
            Planted::Nothing(Layout::LongerArguments) => start.arguments.push("x".repeat(LONGER)),
            Planted::Regression(value) => {
                start.variables.push(("WRITEFLUSH_INJECT".into(), value.into()));
            }
            Planted::Nothing(_) => {}
        }
        start
    }

    /// What the gate has measured where it was wrong, for a test of the judge.
    fn keep(
        &self,
        case: &Case,
        seed: u64,
        gate: &Gate,
        environment: &Environment,
    ) -> anyhow::Result<()> {
        let right = if case.is_null() { Word::Pass } else { Word::Regression };
        let Some(folder) = self.args.keep.as_ref().filter(|_| gate.verdict != right) else {
            return Ok(());
        };
        std::fs::create_dir_all(folder)
            .map_err(|error| Bad::new(format!("{} can't be made: {error}", folder.display())))?;
        let name = case.name.replace([' ', ',', '%'], "");
        let path = folder.join(format!("{name}-{seed}.json"));
        Document::new(environment.clone(), gate.clone()).save(&path, true)
    }
}

fn trial(case: &Case, seed: u64, gate: &Gate, seconds: f64) -> Trial {
    let told = gate.evidence.iter().flat_map(|evidence| {
        gate::findings(evidence).into_iter().map(|finding| Told {
            operation: finding.operation,
            tier: finding.tier.name().into(),
            word: finding.word,
            change: finding.change,
            stages: evidence.stages(),
            reason: finding.reason,
        })
    });
    Trial {
        case: case.name.into(),
        seed,
        verdict: gate.verdict,
        findings: told.collect(),
        seconds: (seconds * 10.0).round() / 10.0,
    }
}
