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
    let times = bench.times(operation, VISIT)?;
    let quantity = "time".into();
    let mut paired = Paired { operation: operation.into(), quantity, times, stages: Vec::new() };
    while next(&paired.stages, &Limits::TURNS) == Next::Measure {
        let number = paired.stages.len();
        bench.progress.set_message(format!("{operation}: turns, stage {}", number + 1));
        let mut random = bench.random(number);
        let measured = bench.stage(|stage| {
            for _ in 0..extent.blocks {
                if bench.stop.asked() {
                    return Ok(false);
                }
                block(bench, operation, times, extent.turns, &mut random, stage)?;
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
    operation: &str,
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
            bench.begin(&mut programs[arm], operation, slot, times)?;
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
