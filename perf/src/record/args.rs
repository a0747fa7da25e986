//! The options of `record`, and what they mean to the library.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgGroup, ValueEnum};
use writeflush::{BackendChoice, Direct, DiskFull, Drive, OnFull, Options, Preallocate};

use super::PATIENCE;
use super::input::Source;
use super::wav::Format;
use crate::error::Bad;
use crate::output::{amount, binary_size, count};
use crate::units::{Span, hertz, size, some_span, some_time, span, time, whole};

const STATUS: &str = "\
Example: sox -d -t raw -r 48k -c 2 -b 16 -e signed - | writeflush record take.wav

Exit status: 0 every byte is durable and none was lost (also after Ctrl-C); 1 bytes were lost, or
are not durable: the message says how many; 2 options, input or output can't work";

const MORE: &str = "\
Examples:
  sox -d -t raw -r 48k -c 2 -b 16 -e signed - | writeflush record take.wav
  writeflush record --input camera.fifo --buffers 8 --on-full drop --json take.raw

Exit status:
  0  every byte is durable and none was lost (also after Ctrl-C)
  1  bytes were lost, or the file could not be made durable: the message says how many bytes are
  2  options, input or output can't work; if the input fails in mid-recording, what was read
     before is durable
  130  a signal came before anything was recorded (as long as --preallocate writes zeros)

Signals: Ctrl-C, SIGTERM and SIGHUP end the recording (SIGHUP begins the next file with --split),
SIGUSR1 says how it goes (and writes --metrics), SIGUSR2 begins and ends an event of --preroll.

The file is whole and durable when the tool returns. Words on standard error never hold it up, nor
does its end wait for them more than a second. The JSON object is waited for as long as its reader
takes; once a signal has come, a second.

A service manager that listens (sd_notify(3)) is told when the file is open, how it goes, once in
half the time of its watchdog that it goes, and when it ends.

A pipe may outlive its recorders: none takes half a frame out of it (of up to 4096 bytes), nor
anything that it can't record, and the next one goes on there.";

const WAV: &str = "WAV (a name that ends in .wav)";
const FILE: &str = "A file that exists";
const END: &str = "End and files";
const DISK: &str = "Buffers and disk";
const WORDS: &str = "What is said";

/// Record standard input, or a file, to a durable file
///
/// Everything up to the last fence survives a power cut; the header of a WAV file describes exactly
/// durable data at every instant.
#[derive(Clone, Debug, clap::Args)]
#[command(group(ArgGroup::new("numbered").multiple(true)))]
#[command(after_help = STATUS, after_long_help = MORE)]
pub(crate) struct Args {
    /// The file to record to; a symbolic link is followed
    pub(crate) output: PathBuf,

    /// Read this file or FIFO, not standard input (-)
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,

    /// Open the FIFO again whenever its writers have gone
    #[arg(long, hide_short_help = true, requires = "input")]
    pub(crate) reopen: bool,

    /// Time between two fences; 0: one, at the end
    ///
    /// What a power cut may take is at most what came since the last fence.
    #[arg(long, default_value = "100ms", value_parser = time, value_name = "TIME")]
    pub(crate) fence_every: Duration,

    /// Others may read along: writeflush follow FILE (Linux)
    #[arg(long)]
    pub(crate) followed: bool,

    /// Bytes in a raw frame, which is lost as a whole
    ///
    /// With WAV a frame is a sample of each channel.
    #[arg(long, hide_short_help = true, value_name = "BYTES", value_parser = whole(1..=u32::MAX))]
    pub(crate) frame: Option<u32>,

    /// Write a WAV file, whatever its name
    ///
    /// The input is raw little-endian PCM, or a WAV file, whose format is taken. Beyond 4 GiB it
    /// becomes RF64.
    #[arg(long, conflicts_with = "raw", help_heading = WAV)]
    pub(crate) wav: bool,

    /// Write the bytes as they are, whatever the name
    #[arg(long, hide_short_help = true, help_heading = WAV)]
    pub(crate) raw: bool,

    /// Sample frames a second, such as 44.1k [default: 48k]
    #[arg(long, value_parser = hertz, value_name = "HZ", help_heading = WAV)]
    pub(crate) rate: Option<u32>,

    /// Channels [default: 2]
    #[arg(long, value_name = "N", value_parser = whole(1..=1024_u16), help_heading = WAV)]
    pub(crate) channels: Option<u16>,

    /// Bits a sample: 8 (unsigned), 16, 24, 32 [default: 16]
    ///
    /// With --float 32 or 64; the default is then 32.
    #[arg(long, value_parser = bits, value_name = "BITS", help_heading = WAV)]
    pub(crate) bits: Option<u16>,

    /// Samples are floating-point numbers
    #[arg(long, help_heading = WAV)]
    pub(crate) float: bool,

