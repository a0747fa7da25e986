//! Random programs: what a recorder may do, and what may go wrong meanwhile.

use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::disk::Medium;
use super::super::{Computer, Faults};
use super::model::{HEADER, Model, header};
use super::{FenceForm, OnFull, OpenMode};
use crate::control::Control;
use crate::error::Error;
use crate::options::Preallocate;
use crate::overrun::Push;
use crate::ticket::Ticket;
use crate::writer::{SharedWriter, Writer};

/// One call. A place is in thousandths of what was accepted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Write(usize),
    TryWrite(usize),
    WriteFlush(usize),
    /// Bytes granted; bytes committed.
    Grant(usize, usize),
    Fence,
    WaitOldest,
    LookAtAll,
    DropNewest,
    Flush,
    Patch(usize, usize),
    Checkpoint,
    /// Moves the cursor and writes there.
    SeekWrite(usize, usize),
    Share,
    /// Another producer writes.
    Other(usize, usize),
}

/// A whole test.
#[derive(Clone, Debug)]
pub(super) struct Program {
    seed: u64,
    block: u64,
    buffers: usize,
    buffer_size: usize,
    form: FenceForm,
    on_full: OnFull,
    mode: OpenMode,
    before: usize,
    preallocate: Preallocate,
    headers: bool,
    faults: Faults,
    pub(super) steps: Vec<Step>,
}

/// Bytes that tell one write from another.
fn data(serial: u64, len: usize) -> Vec<u8> {
    let mut state = serial.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8 | 1
    };
    (0..len).map(|_| next()).collect()
}

impl Program {
    pub(super) fn of(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let random = &mut random;
        let buffer_size = 4096 * random.usize(1..4);
        let buffers = random.usize(2..5);
        let longest = buffer_size * buffers * 3 / 2;
        let mode = [OpenMode::Create, OpenMode::CreateNew, OpenMode::Append, OpenMode::Overwrite]
            [random.usize(..4)];
        let headers = mode != OpenMode::Append && random.bool();
        let steps = (0..random.usize(1..40)).map(|_| step(random, longest, headers)).collect();
        Self {
            seed,
            block: [1, 512, 4096][random.usize(..3)],
            buffers,
            buffer_size,
            form: [FenceForm::Auto, FenceForm::Dsync, FenceForm::Link, FenceForm::Flush]
                [random.usize(..4)],
            on_full: [OnFull::Block, OnFull::Fail, OnFull::Drop, OnFull::Block][random.usize(..4)],
            mode,
            before: if mode == OpenMode::CreateNew { 0 } else { random.usize(..60_000) },
            preallocate: match random.u8(..4) {
                0 => Preallocate::Reserve(random.u64(..100_000)),
                1 => Preallocate::Zero(random.u64(..100_000)),
                _ => Preallocate::None,
            },
            headers,
            faults: faults(random),
            steps,
        }
    }

    pub(super) fn run(&self) {
        self.watched(|_| {});
    }

    /// Runs, and lets somebody else see every event too.
    pub(super) fn watched(&self, mut also: impl FnMut(&mut Medium) + Send + 'static) {
        let path = Path::new("take");
        let computer = Computer::new(self.seed, self.block, self.faults);
        let before = data(u64::MAX, self.before);
        let existing =
            matches!(self.mode, OpenMode::Append | OpenMode::Overwrite | OpenMode::Create);
        if existing {
            computer.put(path, &before);
        }
        let continued = self.mode == OpenMode::Append;
        let recycled = self.mode == OpenMode::Overwrite;
        let model = Arc::new(Mutex::new(Model::new(path, &before, continued, recycled)));
        let control: Arc<Mutex<Option<Control>>> = Arc::default();

        let (watched, claims) = (model.clone(), control.clone());
        let mut random = fastrand::Rng::with_seed(self.seed ^ 0xC0FFEE);
        let _watched = computer.watch(Box::new(move |medium| {
            also(medium);
            if random.u8(..3) == 0 {
                let durable = match &*lock(&claims) {
                    Some(control) => control.positions().durable,
                    None => lock(&watched).end() as u64, // of a file that is continued
                };
                let image = medium.cut(&mut random);
                lock(&watched).check(&image, durable);
            }
        }));

        let options = computer.options().buffers(self.buffers).buffer_size(self.buffer_size);
        let options = options.fence_form(self.form).on_full(self.on_full);
        let options = options.preallocate(self.preallocate).grant_limit(4096);
        let opened = match self.mode {
            OpenMode::Create => options.create(path),
            OpenMode::CreateNew => options.create_new(path),
            OpenMode::Append => options.append(path),
            OpenMode::Overwrite => options.open(path),
        };
        let writer = match opened {
            Ok(writer) => writer,
            Err(error) => {
                let Faults { failing_flush, failing_read, failing_length, space, .. } = self.faults;
                let planned = [failing_flush, failing_read, failing_length, space];
                assert!(planned.iter().any(Option::is_some), "the open failed: {error}");
                return;
            }
        };
        *lock(&control) = Some(writer.control().clone());
        lock(&model).open = true;
        let mut run = Run {
            program: self,
            face: Face::One(ManuallyDrop::new(writer)),
            model,
            tickets: Vec::new(),
            serial: 0,
            failure: None,
        };
        if self.headers {
            run.write(&header(0));
            let whole = lock(&run.model).end() == HEADER;
            lock(&run.model).headers = whole;
        }
        for step in &self.steps {
            run.step(*step);
        }
        run.close(&computer);
    }
}

