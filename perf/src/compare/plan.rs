//! What is measured, how often, and how much space that takes. Pure.

use std::time::Duration;

use writeflush_workloads::subject::Kind;
use writeflush_workloads::{Conditions, FileState, Length, Ratio};

/// What a user may choose. Empty: the usual.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    pub(crate) records: Vec<usize>,
    pub(crate) states: Vec<FileState>,
    pub(crate) committers: Vec<usize>,
    pub(crate) direct: bool,
    pub(crate) quick: bool,
}

/// Payload of one subject in one lap, at most.
const LAP_BYTES: u64 = 32 << 20;
/// Turns of a lap, at most: a lap is a moment, or what is paired in a block has not met the same
/// weather.
const MOST_TURNS: u64 = 50;
/// An interval is over blocks of laps; fewer laps say too little about it.
pub(crate) const LEAST_LAPS: u64 = 10;
/// More blocks than this make an interval narrower only where each is as long.
const BLOCKS: u64 = 10;
/// Commits of a committer in a turn where several commit at once: long enough to form groups.
const BURST: u64 = 10;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Commits of each subject in a cell, at least.
    Samples(u64),
    /// Time of the whole run, at most.
    Time(Duration),
}

/// What a short trial took, in seconds: of all subjects together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pace {
    /// New files, opening, warming up and closing.
    pub(crate) lap: f64,
    /// A turn of each, and what a turn adds to the files that are written anew.
    pub(crate) turn: f64,
}

/// Everything that is measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) cells: Vec<Conditions>,
    /// Streams at the end.
    pub(crate) streams: Streams,
    pub(crate) extent: Extent,
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

impl Choice {
    /// All combinations of what was chosen. Where the numbers of committers were not: one committer
    /// under every condition, and more of them with the smallest record, where they have most to
    /// share, on the dearest and the cheapest file.
    pub(crate) fn cells(&self) -> Vec<Conditions> {
        let or = |chosen: &[usize], quick: &[usize], full: &[usize]| match chosen {
            [] if self.quick => quick.to_vec(),
            [] => full.to_vec(),
            chosen => chosen.to_vec(),
        };
        let records = or(&self.records, &[4 << 10], &[256, 4 << 10, 64 << 10, 1 << 20]);
        let states = match self.states.as_slice() {
            [] if self.quick => vec![FileState::Growing, FileState::Written],
            [] => FileState::ALL.to_vec(),
            chosen => chosen.to_vec(),
        };
        let all = |records: &[usize], states: &[FileState], committers: &[usize]| {
            let mut cells = Vec::new();
            for &committers in committers {
                for &state in states {
                    cells
                        .extend(records.iter().map(|&record| self.cell(record, state, committers)));
                }
            }
            cells
        };
        if !self.committers.is_empty() {
            return all(&records, &states, &self.committers);
        }
        let mut ends = [states.first(), states.last()].map(|state| state.copied()).to_vec();
        ends.dedup();
        let ends: Vec<FileState> = ends.into_iter().flatten().collect();
        let smallest: Vec<usize> = records.iter().min().copied().into_iter().collect();
        let many: &[usize] = if self.quick { &[16] } else { &[4, 16, 64] };
        [all(&records, &states, &[1]), all(&smallest, &ends, many)].concat()
    }

    fn cell(&self, record: usize, state: FileState, committers: usize) -> Conditions {
        let burst = if committers == 1 { 1 } else { BURST };
        Conditions { record, state, committers, direct: self.direct, burst }
    }
}

/// Turns of a lap, at most.
fn most_turns(cell: &Conditions) -> u64 {
    let turn = cell.burst * cell.committers as u64 * cell.record as u64;
    (LAP_BYTES / turn).clamp(1, MOST_TURNS)
}

/// Blocks without which there is no interval.
fn least_blocks(arms: u64) -> u64 {
    LEAST_LAPS.div_ceil(arms.max(1)).max(Ratio::LEAST_BLOCKS as u64)
}

