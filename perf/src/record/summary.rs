//! What became of a recording: as text, as JSON, and as an exit status.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use writeflush::{Control, Histogram, Summary};

use super::Args;
use super::wav::Format;
use crate::error::{BAD, LOST};
use crate::output::{amount, binary_size, count, duration, print_whole, say};

/// The version of the JSON object: the number changes when a field changes its meaning.
const SCHEMA: &str = "writeflush.record/1";
/// Places of overruns that the text names.
const PLACES: usize = 3;

/// How a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// The input ended.
    Complete,
    /// A signal ended it.
    Interrupted,
    /// The input could not be read to its end.
    Unreadable,
    /// A write failed, or bytes were refused by policy.
    Failed,
}

impl Status {
    /// 0 only if every byte offered is durable.
    pub(crate) fn exit_status(self, bytes_lost: u64) -> u8 {
        match self {
            Self::Failed => LOST,
            _ if bytes_lost > 0 => LOST,
            Self::Unreadable => BAD,
            Self::Complete | Self::Interrupted => 0,
        }
    }
}

/// The JSON object. Positions and lengths are in bytes, latencies in nanoseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    pub(crate) status: Status,
    exit_status: u8,
    path: String,
    /// Length of the file that is left, whatever was there before included; `None` if unknown.
    file_bytes: Option<u64>,
    written_bytes: u64,
    durable_bytes: u64,
    /// Taken from the input and offered to the writer.
    input_bytes: u64,
    duration_ns: u64,
    bytes_per_second: f64,
    wav: Option<Format>,
    /// Losses are of whole frames of this many bytes.
    frame_bytes: u64,
    backend: String,
    direct: bool,
    durability: Label,
    fallbacks: Vec<String>,
    fences: u64,
    fences_coalesced: u64,
    #[serde(flatten)]
    latency: Latency,
    overruns: u64,
    overrun_bytes: u64,
    overrun_longest_bytes: u64,
    overrun_places: Vec<Place>,
    buffers: u64,
    buffer_size_bytes: u64,
    high_water_bytes: u64,
    warnings: Vec<String>,
    errors: Vec<String>,
}

