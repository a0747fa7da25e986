//! One file of a program: its calls, each with what has to be true after it.

use std::future::Future;
use std::io::{Seek, SeekFrom, Write};
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::super::disk::Told;
use super::super::{Asked, Computer};
use super::OnFull;
use super::model::{Behind, HEADER, Model, described, header};
use super::program::{Client, End, FILL, HOUR, Known, Step, Take, data, lock};
use crate::control::Control;
use crate::error::{Error, Operation};
use crate::options::DiskFull;
use crate::overrun::Push;
use crate::summary::{CloseError, Summary};
use crate::ticket::Ticket;
use crate::writer::{SharedWriter, Writer};

/// Polls after which a future is ready: the computer moves on with every one.
const POLLS: usize = 10_000;

/// A writer is never dropped by an unwinding panic: its close would wait on a broken computer.
enum Face {
    One(ManuallyDrop<Writer>),
    Many(ManuallyDrop<[SharedWriter; 2]>),
}

pub(super) struct Run<'a> {
    take: &'a Take,
    /// Outlives the face, which is taken down at the end.
    control: Control,
    computer: &'a Computer,
    face: Face,
    model: &'a Known,
    /// With the number of overwrites that each covers.
    tickets: Vec<(Ticket, usize)>,
    serial: u64,
    /// Fill bytes that are owed.
    debt: usize,
    /// The error that everybody has to see from now on.
    failure: Option<Error>,
}

/// What was asked of the disk by an operation of the writer.
fn asked(operation: Operation) -> &'static [Asked] {
    match operation {
        Operation::Write => &[Asked::Write],
        Operation::Read => &[Asked::Read],
        Operation::Flush => &[Asked::Flush],
        Operation::SyncDirectory => &[Asked::Name],
        Operation::Open | Operation::Trim => &[Asked::Length],
        Operation::Preallocate => &[Asked::Length, Asked::Write],
        Operation::Close => &[Asked::Close],
        Operation::Start => &[Asked::Read],
        _ => &[],
    }
}

/// Every error is one that the disk has told, of this operation on this file.
pub(super) fn assert_told(error: &Error, model: &Known, computer: &Computer) {
    let told = computer.told(&lock(&model.model).path);
    let Error::Io { operation, source, .. } = error else {
        panic!("no failure of the disk: {error}");
    };
    let is_it = |told: &Told| {
        asked(*operation).contains(&told.asked) && Some(told.code) == source.raw_os_error()
    };
    assert!(told.iter().any(is_it), "an error that the disk never told: {error}");
}

impl<'a> Run<'a> {
    pub(super) fn new(
        take: &'a Take,
        writer: Writer,
        known: &'a Known,
        computer: &'a Computer,
        serial: u64,
    ) -> Self {
        let mut run = Self {
            take,
            computer,
            control: writer.control().clone(),
            face: Face::One(ManuallyDrop::new(writer)),
            model: known,
            tickets: Vec::new(),
            serial,
            debt: 0,
            failure: None,
        };
        if take.headers {
            run.write(&header(0));
            let whole = run.model().end() == HEADER;
            run.model().headers = whole;
        }
        run
    }

    fn control(&self) -> &Control {
        &self.control
    }

