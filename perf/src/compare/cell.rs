//! One cell: who is measured with whom, what a first try says of them, and what comes of it.

use std::path::Path;
use std::time::Instant;

use fastrand::Rng;
use writeflush_workloads::subject::{Class, Family, Kind, Medium, Survives};
use writeflush_workloads::{Company, Conditions, Field, FileState, Go, Length, Times, monotonic};

use super::plan::Pace;

/// A subject in a cell, under the name of its row.
#[derive(Clone, Debug)]
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// What it is compared to: an arm of the same phase.
    pub(crate) to: Option<usize>,
}

/// Subjects that are measured together.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) arms: Vec<Contestant>,
    pub(crate) company: Company,
}

/// What the first try of a subject in this cell has shown.
#[derive(Clone, Debug)]
pub(crate) enum Trial {
    Works {
        /// Seconds from opening to closing without the turn, and of a turn.
        open: f64,
        turn: f64,
        /// What its fence reaches, where it says so itself.
        medium: Option<Medium>,
    },
    Refused(String),
}

/// All subjects, tried once.
#[derive(Debug)]
pub(crate) struct Trials {
    pub(crate) of: Vec<Trial>,
    /// Seconds that the file of one subject takes to be prepared for one commit.
    prepare: f64,
}

impl Trials {
    /// Opens every subject, has one commit of each committer, and closes it. `until`: how long
    /// there is time for that.
    ///
    /// # Errors
    /// Where the files can't be prepared.
    pub(crate) fn run(
        kinds: &[Kind],
        conditions: &Conditions,
        folder: &Path,
        until: Option<Instant>,
        stop: impl Fn() -> bool,
    ) -> std::io::Result<Self> {
        let short = Conditions { burst: 1, ..conditions.clone() };
        let field = field(kinds, &short, folder, Company::Apart);
        let crew = field.crew()?;
        let start = Instant::now();
        field.prepare(1)?;
        let files = kinds.len().max(1) as f64 * short.commits(1) as f64;
        let prepare = start.elapsed().as_secs_f64() / files;
        let mut of = Vec::new();
        for arm in 0..kinds.len() {
            if stop() || until.is_some_and(|at| Instant::now() >= at) {
                of.push(Trial::Refused("there was no time to try it: give --for more".into()));
                continue;
            }
            let start = Instant::now();
            let trial = field.open(arm, arm, 1).and_then(|subject| {
                let turn = crew.turn(&subject)?.took.as_secs_f64();
                let medium = subject.medium();
                drop(subject);
                Ok(Trial::Works { open: start.elapsed().as_secs_f64() - turn, turn, medium })
            });
            of.push(trial.unwrap_or_else(|error| Trial::Refused(error.to_string())));
        }
        Ok(Self { of, prepare })
    }

    fn works(&self, index: usize) -> bool {
        matches!(self.of[index], Trial::Works { .. })
    }

    /// Seconds of a turn of all arms of a phase with one commit of each committer.
    pub(crate) fn turn(&self, kinds: &[Kind], phase: &Phase) -> f64 {
        self.of_arms(kinds, phase).map(|(_, turn)| turn).sum()
    }

    /// Of the phase, by what the trial took.
    pub(crate) fn pace(&self, kinds: &[Kind], phase: &Phase, conditions: &Conditions) -> Pace {
        let arms = phase.arms.len() as f64;
        let open: f64 = self.of_arms(kinds, phase).map(|(open, _)| open).sum();
        let of_commits = |commits: u64| self.prepare * commits as f64 * arms;
        let burst = conditions.burst;
        let mut turn = self.turn(kinds, phase) * burst as f64;
        if conditions.state == FileState::Written {
            turn += of_commits(burst);
        }
        Pace { lap: open + of_commits(conditions.warm_up()), turn: turn.max(1e-6) }
    }

    /// Seconds to open, and of a turn, of each arm.
    fn of_arms(&self, kinds: &[Kind], phase: &Phase) -> impl Iterator<Item = (f64, f64)> {
        phase.arms.iter().filter_map(|arm| {
            let index = kinds.iter().position(|kind| kind.name == arm.kind.name)?;
            match self.of[index] {
                Trial::Works { open, turn, .. } => Some((open, turn)),
                Trial::Refused(_) => None,
            }
        })
    }

    /// What a commit of each subject survives, `place` being what a fence reaches here.
    pub(crate) fn survives(&self, kinds: &[Kind], kind: &Kind, place: Medium) -> Survives {
        let index = kinds.iter().position(|other| other.name == kind.name);
        let own = index.and_then(|index| match &self.of[index] {
            Trial::Works { medium, .. } => *medium,
            Trial::Refused(_) => None,
        });
        // Its own label knows the file system; that the disk below is memory, only the place does.
        Survives::of(kind.class, own.map_or(place, |own| own.min(place)))
    }
}

pub(crate) fn field<'a>(
    kinds: &'a [Kind],
    conditions: &'a Conditions,
    folder: &'a Path,
    company: Company,
) -> Field<'a> {
    Field { kinds, conditions, folder, company, clock: monotonic }
}

