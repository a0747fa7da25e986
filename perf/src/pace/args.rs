//! The options of `pace`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use writeflush::{BackendChoice, Drive};
use writeflush_workloads::FileState;

use super::neighbour;
use super::schedule::Schedule;
use super::subject::{SUBJECTS, Subject};
use crate::error::Bad;
use crate::output::{amount, binary_size};
use crate::units::{rate, size, some_time, time, whole};

const EXAMPLES: &str = "\
Examples:
  writeflush pace --rate 200MB/s --record 64KiB
  writeflush pace --rate 50MB/s --record 4KiB --memory 8MiB --neighbour with /data
  writeflush pace --rate 500MB/s --record 256KiB --split 256MiB --neighbour without
  writeflush pace --rate 200MB/s --find-buffer --for 30s --json pace.json
  writeflush pace --streams 64 --rate 1MB/s --every 100ms --for 20s --json streams.json

Exit status: 0 measured; 1 something failed on the way, or the producer could not keep up; 2
options, the directory or the rate can't work; 130 interrupted (nothing is left behind).";

const MORE: &str = "

Takes of different recorders come in a random order, those of a search one in turn with those of
all others. A size is the answer if three takes with it, and every take with more, lost nothing;
the next smaller one is taken three times as well.

Service is the hand-over alone; response counts from the moment at which a record was due, so that
a late record makes those behind it late as well. A missed slot is a record that was handed over
only after the next was due. Nothing waits for room: what finds none is an overrun, and lost. Held
is what is in the recorder's memory; at risk is what a power cut would take: that, and all that is
written and waits for its fence.

With --streams N files grow at once, each at the --rate (1MB/s) and with a fence each --every, fed
by one thread. A thread for each file (BufWriter and sync_data), writers on one shared driver,
writers with a driver each, and one io_uring by hand take turns: in each of the --laps all of them
in a random order, --for in all laps together. A fence counts from the moment at which it is due
until it is known to be durable; its p99 needs 10,000 fences. Processor time is the whole
process's, the kernel's part for it included, without what the generator takes alone, which has a
turn in each lap as well. Each file is read back and compared.";

const STREAMS: &str = "Many files";
const RECORDERS: &str = "Recorders";
const RESULTS: &str = "Results";

/// A recorder's day: records at a fixed rate, what their hand-over costs, and what is lost
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = [EXAMPLES, MORE].concat())]
pub(crate) struct Args {
    /// Where to put the file: a directory on the disk to be measured
    #[arg(default_value = ".")]
    pub(crate) directory: PathBuf,

    /// Bytes a second, such as 200MB/s
    ///
    /// With --streams of each, by default 1MB/s.
    #[arg(long, value_parser = rate, required_unless_present_any = ["list", "replay", "streams"])]
    pub(crate) rate: Option<u64>,

    /// Bytes handed over at a time [default: 64KiB; --streams: 16KiB]
    #[arg(long, value_name = "SIZE", value_parser = record)]
    pub(crate) record: Option<u64>,

    /// So many files that grow at once, in place of one
    #[arg(long, value_name = "N", value_parser = whole(1..=MOST_STREAMS), help_heading = STREAMS,
          conflicts_with_all = ["find_buffer", "drive", "neighbour", "replay"])]
    pub(crate) streams: Option<usize>,

    /// How often each subject has its turn
    #[arg(long, value_name = "N", default_value = "5", requires = "streams",
          value_parser = whole(1..=1000_u32), help_heading = STREAMS)]
    pub(crate) laps: u32,

    /// Their fences fall due one by one (spread), or together
    #[arg(long, value_enum, default_value = "spread", requires = "streams",
          hide_possible_values = true, help_heading = STREAMS)]
    pub(crate) phases: Phases,

    /// How long each recording takes
    #[arg(long = "for", default_value = "10s", value_name = "DURATION", value_parser = some_time)]
    pub(crate) time: Duration,

    /// Time between two fences; 0 for one fence at the end
    #[arg(long, visible_alias = "every", default_value = "100ms", value_name = "DURATION",
          value_parser = time)]
    pub(crate) fence_every: Duration,

    /// Memory of each recorder [default: 32MiB; --streams: 2MiB for each]
    ///
    /// For bytes that are not yet written; what is written waits for its fence elsewhere.
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "find_buffer")]
    pub(crate) memory: Option<u64>,

    /// Search the smallest memory that loses nothing
    #[arg(long)]
    pub(crate) find_buffer: bool,

    /// How writeflush reaches the kernel: auto, uring, sync
    #[arg(long, default_value = "auto", value_parser = backend, help_heading = RECORDERS)]
    pub(crate) backend: BackendChoice,

    /// Of writeflush only these drives: thread, poll
    #[arg(long, value_delimiter = ',', value_name = "DRIVE", value_parser = drive,
          help_heading = RECORDERS)]
    pub(crate) drive: Vec<Drive>,

    /// The file at the start: growing, reserved, written
    #[arg(long, default_value = "growing", value_name = "STATE", value_parser = state,
          help_heading = RECORDERS)]
    pub(crate) file: FileState,

    /// One more recorder of writeflush, in files of this size
    ///
    /// Each is new, whatever --file says.
    #[arg(long, value_name = "SIZE", value_parser = split, conflicts_with = "streams",
          help_heading = RECORDERS)]
    pub(crate) split: Option<u64>,

    /// Decides in which order the recordings are made [default: another one each time]
    #[arg(long, hide_short_help = true, value_name = "N", value_parser = whole(0..=u64::MAX),
          help_heading = RECORDERS)]
    pub(crate) seed: Option<u64>,

    /// A thread beside it that syncs 4 KiB: with, without, both
    #[arg(long, value_enum, default_value = "both", hide_possible_values = true,
          help_heading = RECORDERS)]
    pub(crate) neighbour: Neighbour,

    /// Only recorders whose name contains one of these words
    #[arg(long, value_delimiter = ',', value_name = "WORD", help_heading = RECORDERS)]
    pub(crate) subjects: Vec<String>,

    /// List the recorders and end
    #[arg(long, help_heading = RECORDERS)]
    pub(crate) list: bool,

    /// Measure nothing; print the tables of this result file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rate", "json"], help_heading = RESULTS)]
    pub(crate) replay: Option<PathBuf>,

    /// Keep the result in this file
    #[arg(long, value_name = "FILE", help_heading = RESULTS)]
    pub(crate) json: Option<PathBuf>,

    /// Overwrite the result file
    #[arg(long, help_heading = RESULTS)]
    pub(crate) force: bool,
}

