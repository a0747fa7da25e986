//! What was measured, as it is kept: from this alone the verdict follows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Programs that are measured side by side.
pub(crate) const ARMS: usize = 3;
pub(crate) const BASE: usize = 0;
/// The base once more: it has to come out equal.
pub(crate) const NULL: usize = 1;
pub(crate) const CANDIDATE: usize = 2;

/// By tier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "tier", rename_all = "lowercase")]
pub(crate) enum Evidence {
    Counts(Counted),
    Flushes(Flushed),
    Instructions(Counted),
    Turns(Paired),
    Processes(Paired),
}

/// What one operation came to, by the name of the count.
pub(crate) type Counts = BTreeMap<String, f64>;

/// Counts of one operation: a run of base and candidate each, and more where that did not decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) operation: String,
    /// By which instrument: what it counts.
    pub(crate) what: String,
    pub(crate) base: Vec<Counts>,
    pub(crate) candidate: Vec<Counts>,
}

/// What the device saw of an operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flushed {
    pub(crate) operation: String,
    /// Of a run.
    pub(crate) operations: u64,
    pub(crate) base: Vec<FlushedRun>,
    pub(crate) candidate: Vec<FlushedRun>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlushedRun {
    /// Fences, by the program itself.
    pub(crate) promised: u64,
    pub(crate) flushes: u64,
    /// Writes that carried their own fence (FUA).
    pub(crate) fenced_writes: u64,
}

impl FlushedRun {
    pub(crate) fn seen(&self) -> u64 {
        self.flushes + self.fenced_writes
    }
}

/// One quantity of one operation, of the three arms at the same time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Paired {
    pub(crate) operation: String,
    /// `time` or `CPU`.
    pub(crate) quantity: String,
    /// Operations in a visit.
    pub(crate) times: u64,
    /// In the order in which they were measured. They share no process.
    pub(crate) stages: Vec<Stage>,
}

/// A run of blocks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stage {
    /// Of the time of all processors, what the host gave to others meanwhile.
    pub(crate) steal_percent: Option<f64>,
    /// In a block every arm has had every folder equally often, and has processes of its own.
    pub(crate) blocks: Vec<Block>,
}

pub(crate) type Block = Vec<Lap>;
/// Each arm has one folder.
pub(crate) type Lap = Vec<Turn>;
/// Nanoseconds of one operation, by arm: each is visited twice, in one order and then in the
/// reverse (ABBA), and this is the geometric mean of the two.
pub(crate) type Turn = [f64; ARMS];
