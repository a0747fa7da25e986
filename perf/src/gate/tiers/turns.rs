//! Three processes live at the same time and take turns: a turn is so short that what the machine
//! does meanwhile meets all of them. Measures the time of an operation as its caller sees it.

use super::Bench;
use super::visit::{laps, there_and_back};
use crate::error::Bad;
use crate::gate::evidence::{ARMS, Lap, Paired, Stage, rounded};
use crate::gate::judge::paired::{Limits, Next, next};
use crate::gate::program::Program;

/// A visit takes at least so long, in ns: a clock that is read twice costs some tens.
const VISIT: u64 = 20_000;

/// Turns of a stage, about: with a third of them one null in seven had no verdict on an idle
/// machine, and a slowdown of 5 % was seen in 84 of 100 trials (`selftest`).
pub(crate) const TURNS: u32 = 3000;

/// How much is measured in a stage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Each with processes of its own, and three laps.
    pub(crate) blocks: usize,
    /// Of a lap.
    pub(crate) turns: usize,
}

impl Extent {
    /// Turns of a lap; more of them see less of what a process brings with it, its place in memory.
    const TURNS: usize = 14;

    /// About so many turns in all.
    pub(crate) fn of(turns: usize) -> Self {
        let of_lap = (turns / (ARMS * 2 * Self::LEAST)).clamp(1, Self::TURNS);
        Self { blocks: (turns / (ARMS * of_lap)).max(Self::LEAST), turns: of_lap }
    }

    /// Fewer blocks say too little about their spread.
    const LEAST: usize = 6;
}

/// As many stages as the verdict needs. `None`: interrupted.
pub(crate) fn measure(
    bench: &Bench<'_>,
    operation: &str,
    extent: Extent,
) -> Result<Option<Paired>, Bad> {
    let limits = Limits::turns(bench.limit_percent);
    let over = |stages: &[Stage]| next(stages, &limits) != Next::Measure;
    stages(bench, operation, [operation; ARMS], extent, over)
}

/// The floor of an operation, if there is one, is another operation of the same program.
pub(crate) fn floor_of(operation: &str) -> String {
    format!("{operation}{FLOOR}")
}

pub(crate) fn is_floor(operation: &str) -> bool {
    operation.ends_with(FLOOR)
}

const FLOOR: &str = "/floor";

/// An operation beside its floor, until that is `over`. `None`: interrupted.
pub(crate) fn beside_floor(
    bench: &Bench<'_>,
    operation: &str,
    extent: Extent,
    over: impl Fn(&[Stage]) -> bool,
) -> Result<Option<Paired>, Bad> {
    let floor = floor_of(operation);
    stages(bench, operation, [&floor, &floor, operation], extent, over)
}

/// Stages in which each arm does an operation of its own.
fn stages(
    bench: &Bench<'_>,
    operation: &str,
    of_arms: [&str; ARMS],
    extent: Extent,
    over: impl Fn(&[Stage]) -> bool,
) -> Result<Option<Paired>, Bad> {
    let times = bench.times(operation, VISIT)?;
    let quantity = "time".into();
    let limit_percent = bench.limit_percent;
    let (operation_name, stages) = (operation.into(), Vec::new());
    let mut paired = Paired { operation: operation_name, quantity, times, limit_percent, stages };
    while !over(&paired.stages) {
        let number = paired.stages.len();
        bench.progress.set_message(format!("{operation}: turns, stage {}", number + 1));
        let mut random = bench.random(number);
        let measured = bench.stage(|stage| {
            for _ in 0..extent.blocks {
                if bench.stop.asked() {
                    return Ok(false);
                }
                block(bench, of_arms, times, extent.turns, &mut random, stage)?;
            }
            Ok(true)
        })?;
        let Some(stage) = measured else { return Ok(None) };
        paired.stages.push(stage);
    }
    Ok(Some(paired))
}

fn block(
    bench: &Bench<'_>,
    of_arms: [&str; ARMS],
    times: u64,
    turns: usize,
    random: &mut fastrand::Rng,
    stage: &mut Stage,
) -> Result<(), Bad> {
    let mut programs =
        (0..ARMS).map(|arm| bench.start(arm)).collect::<Result<Vec<Program>, Bad>>()?;
    let mut block = Vec::new();
    for seats in laps(random) {
        for (slot, arm) in seats.into_iter().enumerate() {
            bench.begin(&mut programs[arm], of_arms[arm], slot, times)?;
        }
        let mut lap = Lap::default();
        for _ in 0..turns {
            let mut turn = [1.0; ARMS];
            for arm in there_and_back(random) {
                let took = programs[arm].run(times)?.nanoseconds.max(1);
                turn[arm] *= (took as f64 / times as f64).sqrt();
            }
            lap.0.push(rounded(turn));
        }
        programs.iter_mut().try_for_each(Program::end)?;
        block.push(lap);
    }
    stage.blocks.push(block);
    Ok(())
}
