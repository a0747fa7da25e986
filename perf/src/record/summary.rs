//! What became of a recording: as text, as JSON, and as an exit status.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use writeflush::{Control, Histogram, Summary, segments};

use super::Args;
use super::events;
use super::wav::Format;
use crate::error::{BAD, LOST};
use crate::output::{amount, binary_size, count, duration, print_whole, say};

/// The version of the JSON object: the number changes when a field changes its meaning.
const SCHEMA: &str = "writeflush.record/1";
/// Places of overruns that the text names.
const PLACES: usize = 3;
/// Places of overruns that the JSON object names.
const MOST_PLACES: usize = 1024;

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
    /// Of segments the pattern of their names.
    path: String,
    /// Taken from the input and offered to the writer.
    input_bytes: u64,
    duration_ns: u64,
    bytes_per_second: f64,
    wav: Option<Format>,
    /// Losses are of whole frames of this many bytes.
    frame_bytes: u64,
    #[serde(flatten)]
    ground: Ground,
    #[serde(flatten)]
    figures: Figures,
    buffers: u64,
    buffer_size_bytes: u64,
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

/// What the recording stands on.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Ground {
    backend: String,
    direct: bool,
    durability: Label,
    fallbacks: Vec<String>,
}

impl Ground {
    pub(crate) fn of(control: &Control) -> Self {
        let durability = control.durability();
        Self {
            backend: control.backend().to_string(),
            direct: control.is_direct(),
            durability: Label {
                medium: durability.medium.to_string(),
                reason: durability.reason.clone(),
            },
            fallbacks: control.fallbacks().to_vec(),
        }
    }
}

#[derive(Clone, Debug, Default, Serialize)]
struct Label {
    medium: String,
    reason: String,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Place {
    position: u64,
    bytes: u64,
}

/// Of the fences that were carried out; null when there were none, and for segments but the longest.
#[derive(Clone, Debug, Default, Serialize)]
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

/// What was recorded, in one file or in segments.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// Length of the file that is left, whatever was there before included; `None` if unknown, and
    /// for segments.
    file_bytes: Option<u64>,
    written_bytes: u64,
    durable_bytes: u64,
    #[serde(skip)]
    pushed_bytes: u64,
    fences: u64,
    fences_coalesced: u64,
    #[serde(flatten)]
    latency: Latency,
    overruns: u64,
    overrun_bytes: u64,
    overrun_longest_bytes: u64,
    /// In the file; of segments in the data of all.
    overrun_places: Vec<Place>,
    high_water_bytes: u64,
    /// `None` for one file.
    segments: Option<Segments>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Segments {
    closed: u64,
    /// Ended later than they should have, since the next file was not ready.
    late: u64,
    removed: u64,
}

impl Figures {
    pub(crate) fn of_file(summary: &Summary) -> Self {
        let mut figures = Self { file_bytes: summary.file_len, ..Self::default() };
        figures.add(summary, |position| position);
        figures.latency = Latency::of(&summary.stats.fence_latency);
        figures.written_bytes = summary.positions.written;
        figures.durable_bytes = summary.positions.durable;
        figures
    }

    /// Of a segment whose data begins at `position` of the recording, behind a header.
    pub(crate) fn add_segment(&mut self, position: u64, header: u64, summary: &Summary) {
        let position = self.written_bytes + position; // behind the recordings that have ended
        self.add(summary, |place| position + place.saturating_sub(header));
        let max = Latency::of(&summary.stats.fence_latency).fence_latency_max_ns;
        self.latency.fence_latency_max_ns = self.latency.fence_latency_max_ns.max(max);
    }

    pub(crate) fn end_of_segments(&mut self, summary: &segments::Summary) {
        let stats = summary.stats;
        self.written_bytes += summary.positions.written;
        self.durable_bytes += summary.positions.durable;
        // Those of a segment that could not be closed are among them.
        (self.overruns, self.overrun_bytes) = (stats.overruns, stats.overrun_bytes);
        let segments = self.segments.get_or_insert_default();
        segments.closed += stats.closed;
        segments.late += stats.late_rotations;
        segments.removed += stats.removed;
    }

    /// Of recordings that begin in the past, of which there may be none: so much of what came for them
    /// was lost.
    pub(crate) fn end_of_events(&mut self, overruns: u64, overrun_bytes: u64) {
        (self.overruns, self.overrun_bytes) = (overruns, overrun_bytes);
        self.segments.get_or_insert_default();
    }

    fn add(&mut self, summary: &Summary, place: impl Fn(u64) -> u64) {
        let stats = &summary.stats;
        self.pushed_bytes += stats.bytes;
        self.fences += stats.fences;
        self.fences_coalesced += stats.fences_coalesced;
        self.overruns += stats.overruns;
        self.overrun_bytes += stats.overrun_bytes;
        self.overrun_longest_bytes = self.overrun_longest_bytes.max(stats.longest_overrun);
        self.high_water_bytes = self.high_water_bytes.max(stats.high_water);
        let left = MOST_PLACES.saturating_sub(self.overrun_places.len());
        let places = summary.overruns.iter().take(left);
        self.overrun_places
            .extend(places.map(|it| Place { position: place(it.position), bytes: it.bytes }));
    }

