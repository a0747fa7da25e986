//! The options of `record`, and what they mean to the library.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use writeflush::{BackendChoice, Direct, DiskFull, Drive, OnFull, Options, Preallocate};

use super::PATIENCE;
use super::input::Source;
use super::wav::Format;
use crate::error::Bad;
use crate::units::{size, time};

const EXAMPLES_AND_STATUS: &str = "\
Examples:
  sox -d -t raw -r 48000 -c 2 -b 16 -e signed - | cargo perf record --wav take.wav
  cargo perf record --input camera.fifo --buffers 8 --on-full drop --json take.raw

Exit status:
  0  every byte is durable and none was lost (also after Ctrl-C)
  1  bytes were lost, or the file could not be made durable: the message says how many bytes are
  2  options, input or output can't work; if the input fails in mid-recording, what was read
     before is durable
  130  a signal came before anything was recorded (as long as --preallocate writes zeros)

Ctrl-C and SIGTERM end the recording: the file is whole and durable when the tool returns. Words
on standard error never hold it up, nor does its end wait for them more than a second. The JSON
object is waited for as long as its reader takes; once a signal has come, a second.";

/// Record standard input, or a file, to a durable file
///
/// Everything up to the last fence survives a power cut; with --wav the header on disk describes
/// exactly durable data at every instant.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES_AND_STATUS)]
pub(crate) struct Args {
    /// The file to record to; a symbolic link is followed
    pub(crate) output: PathBuf,

    /// Read from this file or FIFO instead of standard input; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,

    /// The input is raw little-endian PCM: write a WAV file, whose header is kept true
    #[arg(long, conflicts_with = "append")]
    pub(crate) wav: bool,

    /// Sample frames a second (with --wav)
    #[arg(long, default_value_t = 48_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,