/// Commits of each committer in a turn, where there is so much time for turns that take `turn`
/// seconds with one commit of each: as many as leave room for an interval.
pub(crate) fn burst_of_time(seconds: f64, turn: f64, arms: usize, cell: &Conditions) -> u64 {
    let laps = least_blocks(arms as u64) * arms as u64;
    let fits = seconds / 2.0 / (laps as f64 * turn);
    if cell.committers == 1 { 1 } else { (fits as u64).clamp(1, BURST) }
}

/// At least so many commits of each of `arms` subjects.
pub(crate) fn of_samples(samples: u64, arms: usize, cell: &Conditions) -> Length {
    let arms = arms.max(1) as u64;
    let all = samples.div_ceil(cell.burst * cell.committers as u64);
    let turns = all.div_ceil(BLOCKS * arms).clamp(1, most_turns(cell));
    let blocks = all.div_ceil(turns * arms).max(least_blocks(arms));
    Length { blocks, turns }
}

/// As much as fits into `seconds`. Turns get half of a lap at least, where that leaves enough laps
/// for an interval. The least is one block of one turn, whatever it takes.
pub(crate) fn of_time(seconds: f64, pace: Pace, arms: usize, cell: &Conditions) -> Length {
    let arms = arms.max(1) as u64;
    let (most, least) = (most_turns(cell), least_blocks(arms));
    let lap = |turns: u64| pace.lap + turns as f64 * pace.turn;
    let blocks = |turns: u64| (seconds / (arms as f64 * lap(turns))).floor() as u64;
    let turns = |blocks: u64| {
        let left = seconds / (blocks * arms) as f64 - pace.lap;
        ((left / pace.turn).floor().max(0.0) as u64).clamp(1, most)
    };
    let wanted = ((pace.lap / pace.turn).ceil() as u64).clamp(1, most);
    let fits = blocks(wanted);
    if fits >= BLOCKS.max(least) {
        let turns = turns(BLOCKS.max(least));
        Length { blocks: blocks(turns), turns }
    } else if fits >= least {
        Length { blocks: fits, turns: wanted }
    } else if blocks(1) >= least {
        Length { blocks: least, turns: turns(least) }
    } else {
        // Too little for an interval: then the more commits, the more quantiles.
        let blocks = blocks(1).max(1);
        Length { blocks, turns: turns(blocks) }
    }
}

/// Seconds that a length takes at this pace.
#[cfg(test)]
fn takes(length: Length, pace: Pace, arms: usize) -> f64 {
    (length.blocks * arms as u64) as f64 * (pace.lap + length.turns as f64 * pace.turn)
}

