//! Segments that are made of older ones: nothing old is ever read as new, whoever reads an old one keeps it,
//! and a kill or a power cut at any step leaves a recording that goes on. `WRITEFLUSH_KILLS=500 cargo test
//! --test recycle` kills so many recorders.
#![cfg(all(target_os = "linux", not(any(loom, shuttle))))]
#![allow(unsafe_code)] // of what is shared with other tests

mod common;
#[path = "common/take.rs"]
mod take;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use common::{Config, Mount, directory, each_config, fill_up, has_own_mounts, until};
use take::{file, files, gaps, items, message, numbers, pattern, rotate, write};
use writeflush::follow::Watermark;
use writeflush::frames::segments::{Follower, Item, Options, Writer};
use writeflush::frames::{self, End};
use writeflush::segments::{self, Event, Floor};

/// Bytes of a file's head.
const HEAD: usize = 64;

/// The writer's segments, closed all but the one that is written, and the next one ready.
fn settled(writer: &Writer) {
    until(|| writer.stats().closed == writer.stats().rotations);
}

/// Segments of five messages each.
fn segments_of_five(writer: &mut Writer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        write(writer, number);
        if number % 5 == 4 {
            rotate(writer);
            settled(writer);
        }
    }
}

fn inodes(folder: &Path) -> BTreeSet<u64> {
    let segments = segments::list(pattern(folder)).unwrap();
    segments.iter().map(|it| fs::metadata(&it.path).unwrap().ino()).collect()
}

#[test]
fn the_oldest_segment_becomes_the_next_one() {
    each_config(|config, folder| {
        let events = Arc::new(Mutex::new(Vec::new()));
        let log = events.clone();
        let options = files(folder).below(config.options().checksum(true)).keep_count(3);
        let options = options.recycle(true).on_event(move |it| log.lock().unwrap().push(it));
        let mut writer = Options::from(options).open().unwrap();
        let mut seen = BTreeSet::new();
        for lap in 0..40 {
            segments_of_five(&mut writer, lap * 5..lap * 5 + 5);
            writer.flush().unwrap();
            seen.append(&mut inodes(folder));
        }
        let summary = writer.close().unwrap();
        assert!(summary.stats.recycled >= 30, "{config}: {:?}", summary.stats);
        assert!(seen.len() <= 10, "{config}: {} files", seen.len());
        let events = events.lock().unwrap();
        let mut removed = 0;
        for event in &*events {
            match event {
                Event::Removed(segment) => {
                    removed += 1;
                    assert_eq!(segment.sequence, removed, "{config}: the oldest first");
                }
                Event::Closed(closed) if closed.segment.path.exists() => {
                    let content = fs::read(&closed.segment.path).unwrap();
                    assert_eq!(closed.summary.file_len, Some(content.len() as u64), "{config}");
                    assert_eq!(closed.summary.checksum, Some(crc32c::crc32c(&content)));
                    // Nothing of the older one is left.
                    let mut reader = frames::Reader::open(&closed.segment.path).unwrap();
                    let read = reader.by_ref().filter(|it| it.is_ok()).count() as u64;
                    assert_eq!(read, closed.frames.unwrap().frames, "{config}");
                    assert_eq!(reader.end(), Some(End::Closed { missing: 0 }), "{config}");
                }
                Event::Closed(_) => {}
                other => panic!("{config}: {other:?}"),
            }
        }
        let (items, end) = items(&pattern(folder));
        assert_eq!(segments::list(pattern(folder)).unwrap().len(), 3, "{config}: what is kept");
        assert_eq!(numbers(&items), (185..200).collect::<Vec<_>>(), "{config}");
        assert_eq!(end, Some(End::Closed { missing: 0 }));
    });
}

