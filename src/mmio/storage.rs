//! A file of bytes at any position, 64 bits wide: what a procedure needs, on a writer that knows
//! appends and patches.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use super::abi::*;
use super::failure::Failure;
use super::name::folder_exists;
use super::settings::Settings;
use super::table::table;
use crate::control::Control;
use crate::error::Error;
use crate::file::{OsFile, ReadAt, Share, length, try_share, unlock};
use crate::fork::Process;
use crate::options::FenceForm;
use crate::stream::Stream;
use crate::ticket::Ticket;
use crate::writer::Writer;

/// An open file.
#[derive(Debug)]
pub(super) enum Storage {
    ReadOnly(ReadOnly),
    Recording(Box<Recording>),
}

/// A file that is only read here.
#[derive(Debug)]
pub(super) struct ReadOnly {
    file: OsFile,
    /// Whose lock says so.
    process: Process,
    identity: Option<Identity>,
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Recording {
    writer: Writer,
    /// For reading back.
    reader: Reader,
    overwritten: Overwritten,
    /// Keeps the name as long as it lives: of an exclusive open.
    #[cfg(windows)]
    _name: Option<File>,
}

/// Where the file may show older bytes than were written: overwrites on their way.
#[derive(Debug, Default)]
struct Overwritten {
    /// All of them lie in here.
    places: Range<u64>,
    /// The number of the last of them.
    patches: u64,
}

impl Overwritten {
    /// One more, since so many of them are in the file.
    fn add(&mut self, places: Range<u64>, in_file: u64) {
        self.places = match self.places.is_empty() || in_file >= self.patches {
            true => places,
            false => self.places.start.min(places.start)..self.places.end.max(places.end),
        };
    }

    fn meets(&self, places: &Range<u64>, in_file: u64) -> bool {
        let both = self.places.start.max(places.start)..self.places.end.min(places.end);
        in_file < self.patches && !both.is_empty()
    }
}

#[derive(Debug)]
enum Reader {
    /// The file was opened for writing only.
    Forbidden,
    /// Nobody has read yet.
    Unopened,
    Open(Box<dyn ReadAt>),
}

impl Storage {
    /// Opens as the flags say.
    pub(super) fn open(path: &Path, flags: u32) -> Result<Self, Failure> {
        let refused = |error: io::Error| {
            let sentence = format!("could not open {}: {error}", path.display());
            Failure::of_name(&error, folder_exists(path), sentence)
        };
        let creates = flags & MMIO_CREATE != 0;
        if !creates && !std::fs::metadata(path).map_err(refused)?.is_file() {
            // An open of a FIFO would wait for its other end.
            let sentence = format!("{} is not a regular file: name one", path.display());
            return Err(Failure::new(MMIOERR_CANNOTOPEN, sentence));
        }
        match flags & MMIO_RWMODE {
            MMIO_READ if !creates => {
                let file = for_reading(path, flags).map_err(refused)?;
                match try_share(&file, share(flags)).map_err(refused)? {
                    true => Ok(Self::ReadOnly(ReadOnly::new(file))),
                    false => Err(Failure::shared(path)),
                }
            }
            MMIO_READ | MMIO_WRITE | MMIO_READWRITE => {
                let recording = Recording::open(path, flags);
                let recording =
                    recording.map_err(|error| Failure::of_open(&error, folder_exists(path)))?;
                Ok(Self::Recording(Box::new(recording)))
            }
            _ => Err(Failure::new(
                MMIOERR_CANNOTOPEN,
                "the flags ask neither for reading, writing nor both",
            )),
        }
    }

    /// Over a writer that is open already.
    #[cfg(all(test, unix, not(any(loom, shuttle))))]
    pub(super) fn over(writer: Writer) -> Self {
        Self::Recording(Box::new(Recording {
            writer,
            reader: Reader::Unopened,
            overwritten: Overwritten::default(),
        }))
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        match self {
            Self::ReadOnly(read_only) => read_only.len(),
            Self::Recording(recording) => Ok(recording.writer.positions().accepted),
        }
    }

    /// Reads at a position; fewer bytes than asked for at the end only.
    pub(super) fn read(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::ReadOnly(read_only) => read_only.read(at, bytes),
            Self::Recording(recording) => recording.read(at, bytes),
        }
    }

    /// Takes all the bytes, copied; waits only while no buffer has room, and behind a long gap.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::ReadOnly(..) => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the file was opened for reading only: open it with MMIO_WRITE or MMIO_READWRITE",
            )),
            Self::Recording(recording) => recording.write(at, bytes),
        }
    }

    /// The writer's handle, if the file is open for writing.
    pub(super) fn control(&self) -> Option<&Control> {
        match self {
            Self::ReadOnly(..) => None,
            Self::Recording(recording) => Some(recording.writer.control()),
        }
    }

    /// Asks for a fence over everything written so far.
    pub(super) fn fence(&self) -> Option<Ticket> {
        self.control().map(Control::fence)
    }

    /// Drains, fences, trims, lets go.
    pub(super) fn close(self) -> Result<(), Failure> {
        match self {
            Self::ReadOnly(ReadOnly { file, process, .. }) => {
                if process.is_this()
                    && let Ok(file) = file.ours()
                {
                    unlock(file); // explicitly: a forked child may hold the descriptor still
                }
                Ok(())
            }
            Self::Recording(recording) => {
                recording.writer.close().map(drop).map_err(|error| Failure::of_close(&error))
            }
        }
    }
}

