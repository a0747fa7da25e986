//! Who gets the name of a ring file, and who is refused.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::mapped::{Found, RingFile, open_found, remove};
use crate::buffers::Sizes;
use crate::error::{Error, Operation};
use crate::options::Options;

/// A new ring file of this name. What a writer has left that accepted nothing gives way; what a killed
/// one had accepted does not.
pub(crate) fn make(options: &Options, path: &Arc<Path>, sizes: Sizes) -> Result<RingFile, Error> {
    let failed = |error| Error::io(Operation::Start, path, error);
    let refused = |why: &str| Err(Error::Options(format!("{} {why}", path.display()).into()));
    const TRIES: usize = 16;
    for _ in 0..TRIES {
        match RingFile::create(path, sizes) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map_err(failed),
        }
        match found(options, path)? {
            Found::Rest(file) => remove(&file, path).map_err(failed)?,
            Found::Ring(_) => {
                return refused(
                    "holds what a killed writer had accepted: bring it to its file first (recover::ring, \
                     resume or append), or remove it",
                );
            }
            Found::Other => return refused("is no ring file: name one that is not there"),
            Found::Nothing | Found::Locked => {}
        }
    }
    Err(failed(io::ErrorKind::AlreadyExists.into()))
}

/// What has the name; waits for its lock as long as the options say, in pauses that grow.
pub(crate) fn found(options: &Options, path: &Arc<Path>) -> Result<Found, Error> {
    const LONGEST: Duration = Duration::from_millis(20);
    let (mut waited, mut pause) = (Duration::ZERO, Duration::from_millis(1));
    loop {
        let found = open_found(path).map_err(|error| Error::io(Operation::Start, path, error))?;
        if !matches!(found, Found::Locked) {
            return Ok(found);
        }
        if options.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let next = pause.min(options.lock_wait.saturating_sub(waited));
        if next.is_zero() {
            return Err(Error::Locked { path: path.clone(), waited });
        }
        options.host.pause(next);
        waited += next;
        pause = (pause * 2).min(LONGEST);
    }
}
