//! The memory that direct I/O starts from.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::ptr::NonNull;

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
