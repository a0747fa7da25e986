//! What happens to bytes that no buffer can take, and the record of those that were lost.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering, plain};

/// What [`write`](crate::Writer::write) does when there is no room for all the bytes.
///
/// `try_write` ignores the policy: it takes all bytes or says [`Full`](crate::Error::Full). The
/// calls that wait for the disk anyway (`write_flush`, grants aside) always wait for room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFull {
    /// Wait until there is room. Nothing is ever lost.
    #[default]
    Block,
    /// Wait at most this long, then [`Deadline`](crate::Error::Deadline).
    BlockFor(Duration),
    /// Fail at once with [`Full`](crate::Error::Full); the caller still has the bytes.
    Fail,
    /// Lose the bytes, count them, and record the position where they are missing: later bytes lie
    /// nearer to the start by as much. `std::io::Write` answers an error
    /// ([`Lost`](crate::Error::Lost)), so that an encoder that reckons with positions stops.
    Drop,
    /// Lose the bytes, count them, and later write as many of this byte in their place, so that
    /// the time line of the recording survives. At most four times the length of a call (64 KiB
    /// at the least) is filled by that call, so that catching up never costs a deadline.
    Fill(u8),
}

/// What became of the bytes that a call offered. Nobody has to look: bytes are lost only under a
/// policy that says so, and all that is lost is counted and has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// Accepted; the first byte is at this file position.
    Accepted(u64),
    /// Lost by the policy `Drop` or `Fill`; this many bytes.
    Lost(usize),
}

impl Push {
    /// The file position of the first byte, if the bytes were accepted.
    pub fn position(self) -> Option<u64> {
        match self {
            Self::Accepted(position) => Some(position),
            Self::Lost(_) => None,
        }
    }
}

/// One uninterrupted loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Overrun {
    /// The file position that the first lost byte would have had. Under `Fill` the fill bytes
    /// begin here, and so do those of a [`SharedGrant`](crate::SharedGrant) that was dropped; under
    /// `Drop` the next accepted byte is here.
    pub position: u64,
    /// Bytes lost.
    pub bytes: u64,
}

/// The losses of a stream. The counts are exact for ever; the places of the first
/// [`OverrunLog::PLACES`] losses are kept.
///
/// Producers write it without a lock. Each place is claimed by one compare-and-swap and then
/// grows in the hands of whoever loses bytes at the same position.
#[derive(Debug)]
pub(crate) struct OverrunLog {
    count: plain::AtomicU64,
    bytes: plain::AtomicU64,
    longest: plain::AtomicU64,
    /// `(position + 1, bytes)`; 0 for a free place.
    places: Box<[(plain::AtomicU64, plain::AtomicU64)]>,
    /// Bytes that the policy `Fill` still has to write.
    pub(crate) debt: AtomicU64,
}

impl Default for OverrunLog {
    fn default() -> Self {
        Self {
            count: plain::AtomicU64::new(0),
            bytes: plain::AtomicU64::new(0),
            longest: plain::AtomicU64::new(0),
            places: (0..Self::PLACES).map(|_| Default::default()).collect(),
            debt: AtomicU64::new(0),
        }
    }
}

impl OverrunLog {
    pub(crate) const PLACES: usize = 4096;

    /// Records that `bytes` were lost where the file had reached `position`. Returns at once: no
    /// lock, no allocation.
    ///
    /// Under `Fill` their place is behind the fill bytes that are owed already; as many more are
    /// owed now.
    pub(crate) fn lose(&self, position: u64, bytes: u64, policy: OnFull) {
        if bytes == 0 {
            return;
        }
        if let OnFull::Fill(_) = policy {
            let owed = self.owe(bytes);
            let place = position.saturating_add(owed);
            self.record(place, bytes, |at, lost| at.saturating_add(lost) == place);
        } else {
            self.record(position, bytes, |at, _| at == position);
        }
    }

    /// Returns what was owed before. Counts stop at their end, as those of the losses do.
    pub(crate) fn owe(&self, bytes: u64) -> u64 {
        let mut owed = self.debt.load(Ordering::Relaxed);
        while let Err(now) = self.debt.compare_exchange_weak(
            owed,
            owed.saturating_add(bytes),
            Ordering::AcqRel,
            Ordering::Relaxed,
        ) {
            owed = now;
        }
        owed
    }

