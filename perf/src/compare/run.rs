//! A whole comparison, cell by cell.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use fastrand::Rng;
use hdrhistogram::Histogram;
use writeflush_workloads::subject::{Kind, Medium};
use writeflush_workloads::{Centre, Conditions, Fate, Go, Times, stream_kinds};

use super::cell::{Contestant, NULL, Phase, Trial, Trials, phases};
use super::cost::{self, Accounts};
use super::plan::{self, Extent, LEAST_LAPS, Plan};
use super::result::{Cell, Comparison, Figures, Interval, Outcome, Ratio, Row};
use super::{noise, streams};
use crate::environment::Environment;
use crate::latency::Latency;
use crate::output::{Progress, binary_size, count};
use crate::stop::Stop;

/// One comparison.
pub(super) struct Run<'a> {
    pub(super) kinds: Vec<Kind>,
    pub(super) plan: Plan,
    pub(super) seed: u64,
    pub(super) stop: Stop,
    pub(super) environment: Environment,
    /// What a fence reaches here.
    pub(super) medium: Medium,
    pub(super) folder: &'a Path,
}

/// What a fence reaches in this folder, as a writer finds out; where none opens, nothing is
/// confirmed.
pub(super) fn medium(folder: &Path, environment: &Environment) -> Medium {
    if environment.in_memory.is_some() {
        return Medium::PageCache;
    }
    let writer = writeflush::Options::new().create(folder.join("place"));
    writer.map_or(Medium::Device, |writer| writer.durability().medium)
}

/// The part of a cell's time for the first try of all subjects, at most.
const TRIALS: f64 = 0.4;
/// What turns get of the time that is left then; the counting gets the rest.
const TURNS: f64 = 0.75;
/// A trial is short, and what it promises is not always kept: so much of the time is planned. What
/// is left over is the next cell's.
const PLANNED: f64 = 0.75;
/// Commits of each subject in a round of the counting, where the samples don't ask for fewer.
const COUNTED: u64 = 100;
/// Ticks of the progress bar in a cell.
const TICKS: u64 = 1000;
/// Fewer commits make no ratio.
const LEAST_COMMITS: usize = 200;

/// Why a cell has no rows.
enum Ended {
    Interrupted,
    Failed(anyhow::Error),
}

impl From<std::io::Error> for Ended {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// The time that is left, and for how many cells.
struct Budget {
    end: Option<Instant>,
}

impl Budget {
    /// An equal share of what is left, in seconds, for one of `cells`.
    fn share(&self, cells: usize) -> Option<f64> {
        let left = self.end?.saturating_duration_since(Instant::now());
        Some(left.as_secs_f64() / cells.max(1) as f64)
    }
}

impl Run<'_> {
    /// `None`: interrupted.
    pub(super) fn compare(&self) -> Option<Comparison> {
        let rounds = self.plan.streams.buffers.len() as u64 * streams::ROUNDS;
        let bar = Progress::bar((self.plan.cells.len() as u64 + rounds) * TICKS);
        let mut random = Rng::with_seed(self.seed);
        let mut found = Comparison {
            seed: self.seed,
            cells: Vec::new(),
            streams: Vec::new(),
            failures: Vec::new(),
        };
        let budget = Budget {
            end: match self.plan.extent {
                Extent::Samples(_) => None,
                // Streams take what they take: a twentieth is kept for them.
                Extent::Time(time) if rounds > 0 => Some(Instant::now() + time.mul_f64(0.95)),
                Extent::Time(time) => Some(Instant::now() + time),
            },
        };
        for (index, conditions) in self.plan.cells.iter().enumerate() {
            let share = budget.share(self.plan.cells.len() - index);
            bar.set_message(name(conditions));
            bar.set_position(index as u64 * TICKS);
            let conditions = conditions.clone();
            let name = name(&conditions);
            let cell = OfCell { run: self, conditions, bar: &bar, seconds: share };
            match cell.measure(random.fork()) {
                Ok(cell) => {
                    found.failures.extend(deaths(&cell));
                    found.cells.push(cell);
                }
                Err(Ended::Interrupted) => return None,
                Err(Ended::Failed(error)) => {
                    found.failures.push(format!("{name}: {error:#}"));
                }
            }
            if let Err(error) = self.clear() {
                found.failures.push(format!("{name}: {error:#}"));
            }
        }
        for &buffer in &self.plan.streams.buffers {
            bar.set_message(format!("streams, buffers of {}", binary_size(buffer as u64)));
            let tick = || bar.inc(TICKS);
            let size = (buffer, self.plan.streams.bytes);
            let (kinds, mut random) = (stream_kinds(), random.fork());
            match streams::measure(&kinds, self.folder, size, &mut random, &self.stop, tick) {
                Ok(Some(streams)) => found.streams.extend(streams),
                Ok(None) => return None,
                Err(error) => found.failures.push(format!("streams: {error:#}")),
            }
        }
        drop(bar);
        Some(found)
    }

