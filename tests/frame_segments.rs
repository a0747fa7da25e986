//! Framed recordings in segments: each message once, in its order, in a file that is whole by itself; what
//! is missing is told; a killed recorder goes on. `WRITEFLUSH_KILLS=500 cargo test --test frame_segments`
//! kills so many of them.
#![cfg(not(any(loom, shuttle)))]
#![allow(unsafe_code)] // of what is shared with other tests

#[path = "common/allocations.rs"]
mod count;

mod common;
#[cfg(target_os = "linux")]
#[path = "common/system_calls.rs"]
mod system_calls;
#[path = "common/take.rs"]
mod take;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use common::{Config, directory, each_config, until, watched};
use take::{file, files, gaps, items, message, numbers, pattern, rotate, write};
use writeflush::frames::segments::{Item, Options, Reader, Writer};
use writeflush::frames::{self, End, Error, Push};
use writeflush::segments::{self, Closed, Event};
use writeflush::{Drive, OnFull};

/// A frame's header and a file's head, in bytes.
const HEADER: u64 = 40;
const HEAD: u64 = 64;

/// Segments that end behind these numbers.
fn record(options: segments::Options, numbers: std::ops::Range<u64>, ends: &[u64]) {
    let mut writer = Options::from(options).first_sequence(numbers.start).open().unwrap();
    for number in numbers {
        write(&mut writer, number);
        if ends.contains(&number) {
            rotate(&mut writer);
        }
    }
    writer.close().unwrap();
}

fn closed(events: &Mutex<Vec<Event>>) -> Vec<Closed> {
    let closed = |event: &Event| match event {
        Event::Closed(closed) => Some((**closed).clone()),
        _ => None,
    };
    events.lock().unwrap().iter().filter_map(closed).collect()
}

/// Each file by itself, and all of them together.
#[test]
fn what_is_written_is_read_with_every_backend_and_drive() {
    each_config(|config, folder| {
        let events = Arc::new(Mutex::new(Vec::new()));
        let log = events.clone();
        let below = config.options().checksum(true);
        let options = segments::Options::new(pattern(folder)).below(below).size(20_000);
        let options = options.on_event(move |event| log.lock().unwrap().push(event));
        let mut writer = Options::from(options).open().unwrap();
        let mut position = 0;
        for number in 0..200 {
            let message = message(number);
            let placed = match number % 4 {
                0 => {
                    writer.flush().unwrap(); // for room
                    let mut grant = writer.grant(message.len() + 100).unwrap();
                    grant[..message.len()].copy_from_slice(&message);
                    grant.commit(number, message.len())
                }
                1 => {
                    let parts = common::parts(&message);
                    match writer.write_parts(number, &parts).unwrap() {
                        Push::Accepted(placed) => placed,
                        Push::Lost { .. } => panic!("lost"),
                    }
                }
                _ => write(&mut writer, number),
            };
            assert_eq!((placed.sequence, placed.position), (number, position), "{config}");
            assert_eq!(placed.end, position + HEADER + message.len() as u64);
            position = placed.end;
            match number % 9 {
                0 => {
                    assert_eq!(writer.flush().unwrap(), position, "{config}");
                    assert_eq!(writer.positions().durable, position);
                }
                1 => assert_eq!(writer.fence().unwrap().wait().unwrap(), position, "{config}"),
                2 => rotate(&mut writer),
                _ => {}
            }
        }
        let generation = writer.generation();
        let summary = writer.close().unwrap();
        assert_eq!(summary.positions.durable, position, "{config}");
        let (items, end) = items(&pattern(folder));
        assert_eq!((numbers(&items), gaps(&items)), ((0..200).collect(), Vec::new()), "{config}");
        assert_eq!(end, Some(End::Closed { missing: 0 }));
        each_file_is_whole(&closed(&events), generation);
    });
}

fn each_file_is_whole(closed: &[Closed], generation: u64) {
    let mut next = 0;
    for closed in closed {
        let mut reader = frames::Reader::open(&closed.segment.path).unwrap();
        assert_eq!(reader.generation(), generation);
        let read: Vec<frames::Item> = reader.by_ref().map(Result::unwrap).collect();
        assert_eq!(reader.end(), Some(End::Closed { missing: 0 }));
        let told = closed.frames.unwrap();
        assert_eq!((told.frames, told.missing), (read.len() as u64, 0));
        assert_eq!((told.first_sequence, told.next_sequence), (next, next + told.frames));
        assert_eq!((told.first_time, told.last_time), (next, told.next_sequence - 1));
        next = told.next_sequence;
        let content = fs::read(&closed.segment.path).unwrap();
        let len = content.len() as u64;
        assert_eq!(closed.summary.file_len, Some(len));
        assert_eq!(closed.summary.checksum, Some(crc32c::crc32c(&content)));
        assert!(HEAD + closed.bytes < len, "the footer");
    }
}

