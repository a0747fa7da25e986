//! Nothing fails: every byte gets to its place, and everyone who waits is answered.

use super::super::Faults;
use super::explore::explore;
use super::rig::{
    BUFFER, RING, Written, block_on, check_positions, computer, path, prefix_after_a_cut, produce,
    share,
};
use crate::sync::thread;

/// Two producers, one of them with a write longer than all buffers; one who waits for a ticket, a
/// task that awaits one, and whoever looks at the positions.
#[test]
fn producers_waiters_and_tasks() {
    explore(|random| {
        let (computer, options) = computer(random, Faults::default());
        let (writer, written) = (share(&options), Written::default());
        let lens = |random: &mut fastrand::Rng| [1, 2, 3].map(|_| random.usize(1..RING / 2));
        let (long, lens) = ([RING + random.usize(1..BUFFER), 10], lens(random));
        let mut threads = vec![
            {
                let (writer, written) = (writer.clone(), written.clone());
                thread::spawn(move || produce(&writer, &written, 1, &long).unwrap())
            },
            {
                let (writer, written) = (writer.clone(), written.clone());
                thread::spawn(move || produce(&writer, &written, 101, &lens).unwrap())
            },
        ];
        let (control, clone) = (writer.control().clone(), computer.clone());
        let waiter = thread::spawn(move || {
            let mut seen = [0; 4];
            let durable = control.fence().wait().unwrap();
            check_positions(&control, &mut seen);
            assert!(control.positions().durable >= durable);
            let kept = prefix_after_a_cut(&clone, durable);
            control.flush().unwrap();
            check_positions(&control, &mut seen);
            kept
        });
        let control = writer.control().clone();
        threads.push(thread::spawn(move || {
            let ticket = control.fence();
            let position = ticket.position();
            assert_eq!(block_on(ticket).unwrap(), position);
            assert!(control.positions().durable >= position);
        }));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let kept = waiter.join().unwrap();
        let summary = writer.close().unwrap();
        let content = computer.read(path()).unwrap();
        assert_eq!(summary.positions.durable, content.len() as u64);
        assert_eq!(kept, content[..kept.len()], "what was durable stays");
        written.check(&content);
    });
}

/// One producer that owns its stream, and others that want to know how far it has come.
#[test]
fn an_exclusive_producer_and_those_who_wait() {
    explore(|random| {
        let (computer, options) = computer(random, Faults::default());
        let mut writer = options.create(path()).unwrap();
        let written = Written::default();
        let control = writer.control().clone();
        let waiter = thread::spawn(move || {
            let mut seen = [0; 4];
            for _ in 0..2 {
                let ticket = control.fence();
                assert!(block_on(ticket.clone()).unwrap() <= ticket.wait().unwrap());
                check_positions(&control, &mut seen);
            }
        });
        for mark in 0..4 {
            let bytes = Written::bytes(mark, random.usize(1..BUFFER));
            match random.u8(..4) {
                0 => {
                    let durable = writer.write_flush(&bytes).unwrap();
                    assert!(writer.positions().durable >= durable);
                    written.put(durable - bytes.len() as u64, bytes);
                }
                1 => match writer.grant(bytes.len()) {
                    Ok(mut grant) => {
                        grant.copy_from_slice(&bytes);
                        written.put(grant.commit(bytes.len()), bytes);
                    }
                    Err(error) => assert!(matches!(error, crate::Error::Full { .. }), "{error}"),
                },
                _ => drop(written.note(writer.write(&bytes), bytes).unwrap()),
            }
        }
        waiter.join().unwrap();
        writer.close().unwrap();
        written.check(&computer.read(path()).unwrap());
    });
}

/// Records that meet in one cell, of which the fence has to cover some: whoever copies last there is
/// the only one who can wake the driver.
#[test]
fn a_fence_over_some_of_the_records_in_a_cell() {
    explore(|random| {
        let (computer, options) = computer(random, Faults::default());
        let (writer, written) = (share(&options), Written::default());
        let producers = [1, 11, 21].map(|mark| {
            let (writer, written) = (writer.clone(), written.clone());
            let len = random.usize(1..100);
            thread::spawn(move || {
                let bytes = Written::bytes(mark, len);
                written.note(writer.write(&bytes), bytes).unwrap();
                if mark == 1 {
                    let durable = writer.flush().unwrap();
                    assert!(writer.positions().durable >= durable);
                }
            })
        });
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        writer.close().unwrap();
        written.check(&computer.read(path()).unwrap());
    });
}

/// Each producer corrects its own records, while somebody keeps a header true.
#[test]
fn patchers_and_a_header() {
    const HEADER: usize = 8;
    explore(|random| {
        let (computer, options) = computer(random, Faults::default());
        let (writer, written) = (share(&options), Written::default());
        written.note(writer.write(&[1; HEADER]), vec![1; HEADER]).unwrap();
        let mut threads: Vec<_> = [1, 101]
            .map(|mark| {
                let (writer, written) = (writer.clone(), written.clone());
                let lens = [random.usize(20..BUFFER), random.usize(20..BUFFER)];
                thread::spawn(move || {
                    for (mark, len) in (mark..).zip(lens) {
                        let bytes = Written::bytes(mark, len);
                        let from = written.note(writer.write(&bytes), bytes).unwrap();
                        writer.patch(from + 3, &[mark; 10]).unwrap();
                        written.put(from + 3, vec![mark; 10]);
                    }
                })
            })
            .into();
        let (control, clone) = (writer.control().clone(), computer.clone());
        threads.push(thread::spawn(move || {
            let described = control.checkpoint(0, u64::to_le_bytes).unwrap();
            let kept = prefix_after_a_cut(&clone, described);
            assert_eq!(kept[..HEADER], described.to_le_bytes());
        }));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let described = writer.checkpoint(0, u64::to_le_bytes).unwrap();
        written.put(0, described.to_le_bytes().into());
        writer.close().unwrap();
        written.check(&computer.read(path()).unwrap());
    });
}

