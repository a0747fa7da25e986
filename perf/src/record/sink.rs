//! Where the bytes go: into one file, or into segments of a recording.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use writeflush::observe::Sample;
use writeflush::segments::{self, Closed, Event as Told, Floor, Tail};
use writeflush::{
    BackendChoice, CloseError, Direct, Error, Options, Positions, Push, Ticket, Writer,
};

use super::args::{Args, DiskFullArg, Keep};
use super::events::{self, Event};
use super::preroll::{self, Preroll};
use super::summary::Figures;
use super::wav::Header;
use crate::output::{count, say};
use crate::units::Span;

/// Takes the bytes.
#[derive(Debug)]
pub(crate) enum Sink {
    File(Writer),
    Segments(segments::Writer, Tally),
    /// Into segments, from a trigger on.
    Preroll(Preroll),
}

impl Sink {
    pub(crate) fn control(&self) -> Control {
        match self {
            Self::File(writer) => Control::File(writer.control().clone()),
            Self::Segments(writer, _) => Control::Segments(writer.control().clone()),
            Self::Preroll(preroll) => Control::Preroll(preroll.control()),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<Push, Error> {
        match self {
            Self::File(writer) => writer.write(bytes),
            Self::Segments(writer, _) => writer.write(bytes),
            Self::Preroll(preroll) => preroll.write(bytes),
        }
    }

    /// Before a [`write`](Self::write), where the source can wait: so that no file gets longer than
    /// `--split` says because the source is fast.
    pub(crate) fn wait_for_next_file(&mut self, len: usize) -> Result<(), Error> {
        const LONGEST: Duration = Duration::from_secs(1);
        match self {
            Self::File(_) | Self::Preroll(_) => Ok(()),
            Self::Segments(writer, _) => writer.wait_for_next(len, LONGEST),
        }
    }

    /// As [`write`](Self::write), and makes it durable, where there is a file at hand.
    pub(crate) fn write_flush(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::File(writer) => writer.write_flush(bytes).map(drop),
            Self::Segments(writer, _) => writer.write_flush(bytes).map(drop),
            Self::Preroll(preroll) => preroll.write(bytes).map(drop),
        }
    }

    /// What was done, and every error. `raw`: of one file without a header.
    pub(crate) fn close(self, raw: Option<&Raw>) -> (Figures, Vec<Error>) {
        match self {
            Self::File(writer) => match writer.close() {
                Ok(summary) => (Figures::of_file(&summary), Vec::new()),
                Err(CloseError { mut errors, summary, .. }) => {
                    let mut figures = Figures::of_file(&summary);
                    if let Some(raw) = raw.filter(|_| errors.first().is_some_and(lacks_space)) {
                        errors.extend(raw.cut_to_whole_frames(&mut figures).err());
                    }
                    (figures, errors)
                }
            },
            Self::Segments(writer, tally) => {
                let (summary, errors) = match writer.close() {
                    Ok(summary) => (summary, Vec::new()),
                    Err(error) => (*error.summary, error.errors),
                };
                tally.end(&summary);
                (tally.figures(), errors)
            }
            Self::Preroll(preroll) => preroll.close(),
        }
    }
}

pub(super) fn lacks_space(error: &Error) -> bool {
    let kinds = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::FileTooLarge];
    kinds.contains(&error.kind())
}

/// A recording in one file without a header, whose frames nobody may split.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) path: PathBuf,
    /// Where it begins in the file.
    pub(crate) begins: u64,
    pub(crate) frame: u64,
}

impl Raw {
    /// A disk that was full may have taken the beginning of a frame, which goes, as it does from a
    /// segment.
    fn cut_to_whole_frames(&self, figures: &mut Figures) -> Result<(), Error> {
        let Some(len) = figures.file_bytes() else { return Ok(()) };
        let rest = len.saturating_sub(self.begins) % self.frame;
        let is_it = std::fs::metadata(&self.path).is_ok_and(|file| file.len() == len);
        if rest == 0 || !is_it {
            return Ok(());
        }
        // Neither a ring nor a mark has to be had on a disk without space.
        let options = Options::new().backend(BackendChoice::Sync).direct(Direct::Off);
        options.append_at(&self.path, len - rest)?.close()?;
        figures.are_cut_to(len - rest);
        Ok(())
    }
}

