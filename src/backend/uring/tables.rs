//! What a ring holds of the files that it serves: descriptors, and pinned memory.
//!
//! A refusal costs speed only: operations name the descriptor, or the address, instead.

use std::io;
use std::os::fd::RawFd;

use super::ring::Ring;
use crate::backend::{FileId, Files};
use crate::buffers::Region;

/// The two tables of a ring.
#[derive(Debug)]
pub(super) struct Tables {
    kind: Kind,
    /// Why something of the file that came last is not held.
    pub(super) refused: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Made for the one file when it comes, with the end of a doorbell behind it if that needs one.
    One,
    /// Made empty, with so many places for files, that of a doorbell behind them, and for memory.
    Many { files: u32, memory: u32 },
}

/// What is held of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeldOf {
    /// Operations may name it by its number.
    pub(super) file: bool,
    pub(super) memory: Option<HeldMemory>,
}

/// Which buffer a region lies in, to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeldMemory {
    /// Each region is one.
    Regions,
    /// All of it is the one with this number.
    Whole(u16),
}

impl HeldMemory {
    pub(super) fn index_of(self, region: Region) -> u16 {
        match self {
            Self::Regions => region.index,
            Self::Whole(index) => index,
        }
    }
}

/// Files that a ring for many has places for: each takes one of the process's descriptors anyway, and
/// no table may be longer than their limit (RLIMIT_NOFILE).
const MOST: u32 = 1024;

/// The kernel takes no longer buffer.
const LONGEST: usize = 1 << 30;

impl Tables {
    /// Of a new ring. A `bell` that the ring has to hold gets a place in tables for many at once: the
    /// ring may have to hear it before the first file comes.
    pub(super) fn new(ring: &Ring, files: Files, bell: Option<RawFd>) -> io::Result<Self> {
        let kind = match files {
            Files::One => Kind::One,
            Files::Many => Self::empty(ring, bell)?,
        };
        Ok(Self { kind, refused: Vec::new() })
    }

    /// Empty tables, as large as the system lets them be. (Linux 5.19; without one nothing is held.)
    fn empty(ring: &Ring, bell: Option<RawFd>) -> io::Result<Kind> {
        let submitter = ring.submitter()?;
        let at_least = 1 + u32::from(bell.is_some());
        let mut files = MOST;
        let made = loop {
            match submitter.register_files_sparse(files) {
                Err(error)
                    if error.raw_os_error() == Some(libc::EMFILE) && files / 2 >= at_least =>
                {
                    files /= 2;
                }
                made => break made,
            }
        };
        match made {
            Ok(()) => files -= u32::from(bell.is_some()),
            // Without its doorbell it would never wake.
            Err(error) if bell.is_some() => return Err(error),
            Err(_) => files = 0,
        }
        if let Some(bell) = bell {
            submitter.register_files_update(files, &[bell])?;
        }
        let memory = if submitter.register_buffers_sparse(MOST).is_ok() { MOST } else { 0 };
        Ok(Kind::Many { files, memory })
    }

    /// The place of a doorbell's end.
    pub(super) fn place_of_bell(&self) -> u32 {
        match self.kind {
            Kind::One => 1,
            Kind::Many { files, .. } => files,
        }
    }

    /// Takes on a file and its memory; and the end of a doorbell, if it has not got that yet.
    ///
    /// # Errors
    /// Where a doorbell has to be held and can't.
    pub(super) fn hold(
        &mut self,
        ring: &Ring,
        id: FileId,
        number: RawFd,
        bell: Option<RawFd>,
        memory: &[Region],
    ) -> io::Result<HeldOf> {
        self.refused.clear();
        let file = self.hold_file(ring, id, number, bell)?;
        Ok(HeldOf { file, memory: self.hold_memory(ring, id, memory)? })
    }

    fn hold_file(
        &mut self,
        ring: &Ring,
        id: FileId,
        number: RawFd,
        bell: Option<RawFd>,
    ) -> io::Result<bool> {
        let submitter = ring.submitter()?;
        let held = match self.kind {
            Kind::One => {
                let numbers: Vec<_> = [number].into_iter().chain(bell).collect();
                match submitter.register_files(&numbers) {
                    Err(error) if bell.is_some() => return Err(error),
                    held => held,
                }
            }
            Kind::Many { files, .. } => {
                debug_assert!(bell.is_none(), "it has its place");
                match id.0 < files {
                    true => submitter.register_files_update(id.0, &[number]).map(drop),
                    false => Err(io::Error::other(format!("there are {files} places"))),
                }
            }
        };
        let refused = held.err().map(|error| format!("a registered file was refused ({error})"));
        self.refused.extend(refused.clone());
        Ok(refused.is_none())
    }

    fn hold_memory(
        &mut self,
        ring: &Ring,
        id: FileId,
        memory: &[Region],
    ) -> io::Result<Option<HeldMemory>> {
        let submitter = ring.submitter()?;
        let (held, kind) = match self.kind {
            Kind::One => {
                let iovecs: Vec<_> = memory.iter().map(|region| iovec(*region)).collect();
                // SAFETY: the driver keeps the memory until the ring is gone.
                let held = unsafe { submitter.register_buffers(&iovecs) };
                (held, HeldMemory::Regions)
            }
            Kind::Many { memory: places, .. } => {
                let whole = Region::around(memory);
                let held = if id.0 < places && whole.len <= LONGEST {
                    let whole = [iovec(whole)];
                    // SAFETY: the driver keeps the memory until it has detached the file.
                    unsafe { submitter.register_buffers_update(id.0, &whole, None) }
                } else {
                    Err(io::Error::other(format!("{places} places of at most 1 GiB")))
                };
                (held, HeldMemory::Whole(id.0 as u16))
            }
        };
        let refused = held.err().map(|error| super::buffers_refused(memory, &error));
        self.refused.extend(refused.clone());
        Ok(refused.is_none().then_some(kind))
    }

    /// Lets go of a file, of which nothing is under way.
    pub(super) fn let_go(&self, ring: &Ring, id: FileId, held: HeldOf) {
        let Kind::Many { .. } = self.kind else { return }; // with the ring
        let Ok(submitter) = ring.submitter() else { return };
        if held.file {
            let _ = submitter.register_files_update(id.0, &[-1]);
        }
        if held.memory.is_some() {
            let nothing = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
            // SAFETY: no memory.
            let _ = unsafe { submitter.register_buffers_update(id.0, &[nothing], None) };
        }
    }
}

fn iovec(region: Region) -> libc::iovec {
    libc::iovec { iov_base: region.address.cast(), iov_len: region.len }
}
