//! The options of `compare`.

use std::path::PathBuf;

use writeflush_workloads::FileState;
use writeflush_workloads::subject::Kind;

use super::plan::{Conditions, Plan, Streams};
use crate::error::Bad;

const EXAMPLES: &str = "\
Examples:
  cargo perf compare --quick .
  cargo perf compare /data --samples 10000 --json data.json
  cargo perf compare --records 4KiB --committers 1,16 --subjects caller,floor .
  cargo perf compare --replay data.json

In a cell, all subjects take turns in a random order, commit by commit, on files in the same state.
Ratios are of medians, with a 95 % confidence interval; those of two equal rows (A/A) show the noise.
Subjects of different durability classes are listed apart and never compared.

Exit status: 0 measured; 1 something failed on the way; 2 options or the directory can't work;
130 interrupted (nothing is left behind).";

/// Compare what a durable commit costs: every backend, the system calls by hand, and std
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to put the files: a directory on the disk to be measured
    #[arg(default_value = ".")]
    pub(crate) directory: PathBuf,

    /// Less than a minute: 4 KiB records, one and sixteen committers
    #[arg(long)]
    pub(crate) quick: bool,

    /// Commits of each subject in a cell (fewer where records are large)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    pub(crate) samples: Option<u64>,

    /// Record sizes
    #[arg(long, value_delimiter = ',', value_name = "SIZE", value_parser = record)]
    pub(crate) records: Vec<u64>,

    /// File states: growing, reserved, written
    #[arg(long, value_delimiter = ',', value_name = "STATE", value_parser = state)]
    pub(crate) states: Vec<FileState>,

    /// Threads that commit at the same time
    #[arg(long, value_delimiter = ',', value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) committers: Vec<u16>,

    /// Bytes of the streams that are written by buffer size at the end; 0: none [default: 128MiB,
    /// with --quick 0]
    #[arg(long, value_name = "SIZE", value_parser = stream)]
    pub(crate) stream: Option<u64>,

    /// Only subjects whose name contains one of these words (see --list)
    #[arg(long, value_delimiter = ',', value_name = "WORD")]
    pub(crate) subjects: Vec<String>,

    /// List the subjects and end
    #[arg(long)]
    pub(crate) list: bool,

    /// Add other crates that write durably (needs `--features peers` at build time)
    #[arg(long)]
    pub(crate) peers: bool,

    /// Decides the order of turns
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Keep the result in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Overwrite the result file
    #[arg(long)]
    pub(crate) force: bool,

    /// Measure nothing; print the tables of this result file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "json", "samples"])]
    pub(crate) replay: Option<PathBuf>,
}

/// What a commit may hold.
const LARGEST: u64 = 64 << 20;

fn record(text: &str) -> Result<u64, String> {
    match crate::units::size(text)? {
        bytes @ 1..=LARGEST => Ok(bytes),
        _ => Err("give 1 byte to 64 MiB".into()),
    }
}

/// A whole number of the largest buffers, two of them: floors write nothing else.
fn stream(text: &str) -> Result<u64, String> {
    match crate::units::size(text)? {
        bytes if bytes.is_multiple_of(8 << 20) => Ok(bytes),
        _ => Err("give a multiple of 8 MiB, or 0".into()),
    }
}

fn state(word: &str) -> Result<FileState, String> {
    let all = FileState::ALL;
    let found = all.into_iter().find(|state| state.name() == word);
    found.ok_or_else(|| format!("give {}", all.map(FileState::name).join(", ")))
}

impl Args {
    /// The subjects that were chosen.
    pub(crate) fn kinds(&self) -> Result<Vec<Kind>, Bad> {
        let all = super::all_kinds(self.peers)?;
        for word in &self.subjects {
            if !all.iter().any(|kind| kind.name.contains(word.as_str())) {
                return Err(Bad::new(format!(
                    "no subject's name contains '{word}': see 'cargo perf compare --list'"
                )));
            }
        }
        let chosen = |kind: &Kind| {
            self.subjects.is_empty()
                || self.subjects.iter().any(|word| kind.name.contains(word.as_str()))
        };
        Ok(all.into_iter().filter(chosen).collect())
    }

    pub(crate) fn plan(&self, subjects: usize) -> Plan {
        let mut conditions = if self.quick { Conditions::quick() } else { Conditions::full() };
        if !self.records.is_empty() {
            conditions.records = self.records.iter().map(|bytes| *bytes as usize).collect();
        }
        if !self.states.is_empty() {
            conditions.states = self.states.clone();
        }
        if !self.committers.is_empty() {
            conditions.committers = self.committers.iter().map(|n| usize::from(*n)).collect();
        }
        let samples = self.samples.unwrap_or(if self.quick { 500 } else { 2_000 });
        let stream = self.stream.unwrap_or(if self.quick { 0 } else { 128 << 20 });
        Plan::new(&conditions, samples, subjects, Streams::new(stream))
    }
}