/// All about it but pushing, for any thread.
#[derive(Clone, Debug)]
pub(crate) enum Control {
    File(writeflush::Control),
    Segments(segments::Control),
    Preroll(preroll::Control),
}

impl Control {
    /// Of a WAV file with its header, and of segments without.
    pub(crate) fn positions(&self) -> Positions {
        match self {
            Self::File(control) => control.positions(),
            Self::Segments(control) => control.positions(),
            Self::Preroll(control) => control.positions(),
        }
    }

    /// Its figures.
    pub(crate) fn sample(&self) -> Sample {
        match self {
            Self::File(control) => Sample::of(control),
            Self::Segments(control) => Sample::of_segments(control),
            Self::Preroll(control) => control.sample(),
        }
    }

    /// Losses, and the bytes in them.
    pub(crate) fn overruns(&self) -> (u64, u64) {
        match self {
            Self::File(control) => {
                let stats = control.stats();
                (stats.overruns, stats.overrun_bytes)
            }
            Self::Segments(control) => {
                let stats = control.stats();
                (stats.overruns, stats.overrun_bytes)
            }
            Self::Preroll(control) => control.overruns(),
        }
    }

    pub(crate) fn is_waiting_for_space(&self) -> bool {
        match self {
            Self::File(control) => control.is_waiting_for_space(),
            Self::Segments(control) => control.is_waiting_for_space(),
            Self::Preroll(control) => {
                control.segments().is_some_and(|control| control.is_waiting_for_space())
            }
        }
    }

    /// Of segments the one that is written: its disk answers for all.
    pub(crate) fn of_file(&self) -> Option<writeflush::Control> {
        match self {
            Self::File(control) => Some(control.clone()),
            Self::Segments(control) => control.of_segment(),
            Self::Preroll(control) => control.segments().and_then(|it| it.of_segment()),
        }
    }

    pub(crate) fn error(&self) -> Option<Error> {
        match self {
            Self::File(control) => control.error(),
            Self::Segments(control) => control.error(),
            Self::Preroll(control) => control.error(),
        }
    }

    /// `None` for segments, whose fences come by themselves.
    pub(crate) fn fence(&self) -> Option<Ticket> {
        match self {
            Self::File(control) => Some(control.fence()),
            Self::Segments(_) | Self::Preroll(_) => None,
        }
    }

    /// Has the header describe what is durable.
    pub(crate) fn checkpoint(&self, header: &Header) -> Result<(), Error> {
        match self {
            Self::File(control) => control
                .checkpoint(0, |durable| header.so_far(header.data_before(durable)))
                .map(drop),
            Self::Segments(control) => {
                control.checkpoint(0, |_, durable| header.so_far(durable)).map(drop)
            }
            Self::Preroll(control) => control.checkpoint(header),
        }
    }

    /// Begins the next segment.
    pub(crate) fn rotate(&self) {
        match self {
            Self::File(_) => {}
            Self::Segments(control) => control.rotate(),
            Self::Preroll(control) => control.segments().iter().for_each(segments::Control::rotate),
        }
    }
}

/// The names of segments: `take-{seq:06}.wav` of `take.wav`.
fn pattern(output: &Path) -> PathBuf {
    if output.to_string_lossy().contains("{seq") {
        return output.into();
    }
    let mut name = output.file_stem().unwrap_or_default().to_os_string();
    name.push("-{seq:06}");
    if let Some(extension) = output.extension() {
        name.push(".");
        name.push(extension);
    }
    output.with_file_name(name)
}

/// Opens a recording in segments.
pub(crate) fn open(
    args: &Args,
    below: Options,
    header: Option<&Header>,
    frame: usize,
) -> Result<Sink, Error> {
    let tally = Tally::new(header, args.quiet);
    let options = options(args, &args.output, below, header, frame);
    Ok(Sink::Segments(tally.hears(options).open()?, tally))
}