/// A copy in progress, a record behind it with a patch, a header behind that whose flush lies before
/// them all: the end of the copy is what everyone waits for, and the only one who can wake the
/// driver.
#[test]
fn the_end_of_a_copy_wakes_the_driver_for_patches_behind_it() {
    explore(|random| {
        let (computer, options) = computer(random, Faults::default());
        let writer = share(&options);
        // A whole cell, so that no fence ends in the one where the rest happens.
        let _ = writer.write_flush(&[1; BUFFER]).unwrap();
        let slow = {
            let writer = writer.clone();
            thread::spawn(move || writer.try_write(&[2; 100]).unwrap())
        };
        let patcher = {
            let writer = writer.clone();
            thread::spawn(move || {
                let from = writer.try_write(&[3; 100]).unwrap();
                writer.patch(from, &[4; 10]).unwrap();
                from
            })
        };
        let described = writer.checkpoint(0, u64::to_le_bytes).unwrap();
        let (slow, from) = (slow.join().unwrap() as usize, patcher.join().unwrap() as usize);
        writer.close().unwrap();
        let content = computer.read(path()).unwrap();
        assert_eq!(content[..8], described.to_le_bytes());
        assert_eq!(content[slow..slow + 100], [2; 100]);
        assert_eq!(content[from..from + 10], [4; 10]);
        assert_eq!(content[from + 10..from + 100], [3; 90]);
    });
}

/// Whoever gives up waiting loses nothing by it.
#[test]
fn deadlines() {
    use std::time::Duration;

    use crate::{Error, OnFull};
    explore(|random| {
        let (computer, options) = computer(random, Faults::default());
        let patience = Duration::from_micros(random.u64(1..100));
        let (writer, written) =
            (share(&options.on_full(OnFull::BlockFor(patience))), Written::default());
        let producers = [1, 101].map(|mark| {
            let (writer, written) = (writer.clone(), written.clone());
            thread::spawn(move || {
                let ended = produce(&writer, &written, mark, &[3000; 3]);
                assert!(matches!(ended, Ok(()) | Err(Error::Deadline { .. })), "{ended:?}");
            })
        });
        let ticket = writer.fence();
        if let Some(durable) = ticket.wait_timeout(patience).unwrap() {
            assert!(writer.positions().durable >= durable);
        }
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        ticket.wait().unwrap();
        writer.close().unwrap();
        written.check(&computer.read(path()).unwrap());
    });
}

/// A task whose waker closes, on the driver's thread where there is one: what it must not wait for
/// is done all the same, and a long patch that is under way gets in whole, or its caller hears.
#[test]
fn a_waker_that_closes_beside_a_long_patch() {
    use std::sync::Arc;
    use std::task::{Context, Wake, Waker};

    use super::rig::RING;
    use crate::sync::{Event, Mutex, ignore_poison};
    use crate::{Error, SharedWriter};

    const LEN: usize = 4 * RING;
    const PATCH: usize = 40_000; // two pieces

    struct Closes {
        writer: Mutex<Option<SharedWriter>>,
        done: Event,
    }
    impl Wake for Closes {
        fn wake(self: Arc<Self>) {
            if let Some(writer) = ignore_poison(self.writer.lock()).take() {
                match writer.close() {
                    Ok(_) => {}
                    Err(error) => assert!(matches!(error.errors[..], [Error::InWaker])),
                }
            }
            self.done.announce();
        }
    }
    explore(|random| {
        let (computer, options) = computer(random, Faults::default());
        let writer = share(&options);
        let _ = writer.write(&[1; LEN + PATCH]).unwrap();
        let control = writer.control().clone();
        let patcher = {
            let control = control.clone();
            thread::spawn(move || control.patch(10, &[7; PATCH]))
        };
        let closes = Arc::new(Closes { writer: Mutex::new(Some(writer)), done: Event::default() });
        let mut ticket = control.fence();
        let waker = Waker::from(closes.clone());
        let polled = std::pin::Pin::new(&mut ticket);
        let seen = closes.done.ticket();
        match std::future::Future::poll(polled, &mut Context::from_waker(&waker)).is_pending() {
            true => closes.done.sleep(seen, None),
            false => waker.wake(),
        }
        let patched = patcher.join().unwrap();
        assert!(matches!(patched, Ok(()) | Err(Error::Closed)), "{patched:?}");
        let fenced = block_on(control.fence());
        assert!(matches!(fenced, Ok(position) if position == (LEN + PATCH) as u64), "{fenced:?}");
        let content = computer.read(path()).unwrap();
        if patched.is_ok() {
            assert!(
                content[10..10 + PATCH].iter().all(|byte| *byte == 7),
                "a patch that was taken"
            );
        }
        while computer.read(path()).unwrap().len() != LEN + PATCH {
            thread::yield_now();
        }
    });
}
