//! What a close tells.

use std::path::Path;
use std::sync::Arc;

use crate::backend::Backend;
use crate::error::Error;
use crate::file::Durability;
use crate::overrun::Overrun;
use crate::stats::Stats;
use crate::stream::Positions;

/// What a writer has done, from its close.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// The file.
    pub path: Arc<Path>,
    /// The final positions; all four are equal after a close without error.
    pub positions: Positions,
    /// The length of the file that the close leaves, in bytes; `None` if it could not be asked, or
    /// the file was not this writer's to close. After a failure it may be more than what is durable,
    /// and less than what was accepted.
    pub file_len: Option<u64>,
    /// The CRC32C (RFC 3720) of all bytes of the file, where [`Options::checksum`](crate::Options::checksum)
    /// has asked for it. `None` also if the close has failed, and of a file in which not all came in its
    /// order: that was not empty, or has gaps, or was patched where it had been written.
    pub checksum: Option<u32>,
    /// Counters and histograms.
    pub stats: Stats,
    /// Where bytes were lost.
    pub overruns: Vec<Overrun>,
    /// The backend that was used.
    pub backend: Backend,
    /// What `durable` stands for here.
    pub durability: Durability,
}

/// A close that did not end well: every error, and what is true all the same.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CloseError {
    /// The errors, the one that came first at the front; never empty.
    pub errors: Vec<Error>,
    /// What was done; `positions.durable` is true.
    pub summary: Box<Summary>,
}

impl std::fmt::Display for CloseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for error in &self.errors {
            write!(f, "{error}; ")?;
        }
        write!(f, "the first {} bytes are durable", self.summary.positions.durable)
    }
}

impl std::error::Error for CloseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.errors.first().map(|error| error as _)
    }
}

/// The error that came first.
impl From<CloseError> for Error {
    fn from(error: CloseError) -> Self {
        error.errors.into_iter().next().unwrap_or(Error::Closed)
    }
}

impl From<CloseError> for std::io::Error {
    fn from(error: CloseError) -> Self {
        let kind = error.errors.first().map_or(std::io::ErrorKind::Other, Error::kind);
        std::io::Error::new(kind, error)
    }
}
