//! A ring file that somebody has left: read, judged, brought to its file, removed.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::Brought;
use super::found::{Image, Plan};
use super::steps::{Ring, carry_out};
use crate::error::{Error, Operation};
use crate::options::Options;
use crate::recover::{Beside, Locked};
use crate::survive::{self, Extent, Found, Head};

/// `None`: there is nothing to bring.
pub(super) fn recover(
    options: &Options,
    name: &Arc<Path>,
    path: &Path,
) -> Result<Option<Brought>, Error> {
    match survive::found(options, name)? {
        Found::Ring(file) => bring(options, &Left { name, file }, path).map(Some),
        Found::Rest(file) => {
            let removed = survive::remove(&file, name);
            removed.map_err(|error| Error::io(Operation::Remove, name, error)).map(|()| None)
        }
        Found::Nothing | Found::Locked => Ok(None),
        Found::Other => Err(refusal(name, "it is no ring file")),
    }
}

fn refusal(path: &Arc<Path>, why: &str) -> Error {
    Error::Unrecoverable { path: path.clone(), source: Arc::new(io::Error::other(why.to_owned())) }
}

/// A ring file that is open and locked.
struct Left<'a> {
    name: &'a Arc<Path>,
    file: File,
}

fn bring(options: &Options, left: &Left<'_>, path: &Path) -> Result<Brought, Error> {
    let unread = |error| Error::io(Operation::Read, left.name, error);
    let image = left.image().map_err(unread)?.map_err(|why| refusal(left.name, why))?;
    let plan = image.plan().map_err(|why| refusal(left.name, why))?;
    let locked = Locked::new(options, path)?;
    check(&image.head, &plan, &locked).map_err(unread)?.map_err(|why| refusal(left.name, why))?;
    let mut source = Source { left, image: &image };
    let mut ground = Beside::new(path, locked.file.clone());
    carry_out(&mut ground, &mut source, &plan, image.head.marked == 1)
        .map_err(|refused| Error::io(refused.operation, &path.into(), refused.source))?;
    Ok(Brought {
        len: plan.len,
        bytes: plan.bytes.end - plan.written,
        patches: plan.patches.len() as u64,
        interrupted: plan.interrupted,
        uncertain: plan.uncertain,
    })
}

type Judged<T> = io::Result<Result<T, &'static str>>;

/// Whether it is the very file that the ring belongs to, and nobody else has written it since.
fn check(head: &Head, plan: &Plan, locked: &Locked) -> Judged<()> {
    let is_its = locked.file.identity()? == [head.device, head.inode];
    Ok(match () {
        () if !is_its => Err("it belongs to another file"),
        () if locked.file.bond() != Some(head.bond) => {
            Err("others have written the file since: what the ring has is not what follows there")
        }
        () if locked.file.len()? < plan.written => {
            Err("the file is shorter than what was written to it: others have cut it")
        }
        () => Ok(()),
    })
}

impl Left<'_> {
    fn image(&self) -> Judged<Image> {
        let mut bytes = vec![0; Head::LEN];
        self.file.read_exact_at(&mut bytes, 0)?;
        let (head, extent) = match Image::head(&bytes) {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        if self.file.metadata()?.len() != extent.len {
            return Ok(Err("its length is not what it was"));
        }
        let mut control = Vec::new();
        let len = extent.control as usize;
        control.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        control.resize(len, 0);
        self.file.read_exact_at(&mut control, 0)?;
        Ok(Ok(Image { head, extent, control }))
    }
}

/// Where the bytes come from.
struct Source<'a> {
    left: &'a Left<'a>,
    image: &'a Image,
}

impl Ring for Source<'_> {
    fn read(&mut self, positions: Range<u64>) -> io::Result<Vec<u8>> {
        let extent: &Extent = &self.image.extent;
        let mut bytes = vec![0; (positions.end - positions.start) as usize];
        // Round the end of the ring.
        let first = (extent.capacity - positions.start % extent.capacity) as usize;
        let first = first.min(bytes.len());
        let (before, behind) = bytes.split_at_mut(first);
        self.left.file.read_exact_at(before, extent.place(positions.start))?;
        if !behind.is_empty() {
            self.left.file.read_exact_at(behind, extent.ring)?;
        }
        Ok(bytes)
    }

    fn patch(&self, place: Range<usize>) -> &[u8] {
        self.image.control.get(place).unwrap_or_default()
    }

    fn remove(&mut self) -> io::Result<()> {
        survive::remove(&self.left.file, self.left.name)
    }
}

#[cfg(test)]
mod tests;
