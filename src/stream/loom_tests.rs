//! Who wakes whom, in every interleaving and memory order of two or three threads.

use super::*;
use crate::backend::{Bell, Wake};
use crate::sync::{AtomicBool, AtomicU64, Ordering, model, thread};

const CELL: u64 = Sequencer::CELL;

/// A stream whose driver sleeps on a bell.
fn stream() -> (Arc<Stream>, Arc<Bell>) {
    stream_of(1)
}

/// The last of so many that share a driver.
fn stream_of(streams: usize) -> (Arc<Stream>, Arc<Bell>) {
    let bell = Arc::new(Bell::default());
    let memory = Memory::new(CELL as usize, 2, 0, Memory::ALIGN).unwrap();
    let doorbell = Arc::new(Doorbell::new(bell.clone(), streams));
    let at = (doorbell, streams - 1);
    (Arc::new(Stream::new(Path::new("take").into(), memory, (0, 0), at)), bell)
}

/// As the driver: sleeps until it finds what it looks for.
fn sleep_until(stream: &Stream, bell: &Bell, found: impl Fn() -> bool) {
    loop {
        stream.doorbell.going_to_sleep();
        let ready = found();
        if !ready {
            bell.wait(None, || false);
        }
        stream.doorbell.awake();
        if ready {
            return;
        }
    }
}

#[test]
fn a_driver_that_sleeps_hears_of_every_request() {
    model(|| {
        let (stream, bell) = stream();
        let fence = {
            let stream = stream.clone();
            thread::spawn(move || stream.want_durable(7, 0))
        };
        let drain = {
            let stream = stream.clone();
            thread::spawn(move || stream.want_written(5))
        };
        let all = || stream.wanted() == Wanted { written: 5, durable: 7, patches: 0 };
        sleep_until(&stream, &bell, all);
        fence.join().unwrap();
        drain.join().unwrap();
    });
}

