//! What the gate has said to everything that was planted, and whether that is good enough. Pure.

use serde::{Deserialize, Serialize};

use super::case::{Asked, CASES, Case};
use crate::document::Findings;
use crate::gate::{Change, LIMIT_PERCENT, STOLEN, Tier, Word};

/// The operating curve of the gate on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SelfTest {
    /// Something else synced its writes to the same disk all the time.
    pub(crate) neighbour: bool,
    /// Turns of a stage.
    pub(crate) turns: u32,
    /// By which what is timed was looked at.
    #[serde(default = "turns")]
    pub(crate) tier: Tier,
    /// Slower by more than this was looked for.
    #[serde(default = "crate::gate::usual_limit")]
    pub(crate) limit_percent: f64,
    pub(crate) operations: Vec<String>,
    pub(crate) trials: Vec<Trial>,
}

fn turns() -> Tier {
    Tier::Turns
}

impl Default for SelfTest {
    fn default() -> Self {
        Self {
            neighbour: false,
            turns: 0,
            tier: turns(),
            limit_percent: LIMIT_PERCENT,
            operations: Vec::new(),
            trials: Vec::new(),
        }
    }
}

impl Findings for SelfTest {
    const KIND: &'static str = "selftest";
}

/// One run of the gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trial {
    pub(crate) case: String,
    pub(crate) seed: u64,
    pub(crate) verdict: Word,
    /// Of each operation and tier.
    pub(crate) findings: Vec<Told>,
    pub(crate) seconds: f64,
}

/// A finding, shortened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) operation: String,
    pub(crate) tier: String,
    pub(crate) word: Word,
    pub(crate) change: Option<Change>,
    /// How often it was measured until there was a verdict.
    pub(crate) stages: usize,
    pub(crate) reason: String,
}

impl Trial {
    /// The host gave the processors to others: there was no idle machine to say anything about.
    fn is_stolen(&self) -> bool {
        let mut undecided = self.findings.iter().filter(|told| told.word == Word::NoVerdict);
        self.verdict == Word::NoVerdict
            && undecided.clone().count() > 0
            && undecided.all(|told| told.reason.starts_with(STOLEN))
    }
}

/// How often each verdict fell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) undecided: u64,
    pub(crate) failed: u64,
    /// Of the undecided those for which the host had no time.
    pub(crate) stolen: u64,
}

impl Tally {
    pub(crate) fn all(self) -> u64 {
        self.passed + self.undecided + self.failed
    }

    /// What the gate is judged by.
    fn fair(self) -> u64 {
        self.all() - self.stolen
    }

    fn add(&mut self, trial: &Trial) {
        match trial.verdict {
            Word::Pass => self.passed += 1,
            Word::NoVerdict => self.undecided += 1,
            Word::Regression => self.failed += 1,
        }
        self.stolen += u64::from(trial.is_stolen());
    }
}

/// Most trials without a verdict, where the machine was idle.
const UNDECIDED: f64 = 0.05;

impl SelfTest {
    pub(crate) fn tally(&self, of: impl Fn(&Case) -> bool) -> Tally {
        let mut tally = Tally::default();
        for trial in &self.trials {
            if Case::of(&trial.case).is_some_and(&of) {
                tally.add(trial);
            }
        }
        tally
    }

    /// Beside a neighbour "no verdict" is right, and at another limit, or by processes that run
    /// alone, other things are seen.
    fn is_asked(&self, case: &Case) -> bool {
        let is_usual = self.limit_percent == LIMIT_PERCENT && self.tier == Tier::Turns;
        !case.is_timed() || !self.neighbour && is_usual
    }

    /// What the gate did not do that it has to, each in a sentence.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for case in &CASES {
            let tally = self.tally(|other| other.name == case.name);
            let (failed, all) = (tally.failed, tally.fair());
            match case.asked {
                Asked::NoRed if failed > 0 => {
                    failures.push(format!("{}: {failed} of {all} called a regression", case.name));
                }
                Asked::Caught(share)
                    if self.is_asked(case) && (failed as f64) < share * all as f64 =>
                {
                    failures.push(format!(
                        "{}: {failed} of {all} caught, and {:.0} % are asked for",
                        case.name,
                        share * 100.0
                    ));
                }
                _ => {}
            }
        }
        let all = self.tally(|_| true);
        let (undecided, all) = (all.undecided - all.stolen, all.fair());
        if !self.neighbour && undecided as f64 > UNDECIDED * all as f64 {
            failures.push(format!("{undecided} of {all} had no verdict, and 5 % may"));
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(trials: &[(&str, Word, usize)]) -> SelfTest {
        let trial = |case: &str, verdict| Trial {
            case: case.into(),
            seed: 1,
            verdict,
            findings: Vec::new(),
            seconds: 1.0,
        };
        let trials = trials
            .iter()
            .flat_map(|(case, word, count)| std::iter::repeat_n(trial(case, *word), *count));
        SelfTest { trials: trials.collect(), ..SelfTest::default() }
    }

    #[test]
    fn what_is_asked_of_the_gate_is_told_where_it_fails() {
        let well = [
            ("null", Word::Pass, 99),
            ("null, padded", Word::NoVerdict, 1),
            ("5 % slower", Word::Regression, 19),
            ("5 % slower", Word::Pass, 1),
            ("20 % slower", Word::Regression, 5),
        ];
        assert!(found(&well).failures().is_empty(), "{:?}", found(&well).failures());
        let says = |trials: &[(&str, Word, usize)], neighbour| {
            SelfTest { neighbour, ..found(trials) }.failures()
        };
        let red = [("null", Word::Pass, 299), ("null", Word::Regression, 1)];
        assert_eq!(says(&red, false), ["null: 1 of 300 called a regression"]);
        assert_eq!(says(&red, true).len(), 1, "a false red is wrong beside a neighbour, too");
        let missed = [("20 % slower", Word::Regression, 99), ("20 % slower", Word::NoVerdict, 1)];
        assert_eq!(says(&missed, false).len(), 1);
        assert!(says(&missed, true).is_empty());
        let undecided = [("null", Word::Pass, 9), ("null", Word::NoVerdict, 1)];
        assert_eq!(says(&undecided, false), ["1 of 10 had no verdict, and 5 % may"]);
        assert!(says(&undecided, true).is_empty());
    }

    #[test]
    fn what_the_host_had_no_time_for_is_held_against_nobody() {
        let missed = [("20 % slower", Word::Regression, 9), ("20 % slower", Word::NoVerdict, 1)];
        let with_reason = |reason: String| {
            let mut found = found(&missed);
            let told = Told {
                operation: "flush".into(),
                tier: "turns".into(),
                word: Word::NoVerdict,
                change: None,
                stages: 3,
                reason,
            };
            found.trials[9].findings.push(told);
            found.failures().len()
        };
        assert_eq!(with_reason(format!("{STOLEN} 9 % of the time away")), 0);
        assert_eq!(with_reason("two equal programs lay 3.0 % apart".into()), 2);
    }
}
