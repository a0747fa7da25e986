//! The memory that direct I/O starts from.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// How much memory a floor writes from, and in what pages: where bytes lie decides what a direct
/// write of them costs, and that is not what a floor is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    len: usize,
    huge: bool,
}

impl Memory {
    const HUGE: usize = 2 << 20;

    /// As a writer has it by default: 2 MiB in huge pages, used from end to end and then again;
    /// more where the records are larger.
    pub fn like_a_writer(largest: usize) -> Self {
        Self { len: (largest + super::BLOCK).next_multiple_of(Self::HUGE), huge: true }
    }

    /// For records of this size and no more: where many committers have memory of their own.
    pub fn for_one(largest: usize) -> Self {
        Self { len: largest.next_multiple_of(super::BLOCK) + super::BLOCK, huge: false }
    }

    pub(super) fn allocate(self) -> Aligned {
        if self.huge { Aligned::huge(self.len) } else { Aligned::new(self.len) }
    }
}

/// Aligned memory, zeroed and faulted in.
#[derive(Debug)]
pub struct Aligned {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Aligned {}

impl Aligned {
    /// `len` bytes on a page boundary.
    ///
    /// # Panics
    /// If `len` is zero or the memory is not to be had.
    pub fn new(len: usize) -> Self {
        let layout = Layout::from_size_align(len, 4096).expect("a size that memory can have");
        assert!(len > 0);
        // SAFETY: the size is not zero.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("memory");
        let mut memory = Self { base, layout };
        memory.bytes().fill(1);
        memory
    }

    /// As [`new`](Self::new), in huge pages where the system has any: a direct write from them
    /// reaches the device in fewer requests.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn huge(len: usize) -> Self {
        let layout = Layout::from_size_align(len, 2 << 20).expect("a size that memory can have");
        assert!(len > 0);
        // SAFETY: the size is not zero; the advice names our own memory before its first touch,
        // which fills all of it.
        unsafe {
            let base = NonNull::new(alloc(layout)).expect("memory");
            libc::madvise(base.as_ptr().cast(), len, libc::MADV_HUGEPAGE);
            base.as_ptr().write_bytes(1, len);
            Self { base, layout }
        }
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: allocated with this size, initialised, borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}
