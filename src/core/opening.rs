//! From options and a path to a stream with a driver.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::closing::Held;
use super::{Core, Facts};
use crate::backend::{Abilities, Backend, Io};
use crate::blocks::align_down;
use crate::buffers::Memory;
use crate::canary::Canary;
use crate::driver::run::Runner;
use crate::driver::{Around, Driver, Forms, Geometry, Lane, Plan};
use crate::error::{Error, Operation};
use crate::file::{Durability, MAX_BLOCK, NoSignal, OpenFile, OpenMode, file_limit, name_of};
use crate::options::{BackendChoice, DiskFull, FenceForm, Options};
use crate::stream::Stream;
use crate::sync::{AtomicBool, Mutex, Ordering, ignore_poison};

/// What a writer needs beside a file.
#[derive(Debug)]
struct Means {
    memory: Memory,
    io: Box<dyn Io>,
    fallback: Option<String>,
    /// Bytes in a device write.
    piece: usize,
    /// Writes under way at a time.
    flights: usize,
}

impl Means {
    fn new(options: &Options, path: &Path) -> Result<Self, Error> {
        let start_failed = |error| Error::io(Operation::Start, &path.into(), error);
        let piece = options.device_write();
        let pieces = options.buffer_size / piece * options.buffers;
        let memory = Memory::new(piece, pieces, options.longest_grant(), MAX_BLOCK)
            .ok_or_else(|| start_failed(std::io::ErrorKind::OutOfMemory.into()))?;
        // A write a piece and one for a tail; a flush, a patch, and a linked pair's second half.
        let flights = pieces + 1;
        let (io, fallback) = options.host.backend(options, flights + 3).map_err(start_failed)?;
        Ok(Self { memory, io, fallback, piece, flights })
    }
}

impl Core {
    pub(crate) fn open(options: &Options, path: &Path, mode: OpenMode) -> Result<Self, Error> {
        Self::over(options, path, || OpenFile::new(&*options.host, options, path, mode))
    }

    /// Over a file that is open already.
    pub(crate) fn adopt(options: &Options, file: &File) -> Result<Self, Error> {
        let name = name_of(file);
        Self::over(options, &name, || OpenFile::adopted(options, &name, file))
    }

    fn over(
        options: &Options,
        path: &Path,
        open: impl FnOnce() -> Result<OpenFile, Error>,
    ) -> Result<Self, Error> {
        options.check()?;
        let _unsignalled = NoSignal::here();
        // What can be refused without touching the file comes first.
        let means = Means::new(options, path)?;
        let mut opened = open()?;
        let started = Self::start_or_fall_back(options, &opened, means);
        let ready = started.and_then(|core| match opened.cut(options) {
            Ok(()) => Ok(core),
            Err(error) => {
                core.withdraw();
                Err(error)
            }
        });
        if ready.is_err() {
            opened.take_back(options);
        }
        ready
    }

    /// It never came to be: its file is the open's to take back.
    fn withdraw(&self) {
        self.closing.store(true, Ordering::SeqCst);
        *ignore_poison(self.held.lock()) = None;
        self.runner.retire();
    }

    /// Another backend, where the choice is free, if this one can't work on the driver's thread.
    fn start_or_fall_back(
        options: &Options,
        opened: &OpenFile,
        means: Means,
    ) -> Result<Self, Error> {
        let is_free = options.backend == BackendChoice::Auto && means.io.kind() != Backend::Sync;
        match Self::start(options, opened, means) {
            Err(error) if is_free => {
                let plain = options.clone().backend(BackendChoice::Sync);
                Means::new(&plain, &opened.path).and_then(|mut means| {
                    means.fallback = Some(error.to_string());
                    Self::start(options, opened, means)
                })
            }
            started => started,
        }
    }

