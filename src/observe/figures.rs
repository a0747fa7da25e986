//! Which figures there are, and what they are called: one list for every output. Pure.

use super::Sample;
use crate::file::Medium;
use crate::segments;
use crate::stats::Histogram;

/// A figure of a sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure<'a> {
    pub(super) name: &'static str,
    /// One line.
    pub(super) help: &'static str,
    pub(super) value: Value<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// It only grows.
    Counter(u64),
    Gauge(u64),
    /// In seconds.
    Histogram(&'a Histogram),
}

/// All figures of a sample, each name once.
pub(super) fn of(sample: &Sample) -> Vec<Figure<'_>> {
    let mut figures = state(sample);
    figures.extend(latencies(sample));
    figures.extend(work(sample));
    figures.extend(sample.segments.iter().flat_map(of_segments));
    figures.extend(sample.kept_bytes.map(|kept| {
        gauge("writeflush_kept_bytes", "Bytes of the input that are in memory.", kept)
    }));
    figures
}

fn state(sample: &Sample) -> Vec<Figure<'_>> {
    let (at, stats) = (sample.positions, &sample.stats);
    let lag = at.accepted.saturating_sub(at.durable);
    let mut figures = vec![
        counter("writeflush_accepted_bytes_total", "Position of what was taken.", at.accepted),
        counter("writeflush_written_bytes_total", "Position of what the kernel has.", at.written),
        counter(
            "writeflush_durable_bytes_total",
            "Position of what survives a power cut.",
            at.durable,
        ),
        gauge("writeflush_lag_bytes", "Bytes that were taken and are not durable yet.", lag),
        counter("writeflush_overruns_total", "Times that bytes were lost.", stats.overruns),
        counter(
            "writeflush_overrun_bytes_total",
            "Bytes that were lost since no buffer had room.",
            stats.overrun_bytes,
        ),
        gauge(
            "writeflush_failed",
            "Whether an error has ended the recording.",
            sample.error.is_some().into(),
        ),
        gauge(
            "writeflush_waiting_for_space",
            "Whether the recording waits for space on the disk.",
            sample.is_waiting_for_space.into(),
        ),
    ];
    figures.extend(sample.medium.map(|medium| {
        let is_stable = medium == Medium::StableMedia;
        gauge("writeflush_stable_media", "Whether durable means stable media.", is_stable.into())
    }));
    figures
}

fn latencies(sample: &Sample) -> [Figure<'_>; 3] {
    let stats = &sample.stats;
    [
        histogram(
            "writeflush_fence_seconds",
            "From the moment a fence is seen until it is granted.",
            &stats.fence_latency,
        ),
        histogram(
            "writeflush_device_write_seconds",
            "From the submission of a write to its completion.",
            &stats.device_writes,
        ),
        histogram(
            "writeflush_device_flush_seconds",
            "From the submission of a flush to its completion.",
            &stats.device_flushes,
        ),
    ]
}

fn work(sample: &Sample) -> [Figure<'_>; 9] {
    let stats = &sample.stats;
    [
        counter("writeflush_fences_total", "Fences that were asked for.", stats.fences),
        counter(
            "writeflush_fences_coalesced_total",
            "Fences that shared another one, or found nothing to do.",
            stats.fences_coalesced,
        ),
        counter(
            "writeflush_flushes_total",
            "Flushes that the kernel was asked for.",
            stats.flushes,
        ),
        counter("writeflush_pushes_total", "Calls that took bytes.", stats.writes),
        counter(
            "writeflush_device_bytes_total",
            "Bytes handed to the device, padding and rewritten blocks included.",
            stats.device_bytes,
        ),
        counter("writeflush_zero_bytes_total", "Zeros written ahead.", stats.zero_bytes),
        counter(
            "writeflush_resubmitted_total",
            "Writes that the kernel cut short or interrupted, and that went on.",
            stats.resubmitted,
        ),
        gauge("writeflush_memory_bytes", "Memory of the buffers.", stats.memory),
        gauge("writeflush_high_water_bytes", "The most bytes in them at once.", stats.high_water),
    ]
}

fn of_segments(stats: &segments::Stats) -> [Figure<'_>; 6] {
    [
        counter(
            "writeflush_segments_rotations_total",
            "Segments that have ended.",
            stats.rotations,
        ),
        counter(
            "writeflush_segments_late_total",
            "Of those the ones that ended late, since the next was not ready.",
            stats.late_rotations,
        ),
        counter("writeflush_segments_closed_total", "Segments closed and durable.", stats.closed),
        counter("writeflush_segments_removed_total", "Segments that were removed.", stats.removed),
        counter("writeflush_segments_removed_bytes_total", "Bytes of those.", stats.removed_bytes),
        counter(
            "writeflush_segments_recycled_total",
            "Removed segments that have become the next one.",
            stats.recycled,
        ),
    ]
}

fn counter(name: &'static str, help: &'static str, value: u64) -> Figure<'static> {
    Figure { name, help, value: Value::Counter(value) }
}

fn gauge(name: &'static str, help: &'static str, value: u64) -> Figure<'static> {
    Figure { name, help, value: Value::Gauge(value) }
}

fn histogram<'a>(name: &'static str, help: &'static str, value: &'a Histogram) -> Figure<'a> {
    Figure { name, help, value: Value::Histogram(value) }
}
