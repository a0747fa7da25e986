//! Framed recordings in segments on the simulated computer, whose power goes at every moment: what was
//! durable is read, once and in order, what is read was written, and a footer vouches for all before
//! it. Some of what a cut leaves is resumed on a real disk. `WRITEFLUSH_SIM_SEEDS` says for how many seeds.
//!
//! The keeper has no thread: the program turns it, between any two of its own calls.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::*;
use crate::frames::format::{self, END, HEADER, Head, Header, Kind};
use crate::frames::{self, End, Push};
use crate::options::{DiskFull, FenceForm, Preallocate};
use crate::overrun::OnFull;
use crate::segments::{self, Event, Keeper, Turn};
use crate::sim::{Computer, Faults, Image};

/// A message that was offered.
#[derive(Clone, Debug)]
struct Offered {
    payload: Vec<u8>,
    /// Where its frame ends in the whole recording, once it is accepted.
    end: Option<u64>,
}

/// What the program knows, for whoever looks at the medium.
#[derive(Default)]
struct Known {
    control: Option<segments::Control>,
    offered: BTreeMap<u64, Offered>,
    keep: Option<u64>,
    /// Segments with lower numbers were let go.
    needed: u64,
    /// What was told of each segment that is closed: its number, its last frame and its bytes.
    closed: Vec<(u64, frames::Framed)>,
    wrong: Option<String>,
    cuts: u64,
    /// Cookies that were offered, and how many of them were said to be durable.
    cookies: (Vec<u64>, usize),
    /// A cut, and what was durable then: messages and cookies.
    last: Option<(Image, Vec<u64>, usize)>,
}

/// What one segment of an image has.
struct Found {
    frames: Vec<frames::Frame>,
    is_closed: bool,
    /// As many as its footer says.
    vouched: Option<u64>,
}

/// What a file says of itself that ends with a footer of its own.
fn vouched(file: &[u8]) -> Option<u64> {
    let head = Head::decode(file).ok()?;
    let at = file.len().checked_sub(END)?;
    let header = Header::decode(&file[at..], at as u64)?;
    let payload = &file[at + HEADER..];
    let is_its = header.generation == head.generation && header.fits(payload);
    format::End::decode(payload)
        .filter(|_| is_its && header.kind == Kind::End)
        .map(|end| end.frames)
}

fn read(file: &[u8]) -> Result<Found, String> {
    let nothing = || Found { frames: Vec::new(), is_closed: false, vouched: None };
    let Ok(mut reader) = frames::Reader::new(Cursor::new(file)) else { return Ok(nothing()) };
    let items: Result<Vec<frames::Item>, _> = reader.by_ref().collect();
    let items = items.map_err(|error| error.to_string())?.into_iter();
    let frames = items.filter_map(|item| match item {
        frames::Item::Frame(frame) => Some(frame),
        frames::Item::Hole(_) => None,
    });
    Ok(Found {
        frames: frames.collect(),
        is_closed: matches!(reader.end(), Some(End::Closed { .. })),
        vouched: vouched(file),
    })
}

/// The segments of an image, by their numbers.
fn segments_of(image: &Image) -> BTreeMap<u64, &Vec<u8>> {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok();
    image.iter().filter_map(|(path, file)| Some((number(path)?, file))).collect()
}

/// The newest there is.
fn cookie_of(image: &Image) -> Result<Option<frames::Cookie>, String> {
    for file in segments_of(image).values().rev() {
        let Ok(mut reader) = frames::Reader::new(Cursor::new(file)) else { continue };
        if let Some(cookie) = reader.cookie().map_err(|error| error.to_string())? {
            return Ok(Some(cookie));
        }
    }
    Ok(None)
}

impl Known {
    /// Frames that are durable, and not to go.
    fn durable(&self) -> Vec<u64> {
        let durable = self.control.as_ref().map_or(0, |control| control.positions().durable);
        let may_go = self.may_go();
        let is_durable = |(sequence, offered): (&u64, &Offered)| {
            (*sequence >= may_go && offered.end.is_some_and(|end| end <= durable))
                .then_some(*sequence)
        };
        self.offered.iter().filter_map(is_durable).collect()
    }

