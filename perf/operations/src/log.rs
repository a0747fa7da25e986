//! A file that is written from its start to its end, again and again.

use std::path::{Path, PathBuf};

use writeflush::{Options, Writer};
use writeflush_operation::Failure;
use writeflush_workloads::FileState;

/// Bytes until the file begins anew.
pub(crate) const LEN: u64 = 16 << 20;

/// A writer over the file, and how much of it is left.
pub(crate) struct Log {
    path: PathBuf,
    options: Options,
    state: FileState,
    /// `None` only while it is opened anew.
    writer: Option<Writer>,
    left: u64,
}

/// A file in this state, as the last one that was here left it, or made.
pub(crate) fn file_in(folder: &Path, state: FileState) -> Result<PathBuf, Failure> {
    let path = folder.join(state.name());
    let found = std::fs::metadata(&path).map_or(0, |found| found.len());
    if state == FileState::Written && found != LEN {
        state.prepare(&path, LEN)?;
    }
    Ok(path)
}

impl Log {
    pub(crate) fn new(folder: &Path, state: FileState, options: Options) -> Result<Self, Failure> {
        let path = file_in(folder, state)?;
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

    /// Room for at most so many pieces, which follow at once; for how many. The file begins anew
    /// where it is full.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// To begin anew is not timed, but leaves the device something to do.
    #[test]
    fn a_log_begins_anew_at_its_end_only_and_keeps_its_file() {
        let folder = tempfile::tempdir_in(writeflush_workloads::scratch_dir()).expect("a folder");
        let piece = LEN / 4;
        let mut log = Log::new(folder.path(), FileState::Written, Options::new()).expect("a log");
        for round in 0..9 {
            assert_eq!(log.room(piece, 1).expect("room"), 1);
            assert_eq!(log.left, LEN - (round % 4 + 1) * piece);
            let position = log.writer().expect("a writer").control().positions().accepted;
            assert_eq!(position, round % 4 * piece, "opened anew at the end, and nowhere else");
            let bytes = vec![1; piece as usize];
            log.writer().expect("a writer").write_flush(&bytes).expect("a write");
        }
        assert_eq!(log.room(piece, 100).expect("room"), 3, "no more than is left");
        log.close().expect("a close");
        let length = std::fs::metadata(folder.path().join("written")).expect("the file").len();
        assert_eq!(length, LEN);
    }
}
