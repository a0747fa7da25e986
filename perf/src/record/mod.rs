//! `record`: standard input, or a file, to a durable file.
//!
//! Threads beside the writer's own: one reads the input, one keeps a WAV header true, one looks
//! after the disk, one tells a service manager, one writes figures for Prometheus, and this one pushes, asks for fences, and ends it
//! all. None of them prints: that is the printer's.

mod args;
mod events;
mod fences;
mod input;
mod losses;
mod metrics;
#[cfg_attr(not(target_os = "linux"), path = "no_pipe.rs")]
mod pipe;
mod place;
mod preroll;
mod progress;
#[cfg_attr(not(unix), path = "no_service.rs")]
mod service;
mod sink;
mod summary;
mod watch;
mod wav;

use std::io::ErrorKind;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use writeflush::{Error, Medium, OnFull, Operation, Push};

pub(crate) use self::args::Args;
use self::events::Event;
use self::fences::Fences;
use self::input::{Arrival, Feed, Source};
use self::losses::Losses;
use self::metrics::Metrics;
use self::place::Place;
use self::preroll::Preroll;
use self::progress::Progress;
use self::service::Service;
use self::sink::{Control, Raw, Sink};
pub(crate) use self::summary::print_refusal;
use self::summary::{Course, Figures, Ground, Report, Status};
use self::watch::Watch;
use self::wav::Header;
use crate::error::{self, Bad, Interrupted};
use crate::output::{amount, count, say};
use crate::stop::{self, Hangup, Stop};

/// The longest sleep while the input is silent or the buffers are full: how soon a signal or a
/// failure is seen.
const PATIENCE: Duration = Duration::from_millis(50);

/// Records. An `Err` means that nothing was recorded.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let result = record(args);
    if let (Err(error), true) = (&result, args.json || args.json_lines) {
        let _ = events::finish(); // what came before comes before
        print_refusal(Some(&args.output), error::status(error), &format!("{error:#}"));
    }
    result
}

fn record(args: &Args) -> anyhow::Result<ExitCode> {
    // What can't work is said before the input is waited for.
    args.check_memory()?;
    args.check_split(args.frame(args.format(None)?)?)?;
    preroll::kept(args, args.format(None)?)?;
    let source = Source::open(args.input.as_deref(), args.reopen)?;
    args.check_output(&source)?;
    // Before the file is made: from here on a signal leaves a whole file.
    let hangup = if args.split.is_empty() { Hangup::Ends } else { Hangup::Rotates };
    let stop = Stop::install_with(hangup).context("could not listen for signals")?;
    if args.preroll.is_some() {
        stop::listen_for_events().context("could not listen for SIGUSR2")?;
    }
    let feed = Feed::open(source, args.is_wav()).context("could not start to read")?;
    let format = args.format(feed.format(&stop)?.or_else(|| place::format(args)))?;
    let frame = args.frame(format)?;
    let place = Place::find(args, format, frame)?;
    if args.json_lines {
        events::start().context("could not start to print events")?;
    }
    let began = Instant::now();
    let mut course = Course::new(&args.output, format, frame);
    let sink = open(args, &place, frame, &stop, &mut course)?;
    feed.begin(frame, args.longest_piece());
    let control = sink.control();
    let ground = match &sink {
        Sink::Preroll(preroll) => preroll.ground.clone(),
        _ => notice(&control, &mut course),
    };
    let metrics = args.metrics.as_deref();
    let metrics = metrics
        .map(|file| Metrics::start(file, &args.output, &control))
        .transpose()
        .context("could not start to write --metrics")?;
    let bell = metrics.as_ref().map(Metrics::bell);
    let watch = Watch::start(&control, &stop, bell).context("could not start to watch")?;
    let recording = Recording::start(args, feed, sink, place.header, course)?;
    let (mut course, figures) = recording.run(&stop, began);
    course.warnings.extend(watch.stop());
    course.warnings.extend(metrics.and_then(Metrics::stop));
    Ok(report(args, course, ground, figures))
}

fn open(
    args: &Args,
    place: &Place,
    frame: usize,
    stop: &Stop,
    course: &mut Course,
) -> anyhow::Result<Sink> {
    let header = place.header.as_ref();
    if args.preroll.is_some() {
        let format = course.format;
        return Preroll::open(args, header, format, frame, course).map(Sink::Preroll);
    }
    // Writing zeros ahead may take minutes.
    let options = args.options().cancel_open(stop.flag());
    let opened = if args.split.is_empty() {
        place.open(&options, &args.output, course).map(Sink::File)
    } else {
        sink::open(args, options, header, frame)
    };
    opened.map_err(|error| refused(args, &error))
}

