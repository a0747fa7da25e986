//! What a paced recording has found, as it is kept (`results/README.md` documents the fields).

use serde::{Deserialize, Serialize};

use crate::document::Findings;
use crate::latency::Latency;
use crate::output::{amount, binary_size, digits};

/// All takes of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pace {
    pub(crate) bytes_per_s: u64,
    pub(crate) record_bytes: usize,
    pub(crate) seconds: f64,
    /// Time between two fences; `None`: one at the end.
    pub(crate) fence_ms: Option<f64>,
    pub(crate) takes: Vec<Take>,
    /// The smallest memory that lost nothing, where it was searched.
    pub(crate) smallest: Vec<Smallest>,
}

impl Pace {
    /// The conditions, for people.
    pub(crate) fn name(&self) -> String {
        let fences = match self.fence_ms {
            Some(ms) => format!("a fence every {} ms", digits(ms)),
            None => "one fence at the end".into(),
        };
        let rate = amount(self.bytes_per_s as f64);
        let record = binary_size(self.record_bytes as u64);
        format!("{rate}/s in records of {record} for {} s, {fences}", digits(self.seconds))
    }
}

impl Findings for Pace {
    const KIND: &'static str = "pace";
}

/// One recorder, for the whole time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Take {
    pub(crate) subject: String,
    pub(crate) memory_bytes: u64,
    /// Another thread wrote 4 KiB and fsynced them all the time.
    pub(crate) neighbour: bool,
    pub(crate) records: u64,
    pub(crate) overruns: u64,
    pub(crate) lost_bytes: u64,
    /// Records that were handed over only after the next was due.
    pub(crate) missed_slots: u64,
    /// From the call to its return: the hand-over itself.
    pub(crate) service_us: Latency,
    /// From the moment at which the record was due to the end of its hand-over.
    pub(crate) response_us: Latency,
    /// From the moment at which it was due until it was known to be durable, as seen at the next
    /// record.
    pub(crate) durable_us: Latency,
    /// Payload taken, by the time from the first record to the last, in 10⁶ bytes a second.
    pub(crate) mb_per_s: f64,
    /// Processor time of all threads but the producer's, for 10⁹ bytes.
    pub(crate) cpu_s_per_gb: f64,
    /// When a record was due (s), and how late its hand-over ended (µs): those that missed their
    /// slot, the longest 500.
    pub(crate) stalls: Vec<(f64, f64)>,
    /// The most bytes that were taken and not yet durable, in each hundredth of the time: end of
    /// the stretch (s), bytes.
    pub(crate) lag: Vec<(f64, u64)>,
    /// What went wrong, if anything.
    pub(crate) error: Option<String>,
}

impl Take {
    /// The most bytes that were taken and not yet durable.
    pub(crate) fn most_lag(&self) -> u64 {
        self.lag.iter().map(|(_, bytes)| *bytes).max().unwrap_or_default()
    }
}

/// The outcome of one search.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Smallest {
    pub(crate) subject: String,
    pub(crate) neighbour: bool,
    /// `None`: even the largest that was tried lost something.
    pub(crate) memory_bytes: Option<u64>,
    /// Each memory that was tried, and what it lost until it was given up.
    pub(crate) tried: Vec<(u64, u64)>,
}
