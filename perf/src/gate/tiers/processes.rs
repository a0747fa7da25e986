//! Processes one after the other, each alone: what one puts off until later meets itself, and none
//! of the others. Measures the time of an operation, and the processors' time for it.

use super::Bench;
use super::visit::{laps, there_and_back};
use crate::error::Bad;
use crate::gate::cpu::CpuTime;
use crate::gate::evidence::{ARMS, Lap, Paired, Stage, Turn, rounded};
use crate::gate::judge::paired::{Limits, Next, next};

/// A visit takes at least so long, in ns.
const VISIT: u64 = 40_000_000;
/// Of a stage; each has three turns, of six visits.
const BLOCKS: usize = 8;

const TIME: &str = "time";
const CPU: &str = "CPU";

/// As many stages as the verdicts need. `None`: interrupted.
pub(crate) fn measure(bench: &Bench<'_>, operation: &str) -> Result<Option<[Paired; 2]>, Bad> {
    let times = bench.times(operation, VISIT)?;
    let mut both = [TIME, CPU].map(|quantity| Paired {
        operation: operation.into(),
        quantity: quantity.into(),
        times,
        limit_percent: bench.limit_percent,
        stages: Vec::new(),
    });
    let limits = Limits::processes(bench.limit_percent);
    let unsettled = |both: &[Paired; 2]| {
        both.iter().any(|paired| next(&paired.stages, &limits) == Next::Measure)
    };
    while unsettled(&both) {
        let number = both[0].stages.len();
        bench.progress.set_message(format!("{operation}: processes, stage {}", number + 1));
        let mut random = bench.random(number);
        let mut cpu = Stage::default();
        let measured = bench.stage(|time| {
            for _ in 0..BLOCKS {
                let Some(turns) = block(bench, operation, times, &mut random)? else {
                    return Ok(false);
                };
                let [of_time, of_cpu] = turns;
                time.blocks.push(vec![Lap(of_time)]);
                cpu.blocks.push(vec![Lap(of_cpu)]);
            }
            Ok(true)
        })?;
        let Some(time) = measured else { return Ok(None) };
        cpu.steal_percent = time.steal_percent;
        let [of_time, of_cpu] = &mut both;
        of_time.stages.push(time);
        of_cpu.stages.push(cpu);
    }
    Ok(Some(both))
}

/// Turns of time and of CPU. `None`: interrupted.
fn block(
    bench: &Bench<'_>,
    operation: &str,
    times: u64,
    random: &mut fastrand::Rng,
) -> Result<Option<[Vec<Turn>; 2]>, Bad> {
    let mut both = [Vec::new(), Vec::new()];
    for seats in laps(random) {
        let mut turn = [[1.0; ARMS]; 2];
        for arm in there_and_back(random) {
            if bench.stop.asked() {
                return Ok(None);
            }
            let slot = seats.iter().position(|holder| *holder == arm).unwrap_or(arm);
            for (quantity, took) in visit(bench, operation, times, arm, slot)?.iter().enumerate() {
                turn[quantity][arm] *= (took.max(1.0) / times as f64).sqrt();
            }
        }
        for (turns, turn) in both.iter_mut().zip(turn) {
            turns.push(rounded(turn));
        }
    }
    Ok(Some(both))
}

/// Nanoseconds of `times` operations: on the clock, and of all processors.
fn visit(
    bench: &Bench<'_>,
    operation: &str,
    times: u64,
    arm: usize,
    slot: usize,
) -> Result<[f64; 2], Bad> {
    let mut program = bench.start(arm)?;
    bench.begin(&mut program, operation, slot, (times / 16).max(1))?;
    let cpu = CpuTime::of(program.id())?;
    let before = cpu.read()?;
    let took = program.run(times)?.nanoseconds;
    let after = cpu.read()?;
    program.end()?;
    Ok([took as f64, after.saturating_sub(before) as f64])
}
