//! Opening a file so that nothing of value is lost, and finishing it so that its length is true.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::handle::Handle;
use super::place::Place;
use crate::canary::Canary;
use crate::error::{Error, Operation};
use crate::host::Host;
use crate::options::{Direct, Options, Preallocate};

/// The largest block that direct I/O may ask for; memory is aligned to it.
pub(crate) const MAX_BLOCK: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenMode {
    Create,
    CreateNew,
    Append,
    Overwrite,
}

/// A file that is open, locked, as long as asked, and named durably.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) path: Arc<Path>,
    pub(crate) file: Arc<dyn Handle>,
    pub(crate) mode: OpenMode,
    /// Where the first byte goes.
    pub(crate) start: u64,
    /// Length of what was in the file and stays.
    pub(crate) existing: u64,
    /// Alignment of device writes: 1 through the page cache.
    pub(crate) block: u64,
    pub(crate) place: Place,
    /// Why something asked for with `Auto` was not to be had.
    pub(crate) fallbacks: Vec<String>,
    /// It was not there before.
    created: bool,
}

impl OpenFile {
    pub(crate) fn new(
        host: &dyn Host,
        options: &Options,
        path: &Path,
        mode: OpenMode,
    ) -> Result<Self, Error> {
        let path: Arc<Path> = path.into();
        let fail = |operation| {
            let path = path.clone();
            move |error| Error::io(operation, &path, error)
        };
        if host.is_special(&path) {
            // A FIFO would block the open, and neither it nor a device or directory can be made
            // durable.
            let shown = path.display();
            let sentence = format!("{shown} is not a regular file: name a file to record to");
            return Err(Error::Options(sentence.into()));
        }
        let opened = host.open(options, &path, mode);
        let (file, created) = opened.map_err(fail(Operation::Open))?;
        if options.lock && !file.try_lock().map_err(fail(Operation::Lock))? {
            return Err(Error::Locked { path });
        }
        let mut opened = Self {
            place: file.place(),
            path: path.clone(),
            file,
            mode,
            start: 0,
            existing: 0,
            block: 1,
            fallbacks: Vec::new(),
            created,
        };
        match opened.prepare(options) {
            Ok(()) => Ok(opened),
            Err(error) => {
                opened.take_back(host);
                Err(error)
            }
        }
    }

    /// A file that is open already and goes on at `start`, behind its end: what lies between reads
    /// as zeros, and is durable like all that came before.
    pub(crate) fn go_on(
        path: &Arc<Path>,
        file: Arc<dyn Handle>,
        block: u64,
        start: u64,
    ) -> Result<Self, Error> {
        let fail = |operation| move |error| Error::io(operation, path, error);
        if file.len().map_err(fail(Operation::Trim))? < start {
            file.set_len(start).map_err(fail(Operation::Trim))?;
        }
        file.sync_all().map_err(fail(Operation::Flush))?;
        Ok(Self {
            place: file.place(),
            path: path.clone(),
            file,
            mode: OpenMode::Append,
            start,
            existing: start,
            block,
            fallbacks: Vec::new(),
            created: false,
        })
    }

    /// A new file that could not be finished is not left behind.
    pub(crate) fn take_back(&self, host: &dyn Host) {
        if self.created {
            host.remove(&self.path);
        }
    }

    /// Length, space, and a durable name: before the first durable claim.
    fn prepare(&mut self, options: &Options) -> Result<(), Error> {
        let path = self.path.clone();
        let fail = |operation| {
            let path = path.clone();
            move |error| Error::io(operation, &path, error)
        };
        // Never measured on a real Windows machine: there only for those who ask.
        let wants_direct = match options.direct {
            Direct::Auto => !cfg!(windows),
            direct => direct == Direct::On,
        };
        if wants_direct {
            match self.file.go_direct(options.buffer_size) {
                Ok(block) => self.block = block,
                Err(error) if options.direct == Direct::On => {
                    return Err(fail(Operation::Open)(error));
                }
                Err(error) => self.fallbacks.push(format!("direct I/O was refused ({error})")),
            }
        }
        match self.mode {
            OpenMode::Create | OpenMode::CreateNew => {
                self.file.set_len(0).map_err(fail(Operation::Open))?;
            }
            OpenMode::Append | OpenMode::Overwrite => {
                self.existing = self.file.len().map_err(fail(Operation::Open))?;
            }
        }
        if self.mode == OpenMode::Append {
            self.start = self.existing;
        }
        preallocate(&*self.file, options.preallocate, self.existing)
            .map_err(fail(Operation::Preallocate))?;
        self.file.sync_all().map_err(fail(Operation::Flush))?;
        if !Canary::NoDirectorySync.is_planted() {
            self.file.sync_directory().map_err(fail(Operation::SyncDirectory))?;
        }
        Ok(())
    }
}

/// Cuts the file to `len`, then flushes file and directory, in this order. For a file whose data
/// is durable already. Returns every error.
pub(crate) fn finish(file: &dyn Handle, path: &Arc<Path>, len: u64) -> Vec<Error> {
    let trim = || if file.len()? == len { Ok(()) } else { file.set_len(len) };
    let name = || match file.is_named()? {
        true => file.sync_directory(),
        false => Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the file was removed while it was being written",
        )),
    };
    let steps: [(Operation, io::Result<()>); 3] = [
        (Operation::Trim, trim()),
        (Operation::Flush, file.sync_all()),
        (Operation::SyncDirectory, name()),
    ];
    let errors = steps.into_iter().filter_map(|(operation, result)| {
        result.err().map(|error| Error::io(operation, path, error))
    });
    errors.collect()
}

fn preallocate(file: &dyn Handle, ahead: Preallocate, existing: u64) -> io::Result<()> {
    match ahead {
        Preallocate::None => Ok(()),
        Preallocate::Reserve(bytes) if bytes <= existing => Ok(()),
        Preallocate::Reserve(bytes) => file.reserve(bytes),
        Preallocate::Zero(bytes) => {
            if bytes > existing {
                file.reserve(bytes)?;
            }
            file.zero(existing, bytes)
        }
    }
}
