//! `recover`: what a crash has left becomes a whole file again.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use writeflush::recover::{Prefix, Scan, recover, wave};
use writeflush::{Error, Options, frames};

use crate::error::{Bad, LOST};
use crate::output::{count, say};
use crate::units::whole;

const STATUS: &str = "\
What is damaged behind the last whole frame is kept beside, as FILE.torn-OFFSET, before it is cut
off. A second recovery finds nothing to do. A recording that is to go on: record --resume.

Exit status: 0 it is whole; 1 it is, and messages or samples are missing that had been there; 2 it
can't be recovered, or is being recorded";

/// Cut a file to what is whole after a crash, and keep the rest beside
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS)]
pub(crate) struct Args {
    /// A WAV file, whose header is put right; a framed file; or a raw one
    file: PathBuf,

    /// First bring what its recorder had taken, out of this ring file
    #[arg(long, value_name = "RING")]
    ring: Option<PathBuf>,

    /// Bytes in a frame of a raw file
    #[arg(long, value_name = "BYTES", default_value_t = 1, value_parser = whole(1..=u32::MAX))]
    frame: u32,
}

/// Of a raw file all whole frames stay; zeros that its writer has marked as padding go, and what lies
/// behind a hole that it has left.
pub(crate) fn whole_frames(scan: &Scan<'_>, frame: u64) -> std::io::Result<Prefix> {
    let end = scan.data_end(0, 0, frame)?;
    Ok(Prefix::new(end - end % frame))
}

/// What was done.
struct Done {
    kept: u64,
    cut: u64,
    torn: Option<PathBuf>,
    missing: Option<String>,
}

/// Refuses what is no file that was recorded to: the open of a FIFO would wait for its other end.
pub(crate) fn check_regular(path: &Path) -> Result<(), Bad> {
    let name = path.display();
    match std::fs::metadata(path) {
        Ok(known) if known.is_file() => Ok(()),
        Ok(_) => Err(Bad::new(format!("{name} is not a regular file: name a recording"))),
        Err(error) => Err(Bad::new(format!("could not read {name}: {error}; name a recording"))),
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    check_regular(&args.file)?;
    let name = args.file.display();
    if let Some(ring) = &args.ring {
        bring(ring, &args.file)?;
    }
    let mut begin = Vec::new();
    File::open(&args.file)
        .and_then(|file| file.take(8).read_to_end(&mut begin))
        .map_err(|error| Bad::new(format!("could not read {name}: {error}")))?;
    let done = match begin.get(..4) {
        Some(b"\x89wfF") => framed(args),
        Some(b"RIFF" | b"RF64") => recover(&args.file, wave).map(Done::from).map_err(sentence),
        _ => recover(&args.file, |scan| whole_frames(scan, args.frame.into()))
            .map(Done::from)
            .map_err(sentence),
    }?;
    let torn = done.torn.map(|path| format!(", and kept in {}", path.display()));
    let cut = match done.cut {
        0 => String::new(),
        bytes => format!("; {} cut off{}", count(bytes, "byte"), torn.unwrap_or_default()),
    };
    say(format_args!("{name}: {} stay{cut}", count(done.kept, "byte")));
    let Some(missing) = done.missing else { return Ok(ExitCode::SUCCESS) };
    say(format_args!("warning: {name}: {missing} that had been there are missing"));
    Ok(ExitCode::from(LOST))
}

fn bring(ring: &Path, file: &Path) -> Result<(), Bad> {
    let brought = Options::new().survive_kill(ring).recover_ring(file).map_err(sentence)?;
    let (ring, file) = (ring.display(), file.display());
    match brought {
        None => say(format_args!("{ring} is not there: nothing is to be brought")),
        Some(brought) => say(format_args!(
            "{file}: {} that had been taken are brought from {ring}",
            count(brought.bytes, "byte")
        )),
    }
    Ok(())
}

fn framed(args: &Args) -> Result<Done, Bad> {
    let found = frames::recover(&args.file).map_err(|error| Bad::new(error.to_string()))?;
    let missing = (found.missing > 0).then(|| count(found.missing, "message"));
    let torn = found.torn.map(|torn| torn.path);
    Ok(Done { kept: found.kept, cut: found.cut, torn, missing })
}

impl From<writeflush::recover::Recovered> for Done {
    fn from(found: writeflush::recover::Recovered) -> Self {
        let missing = (found.missing > 0).then(|| count(found.missing, "byte"));
        let torn = found.torn.map(|torn| torn.path);
        Self { kept: found.kept, cut: found.cut, torn, missing }
    }
}

fn sentence(error: Error) -> Bad {
    Bad::new(error.to_string())
}
