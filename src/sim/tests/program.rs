//! Random programs: what a recorder may do, and what may go wrong meanwhile.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::disk::Medium;
use super::super::{Computer, Faults, Image};
use super::messages::{self, Message, Messages};
use super::model::{Behind, Model};
use super::run::{Run, assert_told};
use super::{FenceForm, OnFull, OpenMode};
use crate::control::Control;
use crate::error::{Error, Operation};
use crate::options::{DiskFull, Drive, Options, Preallocate};
use crate::shared_driver::Driver;

/// One call. A place is in thousandths of what was accepted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Write(usize),
    TryWrite(usize),
    WriteFlush(usize),
    /// Bytes granted; bytes committed.
    Grant(usize, usize),
    /// The source itself has lost bytes.
    Lose(usize),
    Fence,
    WaitOldest,
    /// Waits for the oldest ticket for an hour, or not at all.
    WaitLimited {
        patient: bool,
    },
    /// Polls the newest ticket as a future: until it is ready, or once.
    Poll {
        to_the_end: bool,
    },
    LookAtAll,
    /// Nobody asks for anything for a while.
    Rest,
    DropNewest,
    Flush,
    /// `std::io::Write::flush`.
    Drain,
    Patch(usize, usize),
    Checkpoint,
    /// Moves the cursor and writes there.
    SeekWrite(usize, usize),
    /// Moves the cursor so far behind the end, and writes there.
    SeekPast(usize, usize),
    Share,
    /// Another producer writes.
    Other(usize, usize),
    /// To a file behind MMIO.
    Message(Message),
    /// The writer of this file leaves the driver that it shares.
    Leave,
}

/// Who writes to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    /// A program with a writer.
    Writer,
    /// Messages of MMIO.
    Messages,
    /// Programs with writers that share a driver.
    Sharing,
}

/// Of the files that share a driver.
const NAMES: [&str; 8] = ["take", "other", "third", "fourth", "fifth", "sixth", "seventh", "last"];

impl Face {
    /// Of the files of a program.
    fn names(self, random: &mut fastrand::Rng) -> &'static [&'static str] {
        match self {
            Self::Sharing => &NAMES[..random.usize(1..=NAMES.len())],
            Self::Writer | Self::Messages if random.u8(..6) == 0 => &NAMES[..2],
            Self::Writer | Self::Messages => &NAMES[..1],
        }
    }

    fn take(self, random: &mut fastrand::Rng, name: &'static str) -> Take {
        match self {
            Self::Writer | Self::Sharing => take(random, name),
            Self::Messages => messages::take(random, name),
        }
    }

    fn step(self, random: &mut fastrand::Rng, take: &Take) -> Step {
        match self {
            Self::Sharing if random.u8(..16) == 0 => Step::Leave,
            Self::Writer | Self::Sharing => step(random, take),
            Self::Messages => Step::Message(messages::message(random, take)),
        }
    }
}

/// What drives one file of a program.
pub(super) trait Client {
    /// One call, with all that has to be true after it.
    fn step(&mut self, step: Step);

    fn end(self: Box<Self>, random: &mut fastrand::Rng);
}

/// A file that could not be opened is driven by nobody.
type Opened<'a> = Option<Box<dyn Client + 'a>>;

/// How a writer ends. A ticket may be outstanding at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Close,
    /// Nobody closes it.
    Drop,
}

/// What a file holds before: thousands of bytes, of which only the number is shown.
#[derive(Clone)]
pub(super) struct Before(pub(super) Vec<u8>);

