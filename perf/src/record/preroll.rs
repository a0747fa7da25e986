//! Recordings that begin in the past: what comes is kept in memory until a signal says that this is an
//! event.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use writeflush::observe::Sample;
use writeflush::preroll::{self, Beginning, Kept, Recording};
use writeflush::{
    Error, OnFull, Operation, Options, Positions, Preallocate, Push, Stats, segments,
};

use super::args::Args;
use super::events::{self, Event};
use super::sink::{self, Tally, options};
use super::summary::{Course, Figures, Ground};
use super::wav::{Format, Header};
use super::{PATIENCE, notice, refused};
use crate::error::Bad;
use crate::output::{amount, count, say};
use crate::pace::available_memory;
use crate::scratch::Scratch;
use crate::stop;
use crate::units::Span;

/// Pieces of the input that are shorter go into memory together: a record has a head there.
const TOGETHER: usize = 4096;
/// The longest piece, but for a frame that is longer.
const PIECE: usize = 64 * 1024;
/// For the next file to be made, before one gets longer than --split says.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Keeps what comes, and records events.
#[derive(Debug)]
pub(crate) struct Preroll {
    writer: preroll::Writer<()>,
    /// Short pieces, and since when.
    short: Vec<u8>,
    since: Instant,
    live: Live,
    pub(crate) kept: u64,
    pub(crate) ground: Ground,
}

/// Of the event that goes on, and those before it.
#[derive(Clone, Debug)]
struct Live(Arc<Mutex<Now>>, Tally);

#[derive(Debug, Default)]
struct Now {
    segments: Option<segments::Control>,
    /// Bytes of the events that have ended.
    ended: u64,
    /// What they have counted.
    stats: Stats,
    files: segments::Stats,
}

impl Live {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Preroll {
    /// Takes the memory. What could not be opened at an event is found out before there is one.
    pub(crate) fn open(
        args: &Args,
        header: Option<&Header>,
        format: Option<Format>,
        frame: usize,
        course: &mut Course,
    ) -> anyhow::Result<Self> {
        let kept = kept(args, format)?;
        // Besides the bytes: a head for each record, and the record that goes next.
        let keep = kept.saturating_add(kept / 8).saturating_add(2 * (PIECE + frame) as u64);
        let headroom = (keep / 2).max(1 << 20);
        check_memory(keep.saturating_add(headroom))?;
        let ground = rehearse(args, header, frame, course)?;
        let live = Live(Arc::default(), Tally::new(header, args.quiet));
        let (args_of_all, header, told) = (args.clone(), header.cloned(), live.clone());
        let open = move |begins: &Beginning| {
            let args = &args_of_all;
            let options = options(args, &args.output, below(args), header.as_ref(), frame);
            Take::open(options, begins, told.clone(), args.quiet)
        };
        let all = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let writer = preroll::Options::new(all(keep))
            .headroom(all(headroom))
            .memory_limit(usize::MAX)
            .on_full(match args.on_full {
                OnFull::Block => OnFull::BlockFor(PATIENCE), // again and again
                policy => policy,
            })
            .start(open)
            .map_err(|error| refused(args, &error))?;
        let short = Vec::with_capacity(TOGETHER);
        Ok(Self { writer, short, since: Instant::now(), live, kept, ground })
    }

    pub(crate) fn control(&self) -> Control {
        Control { preroll: self.writer.control().clone(), live: self.live.clone() }
    }

    /// Takes all of it, or none. What is lost may be told with a later one.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<Push, Error> {
        let mut pushed = Push::Accepted(0);
        if self.short.len() + bytes.len() > TOGETHER {
            pushed = self.write_short()?;
        }
        if bytes.len() > TOGETHER {
            return self.writer.write(bytes);
        }
        if self.short.is_empty() {
            self.since = Instant::now();
        }
        self.short.extend_from_slice(bytes);
        Ok(pushed)
    }

    fn write_short(&mut self) -> Result<Push, Error> {
        let pushed = self.writer.write(&self.short)?;
        self.short.clear();
        Ok(pushed)
    }

