//! What a killed writer had accepted, out of the ring file that outlived it.

use std::ops::Range;
use std::path::Path;
#[cfg(not(all(target_os = "linux", not(any(loom, shuttle)))))]
use std::sync::Arc;

use crate::error::Error;
use crate::options::Options;
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
use left::recover;

#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
mod found;
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
mod left;
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
mod steps;

/// What a recovery has brought from a ring file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Brought {
    /// The length of the file now.
    pub len: u64,
    /// Bytes that the file did not have: accepted, and not written.
    pub bytes: u64,
    /// Patches that were written over it, or once more.
    pub patches: u64,
    /// Bytes of shared producers that were being copied when the process died; no push of them had
    /// returned. In their place are those that had been copied, and zeros.
    pub interrupted: u64,
    /// Where those may lie, in steps of 4 KiB. All bytes elsewhere were accepted.
    pub uncertain: Vec<Range<u64>>,
}

/// [`Options::recover_ring`], with default options.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("take");
/// // When a recorder starts again, before anybody else reads what the killed one has left:
/// if let Some(brought) = writeflush::recover::ring("/dev/shm/recorder.ring", &path)? {
///     println!("{} bytes that were accepted have come to the file", brought.bytes);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`Options::recover_ring`].
pub fn ring(ring: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<Option<Brought>, Error> {
    Options::new().survive_kill(ring.as_ref()).recover_ring(path)
}

impl Options {
    /// Brings what a killed writer had accepted from its [ring file](Self::survive_kill) to its file:
    /// all bytes in their order, then the patches; makes them durable, cuts the file to its exact
    /// length, and takes the ring file away. `None`: there is no ring file, or nothing had been accepted.
    ///
    /// It may be killed at any moment, and run again. Blocks: writes as much as the buffers hold, and
    /// waits for the locks of both files as long as [`lock_wait`](Self::lock_wait) says. The memory is
    /// 3 MiB, and a five-hundredth of the buffers.
    ///
    /// # Errors
    /// [`Error::Locked`] while the writer lives; [`Error::Unrecoverable`] of a ring file that is
    /// damaged, belongs to another file, or to a file that others have written since: then neither is
    /// changed. [`Error::Options`] without [`survive_kill`](Self::survive_kill). [`Error::Io`]: another
    /// try goes on.
    pub fn recover_ring(&self, path: impl AsRef<Path>) -> Result<Option<Brought>, Error> {
        let Some(name) = &self.ring else {
            return Err(Error::Options("give survive_kill the ring file to recover".into()));
        };
        recover(self, name, path.as_ref())
    }
}

/// Refused with the options.
#[cfg(not(all(target_os = "linux", not(any(loom, shuttle)))))]
fn recover(options: &Options, _: &Arc<Path>, _: &Path) -> Result<Option<Brought>, Error> {
    options.check().map(|()| None)
}