    /// With the last segment that was closed; a power cut may bring an older one back.
    fn may_lose_cookies(&self) -> bool {
        self.keep == Some(0)
    }

    /// Messages with lower numbers may be gone by now.
    fn may_go(&self) -> u64 {
        let last = self.keep.and_then(|keep| self.closed.len().checked_sub(keep as usize + 1));
        let by_rule = last.map_or(0, |last| self.closed[last].1.next_sequence);
        let truncated = self.closed.iter().filter(|(number, _)| *number < self.needed);
        truncated.map(|(_, framed)| framed.next_sequence).fold(by_rule, u64::max)
    }

    /// What was wrong with what a cut has left.
    fn check(&self, image: &Image) -> Result<(), String> {
        let mut due = 0;
        let mut there = Vec::new();
        for (number, file) in segments_of(image) {
            let found = read(file)?;
            for frame in &found.frames {
                let sequence = frame.sequence;
                let offered = self.offered.get(&sequence);
                if sequence < due || offered.is_none_or(|offered| offered.payload != frame.payload)
                {
                    return Err(format!("{sequence} in {number}, due {due}, {offered:?}"));
                }
                due = sequence + 1;
            }
            if found.vouched.is_some_and(|vouched| vouched != found.frames.len() as u64) {
                let (len, vouched) = (found.frames.len(), found.vouched);
                return Err(format!("a footer in {number} over {len} frames of {vouched:?}"));
            }
            there.extend(found.frames.iter().map(|frame| frame.sequence));
        }
        match self.durable().into_iter().find(|sequence| there.binary_search(sequence).is_err()) {
            Some(missing) => Err(format!("{missing} is durable, and not there")),
            None => self.check_cookie(image, &there),
        }
    }

