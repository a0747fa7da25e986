//! Since which commit: a search between a base that is fine and a candidate that is not. What is
//! looked at next is pure.

use std::collections::BTreeSet;

use super::judge::{Finding, Tier, Word};
use super::source::{Commit, Workshop, side};
use super::steps::{Pair, Plan};
use crate::environment::Environment;
use crate::error::{Bad, Interrupted};
use crate::output::say;
use crate::stop::Stop;

/// A search among steps in a row, of which the last is bad, and what lies before the first is good.
#[derive(Clone, Debug)]
struct Search {
    /// The first that may be the bad one.
    first: usize,
    /// The earliest that is known to be bad.
    bad: usize,
    /// Those that don't build, or have no verdict.
    unknown: BTreeSet<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Good,
    Bad,
    Unknown,
}

impl Search {
    fn among(steps: usize) -> Self {
        Self { first: 0, bad: steps.saturating_sub(1), unknown: BTreeSet::new() }
    }

    /// The one to be looked at next: the nearest to the middle that may decide. `None`: done.
    fn next(&self) -> Option<usize> {
        let middle = self.first + (self.bad - self.first) / 2;
        let open = (self.first..self.bad).filter(|step| !self.unknown.contains(step));
        open.min_by_key(|step| step.abs_diff(middle))
    }

    fn tell(&mut self, step: usize, look: Look) {
        match look {
            Look::Good => self.first = self.first.max(step + 1),
            Look::Bad => self.bad = self.bad.min(step),
            Look::Unknown => drop(self.unknown.insert(step)),
        }
    }

    /// All that the bad one can be, when there is nothing left to look at.
    fn found(&self) -> std::ops::RangeInclusive<usize> {
        self.first..=self.bad
    }
}

/// What is searched for: the first regression that was found, of the tier that is surest.
fn subject(findings: &[Finding]) -> Option<&Finding> {
    findings.iter().filter(|finding| finding.word == Word::Regression).min_by_key(|f| f.tier)
}

/// The search in a repository: one operation and one tier, again and again.
#[derive(Debug)]
pub(crate) struct Bisection<'a> {
    pub(crate) workshop: &'a Workshop,
    pub(crate) base: &'a Commit,
    pub(crate) plan: &'a Plan,
    pub(crate) folder: &'a std::path::Path,
    pub(crate) environment: &'a Environment,
    pub(crate) stop: &'a Stop,
}

impl Bisection<'_> {
    /// Since when the regression among these findings is there, in a sentence. `None`: there is none.
    pub(crate) fn since(&self, findings: &[Finding]) -> anyhow::Result<Option<String>> {
        let Some(Finding { operation, tier, quantity, .. }) = subject(findings) else {
            return Ok(None);
        };
        let commits = self.workshop.repository.commits_since(self.base)?;
        // The working tree stands behind the last commit, where it differs from it.
        let mut names: Vec<String> = commits.iter().map(Commit::to_string).collect();
        if self.workshop.repository.is_changed()? {
            names.push("the uncommitted changes".into());
        }
        let mut search = Search::among(names.len());
        while let Some(step) = search.next() {
            say(format_args!("bisect: {operation}, {quantity}: {}", names[step]));
            search.tell(step, self.look(&commits[step], operation, *tier, quantity)?);
        }
        let found: Vec<&str> = names[search.found()].iter().map(String::as_str).collect();
        let what = format!("{operation}, {}, {quantity}", tier.name());
        Ok(Some(match found.as_slice() {
            [] => format!("{what}: since no commit, as it seems: is the base the candidate?"),
            [one] => format!("{what}: since {one}"),
            [.., _] => {
                let which = found.join("; ");
                format!("{what}: since one of these, of which some have no verdict: {which}")
            }
        }))
    }

    fn look(
        &self,
        commit: &Commit,
        operation: &str,
        tier: Tier,
        quantity: &str,
    ) -> anyhow::Result<Look> {
        let made = match self.workshop.at(commit) {
            Ok(made) => made,
            Err(error) if error.is::<Bad>() => return Ok(Look::Unknown),
            Err(error) => return Err(error),
        };
        let pair = Pair { base: self.plan.pair.base.clone(), candidate: side(made) };
        let operations = vec![operation.to_owned()];
        let plan = Plan { pair, operations, tiers: vec![tier], ..self.plan.clone() };
        let Some(gate) = plan.measure(self.folder, self.environment, self.stop)? else {
            return Err(Interrupted.into());
        };
        let found = gate.findings.iter().find(|finding| finding.quantity == quantity);
        Ok(match found.map(|finding| finding.word) {
            Some(Word::Pass) => Look::Good,
            Some(Word::Regression) => Look::Bad,
            Some(Word::NoVerdict) | None => Look::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches among `steps` for the one that is bad, where some don't build.
    fn search(steps: usize, bad: usize, broken: &[usize]) -> (Vec<usize>, usize) {
        let (mut search, mut looks) = (Search::among(steps), 0);
        while let Some(step) = search.next() {
            looks += 1;
            assert!(looks <= steps, "it ends");
            search.tell(
                step,
                match step {
                    step if broken.contains(&step) => Look::Unknown,
                    step if step >= bad => Look::Bad,
                    _ => Look::Good,
                },
            );
        }
        (search.found().collect(), looks)
    }

    #[test]
    fn the_commit_is_found_in_few_looks() {
        for steps in 1..40 {
            for bad in 0..steps {
                let (found, looks) = search(steps, bad, &[]);
                assert_eq!(found, [bad], "of {steps}");
                assert!(looks <= steps.ilog2() as usize + 1, "{looks} of {steps}");
            }
        }
    }

    #[test]
    fn what_does_not_build_is_gone_around_and_named_where_it_hides_the_answer() {
        assert_eq!(search(9, 6, &[4, 2]).0, [6]);
        assert_eq!(search(9, 6, &[5]).0, [5, 6], "either of them");
        assert_eq!(search(3, 0, &[0, 1]).0, [0, 1, 2]);
    }
}
