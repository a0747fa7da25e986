//! A recording of messages in segments: its names, its messages, and what a reader says of it.

use std::path::{Path, PathBuf};

use writeflush::frames::segments::{Gap, Item, Reader, Writer};
use writeflush::frames::{End, Placed, Push};
use writeflush::segments;

use crate::common::{Config, bytes};

pub fn pattern(folder: &Path) -> PathBuf {
    folder.join("take-{seq:04}.frames")
}

pub fn files(folder: &Path) -> segments::Options {
    segments::Options::new(pattern(folder)).below(Config::STILL.options())
}

pub fn file(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("take-{number:04}.frames"))
}

/// The message with this number, always the same.
pub fn message(number: u64) -> Vec<u8> {
    bytes(number, (number * 997 % 2500) as usize)
}

pub fn write(writer: &mut Writer, number: u64) -> Placed {
    match writer.write(number, &message(number)).unwrap() {
        Push::Accepted(placed) if placed.sequence == number => placed,
        other => panic!("{number}: {other:?}"),
    }
}

/// Ends the segment here, and waits until the next one is ready to begin.
pub fn rotate(writer: &mut Writer) {
    while !writer.rotate().unwrap() {
        std::thread::yield_now();
    }
}

pub fn items(pattern: &Path) -> (Vec<Item>, Option<End>) {
    let mut reader = Reader::open(pattern).unwrap();
    let items = reader.by_ref().map(Result::unwrap).collect();
    (items, reader.end())
}

/// What a recorder has said that killed itself, by whole lines: the last may be cut off.
#[cfg(target_os = "linux")]
pub fn last_words(name: &str, task: &str) -> Vec<String> {
    use std::os::unix::process::ExitStatusExt;
    let output = crate::common::run_child(name, task, |_| {});
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(9), "{task}: {said}");
    let said = String::from_utf8_lossy(&output.stdout);
    let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(str::to_owned).collect()
}

/// The numbers of the frames, whose payloads are right.
pub fn numbers(items: &[Item]) -> Vec<u64> {
    let number = |item: &Item| match item {
        Item::Frame(frame) => {
            assert_eq!(frame.payload, message(frame.sequence), "{}", frame.sequence);
            Some(frame.sequence)
        }
        _ => None,
    };
    items.iter().filter_map(number).collect()
}

pub fn gaps(items: &[Item]) -> Vec<(Option<u64>, u64, u64)> {
    let gap = |item: &Item| match item {
        Item::Gap(Gap { after, before, messages, .. }) => Some((*after, *before, *messages)),
        _ => None,
    };
    items.iter().filter_map(gap).collect()
}
