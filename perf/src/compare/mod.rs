//! `compare`: every backend, the system calls by hand, and what a program would use without this
//! crate, under the same conditions at the same time.

mod args;
mod cost;
mod measure;
mod plan;
mod result;
mod streams;
mod table;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use indicatif::ProgressBar;
use writeflush_workloads::stream_kinds;
use writeflush_workloads::subject::{self, Kind};

pub(crate) use self::args::Args;
use self::measure::{Field, Times};
use self::plan::{CellPlan, Plan};
pub(crate) use self::result::{Cell, Comparison, Figures, Stream, StreamOutcome};
use self::result::{Outcome, Ratio, Row};
pub(crate) use self::table::{COLUMNS, columns};
use crate::document::{self, Document};
use crate::environment::Environment;
use crate::error::{Bad, INTERRUPTED};
use crate::latency::Latency;
use crate::output::{print, progress, say};
use crate::scratch::Scratch;
use crate::stop::Stop;

/// Compares, or prints an older comparison.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.replay {
        print(table::render(&Document::load(file)?));
        return Ok(ExitCode::SUCCESS);
    }
    let kinds = args.kinds()?;
    if args.list {
        kinds.iter().for_each(|kind| print(format_args!("{}\n", kind.name)));
        return Ok(ExitCode::SUCCESS);
    }
    document::check_free(args.json.as_deref(), args.force)?;
    let plan = args.plan(kinds.len());
    let stop = Stop::install().context("could not listen for signals")?;
    let scratch = Scratch::new(&args.directory, plan.space())?;
    let environment = Environment::of(&args.directory);
    let run = Run { kinds, plan, seed: args.seed, stop, environment, folder: scratch.path() };
    let Some(comparison) = run.compare()? else {
        say("interrupted: nothing was kept");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let document = Document::new(run.environment.clone(), comparison);
    print(table::render(&document));
    if let Some(path) = &args.json {
        document.save(path)?;
        say(format_args!("kept in {}", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// All subjects there are in this build.
pub(crate) fn all_kinds(peers: bool) -> Result<Vec<Kind>, Bad> {
    let mut kinds = subject::kinds();
    if peers {
        #[cfg(feature = "peers")]
        kinds.extend(crate::peers::kinds());
        #[cfg(not(feature = "peers"))]
        return Err(Bad::new(
            "this build has no peers: run 'cargo run --release -p writeflush-perf --features \
             peers -- compare --peers'",
        ));
    }
    kinds.sort_by_key(|kind| kind.class); // classes apart, the order within them kept
    Ok(kinds)
}

/// One comparison.
struct Run<'a> {
    kinds: Vec<Kind>,
    plan: Plan,
    seed: u64,
    stop: Stop,
    environment: Environment,
    folder: &'a Path,
}

impl Run<'_> {
    /// `None`: interrupted.
    fn compare(&self) -> anyhow::Result<Option<Comparison>> {
        let laps: u64 = self.plan.cells.iter().map(|cell| cell.laps + 1).sum();
        let rounds = self.plan.streams.buffers.len() as u64 * streams::ROUNDS;
        let bar = progress(laps + rounds);
        let mut comparison = Comparison { seed: self.seed, cells: Vec::new(), streams: Vec::new() };
        for cell in &self.plan.cells {
            bar.set_message(cell.name());
            let Some(cell) = self.cell(cell, &bar)? else { return Ok(None) };
            comparison.cells.push(cell);
        }
        for &buffer in &self.plan.streams.buffers {
            bar.set_message(format!("streams, buffers of {buffer} bytes"));
            let tick = || bar.inc(1);
            let kinds = stream_kinds();
            let size = (buffer, self.plan.streams.bytes);
            let found = streams::measure(&kinds, self.folder, size, self.seed, &self.stop, tick)?;
            let Some(streams) = found else { return Ok(None) };
            comparison.streams.extend(streams);
        }
        bar.finish_and_clear();
        Ok(Some(comparison))
    }

    fn cell(&self, plan: &CellPlan, bar: &ProgressBar) -> anyhow::Result<Option<Cell>> {
        let record = vec![7u8; plan.record];
        let field = Field { kinds: &self.kinds, plan, folder: self.folder, record: &record };
        let Some(times) = field.times(self.seed, &self.stop, || bar.inc(1))? else {
            return Ok(None);
        };
        let mut rows = Vec::new();
        for (arm, kind) in self.kinds.iter().enumerate() {
            if self.stop.asked() {
                return Ok(None);
            }
            rows.push(Row {
                subject: kind.name.into(),
                family: kind.family.name().into(),
                class: kind.class.name().into(),
                outcome: self.outcome(&field, arm, &times),
            });
        }
        bar.inc(1);
        self.clear()?;
        Ok(Some(Cell {
            record_bytes: plan.record,
            file_state: plan.state.name().into(),
            committers: plan.committers,
            rows,
        }))
    }

    fn outcome(&self, field: &Field<'_>, arm: usize, times: &Times) -> Outcome {
        if let Some(reason) = &times.refused[arm] {
            return Outcome::Refused(reason.clone());
        }
        let (cost, verdict) = match cost::count(field, &self.kinds[arm], &self.environment) {
            Ok(counted) => counted,
            Err(error) => return Outcome::Refused(format!("{error:#}")),
        };
        let samples = times.arms.samples(arm);
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let bytes = (samples.len() * field.record.len()) as f64;
        Outcome::Measured(Box::new(Figures {
            commits: samples.len() as u64,
            flush_us: Latency::of_sorted(&sorted),
            steps: steps(&sorted),
            ratio: self.ratio(arm, times, field.plan.laps),
            mb_per_s: bytes / times.spent[arm].as_secs_f64() / 1e6,
            cost,
            verdict,
        }))
    }

    /// A subject against its floor; those that several committers share are set against one that
    /// gives each committer a part of the file of its own.
    fn ratio(&self, arm: usize, times: &Times, laps: u64) -> Option<Ratio> {
        let to = self.kinds[arm].floor?;
        let floor = self.kinds.iter().position(|kind| kind.name == to)?;
        let found = times.arms.interval(arm, floor, 0.5, laps as usize)?;
        Some(Ratio { to: to.into(), value: found.value, low: found.low, high: found.high })
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

/// Steps to a factor of ten in a distribution: a tenth each.
pub(crate) const STEPS_A_DECADE: f64 = 24.0;

/// Empty ones left out.
fn steps(sorted: &[f64]) -> Vec<(f64, u64)> {
    let mut steps: Vec<(f64, u64)> = Vec::new();
    for micros in sorted {
        let end = 10f64.powf((micros.max(0.01).log10() * STEPS_A_DECADE).ceil() / STEPS_A_DECADE);
        let end = (end * 1000.0).round() / 1000.0;
        match steps.last_mut() {
            Some((last, count)) if *last >= end => *count += 1,
            _ => steps.push((end, 1)),
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_hold_every_sample() {
        let sorted = [0.0, 1.0, 1.0, 99.0, 100.0, 5e6];
        let steps = steps(&sorted);
        assert_eq!(steps.iter().map(|(_, count)| count).sum::<u64>(), 6);
        assert!(steps.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(steps.contains(&(1.0, 2)) && steps.contains(&(100.0, 2)), "{steps:?}");
    }
}
