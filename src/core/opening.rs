//! From options and a path to a stream with a driver.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::closing::Held;
use super::{Core, Facts};
use crate::backend::{Abilities, Backend, FileId, Files, Io};
use crate::blocks::align_down;
use crate::buffers::{Memory, Sizes};
use crate::canary::Canary;
use crate::driver::run::Runner;
use crate::driver::shared::{Hub, Reserved};
use crate::driver::{Around, BESIDE_WRITES, Engine, FILES, Forms, Geometry, Lane, Plan};
use crate::error::{Error, Operation};
use crate::file::{
    Dsync, Durability, Fua, Handle, MAX_BLOCK, NoSignal, OpenFile, OpenMode, file_limit, name_of,
    os_file,
};
use crate::follow::Post;
use crate::options::{BackendChoice, DiskFull, FenceForm, Options, Preallocate};
use crate::random;
use crate::stream::{Doorbell, Stream};
use crate::survive::{Bond, Head, make};
use crate::sync::{AtomicBool, Mutex, Ordering, ignore_poison};

/// What a writer needs beside a file.
#[derive(Debug)]
struct Means {
    memory: Memory,
    way: Way,
    /// Bytes in a device write.
    piece: usize,
    /// Writes under way at a time.
    flights: usize,
}

/// Who is going to drive.
#[derive(Debug)]
enum Way {
    /// A driver of its own, over this backend, and why it is not another.
    Own { io: Box<dyn Io>, fallback: Option<String> },
    /// One that others share, which has memory left for this one.
    Shared { hub: Arc<Hub>, reserved: Reserved },
}

impl Means {
    fn new(options: &Options, path: &Path) -> Result<Self, Error> {
        let start_failed = |error| Error::io(Operation::Start, &path.into(), error);
        let piece = options.device_write();
        let pieces = options.buffer_size / piece * options.buffers;
        let memory = Self::memory(options, piece, pieces)?
            .ok_or_else(|| start_failed(std::io::ErrorKind::OutOfMemory.into()))?;
        // A write a piece and one for a tail.
        let flights = pieces + 1;
        let way = match &options.driver {
            None => {
                let depth = flights + BESIDE_WRITES;
                let (io, fallback) =
                    options.host.backend(options, depth, Files::One).map_err(start_failed)?;
                Way::Own { io, fallback }
            }
            Some(driver) => {
                let hub = driver.hub().clone();
                let reserved = hub.reserve(memory.footprint() as u64)?;
                Way::Shared { hub, reserved }
            }
        };
        Ok(Self { memory, way, piece, flights })
    }

    /// `None`: the system has not got it.
    fn memory(options: &Options, piece: usize, pieces: usize) -> Result<Option<Memory>, Error> {
        let overhang = options.longest_grant();
        let Some(sizes) = Sizes::new(piece, pieces, overhang, MAX_BLOCK) else { return Ok(None) };
        match &options.ring {
            Some(ring) => Ok(Some(Memory::in_file(make(options, ring, sizes)?, sizes))),
            None => Ok(Memory::on_heap(sizes, options.pool.as_ref())),
        }
    }

    /// Whether another backend may take this one's place.
    fn is_free(&self, options: &Options) -> bool {
        let is_another = |io: &dyn Io| io.kind() != Backend::Sync;
        options.backend == BackendChoice::Auto
            && matches!(&self.way, Way::Own { io, .. } if is_another(&**io))
    }
}

/// What becomes a lane where its driver turns.
#[derive(Debug)]
struct Joining {
    options: Options,
    opened: Opened,
    memory: Memory,
    piece: usize,
    flights: usize,
    fallback: Option<String>,
}

/// What a lane has to know of a file that was opened.
#[derive(Debug)]
struct Opened {
    path: Arc<Path>,
    file: Arc<dyn Handle>,
    start: u64,
    existing: u64,
    filled: u64,
    block: u64,
    dsync: Dsync,
    fua: Fua,
    durability: Durability,
    /// Of zeros that may lie ahead.
    ahead: u64,
    fallbacks: Vec<String>,
}