    fn model(&self) -> MutexGuard<'a, Model> {
        lock(&self.model.model)
    }

    fn data(&mut self, len: usize) -> Vec<u8> {
        self.serial += 1;
        data(self.serial, len)
    }

    /// Positions are in order, and none past what was asked for; every loss is known.
    fn look_around(&self) {
        let now = self.control().positions();
        assert!(
            now.accepted >= now.submitted
                && now.submitted >= now.written
                && now.written >= now.durable,
            "{now:?}"
        );
        let model = self.model();
        assert_eq!(now.accepted, model.end() as u64, "accepted");
        let overruns = self.control().overruns().into_iter();
        let found: Vec<_> = overruns.map(|overrun| (overrun.position, overrun.bytes)).collect();
        assert_eq!(found, model.lost, "where bytes were lost");
        let lost: u64 = model.lost.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(self.control().stats().overrun_bytes, lost, "what was lost is counted");
    }

    /// An error is the one that everybody gets, and one that the disk has told.
    fn failed(&mut self, error: &Error) {
        assert_told(error, self.model, self.computer);
        match &self.failure {
            Some(first) => assert_eq!(first.to_string(), error.to_string(), "another error"),
            None => self.failure = Some(error.clone()),
        }
        let told = self.control().error().map(|error| error.to_string());
        assert_eq!(told, Some(error.to_string()), "an error that nobody else sees");
    }

    // ---- bytes ------------------------------------------------------------------------------------

    /// What the file will hold if all of it is taken: the fill bytes that are owed come first.
    /// Returns where it ends now.
    fn offer(&mut self, data: &[u8]) -> usize {
        let mut model = self.model();
        let end = model.end();
        model.append(&vec![FILL; self.debt]);
        model.append(data);
        end
    }

    /// How many of the bytes that were offered at `end` have been taken, less the fill bytes.
    fn settle(&mut self, end: usize) -> usize {
        let accepted = self.control().positions().accepted as usize;
        self.model().taken_to(accepted);
        let taken = accepted.checked_sub(end).expect("what is accepted stays");
        let filled = taken.min(self.debt);
        self.debt -= filled;
        taken - filled
    }

    /// The policy has lost bytes, or the source has.
    fn lost(&mut self, len: usize) {
        let fills = matches!(self.take.on_full, OnFull::Fill(_));
        self.model().lose(len, fills.then_some(self.debt));
        if fills {
            self.debt += len;
        }
    }

    /// An error that says that there was no room, under a policy that may say so. All other errors
    /// are the disk's.
    fn refused(&mut self, error: Error) {
        let policy = self.take.on_full;
        match error {
            Error::Full { .. } => assert_eq!(policy, OnFull::Fail, "{error}"),
            Error::TooLong { .. } => assert_ne!(policy, OnFull::Block, "{error}"),
            Error::Deadline { .. } => assert_eq!(policy, OnFull::BlockFor(Duration::ZERO)),
            error => self.failed(&error),
        }
    }

    fn write(&mut self, data: &[u8]) {
        let end = self.offer(data);
        let (first, rest) = data.split_at(data.len() / 3);
        let result = match (&mut self.face, end % 2) {
            (Face::One(writer), 0) => writer.write(data),
            (Face::One(writer), _) => writer.write_parts(&[first, rest]),
            (Face::Many(writers), 0) => writers[0].write(data),
            (Face::Many(writers), _) => writers[0].write_parts(&[first, rest]),
        };
        self.written(result, data, end);
    }

    fn written(&mut self, result: Result<Push, Error>, data: &[u8], end: usize) {
        let (debt, taken) = (self.debt, self.settle(end));
        match result {
            Ok(Push::Accepted(position)) => {
                assert_eq!((position, taken), ((end + debt) as u64, data.len()));
            }
            Ok(Push::Lost(lost)) => {
                assert!(matches!(self.take.on_full, OnFull::Drop | OnFull::Fill(_)));
                assert_eq!((lost, taken), (data.len(), 0));
                self.lost(lost);
            }
            Err(error) => {
                // A write that blocks may have been taken in part when the stream fails.
                let partly = self.take.on_full == OnFull::Block;
                assert!(partly || taken == 0, "an error, and {taken} bytes were taken");
                self.refused(error);
            }
        }
    }

    fn try_write(&mut self, len: usize) {
        let data = self.data(len);
        let (end, debt) = (self.offer(&data), self.debt);
        let result = match &mut self.face {
            Face::One(writer) => writer.try_write(&data),
            Face::Many(writers) => writers[1].try_write(&data),
        };
        let taken = self.settle(end);
        match result {
            Ok(position) => assert_eq!((position, taken), ((end + debt) as u64, len)),
            Err(error) => {
                assert_eq!(taken, 0);
                if !matches!(error, Error::Full { .. } | Error::TooLong { .. }) {
                    self.failed(&error);
                }
            }
        }
    }

    fn write_flush(&mut self, len: usize) {
        let data = self.data(len);
        let (end, debt) = (self.offer(&data), self.debt);
        let covered = self.model().overwrites();
        let result = match &mut self.face {
            Face::One(writer) => writer.write_flush(&data),
            Face::Many(writers) => writers[0].write_flush(&data),
        };
        let taken = self.settle(end);
        if let Ok(position) = result {
            assert_eq!((position, taken), ((end + debt + len) as u64, len));
        }
        self.durable(result, covered);
    }

    /// Of a shared writer: whole, or given up.
    fn shared_grant(&mut self, len: usize, keeps: bool) {
        let fill = if let OnFull::Fill(byte) = self.take.on_full { byte } else { 0 };
        let data = if keeps { self.data(len) } else { vec![fill; len] };
        let (end, debt) = (self.offer(&data), self.debt);
        let ones = vec![1; len]; // what nobody must find
        let Face::Many(writers) = &self.face else { return };
        let result = writers[1].grant(len).map(|mut grant| {
            grant.copy_from_slice(if keeps { &data } else { &ones });
            if keeps { grant.commit() } else { grant.position() }
        });
        let taken = self.settle(end);
        match result {
            Ok(position) => {
                assert_eq!((position, taken), ((end + debt) as u64, len));
                if !keeps && len > 0 {
                    self.model().given_up(position, len);
                }
            }
            Err(Error::Full { .. } | Error::TooLong { .. }) => assert_eq!(taken, 0),
            Err(error) => self.failed(&error),
        }
    }

    fn grant(&mut self, len: usize, commit: usize) {
        if let Face::Many(_) = self.face {
            return self.shared_grant(len, 2 * commit >= len);
        }
        let data = self.data(len);
        let (end, debt) = (self.offer(&data[..commit]), self.debt);
        let result = match &mut self.face {
            Face::One(writer) => writer.grant(len).map(|mut grant| {
                grant.copy_from_slice(&data);
                grant.commit(commit)
            }),
            Face::Many(_) => unreachable!("see above"),
        };
        let taken = self.settle(end);
        match result {
            Ok(position) => assert_eq!((position, taken), ((end + debt) as u64, commit)),
            Err(Error::Full { .. } | Error::TooLong { .. }) => assert_eq!(taken, 0),
            Err(error) => self.failed(&error),
        }
    }

    fn lose(&mut self, len: usize) {
        let Face::One(writer) = &mut self.face else { return };
        writer.lose(len);
        self.lost(len);
    }

    fn drain(&mut self) {
        let Face::One(writer) = &mut self.face else { return };
        let end = lock(&self.model.model).end() as u64;
        match Write::flush(&mut **writer) {
            Ok(()) => {
                assert_eq!(self.control().positions().written, end);
                self.is_read_back();
            }
            Err(error) => self.failed(&inner(error)),
        }
    }

    /// Another program sees all that was accepted, overwrites included.
    fn is_read_back(&self) {
        let model = self.model();
        if let Some(content) = self.computer.read(&model.path) {
            let known = model.read(0, model.end());
            assert!(content.get(..known.len()) == Some(known), "what was drained is not read");
        }
    }

    fn seek_write(&mut self, at: usize, len: usize) {
        let data = self.data(len);
        let end = self.model().end();
        // Fill bytes that are owed are part of what can be overwritten.
        let whole = end + self.debt;
        let over = len.min(whole.saturating_sub(at));
        let Face::One(writer) = &mut self.face else { return };
        if len == 0 {
            return; // moves the cursor, and nothing else
        }
        {
            let mut model = lock(&self.model.model);
            model.append(&vec![FILL; self.debt]);
            model.write_at(at, &data);
        }
        let all = at.saturating_sub(whole) + len - over;
        let before = writer.stats().overrun_bytes;
        assert_eq!(writer.seek(SeekFrom::Start(at as u64)).unwrap(), at as u64);
        let result = writer.write_all(&data);
        // Back to the end: the other calls append.
        writer.seek(SeekFrom::End(0)).unwrap();
        let lost = (writer.stats().overrun_bytes - before) as usize;
        let taken = self.settle(end);
        if lost > 0 {
            assert!(matches!(self.take.on_full, OnFull::Drop | OnFull::Fill(_)));
            self.lost(lost);
        }
        match result {
            Ok(()) => {
                assert_eq!(taken + lost, all, "as many as were written or lost");
                assert!(
                    lost == 0 || matches!(self.take.on_full, OnFull::Fill(_)),
                    "lost in silence"
                );
            }
            Err(error) => match inner(error) {
                Error::Lost { bytes } => {
                    // A gap can't be made of bytes that are lost, whatever fills their place.
                    let in_gap = taken < at.saturating_sub(whole);
                    assert!(bytes == lost && (in_gap || self.take.on_full == OnFull::Drop));
                }
                // A gap that can't be made harms nobody.
                Error::Io { operation: Operation::Trim, .. }
                    if self.control().error().is_none() =>
                {
                    assert!(!self.computer.makes_every_cut(), "a length was refused");
                    assert!(taken <= at.saturating_sub(whole));
                }
                error => self.refused(error),
            },
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
        let Face::Many(writers) = &self.face else { return };
        let writer = writers[which].clone();
        let data = self.data(len);
        let end = self.offer(&data);
        let result = writer.write(&data);
        self.written(result, &data, end);
    }

    // ---- overwrites -------------------------------------------------------------------------------

    /// Not over the header, which checkpoints keep.
    fn place(&self, thousandths: usize) -> usize {
        let least = if self.take.headers { HEADER } else { 0 };
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
        let control = self.control().clone();
        let result = control.checkpoint(0, |position| {
            let mut model = lock(&model.model);
            if control.error().is_none() {
                model.certain(covered);
            }
            model.overwrite(0, &header(position));
            header(position)
        });
        let had_failed = self.failure.is_some();
        self.durable(result, if self.control().error().is_none() { covered + 1 } else { 0 });
        let durable = self.control().positions().durable;
        if self.control().core.stream.is_cut_short() && durable >= HEADER as u64 {
            let content = self.computer.read(&self.model().path).unwrap();
            let described = described(&content).expect("a header that is whole");
            assert!(described == durable || !had_failed && described < durable, "the last header");
        }
    }

    // ---- fences -----------------------------------------------------------------------------------

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

    fn wait_limited(&mut self, patient: bool) {
        let Some((ticket, covered)) = self.tickets.first().cloned() else { return };
        let limit = if patient { HOUR } else { Duration::ZERO };
        match ticket.wait_timeout(limit) {
            Ok(None) => assert!(!patient && self.failure.is_none(), "a ticket without an answer"),
            Ok(Some(position)) => {
                assert_eq!(position, ticket.position());
                self.durable(Ok(position), covered);
            }
            Err(error) => self.failed(&error),
        }
    }

    fn poll(&mut self, to_the_end: bool) {
        let Some((mut ticket, covered)) = self.tickets.last().cloned() else { return };
        let calls = Arc::new(Calls::default());
        let waker = Waker::from(calls.clone());
        let mut context = Context::from_waker(&waker);
        for _ in 0..if to_the_end { POLLS } else { 1 } {
            let before = calls.0.load(Ordering::Relaxed);
            if let Poll::Ready(result) = Pin::new(&mut ticket).poll(&mut context) {
                return self.durable(result, covered);
            }
            // Nobody else moves it on: it has to be polled again.
            assert!(calls.0.load(Ordering::Relaxed) > before, "nobody will wake this task");
        }
        assert!(!to_the_end, "a future is not ready after {POLLS} polls");
    }

    /// In idle time what was accepted gets into the file unasked, and its length becomes what a reader
    /// may believe.
    fn rest(&mut self) {
        let rests = self.control().core.runner.rest();
        let positions = self.control().positions();
        let written = positions.written as usize;
        assert!(!rests || positions.accepted == positions.written, "left in memory: {positions:?}");
        let len = self.computer.read(&self.model().path).map_or(0, |content| content.len());
        assert!(len >= written, "{len} bytes are left of {written} that were written");
        if rests && self.take.is_plain() && self.computer.makes_every_cut() {
            assert_eq!(len, written, "padding, though nobody asks for anything");
        }
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

    // ---- the end ----------------------------------------------------------------------------------

    /// `None`: it is dropped, and nobody hears of anything.
    fn take_down(&mut self) -> Option<Result<Summary, CloseError>> {
        match (&mut self.face, self.take.end) {
            // SAFETY: never used again.
            #[allow(unsafe_code)]
            (Face::One(writer), End::Close) => Some(unsafe { ManuallyDrop::take(writer) }.close()),
            (Face::One(writer), End::Drop) => {
                // SAFETY: never used again.
                #[allow(unsafe_code)]
                unsafe {
                    ManuallyDrop::drop(writer)
                };
                None
            }
            (Face::Many(writers), end) => {
                // SAFETY: never used again.
                #[allow(unsafe_code)]
                let [first, second] = unsafe { ManuallyDrop::take(writers) };
                drop(second);
                if end == End::Close {
                    return Some(first.close());
                }
                drop(first);
                None
            }
        }
    }

    /// Every ticket has its answer, and the true one.
    fn answers(&mut self, control: &Control, durable: u64) {
        let patches = control.core.stream.patches_durable();
        for (ticket, covered) in std::mem::take(&mut self.tickets) {
            let [position, needed] = ticket.numbers();
            match ticket.wait() {
                Ok(found) => {
                    assert!(found == position && position <= durable && needed <= patches);
                    self.model().certain(covered);
                }
                Err(error) => {
                    let through = position <= durable && needed <= patches;
                    assert!(!through, "the fence at {position} is through, its ticket: {error}");
                    assert_told(&error, self.model, self.computer);
                }
            }
        }
    }

    /// A close tells what everybody heard first, and only what the disk told.
    fn told(&self, failed: &CloseError) {
        failed.errors.iter().for_each(|error| assert_told(error, self.model, self.computer));
        if let Some(first) = &self.failure {
            assert_eq!(failed.errors[0].to_string(), first.to_string(), "another error");
        }
    }

    /// A file that was full holds what was written, and ends there.
    fn cut(&self, failed: &CloseError) {
        let model = self.model();
        let len = self.computer.read(&model.path).unwrap().len() as u64;
        assert_eq!(failed.summary.file_len, Some(len), "the length of the file");
        if self.control.core.stream.is_cut_short() && failed.errors.len() == 1 {
            let kept = if model.behind == Behind::Stay { model.before.len() as u64 } else { 0 };
            assert_eq!(len, failed.summary.positions.written.max(kept), "where a full file ends");
        }
    }
}

impl Client for Run<'_> {
    fn step(&mut self, step: Step) {
        match step {
            Step::Write(len) => {
                let data = self.data(len);
                self.write(&data);
            }
            Step::TryWrite(len) => self.try_write(len),
            Step::WriteFlush(len) => self.write_flush(len),
            Step::Grant(len, commit) => self.grant(len, commit),
            Step::Lose(len) => self.lose(len),
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
            Step::WaitLimited { patient } => self.wait_limited(patient),
            Step::Poll { to_the_end } => self.poll(to_the_end),
            Step::LookAtAll => self.look(),
            Step::Rest => self.rest(),
            Step::DropNewest => drop(self.tickets.pop()),
            Step::Flush => {
                let covered = self.model().overwrites();
                let result = self.control().flush();
                self.durable(result, covered);
            }
            Step::Drain => self.drain(),
            Step::Patch(place, len) => self.patch(place, len),
            Step::Checkpoint => self.checkpoint(),
            Step::SeekWrite(place, len) => self.seek_write(self.place(place), len),
            Step::SeekPast(by, len) => {
                let end = self.model().end() + self.debt;
                self.seek_write(end + by, len);
            }
            Step::Share => self.share(),
            Step::Other(which, len) => self.other(which, len),
            Step::Message(_) | Step::Leave => unreachable!("{step:?} to a writer"),
        }
        self.look_around();
    }

    fn end(mut self: Box<Self>, random: &mut fastrand::Rng) {
        self.look_around();
        let control = self.control().clone();
        let end = self.offer(&[]);
        let closed = self.take_down();
        self.settle(end);
        let durable = control.positions().durable;
        self.answers(&control, durable);
        let path = self.model().path.clone();
        let told = self.computer.told(&path);
        let waits = self.take.on_disk_full == DiskFull::Wait;
        let is_over =
            |told: &Told| waits && told.asked == Asked::Write && told.code == libc::ENOSPC;
        let well = self.failure.is_none() && told.iter().all(is_over);
        match closed {
            Some(Ok(summary)) => {
                assert!(well, "a close hides {told:?}");
                assert_eq!(summary.positions.durable as usize, self.model().end());
                let len = self.computer.read(&path).unwrap().len() as u64;
                assert_eq!(summary.file_len, Some(len));
                self.model.assert_whole(self.computer, random);
            }
            None if well && control.error().is_none() => {
                self.model.assert_whole(self.computer, random)
            }
            closed => {
                if let Some(Err(failed)) = closed {
                    self.told(&failed);
                    assert_eq!(failed.summary.positions.durable, durable);
                    self.cut(&failed);
                }
                self.model.assert_possible(self.computer, random, durable);
            }
        }
        later(&control);
    }
}

/// Who still holds a handle is told that it is over.
pub(super) fn later(control: &Control) {
    let patched = control.patch(0, &[]);
    match control.error() {
        Some(error) => assert_eq!(patched.unwrap_err().to_string(), error.to_string()),
        None => assert!(matches!(patched, Err(Error::Closed)), "{patched:?}"),
    }
}

/// How often a task was told to poll again.
#[derive(Default)]
struct Calls(AtomicUsize);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The error of the writer in one of `std::io`.
fn inner(error: std::io::Error) -> Error {
    let inner = error.into_inner().expect("an error of the writer");
    *inner.downcast().expect("an error of the writer")
}
