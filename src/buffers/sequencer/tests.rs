//! Reservations, copies in progress and laps, one thread at a time and many at once.

use super::*;
use proptest::prelude::*;
use std::sync::Arc;

const CELL: u64 = Sequencer::CELL;

#[test]
fn an_exclusive_producer_is_stopped_at_the_limit() {
    let sequencer = Sequencer::new(0, 0, 2 * CELL);
    assert_eq!(sequencer.room(0, 2 * CELL), Ok(()));
    assert_eq!(sequencer.room(1, 2 * CELL), Err(Refused::Full { free: 2 * CELL - 1 }));
    sequencer.release(CELL + 10);
    assert_eq!(sequencer.room(CELL, 2 * CELL), Ok(()));
    assert!(sequencer.room(CELL + 1, 2 * CELL).is_err());
    sequencer.stop();
    assert_eq!(sequencer.room(10, 1), Err(Refused::Stopped));
}

#[test]
fn a_remembered_limit_grows_and_ends_with_the_stream() {
    let sequencer = Sequencer::new(0, 0, 2 * CELL);
    let mut seen = 0;
    assert_eq!(sequencer.room_within(&mut seen, 0, 2 * CELL), Ok(()));
    assert_eq!(seen, 2 * CELL);
    assert_eq!(sequencer.room_within(&mut seen, CELL, 2 * CELL), Err(Refused::Full { free: CELL }));
    sequencer.release(CELL);
    assert_eq!(sequencer.room_within(&mut seen, CELL, 2 * CELL), Ok(()));
    assert_eq!(seen, 3 * CELL);
    sequencer.stop();
    assert_eq!(sequencer.room_within(&mut seen, CELL, 1), Err(Refused::Stopped));
    assert_eq!(sequencer.room_within(&mut seen, CELL, 1), Err(Refused::Stopped));
}

#[test]
fn a_copy_in_progress_holds_back_committed_and_only_that() {
    let sequencer = Sequencer::new(100, 0, 4 * CELL);
    sequencer.share();
    let slow = sequencer.try_reserve(50).unwrap();
    let quick = sequencer.try_reserve(70).unwrap();
    assert_eq!((slow, quick), (100, 150));
    sequencer.commit_shared(quick, 70);
    assert_eq!(sequencer.advance(), 100);
    sequencer.commit_shared(slow, 50);
    assert_eq!(sequencer.advance(), 220);
    assert_eq!(sequencer.accepted(), 220);
}

#[test]
fn shut_lets_granted_reservations_finish() {
    let sequencer = Sequencer::new(0, 0, CELL);
    sequencer.share();
    let at = sequencer.try_reserve(10).unwrap();
    assert_eq!(sequencer.shut(), 10);
    assert_eq!(sequencer.try_reserve(1), Err(Refused::Stopped));
    assert_eq!(sequencer.reserve_ahead(1), Err(Refused::Stopped));
    sequencer.commit_shared(at, 10);
    assert_eq!(sequencer.advance(), 10);
}

#[test]
fn a_reservation_longer_than_the_ring_is_taken_ahead() {
    let sequencer = Sequencer::new(0, 0, CELL);
    sequencer.share();
    assert_eq!(sequencer.reserve_ahead(3 * CELL), Ok(0));
    assert_eq!(sequencer.try_reserve(1), Err(Refused::Full { free: 0 }));
    for piece in 0..3 {
        assert_eq!(sequencer.room(piece * CELL, CELL), Ok(()));
        sequencer.commit_shared(piece * CELL, CELL);
        assert_eq!(sequencer.advance(), (piece + 1) * CELL);
        sequencer.release((piece + 1) * CELL);
    }
}

proptest! {
    /// Whatever order copies end in, `committed` is exactly the prefix that has been copied,
    /// or stays behind it by less than a cell.
    #[test]
    fn committed_is_a_copied_prefix(
        start in 0..3 * CELL,
        lens in prop::collection::vec(1..2 * CELL, 1..40),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 120),
    ) {
        let capacity = 8 * CELL;
        let sequencer = Sequencer::new(start, start, capacity);
        sequencer.share();
        let mut open: Vec<(u64, u64)> = Vec::new();
        let mut lens = lens.into_iter();
        let mut next = start;
        for pick in picks {
            let reserve = open.is_empty() || pick.index(2) == 0;
            let reserved = reserve.then(|| lens.next()).flatten()
                .and_then(|len| Some((sequencer.try_reserve(len).ok()?, len)));
            if let Some((at, len)) = reserved {
                prop_assert_eq!(at, next);
                next += len;
                open.push((at, len));
            } else if !open.is_empty() {
                let (at, len) = open.swap_remove(pick.index(open.len()));
                sequencer.commit_shared(at, len);
            }
            let prefix = open.iter().map(|&(at, _)| at).min().unwrap_or(next);
            let committed = sequencer.advance();
            prop_assert!(committed <= prefix, "{} > {}", committed, prefix);
            prop_assert!(prefix - committed < CELL);
            if open.is_empty() {
                prop_assert_eq!(committed, next);
            }
            sequencer.release(committed);
        }
    }
}

#[test]
fn many_threads_lose_nothing_and_share_nothing() {
    let sequencer = Arc::new(Sequencer::new(5, 5, 64 * CELL));
    sequencer.share();
    let threads: Vec<_> = (1..5u64)
        .map(|len| {
            let sequencer = sequencer.clone();
            std::thread::spawn(move || {
                let mut taken = Vec::new();
                while taken.len() < 2000 {
                    if let Ok(at) = sequencer.try_reserve(len * 7) {
                        sequencer.commit_shared(at, len * 7);
                        taken.push((at, len * 7));
                    }
                    let committed = sequencer.advance();
                    raise(&sequencer.limit, committed + 64 * CELL, Ordering::AcqRel);
                }
                taken
            })
        })
        .collect();
    let mut all: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    all.sort_unstable();
    let end = all.iter().fold(5, |at, &(from, len)| {
        assert_eq!(at, from);
        from + len
    });
    assert_eq!(sequencer.advance(), end);
}