/// Why nothing can be recorded, and what to do about it.
fn refused(args: &Args, error: &Error) -> anyhow::Error {
    let advice = match error {
        Error::Cancelled => return Interrupted.into(),
        Error::Unfinished { .. } => ": --resume, or --append-at BYTE",
        Error::SpaceFloor { .. } => ": --min-free",
        Error::Unrecoverable { .. } => "; give --raw if it is none, or record to another file",
        Error::Io { operation: Operation::Start, .. } => "; try --backend auto",
        Error::Io { operation: Operation::Preallocate, .. } => match sink::lacks_space(error) {
            true => "; give a smaller --preallocate",
            false => "; record without --preallocate",
        },
        Error::Io { .. } if matches!(args.direct, args::DirectArg::On) => {
            "; try --direct auto, or another file"
        }
        Error::Io { .. } => "; name another file to record to",
        _ => "", // these sentences say it themselves
    };
    Bad::new(format!("{error}{advice}")).into()
}

/// What ended a recording, and what keeps the next one from it.
fn told(error: &Error, is_split: bool) -> String {
    let advice = match error {
        Error::Io { operation: Operation::Write, source, .. }
            if source.kind() == ErrorKind::FileTooLarge =>
        {
            match is_split {
                true => ": no file may be that long here; give a smaller --split",
                false => {
                    ": no file may be that long here; give --split SIZE, for a new file in time"
                }
            }
        }
        _ => "",
    };
    format!("{error}{advice}")
}

/// Says what is not as good as it could be.
fn notice(control: &Control, course: &mut Course) -> Ground {
    let Some(control) = control.of_file() else { return Ground::default() };
    for reason in control.fallbacks() {
        course.warn(format!("{reason}; going on without"));
    }
    let durability = control.durability();
    if durability.medium != Medium::StableMedia {
        course.warn(format!("'durable' means {durability} here, not stable media"));
    }
    Ground::of(&control)
}

fn report(args: &Args, course: Course, ground: Ground, figures: Figures) -> ExitCode {
    let kept = figures.kept();
    let has_no_event = args.preroll.is_some() && figures.is_none() && course.errors.is_empty();
    for error in &course.errors {
        say(format_args!("error: {error}; {kept}"));
        events::emit(&Event::Error { text: error });
    }
    let report = Report::new(args, course, ground, figures);
    match args.quiet {
        false if has_no_event => say("no event: SIGUSR2 never came, and no file was made"),
        false => report.print_text(),
        true => {}
    }
    // Where nobody reads the events, nobody reads this.
    if args.json || args.json_lines && events::finish().is_ok() {
        report.print_json();
    }
    ExitCode::from(report.exit_status())
}

/// Says where what comes from now on goes.
fn begun(course: &Course, sink: &Sink, quiet: bool) {
    let path = &course.path;
    let Sink::Preroll(preroll) = sink else {
        let position = sink.control().positions().accepted;
        return events::emit(&Event::Began { path, position });
    };
    let bytes = preroll.kept;
    if !quiet {
        let (kept, process) = (amount(bytes as f64), std::process::id());
        say(format_args!("the last {kept} are kept; an event begins with: kill -USR2 {process}"));
    }
    events::emit(&Event::Armed { path, bytes });
}

/// When a recording is long enough.
#[derive(Clone, Copy, Debug)]
enum Until {
    Bytes(u64),
    Instant(Instant),
}

/// A recording under way.
struct Recording {
    sink: Sink,
    control: Control,
    feed: Feed,
    fences: Fences,
    progress: Progress,
    losses: Losses,
    service: Option<Service>,
    course: Course,
    header: Option<Header>,
    raw: Option<Raw>,
    until: Option<Until>,
    /// The policy is to block: a push is tried until there is room.
    blocks: bool,
    /// SIGHUP begins the next file.
    rotates: bool,
    warned: bool,
    /// Taken from the input, and never offered to the disk, since it had failed.
    unplaced: u64,
    quiet: bool,
}

