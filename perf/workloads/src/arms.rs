//! Arms that are compared: what their turns took, and ratios with their spread.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The value that `fraction` of the sorted values do not exceed.
///
/// # Panics
/// If there are no values.
pub fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let index = (fraction * sorted.len() as f64).ceil() as usize;
    sorted[index.clamp(1, sorted.len()) - 1]
}

/// The turns of several arms. A run consists of blocks, a block of laps, a lap of turns; in a turn
/// every arm adds one value. A [`Ratio`] pairs the values of one turn, so that whatever the machine
/// did meanwhile met both; its interval is over the blocks.
#[derive(Clone, Debug)]
pub struct Arms {
    count: usize,
    /// Whole blocks.
    blocks: Vec<Block>,
    /// Whole laps of the block that is under way.
    laps: Block,
    /// The lap that is under way: by arm, a value a turn.
    turns: Lap,
}

type Lap = Vec<Vec<f64>>;
type Block = Vec<Lap>;

/// What is made of the turns of a lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Centre {
    /// The mean of the logarithms without the least and the greatest fifth of them: what a turn
    /// typically takes. Blind to what befalls one turn in ten.
    Trimmed,
    /// The mean of all logarithms: sees what befalls one turn in twenty, and is noisier.
    Mean,
}

impl Arms {
    /// For `count` arms.
    pub fn new(count: usize) -> Self {
        Self { count, blocks: Vec::new(), laps: Vec::new(), turns: vec![Vec::new(); count] }
    }

    /// Adds the value of one arm in this turn.
    ///
    /// # Panics
    /// If there is no such arm.
    pub fn add(&mut self, arm: usize, value: f64) {
        self.turns[arm].push(value);
    }

    /// The lap is over.
    pub fn end_lap(&mut self) {
        let empty = vec![Vec::new(); self.count];
        self.laps.push(std::mem::replace(&mut self.turns, empty));
    }

    /// The block is over, and the lap with it, if one is under way.
    pub fn end_block(&mut self) {
        if self.turns.iter().any(|turns| !turns.is_empty()) {
            self.end_lap();
        }
        self.blocks.push(std::mem::take(&mut self.laps));
    }

    /// Whole blocks so far.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// All values of one arm, sorted; those of a block that is not whole too.
    pub fn sorted(&self, arm: usize) -> Vec<f64> {
        let whole = self.blocks.iter().flatten().chain(&self.laps);
        let laps = whole.chain(std::iter::once(&self.turns));
        let mut all: Vec<f64> = laps.flat_map(|lap| lap[arm].iter().copied()).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    /// A quantile of one arm.
    ///
    /// # Panics
    /// If the arm has no values.
    pub fn quantile(&self, arm: usize, fraction: f64) -> f64 {
        quantile(&self.sorted(arm), fraction)
    }

    /// Arm `of` over arm `to`: the logarithm of the ratio in each turn, the centre of those in each
    /// lap, the mean of those in each block. `None` with fewer than three whole blocks, or where an
    /// arm has missed a lap of them.
    pub fn ratio(&self, of: usize, to: usize, centre: Centre) -> Option<Ratio> {
        let of_lap = |lap: &Lap| {
            let pairs = lap[of].iter().zip(&lap[to]);
            let logs = pairs.map(|(of, to)| (of / to).ln()).collect();
            centre.of(logs)
        };
        let of_block = |block: &Block| {
            let laps = block.iter().map(of_lap).collect::<Option<Vec<f64>>>()?;
            mean(&laps)
        };
        Ratio::of_logs(&self.blocks.iter().map(of_block).collect::<Option<Vec<f64>>>()?)
    }

    /// The ratio of the medians of a block. `None` as for [`ratio`](Self::ratio).
    pub fn ratio_of_medians(&self, of: usize, to: usize) -> Option<Ratio> {
        let median = |block: &Block, arm: usize| {
            let mut all: Vec<f64> = block.iter().flat_map(|lap| lap[arm].clone()).collect();
            all.sort_by(f64::total_cmp);
            (!all.is_empty()).then(|| quantile(&all, 0.5))
        };
        let log = |block: &Block| Some((median(block, of)? / median(block, to)?).ln());
        Ratio::of_logs(&self.blocks.iter().map(log).collect::<Option<Vec<f64>>>()?)
    }
}

impl Centre {
    fn of(self, mut logs: Vec<f64>) -> Option<f64> {
        logs.sort_by(f64::total_cmp);
        let cut = match self {
            Self::Trimmed => logs.len() / 5,
            Self::Mean => 0,
        };
        mean(&logs[cut..logs.len() - cut])
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// A geometric mean of ratios, and its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The mean.
    pub value: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How many independent ratios it was made of.
    pub blocks: usize,
}

impl Ratio {
    /// Fewer say too little about their spread.
    pub const LEAST_BLOCKS: usize = 3;