    /// What is due by the clock, or by a signal: that begins an event, or ends it. Whether nothing is
    /// recorded from now on.
    pub(crate) fn tick(&mut self) -> Result<bool, Error> {
        let has_event = stop::has_event();
        if has_event || self.since.elapsed() >= PATIENCE {
            match self.write_short() {
                // There is no room: it comes later, in the event that goes on.
                Err(Error::Deadline { .. } | Error::Full { .. }) => {}
                result => drop(result?),
            }
        }
        Ok(has_event && !self.writer.trigger()? && self.writer.stop()?)
    }

    /// Ends the event that goes on.
    pub(crate) fn close(mut self) -> (Figures, Vec<Error>) {
        let late = loop {
            match self.write_short() {
                Err(Error::Deadline { .. }) if !self.control().gives_up() => {}
                result => break result.err(),
            }
        };
        let (summary, mut errors) = match self.writer.close() {
            Ok(summary) => (summary, Vec::new()),
            Err(error) => (*error.summary, error.errors),
        };
        if errors.is_empty() {
            errors.extend(late);
        }
        let mut figures = self.live.1.figures();
        figures.end_of_events(summary.stats.overruns, summary.stats.overrun_bytes);
        (figures, errors)
    }
}

/// All about it but pushing, for any thread.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    preroll: preroll::Control<()>,
    live: Live,
}

impl Control {
    /// Of the event that goes on.
    pub(crate) fn segments(&self) -> Option<segments::Control> {
        self.live.now().segments.clone()
    }

    /// Of all events together.
    pub(crate) fn positions(&self) -> Positions {
        let now = self.live.now();
        let mut positions =
            now.segments.as_ref().map(segments::Control::positions).unwrap_or_default();
        for position in [
            &mut positions.accepted,
            &mut positions.submitted,
            &mut positions.written,
            &mut positions.durable,
        ] {
            *position += now.ended;
        }
        positions
    }

    /// Of all events together; what is lost is lost before it comes to a file.
    pub(crate) fn sample(&self) -> Sample {
        let now = self.live.now();
        let mut sample = now.segments.as_ref().map(Sample::of_segments).unwrap_or_default();
        sample.stats += &now.stats;
        sample.segments = Some(sum(sample.segments.unwrap_or_default(), &now.files));
        drop(now);
        let stats = self.preroll.stats();
        (sample.stats.overruns, sample.stats.overrun_bytes) = (stats.overruns, stats.overrun_bytes);
        sample.positions = self.positions();
        sample.kept_bytes = Some(self.kept().bytes);
        sample.error = self.error().filter(|error| !matches!(error, Error::Closed));
        sample
    }

    pub(crate) fn overruns(&self) -> (u64, u64) {
        let stats = self.preroll.stats();
        (stats.overruns, stats.overrun_bytes)
    }

    pub(crate) fn error(&self) -> Option<Error> {
        self.preroll.error()
    }

