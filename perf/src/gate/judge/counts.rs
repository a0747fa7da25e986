//! Whether something that is counted became more: system calls, copies, instructions. Pure.
//!
//! What is exact differs between two runs of one program by nothing, and any more is more. What
//! depends on threads differs, and then only that is more which lies beyond everything seen of the
//! base, by more than either program differs from itself.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Finding, Tier, Word};
use crate::gate::evidence::{Counted, Counts};

/// The part of one operation that two totals of the same program show: of a short run and of a
/// longer one. What is done at the start and the end cancels.
pub(crate) fn per_operation(
    short: &BTreeMap<String, u64>,
    long: &BTreeMap<String, u64>,
    operations: u64,
) -> Counts {
    let names: BTreeSet<&String> = short.keys().chain(long.keys()).collect();
    let of = |totals: &BTreeMap<String, u64>, name| totals.get(name).copied().unwrap_or(0) as f64;
    names
        .into_iter()
        .map(|name| (name.clone(), (of(long, name) - of(short, name)) / operations.max(1) as f64))
        .collect()
}

/// From where on a difference counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Least {
    /// Part of the base.
    pub(crate) part: f64,
    /// Whatever the base is.
    pub(crate) each: f64,
}

impl Least {
    /// For what is exact: once in a hundred operations.
    pub(crate) const EXACT: Self = Self { part: 0.0, each: 0.01 };
    /// For instructions: a hundredth, and one.
    pub(crate) const INSTRUCTIONS: Self = Self { part: 0.01, each: 1.0 };
}

/// All that was seen of one count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Seen {
    fn of(runs: &[Counts], name: &str) -> Self {
        let all = runs.iter().map(|run| run.get(name).copied().unwrap_or(0.0));
        let none = Self { low: f64::INFINITY, high: f64::NEG_INFINITY };
        all.fold(none, |seen, value| Self { low: seen.low.min(value), high: seen.high.max(value) })
    }

    fn spread(self) -> f64 {
        self.high - self.low
    }

    pub(crate) fn middle(self) -> f64 {
        f64::midpoint(self.low, self.high)
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let figure = |value: f64| match value {
            value if value.fract() == 0.0 || value.abs() >= 1000.0 => format!("{value:.0}"),
            value => format!("{value:.3}"),
        };
        match self.spread() {
            0.0 => f.write_str(&figure(self.low)),
            _ => write!(f, "{}–{}", figure(self.low), figure(self.high)),
        }
    }
}

/// What became of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shift {
    Same,
    More,
    Fewer,
}

/// A count of base and candidate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judged {
    pub(crate) count: String,
    pub(crate) base: Seen,
    pub(crate) candidate: Seen,
    pub(crate) shift: Shift,
}

impl Judged {
    /// In percent of the base. `None`: the base does nothing of the kind.
    fn change(&self) -> Option<Change> {
        let base = self.base.middle();
        let percent = |value: f64| (value / base - 1.0) * 100.0;
        (base > 0.0).then(|| Change {
            percent: percent(self.candidate.middle()),
            low: percent(self.candidate.low),
            high: percent(self.candidate.high),
        })
    }
}

/// Judges every count that base or candidate has, each seen in one run or in several.
pub(crate) fn judge(base: &[Counts], candidate: &[Counts], least: Least) -> Vec<Judged> {
    if base.is_empty() || candidate.is_empty() {
        return Vec::new();
    }
    let names: BTreeSet<&String> = base.iter().chain(candidate).flat_map(BTreeMap::keys).collect();
    let judged = |name: &String| {
        let [base, candidate] = [base, candidate].map(|runs| Seen::of(runs, name));
        let spread = base.spread().max(candidate.spread());
        let least = least.each.max(base.middle().abs() * least.part);
        let beyond = |by: f64| by >= least && by > spread;
        let shift = match () {
            () if beyond(candidate.low - base.high) => Shift::More,
            () if beyond(base.low - candidate.high) => Shift::Fewer,
            () => Shift::Same,
        };
        Judged { count: name.clone(), base, candidate, shift }
    };
    names.into_iter().map(judged).collect()
}