    fn start(options: &Options, opened: &OpenFile, means: Means) -> Result<Self, Error> {
        let Means { memory, mut io, fallback, piece, flights } = means;
        let start_failed = |error| Error::io(Operation::Start, &opened.path, error);
        let id = io.attach(&opened.file, &memory.registrable()).map_err(start_failed)?;
        let floor = align_down(opened.start, opened.block);
        if floor < opened.start {
            // The block that the first write shares with what is already there.
            let head = memory.patch_bounce().first(opened.block as usize);
            if !Canary::HeadNotRead.is_planted() {
                io.read(id, floor, head)
                    .map_err(|error| Error::io(Operation::Read, &opened.path, error))?;
            }
            // SAFETY: nobody else knows the memory yet.
            unsafe {
                let len = (opened.start - floor) as usize;
                memory.copy_in(floor, std::slice::from_raw_parts(head.address, len));
            }
        }

        let geometry =
            Geometry { block: opened.block, buffer: piece as u64, bounce: Memory::BOUNCE as u64 };
        // An error of a write with a fence of its own may be the fence's: then nobody may go on.
        let dsync_flushes = opened.place.dsync_flushes && options.on_disk_full != DiskFull::Wait;
        let forms = forms(options.fence_form, io.abilities(), dsync_flushes);
        let plan = Plan::new(geometry, forms, opened.start, flights);
        let facts = Facts {
            options: options.clone(),
            backend: io.kind(),
            durability: match options.fence_form {
                FenceForm::WriteThrough => Durability::trusting_the_drive(),
                _ => opened.place.durability.clone(),
            },
            fallbacks: opened
                .fallbacks
                .iter()
                .cloned()
                .chain(fallback)
                .chain(io.shortfalls())
                .collect(),
            block: opened.block,
            piece: piece as u64,
            start: opened.start,
            existing: opened.existing,
        };
        let bounds = (floor, opened.start);
        let stream = Arc::new(Stream::new(opened.path.clone(), memory, bounds, io.waker()));
        let (block, existing) = (opened.block, opened.existing);
        let around = Around { block, existing, kept: options.preallocate.kept(existing) };
        let lane = Lane::new(0, stream.clone(), id, plan, around, flights)
            .on_disk_full(options.on_disk_full)
            .file_limit(file_limit())
            .unasked(options.every)
            .inline_by(options.inline_flush.then(|| io.inline(id)).flatten());
        let driver = Driver::new(io, vec![lane]);
        let runner = Runner::new(driver, stream.clone(), options.drive, &options.thread_setup)
            .map_err(start_failed)?;
        let held = Held {
            file: opened.file.clone(),
            mode: opened.mode,
            existing: opened.existing,
            locked: options.lock,
            marked: opened.marked,
        };
        Ok(Self {
            stream,
            runner,
            facts,
            closing: AtomicBool::new(false),
            elsewhere: Default::default(),
            held: Mutex::new(Some(held)),
            patching: Arc::default(),
            late_errors: Mutex::default(),
        })
    }
}

/// Which forms of a fence the planner may choose.
fn forms(asked: FenceForm, able: Abilities, dsync_flushes: bool) -> Forms {
    match asked {
        FenceForm::Auto => Forms { dsync: able.dsync && dsync_flushes, link: able.link },
        // Asked for by name: but never where it is known not to flush.
        FenceForm::Dsync => Forms { dsync: able.dsync && dsync_flushes, link: false },
        FenceForm::Link => Forms { dsync: false, link: able.link },
        FenceForm::Flush | FenceForm::WriteThrough => Forms { dsync: false, link: false },
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_form_that_is_not_known_to_flush_is_never_chosen() {
        let able = Abilities { blocking: false, dsync: true, link: true, cancels: true };
        for asked in [FenceForm::Auto, FenceForm::Dsync, FenceForm::Link, FenceForm::Flush] {
            assert!(!forms(asked, able, false).dsync);
        }
        assert!(forms(FenceForm::Auto, able, true).dsync);
    }
}