impl ReadOnly {
    fn new(file: File) -> Self {
        let identity = identity(&file).ok();
        Self { file: OsFile::new(file), process: Process::this(), identity }
    }

    /// Where the file ends if this process records to it: behind all that was accepted, once that is in
    /// the file. (The file itself may be longer, by the padding of direct I/O.) A stream that has
    /// failed ends where its writes did.
    fn recorded_end(&self) -> Option<u64> {
        let control = table().recording(self.identity?)?;
        match control.core.drain() {
            Err(Error::Forked) => None, // the parent's, not this process's
            _ => Some(control.positions().written),
        }
    }

    fn len(&self) -> io::Result<u64> {
        let recorded = self.recorded_end();
        recorded.map_or_else(|| length(self.file.ours()?), Ok)
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let left = self.recorded_end().map_or(u64::MAX, |end| end.saturating_sub(at));
        let len = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        read_at(&self.file, at, &mut bytes[..len])
    }
}

impl Recording {
    fn open(path: &Path, flags: u32) -> Result<Self, Error> {
        let mut options = Settings::in_force();
        options.share = share(flags);
        options = options.lock_wait(Duration::ZERO); // who shares with whom is answered at once
        options = options.grant_limit(0); // no room for what is never asked for
        // No message asks for the label. A form that is asked for by name may need the look.
        options.labelled = options.fence_form != FenceForm::Auto;
        let creates = flags & MMIO_CREATE != 0;
        let writer = if creates { options.create(path)? } else { options.append(path)? };
        // winmm's own procedure creates for both, whatever the mode.
        let is_write_only = flags & MMIO_RWMODE == MMIO_WRITE && !creates;
        let reader = if is_write_only { Reader::Forbidden } else { Reader::Unopened };
        Ok(Self {
            #[cfg(windows)]
            _name: is_exclusive(flags)
                .then(|| super::windows::hold_name(writer.control().core.os_file()?.ours()?))
                .transpose()
                .map_err(|error| Error::io(crate::Operation::Lock, &path.into(), error))?,
            writer,
            reader,
            overwritten: Overwritten::default(),
        })
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let end = self.writer.positions().accepted;
        let over = at..end.min(at + bytes.len() as u64);
        if !over.is_empty() {
            self.overwritten.add(over, self.stream().patches_in_file());
        }
        self.writer.seek(SeekFrom::Start(at))?;
        let written = self.writer.write_all(bytes);
        // Also of one that was refused half way.
        self.overwritten.patches = self.stream().patches_queued();
        written
    }

    fn stream(&self) -> &Stream {
        &self.writer.control().core.stream
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        if let Reader::Unopened = self.reader {
            self.reader = Reader::Open(self.writer.open_for_reading()?);
        }
        let Reader::Open(file) = &self.reader else {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the file was opened for writing only: open it with MMIO_READWRITE",
            ));
        };
        let positions = self.writer.positions();
        let left = positions.accepted.saturating_sub(at);
        let len = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let places = at..at + len as u64;
        if positions.written < places.end
            || self.overwritten.meets(&places, self.stream().patches_in_file())
        {
            Write::flush(&mut self.writer)?;
        }
        read_at(&**file, at, &mut bytes[..len])
    }
}

/// What the flags ask of everybody else. MMIO_COMPAT, of 16-bit days, asks nothing.
fn share(flags: u32) -> Share {
    let (denies_reading, denies_writing) = match flags & MMIO_SHAREMODE {
        MMIO_EXCLUSIVE => (true, true),
        MMIO_DENYWRITE => (false, true),
        MMIO_DENYREAD => (true, false),
        _ => (false, false),
    };
    let mode = flags & MMIO_RWMODE;
    Share {
        reads: mode != MMIO_WRITE,
        writes: mode != MMIO_READ || flags & MMIO_CREATE != 0,
        denies_reading,
        denies_writing,
    }
}

/// Which file it is, whatever it is called.
#[cfg(unix)]
pub(super) use crate::file::Identity;
/// The same: the device, and the number there.
#[cfg(windows)]
pub(super) type Identity = (u64, u64);

fn identity(file: &File) -> io::Result<Identity> {
    #[cfg(unix)]
    return Identity::of(std::os::fd::AsRawFd::as_raw_fd(file));
    #[cfg(windows)]
    return super::windows::identity(file);
}

/// Which file this writer records to, while it is open.
pub(super) fn recorded_by(control: &Control) -> Option<Identity> {
    let file = control.core.os_file().ok()?;
    identity(file.ours().ok()?).ok()
}

/// Nobody else may have it open; on Windows nobody may rename or delete it either.
#[cfg(windows)]
fn is_exclusive(flags: u32) -> bool {
    flags & MMIO_SHAREMODE == MMIO_EXCLUSIVE
}

fn for_reading(path: &Path, flags: u32) -> io::Result<File> {
    let file = File::open(path)?;
    #[cfg(windows)]
    if is_exclusive(flags) {
        return super::windows::hold_name(&file);
    }
    let _ = flags; // nothing else keeps a name
    Ok(file)
}

/// Fewer bytes than asked for at the end only.
fn read_at(file: &dyn ReadAt, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
    crate::backend::fill(bytes, |rest, done| file.read_at(rest, at + done as u64))
}