/// Its blocks, too: what was written of the older one and is not yet written over does not come again.
#[test]
fn a_live_segment_shows_nothing_of_the_one_that_it_was() {
    each_config(|config, folder| {
        let options = files(folder).below(config.options()).keep_count(1).recycle(true);
        let mut writer = Options::from(options).open().unwrap();
        segments_of_five(&mut writer, 0..40);
        until(|| writer.stats().recycled > 3);
        write(&mut writer, 40);
        writer.flush().unwrap();
        let (items, end) = items(&pattern(folder));
        // What it keeps, what is to be the next, and what is written.
        assert_eq!(numbers(&items).last(), Some(&40), "{config}");
        assert!(numbers(&items).is_sorted_by(|one, next| one + 1 == *next), "{config}");
        assert!(!matches!(end, Some(End::Closed { .. })), "{config}: {end:?}");
        writer.close().unwrap();
    });
}

/// It is read as it was, by whoever has it open or has linked it; the recording goes on in a new file.
#[test]
fn who_has_a_segment_keeps_it() {
    let folder = directory();
    let folder = folder.path();
    let mut writer = Options::from(files(folder).keep_count(1).recycle(true)).open().unwrap();
    segments_of_five(&mut writer, 0..5);
    let (opened, linked) = (file(folder, 1), file(folder, 2));
    let reader = fs::File::open(&opened).unwrap();
    segments_of_five(&mut writer, 5..10);
    let archived = folder.join("archived");
    fs::hard_link(&linked, &archived).unwrap();
    segments_of_five(&mut writer, 10..40);
    assert!(!opened.exists() && !linked.exists());
    let read = |reader: frames::Reader<fs::File>| -> Vec<u64> {
        let frame = |item: frames::Item| match item {
            frames::Item::Frame(frame) => frame,
            frames::Item::Hole(hole) => panic!("{hole:?}"),
        };
        let frames = reader.map(|item| frame(item.unwrap()));
        frames
            .inspect(|it| assert_eq!(it.payload, message(it.sequence)))
            .map(|it| it.sequence)
            .collect()
    };
    assert_eq!(read(frames::Reader::new(reader).unwrap()), [0, 1, 2, 3, 4]);
    assert_eq!(read(frames::Reader::open(archived).unwrap()), [5, 6, 7, 8, 9]);
    assert!(writer.stats().recycled > 0);
    writer.close().unwrap();
}

/// Another file with its name is another's.
#[test]
fn a_name_that_was_given_again_is_left_alone() {
    let folder = directory();
    let folder = folder.path();
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = events.clone();
    let options = files(folder).keep_count(1).recycle(true);
    let options = options.on_event(move |it| log.lock().unwrap().push(it));
    let mut writer = Options::from(options).open().unwrap();
    segments_of_five(&mut writer, 0..10);
    fs::remove_file(file(folder, 1)).unwrap();
    fs::write(file(folder, 1), b"another's").unwrap();
    segments_of_five(&mut writer, 10..30);
    writer.close().unwrap();
    assert_eq!(fs::read(file(folder, 1)).unwrap(), b"another's");
    let events = events.lock().unwrap();
    assert!(events.iter().any(|it| matches!(it, Event::NotRemoved(_))), "{events:?}");
}

/// A disk that comes to its floor gets back what was put by, before the recording stops.
#[test]
fn what_is_put_by_goes_when_the_disk_needs_it() {
    const NAME: &str = "what_is_put_by_goes_when_the_disk_needs_it";
    const FLOOR: i64 = 4 << 20;
    if !has_own_mounts(NAME) {
        return;
    }
    let folder = directory();
    let folder = folder.path();
    let _mount = Mount::tmpfs(folder, "size=8m");
    let options = files(folder).keep_count(5).recycle(true).min_free(FLOOR as u64, Floor::Stop);
    let mut writer = Options::from(options).open().unwrap();
    for number in 0..20 {
        writer.write(number, &[7; 200_000]).unwrap();
        rotate(&mut writer);
        settled(&writer);
    }
    let count = || segments::list(pattern(folder)).unwrap().len();
    until(|| count() == 8); // five, one that is put by, the one that is written, and the next
    let fill = fill_up(folder, FLOOR - 100_000);
    until(|| count() == 7);
    assert_eq!(write(&mut writer, 20).sequence, 20);
    fs::remove_file(fill).unwrap();
    assert_eq!(writer.close().unwrap().stats.removed, 20 - 5 + 1);
    assert_eq!(count(), 5);
}

