//! What one push takes: a slice, or a record in several parts.
#![allow(unsafe_code)]

use std::io::IoSlice;

use crate::buffers::Memory;
use crate::error::Error;

/// A part of a record: `&[u8]`, or an [`IoSlice`] of `std::io`. See
/// [`Writer::try_write_parts`](crate::Writer::try_write_parts).
///
/// # Safety
/// `bytes` gives the same slice at every call, and never panics: a push looks at the lengths first,
/// and what it has taken a place for it has to copy.
pub unsafe trait Part {
    /// The bytes of the part. No wait, no allocation.
    fn bytes(&self) -> &[u8];
}

// SAFETY: a slice is itself.
unsafe impl Part for &[u8] {
    fn bytes(&self) -> &[u8] {
        self
    }
}

// SAFETY: it is a slice that can't be changed.
unsafe impl Part for IoSlice<'_> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// The bytes of one push. Each kind has its own code, so that one slice costs what it always did.
pub(super) trait Record: Copy {
    fn len(self) -> usize;

    /// Hands over part after part, as long as `act` takes them.
    fn try_each(self, act: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error>;

    /// Copies all of it to the ring, from `offset` on.
    ///
    /// # Safety
    /// As [`Memory::copy_in_at`], for all of its bytes.
    unsafe fn copy_in_at(self, memory: &Memory, offset: usize);
}

impl Record for &[u8] {
    #[inline]
    fn len(self) -> usize {
        self.len()
    }

    fn try_each(self, mut act: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        act(self)
    }

    #[inline]
    unsafe fn copy_in_at(self, memory: &Memory, offset: usize) {
        // SAFETY: passed on.
        unsafe { memory.copy_in_at(offset, self) }
    }
}

/// Several parts, and their length in all.
pub(super) struct Parts<'a, P> {
    parts: &'a [P],
    len: usize,
}

impl<P> Clone for Parts<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Parts<'_, P> {}

impl<'a, P: Part> Parts<'a, P> {
    /// More than any file holds, and than memory can be: one part may be there many times.
    const MOST: usize = isize::MAX as usize / 2;

    pub(super) fn new(parts: &'a [P]) -> Result<Self, Error> {
        let sum = parts.iter().try_fold(0usize, |sum, part| {
            sum.checked_add(part.bytes().len()).filter(|&sum| sum <= Self::MOST)
        });
        match sum {
            Some(len) => Ok(Self { parts, len }),
            None => Err(Error::TooLong { offered: usize::MAX, limit: Self::MOST }),
        }
    }
}

impl<P: Part> Record for Parts<'_, P> {
    fn len(self) -> usize {
        self.len
    }

    fn try_each(self, act: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        self.parts.iter().map(Part::bytes).try_for_each(act)
    }

    unsafe fn copy_in_at(self, memory: &Memory, mut offset: usize) {
        for part in self.parts {
            let part = part.bytes();
            // SAFETY: passed on.
            unsafe { memory.copy_in_at(offset, part) };
            offset += part.len();
            if offset >= memory.capacity() {
                offset -= memory.capacity();
            }
        }
    }
}

#[cfg(all(test, target_os = "linux", not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// One slice may be there many times, so a sum may be more than memory, and than a file.
    #[test]
    fn parts_that_are_more_than_any_file_holds_are_refused() {
        const LEN: usize = 1 << (usize::BITS - 19);
        let (read, how) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let how = how | libc::MAP_NORESERVE;
        // SAFETY: a mapping of our own, which reads as zeros and is never touched.
        let bytes = unsafe {
            let address = libc::mmap(std::ptr::null_mut(), LEN, read, how, -1, 0);
            assert_ne!(address, libc::MAP_FAILED);
            std::slice::from_raw_parts(address.cast::<u8>(), LEN)
        };
        let many = vec![bytes; 1 << 17];
        assert_eq!(Parts::new(&many[..4]).map(Record::len).ok(), Some(4 * LEN));
        let refused = Parts::new(&many).map(Record::len).unwrap_err();
        assert!(matches!(refused, Error::TooLong { offered: usize::MAX, .. }), "{refused}");
        // SAFETY: mapped above, and nobody has it any more.
        unsafe { libc::munmap(bytes.as_ptr().cast_mut().cast(), LEN) };
    }
}