impl std::fmt::Debug for Before {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// One file, and how it is written.
#[derive(Clone, Debug)]
pub(super) struct Take {
    pub(super) face: Face,
    name: &'static str,
    pub(super) mode: OpenMode,
    before: Before,
    buffers: usize,
    buffer_size: usize,
    form: FenceForm,
    pub(super) on_full: OnFull,
    pub(super) on_disk_full: DiskFull,
    pub(super) fence_every: Option<Duration>,
    fence_bytes: Option<u64>,
    inline_flush: bool,
    preallocate: Preallocate,
    zero_ahead: u64,
    pub(super) headers: bool,
    pub(super) end: End,
}

/// A whole test.
#[derive(Clone, Debug)]
pub(super) struct Program {
    face: Face,
    pub(super) seed: u64,
    block: u64,
    faults: Faults,
    takes: Vec<Take>,
    /// With the file that each is about.
    pub(super) steps: Vec<(usize, Step)>,
    /// A new writer goes on with what a cut has left.
    goes_on: bool,
}

/// Owed for lost bytes; no byte of the data is even.
pub(super) const FILL: u8 = 0x5A;
/// For ever, to a computer without a clock.
pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// Bytes that tell one write from another; none of them is even.
pub(super) fn data(serial: u64, len: usize) -> Vec<u8> {
    let mut state = serial.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut data = vec![0; len];
    for eight in data.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let odd = (state | 0x0101_0101_0101_0101).to_le_bytes();
        eight.copy_from_slice(&odd[..eight.len()]);
    }
    data
}

impl Program {
    pub(super) fn of(face: Face, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let random = &mut random;
        let names = face.names(random);
        let mut takes: Vec<Take> = names.iter().map(|name| face.take(random, name)).collect();
        let steps = (0..random.usize(1..40)).map(|_| {
            let which = random.usize(..takes.len());
            (which, face.step(random, &takes[which]))
        });
        let steps = steps.collect();
        let block = [1, 512, 4096][random.usize(..3)];
        let mut faults = faults(random);
        if takes.len() > 1 {
            faults.moved_at = None; // what is opened later would not be there
        }
        // Who waits for space that never comes waits for ever.
        if faults.space.is_some() && faults.space_after.is_none() {
            takes.iter_mut().for_each(|take| take.on_disk_full = DiskFull::Fail);
        }
        Self { face, seed, block, faults, takes, steps, goes_on: random.u8(..4) == 0 }
    }

    /// A new writer that goes on with what a cut has left of the first file.
    fn going_on(&self, image: &Image) -> Self {
        let mut next = Self::of(self.face, !self.seed);
        next.takes.truncate(1);
        next.steps.retain(|(which, _)| *which == 0);
        let take = &mut next.takes[0];
        let left = image.get(Path::new(take.name)).cloned().unwrap_or_default();
        (take.mode, take.before, take.headers) = (OpenMode::Append, Before(left), false);
        Self { block: self.block, goes_on: false, ..next }
    }

    pub(super) fn run(&self) {
        self.watched(|_| {});
    }

    /// Runs, and lets somebody else see every event too.
    pub(super) fn watched(&self, also: impl FnMut(&mut Medium) + Send + 'static) {
        let computer = Computer::new(self.seed, self.block, self.faults);
        let known: Vec<_> = self.takes.iter().map(|take| Known::new(take, &computer)).collect();
        let left = Arc::new(Mutex::new(None));
        let watch = self.watch(known.clone(), left.clone(), also);
        let watched = computer.watch(watch);
        let mut runs: Vec<Option<Opened<'_>>> = self.takes.iter().map(|_| None).collect();
        let driver = (self.face == Face::Sharing).then(|| computer.driver());
        let driver = driver.as_ref();
        let open = |which: usize| self.takes[which].client(which, &known[which], &computer, driver);
        runs[0] = Some(open(0));
        for (which, step) in &self.steps {
            let run = runs[*which].get_or_insert_with(|| open(*which));
            match (step, &mut *run) {
                (Step::Leave, run) => {
                    if let Some(run) = run.take() {
                        run.end(&mut fastrand::Rng::with_seed(self.seed));
                    }
                }
                (step, Some(run)) => run.step(*step),
                (_, None) => {}
            }
        }
        for run in runs.into_iter().flatten().flatten() {
            run.end(&mut fastrand::Rng::with_seed(self.seed));
        }
        drop(watched);
        if let Some(image) = lock(&left).take() {
            self.going_on(&image).run();
        }
    }