    /// Go on at its end
    #[arg(long, group = "existing", help_heading = FILE)]
    pub(crate) append: bool,

    /// Cut it to this byte, or time (WAV), and go on there
    #[arg(long, group = "existing", value_name = "BYTE|TIME", value_parser = span,
          help_heading = FILE)]
    pub(crate) append_at: Option<Span>,

    /// Mend it after a crash, and go on
    ///
    /// Whole frames stay, also those that no fence has covered; a rest behind them is kept beside, as
    /// NAME.torn-OFFSET. A file that is not there is begun: for a service that is started again.
    #[arg(long, group = "existing", help_heading = FILE)]
    pub(crate) resume: bool,

    /// Overwrite it
    #[arg(long, group = "existing", help_heading = FILE)]
    pub(crate) force: bool,

    /// End after this time (WAV: of the input)
    #[arg(long, value_name = "TIME", value_parser = some_time, help_heading = END)]
    pub(crate) duration: Option<Duration>,

    /// A new file after so much, between two frames: 1GiB, 10m
    ///
    /// Or whichever of two comes first: 4GB,1h. The names are numbered, take-000001.wav and so on;
    /// OUTPUT may say how, with {seq} or {seq:06} and {utc}. The numbers go on behind those that are
    /// there. SIGHUP begins the next file at once.
    #[arg(long, value_name = "SIZE|TIME", value_parser = some_span, value_delimiter = ',',
          conflicts_with = "existing", group = "numbered", help_heading = END)]
    pub(crate) split: Vec<Span>,

    /// Begin so long before SIGUSR2: 10s (WAV), 64MiB
    ///
    /// The input is kept in memory, and no file made, until the signal comes; the file of that event
    /// begins with what was kept. The next signal ends it, what comes is kept for the next event, and so
    /// on. Files are numbered as with --split, which cuts a long event. Memory is taken at the start: some
    /// half more than is kept, for what comes while the file is made. An input that ends without a
    /// signal leaves no file; that is said, and is no failure.
    #[arg(long, value_name = "TIME|SIZE", value_parser = span, conflicts_with = "existing",
          group = "numbered", help_heading = END)]
    pub(crate) preroll: Option<Span>,

    /// How many, bytes or how long: older files go (--split)
    ///
    /// A number of files, 100GB of them, or 7d; the strictest of several holds: 1000,100GB. Only files
    /// of this name and a number go, never the one that is recorded to.
    #[arg(long, value_name = "COUNT|SIZE|TIME", value_parser = keep, value_delimiter = ',',
          requires = "numbered", help_heading = END)]
    pub(crate) keep: Vec<Keep>,

    /// Less free space than this is a full disk (--split)
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "numbered",
          help_heading = END)]
    pub(crate) min_free: Option<u64>,

    /// Buffers; more of them ride out longer stalls
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = whole(2..=1000_usize),
          help_heading = DISK)]
    pub(crate) buffers: usize,

    /// Bytes in a buffer, a multiple of 4096
    #[arg(long, default_value = "1MiB", value_parser = buffer_size, value_name = "SIZE",
          help_heading = DISK)]
    pub(crate) buffer_size: u64,

    /// No buffer has room: block, fail, drop, fill:BYTE, wait:TIME
    #[arg(long, default_value = "block", value_parser = on_full, value_name = "POLICY",
          hide_default_value = true, help_heading = DISK)]
    pub(crate) on_full: OnFull,

    /// The disk is full: fail, wait for space, delete old files
    ///
    /// A recording that fails keeps what is there and ends. While it waits, --on-full says what
    /// happens to the input once the buffers are full as well. To delete needs --min-free, and the
    /// oldest files of --split go.
    #[arg(long, default_value = "fail", value_name = "POLICY", hide_possible_values = true,
          hide_default_value = true, help_heading = DISK)]
    pub(crate) on_disk_full: DiskFullArg,

    /// What was taken survives kill -9 in this file, in /dev/shm
    ///
    /// The buffers lie in it. It goes with a recording that ends well; after a kill, or a disk that
    /// failed, --resume with the same file first brings what was taken to the recording, and so does
    /// writeflush recover --ring, which begins no new one. No power cut is survived by it. Linux.
    #[arg(long, hide_short_help = true, value_name = "RING", conflicts_with = "numbered",
          help_heading = DISK)]
    pub(crate) survive_kill: Option<PathBuf>,

    /// Reserve disk space at the start; zero:SIZE writes zeros
    ///
    /// Zeros are slower to start with, and make the cheapest fences later.
    #[arg(long, hide_short_help = true, value_parser = preallocate, value_name = "SIZE",
          help_heading = DISK)]
    pub(crate) preallocate: Option<Preallocate>,

    /// How operations reach the kernel
    #[arg(long, hide_short_help = true, default_value = "auto", hide_default_value = true,
          help_heading = DISK)]
    pub(crate) backend: BackendArg,

    /// Whether data bypasses the page cache
    #[arg(long, hide_short_help = true, default_value = "auto", hide_default_value = true,
          help_heading = DISK)]
    pub(crate) direct: DirectArg,

    /// Who writes: thread, caller (whoever waits), poll (spins)
    #[arg(long, hide_short_help = true, default_value = "thread", hide_default_value = true,
          hide_possible_values = true, help_heading = DISK)]
    pub(crate) drive: DriveArg,

    /// One JSON object on standard output at the end
    ///
    /// Also when nothing could be recorded.
    #[arg(long, help_heading = WORDS)]
    pub(crate) json: bool,

    /// A JSON object a line for whatever happens, when it does
    ///
    /// The last one is that of --json.
    #[arg(long, hide_short_help = true, conflicts_with = "json", help_heading = WORDS)]
    pub(crate) json_lines: bool,

    /// Keep figures for Prometheus in this file
    ///
    /// In its text format, for node_exporter's textfile collector: positions, lag, latencies of fences and
    /// of the disk, losses, files, waits for space. Written anew every 5 seconds, at SIGUSR1 and at the end; who
    /// reads it finds a whole one. A file that can't be written is said once, and holds up nothing.
    #[arg(long, hide_short_help = true, value_name = "FILE", help_heading = WORDS)]
    pub(crate) metrics: Option<PathBuf>,

    /// No progress and no summary, only warnings and errors
    #[arg(long, short, help_heading = WORDS)]
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
    Delete,
}