impl Opened {
    fn of(opened: &OpenFile) -> Self {
        Self {
            path: opened.path.clone(),
            file: opened.file.clone(),
            start: opened.start,
            existing: opened.existing,
            filled: opened.filled,
            block: opened.block,
            dsync: opened.place.dsync,
            fua: opened.place.fua.clone(),
            durability: opened.place.durability.clone(),
            ahead: opened.ahead,
            fallbacks: opened.fallbacks.clone(),
        }
    }

    /// No write may end behind it, as far as that is known: direct I/O gives no reason there.
    fn longest(&self) -> Option<u64> {
        let of_the_place = (self.block > 1).then(|| self.file.longest()).flatten();
        [file_limit(), of_the_place].into_iter().flatten().min()
    }
}

/// What has become of it.
struct Joined {
    stream: Arc<Stream>,
    place: usize,
    facts: Facts,
}

impl Joining {
    /// Where the driver turns. Reads the block in which the first write begins.
    fn join(self, engine: &mut Engine) -> Result<Joined, Error> {
        if engine.is_full() {
            let sentence = format!("a driver serves {FILES} writers at most: start another one");
            return Err(Error::Options(sentence.into()));
        }
        let mut known = None;
        let place = engine.join(|io, place, doorbell| {
            let (lane, facts) = self.lane(io, place, doorbell)?;
            known = Some((lane.stream().clone(), facts));
            Ok::<_, Error>(lane)
        })?;
        let (stream, facts) = known.expect("made with its lane");
        Ok(Joined { stream, place, facts })
    }

    fn lane(
        self,
        io: &mut dyn Io,
        place: usize,
        doorbell: &Arc<Doorbell>,
    ) -> Result<(Lane, Facts), Error> {
        let opened = &self.opened;
        let start_failed = |error| Error::io(Operation::Start, &opened.path, error);
        let id = io.attach(&opened.file, &self.memory.registrable()).map_err(start_failed)?;
        let floor = align_down(opened.start, opened.block);
        if let Err(error) = self.read_head(id, floor, io) {
            io.detach(id);
            return Err(error);
        }
        let (options, block, existing) = (&self.options, opened.block, opened.existing);
        let geometry = Geometry { block, buffer: self.piece as u64, bounce: Memory::BOUNCE as u64 };
        // An error of a write with a fence of its own may be the fence's: then nobody may go on.
        let dsync_flushes =
            opened.dsync.flushes(io.abilities().blocking) && options.on_disk_full != DiskFull::Wait;
        let forms = forms(options.fence_form, io.abilities(), dsync_flushes, &opened.fua);
        // Through the page cache one after another: of two, a kill may leave the later one alone, and
        // nothing in the file tells of the hole. (The kernel copies one at a time anyway.)
        let one_by_one = block == 1 && !Canary::LaterBeside.is_planted();
        let flights = if one_by_one { 1 } else { self.flights };
        let plan = Plan::new(geometry, forms, opened.start, flights);
        let (facts, filled) = (self.facts(io, forms), self.filled());
        let (bounds, path) = ((floor, opened.start), opened.path.clone());
        let stream = Arc::new(Stream::new(path, self.memory, bounds, (doorbell.clone(), place)));
        let around = Around { block, existing, kept: options.preallocate.kept(opened.filled) };
        let lane = Lane::new(place, stream, id, plan, around, flights)
            .on_disk_full(options.on_disk_full)
            .file_limit(opened.longest())
            .zeros_ahead(opened.ahead, filled)
            .checksum(options.checksum)
            .unasked(options.every, io.now())
            .inline_by(options.inline_flush.then(|| io.inline(id)).flatten());
        Ok((lane, facts))
    }

    /// Below which the file holds what was written once, be it zeros.
    fn filled(&self) -> u64 {
        let (filled, ahead) = (self.opened.filled, self.options.preallocate);
        if matches!(ahead, Preallocate::Zero(_)) { ahead.kept(filled) } else { filled }
    }