/// Runs of each program before what one of them seems to do more is taken for more: where its runs
/// are alike, and where they are not.
const RUNS: usize = 3;
const RUNS_UNSTEADY: usize = 5;

/// Whether something seems to be more that was not seen often enough to be sure.
fn is_open(judged: &Judged, runs: usize) -> bool {
    let steady = judged.base.spread().max(judged.candidate.spread()) == 0.0;
    judged.shift == Shift::More && runs < if steady { RUNS } else { RUNS_UNSTEADY }
}

/// Whether another run of both is needed: one is enough where nothing became more.
pub(crate) fn goes_on(counted: &Counted, least: Least) -> bool {
    let runs = counted.runs();
    let open = |judged: &Judged| is_judged(&judged.count) && is_open(judged, runs);
    runs == 0 || judge(&counted.base, &counted.candidate, least).iter().any(open)
}

/// What a finding is made of. Single system calls explain what all of them together came to: one
/// that takes the place of another is no regression.
fn is_judged(count: &str) -> bool {
    !count.contains(": ")
}

/// The findings on all that was counted of an operation.
pub(crate) fn findings(tier: Tier, counted: &Counted, least: Least) -> Vec<Finding> {
    let all = judge(&counted.base, &counted.candidate, least);
    let of_one = |judged: &Judged| Finding {
        operation: counted.operation.clone(),
        tier,
        quantity: judged.count.clone(),
        word: match judged.shift {
            Shift::More if is_open(judged, counted.runs()) => Word::NoVerdict,
            Shift::More => Word::Regression,
            Shift::Same | Shift::Fewer => Word::Pass,
        },
        change: judged.change(),
        reason: reason(judged, &all),
    };
    all.iter().filter(|judged| is_judged(&judged.count)).map(of_one).collect()
}

