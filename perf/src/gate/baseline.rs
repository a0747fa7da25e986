//! What was kept, for repositories in which no base is built. Only what means something on another
//! machine is kept: how often, and how many times as long as a floor; never how long. A key holds
//! what that depends on.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::evidence::{BesideFloor, Counted, Counts, Evidence, Flushed, FlushedRun, Stage};
use super::judge::{Tier, floors};
use super::result::{Gate, Skipped};
use super::steps::Plan;
use crate::document::Findings;
use crate::environment::Environment;
use crate::error::Bad;
use crate::stop::Stop;

/// Rounds of a measurement, in each of which a program is its own base: two runs.
const ROUNDS: usize = 3;
/// Stages beside a floor that are measured until so many are something to go by.
const MOST_STAGES: usize = 2 * ROUNDS;

/// What is kept in the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Baseline {
    entries: Vec<Entry>,
}

impl Findings for Baseline {
    const KIND: &'static str = "baseline";
}

/// An operation, under the conditions on which its counts depend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    operation: String,
    #[serde(flatten)]
    place: Place,
    /// By what was counted: the runs.
    counts: BTreeMap<String, Vec<Counts>>,
    flushes: Option<Flushes>,
    /// How many times as long as its floor it took, in stages of their own.
    #[serde(default)]
    times_its_floor: Vec<f64>,
}

/// Record size, backend and drive are part of what an operation is, and so of its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    file_system: Option<String>,
    write_cache: Option<String>,
    fua: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flushes {
    /// Of a run.
    operations: u64,
    runs: Vec<FlushedRun>,
}

impl Entry {
    fn new(operation: &str, place: &Place) -> Self {
        Self {
            operation: operation.into(),
            place: place.clone(),
            counts: BTreeMap::new(),
            flushes: None,
            times_its_floor: Vec::new(),
        }
    }

    /// The median of what was kept.
    fn time_by_its_floor(&self) -> Option<f64> {
        let mut kept = self.times_its_floor.clone();
        kept.sort_by(f64::total_cmp);
        kept.get(kept.len() / 2).copied()
    }
}

impl Place {
    fn of(environment: &Environment) -> Self {
        let Environment { file_system, write_cache, fua, .. } = environment.clone();
        Self { file_system, write_cache, fua }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let or = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".into());
        let Self { file_system, write_cache, fua } = self;
        write!(f, "{}, write cache {}, FUA {}", or(file_system), or(write_cache), or(fua))
    }
}

impl Baseline {
    /// Counts what the candidate of a plan does. `None`: interrupted.
    pub(crate) fn measure(
        plan: &Plan,
        folder: &Path,
        environment: &Environment,
        stop: &Stop,
    ) -> Result<Option<(Self, Vec<Skipped>)>, Bad> {
        let mut alone = plan.alone();
        alone.tiers = vec![Tier::Counts];
        let (mut baseline, mut skipped) = (Self::default(), Vec::new());
        for _ in 0..ROUNDS {
            let Some(gate) = alone.measure(folder, environment, stop)? else { return Ok(None) };
            let place = Place::of(environment);
            gate.evidence.iter().for_each(|evidence| baseline.add(&place, evidence));
            skipped = gate.skipped;
        }
        Ok(Some((baseline, skipped)))
    }

    /// Adds how many times as long as its floor each operation takes that has one. Whether it was
    /// not interrupted.
    pub(crate) fn measure_floors(
        &mut self,
        plan: &Plan,
        folder: &Path,
        environment: &Environment,
        stop: &Stop,
        skipped: &mut Vec<Skipped>,
    ) -> Result<bool, Bad> {
        let (plan, place) = (plan.alone(), Place::of(environment));
        let fit = |stages: &[Stage]| stages.iter().filter_map(floors::ratio).collect::<Vec<_>>();
        let over = |stages: &[Stage]| fit(stages).len() >= ROUNDS || stages.len() >= MOST_STAGES;
        for operation in plan.with_floors(folder)? {
            let beside = plan.beside_floor(&operation, folder, stop, over)?;
            let Some(paired) = beside else { return Ok(false) };
            let fit = fit(&paired.stages);
            if fit.is_empty() {
                let what = format!("{operation}, {}", floors::QUANTITY);
                skipped.push(Skipped { what, why: "the machine is too busy to tell".into() });
            }
            self.entry(&operation, &place).times_its_floor = fit;
        }
        Ok(true)
    }

    /// Measures beside their floors the operations that were kept so. Whether it was not interrupted.
    pub(crate) fn judge_floors(
        &self,
        plan: &Plan,
        folder: &Path,
        environment: &Environment,
        stop: &Stop,
        gate: &mut Gate,
    ) -> Result<bool, Bad> {
        let (plan, place) = (plan.alone(), Place::of(environment));
        for operation in plan.with_floors(folder)? {
            let kept = self.find(&operation, &place).and_then(Entry::time_by_its_floor);
            let Some(kept) = kept else {
                let what = format!("{operation}, {}", floors::QUANTITY);
                gate.skipped.push(Skipped { what, why: "the baseline does not have it".into() });
                continue;
            };
            let over = |stages: &[Stage]| !floors::goes_on(kept, stages);
            let beside = plan.beside_floor(&operation, folder, stop, over)?;
            let Some(paired) = beside else { return Ok(false) };
            gate.evidence.push(Evidence::Floor(BesideFloor { kept, paired }));
        }
        gate.judge();
        Ok(true)
    }

