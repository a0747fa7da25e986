//! What is measured, one after the other.

use std::path::Path;

use super::evidence::{Evidence, Paired, Stage};
use super::judge::Tier;
use super::program::{Program, Start};
use super::result::{Gate, Skipped};
use super::tiers::turns::Extent;
use super::tiers::{Bench, counts, instructions, processes, turns};
use crate::environment::Environment;
use crate::error::Bad;
use crate::output::Progress;
use crate::stop::Stop;

/// One of the two that are compared.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    /// As the user knows it: a path, a commit.
    pub(crate) name: String,
    pub(crate) start: Start,
}

#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) base: Side,
    pub(crate) candidate: Side,
}

/// What an instrument could not run. Valgrind 3.19 stops all threads of a program while one waits in
/// io_uring_enter, so that a driver's thread on io_uring never ends under it.
fn unmeasured(evidence: &Evidence) -> Option<Skipped> {
    let (Evidence::Counts(counted) | Evidence::Instructions(counted)) = evidence else {
        return None;
    };
    (counted.runs() == 0).then(|| Skipped {
        what: format!("{}, {}", counted.operation, counted.what),
        why: "the base does not run to its end under the instrument".into(),
    })
}

/// What can be counted here.
#[derive(Debug)]
struct Instruments {
    flushes: Option<counts::Flushes>,
    instructions: bool,
}

impl Instruments {
    /// And what can't, of the tiers that are asked for.
    fn of(tiers: &[Tier], environment: &Environment, folder: &Path) -> (Self, Vec<Skipped>) {
        let mut absent = Vec::new();
        let mut found = Self { flushes: None, instructions: false };
        if tiers.contains(&Tier::Counts) {
            absent.extend(counts::absent());
            match counts::Flushes::of(environment, folder) {
                Ok(flushes) => found.flushes = Some(flushes),
                Err(skipped) => absent.push(skipped),
            }
        }
        if tiers.contains(&Tier::Instructions) {
            let missing = instructions::absent();
            found.instructions = missing.is_none();
            absent.extend(missing);
        }
        (found, absent)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) pair: Pair,
    /// Empty: all that both know.
    pub(crate) operations: Vec<String>,
    pub(crate) tiers: Vec<Tier>,
    pub(crate) extent: Extent,
    pub(crate) seed: u64,
    pub(crate) ignore_steal: bool,
    pub(crate) limit_percent: f64,
}

impl Plan {
    /// Measures and judges. `folder` is on the file system that is measured. `None`: interrupted.
    pub(crate) fn measure(
        &self,
        folder: &Path,
        environment: &Environment,
        stop: &Stop,
    ) -> Result<Option<Gate>, Bad> {
        let _orderly = stop.leave_in_time(folder);
        let Pair { base, candidate } = &self.pair;
        let (operations, mut skipped) = self.operations(folder)?;
        let (instruments, absent) = Instruments::of(&self.tiers, environment, folder);
        skipped.extend(absent);
        let mut gate = Gate::new(base.name.clone(), candidate.name.clone(), self.seed, skipped);
        let progress = Progress::bar((operations.len() * self.tiers.len()) as u64);
        let bench = self.bench(folder, stop, &progress);
        for tier in &self.tiers {
            for operation in &operations {
                let Some(evidence) = self.evidence(*tier, &bench, operation, &instruments)? else {
                    return Ok(None);
                };
                let (whole, empty): (Vec<_>, Vec<_>) =
                    evidence.into_iter().partition(|evidence| unmeasured(evidence).is_none());
                gate.evidence.extend(whole);
                gate.skipped.extend(empty.iter().filter_map(unmeasured));
                progress.inc(1);
            }
        }
        gate.judge();
        Ok(Some(gate))
    }

    fn bench<'a>(&'a self, folder: &'a Path, stop: &'a Stop, progress: &'a Progress) -> Bench<'a> {
        Bench {
            base: &self.pair.base.start,
            candidate: &self.pair.candidate.start,
            folder,
            seed: self.seed,
            ignore_steal: self.ignore_steal,
            limit_percent: self.limit_percent,
            stop,
            progress,
        }
    }

    /// The candidate takes the place of the base, too.
    pub(crate) fn alone(&self) -> Self {
        let mut alone = self.clone();
        alone.pair.base = alone.pair.candidate.clone();
        alone
    }

    /// The operations of the candidate that have a floor.
    pub(crate) fn with_floors(&self, folder: &Path) -> Result<Vec<String>, Bad> {
        let known = Program::start(&self.pair.candidate.start, folder)?.list()?;
        let (mut operations, _) = self.operations(folder)?;
        operations.retain(|operation| known.contains(&turns::floor_of(operation)));
        Ok(operations)
    }

    /// An operation beside its floor, until that is `over`. `None`: interrupted.
    pub(crate) fn beside_floor(
        &self,
        operation: &str,
        folder: &Path,
        stop: &Stop,
        over: impl Fn(&[Stage]) -> bool,
    ) -> Result<Option<Paired>, Bad> {
        let _orderly = stop.leave_in_time(folder);
        let progress = Progress::words();
        let bench = self.bench(folder, stop, &progress);
        turns::beside_floor(&bench, operation, self.extent, over)
    }

    /// `None`: interrupted.
    fn evidence(
        &self,
        tier: Tier,
        bench: &Bench<'_>,
        operation: &str,
        instruments: &Instruments,
    ) -> Result<Option<Vec<Evidence>>, Bad> {
        Ok(match tier {
            Tier::Counts => counts::measure(bench, operation, instruments.flushes.as_ref())?,
            Tier::Instructions if !instruments.instructions => Some(Vec::new()),
            Tier::Instructions => {
                instructions::measure(bench, operation)?.map(|evidence| vec![evidence])
            }
            Tier::Turns => turns::measure(bench, operation, self.extent)?
                .map(|paired| vec![Evidence::Turns(paired)]),
            Tier::Processes => processes::measure(bench, operation)?
                .map(|both| both.map(Evidence::Processes).to_vec()),
        })
    }

    /// Those to be measured, and those that can't be.
    fn operations(&self, folder: &Path) -> Result<(Vec<String>, Vec<Skipped>), Bad> {
        let known = |start: &Start| Program::start(start, folder)?.list();
        let base = known(&self.pair.base.start)?;
        let candidate = known(&self.pair.candidate.start)?;
        let asked = match self.operations.as_slice() {
            [] => candidate.iter().filter(|name| !turns::is_floor(name)).cloned().collect(),
            asked => asked.to_vec(),
        };
        let mut skipped = Vec::new();
        let mut measured = Vec::new();
        for name in asked {
            if !candidate.contains(&name) {
                return Err(Bad::new(format!(
                    "the candidate has no operation '{name}': it has {}",
                    candidate.join(", ")
                )));
            }
            if base.contains(&name) {
                measured.push(name);
            } else {
                skipped.push(Skipped { what: name, why: "the base does not have it".into() });
            }
        }
        let gone = base.iter().filter(|name| !candidate.contains(name) && !turns::is_floor(name));
        skipped.extend(gone.map(|name| Skipped {
            what: name.clone(),
            why: "the candidate no longer has it".into(),
        }));
        if measured.is_empty() {
            return Err(Bad::new("the two programs have no operation in common"));
        }
        Ok((measured, skipped))
    }
}
