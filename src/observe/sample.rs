//! What is known of a recording at a moment.

use crate::control::Control;
use crate::error::Error;
use crate::file::Medium;
use crate::segments;
use crate::stats::Stats;
use crate::stream::Positions;

/// How a recording is at a moment; see [the module](super).
///
/// It is taken without a lock that a push takes, and allocates some 16 kB; its parts may be a few
/// operations apart. A program may change them: a recording of its own making, in several files or with
/// a pre-roll, is described by the sums of those.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Sample {
    /// The four positions.
    pub positions: Positions,
    /// What the writer has counted; of segments what all their writers have.
    pub stats: Stats,
    /// What the segments have done, where there are any.
    pub segments: Option<segments::Stats>,
    /// Bytes that a [pre-roll](crate::preroll::Control::kept) has in memory, where there is one.
    pub kept_bytes: Option<u64>,
    /// Whether it waits for space on the disk.
    pub is_waiting_for_space: bool,
    /// What a fence ends at; `None` if nobody knows, as of segments that have ended.
    pub medium: Option<Medium>,
    /// The error that has ended it; none of a close.
    pub error: Option<Error>,
    labels: Vec<(String, String)>,
}

impl Sample {
    /// Of one file, also when it is closed. No system call.
    pub fn of(control: &Control) -> Self {
        Self {
            positions: control.positions(),
            stats: control.stats(),
            is_waiting_for_space: control.is_waiting_for_space(),
            medium: Some(control.durability().medium),
            error: failure(control.error()),
            ..Self::default()
        }
    }

    /// Of a recording in segments, also when it has ended. Takes a lock for a moment, which no push takes.
    pub fn of_segments(control: &segments::Control) -> Self {
        Self {
            positions: control.positions(),
            stats: control.totals(),
            segments: Some(control.stats()),
            is_waiting_for_space: control.is_waiting_for_space(),
            medium: control.of_segment().map(|it| it.durability().medium),
            error: failure(control.error()),
            ..Self::default()
        }
    }

    /// Tells it from others, in every figure of it. The name of a file is a good value, the names of
    /// segments are not: each value is a time series of its own.
    ///
    /// # Errors
    /// [`Error::Options`], with a name that Prometheus does not take, or that the sample has already.
    pub fn label(mut self, name: &str, value: &str) -> Result<Self, Error> {
        if !is_label(name) || self.labels.iter().any(|(other, _)| other == name) {
            let sentence = format!(
                "{name:?} can't be the name of a label: letters, digits and _, none of the digits first, \
                 not le, not __ first, and each name once"
            );
            return Err(Error::Options(sentence.into()));
        }
        self.labels.push((name.into(), value.into()));
        Ok(self)
    }

    /// Its labels: names and values.
    pub fn labels(&self) -> &[(String, String)] {
        &self.labels
    }

    /// Its figures in Prometheus' text format (version 0.0.4). Of several samples in one page:
    /// [`prometheus`](super::prometheus()).
    pub fn prometheus(&self) -> String {
        super::prometheus([self])
    }
}

/// A close is no failure.
fn failure(error: Option<Error>) -> Option<Error> {
    error.filter(|error| !matches!(error, Error::Closed))
}

fn is_label(name: &str) -> bool {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let begins = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    is_word && begins && !name.starts_with("__") && name != "le"
}