    /// The last durable one, or a later one, with all messages before it that are not to go.
    fn check_cookie(&self, image: &Image, there: &[u64]) -> Result<(), String> {
        let (numbers, durable) = &self.cookies;
        let Some(cookie) = cookie_of(image)? else {
            let is_lost = *durable > 0 && !self.may_lose_cookies();
            return if is_lost { Err("no cookie".into()) } else { Ok(()) };
        };
        let (number, next) = (usize::from(cookie.bytes[0]), cookie.next_sequence);
        let is_old = number + 1 < *durable && !self.may_lose_cookies();
        if numbers.get(number) != Some(&next) || is_old {
            return Err(format!("{cookie:?} of {numbers:?}, {durable} of them durable"));
        }
        let may_go = self.may_go();
        let missing = self.offered.range(may_go.min(next)..next).find(|(sequence, offered)| {
            offered.end.is_some() && there.binary_search(sequence).is_err()
        });
        match missing {
            Some((missing, _)) => Err(format!("{missing} is missing before {cookie:?}")),
            None => Ok(()),
        }
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn faults(random: &mut fastrand::Rng) -> Faults {
    let mut faults = Faults::default();
    match random.u8(..6) {
        0..3 => {}
        3 => (faults.interrupted, faults.short) = (random.u8(..60), random.u8(..90)),
        4 => faults.failing_flush = Some((random.u64(1..40), libc::EIO)),
        _ => faults.failing_write = Some((random.u64(1..40), libc::EIO)),
    }
    faults
}

/// One recording, and who turns it.
struct Program {
    writer: Writer,
    keeper: Keeper,
    known: Arc<Mutex<Known>>,
    random: fastrand::Rng,
    now: Instant,
}

impl Program {
    fn run(&mut self) {
        for _ in 0..self.random.u32(..80) {
            if self.random.u8(..3) == 0 {
                self.turn();
            }
            self.step();
        }
        let _ = self.writer.inner().end(); // where there is no thread nobody waits
        while self.turn() != Turn::Over {}
    }

    fn turn(&mut self) -> Turn {
        self.now += Duration::from_secs(1);
        self.keeper.turn(self.now)
    }

    fn step(&mut self) {
        match self.random.u8(..13) {
            0..8 => self.push(),
            8 => self.writer.lose(self.random.u64(..3)),
            9 if self.random.bool() => drop(self.writer.flush()),
            9 => self.flush_with_cookie(),
            10 => drop(self.writer.fence().and_then(|ticket| ticket.wait())),
            11 => self.truncate(),
            _ => drop(self.writer.rotate()),
        }
    }

    /// Up to a segment that is closed: cookies stay in that.
    fn truncate(&mut self) {
        let closed: Vec<u64> = lock(&self.known).closed.iter().map(|it| it.0).collect();
        if let Some(number) = self.random.choice(closed) {
            let mut known = lock(&self.known);
            known.needed = known.needed.max(number);
            drop(known);
            self.writer.truncate_front(number);
        }
    }

    fn flush_with_cookie(&mut self) {
        let number = {
            let mut known = lock(&self.known);
            known.cookies.0.push(self.writer.next_sequence());
            known.cookies.0.len()
        };
        if self.writer.flush_with(&[number as u8 - 1; 50]).is_ok() {
            lock(&self.known).cookies.1 = number;
        }
    }

    fn push(&mut self) {
        let payload = vec![self.random.u8(1..); self.random.usize(..700)];
        let sequence = self.writer.next_sequence();
        let offered = Offered { payload: payload.clone(), end: None };
        lock(&self.known).offered.insert(sequence, offered);
        let placed = match self.random.bool() {
            true => match self.writer.write(sequence, &payload) {
                Ok(Push::Accepted(placed)) => Some(placed),
                _ => None,
            },
            false => self.writer.try_write(sequence, &payload).ok(),
        };
        let mut known = lock(&self.known);
        if let (Some(placed), Some(offered)) = (placed, known.offered.get_mut(&sequence)) {
            offered.end = Some(placed.end);
        }
    }
}

/// Goes on with what a cut has left, on a real disk.
fn resume(
    (image, durable, cookies): (Image, Vec<u64>, usize),
    offered: &BTreeMap<u64, Offered>,
    numbers: &[u64],
) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    for (number, file) in segments_of(&image) {
        std::fs::write(folder.path().join(number.to_string()), file)
            .map_err(|it| it.to_string())?;
    }
    let pattern = folder.path().join("{seq}");
    let below = crate::Options::new().buffer_size(4096);
    let files = segments::Options::new(&pattern).below(below).size(1000);
    let (mut writer, found) = Options::from(files).resume().map_err(|it| it.to_string())?;
    let next = found.next_sequence;
    let cookie = found.cookie.as_ref().map(|it| (usize::from(it.bytes[0]), it.next_sequence));
    let is_one = |(number, next): (usize, u64)| numbers.get(number) == Some(&next);
    if cookie.map_or(cookies > 0, |it| it.0 + 1 < cookies || !is_one(it)) {
        return Err(format!("{cookie:?} of {numbers:?}, {cookies} of them durable"));
    }
    for _ in 0..3 {
        let sequence = writer.next_sequence();
        writer.write(sequence, b"afterwards").map_err(|it| it.to_string())?;
    }
    writer.close().map_err(|error| error.to_string())?;
    let mut read = Vec::new();
    for item in Reader::open(&pattern).map_err(|error| error.to_string())? {
        match item.map_err(|error| error.to_string())? {
            Item::Segment(begins) if begins.anew && !read.is_empty() => {
                return Err("another recording".into());
            }
            Item::Hole(hole) => return Err(format!("{hole:?} is left")),
            Item::Frame(frame) => {
                let expected = match frame.sequence >= next {
                    true => Some(&b"afterwards"[..]),
                    false => offered.get(&frame.sequence).map(|it| &it.payload[..]),
                };
                if expected != Some(&frame.payload) {
                    return Err(format!("{} behind {next}", frame.sequence));
                }
                read.push(frame.sequence);
            }
            _ => {}
        }
    }
    let is_there = |sequence: &u64| read.binary_search(sequence).is_ok();
    let rises = read.is_sorted_by(|one, other| one < other);
    match rises && durable.iter().all(is_there) && (next..next + 3).all(|it| is_there(&it)) {
        true => check_closed(&pattern),
        false => Err(format!("{read:?} of {durable:?}, next {next}")),
    }
}

/// Every segment has its footer. (One without a frame stays where its torn tail lies beside it.)
fn check_closed(pattern: &std::path::Path) -> Result<(), String> {
    for segment in segments::list(pattern).map_err(|error| error.to_string())? {
        let found = read(&std::fs::read(&segment.path).map_err(|error| error.to_string())?)?;
        if !found.is_closed {
            return Err(format!("{} is left so", segment.path.display()));
        }
    }
    Ok(())
}

fn options(computer: &Computer, random: &mut fastrand::Rng, known: &Arc<Mutex<Known>>) -> Options {
    let forms = [FenceForm::Auto, FenceForm::Dsync, FenceForm::Link, FenceForm::Flush];
    let ahead = [Preallocate::None, Preallocate::Reserve(3000), Preallocate::Zero(3000)];
    let below = computer
        .options()
        .buffer_size(4096)
        .on_disk_full(DiskFull::Fail)
        .on_full(if random.bool() { OnFull::Block } else { OnFull::Drop })
        .fence_form(random.choice(forms).unwrap())
        .preallocate(random.choice(ahead).unwrap());
    let mut files = segments::Options::new("{seq}").below(below).size(random.u64(100..3000));
    if let Some(keep) = lock(known).keep {
        files = files.keep_count(keep);
    }
    files = files.recycle(random.bool());
    let told = known.clone();
    Options::from(files.on_event(move |event| {
        if let Event::Closed(closed) = event
            && let Some(framed) = closed.frames
        {
            lock(&told).closed.push((closed.segment.sequence, framed));
        }
    }))
}

/// How many cuts were looked at.
pub(crate) fn run(seed: u64) -> Result<u64, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let block = if random.bool() { 4096 } else { 1 };
    let computer = Computer::new(seed, block, faults(&mut random));
    let keep = random.bool().then(|| random.u64(..9));
    let known = Arc::new(Mutex::new(Known { keep, ..Known::default() }));
    let options = options(&computer, &mut random, &known);
    let (watcher, mut dice) = (known.clone(), random.fork());
    let watched = computer.watch(Box::new(move |medium| {
        if dice.u8(..3) == 0 {
            let mut known = lock(&watcher);
            for _ in 0..3 {
                let image = medium.cut(&mut dice);
                let checked = known.check(&image);
                known.wrong = known.wrong.take().or(checked.err());
                known.cuts += 1;
                if dice.u8(..8) == 0 {
                    let cookies = if known.may_lose_cookies() { 0 } else { known.cookies.1 };
                    known.last = Some((image, known.durable(), cookies));
                }
            }
        }
    }));
    if let Ok((writer, keeper)) = options.begin_by_hand() {
        lock(&known).control = Some(writer.control().clone());
        let (known, now) = (known.clone(), Instant::now());
        Program { writer, keeper, known, random, now }.run();
    }
    drop(watched);
    let mut known = lock(&known);
    known.control = None; // it may hold the last handle of a writer, whose drop writes
    let last = known.last.take().filter(|_| seed.is_multiple_of(20));
    let resumed = last.map_or(Ok(()), |last| resume(last, &known.offered, &known.cookies.0));
    let wrong = known.wrong.take().or(resumed.err());
    wrong.map_or(Ok(known.cuts), |wrong| Err(format!("seed {seed}: {wrong}")))
}

#[test]
fn what_is_durable_is_read_in_all_segments_and_goes_on() {
    crate::sim::each_seed(run);
}
