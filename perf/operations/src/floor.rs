//! Floors: what an operation comes to by plain system calls, and nothing around them.

use std::fs::File;
use std::path::{Path, PathBuf};

use writeflush_operation::{Failure, Operation};
use writeflush_workloads::FileState;
use writeflush_workloads::floor::{Calls, Floor};

use crate::log::{LEN, file_in};

/// A durable record after another, by `pwritev2` with `RWF_DSYNC`, direct where the file system lets.
pub(crate) struct Record {
    path: PathBuf,
    state: FileState,
    floor: Floor,
    left: u64,
    record: Vec<u8>,
}

impl Record {
    pub(crate) fn begin(folder: &Path, state: FileState, record: usize) -> Result<Self, Failure> {
        let path = file_in(folder, state)?;
        let (floor, record) = (open(&path, state, record)?, vec![0x5a; record]);
        Ok(Self { path, state, floor, left: LEN, record })
    }
}

/// At its start; a growing file is emptied.
fn open(path: &Path, state: FileState, record: usize) -> Result<Floor, Failure> {
    if state == FileState::Growing {
        File::create(path)?;
    }
    let open = |direct| Floor::open(path, Calls::DsyncWrite, direct, record);
    Ok(open(true).or_else(|_| open(false))?)
}

impl Operation for Record {
    fn prepare(&mut self, times: u64) -> Result<u64, Failure> {
        let piece = self.record.len() as u64;
        if self.left < piece {
            self.floor = open(&self.path, self.state, self.record.len())?;
            self.left = LEN;
        }
        let now = times.min(self.left / piece);
        self.left -= now * piece;
        Ok(now)
    }

    fn run(&mut self) -> Result<(), Failure> {
        Ok(self.floor.write_flush(&self.record)?)
    }
}
