//! Where in its file a recording begins.

use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::Path;

use writeflush::recover::{Prefix, Recovered, Scan, Wave};
use writeflush::{Error, Options, Writer};

use super::Args;
use super::summary::Course;
use super::wav::{Format, Found, Header};
use crate::error::Bad;
use crate::output::{count, say};
use crate::recover;
use crate::units::Span;

/// What is done with the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It may not be there yet.
    New,
    /// What is there goes, or it is empty.
    Over,
    End,
    At(u64),
    /// Behind the last whole frame of what a crash has left.
    Resume,
}

/// Where a recording begins, and with which header.
#[derive(Debug)]
pub(crate) struct Place {
    way: Way,
    /// Of a WAV file.
    pub(crate) header: Option<Header>,
    frame: u64,
}

impl Place {
    /// Looks at the file that is there; refuses what would shift what follows.
    pub(crate) fn find(args: &Args, format: Option<Format>, frame: usize) -> Result<Self, Bad> {
        let header = format.map(Header::new);
        let known = std::fs::metadata(&args.output).ok().filter(|known| known.is_file());
        let len = known.as_ref().map_or(0, std::fs::Metadata::len);
        let frame = frame as u64;
        if args.resume {
            let header = match (format, read(&args.output)) {
                (Some(format), Ok(found)) => Some(same(&args.output, found, format)?.header),
                _ => header, // it has none yet, or the recovery says what is wrong with it
            };
            return Ok(Self { way: Way::Resume, header, frame });
        }
        match (args.append, args.append_at) {
            (false, None) => {
                let over = args.force || known.is_some() || args.output.is_symlink();
                Ok(Self { way: if over { Way::Over } else { Way::New }, header, frame })
            }
            // A file to be is begun: there is nothing to go on behind.
            (_, None | Some(Span::Bytes(0) | Span::Time(_))) if len == 0 && header.is_some() => {
                Ok(Self { way: if known.is_some() { Way::Over } else { Way::New }, header, frame })
            }
            (_, at) => match format {
                Some(format) => Self::behind_wav(&args.output, at, format, len),
                None => Self::behind_raw(&args.output, at, frame, len),
            },
        }
    }

    fn behind_raw(path: &Path, at: Option<Span>, frame: u64, len: u64) -> Result<Self, Bad> {
        let way = match at {
            Some(Span::Bytes(position)) => Way::At(position),
            _ => Way::End,
        };
        let position = if let Way::At(position) = way { position } else { len };
        check_there(path, position, len)?;
        check_whole(path, position, frame, 0)?;
        Ok(Self { way, header: None, frame })
    }

    fn behind_wav(path: &Path, at: Option<Span>, format: Format, len: u64) -> Result<Self, Bad> {
        let name = path.display();
        let Found { header, data } = same(path, read(path)?, format)?;
        let end = header.len().saturating_add(data);
        let position = match at {
            None if end > len || len > end.saturating_add(data % 2) => {
                return Err(Bad::new(format!(
                    "{name} was not closed, or has more than samples: its header describes {end} \
                     bytes of {len}; give --resume, or --append-at {} to go on behind what it describes, or \
                     record to another file",
                    end.min(len) - format.rest(end.min(len).saturating_sub(header.len())),
                )));
            }
            None => end,
            Some(Span::Bytes(position)) => position,
            Some(Span::Time(time)) => header.len().saturating_add(format.bytes_of(time)),
        };
        if position < header.len() {
            return Err(Bad::new(format!(
                "the samples of {name} begin at {} bytes: give --append-at that, or more",
                header.len()
            )));
        }
        check_there(path, position, len)?;
        check_whole(path, position, format.frame(), header.len())?;
        Ok(Self { way: Way::At(position), header: Some(header), frame: format.frame() })
    }

    pub(crate) fn open(
        &self,
        options: &Options,
        path: &Path,
        course: &mut Course,
    ) -> Result<Writer, Error> {
        match self.way {
            Way::New => options.create_new(path),
            Way::Over => options.create(path),
            Way::End => options.append(path),
            Way::At(position) => options.append_at(path, position),
            Way::Resume => {
                let (writer, found) = options.resume(path, |scan| self.judge(scan))?;
                tell(&found, course);
                Ok(writer)
            }
        }
    }

    /// How much of what a crash has left is whole.
    fn judge(&self, scan: &mut Scan<'_>) -> std::io::Result<Prefix> {
        if let Some(header) = &self.header {
            return Wave::find_or(scan, &header.so_far(0))?.open_end(scan);
        }
        recover::whole_frames(scan, self.frame)
    }
}

/// Says what a recovery has done. Nothing but a rest that was kept beside is worth a warning.
fn tell(found: &Recovered, course: &mut Course) {
    let Recovered { kept, missing, torn, .. } = found;
    if let Some(torn) = torn {
        course.warn(format!(
            "the recording goes on behind {}; {} behind that are no whole frame, and are kept in {}",
            count(*kept, "byte"),
            count(torn.bytes, "byte"),
            torn.path.display()
        ));
    } else if *kept > 0 {
        say(format_args!("the recording goes on behind {}", count(*kept, "byte")));
    }
    if *missing > 0 {
        let missing = count(*missing, "byte");
        course.warn(format!("the header described {missing} more than there are"));
    }
}

fn same(path: &Path, found: Found, format: Format) -> Result<Found, Bad> {
    if found.header.format() == format {
        return Ok(found);
    }
    Err(Bad::new(format!(
        "{} has {}, and what is to be recorded {format}: give the options for the same, or record to \
         another file",
        path.display(),
        found.header.format()
    )))
}

/// The format of the WAV file that is to be gone on with, if there is one.
pub(crate) fn format(args: &Args) -> Option<Format> {
    let goes_on = args.goes_on() && args.is_wav();
    goes_on.then(|| read(&args.output).ok()).flatten().map(|found| found.header.format())
}

/// The header of a WAV file that is there.
fn read(path: &Path) -> Result<Found, Bad> {
    let name = path.display();
    let found = File::open(path).and_then(|file| Header::read(&mut BufReader::new(file)));
    match found {
        Ok(Ok(Ok(found))) => Ok(found),
        Ok(Ok(Err(bad))) => Err(Bad::new(format!(
            "{name} can't be gone on with: {bad}; give --raw to go on with it as it is, or record to \
             another file"
        ))),
        Ok(Err(_)) => Err(Bad::new(format!(
            "{name} is no WAV file: give --raw to go on with it as it is, or record to another file"
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(absent(path)),
        Err(error) => Err(Bad::new(format!("could not read {name}: {error}"))),
    }
}

/// Behind the end there is nothing to go on with.
fn check_there(path: &Path, position: u64, len: u64) -> Result<(), Bad> {
    let name = path.display();
    if position <= len {
        return Ok(());
    }
    if !path.exists() {
        return Err(absent(path));
    }
    Err(Bad::new(format!(
        "{name} has {}, and would go on at {position}: give --append-at that, or less",
        count(len, "byte")
    )))
}

fn absent(path: &Path) -> Bad {
    let name = path.display();
    Bad::new(format!("there is no {name} to go on with: leave --append-at out"))
}

/// What is appended behind half a frame is shifted as a whole.
fn check_whole(path: &Path, position: u64, frame: u64, begin: u64) -> Result<(), Bad> {
    let (name, rest) = (path.display(), (position - begin) % frame);
    if rest == 0 {
        return Ok(());
    }
    Err(Bad::new(format!(
        "{name} would go on at {position} bytes, which is no whole number of frames of {frame} \
         bytes: give --append-at and the end of its last whole frame, {} at most, or record to \
         another file",
        position - rest
    )))
}