    /// The files of a cell make room for the next.
    fn clear(&self) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(self.folder)? {
            let path = entry?.path();
            let removed = if path.is_dir() {
                std::fs::remove_dir_all(&path) // a log's folder
            } else {
                std::fs::remove_file(&path)
            };
            removed.with_context(|| format!("{} could not be removed", path.display()))?;
        }
        Ok(())
    }
}

/// The conditions, for people.
fn name(conditions: &Conditions) -> String {
    let record = binary_size(conditions.record as u64);
    let committers = count(conditions.committers as u64, "committer");
    format!("{record}, {} file, {committers}", conditions.state.name())
}

/// Who failed on the way.
fn deaths(cell: &Cell) -> Vec<String> {
    let deaths = cell.rows.iter().filter_map(|row| match &row.outcome {
        Outcome::Died(why) => Some(format!("{}: {}: {why}", cell.name(), row.subject)),
        Outcome::Measured(_) | Outcome::Refused(_) => None,
    });
    deaths.collect()
}

/// One cell of a run.
struct OfCell<'a> {
    run: &'a Run<'a>,
    conditions: Conditions,
    bar: &'a Progress,
    /// How long it may take; `None`: as long as the samples do.
    seconds: Option<f64>,
}

/// A phase with what came of it.
struct Done {
    phase: Phase,
    times: Times,
    /// Of every arm of the phase, from here on in the accounts.
    first: usize,
}

