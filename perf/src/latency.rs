//! Latencies, and which of their quantiles can be published.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use writeflush_workloads::quantile;

/// Latencies in µs. A quantile is `None` unless at least 100 samples lie beyond it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) mean: f64,
    pub(crate) p50: Option<f64>,
    pub(crate) p90: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) p99_9: Option<f64>,
    pub(crate) max: f64,
}

impl Latency {
    fn of(samples: usize, mean: f64, max: f64, quantile: impl Fn(f64) -> f64) -> Self {
        let published = |fraction: f64| {
            let beyond = samples - (samples as f64 * fraction).ceil() as usize;
            (beyond >= 100).then(|| quantile(fraction))
        };
        Self {
            mean,
            p50: published(0.5),
            p90: published(0.9),
            p99: published(0.99),
            p99_9: published(0.999),
            max,
        }
    }

    /// Of samples in µs, in order.
    pub(crate) fn of_sorted(sorted: &[f64]) -> Self {
        let mean = sorted.iter().sum::<f64>() / sorted.len().max(1) as f64;
        let max = sorted.last().copied().unwrap_or_default();
        Self::of(sorted.len(), mean, max, |fraction| quantile(sorted, fraction))
    }

    /// Of a histogram in ns.
    pub(crate) fn of_histogram(histogram: &Histogram<u64>) -> Self {
        let micros = |nanos: f64| nanos / 1000.0;
        let (mean, max) = (micros(histogram.mean()), micros(histogram.max() as f64));
        Self::of(histogram.len() as usize, mean, max, |fraction| {
            micros(histogram.value_at_quantile(fraction) as f64)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_needs_a_hundred_samples_beyond_it() {
        let samples: Vec<f64> = (1..=1000).map(f64::from).collect();
        let found = Latency::of_sorted(&samples);
        assert_eq!((found.p50, found.p90, found.p99), (Some(500.0), Some(900.0), None));
        assert_eq!((found.max, found.mean), (1000.0, 500.5));
        assert_eq!(Latency::of_sorted(&samples[..199]).p50, None);
    }

    #[test]
    fn a_histogram_says_the_same() {
        let mut histogram = Histogram::new(3).unwrap();
        (1..=1000).for_each(|micros| histogram.record(micros * 1000).unwrap());
        let found = Latency::of_histogram(&histogram);
        let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 0.002;
        assert!(near(found.p50.unwrap(), 500.0) && near(found.max, 1000.0), "{found:?}");
        assert_eq!(found.p99, None);
    }
}
