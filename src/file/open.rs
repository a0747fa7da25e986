//! Opening a file so that nothing of value is lost, and finishing it so that its length is true.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::adopted::adopt;
use super::ahead::{self, PIECE, Stopped};
use super::handle::Handle;
use super::mark::{self, Mark};
use super::place::Place;
use crate::buffers::{Memory, zeros_are_there};
use crate::canary::Canary;
use crate::error::{Error, Operation, lacks_space};
use crate::follow::retire;
use crate::host::Host;
use crate::options::{Direct, FenceForm, Options, Preallocate};
use crate::survive::Bond;

/// The largest block that direct I/O may ask for; memory is aligned to it.
pub(crate) const MAX_BLOCK: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenMode {
    Create,
    CreateNew,
    Append,
    /// From its start; what lies behind the new bytes stays, and the length if it is greater.
    Overwrite,
    /// From its start; the blocks stay while it is written, and the close cuts off what is old.
    Recycle,
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
    /// Below it the file has blocks that were written once.
    pub(crate) filled: u64,
    /// Alignment of device writes: 1 through the page cache.
    pub(crate) block: u64,
    pub(crate) place: Place,
    /// Why something asked for with `Auto` was not to be had.
    pub(crate) fallbacks: Vec<String>,
    found: Found,
    /// The mark that it had, and the one that it has.
    found_mark: Option<Mark>,
    mark: Option<Mark>,
    /// It is of this open, and the close takes it away.
    pub(crate) marked: bool,
    /// Of the ring file that it belonged to, if this open has said otherwise.
    found_bond: Option<Option<Bond>>,
    /// Of zeros that may be written ahead.
    pub(crate) ahead: u64,
}

/// What was there, and what the open has done to it: a failure takes it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Nothing: the name and all behind it go.
    Nothing,
    /// A file of this length, untouched.
    Old(u64),
    /// One of this length, behind whose end there may be space or zeros now.
    Lengthened(u64),
    /// One whose content has gone from here on, or a part of it: it is left this long.
    Cut(u64),
}

impl OpenFile {
    pub(crate) fn new(
        host: &dyn Host,
        options: &Options,
        path: &Path,
        mode: OpenMode,
    ) -> Result<Self, Error> {
        let path: Arc<Path> = path.into();
        let (file, created) = open_locked(host, options, &path, mode)?;
        Self::prepared(options, path, mode, file, created)
    }