impl OfCell<'_> {
    fn measure(mut self, mut random: Rng) -> Result<Cell, Ended> {
        let begun = Instant::now();
        let Run { kinds, folder, .. } = self.run;
        let until = self.until(begun, TRIALS);
        let trials = Trials::run(kinds, &self.conditions, folder, until, || self.run.stop.asked())?;
        self.uninterrupted()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let phases = phases(kinds, &trials, cores);
        let left = self.seconds.map(|all| (all - begun.elapsed().as_secs_f64()).max(0.0));
        let arms: usize = phases.iter().map(|phase| phase.arms.len()).sum();
        if let (Some(left), Some(together)) = (left, phases.first()) {
            let seconds = left * TURNS * together.arms.len() as f64 / arms as f64;
            let turn = trials.turn(kinds, together);
            self.conditions.burst =
                plan::burst_of_time(seconds, turn, together.arms.len(), &self.conditions);
        }
        let mut done = Vec::new();
        let mut first = 0;
        for phase in phases {
            let part = phase.arms.len() as f64 / arms as f64;
            let seconds = left.map(|left| left * TURNS * part);
            let times = self.phase(&phase, &trials, seconds, &mut random)?;
            self.bar.inc((TICKS as f64 * TURNS * part) as u64);
            let end = first + phase.arms.len();
            done.push(Done { phase, times, first });
            first = end;
        }
        let accounts = self.accounts(&done, begun, &mut random)?;
        Ok(self.cell(&trials, &done, &accounts))
    }

    fn phase(
        &self,
        phase: &Phase,
        trials: &Trials,
        seconds: Option<f64>,
        random: &mut Rng,
    ) -> Result<Times, Ended> {
        let arms = phase.arms.len();
        let length = match (self.run.plan.extent, seconds) {
            (Extent::Samples(samples), _) => plan::of_samples(samples, arms, &self.conditions),
            (Extent::Time(_), seconds) => {
                let pace = trials.pace(&self.run.kinds, phase, &self.conditions);
                plan::of_time(seconds.unwrap_or(0.0) * PLANNED, pace, arms, &self.conditions)
            }
        };
        // Where the disk turns out to be slower still, the time decides.
        let until = seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
        let go = || self.go(until);
        let times = phase.run(&self.conditions, self.run.folder, length, random, go)?;
        self.uninterrupted()?;
        Ok(times)
    }

    fn accounts(&self, done: &[Done], begun: Instant, random: &mut Rng) -> Result<Accounts, Ended> {
        let kinds: Vec<Kind> =
            done.iter().flat_map(|done| done.phase.arms.iter().map(|arm| arm.kind)).collect();
        let (conditions, folder) = (&self.conditions, self.run.folder);
        let go = || self.go(self.until(begun, 1.0));
        let commits = match self.run.plan.extent {
            Extent::Samples(samples) => (samples / 10).min(COUNTED),
            Extent::Time(_) => COUNTED,
        };
        let accounts = cost::count(&kinds, conditions, folder, commits, random, go)?;
        self.uninterrupted()?;
        Ok(accounts)
    }

    /// When this part of the cell's time is over.
    fn until(&self, begun: Instant, part: f64) -> Option<Instant> {
        Some(begun + Duration::from_secs_f64(self.seconds? * part))
    }

    fn go(&self, until: Option<Instant>) -> Go {
        let late = until.is_some_and(|at| Instant::now() >= at);
        if late || self.run.stop.asked() { Go::Home } else { Go::On }
    }

    fn uninterrupted(&self) -> Result<(), Ended> {
        if self.run.stop.asked() { Err(Ended::Interrupted) } else { Ok(()) }
    }

    fn cell(&self, trials: &Trials, done: &[Done], accounts: &Accounts) -> Cell {
        let run = self.run;
        let mut rows: Vec<(usize, Row)> = Vec::new();
        let row = |name: &str, kind: &Kind, outcome| {
            let index = run.kinds.iter().position(|other| other.name == kind.name);
            let row = Row {
                subject: name.into(),
                family: kind.family.name().into(),
                class: trials.survives(&run.kinds, kind, run.medium).name().into(),
                outcome,
            };
            (index.unwrap_or_default(), row)
        };
        for done in done {
            // A copy of a floor stands behind the one that it was measured beside.
            let lead = done.phase.arms.first().map(|arm| arm.kind);
            for (arm, contestant) in done.phase.arms.iter().enumerate() {
                let outcome = self.outcome(done, arm, contestant, accounts);
                let (own, row) = row(&contestant.name, &contestant.kind, outcome);
                let is_copy = contestant.name != contestant.kind.name;
                let lead = lead.filter(|lead| is_copy && lead.spins);
                let place = lead.and_then(|lead| position(&run.kinds, lead.name)).unwrap_or(own);
                rows.push((place, row));
            }
        }
        for (kind, trial) in run.kinds.iter().zip(&trials.of) {
            if let Trial::Refused(why) = trial {
                rows.push(row(kind.name, kind, Outcome::Refused(why.clone())));
            }
        }
        rows.sort_by_key(|(place, _)| *place); // stable: a copy stays behind its original
        let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
        let null = rows.iter().find(|row| row.subject.starts_with(NULL));
        let null = null.and_then(|row| match &row.outcome {
            Outcome::Measured(figures) => figures.ratio.clone(),
            Outcome::Refused(_) | Outcome::Died(_) => None,
        });
        Cell {
            record_bytes: self.conditions.record,
            file_state: self.conditions.state.name().into(),
            committers: self.conditions.committers,
            direct: self.conditions.direct,
            commits_a_turn: self.conditions.burst * self.conditions.committers as u64,
            noise: noise::judge(null),
            rows,
        }
    }

    fn outcome(&self, done: &Done, arm: usize, who: &Contestant, accounts: &Accounts) -> Outcome {
        let times = &done.times;
        match &times.fates[arm] {
            Fate::Refused(why) => return Outcome::Refused(why.clone()),
            Fate::Died(why) => return Outcome::Died(why.clone()),
            Fate::Alive => {}
        }
        let commits = &times.commits[arm];
        if commits.is_empty() {
            return Outcome::Refused("there was no time for a turn: give --for more".into());
        }
        let (cost, verdict) = match accounts.of(done.first + arm, &who.kind, &self.run.environment)
        {
            Ok(counted) => counted,
            Err(why) => return Outcome::Died(why),
        };
        let histogram = histogram(commits);
        let bytes = (commits.len() * self.conditions.record) as f64;
        let (ratio, no_ratio) = match self.ratio(done, arm) {
            Ok(ratio) => (ratio, None),
            Err(why) => (None, Some(why)),
        };
        Outcome::Measured(Box::new(Figures {
            commits: commits.len() as u64,
            flush_us: Latency::of_histogram(&histogram),
            steps: steps(&histogram),
            ratio,
            no_ratio,
            mb_per_s: bytes / times.spent[arm].as_secs_f64() / 1e6,
            cost,
            verdict,
        }))
    }

    /// A subject against its floor; those that several committers share are set against one that
    /// gives each committer a part of the file of its own. `Ok(None)`: none was to be expected.
    fn ratio(&self, done: &Done, arm: usize) -> Result<Option<Ratio>, String> {
        let (who, times) = (&done.phase.arms[arm], &done.times);
        let Some(to) = who.to else {
            return match who.kind.floor {
                Some(floor) => Err(format!("its floor, {floor}, was not measured")),
                None => Ok(None),
            };
        };
        let fewest = times.commits[arm].len().min(times.commits[to].len());
        if fewest < LEAST_COMMITS {
            return Err(format!("it takes {LEAST_COMMITS} commits, and there are {fewest}"));
        }
        let laps = (times.arms.blocks() * done.phase.arms.len()) as u64;
        let ratio = times.arms.ratio(arm, to, Centre::Trimmed).filter(|_| laps >= LEAST_LAPS);
        let few = || format!("there are {laps} whole laps: give --for or --samples more");
        let typical = ratio.ok_or_else(few)?;
        let mean = times.arms.ratio(arm, to, Centre::Mean).ok_or_else(few)?;
        let of_medians = (self.conditions.committers == 1)
            .then(|| times.arms.ratio_of_medians(arm, to))
            .flatten();
        Ok(Some(Ratio {
            to: done.phase.arms[to].name.clone(),
            value: typical.value,
            low: typical.low,
            high: typical.high,
            mean: mean.into(),
            p50: of_medians.map(Into::into),
            blocks: typical.blocks as u64,
        }))
    }
}