/// Who is measured with whom. All that ask for a fence together, the same subject twice among them;
/// what spins beside a copy of its floor; what asks for no fence alone, since the fences of others
/// would flush what it leaves behind.
pub(crate) fn phases(kinds: &[Kind], trials: &Trials, cores: usize) -> Vec<Phase> {
    let able: Vec<Kind> = kinds
        .iter()
        .enumerate()
        .filter_map(|(index, kind)| trials.works(index).then_some(*kind))
        .collect();
    let mut together: Vec<Contestant> = able
        .iter()
        .filter(|kind| kind.class == Class::Durable && !kind.spins)
        .map(|kind| Contestant { name: kind.name.into(), kind: *kind, to: None })
        .collect();
    let ours = together.iter().position(|arm| arm.kind.family == Family::Writeflush);
    if let Some(twice) = ours.or((!together.is_empty()).then_some(0)) {
        let kind = together[twice].kind;
        let again = Contestant { name: format!("{NULL}{}", kind.name), kind, to: Some(twice) };
        together.insert(twice + 1, again);
    }
    let names: Vec<String> = together.iter().map(|arm| arm.name.clone()).collect();
    for arm in together.iter_mut().filter(|arm| arm.to.is_none()) {
        let floor = arm.kind.floor;
        arm.to = names.iter().position(|name| Some(name.as_str()) == floor);
    }
    // A spinning thread has a core to itself, and so has whoever commits.
    let company = if cores >= 4 { Company::Together } else { Company::Apart };
    let spinning = able.iter().filter(|kind| kind.spins).map(|kind| {
        let floor = able.iter().find(|floor| Some(floor.name) == kind.floor);
        let mut arms =
            vec![Contestant { name: kind.name.into(), kind: *kind, to: floor.map(|_| 1) }];
        // By the drive that it stands beside: what spins is a driver that polls.
        arms.extend(floor.map(|floor| Contestant {
            name: format!("{} (poll)", floor.name),
            kind: *floor,
            to: None,
        }));
        Phase { arms, company }
    });
    let unfenced = able.iter().filter(|kind| kind.class == Class::PageCache).map(|kind| {
        let arm = Contestant { name: kind.name.into(), kind: *kind, to: None };
        Phase { arms: vec![arm], company: Company::Together }
    });
    let together = Phase { arms: together, company: Company::Together };
    let all = std::iter::once(together).chain(spinning).chain(unfenced);
    all.filter(|phase| !phase.arms.is_empty()).collect()
}

/// How the second row of a subject begins: two equal rows show the noise of a run.
pub(crate) const NULL: &str = "A/A ";

impl Phase {
    /// # Errors
    /// As [`Field::run`].
    pub(crate) fn run(
        &self,
        conditions: &Conditions,
        folder: &Path,
        length: Length,
        random: &mut Rng,
        go: impl FnMut() -> Go,
    ) -> std::io::Result<Times> {
        let kinds: Vec<Kind> = self.arms.iter().map(|arm| arm.kind).collect();
        field(&kinds, conditions, folder, self.company).run(length, random, go)
    }
}

#[cfg(test)]
mod tests {
    use writeflush_workloads::subject;

    use super::*;

    fn trials(kinds: &[Kind], refused: &str) -> Trials {
        let of = |kind: &Kind| match !refused.is_empty() && kind.name.contains(refused) {
            true => Trial::Refused("not here".into()),
            false => Trial::Works { open: 0.001, turn: 0.0001, medium: None },
        };
        Trials { of: kinds.iter().map(of).collect(), prepare: 0.001 }
    }

    fn null(phases: &[Phase]) -> &Contestant {
        phases[0].arms.iter().find(|arm| arm.name.starts_with(NULL)).expect("an A/A row")
    }

    #[test]
    fn everybody_is_measured_once_and_against_its_own_floor() {
        let kinds = subject::kinds();
        let phases = phases(&kinds, &trials(&kinds, ""), 2);
        for kind in &kinds {
            let arms = phases.iter().flat_map(|phase| &phase.arms);
            assert_eq!(arms.filter(|arm| arm.name == kind.name).count(), 1, "{}", kind.name);
        }
        let arms = phases.iter().flat_map(|phase| &phase.arms);
        let names: Vec<&String> = arms.map(|arm| &arm.name).collect();
        assert!(names.iter().all(|name| names.iter().filter(|other| *other == name).count() == 1));
        for phase in &phases {
            for arm in phase.arms.iter().filter(|arm| !arm.name.starts_with(NULL)) {
                let to = arm.to.map(|to| phase.arms[to].kind.name);
                assert_eq!(to, arm.kind.floor, "{}", arm.name);
            }
            let spins = phase.arms.iter().any(|arm| arm.kind.spins);
            assert_eq!(spins, phase.company == Company::Apart, "two cores are not enough");
            let unfenced = phase.arms.iter().any(|arm| arm.kind.class == Class::PageCache);
            assert!(!unfenced || phase.arms.len() == 1);
        }
    }

    #[test]
    fn the_same_subject_twice_is_there_whatever_is_refused() {
        let kinds = subject::kinds();
        for (refused, twice) in [
            ("", "writeflush io_uring caller"),
            ("io_uring", "writeflush sync caller"),
            ("writeflush", kinds[0].name),
        ] {
            let phases = phases(&kinds, &trials(&kinds, refused), 8);
            let null = null(&phases);
            assert_eq!(null.kind.name, twice);
            assert_eq!(phases[0].arms[null.to.expect("its twin")].name, twice);
        }
    }
}
