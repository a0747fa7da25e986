//! The facade `metrics`.

use std::collections::HashMap;

use ::metrics::{
    Label, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::Sample;
use super::figures::{self, Figure, Value};
use crate::stats::Histogram;

/// Hands samples of one recording to the crate `metrics`, under the names and with the labels of
/// [the module](super). It remembers how far its histograms have got.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// use writeflush::observe::{Recorder, Sample};
///
/// let mut writer = writeflush::Options::new().create(directory.path().join("take"))?;
/// let control = writer.control().clone();
/// let mut recorder = Recorder::new(); // on a thread that does this once a second
/// recorder.record(&Sample::of(&control).label("stream", "camera-3")?);
/// # writer.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Recorder {
    recorded: HashMap<&'static str, Histogram>,
}

impl Recorder {
    /// One that has recorded nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records what has come since the last sample. A value of a histogram is recorded to within 1/16.
    /// Calls the exporter that the program has installed: not for a deadline thread.
    pub fn record(&mut self, sample: &Sample) {
        let labels: Vec<Label> = sample.labels().iter().map(Label::from).collect();
        let is_first = self.recorded.is_empty();
        for figure in figures::of(sample) {
            if is_first {
                describe(&figure);
            }
            let labels = labels.clone();
            match figure.value {
                Value::Counter(value) => counter!(figure.name, labels).absolute(value),
                Value::Gauge(value) => gauge!(figure.name, labels).set(value as f64),
                Value::Histogram(all) => self.record_histogram(figure.name, labels, all),
            }
        }
    }

    fn record_histogram(&mut self, name: &'static str, labels: Vec<Label>, all: &Histogram) {
        let handle = histogram!(name, labels);
        let recorded = self.recorded.insert(name, all.clone()).unwrap_or_default();
        for (value, count) in all.since(&recorded).buckets() {
            handle.record_many(value.as_secs_f64(), usize::try_from(count).unwrap_or(usize::MAX));
        }
    }
}

fn describe(figure: &Figure<'_>) {
    match figure.value {
        Value::Counter(_) => describe_counter!(figure.name, figure.help),
        Value::Gauge(_) => describe_gauge!(figure.name, figure.help),
        Value::Histogram(_) => describe_histogram!(figure.name, figure.help),
    }
}