impl From<writeflush_workloads::Ratio> for Interval {
    fn from(ratio: writeflush_workloads::Ratio) -> Self {
        Self { value: ratio.value, low: ratio.low, high: ratio.high }
    }
}

fn position(kinds: &[Kind], name: &str) -> Option<usize> {
    kinds.iter().position(|kind| kind.name == name)
}

/// Of µs, in ns, to three digits; nothing takes longer than an hour.
fn histogram(commits: &[f64]) -> Histogram<u64> {
    const HOUR: u64 = 3600 * 1_000_000_000;
    let mut histogram = Histogram::new_with_bounds(1, HOUR, 3).expect("these bounds can be had");
    for micros in commits {
        histogram.saturating_record((micros * 1000.0) as u64);
    }
    histogram
}

/// Steps to a factor of ten in a distribution: a tenth each.
pub(crate) const STEPS_A_DECADE: f64 = 24.0;

/// Empty ones left out.
fn steps(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    let mut steps: Vec<(f64, u64)> = Vec::new();
    for value in histogram.iter_recorded() {
        let micros = (value.value_iterated_to() as f64 / 1000.0).max(0.01);
        let end = 10f64.powf((micros.log10() * STEPS_A_DECADE).ceil() / STEPS_A_DECADE);
        let end = (end * 1000.0).round() / 1000.0;
        match steps.last_mut() {
            Some((last, count)) if *last >= end => *count += value.count_at_value(),
            _ => steps.push((end, value.count_at_value())),
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_hold_every_sample() {
        let steps = steps(&histogram(&[0.0, 1.0, 1.0, 99.0, 100.0, 5e6]));
        assert_eq!(steps.iter().map(|(_, count)| count).sum::<u64>(), 6);
        assert!(steps.windows(2).all(|pair| pair[0].0 < pair[1].0), "{steps:?}");
        assert!(
            steps.iter().any(|(end, count)| *end < 1.11 && *end >= 1.0 && *count == 2),
            "{steps:?}"
        );
    }
}
