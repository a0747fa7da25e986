//! What a comparison has found, as it is kept (`results/README.md` documents the fields).

use serde::{Deserialize, Serialize};

use crate::document::Findings;
use crate::latency::Latency;
use crate::output::{binary_size, count};
use crate::verdict::{Verdict, Word};

/// A whole comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Comparison {
    /// Decides every order in the run.
    pub(crate) seed: u64,
    pub(crate) cells: Vec<Cell>,
    /// Long writes and one fence, by buffer size.
    pub(crate) streams: Vec<Stream>,
}

impl Findings for Comparison {
    const KIND: &'static str = "compare";
}

/// All subjects under the same conditions, interleaved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) record_bytes: usize,
    /// `growing`, `reserved` or `written`.
    pub(crate) file_state: String,
    pub(crate) committers: usize,
    pub(crate) rows: Vec<Row>,
}

impl Cell {
    /// The conditions, for people.
    pub(crate) fn name(&self) -> String {
        let record = binary_size(self.record_bytes as u64);
        let committers = count(self.committers as u64, "committer");
        format!("{record}, {} file, {committers}", self.file_state)
    }

    /// Each class of its rows once.
    pub(crate) fn classes(&self) -> Vec<&str> {
        let mut classes: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !classes.contains(&row.class.as_str()) {
                classes.push(&row.class);
            }
        }
        classes
    }

    /// The rows of a class that have figures.
    pub(crate) fn measured(&self, class: &str) -> impl Iterator<Item = (&Row, &Figures)> {
        let rows = self.rows.iter().filter(move |row| row.class == class);
        rows.filter_map(|row| match &row.outcome {
            Outcome::Measured(figures) => Some((row, &**figures)),
            Outcome::Refused(_) => None,
        })
    }

    /// What was refused, and the reasons of whatever is not honest, each once.
    pub(crate) fn notes(&self, class: &str) -> Vec<String> {
        let refused =
            self.rows.iter().filter(|row| row.class == class).filter_map(|row| {
                match &row.outcome {
                    Outcome::Refused(why) => {
                        Some(format!("{} was not measured: {why}", row.subject))
                    }
                    Outcome::Measured(_) => None,
                }
            });
        let doubts = self.measured(class).map(|(_, figures)| &figures.verdict);
        let doubts = doubts
            .filter(|verdict| matches!(verdict.word, Word::Noop | Word::Unverifiable))
            .map(|verdict| format!("{}: {}", verdict.word, verdict.reason));
        let mut doubts: Vec<String> = doubts.collect();
        doubts.sort();
        doubts.dedup();
        refused.chain(doubts).collect()
    }
}

/// One subject in a cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) subject: String,
    pub(crate) family: String,
    /// What a commit survives; classes are not compared with each other.
    pub(crate) class: String,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Measured(Box<Figures>),
    /// Why it could not be measured here.
    Refused(String),
}

/// The figures of one subject in a cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) commits: u64,
    /// From the call to its return, in µs.
    pub(crate) flush_us: Latency,
    /// The distribution: upper end of each step in µs, and how many commits fell into it.
    pub(crate) steps: Vec<(f64, u64)>,
    pub(crate) ratio: Option<Ratio>,
    /// Durable payload by the time that commits took, in 10⁶ bytes a second.
    pub(crate) mb_per_s: f64,
    pub(crate) cost: Cost,
    pub(crate) verdict: Verdict,
}

/// The p50 over that of another subject: geometric mean over the stretches of the run, with its
/// 95 % confidence interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ratio {
    pub(crate) to: String,
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// What a commit costs beside time: counted in turns of its own, with nothing else going on in
/// the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) commits: u64,
    /// Processor time of the whole process, kernel included, for 10⁹ durable bytes.
    pub(crate) cpu_s_per_gb: f64,
    /// `None` where they can't be counted.
    pub(crate) system_calls_per_commit: Option<f64>,
    /// As the block device counted; it counts for everybody on it.
    pub(crate) device_flushes_per_commit: Option<f64>,
    pub(crate) device_writes_per_commit: Option<f64>,
    /// Bytes that the device wrote for each durable byte.
    pub(crate) device_bytes_per_byte: Option<f64>,
}

/// A long stream, then one fence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stream {
    pub(crate) subject: String,
    pub(crate) buffer_bytes: usize,
    pub(crate) stream_bytes: u64,
    #[serde(flatten)]
    pub(crate) outcome: StreamOutcome,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StreamOutcome {
    /// 10⁶ bytes a second from the first write to durable, of each turn, sorted.
    MbPerS(Vec<f64>),
    /// Why it could not be measured here.
    Refused(String),
}
