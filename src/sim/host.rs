//! The simulated file system.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::disk::{Asked, Computer, Folder as Which};
use super::io::{Kernel, SimulatedIo};
use crate::backend::{Files, Io};
use crate::canary::Canary;
use crate::file::{
    Dsync, Durability, Folder, Found, Fua, Handle, Mark, Medium as Promise, OpenMode, Original,
    OsFile, Place, ReadAt, Space,
};
use crate::host::Host;
use crate::options::Options;

#[derive(Debug)]
pub(super) struct Simulated {
    pub(super) computer: Computer,
    pub(super) kernel: Kernel,
}

impl Host for Simulated {
    fn is_special(&self, _path: &Path) -> bool {
        false
    }

    fn open(
        &self,
        _options: &Options,
        path: &Path,
        mode: OpenMode,
    ) -> io::Result<(Arc<dyn Handle>, bool)> {
        let mut medium = self.computer.medium();
        let (number, new) = match (medium.find(path), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, OpenMode::Overwrite | OpenMode::Recycle) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            (Some(number), _) => (number, false),
            (None, _) => (medium.create(path), true),
        };
        Ok((Arc::new(SimulatedFile { computer: self.computer.clone(), number }), new))
    }

    fn folder(&self, path: &Path) -> io::Result<Box<dyn Folder>> {
        Ok(Box::new(SimulatedFolder { computer: self.computer.clone(), path: path.into() }))
    }

    /// There is no clock.
    fn pause(&self, _length: Duration) {}

    fn backend(
        &self,
        _options: &Options,
        depth: usize,
        _files: Files,
    ) -> io::Result<(Box<dyn Io>, Option<String>)> {
        Ok((Box::new(SimulatedIo::new(self.computer.clone(), self.kernel, depth)), None))
    }
}

#[derive(Debug)]
struct SimulatedFile {
    computer: Computer,
    number: u64,
}

impl Handle for SimulatedFile {
    fn try_lock(&self) -> io::Result<bool> {
        let mut medium = self.computer.medium();
        medium.replace_if_planned(self.number);
        Ok(!std::mem::replace(&mut medium.file(self.number).locked, true))
    }

    fn unlock(&self) {
        self.computer.medium().file(self.number).locked = false;
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.computer.medium().file(self.number).current.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.computer.medium().set_len(self.number, len)
    }

    fn go_direct(&self, _buffer_size: usize) -> io::Result<u64> {
        match self.computer.medium().block {
            1 => Err(io::ErrorKind::Unsupported.into()),
            block => Ok(block),
        }
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        {
            let mut medium = self.computer.medium();
            if medium.room(self.number, bytes as usize).is_some() {
                return Err(medium.refuse(self.number, Asked::Length, libc::ENOSPC));
            }
        }
        self.set_len(bytes.max(self.len()?))
    }

    fn write_zeros(&self, zeros: &[u8], at: u64) -> io::Result<usize> {
        let mut medium = self.computer.medium();
        if medium.room(self.number, at as usize + zeros.len()).is_some() {
            return Err(medium.refuse(self.number, Asked::Write, libc::ENOSPC));
        }
        let number = medium.begin_write(self.number, at, zeros);
        medium.end_write(self.number, number, zeros.len(), false);
        Ok(zeros.len())
    }

    fn overwrite(&self, at: u64, bytes: &[u8], _block: u64) -> io::Result<()> {
        let mut medium = self.computer.medium();
        let number = medium.begin_write(self.number, at, bytes);
        medium.end_write(self.number, number, bytes.len(), false);
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut medium = self.computer.medium();
        let covered = medium.covered(self.number);
        medium.end_flush(self.number, &covered)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.computer.medium().sync_name(self.number, Which::Held)
    }

    fn sync_directory_at(&self, _path: &Path) -> io::Result<()> {
        self.computer.medium().sync_name(self.number, Which::AtPath)
    }

    /// A power cut leaves names and bytes here, no attributes. Without direct I/O there are none.
    fn set_mark(&self, mark: Option<Mark>) -> io::Result<()> {
        match mark {
            Some(_) if self.computer.medium().block == 1 => Err(io::ErrorKind::Unsupported.into()),
            _ => Ok(()),
        }
    }

    fn mark(&self) -> Option<Mark> {
        None
    }

    fn read_at(&self, _bytes: &mut [u8], _at: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn open_for_reading(&self, _name: &Path) -> io::Result<Box<dyn ReadAt>> {
        Ok(Box::new(Reading { computer: self.computer.clone(), number: self.number }))
    }

    fn is_named(&self) -> io::Result<bool> {
        Ok(self.computer.medium().file(self.number).is_named())
    }

    fn has_its_name(&self) -> io::Result<bool> {
        self.is_named()
    }

    fn remove(&self) -> io::Result<()> {
        self.computer.medium().remove(self.number);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.computer.medium().close(self.number)
    }

    fn place(&self) -> Place {
        let durability = Durability { medium: Promise::StableMedia, reason: "simulated".into() };
        Place { durability, dsync: Dsync::Yes, fua: Fua::Unsent }
    }

    fn os_file(&self) -> Option<&Arc<OsFile>> {
        None
    }

    fn number(&self) -> u64 {
        self.number
    }
}

/// A file that is open for reading, too.
#[derive(Debug)]
struct Reading {
    computer: Computer,
    number: u64,
}

impl ReadAt for Reading {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.computer.medium().read(self.number, bytes, at)
    }
}

/// Paths lead to one directory, whatever they begin with.
#[derive(Debug)]
struct SimulatedFolder {
    computer: Computer,
    path: PathBuf,
}

impl Folder for SimulatedFolder {
    fn names(&self) -> io::Result<Vec<String>> {
        let medium = self.computer.medium();
        let name = |path: &Path| path.file_name()?.to_str().map(str::to_owned);
        Ok(medium.listed().filter_map(|(path, ..)| name(path)).collect())
    }

    fn look(&self, name: &str) -> io::Result<Option<Found>> {
        let (medium, path) = (self.computer.medium(), self.path.join(name));
        let found = medium.listed().find(|(other, ..)| *other == path);
        Ok(found.map(|(_, number, bytes, _)| Found {
            original: Original { device: 0, number, made: None },
            bytes,
            modified: UNIX_EPOCH,
        }))
    }

    fn is_in_use(&self, name: &str) -> io::Result<bool> {
        let (medium, path) = (self.computer.medium(), self.path.join(name));
        Ok(medium.listed().any(|(other, _, _, locked)| other == path && locked))
    }

    fn is_unfinished(&self, _name: &str) -> io::Result<bool> {
        Ok(false)
    }

    fn recycle(&self, name: &str, original: &Original, head: &[u8], new: &str) -> io::Result<()> {
        let mut medium = self.computer.medium();
        let file = medium.find(&self.path.join(name)).ok_or(io::ErrorKind::NotFound)?;
        if file != original.number {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let number = medium.begin_write(file, 0, head);
        medium.end_write(file, number, head.len(), false);
        if !Canary::RecycledUnflushed.is_planted() {
            let covered = medium.covered(file);
            medium.end_flush(file, &covered)?;
        }
        medium.rename(file, &self.path.join(new))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.computer.medium().remove_name(&self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.computer.medium().sync_removals()
    }

    fn space(&self) -> io::Result<Space> {
        let (free, size) = self.computer.medium().space();
        Ok(Space { free, size })
    }

    fn reclaim(&self) {}
}