#[test]
fn what_can_t_be_recycled_is_refused_with_a_sentence() {
    let folder = directory();
    let folder = folder.path();
    let raw = files(folder).keep_count(3).recycle(true).open().unwrap_err();
    assert!(raw.to_string().contains("leave recycle out"), "{raw}");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
}

/// A recorder that is begun again recycles only what it has recorded itself.
#[test]
fn what_was_found_goes_as_usual() {
    let folder = directory();
    let folder = folder.path();
    let options = || Options::from(files(folder).keep_count(2).recycle(true));
    let mut writer = options().open().unwrap();
    segments_of_five(&mut writer, 0..30);
    writer.close().unwrap();
    let (mut writer, found) = options().resume().unwrap();
    assert_eq!(found.next_sequence, 30);
    segments_of_five(&mut writer, 30..45);
    assert_eq!(writer.stats().recycled, 0);
    segments_of_five(&mut writer, 45..60);
    assert!(writer.stats().recycled > 0);
    writer.close().unwrap();
    let (items, _) = items(&pattern(folder));
    assert_eq!(numbers(&items), (50..60).collect::<Vec<_>>());
}

// ---- crashes ------------------------------------------------------------------------------------------

/// The head of a segment that was to be made of this one, under the old name.
fn interrupt(path: &Path) {
    let mut content = fs::read(path).unwrap();
    let generation: [u8; 8] = content[16..24].try_into().unwrap();
    content[16..24].copy_from_slice(&[0x5A; 8]);
    content[24..32].copy_from_slice(&[0xFF; 8]);
    content[40..48].copy_from_slice(&generation);
    content[48] = 99;
    let sum = crc32c::crc32c(&content[..60]);
    content[60..HEAD].copy_from_slice(&sum.to_le_bytes());
    fs::write(path, content).unwrap();
}

/// As a power cut leaves it between the new head and the new name.
#[test]
fn a_segment_that_was_to_become_the_next_one_goes() {
    for segments in [2, 5, 20] {
        let folder = directory();
        let folder = folder.path();
        let mut writer = Options::from(files(folder)).open().unwrap();
        segments_of_five(&mut writer, 0..segments * 5);
        writer.close().unwrap();
        interrupt(&file(folder, 1));
        let (read, _) = items(&pattern(folder));
        assert_eq!(numbers(&read), (5..segments * 5).collect::<Vec<_>>());
        assert_eq!(gaps(&read), [(None, 2, 5)], "as if it had gone");
        let (writer, found) = Options::from(files(folder)).resume().unwrap();
        let removed: Vec<u64> = found.removed.iter().map(|it| it.sequence).collect();
        assert_eq!((removed, found.recovered.len()), (vec![1], 0), "{segments}");
        assert_eq!(found.next_sequence, segments * 5);
        writer.close().unwrap();
        assert!(!file(folder, 1).exists());
    }
}

/// Whatever somebody has called it since.
#[test]
fn a_recycled_segment_that_was_renamed_is_read() {
    let folder = directory();
    let folder = folder.path();
    let mut writer = Options::from(files(folder).keep_count(2).recycle(true)).open().unwrap();
    segments_of_five(&mut writer, 0..50);
    assert!(writer.stats().recycled > 3);
    writer.close().unwrap();
    let segments = segments::list(pattern(folder)).unwrap();
    assert_eq!(numbers(&items(&pattern(folder)).0), (40..50).collect::<Vec<_>>());
    fs::rename(&segments[1].path, file(folder, 77)).unwrap();
    assert_eq!(numbers(&items(&pattern(folder)).0), (40..50).collect::<Vec<_>>());
    let mut follower = Follower::open(pattern(folder), Watermark::Durable).unwrap();
    let mut followed = Vec::new();
    while let Some(item) = follower.read().unwrap() {
        followed.push(item);
    }
    assert_eq!(numbers(&followed), (40..50).collect::<Vec<_>>());
}