    /// Cuts the power after a third of all events; where the program goes on, one of the images is
    /// `left`.
    fn watch(
        &self,
        known: Vec<Known>,
        left: Arc<Mutex<Option<Image>>>,
        mut also: impl FnMut(&mut Medium) + Send + 'static,
    ) -> Box<dyn FnMut(&mut Medium) + Send> {
        let mut random = fastrand::Rng::with_seed(self.seed ^ 0xC0FFEE);
        let (goes_on, mut cuts) = (self.goes_on, 0);
        Box::new(move |medium| {
            also(medium);
            if random.u8(..3) != 0 {
                return;
            }
            let claims: Vec<_> = known.iter().map(Known::claims).collect();
            let image = medium.cut(&mut random);
            for (known, (written, durable)) in known.iter().zip(claims) {
                let model = lock(&known.model);
                model.check(&image, durable);
                if let (Some(written), Some(current)) = (written, medium.current(&model.path)) {
                    model.check_written(current, written);
                }
            }
            cuts += 1;
            if goes_on && random.u32(..cuts) == 0 {
                *lock(&left) = Some(image);
            }
        })
    }
}

/// What the test knows about one file, whoever looks.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) model: Arc<Mutex<Model>>,
    /// Once it is open.
    pub(super) control: Arc<Mutex<Option<Control>>>,
}

impl Known {
    fn new(take: &Take, computer: &Computer) -> Self {
        let path = Path::new(take.name);
        let before = &take.before.0;
        if take.mode != OpenMode::CreateNew {
            computer.put(path, before);
        }
        let behind = match take.mode {
            OpenMode::Overwrite => Behind::Stay,
            OpenMode::Recycle => Behind::GoAtTheClose,
            _ => Behind::Gone,
        };
        let model = Model::new(path, before, take.mode == OpenMode::Append, behind);
        Self { model: Arc::new(Mutex::new(model)), control: Arc::default() }
    }

    /// What is written, if a writer says so, and what is durable.
    fn claims(&self) -> (Option<u64>, u64) {
        match &*lock(&self.control) {
            Some(control) => {
                let positions = control.positions();
                let durable = positions.durable.max(lock(&self.model).claimed);
                (Some(positions.written), durable)
            }
            None => (None, lock(&self.model).end() as u64), // of a file that is continued
        }
    }
}

impl Known {
    /// A close has succeeded.
    pub(super) fn assert_whole(&self, computer: &Computer, random: &mut fastrand::Rng) {
        let model = lock(&self.model);
        let whole = model.whole();
        assert!(computer.read(&model.path).unwrap() == whole, "the file after the close");
        for _ in 0..3 {
            let image = computer.medium().cut(random);
            assert!(image[&model.path] == whole, "the file after the close and a power cut");
        }
    }

    /// A close has failed when so much was durable.
    pub(super) fn assert_possible(
        &self,
        computer: &Computer,
        random: &mut fastrand::Rng,
        durable: u64,
    ) {
        for _ in 0..8 {
            let image = computer.medium().cut(random);
            lock(&self.model).check(&image, durable);
        }
    }
}

