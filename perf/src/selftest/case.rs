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
pub(crate) const CASES: [Case; 15] = [
    null("null", Layout::Same),
    null("null, longer arguments", Layout::LongerArguments),
    null("null, padded", Layout::Padded),
    null("null, relinked", Layout::Relinked),
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

    pub(crate) fn of(name: &str) -> Option<&'static Self> {
        CASES.iter().find(|case| case.name == name)
    }
}

/// How often each is tried: the nulls share theirs.
pub(crate) fn schedule(nulls: u64, each: u64) -> Vec<(&'static Case, u64)> {
    let of_null = CASES.iter().filter(|case| case.is_null()).count() as u64;
    let most = each.max(nulls.div_ceil(of_null));
    // In turn, so that a part of a run says something about everything.
    let mut trials = Vec::new();
    let mut nulls_left = nulls;
    for number in 0..most {
        for case in &CASES {
            if case.is_null() {
                if nulls_left > 0 {
                    nulls_left -= 1;
                    trials.push((case, number));
                }
            } else if number < each {
                trials.push((case, number));
            }
        }
    }
    trials
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_tried_as_often_as_was_asked() {
        let trials = schedule(10, 3);
        let nulls = trials.iter().filter(|(case, _)| case.is_null()).count();
        let planted = CASES.iter().filter(|case| !case.is_null()).count();
        assert_eq!((nulls, trials.len()), (10, 10 + 3 * planted));
        let mut distinct = trials.clone();
        distinct.sort_by_key(|(case, number)| (case.name, *number));
        distinct.dedup();
        assert_eq!(distinct.len(), trials.len(), "each has a seed of its own");
        assert!(schedule(0, 0).is_empty());
    }
}
