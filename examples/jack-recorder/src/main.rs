//! Records JACK ports to a WAV file: the capture never waits for the disk, the header on disk
//! describes durable samples only, and what is lost is silence and is counted.

mod capture;
mod wav;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use clap::Parser;
use jack::{AudioIn, Client, ClientOptions};
use writeflush::{CloseError, Drive, OnFull, Options, Summary, Writer};

use capture::{Capture, Notices};
use wav::Format;

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
    let channels = u16::try_from(args.sources.len()).map_err(|_| "too many ports")?;
    let (client, _) = Client::new(&args.name, ClientOptions::NO_START_SERVER)
        .map_err(|error| format!("no JACK server to connect to ({error}): start jackd"))?;
    let format = Format { rate: client.sample_rate(), channels };
    let ports = (1..=channels)
        .map(|number| client.register_port(&format!("in_{number}"), AudioIn::default()))
        .collect::<Result<Vec<_>, _>>()?;
    let names = ports.iter().map(jack::Port::name).collect::<Result<Vec<_>, _>>()?;

    let mut writer = open(args, format, client.buffer_size())?;
    let control = writer.control().clone();
    writer.write_flush(&format.header(0))?;

    let (stop, stopped) = channel();
    ctrlc::set_handler(move || _ = stop.send(()))?;
    let notices = Notices::default();
    let active = client.activate_async(notices.clone(), Capture::new(ports, writer))?;
    for (source, port) in args.sources.iter().zip(&names) {
        let connected = active.as_client().connect_ports_by_name(source, port);
        connected.map_err(|error| format!("could not connect {source}: {error}"))?;
    }
    eprintln!("recording {channels} channels at {} Hz to {}", format.rate, args.file.display());
    checkpoints(args, format, &control, &stopped)?;

    let (_, _, capture) = active.deactivate()?;
    let summary = finish(capture.into_writer(), format)?;
    report(&summary, format, notices.xruns());
    Ok(())
}

fn open(args: &Args, format: Format, period: u32) -> Result<Writer, writeflush::Error> {
    let grant = period as usize * format.frame() as usize;
    Options::new()
        .drive(Drive::Poll) // a callback that makes no system call
        .buffers(args.buffer as usize)
        .grant_limit(grant.max(64 << 10))
        .on_full(OnFull::Fill(0)) // what does not fit is silence
        .create_new(&args.file)
}

/// Keeps the header true until the end.
fn checkpoints(
    args: &Args,
    format: Format,
    control: &writeflush::Control,
    stopped: &Receiver<()>,
) -> Result<(), writeflush::Error> {
    let every = Duration::from_millis(args.checkpoint);
    let limit = args.seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let end = limit.map(|limit| Instant::now() + limit);
    loop {
        let left = end.map_or(every, |end| end.saturating_duration_since(Instant::now()));
        let woken = stopped.recv_timeout(every.min(left));
        if woken != Err(RecvTimeoutError::Timeout) || left.is_zero() {
            return Ok(());
        }
        control.checkpoint(0, |durable| format.header(durable))?;
    }
}

fn finish(mut writer: Writer, format: Format) -> Result<Summary, CloseError> {
    // Silence that is still owed is written first; an error is repeated by the close.
    let _ = writer.flush();
    let _ = writer.checkpoint(0, |durable| format.header(durable));
    writer.close()
}

fn report(summary: &Summary, format: Format, xruns: u64) {
    let frames = (summary.positions.durable - wav::HEADER) / format.frame();
    println!(
        "{frames} frames, {:.3} s; {} overruns, {} frames of silence in their place; {xruns} xruns",
        frames as f64 / f64::from(format.rate),
        summary.stats.overruns,
        summary.stats.overrun_bytes / format.frame(),
    );
    for overrun in &summary.overruns {
        let at = (overrun.position - wav::HEADER) / format.frame();
        println!("lost: {} frames at {at}", overrun.bytes / format.frame());
    }
}
