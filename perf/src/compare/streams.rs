//! Throughput by buffer size: long streams in turn.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use fastrand::Rng;
use writeflush_workloads::{Arms, FileState, StreamKind, shuffled};

use super::result::{Stream, StreamOutcome};
use crate::stop::Stop;

/// Turns of each subject.
pub(crate) const ROUNDS: u64 = 7;

/// Measures streams of every kind with buffers of one size. `None`: interrupted. `tick` is called
/// after each round.
pub(crate) fn measure(
    kinds: &[StreamKind],
    folder: &Path,
    (buffer, bytes): (usize, u64),
    random: &mut Rng,
    stop: &Stop,
    mut tick: impl FnMut(),
) -> anyhow::Result<Option<Vec<Stream>>> {
    let path = folder.join("stream");
    FileState::Written.prepare(&path, bytes).context("the file of a stream could not be made")?;
    let mut arms = Arms::new(kinds.len());
    let mut refused: Vec<Option<String>> = vec![None; kinds.len()];
    for _ in 0..ROUNDS {
        for arm in shuffled(kinds.len(), random) {
            if stop.asked() {
                return Ok(None);
            }
            let start = Instant::now();
            match (kinds[arm].run)(&path, buffer, bytes) {
                Ok(()) => arms.add(arm, bytes as f64 / start.elapsed().as_secs_f64() / 1e6),
                Err(error) => refused[arm] = Some(error.to_string()),
            }
        }
        tick();
    }
    std::fs::remove_file(&path).context("the file of a stream could not be removed")?;
    let stream = |(arm, kind): (usize, &StreamKind)| Stream {
        subject: kind.name.into(),
        buffer_bytes: buffer,
        stream_bytes: bytes,
        outcome: match refused[arm].take() {
            Some(reason) => StreamOutcome::Refused(reason),
            None => StreamOutcome::MbPerS(arms.sorted(arm)),
        },
    };
    Ok(Some(kinds.iter().enumerate().map(stream).collect()))
}
