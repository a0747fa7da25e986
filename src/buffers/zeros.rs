//! Bytes that are zero and can't be anything else: memory that may be read only, and that the system
//! made. (Others have written what lay in theirs.)
#![allow(unsafe_code)]

use std::sync::OnceLock;

use crate::canary::Canary;

/// So many at a time: a longer write holds up whoever reads or writes beside it.
pub(crate) const ZEROS: usize = 1 << 20;

/// So many of them, aligned for direct I/O; they take no memory where the system has a page of zeros.
/// Only where there [are](are_there) any.
pub(crate) fn zeros(len: usize) -> &'static [u8] {
    if Canary::DirtyZeros.is_planted() {
        static DIRTY: OnceLock<Vec<u8>> = OnceLock::new();
        let dirty = DIRTY.get_or_init(|| vec![0xAA; ZEROS + ALIGN]);
        return &dirty[dirty.as_ptr().align_offset(ALIGN)..][..len];
    }
    &all()[..len]
}

/// Whether the system gives such memory.
pub(crate) fn are_there() -> bool {
    !all().is_empty()
}

const ALIGN: usize = crate::file::MAX_BLOCK;

#[cfg(unix)]
fn all() -> &'static [u8] {
    struct Mapped(&'static [u8]);
    static ALL: OnceLock<Mapped> = OnceLock::new();
    let map = || {
        let (len, protection) = (ZEROS + ALIGN, libc::PROT_READ);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, wherever the system likes.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Mapped(&[]);
        }
        // SAFETY: mapped for ever, readable, zero; nobody can write there.
        Mapped(unsafe { std::slice::from_raw_parts(address.cast(), len) })
    };
    let all = ALL.get_or_init(map).0;
    let skip = all.as_ptr().align_offset(ALIGN);
    if all.is_empty() { all } else { &all[skip..][..ZEROS] }
}

/// Not asked for there.
#[cfg(not(unix))]
fn all() -> &'static [u8] {
    &[]
}
