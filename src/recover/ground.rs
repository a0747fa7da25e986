//! The steps of a recovery, in the operating system.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::steps::{Ground, Holds};
use crate::file::Handle;

/// Bytes that are copied at once.
const PIECE: u64 = 1 << 20;

/// A locked file, and the directory of its name.
#[derive(Debug)]
pub(crate) struct Beside {
    path: PathBuf,
    file: Arc<dyn Handle>,
}

impl Beside {
    pub(crate) fn new(path: &Path, file: Arc<dyn Handle>) -> Self {
        Self { path: path.to_path_buf(), file }
    }

    /// Has `each` see the bytes of the tail, piece by piece, as long as it wants more.
    fn pieces(
        &self,
        tail: Range<u64>,
        mut each: impl FnMut(&[u8]) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut piece = vec![0; PIECE.min(tail.end - tail.start) as usize];
        let mut at = tail.start;
        while at < tail.end {
            let wanted = (tail.end - at).min(PIECE) as usize;
            match self.file.read_at(&mut piece[..wanted], at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    if !each(&piece[..read])? {
                        return Ok(());
                    }
                    at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Ground for Beside {
    fn name(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    fn holds(&mut self, name: &Path, tail: Range<u64>) -> io::Result<Holds> {
        match fs::symlink_metadata(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holds::Nothing),
            Err(error) => return Err(error),
            Ok(found) if !found.is_file() || found.len() != tail.end - tail.start => {
                return Ok(Holds::Others);
            }
            Ok(_) => {}
        }
        let (mut other, mut same) = (File::open(name)?, true);
        let mut theirs = vec![0; PIECE as usize];
        self.pieces(tail, |ours| {
            let theirs = &mut theirs[..ours.len()];
            same = match other.read_exact(theirs) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
                read => read.map(|()| theirs == ours)?,
            };
            Ok(same)
        })?;
        Ok(if same { Holds::These } else { Holds::Others })
    }

    fn remove(&mut self, name: &Path) -> io::Result<()> {
        match fs::remove_file(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Whoever may read the file may read its tail, and nobody else.
    fn copy(&mut self, tail: Range<u64>, name: &Path) -> io::Result<()> {
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(name)?;
        self.pieces(tail, |piece| file.write_all(piece).map(|()| true))?;
        file.set_permissions(fs::metadata(&self.path)?.permissions())
    }

    fn sync(&mut self, name: &Path) -> io::Result<()> {
        // Windows flushes through a handle that may write only.
        let file =
            if cfg!(windows) { File::options().write(true).open(name) } else { File::open(name) };
        file?.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        #[cfg(unix)]
        {
            let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = File::open(parent.unwrap_or(Path::new(".")))?;
            tolerate(directory.sync_all())
        }
        #[cfg(not(unix))]
        Ok(())
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn overwrite(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        const PLAIN: u64 = 1; // its handle is for no direct I/O
        self.file.overwrite(at, bytes, PLAIN)
    }

    fn unmark(&mut self) -> io::Result<bool> {
        match self.file.mark() {
            Some(_) => self.file.set_mark(None).map(|()| true),
            None => Ok(false),
        }
    }

    fn unbind(&mut self) -> io::Result<()> {
        match self.file.bond() {
            Some(_) => self.file.set_bond(None),
            None => Ok(()),
        }
    }

    fn sync_file(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        tolerate(self.file.sync_directory())
    }
}

/// Some file systems know no flush of a directory, and never will (an open of a writer weakens its
/// label there): the name is as sure as it can be.
fn tolerate(synced: io::Result<()>) -> io::Result<()> {
    match synced {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
        {
            Ok(())
        }
        synced => synced,
    }
}