/// The most that the files take at one time. `beside`: what a subject may keep beside as many bytes
/// again as its file has; 0: nothing.
pub(crate) fn space(plan: &Plan, kinds: &[Kind], beside: impl Fn(&Kind) -> u64) -> u64 {
    let files = kinds.len() as u64 + 1; // one for the A/A
    let of_cell = |cell: &Conditions| {
        let turns = match plan.extent {
            Extent::Samples(samples) => of_samples(samples, kinds.len(), cell).turns,
            Extent::Time(_) => most_turns(cell),
        };
        let region = (cell.commits(turns) * cell.record as u64).next_multiple_of(4096);
        let file = region * cell.committers as u64;
        let own = kinds.iter().map(&beside).filter(|bytes| *bytes > 0);
        file * files + own.map(|bytes| bytes + file).sum::<u64>()
    };
    plan.cells.iter().map(of_cell).max().unwrap_or(0).max(plan.streams.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(record: usize, committers: usize) -> Conditions {
        Choice { direct: true, ..Choice::default() }.cell(record, FileState::Written, committers)
    }

    #[test]
    fn the_full_plan_has_every_size_and_state_and_up_to_64_committers() {
        let cells = Choice::default().cells();
        assert_eq!(cells.len(), 4 * 3 + 2 * 3);
        assert!(cells.iter().any(|cell| cell.committers == 64 && cell.record == 256));
        let quick = Choice { quick: true, ..Choice::default() }.cells();
        assert_eq!(quick.len(), 4);
    }

    #[test]
    fn what_was_asked_for_is_all_there() {
        let choice = Choice {
            records: vec![256, 4096],
            committers: vec![16],
            states: FileState::ALL.to_vec(),
            ..Choice::default()
        };
        let cells = choice.cells();
        assert_eq!(cells.len(), 6);
        for record in choice.records {
            for state in FileState::ALL {
                let same = |cell: &&Conditions| cell.record == record && cell.state == state;
                assert_eq!(cells.iter().filter(same).count(), 1, "{record} {state:?}");
            }
        }
    }

    #[test]
    fn as_many_samples_as_asked_for_whatever_the_record() {
        for record in [256, 4096, 1 << 20, 64 << 20] {
            for (committers, arms) in [(1, 1), (1, 2), (1, 19), (16, 25), (64, 9)] {
                for samples in [100, 2_000, 100_000] {
                    let cell = cell(record, committers);
                    let length = of_samples(samples, arms, &cell);
                    let turn = cell.burst * committers as u64;
                    let commits = length.blocks * arms as u64 * length.turns * turn;
                    assert!(commits >= samples, "{record} {committers} {arms}: {length:?}");
                    assert!(length.blocks * arms as u64 >= LEAST_LAPS);
                    assert!(
                        length.turns * turn * record as u64 <= LAP_BYTES.max(turn * record as u64)
                    );
                }
            }
        }
    }

    /// From a disk that takes 5 µs for a commit to one that takes a second.
    #[test]
    fn a_time_is_kept_on_every_disk_that_can_do_one_block_in_it() {
        for commit in [5e-6, 1e-4, 5e-3, 2e-2, 1.0] {
            for (committers, arms) in [(1, 2), (1, 10), (1, 25), (16, 10)] {
                for seconds in [1.0, 10.0, 60.0, 3600.0] {
                    let cell = cell(4096, committers);
                    let turn = commit * arms as f64 * cell.burst as f64;
                    let pace = Pace { lap: 0.002 * arms as f64 + 3.0 * turn, turn };
                    let length = of_time(seconds, pace, arms, &cell);
                    let least = Length { blocks: 1, turns: 1 };
                    assert!(
                        takes(length, pace, arms) <= seconds * 1.000_001 || length == least,
                        "{commit} {committers} {arms} {seconds}: {length:?}"
                    );
                    // No time is left unused where another block would fit.
                    let more = Length { blocks: length.blocks + 1, ..length };
                    let full =
                        length.turns < most_turns(&cell) || takes(more, pace, arms) > seconds;
                    assert!(full, "{commit} {arms} {seconds}: {length:?}");
                }
            }
        }
    }

    #[test]
    fn on_a_slow_disk_turns_of_many_get_shorter() {
        let (one, many) = (cell(4096, 1), cell(4096, 16));
        assert_eq!(burst_of_time(10.0, 0.001, 10, &one), 1);
        assert_eq!(burst_of_time(10.0, 0.001, 10, &many), BURST);
        assert_eq!(burst_of_time(10.0, 0.05, 10, &many), 3);
        assert_eq!(burst_of_time(0.0, 10.0, 10, &many), 1);
    }

    #[test]
    fn an_interval_comes_before_long_laps() {
        let pace = Pace { lap: 0.1, turn: 0.01 };
        let (arms, cell) = (10, cell(4096, 1));
        let length = of_time(10.0 * 3.0 * 0.12, pace, arms, &cell);
        assert_eq!(length.blocks, 3);
        assert!(length.turns < 10, "{length:?}");
    }

    #[test]
    fn what_a_log_keeps_beside_its_file_counts() {
        let kinds = writeflush_workloads::subject::kinds();
        let cells = vec![cell(4096, 1)];
        let plan = Plan { cells, streams: Streams::default(), extent: Extent::Samples(100) };
        assert!(space(&plan, &kinds[..2], |_| 0) < 1 << 20);
        let log = kinds[1].name;
        let beside = |kind: &Kind| if kind.name == log { 1 << 30 } else { 0 };
        assert!(space(&plan, &kinds[..2], beside) > 1 << 30);
        assert!(space(&plan, &kinds[..1], beside) < 1 << 20);
    }
}
