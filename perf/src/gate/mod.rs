//! `gate`: whether a candidate got slower than its base. Here is the order of the steps.
//!
//! ```text
//! args ──▶ two programs ──▶ tiers ──evidence──▶ judge ──findings──▶ table, JSON, exit status
//! ```

mod args;
mod cpu;
mod evidence;
mod judge;
mod program;
mod result;
mod steps;
mod table;
mod tiers;

use std::process::ExitCode;

use anyhow::Context;

pub(crate) use self::args::Args;
pub(crate) use self::judge::Word;
pub(crate) use self::result::Gate;
use self::steps::Plan;
use crate::document::{self, Document};
use crate::environment::Environment;
use crate::error::{self, BAD, INTERRUPTED, LOST};
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
        ExitCode::from(BAD)
    }))
}

fn gate(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.replay {
        let mut document: Document<Gate> = Document::load(file)?;
        document.result.judge();
        print(table::render(&document));
        return Ok(document.result.verdict.status());
    }
    document::check_free(args.json.as_deref(), args.force)?;
    let pair = args.pair()?;
    let stop = Stop::install().context("could not listen for signals")?;
    let scratch = Scratch::new(&args.directory, SPACE)?;
    let orderly = stop.leave_in_time(scratch.path());
    let environment = Environment::of(&args.directory);
    let plan = Plan {
        pair,
        operations: args.operations.clone(),
        tiers: args.tiers(),
        extent: args.extent(),
        seed: args.seed,
    };
    let measured = plan.measure(scratch.path(), &stop);
    drop(orderly);
    let gate = match measured {
        // A program that a signal has ended, too, is no error of its own.
        _ if stop.asked() => None,
        measured => measured?,
    };
    let Some(gate) = gate else {
        say("interrupted: nothing was kept");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let document = Document::new(environment, gate);
    print(table::render(&document));
    if let Some(path) = &args.json {
        document.save(path, args.force)?;
        say(format_args!("kept in {}", path.display()));
    }
    Ok(document.result.verdict.status())
}
