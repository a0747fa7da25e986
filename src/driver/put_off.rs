//! What a lane has put off, and what stands between it and its next operation. No I/O.

use std::io;

use super::outcome::{InFlight, Patience};
use crate::sync::Instant;

/// What stands between a lane and its next operation.
#[derive(Debug, Default)]
pub(super) enum Obstacle {
    #[default]
    None,
    /// Something was refused that will be asked for again at that moment.
    Pause { until: Instant },
    /// The medium is full, and nobody waits for space: what is in flight ends, what is there is
    /// fenced, then the stream fails with this error.
    Full(io::Error),
}

#[derive(Debug)]
pub(super) struct PutOff {
    pub(super) obstacle: Obstacle,
    /// Refused writes that will be asked for again, in order of position.
    writes: Vec<InFlight>,
}

impl PutOff {
    pub(super) fn new(slots: usize) -> Self {
        Self { obstacle: Obstacle::None, writes: Vec::with_capacity(slots) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Nothing is to be asked for again, and nothing stands in the way.
    pub(super) fn is_clear(&self) -> bool {
        self.is_empty() && matches!(self.obstacle, Obstacle::None)
    }

    pub(super) fn add(&mut self, rest: InFlight) {
        let place = self.writes.partition_point(|other| other.from < rest.from);
        self.writes.insert(place, rest);
    }

    /// The first goes out again.
    pub(super) fn next(&mut self) -> Option<InFlight> {
        (!self.writes.is_empty()).then(|| self.writes.remove(0))
    }

    /// What is refused together is one pause.
    pub(super) fn pause(&mut self, now: Instant, patience: &mut Patience) {
        if let Obstacle::None = self.obstacle {
            self.obstacle = Obstacle::Pause { until: now + patience.next_pause() };
        }
    }

    /// The medium is full. The first error stays.
    pub(super) fn fill(&mut self, error: io::Error) {
        if !matches!(self.obstacle, Obstacle::Full(_)) {
            self.obstacle = Obstacle::Full(error);
        }
    }

    /// Why it is full, if it is; then nothing is in the way any more.
    pub(super) fn take_full(&mut self) -> Option<io::Error> {
        match std::mem::take(&mut self.obstacle) {
            Obstacle::Full(error) => Some(error),
            Obstacle::None | Obstacle::Pause { .. } => None,
        }
    }
}
