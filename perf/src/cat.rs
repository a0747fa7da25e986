//! `cat`: the messages of a framed file.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use writeflush::frames::{End, Error, Item, Reader};

use crate::error::{Bad, LOST};
use crate::output::{count, say};
use crate::recover::check_regular;

const STATUS: &str = "\
Exit status: 0 all of it is there; 1 messages are missing, or bytes are damaged: standard error says
where; 2 it is no framed file, or can't be read";

/// Print the messages of a framed file, one directly behind the other
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS)]
pub(crate) struct Args {
    /// A file that frames were recorded to, also one that is being recorded
    file: PathBuf,

    /// Print a line feed behind each message
    #[arg(long)]
    lines: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    check_regular(&args.file)?;
    match print(args) {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::from(LOST)),
        // Who reads has read enough.
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        Err(Failure::Output(error)) => {
            Err(anyhow::Error::new(error).context("could not print the messages"))
        }
        Err(Failure::File(Error::NotFramed { why, .. })) => Err(Bad::new(format!(
            "{} is no framed file, since {why}: cat(1) prints it as it is",
            args.file.display()
        ))
        .into()),
        Err(Failure::File(error)) => Err(Bad::new(error.to_string()).into()),
    }
}

enum Failure {
    File(Error),
    Output(io::Error),
}

/// Whether nothing was missing.
fn print(args: &Args) -> Result<bool, Failure> {
    let mut reader = Reader::open(&args.file).map_err(Failure::File)?;
    let mut to = BufWriter::new(io::stdout().lock());
    let mut whole = true;
    let mut miss = |what: String| {
        whole = false;
        say(format_args!("warning: {}: {what}", args.file.display()));
    };
    while let Some(item) = reader.read().map_err(Failure::File)? {
        match item {
            Item::Hole(hole) => {
                miss(format!("the bytes from {} to {} are damaged", hole.from, hole.to));
            }
            Item::Frame(frame) => {
                if frame.missing > 0 {
                    let missing = count(frame.missing, "message");
                    miss(format!("{missing} before number {} are missing", frame.sequence));
                }
                to.write_all(frame.payload).map_err(Failure::Output)?;
                if args.lines {
                    to.write_all(b"\n").map_err(Failure::Output)?;
                }
            }
        }
    }
    match reader.end() {
        Some(End::Closed { missing: 1.. }) => miss("the last messages are missing".into()),
        Some(End::Torn { from, .. }) => {
            miss(format!("it ends in {from}: what follows is damaged, or its writer is at work"));
        }
        _ => {}
    }
    to.flush().map_err(Failure::Output)?;
    Ok(whole)
}
