//! A file that is written from its start to its end, again and again.

use std::path::{Path, PathBuf};

use writeflush::{Options, Writer};
use writeflush_operation::Failure;
use writeflush_workloads::FileState;

/// Bytes until the file begins anew.
const LEN: u64 = 16 << 20;

/// A writer over the file, and how much of it is left.
pub(crate) struct Log {
    path: PathBuf,
    options: Options,
    state: FileState,
    /// `None` only while it is opened anew.
    writer: Option<Writer>,
    left: u64,
}

impl Log {
    pub(crate) fn new(folder: &Path, state: FileState, options: Options) -> Result<Self, Failure> {
        let path = folder.join(state.name());
        let found = std::fs::metadata(&path).map_or(0, |found| found.len());
        if state == FileState::Written && found != LEN {
            state.prepare(&path, LEN)?; // the next one finds it
        }
        let mut log = Self { path, options, state, writer: None, left: 0 };
        log.renew()?;
        Ok(log)
    }

    /// Begins the file anew.
    fn renew(&mut self) -> Result<(), Failure> {
        self.close()?;
        self.writer = Some(match self.state {
            FileState::Written => self.options.open(&self.path)?,
            FileState::Growing | FileState::Reserved => self.options.create(&self.path)?,
        });
        self.left = LEN;
        Ok(())
    }

    /// Makes room for pieces of so many bytes, and says for how many at once: `most`, if the file
    /// holds as many.
    pub(crate) fn room(&mut self, piece: u64, most: u64) -> Result<u64, Failure> {
        if self.left < piece {
            self.renew()?;
        }
        let now = most.min(self.left / piece);
        self.left -= now * piece;
        Ok(now)
    }

    pub(crate) fn writer(&mut self) -> Result<&mut Writer, Failure> {
        self.writer.as_mut().ok_or_else(|| "the file could not be opened anew".into())
    }

    pub(crate) fn close(&mut self) -> Result<(), Failure> {
        match self.writer.take() {
            Some(writer) => {
                writer.close()?;
                Ok(())
            }
            None => Ok(()),
        }
    }
}
