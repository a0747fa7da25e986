//! Framed recordings on the simulated computer, whose power goes at every moment: what was durable is
//! read, what is read was written, and a footer vouches for all before it. `WRITEFLUSH_SIM_SEEDS` says
//! for how many seeds.

use std::io::Cursor;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::*;
use crate::options::{Direct, FenceForm, Preallocate};
use crate::overrun::OnFull;
use crate::sim::{Computer, Faults, Image};

const PATH: &str = "take";

/// A message that was offered, at the place and with the number that it would get.
#[derive(Clone, Debug)]
struct Offered {
    position: u64,
    sequence: u64,
    payload: Vec<u8>,
    accepted: bool,
}

impl Offered {
    fn end(&self) -> u64 {
        self.position + (format::HEADER + self.payload.len()) as u64
    }
}

/// What the program knows, for whoever looks at the medium.
#[derive(Debug, Default)]
struct Known {
    /// An open has returned: the head is durable.
    opened: bool,
    offered: Vec<Offered>,
    /// The highest position that was said to be durable.
    durable: u64,
    /// Cookies that were offered, by their number in [`Cookie::bytes`], with that of the next message;
    /// and how many of them were said to be durable.
    cookies: (Vec<u64>, usize),
    /// A write or flush of the disk fails in this program.
    wrong: Option<String>,
    cuts: u64,
}

impl Known {
    /// What was wrong with what a cut has left.
    fn check(&self, image: &Image) -> Result<(), String> {
        let Some(file) = image.get(Path::new(PATH)) else {
            return if self.opened { Err("the file is gone".into()) } else { Ok(()) };
        };
        if !self.opened {
            return Ok(()); // an older recording, or no head yet
        }
        let mut reader = Reader::new(Cursor::new(file)).map_err(|error| error.to_string())?;
        let mut read = Vec::new();
        for item in reader.by_ref() {
            match item.map_err(|error| error.to_string())? {
                Item::Frame(frame) => read.push(frame),
                Item::Hole(hole) if hole.from < self.durable => {
                    return Err(format!("a hole at {} below {}", hole.from, self.durable));
                }
                Item::Hole(_) => {}
            }
        }
        for frame in &read {
            let is_it = |offered: &&Offered| {
                (offered.position, offered.sequence) == (frame.position, frame.sequence)
                    && offered.payload == frame.payload
            };
            if !self.offered.iter().any(|offered| is_it(&offered)) {
                return Err(format!("{} at {} was never offered", frame.sequence, frame.position));
            }
        }
        let is_closed = matches!(reader.end(), Some(End::Closed { .. }));
        for offered in self.offered.iter().filter(|offered| offered.accepted) {
            let is_read = read.iter().any(|frame| frame.position == offered.position);
            if !is_read && (is_closed || offered.end() <= self.durable) {
                let (at, durable) = (offered.position, self.durable);
                return Err(format!("{at} is missing, durable {durable}, closed {is_closed}"));
            }
        }
        self.check_cookie(file, &read)?;
        let kept = recover::prefix_of(file).map_err(|error| error.to_string())?;
        if kept < self.durable.min(file.len() as u64) {
            return Err(format!("recovered to {kept}, durable {}", self.durable));
        }
        Ok(())
    }
}