/// How much of a recording in segments is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Segments(u64),
    Bytes(u64),
    Time(Duration),
}

impl Args {
    /// Whether the output is a WAV file.
    pub(crate) fn is_wav(&self) -> bool {
        let named_so = self.output.extension().is_some_and(|it| it.eq_ignore_ascii_case("wav"));
        self.wav || named_so && !self.raw
    }

    /// The format of a WAV file: the known one, which the options may not contradict, or what they
    /// say.
    pub(crate) fn format(&self, known: Option<Format>) -> Result<Option<Format>, Bad> {
        self.check_wav()?;
        if !self.is_wav() {
            return Ok(None);
        }
        let bits = self.bits.unwrap_or(if self.float { 32 } else { 16 });
        let (rate, channels) = (self.rate.unwrap_or(48_000), self.channels.unwrap_or(2));
        let Some(format) = known else {
            return Format::new(rate, channels, bits, self.float).map(Some);
        };
        if format.is_as_told(self.rate, self.channels, self.bits, self.float) {
            return Ok(Some(format));
        }
        Err(Bad::new(format!(
            "there is a WAV file of {format}: leave --rate, --channels, --bits and --float out, \
             which say something else"
        )))
    }

    /// More memory than a writer gets.
    pub(crate) fn check_memory(&self) -> Result<(), Bad> {
        if (self.buffers as u64).saturating_mul(self.buffer_size) <= 1 << 30 {
            return Ok(());
        }
        Err(Bad::new(format!(
            "--buffers {} of --buffer-size {} are more than the memory limit of 1 GiB: give fewer, \
             or smaller ones",
            self.buffers,
            binary_size(self.buffer_size)
        )))
    }

    /// Options of segments that can't work together, or with frames of so many bytes.
    pub(crate) fn check_split(&self, frame: usize) -> Result<(), Bad> {
        let sizes = self.split.iter().filter(|span| matches!(span, Span::Bytes(_))).count();
        if self.split.len() > 2 || sizes > 1 || self.split.len() - sizes > 1 {
            return Err(Bad::new("--split has one size and one time at the most: 4GB,1h"));
        }
        if matches!(self.on_disk_full, DiskFullArg::Delete) && self.min_free.is_none() {
            return Err(Bad::new(
                "--on-disk-full delete needs room to act before the disk is full: give --split and \
                 --min-free as well",
            ));
        }
        let size = self.split.iter().find_map(|span| match span {
            Span::Bytes(bytes) => Some(*bytes),
            Span::Time(_) => None,
        });
        if let Some(size) = size.filter(|size| *size < frame as u64) {
            return Err(Bad::new(format!(
                "--split {size} has no room for a frame of {}: give more",
                count(frame as u64, "byte")
            )));
        }
        let (floor, disk) = (self.min_free.unwrap_or(0), fs4::total_space(self.folder()));
        match disk {
            Ok(disk) if floor > disk => Err(Bad::new(format!(
                "--min-free {} can't stay free on a disk of {}: give less",
                amount(floor as f64),
                amount(disk as f64)
            ))),
            _ => Ok(()),
        }
    }

