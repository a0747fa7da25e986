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