    /// Records a loss at its place: as one with the last if it goes on from there.
    fn record(&self, position: u64, bytes: u64, goes_on: impl Fn(u64, u64) -> bool) {
        grow(&self.bytes, bytes);
        let key = position.saturating_add(1);
        let known = self.count.load(Ordering::Acquire).min(Self::PLACES as u64) as usize;
        // The last place first: a loss goes on where it began.
        for (at, lost) in self.places[known.saturating_sub(1)..].iter() {
            match at.compare_exchange(0, key, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.count.fetch_add(1, Ordering::AcqRel);
                    grow(lost, bytes);
                    self.longest.fetch_max(bytes, Ordering::Relaxed);
                    return;
                }
                Err(at) if goes_on(at - 1, lost.load(Ordering::Acquire)) => {
                    let all = grow(lost, bytes);
                    self.longest.fetch_max(all, Ordering::Relaxed);
                    return;
                }
                Err(_) => {}
            }
        }
        self.count.fetch_add(1, Ordering::AcqRel);
        self.longest.fetch_max(bytes, Ordering::Relaxed);
    }

    /// (losses, bytes, longest loss in bytes)
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let get = |figure: &plain::AtomicU64| figure.load(Ordering::Acquire);
        (get(&self.count), get(&self.bytes), get(&self.longest))
    }

    pub(crate) fn places(&self) -> Vec<Overrun> {
        let places = self
            .places
            .iter()
            .map(|(at, lost)| (at.load(Ordering::Acquire), lost.load(Ordering::Acquire)));
        let known = places.take_while(|&(key, _)| key != 0);
        known.map(|(key, bytes)| Overrun { position: key - 1, bytes }).collect()
    }
}

/// Adds, as far as the number goes; returns the sum.
fn grow(figure: &plain::AtomicU64, by: u64) -> u64 {
    let mut before = figure.load(Ordering::Relaxed);
    loop {
        let sum = before.saturating_add(by);
        match figure.compare_exchange_weak(before, sum, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return sum,
            Err(now) => before = now,
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_loss_of_nothing_is_none_and_counts_stop_at_their_end() {
        for policy in [OnFull::Drop, OnFull::Fill(0)] {
            let log = OverrunLog::default();
            log.lose(100, 0, policy);
            assert_eq!((log.totals(), log.places().len()), ((0, 0, 0), 0));
            log.lose(100, u64::MAX, policy);
            log.lose(100, u64::MAX, policy);
            let (_, bytes, longest) = log.totals();
            assert_eq!((bytes, longest), (u64::MAX, u64::MAX));
            assert_eq!(log.places()[0], Overrun { position: 100, bytes: u64::MAX });
            let owed = if policy == OnFull::Drop { 0 } else { u64::MAX };
            assert_eq!(log.debt.into_inner(), owed);
        }
    }

    #[test]
    fn losses_at_one_position_are_one_loss() {
        let log = OverrunLog::default();
        log.lose(100, 10, OnFull::Drop);
        log.lose(100, 20, OnFull::Drop);
        log.lose(130, 5, OnFull::Drop); // behind 30 bytes that were accepted
        assert_eq!(log.totals(), (2, 35, 30));
        let expected = [Overrun { position: 100, bytes: 30 }, Overrun { position: 130, bytes: 5 }];
        assert_eq!(log.places(), expected);
    }

    /// Fill bytes that are owed lie before a loss, whether they are laid down already or not.
    #[test]
    fn a_loss_before_all_is_filled_goes_on_where_the_last_ends() {
        let log = OverrunLog::default();
        let fill = OnFull::Fill(0);
        log.lose(100, 50, fill);
        log.lose(100, 5, fill);
        log.debt.fetch_sub(30, Ordering::AcqRel); // laid down
        log.lose(130, 5, fill);
        log.debt.fetch_sub(30, Ordering::AcqRel);
        log.lose(170, 1, fill); // behind ten bytes that were accepted
        let expected = [Overrun { position: 100, bytes: 60 }, Overrun { position: 170, bytes: 1 }];
        assert_eq!(log.places(), expected);
        assert_eq!(log.totals(), (2, 61, 60));
        assert_eq!(log.debt.into_inner(), 1);
    }

    #[test]
    fn counts_go_on_when_the_places_are_full() {
        let log = OverrunLog::default();
        let losses = OverrunLog::PLACES as u64 + 100;
        (0..losses).for_each(|i| log.lose(i * 10, 1, OnFull::Drop));
        assert_eq!(log.totals(), (losses, losses, 1));
        assert_eq!(log.places().len(), OverrunLog::PLACES);
    }
}