    /// For an append to what `recover` has left of the file, under the one lock; it is not asked about
    /// a new one.
    pub(crate) fn resumed<E: From<Error>>(
        host: &dyn Host,
        options: &Options,
        path: &Path,
        recover: impl FnOnce(&Arc<dyn Handle>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let (path, mode): (Arc<Path>, _) = (path.into(), OpenMode::Append);
        let (file, created) = open_locked(host, options, &path, mode)?;
        if !created && let Err(error) = recover(&file) {
            if options.lock {
                file.unlock(); // explicitly: a forked child may hold the descriptor still
            }
            return Err(error);
        }
        Ok(Self::prepared(options, path, mode, file, created)?)
    }

    /// Of a file that somebody else has opened: an append.
    pub(crate) fn adopted(
        options: &Options,
        name: &Arc<Path>,
        theirs: &File,
    ) -> Result<Self, Error> {
        let (file, is_a_copy) = adopt(theirs, name)?;
        lock(&*options.host, options, &*file, name)?;
        retire_followed(options, &*file);
        let mut opened = Self::prepared(options, name.clone(), OpenMode::Append, file, false)?;
        if let Some(reason) = is_a_copy {
            let also = "a duplicate of the descriptor serves, through the page cache";
            opened.fallbacks.push(format!("the file can't be opened anew ({reason}): {also}"));
        }
        Ok(opened)
    }

    /// Of a file that is open and locked.
    fn prepared(
        options: &Options,
        path: Arc<Path>,
        mode: OpenMode,
        file: Arc<dyn Handle>,
        created: bool,
    ) -> Result<Self, Error> {
        let mut opened = Self {
            place: if options.labelled { file.place() } else { Place::unseen() },
            path,
            file,
            mode,
            start: 0,
            existing: 0,
            filled: 0,
            block: 1,
            fallbacks: Vec::new(),
            found: if created { Found::Nothing } else { Found::Old(0) },
            found_mark: None,
            mark: None,
            marked: false,
            found_bond: None,
            ahead: 0,
        };
        match opened.prepare(options) {
            Ok(()) => Ok(opened),
            Err(error) => {
                opened.take_back(options);
                Err(error)
            }
        }
    }

    /// The open has failed: a new file is not left behind, and an old one is as long as before, with
    /// the blocks that it had (a cut to the same length frees those behind the end).
    pub(crate) fn take_back(&self, options: &Options) {
        // A disk that fails here too has failed already.
        let cut = |len| {
            let _ = self.file.set_len(len).and_then(|()| self.file.sync_all());
        };
        if self.mark != self.found_mark && self.found != Found::Nothing {
            let _ = self.file.set_mark(self.found_mark);
        }
        if let Some(bond) = self.found_bond {
            let _ = self.file.set_bond(bond);
        }
        match self.found {
            Found::Nothing => {
                let _ = self.file.remove().and_then(|()| self.file.sync_directory());
            }
            Found::Old(_) => {}
            Found::Lengthened(len) | Found::Cut(len) => cut(len),
        }
        if options.lock {
            self.file.unlock(); // explicitly: a forked child may hold the descriptor still
        }
    }

    /// All but the cut of an old file: space, and a durable name.
    fn prepare(&mut self, options: &Options) -> Result<(), Error> {
        let path = self.path.clone();
        let fail = |operation| {
            let path = path.clone();
            move |error| Error::io(operation, &path, error)
        };
        if self.found != Found::Nothing {
            self.found_mark = self.file.mark();
            self.mark = self.found_mark;
        }
        if self.mode == OpenMode::Append {
            self.check_end(options)?;
        }
        self.look_ahead(options);
        if self.may_go_direct(options)? {
            match self.file.go_direct(options.buffer_size) {
                Ok(block) => self.block = block,
                Err(error) if options.direct == Direct::On => {
                    return Err(fail(Operation::Open)(error));
                }
                Err(error) => {
                    self.fallbacks.push(format!("direct I/O was refused ({error})"));
                    self.mark(self.goes_ahead(options).then_some(Mark::Ahead));
                }
            }
        }
        if self.ahead > 0 && self.mark != Some(Mark::Ahead) {
            self.goes_not_ahead("no mark could tell a killed writer's zeros from data");
        }
        let found = self.file.len().map_err(fail(Operation::Open))?;
        if self.found != Found::Nothing {
            self.found = Found::Old(found);
        }
        match self.mode {
            OpenMode::Create | OpenMode::CreateNew => {}
            OpenMode::Overwrite => (self.existing, self.filled) = (found, found),
            OpenMode::Recycle => self.filled = found,
            OpenMode::Append => {
                let end = options.append_at.unwrap_or(found);
                self.start = below_the_end(end).map_err(fail(Operation::Open))?;
                (self.existing, self.filled) = (self.start, self.start);
            }
        }
        if Canary::EmptyFirst.is_planted() {
            self.cut(options)?;
        }
        self.preallocate(options, found)?;
        match self.is_durable_with_its_first_fence(options) {
            true => Ok(()),
            false => self.make_durable(),
        }
    }

    /// Windows flushes no names: that of a new file comes with the file's own flush, as each fence is
    /// one but that of write-through alone.
    fn is_durable_with_its_first_fence(&self, options: &Options) -> bool {
        let is_new = self.found == Found::Nothing;
        cfg!(windows) && is_new && options.fence_form != FenceForm::WriteThrough
    }

    /// What the file has by now, and its name.
    fn make_durable(&mut self) -> Result<(), Error> {
        let path = self.path.clone();
        let fail = |operation| {
            let path = &path;
            move |error| Error::io(operation, path, error)
        };
        self.file.sync_all().map_err(fail(Operation::Flush))?;
        if Canary::NoDirectorySync.is_planted() {
            return Ok(());
        }
        match sync_name(&*self.file, &path) {
            Err(error) if cannot_sync(&error) => {
                self.name_is_unconfirmed(&error);
                Ok(())
            }
            synced => synced.map_err(fail(Operation::SyncDirectory)),
        }
    }

    /// Whether the file may end in space, zeros or old bytes that are no data, and more of them than a
    /// block.
    fn goes_ahead(&self, options: &Options) -> bool {
        let is_recycled = self.mode == OpenMode::Recycle;
        options.preallocate != Preallocate::None || self.ahead > 0 || is_recycled
    }

    /// How many zeros may be written ahead here.
    fn look_ahead(&mut self, options: &Options) {
        if options.zero_ahead == 0 {
            return;
        }
        match () {
            () if !zeros_are_there() => self.goes_not_ahead("the system gives no memory for them"),
            () if !self.place.writes_in_place() => {
                self.goes_not_ahead("the file system is not known to write in place");
            }
            () => self.ahead = options.zero_ahead,
        }
    }

    fn goes_not_ahead(&mut self, obstacle: &str) {
        self.ahead = 0;
        self.fallbacks.push(format!("no zeros are written ahead: {obstacle}"));
    }

    /// Space behind the `found` bytes. Of a file that will be emptied too: what is there counts, and
    /// stays until nothing else can fail.
    fn preallocate(&mut self, options: &Options, found: u64) -> Result<(), Error> {
        let (bytes, zeros) = match options.preallocate {
            Preallocate::Reserve(bytes) if bytes > found => (bytes, false),
            Preallocate::Zero(bytes) if bytes > found => (bytes, true),
            _ => return Ok(()),
        };
        if self.found != Found::Nothing {
            self.found = Found::Lengthened(found);
        }
        match self.file.reserve(bytes) {
            Err(error) if is_unknown(&error) && zeros => {} // they take the space as they come
            Err(error) if is_unknown(&error) => {
                let reason = format!("the file system can't reserve space ({error})");
                self.fallbacks.push(reason);
            }
            reserved => {
                reserved.map_err(|error| Error::io(Operation::Preallocate, &self.path, error))?;
            }
        }
        if zeros { self.zero(options, found, bytes) } else { Ok(()) }
    }

    /// Whatever ring file the file belonged to: from now on to this one, or to none. What another has
    /// would not follow any more.
    pub(crate) fn bind(&mut self, bond: Option<Bond>) -> Result<(), Error> {
        let found = self.file.bond();
        if found == bond {
            return Ok(());
        }
        self.file.set_bond(bond).map_err(|error| {
            let sentence = format!("no number could say which ring file it belongs to ({error})");
            let error = io::Error::new(error.kind(), sentence);
            Error::io(Operation::Start, &self.path, error)
        })?;
        self.found_bond = Some(found);
        Ok(())
    }

    /// The last step of an open that drops old bytes, when nothing else can fail any more: of a
    /// create all of them, of an append those behind its place. Durably, so that no power cut shows
    /// them behind new ones.
    pub(crate) fn cut(&mut self, options: &Options) -> Result<(), Error> {
        let (Found::Old(found) | Found::Lengthened(found)) = self.found else { return Ok(()) };
        let kept = match self.mode {
            OpenMode::Create => 0,
            OpenMode::Append => self.start,
            OpenMode::CreateNew | OpenMode::Overwrite | OpenMode::Recycle => return Ok(()),
        };
        if kept >= found {
            return Ok(());
        }
        if options.is_cancelled() {
            return Err(Error::Cancelled);
        }
        self.found = Found::Cut(kept);
        self.set_len(kept)?;
        // The cut took what was behind the end, too. Zeros in place of old bytes would keep it, but a
        // power cut would show half of both, and ext4 with `data=journal` the old ones again.
        self.preallocate(options, kept)?;
        self.file.sync_all().map_err(|error| Error::io(Operation::Flush, &self.path, error))
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.file.set_len(len).map_err(|error| Error::io(Operation::Trim, &self.path, error))
    }

    /// Whole blocks only, of the largest kind, so that the same code serves direct I/O; the close
    /// trims.
    fn zero(&self, options: &Options, from: u64, to: u64) -> Result<(), Error> {
        let fail = |error| Error::io(Operation::Preallocate, &self.path, error);
        let memory = Memory::new(PIECE, 1, 0, MAX_BLOCK)
            .ok_or_else(|| fail(io::ErrorKind::OutOfMemory.into()))?;
        let region = memory.ring(0, PIECE as u64);
        // SAFETY: zeroed memory that nobody else knows.
        let zeros = unsafe { std::slice::from_raw_parts(region.address, region.len) };
        let [from, to] = [from, to].map(|at| at.next_multiple_of(MAX_BLOCK as u64));
        let write = |len: usize, at| self.file.write_zeros(&zeros[..len], at);
        match ahead::zero((from, to), self.block, || options.is_cancelled(), write) {
            Ok(()) => Ok(()),
            Err(Stopped::Cancelled) => Err(Error::Cancelled),
            Err(Stopped::Failed(error)) => Err(fail(error)),
        }
    }

    /// The directory could not be flushed, and never will be: whatever is durable in the file, its
    /// name may be lost.
    fn name_is_unconfirmed(&mut self, error: &io::Error) {
        self.place.durability.weaken(&format!(
            "the file system can't flush a directory ({error}), so that a new name may be lost"
        ));
        self.fallbacks.push(format!("the flush of the directory was refused ({error})"));
    }
}

/// Opens and locks, until the name is that of the file whose lock was had: somebody may have removed
/// or replaced it meanwhile. Says whether it is new.
pub(crate) fn open_locked(
    host: &dyn Host,
    options: &Options,
    path: &Arc<Path>,
    mode: OpenMode,
) -> Result<(Arc<dyn Handle>, bool), Error> {
    if host.is_special(path) {
        // A FIFO would block the open, and neither it nor a device or directory can be made durable.
        let shown = path.display();
        let sentence = format!("{shown} is not a regular file: name a file to record to");
        return Err(Error::Options(sentence.into()));
    }
    const TRIES: usize = 16;
    let fail = |error| Error::io(Operation::Open, path, error);
    let mut last = None;
    for _ in 0..TRIES {
        let (file, created) = host.open(options, path, mode).map_err(fail)?;
        if let Err(error) = lock(host, options, &*file, path) {
            if created && !matches!(error, Error::Locked { .. }) {
                let _ = file.remove(); // whoever has the lock has the file
            }
            return Err(error);
        }
        if Canary::AnyName.is_planted() || file.has_its_name().map_err(fail)? {
            retire_followed(options, &*file);
            return Ok((file, created));
        }
        last = Some(file);
    }
    match last {
        // There are file systems whose numbers don't hold still.
        Some(file) if file.is_named().map_err(fail)? => Ok((file, false)),
        _ => Err(fail(io::Error::new(
            io::ErrorKind::NotFound,
            "others replace it all the time, so that no open gets hold of it",
        ))),
    }
}

/// Whose lock was had is the only writer.
fn retire_followed(options: &Options, file: &dyn Handle) {
    if let Some(file) = file.os_file().filter(|_| options.lock) {
        retire(file);
    }
}

/// Takes the lock, and waits for it as long as the options say, in pauses that grow.
fn lock(
    host: &dyn Host,
    options: &Options,
    file: &dyn Handle,
    path: &Arc<Path>,
) -> Result<(), Error> {
    const LONGEST: Duration = Duration::from_millis(20);
    let (mut waited, mut pause) = (Duration::ZERO, Duration::from_millis(1));
    loop {
        let locked = !options.lock
            || file.try_lock().map_err(|error| Error::io(Operation::Lock, path, error))?;
        if locked {
            return Ok(());
        }
        if options.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let left = options.lock_wait.saturating_sub(waited);
        if left.is_zero() {
            return Err(Error::Locked { path: path.clone(), waited });
        }
        let next = pause.min(left);
        host.pause(next);
        waited += next;
        pause = (pause * 2).min(LONGEST);
    }
}

/// The file system knows no such call (fallocate(2)).
fn is_unknown(error: &io::Error) -> bool {
    #[cfg(unix)]
    return matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS));
    #[cfg(not(unix))]
    return error.kind() == io::ErrorKind::Unsupported;
}

