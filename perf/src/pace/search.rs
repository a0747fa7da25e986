//! The smallest memory that loses nothing. Pure: the takes are the caller's.
//!
//! A disk has good and bad moments, so that one take says little: the search goes up by doubling,
//! narrows down, and then takes again at the size that held and at the next smaller one. A size
//! with which any take lost something is never the answer, nor is one below it.

use std::collections::BTreeMap;

/// Where the search begins.
pub(crate) const LEAST: u64 = 64 << 10;
/// And ends, where there is memory enough.
pub(crate) const MOST: u64 = 1 << 30;
/// Takes at the size that is found, all without a loss, and at the next smaller one.
pub(crate) const CONFIRM: u32 = 3;
/// Takes of a search, at most.
pub(crate) const TAKES: u32 = 32;

/// The sizes that are tried: eight in each doubling.
#[derive(Clone, Copy, Debug)]
struct Grid {
    /// A multiple of 32 KiB, so that all sizes are multiples of 4096.
    least: u64,
    last: usize,
}

impl Grid {
    fn size(self, step: usize) -> u64 {
        (self.least / 8 * (8 + step as u64 % 8)) << (step / 8)
    }

    fn new(least: u64, most: u64) -> Self {
        let grid = Self { least, last: 0 };
        let fits = (1..).take_while(|step| grid.size(*step) <= most).last();
        Self { last: fits.unwrap_or(0), ..grid }
    }
}

/// Takes with one memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Takes {
    held: u32,
    lost: u32,
}

/// One search on its way.
#[derive(Debug)]
pub(crate) struct Search {
    grid: Grid,
    takes: BTreeMap<usize, Takes>,
    tried: Vec<(u64, u64)>,
}

/// What a search has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The smallest memory with which, and above which, no take lost anything.
    pub(crate) memory: Option<u64>,
    /// Takes with it.
    pub(crate) held: u32,
    /// The next smaller memory, the takes with it, and how many of them lost something.
    pub(crate) below: Option<(u64, u32, u32)>,
    /// The smallest memory with which any take at all lost nothing.
    pub(crate) least_held: Option<u64>,
    /// Whether there were as many takes as were wanted.
    pub(crate) confirmed: bool,
    /// Each take in order: memory, and bytes lost until it was given up.
    pub(crate) tried: Vec<(u64, u64)>,
}

/// Between which steps the answer lies.
enum Between {
    /// All that lost lie below, and the smallest that held above them.
    Steps { below: Option<usize>, holds: usize },
    /// Nothing above those that lost was tried; the highest of them.
    NoneHolds(Option<usize>),
}

impl Search {
    /// `least` is a multiple of 32 KiB.
    pub(crate) fn new(least: u64, most: u64) -> Self {
        Self { grid: Grid::new(least, most), takes: BTreeMap::new(), tried: Vec::new() }
    }

    /// The memory to try next. `None`: it has ended.
    pub(crate) fn next(&self) -> Option<u64> {
        if self.tried.len() as u32 >= TAKES {
            return None;
        }
        self.wanted().map(|step| self.grid.size(step))
    }

    /// How many takes may still come.
    pub(crate) fn takes_left(&self) -> u64 {
        self.next().map_or(0, |_| u64::from(TAKES) - self.tried.len() as u64)
    }

    fn wanted(&self) -> Option<usize> {
        let few = |step: usize| self.of(step).held + self.of(step).lost < CONFIRM;
        match self.between() {
            Between::NoneHolds(None) => Some(0),
            Between::NoneHolds(Some(fails)) if fails == self.grid.last => None,
            Between::NoneHolds(Some(fails)) => Some((fails + 8).min(self.grid.last)),
            Between::Steps { below: Some(below), holds } if holds - below > 1 => {
                Some(below.midpoint(holds))
            }
            Between::Steps { holds, .. } if few(holds) => Some(holds),
            Between::Steps { below, .. } => below.filter(|below| few(*below)),
        }
    }

    /// What came of it.
    pub(crate) fn saw(&mut self, memory: u64, lost_bytes: u64) {
        let step = (0..=self.grid.last).find(|step| self.grid.size(*step) == memory);
        let Some(step) = step else { return };
        let takes = self.takes.entry(step).or_default();
        match lost_bytes {
            0 => takes.held += 1,
            _ => takes.lost += 1,
        }
        self.tried.push((memory, lost_bytes));
    }

    pub(crate) fn found(self) -> Found {
        let least_held = self.takes.iter().find(|(_, takes)| takes.held > 0);
        let least_held = least_held.map(|(step, _)| self.grid.size(*step));
        let confirmed = self.wanted().is_none();
        let (memory, held, below) = match self.between() {
            Between::NoneHolds(_) => (None, 0, None),
            Between::Steps { below, holds } => {
                let below = below.map(|step| {
                    let takes = self.of(step);
                    (self.grid.size(step), takes.held + takes.lost, takes.lost)
                });
                (Some(self.grid.size(holds)), self.of(holds).held, below)
            }
        };
        Found { memory, held, below, least_held, confirmed, tried: self.tried }
    }

