//! Recordings in segments: no byte is lost or doubled at a cut, `durable` covers all segments, and what
//! goes is what was meant.
#![cfg(not(any(loom, shuttle)))]
#![allow(unsafe_code)] // of what is shared with other tests

#[path = "common/allocations.rs"]
mod count;

mod common;
#[cfg(target_os = "linux")]
#[path = "common/system_calls.rs"]
mod system_calls;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use common::{Config, assert_ordered, assert_same, bytes, directory, each_config, until, watched};
use writeflush::segments::{Closed, Event, Floor, Options, Writer};
use writeflush::{Drive, Driver, Error, OnFull, Preallocate, Push};

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn pattern(folder: &Path) -> PathBuf {
    folder.join("take-{seq:06}.raw")
}

fn plain(folder: &Path) -> Options {
    Options::new(pattern(folder)).below(Config::STILL.options())
}

/// All segments, one behind the other.
fn whole(folder: &Path) -> Vec<u8> {
    names(folder).iter().flat_map(|name| fs::read(folder.join(name)).unwrap()).collect()
}

/// What was told of the segments.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<Event>>>);

impl Log {
    fn hears(&self, options: Options) -> Options {
        let log = self.clone();
        options.on_event(move |event| log.0.lock().unwrap().push(event))
    }

    fn closed(&self) -> Vec<Closed> {
        let events = self.0.lock().unwrap();
        let closed = |event: &Event| match event {
            Event::Closed(closed) => Some((**closed).clone()),
            _ => None,
        };
        events.iter().filter_map(closed).collect()
    }

    fn removed(&self) -> Vec<u64> {
        let events = self.0.lock().unwrap();
        let removed = |event: &Event| match event {
            Event::Removed(segment) => Some(segment.sequence),
            _ => None,
        };
        events.iter().filter_map(removed).collect()
    }

    fn not_removed(&self) -> Vec<String> {
        let events = self.0.lock().unwrap();
        let told = |event: &Event| match event {
            Event::NotRemoved(error) => Some(error.to_string()),
            _ => None,
        };
        events.iter().filter_map(told).collect()
    }
}

/// Ends the segment here, and waits until the next one is ready to begin.
fn rotate(writer: &mut Writer) {
    while !writer.rotate().unwrap() {
        std::thread::yield_now();
    }
}

#[test]
fn what_is_written_lies_in_segments_with_every_backend_and_drive() {
    each_config(|config, folder| {
        let log = Log::default();
        let options = Options::new(pattern(folder)).below(config.options()).size(10_000);
        let mut writer = log.hears(options).open().unwrap();
        let mut expected = Vec::new();
        for turn in 0..200 {
            let record = bytes(turn, [1, 300, 5000, 999, 12_000][turn as usize % 5]);
            let at = writer.write(&record).unwrap();
            assert_eq!(at, Push::Accepted(expected.len() as u64), "{config}");
            expected.extend(&record);
            match turn % 7 {
                0 => {
                    let durable = writer.flush().unwrap();
                    assert_eq!(durable, expected.len() as u64);
                    assert!(writer.positions().durable >= durable, "{config}");
                }
                1 => assert_eq!(
                    writer.fence().unwrap().wait().unwrap(),
                    expected.len() as u64,
                    "{config}"
                ),
                2 => rotate(&mut writer),
                _ => {}
            }
            assert_ordered(writer.positions());
        }
        let summary = writer.close().unwrap();
        let len = expected.len() as u64;
        assert_eq!((summary.positions.accepted, summary.positions.durable), (len, len));
        assert_same(&whole(folder), &expected, &config);
        let closed = log.closed();
        assert_eq!(closed.len(), names(folder).len());
        assert_eq!(summary.stats.closed, closed.len() as u64);
        let mut position = 0;
        for (number, closed) in closed.iter().enumerate() {
            assert_eq!((closed.segment.sequence, closed.position), (number as u64 + 1, position));
            assert_eq!(fs::metadata(&closed.segment.path).unwrap().len(), closed.bytes);
            assert!(closed.began <= closed.ended && closed.ended <= SystemTime::now());
            position += closed.bytes;
        }
        assert_eq!(position, len);
    });
}

