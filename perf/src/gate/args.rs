//! The options of `gate`.

use std::path::PathBuf;

use super::evidence::LIMIT_PERCENT;
use super::judge::Tier;
use super::source::Sources;
use super::tiers::turns::{Extent, TURNS};
use crate::units::whole;

const EXAMPLES: &str = "\
Examples:
  writeflush gate                             # the working tree against its merge base with main
  writeflush gate --base v1.2 --tiers counts,instructions
  writeflush gate --build 'make log' --program ./log --base HEAD~3   # in anybody's repository
  writeflush gate --base-program old/log --candidate-program new/log /data
  writeflush gate --replay gate.json

Exit status: 0 not slower; 1 a regression; 2 options, a program or the directory can't work; 3 no
verdict: what was seen does not decide; 130 interrupted (nothing is left behind).";

const MORE: &str = "

Both programs do one operation when they are asked (perf/operation/PROTOCOL.md). The base runs
twice: where it differs from itself there is no verdict. A candidate that is slower is measured
again, by other processes, before it is a regression.

tiers:
  counts     system calls, wake-ups, allocations, bytes copied (strace, valgrind), device flushes:
             exact, and never fewer flushes than promised
  instructions  of the thread that does the operations (valgrind): 1 %
  turns      three processes take turns, operation by operation: the time of each
  processes  processes one after the other, each alone: time and CPU of an operation";

const MEASURED: &str = "What is measured";
const RESULTS: &str = "Results";

/// Tell whether a program got slower: two builds of it, compared operation by operation
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = [EXAMPLES, MORE].concat())]
pub(crate) struct Args {
    /// Where to put the files: a directory on the disk to be measured
    #[arg(default_value = ".")]
    pub(super) directory: PathBuf,

    #[command(flatten)]
    pub(super) sources: Sources,

    /// Only these operations [default: all that both know]
    #[arg(long, value_delimiter = ',', value_name = "NAME", help_heading = MEASURED)]
    pub(super) operations: Vec<String>,

    /// Only these tiers: counts, instructions, turns, processes [default: all]
    #[arg(long, value_delimiter = ',', value_name = "TIER", hide_possible_values = true,
          help_heading = MEASURED)]
    tiers: Vec<Tier>,

    /// Turns of each operation in a stage, about
    ///
    /// Fewer are faster, and see less.
    #[arg(long, value_name = "N", default_value_t = TURNS, value_parser = whole(36..=1_000_000_u32),
          help_heading = MEASURED)]
    turns: u32,

    /// Slower by more than so many percent is a regression of times
    ///
    /// What is smaller takes more turns to see. Processes that run alone may be slower by twice as
    /// much.
    #[arg(long, value_name = "PERCENT", default_value_t = LIMIT_PERCENT, value_parser = limit,
          help_heading = MEASURED)]
    pub(super) limit: f64,

    /// Judge times although the host took time away (steal, proc_stat(5)): where it tells wrongly
    #[arg(long, hide_short_help = true, help_heading = MEASURED)]
    pub(super) ignore_steal: bool,

    /// Decides the order of turns
    #[arg(long, hide_short_help = true, default_value_t = 1, value_name = "N",
          value_parser = whole(0..=u64::MAX), help_heading = MEASURED)]
    pub(super) seed: u64,

    /// Keep everything that was measured in this file, and the verdict
    #[arg(long, value_name = "FILE", help_heading = RESULTS)]
    pub(super) json: Option<PathBuf>,

    /// Write a summary for a pull request into this file
    #[arg(long, value_name = "FILE", help_heading = RESULTS)]
    pub(super) markdown: Option<PathBuf>,

    /// In place of a base: the counts in this file (tier counts only)
    #[arg(long, value_name = "FILE", help_heading = RESULTS,
          conflicts_with_all = ["base", "base_path", "base_program", "tiers", "bisect"])]
    pub(super) baseline: Option<PathBuf>,

    /// Compare nothing: keep the counts of the candidate in this file
    ///
    /// In place of those of the same operations and place.
    #[arg(long, value_name = "FILE", help_heading = RESULTS,
          conflicts_with_all = ["baseline", "json", "markdown", "base", "base_path", "base_program",
                                "tiers", "bisect"])]
    pub(super) write_baseline: Option<PathBuf>,

    /// After a regression, search for the commit since which it is there
    #[arg(long, help_heading = RESULTS,
          conflicts_with_all = ["base_path", "base_program", "candidate_path", "candidate_program"])]
    pub(super) bisect: bool,

    /// Overwrite these files
    #[arg(long, help_heading = RESULTS)]
    pub(super) force: bool,

    /// Measure nothing; judge what this result file holds
    #[arg(long, value_name = "FILE", help_heading = RESULTS,
          conflicts_with_all = ["json", "bisect", "baseline", "write_baseline"])]
    pub(super) replay: Option<PathBuf>,
}

/// What `--limit` may be.
pub(crate) fn limit(text: &str) -> Result<f64, String> {
    let percent = text.trim_end_matches('%').parse::<f64>().ok();
    percent
        .filter(|percent| (0.1..=100.0).contains(percent))
        .ok_or_else(|| "give a percentage from 0.1 to 100".into())
}

impl Args {
    /// Whether nothing is to be built but the candidate.
    pub(super) fn has_baseline(&self) -> bool {
        self.baseline.is_some() || self.write_baseline.is_some()
    }

    pub(super) fn tiers(&self) -> Vec<Tier> {
        match self.tiers.as_slice() {
            [] => vec![Tier::Counts, Tier::Instructions, Tier::Turns, Tier::Processes],
            chosen => chosen.to_vec(),
        }
    }

    pub(super) fn extent(&self) -> Extent {
        Extent::of(self.turns as usize)
    }
}
