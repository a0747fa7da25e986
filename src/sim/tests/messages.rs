//! One file of a program behind MMIO: its messages, each with what has to be true after it.
//!
//! They go through the procedure itself, on a writer of the simulated computer. Whatever WRITEFLUSH or
//! a fence answers is a claim: power cuts hold it against what is left.

use std::sync::MutexGuard;
use std::time::Duration;

use super::super::disk::Told;
use super::super::{Asked, Computer};
use super::model::Model;
use super::program::{self, Client, Face, Known, Step, Take, data, lock};
use super::run::{assert_told, later};
use super::{OnFull, OpenMode};
use crate::control::Control;
use crate::mmio::*;
use crate::options::DiskFull;
use crate::writer::Writer;

/// A message. A place is in thousandths of the file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Message {
    Write(usize),
    WriteFlush(usize),
    Read(usize),
    SeekTo(usize),
    SeekBy(isize),
    /// So far behind the end, or before it.
    SeekFromEnd(isize),
    /// A SEEK from the start to a place that no file has.
    SeekNowhere,
    Fence,
    Durable,
    /// Nobody asks for anything for a while.
    Rest,
}

pub(super) fn take(random: &mut fastrand::Rng, name: &'static str) -> Take {
    let mut take = program::take(random, name);
    (take.face, take.on_full, take.headers) = (Face::Messages, OnFull::Block, false);
    take.mode = if random.bool() { OpenMode::Create } else { OpenMode::Append };
    take.fence_every = random.bool().then(|| Duration::from_millis(random.u64(1..2000)));
    take
}

pub(super) fn message(random: &mut fastrand::Rng, take: &Take) -> Message {
    let most = if random.u8(..6) == 0 { take.longest() } else { 3000 };
    let len = random.usize(..most);
    match random.u8(..20) {
        0..4 => Message::Write(len),
        4..8 => Message::WriteFlush(len),
        8..11 => Message::Read(len),
        11..14 => Message::SeekTo(random.usize(..=1000)),
        14 => Message::SeekBy(random.isize(-5000..5000)),
        15 => Message::SeekFromEnd(random.isize(-100..10_000)),
        16 => Message::SeekFromEnd(0),
        17 => Message::Fence,
        18 => Message::Durable,
        _ if random.u8(..8) == 0 => Message::SeekNowhere,
        _ => Message::Rest,
    }
}

pub(super) struct Messages<'a> {
    take: &'a Take,
    control: Control,
    computer: &'a Computer,
    known: &'a Known,
    /// The procedure has the writer: a panic here leaves it open.
    info: Box<MMIOINFO>,
    serial: u64,
    position: usize,
    /// A SEEK from the start or the end was refused.
    astray: bool,
    /// A WRITE was refused.
    refused: bool,
    /// READs that the disk has refused.
    unread: usize,
}

impl<'a> Messages<'a> {
    pub(super) fn new(
        take: &'a Take,
        writer: Writer,
        known: &'a Known,
        computer: &'a Computer,
        serial: u64,
    ) -> Self {
        let control = writer.control().clone();
        let mut info = Box::new(MMIOINFO::default());
        direct::open(&mut info, writer);
        Self {
            take,
            control,
            computer,
            known,
            info,
            serial,
            position: 0,
            astray: false,
            refused: false,
            unread: 0,
        }
    }

