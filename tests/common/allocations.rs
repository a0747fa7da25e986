//! How often a thread calls the allocator. Whoever includes this counts in the whole program.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNTING: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Counts what a thread that asked for it allocates and frees.
struct Counting;

impl Counting {
    fn note() {
        if COUNTING.get() {
            COUNT.set(COUNT.get() + 1);
        }
    }
}

// SAFETY: everything is passed on to the system's allocator; the counters are plain cells without
// destructors, which neither allocate nor run after the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::note();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls of the allocator during `work`.
pub fn allocations(work: impl FnOnce()) -> u64 {
    COUNT.set(0);
    COUNTING.set(true);
    work();
    COUNTING.set(false);
    COUNT.get()
}
