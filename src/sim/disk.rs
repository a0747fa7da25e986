//! What the medium holds for certain, and what it may hold.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::host::Simulated;
use super::io::Kernel;
use crate::options::{Drive, Options};
use crate::shared_driver::{Driver, DriverOptions};
use crate::sync::{Event, Mutex, MutexGuard, ignore_poison};

/// What a medium writes whole.
pub(super) const SECTOR: usize = 512;

/// What goes wrong, and how often.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Of 256 writes, so many are interrupted (EINTR) or asked again (EAGAIN).
    pub(crate) interrupted: u8,
    /// Of 256 writes, so many are short.
    pub(crate) short: u8,
    /// The write with this number fails, with this error (EIO or ENOSPC); the first is 1.
    pub(crate) failing_write: Option<(u64, i32)>,
    /// The flush with this number fails, with this error (ENOSPC where space is found for data only
    /// now): also the ones of an open or close, and of a directory.
    pub(crate) failing_flush: Option<(u64, i32)>,
    /// The read with this number fails (EIO).
    pub(crate) failing_read: Option<u64>,
    /// The change of a length with this number fails (EIO).
    pub(crate) failing_length: Option<u64>,
    /// The close with this number fails (EIO): of what a file system keeps to itself until then.
    pub(crate) failing_close: Option<u64>,
    /// Between the open and the lock with this number another file takes the name: the same bytes,
    /// and not the same file.
    pub(crate) replaced_at: Option<u64>,
    /// Before the flush of a directory with this number the directory gets another name, and another
    /// directory takes its name.
    pub(crate) moved_at: Option<u64>,
    /// Of 256 writes, so many take a block or a sector only, or nothing at all.
    pub(crate) meagre: u8,
    /// The cut in idle time with this number fails (EIO), and nobody has to hear of it.
    pub(crate) failing_cut: Option<u64>,
    /// Bytes that the medium has room for.
    pub(crate) space: Option<u64>,
    /// When so many writes have found no room, somebody makes some.
    pub(crate) space_after: Option<u64>,
    /// Behind the write with this number a device does nothing more, until it is repaired.
    pub(crate) stall_behind: Option<u64>,
}

/// What was asked when the medium said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Write,
    Flush,
    /// To flush a directory.
    Name,
    Read,
    /// To change the length, or to reserve one.
    Length,
    /// To close the file.
    Close,
}

/// Which directory is flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folder {
    /// The one that the file was opened in.
    Held,
    /// The one that has the path by now.
    AtPath,
}

/// A failure that the medium has told, for good: not one that asks for another try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) path: PathBuf,
    pub(crate) asked: Asked,
    /// The error of the operating system.
    pub(crate) code: i32,
}

/// What is left after a power cut: content by name.
pub(crate) type Image = BTreeMap<PathBuf, Vec<u8>>;

/// Looks at the medium whenever something has happened to it.
pub(crate) type Watch = Box<dyn FnMut(&mut Medium) + Send>;

/// See the module. Clones are the same computer.
#[derive(Clone)]
pub(crate) struct Computer(Arc<Parts>);

struct Parts {
    medium: Mutex<Medium>,
    /// Announced when a device has something to do again.
    stirred: Event,
}

impl std::fmt::Debug for Computer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Computer")
    }
}

/// Nobody looks any more once it is dropped: who looks may hold the computer.
#[must_use]
pub(crate) struct Watched(Computer);

impl Drop for Watched {
    fn drop(&mut self) {
        let watch = self.0.medium().watch.take();
        drop(watch); // what it holds may need the computer
    }
}

/// The medium with all that is under way.
pub(crate) struct Medium {
    pub(super) random: fastrand::Rng,
    pub(super) faults: Faults,
    pub(super) files: BTreeMap<u64, FileOnMedium>,
    /// The directory that all paths lead to: so many others have had its name before.
    folder: u64,
    /// What may be the alignment of direct writes: 1 for none.
    pub(super) block: u64,
    /// Operations that a backend has submitted and that have not ended.
    pub(super) in_flight: usize,
    /// What the clock has gone on by: to where somebody waited for it, when nothing else could
    /// happen.
    pub(super) clock: Duration,
    refused_for_space: u64,
    pub(super) writes_seen: u64,
    flushes_seen: u64,
    reads_seen: u64,
    lengths_seen: u64,
    closes_seen: u64,
    locks_seen: u64,
    folders_seen: u64,
    cuts_seen: u64,
    numbers: u64,
    told: Vec<Told>,
    watch: Option<Watch>,
}

