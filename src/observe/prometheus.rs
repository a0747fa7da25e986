//! Prometheus' text format, version 0.0.4:
//! <https://prometheus.io/docs/instrumenting/exposition_formats>. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::Sample;
use super::figures::{self, Value};
use crate::stats::Histogram;

/// The upper bounds of the buckets of a histogram, in microseconds: from a flush that a drive's own
/// memory answers to a disk that is about to fail.
const BOUNDS_US: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000,
];

/// A page of the figures of several recordings in Prometheus' text format (version 0.0.4). Their
/// [labels](Sample::label) have to tell them from each other. No system call; allocates.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// use writeflush::observe::{Sample, prometheus};
///
/// let mut samples = Vec::new();
/// for camera in ["1", "2"] {
///     let mut writer = writeflush::Options::new().create(directory.path().join(camera))?;
///     writer.write(b"frame")?;
///     samples.push(Sample::of(writer.control()).label("camera", camera)?);
///     writer.close()?;
/// }
/// let page = prometheus(&samples);
/// assert_eq!(page.matches("# TYPE writeflush_lag_bytes gauge").count(), 1);
/// assert_eq!(page.matches("writeflush_lag_bytes{camera=").count(), 2);
/// # Ok(())
/// # }
/// ```
pub fn prometheus<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> String {
    // The lines of a name stand together, behind what is said of it.
    let mut families: BTreeMap<&'static str, String> = BTreeMap::new();
    for sample in samples {
        let labels = labels(sample);
        for figure in figures::of(sample) {
            let kind = match figure.value {
                Value::Counter(_) => "counter",
                Value::Gauge(_) => "gauge",
                Value::Histogram(_) => "histogram",
            };
            let name = figure.name;
            let lines = families.entry(name).or_insert_with(|| {
                format!("# HELP {name} {}\n# TYPE {name} {kind}\n", figure.help)
            });
            match figure.value {
                Value::Counter(value) | Value::Gauge(value) => line(lines, name, &labels, value),
                Value::Histogram(histogram) => buckets(lines, name, &labels, histogram),
            }
        }
    }
    families.into_values().collect()
}

fn buckets(lines: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let all: Vec<_> = histogram.buckets().collect();
    let separator = if labels.is_empty() { "" } else { "," };
    let bucket = format!("{name}_bucket");
    for bound in BOUNDS_US.map(Duration::from_micros) {
        let below = all.iter().filter(|(top, _)| *top <= bound).map(|(_, count)| count);
        let le = format!("{labels}{separator}le=\"{}\"", bound.as_secs_f64());
        line(lines, &bucket, &le, below.sum::<u64>());
    }
    let count: u64 = all.iter().map(|(_, count)| count).sum();
    line(lines, &bucket, &format!("{labels}{separator}le=\"+Inf\""), count);
    line(lines, &format!("{name}_sum"), labels, histogram.sum().as_secs_f64());
    line(lines, &format!("{name}_count"), labels, count);
}

fn line(to: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = match labels {
        "" => writeln!(to, "{name} {value}"),
        labels => writeln!(to, "{name}{{{labels}}} {value}"),
    }; // a string takes everything
}

fn labels(sample: &Sample) -> String {
    let labels =
        sample.labels().iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    labels.collect::<Vec<_>>().join(",")
}

/// Whatever has a meaning within quotation marks.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
