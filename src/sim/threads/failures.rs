//! Something fails, or ends: everyone is told, the same, and nobody waits for ever.

use std::sync::Arc;

use super::super::io::Kernel;
use super::super::{Computer, Faults};
use super::explore::explore;
use super::rig::{
    RING, Written, block_on, check_positions, computer, options, path, prefix_after_a_cut, produce,
    share,
};
use crate::error::{Error, Operation};
use crate::sync::{AtomicBool, Ordering, thread};

/// What tells one failure from another.
fn failed(error: &Error) -> Operation {
    match error {
        Error::Io { operation, source, .. } => {
            assert_eq!(source.raw_os_error(), Some(libc::EIO));
            *operation
        }
        error => panic!("another error than the disk's: {error}"),
    }
}

/// A write or a flush fails some time: producers that wait for room, those who wait for a fence, a
/// task, a patcher and whoever closes all get that one error, or what they asked for.
#[test]
fn one_failure_reaches_everyone() {
    explore(|random| {
        let nth = random.u64(1..4);
        // The open flushes file and directory.
        let faults = match random.bool() {
            true => Faults { failing_write: Some((nth, libc::EIO)), ..Faults::default() },
            false => Faults { failing_flush: Some((2 + nth, libc::EIO)), ..Faults::default() },
        };
        let (computer, options) = computer(random, faults);
        let (writer, written) = (share(&options), Written::default());
        written.note(writer.write(&[1; 10]), vec![1; 10]).unwrap();
        let producers = [1, 101].map(|mark| {
            let (writer, written) = (writer.clone(), written.clone());
            let lens = [random.usize(1..RING / 2), RING + 10, 10];
            thread::spawn(move || produce(&writer, &written, mark, &lens).err())
        });
        let (control, clone) = (writer.control().clone(), computer.clone());
        let waiter = thread::spawn(move || {
            let mut seen = [0; 4];
            let answer = control.fence().wait();
            check_positions(&control, &mut seen);
            if let Ok(durable) = answer {
                prefix_after_a_cut(&clone, durable);
            }
            answer.err()
        });
        let control = writer.control().clone();
        let task = thread::spawn(move || block_on(control.fence()).err());
        let control = writer.control().clone();
        let patcher = thread::spawn(move || {
            let patched = control.patch(0, &[7; 10]).and_then(|()| control.flush());
            patched.err()
        });
        let mut errors: Vec<Error> =
            producers.into_iter().filter_map(|p| p.join().unwrap()).collect();
        errors.extend([waiter, task, patcher].into_iter().filter_map(|t| t.join().unwrap()));
        match writer.close() {
            // The disk may have been asked less often than that.
            Ok(_) => assert_eq!(errors.len(), 0, "{errors:?}"),
            Err(closed) => {
                let durable = closed.summary.positions.durable;
                prefix_after_a_cut(&computer, durable);
                errors.extend(closed.errors);
            }
        }
        let told: Vec<_> = errors.iter().map(failed).collect();
        assert!(told.iter().all(|one| *one == told[0]), "not one error for all: {told:?}");
    });
}

/// A close meets producers that wait for room, and those that are about to write.
#[test]
fn a_close_ends_every_wait() {
    explore(|random| {
        let (computer, options) = computer(random, Faults::default());
        let (writer, written) = (share(&options), Written::default());
        let producers = [1, 101].map(|mark| {
            let (writer, written) = (writer.clone(), written.clone());
            let lens = [random.usize(1..RING / 2), random.usize(1..2 * RING), 3000];
            thread::spawn(move || produce(&writer, &written, mark, &lens).err())
        });
        let control = writer.control().clone();
        let waiter = thread::spawn(move || control.fence().wait().err());
        let control = writer.control().clone();
        let task = thread::spawn(move || block_on(control.fence()).err());
        writer.close().unwrap();
        let ends = producers.into_iter().chain([waiter, task]);
        for error in ends.filter_map(|thread| thread.join().unwrap()) {
            assert!(matches!(error, Error::Closed), "{error}");
        }
        written.check(&computer.read(path()).unwrap());
    });
}

/// Invariant 8: a write has failed while others are with the device, which takes its time. Nobody is
/// waiting any more, and memory and file stay all the same.
#[test]
fn memory_outlives_what_the_device_still_has() {
    explore(|random| {
        let failing_write = Some((1, libc::EIO));
        let faults = Faults { failing_write, stall_behind: Some(1), ..Faults::default() };
        let computer = Computer::new(random.u64(..), 4096, faults);
        // No lock, whose release would stop whoever closes too early.
        let options = options(random, &computer, Kernel::Device).lock(false);
        let mut writer = options.create(path()).unwrap();
        let _ = writer.write(&[1; RING]);
        assert_eq!(failed(&writer.flush().unwrap_err()), Operation::Write);
        let gone = Arc::new(AtomicBool::new(false));
        let closer = {
            let gone = gone.clone();
            thread::spawn(move || {
                drop(writer);
                gone.store(true, Ordering::SeqCst);
            })
        };
        (0..10).for_each(|_| thread::yield_now());
        let too_early = gone.load(Ordering::SeqCst) && computer.medium().in_flight > 0;
        computer.repair();
        closer.join().unwrap();
        while computer.medium().in_flight > 0 {
            thread::yield_now();
        }
        assert!(!too_early, "its memory was let go");
    });
}
