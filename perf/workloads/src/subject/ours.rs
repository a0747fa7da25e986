//! writeflush: every backend with every drive. One committer owns its writer; several share one.

use std::io;
use std::sync::{Mutex, PoisonError};

use writeflush::{BackendChoice, Control, Direct, Drive, Medium, Options, SharedWriter, Writer};

use super::{Class, Family, Kind, Open, Place, Subject};
use crate::FileState;

const URING: &str = "floor io_uring write DSYNC";
const SYNC: &str = "floor pwritev2 DSYNC";

pub(super) const KINDS: [Kind; 6] = [
    kind("writeflush io_uring caller", URING, |p| ours(p, BackendChoice::Uring, Drive::Caller)),
    kind("writeflush io_uring thread", URING, |p| ours(p, BackendChoice::Uring, Drive::Thread)),
    spinning(kind("writeflush io_uring poll", URING, |p| {
        ours(p, BackendChoice::Uring, Drive::Poll)
    })),
    kind("writeflush sync caller", SYNC, |p| ours(p, BackendChoice::Sync, Drive::Caller)),
    kind("writeflush sync thread", SYNC, |p| ours(p, BackendChoice::Sync, Drive::Thread)),
    spinning(kind("writeflush sync poll", SYNC, |p| ours(p, BackendChoice::Sync, Drive::Poll))),
];

const fn kind(name: &'static str, floor: &'static str, open: Open) -> Kind {
    let floor = if cfg!(target_os = "linux") { Some(floor) } else { None };
    Kind { name, family: Family::Writeflush, class: Class::Durable, floor, spins: false, open }
}

const fn spinning(kind: Kind) -> Kind {
    Kind { spins: true, ..kind }
}

enum Ours {
    One(Mutex<Writer>),
    Many(SharedWriter),
}

fn ours(place: &Place<'_>, backend: BackendChoice, drive: Drive) -> io::Result<Box<dyn Subject>> {
    let direct = if place.direct { Direct::Auto } else { Direct::Off };
    writer(place, &Options::new().backend(backend).drive(drive).direct(direct))
}

/// A writer with these options as a subject.
///
/// # Errors
/// What it says at open.
pub fn writer(place: &Place<'_>, options: &Options) -> io::Result<Box<dyn Subject>> {
    let writer = match place.state {
        FileState::Growing => options.create(place.path)?,
        FileState::Reserved | FileState::Written => options.open(place.path)?,
    };
    Ok(Box::new(match place.committers {
        1 => Ours::One(Mutex::new(writer)),
        _ => Ours::Many(writer.into_shared()),
    }))
}

impl Subject for Ours {
    fn commit(&self, _committer: usize, record: &[u8]) -> io::Result<()> {
        match self {
            Self::One(writer) => {
                writer.lock().unwrap_or_else(PoisonError::into_inner).write_flush(record)?
            }
            Self::Many(writer) => writer.write_flush(record)?,
        };
        Ok(())
    }

    fn flushes(&self) -> Option<u64> {
        Some(self.control().stats().flushes)
    }

    fn medium(&self) -> Option<Medium> {
        Some(self.control().durability().medium)
    }
}

impl Ours {
    fn control(&self) -> Control {
        match self {
            Self::One(writer) => {
                writer.lock().unwrap_or_else(PoisonError::into_inner).control().clone()
            }
            Self::Many(writer) => writer.control().clone(),
        }
    }
}
