//! `compare`: every backend, the system calls by hand, and what a program would use without this
//! crate, under the same conditions at the same time.

mod args;
mod cell;
mod cost;
mod export;
mod noise;
mod plan;
mod result;
mod run;
mod streams;
mod table;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use writeflush_workloads::subject::{self, Kind};

pub(crate) use self::args::Args;
pub(crate) use self::cell::NULL;
pub(crate) use self::result::{Cell, Comparison, Figures, Stream, StreamOutcome};
use self::run::Run;
pub(crate) use self::run::STEPS_A_DECADE;
pub(crate) use self::table::{COLUMNS, columns};
use crate::document::{self, Document};
use crate::environment::Environment;
use crate::error::{Bad, INTERRUPTED, LOST};
use crate::output::{print, say};
use crate::scratch::Scratch;
use crate::stop::Stop;

/// Compares, or prints an older comparison.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let files: Vec<&Path> = args.json.as_deref().into_iter().chain(export::paths(args)).collect();
    if let Some(file) = &args.replay {
        let document = Document::load(file)?;
        document::check_free(files, args.force)?;
        print(table::render(&document));
        export::write(args, &document)?;
        return Ok(ExitCode::SUCCESS);
    }
    let kinds = args.kinds()?;
    if args.list {
        kinds.iter().for_each(|kind| print(format_args!("{}\n", kind.name)));
        return Ok(ExitCode::SUCCESS);
    }
    document::check_free(files, args.force)?;
    let plan = args.plan();
    let stop = Stop::install().context("could not listen for signals")?;
    let scratch = Scratch::new(&args.directory, plan::space(&plan, &kinds, beside))?;
    let orderly = stop.leave_in_time(scratch.path());
    let environment = Environment::of(&args.directory);
    let medium = run::medium(scratch.path(), &environment);
    let folder = scratch.path();
    let run = Run { kinds, plan, seed: args.seed, stop, environment, medium, folder };
    let Some(comparison) = run.compare() else {
        say("interrupted: nothing was kept");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    drop(orderly);
    let failed = !comparison.failures.is_empty();
    let document = Document::new(run.environment.clone(), comparison);
    print(table::render(&document));
    if let Some(path) = &args.json {
        document.save(path, args.force)?;
        say(format_args!("kept in {}", path.display()));
    }
    export::write(args, &document)?;
    Ok(if failed { ExitCode::from(LOST) } else { ExitCode::SUCCESS })
}

/// All subjects there are in this build.
pub(crate) fn all_kinds(peers: bool) -> Result<Vec<Kind>, Bad> {
    let mut kinds = subject::kinds();
    if peers {
        #[cfg(feature = "peers")]
        kinds.extend(crate::peers::kinds());
        #[cfg(not(feature = "peers"))]
        return Err(Bad::new(
            "this build has no peers: run 'cargo run --release -p writeflush-cli --features \
             peers -- compare --peers'",
        ));
    }
    kinds.sort_by_key(|kind| kind.class); // apart, the order within them kept
    Ok(kinds)
}

/// What a subject may keep beside its file.
fn beside(kind: &Kind) -> u64 {
    #[cfg(feature = "peers")]
    return crate::peers::beside(kind);
    #[cfg(not(feature = "peers"))]
    {
        let _ = kind; // nothing that is built in does
        0
    }
}
