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
    Floor(BesideFloor),
}

impl Evidence {
    /// How often it was measured until there was a verdict.
    pub(crate) fn stages(&self) -> usize {
        match self {
            Self::Turns(paired) | Self::Processes(paired) => paired.stages.len(),
            Self::Counts(counted) | Self::Instructions(counted) => counted.base.len(),
            Self::Flushes(flushed) => flushed.base.len(),
            Self::Floor(beside) => beside.paired.stages.len(),
        }
    }
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

impl Counted {
    /// Of each program.
    pub(crate) fn runs(&self) -> usize {
        self.base.len().min(self.candidate.len())
    }
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
    /// Slower by more than this was looked for.
    #[serde(default = "usual_limit")]
    pub(crate) limit_percent: f64,
    /// In the order in which they were measured. They share no process.
    pub(crate) stages: Vec<Stage>,
}

/// An operation beside its floor, which takes the place of the base and of the null arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BesideFloor {
    /// So many times as long as its floor it took when that was kept.
    pub(crate) kept: f64,
    #[serde(flatten)]
    pub(crate) paired: Paired,
}

/// What is looked for, unless something else is asked for.
pub(crate) const LIMIT_PERCENT: f64 = 2.0;

pub(crate) fn usual_limit() -> f64 {
    LIMIT_PERCENT
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

/// Turns in which each arm kept its folder. As text `BASE NULL CANDIDATE, BASE NULL CANDIDATE, …`,
/// since a thousand of them are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Lap(pub(crate) Vec<Turn>);

/// Nanoseconds of one operation, by arm: each is visited twice, in one order and then in the
/// reverse (ABBA), and this is the geometric mean of the two.
pub(crate) type Turn = [f64; ARMS];

/// Digits of a time: one in 100,000 is far below what can be seen.
const DIGITS: i32 = 6;

/// As exact as it is kept, so that a replay has the same.
pub(crate) fn rounded(turn: Turn) -> Turn {
    turn.map(|took| {
        let unit = 10f64.powi(DIGITS - 1 - took.log10().floor() as i32);
        (took * unit).round() / unit
    })
}

impl From<Lap> for String {
    fn from(lap: Lap) -> Self {
        let turns = lap.0.iter().map(|turn| turn.map(|took| took.to_string()).join(" "));
        turns.collect::<Vec<_>>().join(", ")
    }
}

impl TryFrom<String> for Lap {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let took =
            |word: &str| word.parse().ok().filter(|took: &f64| took.is_normal() && *took > 0.0);
        let turn = |text: &str| {
            let times: Option<Vec<f64>> = text.split_whitespace().map(took).collect();
            times.and_then(|times| Turn::try_from(times).ok())
        };
        let turns = text
            .split(',')
            .map(|part| turn(part).ok_or_else(|| format!("'{part}' is no turn of {ARMS} times")));
        if text.is_empty() {
            Ok(Self::default())
        } else {
            turns.collect::<Result<_, _>>().map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_read_back_as_they_were_judged() {
        let turns = [[123_456.789, 0.123_456_789, 7.0], [1e9 / 3.0, 10.0 / 3.0, 99_999_999.0]];
        let lap = Lap(turns.map(rounded).to_vec());
        let text = serde_json::to_string(&lap).unwrap();
        assert_eq!(text, r#""123457 0.123457 7, 333333000 3.33333 100000000""#);
        assert_eq!(serde_json::from_str::<Lap>(&text).unwrap(), lap);
        let nothing = serde_json::to_string(&Lap::default()).unwrap();
        assert_eq!(serde_json::from_str::<Lap>(&nothing).unwrap(), Lap::default());
        for bad in ["1 2", "1 2 3 4", "1 2 x", "1 2 0", "1 2 -3", "1 2 inf", "1 2 NaN", "1 2 3,"] {
            assert!(Lap::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
