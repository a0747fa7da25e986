//! `follow`: a recording as it grows, in another process.

use std::io::{self, ErrorKind, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use writeflush::follow::{Follower, Watermark};

use crate::error::{Bad, LOST};
use crate::output::say;
use crate::recover::check_regular;

const STATUS: &str = "\
The recorder has to allow it: record --followed. Of a WAV file the header comes as it is now, and
says less than what follows.

Exit status: 0 to the end of a recording that was closed; 1 its recorder has failed, was killed, or
another one has the file: standard error says which; 2 it can't be followed";

/// Print a recording while it is recorded, up to what is durable
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS)]
pub(crate) struct Args {
    /// The file that is being recorded
    file: PathBuf,

    /// Up to what survives a crash of the recorder, which comes sooner
    #[arg(long)]
    written: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    check_regular(&args.file)?;
    let watermark = if args.written { Watermark::Written } else { Watermark::Durable };
    let mut from = Follower::open(&args.file, watermark).map_err(|error| {
        let name = args.file.display();
        Bad::new(match error.kind() {
            ErrorKind::NotFound => {
                format!("{name} can't be followed, since nobody records it so: record it with --followed")
            }
            _ => format!("{name} can't be followed: {error}"),
        })
    })?;
    let mut memory = vec![0; 64 * 1024];
    let mut to = io::stdout().lock();
    loop {
        let len = match from.read(&mut memory) {
            Ok(0) => return Ok(ExitCode::SUCCESS),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                say(format_args!("error: {}: {error}", args.file.display()));
                return Ok(ExitCode::from(LOST));
            }
        };
        match to.write_all(&memory[..len]).and_then(|()| to.flush()) {
            Ok(()) => {}
            // Who reads has read enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(error).context("could not print the recording"),
        }
    }
}
