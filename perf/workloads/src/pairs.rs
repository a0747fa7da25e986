//! Interleaving: arms that are compared take turns in a random order, operation by operation, and
//! ratios come with their spread.

/// The value that `fraction` of the sorted values do not exceed.
///
/// # Panics
/// If there are no values.
pub fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let index = (fraction * sorted.len() as f64).ceil() as usize;
    sorted[index.clamp(1, sorted.len()) - 1]
}

/// Samples of several arms, taken round by round.
#[derive(Debug)]
pub struct Arms {
    samples: Vec<Vec<f64>>,
    random: u64,
}

impl Arms {
    /// For `count` arms; `seed` decides the order in every round.
    pub fn new(count: usize, seed: u64) -> Self {
        Self { samples: vec![Vec::new(); count], random: seed | 1 }
    }

    /// The arms in the order of the next round.
    pub fn order(&mut self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.samples.len()).collect();
        for left in (1..order.len()).rev() {
            // xorshift64: good enough to shuffle.
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            order.swap(left, (self.random % (left as u64 + 1)) as usize);
        }
        order
    }

    /// Adds a sample of one arm.
    pub fn add(&mut self, arm: usize, value: f64) {
        self.samples[arm].push(value);
    }

    /// A quantile of one arm.
    pub fn quantile(&self, arm: usize, fraction: f64) -> f64 {
        let mut sorted = self.samples[arm].clone();
        sorted.sort_by(f64::total_cmp);
        quantile(&sorted, fraction)
    }

    /// A quantile of arm `of` over that of arm `to`. The spread is that of the ratios of ten
    /// stretches of the run.
    pub fn ratio(&self, of: usize, to: usize, fraction: f64) -> Ratio {
        const STRETCHES: usize = 10;
        let stretch = |arm: usize, index: usize| {
            let samples = &self.samples[arm];
            let (from, end) =
                (samples.len() * index / STRETCHES, samples.len() * (index + 1) / STRETCHES);
            let mut sorted = samples[from..end].to_vec();
            sorted.sort_by(f64::total_cmp);
            (!sorted.is_empty()).then(|| quantile(&sorted, fraction))
        };
        let mut ratios: Vec<f64> = (0..STRETCHES)
            .filter_map(|index| Some(stretch(of, index)? / stretch(to, index)?))
            .collect();
        ratios.sort_by(f64::total_cmp);
        Ratio {
            value: self.quantile(of, fraction) / self.quantile(to, fraction),
            low: ratios.first().copied().unwrap_or(f64::NAN),
            high: ratios.last().copied().unwrap_or(f64::NAN),
        }
    }
}

/// A ratio, with the lowest and highest of ten stretches of the run.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    /// Over the whole run.
    pub value: f64,
    /// The lowest stretch.
    pub low: f64,
    /// The highest stretch.
    pub high: f64,
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} [{:.3} – {:.3}]", self.value, self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(quantile(&sorted, 0.5), 2.0);
        assert_eq!(quantile(&sorted, 0.0), 1.0);
        assert_eq!(quantile(&sorted, 1.0), 4.0);
    }

    #[test]
    fn a_known_ratio_is_found_and_every_order_has_every_arm() {
        let mut arms = Arms::new(3, 7);
        for round in 0..100 {
            let mut order = arms.order();
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2]);
            arms.add(0, f64::from(100 + round % 10));
            arms.add(1, f64::from(2 * (100 + round % 10)));
        }
        let ratio = arms.ratio(1, 0, 0.5);
        assert_eq!((ratio.low, ratio.value, ratio.high), (2.0, 2.0, 2.0));
    }
}
