//! What a disk was asked, in order, and what it may hold after a power cut. Pure.
//!
//! The rule is that of dm-log-writes. One counter stamps the arrival and the completion of every
//! write and flush. A write is durable only if it completed before the arrival of a flush that
//! itself completed before the cut; every other write that has arrived may be there, or not, or in
//! part.

use serde::{Deserialize, Serialize};

/// A moment: the number of stamps given before it.
pub(crate) type Moment = u32;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Log {
    pub(crate) writes: Vec<Write>,
    pub(crate) flushes: Vec<Flush>,
    pub(crate) claims: Vec<Claim>,
    pub(crate) end: Moment,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Write {
    pub(crate) at: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) arrived: Moment,
    pub(crate) completed: Option<Moment>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Flush {
    pub(crate) arrived: Moment,
    pub(crate) completed: Option<Moment>,
}

/// What the program under test says that it has achieved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) said: Moment,
    pub(crate) text: String,
}

/// The writes at the moment of a cut, as indices in the order of their arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) durable: Vec<usize>,
    pub(crate) volatile: Vec<usize>,
}

/// What became of the volatile writes in one outcome of a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Writes that are there, in the order of their arrival.
    pub(crate) kept: Vec<usize>,
    /// One more that is there in part: its sectors, one bit each, repeating.
    pub(crate) torn: Option<(usize, u64)>,
}

/// All subsets of so many volatile writes are tried; of more, a choice.
const ALL_SUBSETS: usize = 6;
/// So many are dropped, and kept, one by one.
const ONE_BY_ONE: usize = 24;
/// Random subsets among the choice.
const RANDOM: usize = 8;

impl Log {
    /// What is durable and what is not if the power goes after `cut` stamps.
    pub(crate) fn cut(&self, cut: Moment) -> Cut {
        let before = |moment: Option<Moment>| moment.is_some_and(|moment| moment < cut);
        let flushed = self.flushes.iter().filter(|flush| before(flush.completed));
        let fence = flushed.map(|flush| flush.arrived).max().unwrap_or(0);
        let mut found = Cut::default();
        for (index, write) in self.writes.iter().enumerate() {
            if write.arrived >= cut {
                continue;
            }
            match write.completed {
                Some(completed) if completed < fence => found.durable.push(index),
                _ => found.volatile.push(index),
            }
        }
        found
    }

    /// What was claimed before a cut.
    pub(crate) fn claims(&self, cut: Moment) -> impl Iterator<Item = &str> {
        self.claims.iter().filter(move |claim| claim.said < cut).map(|claim| claim.text.as_str())
    }
}

impl Cut {
    /// Outcomes that are worth a look: every subset of a few volatile writes, or none, all, each
    /// dropped, each alone and some at random; and one torn write.
    pub(crate) fn outcomes(&self, random: &mut fastrand::Rng) -> Vec<Outcome> {
        let volatile = &self.volatile;
        let count = volatile.len();
        let mut kept: Vec<Vec<usize>> = Vec::new();
        if count <= ALL_SUBSETS {
            let subset = |bits: usize| {
                let chosen = volatile.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
                chosen.map(|(_, write)| *write).collect()
            };
            kept.extend((0..1usize << count).map(subset));
        } else {
            kept.push(Vec::new());
            kept.push(volatile.clone());
            for write in random.choose_multiple(volatile.iter().copied(), ONE_BY_ONE) {
                kept.push(volatile.iter().copied().filter(|other| *other != write).collect());
                kept.push(vec![write]);
            }
            for _ in 0..RANDOM {
                kept.push(volatile.iter().copied().filter(|_| random.bool()).collect());
            }
        }
        let whole = |kept| Outcome { kept, torn: None };
        let mut outcomes: Vec<Outcome> = kept.into_iter().map(whole).collect();
        if let Some(torn) = random.choice(volatile.iter().copied()) {
            let others = volatile.iter().copied().filter(|other| *other != torn);
            let kept = others.filter(|_| random.bool()).collect();
            let sectors = random.u64(..);
            outcomes.push(Outcome { kept, torn: Some((torn, sectors)) });
        }
        outcomes
    }
}

impl Outcome {
    /// Something that arrived later is there, whole or in part, and something earlier is not.
    /// `volatile` in the order of arrival.
    pub(crate) fn is_reordered(&self, volatile: &[usize]) -> bool {
        let torn = self.torn.map(|(write, _)| write);
        let shows = |write: &usize| self.kept.contains(write) || torn == Some(*write);
        let missing = volatile.iter().position(|write| !shows(write));
        missing.is_some_and(|first| volatile[first..].iter().any(shows))
    }

    /// One write is there in part: some of its sectors, and not all.
    pub(crate) fn is_torn(&self, log: &Log, sector: impl Fn(u64) -> usize) -> bool {
        self.torn.is_some_and(|(index, sectors)| {
            let write = &log.writes[index];
            let count = write.bytes.len().div_ceil(sector(write.at));
            let kept = (0..count).filter(|number| sectors >> (number % 64) & 1 == 1).count();
            (1..count).contains(&kept)
        })
    }

