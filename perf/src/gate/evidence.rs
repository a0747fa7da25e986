//! What was measured, as it is kept: from this alone the verdict follows.

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
    Turns(Paired),
    Processes(Paired),
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
