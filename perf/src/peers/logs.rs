//! Write-ahead logs: they frame and checksum each record, and keep files of their own.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use writeflush_workloads::FileState;
use writeflush_workloads::subject::{Place, Subject};

use super::refused;

/// A folder beside the file that does not exist yet; only a log that grows is comparable.
fn fresh(place: &Place<'_>, extension: &str) -> io::Result<PathBuf> {
    if place.state != FileState::Growing {
        return refused(place, "it keeps files of its own, which grow");
    }
    let path = place.path.with_extension(extension);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(path),
    }
}

struct WalDb(wal_db::Wal<wal_db::FileStore>);

pub(crate) fn wal_db(place: &Place<'_>) -> io::Result<Box<dyn Subject>> {
    let folder = fresh(place, "wal-db")?;
    fs::create_dir(&folder)?;
    let wal = wal_db::Wal::open(folder.join("log")).map_err(io::Error::other)?;
    Ok(Box::new(WalDb(wal)))
}

impl Subject for WalDb {
    fn commit(&self, _committer: usize, record: &[u8]) -> io::Result<()> {
        self.0.append_and_sync(record).map(drop).map_err(io::Error::other)
    }
}

struct OpenWal(Mutex<open_wal::Wal>);

pub(crate) fn open_wal(place: &Place<'_>) -> io::Result<Box<dyn Subject>> {
    let folder = fresh(place, "open-wal")?;
    fs::create_dir(&folder)?;
    let config = open_wal::WalConfig::default();
    let (wal, _) = open_wal::Wal::open(&folder, config).map_err(io::Error::other)?;
    Ok(Box::new(OpenWal(Mutex::new(wal))))
}

impl Subject for OpenWal {
    fn commit(&self, _committer: usize, record: &[u8]) -> io::Result<()> {
        let mut wal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wal.append(record).map_err(io::Error::other)?;
        wal.commit().map(drop).map_err(io::Error::other)
    }
}

struct OkayWal(okaywal::WriteAheadLog);

/// Reads a segment through and keeps nothing of it: somebody has to, before it is used again.
#[derive(Debug)]
struct Forget;

impl okaywal::LogManager for Forget {
    fn recover(&mut self, _entry: &mut okaywal::Entry<'_>) -> io::Result<()> {
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _last: okaywal::EntryId,
        segment: &mut okaywal::SegmentReader,
        _log: &okaywal::WriteAheadLog,
    ) -> io::Result<()> {
        while let Some(mut entry) = segment.read_entry()? {
            while let okaywal::ReadChunkResult::Chunk(mut chunk) = entry.read_chunk()? {
                chunk.read_to_end(&mut Vec::new())?;
            }
        }
        Ok(())
    }
}

pub(crate) fn okaywal(place: &Place<'_>) -> io::Result<Box<dyn Subject>> {
    let folder = fresh(place, "okaywal")?;
    Ok(Box::new(OkayWal(okaywal::WriteAheadLog::recover(folder, Forget)?)))
}

impl Subject for OkayWal {
    fn commit(&self, _committer: usize, record: &[u8]) -> io::Result<()> {
        let mut entry = self.0.begin_entry()?;
        entry.write_chunk(record)?;
        entry.commit().map(drop)
    }
}

impl Drop for OkayWal {
    /// Its thread goes on making files otherwise, in a folder that is removed meanwhile.
    fn drop(&mut self) {
        let _ = self.0.clone().shutdown();
    }
}
