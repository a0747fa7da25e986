//! A file of bytes at any position, 64 bits wide: what a procedure needs, on a writer that knows
//! appends and patches.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::abi::*;
use super::failure::Failure;
use super::fences::PeriodicFences;
use super::name::folder_exists;
use super::settings::Settings;
use crate::control::Control;
use crate::error::Error;
use crate::ticket::Ticket;
use crate::writer::Writer;

/// An open file.
#[derive(Debug)]
pub(super) enum Storage {
    ReadOnly(File),
    Recording(Box<Recording>),
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Recording {
    path: PathBuf,
    settings: Settings,
    /// Before the writer, so that they end first. `None` as well while there is no writer.
    fences: Option<PeriodicFences>,
    /// `None` after a leap that failed.
    writer: Option<Writer>,
    /// For reading back; opened when it is first needed.
    reader: Option<File>,
    /// Bytes written since the last fence by bytes.
    unfenced: u64,
    /// Bytes were overwritten since the last complete fence: what the file shows is older.
    overwritten: bool,
}

impl Storage {
    /// Opens as the flags say.
    pub(super) fn open(path: &Path, flags: u32) -> Result<Self, Failure> {
        let refused = |error: io::Error| {
            let sentence = format!("could not open {}: {error}", path.display());
            Failure::of_name(&error, folder_exists(path), sentence)
        };
        let creates = flags & MMIO_CREATE != 0;
        if !creates {
            std::fs::metadata(path).map_err(refused)?;
        }
        match flags & MMIO_RWMODE {
            MMIO_READ if !creates => {
                let file = File::open(path).map_err(refused)?;
                share(&file, flags).map_err(refused)?;
                Ok(Self::ReadOnly(file))
            }
            MMIO_READ | MMIO_WRITE | MMIO_READWRITE => {
                let recording = Recording::open(path, creates);
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

    pub(super) fn len(&self) -> io::Result<u64> {
        match self {
            Self::ReadOnly(file) => Ok(file.metadata()?.len()),
            Self::Recording(recording) => Ok(recording.writer()?.positions().accepted),
        }
    }

    /// Reads at a position; fewer bytes than asked for at the end only.
    pub(super) fn read(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::ReadOnly(file) => read_at(file, at, bytes),
            Self::Recording(recording) => recording.read(at, bytes),
        }
    }

    /// Takes all the bytes, copied; waits only while no buffer has room.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::ReadOnly(_) => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the file was opened for reading only: open it with MMIO_WRITE or MMIO_READWRITE",
            )),
            Self::Recording(recording) => recording.write(at, bytes),
        }
    }

    /// The writer's handle, if the file is open for writing.
    pub(super) fn control(&self) -> Option<&Control> {
        match self {
            Self::ReadOnly(_) => None,
            Self::Recording(recording) => recording.writer.as_deref(),
        }
    }

    /// Asks for a fence over everything written so far.
    pub(super) fn fence(&self) -> Option<Ticket> {
        self.control().map(Control::fence)
    }

    /// Drains, fences, trims, lets go.
    pub(super) fn close(self) -> Result<(), Failure> {
        let Self::Recording(mut recording) = self else { return Ok(()) };
        recording.fences = None;
        match recording.writer.take() {
            Some(writer) => writer.close().map(drop).map_err(|error| Failure::of_close(&error)),
            None => Ok(()), // the leap that failed has been noted
        }
    }
}

impl Recording {
    /// Beyond this many bytes a gap is made by the file system, not filled with zeros.
    const LONG_GAP: u64 = 4 << 20;

    fn open(path: &Path, creates: bool) -> Result<Self, Error> {
        let mut recording = Self {
            path: path.into(),
            settings: Settings::in_force(),
            fences: None,
            writer: None,
            reader: None,
            unfenced: 0,
            overwritten: false,
        };
        let options = &recording.settings.options;
        recording.attach(if creates { options.create(path)? } else { options.append(path)? })?;
        Ok(recording)
    }

    fn attach(&mut self, writer: Writer) -> Result<(), Error> {
        if let Some(every) = self.settings.fence_every {
            let fences = PeriodicFences::start(every, writer.control().clone());
            let path = self.path.as_path().into();
            self.fences =
                Some(fences.map_err(|error| Error::io(crate::Operation::Start, &path, error))?);
        }
        self.writer = Some(writer);
        Ok(())
    }

    fn writer(&self) -> io::Result<&Writer> {
        self.writer.as_ref().ok_or_else(|| Error::Closed.into())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let end = self.writer()?.positions().accepted;
        if at.saturating_sub(end) > Self::LONG_GAP {
            self.leap(at)?;
        }
        let writer = self.writer.as_mut().ok_or(Error::Closed)?;
        writer.seek(SeekFrom::Start(at))?;
        writer.write_all(bytes)?;
        self.overwritten |= at < end;
        self.unfenced += bytes.len() as u64;
        if self.settings.fence_bytes.is_some_and(|limit| self.unfenced >= limit) {
            self.unfenced = 0;
            drop(writer.fence()); // goes on by itself; a failure is sticky
        }
        Ok(())
    }

    /// Goes on behind a long gap, which takes no space: the writer is closed and opened again.
    fn leap(&mut self, to: u64) -> io::Result<()> {
        self.fences = None;
        if let Some(writer) = self.writer.take() {
            writer.close()?;
        }
        OpenOptions::new().write(true).open(&self.path)?.set_len(to)?;
        let writer = self.settings.options.append(&self.path)?;
        self.overwritten = false;
        Ok(self.attach(writer)?)
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let writer = self.writer.as_mut().ok_or(Error::Closed)?;
        let positions = writer.positions();
        let left = positions.accepted.saturating_sub(at);
        let len = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if self.overwritten {
            // Overwrites on their way have no position of their own: a fence is behind them.
            writer.control().flush()?;
            self.overwritten = false;
        } else if positions.written < at + len as u64 {
            Write::flush(writer)?;
        }
        if self.reader.is_none() {
            self.reader = Some(File::open(&self.path)?);
        }
        match &mut self.reader {
            Some(reader) => read_at(reader, at, &mut bytes[..len]),
            None => Ok(0),
        }
    }
}

/// What others may do with a file that is only read, as far as advisory locks go: the same locks
/// that writers take.
fn share(file: &File, flags: u32) -> io::Result<()> {
    let taken = match flags & MMIO_SHAREMODE {
        MMIO_EXCLUSIVE | MMIO_DENYREAD => crate::file::try_lock(file)?,
        MMIO_DENYWRITE => crate::file::try_lock_shared(file)?,
        _ => true,
    };
    if taken { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

fn read_at(file: &mut File, at: u64, mut bytes: &mut [u8]) -> io::Result<usize> {
    file.seek(SeekFrom::Start(at))?;
    let mut done = 0;
    while !bytes.is_empty() {
        match file.read(bytes) {
            Ok(0) => break,
            Ok(n) => {
                done += n;
                bytes = &mut bytes[n..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
