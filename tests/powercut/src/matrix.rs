//! Every fault on every file system in every way to write, and whether everybody was told.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use crate::bench::{Bench, patiently};
use crate::canaries::Canary;
use crate::faults::{self, CALM, Fault, Told};
use crate::log::Log;
use crate::medium::FileSystem;
use crate::replay::Replay;
use crate::rig::{self, Rig};
use crate::run::{FaultArgs, Wanted};
use crate::scenario::{Scenario, State, Way};
use crate::table::{grid, save, word};

/// One fault, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    file_system: FileSystem,
    way: Way,
    file_state: State,
    fault: Fault,
    seed: u64,
    told: Told,
    /// Different images of a power cut that were looked at, and what was lost in them.
    pub(crate) images: usize,
    lost: Vec<String>,
    seconds: f64,
}

/// Whether everybody was told the truth, in every one of them.
pub(crate) fn run(args: &FaultArgs) -> anyhow::Result<bool> {
    let bench = Bench::new()?;
    let mut all = Vec::new();
    for &file_system in &args.common.file_systems {
        for (number, way) in (0..).zip(args.ways(file_system)) {
            for fault in args.faults(file_system, way) {
                // Drive, file state and face differ from one to the next.
                let seed = args.common.seed + all.len() as u64 + number;
                let wanted = Wanted { seed, ..args.common.wanted(args.images) };
                let state = state_of(seed);
                let outcome = one(&bench, (file_system, way, state), (fault, CALM), wanted, None)?;
                println!("{}", outcome.line());
                all.push(outcome);
            }
        }
    }
    let label = |outcome: &Outcome| format!("{} {}", word(&outcome.fault), word(&outcome.way));
    let cell = |outcome: &Outcome| {
        let said = outcome.told.error.as_deref().unwrap_or("no error");
        let code = said.rsplit_once("(os error ").map_or(said, |(_, code)| code);
        let verb = said.split(' ').nth(2).filter(|_| said.starts_with("could not"));
        let verdict = if outcome.is_right() { "" } else { " WRONG" };
        format!("{} {}{verdict}", verb.unwrap_or_default(), code.trim_end_matches(')'))
    };
    println!("{}", grid(&all, |outcome| outcome.file_system, label, cell));
    save(args.common.report.as_deref(), &all)?;
    Ok(all.iter().all(Outcome::is_right))
}

/// A file state at random.
pub(crate) fn state_of(seed: u64) -> State {
    State::ALL[fastrand::Rng::with_seed(seed).usize(..State::ALL.len())]
}

/// One recording on a disk that fails.
pub(crate) fn one(
    bench: &Bench,
    (file_system, way, state): (FileSystem, Way, State),
    (fault, calm): (Fault, Duration),
    wanted: Wanted,
    canary: Option<Canary>,
) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    let Wanted { images, seed, workers, .. } = wanted;
    let scenario = Scenario::simple(file_system, way, state, seed);
    let base = bench.base(scenario.medium)?;
    let what = format!("{fault:?}, {way:?} on {}, seed {seed}", file_system.name());
    let (told, log) = suffer(bench, &base, &scenario, (fault, calm), canary).context(what)?;
    let replay = Replay::new(scenario, std::fs::read(&base)?, &log)?;
    let mut random = fastrand::Rng::with_seed(seed);
    let one_is_enough = canary.is_some();
    let found = replay.run(images, one_is_enough, workers, bench.folder(), &mut random)?;
    Ok(Outcome {
        file_system,
        way,
        file_state: state,
        fault,
        seed,
        told,
        images: found.images.len(),
        lost: found.lost,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

fn suffer(
    bench: &Bench,
    base: &std::path::Path,
    scenario: &Scenario,
    (fault, calm): (Fault, Duration),
    canary: Option<Canary>,
) -> anyhow::Result<(Told, Log)> {
    let mut rig = Rig::new(scenario.medium, base, bench.folder(), scenario.seed)?;
    let mut part = rig::part("suffer")?;
    part.arg(rig.mount_point()).arg(rig.claims()).arg(&rig.orders().0);
    part.arg(serde_json::to_string(scenario)?).arg(word(&fault));
    part.arg(calm.as_millis().to_string()).args(canary.map(Canary::name));
    let mut told: Told = faults::told(&patiently(part, calm)?)?;
    if fault == Fault::ThinDevice {
        // There is room again, for a file system that may have stopped meanwhile.
        rig.orders().give("heal")?;
        rig.mount_again(scenario.medium)?;
        let mut part = rig::part("go-on")?;
        part.arg(rig.mount_point()).arg(serde_json::to_string(scenario)?);
        part.arg(told.durable.to_string());
        let wrong: Option<String> = faults::told(&patiently(part, CALM)?)?;
        told.wrong.extend(wrong);
    }
    Ok((told, rig.finish()?))
}

impl Outcome {
    pub(crate) fn is_right(&self) -> bool {
        self.told.wrong.is_empty() && self.lost.is_empty()
    }

    pub(crate) fn everything_wrong(&self) -> Vec<String> {
        self.told.wrong.iter().chain(&self.lost).cloned().collect()
    }

    pub(crate) fn line(&self) -> String {
        let said = self.told.error.as_deref().unwrap_or("no error");
        let wrong = self.everything_wrong();
        let wrong: String = wrong.iter().map(|wrong| format!("\n    WRONG: {wrong}")).collect();
        format!(
            "{:5} {:16} {:8} {:11}  {said}; {} images, {} lost, {:.1} s{wrong}",
            self.file_system.name(),
            word(&self.way),
            word(&self.file_state),
            word(&self.fault),
            self.images,
            self.lost.len(),
            self.seconds
        )
    }
}