    /// The pieces of the log that reach the image: offset and bytes, in the order of arrival.
    /// `sector` is what of a write at an offset a device writes whole.
    pub(crate) fn pieces<'a>(
        &self,
        log: &'a Log,
        sector: impl Fn(u64) -> usize,
    ) -> Vec<(u64, &'a [u8])> {
        let torn = self.torn.map(|(write, _)| write);
        let mut writes: Vec<usize> = self.kept.iter().copied().chain(torn).collect();
        writes.sort_unstable();
        let mut pieces = Vec::new();
        for index in writes {
            let write = &log.writes[index];
            match self.torn {
                Some((torn, sectors)) if torn == index => {
                    let sector = sector(write.at);
                    let parts = write.bytes.chunks(sector).enumerate();
                    let kept = parts.filter(|(number, _)| sectors >> (number % 64) & 1 == 1);
                    pieces.extend(kept.map(|(n, bytes)| (write.at + (n * sector) as u64, bytes)));
                }
                _ => pieces.push((write.at, &write.bytes[..])),
            }
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(at: u64, arrived: Moment, completed: Moment) -> Write {
        Write { at, bytes: vec![at as u8; 1024], arrived, completed: Some(completed) }
    }

    #[test]
    fn only_what_completed_before_a_flush_arrived_is_durable() {
        let log = Log {
            writes: vec![write(0, 0, 1), write(1, 2, 5), write(2, 7, 9)],
            flushes: vec![Flush { arrived: 3, completed: Some(6) }],
            claims: vec![Claim { said: 8, text: "claim".into() }],
            end: 10,
        };
        // The flush is not through yet.
        assert_eq!(log.cut(6), Cut { durable: vec![], volatile: vec![0, 1] });
        // It covers what had completed when it arrived, not the write in flight.
        assert_eq!(log.cut(7), Cut { durable: vec![0], volatile: vec![1] });
        assert_eq!(log.cut(8), Cut { durable: vec![0], volatile: vec![1, 2] });
        assert_eq!((log.claims(8).count(), log.claims(9).count()), (0, 1));
    }

    #[test]
    fn a_flush_that_never_came_back_makes_nothing_durable() {
        let flushes = vec![Flush { arrived: 2, completed: None }];
        let log = Log { writes: vec![write(0, 0, 1)], flushes, claims: vec![], end: 3 };
        assert_eq!(log.cut(3), Cut { durable: vec![], volatile: vec![0] });
    }

    #[test]
    fn outcomes_cover_every_subset_of_a_few() {
        let mut random = fastrand::Rng::with_seed(1);
        let cut = Cut { durable: vec![], volatile: vec![3, 5, 9] };
        let outcomes = cut.outcomes(&mut random);
        assert_eq!(outcomes.iter().filter(|outcome| outcome.torn.is_none()).count(), 8);
        assert!(outcomes.iter().any(|outcome| outcome.torn.is_some()));
        let many = Cut { durable: vec![], volatile: (0..20).collect() };
        assert!(many.outcomes(&mut random).len() >= 2 + 40);
    }

    #[test]
    fn an_outcome_is_reordered_if_something_older_is_missing_and_torn_if_a_part_is() {
        let log = Log {
            writes: vec![write(0, 0, 2), write(8, 1, 3)],
            flushes: vec![],
            claims: vec![],
            end: 4,
        };
        let of = |kept: &[usize], torn| Outcome { kept: kept.into(), torn };
        let reordered = |kept: &[usize], torn| of(kept, torn).is_reordered(&[0, 1]);
        assert!(reordered(&[1], None) && reordered(&[], Some((1, 1))));
        assert!(!reordered(&[], None) && !reordered(&[0], None) && !reordered(&[0, 1], None));
        assert!(!reordered(&[0], Some((1, 1))) && !reordered(&[1], Some((0, 1))));
        let torn = |sectors, size: usize| of(&[], Some((0, sectors))).is_torn(&log, |_| size);
        assert!(torn(0b01, 512) && torn(0b10, 512));
        assert!(!torn(0b11, 512) && !torn(0b00, 512) && !torn(0b01, 4096));
    }

    #[test]
    fn a_torn_write_is_there_in_part() {
        let log = Log { writes: vec![write(8, 0, 1)], flushes: vec![], claims: vec![], end: 2 };
        let torn = |sectors| Outcome { kept: vec![], torn: Some((0, sectors)) };
        assert_eq!(torn(0b10).pieces(&log, |_| 512), [(8 + 512, &[8; 512][..])]);
        assert_eq!(torn(0b11).pieces(&log, |_| 512).len(), 2);
        assert_eq!(torn(0b1).pieces(&log, |_| 4096), [(8, &[8; 1024][..])]);
    }
}
