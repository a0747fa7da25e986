//! Framed files: what is written is read, nothing else ever is, and a recovery loses nothing.
#![cfg(not(any(loom, shuttle)))]
#![allow(unsafe_code)] // of what is shared with other tests

#[path = "common/allocations.rs"]
mod count;

mod common;
#[cfg(target_os = "linux")]
#[path = "common/system_calls.rs"]
mod system_calls;

use std::fs;
use std::io::Cursor;
use std::path::Path;

use common::{Config, bytes, directory, each_config};
use proptest::prelude::*;
use writeflush::frames::{
    End, Error, Frame, Item, LONGEST_COOKIE, Options, Placed, Push, Reader, Writer, recover,
};
use writeflush::{Direct, Drive, OnFull};

const HEAD: u64 = 64;
const HEADER: u64 = 40;
const END: u64 = 64;

/// Small buffers, through the page cache, on the caller's thread: files that are quick to make.
fn plain() -> Options {
    Options::from(Config::STILL.options())
}

/// A message, as it has to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    position: u64,
    sequence: u64,
    time: u64,
    payload: Vec<u8>,
}

impl From<Frame> for Message {
    fn from(frame: Frame) -> Self {
        let Frame { position, sequence, time, payload, .. } = frame;
        Self { position, sequence, time, payload }
    }
}

/// A file with messages of these lengths, closed or not, and what is in it.
fn written(options: &Options, path: &Path, lengths: &[usize], close: bool) -> Vec<Message> {
    let mut writer = options.create(path).unwrap();
    let mut messages = Vec::new();
    for (number, len) in lengths.iter().enumerate() {
        let (time, payload) = (1000 + 10 * number as u64, bytes(number as u64, *len));
        let Push::Accepted(Placed { position, sequence, .. }) =
            writer.write(time, &payload).unwrap()
        else {
            panic!("lost");
        };
        messages.push(Message { position, sequence, time, payload });
    }
    if close {
        writer.close().unwrap();
    } else {
        writer.into_inner().close().unwrap();
    }
    messages
}

fn items(file: &[u8]) -> (Vec<Item>, Option<End>) {
    let mut reader = Reader::new(Cursor::new(file)).unwrap();
    let items = reader.by_ref().map(Result::unwrap).collect();
    (items, reader.end())
}

fn frames(items: Vec<Item>) -> Vec<Message> {
    let frame = |item| match item {
        Item::Frame(frame) => Some(Message::from(frame)),
        Item::Hole(_) => None,
    };
    items.into_iter().filter_map(frame).collect()
}

fn ends(messages: &[Message]) -> Vec<u64> {
    let end = |message: &Message| message.position + HEADER + message.payload.len() as u64;
    std::iter::once(HEAD).chain(messages.iter().map(end)).collect()
}