/// One file.
#[derive(Debug)]
pub(super) struct FileOnMedium {
    /// Empty for a file that has lost its name.
    path: PathBuf,
    name_is_certain: bool,
    /// What it was called before, until a flush of the directory makes the new name certain.
    called_before: Option<PathBuf>,
    /// Its name was taken away, which no flush of the directory has made certain.
    is_removed: bool,
    /// The directory that it is in.
    folder: u64,
    pub(super) locked: bool,
    certain: Vec<u8>,
    /// What a read sees.
    pub(super) current: Vec<u8>,
    volatile: Vec<Volatile>,
}

/// A change that may or may not have reached the medium.
#[derive(Clone, Debug)]
struct Volatile {
    number: u64,
    change: Change,
    /// Only then a flush can make it certain.
    completed: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => put(content, *at, bytes),
            Self::Length(len) => content.resize(*len, 0),
        }
    }

    /// What was cut off for certain can't come any more.
    fn cut(&mut self, len: usize) {
        if let Self::Write { at, bytes } = self {
            bytes.truncate(len.saturating_sub(*at));
        }
    }
}

/// The error with which the operation of this number fails, if it does.
pub(super) fn fails_at(planned: Option<(u64, i32)>, number: u64) -> Option<i32> {
    planned.filter(|(planned, _)| *planned == number).map(|(_, error)| error)
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = at + bytes.len();
    content.resize(content.len().max(end), 0);
    content[at..end].copy_from_slice(bytes);
}

impl Computer {
    pub(crate) fn new(seed: u64, block: u64, faults: Faults) -> Self {
        let medium = Mutex::new(Medium {
            random: fastrand::Rng::with_seed(seed),
            faults,
            files: BTreeMap::new(),
            folder: 0,
            block,
            in_flight: 0,
            clock: Duration::ZERO,
            refused_for_space: 0,
            writes_seen: 0,
            flushes_seen: 0,
            reads_seen: 0,
            lengths_seen: 0,
            closes_seen: 0,
            locks_seen: 0,
            folders_seen: 0,
            cuts_seen: 0,
            numbers: 0,
            told: Vec::new(),
            watch: None,
        });
        Self(Arc::new(Parts { medium, stirred: Event::default() }))
    }

    /// Options of a writer on this computer. The caller drives: one thread does everything, so that
    /// a seed decides all.
    pub(crate) fn options(&self) -> Options {
        self.options_with(Kernel::InCalls).drive(Drive::Caller)
    }

    /// A driver on this computer that writers share, and that whoever waits turns.
    pub(crate) fn driver(&self) -> Driver {
        let host = Arc::new(Simulated { computer: self.clone(), kernel: Kernel::InCalls });
        let options = DriverOptions::new().host(host).drive(Drive::Caller);
        options.start().expect("a simulated one begins")
    }

    /// Options of a writer on this computer, with another to carry out what it submits.
    pub(crate) fn options_with(&self, kernel: Kernel) -> Options {
        let mut options = Options::new();
        options.host = Arc::new(Simulated { computer: self.clone(), kernel });
        options
    }

    pub(super) fn medium(&self) -> MutexGuard<'_, Medium> {
        ignore_poison(self.0.medium.lock())
    }

    pub(super) fn stirred(&self) -> &Event {
        &self.0.stirred
    }

    /// `watch` sees every change until the guard is dropped.
    pub(crate) fn watch(&self, watch: Watch) -> Watched {
        self.medium().watch = Some(watch);
        Watched(self.clone())
    }

    /// The medium has room again, and nothing else goes wrong from now on.
    pub(crate) fn repair(&self) {
        self.medium().faults = Faults::default();
        self.stirred().announce();
    }

    /// What a program reads.
    pub(crate) fn read(&self, path: &Path) -> Option<Vec<u8>> {
        self.medium().current(path).map(<[u8]>::to_vec)
    }

    /// Whether no cut in idle time fails, and no gap.
    pub(crate) fn makes_every_cut(&self) -> bool {
        self.medium().faults.failing_cut.is_none()
    }

    /// Every failure so far of what was asked of this file.
    pub(crate) fn told(&self, path: &Path) -> Vec<Told> {
        let medium = self.medium();
        medium.told.iter().filter(|told| told.path == path).cloned().collect()
    }

    /// Somebody removes this file, and makes another one with its name, for certain.
    pub(crate) fn replace(&self, path: &Path, content: &[u8]) {
        let mut medium = self.medium();
        if let Some(number) = medium.find(path) {
            medium.remove(number);
        }
        drop(medium);
        self.put(path, content);
    }

    /// A file that has always been there.
    pub(crate) fn put(&self, path: &Path, content: &[u8]) {
        let mut medium = self.medium();
        let number = medium.number();
        let mut file = FileOnMedium::new(path, content);
        file.name_is_certain = true;
        medium.files.insert(number, file);
    }
}

