//! Threads that close what others use.

use super::*;

const RECORD: usize = 500;

fn record(thread: u8, number: u64) -> [u8; RECORD] {
    let mut record = [thread + 1; RECORD];
    record[1..9].copy_from_slice(&number.to_le_bytes());
    record
}

/// Every record that was taken is in the file, whole, in its thread's order; no other is.
#[track_caller]
fn assert_records(path: &Path, durable: u64, taken: &[u64]) {
    let file = std::fs::read(path).unwrap();
    assert_eq!(file.len() as u64, durable);
    let mut next = vec![0; taken.len()];
    for found in file.chunks(RECORD) {
        let thread = found[0] - 1;
        assert_eq!(found, record(thread, next[usize::from(thread)]));
        next[usize::from(thread)] += 1;
    }
    assert_eq!(next, taken);
}

#[test]
fn a_close_while_threads_push_and_wait() {
    let _alone = alone();
    for options in [small(), still(), wf_options { backend: WF_BACKEND_AUTO, ..small() }] {
        watched(move || (0..20).for_each(|round| close_amid(options, round)));
    }
}

fn close_amid(options: wf_options, round: u64) {
    const THREADS: u8 = 3;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("take");
    let writer = open_at(&path, options);
    let (closed, pushed) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut durable = 0;
    let taken: Vec<u64> = std::thread::scope(|scope| {
        let pushers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let pushed = &pushed;
                scope.spawn(move || {
                    let refused = |&number: &u64| match write(writer, &record(thread, number)) {
                        WF_OK => {
                            pushed.fetch_add(1, Ordering::SeqCst);
                            false
                        }
                        status => {
                            assert_eq!(status, WF_CLOSED, "{}", last_error());
                            true
                        }
                    };
                    (0..).find(refused).unwrap_or(0)
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(|| {
                let mut ticket = wf_ticket::default();
                // SAFETY: a live place.
                while unsafe { wf_fence(writer, &raw mut ticket) } == WF_OK {
                    let status = wf_wait(writer, ticket, -1);
                    assert!(matches!(status, WF_OK | WF_CLOSED), "{status:?} {}", last_error());
                }
            });
        }
        // The buffers are full again and again; two threads close in the middle of it.
        while pushed.load(Ordering::SeqCst) < 20 + 7 * round {
            std::thread::yield_now();
        }
        let closers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| match close(writer) {
                    (WF_OK, durable) => {
                        closed.fetch_add(1, Ordering::SeqCst);
                        durable
                    }
                    (status, _) => {
                        assert_eq!(status, WF_CLOSED);
                        0
                    }
                })
            })
            .collect();
        durable = closers.into_iter().map(|closer| closer.join().unwrap()).max().unwrap();
        pushers.into_iter().map(|pusher| pusher.join().unwrap()).collect()
    });
    assert_eq!(closed.into_inner(), 1, "exactly one closes it");
    assert_records(&path, durable, &taken);
}

/// A writer for one producer refuses the second instead of racing with it, and is not closed under
/// a grant.
#[test]
fn a_close_while_one_producer_fills_grants() {
    let _alone = alone();
    watched(|| {
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("take");
            let writer = open_at(&path, wf_options { producers: WF_PRODUCERS_ONE, ..small() });
            let (taken, durable) = std::thread::scope(|scope| {
                let producer = scope.spawn(|| {
                    let mut number = 0;
                    loop {
                        match grant(writer, &record(0, number)) {
                            WF_OK => number += 1,
                            WF_FULL | WF_BUSY => std::thread::yield_now(),
                            WF_CLOSED => return number,
                            status => panic!("{status:?} {}", last_error()),
                        }
                    }
                });
                while positions(writer).accepted < 20_000 {
                    std::thread::yield_now();
                }
                loop {
                    match close(writer) {
                        (WF_BUSY, _) => {}
                        (status, durable) => {
                            assert_eq!(status, WF_OK, "{}", last_error());
                            return (producer.join().unwrap(), durable);
                        }
                    }
                }
            });
            assert_records(&path, durable, &[taken]);
        }
    });
}

#[test]
fn a_second_producer_is_refused_while_the_first_is_inside() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let writer = open_at(&dir.path().join("take"), wf_options { producers: 1, ..small() });
    with(writer, |open| {
        let Producer::One(one) = &open.producer else { unreachable!() };
        let _inside = one.enter();
        assert_eq!([write(writer, b"x"), try_write(writer, b"x")], [WF_BUSY; 2]);
        assert_eq!([wf_lose(writer, 1), grant(writer, b"x"), close(writer).0], [WF_BUSY; 3]);
        assert_eq!(flush(writer), WF_OK, "who only flushes is no producer");
        WF_OK
    });
    assert_eq!(grant(writer, b"now"), WF_OK);
    assert_eq!(close(writer), (WF_OK, 3));
}
