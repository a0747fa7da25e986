//! The options of `gate`.

use std::path::PathBuf;

use super::judge::Tier;
use super::program::Start;
use super::steps::{Pair, Side};
use super::tiers::turns::Extent;
use crate::error::Bad;

const EXAMPLES: &str = "\
Examples:
  cargo perf gate --base-program old/log --candidate-program new/log /data
  cargo perf gate --replay gate.json

Both programs do one operation when they are asked (perf/operation/PROTOCOL.md). The base runs twice:
where it differs from itself there is no verdict. A candidate that is slower is measured again, by
other processes, before it is a regression.

tiers:
  turns      three processes take turns, operation by operation: the time of each
  processes  processes one after the other, each alone: time and CPU of an operation

Exit status: 0 not slower; 1 a regression; 2 options, a program or the directory can't work; 3 no
verdict: what was seen does not decide; 130 interrupted (nothing is left behind).";

/// Tell whether a program got slower: two builds of it, compared operation by operation
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to put the files: a directory on the disk to be measured
    #[arg(default_value = ".")]
    pub(super) directory: PathBuf,

    /// The program as it was
    #[arg(long, value_name = "FILE", requires = "candidate_program")]
    base_program: Option<PathBuf>,

    /// The program as it is to become
    #[arg(long, value_name = "FILE", requires = "base_program")]
    candidate_program: Option<PathBuf>,

    /// Only these operations [default: all that both know]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(super) operations: Vec<String>,

    /// Only these tiers [default: all]
    #[arg(long, value_delimiter = ',', value_name = "TIER")]
    tiers: Vec<Tier>,

    /// Turns of each operation in a stage, about: fewer are faster, and see less
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(36..=1_000_000))]
    turns: u32,

    /// Decides the order of turns
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,

    /// Keep everything that was measured in this file, and the verdict
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,

    /// Overwrite that file
    #[arg(long)]
    pub(super) force: bool,

    /// Measure nothing; judge what this result file holds
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "base_program"])]
    pub(super) replay: Option<PathBuf>,
}

impl Args {
    pub(super) fn tiers(&self) -> Vec<Tier> {
        match self.tiers.as_slice() {
            [] => vec![Tier::Turns, Tier::Processes],
            chosen => chosen.to_vec(),
        }
    }

    pub(super) fn extent(&self) -> Extent {
        Extent::of(self.turns as usize)
    }

    /// What is compared.
    pub(super) fn pair(&self) -> Result<Pair, Bad> {
        let (Some(base), Some(candidate)) = (&self.base_program, &self.candidate_program) else {
            return Err(Bad::new(
                "nothing to compare was named: give --base-program and --candidate-program",
            ));
        };
        let side = |program: &PathBuf| {
            let whole = std::fs::canonicalize(program).map_err(|error| {
                let shown = program.display();
                Bad::new(format!("{shown} can't be used ({error}): name a program that was built"))
            })?;
            Ok(Side { name: program.display().to_string(), start: Start::of(whole) })
        };
        Ok(Pair { base: side(base)?, candidate: side(candidate)? })
    }
}