fn step(random: &mut fastrand::Rng, longest: usize, headers: bool) -> Step {
    // Mostly short; now and then up to more than all buffers hold.
    let most = if random.u8(..6) == 0 { longest } else { 3000 };
    let len = random.usize(..most);
    match random.u8(..20) {
        0..4 => Step::Write(len),
        4 => Step::TryWrite(len),
        5..8 => Step::WriteFlush(len),
        8 => Step::Grant(len.min(4096), random.usize(..=len.min(4096))),
        9..12 => Step::Fence,
        12 => Step::WaitOldest,
        13 => Step::LookAtAll,
        14 => Step::DropNewest,
        15 => Step::Flush,
        16 => Step::Patch(random.usize(..1000), random.usize(1..5000)),
        17 if headers => Step::Checkpoint,
        17 => Step::SeekWrite(random.usize(..1000), len),
        18 => Step::Other(random.usize(..2), len),
        _ if random.u8(..4) == 0 => Step::Share,
        _ => Step::Fence,
    }
}

fn faults(random: &mut fastrand::Rng) -> Faults {
    let mut faults = Faults::default();
    match random.u8(..10) {
        0 => faults.interrupted = random.u8(1..128),
        1 => faults.short = random.u8(1..128),
        2 => (faults.interrupted, faults.short) = (random.u8(1..64), random.u8(1..64)),
        3 => faults.failing_write = Some(random.u64(1..30)),
        4 => faults.failing_flush = Some(random.u64(1..20)),
        5 => faults.space = Some(random.u64(..200_000)),
        6 => faults.failing_read = Some(random.u64(1..5)),
        7 => faults.failing_length = Some(random.u64(1..4)),
        _ => {}
    }
    faults
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A writer is never dropped by an unwinding panic: its close would wait on a broken computer.
enum Face {
    One(ManuallyDrop<Writer>),
    Many(ManuallyDrop<[SharedWriter; 2]>),
}

struct Run<'a> {
    program: &'a Program,
    face: Face,
    model: Arc<Mutex<Model>>,
    /// With the number of overwrites that each covers.
    tickets: Vec<(Ticket, usize)>,
    serial: u64,
    /// The error that everybody has to see from now on.
    failure: Option<Error>,
}

