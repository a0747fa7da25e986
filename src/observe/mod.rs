//! What an operator sees of a recording: figures for Prometheus, and for the facades `metrics` and
//! `tracing`.
//!
//! All of it is *pulled*: a thread of the program takes a [`Sample`] when it likes, through the public
//! [`Control`](crate::Control), and does with it what it likes. Neither a push nor a driver calls
//! anything here, so no exporter, subscriber or allocation of theirs can hold up a recording. What has
//! happened between two samples is not lost: counts are counts since the open, and histograms are whole.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! use writeflush::observe::Sample;
//!
//! let mut writer = writeflush::Options::new().create(directory.path().join("take"))?;
//! writer.write_flush(b"durable")?;
//! let sample = Sample::of(writer.control()).label("stream", "camera-3")?;
//! let text = sample.prometheus(); // for a page of one's own, or node_exporter's textfile collector
//! assert!(text.contains("writeflush_durable_bytes_total{stream=\"camera-3\"} 7\n"));
//! assert!(text.contains("writeflush_lag_bytes{stream=\"camera-3\"} 0\n"));
//! # Ok(())
//! # }
//! ```
//!
//! # The figures
//!
//! | name | type | |
//! |---|---|---|
//! | `writeflush_accepted_bytes_total`, `_written_`, `_durable_` | counter | the [positions](crate::Positions): what was in the file before counts |
//! | `writeflush_lag_bytes` | gauge | accepted and not durable: what a power cut would take |
//! | `writeflush_fence_seconds` | histogram | from the moment the driver sees a fence until it is granted |
//! | `writeflush_device_write_seconds`, `writeflush_device_flush_seconds` | histogram | what the device takes |
//! | `writeflush_overruns_total`, `writeflush_overrun_bytes_total` | counter | losses, since no buffer had room |
//! | `writeflush_failed` | gauge | 1 once an error has ended the recording |
//! | `writeflush_waiting_for_space` | gauge | 1 while the disk is full, or below its floor, and the recording waits |
//! | `writeflush_stable_media` | gauge | 1 if durable means stable media here |
//! | `writeflush_fences_total`, `writeflush_fences_coalesced_total`, `writeflush_flushes_total` | counter | what was asked for, what was shared, what the kernel was asked for |
//! | `writeflush_pushes_total`, `writeflush_device_bytes_total`, `writeflush_zero_bytes_total`, `writeflush_resubmitted_total` | counter | work |
//! | `writeflush_memory_bytes`, `writeflush_high_water_bytes` | gauge | memory of the buffers, and the most that was in them |
//! | `writeflush_segments_rotations_total`, `writeflush_segments_late_total`, `writeflush_segments_closed_total`, `writeflush_segments_removed_total`, `writeflush_segments_removed_bytes_total`, `writeflush_segments_recycled_total` | counter | with [segments](crate::segments) |
//! | `writeflush_kept_bytes` | gauge | with a [pre-roll](crate::preroll): in memory |
//!
//! A histogram's sum is exact; a value counts in its bucket to within 1/16. Of a recording in segments
//! the figures are those of all its files together.
//!
//! # Facades
//!
//! With the feature `metrics` a `Recorder` hands samples to the crate of that name. With the feature
//! `tracing` a `Tracer` tells what has changed from sample to sample (losses, waits for space, late
//! rotations, failures), and [`segments::Options::on_event`](crate::segments::Options::on_event) can
//! be given `tell_segment`. Both are off by default; without them their crates are not built.

#[cfg(feature = "metrics")]
mod facade;
mod figures;
mod prometheus;
mod sample;
#[cfg(feature = "tracing")]
mod trace;

#[cfg(feature = "metrics")]
pub use facade::Recorder;
pub use prometheus::prometheus;
pub use sample::Sample;
#[cfg(feature = "tracing")]
pub use trace::{Tracer, tell_close, tell_segment};