/// Every file whose name begins as that of `path` does, but itself.
fn beside(path: &Path) -> Vec<(String, Vec<u8>)> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir(path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        let other = entry.file_name().into_string().unwrap();
        if let Some(suffix) = other.strip_prefix(name).filter(|suffix| !suffix.is_empty()) {
            found.push((suffix.to_owned(), fs::read(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn what_is_written_is_read_with_every_backend_and_drive() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let lengths = [0, 1, 39, 4096, 10_000, 7, 4056, 100];
        let options = Options::from(config.options()).first_sequence(5);
        let messages = written(&options, &path, &lengths, true);
        let (items, end) = items(&fs::read(&path).unwrap());
        assert_eq!(end, Some(End::Closed { missing: 0 }), "{config}");
        assert_eq!(frames(items), messages, "{config}");
        assert_eq!(messages[0].sequence, 5);
        let found = recover(&path).unwrap();
        assert_eq!((found.frames, found.next_sequence, found.cut), (8, 13, 0), "{config}");
    });
}

#[test]
fn parts_and_grants_make_the_frames_that_slices_do() {
    let directory = directory();
    let path = directory.path().join("take");
    let mut writer =
        Options::from(Config::STILL.options().buffer_size(8192)).create(&path).unwrap();
    let (one, two) = (bytes(1, 100), bytes(2, 3000));
    writer.write_parts(1, &[&one, &[], &two]).unwrap();
    let mut grant = writer.grant(4000).unwrap();
    assert_eq!(grant.len(), 4000);
    grant[..100].copy_from_slice(&one);
    let placed = grant.commit(2, 100);
    assert_eq!((placed.sequence, placed.end), (1, writer.position()));
    drop(writer.grant(10).unwrap()); // leaves nothing
    let placed = writer.try_write(3, &two).unwrap();
    let ticket = writer.fence();
    assert!(ticket.wait().unwrap() >= placed.end);
    assert!(matches!(writer.write_parts(4, &[&one[..]; 16]), Err(writeflush::Error::Options(_))));
    assert!(matches!(writer.grant(8192), Err(writeflush::Error::TooLong { .. })));
    writer.close().unwrap();
    let (items, end) = items(&fs::read(&path).unwrap());
    let payloads: Vec<_> = frames(items).into_iter().map(|message| message.payload).collect();
    assert_eq!(payloads, [[one.clone(), two.clone()].concat(), one, two]);
    assert_eq!(end, Some(End::Closed { missing: 0 }));
}

#[test]
fn a_frame_that_is_too_long_is_refused_and_uses_up_no_number() {
    let directory = directory();
    let path = directory.path().join("take");
    let mut writer = plain().longest(1000).create(&path).unwrap();
    let refused = writer.write(0, &[0; 1001]).unwrap_err();
    assert!(matches!(refused, writeflush::Error::TooLong { offered: 1001, limit: 1000 }));
    writer.write(0, &[0; 1000]).unwrap();
    writer.close().unwrap();
    let file = fs::read(&path).unwrap();
    let mut reader = Reader::new(Cursor::new(&file)).unwrap().limit(999);
    let refused = reader.read().unwrap_err();
    let wanted = "the frame at 64 has 1000 bytes, and the limit is 999: raise the limit if you trust \
                  the file";
    assert_eq!(refused.to_string(), wanted);
    let mut reader = reader.limit(1000);
    assert!(matches!(reader.read(), Ok(Some(Item::Frame(frame))) if frame.sequence == 0));
    // An iterator ends behind an error: nobody asks for ever.
    let reader = Reader::new(Cursor::new(&file)).unwrap().limit(999);
    assert_eq!(reader.filter_map(Result::ok).count(), 0);
}

/// Under `Drop` a reader sees each loss; also one at the very end.
#[test]
fn what_a_policy_drops_is_missing_by_number() {
    let directory = directory();
    let path = directory.path().join("take");
    let below = Config::STILL.options().on_full(OnFull::Drop);
    let mut writer = Options::from(below).create(&path).unwrap();
    let (mut kept, mut lost) = (Vec::new(), Vec::new());
    for number in 0..200 {
        match writer.write(number, &[7; 500]).unwrap() {
            Push::Accepted(placed) => kept.push(placed.sequence),
            Push::Lost { sequence } => lost.push(sequence),
        }
        if number % 30 == 29 {
            writer.flush().unwrap();
        }
    }
    assert!(lost.len() > 20 && kept.len() > 20 && lost.contains(&199), "{lost:?}");
    let overruns = writer.stats().overrun_bytes;
    assert_eq!(overruns, lost.len() as u64 * 540);
    writer.flush().unwrap();
    writer.try_write(0, &[]).unwrap();
    writer.lose(3); // of the source itself
    writer.close().unwrap();
    let (items, end) = items(&fs::read(&path).unwrap());
    let mut missing = 0;
    let mut read = Vec::new();
    for item in items {
        let Item::Frame(frame) = item else { panic!("a hole") };
        assert!(frame.missing == 0 || lost.contains(&(frame.sequence - 1)));
        missing += frame.missing;
        read.push(frame.sequence);
    }
    kept.push(200);
    assert_eq!((read, missing as usize), (kept, lost.len()));
    assert_eq!(end, Some(End::Closed { missing: 3 }));
    assert_eq!(recover(&path).unwrap().missing, lost.len() as u64 + 3);
    let (writer, _) = plain().resume(&path).unwrap();
    assert_eq!(writer.next_sequence(), 204);
}

/// Cut anywhere, a file is read up to the last whole frame, and recovered to it, with its tail kept.
#[test]
fn every_prefix_of_a_file_is_read_and_recovered() {
    let directory = directory();
    let path = directory.path().join("take");
    let messages = written(&plain(), &path, &[3, 0, 70, 41, 5], true);
    let file = fs::read(&path).unwrap();
    let ends = ends(&messages);
    let last = *ends.last().unwrap();
    for len in 0..=file.len() {
        let cut = &file[..len];
        let directory = common::directory();
        let path = directory.path().join("take");
        fs::write(&path, cut).unwrap();
        let found = recover(&path);
        if (len as u64) < HEAD {
            assert!(matches!(Reader::new(Cursor::new(cut)), Err(Error::NotFramed { .. })));
            let found = found.unwrap();
            assert_eq!((found.found, found.kept, found.cut), (None, 0, len as u64));
            assert_eq!(fs::read(&path).unwrap(), []);
        } else {
            let whole = ends.iter().filter(|end| **end <= len as u64).count() - 1;
            let (items, end) = items(cut);
            assert!(items.iter().all(|item| matches!(item, Item::Frame(_))), "{len}");
            assert_eq!(frames(items), messages[..whole], "{len}");
            let at = match len as u64 {
                len if len == file.len() as u64 => len,
                len if len >= file.len() as u64 - END => file.len() as u64 - END, // the index
                _ => ends[whole],
            };
            let wanted = match len {
                _ if len == file.len() => End::Closed { missing: 0 },
                _ if at == len as u64 => End::Open,
                _ => End::Torn { from: at, to: last_not_zero(cut) },
            };
            assert_eq!(end, Some(wanted), "{len}");
            let found = found.unwrap();
            assert_eq!((found.found, found.kept), (Some(wanted), at), "{len}");
            assert_eq!((found.frames, found.next_sequence), (whole as u64, whole as u64));
            assert_eq!(fs::read(&path).unwrap(), file[..at as usize]);
            assert!(at >= last || at == ends[whole]);
        }
        let kept = fs::read(&path).unwrap();
        let tails = beside(&path);
        let tail = &cut[kept.len()..last_not_zero(cut).max(kept.len() as u64) as usize];
        match tail.is_empty() {
            true => assert_eq!(tails, []),
            false => assert_eq!(tails, [(format!(".torn-{}", kept.len()), tail.to_vec())]),
        }
        let again = recover(&path).unwrap();
        assert_eq!((again.cut, again.torn, again.kept), (0, None, kept.len() as u64));
        assert_eq!((fs::read(&path).unwrap(), beside(&path)), (kept, tails), "{len}");
        go_on(&path, &messages[..again.frames as usize]);
    }
}

fn last_not_zero(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

/// Resumes, and reads what was there and what came.
fn go_on(path: &Path, before: &[Message]) {
    let (mut writer, found) = plain().resume(path).unwrap();
    assert_eq!(found.next_sequence, before.len() as u64);
    let Push::Accepted(placed) = writer.write(5, b"more").unwrap() else { panic!("lost") };
    assert_eq!(placed.sequence, before.len() as u64);
    writer.close().unwrap();
    let (items, end) = items(&fs::read(path).unwrap());
    let read = frames(items);
    assert_eq!((&read[..before.len()], &read[before.len()].payload[..]), (before, &b"more"[..]));
    assert_eq!((read.len(), end), (before.len() + 1, Some(End::Closed { missing: 0 })));
}

/// Flipped anywhere, a file gives frames that were written, in order, and tells of what it does not.
#[test]
fn every_flip_of_a_byte_is_seen() {
    let directory = directory();
    for close in [true, false] {
        let path = directory.path().join(format!("take-{close}"));
        let messages = written(&plain(), &path, &[3, 0, 70, 41, 5], close);
        let file = fs::read(&path).unwrap();
        let ends = ends(&messages);
        for at in 0..file.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut damaged = file.clone();
                damaged[at] ^= flip;
                if (at as u64) < HEAD {
                    assert!(Reader::new(Cursor::new(&damaged)).is_err(), "{at}");
                    continue;
                }
                let hit = ends.iter().position(|end| (at as u64) < *end).map(|number| number - 1);
                let (items, end) = items(&damaged);
                let holes = items.iter().filter(|item| matches!(item, Item::Hole(_))).count();
                let read = frames(items);
                let mut wanted = messages.clone();
                if let Some(hit) = hit {
                    wanted.remove(hit);
                }
                assert_eq!(read, wanted, "{at}");
                let is_last = match close {
                    true => at as u64 >= file.len() as u64 - END,
                    false => hit == Some(messages.len() - 1),
                };
                assert_eq!(holes, usize::from(!is_last), "{at}");
                let is_torn = matches!(end, Some(End::Torn { .. }));
                assert_eq!(is_torn, is_last, "{at}: {end:?}");
            }
        }
    }
}

/// A damaged place in the midst: bounds, and the numbers that are missing.
#[test]
fn a_hole_is_told_with_its_bounds() {
    let directory = directory();
    let path = directory.path().join("take");
    let messages = written(&plain(), &path, &[100; 20], true);
    let mut file = fs::read(&path).unwrap();
    let (from, to) = (messages[4].position, messages[9].position);
    file[from as usize + 10..to as usize - 3].fill(0xF1);
    let (items, end) = items(&file);
    let Item::Hole(hole) = &items[4] else { panic!("{:?}", items[4]) };
    assert_eq!((hole.from, hole.to), (from, to));
    let Item::Frame(frame) = &items[5] else { panic!("{:?}", items[5]) };
    assert_eq!((frame.sequence, frame.missing), (9, 5));
    assert_eq!((frames(items).len(), end), (15, Some(End::Closed { missing: 0 })));
    // Without a close the recovery ends the file before the hole, and counts what lies behind.
    file.truncate(file.len() - 1);
    fs::write(&path, &file).unwrap();
    let found = recover(&path).unwrap();
    assert_eq!((found.frames, found.kept, found.missing), (4, from, 0));
    let torn = found.torn.unwrap();
    assert_eq!(torn.frames, 11);
    let to = last_not_zero(&file) as usize; // zeros at the end are nobody's
    assert_eq!(fs::read(torn.path).unwrap(), file[from as usize..to]);
}

/// Frames of the file's own content in a payload are none where they lie.
#[test]
fn a_framed_file_inside_a_frame_stays_a_payload() {
    let directory = directory();
    let path = directory.path().join("take");
    let options = plain().generation(77);
    written(&options, &path, &[50; 4], true);
    let inner = fs::read(&path).unwrap();
    let mut writer = options.create(&path).unwrap();
    writer.write(0, b"first").unwrap();
    let Push::Accepted(placed) = writer.write(0, &inner).unwrap() else { panic!("lost") };
    writer.write(0, b"last").unwrap();
    writer.close().unwrap();
    let mut file = fs::read(&path).unwrap();
    file[placed.position as usize] ^= 1; // its header is gone: the reader looks inside
    let read = frames(items(&file).0);
    let payloads: Vec<_> = read.iter().map(|message| &message.payload[..]).collect();
    assert_eq!(payloads, [b"first", &b"last"[..]]);
}

/// A recycled file, written to any length: what an older recording left is never taken for new,
/// also where its frames lie at the very places that new ones would have.
#[test]
fn stale_frames_of_a_recycled_file_are_never_read() {
    let directory = directory();
    let path = directory.path().join("take");
    for (old, new) in [(100, 100), (100, 37), (33, 250), (0, 0)] {
        for count in 0..12 {
            written(&plain(), &path, &[old; 12], true);
            let len = fs::metadata(&path).unwrap().len();
            let mut writer = plain().recycle(&path).unwrap();
            for number in 0..count {
                writer.write(number, &bytes(number + 100, new)).unwrap();
            }
            writer.into_inner().close().unwrap();
            let file = fs::read(&path).unwrap();
            let own = HEAD + count * (HEADER + new as u64);
            assert_eq!(file.len() as u64, len.max(own));
            let (items, end) = items(&file);
            let read = frames(items);
            assert_eq!(read.len() as u64, count);
            assert!((0..).zip(&read).all(|(number, frame)| {
                frame.sequence == number && frame.payload == bytes(number + 100, new)
            }));
            let to = last_not_zero(&file).max(own);
            match end {
                Some(End::Stale { from, to: at }) => assert_eq!((from, at), (own, to)),
                // Too little is left of the old ones to tell what it was.
                Some(End::Torn { from, .. }) => assert!(from == own && to - own < 200),
                end => assert!(end == Some(End::Open) && to == own, "{end:?}"),
            }
            let found = recover(&path).unwrap();
            assert_eq!((found.kept, found.frames), (own, count));
            assert_eq!(fs::read(&path).unwrap(), file[..own as usize]);
            // Whole old frames are not kept.
            let torn = beside(&path);
            assert!(
                torn.iter().all(|(_, tail)| tail.len() < old + 2 * HEADER as usize + END as usize)
            );
            torn.iter().for_each(|(suffix, _)| {
                fs::remove_file(directory.path().join(format!("take{suffix}"))).unwrap();
            });
        }
    }
    let refused = plain().generation(5).create(&path).unwrap().close();
    assert!(refused.is_ok());
    let refused = plain().generation(5).recycle(&path).unwrap_err();
    assert!(refused.to_string().starts_with("the recycled file has this generation"), "{refused}");
}

/// The torn end of a new recording in a recycled file: its own damage is kept, old frames are not.
#[test]
fn a_torn_frame_before_stale_ones_is_kept() {
    let directory = directory();
    let path = directory.path().join("take");
    written(&plain(), &path, &[500; 30], true);
    let old = fs::read(&path).unwrap();
    let mut writer = plain().recycle(&path).unwrap();
    for number in 0..5 {
        writer.write(number, &bytes(number, 300)).unwrap();
    }
    writer.into_inner().close().unwrap();
    let mut file = fs::read(&path).unwrap();
    let (fourth, end) = (64 + 4 * 340, 64 + 5 * 340);
    file[fourth + 200..end].copy_from_slice(&old[fourth + 200..end]); // these sectors never came
    fs::write(&path, &file).unwrap();
    let found = recover(&path).unwrap();
    assert_eq!((found.kept, found.frames), (fourth as u64, 4));
    let [(name, tail)] = &beside(&path)[..] else { panic!("not one tail") };
    assert_eq!(*name, format!(".torn-{fourth}"));
    assert!(tail.len() >= end - fourth && tail.len() < end - fourth + 600, "{}", tail.len());
    assert_eq!(tail[..], file[fourth..fourth + tail.len()]);
    assert_eq!(file.len() as u64, found.kept + found.cut);
}

/// Two crashes at one place: the second tail does not take the first one's name.
#[test]
fn a_tail_never_takes_the_place_of_another() {
    let directory = directory();
    let path = directory.path().join("take");
    written(&plain(), &path, &[10], false);
    let good = fs::read(&path).unwrap();
    let mut names = Vec::new();
    for tail in [&b"one"[..], b"two", b"two", b"three"] {
        fs::write(&path, [&good, tail].concat()).unwrap();
        names.push(recover(&path).unwrap().torn.unwrap().path);
    }
    assert_eq!(names[1], names[2], "the same bytes need no second copy");
    let [one, two, three] = [0, 1, 3].map(|number| fs::read(&names[number]).unwrap());
    assert_eq!((&one[..], &two[..], &three[..]), (&b"one"[..], &b"two"[..], &b"three"[..]));
    assert_eq!(beside(&path).len(), 3);
}

#[test]
fn somebody_elses_file_stays_as_it_is() {
    let directory = directory();
    let path = directory.path().join("notes.txt");
    let mut damaged = {
        written(&plain(), &path, &[10], true);
        fs::read(&path).unwrap()
    };
    damaged[20] ^= 1;
    let zeros_first = [vec![0; 200], b"text".to_vec()].concat();
    for content in [b"some text".to_vec(), vec![b'x'; 1000], zeros_first, damaged] {
        fs::write(&path, &content).unwrap();
        assert!(matches!(recover(&path), Err(Error::NotFramed { .. })));
        let refused = plain().resume(&path).unwrap_err();
        assert!(refused.to_string().contains("is no framed recording, since it"), "{refused}");
        assert_eq!((fs::read(&path).unwrap(), beside(&path).len()), (content, 0));
    }
    let refused = recover(directory.path()).unwrap_err();
    assert!(refused.to_string().contains("is not a regular file"), "{refused}");
    assert!(recover(directory.path().join("nothing")).is_err());
    let refused = Options::from(Config::STILL.options().on_full(OnFull::Fill(0))).create(&path);
    assert!(matches!(refused, Err(Error::Options(_))));
}

/// A file whose head was damaged is read by who knows its generation.
#[test]
fn a_generation_that_is_known_reads_a_file_without_a_head() {
    let directory = directory();
    let path = directory.path().join("take");
    let messages = written(&plain().generation(9), &path, &[30; 5], true);
    let mut file = fs::read(&path).unwrap();
    file[..HEAD as usize].fill(0xAA);
    assert!(Reader::new(Cursor::new(&file)).is_err());
    let reader = Reader::with_generation(Cursor::new(&file), 9).unwrap();
    assert_eq!(frames(reader.map(Result::unwrap).collect()), messages);
    let reader = Reader::with_generation(Cursor::new(&file), 10).unwrap();
    assert_eq!(frames(reader.map(Result::unwrap).collect()), []);
}

/// While a writer has the file nobody recovers it, and what it has written is read.
#[test]
fn a_live_file_is_read_and_not_recovered() {
    let directory = directory();
    let path = directory.path().join("take");
    let mut writer = Options::default().create(&path).unwrap();
    writer.write(0, b"durable").unwrap();
    writer.flush().unwrap();
    let at_once = Options::from(writeflush::Options::new().lock_wait(Default::default()));
    let refused = at_once.recover(&path).unwrap_err();
    assert!(matches!(refused, Error::Writer(writeflush::Error::Locked { .. })), "{refused}");
    assert!(at_once.resume(&path).is_err());
    let mut reader = Reader::open(&path).unwrap();
    assert!(matches!(reader.read(), Ok(Some(Item::Frame(frame))) if frame.payload == b"durable"));
    assert!(matches!(reader.read(), Ok(None)));
    assert_eq!(reader.end(), Some(End::Open));
    writer.write(1, b"later").unwrap();
    writer.close().unwrap();
    reader.refresh().unwrap();
    assert!(matches!(reader.read(), Ok(Some(Item::Frame(frame))) if frame.payload == b"later"));
    assert!(matches!(reader.read(), Ok(None)));
    assert_eq!(reader.end(), Some(End::Closed { missing: 0 }));
}

/// A writer that ended without a close: with padding, with space ahead, with neither.
#[test]
fn an_abandoned_recording_goes_on() {
    use writeflush::Preallocate;
    for ahead in [Preallocate::None, Preallocate::Reserve(3_000_000), Preallocate::Zero(300_000)] {
        for direct in [Direct::Auto, Direct::Off] {
            let directory = directory();
            let path = directory.path().join("take");
            let below = writeflush::Options::new().direct(direct).drive(Drive::Caller);
            let options = Options::from(below.preallocate(ahead));
            let (mut writer, found) = options.resume(&path).unwrap();
            assert_eq!((found.found, found.kept), (None, 0));
            let generation = writer.generation();
            let payload = [vec![1; 1000], vec![0; 5000]].concat(); // ends in zeros, as padding does
            for round in 0..3u64 {
                for number in 0..5 {
                    writer.write(number, &payload).unwrap();
                }
                writer.flush().unwrap();
                assert!(writer.abandon().durable >= 64);
                assert!(writer.close().is_err());
                let (next, found) = options.resume(&path).unwrap();
                writer = next;
                assert_eq!((found.found, found.torn), (Some(End::Open), None), "{ahead:?}");
                assert_eq!(found.frames, 5 * (round + 1));
                assert_eq!((found.next_sequence, found.missing), (found.frames, 0));
                assert_eq!(
                    (writer.next_sequence(), writer.generation()),
                    (found.frames, generation)
                );
            }
            writer.close().unwrap();
            let (items, end) = items(&fs::read(&path).unwrap());
            assert_eq!((items.len(), end), (15, Some(End::Closed { missing: 0 })));
        }
    }
}

/// By number, time and position: with an index, without one, and behind a stale tail.
#[test]
fn what_is_sought_is_found() {
    let directory = directory();
    let path = directory.path().join("take");
    let lengths: Vec<usize> = (0..3000).map(|number| (number * 37) % 4000).collect();
    let options = Options::from(writeflush::Options::new()).first_sequence(100);
    let messages = written(&options, &path, &lengths, true);
    let file = fs::read(&path).unwrap();
    let footer = ends(&messages).pop().unwrap() as usize;
    let damaged = {
        let (mut file, hole) = (file[..footer].to_vec(), messages[1500].position as usize);
        file[hole..messages[1600].position as usize].fill(0);
        file
    };
    let stale = {
        // An older recording of another generation lies behind, at its own places.
        let old = directory.path().join("old");
        let below = writeflush::Options::new();
        written(&Options::from(below), &old, &[10_000; 1500], true);
        [&file[..footer], &fs::read(&old).unwrap()[footer..]].concat()
    };
    for (name, file) in [("closed", &file), ("open", &file[..footer].to_vec()), ("stale", &stale)] {
        let mut reader = Reader::new(Cursor::new(file)).unwrap();
        for number in (0..messages.len()).step_by(97).chain([0, messages.len() - 1]) {
            let wanted = &messages[number];
            for way in 0..4 {
                let found = match way {
                    0 => reader.seek_sequence(wanted.sequence),
                    1 => reader.seek_time(wanted.time),
                    2 => reader.seek_time(wanted.time - 9),
                    _ => reader.seek_position(wanted.position - 3),
                };
                assert!(found.unwrap(), "{name} {number} {way}");
                let Some(Item::Frame(frame)) = reader.next().unwrap().ok() else {
                    panic!("{name}")
                };
                assert_eq!(frame.missing, 0);
                assert_eq!(Message::from(frame), *wanted, "{name} {number} {way}");
            }
        }
        assert!(!reader.seek_sequence(100 + 3000).unwrap());
        assert!(!reader.seek_time(u64::MAX).unwrap());
        assert!(!reader.seek_position(u64::MAX).unwrap());
        assert!(reader.next().is_none() && reader.end().is_some(), "{name}");
    }
    let mut reader = Reader::new(Cursor::new(&damaged)).unwrap();
    assert!(reader.seek_sequence(100 + 1550).unwrap());
    let Ok(Some(Item::Frame(frame))) = reader.read() else { panic!("no frame") };
    assert_eq!(frame.sequence, 100 + 1600);
}

// ---- cookies --------------------------------------------------------------------------------------------

/// Four messages, each behind a cookie that says so; of the last one no more is there than the message.
fn with_cookies(path: &Path, close: bool) -> Vec<u8> {
    let mut writer = plain().create(path).unwrap();
    for number in 0..4u8 {
        writer.write(0, &[number; 100]).unwrap();
        if number < 3 {
            let end = writer.flush_with(&[number; 3]).unwrap();
            assert_eq!((end, writer.position()), (writer.positions().durable, end));
        }
    }
    if close {
        writer.close().unwrap();
    } else {
        writer.into_inner().close().unwrap();
    }
    fs::read(path).unwrap()
}

/// Of a cookie: its first byte, how many there are, and the number of the message behind it.
fn cookie_in(file: &[u8]) -> Option<(u8, usize, u64)> {
    let mut reader = Reader::new(Cursor::new(file)).unwrap();
    reader.read().unwrap();
    let stood = reader.position();
    let cookie = reader.cookie().unwrap();
    assert_eq!(reader.position(), stood);
    cookie.map(|cookie| (cookie.bytes[0], cookie.bytes.len(), cookie.next_sequence))
}

#[test]
fn the_last_cookie_is_found_in_whatever_is_left() {
    let directory = directory();
    let path = directory.path().join("take");
    for close in [true, false] {
        let file = with_cookies(&path, close);
        assert_eq!(cookie_in(&file), Some((2, 3, 3)), "{close}");
        assert_eq!(frames(items(&file).0).len(), 4);
        let found = recover(&path).unwrap();
        assert_eq!(found.cookie.map(|it| (it.bytes, it.next_sequence)), Some((vec![2; 3], 3)));
        // Goes on, and closes: of a footer that repeats it.
        plain().resume(&path).unwrap().0.close().unwrap();
        assert_eq!(cookie_in(&fs::read(&path).unwrap()), Some((2, 3, 3)), "{close}");
    }
    assert_eq!(
        cookie_in(&{
            written(&plain(), &path, &[7; 5], true);
            fs::read(&path).unwrap()
        }),
        None
    );
}

/// At each place where a file may be cut, and with each byte of it damaged: never one whose messages
/// are not there, and never another one than was written.
#[test]
fn a_cookie_is_there_with_all_messages_before_it_or_not_at_all() {
    let directory = directory();
    let path = directory.path().join("take");
    let check = |file: &[u8], what: usize| {
        let Ok(mut reader) = Reader::new(Cursor::new(file)) else { return };
        let Some(cookie) = reader.cookie().unwrap() else { return };
        let number = cookie.bytes[0];
        assert_eq!(
            (cookie.bytes.len(), cookie.next_sequence),
            (3, u64::from(number) + 1),
            "{what}"
        );
        let first = |item: Item| match item {
            Item::Frame(frame) => Some(frame.sequence),
            Item::Hole(_) => None,
        };
        let before = reader.map(|item| first(item.unwrap())).map_while(|it| it).count() as u64;
        assert!(before >= cookie.next_sequence, "{what}: {before} messages, {cookie:?}");
    };
    for close in [true, false] {
        let file = with_cookies(&path, close);
        for at in HEAD as usize..file.len() {
            check(&file[..at], at);
            let mut harmed = file.clone();
            harmed[at] ^= 0x20;
            // A footer that is whole vouches for what lies before it, as it did when it was written.
            if !close {
                check(&harmed, at);
            }
            fs::write(&path, &harmed).unwrap();
            let found = recover(&path).unwrap();
            if let Some(cookie) = found.cookie {
                assert!(cookie.next_sequence <= found.next_sequence, "{at}");
                assert_eq!(cookie.bytes, [cookie.next_sequence as u8 - 1; 3], "{at}");
            }
            fs::remove_dir_all(directory.path()).unwrap();
            fs::create_dir(directory.path()).unwrap();
        }
    }
}

#[test]
fn a_cookie_has_its_own_limit() {
    let directory = directory();
    let path = directory.path().join("take");
    let mut writer = plain().longest(10).create(&path).unwrap();
    let refused = writer.flush_with(&[1; LONGEST_COOKIE + 1]).unwrap_err();
    assert!(matches!(refused, writeflush::Error::TooLong { limit: LONGEST_COOKIE, .. }));
    for number in 0..5000 {
        writer.write(number, &[1; 10]).unwrap();
    }
    writer.flush_with(&[2; LONGEST_COOKIE]).unwrap();
    writer.write(0, &[3; 10]).unwrap();
    writer.close().unwrap();
    // Nor does a limit of messages refuse it, or a long index.
    let (writer, found) = plain().longest(10).resume(&path).unwrap();
    assert_eq!((found.frames, found.cookie.unwrap().bytes.len()), (5001, LONGEST_COOKIE));
    writer.close().unwrap();
    let reader = Reader::open(&path).unwrap().limit(10);
    assert_eq!(reader.map(Result::unwrap).count(), 5001);
}

/// A resumed file has two footers; the last one knows of everything.
#[test]
fn a_closed_recording_goes_on_behind_its_footer() {
    let directory = directory();
    let path = directory.path().join("take");
    let mut messages = written(&plain(), &path, &[2000; 300], true);
    for _ in 0..3 {
        let (mut writer, found) = plain().resume(&path).unwrap();
        assert_eq!((found.cut, found.found), (0, Some(End::Closed { missing: 0 })));
        for _ in 0..100 {
            let (time, payload) = (10_000, bytes(3, 1000));
            let Push::Accepted(Placed { position, sequence, .. }) =
                writer.write(time, &payload).unwrap()
            else {
                panic!("lost")
            };
            messages.push(Message { position, sequence, time, payload });
        }
        writer.close().unwrap();
    }
    let file = fs::read(&path).unwrap();
    let (items, end) = items(&file);
    assert_eq!((frames(items), end), (messages.clone(), Some(End::Closed { missing: 0 })));
    let mut reader = Reader::new(Cursor::new(&file)).unwrap();
    for number in [0, 150, 299, 300, 450, 599] {
        assert!(reader.seek_sequence(number).unwrap());
        assert_eq!(reader.position(), messages[number as usize].position);
    }
    assert_eq!(recover(&path).unwrap().frames, 600);
}

/// Every call that promises to be quick, over and over; what finds no room is tried again.
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
            drop(writer.fence());
            writer.lose(1);
        }
    }
}