impl Recording {
    fn start(
        args: &Args,
        feed: Feed,
        mut sink: Sink,
        header: Option<Header>,
        course: Course,
    ) -> anyhow::Result<Self> {
        let control = sink.control();
        let start = control.positions().accepted;
        match (&header, &sink) {
            (Some(header), Sink::File(_)) if start == 0 => drop(sink.write(&header.so_far(0))?),
            // It may describe what was cut off.
            (Some(header), Sink::File(_)) => control.checkpoint(header)?,
            _ => {} // a segment has its header already
        }
        let fences = Fences::start(args.fence_every, header.clone(), &control)
            .context("could not start the checkpoint thread")?;
        begun(&course, &sink, args.quiet);
        let until = args.duration.and_then(|time| match course.format {
            Some(format) => Some(Until::Bytes(format.bytes_of(time))),
            None => Instant::now().checked_add(time).map(Until::Instant),
        });
        let (path, frame) = (args.output.clone(), course.frame as u64);
        // A ring brings the rest of the frame when there is space again.
        let is_cut = header.is_none() && args.survive_kill.is_none();
        let raw = is_cut.then_some(Raw { path, begins: start, frame });
        Ok(Self {
            raw,
            progress: Progress::new(args.quiet, start),
            losses: Losses::new(),
            service: Service::start(&control),
            blocks: args.on_full == OnFull::Block,
            rotates: !args.split.is_empty(),
            warned: false,
            unplaced: 0,
            quiet: args.quiet,
            sink,
            control,
            feed,
            fences,
            course,
            header,
            until,
        })
    }

    fn run(mut self, stop: &Stop, began: Instant) -> (Course, Figures) {
        self.course.status = loop {
            if stop.asked() {
                break self.take_leftovers();
            }
            if let Err(ended) = self.step() {
                break ended;
            }
        };
        if self.course.status == Status::Failed {
            self.count_leftovers();
        }
        self.losses.end();
        self.progress.end();
        self.fences.stop();
        drop(self.service.take());
        if let (Some(header), Control::File(control)) = (self.header.clone(), self.control.clone())
        {
            // What fails here has poisoned the stream, and its close says so.
            let _ = self.finish_wav(&header, &control);
        }
        let (figures, errors) = self.sink.close(self.raw.as_ref());
        if !errors.is_empty() {
            self.course.status = Status::Failed;
            self.course.errors.extend(errors.iter().map(|error| told(error, self.rotates)));
        }
        self.course.took = began.elapsed();
        (self.course, figures)
    }

    /// One arrival of the input, or none, and what is due. `Err` when the recording ends.
    fn step(&mut self) -> Result<(), Status> {
        let now = Instant::now();
        let due = self.fences.next().map_or(PATIENCE, |at| at.saturating_duration_since(now));
        let arrival = self.feed.next(due.min(PATIENCE));
        self.take(&arrival)?;
        self.feed.recycle(arrival);
        self.tick();
        if matches!(self.until, Some(Until::Instant(end)) if Instant::now() >= end) {
            return Err(Status::Complete);
        }
        // On a silent input nothing else would tell.
        if self.control.error().is_some() { Err(Status::Failed) } else { Ok(()) }
    }

    fn take(&mut self, arrival: &Arrival) -> Result<(), Status> {
        match arrival {
            Arrival::Bytes(piece) => self.push(piece.bytes())?,
            Arrival::Silence | Arrival::Begins(_) => {}
            Arrival::Torn(len) => self.course.warn(format!(
                "who wrote to the input ended within a frame: its last {} are left out",
                count(*len as u64, "byte")
            )),
            Arrival::End => return Err(Status::Complete),
            Arrival::Unreadable(error) => {
                self.course.errors.push(format!("could not read the input: {error}"));
                return Err(Status::Unreadable);
            }
        }
        Ok(())
    }