#[test]
fn what_is_gone_is_a_gap_and_what_was_lost_is_told_where_it_was() {
    let folder = directory();
    let folder = folder.path();
    let mut writer = Options::from(files(folder)).first_sequence(100).open().unwrap();
    for number in 100..150 {
        match number {
            113 | 114 | 130 => writer.lose(1), // 130: the first of the fourth segment
            _ => drop(write(&mut writer, number)),
        }
        if number % 10 == 9 {
            rotate(&mut writer);
        }
    }
    writer.lose(3);
    writer.close().unwrap();
    let (all, end) = items(&pattern(folder));
    assert_eq!(gaps(&all), [(Some(3), 4, 1)]);
    // The last segment had nothing and went, and the losses with it.
    assert_eq!((numbers(&all).len(), end), (47, Some(End::Closed { missing: 0 })));
    let missing = |items: &[Item]| -> u64 {
        let of = |item: &Item| if let Item::Frame(frame) = item { frame.missing } else { 0 };
        items.iter().map(of).sum()
    };
    assert_eq!(missing(&all), 2);
    fs::remove_file(file(folder, 1)).unwrap();
    fs::remove_file(file(folder, 3)).unwrap();
    let (items, _) = items(&pattern(folder));
    assert_eq!(gaps(&items), [(None, 2, 10), (Some(2), 4, 11)]);
    assert_eq!(missing(&items), 2);
    let left: Vec<u64> = (110..120).chain(131..150).filter(|it| ![113, 114].contains(it)).collect();
    assert_eq!(numbers(&items), left);
}

#[test]
fn an_older_recording_in_the_folder_is_read_before() {
    let folder = directory();
    let folder = folder.path();
    record(files(folder), 0..10, &[4]);
    record(files(folder), 500..510, &[504]);
    let (items, _) = items(&pattern(folder));
    assert_eq!(numbers(&items), (0..10).chain(500..510).collect::<Vec<_>>());
    assert_eq!(gaps(&items), []);
    let anew: Vec<u64> = items
        .iter()
        .filter_map(|item| match item {
            Item::Segment(begins) if begins.anew => Some(begins.segment.sequence),
            _ => None,
        })
        .collect();
    assert_eq!(anew, [1, 3]);
    let mut reader = Reader::open(pattern(folder)).unwrap();
    assert!(reader.seek_sequence(3).unwrap()); // the newest recording is meant
    let read: Vec<Item> = reader.map(Result::unwrap).collect();
    assert_eq!(numbers(&read), (500..510).collect::<Vec<_>>());
}

/// What a reader has to say of the files, by reading each of them by itself.
fn expected(folder: &Path) -> Vec<(u64, u64, u64)> {
    let mut frames = Vec::new();
    for segment in segments::list(pattern(folder)).unwrap() {
        let Ok(reader) = frames::Reader::open(&segment.path) else { continue };
        for item in reader {
            if let frames::Item::Frame(frame) = item.unwrap() {
                frames.push((segment.sequence, frame.position, frame.sequence));
            }
        }
    }
    frames
}

/// Where the next frame lies that the reader gives, and all behind it.
fn rest(reader: Reader) -> Vec<(u64, u64, u64)> {
    let (mut frames, mut segment) = (Vec::new(), 0);
    for item in reader {
        match item.unwrap() {
            Item::Segment(begins) => segment = begins.segment.sequence,
            Item::Frame(frame) => frames.push((segment, frame.position, frame.sequence)),
            _ => {}
        }
    }
    frames
}

/// Harm of a folder: files that are gone, empty, cut, or damaged in their midst.
fn harm(folder: &Path, random: &mut fastrand::Rng) {
    for segment in segments::list(pattern(folder)).unwrap() {
        let mut content = fs::read(&segment.path).unwrap();
        match random.u8(..12) {
            0 => fs::remove_file(&segment.path).unwrap(),
            1 => fs::write(&segment.path, b"").unwrap(),
            2 => fs::write(&segment.path, &content[..random.usize(..=content.len())]).unwrap(),
            3 => {
                let at = random.usize(HEAD as usize..content.len());
                content[at] ^= 1;
                fs::write(&segment.path, content).unwrap();
            }
            _ => {}
        }
    }
}