    /// The block that the first write shares with what is already there.
    fn read_head(&self, id: FileId, floor: u64, io: &mut dyn Io) -> Result<(), Error> {
        let (opened, memory) = (&self.opened, &self.memory);
        if floor == opened.start {
            return Ok(());
        }
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
        Ok(())
    }

    fn facts(&self, io: &dyn Io, forms: Forms) -> Facts {
        let (options, opened) = (&self.options, &self.opened);
        let fallbacks = opened.fallbacks.iter().chain(&self.fallback).cloned();
        Facts {
            options: options.clone(),
            backend: io.kind(),
            durability: match options.fence_form {
                FenceForm::WriteThrough => Durability::trusting_the_drive(),
                _ => opened.durability.clone().carried_by(forms.dsync, &opened.fua),
            },
            fallbacks: fallbacks.chain(io.shortfalls()).collect(),
            block: opened.block,
            piece: self.piece as u64,
            start: opened.start,
            existing: opened.filled,
        }
    }
}

impl Core {
    pub(crate) fn open(options: &Options, path: &Path, mode: OpenMode) -> Result<Self, Error> {
        if mode == OpenMode::Append {
            bring_what_was_accepted(options, path)?;
        }
        Self::over(options, path, || OpenFile::new(&*options.host, options, path, mode))
    }

    /// Goes on at the end of what `recover` has left of the file, under the one lock.
    pub(crate) fn resume<E: From<Error>>(
        options: &Options,
        path: &Path,
        recover: impl FnOnce(&Arc<dyn Handle>) -> Result<(), E>,
    ) -> Result<Self, E> {
        bring_what_was_accepted(options, path)?;
        Self::over(options, path, || OpenFile::resumed(&*options.host, options, path, recover))
    }

    /// Over a file that is open already.
    pub(crate) fn adopt(options: &Options, file: &File) -> Result<Self, Error> {
        let name = name_of(file);
        Self::over(options, &name, || OpenFile::adopted(options, &name, file))
    }

    fn over<E: From<Error>>(
        options: &Options,
        path: &Path,
        open: impl FnOnce() -> Result<OpenFile, E>,
    ) -> Result<Self, E> {
        options.check()?;
        let _unsignalled = NoSignal::here();
        // What can be refused without touching the file comes first.
        let means = Means::new(options, path)?;
        let mut opened = open()?;
        let started = Self::start_or_fall_back(options, &opened, means);
        let ready = started.and_then(|core| match core.last_steps(&mut opened, options) {
            Ok(()) => Ok(core),
            Err(error) => {
                core.withdraw();
                Err(error)
            }
        });
        if ready.is_err() {
            opened.take_back(options);
        }
        Ok(ready?)
    }

    /// What was there goes, and who wants to follow finds the recording.
    fn last_steps(&self, opened: &mut OpenFile, options: &Options) -> Result<(), Error> {
        let bond = self.stream.memory.ring_file().map(|_| random::bond());
        opened.bind(bond)?;
        self.appear(opened, options)?;
        self.be_recoverable(opened, bond)
    }

    /// From now on a kill leaves what is accepted.
    fn be_recoverable(&self, opened: &OpenFile, bond: Option<Bond>) -> Result<(), Error> {
        let (Some(ring), Some(bond)) = (self.stream.memory.ring_file(), bond) else {
            return Ok(());
        };
        let failed = |error| Error::io(Operation::Start, &opened.path, error);
        let [device, inode] = opened.file.identity().map_err(failed)?;
        let kept = if opened.mode == OpenMode::Overwrite { opened.existing } else { 0 };
        ring.ready(Head {
            capacity: 0, // it knows by itself
            total: 0,
            block: opened.block,
            start: opened.start,
            kept,
            device,
            inode,
            marked: opened.marked.into(),
            bond,
        });
        Ok(())
    }

