//! The mark of a file that a writer has open and that may end in zeros which are no data: padding of
//! direct I/O, or space ahead. An extended attribute (xattr(7)): it is set, durably, before the first
//! such zero, and taken away by the close, so that it tells a killed writer's file from a closed one.

use std::io;

use super::handle::Handle;

/// What the zeros at the end of a marked file may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The rest of a block of direct I/O.
    Padding,
    /// Space or zeros ahead of the data, of any length.
    Ahead,
}

/// The smallest block of direct I/O: a file that is no multiple of it does not end in padding.
const LEAST_BLOCK: u64 = 4096;
const LARGEST_BLOCK: u64 = super::open::MAX_BLOCK as u64;

/// How the data of a file ends whose writer was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// The end of the file, or its first hole: of writes that are under way together a later one may end
    /// first, and a kill, or a full disk, leaves nothing in the place of the other.
    pub at: u64,
    /// Where the zeros begin before that of which nothing tells whether they are data: padding, or space
    /// ahead. `at`: there are none.
    pub zeros: u64,
}

/// The end of a marked file of this length. Below `known` there is no hole but the writer's own. Reads
/// the zeros, through the page cache.
pub(crate) fn end_of_marked(
    file: &dyn Handle,
    mark: Mark,
    known: u64,
    len: u64,
) -> io::Result<End> {
    let at = file.hole(known)?.unwrap_or(len);
    let least = match mark {
        Mark::Padding if !at.is_multiple_of(LEAST_BLOCK) => at,
        Mark::Padding => at.saturating_sub(LARGEST_BLOCK),
        Mark::Ahead => 0,
    };
    Ok(End { at, zeros: end_of_data(file, least, at)? })
}

/// The end of the last byte in `least..len` that is not zero; `least` if there is none.
pub(crate) fn end_of_data(file: &dyn Handle, least: u64, len: u64) -> io::Result<u64> {
    let mut piece = vec![0; 64 << 10];
    let mut end = len;
    while end > least {
        let at = end.saturating_sub(piece.len() as u64).max(least);
        let found = file.read_at(&mut piece[..(end - at) as usize], at)?;
        if let Some(last) = piece[..found].iter().rposition(|byte| *byte != 0) {
            return Ok(at + last as u64 + 1);
        }
        end = at;
    }
    Ok(least)
}

#[cfg(target_os = "linux")]
pub(super) use xattr::{bond, get, set, set_bond};

#[cfg(target_os = "linux")]
mod xattr {
    #![allow(unsafe_code)]

    use std::ffi::CStr;
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;

    use super::Mark;
    use crate::survive::Bond;

    const NAME: &CStr = c"user.writeflush";
    /// Of the ring file that belongs to the file.
    const RING: &CStr = c"user.writeflush.ring";

    fn text(mark: Mark) -> &'static [u8] {
        match mark {
            Mark::Padding => b"padding",
            Mark::Ahead => b"ahead",
        }
    }

    fn checked(result: i64) -> io::Result<usize> {
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    /// Sets an attribute, or takes it away.
    fn put(file: &File, name: &CStr, value: Option<&[u8]>) -> io::Result<()> {
        let fd = file.as_raw_fd();
        // SAFETY: a live descriptor, a live name and value.
        let result = checked(i64::from(unsafe {
            match value {
                Some(value) => {
                    libc::fsetxattr(fd, name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
                }
                None => libc::fremovexattr(fd, name.as_ptr()),
            }
        }));
        match result {
            Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(()),
            result => result.map(drop),
        }
    }

    /// As much of an attribute as has room; `None` also where the file system has none.
    fn look<'a>(file: &File, name: &CStr, value: &'a mut [u8]) -> Option<&'a [u8]> {
        let place = value.as_mut_ptr().cast();
        // SAFETY: a live descriptor and name, and as many writable bytes.
        let len = checked(unsafe {
            libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), place, value.len()) as i64
        });
        value.get(..len.ok()?)
    }

    /// Sets the mark, or takes it away.
    pub(in super::super) fn set(file: &File, mark: Option<Mark>) -> io::Result<()> {
        put(file, NAME, mark.map(text))
    }

    /// The mark of a file; `None` also where the file system has none.
    pub(in super::super) fn get(file: &File) -> Option<Mark> {
        let mut value = [0; 16];
        let found = look(file, NAME, &mut value)?;
        [Mark::Padding, Mark::Ahead].into_iter().find(|mark| text(*mark) == found)
    }

    /// Sets the bond, or takes it away.
    pub(in super::super) fn set_bond(file: &File, bond: Option<Bond>) -> io::Result<()> {
        put(file, RING, bond.as_ref().map(|bond| &bond[..]))
    }

    pub(in super::super) fn bond(file: &File) -> Option<Bond> {
        let mut value = Bond::default();
        look(file, RING, &mut value)?.try_into().ok()
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn set(_file: &std::fs::File, mark: Option<Mark>) -> io::Result<()> {
    match mark {
        Some(_) => Err(io::ErrorKind::Unsupported.into()),
        None => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn get(_file: &std::fs::File) -> Option<Mark> {
    None
}