/// Segments of five records.
fn rotate_often(options: Options, rotations: u64) -> u64 {
    const RECORD: usize = 100;
    let mut writer = options.open().unwrap();
    let mut number = 0u64;
    while writer.stats().rotations < rotations {
        let record = bytes(number, RECORD);
        assert_eq!(writer.write(&record).unwrap(), Push::Accepted(number * RECORD as u64));
        number += 1;
        if number.is_multiple_of(5) {
            rotate(&mut writer);
        }
        if number.is_multiple_of(1000) {
            assert_eq!(writer.flush().unwrap(), number * RECORD as u64);
        }
    }
    let len = writer.flush().unwrap();
    assert_eq!(len, number * RECORD as u64);
    assert_eq!(writer.close().unwrap().positions.durable, len);
    number
}

#[test]
fn many_rotations_lose_and_double_nothing() {
    let directory = directory();
    let folder = directory.path();
    let records = rotate_often(plain(folder).size(500), 300);
    let expected: Vec<u8> = (0..records).flat_map(|number| bytes(number, 100)).collect();
    assert_same(&whole(folder), &expected, &"many rotations");
}

#[test]
fn a_fast_source_that_waits_gets_segments_as_long_as_it_asked_for() {
    let directory = directory();
    let folder = directory.path();
    let log = Log::default();
    let mut writer = log.hears(plain(folder).size(40_000)).open().unwrap();
    for turn in 0..1000 {
        let record = bytes(turn, 4000);
        writer.wait_for_next(record.len(), Duration::from_secs(60)).unwrap();
        writer.write(&record).unwrap();
    }
    let summary = writer.close().unwrap();
    assert_eq!((summary.stats.closed, summary.stats.late_rotations), (100, 0));
    assert!(log.closed().iter().all(|closed| closed.bytes == 40_000));
}

/// On disks of their own.
#[cfg(target_os = "linux")]
mod small_disks {
    use super::*;
    use common::{Mount, fill_up, has_own_mounts};
    use writeflush::DiskFull;

    fn mounted(name: &str, size: &str, body: impl FnOnce(&Path) + Send + 'static) {
        if !has_own_mounts(name) {
            return;
        }
        let directory = directory();
        let _mount = Mount::tmpfs(directory.path(), size);
        let folder = directory.path().to_path_buf();
        watched(name, move || body(&folder));
    }

