//! Recordings that begin in the past: what is kept begins with a whole record, nothing is lost or there
//! twice at the seam, and the producer knows nothing of it all.
#![cfg(not(any(loom, shuttle)))]
#![allow(unsafe_code)] // of what is shared with other tests

#[path = "common/allocations.rs"]
mod count;

mod common;
#[cfg(target_os = "linux")]
#[path = "common/system_calls.rs"]
mod system_calls;

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, SystemTime};

use common::{Config, assert_file, assert_same, bytes, directory, each_config, until, watched};
use writeflush::preroll::{Beginning, Control, Options, PER_RECORD, Recording, Writer};
use writeflush::{Drive, Error, OnFull, Operation, Overrun, Push, segments};

/// Longer than any wait of a test takes.
const LONG: Duration = Duration::from_secs(50);

fn event(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("event-{number}"))
}

/// One file an event.
fn files(config: Config, folder: &Path, options: &Options) -> Writer {
    let folder = folder.to_owned();
    let open = move |it: &Beginning| config.options().create_new(event(&folder, it.number));
    options.start(open).unwrap()
}

fn names(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[track_caller]
fn ended<S: Clone>(control: &Control<S>) -> Option<S> {
    control.wait_for_the_end(LONG).unwrap_or_else(|error| panic!("{error}")).unwrap().last
}

// ---- a disk that stands still when a test says so ---------------------------------------------------

/// A recording in memory.
#[derive(Clone, Default)]
struct Tape(Arc<(Mutex<Reel>, Condvar)>);

#[derive(Default)]
struct Reel {
    bytes: Vec<u8>,
    begins: Vec<Beginning>,
    losses: Vec<(usize, u64)>,
    /// Ends of the recordings.
    ends: Vec<usize>,
    stands_still: bool,
    fails: bool,
}

impl Tape {
    fn reel<T>(&self, look: impl FnOnce(&mut Reel) -> T) -> T {
        let seen = look(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
        seen
    }

    fn stand_still(&self, still: bool) {
        self.reel(|reel| reel.stands_still = still);
    }

    fn start(&self, options: &Options) -> Writer<usize> {
        let tape = self.clone();
        let open = move |it: &Beginning| {
            tape.reel(|reel| reel.begins.push(*it));
            Ok(tape.clone())
        };
        options.start(open).unwrap()
    }
}

fn broken() -> Error {
    Error::TooLong { offered: 7, limit: 0 } // any one that nobody else makes
}

impl Recording for Tape {
    type Summary = usize;

    fn write(&mut self, record: &[u8]) -> Result<(), Error> {
        let (reel, changed) = &*self.0;
        let reel = reel.lock().unwrap();
        let mut reel = changed.wait_while(reel, |reel| reel.stands_still && !reel.fails).unwrap();
        if reel.fails {
            return Err(broken());
        }
        reel.bytes.extend_from_slice(record);
        Ok(())
    }

    fn lose(&mut self, bytes: u64) {
        self.reel(|reel| reel.losses.push((reel.bytes.len(), bytes)));
    }

    fn close(self) -> (usize, Vec<Error>) {
        self.reel(|reel| {
            reel.ends.push(reel.bytes.len());
            (reel.bytes.len(), Vec::new())
        })
    }
}

// ---- what is kept -----------------------------------------------------------------------------------

#[test]
fn a_recording_begins_in_the_past_with_every_backend_and_drive() {
    each_config(|config, folder| {
        let keep = 5 * (700 + PER_RECORD) + 699;
        let mut writer = files(config, folder, &Options::new(keep).headroom(100_000));
        let all = bytes(1, 70_000);
        let mut records = all.chunks(700);
        for record in records.by_ref().take(60) {
            assert!(writer.write(record).unwrap().position().is_some());
        }
        assert_eq!(writer.kept().bytes, 5 * 700, "{config}");
        assert!(writer.trigger().unwrap());
        for record in records {
            let _ = writer.write(record).unwrap();
        }
        let summary = writer.close().unwrap();
        assert_file(&event(folder, 1), &all[55 * 700..], &config);
        let of_the_file = summary.last.unwrap();
        assert_eq!(of_the_file.positions.durable, 45 * 700);
        assert_eq!((summary.stats.recordings, summary.stats.overrun_bytes), (1, 0));
        assert_eq!((summary.stats.bytes, names(folder)), (70_000, 1));
    });
}

#[test]
fn what_is_kept_is_told_and_so_is_where_a_recording_begins() {
    watched("what is kept", || {
        let tape = Tape::default();
        let before = SystemTime::now();
        let mut writer = tape.start(&Options::new(1000));
        assert_eq!(writer.kept().bytes, 0);
        assert!(writer.kept().since >= before);
        let _ = writer.write(&[1; 400]).unwrap();
        let first = writer.kept();
        let between = SystemTime::now();
        let _ = writer.write(&[2; 400]).unwrap();
        assert_eq!((writer.kept().bytes, writer.kept().since), (800, first.since));
        let _ = writer.write(&[3; 400]).unwrap(); // the first one goes
        let kept = writer.kept();
        assert!(kept.bytes == 800 && kept.since >= between);
        writer.trigger().unwrap();
        let _ = writer.write(&[4; 400]).unwrap();
        writer.stop().unwrap();
        ended(&writer);
        let begins = tape.reel(|reel| reel.begins[0]);
        assert_eq!((begins.number, begins.position, begins.bytes), (1, 400, 800));
        assert_eq!(begins.since, kept.since);
        assert_eq!(writer.kept().bytes, 0, "all of it is recorded");
        let expected = [[2; 400], [3; 400], [4; 400]].concat();
        tape.reel(|reel| assert_same(&reel.bytes, &expected, &"the recording"));
    });
}

#[test]
fn a_record_of_any_length_is_kept_whole_or_not_at_all() {
    watched("lengths", || {
        let mut random = fastrand::Rng::with_seed(20);
        for round in 0..300 {
            let tape = Tape::default();
            let keep = random.usize(40..3000);
            let mut writer = tape.start(&Options::new(keep).headroom(10_000));
            let mut records = Vec::new();
            for serial in 0..random.u64(0..60) {
                let record = bytes(serial, random.usize(1..=keep - PER_RECORD));
                let _ = writer.write(&record).unwrap();
                records.push(record);
            }
            writer.trigger().unwrap();
            writer.close().unwrap();
            let mut room = keep;
            let kept = records.iter().rev().take_while(|record| {
                let taken = record.len() + PER_RECORD;
                let fits = taken <= room;
                room = room.saturating_sub(taken);
                fits
            });
            let mut kept: Vec<_> = kept.cloned().collect();
            kept.reverse();
            tape.reel(|reel| assert_same(&reel.bytes, &kept.concat(), &round));
        }
    });
}

#[test]
fn without_a_trigger_nothing_is_written() {
    watched("no trigger", || {
        let directory = directory();
        for is_dropped in [false, true] {
            let mut writer = files(Config::STILL, directory.path(), &Options::new(1000));
            for _ in 0..100 {
                let _ = writer.write(&[7; 100]).unwrap();
            }
            assert!(!writer.stop().unwrap());
            match is_dropped {
                true => drop(writer),
                false => assert!(writer.close().unwrap().last.is_none()),
            }
            assert_eq!(names(directory.path()), 0);
        }
    });
}

#[test]
fn before_anything_came_a_recording_begins_with_what_comes() {
    each_config(|config, folder| {
        let mut writer = files(config, folder, &Options::new(1000));
        writer.trigger().unwrap();
        let _ = writer.write(b"first").unwrap();
        writer.stop().unwrap();
        ended(&writer);
        assert_file(&event(folder, 1), b"first", &config);
        // And one of nothing at all.
        writer.trigger().unwrap();
        drop(writer);
        assert_file(&event(folder, 2), b"", &config);
    });
}

// ---- one after the other ----------------------------------------------------------------------------

#[test]
fn events_follow_each_other_and_no_byte_is_in_two() {
    each_config(|config, folder| {
        let mut writer = files(config, folder, &Options::new(4 * (10 + PER_RECORD)));
        let control = writer.control().clone();
        let mut push = |from: u8, to: u8| {
            for number in from..to {
                let _ = writer.write(&[number; 10]).unwrap();
            }
        };
        push(0, 10);
        assert!(control.trigger().unwrap());
        assert!(!control.trigger().unwrap(), "one goes on");
        push(10, 12);
        assert!(!control.trigger().unwrap(), "still");
        assert!(control.stop().unwrap());
        assert!(!control.stop().unwrap());
        assert_eq!(ended(&control).unwrap().positions.durable, 60);
        // Fewer than are kept, all behind the last event.
        push(12, 14);
        control.trigger().unwrap();
        push(14, 16);
        control.stop().unwrap();
        ended(&control);
        // At once, while the last one is written.
        push(16, 20);
        control.trigger().unwrap();
        push(20, 100);
        control.stop().unwrap();
        control.trigger().unwrap();
        push(100, 101);
        control.stop().unwrap();
        push(101, 103);
        control.trigger().unwrap();
        writer.close().unwrap();
        assert_eq!(names(folder), 5);
        let expected = [(6, 12), (12, 16), (16, 100), (100, 101), (101, 103)];
        for (number, (from, to)) in (1..).zip(expected) {
            let expected: Vec<u8> = (from..to).flat_map(|number| [number; 10]).collect();
            assert_file(&event(folder, number), &expected, &format!("{config}, {number}"));
        }
    });
}

/// Nobody holds what comes behind a recording, however full the memory was.
#[test]
fn behind_a_recording_no_more_is_kept_than_before() {
    watched("let go", || {
        let tape = Tape::default();
        let record = 100 + PER_RECORD;
        let mut writer = tape.start(&Options::new(3 * record).headroom(5 * record));
        writer.trigger().unwrap();
        tape.stand_still(true);
        let _ = writer.write(&[1; 100]).unwrap();
        writer.stop().unwrap();
        for number in 2..=8 {
            let _ = writer.write(&[number; 100]).unwrap(); // all that there is room for
        }
        assert_eq!(writer.write(&[9; 100]).unwrap(), Push::Lost(100));
        tape.stand_still(false);
        ended(&writer);
        assert_eq!(writer.kept().bytes, 300);
        let _ = writer.write(&[10; 100]).unwrap();
        assert_eq!(writer.kept().bytes, 300);
        writer.trigger().unwrap();
        writer.close().unwrap();
        tape.reel(|reel| {
            let expected = [[1; 100], [7; 100], [8; 100], [10; 100]].concat();
            assert_same(&reel.bytes, &expected, &"both");
            assert_eq!(reel.ends, [100, 400]);
            assert_eq!(reel.losses, [(300, 100)], "it is missing in the second one");
        });
    });
}

/// What was lost between a stop and the trigger that follows at once is missing in the second one.
#[test]
fn a_loss_is_told_by_the_recording_that_it_is_missing_in() {
    watched("losses at an end", || {
        let tape = Tape::default();
        let mut writer = tape.start(&Options::new(1000));
        tape.stand_still(true);
        writer.trigger().unwrap();
        let _ = writer.write(&[1; 100]).unwrap();
        writer.lose(3);
        writer.stop().unwrap();
        writer.lose(5);
        writer.trigger().unwrap();
        let _ = writer.write(&[2; 100]).unwrap();
        tape.stand_still(false);
        assert_eq!(writer.close().unwrap().stats.overrun_bytes, 8);
        tape.reel(|reel| {
            assert_eq!(
                (&reel.ends[..], &reel.losses[..]),
                (&[100, 200][..], &[(100, 3), (100, 5)][..])
            );
            assert_eq!(reel.begins[1].position, 100);
        });
    });
}

// ---- the seam, under load ---------------------------------------------------------------------------

/// A record says how long it is, which one it is, and is nothing but its own bytes.
fn numbered(serial: u64, len: usize, into: &mut Vec<u8>) {
    into.clear();
    into.extend((len as u32).to_le_bytes());
    into.extend(serial.to_le_bytes());
    into.resize(12 + len, serial as u8 ^ 0x5a);
}

/// The first number, and the one behind the last: nothing is missing between them, or there twice.
#[track_caller]
fn numbers(mut file: &[u8], label: &dyn std::fmt::Display) -> Option<(u64, u64)> {
    let mut found: Option<(u64, u64)> = None;
    while !file.is_empty() {
        let (head, rest) = file.split_at_checked(12).expect("a whole head");
        let len = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
        let serial = u64::from_le_bytes(head[4..].try_into().unwrap());
        let (body, rest) = rest.split_at_checked(len).expect("a whole record");
        assert!(body.iter().all(|byte| *byte == serial as u8 ^ 0x5a), "{label}: {serial} is torn");
        let (first, next) = found.unwrap_or((serial, serial));
        assert_eq!(serial, next, "{label}: behind {first}");
        found = Some((first, serial + 1));
        file = rest;
    }
    found
}

/// Pushes as fast as it goes, until told to stop; returns how many.
fn push_all(mut writer: Writer<impl Clone + Send + 'static>, seed: u64, stop: &AtomicBool) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut record, mut serial) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let len = if random.u8(..) == 0 { 4000 } else { random.usize(0..300) };
        numbered(serial, len, &mut record);
        assert!(writer.write(&record).unwrap().position().is_some());
        serial += 1;
    }
    let stats = writer.close().unwrap_or_else(|error| panic!("{error}")).stats;
    assert_eq!(stats.overruns, 0);
    serial
}

/// Triggers and stops at random moments; returns how many recordings there were.
fn trigger_at_random<S: Clone>(control: &Control<S>, events: u64, seed: u64) {
    let mut random = fastrand::Rng::with_seed(!seed);
    for _ in 0..events {
        let pause = random.u64(0..400);
        std::thread::sleep(Duration::from_micros(pause));
        assert!(control.trigger().unwrap());
        std::thread::sleep(Duration::from_micros(random.u64(0..400)));
        assert!(control.stop().unwrap());
        if random.bool() {
            ended(control);
        }
    }
}

#[test]
fn under_load_no_record_is_lost_torn_or_there_twice() {
    const EVENTS: u64 = 40;
    each_config(|config, folder| {
        for seed in [1, 2] {
            let folder = folder.join(seed.to_string());
            fs::create_dir(&folder).unwrap();
            let options = Options::new(20_000).headroom(8000).on_full(OnFull::Block);
            let writer = files(config, &folder, &options);
            let (control, stop) = (writer.control().clone(), AtomicBool::new(false));
            let pushed = std::thread::scope(|scope| {
                let producer = scope.spawn(|| push_all(writer, seed, &stop));
                trigger_at_random(&control, EVENTS, seed);
                stop.store(true, Ordering::Relaxed);
                producer.join().unwrap()
            });
            let (mut last, mut records) = (0, 0);
            for number in 1..=EVENTS {
                let label = format!("{config}, seed {seed}, event {number}");
                let file = fs::read(event(&folder, number)).unwrap();
                if let Some((from, to)) = numbers(&file, &label) {
                    assert!(from >= last && to <= pushed, "{label}: {from} to {to}, {last}");
                    (last, records) = (to, records + to - from);
                }
            }
            assert!(records > 0, "{config}");
        }
    });
}

#[test]
fn a_recording_in_segments_begins_in_the_past_as_well() {
    each_config(|config, folder| {
        let pattern = folder.join("{seq:06}");
        let open = move |_: &Beginning| {
            segments::Options::new(&pattern).below(config.options()).size(10_000).open()
        };
        let options = Options::new(30_000).headroom(20_000).on_full(OnFull::Block);
        let writer: Writer<segments::Summary> = options.start(open).unwrap();
        let (control, stop) = (writer.control().clone(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let producer = scope.spawn(|| push_all(writer, 3, &stop));
            trigger_at_random(&control, 5, 3);
            stop.store(true, Ordering::Relaxed);
            producer.join().unwrap();
        });
        let mut segments: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        segments.sort();
        let mut last = 0;
        for path in &segments {
            // Each begins and ends with a whole record.
            if let Some((from, to)) = numbers(&fs::read(path).unwrap(), &path.display()) {
                assert!(from >= last, "{config}");
                last = to;
            }
        }
        assert!(last > 0, "{config}");
    });
}

// ---- a disk that does not keep up -------------------------------------------------------------------

/// Room for three records, all taken, with a disk that stands still behind the first.
fn full(tape: &Tape, policy: OnFull) -> Writer<usize> {
    let record = 100 + PER_RECORD;
    let options = Options::new(record).headroom(2 * record).on_full(policy);
    let mut writer = tape.start(&options);
    tape.stand_still(true);
    writer.trigger().unwrap();
    for number in 1..=3 {
        let _ = writer.write(&[number; 100]).unwrap();
    }
    writer
}

#[test]
fn what_is_lost_is_counted_and_has_its_place() {
    watched("losses", || {
        for policy in [OnFull::Drop, OnFull::Fill(0xee)] {
            let tape = Tape::default();
            let mut writer = full(&tape, policy);
            for _ in 0..2 {
                assert_eq!(writer.write(&[4; 70]).unwrap(), Push::Lost(70));
            }
            assert!(matches!(writer.try_write(&[4; 70]), Err(Error::Full { offered: 70, .. })));
            tape.stand_still(false);
            until(|| writer.kept().bytes == 0);
            let _ = writer.write(&[5; 100]).unwrap();
            writer.lose(7); // of the source
            writer.lose(0);
            let stats = writer.close().unwrap().stats;
            assert_eq!((stats.overruns, stats.overrun_bytes), (2, 147));
            assert!(stats.high_water <= 3 * (100 + PER_RECORD as u64));
            let fill = if policy == OnFull::Drop { 0 } else { 1 };
            let record = |number: u8| vec![number; 100];
            let parts = [record(1), record(2), record(3), vec![0xee; 140 * fill], record(5)];
            let expected = [parts.concat(), vec![0xee; 7 * fill]].concat();
            tape.reel(|reel| {
                assert_same(&reel.bytes, &expected, &format!("{policy:?}"));
                assert_eq!(reel.losses, [(300, 140), (400 + 140 * fill, 7)], "{policy:?}");
            });
        }
    });
}

/// In the summary of the file that they are missing in.
#[test]
fn losses_are_told_by_the_writer_of_the_file() {
    each_config(|config, folder| {
        let mut writer = files(config, folder, &Options::new(1000));
        writer.lose(50); // before all that is kept
        let _ = writer.write(&[1; 100]).unwrap();
        writer.lose(20);
        let _ = writer.write(&[2; 100]).unwrap();
        writer.trigger().unwrap();
        writer.lose(3);
        writer.stop().unwrap();
        let of_the_file = ended(&writer).unwrap();
        let expected = [(100, 20), (200, 3)];
        let found = |it: &Overrun| (it.position, it.bytes);
        assert_eq!(
            of_the_file.overruns.iter().map(found).collect::<Vec<_>>(),
            expected,
            "{config}"
        );
        writer.lose(4);
        writer.trigger().unwrap();
        let summary = writer.close().unwrap();
        assert_eq!((summary.stats.overruns, summary.stats.overrun_bytes), (3, 77));
        assert_eq!(summary.last.unwrap().stats.overrun_bytes, 0, "{config}: it was lost before");
    });
}

#[test]
fn who_waits_for_room_gets_it_or_hears_that_there_is_none() {
    watched("room", || {
        let tape = Tape::default();
        let mut writer = full(&tape, OnFull::BlockFor(Duration::from_millis(5)));
        let refused = writer.write(&[4; 100]);
        assert!(matches!(refused, Err(Error::Deadline { .. })), "{refused:?}");
        drop((tape.stand_still(false), writer));

        let tape = Tape::default();
        let mut writer = full(&tape, OnFull::Fail);
        assert!(matches!(writer.write(&[4; 100]), Err(Error::Full { free: 0, .. })));
        drop((tape.stand_still(false), writer));

        for fails in [false, true] {
            let tape = Tape::default();
            let mut writer = full(&tape, OnFull::Block);
            let (tell, told) = mpsc::channel();
            let producer = std::thread::spawn(move || {
                let pushed = writer.write(&[4; 100]);
                tell.send(()).unwrap();
                (pushed, writer.close().is_ok())
            });
            assert!(told.recv_timeout(Duration::from_millis(20)).is_err(), "there is no room");
            tape.reel(|reel| (reel.stands_still, reel.fails) = (false, fails));
            let (pushed, is_closed) = producer.join().unwrap();
            assert_eq!((pushed.is_ok(), is_closed), (!fails, !fails));
            tape.reel(|reel| assert!(fails || reel.bytes.len() == 400));
        }
    });
}

#[test]
fn a_close_with_a_limit_leaves_the_rest_to_the_keeper() {
    watched("a limit", || {
        let tape = Tape::default();
        let writer = full(&tape, OnFull::Drop);
        let control = writer.control().clone();
        assert!(writer.close_timeout(Duration::from_millis(5)).unwrap().is_none());
        assert!(matches!(control.trigger(), Err(Error::Closed)));
        tape.stand_still(false);
        assert_eq!(ended(&control), Some(300));
    });
}

// ---- bad input, and what fails ----------------------------------------------------------------------

#[test]
fn options_that_cannot_work_are_answered_with_a_sentence() {
    let start = |options: Options| {
        let refused = options.start(|_| Ok(Tape::default())).map(drop).unwrap_err();
        assert!(matches!(refused, Error::Options(_)), "{refused:?}");
        refused.to_string()
    };
    for options in [Options::new(0), Options::new(PER_RECORD), Options::new(100).headroom(0)] {
        assert!(start(options).ends_with("give more"));
    }
    for options in [
        Options::new(1 << 30),
        Options::new(usize::MAX).headroom(1 << 20),
        Options::new(1000).headroom(1000).memory_limit(1999),
    ] {
        assert!(start(options).ends_with("keep less, or raise the limit"));
    }
}

#[test]
fn a_record_that_can_never_be_kept_is_refused() {
    watched("too long", || {
        let tape = Tape::default();
        let mut writer = tape.start(&Options::new(1000).headroom(500));
        let longest = 500 - PER_RECORD;
        let refused = writer.write(&vec![7; longest + 1]);
        assert!(matches!(refused, Err(Error::TooLong { limit, .. }) if limit == longest));
        assert_eq!(writer.write(&[]).unwrap(), Push::Accepted(0));
        let _ = writer.write(&vec![7; longest]).unwrap();
        writer.trigger().unwrap();
        writer.close().unwrap();
        tape.reel(|reel| assert_eq!(reel.bytes.len(), longest));
    });
}

/// Whatever has failed: everybody hears the same, for ever.
fn assert_failed<S: Clone>(mut writer: Writer<S>, is_it: impl Fn(&Error) -> bool) {
    until(|| writer.error().is_some());
    let control = writer.control().clone();
    assert!(is_it(&writer.error().unwrap()), "{:?}", writer.error());
    assert!(is_it(&writer.write(b"x").unwrap_err()));
    assert!(is_it(&writer.try_write(b"x").unwrap_err()));
    assert!(is_it(&writer.trigger().unwrap_err()));
    assert!(is_it(&writer.stop().unwrap_err()));
    assert!(is_it(&writer.wait_for_the_end(LONG).map(drop).unwrap_err().into()));
    assert!(is_it(&writer.close().map(drop).unwrap_err().errors[0]));
    assert!(is_it(&control.trigger().unwrap_err()));
}

#[test]
fn a_failure_is_sticky_and_heard_by_everyone() {
    watched("failures", || {
        let folder = directory();
        // The file can't be made.
        fs::write(event(folder.path(), 1), b"there").unwrap();
        let mut writer = files(Config::STILL, folder.path(), &Options::new(1000));
        let _ = writer.write(b"kept").unwrap();
        assert!(writer.error().is_none() && writer.trigger().unwrap());
        assert_failed(writer, |error| {
            matches!(error, Error::Io { operation: Operation::Open, .. })
        });
        assert_file(&event(folder.path(), 1), b"there", &"somebody else's");

        // It can't be written.
        let tape = Tape::default();
        let writer = full(&tape, OnFull::Drop);
        tape.reel(|reel| reel.fails = true);
        assert_failed(writer, |error| matches!(error, Error::TooLong { offered: 7, limit: 0 }));
        tape.reel(|reel| assert_eq!(reel.ends.len(), 1, "it is closed all the same"));

        // It would lose what comes too fast.
        let path = folder.path().join("dropping");
        let options = Config::STILL.options().on_full(OnFull::Drop);
        let writer = Options::new(1000).start(move |_| options.create(&path)).unwrap();
        writer.trigger().unwrap();
        assert_failed(writer, |error| {
            error.to_string().contains("has to wait for room: leave its on_full as it is")
        });

        // Its open panics.
        let open = |_: &Beginning| -> Result<Tape, Error> { panic!("a planted panic") };
        let writer = Options::new(1000).start(open).unwrap();
        writer.trigger().unwrap();
        assert_failed(writer, |error| error.to_string().contains("panicked"));
    });
}

/// A waker runs on the driver's thread: there a close may not wait for what that has to bring about.
#[test]
fn a_close_in_a_waker_says_so_and_is_finished_by_the_keeper() {
    struct Close(Mutex<Option<(Writer, mpsc::Sender<bool>)>>);
    impl Wake for Close {
        fn wake(self: Arc<Self>) {
            if let Some((writer, tell)) = self.0.lock().unwrap().take() {
                let refused =
                    writer.close().is_err_and(|error| matches!(error.errors[..], [Error::InWaker]));
                tell.send(refused).unwrap();
            }
        }
    }
    watched("a waker", || {
        let folder = directory();
        let config = Config { drive: Drive::Thread, ..Config::STILL };
        let mut writer = files(config, folder.path(), &Options::new(1000));
        let _ = writer.write(b"kept").unwrap();
        writer.trigger().unwrap();
        let control = writer.control().clone();
        let mut other = config.create(&folder.path().join("other"));
        let (tell, told) = mpsc::channel();
        let waker = Waker::from(Arc::new(Close(Mutex::new(Some((writer, tell))))));
        let _ticket = loop {
            let _ = other.write(b"x").unwrap();
            let mut ticket = other.fence();
            if Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker)).is_pending() {
                break ticket;
            }
        };
        assert!(told.recv().unwrap());
        ended(&control);
        assert_file(&event(folder.path(), 1), b"kept", &"finished");
        other.close().unwrap();
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_forked_child_is_refused_and_disturbs_nobody() {
    const NAME: &str = "a_forked_child_is_refused_and_disturbs_nobody";
    if common::child_task().is_none() {
        return common::child_succeeds(NAME, "fork", |_| {});
    }
    let folder = directory();
    let mut writer = Some(files(Config::STILL, folder.path(), &Options::new(1000)));
    let _ = writer.as_mut().unwrap().write(b"kept").unwrap();
    for is_recording in [false, true] {
        if is_recording {
            writer.as_mut().unwrap().trigger().unwrap();
        }
        for is_closed in [false, true] {
            // SAFETY: the child leaves without running anything else of this process.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let mut mine = writer.take().unwrap();
                let is_refused = |error| matches!(error, Error::Forked);
                let refused = mine.try_write(b"x").is_err_and(is_refused)
                    && mine.trigger().is_err_and(is_refused)
                    && mine.stop().is_err_and(is_refused)
                    && mine.wait_for_the_end(LONG).is_err_and(|error| is_refused(error.into()));
                let refused = match is_closed {
                    true => mine.close().is_err_and(|error| is_refused(error.into())) && refused,
                    false => {
                        drop(mine);
                        refused
                    }
                };
                // SAFETY: as above.
                unsafe { libc::_exit(i32::from(!refused)) };
            }
            let mut status = 0;
            // SAFETY: a plain system call with a live integer.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0);
        }
    }
    let mut writer = writer.unwrap();
    let _ = writer.write(b" and more").unwrap();
    writer.close().unwrap();
    assert_file(&event(folder.path(), 1), b"kept and more", &"the parent's");
}

// ---- what a push costs ------------------------------------------------------------------------------

/// Pushes until there have been so many events, and the ring has been overwritten often.
fn push_beside_events(writer: &mut Writer, events: &AtomicU64) {
    let mut pushed = 0;
    while events.load(Ordering::Relaxed) < 20 || pushed < 100_000 {
        let _ = writer.write(&[7; 64]);
        pushed += 1;
        if pushed % 1000 == 0 {
            writer.lose(1);
            let _ = (writer.kept(), writer.stats());
        }
    }
}

/// Triggers and stops, beside a producer, and counts.
fn events_beside(control: Control, events: &Arc<AtomicU64>) -> std::thread::JoinHandle<()> {
    let events = events.clone();
    std::thread::spawn(move || {
        for _ in 0..20 {
            control.trigger().unwrap();
            std::thread::sleep(Duration::from_millis(2));
            control.stop().unwrap();
            ended(&control);
            events.fetch_add(1, Ordering::Relaxed);
        }
    })
}

#[test]
fn a_push_allocates_nothing_whatever_becomes_of_a_recording() {
    watched("allocations", || {
        let folder = directory();
        let config = Config { drive: Drive::Thread, ..Config::STILL };
        let mut writer = files(config, folder.path(), &Options::new(10_000).headroom(5000));
        let events = Arc::new(AtomicU64::new(0));
        let other = events_beside(writer.control().clone(), &events);
        let count = count::allocations(|| push_beside_events(&mut writer, &events));
        assert_eq!(count, 0);
        other.join().unwrap();
        let stats = writer.close().unwrap().stats;
        assert!(stats.recordings == 20 && stats.overruns > 0, "{stats:?}");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_push_makes_no_system_call_whatever_becomes_of_a_recording() {
    const NAME: &str = "a_push_makes_no_system_call_whatever_becomes_of_a_recording";
    if let Some(folder) = common::child_task() {
        // An ordinary thread drives: the producer never wakes it.
        let config = Config { drive: Drive::Thread, ..Config::STILL };
        let options = Options::new(10_000).headroom(5000);
        let mut writer = files(config, Path::new(&folder), &options);
        let events = Arc::new(AtomicU64::new(0));
        let other = events_beside(writer.control().clone(), &events);
        system_calls::without_system_calls(move || {
            push_beside_events(&mut writer, &events);
            std::mem::forget(writer); // closing is no part of the promise
        });
        return other.join().unwrap();
    }
    if system_calls::the_clock_is_one() {
        return common::skip(NAME, "reading the clock is a system call here");
    }
    let directory = directory();
    let output = common::run_child(NAME, directory.path().to_str().unwrap(), |_| {});
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(names(directory.path()), 20);
}
