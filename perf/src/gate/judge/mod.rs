//! What the evidence says. Pure: nothing here measures, so that the same evidence always has the
//! same verdict (`gate --replay`). One file a tier, or a kind of evidence that two tiers share.

pub(crate) mod counts;
pub(crate) mod floors;
pub(crate) mod flushes;
pub(crate) mod paired;

use serde::{Deserialize, Serialize};

use self::counts::Least;
use self::paired::Limits;
use super::evidence::Evidence;

/// What was compared.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tier {
    /// What is exact: system calls, wake-ups, allocations, bytes copied, device flushes.
    Counts,
    /// Instructions of the thread that does the operations.
    Instructions,
    /// Processes that take turns, operation by operation.
    Turns,
    /// Processes one after the other, each alone.
    Processes,
}

impl Tier {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Counts => "counts",
            Self::Instructions => "instructions",
            Self::Turns => "turns",
            Self::Processes => "processes",
        }
    }
}

/// A verdict, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Word {
    #[serde(rename = "pass")]
    Pass,
    /// What was seen does not decide.
    #[serde(rename = "no verdict")]
    NoVerdict,
    #[serde(rename = "regression")]
    Regression,
}

impl Word {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::NoVerdict => "no verdict",
            Self::Regression => "REGRESSION",
        }
    }
}

/// The candidate against the base, in percent: 0 is "the same".
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) percent: f64,
    /// The ends of the 95 % interval; both equal to `percent` for what is counted exactly.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:+.1} % [{:+.1} – {:+.1}]", self.percent, self.low, self.high)
    }
}

/// The verdict on one quantity of one operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) operation: String,
    pub(crate) tier: Tier,
    /// `time`, `CPU`, …
    pub(crate) quantity: String,
    pub(crate) word: Word,
    pub(crate) change: Option<Change>,
    /// Why.
    pub(crate) reason: String,
}

/// What one piece of evidence says.
pub(crate) fn findings(evidence: &Evidence) -> Vec<Finding> {
    match evidence {
        Evidence::Counts(counted) => counts::findings(Tier::Counts, counted, Least::EXACT),
        Evidence::Flushes(flushed) => vec![flushes::finding(flushed)],
        Evidence::Instructions(counted) => {
            counts::findings(Tier::Instructions, counted, Least::INSTRUCTIONS)
        }
        Evidence::Floor(beside) => vec![floors::finding(beside)],
        Evidence::Turns(paired) => {
            vec![paired::finding(Tier::Turns, paired, &Limits::turns(paired.limit_percent))]
        }
        Evidence::Processes(paired) => {
            vec![paired::finding(Tier::Processes, paired, &Limits::processes(paired.limit_percent))]
        }
    }
}

/// The verdict on all of it: a regression, if there is one; else no verdict, if something has none
/// or nothing was looked at.
pub(crate) fn verdict(findings: &[Finding]) -> Word {
    findings.iter().map(|finding| finding.word).max().unwrap_or(Word::NoVerdict)
}
