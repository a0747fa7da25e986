//! The facade `tracing`: events with the target `writeflush`.

use tracing::{error, info, warn};

use super::Sample;
use crate::segments::{Closed, Event};
use crate::summary::{CloseError, Summary};

/// Tells what has changed from sample to sample of one recording: bytes that were lost (a warning), a wait
/// for space (a warning) and its end, rotations that came late (a warning), rotations, and the error that
/// has ended it (once).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// use writeflush::observe::{Sample, Tracer, tell_close};
///
/// let mut writer = writeflush::Options::new().create(directory.path().join("take"))?;
/// let control = writer.control().clone();
/// let mut tracer = Tracer::new(); // on a thread that does this once a second
/// tracer.look(&Sample::of(&control));
/// tell_close(&writer.close());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Tracer {
    last: Sample,
}

impl Tracer {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells what is new. Calls the subscriber that the program has installed: not for a deadline thread.
    pub fn look(&mut self, sample: &Sample) {
        let last = std::mem::replace(&mut self.last, sample.clone());
        let labels = labels(sample);
        let durable = sample.positions.durable;
        let lost = sample.stats.overrun_bytes.saturating_sub(last.stats.overrun_bytes);
        if lost > 0 {
            let times = sample.stats.overruns.saturating_sub(last.stats.overruns);
            let accepted = sample.positions.accepted;
            warn!(target: "writeflush", labels, bytes = lost, times, accepted, "bytes were lost");
        }
        match (last.is_waiting_for_space, sample.is_waiting_for_space) {
            (false, true) => warn!(target: "writeflush", labels, durable, "waiting for space"),
            (true, false) => {
                info!(target: "writeflush", labels, durable, "no longer waiting for space")
            }
            _ => {}
        }
        rotations(&labels, &last, sample);
        if let (None, Some(failure)) = (&last.error, &sample.error) {
            error!(target: "writeflush", labels, durable, error = %failure, "the recording has failed");
        }
    }
}

fn rotations(labels: &str, last: &Sample, sample: &Sample) {
    let (last, now) = (last.segments.unwrap_or_default(), sample.segments.unwrap_or_default());
    let late = now.late_rotations.saturating_sub(last.late_rotations);
    let count = now.rotations.saturating_sub(last.rotations);
    if late > 0 {
        warn!(target: "writeflush", labels, count = late, "segments ended late");
    }
    if count > 0 {
        info!(target: "writeflush", labels, count, "segments ended");
    }
}

/// As of `{stream="camera-3"}`.
fn labels(sample: &Sample) -> String {
    let labels = sample.labels().iter().map(|(name, value)| format!("{name}={value:?}"));
    labels.collect::<Vec<_>>().join(",")
}

/// Tells what has happened to a segment: for
/// [`segments::Options::on_event`](crate::segments::Options::on_event), whose thread may wait for the
/// subscriber without a push that waits.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// use writeflush::{observe, segments};
///
/// let pattern = directory.path().join("take-{seq}");
/// let options = segments::Options::new(pattern).on_event(|event| observe::tell_segment(&event));
/// # options.open()?.close()?;
/// # Ok(())
/// # }
/// ```
pub fn tell_segment(event: &Event) {
    match event {
        Event::Closed(closed) => {
            let Closed { segment, position, bytes, summary, .. } = &**closed;
            let (path, lost) = (segment.path.display(), summary.stats.overrun_bytes);
            info!(target: "writeflush", %path, position, bytes, lost, "a segment is closed and durable");
        }
        Event::Removed(segment) => {
            info!(target: "writeflush", path = %segment.path.display(), "a segment was removed");
        }
        Event::NotRemoved(error) => {
            warn!(target: "writeflush", %error, "a segment can't be removed");
        }
        Event::NotReady(error) => {
            warn!(target: "writeflush", %error, "the next segment can't be made");
        }
    }
}

/// Tells how a close of one file has ended, with each of its errors.
pub fn tell_close(closed: &Result<Summary, CloseError>) {
    let (summary, errors) = match closed {
        Ok(summary) => (summary, &[][..]),
        Err(failed) => (&*failed.summary, &failed.errors[..]),
    };
    let (path, durable) = (summary.path.display(), summary.positions.durable);
    let lost = summary.stats.overrun_bytes;
    for error in errors {
        error!(target: "writeflush", %path, durable, %error, "the close has failed");
    }
    if errors.is_empty() {
        info!(target: "writeflush", %path, durable, lost, "closed and durable");
    }
}
