//! The segments of a pattern that are there, whoever made them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::control::named;
use super::ledger::Segment;
use super::pattern::Pattern;
use crate::error::{Error, Operation};
use crate::file::Folder;
use crate::host::{Host, System};

/// The files whose names this pattern makes, by their numbers, the oldest first; what is in them is
/// not looked at. A segment that is ready, and has not begun, is among them. Reads the directory once.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let folder = directory.path();
/// let pattern = folder.join("take-{seq:06}.raw");
/// let mut writer = writeflush::segments::Options::new(&pattern).open()?;
/// writer.write(b"samples")?;
/// writer.close()?;
/// let segments = writeflush::segments::list(&pattern)?;
/// assert_eq!(segments[0].path, folder.join("take-000001.raw").into());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::Options`] for a pattern that can't work; [`Error::Io`].
pub fn list(pattern: impl AsRef<Path>) -> Result<Vec<Segment>, Error> {
    Listing::new(pattern.as_ref(), &System)?.segments()
}

/// A folder that is held, and what is in it.
#[derive(Debug)]
pub(crate) struct Listing {
    folder: Box<dyn Folder>,
    path: PathBuf,
    pattern: Pattern,
}

impl Listing {
    pub(crate) fn new(pattern: &Path, host: &dyn Host) -> Result<Self, Error> {
        let pattern = Pattern::parse(pattern)?;
        let path = absolute(pattern.folder());
        let folder = host.folder(&path);
        let folder = folder.map_err(|error| Error::io(Operation::Open, &(*path).into(), error))?;
        Ok(Self { folder, path, pattern })
    }

    pub(crate) fn segments(&self) -> Result<Vec<Segment>, Error> {
        let failed = |error| Error::io(Operation::Open, &(*self.path).into(), error);
        let mut segments = Vec::new();
        for name in self.folder.names().map_err(failed)? {
            let Some(sequence) = self.pattern.sequence_of(&name) else { continue };
            if self.folder.look(&name).map_err(failed)?.is_some() {
                segments.push(Segment { sequence, path: named(&self.path, &name) });
            }
        }
        segments
            .sort_by(|one, other| (one.sequence, &one.path).cmp(&(other.sequence, &other.path)));
        Ok(segments)
    }

    /// Whether a writer has it.
    pub(crate) fn is_in_use(&self, segment: &Segment) -> Result<bool, Error> {
        let path: &Arc<Path> = &segment.path;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match self.folder.is_in_use(&name) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            // It is just being made another segment.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(true),
            in_use => in_use.map_err(|error| Error::io(Operation::Open, path, error)),
        }
    }

    /// Takes a segment away, durably.
    pub(crate) fn remove(&self, segment: &Segment) -> Result<(), Error> {
        let path: &Arc<Path> = &segment.path;
        let failed = |operation| move |error| Error::io(operation, path, error);
        let name = path.file_name().unwrap_or_default().to_string_lossy(); // it was Unicode
        self.folder.remove(&name).map_err(failed(Operation::Remove))?;
        self.folder.sync().map_err(failed(Operation::SyncDirectory))
    }
}

/// Where it is now: the working directory may be another one later.
pub(super) fn absolute(folder: &Path) -> PathBuf {
    std::path::absolute(folder).unwrap_or_else(|_| folder.into())
}
