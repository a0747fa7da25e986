//! What the tiers that measure times share: three arms that go from folder to folder.

use std::path::PathBuf;

use fastrand::Rng;
use writeflush_workloads::{seats, shuffled};

use super::Bench;
use crate::environment::Ticks;
use crate::error::Bad;
use crate::gate::evidence::{ARMS, CANDIDATE, Stage};
use crate::gate::program::Program;

/// Before the first that counts: an open leaves something to be done behind the first operations.
const WARM_UP: u64 = 3;
/// Most operations in a visit.
const MOST: u64 = 1 << 26;

impl Bench<'_> {
    pub(super) fn start(&self, arm: usize) -> Result<Program, Bad> {
        let start = if arm == CANDIDATE { self.candidate } else { self.base };
        Program::start(start, self.folder)
    }

    /// The folder in which whoever holds this place keeps its file.
    pub(super) fn place(&self, slot: usize) -> Result<PathBuf, Bad> {
        let folder = self.folder.join(slot.to_string());
        std::fs::create_dir_all(&folder)
            .map_err(|error| Bad::new(format!("{} can't be made: {error}", folder.display())))?;
        Ok(folder)
    }

    /// Ready to be visited: the operation has begun and is warm.
    pub(super) fn begin(
        &self,
        program: &mut Program,
        operation: &str,
        slot: usize,
        times: u64,
    ) -> Result<(), Bad> {
        program.begin(operation, &self.place(slot)?)?;
        for _ in 0..WARM_UP {
            program.run(times)?;
        }
        Ok(())
    }

    /// Operations of a visit that takes as long as this, in nanoseconds; of the base. At least one.
    pub(super) fn times(&self, operation: &str, nanoseconds: u64) -> Result<u64, Bad> {
        let mut program = self.start(0)?;
        self.begin(&mut program, operation, 0, 1)?;
        let mut times = 1;
        while times < MOST && !self.stop.asked() {
            let took = program.run(times)?.nanoseconds;
            if took >= nanoseconds {
                break;
            }
            times *= 2;
        }
        program.end()?;
        Ok(times)
    }

    /// A stage, and what the host took away meanwhile. `None`: interrupted.
    pub(super) fn stage(
        &self,
        blocks: impl FnOnce(&mut Stage) -> Result<bool, Bad>,
    ) -> Result<Option<Stage>, Bad> {
        let before = Ticks::now();
        let mut stage = Stage::default();
        let whole = blocks(&mut stage)?;
        if !self.ignore_steal {
            let now = before.zip(Ticks::now());
            stage.steal_percent = now.and_then(|(before, now)| now.stolen_percent_since(before));
        }
        Ok(whole.then_some(stage))
    }

    pub(super) fn random(&self, stage: usize) -> Rng {
        Rng::with_seed(self.seed.wrapping_mul(1_000_003).wrapping_add(stage as u64))
    }
}

/// The laps of a block: `[lap][slot]` is the arm.
pub(super) fn laps(random: &mut Rng) -> Vec<Vec<usize>> {
    seats(ARMS, random)
}

/// There and back: what drifts meets all arms alike.
pub(super) fn there_and_back(random: &mut Rng) -> [usize; 2 * ARMS] {
    let there = shuffled(ARMS, random);
    std::array::from_fn(|at| there[if at < ARMS { at } else { 2 * ARMS - 1 - at }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arm_is_visited_twice_and_what_drifts_evenly_cancels() {
        let mut random = Rng::with_seed(1);
        for _ in 0..20 {
            let order = there_and_back(&mut random);
            for arm in 0..ARMS {
                let at: Vec<usize> = (0..order.len()).filter(|at| order[*at] == arm).collect();
                assert_eq!((at.len(), at.iter().sum::<usize>()), (2, 2 * ARMS - 1));
            }
        }
    }
}