#[test]
fn what_is_sought_is_found_whatever_became_of_the_files() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let folder = directory();
        let folder = folder.path();
        let count = random.u64(1..150);
        let ends: Vec<u64> = (0..count).filter(|_| random.u8(..6) == 0).collect();
        record(files(folder), 0..count, &ends);
        harm(folder, &mut random);
        let expected = expected(folder);
        let open = || Reader::open(pattern(folder)).unwrap();
        assert_eq!(rest(open()), expected, "{seed}");
        accounts_for_all(&items(&pattern(folder)).0, &format!("{seed}"));
        for _ in 0..20 {
            let sought = random.u64(..count + 10);
            let behind = |found: &(u64, u64, u64)| found.2 >= sought;
            let at = expected.iter().position(behind).unwrap_or(expected.len());
            let (mut by_number, mut by_time) = (open(), open());
            assert_eq!(by_number.seek_sequence(sought).unwrap(), at < expected.len(), "{seed}");
            assert_eq!(rest(by_number), expected[at..], "{seed}: number {sought}");
            assert_eq!(by_time.seek_time(sought).unwrap(), at < expected.len(), "{seed}");
            assert_eq!(rest(by_time), expected[at..], "{seed}: time {sought}");
            let place = (random.u64(..ends.len() as u64 + 3), random.u64(..30_000));
            let behind = |found: &(u64, u64, u64)| (found.0, found.1) >= place;
            let at = expected.iter().position(behind).unwrap_or(expected.len());
            let mut by_place = open();
            let found = by_place.seek_position(place.0, place.1).unwrap();
            assert_eq!(found, at < expected.len(), "{seed}: {place:?}");
            assert_eq!(rest(by_place), expected[at..], "{seed}: {place:?}");
        }
    }
}

/// Each number up to the last frame's is read, or told as missing, once.
fn accounts_for_all(items: &[Item], label: &str) {
    let mut due = 0;
    for item in items {
        match item {
            Item::Gap(gap) => due += gap.messages,
            Item::Frame(frame) => {
                due += frame.missing;
                assert_eq!(frame.sequence, due, "{label}");
                due += 1;
            }
            _ => {}
        }
    }
}

#[test]
fn a_reader_that_looks_again_goes_on_where_it_stood() {
    let folder = directory();
    let folder = folder.path();
    let mut writer = Options::from(files(folder)).open().unwrap();
    let mut reader = Reader::open(pattern(folder)).unwrap();
    let mut read = Vec::new();
    for number in 0..100 {
        write(&mut writer, number);
        if number % 7 == 0 {
            rotate(&mut writer);
        }
        if number % 5 == 0 {
            writer.flush().unwrap();
            until(|| writer.stats().closed == writer.stats().rotations);
            reader.refresh().unwrap();
            read.extend(reader.by_ref().map(Result::unwrap));
            assert_eq!(numbers(&read), (0..=number).collect::<Vec<_>>());
        }
    }
    writer.close().unwrap();
    reader.refresh().unwrap();
    read.extend(reader.by_ref().map(Result::unwrap));
    assert_eq!((numbers(&read), gaps(&read)), ((0..100).collect(), Vec::new()));
}

