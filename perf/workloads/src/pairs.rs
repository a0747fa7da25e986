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

    /// The samples of one arm, in the order in which they were taken.
    pub fn samples(&self, arm: usize) -> &[f64] {
        &self.samples[arm]
    }

    /// A quantile of arm `of` over that of arm `to`, as the geometric mean of the ratios of
    /// `stretches` stretches of the run, with its 95 % confidence interval (Student's t on the
    /// logarithms). `None` where a stretch has no samples or there are fewer than 10 of them.
    pub fn interval(&self, of: usize, to: usize, fraction: f64, stretches: usize) -> Option<Ratio> {
        // The 97.5 % point of Student's t with n - 1 degrees of freedom: that of n = 10, which is
        // wider than that of any greater n.
        const T: f64 = 2.262;
        if stretches < 10 {
            return None;
        }
        let logs: Vec<f64> = (0..stretches)
            .map(|index| {
                let of = self.stretch(of, index, stretches, fraction)?;
                Some((of / self.stretch(to, index, stretches, fraction)?).ln())
            })
            .collect::<Option<_>>()?;
        let n = stretches as f64;
        let mean = logs.iter().sum::<f64>() / n;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let reach = T * (variance / n).sqrt();
        let [low, value, high] = [mean - reach, mean, mean + reach].map(f64::exp);
        Some(Ratio { value, low, high })
    }

    /// A quantile of one of `stretches` stretches of an arm's samples.
    fn stretch(&self, arm: usize, index: usize, stretches: usize, fraction: f64) -> Option<f64> {
        let samples = &self.samples[arm];
        let (from, end) =
            (samples.len() * index / stretches, samples.len() * (index + 1) / stretches);
        let mut sorted = samples[from..end].to_vec();
        sorted.sort_by(f64::total_cmp);
        (!sorted.is_empty()).then(|| quantile(&sorted, fraction))
    }

    /// A quantile of arm `of` over that of arm `to`. The spread is that of the ratios of ten
    /// stretches of the run.
    pub fn ratio(&self, of: usize, to: usize, fraction: f64) -> Ratio {
        const STRETCHES: usize = 10;
        let mut ratios: Vec<f64> = (0..STRETCHES)
            .filter_map(|index| {
                let of = self.stretch(of, index, STRETCHES, fraction)?;
                Some(of / self.stretch(to, index, STRETCHES, fraction)?)
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        Ratio {
            value: self.quantile(of, fraction) / self.quantile(to, fraction),
            low: ratios.first().copied().unwrap_or(f64::NAN),
            high: ratios.last().copied().unwrap_or(f64::NAN),
        }
    }
}

/// A ratio and its spread: that of [`Arms::ratio`] or [`Arms::interval`].
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    /// Over the whole run.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
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
        let interval = arms.interval(1, 0, 0.5, 10).expect("enough stretches");
        assert!((interval.low - 2.0).abs() < 1e-9 && (interval.high - 2.0).abs() < 1e-9);
    }

    #[test]
    fn an_interval_holds_the_truth_and_is_as_wide_as_the_noise() {
        let mut arms = Arms::new(2, 7);
        for round in 0..1000 {
            arms.add(0, 100.0);
            arms.add(1, if round / 50 % 2 == 0 { 104.0 } else { 106.0 });
        }
        let interval = arms.interval(1, 0, 0.5, 20).expect("enough stretches");
        assert!((1.044..1.05).contains(&interval.low), "{interval}");
        assert!((1.05..1.056).contains(&interval.high), "{interval}");
        assert!(arms.interval(1, 0, 0.5, 9).is_none());
    }
}