    /// Each closed segment is read as soon as it is told, and goes some time later.
    #[test]
    fn ten_thousand_rotations_on_a_disk_that_fills_and_frees() {
        const NAME: &str = "small_disks::ten_thousand_rotations_on_a_disk_that_fills_and_frees";
        mounted(NAME, "size=1m", |folder| {
            let read = Arc::new(Mutex::new(Vec::new()));
            let told = read.clone();
            let below = Config::STILL.options().on_disk_full(DiskFull::Wait);
            let options = plain(folder).below(below).size(500).keep_count(50);
            let options = options.on_event(move |event| match event {
                Event::Closed(closed) => {
                    let mut read = told.lock().unwrap();
                    assert_eq!(closed.position, read.len() as u64);
                    read.extend(fs::read(&closed.segment.path).unwrap());
                }
                Event::Removed(_) => {}
                other => panic!("{other:?}"),
            });
            let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
            let (over, place) = (is_over.clone(), folder.to_path_buf());
            let filler = std::thread::spawn(move || {
                let mut times = 0;
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let fill = fill_up(&place, 0);
                    std::thread::sleep(Duration::from_millis(5));
                    fs::remove_file(fill).unwrap();
                    std::thread::sleep(Duration::from_millis(20));
                    times += 1;
                }
                times
            });
            let records = rotate_often(options, 10_000);
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(filler.join().unwrap() > 5);
            let expected: Vec<u8> = (0..records).flat_map(|number| bytes(number, 100)).collect();
            assert_same(&read.lock().unwrap(), &expected, &NAME);
            assert!(names(folder).len() <= 51, "{:?}", names(folder));
        });
    }

    const RECORD: usize = 10_000;

    /// Ten megabytes a second, so that a floor is looked at in time.
    fn slowly(writer: &mut Writer, number: u64) -> Result<Push, Error> {
        std::thread::sleep(Duration::from_millis(1));
        writer.write(&bytes(number, RECORD))
    }

    fn over_a_floor(folder: &Path, floor: Floor) -> Options {
        let below = writeflush::Options::new().buffer_size(64 << 10);
        plain(folder).below(below).size(200_000).min_free(4 << 20, floor)
    }

    #[test]
    fn a_recording_stops_at_its_floor_and_loses_nothing() {
        const NAME: &str = "small_disks::a_recording_stops_at_its_floor_and_loses_nothing";
        mounted(NAME, "size=8m", |folder| {
            let mut writer = over_a_floor(folder, Floor::Stop).open().unwrap();
            let mut expected = Vec::new();
            let error = loop {
                match slowly(&mut writer, expected.len() as u64) {
                    Ok(_) => expected.extend(bytes(expected.len() as u64, RECORD)),
                    Err(error) => break error,
                }
            };
            assert!(
                matches!(error, Error::SpaceFloor { floor, .. } if floor == 4 << 20),
                "{error}"
            );
            let again = writer.try_write(b"more").unwrap_err();
            assert_eq!(again.to_string(), error.to_string());
            assert_eq!(writer.flush().unwrap(), expected.len() as u64);
            writer.close().unwrap();
            assert_same(&whole(folder), &expected, &NAME);
            let error = over_a_floor(folder, Floor::Stop).open().unwrap_err();
            assert!(matches!(error, Error::SpaceFloor { .. }), "{error}");
        });
    }

    #[test]
    fn the_oldest_make_room_above_the_floor() {
        const NAME: &str = "small_disks::the_oldest_make_room_above_the_floor";
        mounted(NAME, "size=8m", |folder| {
            let log = Log::default();
            let mut writer = log.hears(over_a_floor(folder, Floor::DeleteOldest)).open().unwrap();
            for number in 0..2000 {
                assert!(matches!(slowly(&mut writer, number), Ok(Push::Accepted(_))));
            }
            let summary = writer.close().unwrap();
            assert!(summary.stats.removed > 40, "{summary:?}");
            let removed: Vec<u64> = (1..=summary.stats.removed).collect();
            assert_eq!(log.removed(), removed);
            let expected: Vec<u8> = (0..2000).flat_map(|number| bytes(number, RECORD)).collect();
            let left = whole(folder);
            assert!(left.len() > 2 << 20, "{}", left.len());
            assert_same(&left, &expected[expected.len() - left.len()..], &NAME);
        });
    }

    #[test]
    fn nothing_is_taken_below_the_floor_until_there_is_room() {
        const NAME: &str = "small_disks::nothing_is_taken_below_the_floor_until_there_is_room";
        mounted(NAME, "size=8m", |folder| {
            let (fill, mut expected) = (folder.join("fill"), Vec::new());
            fs::write(&fill, vec![1; 2 << 20]).unwrap();
            let mut writer = over_a_floor(folder, Floor::Wait).open().unwrap();
            loop {
                std::thread::sleep(Duration::from_millis(1));
                match writer.try_write(&bytes(7, RECORD)) {
                    Ok(_) => expected.extend(bytes(7, RECORD)),
                    Err(Error::Full { .. }) if writer.is_waiting_for_space() => break,
                    Err(Error::Full { .. }) => {} // of the buffers
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(writer.flush().unwrap(), expected.len() as u64);
            let other = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(50));
                fs::remove_file(fill).unwrap();
            });
            let _ = slowly(&mut writer, 7).unwrap(); // waits
            expected.extend(bytes(7, RECORD));
            other.join().unwrap();
            writer.close().unwrap();
            assert_same(&whole(folder), &expected, &NAME);
        });
    }

    #[test]
    fn a_full_disk_leaves_whole_frames() {
        const NAME: &str = "small_disks::a_full_disk_leaves_whole_frames";
        mounted(NAME, "size=1m", |folder| {
            for (turn, frame) in [1000, 999, 4096, 12].into_iter().enumerate() {
                let folder = folder.join(turn.to_string());
                fs::create_dir(&folder).unwrap();
                let options = plain(&folder).size(100_000).frame_bytes(frame);
                let mut writer = options.open().unwrap();
                let mut number = 0;
                while writer.write(&bytes(number, 777)).is_ok() {
                    number += 1;
                    std::thread::sleep(Duration::from_micros(100));
                }
                let durable = writer.positions().durable;
                let failed = writer.close().unwrap_err();
                assert_eq!(failed.errors[0].raw_os_error(), Some(libc::ENOSPC), "{failed}");
                assert!(failed.summary.positions.durable >= durable);
                let found = whole(&folder);
                assert!(
                    found.len() as u64 >= durable && (found.len() as u64).is_multiple_of(frame)
                );
                let expected: Vec<u8> = (0..number + 20).flat_map(|it| bytes(it, 777)).collect();
                assert_same(&found, &expected[..found.len()], &NAME);
                fs::remove_dir_all(&folder).unwrap();
            }
        });
    }
}