fn reason(judged: &Judged, all: &[Judged]) -> String {
    let figures = format!("{} → {} each", judged.base, judged.candidate);
    let word = match judged.shift {
        Shift::Same => return figures,
        Shift::More => "more",
        Shift::Fewer => "fewer",
    };
    let parts: Vec<String> = all
        .iter()
        .filter(|part| part.shift != Shift::Same)
        .filter_map(|part| {
            let name = part.count.strip_prefix(&judged.count)?.strip_prefix(": ")?;
            Some(format!("{name} {} → {}", part.base, part.candidate))
        })
        .collect();
    let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    format!("{word}: {figures}{parts}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, f64)]) -> Counts {
        pairs.iter().map(|(name, value)| ((*name).into(), *value)).collect()
    }

    fn one(base: &[f64], candidate: &[f64], least: Least) -> Shift {
        let runs = |values: &[f64]| -> Vec<Counts> {
            values.iter().map(|value| counts(&[("calls", *value)])).collect()
        };
        judge(&runs(base), &runs(candidate), least)[0].shift
    }

    #[test]
    fn start_and_end_of_a_program_cancel() {
        let totals = |calls| BTreeMap::from([("calls".to_owned(), calls), ("once".to_owned(), 7)]);
        let expected = counts(&[("calls", 2.0), ("once", 0.0)]);
        assert_eq!(per_operation(&totals(100), &totals(612), 256), expected);
        let late = BTreeMap::from([("late".to_owned(), 256)]);
        assert_eq!(per_operation(&BTreeMap::new(), &late, 256), counts(&[("late", 1.0)]));
    }

    #[test]
    fn one_more_where_two_runs_are_alike_is_more() {
        assert_eq!(one(&[2.0], &[2.0], Least::EXACT), Shift::Same);
        assert_eq!(one(&[2.0], &[3.0], Least::EXACT), Shift::More);
        assert_eq!(one(&[0.0, 0.0], &[0.0625, 0.0625], Least::EXACT), Shift::More);
        assert_eq!(one(&[2.0], &[1.0], Least::EXACT), Shift::Fewer);
        assert_eq!(one(&[2.0], &[2.004], Least::EXACT), Shift::Same, "once in all");
    }

    #[test]
    fn what_comes_and_goes_by_itself_is_more_only_beyond_all_of_it() {
        let base = [1.5, 2.0, 1.75];
        assert_eq!(one(&base, &[2.1, 1.9, 2.2], Least::EXACT), Shift::Same, "they overlap");
        assert_eq!(one(&base, &[2.2, 2.3, 2.4], Least::EXACT), Shift::Same, "within its spread");
        assert_eq!(one(&base, &[3.0, 3.2, 2.9], Least::EXACT), Shift::More);
    }

    #[test]
    fn instructions_may_move_by_a_hundredth() {
        assert_eq!(one(&[1000.0], &[1009.0], Least::INSTRUCTIONS), Shift::Same);
        assert_eq!(one(&[1000.0], &[1010.0], Least::INSTRUCTIONS), Shift::More);
        assert_eq!(one(&[20.0], &[20.5], Least::INSTRUCTIONS), Shift::Same);
        assert_eq!(one(&[20.0], &[21.0], Least::INSTRUCTIONS), Shift::More);
    }

    #[test]
    fn what_only_one_of_them_does_is_judged_too() {
        let base = [counts(&[("write", 1.0)])];
        let candidate = [counts(&[("write", 1.0), ("fsync", 1.0)])];
        let changes: Vec<(String, Shift)> = judge(&base, &candidate, Least::EXACT)
            .into_iter()
            .map(|judged| (judged.count, judged.shift))
            .collect();
        assert_eq!(changes, [("fsync".into(), Shift::More), ("write".into(), Shift::Same)]);
        assert_eq!(judge(&[], &candidate, Least::EXACT), [], "nothing to measure against");
    }

    fn counted(base: &[f64], candidate: &[f64]) -> Counted {
        let runs = |values: &[f64]| -> Vec<Counts> {
            let run = |value: &f64| counts(&[("calls", *value), ("calls: write", *value)]);
            values.iter().map(run).collect()
        };
        let (operation, what) = ("flush".into(), "calls".into());
        Counted { operation, what, base: runs(base), candidate: runs(candidate) }
    }

    #[test]
    fn more_has_to_be_seen_in_three_runs_and_is_explained() {
        let once = counted(&[1.0], &[2.0]);
        assert!(goes_on(&once, Least::EXACT));
        let word = |counted: &Counted| findings(Tier::Counts, counted, Least::EXACT)[0].word;
        assert_eq!(word(&once), Word::NoVerdict, "it may have been chance");
        let thrice = counted(&[1.0; 3], &[2.0; 3]);
        assert!(!goes_on(&thrice, Least::EXACT));
        let found = findings(Tier::Counts, &thrice, Least::EXACT);
        assert_eq!(found.len(), 1, "single calls have no verdict of their own");
        assert_eq!(found[0].word, Word::Regression);
        assert_eq!(found[0].reason, "more: 1 → 2 each (write 1 → 2)");
        assert_eq!(found[0].change.unwrap().percent, 100.0);
        let unsteady = counted(&[1.0, 1.25, 1.0], &[2.0, 2.25, 2.0]);
        assert!(goes_on(&unsteady, Least::EXACT), "what comes and goes is looked at longer");
        assert_eq!(word(&unsteady), Word::NoVerdict);
        let [base, candidate] = [1.0, 2.0].map(|low| [low, low + 0.25, low, low, low]);
        let unsteady = counted(&base, &candidate);
        assert!(!goes_on(&unsteady, Least::EXACT));
        assert_eq!(word(&unsteady), Word::Regression);
        let chance = counted(&[1.0, 1.5], &[2.0, 1.25]);
        assert!(!goes_on(&chance, Least::EXACT), "they overlap");
        assert_eq!(word(&chance), Word::Pass);
        assert!(goes_on(&counted(&[], &[]), Least::EXACT));
        assert!(!goes_on(&counted(&[1.0], &[1.0]), Least::EXACT));
    }

    #[test]
    fn one_call_in_the_place_of_another_is_no_regression() {
        let run = |name: &str| vec![counts(&[("calls", 1.0), (name, 1.0)])];
        let swapped = Counted {
            operation: "flush".into(),
            what: "calls".into(),
            base: run("calls: write"),
            candidate: run("calls: pwritev2"),
        };
        assert!(!goes_on(&swapped, Least::EXACT));
        assert_eq!(findings(Tier::Counts, &swapped, Least::EXACT)[0].word, Word::Pass);
    }
}
