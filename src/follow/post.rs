//! A writer's side: its board, and the name by which followers find that.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::board::State;
use super::shared::{Page, identity, place_of};
use crate::file::OsFile;
use crate::random;

/// What a writer that can be followed holds.
#[derive(Debug)]
pub(crate) struct Post {
    page: Page,
    path: PathBuf,
    /// Its name until it is found.
    part: PathBuf,
}

impl Post {
    /// All but the name by which followers find it. Whoever may read the recording may follow it.
    pub(crate) fn new(recording: &OsFile, start: u64) -> io::Result<Self> {
        let metadata = recording.ours()?.metadata()?;
        let path = place_of(identity(&metadata));
        let part = path.with_extension(format!("{:x}", random::number()));
        let page = Page::create(&part, metadata.mode() & 0o444 | 0o600).inspect_err(|_| {
            let _ = fs::remove_file(&part);
        })?;
        page.begin(identity(&metadata), start);
        Ok(Self { page, path, part })
    }

    /// From now on it is found.
    pub(crate) fn appear(&self) -> io::Result<()> {
        fs::rename(&self.part, &self.path)
    }

    /// It was for nothing: the open has failed.
    pub(crate) fn withdraw(&self) {
        let _ = fs::remove_file(&self.part);
        self.page.end(State::Failed);
    }

    /// Of the driver, where it publishes: a few stores, and a system call.
    pub(crate) fn post(&self, written: u64, durable: u64) {
        self.page.post(written, durable);
    }

    /// Nothing more is written, and what is there is not whole.
    pub(crate) fn fail(&self) {
        self.page.end(State::Failed);
    }

    /// The writer lets go of its file; `whole`: it is exactly what was written. Followers that have
    /// the board keep it.
    pub(crate) fn leave(&self, recording: &OsFile, whole: bool) {
        let left = recording.ours().and_then(File::metadata);
        self.page.leave(left.map_or(0, |metadata| modified(&metadata)));
        self.page.end(if whole { State::Closed } else { State::Failed });
        // Another writer without a lock may have the name by now.
        let named = fs::symlink_metadata(&self.path);
        let is_ours =
            named.and_then(|named| Ok(identity(&named) == identity(&self.page.metadata()?)));
        if is_ours.unwrap_or(false) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Before a writer, or a recovery, changes anything in a file that it has locked: who follows an
/// earlier writer, which was killed, sees from now on that another one has come. A system call where
/// nobody is followed.
pub(crate) fn retire(recording: &OsFile) {
    if let Ok(metadata) = recording.ours().and_then(File::metadata) {
        let _ = fs::remove_file(place_of(identity(&metadata)));
    }
}

/// When a file was modified last, in nanoseconds; never 0.
pub(super) fn modified(file: &Metadata) -> u64 {
    let nanoseconds = file.mtime().wrapping_mul(1_000_000_000).wrapping_add(file.mtime_nsec());
    nanoseconds.cast_unsigned().max(1)
}
