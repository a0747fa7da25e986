//! What is planted in a candidate, and what a gate that is right says to it. Pure.

use crate::gate::Tier;

/// Where the code of the candidate lies, which is no change of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Same,
    /// The stack begins elsewhere.
    LongerArguments,
    /// The file is longer.
    Padded,
    /// Its functions lie in another order.
    Relinked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    Nothing(Layout),
    /// A value of `WRITEFLUSH_INJECT`.
    Regression(&'static str),
}

/// What is asked of the gate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Asked {
    /// Never a regression.
    NoRed,
    /// A regression in at least this share of all trials.
    Caught(f64),
    /// Nothing: it is told.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Case {
    /// In tables and files.
    pub(crate) name: &'static str,
    pub(crate) planted: Planted,
    pub(crate) asked: Asked,
    /// By which it is to be seen.
    pub(crate) tiers: &'static [Tier],
    /// In this operation, where not in those that were asked for.
    pub(crate) operation: Option<&'static str>,
}

const TIMED: &[Tier] = &[Tier::Turns];
const EXACT: &[Tier] = &[Tier::Counts, Tier::Instructions];
/// A durable record without a driver's thread, beside which valgrind can't run io_uring.
const COUNTED: Option<&str> = Some("caller");

const fn null(name: &'static str, layout: Layout) -> Case {
    let planted = Planted::Nothing(layout);
    Case { name, planted, asked: Asked::NoRed, tiers: TIMED, operation: None }
}

const fn counted(name: &'static str, planted: Planted, asked: Asked) -> Case {
    Case { name, planted, asked, tiers: EXACT, operation: COUNTED }
}

const fn slower(name: &'static str, value: &'static str, asked: Asked) -> Case {
    Case { name, planted: Planted::Regression(value), asked, tiers: TIMED, operation: None }
}

/// What is counted has to be seen always.
const fn more(name: &'static str, value: &'static str) -> Case {
    counted(name, Planted::Regression(value), Asked::Caught(1.0))
}

/// In the order of the table.
pub(crate) const CASES: [Case; 16] = [
    null("null", Layout::Same),
    null("null, longer arguments", Layout::LongerArguments),
    null("null, padded", Layout::Padded),
    null("null, relinked", Layout::Relinked),
    slower("1 % slower", "slower:1", Asked::Nothing),
    slower("2.5 % slower", "slower:2.5", Asked::Caught(0.5)),
    slower("5 % slower", "slower:5", Asked::Caught(0.95)),
    slower("10 % slower", "slower:10", Asked::Caught(1.0)),
    slower("20 % slower", "slower:20", Asked::Caught(1.0)),
    slower("one in twenty", "one-in-twenty", Asked::Nothing),
    counted("null, counted", Planted::Nothing(Layout::Same), Asked::NoRed),
    more("an extra flush", "flush"),
    more("an extra copy", "copy"),
    more("an extra allocation", "allocation"),
    more("an extra wake-up", "wake"),
    more("a skipped flush", "skipped-flush"),
];

impl Case {
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.planted, Planted::Nothing(_))
    }

    pub(crate) fn is_timed(&self) -> bool {
        self.tiers == TIMED
    }

    pub(crate) fn of(name: &str) -> Option<&'static Self> {
        CASES.iter().find(|case| case.name == name)
    }
}

/// How often each is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trials {
    /// The timed nulls share these, rounded up.
    pub(crate) nulls: u64,
    /// Of each timed regression.
    pub(crate) each: u64,
    /// Of each case that is counted.
    pub(crate) counted: u64,
}

impl Trials {
    fn of(self, case: &Case) -> u64 {
        let is_timed_null = |case: &Case| case.is_null() && case.is_timed();
        if is_timed_null(case) {
            let share = CASES.iter().filter(|case| is_timed_null(case)).count();
            self.nulls.div_ceil(share as u64)
        } else if case.is_timed() {
            self.each
        } else {
            self.counted
        }
    }
}

/// All trials, each case in turn, so that a part of a run says something about everything.
pub(crate) fn schedule(trials: Trials) -> Vec<(&'static Case, u64)> {
    let rounds = CASES.iter().map(|case| trials.of(case)).max().unwrap_or(0);
    let in_turn = (0..rounds).flat_map(|number| CASES.iter().map(move |case| (case, number)));
    in_turn.filter(|(case, number)| *number < trials.of(case)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_tried_as_often_as_was_asked() {
        let trials = schedule(Trials { nulls: 10, each: 5, counted: 2 });
        for case in &CASES {
            let expected = match (case.is_timed(), case.is_null()) {
                (true, true) => 3, // four kinds share ten
                (true, false) => 5,
                (false, _) => 2,
            };
            let times = trials.iter().filter(|(other, _)| other.name == case.name).count();
            assert_eq!(times, expected, "{}", case.name);
        }
        let mut distinct = trials.clone();
        distinct.sort_by_key(|(case, number)| (case.name, *number));
        distinct.dedup();
        assert_eq!(distinct.len(), trials.len(), "each has a seed of its own");
        assert!(schedule(Trials { nulls: 0, each: 0, counted: 0 }).is_empty());
    }
}