/// A file that has lost its head is read as what it is now.
#[test]
fn a_damaged_head_brings_nothing_old_back() {
    let folder = directory();
    let folder = folder.path();
    let mut writer = Options::from(files(folder).keep_count(3).recycle(true)).open().unwrap();
    segments_of_five(&mut writer, 0..50);
    until(|| writer.stats().recycled > 3);
    write(&mut writer, 50); // over one of the older ones
    writer.flush().unwrap();
    let expected = numbers(&items(&pattern(folder)).0);
    for segment in segments::list(pattern(folder)).unwrap().iter().skip(1) {
        let copy = directory();
        for other in segments::list(pattern(folder)).unwrap() {
            let mut content = fs::read(&other.path).unwrap();
            if other == *segment {
                content[20] ^= 1;
            }
            fs::write(copy.path().join(other.path.file_name().unwrap()), content).unwrap();
        }
        let read = numbers(&items(&pattern(copy.path())).0);
        assert_eq!(read, expected, "{}", segment.sequence);
    }
    writer.close().unwrap();
}

/// Resumes and records until it is killed, and says what is in the files for certain.
fn victim(task: &str) -> ! {
    let (turn, folder) = task.split_once(' ').unwrap();
    let turn: u64 = turn.parse().unwrap();
    let config: Config = common::configs()[turn as usize % common::configs().len()];
    let below = config.options().buffer_size(16 << 10);
    let end = common::End::of(turn, 5000..100_000);
    let options = files(Path::new(folder)).below(below).size(9000 + 1000 * (turn % 20));
    let options = options.keep_count(1 + turn % 4).recycle(true);
    let (mut writer, _) = Options::from(options).resume().unwrap();
    end.opened();
    let first = writer.next_sequence();
    let mut ends = Vec::new();
    loop {
        let number = writer.next_sequence();
        writer.wait_for_next(2500, std::time::Duration::from_secs(1)).unwrap();
        ends.push(write(&mut writer, number).end);
        if number.is_multiple_of(7) {
            drop(writer.fence());
        }
        let written = writer.positions().written;
        let whole = ends.partition_point(|end| *end <= written) as u64;
        let recycled = writer.stats().recycled;
        println!("\nwritten {} recycled {recycled}", first + whole);
    }
}

/// Kill -9 of one recording again and again, with every backend and drive in turn: each finds what the one
/// before has left, the newest of it without a gap up to what was written, and nothing twice.
#[test]
fn a_recording_that_recycles_survives_being_killed_again_and_again() {
    const NAME: &str = "a_recording_that_recycles_survives_being_killed_again_and_again";
    if let Some(task) = common::child_task() {
        victim(&task);
    }
    let kills: u64 =
        std::env::var("WRITEFLUSH_KILLS").map_or(36, |text| text.parse().expect("a number"));
    let folder = directory();
    let folder = folder.path();
    let (mut written, mut recycled) = (0, 0);
    for turn in 0..kills {
        let said = take::last_words(NAME, &format!("{turn} {}", folder.display()));
        let told = |line: &String| -> Option<(u64, u64)> {
            let (next, recycled) =
                line.strip_prefix("written ")?.trim().split_once(" recycled ")?;
            Some((next.parse().ok()?, recycled.parse().ok()?))
        };
        if let Some((next, times)) = said.iter().filter_map(told).next_back() {
            (written, recycled) = (next, recycled + times);
        }
        // The kernel may still have its files in use for a moment, as if it lived.
        let last = || numbers(&items(&pattern(folder)).0).last().map_or(0, |last| last + 1);
        until(|| last() >= written);
        holds_together(&items(&pattern(folder)).0, turn);
    }
    let (writer, found) = Options::from(files(folder)).resume().unwrap();
    writer.close().unwrap();
    assert!(found.next_sequence >= written && recycled > 0, "{recycled}, {found:?}");
    let (items, _) = items(&pattern(folder));
    holds_together(&items, kills);
    assert!(!items.iter().any(|item| matches!(item, Item::Hole(_))));
    assert_eq!(numbers(&items).last(), Some(&(found.next_sequence - 1)));
}

/// Numbers rise, and only what was never written is missing: at the end of a segment that was killed.
fn holds_together(items: &[Item], turn: u64) {
    assert!(numbers(items).is_sorted_by(|one, next| one < next), "{turn}");
}