impl Take {
    fn client<'a>(
        &'a self,
        number: usize,
        known: &'a Known,
        computer: &'a Computer,
        driver: Option<&Driver>,
    ) -> Opened<'a> {
        let writer = match self.open(computer, driver) {
            Ok(writer) => writer,
            Err(error) => {
                assert_told(&error, known, computer);
                self.assert_untouched(&error, computer);
                return None;
            }
        };
        let told = computer.told(Path::new(self.name));
        assert!(told.is_empty(), "the open hides {told:?}");
        *lock(&known.control) = Some(writer.control().clone());
        lock(&known.model).open = true;
        let serial = (number as u64) << 32;
        Some(match self.face {
            Face::Writer | Face::Sharing => {
                Box::new(Run::new(self, writer, known, computer, serial))
            }
            Face::Messages => Box::new(Messages::new(self, writer, known, computer, serial)),
        })
    }

    fn options(&self, computer: &Computer, driver: Option<&Driver>) -> Options {
        let own = computer.options();
        let options = match driver {
            Some(driver) => own.drive(Drive::default()).driver(driver),
            None => own,
        };
        let options = options.buffers(self.buffers).buffer_size(self.buffer_size);
        let options = options.fence_form(self.form).on_full(self.on_full);
        let options = options.on_disk_full(self.on_disk_full).fence_bytes(self.fence_bytes);
        let options = options.fence_every(self.fence_every);
        let options = options.inline_flush(self.inline_flush);
        options.preallocate(self.preallocate).zero_ahead(self.zero_ahead).grant_limit(4096)
    }

    fn open(
        &self,
        computer: &Computer,
        driver: Option<&Driver>,
    ) -> Result<crate::Writer, crate::Error> {
        let (options, path) = (self.options(computer, driver), Path::new(self.name));
        match self.mode {
            OpenMode::Create => options.create(path),
            OpenMode::CreateNew => options.create_new(path),
            OpenMode::Append => options.append(path),
            OpenMode::Overwrite => options.open(path),
            OpenMode::Recycle => options.recycle(path),
        }
    }

    /// A failed open has changed nothing, but for its last step, which may leave an old file empty;
    /// and but for a disk that fails again while it is taken back.
    fn assert_untouched(&self, error: &Error, computer: &Computer) {
        let path = Path::new(self.name);
        let found = computer.read(path);
        if self.mode == OpenMode::CreateNew {
            assert!(found.is_none(), "a new file is left behind: {error}");
            return;
        }
        let found = found.expect("a file that was there stays");
        let last = [Operation::Trim, Operation::Preallocate, Operation::Flush];
        let is_last = matches!(error, Error::Io { operation, .. } if last.contains(operation));
        let emptied = self.mode == OpenMode::Create && is_last && found.is_empty();
        let fails_again = computer.told(path).len() > 1;
        assert!(
            found == self.before.0 || emptied || fails_again,
            "a failed open has left {} bytes of {}: {error}",
            found.len(),
            self.before.0.len()
        );
    }

    /// Whether the file has nothing but what is written to it.
    pub(super) fn is_plain(&self) -> bool {
        let ahead = self.preallocate != Preallocate::None || self.zero_ahead > 0;
        !matches!(self.mode, OpenMode::Overwrite | OpenMode::Recycle) && !ahead
    }

    /// A write that is longer than all buffers.
    pub(super) fn longest(&self) -> usize {
        self.buffer_size * self.buffers * 3 / 2
    }
}

pub(super) fn take(random: &mut fastrand::Rng, name: &'static str) -> Take {
    let modes = [
        OpenMode::Create,
        OpenMode::CreateNew,
        OpenMode::Append,
        OpenMode::Overwrite,
        OpenMode::Recycle,
    ];
    let mode = modes[random.usize(..modes.len())];
    // Now and then a buffer is larger than what is copied aside at once (64 KiB).
    let large = random.u8(..24) == 0;
    let (buffers, pages) = match large {
        true => (2, random.usize(17..22)),
        false => (random.usize(2..5), random.usize(1..4)),
    };
    let before = if mode == OpenMode::CreateNew { 0 } else { random.usize(..60_000) };
    Take {
        face: Face::Writer,
        name,
        mode,
        before: Before(data(u64::MAX, before)),
        buffers,
        buffer_size: 4096 * pages,
        form: [FenceForm::Auto, FenceForm::Dsync, FenceForm::Link, FenceForm::Flush]
            [random.usize(..4)],
        on_full: match random.u8(..10) {
            0 => OnFull::Fail,
            1 => OnFull::Drop,
            2 => OnFull::BlockFor(Duration::ZERO),
            3 => OnFull::BlockFor(HOUR),
            4 | 5 => OnFull::Fill(FILL),
            _ => OnFull::Block,
        },
        on_disk_full: if random.bool() { DiskFull::Wait } else { DiskFull::Fail },
        fence_every: None,
        fence_bytes: (random.u8(..4) == 0).then(|| random.u64(1..30_000)),
        inline_flush: random.bool(),
        preallocate: match random.u8(..4) {
            0 => Preallocate::Reserve(random.u64(..100_000)),
            1 => Preallocate::Zero(random.u64(..100_000)),
            _ => Preallocate::None,
        },
        zero_ahead: if random.u8(..3) == 0 { random.u64(..100_000) } else { 0 },
        headers: mode != OpenMode::Append && random.bool(),
        end: if random.u8(..8) == 0 { End::Drop } else { End::Close },
    }
}