/// Longer than the table of the index has places for: it is thinned out on the way.
#[test]
fn a_push_of_a_frame_allocates_nothing() {
    let polls = common::configs().into_iter().filter(|config| config.drive == Drive::Poll);
    for config in polls {
        common::watched(&config.to_string(), move || {
            let directory = directory();
            let path = directory.path().join("take");
            let below = config.options().buffer_size(256 * 1024).on_full(OnFull::Fail);
            let mut writer = Options::from(below).create(&path).unwrap();
            assert_eq!(count::allocations(|| push_all(&mut writer, 300_000)), 0, "{config}");
            writer.close().unwrap();
            let mut reader = Reader::open(&path).unwrap();
            let mut read = 0;
            while let Some(Item::Frame(frame)) = reader.read().unwrap() {
                assert_eq!((frame.time, frame.payload), (read, &[0x55; 200][..]));
                read += 1;
            }
            assert_eq!((read, reader.end()), (300_000, Some(End::Closed { missing: 0 })));
            assert!(reader.seek_time(234_567).unwrap());
            let Ok(Some(Item::Frame(frame))) = reader.read() else { panic!("no frame") };
            assert_eq!(frame.time, 234_567);
        });
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_push_of_a_frame_beside_a_polling_driver_makes_no_system_call() {
    const NAME: &str = "a_push_of_a_frame_beside_a_polling_driver_makes_no_system_call";
    if let Some(path) = common::child_task() {
        let below = writeflush::Options::new().drive(Drive::Poll).on_full(OnFull::Fail);
        let mut writer = Options::from(below).create(path).unwrap();
        system_calls::without_system_calls(move || {
            push_all(&mut writer, 100_000);
            std::mem::forget(writer); // closing is no part of the promise
        });
        return;
    }
    let directory = directory();
    let path = directory.path().join("take");
    let output = common::run_child(NAME, path.to_str().unwrap(), |_| {});
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The message with this number, always the same.
fn message(number: u64) -> Vec<u8> {
    bytes(number, (number * 997 % 5000) as usize)
}

/// Resumes and records until it is killed, and says what is in the file for certain.
#[cfg(target_os = "linux")]
fn victim(task: &str) -> ! {
    let (turn, path) = task.split_once(' ').unwrap();
    let turn: u64 = turn.parse().unwrap();
    let config = common::configs()[turn as usize % common::configs().len()];
    let ahead = [writeflush::Preallocate::None, writeflush::Preallocate::Reserve(1 << 20)];
    let below = config.options().buffer_size(16 << 10).preallocate(ahead[turn as usize % 2]);
    let end = common::End::of(turn, 1000..40_000);
    let (mut writer, _) = Options::from(below).resume(path).unwrap();
    end.opened();
    loop {
        let number = writer.next_sequence();
        writer.write(number, &message(number)).unwrap();
        if number.is_multiple_of(7) {
            drop(writer.fence());
        }
        println!("\nwritten {}", writer.positions().written);
    }
}

/// 36 times kill -9 of one recording, with every backend and drive in turn: each finds what the one
/// before has left, and at the end no number is missing.
#[cfg(target_os = "linux")]
#[test]
fn a_recording_survives_being_killed_again_and_again() {
    const NAME: &str = "a_recording_survives_being_killed_again_and_again";
    if let Some(task) = common::child_task() {
        victim(&task);
    }
    let directory = directory();
    let path = directory.path().join("take");
    let mut known = 0;
    for turn in 0..36 {
        let output = common::run_child(NAME, &format!("{turn} {}", path.display()), |_| {});
        use std::os::unix::process::ExitStatusExt;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(9), "{turn}: {said}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = |line: &str| line.strip_prefix("written ")?.trim().parse::<u64>().ok();
        // The last line may be cut off.
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        known = whole.lines().filter_map(told).next_back().unwrap_or(known);
        let Ok(file) = fs::read(&path) else { continue };
        let Ok(reader) = Reader::new(Cursor::new(&file)) else {
            assert_eq!(known, 0, "{turn}: the head is gone");
            continue;
        };
        let items: Vec<Item> = reader.map(Result::unwrap).collect();
        let read =
            frames(items.into_iter().take_while(|item| matches!(item, Item::Frame(_))).collect());
        let right = (0..)
            .zip(&read)
            .all(|(number, found)| found.sequence == number && found.payload == message(number));
        assert!(right, "{turn}");
        assert!(*ends(&read).last().unwrap() + 5040 > known, "{turn}: {known} were written");
    }
    let (writer, found) = plain().resume(&path).unwrap();
    writer.close().unwrap();
    assert!(found.frames > 100 && found.missing == 0, "{found:?}");
    let (items, end) = items(&fs::read(&path).unwrap());
    assert_eq!((items.len() as u64, end), (found.frames, Some(End::Closed { missing: 0 })));
}

/// What may be done to a file.
#[derive(Clone, Debug)]
enum Harm {
    Flip(usize, u8),
    Cut(usize),
    Zeros(usize, usize),
    Garbage(usize, Vec<u8>),
    Move(usize, usize, usize),
    Append(Vec<u8>),
}

fn harm() -> impl Strategy<Value = Harm> {
    let at = any::<prop::sample::Index>().prop_map(|index| index.index(1 << 20));
    let len = 1usize..300;
    let some =
        prop::collection::vec(prop_oneof![Just(0xF1), Just(b'w'), Just(b'f'), any::<u8>()], 1..80);
    prop_oneof![
        (at.clone(), 1u8..).prop_map(|(at, bits)| Harm::Flip(at, bits)),
        at.clone().prop_map(Harm::Cut),
        (at.clone(), len.clone()).prop_map(|(at, len)| Harm::Zeros(at, len)),
        (at.clone(), some.clone()).prop_map(|(at, bytes)| Harm::Garbage(at, bytes)),
        (at.clone(), at, len).prop_map(|(from, to, len)| Harm::Move(from, to, len)),
        some.prop_map(Harm::Append),
    ]
}

impl Harm {
    /// Everything but the head.
    fn apply(&self, file: &mut Vec<u8>) {
        let body = HEAD as usize;
        let len = file.len();
        let place = |at: usize| if len > body { body + at % (len - body) } else { len };
        match self {
            Self::Flip(at, bits) => {
                if let Some(byte) = file.get_mut(place(*at)) {
                    *byte ^= bits;
                }
            }
            Self::Cut(at) => file.truncate(place(*at)),
            Self::Zeros(at, count) => {
                let at = place(*at);
                file[at..(at + count).min(len)].fill(0);
            }
            Self::Garbage(at, bytes) => {
                let at = place(*at);
                let count = bytes.len().min(len - at);
                file[at..at + count].copy_from_slice(&bytes[..count]);
            }
            Self::Move(from, to, count) => {
                let (from, to) = (place(*from), place(*to));
                let count = (*count).min(len - from.max(to));
                file.copy_within(from..from + count, to);
            }
            Self::Append(bytes) => file.extend(bytes),
        }
    }
}

/// `PROPTEST_CASES` gives another number.
fn cases() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    /// Any messages, harmed in any way: a reader gives what was written, where it was written, in
    /// order, and everything that the harm has not touched; a recovery keeps the prefix, loses no
    /// byte that is not zero, and is the same the second time.
    #[test]
    fn a_harmed_file_gives_nothing_that_was_not_written(
        lengths in prop::collection::vec(0usize..400, 0..12),
        close in any::<bool>(),
        harms in prop::collection::vec(harm(), 0..4),
    ) {
        let directory = directory();
        let path = directory.path().join("take");
        let messages = written(&plain().generation(7), &path, &lengths, close);
        let whole = fs::read(&path).unwrap();
        let mut file = whole.clone();
        harms.iter().for_each(|harm| harm.apply(&mut file));

        let untouched: Vec<_> = messages.iter().filter(|message| {
            let range = message.position as usize
                ..(message.position + HEADER) as usize + message.payload.len();
            file.get(range.clone()) == Some(&whole[range])
        }).cloned().collect();
        let (items, end) = items(&file);
        prop_assert!(end.is_some());
        if harms.is_empty() {
            let wanted = if close { End::Closed { missing: 0 } } else { End::Open };
            prop_assert_eq!(end, Some(wanted));
        }
        prop_assert_eq!(frames(items), untouched.clone());

        fs::write(&path, &file).unwrap();
        let found = recover(&path).unwrap();
        let kept = fs::read(&path).unwrap();
        prop_assert_eq!(kept.len() as u64, found.kept);
        prop_assert_eq!(&kept[..], &file[..kept.len()]);
        let tails = beside(&path);
        let tail = tails.first().map_or(&[][..], |(_, tail)| &tail[..]);
        let rest = &file[kept.len()..];
        // All of it but zeros behind its last byte, or its last whole frame.
        prop_assert!(rest.starts_with(tail), "{:?} of {:?}", tail, rest);
        prop_assert_eq!(last_not_zero(&rest[tail.len()..]), 0);
        let again = recover(&path).unwrap();
        prop_assert_eq!((again.kept, again.frames, again.cut), (found.kept, found.frames, 0));
        prop_assert_eq!(beside(&path), tails);
        if !matches!(found.found, Some(End::Closed { .. })) {
            let prefix = ends(&messages).iter().filter(|end| **end <= found.kept).count() as u64 - 1;
            prop_assert_eq!(found.frames, prefix);
            prop_assert_eq!(&untouched[..prefix as usize], &messages[..prefix as usize]);
        }
    }

    /// Bytes of any kind, with marks among them, behind a head or not.
    #[test]
    fn no_bytes_make_a_reader_panic(
        head in any::<bool>(),
        bytes in prop::collection::vec(prop_oneof![
            4 => Just(0xF1u8), 3 => Just(b'w'), 3 => Just(b'f'), 1 => Just(1u8), 2 => any::<u8>(),
        ], 0..2000),
    ) {
        let mut file = Vec::new();
        if head {
            let directory = directory();
            let path = directory.path().join("take");
            written(&plain().generation(7), &path, &[], false);
            file = fs::read(&path).unwrap();
        }
        file.extend(&bytes);
        match Reader::new(Cursor::new(&file)) {
            Ok(mut reader) => {
                prop_assert_eq!(reader.by_ref().count(), 0);
                prop_assert!(reader.end().is_some());
                for number in [0, 1, u64::MAX] {
                    prop_assert!(!reader.seek_sequence(number).unwrap());
                    prop_assert!(!reader.seek_position(number).unwrap());
                }
            }
            Err(_) => prop_assert!(!head),
        }
    }
}