impl FileOnMedium {
    fn new(path: &Path, content: &[u8]) -> Self {
        Self {
            path: path.into(),
            name_is_certain: false,
            called_before: None,
            is_removed: false,
            folder: 0,
            locked: false,
            certain: content.to_vec(),
            current: content.to_vec(),
            volatile: Vec::new(),
        }
    }
}

impl FileOnMedium {
    pub(super) fn is_named(&self) -> bool {
        !self.path.as_os_str().is_empty()
    }
}

impl Medium {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Something has happened: whoever watches may cut the power.
    pub(super) fn happened(&mut self) {
        if let Some(mut watch) = self.watch.take() {
            watch(self);
            self.watch = Some(watch);
        }
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.faults.stall_behind.is_some_and(|number| self.writes_seen >= number)
    }

    // ---- failures -------------------------------------------------------------------------------

    /// Says no, and remembers that.
    pub(super) fn refuse(&mut self, file: u64, asked: Asked, code: i32) -> io::Error {
        let path = self.file(file).path.clone();
        self.told.push(Told { path, asked, code });
        io::Error::from_raw_os_error(code)
    }

    /// `fails`: with which error.
    fn refuse_if(&mut self, fails: Option<i32>, file: u64, asked: Asked) -> io::Result<()> {
        fails.map_or(Ok(()), |code| Err(self.refuse(file, asked, code)))
    }

    // ---- names ----------------------------------------------------------------------------------

    /// What the path leads to: nothing of a directory that has moved away.
    pub(super) fn find(&self, path: &Path) -> Option<u64> {
        let is_it = |file: &FileOnMedium| {
            file.path == path && file.folder == self.folder && !file.is_removed
        };
        self.files.iter().find(|(_, file)| is_it(file)).map(|(number, _)| *number)
    }

    pub(super) fn create(&mut self, path: &Path) -> u64 {
        let number = self.number();
        let file = FileOnMedium { folder: self.folder, ..FileOnMedium::new(path, b"") };
        self.files.insert(number, file);
        number
    }

    pub(super) fn file(&mut self, number: u64) -> &mut FileOnMedium {
        self.files.get_mut(&number).expect("an open file is there")
    }

    /// Another file takes the name of this one, if that is planned for now.
    pub(super) fn replace_if_planned(&mut self, number: u64) {
        self.locks_seen += 1;
        // A new file is left alone: there the answer would be that the name is taken.
        if self.faults.replaced_at != Some(self.locks_seen) || !self.file(number).name_is_certain {
            return;
        }
        let (path, folder, content) = {
            let file = self.file(number);
            (std::mem::take(&mut file.path), file.folder, file.current.clone())
        };
        let another = self.number();
        let mut file = FileOnMedium { folder, ..FileOnMedium::new(&path, &content) };
        file.name_is_certain = true;
        self.files.insert(another, file);
        self.happened();
    }

    pub(super) fn remove(&mut self, number: u64) {
        let file = self.file(number);
        *file = FileOnMedium::new(Path::new(""), b"");
    }

    /// Takes a name away, for good once the directory is flushed.
    pub(super) fn remove_name(&mut self, path: &Path) -> io::Result<()> {
        let number = self.find(path).ok_or(io::ErrorKind::NotFound)?;
        self.file(number).is_removed = true;
        self.happened();
        Ok(())
    }

    /// Gives a file another name, for good once the directory is flushed.
    pub(super) fn rename(&mut self, number: u64, new: &Path) -> io::Result<()> {
        if self.find(new).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = self.file(number);
        let old = std::mem::replace(&mut file.path, new.into());
        file.called_before.get_or_insert(old);
        self.happened();
        Ok(())
    }

    /// What was removed is gone for certain.
    pub(super) fn sync_removals(&mut self) -> io::Result<()> {
        if let Some(code) = self.flush_fails() {
            return Err(io::Error::from_raw_os_error(code));
        }
        for file in self.files.values_mut() {
            file.called_before = None;
            if file.is_removed {
                file.path = PathBuf::new();
            }
        }
        self.happened();
        Ok(())
    }

    /// Every file that a program finds: path, number, length, whether a writer has it.
    pub(super) fn listed(&self) -> impl Iterator<Item = (&Path, u64, u64, bool)> {
        let files = self.files.iter().filter(|(_, file)| file.is_named() && !file.is_removed);
        files.map(|(number, file)| (&*file.path, *number, file.current.len() as u64, file.locked))
    }