    /// Of the event that goes on; one that has just ended has the last header already.
    pub(crate) fn checkpoint(&self, header: &Header) -> Result<(), Error> {
        let Some(control) = self.segments() else { return Ok(()) };
        match control.checkpoint(0, |_, durable| header.so_far(durable)) {
            Ok(_) | Err(Error::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// In memory: for the next event, or still to be written.
    pub(crate) fn kept(&self) -> Kept {
        self.preroll.kept()
    }

    fn gives_up(&self) -> bool {
        self.segments().is_some_and(|control| gives_up(&control))
    }
}

/// An event that is recorded.
struct Take {
    writer: segments::Writer,
    live: Live,
}

impl Take {
    fn open(
        options: segments::Options,
        begins: &Beginning,
        live: Live,
        quiet: bool,
    ) -> Result<Self, Error> {
        let writer = live.1.hears(options).open()?;
        live.now().segments = Some(writer.control().clone());
        let path = writer.segment().map(|it| it.path.display().to_string()).unwrap_or_default();
        let (number, bytes_before) = (begins.number, begins.bytes);
        if !quiet {
            let before = count(bytes_before, "byte");
            say(format_args!("event {number}: {path} begins with {before} from before the signal"));
        }
        events::emit(&Event::Triggered { path, number, bytes_before });
        Ok(Self { writer, live })
    }

    /// It was not to be had in time, and nobody waits any more.
    fn gave_up(&self) -> Error {
        let path =
            self.writer.segment().map_or_else(|| Path::new("the event").into(), |it| it.path);
        let sentence =
            "a signal has ended the wait for space, and the rest of the event is missing";
        let source = io::Error::new(io::ErrorKind::StorageFull, sentence);
        Error::Io { operation: Operation::Write, path, source: Arc::new(source) }
    }
}

impl Recording for Take {
    type Summary = ();

    fn write(&mut self, record: &[u8]) -> Result<(), Error> {
        self.writer.wait_for_next(record.len(), LONGEST_WAIT)?; // the past comes fast
        loop {
            match self.writer.write(record) {
                Err(Error::Deadline { .. }) if gives_up(&self.writer) => return Err(self.gave_up()),
                Err(Error::Deadline { .. }) => {}
                result => return result.map(drop),
            }
        }
    }

    fn lose(&mut self, bytes: u64) {
        self.writer.lose(usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    fn close(self) -> ((), Vec<Error>) {
        let Self { writer, live } = self;
        let control = writer.control().clone();
        let (summary, errors) = match writer.close() {
            Ok(summary) => (summary, Vec::new()),
            Err(error) => (*error.summary, error.errors),
        };
        live.1.end(&summary);
        let stats = control.totals();
        let mut now = live.now();
        now.segments = None;
        now.ended += summary.positions.accepted;
        now.stats += &stats;
        now.files = sum(now.files, &summary.stats);
        ((), errors)
    }
}

/// Of two events.
fn sum(mut stats: segments::Stats, other: &segments::Stats) -> segments::Stats {
    stats.rotations += other.rotations;
    stats.late_rotations += other.late_rotations;
    stats.closed += other.closed;
    stats.removed += other.removed;
    stats.removed_bytes += other.removed_bytes;
    stats.recycled += other.recycled;
    stats
}

/// Whoever ends the recording waits for no other job to make room.
fn gives_up(segments: &segments::Control) -> bool {
    stop::asked() && segments.is_waiting_for_space()
}

/// What is to be kept, in bytes.
pub(crate) fn kept(args: &Args, format: Option<Format>) -> Result<u64, Bad> {
    match (args.preroll, format) {
        (Some(Span::Bytes(0)) | Some(Span::Time(Duration::ZERO)), _) => Err(Bad::new(
            "--preroll 0 keeps nothing: give a time or a size above 0, or leave it out",
        )),
        (Some(Span::Time(_)), None) => Err(Bad::new(
            "raw bytes have no rate, so --preroll needs a size such as 64MiB, or a WAV file",
        )),
        (Some(Span::Time(time)), Some(format)) => Ok(format.bytes_of(time)),
        (Some(Span::Bytes(bytes)), _) => Ok(bytes),
        (None, _) => Ok(0),
    }
}

/// What would have to be swapped out is no memory for a recorder.
fn check_memory(needed: u64) -> Result<(), Bad> {
    match available_memory() {
        Some(free) if free < needed => Err(Bad::new(format!(
            "--preroll takes {} of memory in all, and {} are free: keep less",
            amount(needed as f64),
            amount(free as f64)
        ))),
        _ => Ok(()),
    }
}

/// Opens what an event would open, in a folder beside that is gone at once: what can't work is said
/// now. (Zeros ahead are not written.)
fn rehearse(
    args: &Args,
    header: Option<&Header>,
    frame: usize,
    course: &mut Course,
) -> anyhow::Result<Ground> {
    let beside = args.output.parent().filter(|parent| !parent.as_os_str().is_empty());
    let scratch = Scratch::new(beside.unwrap_or(Path::new(".")), 0)?;
    let output = scratch.path().join(args.output.file_name().unwrap_or_default());
    let below = match args.preallocate {
        Some(Preallocate::Zero(_)) => below(args).preallocate(Preallocate::None),
        _ => below(args),
    };
    let opened = options(args, &output, below, header, frame).open();
    let writer = opened.map_err(|error| refused(args, &error))?;
    let ground = notice(&sink::Control::Segments(writer.control().clone()), course);
    writer.close().map_err(|error| refused(args, &error.into()))?;
    Ok(ground)
}

/// What is lost is lost before it comes to the file.
fn below(args: &Args) -> Options {
    args.options().on_full(OnFull::BlockFor(PATIENCE))
}