    /// Channels (with --wav)
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) channels: u16,

    /// Bits a sample: 8 (unsigned), 16, 24 or 32 (signed; with --wav)
    #[arg(long, default_value = "16", value_parser = bits)]
    pub(crate) bits: u16,

    /// Bytes in a frame of raw input: what is lost when no buffer has room are whole frames (with
    /// --wav a frame is a sample of each channel)
    #[arg(long, default_value_t = 1, conflicts_with = "wav", value_name = "BYTES")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) frame: u32,

    /// Time between two fences; 0 for one fence at the end
    #[arg(long, default_value = "100ms", value_parser = time, value_name = "DURATION")]
    pub(crate) fence_every: Duration,

    /// Go on at the end of a file that exists
    #[arg(long, conflicts_with = "force")]
    pub(crate) append: bool,

    /// Go on at this byte of a file that exists, to which it is cut: for one that was not closed
    #[arg(long, conflicts_with_all = ["force", "append", "wav"], value_name = "BYTE")]
    pub(crate) append_at: Option<u64>,

    /// Overwrite a file that exists
    #[arg(long)]
    pub(crate) force: bool,

    /// Buffers; more of them ride out longer stalls of the disk
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(crate) buffers: usize,

    /// Bytes in a buffer, a multiple of 4096
    #[arg(long, default_value = "1MiB", value_parser = size, value_name = "SIZE")]
    pub(crate) buffer_size: u64,

    /// How operations reach the kernel
    #[arg(long, default_value = "auto")]
    pub(crate) backend: BackendArg,

    /// Whether data bypasses the page cache
    #[arg(long, default_value = "auto")]
    pub(crate) direct: DirectArg,

    /// Who carries bytes to the disk: a thread that sleeps, whoever waits, or a thread that spins
    #[arg(long, default_value = "thread")]
    pub(crate) drive: DriveArg,

    /// What to do when no buffer has room: block, fail, drop, fill:BYTE or wait:DURATION
    #[arg(long, default_value = "block", value_parser = on_full, value_name = "POLICY")]
    pub(crate) on_full: OnFull,

    /// What to do when the disk is full: fail, which keeps what is there and ends, or wait until
    /// there is space (--on-full says what happens to the input once the buffers are full as well)
    #[arg(long, default_value = "fail", value_name = "POLICY")]
    pub(crate) on_disk_full: DiskFullArg,

    /// Reserve this much disk space at the start, or zero:SIZE to write zeros there: slower to
    /// start, and the cheapest fences later
    #[arg(long, value_parser = preallocate, value_name = "SIZE")]
    pub(crate) preallocate: Option<Preallocate>,

    /// Print one JSON object on standard output at the end, also when nothing could be recorded
    #[arg(long)]
    pub(crate) json: bool,

    /// No progress line and no summary; warnings and errors are still said
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum BackendArg {
    Auto,
    Uring,
    Sync,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DirectArg {
    Auto,
    On,
    Off,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DriveArg {
    Thread,
    Caller,
    Poll,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DiskFullArg {
    Fail,
    Wait,
}

impl Args {
    /// The WAV format, if the output is one.
    pub(crate) fn format(&self) -> Result<Option<Format>, Bad> {
        if !self.wav {
            return Ok(None);
        }
        Format::new(self.rate, self.channels, self.bits).map(Some)
    }

    /// The library's options.
    pub(crate) fn options(&self) -> Options {
        let backend = match self.backend {
            BackendArg::Auto => BackendChoice::Auto,
            BackendArg::Uring => BackendChoice::Uring,
            BackendArg::Sync => BackendChoice::Sync,
        };
        let direct = match self.direct {
            DirectArg::Auto => Direct::Auto,
            DirectArg::On => Direct::On,
            DirectArg::Off => Direct::Off,
        };
        let drive = match self.drive {
            DriveArg::Thread => Drive::Thread,
            DriveArg::Caller => Drive::Caller,
            DriveArg::Poll => Drive::Poll,
        };
        Options::new()
            .buffers(self.buffers)
            .buffer_size(usize::try_from(self.buffer_size).unwrap_or(usize::MAX))
            .backend(backend)
            .direct(direct)
            .drive(drive)
            .on_full(match self.on_full {
                OnFull::Block => OnFull::BlockFor(PATIENCE), // again and again
                policy => policy,
            })
            .on_disk_full(match self.on_disk_full {
                DiskFullArg::Fail => DiskFull::Fail,
                DiskFullArg::Wait => DiskFull::Wait,
            })
            .preallocate(self.preallocate.unwrap_or_default())
    }

    /// Bytes that belong together, and are lost together: a frame.
    pub(crate) fn frame(&self, format: Option<Format>) -> Result<usize, Bad> {
        let frame = format.map_or(self.frame.into(), Format::frame);
        let frame = usize::try_from(frame).unwrap_or(usize::MAX);
        // Without any room the library's own sentence is the better one.
        if (1..frame).contains(&self.longest_piece()) {
            return Err(Bad::new(format!(
                "a frame of {frame} bytes does not fit into all buffers but one: give more \
                 --buffers or a larger --buffer-size"
            )));
        }
        Ok(frame)
    }

    /// The most that a push may take: a policy that does not wait takes no more than all buffers
    /// but one at once.
    pub(crate) fn longest_piece(&self) -> usize {
        let size = usize::try_from(self.buffer_size).unwrap_or(usize::MAX);
        self.buffers.saturating_sub(1).saturating_mul(size)
    }

    /// Refuses to destroy what is there: a recording, or the input itself.
    pub(crate) fn check_output(&self, source: &Source, frame: usize) -> Result<(), Bad> {
        let output = self.output.display();
        if self.output == Path::new("-") {
            return Err(Bad::new(
                "a recording goes to a file, not to standard output: name one ('./-' for a file \
                 of that name)",
            ));
        }
        if source.is(&self.output) {
            return Err(Bad::new(format!(
                "{output} is the input itself: name another file to record to"
            )));
        }
        match std::fs::metadata(&self.output) {
            Ok(known) if known.is_file() && known.len() > 0 && !self.goes_on() && !self.force => {
                Err(Bad::new(format!(
                    "{output} exists and is not empty: give --force to overwrite it, --append to \
                     go on at its end, or another name"
                )))
            }
            Ok(known) if known.is_file() && self.goes_on() => {
                self.check_whole(self.append_at.unwrap_or(known.len()), frame)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                match std::fs::read_link(&self.output) {
                    // A link to nothing: what it names is made.
                    Ok(target) => check_directory(&self.output.with_file_name(target)),
                    Err(_) => check_directory(&self.output),
                }
            }
            _ => Ok(()), // the library knows what it can't record to
        }
    }

    fn goes_on(&self) -> bool {
        self.append || self.append_at.is_some()
    }

    /// What is appended behind half a frame is shifted as a whole.
    fn check_whole(&self, len: u64, frame: usize) -> Result<(), Bad> {
        let (output, rest) = (self.output.display(), len % frame as u64);
        if rest == 0 {
            return Ok(());
        }
        Err(Bad::new(format!(
            "{output} would go on at {len} bytes, which is no whole number of frames of {frame} \
             bytes: give --append-at and the end of its last whole frame, {} at most, or record to \
             another file",
            len - rest
        )))
    }
}

fn check_directory(file: &Path) -> Result<(), Bad> {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.exists() => {
            Err(Bad::new(format!(
                "there is no directory {}: make it, or name another place to record to",
                parent.display()
            )))
        }
        _ => Ok(()),
    }
}

fn bits(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(bits @ (8 | 16 | 24 | 32)) => Ok(bits),
        _ => Err("give 8, 16, 24 or 32".into()),
    }
}

fn on_full(text: &str) -> Result<OnFull, String> {
    let byte = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    match text.split_once(':') {
        None => match text {
            "block" => Some(OnFull::Block),
            "fail" => Some(OnFull::Fail),
            "drop" => Some(OnFull::Drop),
            _ => None,
        },
        Some(("fill", value)) => byte(value).map(OnFull::Fill),
        Some(("wait", limit)) => time(limit).ok().map(OnFull::BlockFor),
        Some(_) => None,
    }
    .ok_or_else(|| {
        "give block, fail, drop, fill:BYTE (0 to 255) or wait:DURATION (such as wait:20ms)".into()
    })
}

fn preallocate(text: &str) -> Result<Preallocate, String> {
    match text.strip_prefix("zero:") {
        Some(bytes) => size(bytes).map(Preallocate::Zero),
        None => size(text).map(Preallocate::Reserve),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_people_write() {
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(time("0"), Ok(Duration::ZERO));
        assert_eq!(time("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(on_full("fill:0x80"), Ok(OnFull::Fill(0x80)));
        assert_eq!(on_full("wait:20ms"), Ok(OnFull::BlockFor(Duration::from_millis(20))));
        assert_eq!(preallocate("zero:1KiB"), Ok(Preallocate::Zero(1024)));
        assert_eq!(preallocate("2GB"), Ok(Preallocate::Reserve(2_000_000_000)));
    }

    #[test]
    fn values_that_cannot_work() {
        assert!(size("many").is_err());
        assert!(time("100").is_err());
        assert!(bits("12").is_err());
        for policy in ["", "fill", "fill:256", "fill:", "wait:", "wait:x", "block:1", "lose"] {
            assert!(on_full(policy).is_err(), "{policy}");
        }
    }
}
