//! The options of `compare`.

use std::path::PathBuf;
use std::time::Duration;

use writeflush_workloads::FileState;
use writeflush_workloads::subject::{Family, Kind};

use super::plan::{Choice, Extent, Plan, Streams};
use crate::error::Bad;
use crate::units::{some_time, whole};

const EXAMPLES: &str = "\
Examples:
  writeflush compare --quick .
  writeflush compare /data --for 1h --json data.json
  writeflush compare --records 4KiB --committers 1,16 --subjects caller,BufWriter .
  writeflush compare --replay data.json --csv data.csv

Exit status: 0 measured; 1 a subject or a cell failed on the way (the others are kept); 2 options or
the directory can't work; 130 interrupted (nothing is left behind).";

const MORE: &str = "

In a cell, all subjects that ask for a fence take turns in random order, commit by commit, and
every one of them has every file and every place in the order of opening equally often. A ratio is
of what two subjects took in the same turn, with a 95 % confidence interval; that of two equal rows
(A/A) shows the noise, and where it shows too much the cell has no verdict. What spins is measured
beside a copy of its floor, and what asks for no fence alone. Subjects that survive different
things are listed apart and never compared.";

const MEASURED: &str = "What is measured";
const RESULTS: &str = "Results";

/// Compare what a durable commit costs: every backend, the system calls by hand, and std
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = [EXAMPLES, MORE].concat())]
pub(crate) struct Args {
    /// Where to put the files: a directory on the disk to be measured
    #[arg(default_value = ".")]
    pub(crate) directory: PathBuf,

    /// Less than a minute: fewer cells and floors
    ///
    /// Records of 4 KiB, one and sixteen committers, and of the floors only those that a ratio needs.
    #[arg(long)]
    pub(crate) quick: bool,

    /// Time of the whole run: as much is measured as fits [default: 30m, with --quick 45s]
    #[arg(long = "for", value_name = "TIME", value_parser = some_time, conflicts_with = "samples")]
    pub(crate) time: Option<Duration>,

    /// Commits of each subject in a cell, at least, whatever time that takes
    #[arg(long, value_name = "N", value_parser = whole(100..=10_000_000_u64))]
    pub(crate) samples: Option<u64>,

    /// Record sizes
    #[arg(long, value_delimiter = ',', value_name = "SIZE", value_parser = record,
          help_heading = MEASURED)]
    pub(crate) records: Vec<u64>,

    /// File states: growing, reserved, written
    #[arg(long, value_delimiter = ',', value_name = "STATE", value_parser = state,
          help_heading = MEASURED)]
    pub(crate) states: Vec<FileState>,

    /// Threads that commit at the same time
    ///
    /// Without it one, and some more with the smallest record.
    #[arg(long, value_delimiter = ',', value_name = "N", value_parser = whole(1..=64_u16),
          help_heading = MEASURED)]
    pub(crate) committers: Vec<u16>,

    /// Whether subjects that can bypass the page cache do
    #[arg(long, value_name = "ON|OFF", default_value = "on", value_parser = switch,
          action = clap::ArgAction::Set, help_heading = MEASURED)]
    pub(crate) direct: bool,

    /// Bytes of the streams at the end, by buffer size; 0: none [default: 128MiB]
    ///
    /// With --quick none are written unless it is given.
    #[arg(long, value_name = "SIZE", value_parser = stream, help_heading = MEASURED)]
    pub(crate) stream: Option<u64>,

    /// Only subjects whose name contains one of these words, and their floors
    #[arg(long, value_delimiter = ',', value_name = "WORD", help_heading = MEASURED)]
    pub(crate) subjects: Vec<String>,

    /// List the subjects and end
    #[arg(long, help_heading = MEASURED)]
    pub(crate) list: bool,

    /// Add other crates that write durably (needs `--features peers` at build time)
    #[arg(long, hide_short_help = true, help_heading = MEASURED)]
    pub(crate) peers: bool,

    /// Decides the order of turns
    #[arg(long, hide_short_help = true, default_value_t = 1, value_name = "N",
          value_parser = whole(0..=u64::MAX), help_heading = MEASURED)]
    pub(crate) seed: u64,

    /// Keep the result in this file
    #[arg(long, value_name = "FILE", help_heading = RESULTS)]
    pub(crate) json: Option<PathBuf>,

    /// Write a row for each subject and cell to this file, as comma-separated values
    #[arg(long, value_name = "FILE", help_heading = RESULTS)]
    pub(crate) csv: Option<PathBuf>,

    /// Write the tables to this file, as Markdown
    #[arg(long, value_name = "FILE", help_heading = RESULTS)]
    pub(crate) markdown: Option<PathBuf>,

    /// Overwrite these files
    #[arg(long, help_heading = RESULTS)]
    pub(crate) force: bool,

    /// Measure nothing; print the tables of this result file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "json", "samples", "time"],
          help_heading = RESULTS)]
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

fn switch(word: &str) -> Result<bool, String> {
    match word {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("give on or off".into()),
    }
}

/// Where nothing else was said.
const TIME: Duration = Duration::from_secs(30 * 60);
/// Less than a minute with what comes before and after.
const QUICK: Duration = Duration::from_secs(45);

impl Args {
    /// The subjects that were chosen, and the floors that they are compared to.
    pub(crate) fn kinds(&self) -> Result<Vec<Kind>, Bad> {
        let all = super::all_kinds(self.peers)?;
        for word in &self.subjects {
            if !all.iter().any(|kind| kind.name.contains(word.as_str())) {
                return Err(Bad::new(format!(
                    "no subject's name contains '{word}': see 'writeflush compare --list'"
                )));
            }
        }
        let chosen = |kind: &Kind| match self.subjects.as_slice() {
            [] => !self.quick || kind.family != Family::Floor,
            words => words.iter().any(|word| kind.name.contains(word.as_str())),
        };
        let floors: Vec<&str> =
            all.iter().filter(|kind| chosen(kind)).filter_map(|kind| kind.floor).collect();
        let all = all.iter().filter(|kind| chosen(kind) || floors.contains(&kind.name));
        Ok(all.copied().collect())
    }

    pub(crate) fn plan(&self) -> Plan {
        let choice = Choice {
            records: self.records.iter().map(|bytes| *bytes as usize).collect(),
            states: self.states.clone(),
            committers: self.committers.iter().map(|n| usize::from(*n)).collect(),
            direct: self.direct,
            quick: self.quick,
        };
        let stream = self.stream.unwrap_or(if self.quick { 0 } else { 128 << 20 });
        let usual = if self.quick { QUICK } else { TIME };
        let extent = match self.samples {
            Some(samples) => Extent::Samples(samples),
            None => Extent::Time(self.time.unwrap_or(usual)),
        };
        Plan { cells: choice.cells(), streams: Streams::new(stream), extent }
    }
}