    fn appear(&self, opened: &mut OpenFile, options: &Options) -> Result<(), Error> {
        if !options.followed {
            return opened.cut(options);
        }
        let file = opened.file.clone();
        let refused = |error: io::Error| {
            let sentence = format!("followers need shared memory in /dev/shm ({error})");
            Error::io(Operation::Start, &self.stream.path, io::Error::new(error.kind(), sentence))
        };
        let post =
            os_file(&*file).and_then(|file| Post::new(&file, opened.start)).map_err(refused)?;
        match opened.cut(options).and_then(|()| post.appear().map_err(refused)) {
            Ok(()) => self.stream.be_followed(post),
            Err(error) => {
                post.withdraw();
                return Err(error);
            }
        }
        Ok(())
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
        let is_free = means.is_free(options);
        match Self::start(options, opened, means) {
            Err(error) if is_free => {
                let plain = options.clone().backend(BackendChoice::Sync);
                let mut means = Means::new(&plain, &opened.path)?;
                if let Way::Own { fallback, .. } = &mut means.way {
                    *fallback = Some(error.to_string());
                }
                Self::start(options, opened, means)
            }
            started => started,
        }
    }

    fn start(options: &Options, opened: &OpenFile, means: Means) -> Result<Self, Error> {
        let Means { memory, way, piece, flights } = means;
        let (options, file) = (options.clone(), Opened::of(opened));
        let join = |fallback| Joining { options, opened: file, memory, piece, flights, fallback };
        let (runner, stream, facts) = match way {
            Way::Own { io, fallback } => {
                let mut engine = Engine::new(io, 1);
                let Joined { stream, facts, .. } = join(fallback).join(&mut engine)?;
                let (drive, setup) = (facts.options.drive, &facts.options.thread_setup);
                let runner = Runner::new(engine, stream.clone(), drive, setup)
                    .map_err(|error| Error::io(Operation::Start, &opened.path, error))?;
                (runner, stream, facts)
            }
            Way::Shared { hub, reserved } => {
                let joining = join(None);
                let joined = hub.visit(move |engine| joining.join(engine))??;
                let Joined { stream, place, facts } = joined;
                (Runner::sharing(reserved.at(place), stream.clone()), stream, facts)
            }
        };
        let held = Held {
            file: opened.file.clone(),
            mode: opened.mode,
            existing: opened.existing,
            locked: facts.options.lock,
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

/// Of a killed writer, whose ring file has the name that the next one gives.
fn bring_what_was_accepted(options: &Options, path: &Path) -> Result<(), Error> {
    options.check()?;
    if options.ring.is_some() {
        options.recover_ring(path)?;
    }
    Ok(())
}

/// Which forms of a fence the planner may choose.
fn forms(asked: FenceForm, able: Abilities, dsync_flushes: bool, fua: &Fua) -> Forms {
    let dsync = able.dsync && dsync_flushes;
    match asked {
        // It would be a write with FUA, and nobody has to trust the drive: a flush is to be had.
        FenceForm::Auto => Forms { dsync: dsync && !fua.is_assumed(), link: able.link },
        // Asked for by name: but never where it is known not to flush.
        FenceForm::Dsync => Forms { dsync, link: false },
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
            assert!(!forms(asked, able, false, &Fua::Unsent).dsync);
        }
        assert!(forms(FenceForm::Auto, able, true, &Fua::Unsent).dsync);
    }

    #[test]
    fn fua_that_only_a_standard_promises_is_left_to_those_who_ask_for_it() {
        let able = Abilities { blocking: false, dsync: true, link: true, cancels: true };
        let assumed = Fua::Assumed("nvme0n1".into());
        let auto = forms(FenceForm::Auto, able, true, &assumed);
        assert!(!auto.dsync && auto.link, "a flush is linked behind the write");
        assert!(forms(FenceForm::Dsync, able, true, &assumed).dsync);
        assert!(forms(FenceForm::Auto, able, true, &Fua::Announced("sda".into())).dsync);
    }
}