    /// Bytes that are free, and that there are.
    pub(super) fn space(&self) -> (u64, u64) {
        let used: u64 = self.listed().map(|(_, _, bytes, _)| bytes).sum();
        let size = self.faults.space.unwrap_or(1 << 40);
        (size.saturating_sub(used), size)
    }

    pub(super) fn close(&mut self, number: u64) -> io::Result<()> {
        self.closes_seen += 1;
        let fails = self.faults.failing_close == Some(self.closes_seen);
        self.refuse_if(fails.then_some(libc::EIO), number, Asked::Close)
    }

    /// A flush of a directory makes the names in it certain, whatever it is called by now.
    pub(super) fn sync_name(&mut self, number: u64, which: Folder) -> io::Result<()> {
        self.folders_seen += 1;
        if self.faults.moved_at == Some(self.folders_seen) {
            self.folder += 1;
            self.happened();
        }
        let fails = self.flush_fails();
        self.refuse_if(fails, number, Asked::Name)?;
        let at_path = self.folder;
        let file = self.file(number);
        if which == Folder::Held || file.folder == at_path {
            file.name_is_certain = true;
            file.called_before = None;
        }
        self.happened();
        Ok(())
    }

    // ---- reads ----------------------------------------------------------------------------------

    /// What was written, fenced or not.
    pub(super) fn read(&mut self, file: u64, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.reads_seen += 1;
        let fails = self.faults.failing_read == Some(self.reads_seen);
        self.refuse_if(fails.then_some(libc::EIO), file, Asked::Read)?;
        let known = self.file(file).current.get(at as usize..).unwrap_or_default();
        let len = known.len().min(bytes.len());
        bytes[..len].copy_from_slice(&known[..len]);
        Ok(len)
    }

    /// What a program sees of a file, which it finds wherever the directory has moved.
    pub(super) fn current(&self, path: &Path) -> Option<&[u8]> {
        let file = self.files.values().find(|file| file.path == path)?;
        Some(&file.current)
    }

    // ---- changes --------------------------------------------------------------------------------

    /// A write has been submitted: from now on it may be there.
    pub(super) fn begin_write(&mut self, file: u64, at: u64, bytes: &[u8]) -> u64 {
        let number = self.number();
        let change = Change::Write { at: at as usize, bytes: bytes.to_vec() };
        self.file(file).volatile.push(Volatile { number, change, completed: false });
        self.happened();
        number
    }

    /// It has completed, with so many bytes; the others are as if they had never been asked for.
    /// `certain`: it carried its own fence.
    pub(super) fn end_write(&mut self, file: u64, number: u64, taken: usize, certain: bool) {
        let file = self.file(file);
        let index = file.volatile.iter().position(|volatile| volatile.number == number);
        let index = index.expect("a write that was begun");
        let volatile = &mut file.volatile[index];
        volatile.completed = true;
        if let Change::Write { bytes, .. } = &mut volatile.change {
            bytes.truncate(taken);
        }
        let change = volatile.change.clone();
        change.apply(&mut file.current);
        if certain {
            file.volatile.remove(index);
            file.make_certain(number, &change);
        }
        self.happened();
    }

    /// It was never begun.
    pub(super) fn cancel_write(&mut self, file: u64, number: u64) {
        self.file(file).volatile.retain(|volatile| volatile.number != number);
    }

    pub(super) fn set_len(&mut self, file: u64, len: u64) -> io::Result<()> {
        self.lengths_seen += 1;
        let fails = self.faults.failing_length == Some(self.lengths_seen);
        self.refuse_if(fails.then_some(libc::EIO), file, Asked::Length)?;
        self.change_length(file, len);
        Ok(())
    }

    /// As [`set_len`](Self::set_len), of a driver that has nothing to do.
    pub(super) fn cut_padding(&mut self, file: u64, len: u64) -> io::Result<()> {
        self.cuts_seen += 1;
        if self.faults.failing_cut == Some(self.cuts_seen) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.change_length(file, len);
        Ok(())
    }

    /// For a gap, which takes no space.
    pub(super) fn lengthen(&mut self, file: u64, len: u64) -> io::Result<()> {
        match self.file(file).current.len() as u64 >= len {
            true => Ok(()),
            false => self.cut_padding(file, len),
        }
    }

    fn change_length(&mut self, file: u64, len: u64) {
        let number = self.number();
        let file = self.file(file);
        let change = Change::Length(len as usize);
        change.apply(&mut file.current);
        file.volatile.push(Volatile { number, change, completed: true });
        self.happened();
    }

