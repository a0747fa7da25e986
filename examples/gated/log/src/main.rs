//! A write-ahead log of another crate (wal-db) under the gate: nothing here needs writeflush.

use std::path::Path;
use std::process::ExitCode;

use wal_db::{FileStore, Wal};
use writeflush_operation::{Failure, Kind, Operation, serve};

const RECORD: usize = 256;
struct Commit(Wal<FileStore>);

impl Operation for Commit {
    fn run(&mut self) -> Result<(), Failure> {
        Ok(self.0.append_and_sync(&[0x5a; RECORD]).map(drop)?)
    }
}

fn commit(folder: &Path) -> Result<Box<dyn Operation>, Failure> {
    let path = folder.join("log");
    if path.exists() {
        std::fs::remove_file(&path)?; // or it would read all of it
    }
    Ok(Box::new(Commit(Wal::open(path)?)))
}

fn main() -> ExitCode {
    serve(&[Kind::new("commit", commit).fences(1).bytes(RECORD as u64)])
}