    fn model(&self) -> MutexGuard<'a, Model> {
        lock(&self.known.model)
    }

    fn send(&mut self, message: u32, first: isize, second: isize) -> isize {
        // SAFETY: a live MMIOINFO, and buffers of the callers with their lengths.
        #[allow(unsafe_code)]
        unsafe {
            direct::send(&mut self.info, message, [first, second])
        }
    }

    /// The disk has failed the stream, and told so; or something was refused before.
    fn assert_may_refuse(&self) {
        match self.control.error() {
            Some(error) => assert_told(&error, self.known, self.computer),
            None => assert!(self.refused, "refused, and nothing has failed"),
        }
    }

    // ---- messages ---------------------------------------------------------------------------------

    fn write(&mut self, message: u32, len: usize) {
        self.serial += 1;
        let data = data(self.serial, len);
        let is_taken = (!self.astray || len == 0) && !(message == MMIOM_WRITEFLUSH && self.refused);
        let end = self.model().end();
        if is_taken {
            self.model().write_at(self.position, &data);
        }
        let covered = self.model().overwrites();
        let answer = self.send(message, data.as_ptr() as isize, len as isize);
        self.model().taken_to(self.control.positions().accepted as usize);
        if answer == -1 {
            let is_gap = is_taken && self.position > end && !self.computer.makes_every_cut();
            self.refused |= self.astray || is_gap;
            self.assert_may_refuse();
            self.refused = true;
            return;
        }
        assert!(is_taken && answer == len as isize, "{answer} of {len} bytes were taken");
        self.position += len;
        if message == MMIOM_WRITEFLUSH {
            self.claim(covered);
        }
    }

    /// All that was written is called durable, with so many overwrites.
    fn claim(&mut self, covered: usize) {
        assert!(!self.refused, "bytes are missing");
        let mut model = self.model();
        model.claimed = model.end() as u64;
        model.certain(covered);
    }

    fn fence(&mut self) {
        let covered = self.model().overwrites();
        match self.send(WFM_FENCE, 0, 0) {
            0 => self.claim(covered),
            _ => {
                self.assert_may_refuse();
                self.refused = true;
            }
        }
    }

    fn durable(&mut self) {
        let mut durable = 0u64;
        assert_eq!(self.send(WFM_DURABLE, &raw mut durable as isize, 0), 0);
        assert_eq!(durable, self.control.positions().durable);
        assert!(durable >= self.model().claimed, "{durable} bytes are durable");
    }

    fn read(&mut self, len: usize) {
        let mut found = vec![0; len];
        let refused = self.unread_by_the_disk();
        let answer = self.send(MMIOM_READ, found.as_mut_ptr() as isize, len as isize);
        let Ok(taken) = usize::try_from(answer) else {
            let is_the_disks = self.unread_by_the_disk() > refused;
            self.unread += usize::from(is_the_disks && self.control.error().is_none());
            let is_refused = self.astray || is_the_disks;
            return if !is_refused {
                self.assert_may_refuse()
            };
        };
        assert!(!self.astray, "read from nowhere");
        let model = self.model();
        let wanted = model.read(self.position, len);
        assert_eq!(taken, wanted.len(), "bytes at {} of {}", self.position, model.end());
        let is_whole = !self.refused && self.control.error().is_none();
        assert!(
            if is_whole {
                found[..taken] == *wanted
            } else {
                model.knows(self.position, &found[..taken])
            },
            "other bytes at {}",
            self.position
        );
        drop(model);
        self.position += taken;
    }

    /// Reads that the disk has failed.
    fn unread_by_the_disk(&self) -> usize {
        let told = self.computer.told(&self.model().path);
        told.iter().filter(|told| told.asked == Asked::Read).count()
    }

    /// `target`: where it has to lead, if anywhere.
    fn seek(&mut self, by: isize, origin: i32, target: Option<usize>) {
        let is_relative = origin == SEEK_CUR;
        let target = target.filter(|_| !(is_relative && self.astray && by != 0));
        let answer = self.send(MMIOM_SEEK, by, origin as isize);
        assert_eq!(answer, target.map_or(-1, |position| position as isize), "SEEK {by} {origin}");
        match target {
            Some(position) => {
                self.position = position;
                self.astray &= is_relative;
            }
            None => self.astray |= !is_relative,
        }
    }

    fn message(&mut self, message: Message) {
        let end = self.model().end();
        match message {
            Message::Write(len) => self.write(MMIOM_WRITE, len),
            Message::WriteFlush(len) => self.write(MMIOM_WRITEFLUSH, len),
            Message::Read(len) => self.read(len),
            Message::SeekTo(place) => {
                let to = end * place / 1000;
                self.seek(to as isize, SEEK_SET, Some(to));
            }
            Message::SeekBy(by) => self.seek(by, SEEK_CUR, self.position.checked_add_signed(by)),
            Message::SeekFromEnd(by) => self.seek(-by, SEEK_END, end.checked_add_signed(by)),
            Message::SeekNowhere => self.seek(-56, SEEK_SET, None),
            Message::Fence => self.fence(),
            Message::Durable => self.durable(),
            Message::Rest => drop(self.control.core.runner.rest()),
        }
    }

    // ---- the end ----------------------------------------------------------------------------------

    /// What the disk has told, beside what a READ has answered, and beside a full disk that was
    /// waited for.
    fn told(&self) -> Vec<Told> {
        let mut told = self.computer.told(&self.model().path);
        let waits = self.take.on_disk_full == DiskFull::Wait;
        told.retain(|told| !(waits && told.asked == Asked::Write && told.code == libc::ENOSPC));
        let mut unread = self.unread;
        told.retain(|told| {
            let is_answered = told.asked == Asked::Read && unread > 0;
            unread -= usize::from(is_answered);
            !is_answered
        });
        told
    }
}

impl Client for Messages<'_> {
    fn step(&mut self, step: Step) {
        let Step::Message(message) = step else { unreachable!("{step:?} behind MMIO") };
        self.message(message);
        assert_eq!({ self.info.lDiskOffset }, self.position as i32, "after {message:?}");
        let now = self.control.positions();
        assert!(now.accepted >= now.written && now.written >= now.durable, "{now:?}");
        assert_eq!(now.accepted, self.model().end() as u64, "accepted");
    }

    fn end(mut self: Box<Self>, random: &mut fastrand::Rng) {
        let answer = self.send(MMIOM_CLOSE, 0, 0) as u32;
        let told = self.told();
        let refused = self.refused.then_some(MMIOERR_CANNOTWRITE);
        match self.control.error().is_none() && told.is_empty() {
            true => {
                assert_eq!(answer, refused.unwrap_or(0), "nothing has failed");
                self.known.assert_whole(self.computer, random);
            }
            false => {
                assert_ne!(answer, 0, "a close hides {told:?}");
                assert_eq!(answer, refused.unwrap_or(answer));
                let durable = self.control.positions().durable.max(self.model().claimed);
                self.known.assert_possible(self.computer, random, durable);
            }
        }
        later(&self.control);
    }
}
