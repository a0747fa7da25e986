//! What a recording that began in the past is written with.

use std::time::Duration;

use crate::error::Error;
use crate::overrun::OnFull;
use crate::{segments, summary};

/// Takes what is kept, and what comes behind it, record by record. All of it is called on the keeper's
/// thread.
///
/// A [`Writer`](crate::Writer) of one file is one, and a [`segments::Writer`]; each record is one push to
/// them. Write it for a type of your own where records become something else, as
/// [`frames`](crate::frames).
pub trait Recording: Send + 'static {
    /// What its close tells.
    type Summary: Clone + Send + 'static;

    /// Whether a write waits until there is room. If not, the trigger fails: what would be lost is most
    /// of the past, which comes faster than any disk.
    fn waits(&self) -> bool {
        true
    }

    /// Takes a record; waits for room. An error ends the recording.
    ///
    /// # Errors
    /// Those of what is written to.
    fn write(&mut self, record: &[u8]) -> Result<(), Error>;

    /// So many bytes were lost before what comes next.
    fn lose(&mut self, bytes: u64);

    /// Ends it, durably: what was done, and every error.
    fn close(self) -> (Self::Summary, Vec<Error>);
}

impl Recording for crate::Writer {
    type Summary = crate::Summary;

    fn waits(&self) -> bool {
        self.policy() == OnFull::Block
    }

    fn write(&mut self, record: &[u8]) -> Result<(), Error> {
        crate::Writer::write(self, record).map(drop)
    }

    fn lose(&mut self, bytes: u64) {
        crate::Writer::lose(self, usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    fn close(self) -> (Self::Summary, Vec<Error>) {
        match crate::Writer::close(self) {
            Ok(summary) => (summary, Vec::new()),
            Err(summary::CloseError { errors, summary, .. }) => (*summary, errors),
        }
    }
}

impl Recording for segments::Writer {
    type Summary = segments::Summary;

    fn waits(&self) -> bool {
        self.policy() == OnFull::Block
    }

    /// What is kept comes faster than files are made.
    fn write(&mut self, record: &[u8]) -> Result<(), Error> {
        const LONGEST: Duration = Duration::from_secs(1);
        self.wait_for_next(record.len(), LONGEST)?;
        segments::Writer::write(self, record).map(drop)
    }

    fn lose(&mut self, bytes: u64) {
        segments::Writer::lose(self, usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    fn close(self) -> (Self::Summary, Vec<Error>) {
        match segments::Writer::close(self) {
            Ok(summary) => (summary, Vec::new()),
            Err(segments::CloseError { errors, summary, .. }) => (*summary, errors),
        }
    }
}
