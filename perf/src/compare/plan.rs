//! What is measured, how often, and how much space that takes. Pure.

use writeflush_workloads::FileState;

/// What a user may choose.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    pub(crate) records: Vec<usize>,
    pub(crate) states: Vec<FileState>,
    pub(crate) committers: Vec<usize>,
}

impl Conditions {
    pub(crate) fn full() -> Self {
        Self {
            records: vec![256, 4 << 10, 64 << 10, 1 << 20],
            states: FileState::ALL.to_vec(),
            committers: vec![1, 4, 16, 64],
        }
    }

    pub(crate) fn quick() -> Self {
        Self {
            records: vec![4 << 10],
            states: vec![FileState::Growing, FileState::Written],
            committers: vec![1, 16],
        }
    }
}

/// One cell: all subjects take turns under these conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CellPlan {
    pub(crate) record: usize,
    pub(crate) state: FileState,
    pub(crate) committers: usize,
    /// Times that every subject is opened anew, on another file.
    pub(crate) laps: u64,
    /// Turns of each subject in a lap.
    pub(crate) turns: u64,
    /// Commits of each committer in a turn.
    pub(crate) burst: u64,
}

/// Payload of one subject in one lap, at most.
const LAP_BYTES: u64 = 32 << 20;
/// A stretch of the run is a lap: enough of them for an interval.
const LAPS: u64 = 20;
/// Commits of a committer in a turn where several commit at once: long enough to form groups.
const BURST: u64 = 10;
/// Commits before those that count.
pub(crate) const WARM_UP: u64 = 2;

impl CellPlan {
    fn new(record: usize, state: FileState, committers: usize, samples: u64) -> Self {
        let burst = if committers == 1 { 1 } else { BURST };
        let turn = burst * committers as u64;
        let most = (LAP_BYTES / (turn * record as u64)).max(1);
        let turns = samples.div_ceil(LAPS * turn).clamp(1, most);
        Self { record, state, committers, laps: LAPS, turns, burst }
    }

    /// Commits of each committer in a lap.
    pub(crate) fn commits(&self) -> u64 {
        WARM_UP + self.turns * self.burst
    }

    /// Bytes in the file of one subject.
    fn file_bytes(&self) -> u64 {
        (self.commits() * self.record as u64).next_multiple_of(4096) * self.committers as u64
    }

    /// For progress and people.
    pub(crate) fn name(&self) -> String {
        let committers = crate::output::count(self.committers as u64, "committer");
        let record = crate::output::binary_size(self.record as u64);
        format!("{record}, {} file, {committers}", self.state.name())
    }
}

/// Everything that is measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) cells: Vec<CellPlan>,
    /// Streams at the end.
    pub(crate) streams: Streams,
    subjects: usize,
}

/// Long streams, one for each subject and buffer size in each round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streams {
    pub(crate) buffers: Vec<usize>,
    /// Of one stream.
    pub(crate) bytes: u64,
}

impl Streams {
    /// None, if they have no length.
    pub(crate) fn new(bytes: u64) -> Self {
        match bytes {
            0 => Self::default(),
            _ => Self { buffers: vec![64 << 10, 256 << 10, 1 << 20, 4 << 20], bytes },
        }
    }
}

impl Plan {
    /// One committer under every condition; more of them with the smallest record, where they
    /// have most to share, on the dearest and the cheapest file.
    pub(crate) fn new(
        conditions: &Conditions,
        samples: u64,
        subjects: usize,
        streams: Streams,
    ) -> Self {
        let mut cells = Vec::new();
        let cell = |record, state, committers| CellPlan::new(record, state, committers, samples);
        if conditions.committers.contains(&1) {
            for &state in &conditions.states {
                cells.extend(conditions.records.iter().map(|&record| cell(record, state, 1)));
            }
        }
        let mut ends = [conditions.states.first(), conditions.states.last()].to_vec();
        ends.dedup();
        if let Some(&record) = conditions.records.iter().min() {
            for &state in ends.into_iter().flatten() {
                let many = conditions.committers.iter().filter(|n| **n > 1);
                cells.extend(many.map(|&committers| cell(record, state, committers)));
            }
        }
        Self { cells, streams, subjects }
    }

    /// The most that the files take at one time.
    pub(crate) fn space(&self) -> u64 {
        let cells = self.cells.iter().map(|cell| cell.file_bytes() * self.subjects as u64).max();
        cells.unwrap_or(0).max(self.streams.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_plan_has_every_size_and_state_and_up_to_64_committers() {
        let plan = Plan::new(&Conditions::full(), 2_000, 16, Streams::new(128 << 20));
        assert_eq!(plan.cells.len(), 4 * 3 + 2 * 3);
        assert!(plan.cells.iter().any(|cell| cell.committers == 64 && cell.record == 256));
        for cell in &plan.cells {
            let commits = cell.laps * cell.turns * cell.burst * cell.committers as u64;
            assert!(commits >= 2_000 || cell.record > 4096, "{cell:?}");
        }
        assert!(plan.space() < 1 << 30, "{}", plan.space());
    }

    #[test]
    fn large_records_are_fewer_and_never_none() {
        let cell = CellPlan::new(1 << 20, FileState::Written, 1, 1_000_000);
        assert_eq!(cell.turns, 32);
        assert_eq!(CellPlan::new(64 << 20, FileState::Written, 1, 100).turns, 1);
    }
}
