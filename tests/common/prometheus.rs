//! A page in Prometheus' text format, as a parser that is not ours reads it.

use std::collections::HashMap;

use openmetrics_parser::prometheus::parse_prometheus;
use openmetrics_parser::{HistogramValue, PrometheusValue};

/// The figures of one recording: of a label, or of all if there is none.
#[derive(Debug)]
pub struct Page {
    pub figures: HashMap<String, f64>,
    pub histograms: HashMap<String, HistogramValue>,
}

impl Page {
    /// Of whoever has these values of its labels. Each family has to have words and a type.
    #[track_caller]
    pub fn of(text: &str, labels: &[&str]) -> Self {
        let page = parse_prometheus(text).unwrap_or_else(|error| panic!("{error:?} in\n{text}"));
        let mut found = Self { figures: HashMap::new(), histograms: HashMap::new() };
        for (name, family) in page.families {
            assert!(!family.help.is_empty(), "{name}");
            let mine = |values: Vec<&str>| values == labels;
            for sample in family.iter_samples() {
                let known = sample.get_labelset().unwrap();
                if !mine(known.iter_values().map(String::as_str).collect()) {
                    continue;
                }
                let value = match &sample.value {
                    PrometheusValue::Gauge(value) => value.as_f64(),
                    PrometheusValue::Counter(counter) => counter.value.as_f64(),
                    PrometheusValue::Histogram(histogram) => {
                        found.histograms.insert(name.clone(), histogram.clone());
                        continue;
                    }
                    other => panic!("{name}: {other:?}"),
                };
                found.figures.insert(name.clone(), value);
            }
        }
        found
    }

    #[track_caller]
    pub fn get(&self, name: &str) -> u64 {
        self.figures
            .get(&format!("writeflush_{name}"))
            .unwrap_or_else(|| panic!("no {name}"))
            .round() as u64
    }

    #[track_caller]
    pub fn histogram(&self, name: &str) -> &HistogramValue {
        &self.histograms[&format!("writeflush_{name}")]
    }
}