    /// Of the logarithms of independent ratios: Student's t. `None` for fewer than
    /// [`LEAST_BLOCKS`](Self::LEAST_BLOCKS).
    pub fn of_logs(logs: &[f64]) -> Option<Self> {
        let blocks = logs.len();
        if blocks < Self::LEAST_BLOCKS {
            return None;
        }
        let n = blocks as f64;
        let mean = mean(logs)?;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let t = StudentsT::new(0.0, 1.0, n - 1.0).ok()?.inverse_cdf(0.975);
        let reach = t * (variance / n).sqrt();
        let [low, value, high] = [mean - reach, mean, mean + reach].map(f64::exp);
        Some(Self { value, low, high, blocks })
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} [{:.3} – {:.3}]", self.value, self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::rotation;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(quantile(&sorted, 0.5), 2.0);
        assert_eq!(quantile(&sorted, 0.0), 1.0);
        assert_eq!(quantile(&sorted, 1.0), 4.0);
    }

    /// A disk that drifts, slots that cost up to `slot` more than others, and arms that take what
    /// `arms` says. `seat` says who holds which slot.
    fn run(
        arms: &[f64],
        slot: f64,
        blocks: usize,
        mut seat: impl FnMut(usize) -> Vec<Vec<usize>>,
    ) -> Arms {
        let mut random = Rng::with_seed(11);
        let mut found = Arms::new(arms.len());
        for _ in 0..blocks {
            for lap in seat(arms.len()) {
                for _ in 0..10 {
                    let weather = 100.0 * (1.0 + random.f64());
                    for (place, arm) in lap.iter().enumerate() {
                        let cost = 1.0 + slot * place as f64 / arms.len() as f64;
                        found.add(*arm, weather * cost * arms[*arm]);
                    }
                }
                found.end_lap();
            }
            found.end_block();
        }
        found
    }

    #[test]
    fn what_a_slot_costs_cancels_exactly_and_a_difference_does_not() {
        let mut random = Rng::with_seed(5);
        let found = run(&[1.0, 1.0, 1.05, 1.0, 1.0], 0.5, 4, |n| rotation::block(n, &mut random));
        for centre in [Centre::Trimmed, Centre::Mean] {
            let equal = found.ratio(4, 0, centre).unwrap();
            assert!((equal.value - 1.0).abs() < 1e-12 && equal.high - equal.low < 1e-12, "{equal}");
            let slower = found.ratio(2, 0, centre).unwrap();
            assert!((slower.value - 1.05).abs() < 1e-12 && slower.low > 1.049, "{slower}");
        }
    }

    /// The design that the rotation replaced: whatever the file, who is opened first was the same
    /// arm in every lap.
    #[test]
    fn a_fixed_order_of_opening_gives_equal_arms_a_difference() {
        let fixed = |arms: usize| vec![(0..arms).collect(); arms];
        let found = run(&[1.0; 5], 0.5, 4, fixed);
        let equal = found.ratio(4, 0, Centre::Trimmed).unwrap();
        assert!(equal.low > 1.3, "{equal}");
    }

    #[test]
    fn pairs_of_a_turn_do_not_see_the_weather_and_the_mean_sees_what_is_seldom() {
        let mut found = Arms::new(2);
        let mut random = Rng::with_seed(1);
        for _ in 0..5 {
            for turn in 0..100 {
                let weather = 50.0 + 500.0 * random.f64();
                found.add(0, weather);
                found.add(1, if turn % 20 == 0 { 2.0 * weather } else { weather });
            }
            found.end_block();
        }
        let [trimmed, mean] =
            [Centre::Trimmed, Centre::Mean].map(|centre| found.ratio(1, 0, centre).unwrap());
        assert!((trimmed.value - 1.0).abs() < 1e-9, "{trimmed}");
        assert!((mean.value - 2f64.powf(0.05)).abs() < 1e-9, "{mean}");
    }

    #[test]
    fn an_interval_is_that_of_student() {
        // Mean 0, variance 1; t of 4 degrees of freedom is 2.776.
        let logs = [-2f64.sqrt(), 0.0, 0.0, 0.0, 2f64.sqrt()];
        let found = Ratio::of_logs(&logs).unwrap();
        assert!((found.high.ln() - 2.776 / 5f64.sqrt()).abs() < 0.001, "{found}");
        assert!(Ratio::of_logs(&[0.0, 0.0]).is_none());
    }

    #[test]
    fn an_arm_that_missed_a_lap_has_no_ratio() {
        let mut found = run(&[1.0; 2], 0.0, 3, |_| vec![vec![0, 1]]);
        found.add(0, 1.0);
        found.end_block();
        assert!(found.ratio(1, 0, Centre::Mean).is_none());
        assert!(found.ratio_of_medians(1, 0).is_none());
        assert_eq!(found.blocks(), 4);
    }

    #[test]
    fn medians_of_a_block_are_compared() {
        let found = run(&[1.0, 1.1], 0.0, 3, |_| vec![vec![0, 1]]);
        let ratio = found.ratio_of_medians(1, 0).unwrap();
        assert!((ratio.value - 1.1).abs() < 1e-9, "{ratio}");
    }
}
