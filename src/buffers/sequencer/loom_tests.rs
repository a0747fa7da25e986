//! Every interleaving of small programs, under the memory model of the language: the bytes of a
//! reservation are cells that loom watches for races.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib loom_tests`
#![allow(unsafe_code)]

use super::*;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

const CELL: u64 = Sequencer::CELL;
/// The grain of these programs: reservations are multiples of it, and loom watches each grain.
const GRAIN: u64 = CELL / 2;

struct Ring {
    sequencer: Sequencer,
    grains: Vec<UnsafeCell<u64>>,
}

impl Ring {
    fn new(capacity: u64) -> Arc<Self> {
        let sequencer = Sequencer::new(0, 0, capacity);
        let grains = (0..capacity / GRAIN).map(|_| UnsafeCell::new(0)).collect();
        Arc::new(Self { sequencer, grains })
    }

    fn shared(capacity: u64) -> Arc<Self> {
        let ring = Self::new(capacity);
        ring.sequencer.share();
        ring
    }

    fn grain(&self, position: u64) -> &UnsafeCell<u64> {
        &self.grains[(position / GRAIN) as usize % self.grains.len()]
    }

    /// As a producer: writes each grain's position into it.
    fn fill(&self, from: u64, len: u64) {
        for position in (from..from + len).step_by(GRAIN as usize) {
            // SAFETY: reserved by this thread; loom reports it if that is not so.
            self.grain(position).with_mut(|grain| unsafe { *grain = position + 1 });
        }
    }

    fn push(&self, len: u64) -> Result<u64, Refused> {
        let from = self.sequencer.try_reserve(len)?;
        self.fill(from, len);
        self.sequencer.commit_shared(from, len);
        Ok(from)
    }

    /// As the driver: reads what is committed from `at` on.
    fn take(&self, at: u64) -> u64 {
        let committed = self.sequencer.advance();
        self.check(at, committed);
        committed
    }

    fn check(&self, at: u64, committed: u64) {
        for position in (at..committed).step_by(GRAIN as usize) {
            // SAFETY: committed, and not yet released; loom reports it if that is not so.
            let grain = self.grain(position).with(|grain| unsafe { *grain });
            assert_eq!(grain, position + 1);
        }
    }
}

#[test]
fn what_is_committed_has_been_copied() {
    loom::model(|| {
        let ring = Ring::shared(2 * CELL);
        let producers: Vec<_> = [GRAIN, 2 * GRAIN]
            .map(|len| {
                let ring = ring.clone();
                thread::spawn(move || ring.push(len).unwrap())
            })
            .into();
        let committed = ring.take(0);
        for producer in producers {
            producer.join().unwrap();
        }
        assert_eq!(ring.take(committed), 3 * GRAIN);
    });
}

/// The memory of one lap is written by the next only when the driver has released it.
#[test]
fn a_lap_never_overtakes_the_driver() {
    loom::model(|| {
        let ring = Ring::shared(CELL);
        let producer = {
            let ring = ring.clone();
            thread::spawn(move || {
                assert_eq!(ring.push(2 * GRAIN), Ok(0));
                while ring.push(GRAIN).is_err() {
                    thread::yield_now();
                }
            })
        };
        let mut at = 0;
        while at < 2 * GRAIN {
            at = ring.take(at);
            thread::yield_now();
        }
        ring.sequencer.release(at);
        producer.join().unwrap();
        assert_eq!(ring.take(at), 3 * GRAIN);
    });
}

/// Two threads that settle at once (a fence's asker and the driver) agree.
#[test]
fn anybody_may_advance() {
    loom::model(|| {
        let ring = Ring::shared(2 * CELL);
        let producer = {
            let ring = ring.clone();
            thread::spawn(move || ring.push(GRAIN).unwrap())
        };
        let asker = {
            let ring = ring.clone();
            thread::spawn(move || ring.sequencer.advance())
        };
        let before = ring.sequencer.committed();
        ring.check(0, before);
        producer.join().unwrap();
        asker.join().unwrap();
        assert_eq!(ring.take(before), GRAIN);
    });
}

#[test]
fn an_exclusive_push_is_seen_whole() {
    loom::model(|| {
        let ring = Ring::new(CELL);
        let producer = {
            let ring = ring.clone();
            thread::spawn(move || {
                for from in [0, GRAIN] {
                    ring.sequencer.room(from, GRAIN).unwrap();
                    ring.fill(from, GRAIN);
                    ring.sequencer.commit_exclusive(from + GRAIN);
                }
            })
        };
        ring.check(0, ring.sequencer.committed());
        producer.join().unwrap();
        ring.check(0, 2 * GRAIN);
    });
}

/// The end comes while the only producer is in the midst of a push: once it has left, `committed` is
/// all that it was ever granted.
#[test]
fn whoever_has_left_has_committed_all_that_it_was_granted() {
    loom::model(|| {
        let ring = Ring::new(2 * CELL);
        let producer = {
            let ring = ring.clone();
            thread::spawn(move || {
                let (mut at, mut seen) = (0, 0);
                while at < 3 * GRAIN && ring.sequencer.room_within(&mut seen, at, GRAIN).is_ok() {
                    ring.fill(at, GRAIN);
                    at += GRAIN;
                    ring.sequencer.commit_exclusive(at);
                }
                ring.sequencer.leave();
                at
            })
        };
        ring.sequencer.stop();
        let end = ring.sequencer.has_left().then(|| ring.sequencer.committed());
        ring.check(0, end.unwrap_or(0));
        let granted = producer.join().unwrap();
        assert!(end.is_none_or(|end| end == granted));
    });
}

/// After `shut` nothing is granted, and what was granted before is in the final position.
#[test]
fn shut_and_reserve_agree() {
    loom::model(|| {
        let ring = Ring::shared(2 * CELL);
        let producer = {
            let ring = ring.clone();
            thread::spawn(move || ring.push(GRAIN).is_ok())
        };
        let end = ring.sequencer.shut();
        let taken = producer.join().unwrap();
        assert_eq!(end, if taken { GRAIN } else { 0 });
        assert_eq!(ring.take(0), end);
    });
}

/// A reservation longer than the ring, filled piece by piece as the driver makes room.
#[test]
fn a_long_reservation_waits_for_each_of_its_pieces() {
    loom::model(|| {
        let ring = Ring::shared(CELL);
        let producer = {
            let ring = ring.clone();
            thread::spawn(move || {
                let from = ring.sequencer.reserve_ahead(3 * GRAIN).unwrap();
                for at in (from..from + 3 * GRAIN).step_by(GRAIN as usize) {
                    while ring.sequencer.room(at, GRAIN).is_err() {
                        thread::yield_now();
                    }
                    ring.fill(at, GRAIN);
                    ring.sequencer.commit_shared(at, GRAIN);
                }
            })
        };
        let mut at = 0;
        while at < 3 * GRAIN {
            at = ring.take(at);
            ring.sequencer.release(at);
            thread::yield_now();
        }
        producer.join().unwrap();
    });
}