#[test]
fn records_are_never_split_and_frames_at_their_ends_only() {
    let directory = directory();
    let mut folder = directory.path().join("records");
    fs::create_dir(&folder).unwrap();
    let mut writer = plain(&folder).size(1000).open().unwrap();
    // A slow machine takes its time for the next segment, and cuts seldom.
    let goes_on = |number, least, rotations| {
        assert!(number < 100_000, "{rotations} rotations");
        number < least || rotations <= 10
    };
    let mut number = 0;
    while goes_on(number, 100, writer.stats().rotations) {
        let _ = writer.write(&bytes(number, 300)).unwrap();
        number += 1;
        std::thread::sleep(Duration::from_millis(2));
    }
    writer.close().unwrap();
    for name in names(&folder) {
        assert_eq!(fs::metadata(folder.join(name)).unwrap().len() % 300, 0);
    }
    for policy in [OnFull::Block, OnFull::BlockFor(Duration::from_secs(60))] {
        folder = directory.path().join(format!("{policy:?}").replace(' ', ""));
        fs::create_dir(&folder).unwrap();
        let below = Config::STILL.options().on_full(policy);
        let options = plain(&folder).below(below).frame_bytes(12).size(5000);
        let mut writer = options.open().unwrap();
        let mut expected = Vec::new();
        let mut number = 0;
        while goes_on(number, 300, writer.stats().rotations) {
            let chunk = bytes(number, 1 + (number * 37 % 3001) as usize);
            let Push::Accepted(at) = writer.write(&chunk).unwrap() else { panic!("lost") };
            assert_eq!(at, expected.len() as u64);
            expected.extend(chunk);
            if number % 20 == 0 {
                writer.control().rotate();
            }
            number += 1;
            std::thread::sleep(Duration::from_millis(2)); // for the next segment
        }
        writer.close().unwrap();
        assert_same(&whole(&folder), &expected, &"frames");
        let all = names(&folder);
        for name in &all[..all.len() - 1] {
            let len = fs::metadata(folder.join(name)).unwrap().len();
            assert!(len.is_multiple_of(12), "{name}: {len}");
        }
    }
}

