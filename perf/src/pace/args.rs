//! The options of `pace`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::schedule::Schedule;
use super::subject::{SUBJECTS, Subject};
use crate::error::Bad;
use crate::output::binary_size;
use crate::units::{rate, size, time};

const EXAMPLES: &str = "\
Examples:
  cargo perf pace --rate 200MB/s --record 64KiB
  cargo perf pace --rate 50MB/s --record 4KiB --memory 8MiB --neighbour with /data
  cargo perf pace --rate 200MB/s --find-buffer --for 30s --json pace.json

Service is the hand-over alone; response counts from the moment at which a record was due, so that
a late record makes those behind it late as well. A missed slot is a record that was handed over
only after the next was due. Nothing waits for room: what finds none is an overrun, and lost.

Exit status: 0 measured; 1 something failed on the way; 2 options, the directory or the rate can't
work; 130 interrupted (nothing is left behind).";

/// A recorder's day: records at a fixed rate, what their hand-over costs, and what is lost
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to put the file: a directory on the disk to be measured
    #[arg(default_value = ".")]
    pub(crate) directory: PathBuf,

    /// Bytes a second, such as 200MB/s
    #[arg(long, value_parser = rate, required_unless_present_any = ["list", "replay"])]
    pub(crate) rate: Option<u64>,

    /// Bytes that are handed over at a time
    #[arg(long, default_value = "64KiB", value_name = "SIZE", value_parser = record)]
    pub(crate) record: u64,

    /// How long each recording takes
    #[arg(long = "for", default_value = "10s", value_name = "DURATION", value_parser = time)]
    pub(crate) time: Duration,

    /// Time between two fences; 0 for one fence at the end
    #[arg(long, default_value = "100ms", value_name = "DURATION", value_parser = time)]
    pub(crate) fence_every: Duration,

    /// Memory of each recorder for bytes that are not on disk
    #[arg(long, default_value = "32MiB", value_name = "SIZE", value_parser = size,
          conflicts_with = "find_buffer")]
    pub(crate) memory: u64,

    /// Search the smallest memory that loses nothing
    #[arg(long)]
    pub(crate) find_buffer: bool,

    /// Whether another thread writes 4 KiB and syncs them, on and on
    #[arg(long, value_enum, default_value = "both")]
    pub(crate) neighbour: Neighbour,

    /// Only recorders whose name contains one of these words (see --list)
    #[arg(long, value_delimiter = ',', value_name = "WORD")]
    pub(crate) subjects: Vec<String>,

    /// List the recorders and end
    #[arg(long)]
    pub(crate) list: bool,

    /// Measure nothing; print the tables of this result file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rate", "json"])]
    pub(crate) replay: Option<PathBuf>,

    /// Keep the result in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Overwrite the result file
    #[arg(long)]
    pub(crate) force: bool,
}

/// Who else is at the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Neighbour {
    Without,
    With,
    Both,
}

impl Neighbour {
    pub(crate) fn cases(self) -> &'static [bool] {
        match self {
            Self::Without => &[false],
            Self::With => &[true],
            Self::Both => &[false, true],
        }
    }
}

fn record(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes @ 1..=0x400_0000 => Ok(bytes),
        _ => Err("give 1 byte to 64 MiB".into()),
    }
}

impl Args {
    pub(crate) fn chosen(&self) -> Result<Vec<Subject>, Bad> {
        let has = |subject: &Subject, word: &String| subject.name.contains(word.as_str());
        if let Some(word) = self.subjects.iter().find(|word| !SUBJECTS.iter().any(|s| has(s, word)))
        {
            return Err(Bad::new(format!(
                "no recorder's name contains '{word}': see 'cargo perf pace --list'"
            )));
        }
        let chosen = |subject: &&Subject| {
            self.subjects.is_empty() || self.subjects.iter().any(|word| has(subject, word))
        };
        Ok(SUBJECTS.iter().filter(chosen).copied().collect())
    }

    pub(crate) fn schedule(&self) -> Result<Schedule, Bad> {
        if self.time.is_zero() {
            return Err(Bad::new("--for 0 records nothing: give a time such as 10s"));
        }
        if !self.find_buffer && self.memory < 2 * self.record {
            return Err(Bad::new(format!(
                "--memory {} has no room for two records of {}: give at least {}",
                binary_size(self.memory),
                binary_size(self.record),
                binary_size(2 * self.record),
            )));
        }
        Ok(Schedule::new(self.rate.unwrap_or(1), self.record as usize, self.time))
    }
}
