//! Records JACK ports to a WAV file: the capture never waits for the disk, the header on disk
//! describes durable samples only, and what is lost is silence and is counted.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use jack::{AudioIn, Client, ClientOptions};
use writeflush::{CloseError, Control, Drive, OnFull, Options, Summary, Writer};

use jack_recorder::capture::{Capture, Counts, Notices, SharedTape, Stop, Why};
use jack_recorder::tape::Tape;
use jack_recorder::wav::{self, Format};

/// Records JACK ports to a WAV file (32-bit float; RF64 past 4 GiB) until Ctrl-C.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The file to record to; it must not exist.
    file: PathBuf,
    /// Ports to record, one a channel, for example `system:capture_1`.
    #[arg(required = true)]
    sources: Vec<String>,
    /// The name of the client in JACK.
    #[arg(long, default_value = "recorder")]
    name: String,
    /// Ends after so many seconds.
    #[arg(long)]
    seconds: Option<f64>,
    /// Milliseconds between checkpoints: what a power cut may cost.
    #[arg(long, default_value_t = 500)]
    checkpoint: u64,
    /// Memory between JACK and the disk, in MiB: it takes a stall of the disk of this much sound.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=1000))]
    buffer: u32,
    /// Shows ten times a second how many frames are where.
    #[arg(long)]
    progress: bool,
}

fn main() -> ExitCode {
    match record(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jack-recorder: {error}");
            ExitCode::FAILURE
        }
    }
}

fn record(args: &Args) -> Result<(), Box<dyn Error>> {
    let channels = u16::try_from(args.sources.len()).ok().filter(|&count| count <= wav::CHANNELS);
    let channels = channels.ok_or("too many ports: a WAV file has 16383 channels at the most")?;
    let (client, _) = Client::new(&args.name, ClientOptions::NO_START_SERVER)
        .map_err(|error| format!("no JACK server to connect to ({error}): start jackd"))?;
    let format = Format { rate: client.sample_rate(), channels };
    let ports = (1..=channels)
        .map(|number| client.register_port(&format!("in_{number}"), AudioIn::default()))
        .collect::<Result<Vec<_>, _>>()?;
    let names = ports.iter().map(jack::Port::name).collect::<Result<Vec<_>, _>>()?;

    let mut writer = open(args, format)?;
    let control = writer.control().clone();
    writer.write_flush(&format.header(0))?;

    let stop = Stop::new();
    let ended = stop.clone();
    ctrlc::set_handler(move || ended.end(Why::Asked))?;
    let counts = Arc::<Counts>::default();
    let tape: SharedTape = Arc::new(Mutex::new(Some(Tape::new(writer, format))));
    let notices = Notices { counts: counts.clone(), stop: stop.clone() };
    let capture = Capture::new(ports, tape.clone(), counts.clone());
    let active = client.activate_async(notices, capture)?;
    for (source, port) in args.sources.iter().zip(&names) {
        let connected = active.as_client().connect_ports_by_name(source, port);
        connected.map_err(|error| format!("could not connect {source}: {error}"))?;
    }
    eprintln!("recording {channels} channels at {} Hz to {}", format.rate, args.file.display());
    let why = checkpoints(args, format, &control, &counts, &stop)?;

    // Before JACK disconnects the ports, so that the file ends with what was heard last; and
    // whatever becomes of JACK.
    let tape = tape.lock().unwrap_or_else(PoisonError::into_inner).take();
    let tape = tape.ok_or("the callback panicked; please report this")?;
    let left = active.deactivate();
    let summary = finish(tape.into_writer(), format)?;
    report(&summary, format, &counts);
    match why {
        Why::Asked => left.map(drop).map_err(Into::into),
        Why::ServerGone => {
            Err("the JACK server is gone; the file holds all that came before".into())
        }
    }
}

fn open(args: &Args, format: Format) -> Result<Writer, writeflush::Error> {
    Options::new()
        .drive(Drive::Poll) // a callback that makes no system call
        .buffers(args.buffer as usize)
        .grant_limit(Tape::grant_limit(format))
        .on_full(OnFull::Fill(0)) // what does not fit is silence
        .create_new(&args.file)
}

/// Keeps the header true until the end; says why it has come.
fn checkpoints(
    args: &Args,
    format: Format,
    control: &Control,
    counts: &Counts,
    stop: &Stop,
) -> Result<Why, writeflush::Error> {
    let every = Duration::from_millis(args.checkpoint);
    let limit = args.seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let end = limit.and_then(|limit| Instant::now().checked_add(limit));
    let (described, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        if args.progress {
            // Apart, since a checkpoint waits for the disk.
            scope.spawn(|| show(format, control, counts, &described, &over));
        }
        let why = loop {
            let next = Instant::now() + every;
            if let Some(why) = stop.wait_until(end.map_or(next, |end| end.min(next))) {
                break Ok(why);
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                break Ok(Why::Asked);
            }
            match control.checkpoint(0, |durable| format.header(durable)) {
                Ok(durable) => described.store(durable, Ordering::Relaxed),
                Err(error) => break Err(error),
            }
        };
        over.store(true, Ordering::Relaxed);
        why
    })
}

/// A line ten times a second: frames that are accepted, written, durable, described by the header on
/// disk, lost; and xruns.
fn show(
    format: Format,
    control: &Control,
    counts: &Counts,
    described: &AtomicU64,
    over: &AtomicBool,
) {
    let frames = |position| format.frames(position);
    while !over.load(Ordering::Relaxed) {
        let described = frames(described.load(Ordering::Relaxed)); // before the larger ones
        let now = control.positions();
        let lost: u64 = control.overruns().iter().map(|overrun| overrun.bytes).sum();
        eprintln!(
            "accepted {} written {} durable {} described {described} lost {} xruns {}",
            frames(now.accepted),
            frames(now.written),
            frames(now.durable),
            lost / format.frame(),
            counts.xruns(),
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn finish(mut writer: Writer, format: Format) -> Result<Summary, CloseError> {
    // Silence that is still owed is written first; an error is repeated by the close.
    let _ = writer.flush();
    let _ = writer.checkpoint(0, |durable| format.header(durable));
    writer.close()
}

fn report(summary: &Summary, format: Format, counts: &Counts) {
    let frames = format.frames(summary.positions.durable);
    println!(
        "{frames} frames, {:.3} s; {} overruns, {} frames of silence in their place, {} of them never \
         came from JACK; {} xruns",
        frames as f64 / f64::from(format.rate),
        summary.stats.overruns,
        summary.stats.overrun_bytes / format.frame(),
        counts.missed(),
        counts.xruns(),
    );
    for overrun in &summary.overruns {
        let at = (overrun.position - wav::HEADER) / format.frame();
        println!("lost: {} frames at {at}", overrun.bytes / format.frame());
    }
}