/// Pushes of a deadline thread, and so many rotations.
fn push_and_rotate(writer: &mut Writer, rotations: u32) {
    for _ in 0..rotations {
        for _ in 0..20 {
            while let Err(Error::Full { .. }) = writer.try_write(&[0x55; 200]) {
                std::hint::spin_loop();
            }
        }
        drop(writer.fence().unwrap());
        while !writer.rotate().unwrap() {
            std::hint::spin_loop(); // for the next segment
        }
    }
}

#[test]
fn a_push_that_rotates_allocates_nothing() {
    let polls = common::configs().into_iter().filter(|config| config.drive == Drive::Poll);
    for config in polls {
        watched(&config.to_string(), move || {
            let directory = directory();
            let below = config.options().on_full(OnFull::Fail);
            let mut writer = plain(directory.path()).below(below).size(9000).open().unwrap();
            let allocated = count::allocations(|| push_and_rotate(&mut writer, 50));
            assert_eq!(allocated, 0, "{config}");
            let pushed = writer.close().unwrap().positions.durable;
            assert_eq!(whole(directory.path()), vec![0x55; pushed as usize], "{config}");
        });
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_push_that_rotates_beside_a_polling_driver_makes_no_system_call() {
    const NAME: &str = "a_push_that_rotates_beside_a_polling_driver_makes_no_system_call";
    if let Some(folder) = common::child_task() {
        let below = writeflush::Options::new().drive(Drive::Poll).on_full(OnFull::Fail);
        let mut writer = plain(Path::new(&folder)).below(below).size(9000).open().unwrap();
        system_calls::without_system_calls(move || {
            push_and_rotate(&mut writer, 50);
            std::mem::forget(writer); // closing is no part of the promise
        });
        return;
    }
    if system_calls::the_clock_is_one() {
        return common::skip(NAME, "reading the clock is a system call here");
    }
    let directory = directory();
    let output = common::run_child(NAME, directory.path().to_str().unwrap(), |_| {});
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A header that says how long the data is, and a trailer.
fn with_header(options: Options) -> Options {
    options.head(|_| u64::MAX.to_le_bytes().into()).tail(|tail| {
        tail.write(b"end")?;
        tail.checkpoint(0, u64::to_le_bytes)
    })
}

#[test]
fn heads_and_tails_are_no_part_of_the_recording() {
    each_config(|config, folder| {
        let options = Options::new(pattern(folder)).below(config.options()).size(1000);
        let mut writer = with_header(options).open().unwrap();
        let mut expected = Vec::new();
        for number in 0..50 {
            let record = bytes(number, 130);
            assert_eq!(writer.write(&record).unwrap(), Push::Accepted(expected.len() as u64));
            expected.extend(record);
            if number % 9 == 0 {
                let described = writer.checkpoint(0, |segment, data| {
                    assert!(segment.path.exists() && data <= expected.len() as u64);
                    data.to_le_bytes()
                });
                assert_eq!(described.unwrap(), expected.len() as u64, "{config}");
            }
        }
        assert_eq!(writer.flush().unwrap(), expected.len() as u64);
        let summary = writer.close().unwrap();
        assert_eq!(summary.positions.durable, expected.len() as u64, "{config}");
        let mut found = Vec::new();
        for name in names(folder) {
            let file = fs::read(folder.join(name)).unwrap();
            let (header, data) = file.split_first_chunk::<8>().unwrap();
            let data = data.strip_suffix(b"end").unwrap();
            assert_eq!(u64::from_le_bytes(*header), data.len() as u64, "{config}");
            found.extend(data);
        }
        assert_same(&found, &expected, &config);
    });
}

#[test]
fn numbers_go_on_behind_the_highest_and_strangers_stay() {
    let directory = directory();
    let folder = directory.path();
    let strangers = ["take-000009.wav", "take-9.raw", "notes", "take-000009.raw.torn-5"];
    for name in strangers.iter().chain(&["take-000041.raw"]) {
        fs::write(folder.join(name), name).unwrap();
    }
    let mut writer = plain(folder).keep_count(1).open().unwrap();
    let found = writer.found().clone();
    assert_eq!((found.segments, found.first_sequence, found.unclosed), (1, 42, None));
    let _ = writer.write(b"one").unwrap();
    rotate(&mut writer);
    let _ = writer.write(b"two").unwrap();
    let summary = writer.close().unwrap();
    assert_eq!(summary.stats.removed, 2); // 41 and 42
    for name in strangers {
        assert_eq!(fs::read(folder.join(name)).unwrap(), name.as_bytes());
    }
    assert_eq!(names(folder).iter().filter(|name| !strangers.contains(&&***name)).count(), 1);
    assert_eq!(fs::read(folder.join("take-000043.raw")).unwrap(), b"two");
}

#[test]
fn the_oldest_go_and_no_other_file_that_has_their_name() {
    let directory = directory();
    let folder = directory.path();
    let log = Log::default();
    let mut writer = log.hears(plain(folder).keep_count(3)).open().unwrap();
    let name = |number: u64| folder.join(format!("take-{number:06}.raw"));
    for number in 1..=8 {
        let _ = writer.write(b"record").unwrap();
        rotate(&mut writer);
        until(|| log.closed().len() as u64 == number);
        if number == 4 {
            until(|| !log.removed().is_empty());
            fs::remove_file(name(3)).unwrap();
            fs::write(name(3), b"another").unwrap();
            fs::remove_file(name(4)).unwrap(); // somebody has removed it: nothing to tell
        }
    }
    writer.close().unwrap();
    assert_eq!(log.removed(), [1, 2, 5]);
    assert_eq!(log.not_removed().len(), 1);
    assert!(log.not_removed()[0].contains("another file has the name"), "{:?}", log.not_removed());
    assert_eq!(fs::read(name(3)).unwrap(), b"another");
    assert_eq!(names(folder).len(), 4);
}

/// By whoever needs it no more, and no rule.
#[test]
fn a_recording_is_truncated_from_the_front() {
    let folder = directory();
    let folder = folder.path();
    let log = Log::default();
    fs::write(folder.join("take-000002.raw"), b"an earlier recording").unwrap();
    let mut writer = log.hears(plain(folder)).open().unwrap();
    for number in 0..10 {
        let _ = writer.write(&bytes(number, 100)).unwrap();
        rotate(&mut writer);
    }
    until(|| writer.stats().closed == 10);
    assert_eq!(writer.stats().removed, 0);
    writer.truncate_front(6); // 3 was the first
    until(|| writer.stats().removed == 4);
    writer.truncate_front(4); // needs what is gone
    assert_eq!(names(folder).first().map(String::as_str), Some("take-000006.raw"));
    writer.truncate_front(u64::MAX); // all, and what will be
    until(|| writer.stats().removed == 11);
    let _ = writer.write(b"the last").unwrap();
    assert_eq!(writer.flush().unwrap(), 1008, "the one that is written stays");
    assert_eq!(names(folder).len(), 2);
    writer.close().unwrap();
    assert_eq!(names(folder), Vec::<String>::new());
    let removed: Vec<u64> = [2].into_iter().chain(3..=13).collect();
    assert_eq!(log.removed(), removed);
}

#[test]
fn a_segment_that_somebody_writes_is_left_alone() {
    let directory = directory();
    let folder = directory.path();
    let other = Config::STILL.create(&folder.join("take-000001.raw"));
    let log = Log::default();
    let mut writer = log.hears(plain(folder).keep_count(0)).open().unwrap();
    assert_eq!(writer.found().first_sequence, 2);
    let _ = writer.write(b"record").unwrap();
    rotate(&mut writer);
    until(|| !log.removed().is_empty());
    writer.close().unwrap();
    assert_eq!(log.removed(), [2]);
    assert!(log.not_removed()[0].contains("another writer"), "{:?}", log.not_removed());
    other.close().unwrap();
    assert_eq!(names(folder), ["take-000001.raw"]);
}

#[test]
fn old_segments_go_when_their_time_has_come() {
    let directory = directory();
    let folder = directory.path();
    fs::write(folder.join("take-000001.raw"), b"old").unwrap();
    let file = fs::File::options().write(true).open(folder.join("take-000001.raw")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
    fs::write(folder.join("take-000002.raw"), b"young").unwrap();
    let log = Log::default();
    let options = plain(folder).keep_for(Duration::from_secs(3600));
    let writer = log.hears(options).open().unwrap();
    until(|| !log.removed().is_empty());
    writer.close().unwrap();
    assert_eq!(log.removed(), [1]);
}

#[test]
fn a_segment_ends_with_its_time() {
    let directory = directory();
    let folder = directory.path();
    let mut writer = plain(folder).every(Duration::from_millis(5)).open().unwrap();
    while writer.stats().rotations < 5 {
        let _ = writer.write(b"record").unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let accepted = writer.positions().accepted;
    assert_eq!(writer.close().unwrap().positions.durable, accepted);
    assert_eq!(whole(folder).len() as u64, accepted);
}

/// vfat has no attributes: a writer says so.
fn takes_marks(folder: &Path) -> bool {
    let writer = writeflush::Options::new().create(folder.join("marked")).unwrap();
    !writer.fallbacks().iter().any(|reason| reason.contains("user.writeflush"))
}

#[test]
fn an_unfinished_recording_is_told_and_stays() {
    let directory = directory();
    let folder = directory.path();
    let ahead = Config::STILL.options().preallocate(Preallocate::Reserve(64 << 10));
    let writer = plain(folder).below(ahead).open().unwrap();
    std::mem::forget(writer); // its lock stays, as if another process had it
    let mut writer = plain(folder).open().unwrap();
    let found = writer.found();
    assert!(found.first_sequence >= 2 && found.bytes >= 64 << 10, "{found:?}");
    let is_marked = cfg!(target_os = "linux") && takes_marks(folder); // elsewhere nothing is
    assert_eq!(found.unclosed.is_some(), is_marked, "{found:?}");
    let _ = writer.write(b"goes on").unwrap();
    let segment = writer.segment().unwrap();
    writer.close().unwrap();
    assert_eq!(fs::read(segment.path).unwrap(), b"goes on");
}

/// Records until it is killed, and says what is in the files for certain.
#[cfg(target_os = "linux")]
fn victim(task: &str) -> ! {
    let (turn, folder) = task.split_once(' ').unwrap();
    let turn: u64 = turn.parse().unwrap();
    let config = common::configs()[turn as usize % common::configs().len()];
    let ahead = [Preallocate::None, Preallocate::Reserve(20_000)][turn as usize % 2];
    let options = plain(Path::new(folder)).below(config.options().preallocate(ahead)).size(5000);
    let end = common::End::of(turn, 0..60_000);
    let mut writer = options.open().unwrap();
    end.opened();
    println!("\nfirst {}", writer.found().first_sequence);
    for number in 0.. {
        writer.write(&bytes(number, 700)).unwrap();
        if number.is_multiple_of(7) {
            drop(writer.fence());
        }
        std::thread::sleep(Duration::from_micros(100));
        println!("\nwritten {}", writer.positions().written);
    }
    unreachable!()
}

/// Each goes on in the folder of those before.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_recording_leaves_what_is_written_and_the_next_one_leaves_it_alone() {
    const NAME: &str = "a_killed_recording_leaves_what_is_written_and_the_next_one_leaves_it_alone";
    if let Some(task) = common::child_task() {
        victim(&task);
    }
    let directory = directory();
    let folder = directory.path();
    let mut rotated = 0;
    for turn in 0..40 {
        let before: Vec<_> =
            names(folder).iter().map(|name| fs::read(folder.join(name)).unwrap()).collect();
        let task = format!("{turn} {}", folder.display());
        let output = common::run_child(NAME, &task, |_| {});
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = |word| {
            let numbers = said.lines().filter_map(|line| line.strip_prefix(word)?.parse().ok());
            numbers.max().unwrap_or(0u64)
        };
        let (written, names) = (number("written ") as usize, names(folder));
        let mut found = Vec::new();
        for (place, name) in names.iter().enumerate() {
            let mut file = fs::read(folder.join(name)).unwrap();
            match before.get(place) {
                // What the kernel held when its writer was killed may still have landed.
                Some(before) => {
                    let is_there = |(found, was): (&u8, &u8)| found == was || *was == 0;
                    assert!(file.len() >= before.len() && file.iter().zip(before).all(is_there));
                }
                None => {
                    file.truncate(file.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1));
                    found.extend(file); // what is ahead is no data
                }
            }
        }
        let expected: Vec<u8> =
            (0..written as u64 / 700 + 1).flat_map(|it| bytes(it, 700)).collect();
        assert!(found.len() >= written, "turn {turn}: {} of {written}", found.len());
        assert_same(&found[..written], &expected[..written], &format!("turn {turn}"));
        rotated += usize::from(written > 10_000);
        let first = number("first "); // 0: it was killed before it could say so
        for (name, number) in names[before.len()..].iter().zip(first..).filter(|_| first > 0) {
            assert_eq!(*name, format!("take-{number:06}.raw"));
        }
    }
    assert!(rotated > 0, "so slow is no machine, not even an emulated one");
}

#[test]
fn many_recordings_share_a_driver() {
    let directory = directory();
    let driver = Driver::new().unwrap();
    let below = writeflush::Options::new().buffer_size(4096).driver(&driver);
    let mut writers: Vec<_> = (0..4)
        .map(|number| {
            let name = format!("{number}-{{seq}}.raw");
            Options::new(directory.path().join(name))
                .below(below.clone())
                .size(1000)
                .open()
                .unwrap()
        })
        .collect();
    for turn in 0..100 {
        for writer in &mut writers {
            let _ = writer.write(&bytes(turn, 130)).unwrap();
        }
    }
    for writer in writers {
        assert_eq!(writer.close().unwrap().positions.durable, 13_000);
    }
}

#[test]
fn a_hook_that_fails_or_panics_ends_the_recording_and_loses_nothing() {
    let directory = directory();
    let wrong = || Err(Error::Options("the tail's own".into()));
    for panics in [false, true] {
        let folder = directory.path().join(format!("{panics}"));
        fs::create_dir(&folder).unwrap();
        let options = plain(&folder).tail(move |_| if panics { panic!("meant") } else { wrong() });
        let mut writer = options.open().unwrap();
        let _ = writer.write(b"data").unwrap();
        rotate(&mut writer);
        until(|| writer.error().is_some());
        assert!(writer.write(b"more").is_err());
        let failed = writer.close().unwrap_err();
        assert!(!failed.errors.is_empty());
        assert_eq!(whole(&folder), b"data");
    }
}

#[test]
fn what_can_t_work_is_refused_with_a_sentence_and_leaves_nothing() {
    let directory = directory();
    let folder = directory.path();
    let refused = |options: Options, why: &str| {
        let error = options.open().unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(names(folder).is_empty());
    };
    refused(Options::new(folder.join("take.raw")), "put {seq} into it once");
    refused(Options::new(folder.join("{utc}/{seq}")), "no / behind the first {");
    refused(plain(folder).size(0), "a segment of nothing");
    refused(plain(folder).every(Duration::ZERO), "a segment of nothing");
    refused(plain(folder).size(100).frame_bytes(101), "does not fit a segment");
    refused(plain(folder).frame_bytes(0), "does not fit a segment");
    refused(plain(folder).min_free(u64::MAX, Floor::Wait), "give a lower floor");
    refused(Options::new(folder.join("missing/{seq}")), "could not open");
    refused(plain(folder).below(Config::STILL.options().buffers(1)), "at least 2");
}
