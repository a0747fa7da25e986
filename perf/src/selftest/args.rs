//! The options of `selftest`.

use std::path::PathBuf;

use super::case::Trials;
use crate::gate::{LIMIT_PERCENT, TURNS, Tier, limit};
use crate::units::whole;

const TRIALS: &str = "Trials";
const RESULTS: &str = "Results";

const EXAMPLES: &str = "\
Examples:
  writeflush selftest --quick .
  writeflush selftest --json selftest.json --plot selftest.svg /data     hours; --resume goes on

Plants regressions of known size in a candidate and lets the gate judge: what is equal may never be
called a regression, also where it was linked in another order; 5 % have to be seen in 95 of 100
trials, 10 and 20 % always, 2.5 % in half of them.

Exit status: 0 the gate did what is asked of it; 1 it did not; 2 options, a program or the directory
can't work; 130 interrupted (what was measured is in the result file).";

/// Prove the gate on this machine: what it says to equal programs, and to planted regressions
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to put the files: a directory on the disk to be measured
    #[arg(default_value = ".")]
    pub(super) directory: PathBuf,

    /// A few of each, with a tenth of the turns
    #[arg(long)]
    pub(super) quick: bool,

    /// Timed trials with nothing planted [default: 300, with --quick 8]
    #[arg(long, value_name = "N", value_parser = whole(0..=u64::MAX), help_heading = TRIALS)]
    nulls: Option<u64>,

    /// Timed trials of each regression [default: 40, with --quick 2]
    #[arg(long, value_name = "N", value_parser = whole(0..=u64::MAX), help_heading = TRIALS)]
    each: Option<u64>,

    /// Trials of each case that is counted, and not timed [default: 5, with --quick 1]
    ///
    /// What is exact says the same each time.
    #[arg(long, value_name = "N", value_parser = whole(0..=u64::MAX), help_heading = TRIALS)]
    counted: Option<u64>,

    /// Turns of each operation in a stage, about [default: 3000, with --quick 300]
    #[arg(long, value_name = "N", value_parser = whole(36..=1_000_000_u32), help_heading = TRIALS)]
    turns: Option<u32>,

    /// Slower by more than this, in percent, is looked for
    ///
    /// What is asked of the gate is asked at the default.
    #[arg(long, value_name = "PERCENT", default_value_t = LIMIT_PERCENT, value_parser = limit,
          help_heading = TRIALS)]
    pub(super) limit: f64,

    /// By what times are looked at: turns, or processes that run alone
    ///
    /// These see half as much, and have stages of a fixed size.
    #[arg(long, value_enum, default_value = "turns", hide_possible_values = true,
          help_heading = TRIALS)]
    pub(super) by: By,

    /// The operations that are compared
    #[arg(long, value_delimiter = ',', value_name = "NAME", default_value = "flush",
          help_heading = TRIALS)]
    pub(super) operations: Vec<String>,

    /// The seed of the first trial
    #[arg(long, hide_short_help = true, default_value_t = 1, value_name = "N",
          value_parser = whole(0..=u64::MAX), help_heading = TRIALS)]
    pub(super) seed: u64,

    /// Have another program sync its writes to the same disk all the time
    #[arg(long, help_heading = TRIALS)]
    pub(super) neighbour: bool,

    /// A program that knows the hook [default: it is built]
    ///
    /// `cargo build --release -p writeflush-operations --features inject` builds it.
    #[arg(long, hide_short_help = true, value_name = "FILE", requires = "relinked",
          help_heading = TRIALS)]
    pub(super) program: Option<PathBuf>,

    /// The same program, linked in another order
    #[arg(long, hide_short_help = true, value_name = "FILE", requires = "program",
          help_heading = TRIALS)]
    pub(super) relinked: Option<PathBuf>,

    /// Keep the trials in this file, after each of them
    #[arg(long, value_name = "FILE", help_heading = RESULTS)]
    pub(super) json: Option<PathBuf>,

    /// Go on with what that file holds: trials that it has are not tried again
    #[arg(long, requires = "json", conflicts_with = "force", help_heading = RESULTS)]
    pub(super) resume: bool,

    /// Draw the operating curve into this file, as SVG
    #[arg(long, value_name = "FILE", help_heading = RESULTS)]
    pub(super) plot: Option<PathBuf>,

    /// Keep in this folder what the gate has measured where it was wrong
    #[arg(long, value_name = "FOLDER", help_heading = RESULTS)]
    pub(super) keep: Option<PathBuf>,

    /// Overwrite these files
    #[arg(long, help_heading = RESULTS)]
    pub(super) force: bool,

    /// Measure nothing; print what this result file says
    #[arg(long, value_name = "FILE", help_heading = RESULTS,
          conflicts_with_all = ["json", "quick", "nulls", "each", "counted"])]
    pub(super) replay: Option<PathBuf>,
}

/// A tier that measures times.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum By {
    Turns,
    Processes,
}

impl Args {
    pub(super) fn tier(&self) -> Tier {
        match self.by {
            By::Turns => Tier::Turns,
            By::Processes => Tier::Processes,
        }
    }

    fn or(&self, given: Option<u64>, usual: u64, quick: u64) -> u64 {
        given.unwrap_or(if self.quick { quick } else { usual })
    }

    /// How often each kind of case is tried.
    pub(super) fn trials(&self) -> Trials {
        Trials {
            nulls: self.or(self.nulls, 300, 8),
            each: self.or(self.each, 40, 2),
            counted: self.or(self.counted, 5, 1),
        }
    }

    pub(super) fn turns(&self) -> u32 {
        self.or(self.turns.map(u64::from), TURNS.into(), u64::from(TURNS / 10)) as u32
    }
}