/// Of segments named by this path.
pub(super) fn options(
    args: &Args,
    output: &Path,
    below: Options,
    header: Option<&Header>,
    frame: usize,
) -> segments::Options {
    let mut options = segments::Options::new(pattern(output)).frame_bytes(frame as u64);
    let fences = (header.is_none() && !args.fence_every.is_zero()).then_some(args.fence_every);
    options = options.below(below.fence_every(fences));
    for span in &args.split {
        options = match *span {
            Span::Bytes(bytes) => options.size(bytes),
            Span::Time(time) => options.every(time),
        };
    }
    for keep in &args.keep {
        options = match *keep {
            Keep::Segments(count) => options.keep_count(count),
            Keep::Bytes(bytes) => options.keep_bytes(bytes),
            Keep::Time(time) => options.keep_for(time),
        };
    }
    if let Some(bytes) = args.min_free {
        options = options.min_free(bytes, floor(args.on_disk_full));
    }
    if let Some(header) = header.cloned() {
        let first = header.clone();
        options = options.head(move |_| first.so_far(0)).tail(move |tail| finish(&header, tail));
    }
    options
}

fn floor(policy: DiskFullArg) -> Floor {
    match policy {
        DiskFullArg::Fail => Floor::Stop,
        DiskFullArg::Wait => Floor::Wait,
        DiskFullArg::Delete => Floor::DeleteOldest,
    }
}

/// The last header of a segment: of all of it, or of what is durable if that is all there will be.
fn finish(header: &Header, tail: &mut Tail<'_>) -> Result<(), Error> {
    let data = tail.bytes();
    let padded = if header.needs_pad(data) { tail.write(&[0]) } else { Ok(()) };
    let whole = data - header.format().rest(data);
    let bytes = |durable| match &padded {
        Ok(()) if durable >= whole => header.of_all(data),
        _ => header.so_far(durable),
    };
    tail.checkpoint(0, bytes)?;
    padded
}

/// What the segments that are closed say together.
#[derive(Clone, Debug)]
pub(crate) struct Tally(Arc<Mutex<Figures>>, Shown);

#[derive(Clone, Copy, Debug)]
struct Shown {
    header: u64,
    quiet: bool,
}

impl Tally {
    pub(super) fn new(header: Option<&Header>, quiet: bool) -> Self {
        Self(Arc::default(), Shown { header: header.map_or(0, Header::len), quiet })
    }

    pub(super) fn hears(&self, options: segments::Options) -> segments::Options {
        let told = self.clone();
        options.on_event(move |event| told.hear(event))
    }

    /// A recording has ended; another one may follow.
    pub(super) fn end(&self, summary: &segments::Summary) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).end_of_segments(summary);
    }

    pub(super) fn figures(&self) -> Figures {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// On the thread that makes and closes segments: it waits for nobody.
    fn hear(&self, event: Told) {
        match event {
            Told::Closed(closed) => self.closed(&closed),
            Told::Removed(segment) => {
                events::emit(&Event::Removed { path: segment.path.to_string_lossy().into() });
                if !self.1.quiet {
                    say(format_args!("{} is removed", segment.path.display()));
                }
            }
            Told::NotRemoved(error) | Told::NotReady(error) => events::warn(&error.to_string()),
            _ => {}
        }
    }

    fn closed(&self, closed: &Closed) {
        let Closed { segment, position, bytes, summary, .. } = closed;
        let path = segment.path.to_string_lossy().into_owned();
        let stats = &summary.stats;
        if !self.1.quiet {
            let lost = match stats.overrun_bytes {
                0 => String::new(),
                lost => format!(", {} lost", count(lost, "byte")),
            };
            say(format_args!("{path} is durable, {} of data{lost}", count(*bytes, "byte")));
        }
        let mut figures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        figures.add_segment(*position, self.1.header, summary);
        events::emit(&Event::Closed {
            path,
            sequence: segment.sequence,
            position: *position,
            bytes: *bytes,
            overruns: stats.overruns,
            overrun_bytes: stats.overrun_bytes,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_segments() {
        let of = |name: &str| pattern(Path::new(name)).to_string_lossy().into_owned();
        assert_eq!(of("/data/take.wav"), "/data/take-{seq:06}.wav");
        assert_eq!(of("take"), "take-{seq:06}");
        assert_eq!(of("a.b/{utc}-{seq}.raw"), "a.b/{utc}-{seq}.raw");
    }
}
