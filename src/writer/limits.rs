//! Calls of a producer that wait for a limited time.

use std::time::Duration;

use super::{SharedWriter, Writer};
use crate::error::Error;
use crate::summary::{CloseError, Summary};
use crate::sync::Instant;

impl Writer {
    /// As [`flush`](Self::flush), but waits for at most `limit`; `None` if not everything is durable by
    /// then: the fence goes on. When the caller drives the `Sync` backend, an operation in progress is
    /// not cut short.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # use std::time::Duration;
    /// let mut writer = writeflush::Options::new().create(directory.path().join("take"))?;
    /// writer.write(b"a record")?;
    /// match writer.flush_timeout(Duration::from_secs(10))? {
    ///     Some(durable) => assert_eq!(durable, 8),
    ///     None => eprintln!("the disk does not answer"),
    /// }
    /// # writer.close()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn flush_timeout(&mut self, limit: Duration) -> Result<Option<u64>, Error> {
        let by = Instant::now().checked_add(limit);
        self.repay_by(by);
        let through = self.core().flush_by(by)?;
        Ok(through.filter(|_| self.owed() == 0))
    }

    /// As [`close`](Self::close), but waits for at most `limit`, whatever the disk does. `None`: the
    /// close goes on, on a thread of its own, and nothing that was accepted is lost as long as the
    /// process lives. [`Control::close_timeout`](crate::Control::close_timeout) waits on for its end,
    /// [`Control::abandon`](crate::Control::abandon) makes it give up what is not on its way yet.
    ///
    /// Allocates, and starts that thread; where none can be had it is as `close`, and waits.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # use std::time::Duration;
    /// let mut writer = writeflush::Options::new().create(directory.path().join("take"))?;
    /// let control = writer.control().clone();
    /// writer.write(b"a record")?;
    /// match writer.close_timeout(Duration::from_secs(10))? {
    ///     Some(summary) => assert_eq!(summary.positions.durable, 8),
    ///     None => eprintln!("durable so far: {}", control.positions().durable),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub fn close_timeout(self, limit: Duration) -> Result<Option<Summary>, CloseError> {
        let core = self.control().core.clone();
        core.close_elsewhere(limit, || move || self.close())
    }
}

impl SharedWriter {
    /// As [`close`](Self::close), but waits for at most `limit`, as [`Writer::close_timeout`] does.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # use std::time::Duration;
    /// let writer = writeflush::Options::new().create(directory.path().join("take"))?.into_shared();
    /// writer.write(b"a record")?;
    /// if let Some(summary) = writer.close_timeout(Duration::from_secs(10))? {
    ///     assert_eq!(summary.positions.durable, 8);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub fn close_timeout(self, limit: Duration) -> Result<Option<Summary>, CloseError> {
        let core = self.control().core.clone();
        core.close_elsewhere(limit, || move || self.close())
    }
}
