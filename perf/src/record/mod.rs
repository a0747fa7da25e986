//! `record`: standard input, or a file, to a durable file.
//!
//! Three threads beside the writer's own: one reads the input, one keeps a WAV header true, and
//! this one pushes, asks for fences, and ends it all. None of them prints: that is the printer's.

mod args;
mod fences;
mod input;
mod progress;
mod summary;
mod watch;
mod wav;

use std::io::ErrorKind;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use writeflush::{CloseError, Control, Error, Medium, OnFull, Operation, Summary, Writer};

pub(crate) use self::args::Args;
use self::fences::Fences;
use self::input::{Arrival, Feed, Source};
use self::progress::Progress;
pub(crate) use self::summary::print_refusal;
use self::summary::{Course, Report, Status};
use self::watch::Watch;
use self::wav::{Format, HEADER};
use crate::error::{self, Bad, Interrupted};
use crate::output::{count, say};
use crate::stop::Stop;

/// The longest sleep while the input is silent or the buffers are full: how soon a signal or a
/// failure is seen.
const PATIENCE: Duration = Duration::from_millis(50);

/// Records. An `Err` means that nothing was recorded.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let result = record(args);
    if let (Err(error), true) = (&result, args.json) {
        print_refusal(Some(&args.output), error::status(error), &format!("{error:#}"));
    }
    result
}

fn record(args: &Args) -> anyhow::Result<ExitCode> {
    let format = args.format()?;
    let frame = args.frame(format)?;
    let source = Source::open(args.input.as_deref())?;
    args.check_output(&source, frame)?;
    // Before the file is made: from here on a signal leaves a whole file.
    let stop = Stop::install().context("could not listen for signals")?;
    let began = Instant::now();
    let writer = open(args, &stop)?;
    let mut course = Course::new(format, frame);
    notice(&writer, &mut course);
    let control = writer.control().clone();
    let watch = Watch::start(&control, &stop).context("could not start to watch")?;
    let recording = Recording::start(args, source, writer, course)?;
    let (mut course, closed) = recording.run(&stop, began);
    course.warnings.extend(watch.stop());
    let summary = match closed {
        Ok(summary) => summary,
        Err(CloseError { errors, summary, .. }) => {
            course.status = Status::Failed;
            course.errors.extend(errors.iter().map(ToString::to_string));
            *summary
        }
    };
    Ok(report(args, course, &control, &summary))
}

fn open(args: &Args, stop: &Stop) -> anyhow::Result<Writer> {
    // Writing zeros ahead may take minutes.
    let options = args.options().cancel_open(stop.flag());
    let writer = if let Some(position) = args.append_at {
        options.append_at(&args.output, position)
    } else if args.append {
        options.append(&args.output)
    } else if args.force || args.output.exists() || args.output.is_symlink() {
        options.create(&args.output)
    } else {
        options.create_new(&args.output)
    };
    writer.map_err(|error| {
        let advice = match error {
            Error::Cancelled => return Interrupted.into(),
            Error::Unfinished { .. } => ": --append-at BYTE",
            Error::Io { operation: Operation::Start, .. } => "; try --backend auto",
            Error::Io { operation: Operation::Preallocate, ref source, .. } => {
                match source.kind() {
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                        "; give a smaller --preallocate"
                    }
                    _ => "; record without --preallocate",
                }
            }
            Error::Io { .. } if matches!(args.direct, args::DirectArg::On) => {
                "; try --direct auto, or another file"
            }
            Error::Io { .. } => "; name another file to record to",
            _ => "", // these sentences say it themselves
        };
        Bad::new(format!("{error}{advice}")).into()
    })
}

/// Says what is not as good as it could be.
fn notice(control: &Control, course: &mut Course) {
    for reason in control.fallbacks() {
        course.warn(format!("{reason}; going on without"));
    }
    let durability = control.durability();
    if durability.medium != Medium::StableMedia {
        course.warn(format!("'durable' means {durability} here, not stable media"));
    }
}

fn report(args: &Args, course: Course, control: &Control, summary: &Summary) -> ExitCode {
    let kept = kept(summary);
    for error in &course.errors {
        say(format_args!("error: {error}; {kept}"));
    }
    let report = Report::new(args, course, control, summary);
    if !args.quiet {
        report.print_text();
    }
    if args.json {
        report.print_json();
    }
    ExitCode::from(report.exit_status())
}

/// What a recording that failed has left.
fn kept(summary: &Summary) -> String {
    let durable = summary.positions.durable;
    match summary.file_len {
        Some(len) if len != durable => {
            format!("the first {durable} bytes of the file are durable, of {len}")
        }
        _ => format!("the first {durable} bytes of the file are durable"),
    }
}