    /// Where the files go.
    fn folder(&self) -> &Path {
        let folder = self.output.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new("."))
    }

    /// Options that mean something for one kind of file only.
    fn check_wav(&self) -> Result<(), Bad> {
        let given = [
            ("--rate", self.rate.is_some()),
            ("--channels", self.channels.is_some()),
            ("--bits", self.bits.is_some()),
            ("--float", self.float),
            ("--append-at with a time", matches!(self.append_at, Some(Span::Time(_)))),
        ];
        let given = given.into_iter().find_map(|(name, is_given)| is_given.then_some(name));
        match given {
            Some(name) if !self.is_wav() => Err(Bad::new(format!(
                "{name} needs a WAV file: give --wav, or a name that ends in .wav, or leave it out"
            ))),
            _ if self.is_wav() && self.frame.is_some() => Err(Bad::new(
                "--frame is for raw files, and with --wav a frame is a sample of each channel: \
                 leave it out",
            )),
            _ => Ok(()),
        }
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
        let options = match &self.survive_kill {
            Some(ring) => Options::new().survive_kill(ring),
            None => Options::new(),
        };
        options
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
                DiskFullArg::Fail | DiskFullArg::Delete => DiskFull::Fail,
                DiskFullArg::Wait => DiskFull::Wait,
            })
            .preallocate(self.preallocate.unwrap_or_default())
            .followed(self.followed)
    }

    /// Bytes that belong together, and are lost together: a frame.
    pub(crate) fn frame(&self, format: Option<Format>) -> Result<usize, Bad> {
        let frame = format.map_or(self.frame.unwrap_or(1).into(), Format::frame);
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
    pub(crate) fn check_output(&self, source: &Source) -> Result<(), Bad> {
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
        if let Some(file) =
            self.metrics.as_deref().filter(|it| source.is(it) || is_same(it, &self.output))
        {
            return Err(Bad::new(format!(
                "--metrics {} is the input or the recording itself: name another file",
                file.display()
            )));
        }
        match std::fs::metadata(&self.output) {
            _ if self.is_numbered() => check_directory(&self.output), // names are never used twice
            Ok(known) if known.is_file() && known.len() > 0 && !self.goes_on() && !self.force => {
                Err(Bad::new(format!(
                    "{output} exists and is not empty: give --force to overwrite it, --append to \
                     go on at its end, --resume to mend and go on after a crash, or another name"
                )))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                match std::fs::read_link(&self.output) {
                    // A link to nothing: what it names is made.
                    Ok(target) => check_directory(&self.output.with_file_name(target)),
                    Err(_) => check_directory(&self.output),
                }
            }
            // It would be waited for where its header is to be read: a FIFO has no other end.
            Ok(known) if !known.is_file() => {
                Err(Bad::new(format!("{output} is not a regular file: name a file to record to")))
            }
            _ => Ok(()), // the library knows what else it can't record to
        }
    }

    /// Whether the recording lies in files of its own making, one after the other.
    pub(crate) fn is_numbered(&self) -> bool {
        !self.split.is_empty() || self.preroll.is_some()
    }

    pub(crate) fn goes_on(&self) -> bool {
        self.append || self.append_at.is_some() || self.resume
    }
}

/// Whether two paths name one file, which need not be there.
fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| {
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    };
    let is_one_place = place(one).is_some_and(|it| Some(it) == place(other));
    is_one_place || same_file::is_same_file(one, other).unwrap_or(false)
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
        Ok(bits @ (8 | 16 | 24 | 32 | 64)) => Ok(bits),
        _ => Err("give 8, 16, 24 or 32, or with --float 32 or 64".into()),
    }
}

fn buffer_size(text: &str) -> Result<u64, String> {
    match size(text) {
        Ok(bytes @ 4096..=0x4000_0000) if bytes.is_multiple_of(4096) => Ok(bytes),
        _ => Err("give a multiple of 4096 up to 1GiB, such as 64KiB or 1MiB".into()),
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

fn keep(text: &str) -> Result<Keep, String> {
    let kept = match (text.parse::<u64>(), some_span(text)) {
        (Ok(count @ 1..), _) => Some(Keep::Segments(count)),
        (Err(_), Ok(Span::Bytes(bytes))) => Some(Keep::Bytes(bytes)),
        (_, Ok(Span::Time(time))) => Some(Keep::Time(time)),
        _ => None,
    };
    kept.ok_or_else(|| "give a number of files, a size such as 100GB or a time such as 7d".into())
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
        assert_eq!(keep("100"), Ok(Keep::Segments(100)));
        assert_eq!(keep("100GB"), Ok(Keep::Bytes(100_000_000_000)));
        assert_eq!(keep("7d"), Ok(Keep::Time(Duration::from_secs(7 * 86_400))));
        assert!(["all", "0", "0GB", "0s"].iter().all(|text| keep(text).is_err()));
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