#[test]
fn a_segment_that_somebody_else_has_made_is_told_and_passed() {
    let folder = directory();
    let folder = folder.path();
    record(files(folder), 0..10, &[4]);
    fs::write(file(folder, 3), [b'x'; 100]).unwrap();
    let refused = Options::from(files(folder)).resume().unwrap_err();
    assert!(matches!(refused, Error::NotFramed { .. }), "{refused}");
    assert!(refused.to_string().contains("take-0003.frames"), "{refused}");
    assert_eq!(fs::read(file(folder, 3)).unwrap(), [b'x'; 100]);
    fs::rename(file(folder, 2), file(folder, 4)).unwrap();
    let mut reader = Reader::open(pattern(folder)).unwrap();
    let (mut read, mut refused) = (Vec::new(), 0);
    loop {
        match reader.read() {
            Ok(None) => break,
            Ok(Some(Item::Frame(frame))) => read.push(frame.sequence),
            Ok(Some(_)) => {}
            Err(error) => {
                assert!(matches!(error, Error::NotFramed { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!((read, refused), ((0..10).collect(), 1));
}

#[test]
fn what_can_t_work_is_refused_with_a_sentence_and_leaves_nothing() {
    let folder = directory();
    let folder = folder.path();
    let wrong: [(Options, &str); 6] = [
        (files(folder).frame_bytes(4).into(), "leave frame_bytes away"),
        (files(folder).head(|_| vec![1]).into(), "leave head and tail away"),
        (files(folder).tail(|_| Ok(())).into(), "leave head and tail away"),
        (
            files(folder).below(writeflush::Options::new().on_full(OnFull::Fill(0))).into(),
            "choose the policy Drop",
        ),
        (Options::from(files(folder)).longest(usize::MAX), "at most 1 GiB"),
        (Options::from(files(folder)).first_sequence(u64::MAX), "up to 2^62"),
    ];
    for (options, why) in wrong {
        let error = options.open().unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    }
    let mut writer = Options::from(files(folder)).longest(10).open().unwrap();
    let refused = writer.write(0, &[0; 11]).unwrap_err();
    assert!(matches!(refused, writeflush::Error::TooLong { offered: 11, limit: 10 }), "{refused}");
    assert_eq!(writer.next_sequence(), 0);
    // Its recorder lives.
    let locked = Options::from(files(folder)).resume().unwrap_err();
    let is_locked = matches!(locked, Error::Writer(writeflush::Error::Locked { .. }));
    assert!(is_locked, "{locked}");
    writer.write(0, &[1; 10]).unwrap();
    writer.close().unwrap();
    // Nothing is to be done.
    let (writer, found) = Options::from(files(folder)).resume().unwrap();
    assert!(found.recovered.is_empty() && found.removed.is_empty(), "{found:?}");
    assert_eq!((found.next_sequence, writer.next_sequence()), (1, 1));
}

/// The frames of one long message, and the policies that lose some.
#[test]
fn what_a_policy_drops_is_missing_by_number() {
    let folder = directory();
    let folder = folder.path();
    let below = Config::STILL.options().on_full(OnFull::Drop);
    let options = files(folder).below(below).size(3000);
    let mut writer = Options::from(options).open().unwrap();
    let (mut kept, mut lost) = (Vec::new(), 0);
    for number in 0..400 {
        match writer.write(number, &message(number)).unwrap() {
            Push::Accepted(placed) => kept.push(placed.sequence),
            Push::Lost { sequence } => {
                assert_eq!(sequence, number);
                lost += 1;
            }
        }
        if number % 50 == 0 {
            writer.flush().unwrap();
        }
    }
    writer.flush().unwrap();
    writer.close().unwrap();
    assert!(lost > 0 && !kept.is_empty());
    let (items, _) = items(&pattern(folder));
    assert_eq!(numbers(&items), kept);
    accounts_for_all(&items, "dropped");
}

/// Every call that promises to be quick, over and over, with rotations.
fn push_all(writer: &mut Writer, count: u64) {
    let payload = [0x55; 200];
    for number in 0..count {
        loop {
            let done = match number % 3 {
                0 => writer.try_write(number, &payload).map(drop),
                1 => writer.write(number, &payload).map(drop),
                _ => writer.grant(payload.len()).map(|mut grant| {
                    grant.copy_from_slice(&payload);
                    grant.commit(number, payload.len());
                }),
            };
            match done {
                Ok(()) => break,
                Err(writeflush::Error::Full { .. }) => std::hint::spin_loop(),
                Err(error) => panic!("{error}"),
            }
        }
        if number % 1000 == 0 {
            writer.lose(1);
        }
        if number % 5000 == 0 {
            while !writer.rotate().unwrap() {
                std::hint::spin_loop();
            }
        }
    }
}

#[test]
fn a_push_that_rotates_allocates_nothing() {
    let polls = common::configs().into_iter().filter(|config| config.drive == Drive::Poll);
    for config in polls {
        watched(&config.to_string(), move || {
            let folder = directory();
            let folder = folder.path();
            let below = config.options().buffer_size(64 << 10).on_full(OnFull::Fail);
            let mut writer = Options::from(files(folder).below(below)).open().unwrap();
            assert_eq!(count::allocations(|| push_all(&mut writer, 50_000)), 0, "{config}");
            assert_eq!(writer.close().unwrap().stats.rotations, 10);
        });
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_push_that_rotates_beside_a_polling_driver_makes_no_system_call() {
    const NAME: &str = "a_push_that_rotates_beside_a_polling_driver_makes_no_system_call";
    if let Some(path) = common::child_task() {
        let below = writeflush::Options::new().drive(Drive::Poll).on_full(OnFull::Fail);
        let mut writer = Options::from(files(Path::new(&path)).below(below)).open().unwrap();
        system_calls::without_system_calls(move || {
            push_all(&mut writer, 30_000);
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

// ---- killed -------------------------------------------------------------------------------------------

/// As a kill leaves it: segments that end nowhere, torn, with one that was ready, one without a head.
#[test]
fn what_a_killed_recorder_has_left_goes_on() {
    let folder = directory();
    let folder = folder.path();
    record(files(folder), 0..100, &[20, 40, 60, 80]);
    let whole: BTreeMap<u64, Vec<u8>> =
        (1..=5).map(|number| (number, fs::read(file(folder, number)).unwrap())).collect();
    let footer = |number: u64| {
        let bytes = &whole[&number];
        u64::from_le_bytes(bytes[bytes.len() - 24..][..8].try_into().unwrap()) as usize
    };
    fs::write(file(folder, 3), &whole[&3][..footer(3)]).unwrap();
    fs::write(file(folder, 4), &whole[&4][..footer(4) - 5]).unwrap();
    fs::write(file(folder, 5), [&whole[&5][..footer(5)], &[0; 5000]].concat()).unwrap();
    fs::write(file(folder, 6), &whole[&5][..HEAD as usize]).unwrap();
    fs::write(file(folder, 7), b"").unwrap();
    // Ready, too; a resume was killed that had not yet taken it away.
    fs::write(file(folder, 8), &whole[&5][..HEAD as usize]).unwrap();
    frames::Options::default().resume(file(folder, 8)).unwrap().0.close().unwrap();
    let (mut writer, found) = Options::from(files(folder)).resume().unwrap();
    let sequences = |segments: &[segments::Segment]| -> Vec<u64> {
        segments.iter().map(|segment| segment.sequence).collect()
    };
    let recovered: Vec<_> = found.recovered.iter().map(|(segment, _)| segment.clone()).collect();
    assert_eq!((sequences(&recovered), sequences(&found.removed)), (vec![3, 4, 5], vec![6, 7, 8]));
    assert_eq!(found.next_sequence, 100);
    let torn = found.recovered[1].1.torn.as_ref().unwrap();
    assert!(torn.path.display().to_string().contains("take-0004.frames.torn-"));
    for number in 100..110 {
        write(&mut writer, number);
    }
    writer.close().unwrap();
    let (items, end) = items(&pattern(folder));
    assert_eq!(numbers(&items), (0..80).chain(81..110).collect::<Vec<_>>());
    assert_eq!((gaps(&items), end), (vec![(Some(4), 5, 1)], Some(End::Closed { missing: 0 })));
    for segment in segments::list(pattern(folder)).unwrap() {
        let mut reader = frames::Reader::open(&segment.path).unwrap();
        while reader.read().unwrap().is_some() {}
        assert_eq!(reader.end(), Some(End::Closed { missing: 0 }), "{}", segment.sequence);
    }
}

/// The cookie of a recording goes on from file to file, whoever closes them, and is found when its own
/// file is gone.
#[test]
fn a_cookie_outlives_its_segment_and_its_writer() {
    let folder = directory();
    let folder = folder.path();
    let mut writer = Options::from(files(folder)).open().unwrap();
    write(&mut writer, 0);
    rotate(&mut writer);
    write(&mut writer, 1);
    writer.flush_with(b"two are there").unwrap();
    for number in 2..5 {
        write(&mut writer, number);
        rotate(&mut writer);
    }
    write(&mut writer, 5);
    writer.flush().unwrap();
    let crashed = directory();
    let closed = || (1..=4).all(|it| frames::Reader::open(file(folder, it)).is_ok_and(ends_closed));
    until(closed);
    for segment in segments::list(pattern(folder)).unwrap() {
        let to = crashed.path().join(segment.path.file_name().unwrap());
        fs::copy(&segment.path, to).unwrap();
    }
    writer.close().unwrap();
    for (folder, live) in [(crashed.path(), 5), (folder, 0)] {
        fs::remove_file(file(folder, 1)).unwrap();
        fs::remove_file(file(folder, 2)).unwrap(); // its own
        for turn in 0..3 {
            let (mut writer, found) = Options::from(files(folder)).resume().unwrap();
            let cookie = found.cookie.unwrap_or_else(|| panic!("{live}, {turn}"));
            assert_eq!((&cookie.bytes[..], cookie.next_sequence), (&b"two are there"[..], 2));
            assert_eq!(
                (found.recovered.len(), found.next_sequence),
                ((live > 0 && turn == 0).into(), 6 + turn)
            );
            write(&mut writer, 6 + turn);
            writer.close().unwrap();
            let list = segments::list(pattern(folder)).unwrap();
            fs::remove_file(&list[0].path).unwrap();
        }
        let (mut writer, _) = Options::from(files(folder)).resume().unwrap();
        writer.flush_with(b"another").unwrap();
        writer.close().unwrap();
        let found = Options::from(files(folder)).resume().unwrap().1;
        assert_eq!(found.cookie.unwrap().bytes, b"another");
    }
}

fn ends_closed(mut reader: frames::Reader<fs::File>) -> bool {
    while reader.read().unwrap().is_some() {}
    matches!(reader.end(), Some(End::Closed { .. }))
}

/// Resumes and records until it is killed, and says what is in the files for certain.
#[cfg(target_os = "linux")]
fn victim(task: &str) -> ! {
    let (turn, folder) = task.split_once(' ').unwrap();
    let turn: u64 = turn.parse().unwrap();
    let config = common::configs()[turn as usize % common::configs().len()];
    let ahead = [writeflush::Preallocate::None, writeflush::Preallocate::Reserve(1 << 20)];
    let below = config.options().buffer_size(16 << 10).preallocate(ahead[turn as usize % 2]);
    let end = common::End::of(turn, 1000..60_000);
    let options = files(Path::new(folder)).below(below).size(30_000 + 1000 * (turn % 50));
    let (mut writer, _) = Options::from(options).resume().unwrap();
    end.opened();
    let first = writer.next_sequence();
    let mut ends = Vec::new();
    loop {
        let number = writer.next_sequence();
        ends.push(write(&mut writer, number).end);
        if number.is_multiple_of(7) {
            drop(writer.fence());
        }
        let written = writer.positions().written;
        let whole = ends.partition_point(|end| *end <= written) as u64;
        println!("\nwritten {first} {}", first + whole);
    }
}

/// Kill -9 of one recording again and again, with every backend and drive in turn: each finds what the
/// one before has left, and nothing that was written is ever missing. (What was not may be, with later
/// frames behind it, in the next segment.)
#[cfg(target_os = "linux")]
#[test]
fn a_recording_survives_being_killed_again_and_again() {
    const NAME: &str = "a_recording_survives_being_killed_again_and_again";
    if let Some(task) = common::child_task() {
        victim(&task);
    }
    let kills: u64 =
        std::env::var("WRITEFLUSH_KILLS").map_or(36, |text| text.parse().expect("a number"));
    let folder = directory();
    let folder = folder.path();
    let mut known = Vec::new();
    for turn in 0..kills {
        let said = take::last_words(NAME, &format!("{turn} {}", folder.display()));
        let told = |line: &String| -> Option<std::ops::Range<u64>> {
            let (first, next) = line.strip_prefix("written ")?.trim().split_once(' ')?;
            Some(first.parse().ok()?..next.parse().ok()?)
        };
        known.extend(said.iter().filter_map(told).next_back().into_iter().flatten());
        // The kernel may still have its files in use for a moment, as if it lived.
        until(|| numbers(&items(&pattern(folder)).0).last() >= known.last());
        has_all(&items(&pattern(folder)).0, &known, turn);
    }
    let (writer, found) = Options::from(files(folder)).resume().unwrap();
    writer.close().unwrap();
    let (items, _) = items(&pattern(folder));
    has_all(&items, &known, kills);
    assert!(known.len() > 100 && found.next_sequence > *known.last().unwrap(), "{found:?}");
    let holes = items.iter().filter(|item| matches!(item, Item::Hole(_))).count();
    assert_eq!(holes, 0);
}

/// Which frames are in which segment.
#[cfg(target_os = "linux")]
fn outline(items: &[Item]) -> String {
    let mut outline = String::new();
    for item in items {
        match item {
            Item::Segment(begins) => outline += &format!("\n{}:", begins.segment.sequence),
            Item::Frame(frame) => outline += &format!(" {}", frame.sequence),
            Item::Hole(hole) => outline += &format!(" hole {}..{}", hole.from, hole.to),
            Item::Gap(gap) => outline += &format!(" gap of {}", gap.messages),
        }
    }
    outline
}

/// These numbers, and others, each once.
#[cfg(target_os = "linux")]
fn has_all(items: &[Item], known: &[u64], turn: u64) {
    let read = numbers(items);
    let rises = read.is_sorted_by(|one, next| one < next);
    assert!(rises, "{turn}: {}", outline(items));
    let missing = known.iter().find(|number| read.binary_search(number).is_err());
    assert_eq!(missing, None, "{turn}: {:?}", gaps(items));
    accounts_for_all(items, &format!("{turn}"));
}

// ---- followed -----------------------------------------------------------------------------------------

#[cfg(target_os = "linux")]
mod follow {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use writeflush::follow::Watermark;
    use writeflush::frames::segments::Follower;

    const BOTH: [Watermark; 2] = [Watermark::Written, Watermark::Durable];

    fn followed(folder: &Path, config: Config) -> segments::Options {
        files(folder).below(config.options().followed(true)).size(20_000)
    }

    /// Beside the writer of this process, whose positions can be asked: what is read is never above them.
    #[test]
    fn a_follower_goes_from_segment_to_segment() {
        each_config(|config, folder| {
            let mut writer = Options::from(followed(folder, config)).open().unwrap();
            let ends = Arc::new(Mutex::new(Vec::new()));
            let control = writer.control().clone();
            let readers = BOTH.map(|watermark| {
                let mut follower = Follower::open(pattern(folder), watermark).unwrap();
                let (control, ends) = (control.clone(), ends.clone());
                thread::spawn(move || {
                    let mut items = Vec::new();
                    while let Some(item) = follower.read().unwrap() {
                        let positions = control.positions();
                        let limit = match watermark {
                            Watermark::Written => positions.written,
                            Watermark::Durable => positions.durable,
                        };
                        if let Item::Frame(frame) = &item {
                            // Whoever pushes has told of its place before it is written, or soon.
                            until(|| ends.lock().unwrap().len() as u64 > frame.sequence);
                            let end = ends.lock().unwrap()[frame.sequence as usize];
                            assert!(end <= limit, "{end} above {limit}");
                        }
                        items.push(item);
                    }
                    items
                })
            });
            let mut random = fastrand::Rng::with_seed(3);
            for number in 0..300 {
                let placed = write(&mut writer, number);
                ends.lock().unwrap().push(placed.end);
                match random.u8(..12) {
                    0 => drop(writer.flush().unwrap()),
                    1 => rotate(&mut writer),
                    _ => {}
                }
            }
            writer.close().unwrap();
            for reader in readers {
                let items = reader.join().unwrap();
                assert_eq!(numbers(&items), (0..300).collect::<Vec<_>>(), "{config}");
                assert_eq!(gaps(&items), []);
            }
        });
    }

    /// The same of one that has something else to do.
    #[test]
    fn with_a_limit_a_follower_goes_from_segment_to_segment() {
        each_config(|config, folder| {
            let mut writer = Options::from(followed(folder, config)).open().unwrap();
            let mut follower = Follower::open(pattern(folder), Watermark::Durable).unwrap();
            let limit = Duration::from_millis(1);
            assert!(matches!(follower.read_timeout(limit), Ok(Some(Some(Item::Segment(_))))));
            assert_eq!(follower.read_timeout(limit).unwrap(), None, "{config}");
            let reader = thread::spawn(move || {
                let (mut items, mut random) = (Vec::new(), fastrand::Rng::with_seed(9));
                loop {
                    let limit = Duration::from_micros(random.u64(..2000));
                    match follower.read_timeout(limit).unwrap() {
                        None => {}
                        Some(None) => return items,
                        Some(Some(item)) => items.push(item),
                    }
                }
            });
            for number in 0..300 {
                write(&mut writer, number);
                match number % 17 {
                    0 => drop(writer.flush().unwrap()),
                    9 => rotate(&mut writer),
                    _ => {}
                }
            }
            writer.close().unwrap();
            let items = reader.join().unwrap();
            assert_eq!(numbers(&items), (0..300).collect::<Vec<_>>(), "{config}");
            assert_eq!(gaps(&items), []);
        });
    }

    /// What is removed before it is read is told, and where it was.
    #[test]
    fn a_follower_that_falls_behind_is_told_what_it_missed() {
        watched("behind", || {
            let folder = directory();
            let folder = folder.path();
            let options = followed(folder, Config::STILL).keep_count(3);
            let mut writer = Options::from(options).open().unwrap();
            write(&mut writer, 0);
            writer.flush().unwrap();
            let mut follower = Follower::open(pattern(folder), Watermark::Durable).unwrap();
            assert!(matches!(follower.read(), Ok(Some(Item::Segment(_)))));
            assert_eq!(numbers(&[follower.read().unwrap().unwrap()]), [0]);
            for number in 1..100 {
                rotate(&mut writer);
                write(&mut writer, number);
            }
            writer.close().unwrap();
            let mut items = Vec::new();
            while let Some(item) = follower.read().unwrap() {
                items.push(item);
            }
            // 100 segments, of which the newest three are there.
            assert_eq!(numbers(&items), [97, 98, 99]);
            assert_eq!(gaps(&items), [(Some(1), 98, 96)]);
            let mut late = Follower::open_at(pattern(folder), Watermark::Durable, 98).unwrap();
            let mut items = Vec::new();
            while let Some(item) = late.read().unwrap() {
                items.push(item);
            }
            assert_eq!((numbers(&items), gaps(&items)), (vec![98, 99], Vec::new()));
        });
    }

    #[test]
    fn where_nobody_can_be_followed_one_sentence_says_so() {
        let folder = directory();
        let folder = folder.path();
        let nothing = Follower::open(pattern(folder), Watermark::Durable).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::NotFound, "{nothing}");
        let mut writer = Options::from(files(folder)).open().unwrap(); // not `followed`
        write(&mut writer, 0);
        writer.flush().unwrap();
        let nobody = Follower::open(pattern(folder), Watermark::Durable).unwrap_err();
        assert!(nobody.to_string().contains("Options::followed"), "{nobody}");
        writer.close().unwrap();
        // Closed, it is a file as any other.
        let mut follower = Follower::open(pattern(folder), Watermark::Durable).unwrap();
        let mut items = Vec::new();
        while let Some(item) = follower.read().unwrap() {
            items.push(item);
        }
        assert_eq!(numbers(&items), [0]);
    }

    fn recorder(task: &str) -> ! {
        let (turn, folder) = task.split_once(' ').unwrap();
        let turn: u64 = turn.parse().unwrap();
        let config = common::configs()[turn as usize % common::configs().len()];
        let options = followed(Path::new(folder), config).keep_count(1000);
        let (mut writer, _) = Options::from(options).resume().unwrap();
        println!("\nrecords");
        thread::spawn(move || {
            thread::sleep(Duration::from_micros(fastrand::Rng::with_seed(turn).u64(..50_000)));
            // SAFETY: a plain system call.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        });
        loop {
            let number = writer.next_sequence();
            write(&mut writer, number);
            if number.is_multiple_of(5) {
                writer.flush().unwrap();
            }
        }
    }

    /// Recorders are killed and go on; whoever follows hears of each end, goes on with the next, and has no
    /// frame twice, and none that is not there for ever.
    #[test]
    fn recorders_that_are_killed_are_followed() {
        const NAME: &str = "follow::recorders_that_are_killed_are_followed";
        if let Some(task) = common::child_task() {
            recorder(&task);
        }
        watched(NAME, || {
            let folder = directory();
            let folder = folder.path().to_path_buf();
            let (mut read, mut died) = (Vec::new(), 0);
            for turn in 0..24 {
                let task = format!("{turn} {}", folder.display());
                let child = thread::spawn(move || common::run_child(NAME, &task, |_| {}));
                while !child.is_finished() {
                    died += u64::from(follow_until_it_ends(&folder, &mut read));
                }
                let output = child.join().unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                use std::os::unix::process::ExitStatusExt;
                assert_eq!(output.status.signal(), Some(9), "{turn}: {said}");
            }
            let _ = Options::from(files(&folder)).resume().unwrap();
            has_all(&items(&pattern(&folder)).0, &read, 24);
            assert!(read.is_sorted_by(|one, next| one < next), "{read:?}");
            assert!(read.len() > 20 && died > 0, "{} frames, {died} died", read.len());
        });
    }

    /// From the frame behind the last that was read. Whether the recorder died before its eyes.
    fn follow_until_it_ends(folder: &Path, read: &mut Vec<u64>) -> bool {
        let next = read.last().map_or(0, |last| last + 1);
        let opened = Follower::open_at(pattern(folder), Watermark::Durable, next);
        let Ok(mut follower) = opened else {
            thread::sleep(Duration::from_millis(1)); // it begins, or resumes, or has died
            return false;
        };
        loop {
            match follower.read() {
                Ok(Some(item)) => read.extend(numbers(&[item])),
                Ok(None) => return false, // its resume has closed what there was
                Err(error) => return error.to_string().contains("could not follow"),
            }
        }
    }
}