/// The file system has no flush for this (fsync(2)): another try changes nothing, and nothing is
/// known to be lost.
pub(super) fn cannot_sync(error: &io::Error) -> bool {
    #[cfg(unix)]
    let is_invalid = error.raw_os_error() == Some(libc::EINVAL);
    #[cfg(not(unix))]
    let is_invalid = false;
    is_invalid || is_unknown(error)
}

/// A first position from which no writer gets to the end of all positions: they have 63 bits, and
/// what is reckoned with them (a whole ring, blocks, patches) has to fit as well.
pub(crate) fn below_the_end(start: u64) -> io::Result<u64> {
    const LAST: u64 = 1 << 62;
    if start <= LAST {
        return Ok(start);
    }
    let sentence = format!("nothing can be written behind {start} bytes: at most {LAST}");
    Err(io::Error::new(io::ErrorKind::FileTooLarge, sentence))
}

impl OpenFile {
    /// Refuses an append that is told to go on behind the end of the file, or is not told where, and
    /// the end of the file is not for certain that of its data.
    fn check_end(&self, options: &Options) -> Result<(), Error> {
        let fail = |operation| {
            let path = self.path.clone();
            move |error| Error::io(operation, &path, error)
        };
        let len = self.file.len().map_err(fail(Operation::Open))?;
        match (options.append_at, self.found_mark) {
            (Some(position), _) if position > len => {
                return Err(Error::Options(
                    format!(
                        "{} has {len} bytes: give append_at a position up to that, not {position}",
                        self.path.display()
                    )
                    .into(),
                ));
            }
            (None, Some(mark)) => {
                let end = mark::end_of_marked(&*self.file, mark, 0, len);
                let from = end.map_err(fail(Operation::Read))?.zeros;
                if from < len {
                    let path = self.path.clone();
                    return Err(Error::Unfinished { path, from, to: len });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether to try direct I/O, whose padding nobody could tell from data if the writer were killed
    /// and the file bore no mark. Sets the mark, or takes an old one away that means nothing now.
    fn may_go_direct(&mut self, options: &Options) -> Result<bool, Error> {
        // Never measured on a real Windows machine: there only for those who ask. Followers would read from
        // the disk what bypasses the page cache.
        let direct = match options.direct {
            Direct::Auto => !cfg!(windows) && !options.followed,
            direct => direct == Direct::On,
        };
        let mark = match self.goes_ahead(options) {
            false => direct.then_some(Mark::Padding),
            true => Some(Mark::Ahead),
        };
        match self.mark(mark) {
            Some(error) if direct && options.direct == Direct::Auto => {
                self.fallbacks.push(format!(
                    "direct I/O pads the end of a file, and here no mark could tell a killed \
                     writer's padding from data (user.writeflush: {error})"
                ));
                Ok(false)
            }
            _ => Ok(direct),
        }
    }

    /// Gives the file this mark; returns why that was refused. A recycled file that was unfinished
    /// stays so: its end is as it was.
    fn mark(&mut self, mark: Option<Mark>) -> Option<io::Error> {
        let wanted = match self.mode {
            OpenMode::Overwrite => mark.or(self.found_mark),
            _ => mark,
        };
        if wanted != self.mark {
            if let Err(error) = self.file.set_mark(wanted) {
                return Some(error);
            }
            self.mark = wanted;
        }
        let stays = self.mode == OpenMode::Overwrite && self.found_mark.is_some();
        self.marked = mark.is_some() && !stays;
        None
    }
}

/// Cuts the file to `len` and takes its mark away, then flushes file and directory, in this order.
/// For a file whose data is durable already; `fenced`: its length, too, as far as it is not changed
/// here. Returns every error.
pub(crate) fn finish(
    file: &dyn Handle,
    path: &Arc<Path>,
    len: u64,
    marked: bool,
    fenced: bool,
) -> Vec<Error> {
    let mut changed = marked || !fenced;
    let mut trim = || {
        if file.len()? != len {
            changed = true;
            file.set_len(len)?;
        }
        match marked.then(|| file.set_mark(None)) {
            // A full xfs takes no attribute away. One that stays makes a later append careful.
            Some(Err(error)) if !lacks_space(&error) => Err(error),
            _ => Ok(()),
        }
    };
    let name = || match file.is_named()? {
        true => match sync_name(file, path) {
            Err(error) if cannot_sync(&error) => Ok(()), // the label says so since the open
            synced => synced,
        },
        false => Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the file was removed while it was being written",
        )),
    };
    let trimmed = trim();
    let steps: [(Operation, io::Result<()>); 3] = [
        (Operation::Trim, trimmed),
        (Operation::Flush, if changed { file.sync_all() } else { Ok(()) }),
        (Operation::SyncDirectory, name()),
    ];
    let errors = steps.into_iter().filter_map(|(operation, result)| {
        result.err().map(|error| Error::io(operation, path, error))
    });
    errors.collect()
}

/// Makes its name durable.
fn sync_name(file: &dyn Handle, path: &Path) -> io::Result<()> {
    match Canary::DirectoryByPath.is_planted() {
        true => file.sync_directory_at(path),
        false => file.sync_directory(),
    }
}

/// Closes it; nothing is asked of it any more.
pub(crate) fn close(file: &dyn Handle, path: &Arc<Path>) -> Result<(), Error> {
    match file.close() {
        Err(error) if !Canary::CloseUnheard.is_planted() => {
            Err(Error::io(Operation::Close, path, error))
        }
        _ => Ok(()),
    }
}
