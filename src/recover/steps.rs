//! The order of a recovery's steps, apart from what carries them out: the tail is durable under its
//! own name before the file is cut.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::Operation;

/// What is to be done to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The end of the prefix, which stays.
    pub(crate) end: u64,
    /// The end of the tail, which is kept beside.
    pub(crate) tail: u64,
    /// The end of the file.
    pub(crate) len: u64,
    /// A close has made all of it durable.
    pub(crate) closed: bool,
    /// What is written then, and where: a header that describes the prefix.
    pub(crate) header: Vec<(u64, Vec<u8>)>,
}

/// A step that was refused.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) operation: Operation,
    pub(crate) source: io::Error,
}

pub(super) fn refused(operation: Operation) -> impl Fn(io::Error) -> Refused {
    move |source| Refused { operation, source }
}

/// What a file beside holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// It is not there.
    Nothing,
    /// Just the bytes of the tail.
    These,
    Others,
}

/// The file, and the directory that it lies in.
pub(crate) trait Ground {
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

    /// Writes over bytes of the file, or directly behind its end.
    fn overwrite(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// The file ends in nothing but data; returns whether it was said to.
    fn unmark(&mut self) -> io::Result<bool>;

    /// No ring file belongs to the file any more.
    fn unbind(&mut self) -> io::Result<()>;

    /// Flushes the file and its name.
    fn sync_file(&mut self) -> io::Result<()>;
}

/// Returns the name of the tail, if there is one. After an error another try ends the same way.
pub(crate) fn carry_out(ground: &mut impl Ground, plan: &Plan) -> Result<Option<PathBuf>, Refused> {
    // What a ring file has would not follow any more.
    ground.unbind().map_err(refused(Operation::Trim))?;
    let tail = plan.end..plan.tail;
    let kept = match tail.is_empty() {
        true => None,
        false => Some(keep(ground, tail).map_err(refused(Operation::KeepTail))?),
    };
    if plan.end < plan.len {
        ground.cut(plan.end).map_err(refused(Operation::Trim))?;
    }
    let unmarked = ground.unmark().map_err(refused(Operation::Trim))?;
    if unmarked || !plan.closed {
        ground.sync_file().map_err(refused(Operation::Flush))?;
    }
    // A header describes durable bytes only.
    for (at, bytes) in &plan.header {
        ground.overwrite(*at, bytes).map_err(refused(Operation::Write))?;
    }
    if !plan.header.is_empty() {
        ground.sync_file().map_err(refused(Operation::Flush))?;
    }
    Ok(kept)
}

fn keep(ground: &mut impl Ground, tail: Range<u64>) -> io::Result<PathBuf> {
    let suffix = format!(".torn-{}", tail.start);
    let part = ground.name(&format!("{suffix}.part"));
    let mut number = 1u64;
    let name = loop {
        let name = ground.name(&match number {
            1 => suffix.clone(),
            _ => format!("{suffix}-{number}"),
        });
        match ground.holds(&name, tail.clone())? {
            Holds::Others => number += 1,
            Holds::These => {
                ground.sync(&name)?;
                ground.sync_directory()?;
                return Ok(name);
            }
            Holds::Nothing => break name,
        }
    };
    ground.remove(&part)?;
    let copied = ground.copy(tail, &part).and_then(|()| ground.sync(&part));
    if let Err(error) = copied {
        let _ = ground.remove(&part); // the disk may be full: leave no more than was there
        return Err(error);
    }
    ground.rename(&part, &name)?;
    ground.sync_directory()?;
    Ok(name)
}
