//! The order of a recovery's steps, apart from what carries them out: the tail is durable under its
//! own name before the file is cut.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::super::error::Error;

/// What is to be done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The end of the prefix, which stays.
    pub(super) end: u64,
    /// The end of the tail, which is kept beside.
    pub(super) tail: u64,
    /// The end of the file.
    pub(super) len: u64,
    /// A close has made all of it durable.
    pub(super) closed: bool,
}

/// What a file beside holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// It is not there.
    Nothing,
    /// Just the bytes of the tail.
    These,
    Others,
}

/// The file, and the directory that it lies in.
pub(super) trait Ground {
    /// The name of a file beside, from what is put behind the name of the file.
    fn name(&self, suffix: &str) -> PathBuf;

    fn holds(&mut self, name: &Path, tail: Range<u64>) -> io::Result<Holds>;

    /// Takes a file beside away, if it is there.
    fn remove(&mut self, name: &Path) -> io::Result<()>;

    /// Copies the tail to a new file beside.
    fn copy(&mut self, tail: Range<u64>, name: &Path) -> io::Result<()>;

    /// Flushes a file beside.
    fn sync(&mut self, name: &Path) -> io::Result<()>;

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;

    /// Flushes the directory of the files beside.
    fn sync_directory(&mut self) -> io::Result<()>;

    fn cut(&mut self, len: u64) -> io::Result<()>;

    /// The file ends in nothing but data; returns whether it was said to.
    fn unmark(&mut self) -> io::Result<bool>;

    /// Flushes the file and its name.
    fn sync_file(&mut self) -> io::Result<()>;
}

/// Returns the name of the tail, if there is one. After an error another try ends the same way.
pub(super) fn carry_out(ground: &mut impl Ground, plan: &Plan) -> Result<Option<PathBuf>, Error> {
    let tail = plan.end..plan.tail;
    let kept = match tail.is_empty() {
        true => None,
        false => Some(keep(ground, tail)?),
    };
    if plan.end < plan.len {
        ground.cut(plan.end).map_err(|error| Error::io("cut the tail off", None, error))?;
    }
    let unmarked = ground.unmark().map_err(|error| Error::io("unmark", None, error))?;
    if unmarked || !plan.closed {
        ground.sync_file().map_err(|error| Error::io("flush", None, error))?;
    }
    Ok(kept)
}

fn keep(ground: &mut impl Ground, tail: Range<u64>) -> Result<PathBuf, Error> {
    let failed = |error| Error::io("keep the tail of", None, error);
    let suffix = format!(".torn-{}", tail.start);
    let part = ground.name(&format!("{suffix}.part"));
    let mut number = 1u64;
    let name = loop {
        let name = ground.name(&match number {
            1 => suffix.clone(),
            _ => format!("{suffix}-{number}"),
        });
        match ground.holds(&name, tail.clone()).map_err(failed)? {
            Holds::Others => number += 1,
            Holds::These => {
                ground.sync(&name).map_err(failed)?;
                ground.sync_directory().map_err(failed)?;
                return Ok(name);
            }
            Holds::Nothing => break name,
        }
    };
    ground.remove(&part).map_err(failed)?;
    let copied = ground.copy(tail, &part).and_then(|()| ground.sync(&part));
    if let Err(error) = copied {
        let _ = ground.remove(&part); // the disk may be full: leave no more than was there
        return Err(failed(error));
    }
    ground.rename(&part, &name).map_err(failed)?;
    ground.sync_directory().map_err(failed)?;
    Ok(name)
}
