//! Latencies, and which of their quantiles can be published.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

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
    /// Of a histogram in ns.
    pub(crate) fn of_histogram(histogram: &Histogram<u64>) -> Self {
        let micros = |nanos: f64| nanos / 1000.0;
        let samples = histogram.len();
        let published = |fraction: f64| {
            let beyond = samples - (samples as f64 * fraction).ceil() as u64;
            (beyond >= 100).then(|| micros(histogram.value_at_quantile(fraction) as f64))
        };
        Self {
            mean: micros(histogram.mean()),
            p50: published(0.5),
            p90: published(0.9),
            p99: published(0.99),
            p99_9: published(0.999),
            max: micros(histogram.max() as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_needs_a_hundred_samples_beyond_it() {
        let mut histogram = Histogram::new(3).unwrap();
        (1..=199).for_each(|micros| histogram.record(micros * 1000).unwrap());
        assert_eq!(Latency::of_histogram(&histogram).p50, None);
        (200..=1000).for_each(|micros| histogram.record(micros * 1000).unwrap());
        let found = Latency::of_histogram(&histogram);
        let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 0.002;
        assert!(near(found.p50.unwrap(), 500.0) && near(found.p90.unwrap(), 900.0), "{found:?}");
        assert!(near(found.max, 1000.0) && near(found.mean, 500.5), "{found:?}");
        assert_eq!((found.p99, found.p99_9), (None, None));
    }
}