impl Known {
    /// The last durable one, or a later one, with all messages before it.
    fn check_cookie(&self, file: &[u8], read: &[Frame]) -> Result<(), String> {
        let (offered, durable) = &self.cookies;
        let mut reader = Reader::new(Cursor::new(file)).map_err(|error| error.to_string())?;
        let Some(cookie) = reader.cookie().map_err(|error| error.to_string())? else {
            return if *durable > 0 { Err("no cookie".into()) } else { Ok(()) };
        };
        let number = usize::from(cookie.bytes[0]);
        if offered.get(number) != Some(&cookie.next_sequence) || number + 1 < *durable {
            return Err(format!("{cookie:?} of {offered:?}, {durable} of them durable"));
        }
        let is_before = |it: &&Offered| it.accepted && it.sequence < cookie.next_sequence;
        let is_read = |it: &Offered| read.iter().any(|frame| frame.sequence == it.sequence);
        match self.offered.iter().filter(is_before).find(|offered| !is_read(offered)) {
            Some(missing) => Err(format!("{} is missing before {cookie:?}", missing.sequence)),
            None => Ok(()),
        }
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The content of a closed recording of another generation.
fn older(len: usize, count: u64) -> Vec<u8> {
    let computer = Computer::new(0, 1, Faults::default());
    let below = computer.options().direct(Direct::Off);
    let mut writer = Options::from(below).generation(1).create(PATH).unwrap();
    for number in 0..count {
        writer.write(number, &vec![0xEE; len]).unwrap();
    }
    writer.close().unwrap();
    computer.read(Path::new(PATH)).unwrap()
}

fn faults(random: &mut fastrand::Rng) -> Faults {
    let mut faults = Faults::default();
    match random.u8(..4) {
        0 => {}
        1 => (faults.interrupted, faults.short) = (random.u8(..60), random.u8(..90)),
        2 => faults.failing_flush = Some((random.u64(1..12), libc::EIO)),
        _ => faults.failing_write = Some((random.u64(1..12), libc::EIO)),
    }
    faults
}

fn run(seed: u64) -> Result<u64, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let block = if random.bool() { 4096 } else { 1 };
    let computer = Computer::new(seed, block, faults(&mut random));
    let policy = if random.bool() { OnFull::Block } else { OnFull::Drop };
    let forms = [FenceForm::Auto, FenceForm::Dsync, FenceForm::Link, FenceForm::Flush];
    let ahead = [Preallocate::None, Preallocate::Reserve(30_000), Preallocate::Zero(30_000)];
    let below = computer
        .options()
        .buffer_size(4096)
        .on_full(policy)
        .fence_form(random.choice(forms).unwrap())
        .preallocate(random.choice(ahead).unwrap());
    let options = Options::from(below).generation(seed + 2);
    let recycles = random.bool();
    if recycles {
        computer.put(Path::new(PATH), &older(random.usize(..900), random.u64(..40)));
    }
    let known = Arc::new(Mutex::new(Known::default()));
    let (watcher, mut dice) = (known.clone(), random.fork());
    let watched = computer.watch(Box::new(move |medium| {
        if dice.u8(..3) == 0 {
            let mut known = lock(&watcher);
            for _ in 0..3 {
                let checked = known.check(&medium.cut(&mut dice));
                known.wrong = known.wrong.take().or(checked.err());
                known.cuts += 1;
            }
        }
    }));
    let opened = if recycles { options.recycle(PATH) } else { options.create(PATH) };
    if let Ok(writer) = opened {
        lock(&known).opened = true;
        record(writer, &known, &mut random);
    }
    drop(watched);
    let known = lock(&known);
    match &known.wrong {
        Some(wrong) => Err(format!("seed {seed}: {wrong}")),
        None => Ok(known.cuts),
    }
}

fn record(mut writer: Writer, known: &Mutex<Known>, random: &mut fastrand::Rng) {
    for _ in 0..random.u32(..40) {
        match random.u8(..11) {
            0..7 => {
                let payload = vec![random.u8(..); random.usize(..700)];
                let (position, sequence) = (writer.position(), writer.next_sequence());
                let offered = Offered { position, sequence, payload, accepted: false };
                lock(known).offered.push(offered.clone());
                let pushed = writer.write(sequence, &offered.payload);
                let accepted = matches!(pushed, Ok(Push::Accepted(_)));
                lock(known).offered.last_mut().unwrap().accepted = accepted;
            }
            7 => writer.lose(random.u64(..3)),
            9 => {
                let next = writer.next_sequence();
                lock(known).cookies.0.push(next);
                let number = lock(known).cookies.0.len();
                if let Ok(durable) =
                    writer.flush_with(&vec![number as u8 - 1; random.usize(1..600)])
                {
                    let mut known = lock(known);
                    (known.durable, known.cookies.1) = (durable, number);
                }
            }
            8 => {
                if let Ok(durable) = writer.flush() {
                    lock(known).durable = durable;
                }
            }
            _ => {
                if let Ok(durable) = writer.fence().wait() {
                    let mut known = lock(known);
                    known.durable = known.durable.max(durable);
                }
            }
        }
    }
    if random.u8(..4) > 0 {
        if let Ok(summary) = writer.close() {
            lock(known).durable = summary.positions.durable;
        }
    } else {
        let _ = writer.abandon();
    }
}

#[test]
fn what_is_durable_is_read_and_a_footer_vouches_for_all() {
    crate::sim::each_seed(run);
}
