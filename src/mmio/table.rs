//! The open files of the process, by the number that travels in `adwInfo`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, RwLock};

use super::open_file::OpenFile;
use crate::sync::ignore_poison;

/// `None` once closed. Whoever waits for the disk lets go of it first.
pub(super) type Shared = Arc<Mutex<Option<OpenFile>>>;

#[derive(Debug)]
pub(super) struct Table {
    files: RwLock<Option<HashMap<u32, Shared>>>,
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
    pub(super) fn insert(&self, file: OpenFile) -> u32 {
        let mut files = ignore_poison(self.files.write());
        let files = files.get_or_insert_default();
        let mut next = ignore_poison(self.next.lock());
        loop {
            *next = next.wrapping_add(1);
            let number = *next << 1 | 1;
            if let Entry::Vacant(free) = files.entry(number) {
                free.insert(Arc::new(Mutex::new(Some(file))));
                return number;
            }
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<Shared> {
        ignore_poison(self.files.read()).as_ref()?.get(&number).cloned()
    }

    /// Every file, unless a thread that is gone holds the table.
    #[cfg(windows)]
    pub(super) fn all(&self) -> Vec<Shared> {
        let files = self.files.try_read();
        files.map_or_else(
            |_| Vec::new(),
            |files| files.iter().flatten().map(|(_, file)| file.clone()).collect(),
        )
    }

    pub(super) fn remove(&self, number: u32) -> Option<Shared> {
        ignore_poison(self.files.write()).as_mut()?.remove(&number)
    }
}