/// A recording under way.
struct Recording {
    writer: Writer,
    feed: Feed,
    fences: Fences,
    progress: Progress,
    course: Course,
    /// The policy is to block: a push is tried until there is room.
    blocks: bool,
    warned: bool,
}

impl Recording {
    fn start(
        args: &Args,
        source: Source,
        mut writer: Writer,
        course: Course,
    ) -> anyhow::Result<Self> {
        let start = writer.positions().accepted;
        if let Some(format) = course.format {
            let _ = writer.write(&format.header_so_far(0))?;
        }
        let fences = Fences::start(args.fence_every, course.format, writer.control())
            .context("could not start the checkpoint thread")?;
        let feed = Feed::start(source, course.frame, args.longest_piece())
            .context("could not start to read")?;
        let progress = Progress::new(args.quiet, start);
        let blocks = args.on_full == OnFull::Block;
        Ok(Self { writer, feed, fences, progress, course, blocks, warned: false })
    }

    fn run(mut self, stop: &Stop, began: Instant) -> (Course, Result<Summary, CloseError>) {
        self.course.status = loop {
            if stop.asked() {
                break self.take_leftovers();
            }
            if let Err(ended) = self.step() {
                break ended;
            }
        };
        self.progress.end();
        self.fences.stop();
        if let Some(format) = self.course.format {
            // What fails here has poisoned the stream, and its close says so.
            let _ = self.finish_wav(format);
        }
        let closed = self.writer.close();
        self.course.took = began.elapsed();
        (self.course, closed)
    }

    /// One arrival of the input, or none, and what is due. `Err` when the recording ends.
    fn step(&mut self) -> Result<(), Status> {
        let now = Instant::now();
        let due = self.fences.next().map_or(PATIENCE, |at| at.saturating_duration_since(now));
        match self.feed.next(due.min(PATIENCE)) {
            Arrival::Bytes(piece) => {
                self.push(piece.bytes())?;
                self.feed.recycle(piece);
            }
            Arrival::Silence => {}
            Arrival::End => return Err(Status::Complete),
            Arrival::Unreadable(error) => {
                self.course.errors.push(format!("could not read the input: {error}"));
                return Err(Status::Unreadable);
            }
        }
        self.tick();
        // On a silent input nothing else would tell.
        if self.writer.error().is_some() { Err(Status::Failed) } else { Ok(()) }
    }

    /// What is due by the clock. Never waits.
    fn tick(&mut self) {
        let now = Instant::now();
        self.fences.tick(&self.writer, now);
        self.progress.tick(&self.writer, now);
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Status> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.course.input_bytes += bytes.len() as u64;
        // A loss is in the writer's own count.
        if let Err(error) = self.write(bytes) {
            // A failure of the disk is told by the close, where it comes with all others.
            if self.writer.error().is_none() {
                self.course.errors.push(error.to_string());
            }
            return Err(Status::Failed);
        }
        self.warn_of_length();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        loop {
            match self.writer.write(bytes).map(drop) {
                Err(Error::Deadline { .. }) if self.blocks => self.tick(),
                result => return result,
            }
        }
    }

    /// After a signal: what has been taken from the pipe is nobody else's.
    fn take_leftovers(&mut self) -> Status {
        while let Some(piece) = self.feed.leftover() {
            if let Err(ended) = self.push(piece.bytes()) {
                return ended;
            }
        }
        Status::Interrupted
    }

    fn warn_of_length(&mut self) {
        let Some(format) = self.course.format else { return };
        let data = self.writer.positions().accepted - HEADER;
        if !self.warned && format.is_too_long(data) {
            self.warned = true;
            self.course.warn(format!(
                "a WAV header can describe {} bytes of data, and there are more: all are \
                 recorded, and readers that trust the header see the first 4 GiB",
                format.longest_data()
            ));
        }
    }

    /// The last header: of the whole recording, or of what is durable if that is all there will be.
    fn finish_wav(&mut self, format: Format) -> Result<(), Error> {
        let whole = self.finish_data(format);
        let header = |durable| match whole {
            Ok(data) if durable >= HEADER + data => format.header_of_all(data),
            _ => format.header_so_far(durable),
        };
        self.writer.checkpoint(0, header).map(drop)
    }

    /// The length of the data, when the pad byte that an odd one needs is durable, too.
    fn finish_data(&mut self, format: Format) -> Result<u64, Error> {
        // Fill bytes that are still owed belong to the data: a flush of the writer lays them down.
        self.writer.write_flush(&[])?;
        let data = self.writer.positions().accepted - HEADER;
        if format.needs_pad(data) {
            self.writer.write_flush(&[0])?;
        }
        if format.rest(data) > 0 {
            self.course.warn(format!(
                "the input ended within a frame of {}: the last {} are in the file, and the \
                 header does not count them",
                count(format.frame(), "byte"),
                count(format.rest(data), "byte"),
            ));
        }
        Ok(data)
    }
}