    fn add(&mut self, place: &Place, evidence: &Evidence) {
        match evidence {
            Evidence::Counts(Counted { operation, what, base, candidate }) => {
                let kept = self.entry(operation, place).counts.entry(what.clone()).or_default();
                kept.extend(base.iter().chain(candidate).cloned());
            }
            Evidence::Flushes(Flushed { operation, operations, base, candidate }) => {
                let kept = &mut self.entry(operation, place).flushes;
                let none = Flushes { operations: *operations, runs: Vec::new() };
                kept.get_or_insert(none).runs.extend(base.iter().chain(candidate));
            }
            Evidence::Instructions(_)
            | Evidence::Turns(_)
            | Evidence::Processes(_)
            | Evidence::Floor(_) => {}
        }
    }

    fn find(&self, operation: &str, place: &Place) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.operation == operation && entry.place == *place)
    }

    fn entry(&mut self, operation: &str, place: &Place) -> &mut Entry {
        let is_it = |entry: &Entry| entry.operation == operation && entry.place == *place;
        let at = self.entries.iter().position(is_it).unwrap_or_else(|| {
            self.entries.push(Entry::new(operation, place));
            self.entries.len() - 1
        });
        &mut self.entries[at]
    }

    /// What was measured now and is not in this file comes from the older one: a file holds more
    /// than one place.
    pub(crate) fn with(mut self, older: Self) -> Self {
        for entry in older.entries {
            if self.find(&entry.operation, &entry.place).is_none() {
                self.entries.push(entry);
            }
        }
        self.entries.sort_by_key(|entry| (entry.operation.clone(), entry.place.to_string()));
        self
    }

    /// What `now` does, beside what was kept.
    pub(crate) fn judge(&self, now: &Self, gate: &mut Gate) {
        for entry in &now.entries {
            let Some(kept) = self.find(&entry.operation, &entry.place) else {
                let why = format!("the baseline has nothing of it on {}", entry.place);
                gate.skipped.push(Skipped { what: entry.operation.clone(), why });
                continue;
            };
            let operation = || entry.operation.clone();
            for (what, candidate) in &entry.counts {
                let (what, candidate) = (what.clone(), candidate.clone());
                match kept.counts.get(&what).cloned() {
                    Some(base) => gate.evidence.push(Evidence::Counts(Counted {
                        operation: operation(),
                        what,
                        base,
                        candidate,
                    })),
                    None => gate.skipped.push(Skipped {
                        what: format!("{}, {what}", entry.operation),
                        why: "the baseline does not have it".into(),
                    }),
                }
            }
            if let (Some(base), Some(candidate)) = (&kept.flushes, &entry.flushes)
                && base.operations == candidate.operations
            {
                gate.evidence.push(Evidence::Flushes(Flushed {
                    operation: operation(),
                    operations: base.operations,
                    base: base.runs.clone(),
                    candidate: candidate.runs.clone(),
                }));
            }
        }
        gate.judge();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::judge::Word;

    fn measured(file_system: &str, calls: f64, flushes: u64) -> Baseline {
        let place = Place { file_system: Some(file_system.into()), write_cache: None, fua: None };
        let mut baseline = Baseline::default();
        for _ in 0..ROUNDS {
            let run = vec![Counts::from([("system calls".into(), calls)])];
            let (operation, what) = ("flush".to_owned(), "system calls and wake-ups".into());
            let (base, candidate) = (run.clone(), run);
            baseline.add(
                &place,
                &Evidence::Counts(Counted { operation: operation.clone(), what, base, candidate }),
            );
            let run = vec![FlushedRun { promised: 256, flushes, fenced_writes: 0 }];
            let (base, candidate) = (run.clone(), run);
            let flushed = Flushed { operation, operations: 256, base, candidate };
            baseline.add(&place, &Evidence::Flushes(flushed));
        }
        baseline
    }

    fn judged(kept: &Baseline, now: &Baseline) -> Gate {
        let mut gate = Gate::new("file".into(), "now".into(), 1, Vec::new());
        kept.judge(now, &mut gate);
        gate
    }

    #[test]
    fn what_became_more_since_it_was_kept_is_a_regression() {
        let kept = measured("ext4", 2.0, 256);
        assert_eq!(judged(&kept, &kept).verdict, Word::Pass);
        assert_eq!(judged(&kept, &measured("ext4", 3.0, 256)).verdict, Word::Regression);
        assert_eq!(judged(&kept, &measured("ext4", 2.0, 512)).verdict, Word::Regression);
        assert_eq!(judged(&kept, &measured("ext4", 1.0, 128)).verdict, Word::Regression);
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<Baseline>(&text).unwrap(), kept);
    }

    #[test]
    fn an_unknown_key_is_skipped_and_said_so() {
        let gate = judged(&measured("xfs", 2.0, 256), &measured("ext4", 3.0, 256));
        assert_eq!(gate.verdict, Word::NoVerdict);
        let said = "the baseline has nothing of it on ext4, write cache unknown, FUA unknown";
        assert_eq!((gate.skipped.len(), gate.skipped[0].why.as_str()), (1, said));
    }

    #[test]
    fn a_file_holds_more_than_one_place() {
        let both = measured("ext4", 3.0, 256).with(measured("ext4", 2.0, 256));
        assert_eq!(both, measured("ext4", 3.0, 256), "the newer counts");
        let both = both.with(measured("xfs", 2.0, 256));
        assert_eq!(both.entries.len(), 2);
        assert_eq!(judged(&both, &measured("xfs", 3.0, 256)).verdict, Word::Regression);
    }
}
