//! Interleaving: subjects under the same conditions, turn by turn.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use crate::arms::Arms;
use crate::crew::{Clock, Crew, Turn};
use crate::rotation;
use crate::state::FileState;
use crate::subject::{Kind, Place, Subject};

/// The conditions that all subjects of a field meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// Bytes in a record.
    pub record: usize,
    /// What the file holds where the records go.
    pub state: FileState,
    /// Threads that commit.
    pub committers: usize,
    /// Whether subjects that can bypass the page cache may.
    pub direct: bool,
    /// Commits of each committer in a turn.
    pub burst: u64,
}

impl Conditions {
    /// Commits of each committer before those that count.
    pub fn warm_up(&self) -> u64 {
        if self.committers == 1 { 2 } else { 1 }
    }

    /// Commits of each committer in a lap of so many turns.
    pub fn commits(&self, turns: u64) -> u64 {
        self.warm_up() + turns * self.burst
    }
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Blocks of the run; in a block every subject is opened as often as there are subjects.
    pub blocks: u64,
    /// Turns of each subject in a lap.
    pub turns: u64,
}

/// Who is open while others have their turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// All are: they take their turns one by one, in random order.
    Together,
    /// Nobody is: each has its part of the lap to itself. For what spins and would take a core
    /// from the others.
    Apart,
}

/// Subjects that are measured against each other in files of one folder, which nothing else uses.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// An arm each.
    pub kinds: &'a [Kind],
    /// What they meet.
    pub conditions: &'a Conditions,
    /// Where the files go.
    pub folder: &'a Path,
    /// Who is open with whom.
    pub company: Company,
    /// Tells the time of commits.
    pub clock: Clock,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    /// With the next turn.
    On,
    /// Not at all: what was measured so far is the result.
    Home,
}

/// What came of an arm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It had all its turns.
    Alive,
    /// It can't be opened, or not even warmed up, under these conditions.
    Refused(String),
    /// It failed after it had worked.
    Died(String),
}

/// What the turns took.
#[derive(Debug)]
pub struct Times {
    /// µs by commits, a value a turn ([`Turn::per_commit`]).
    pub arms: Arms,
    /// Every commit of each arm, in µs, in the order of the turns.
    pub commits: Vec<Vec<f64>>,
    /// Time of all turns of each arm.
    pub spent: Vec<Duration>,
    /// What came of each arm.
    pub fates: Vec<Fate>,
}

impl Times {
    fn new(arms: usize) -> Self {
        Self {
            arms: Arms::new(arms),
            commits: vec![Vec::new(); arms],
            spent: vec![Duration::ZERO; arms],
            fates: vec![Fate::Alive; arms],
        }
    }

    fn add(&mut self, arm: usize, turn: Turn) {
        self.arms.add(arm, turn.per_commit());
        self.spent[arm] += turn.took;
        self.commits[arm].extend(turn.commits);
    }
}

/// An open subject of a lap.
type Open = Option<Arc<dyn Subject>>;

impl Field<'_> {
    /// Measures. `go` is asked before every turn.
    ///
    /// # Errors
    /// Where the files can't be prepared or no thread can be started. What happens to a subject is
    /// its [`Fate`].
    pub fn run(
        &self,
        length: Length,
        random: &mut Rng,
        mut go: impl FnMut() -> Go,
    ) -> io::Result<Times> {
        let crew = self.crew()?;
        let mut times = Times::new(self.kinds.len());
        for _ in 0..length.blocks {
            for slots in rotation::block(self.kinds.len(), random) {
                if self.lap(&crew, length.turns, &slots, &mut times, random, &mut go)? == Go::Home {
                    return Ok(times);
                }
                times.arms.end_lap();
            }
            times.arms.end_block();
        }
        Ok(times)
    }

    /// Those who commit to the subjects of this field.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn crew(&self) -> io::Result<Crew> {
        let Conditions { record, committers, burst, .. } = *self.conditions;
        Crew::new(committers, burst, vec![7; record], self.clock)
    }

    /// The files of all slots, as new. What a subject has put beside its file goes.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn prepare(&self, turns: u64) -> io::Result<()> {
        for entry in std::fs::read_dir(self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        let paths: Vec<PathBuf> = (0..self.kinds.len()).map(|slot| self.path(slot)).collect();
        self.conditions.state.prepare_all(&paths, self.file_bytes(turns))
    }

    /// Opens one subject in a slot whose file is prepared for `turns`, and warms it up.
    ///
    /// # Errors
    /// What it says.
    pub fn open(&self, arm: usize, slot: usize, turns: u64) -> io::Result<Arc<dyn Subject>> {
        let path = self.path(slot);
        let subject = (self.kinds[arm].open)(&self.place(&path, turns))?;
        let record = vec![7; self.conditions.record];
        for committer in 0..self.conditions.committers {
            for _ in 0..self.conditions.warm_up() {
                subject.commit(committer, &record)?;
            }
        }
        Ok(subject.into())
    }

    /// Bytes of the file in a slot.
    pub fn file_bytes(&self, turns: u64) -> u64 {
        self.place(Path::new(""), turns).len()
    }

    fn path(&self, slot: usize) -> PathBuf {
        self.folder.join(format!("slot-{slot}"))
    }

    fn place<'p>(&self, path: &'p Path, turns: u64) -> Place<'p> {
        let Conditions { record, state, committers, direct, .. } = *self.conditions;
        let commits = self.conditions.commits(turns);
        Place { path, state, committers, record, direct, commits }
    }

    fn lap(
        &self,
        crew: &Crew,
        turns: u64,
        slots: &[usize],
        times: &mut Times,
        random: &mut Rng,
        go: &mut impl FnMut() -> Go,
    ) -> io::Result<Go> {
        self.prepare(turns)?;
        let groups: Vec<Vec<usize>> = match self.company {
            Company::Together => vec![(0..slots.len()).collect()],
            Company::Apart => (0..slots.len()).map(|slot| vec![slot]).collect(),
        };
        for group in groups {
            // By slot: opened, warmed up and, at the end of this scope, closed in this order.
            let mut open: Vec<(usize, Open)> = group
                .into_iter()
                .map(|slot| (slots[slot], self.enter(slots[slot], slot, turns, times)))
                .collect();
            for _ in 0..turns {
                for place in rotation::shuffled(open.len(), random) {
                    if go() == Go::Home {
                        return Ok(Go::Home);
                    }
                    let (arm, subject) = &mut open[place];
                    take_turn(crew, *arm, subject, times);
                }
            }
        }
        Ok(Go::On)
    }

    /// Opens an arm that is still alive.
    fn enter(&self, arm: usize, slot: usize, turns: u64, times: &mut Times) -> Open {
        if times.fates[arm] != Fate::Alive {
            return None;
        }
        match self.open(arm, slot, turns) {
            Ok(subject) => Some(subject),
            Err(error) => {
                let reason = error.to_string();
                times.fates[arm] = match times.commits[arm].is_empty() {
                    true => Fate::Refused(reason),
                    false => Fate::Died(reason),
                };
                None
            }
        }
    }
}

fn take_turn(crew: &Crew, arm: usize, open: &mut Open, times: &mut Times) {
    let Some(subject) = open else { return };
    match crew.turn(subject) {
        Ok(turn) => times.add(arm, turn),
        Err(error) => {
            times.fates[arm] = Fate::Died(error.to_string());
            *open = None;
        }
    }
}

#[cfg(test)]
mod tests;
