//! Whether an operation takes longer than it did, measured by its floor: the same bytes made
//! durable by plain system calls, beside it, in the same minute. Pure.
//!
//! How many times as long it takes can be kept, as no time can. It still depends on the device: the
//! faster that is, the more weighs what is not the device. So the limit is wide.

use super::paired::{self, Limits, Next};
use super::{Finding, Tier};
use crate::gate::evidence::{BASE, BesideFloor, NULL, Paired, Stage};

const LIMITS: Limits = Limits {
    typical: 0.1,
    mean: f64::INFINITY, // what befalls few turns is not kept
    null: 0.02,
    reach: 0.05,
    steal_percent: 5.0,
    unsure: 2,
};

/// For people.
pub(crate) const QUANTITY: &str = "time by its floor";

/// How many times as long as its floor the operation takes in a typical turn. `None`: the stage is
/// nothing to go by.
pub(crate) fn ratio(stage: &Stage) -> Option<f64> {
    paired::typical(stage, &LIMITS)
}

/// Whether another stage is needed.
pub(crate) fn goes_on(kept: f64, stages: &[Stage]) -> bool {
    paired::next(&as_kept(kept, stages), &LIMITS) == Next::Measure
}

pub(crate) fn finding(beside: &BesideFloor) -> Finding {
    let BesideFloor { kept, paired } = beside;
    let quantity = QUANTITY.into();
    let stages = as_kept(*kept, &paired.stages);
    paired::finding(Tier::Turns, &Paired { quantity, stages, ..paired.clone() }, &LIMITS)
}

/// With a floor that takes as long as the operation would take if nothing had changed.
fn as_kept(kept: f64, stages: &[Stage]) -> Vec<Stage> {
    let mut stages = stages.to_vec();
    let laps = stages.iter_mut().flat_map(|stage| stage.blocks.iter_mut().flatten());
    for turn in laps.flat_map(|lap| &mut lap.0) {
        turn[BASE] *= kept;
        turn[NULL] *= kept;
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::evidence::{LIMIT_PERCENT, Lap};
    use crate::gate::judge::Word;

    /// The operation takes `ratio` times as long as its floor, and one floor `null` times as long
    /// as the other.
    fn stage(ratio: f64, null: f64) -> Stage {
        let mut random = fastrand::Rng::with_seed(1);
        let mut took = |times: f64| 100_000.0 * times * (1.0 + 0.05 * random.f64());
        let mut turn = || [took(1.0), took(null), took(ratio)];
        let mut lap = || Lap((0..14).map(|_| turn()).collect());
        let blocks = (0..12).map(|_| (0..3).map(|_| lap()).collect()).collect();
        Stage { steal_percent: Some(0.0), blocks }
    }

    fn beside(kept: f64, stages: &[Stage]) -> BesideFloor {
        let (operation, quantity) = ("flush".into(), "time".into());
        let (limit_percent, stages) = (LIMIT_PERCENT, stages.to_vec());
        BesideFloor {
            kept,
            paired: Paired { operation, quantity, times: 1, limit_percent, stages },
        }
    }

    #[test]
    fn what_takes_more_times_as_long_as_its_floor_is_a_regression_in_two_stages() {
        let of = |ratio: f64| stage(ratio, 1.0);
        assert!((ratio(&of(1.7)).unwrap() - 1.7).abs() < 0.02);
        let same = beside(1.7, &[of(1.75)]);
        assert!(!goes_on(1.7, &same.paired.stages));
        assert_eq!(finding(&same).word, Word::Pass);
        assert!(goes_on(1.7, &[of(1.95)]), "once may be chance");
        let slower = finding(&beside(1.7, &[of(1.95), of(1.95)]));
        assert_eq!(slower.word, Word::Regression);
        assert!((slower.change.unwrap().percent - 14.7).abs() < 1.5, "{slower:?}");
        assert_eq!(finding(&beside(1.7, &[of(1.2)])).word, Word::Pass);
    }

    #[test]
    fn where_two_equal_floors_differ_nothing_is_kept_and_nothing_said() {
        let moved = stage(1.7, 1.05);
        assert_eq!(ratio(&moved), None);
        let found = finding(&beside(1.0, &[moved.clone(), moved.clone(), moved]));
        assert_eq!(found.word, Word::NoVerdict);
    }
}
