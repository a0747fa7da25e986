//! The open files of the process, by the number that travels in `adwInfo`.

use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use super::abi::MMIOINFO;
use super::open_file::OpenFile;
use super::storage::{Identity, recorded_by};
use crate::control::Control;
use crate::sync::ignore_poison;

/// `None` once closed. Whoever waits for the disk lets go of it first.
pub(super) type Shared = Arc<Mutex<Option<OpenFile>>>;

#[derive(Debug)]
struct Entry {
    file: Shared,
    /// Where its MMIOINFO lies: whoever else has the number has a copy.
    info: usize,
    /// Outside of the lock, which may be held for as long as a WRITE waits for room.
    recorder: Option<Recorder>,
}

#[derive(Debug)]
struct Recorder {
    control: Control,
    /// Of the file. Asked for when somebody reads one that may be the same: under Wine the answer
    /// takes a millisecond.
    identity: OnceLock<Option<Identity>>,
}

impl Recorder {
    fn records_to(&self, file: Identity) -> bool {
        *self.identity.get_or_init(|| recorded_by(&self.control)) == Some(file)
    }
}

#[derive(Debug)]
pub(super) struct Table {
    files: RwLock<Option<HashMap<u32, Entry>>>,
    next: Mutex<u32>,
}

static TABLE: Table = Table { files: RwLock::new(None), next: Mutex::new(0) };

/// The files of this process.
pub(super) fn table() -> &'static Table {
    &TABLE
}

impl Table {
    /// Takes a file in; returns its number: odd, so that it is the value of no Windows handle
    /// (winmm of Wine takes the word for one), and not used again before 2³¹ others.
    pub(super) fn insert(&self, file: OpenFile, info: *const MMIOINFO) -> u32 {
        let recorder =
            file.recorder().map(|control| Recorder { control, identity: OnceLock::new() });
        let mut files = ignore_poison(self.files.write());
        let files = files.get_or_insert_default();
        let mut next = ignore_poison(self.next.lock());
        loop {
            *next = next.wrapping_add(1);
            let number = *next << 1 | 1;
            if let hash_map::Entry::Vacant(free) = files.entry(number) {
                let file = Arc::new(Mutex::new(Some(file)));
                free.insert(Entry { file, info: info.addr(), recorder });
                return number;
            }
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<Shared> {
        let files = ignore_poison(self.files.read());
        files.as_ref()?.get(&number).map(|entry| entry.file.clone())
    }

    /// Who records to this file, if this process does.
    pub(super) fn recording(&self, of: Identity) -> Option<Control> {
        let files = ignore_poison(self.files.read());
        let mut recorders = files.as_ref()?.values().filter_map(|entry| entry.recorder.as_ref());
        recorders.find(|recorder| recorder.records_to(of)).map(|it| it.control.clone())
    }

    /// Whether this very MMIOINFO, and no copy of it, has the file with this number.
    pub(super) fn has(&self, number: u32, info: *const MMIOINFO) -> bool {
        let files = ignore_poison(self.files.read());
        let entry = files.as_ref().and_then(|files| files.get(&number));
        entry.is_some_and(|entry| entry.info == info.addr())
    }

    pub(super) fn remove(&self, number: u32) {
        // What was last of it ends outside of the lock.
        let _entry = ignore_poison(self.files.write()).as_mut().map(|files| files.remove(&number));
    }
}
