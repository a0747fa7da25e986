//! `gate`: whether a candidate got slower than its base. Here is the order of the steps.
//!
//! ```text
//! args ──▶ two programs ──▶ tiers ──evidence──▶ judge ──findings──▶ table, JSON, exit status
//! ```

mod args;
mod baseline;
mod bisect;
mod child;
mod cpu;
mod evidence;
mod judge;
mod markdown;
mod program;
mod result;
mod source;
mod steps;
mod table;
mod tiers;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

pub(crate) use self::args::{Args, limit};
use self::baseline::Baseline;
use self::bisect::Bisection;
pub(crate) use self::evidence::{ARMS, Evidence, LIMIT_PERCENT, Paired, usual_limit};
#[cfg(test)]
pub(crate) use self::evidence::{Lap, Stage};
pub(crate) use self::judge::paired::STOLEN;
pub(crate) use self::judge::{Change, Tier, Word, findings};
pub(crate) use self::program::Start;
pub(crate) use self::result::Gate;
use self::result::Skipped;
use self::source::Sides;
pub(crate) use self::steps::{Pair, Plan, Side};
pub(crate) use self::table::{COLUMNS, columns};
pub(crate) use self::tiers::turns::{Extent, TURNS};
use crate::document::{self, Document};
use crate::environment::Environment;
use crate::error::{self, BAD, Bad, INTERRUPTED, LOST};
use crate::output::{print, say};
use crate::scratch::Scratch;
use crate::stop::Stop;

/// For all files of all operations.
const SPACE: u64 = 1 << 30;
/// Exit status: what was seen does not decide.
const UNDECIDED: u8 = 3;

impl Word {
    fn status(self) -> ExitCode {
        match self {
            Self::Pass => ExitCode::SUCCESS,
            Self::Regression => ExitCode::from(LOST),
            Self::NoVerdict => ExitCode::from(UNDECIDED),
        }
    }
}

/// Compares, or judges anew what an older comparison has measured.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // 1 is for a regression: whatever else goes wrong is not one.
    Ok(gate(args).unwrap_or_else(|error| {
        error::report(&error);
        ExitCode::from(match error::status(&error) {
            LOST => BAD,
            status => status,
        })
    }))
}

fn gate(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.replay {
        let mut document: Document<Gate> = Document::load(file)?;
        document.result.judge();
        print(table::render(&document));
        write_markdown(args, &document)?;
        return Ok(document.result.verdict.status());
    }
    document::check_free(
        args.json.as_deref().into_iter().chain(args.markdown.as_deref()),
        args.force,
    )?;
    let stop = Stop::install().context("could not listen for signals")?;
    let sides = if args.has_baseline() {
        args.sources.candidate_alone(&stop)?
    } else {
        args.sources.sides(&stop)?
    };
    let scratch = Scratch::new(&args.directory, SPACE)?;
    let environment = Environment::of(&args.directory);
    let plan = Plan {
        pair: sides.pair.clone(),
        operations: args.operations.clone(),
        tiers: args.tiers(),
        extent: args.extent(),
        seed: args.seed,
        ignore_steal: args.ignore_steal,
        limit_percent: args.limit,
    };
    if let Some(file) = &args.write_baseline {
        return write_baseline(file, &plan, scratch.path(), environment, &stop);
    }
    let measured = match &args.baseline {
        None => plan.measure(scratch.path(), &environment, &stop),
        Some(file) => beside_baseline(file, &plan, scratch.path(), &environment, &stop),
    };
    let gate = match measured {
        // A program that a signal has ended, too, is no error of its own.
        _ if stop.asked() => None,
        measured => measured?,
    };
    let Some(mut gate) = gate else {
        say("interrupted: nothing was kept");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    if args.bisect
        && let Sides { workshop: Some(workshop), base: Some(base), .. } = &sides
    {
        let (plan, folder) = (&plan, scratch.path());
        let (environment, stop) = (&environment, &stop);
        let bisection = Bisection { workshop, base, plan, folder, environment, stop };
        gate.since = bisection.since(&gate.findings)?;
    }
    let document = Document::new(environment, gate);
    print(table::render(&document));
    if let Some(path) = &args.json {
        document.save(path, args.force)?;
        say(format_args!("kept in {}", path.display()));
    }
    write_markdown(args, &document)?;
    Ok(document.result.verdict.status())
}

fn write_markdown(args: &Args, document: &Document<Gate>) -> anyhow::Result<()> {
    let Some(path) = &args.markdown else { return Ok(()) };
    document::save(path, &markdown::text(document), args.force)
}

/// What the candidate does beside what was kept. `None`: interrupted.
fn beside_baseline(
    file: &Path,
    plan: &Plan,
    folder: &Path,
    environment: &Environment,
    stop: &Stop,
) -> Result<Option<Gate>, Bad> {
    let kept: Document<Baseline> = Document::load(file)?;
    let Some((now, skipped)) = Baseline::measure(plan, folder, environment, stop)? else {
        return Ok(None);
    };
    let base = format!("{}, made {}", file.display(), kept.made);
    let mut gate = Gate::new(base, plan.pair.candidate.name.clone(), plan.seed, skipped);
    kept.result.judge(&now, &mut gate);
    let whole = kept.result.judge_floors(plan, folder, environment, stop, &mut gate)?;
    Ok(whole.then_some(gate))
}

/// Keeps what the candidate does, beside what the file has of other places.
fn write_baseline(
    file: &Path,
    plan: &Plan,
    folder: &Path,
    environment: Environment,
    stop: &Stop,
) -> anyhow::Result<ExitCode> {
    let older = if file.exists() { Document::load(file)?.result } else { Baseline::default() };
    let Some((mut now, mut skipped)) = Baseline::measure(plan, folder, &environment, stop)? else {
        return Err(error::Interrupted.into());
    };
    if !now.measure_floors(plan, folder, &environment, stop, &mut skipped)? {
        return Err(error::Interrupted.into());
    }
    for Skipped { what, why } in skipped {
        say(format_args!("skipped: {what}: {why}"));
    }
    Document::new(environment, now.with(older)).save(file, true)?;
    say(format_args!("kept in {}", file.display()));
    Ok(ExitCode::SUCCESS)
}