    /// What a flush that is submitted now would make certain.
    pub(super) fn covered(&mut self, file: u64) -> Vec<u64> {
        let completed = self.file(file).volatile.iter().filter(|volatile| volatile.completed);
        completed.map(|volatile| volatile.number).collect()
    }

    /// A flush has ended. `Err`: it failed, and what it covered can't be made certain any more.
    pub(super) fn end_flush(&mut self, file: u64, covered: &[u64]) -> io::Result<()> {
        let (fails, number) = (self.flush_fails(), file);
        let file = self.file(number);
        let is_covered = |volatile: &Volatile| covered.contains(&volatile.number);
        if fails.is_some() {
            file.volatile.iter_mut().filter(|v| is_covered(v)).for_each(|v| v.completed = false);
        } else {
            let flushed: Vec<Volatile> = file.volatile.extract_if(.., |v| is_covered(v)).collect();
            flushed
                .iter()
                .for_each(|volatile| file.make_certain(volatile.number, &volatile.change));
        }
        self.happened();
        self.refuse_if(fails, number, Asked::Flush)
    }

    fn flush_fails(&mut self) -> Option<i32> {
        self.flushes_seen += 1;
        fails_at(self.faults.failing_flush, self.flushes_seen)
    }

    /// How many bytes of a write up to `end` find room: `None`, all of them.
    pub(super) fn room(&self, file: u64, end: usize) -> Option<usize> {
        let space = self.faults.space? as usize;
        let is_other = |it: &(&u64, &FileOnMedium)| *it.0 != file && !it.1.is_removed;
        let others = self.files.iter().filter(is_other);
        let used: usize = others.map(|(_, file)| file.current.len()).sum();
        let room = space.saturating_sub(used).max(self.files[&file].current.len());
        (end > room).then_some(room)
    }

    /// A write has found no room.
    pub(super) fn lacked_space(&mut self) {
        self.refused_for_space += 1;
        if self.faults.space_after.is_some_and(|limit| self.refused_for_space >= limit) {
            self.faults.space = None;
        }
    }

    // ---- power cuts -----------------------------------------------------------------------------

    /// What may be left if the power went now: another answer each time.
    pub(crate) fn cut(&mut self, random: &mut fastrand::Rng) -> Image {
        let mut image = Image::new();
        for file in self.files.values().filter(|file| file.is_named()) {
            let is_there = file.name_is_certain && !file.is_removed;
            if is_there || random.bool() {
                let old = file.called_before.as_ref().filter(|_| random.bool());
                image.insert(old.unwrap_or(&file.path).clone(), file.cut(random));
            }
        }
        image
    }
}

impl FileOnMedium {
    /// What is older can't show any more where this is; lengths become certain in order.
    fn make_certain(&mut self, number: u64, change: &Change) {
        let is_older_length = |older: &mut Volatile| {
            older.number < number && older.completed && matches!(older.change, Change::Length(_))
        };
        let lengths: Vec<_> = self.volatile.extract_if(.., is_older_length).collect();
        lengths.iter().for_each(|older| older.change.apply(&mut self.certain));
        change.apply(&mut self.certain);
        let olders = self.volatile.iter_mut().filter(|older| older.number < number);
        let (at, bytes) = match change {
            Change::Write { at, bytes } => (at, bytes),
            Change::Length(len) => {
                olders.for_each(|older| older.change.cut(*len));
                return;
            }
        };
        let end = at + bytes.len();
        for older in olders {
            if let Change::Write { at: from, bytes: old } = &mut older.change {
                let (low, high) = ((*at).max(*from), end.min(*from + old.len()));
                if low < high {
                    old[low - *from..high - *from].copy_from_slice(&bytes[low - at..high - at]);
                }
            }
        }
    }

    fn cut(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut content = self.certain.clone();
        let mut lengths = vec![content.len()];
        // Now and then nothing volatile is there, or everything.
        let mood = random.u8(..8);
        for volatile in &self.volatile {
            match &volatile.change {
                Change::Write { at, bytes } => {
                    for (sector, part) in bytes.chunks(SECTOR).enumerate() {
                        if mood == 0 || mood > 1 && random.bool() {
                            put(&mut content, at + sector * SECTOR, part);
                        }
                    }
                    let longest = lengths.last().copied().unwrap_or(0);
                    if !bytes.is_empty() {
                        lengths.push(longest.max(at + bytes.len()));
                    }
                }
                Change::Length(len) => {
                    if mood == 0 || mood > 1 && random.bool() {
                        content.resize(*len, 0);
                        lengths = vec![*len];
                    }
                }
            }
        }
        let length = random.choice(lengths).unwrap_or(0);
        content.resize(length, 0);
        content
    }
}