    fn of(&self, step: usize) -> Takes {
        self.takes.get(&step).copied().unwrap_or_default()
    }

    fn between(&self) -> Between {
        let below =
            self.takes.iter().rev().find(|(_, takes)| takes.lost > 0).map(|(step, _)| *step);
        let from = below.map_or(0, |below| below + 1);
        match self.takes.range(from..).next() {
            Some((&holds, _)) => Between::Steps { below, holds },
            None => Between::NoneHolds(below),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches where a take loses what `need`, asked anew for each, has more than the memory.
    fn search(most: u64, mut need: impl FnMut() -> u64) -> Found {
        let mut search = Search::new(LEAST, most);
        while let Some(memory) = search.next() {
            search.saw(memory, need().saturating_sub(memory));
        }
        search.found()
    }

    /// What has to be true of every outcome, by what was tried alone.
    fn is_sound(found: &Found) {
        assert!(found.tried.len() as u32 <= TAKES);
        let Some(memory) = found.memory else { return };
        let with = |memory: u64| found.tried.iter().filter(move |take| take.0 == memory);
        assert_eq!(with(memory).count() as u32, found.held);
        for (tried, lost) in &found.tried {
            assert!(*lost == 0 || *tried < memory, "{found:?}");
        }
        if let Some((below, takes, lost)) = found.below {
            assert!(below < memory && (memory as f64) < below as f64 * 1.13 || !found.confirmed);
            assert_eq!(with(below).count() as u32, takes);
            assert_eq!(with(below).filter(|take| take.1 > 0).count() as u32, lost);
            assert!(lost >= 1);
        }
        if found.confirmed {
            assert!(found.held >= CONFIRM, "{found:?}");
            assert!(found.below.is_none_or(|(_, takes, _)| takes >= CONFIRM), "{found:?}");
            assert!(found.below.is_some() || memory == LEAST, "{found:?}");
        }
    }

    #[test]
    fn without_noise_it_is_found_within_an_eighth_of_a_doubling() {
        for need in [LEAST + 1, 100_000, 1 << 20, 5_000_000, 300_000_000, MOST] {
            let found = search(MOST, || need);
            is_sound(&found);
            let memory = found.memory.unwrap();
            assert!(memory >= need && (memory as f64) < need as f64 * 1.13, "{need}: {memory}");
            assert!(memory.is_multiple_of(4096) && found.confirmed, "{found:?}");
            assert_eq!((found.held, found.below.unwrap().1, found.below.unwrap().2), (3, 3, 3));
            assert_eq!(found.least_held, found.memory);
        }
    }

    #[test]
    fn where_nothing_loses_the_smallest_is_taken_three_times() {
        let found = search(MOST, || 0);
        let tried = vec![(LEAST, 0); 3];
        let (memory, held, confirmed) = (Some(LEAST), 3, true);
        let expected =
            Found { memory, held, below: None, least_held: Some(LEAST), confirmed, tried };
        assert_eq!(found, expected);
    }

    #[test]
    fn where_everything_loses_it_ends_at_the_most() {
        let found = search(100 << 20, || u64::MAX);
        assert_eq!((found.memory, found.least_held, found.confirmed), (None, None, true));
        // The greatest of the grid is tried, and no more than the most that was allowed.
        assert_eq!(found.tried.last().unwrap().0, 96 << 20);
        assert!(found.tried.len() < 13, "{found:?}");
    }

    #[test]
    fn noise_moves_the_answer_and_never_makes_it_untrue() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut confirmed = 0;
        for _ in 0..2_000 {
            let need = random.u64(LEAST * 2..40 << 20);
            // Every take meets its own weather: a tenth up or down, and one in twenty twice that.
            let found = search(MOST, || {
                let weather = need as f64 * (0.9 + 0.2 * random.f64());
                if random.u8(..20) == 0 { need * 2 } else { weather as u64 }
            });
            is_sound(&found);
            let memory = found.memory.unwrap();
            assert!(memory as f64 > need as f64 * 0.9, "{need}: {found:?}");
            assert!((memory as f64) < need as f64 * 2.3, "{need}: {found:?}");
            assert!(found.least_held.unwrap() <= memory);
            confirmed += u32::from(found.confirmed);
        }
        assert!(confirmed > 1_900, "{confirmed}");
    }

    #[test]
    fn a_size_that_held_once_and_lost_later_is_not_the_answer() {
        let mut takes = 0;
        let found = search(MOST, || {
            takes += 1;
            // From the fifth take on the disk has become worse.
            if takes < 5 { 1 << 20 } else { 3 << 20 }
        });
        is_sound(&found);
        assert!(found.memory.unwrap() >= 3 << 20, "{found:?}");
    }

    #[test]
    fn a_search_that_never_settles_ends_unconfirmed() {
        let mut random = fastrand::Rng::with_seed(1);
        let unconfirmed = (0..200).map(|_| {
            let found = search(MOST, || random.u64(0..64 << 20));
            is_sound(&found);
            found.confirmed
        });
        assert!(unconfirmed.filter(|confirmed| !confirmed).count() > 0);
    }
}