/// It looks at a stream only where that has rung since its last look.
#[test]
fn a_driver_of_many_hears_who_has_rung() {
    model(|| {
        let (stream, bell) = stream_of(2);
        let others = [(7, 0), (0, 5)].map(|(durable, written)| {
            let stream = stream.clone();
            thread::spawn(move || match durable {
                0 => stream.want_written(written),
                _ => stream.want_durable(durable, 0),
            })
        });
        sleep_until(&stream, &bell, || {
            let mut rung = 0;
            stream.doorbell.take_rung(|_, streams| rung |= streams);
            rung == 2 && stream.wanted() == Wanted { written: 5, durable: 7, patches: 0 }
        });
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

/// A bell that is heard where the driver sleeps, and nowhere else.
#[derive(Debug, Default)]
struct TwoEars {
    apart: AtomicBool,
    beside: Bell,
    backend: Bell,
}

impl TwoEars {
    fn ear(&self, apart: bool) -> &Bell {
        if apart { &self.beside } else { &self.backend }
    }
}

impl Wake for TwoEars {
    fn wake(&self) {
        self.ear(self.apart.load(Ordering::Relaxed)).wake();
    }

    fn goes_apart(&self, apart: bool) {
        self.apart.store(apart, Ordering::Relaxed);
    }
}

/// Its first sleep ends by itself, while somebody rings for that; its second is elsewhere.
#[test]
fn a_driver_that_sleeps_elsewhere_by_now_is_woken_there() {
    for first_apart in [false, true] {
        model(move || {
            let ears = Arc::new(TwoEars::default());
            let doorbell = Arc::new(Doorbell::new(ears.clone(), 1));
            let asked = Arc::new(AtomicU64::new(0));
            let asker = {
                let (doorbell, asked) = (doorbell.clone(), asked.clone());
                thread::spawn(move || {
                    asked.store(1, Ordering::Relaxed);
                    doorbell.ring();
                })
            };
            for turn in 0.. {
                let apart = first_apart ^ (turn > 0);
                ears.goes_apart(apart);
                doorbell.going_to_sleep();
                let found = asked.load(Ordering::Relaxed) == 1;
                if !found && turn > 0 {
                    ears.ear(apart).wait(None, || false);
                }
                ears.goes_apart(false);
                doorbell.awake();
                if found {
                    break;
                }
            }
            asker.join().unwrap();
        });
    }
}

/// Who asks while a fence is in flight rings nothing: its end is what makes the driver look.
#[test]
fn a_request_beside_a_fence_is_seen_at_its_end() {
    model(|| {
        let (stream, bell) = stream();
        stream.set_fencing(true);
        let asker = {
            let stream = stream.clone();
            thread::spawn(move || stream.want_durable(7, 0))
        };
        stream.set_fencing(false);
        sleep_until(&stream, &bell, || stream.wanted().durable == 7);
        asker.join().unwrap();
    });
}

#[test]
fn a_patch_wakes_the_driver() {
    model(|| {
        let (stream, bell) = stream();
        stream.sequencer.commit_exclusive(10);
        let patcher = {
            let stream = stream.clone();
            thread::spawn(move || stream.try_queue_patch(0, &[7]).unwrap())
        };
        sleep_until(&stream, &bell, || stream.patch_waits(stream.committed()));
        assert_eq!(stream.take_patch(10).unwrap().number, patcher.join().unwrap());
    });
}

struct Alarm(Event);

impl std::task::Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.announce();
    }
}

/// The same for whoever awaits room, and for a stream that is shut meanwhile.
#[test]
fn a_task_sees_the_room_or_is_woken_by_it() {
    for shut in [false, true] {
        model(move || {
            let (stream, _) = stream();
            stream.share();
            let full = stream.sequencer.try_reserve(2 * CELL).unwrap();
            let _ = stream.commit_shared(full, 2 * CELL, CELL);
            let driver = {
                let stream = stream.clone();
                thread::spawn(move || {
                    match shut {
                        true => _ = stream.sequencer.shut(),
                        false => _ = stream.sequencer.release(CELL),
                    }
                    stream.announce_space();
                })
            };
            let alarm = Arc::new(Alarm(Event::default()));
            let ticket = alarm.0.ticket();
            let goal = Goal { position: 3 * CELL, patches: 0 };
            stream.rooms.register(&mut Place::default(), goal, &alarm.clone().into());
            let ready =
                || stream.sequencer.is_shut() || stream.sequencer.room(2 * CELL, CELL).is_ok();
            if !ready() {
                alarm.0.sleep(ticket, None);
            }
            assert!(ready());
            driver.join().unwrap();
        });
    }
}

/// Invariant 7.
#[test]
fn a_task_sees_the_fence_or_is_woken_by_it() {
    model(|| {
        let (stream, _) = stream();
        let driver = {
            let stream = stream.clone();
            thread::spawn(move || {
                stream.publish(7, 7, 7, Patched::default());
                stream.wake_tasks();
            })
        };
        let alarm = Arc::new(Alarm(Event::default()));
        let ticket = alarm.0.ticket();
        let goal = Goal { position: 7, patches: 0 };
        stream.tasks.register(&mut Place::default(), goal, &alarm.clone().into());
        if stream.durable() < 7 {
            alarm.0.sleep(ticket, None);
        }
        assert_eq!(stream.durable(), 7);
        driver.join().unwrap();
    });
}

/// Invariant 7.
#[test]
fn a_failure_is_seen_or_wakes() {
    model(|| {
        let (stream, _) = stream();
        let driver = {
            let stream = stream.clone();
            thread::spawn(move || stream.fail(Error::Closed))
        };
        while stream.failure().is_none() {
            let ticket = stream.space.ticket();
            if stream.failure().is_none() {
                stream.space.sleep(ticket, None);
            }
        }
        driver.join().unwrap();
        assert!(stream.sequencer.room(0, 1).is_err());
    });
}

/// Invariant 1, for whoever reads while the driver publishes.
#[test]
fn positions_are_in_order() {
    model(|| {
        let (stream, _) = stream();
        let driver = {
            let stream = stream.clone();
            thread::spawn(move || {
                for at in [3, 7] {
                    stream.sequencer.commit_exclusive(at);
                    stream.publish(at, at, at, Patched::default());
                }
            })
        };
        let Positions { accepted, submitted, written, durable } = stream.positions();
        assert!(accepted >= submitted && submitted >= written && written >= durable);
        driver.join().unwrap();
    });
}

/// Whatever copy in a cell ends last, the fence over the first of them is seen through.
#[test]
fn the_last_copy_wakes_the_driver() {
    model(|| {
        let (stream, bell) = stream();
        stream.share();
        let producers = [10, 20].map(|len| {
            let from = stream.sequencer.try_reserve(len).unwrap();
            let stream = stream.clone();
            thread::spawn(move || {
                if stream.commit_shared(from, len, CELL) != CopyEnd::Unnoticed {
                    stream.ring_doorbell();
                }
            })
        });
        stream.want_durable(10, 0);
        sleep_until(&stream, &bell, || stream.committed() >= 10);
        producers.into_iter().for_each(|producer| producer.join().unwrap());
    });
}

/// A patch of the second record, behind a copy in progress; no fence reaches so far.
#[test]
fn the_last_copy_wakes_the_driver_for_a_patch() {
    model(|| {
        let (stream, bell) = stream();
        stream.share();
        let slow = stream.sequencer.try_reserve(10).unwrap();
        let quick = stream.sequencer.try_reserve(10).unwrap();
        assert_eq!(stream.commit_shared(quick, 10, CELL), CopyEnd::Unnoticed);
        let patcher = {
            let stream = stream.clone();
            thread::spawn(move || stream.try_queue_patch(quick, &[7]).unwrap())
        };
        let producer = {
            let stream = stream.clone();
            thread::spawn(move || {
                if stream.commit_shared(slow, 10, CELL) != CopyEnd::Unnoticed {
                    stream.ring_doorbell();
                }
            })
        };
        sleep_until(&stream, &bell, || stream.patch_waits(stream.committed()));
        patcher.join().unwrap();
        producer.join().unwrap();
    });
}

/// A grant of a shared stream that is dropped: what waits behind it goes on.
#[test]
#[allow(unsafe_code)]
fn a_grant_that_is_given_up_lets_the_fence_behind_it_through() {
    model(|| {
        let (stream, bell) = stream();
        stream.share();
        let grant = stream.sequencer.try_reserve(10).unwrap();
        let owner = {
            let stream = stream.clone();
            thread::spawn(move || {
                // SAFETY: reserved above, for this thread.
                let end = unsafe { stream.give_up(grant, 10, 0, CELL) };
                if end != CopyEnd::Unnoticed {
                    stream.ring_doorbell();
                }
            })
        };
        let producer = {
            let stream = stream.clone();
            thread::spawn(move || {
                let from = stream.sequencer.try_reserve(20).unwrap();
                if stream.commit_shared(from, 20, CELL) != CopyEnd::Unnoticed {
                    stream.ring_doorbell();
                }
                stream.want_durable(from + 20, 0);
            })
        };
        sleep_until(&stream, &bell, || stream.wanted().durable == 30 && stream.committed() == 30);
        assert_eq!(stream.overruns.totals(), (1, 10, 10));
        owner.join().unwrap();
        producer.join().unwrap();
    });
}

/// A piece becomes whole: whoever ends the last copy in it tells the driver.
#[test]
fn a_whole_piece_wakes_the_driver() {
    model(|| {
        let (stream, bell) = stream();
        stream.share();
        let producers = [CELL / 2, CELL / 2].map(|len| {
            let stream = stream.clone();
            thread::spawn(move || {
                let from = stream.sequencer.try_reserve(len).unwrap();
                if stream.commit_shared(from, len, CELL) != CopyEnd::Unnoticed {
                    stream.ring_doorbell();
                }
            })
        });
        sleep_until(&stream, &bell, || stream.committed() >= CELL);
        producers.into_iter().for_each(|producer| producer.join().unwrap());
    });
}
