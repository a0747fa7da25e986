//! What a comparison has found, as it is kept (`results/README.md` documents the fields).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use writeflush_workloads::quantile;

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
    /// What could not be measured, or not to its end.
    pub(crate) failures: Vec<String>,
}

impl Findings for Comparison {
    const KIND: &'static str = "compare";
    const FORMAT: u32 = 2;
}

/// All subjects under the same conditions, interleaved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) record_bytes: usize,
    /// `growing`, `reserved` or `written`.
    pub(crate) file_state: String,
    pub(crate) committers: usize,
    /// Whether subjects that can bypass the page cache did.
    pub(crate) direct: bool,
    /// Of all committers together.
    pub(crate) commits_a_turn: u64,
    /// What two equal rows say.
    pub(crate) noise: Noise,
    pub(crate) rows: Vec<Row>,
}

/// The noise of a cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Noise {
    /// Of the same subject twice (A/A).
    pub(crate) ratio: Option<Ratio>,
    /// Why no ratio of this cell says anything.
    pub(crate) no_verdict: Option<String>,
}

impl Cell {
    /// The conditions, for people.
    pub(crate) fn name(&self) -> String {
        let record = binary_size(self.record_bytes as u64);
        let committers = count(self.committers as u64, "committer");
        let cached = if self.direct { "" } else { ", page cache" };
        format!("{record}, {} file, {committers}{cached}", self.file_state)
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
            Outcome::Refused(_) | Outcome::Died(_) => None,
        })
    }

    /// What was refused or died, why a ratio is missing, and the reasons of whatever is not honest,
    /// each once.
    pub(crate) fn notes(&self, class: &str) -> Vec<String> {
        let of_class = self.rows.iter().filter(|row| row.class == class);
        let absent = of_class.filter_map(|row| match &row.outcome {
            Outcome::Refused(why) => Some(format!("{} was not measured: {why}", row.subject)),
            Outcome::Died(why) => Some(format!("{} failed on the way: {why}", row.subject)),
            Outcome::Measured(_) => None,
        });
        let mut without: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (row, figures) in self.measured(class) {
            if let Some(why) = &figures.no_ratio {
                without.entry(why).or_default().push(&row.subject);
            }
        }
        let without = without
            .into_iter()
            .map(|(why, subjects)| format!("no ratio for {}: {why}", subjects.join(", ")));
        let doubts = self.measured(class).map(|(_, figures)| &figures.verdict);
        let doubts = doubts
            .filter(|verdict| matches!(verdict.word, Word::Noop | Word::Unverifiable))
            .map(|verdict| format!("{}: {}", verdict.word, verdict.reason));
        let mut doubts: Vec<String> = doubts.collect();
        doubts.sort();
        doubts.dedup();
        absent.chain(without).chain(doubts).collect()
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
    /// What ended it on the way.
    Died(String),
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
    /// Why there is none, where one was to be expected.
    pub(crate) no_ratio: Option<String>,
    /// Durable payload by the time that commits took, in 10⁶ bytes a second.
    pub(crate) mb_per_s: f64,
    pub(crate) cost: Cost,
    pub(crate) verdict: Verdict,
}

/// What a commit takes, over that of another subject; with several committers, what commits take
/// by their number. The pairs of one turn are compared; the 95 % confidence interval is over
/// `blocks` blocks of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ratio {
    pub(crate) to: String,
    /// A turn's typical ratio: without the least and the greatest fifth.
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Of all turns: sees what is seldom, and is noisier.
    pub(crate) mean: Interval,
    /// Of the medians of each block; `None` with several committers, whose median commit says
    /// nothing about how many are done.
    pub(crate) p50: Option<Interval>,
    pub(crate) blocks: u64,
}

/// A ratio and its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// What a commit costs beside time: counted in rounds of its own, with nothing else going on in
/// the process. Medians of the rounds; what the counting itself takes is taken off.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) rounds: u64,
    pub(crate) commits: u64,
    /// Processor time of the whole process, kernel included, for 10⁹ durable bytes. `None` for too
    /// few rounds.
    pub(crate) cpu_s_per_gb: Option<Spread>,
    /// `None` where they can't be counted.
    pub(crate) system_calls_per_commit: Option<f64>,
    /// As the block device counted; it counts for everybody on it.
    pub(crate) device_flushes_per_commit: Option<f64>,
    pub(crate) device_writes_per_commit: Option<f64>,
    /// Bytes that the device wrote for each durable byte.
    pub(crate) device_bytes_per_byte: Option<f64>,
}

/// Of several rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        Some(Self { median: quantile(&sorted, 0.5), low, high })
    }
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