    /// What is due by the clock. Never waits.
    fn tick(&mut self) {
        let now = Instant::now();
        self.fences.tick(&self.control, now);
        self.progress.tick(&self.control, now);
        self.losses.tick(now);
        if self.rotates && stop::hung_up() {
            self.control.rotate();
        }
        if let Sink::Preroll(preroll) = &mut self.sink
            && let Ok(true) = preroll.tick()
        {
            begun(&self.course, &self.sink, self.quiet); // an error is in the control
        }
        if let Some(service) = &self.service {
            service.alive();
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Status> {
        let (bytes, is_last) = match self.until {
            Some(Until::Bytes(end)) if end - self.course.input_bytes <= bytes.len() as u64 => {
                (&bytes[..(end - self.course.input_bytes) as usize], true)
            }
            _ => (bytes, false),
        };
        if !bytes.is_empty() {
            self.push_all(bytes)?;
        }
        if is_last { Err(Status::Complete) } else { Ok(()) }
    }

    fn push_all(&mut self, bytes: &[u8]) -> Result<(), Status> {
        self.course.input_bytes += bytes.len() as u64;
        match self.write(bytes) {
            Ok(Push::Accepted(_)) => self.losses.end(),
            Ok(Push::Lost(bytes)) => self.losses.lose(self.control.positions().accepted, bytes),
            Err(error) => return Err(self.refused(bytes, error)),
        }
        self.warn_of_length();
        Ok(())
    }

    /// Why a push came to nothing. A failure of the disk is told by the close, where it comes with all
    /// others.
    fn refused(&mut self, bytes: &[u8], error: Error) -> Status {
        if self.gives_up() {
            self.unplaced += bytes.len() as u64;
            self.course.errors.push("a signal has ended the wait for space".into());
        } else if self.control.error().is_none() {
            self.course.errors.push(error.to_string());
        }
        Status::Failed
    }

    fn write(&mut self, bytes: &[u8]) -> Result<Push, Error> {
        if self.blocks {
            self.sink.wait_for_next_file(bytes.len())?;
        }
        loop {
            match self.sink.write(bytes) {
                Err(Error::Deadline { .. }) if self.blocks && !self.gives_up() => self.tick(),
                result => return result,
            }
        }
    }

    /// Whoever ends the recording waits for no other job to make room. (One file hears of it by
    /// [`Watch`].)
    fn gives_up(&self) -> bool {
        let is_file = matches!(self.control, Control::File(_));
        !is_file && stop::asked() && self.control.is_waiting_for_space()
    }

    /// After a signal: what has been taken from the pipe is nobody else's.
    fn take_leftovers(&mut self) -> Status {
        if !self.rotates && stop::hung_up() {
            say("ended by SIGHUP, which begins the next file where there is --split");
        }
        self.feed.shut();
        while let Some(arrival) = self.feed.leftover() {
            if let Err(ended) = self.take(&arrival) {
                return ended;
            }
        }
        Status::Interrupted
    }

    /// After a failure: what has been taken from the input, and can go nowhere.
    fn count_leftovers(&mut self) {
        self.feed.shut();
        while let Some(arrival) = self.feed.leftover() {
            if let Arrival::Bytes(piece) = arrival {
                self.course.input_bytes += piece.bytes().len() as u64;
                self.unplaced += piece.bytes().len() as u64;
            }
        }
        if self.unplaced > 0 {
            self.course.warn(format!(
                "the last {} that were taken from the input are missing",
                count(self.unplaced, "byte")
            ));
        }
    }

    /// Only of a header that somebody else has made: ours has room for 64 bits.
    fn warn_of_length(&mut self) {
        let (Some(header), Control::File(control)) = (&self.header, &self.control) else { return };
        let data = header.data_before(control.positions().accepted);
        if !self.warned && header.is_too_short_for(data) {
            self.warned = true;
            self.course.warn(format!(
                "this WAV header can describe {} bytes of data, and there are more: all are \
                 recorded, and readers that trust the header see the first 4 GiB",
                header.longest_data()
            ));
        }
    }

    /// The last header: of the whole recording, or of what is durable if that is all there will be.
    fn finish_wav(&mut self, header: &Header, control: &writeflush::Control) -> Result<(), Error> {
        let whole = self.finish_data(header);
        let bytes = |durable| match whole {
            Ok(data) if durable >= header.len() + data => header.of_all(data),
            _ => header.so_far(header.data_before(durable)),
        };
        control.checkpoint(0, bytes).map(drop)
    }

    /// The length of the data, when the pad byte that an odd one needs is durable, too.
    fn finish_data(&mut self, header: &Header) -> Result<u64, Error> {
        // Fill bytes that are still owed belong to the data: a flush of the writer lays them down.
        self.sink.write_flush(&[])?;
        let data = header.data_before(self.control.positions().accepted);
        if header.needs_pad(data) {
            self.sink.write_flush(&[0])?;
        }
        let (frame, rest) = (header.format().frame(), header.format().rest(data));
        if rest > 0 {
            self.course.warn(format!(
                "the input ended within a frame of {}: the last {} are in the file, and the \
                 header does not count them",
                count(frame, "byte"),
                count(rest, "byte"),
            ));
        }
        Ok(data)
    }
}