fn step(random: &mut fastrand::Rng, take: &Take) -> Step {
    // Mostly short; now and then up to more than all buffers hold.
    let most = if random.u8(..6) == 0 { take.longest() } else { 3000 };
    let len = random.usize(..most);
    match random.u8(..24) {
        0..4 => Step::Write(len),
        4 => Step::TryWrite(len),
        5..8 => Step::WriteFlush(len),
        8 => Step::Grant(len.min(4096), random.usize(..=len.min(4096))),
        9..12 => Step::Fence,
        12 => Step::WaitOldest,
        13 if random.bool() => Step::Rest,
        13 => Step::LookAtAll,
        14 if random.bool() => Step::DropNewest,
        14 => Step::WaitLimited { patient: random.bool() },
        15 if random.bool() => Step::Flush,
        15 => Step::Drain,
        16 | 17 => {
            // Now and then longer than what travels as one (32 KiB).
            let longest = if random.u8(..12) == 0 { 80_000 } else { 5000 };
            Step::Patch(random.usize(..1000), random.usize(1..longest))
        }
        18 if take.headers => Step::Checkpoint,
        18 => Step::SeekWrite(random.usize(..1000), len),
        19 => Step::SeekPast(random.usize(..10_000), len),
        20 => Step::Other(random.usize(..2), len),
        21 => Step::Lose(random.usize(1..3000)),
        22 => Step::Poll { to_the_end: random.bool() },
        _ if random.u8(..4) == 0 => Step::Share,
        _ => Step::Fence,
    }
}

/// In a third of all programs nothing goes wrong, in a third only what asks for another try; in the
/// others one thing fails, or two, in half of them beside such tries.
fn faults(random: &mut fastrand::Rng) -> Faults {
    let mut faults = Faults::default();
    let kind = random.u8(..6);
    if kind == 2 || kind == 3 || kind > 3 && random.bool() {
        let often = if random.bool() { 128 } else { 32 };
        match random.u8(..4) {
            0 => faults.interrupted = random.u8(1..often),
            1 => faults.short = random.u8(1..often),
            2 => faults.meagre = if random.bool() { u8::MAX } else { random.u8(1..often) },
            _ => (faults.interrupted, faults.short) = (random.u8(1..often), random.u8(1..often)),
        }
    }
    let failures = if kind > 3 { random.usize(1..3) } else { 0 };
    for _ in 0..failures {
        match random.u8(..7) {
            5 => faults.failing_cut = Some(random.u64(1..4)),
            0 => faults.failing_write = Some((random.u64(1..30), error(random))),
            1 => faults.failing_flush = Some((random.u64(1..20), error(random))),
            2 => {
                faults.space = Some(random.u64(..200_000));
                faults.space_after = random.bool().then(|| random.u64(1..30));
            }
            3 => faults.failing_read = Some(random.u64(1..5)),
            4 => faults.failing_length = Some(random.u64(1..4)),
            _ => faults.failing_close = Some(random.u64(1..3)),
        }
    }
    if random.u8(..8) == 0 {
        faults.replaced_at = Some(random.u64(1..4));
    }
    if random.u8(..8) == 0 {
        faults.moved_at = Some(random.u64(1..4));
    }
    faults
}

/// What a disk says of a write or a flush that has failed.
fn error(random: &mut fastrand::Rng) -> i32 {
    if random.bool() { libc::EIO } else { libc::ENOSPC }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