/// The JSON object of a recording that could not begin.
#[derive(Debug, Serialize)]
struct Refusal<'a> {
    schema: &'static str,
    status: &'static str,
    exit_status: u8,
    /// `None` where the options can't be read.
    path: Option<&'a str>,
    warnings: [&'a str; 0],
    errors: [&'a str; 1],
}

/// Prints why nothing was recorded.
pub(crate) fn print_refusal(path: Option<&Path>, exit_status: u8, error: &str) {
    let path = path.map(Path::to_string_lossy);
    print_json(&Refusal {
        schema: SCHEMA,
        status: "refused",
        exit_status,
        path: path.as_deref(),
        warnings: [],
        errors: [error],
    });
}

/// One object on one line. A standard output that takes nothing is worth a word, and does not
/// change the exit status: what is recorded is durable.
fn print_json(object: &impl Serialize) {
    let printed = serde_json::to_string(object)
        .map_err(std::io::Error::from)
        .and_then(|text| print_whole(text + "\n"));
    if let Err(error) = printed {
        say(format_args!("warning: could not print the JSON object: {error}"));
    }
}

#[derive(Debug, Serialize)]
struct Label {
    medium: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Place {
    position: u64,
    bytes: u64,
}

/// Of the fences that were carried out; null when there were none.
#[derive(Debug, Serialize)]
struct Latency {
    fence_latency_p50_ns: Option<u64>,
    fence_latency_p99_ns: Option<u64>,
    fence_latency_max_ns: Option<u64>,
}

impl Latency {
    fn of(histogram: &Histogram) -> Self {
        let known = (histogram.count() > 0).then_some(histogram);
        Self {
            fence_latency_p50_ns: known.map(|known| nanoseconds(known.quantile(0.5))),
            fence_latency_p99_ns: known.map(|known| nanoseconds(known.quantile(0.99))),
            fence_latency_max_ns: known.map(|known| nanoseconds(known.max())),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What the recorder knows beside the writer's own summary.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) status: Status,
    pub(crate) input_bytes: u64,
    pub(crate) took: Duration,
    pub(crate) format: Option<Format>,
    /// Bytes that belong together, and are lost together.
    pub(crate) frame: usize,
    pub(crate) warnings: Vec<String>,
    pub(crate) errors: Vec<String>,
}

impl Course {
    pub(crate) fn new(format: Option<Format>, frame: usize) -> Self {
        Self {
            status: Status::Complete,
            input_bytes: 0,
            took: Duration::ZERO,
            format,
            frame,
            warnings: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Says what is not as it could be, now and in the JSON object.
    pub(crate) fn warn(&mut self, sentence: String) {
        say(format_args!("warning: {sentence}"));
        self.warnings.push(sentence);
    }
}

impl Report {
    pub(crate) fn new(args: &Args, course: Course, control: &Control, summary: &Summary) -> Self {
        let stats = &summary.stats;
        let places = summary.overruns.iter();
        Self {
            schema: SCHEMA,
            status: course.status,
            exit_status: course.status.exit_status(stats.overrun_bytes),
            path: summary.path.to_string_lossy().into_owned(),
            file_bytes: summary.file_len,
            written_bytes: summary.positions.written,
            durable_bytes: summary.positions.durable,
            input_bytes: course.input_bytes,
            duration_ns: nanoseconds(course.took),
            bytes_per_second: stats.bytes as f64 / course.took.as_secs_f64().max(1e-9),
            wav: course.format,
            frame_bytes: course.frame as u64,
            backend: summary.backend.to_string(),
            direct: control.is_direct(),
            durability: Label {
                medium: summary.durability.medium.to_string(),
                reason: summary.durability.reason.clone(),
            },
            fallbacks: control.fallbacks().to_vec(),
            fences: stats.fences,
            fences_coalesced: stats.fences_coalesced,
            latency: Latency::of(&stats.fence_latency),
            overruns: stats.overruns,
            overrun_bytes: stats.overrun_bytes,
            overrun_longest_bytes: stats.longest_overrun,
            overrun_places: places
                .map(|place| Place { position: place.position, bytes: place.bytes })
                .collect(),
            buffers: args.buffers as u64,
            buffer_size_bytes: args.buffer_size,
            high_water_bytes: stats.high_water,
            warnings: course.warnings,
            errors: course.errors,
        }
    }

    pub(crate) fn exit_status(&self) -> u8 {
        self.exit_status
    }

    pub(crate) fn print_json(&self) {
        print_json(self);
    }

    pub(crate) fn print_text(&self) {
        say(self.text());
    }

    fn text(&self) -> String {
        let took = Duration::from_nanos(self.duration_ns);
        let lines = [
            format!(
                "{} {} ({}) in {}, {}/s",
                self.path,
                count(self.file_bytes.unwrap_or(self.written_bytes), "byte"),
                self.status_in_words(),
                duration(took),
                amount(self.bytes_per_second)
            ),
            format!(
                "  durable   {}, on {} ({})",
                count(self.durable_bytes, "byte"),
                self.durability.medium,
                self.durability.reason
            ),
            format!(
                "  backend   {}, {}",
                self.backend,
                if self.direct { "direct" } else { "through the page cache" }
            ),
            format!("  fences    {}", self.fences_in_words()),
            format!("  buffers   {}", self.buffers_in_words()),
            format!("  overruns  {}", self.overruns_in_words()),
        ];
        lines.join("\n")
    }

    fn status_in_words(&self) -> &'static str {
        match self.status {
            Status::Complete => "the whole input",
            Status::Interrupted => "until interrupted",
            Status::Unreadable => "until the input failed",
            Status::Failed => "until it failed",
        }
    }

    fn fences_in_words(&self) -> String {
        let Latency { fence_latency_p50_ns, fence_latency_p99_ns, fence_latency_max_ns } =
            self.latency;
        let time = |ns: Option<u64>| duration(Duration::from_nanos(ns.unwrap_or(0)));
        let done = self.fences.saturating_sub(self.fences_coalesced);
        if fence_latency_max_ns.is_none() {
            return format!("{} asked for, nothing to do", self.fences);
        }
        format!(
            "{} asked for, {done} carried out: p50 {}, p99 {}, max {}",
            self.fences,
            time(fence_latency_p50_ns),
            time(fence_latency_p99_ns),
            time(fence_latency_max_ns)
        )
    }

    fn buffers_in_words(&self) -> String {
        let use_of_them = match self.high_water_bytes {
            0 => "none ever filled up".into(),
            bytes => format!("at most {} in use", amount(bytes as f64)),
        };
        format!("{} of {}, {use_of_them}", self.buffers, binary_size(self.buffer_size_bytes))
    }

    fn overruns_in_words(&self) -> String {
        if self.overruns == 0 {
            return "none".into();
        }
        let named = self.overrun_places.iter().take(PLACES);
        let places: Vec<String> =
            named.map(|place| format!("{} at {}", place.bytes, place.position)).collect();
        let more = if self.overruns > places.len() as u64 { ", …" } else { "" };
        format!(
            "{} lost in {} ({}{more}); give more or larger buffers",
            count(self.overrun_bytes, "byte"),
            count(self.overruns, "place"),
            places.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_recording_without_loss_is_a_success() {
        use Status::*;
        assert_eq!(Complete.exit_status(0), 0);
        assert_eq!(Interrupted.exit_status(0), 0);
        assert_eq!(Unreadable.exit_status(0), 2);
        for status in [Complete, Interrupted, Unreadable, Failed] {
            assert_eq!(status.exit_status(1), 1, "{status:?}");
        }
        assert_eq!(Failed.exit_status(0), 1);
    }
}
