//! What a paced recording has found, as it is kept (`results/README.md` documents the fields).

use serde::{Deserialize, Serialize};

use super::streams::Streams;
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
    /// `growing`, `reserved` or `written`.
    #[serde(default)]
    pub(crate) file_state: Option<String>,
    /// Decides in which order the takes were made.
    #[serde(default)]
    pub(crate) seed: Option<u64>,
    pub(crate) takes: Vec<Take>,
    /// The smallest memory that lost nothing, where it was searched.
    pub(crate) smallest: Vec<Smallest>,
    /// Of many streams at once (`--streams`): then there are no takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) streams: Option<Streams>,
}

impl Pace {
    /// Whether something went wrong.
    pub(crate) fn has_failed(&self) -> bool {
        let rows = self.streams.iter().flat_map(super::streams::rows);
        self.takes.iter().any(|take| take.error.is_some())
            || rows.into_iter().any(|row| row.error.is_some())
    }

    /// The conditions, for people.
    pub(crate) fn name(&self) -> String {
        let fences = match self.fence_ms {
            Some(ms) => format!("a fence every {} ms", digits(ms)),
            None => "one fence at the end".into(),
        };
        let rate = amount(self.bytes_per_s as f64);
        let record = binary_size(self.record_bytes as u64);
        let file = self.file_state.as_ref().map(|state| format!("{state} file, "));
        let file = file.unwrap_or_default();
        format!("{rate}/s in records of {record} for {} s, {file}{fences}", digits(self.seconds))
    }
}

impl Findings for Pace {
    const KIND: &'static str = "pace";
}

/// One recorder, for the whole time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Take {
    pub(crate) subject: String,
    /// How bytes got to the disk, and what durable meant.
    #[serde(default)]
    pub(crate) way: Option<String>,
    /// What it really had for bytes that were not yet written.
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
    /// Payload taken, by the time from the first record to the end of the last slot, in 10⁶ bytes a
    /// second.
    pub(crate) mb_per_s: f64,
    /// Offered in the same time, whether it was taken or not: as much as the rate, unless the
    /// producer could not keep up.
    #[serde(default)]
    pub(crate) offered_mb_per_s: Option<f64>,
    /// Processor time of all threads but the producer's, for 10⁹ bytes.
    pub(crate) cpu_s_per_gb: f64,
    /// When a record was due (s), and how late its hand-over ended (µs): those that missed their
    /// slot, the longest 500.
    pub(crate) stalls: Vec<(f64, f64)>,
    /// The most bytes of the recorder's memory that were in use, as seen before each record.
    #[serde(default)]
    pub(crate) most_held_bytes: Option<u64>,
    /// The most bytes at risk in each hundredth of the time: end of the stretch (s), bytes. Those
    /// were taken and no fence that covers them had come back, so that a power cut would have taken
    /// them; most are written already, and wait for the next fence in the page cache or the disk's.
    pub(crate) lag: Vec<(f64, u64)>,
    /// What went wrong, if anything.
    pub(crate) error: Option<String>,
}

impl Take {
    /// The most bytes that a power cut would have taken.
    pub(crate) fn most_at_risk(&self) -> u64 {
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
    /// What ended the search early.
    #[serde(default)]
    pub(crate) error: Option<String>,
    /// Whether there were as many takes as are wanted with it and with the next smaller.
    #[serde(default)]
    pub(crate) confirmed: bool,
    /// Takes with it, none of which lost anything.
    #[serde(default)]
    pub(crate) held: Option<u32>,
    /// What the next smaller memory did; `None`: there is none.
    #[serde(default)]
    pub(crate) below: Option<Below>,
    /// The smallest memory with which any take at all lost nothing.
    #[serde(default)]
    pub(crate) least_held_bytes: Option<u64>,
    /// Each take in its order: the memory, and what it lost until it was given up.
    pub(crate) tried: Vec<(u64, u64)>,
}

/// The memory below the smallest that lost nothing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Below {
    pub(crate) memory_bytes: u64,
    pub(crate) takes: u32,
    /// Takes that lost something.
    pub(crate) lost: u32,
}

impl Smallest {
    /// The answer, for people.
    pub(crate) fn answer(&self) -> String {
        self.memory_bytes.map_or("none".into(), binary_size)
    }

    /// How sure it is, for people.
    pub(crate) fn grounds(&self) -> String {
        if let Some(error) = &self.error {
            return format!("the search failed: {error}");
        }
        if self.memory_bytes.is_none() {
            return "every size that was tried lost something".into();
        }
        let Some(held) = self.held else { return "tried once: not confirmed".into() };
        let held = format!("lost nothing in {held} of {held} takes");
        let below = self.below.map(|below| {
            let size = binary_size(below.memory_bytes);
            format!("; {size} lost in {} of {}", below.lost, below.takes)
        });
        let open = if self.confirmed { "" } else { "; the search ended before it was confirmed" };
        held + &below.unwrap_or_default() + open
    }

    /// From the smallest that ever lost nothing to the answer, for people.
    pub(crate) fn range(&self) -> String {
        match (self.least_held_bytes, self.memory_bytes) {
            (Some(least), Some(memory)) if least < memory => {
                format!("{} to {}", binary_size(least), binary_size(memory))
            }
            (_, Some(memory)) => binary_size(memory),
            _ => "–".into(),
        }
    }
}