impl Run<'_> {
    fn control(&self) -> &Control {
        match &self.face {
            Face::One(writer) => writer.control(),
            Face::Many(writers) => &writers[0],
        }
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        lock(&self.model)
    }

    fn data(&mut self, len: usize) -> Vec<u8> {
        self.serial += 1;
        data(self.serial, len)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(len) => {
                let data = self.data(len);
                self.write(&data);
            }
            Step::TryWrite(len) => self.try_write(len),
            Step::WriteFlush(len) => self.write_flush(len),
            Step::Grant(len, commit) => self.grant(len, commit),
            Step::Fence => {
                let ticket = self.control().fence();
                let covered = self.model().overwrites();
                self.tickets.push((ticket, covered));
            }
            Step::WaitOldest => {
                if !self.tickets.is_empty() {
                    let (ticket, covered) = self.tickets.remove(0);
                    self.wait(&ticket, covered);
                }
            }
            Step::LookAtAll => self.look(),
            Step::DropNewest => drop(self.tickets.pop()),
            Step::Flush => {
                let covered = self.model().overwrites();
                let result = self.control().flush();
                self.durable(result, covered);
            }
            Step::Patch(place, len) => self.patch(place, len),
            Step::Checkpoint => self.checkpoint(),
            Step::SeekWrite(place, len) => self.seek_write(place, len),
            Step::Share => self.share(),
            Step::Other(which, len) => self.other(which, len),
        }
        self.positions();
    }

    /// In order, and none past what was asked for.
    fn positions(&self) {
        let now = self.control().positions();
        assert!(
            now.accepted >= now.submitted
                && now.submitted >= now.written
                && now.written >= now.durable,
            "{now:?}"
        );
        assert_eq!(now.accepted, self.model().end() as u64, "accepted");
    }

    /// An error is the one that everybody gets.
    fn failed(&mut self, error: &Error) {
        assert!(matches!(error, Error::Io { .. }), "{error}");
        match &self.failure {
            Some(first) => assert_eq!(first.to_string(), error.to_string(), "another error"),
            None => self.failure = Some(error.clone()),
        }
        let told = self.control().error().map(|error| error.to_string());
        assert_eq!(told, Some(error.to_string()), "an error that nobody else sees");
    }

    fn may_lose(&self) -> bool {
        matches!(self.program.on_full, OnFull::Drop)
    }

    fn write(&mut self, data: &[u8]) {
        let at = self.model().end() as u64;
        self.model().append(data);
        let result = match &mut self.face {
            Face::One(writer) => writer.write(data),
            Face::Many(writers) => writers[0].write(data),
        };
        self.written(result, data, at);
    }

    fn written(&mut self, result: Result<Push, Error>, data: &[u8], at: u64) {
        match result {
            Ok(Push::Accepted(position)) => assert_eq!(position, at),
            Ok(Push::Lost(lost)) => {
                assert!(self.may_lose() && lost == data.len());
                self.model().take_back(lost);
                self.model().lost += lost as u64;
            }
            Err(error) => {
                // A write that blocks may have been taken in part when the stream fails.
                let taken = (self.control().positions().accepted - at) as usize;
                self.model().take_back(data.len() - taken);
                match error {
                    Error::Full { .. } => assert_eq!(self.program.on_full, OnFull::Fail),
                    Error::TooLong { .. } => assert_ne!(self.program.on_full, OnFull::Block),
                    error => self.failed(&error),
                }
            }
        }
    }

    fn try_write(&mut self, len: usize) {
        let data = self.data(len);
        let at = self.model().end() as u64;
        self.model().append(&data);
        let result = match &mut self.face {
            Face::One(writer) => writer.try_write(&data),
            Face::Many(writers) => writers[1].try_write(&data),
        };
        match result {
            Ok(position) => assert_eq!(position, at),
            Err(error) => {
                self.model().take_back(len);
                match error {
                    Error::Full { .. } | Error::TooLong { .. } => {}
                    error => self.failed(&error),
                }
            }
        }
    }

    fn write_flush(&mut self, len: usize) {
        let data = self.data(len);
        let at = self.model().end() as u64;
        self.model().append(&data);
        let covered = self.model().overwrites();
        let result = match &mut self.face {
            Face::One(writer) => writer.write_flush(&data),
            Face::Many(writers) => writers[0].write_flush(&data),
        };
        if result.is_err() {
            let taken = (self.control().positions().accepted - at) as usize;
            self.model().take_back(len - taken);
        } else {
            assert_eq!(result.as_ref().ok(), Some(&(at + len as u64)));
        }
        self.durable(result, covered);
    }

    fn grant(&mut self, len: usize, commit: usize) {
        let data = self.data(len);
        let at = self.model().end() as u64;
        let Face::One(writer) = &mut self.face else { return };
        match writer.grant(len) {
            Ok(mut grant) => {
                grant.copy_from_slice(&data);
                lock(&self.model).append(&data[..commit]);
                assert_eq!(grant.commit(commit), at);
            }
            Err(Error::Full { .. } | Error::TooLong { .. }) => {}
            Err(error) => self.failed(&error),
        }
    }

    fn durable(&mut self, result: Result<u64, Error>, covered: usize) {
        match result {
            Ok(position) => {
                assert!(self.control().positions().durable >= position);
                self.model().certain(covered);
            }
            Err(error) => self.failed(&error),
        }
    }

    fn wait(&mut self, ticket: &Ticket, covered: usize) {
        let result = ticket.wait();
        if let Ok(position) = result {
            assert_eq!(position, ticket.position());
            assert!(ticket.is_durable().unwrap());
        }
        self.durable(result, covered);
    }

    fn look(&mut self) {
        for (ticket, covered) in self.tickets.clone() {
            match ticket.is_durable() {
                Ok(false) => assert!(self.failure.is_none(), "a ticket without an answer"),
                Ok(true) => self.durable(Ok(ticket.position()), covered),
                Err(error) => self.failed(&error),
            }
        }
    }

    /// Not over the header, which checkpoints keep.
    fn place(&self, thousandths: usize) -> usize {
        let least = if self.program.headers { HEADER } else { 0 };
        let end = self.model().end();
        (end * thousandths / 1000).max(least).min(end)
    }

    fn patch(&mut self, place: usize, len: usize) {
        let at = self.place(place);
        let len = len.min(self.model().end() - at);
        let data = self.data(len);
        self.model().overwrite(at, &data);
        if let Err(error) = self.control().patch(at as u64, &data) {
            self.failed(&error);
        }
    }

    fn checkpoint(&mut self) {
        if !self.model().headers {
            return;
        }
        let covered = self.model().overwrites();
        let model = self.model.clone();
        let result = self.control().checkpoint(0, |position| {
            let mut model = lock(&model);
            model.certain(covered);
            model.overwrite(0, &header(position));
            header(position)
        });
        self.durable(result, if self.control().error().is_none() { covered + 1 } else { 0 });
    }

    fn seek_write(&mut self, place: usize, len: usize) {
        use std::io::{Seek, SeekFrom, Write};
        let at = self.place(place);
        let data = self.data(len);
        let end = self.model().end();
        let over = len.min(end - at);
        let Face::One(writer) = &mut self.face else { return };
        if self.program.on_full != OnFull::Block || len == 0 {
            return; // part of it could be lost or refused: see `tests/policy.rs`
        }
        {
            let mut model = lock(&self.model);
            if over > 0 {
                model.overwrite(at, &data[..over]);
            }
            model.append(&data[over..]);
        }
        writer.seek(SeekFrom::Start(at as u64)).unwrap();
        let result = writer.write_all(&data);
        // Back to the end: the other calls append.
        writer.seek(SeekFrom::End(0)).unwrap();
        if result.is_err() {
            let error = self.control().error().expect("a write fails with the stream only");
            let taken = self.control().positions().accepted as usize - end;
            self.model().take_back(len - over - taken);
            self.failed(&error);
        }
    }

    fn share(&mut self) {
        if let Face::One(writer) = &mut self.face {
            // SAFETY: replaced at once, and never used again.
            #[allow(unsafe_code)]
            let shared = unsafe { ManuallyDrop::take(writer) }.into_shared();
            self.face = Face::Many(ManuallyDrop::new([shared.clone(), shared]));
        }
    }

    fn other(&mut self, which: usize, len: usize) {
        let data = self.data(len);
        let at = self.model().end() as u64;
        let Face::Many(writers) = &mut self.face else { return };
        lock(&self.model).append(&data);
        let result = writers[which].write(&data);
        self.written(result, &data, at);
    }

    // ---- the end ----------------------------------------------------------------------------------

    fn close(mut self, computer: &Computer) {
        let model = self.model.clone();
        let stats = self.control().stats();
        assert_eq!(stats.overrun_bytes, lock(&model).lost, "what was lost is counted");
        let broken = self.failure.is_some();
        let durable = self.control().positions().durable;
        let closed = match self.face {
            Face::One(ref mut writer) => {
                // SAFETY: never used again.
                #[allow(unsafe_code)]
                unsafe { ManuallyDrop::take(writer) }.close()
            }
            Face::Many(ref mut writers) => {
                // SAFETY: never used again.
                #[allow(unsafe_code)]
                let [first, second] = unsafe { ManuallyDrop::take(writers) };
                drop(second);
                first.close()
            }
        };
        // Every ticket has its answer, and the true one.
        let durable_now = closed.as_ref().map_or(durable, |summary| summary.positions.durable);
        for (ticket, _) in &self.tickets {
            match ticket.wait() {
                Ok(position) => assert!(closed.is_err() || position <= durable_now),
                Err(_) => assert!(closed.is_err(), "a ticket fails and the close does not"),
            }
        }
        let mut random = fastrand::Rng::with_seed(self.program.seed);
        let path = lock(&model).path.clone();
        match closed {
            Ok(summary) => {
                assert!(!broken, "a close hides an error");
                let whole = lock(&model).whole();
                assert_eq!(summary.positions.durable as usize, lock(&model).end());
                assert!(computer.read(&path).unwrap() == whole, "the file after the close");
                for _ in 0..3 {
                    let image = computer.medium().cut(&mut random);
                    assert!(image[&path] == whole, "the file after the close and a power cut");
                }
            }
            Err(failed) => {
                let durable = failed.summary.positions.durable;
                for _ in 0..8 {
                    let image = computer.medium().cut(&mut random);
                    lock(&model).check(&image, durable);
                }
            }
        }
    }
}