/// Who else is at the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Neighbour {
    Without,
    With,
    Both,
}

/// When the fences of different streams fall due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Phases {
    Spread,
    Together,
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

fn backend(text: &str) -> Result<BackendChoice, String> {
    match text {
        "auto" => Ok(BackendChoice::Auto),
        "uring" => Ok(BackendChoice::Uring),
        "sync" => Ok(BackendChoice::Sync),
        _ => Err("give auto, uring or sync".into()),
    }
}

fn drive(text: &str) -> Result<Drive, String> {
    match text {
        "thread" => Ok(Drive::Thread),
        "poll" => Ok(Drive::Poll),
        "caller" => {
            Err("a producer that never waits has nobody who drives: give thread or poll".into())
        }
        _ => Err("give thread or poll".into()),
    }
}

fn state(text: &str) -> Result<FileState, String> {
    FileState::ALL
        .into_iter()
        .find(|state| state.name() == text)
        .ok_or_else(|| "give growing, reserved or written".into())
}

fn record(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes @ 1..=0x400_0000 => Ok(bytes),
        _ => Err("give 1 byte to 64 MiB".into()),
    }
}

fn split(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("give 1 byte or more".into()),
        bytes => Ok(bytes),
    }
}

/// More would take minutes to open.
const MOST_STREAMS: usize = 4096;

impl Args {
    /// Of one recording.
    pub(crate) fn record(&self) -> u64 {
        self.record.unwrap_or(64 << 10)
    }

    /// Of one recording.
    pub(crate) fn memory(&self) -> u64 {
        self.memory.unwrap_or(32 << 20)
    }

    pub(crate) fn chosen(&self) -> Result<Vec<Subject>, Bad> {
        let has = |subject: &Subject, word: &String| subject.name.contains(word.as_str());
        if let Some(word) = self.subjects.iter().find(|word| !SUBJECTS.iter().any(|s| has(s, word)))
        {
            return Err(Bad::new(format!(
                "no recorder's name contains '{word}': see 'writeflush pace --list'"
            )));
        }
        let chosen = |subject: &&Subject| {
            let named =
                self.subjects.is_empty() || self.subjects.iter().any(|word| has(subject, word));
            let driven = |drive| self.drive.is_empty() || self.drive.contains(&drive);
            let is_split = self.split.is_some() || !subject.is_split;
            named && is_split && subject.drive.is_none_or(driven)
        };
        let chosen: Vec<Subject> = SUBJECTS.iter().filter(chosen).copied().collect();
        match chosen.is_empty() {
            true => Err(Bad::new(
                "--subjects and --drive together leave no recorder (writeflush-segments needs \
                     --split): leave one out",
            )),
            false => Ok(chosen),
        }
    }

    /// Bytes that the files take at one time.
    pub(crate) fn space(&self, schedule: &Schedule) -> u64 {
        let neighbour = self.neighbour.cases().contains(&true);
        schedule.bytes().saturating_add(if neighbour { neighbour::SPACE } else { 0 })
    }

    /// The most memory that a recorder may get here: more would be another program's, or none.
    pub(crate) fn check_memory(&self, available: Option<u64>) -> Result<(), Bad> {
        match available {
            Some(available) if !self.find_buffer && self.memory() > available => {
                Err(Bad::new(format!(
                    "--memory {} is more than the {} of memory that this machine has free: give \
                     less",
                    binary_size(self.memory()),
                    amount(available as f64),
                )))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn schedule(&self) -> Result<Schedule, Bad> {
        if !self.find_buffer && self.memory() < 2 * self.record() {
            return Err(Bad::new(format!(
                "--memory {} has no room for two records of {}: give at least {}",
                binary_size(self.memory()),
                binary_size(self.record()),
                binary_size(2 * self.record()),
            )));
        }
        Ok(Schedule::new(self.rate.unwrap_or(1), self.record() as usize, self.time))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::Args;

    #[derive(Parser)]
    struct Tool {
        #[command(flatten)]
        args: Args,
    }

    /// Options that the parser takes.
    pub(crate) fn parsed(options: &[&str]) -> Args {
        Tool::parse_from([&["pace"], options].concat()).args
    }

    #[test]
    fn many_streams_have_other_defaults_and_no_search() {
        let one = parsed(&["--rate", "1MB/s"]);
        assert_eq!((one.record(), one.memory(), one.streams), (64 << 10, 32 << 20, None));
        let many = parsed(&["--streams", "3", "--every", "10ms"]);
        assert_eq!((many.streams, many.fence_every.as_millis()), (Some(3), 10));
        assert_eq!((many.record, many.memory, many.rate), (None, None, None));
        for refused in ["--find-buffer", "--drive=poll", "--neighbour=with"] {
            assert!(Tool::try_parse_from(["pace", "--streams", "3", refused]).is_err());
        }
        assert!(Tool::try_parse_from(["pace", "--rate", "1MB", "--laps", "3"]).is_err());
    }
}
