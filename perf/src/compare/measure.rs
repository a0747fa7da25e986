//! The times: subjects take turns commit by commit.

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::Context;
use writeflush_workloads::Arms;
use writeflush_workloads::subject::{Kind, Place, Subject};

use super::plan::{CellPlan, WARM_UP};
use crate::stop::Stop;

/// What the turns of one cell took.
pub(crate) struct Times {
    /// One sample a commit, in µs.
    pub(crate) arms: Arms,
    /// Wall-clock time of all turns of each subject.
    pub(crate) spent: Vec<Duration>,
    /// Why a subject could not be measured.
    pub(crate) refused: Vec<Option<String>>,
}

/// The subjects of a cell, and the files that they use in turn.
pub(crate) struct Field<'a> {
    pub(crate) kinds: &'a [Kind],
    pub(crate) plan: &'a CellPlan,
    pub(crate) folder: &'a Path,
    pub(crate) record: &'a [u8],
}

impl Field<'_> {
    /// Measures the cell. `None`: interrupted. `tick` is called after each lap.
    pub(crate) fn times(
        &self,
        seed: u64,
        stop: &Stop,
        mut tick: impl FnMut(),
    ) -> anyhow::Result<Option<Times>> {
        let count = self.kinds.len();
        let mut times = Times {
            arms: Arms::new(count, seed),
            spent: vec![Duration::ZERO; count],
            refused: vec![None; count],
        };
        for lap in 0..self.plan.laps {
            // Every lap on another file, so that no subject keeps a lucky one.
            let files = times.arms.order();
            self.prepare(&files, lap == 0)?;
            if !self.lap(&files, &mut times, stop)? {
                return Ok(None);
            }
            tick();
        }
        Ok(Some(times))
    }

    pub(crate) fn path(&self, file: usize) -> PathBuf {
        self.folder.join(format!("file-{file}"))
    }

    pub(crate) fn place<'p>(&self, path: &'p Path) -> Place<'p> {
        Place {
            path,
            state: self.plan.state,
            committers: self.plan.committers,
            record: self.record.len(),
            commits: self.plan.commits(),
        }
    }

    fn prepare(&self, files: &[usize], first: bool) -> anyhow::Result<()> {
        for &file in files {
            let path = self.path(file);
            let state = self.plan.state;
            // What was written stays written.
            if first || state != writeflush_workloads::FileState::Written {
                state
                    .prepare(&path, self.place(&path).len())
                    .with_context(|| format!("a {} file could not be made", state.name()))?;
            }
        }
        Ok(())
    }

    /// Opens everybody, lets them take turns, and closes them. `false`: interrupted.
    fn lap(&self, files: &[usize], times: &mut Times, stop: &Stop) -> anyhow::Result<bool> {
        // What spins while it is open would take a core from the others: it has the lap's end to
        // itself.
        let (alone, together): (Vec<usize>, Vec<usize>) =
            (0..self.kinds.len()).partition(|arm| self.kinds[*arm].spins);
        if !self.turns(&together, files, times, stop)? {
            return Ok(false);
        }
        for arm in alone {
            if !self.turns(&[arm], files, times, stop)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn turns(
        &self,
        arms: &[usize],
        files: &[usize],
        times: &mut Times,
        stop: &Stop,
    ) -> anyhow::Result<bool> {
        let mut open: Vec<Option<Box<dyn Subject>>> = self.kinds.iter().map(|_| None).collect();
        for &arm in arms {
            if times.refused[arm].is_none() {
                match self.open(arm, files[arm]) {
                    Ok(subject) => open[arm] = Some(subject),
                    Err(reason) => times.refused[arm] = Some(reason),
                }
            }
        }
        for _ in 0..self.plan.turns {
            for arm in times.arms.order() {
                if stop.asked() {
                    return Ok(false);
                }
                let Some(subject) = &open[arm] else { continue };
                match burst(subject.as_ref(), self.plan, self.record) {
                    Ok((samples, spent)) => {
                        samples.iter().for_each(|micros| times.arms.add(arm, *micros));
                        times.spent[arm] += spent;
                    }
                    Err(error) => {
                        times.refused[arm] = Some(error.to_string());
                        open[arm] = None;
                    }
                }
            }
        }
        Ok(true)
    }

    /// Opens a subject and warms it up.
    fn open(&self, arm: usize, file: usize) -> Result<Box<dyn Subject>, String> {
        let path = self.path(file);
        let opened = (self.kinds[arm].open)(&self.place(&path)).and_then(|subject| {
            for committer in 0..self.plan.committers {
                for _ in 0..WARM_UP {
                    subject.commit(committer, self.record)?;
                }
            }
            Ok(subject)
        });
        opened.map_err(|error| error.to_string())
    }
}

/// One turn: each committer commits as often as the plan says. Returns the time of every commit in
/// µs, and that of the whole turn.
pub(crate) fn burst(
    subject: &dyn Subject,
    plan: &CellPlan,
    record: &[u8],
) -> std::io::Result<(Vec<f64>, Duration)> {
    let commits = |committer: usize| -> std::io::Result<Vec<f64>> {
        (0..plan.burst)
            .map(|_| {
                let start = Instant::now();
                subject.commit(committer, record)?;
                Ok(start.elapsed().as_nanos() as f64 / 1000.0)
            })
            .collect()
    };
    if plan.committers == 1 {
        let start = Instant::now();
        return Ok((commits(0)?, start.elapsed()));
    }
    let barrier = Barrier::new(plan.committers + 1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.committers)
            .map(|committer| {
                let (barrier, commits) = (&barrier, &commits);
                scope.spawn(move || {
                    barrier.wait();
                    commits(committer)
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        let mut samples = Vec::with_capacity(plan.committers * plan.burst as usize);
        for thread in threads {
            let result = thread.join();
            samples.extend(result.unwrap_or_else(|_| Err(std::io::Error::other("it panicked")))?);
        }
        Ok((samples, start.elapsed()))
    })
}