    pub(crate) fn file_bytes(&self) -> Option<u64> {
        self.file_bytes
    }

    /// The file has become so long.
    pub(crate) fn are_cut_to(&mut self, len: u64) {
        self.file_bytes = Some(len);
        self.written_bytes = self.written_bytes.min(len);
        self.durable_bytes = self.durable_bytes.min(len);
    }

    /// Whether no file was made.
    pub(crate) fn is_none(&self) -> bool {
        self.written_bytes == 0 && self.segments.is_some_and(|it| it.closed == 0)
    }

    /// What a recording that failed has left.
    pub(crate) fn kept(&self) -> String {
        let durable = self.durable_bytes;
        match self.file_bytes {
            _ if self.segments.is_some() => {
                format!("the first {durable} bytes of the recording are durable")
            }
            Some(len) if len != durable => {
                format!("the first {durable} bytes of the file are durable, of {len}")
            }
            _ => format!("the first {durable} bytes of the file are durable"),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What the recorder knows beside the writer's own summary.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) path: String,
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
    pub(crate) fn new(path: &Path, format: Option<Format>, frame: usize) -> Self {
        Self {
            path: path.to_string_lossy().into_owned(),
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
        events::warn(&sentence);
        self.warnings.push(sentence);
    }
}

impl Report {
    pub(crate) fn new(args: &Args, course: Course, ground: Ground, figures: Figures) -> Self {
        Self {
            schema: SCHEMA,
            status: course.status,
            exit_status: course.status.exit_status(figures.overrun_bytes),
            path: course.path,
            input_bytes: course.input_bytes,
            duration_ns: nanoseconds(course.took),
            bytes_per_second: figures.pushed_bytes as f64 / course.took.as_secs_f64().max(1e-9),
            wav: course.format,
            frame_bytes: course.frame as u64,
            ground,
            figures,
            buffers: args.buffers as u64,
            buffer_size_bytes: args.buffer_size,
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
        let (figures, ground) = (&self.figures, &self.ground);
        let took = Duration::from_nanos(self.duration_ns);
        let mut lines = vec![
            format!(
                "{} {} ({}) in {}, {}/s",
                self.path,
                count(figures.file_bytes.unwrap_or(figures.written_bytes), "byte"),
                self.status_in_words(),
                duration(took),
                amount(self.bytes_per_second)
            ),
            format!(
                "  durable   {}, on {} ({})",
                count(figures.durable_bytes, "byte"),
                ground.durability.medium,
                ground.durability.reason
            ),
            format!(
                "  backend   {}, {}",
                ground.backend,
                if ground.direct { "direct" } else { "through the page cache" }
            ),
            format!("  fences    {}", self.fences_in_words()),
            format!("  buffers   {}", self.buffers_in_words()),
            format!("  overruns  {}", self.overruns_in_words()),
        ];
        if let Some(Segments { closed, late, removed }) = figures.segments {
            lines.push(format!(
                "  segments  {closed} closed, {late} of them late, {removed} removed"
            ));
        }
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
        let Figures { fences, fences_coalesced, latency, .. } = &self.figures;
        let Latency { fence_latency_p50_ns, fence_latency_p99_ns, fence_latency_max_ns } = latency;
        let time = |ns: Option<u64>| duration(Duration::from_nanos(ns.unwrap_or(0)));
        let done = fences.saturating_sub(*fences_coalesced);
        if fence_latency_max_ns.is_none() {
            return format!("{fences} asked for, nothing to do");
        }
        let longest = time(*fence_latency_max_ns);
        if fence_latency_p50_ns.is_none() {
            return format!("{fences} asked for, {done} carried out: max {longest}");
        }
        format!(
            "{fences} asked for, {done} carried out: p50 {}, p99 {}, max {longest}",
            time(*fence_latency_p50_ns),
            time(*fence_latency_p99_ns),
        )
    }

    fn buffers_in_words(&self) -> String {
        let use_of_them = match self.figures.high_water_bytes {
            0 => "none ever filled up".into(),
            bytes => format!("at most {} in use", amount(bytes as f64)),
        };
        format!("{} of {}, {use_of_them}", self.buffers, binary_size(self.buffer_size_bytes))
    }

    fn overruns_in_words(&self) -> String {
        if self.figures.overruns == 0 {
            return "none".into();
        }
        let named = self.figures.overrun_places.iter().take(PLACES);
        let places: Vec<String> =
            named.map(|place| format!("{} at {}", place.bytes, place.position)).collect();
        let more = if self.figures.overruns > places.len() as u64 { ", …" } else { "" };
        format!(
            "{} lost in {} ({}{more}); give more or larger buffers",
            count(self.figures.overrun_bytes, "byte"),
            count(self.figures.overruns, "place"),
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
