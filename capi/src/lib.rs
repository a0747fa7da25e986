//! writeflush for C. The headers in `include` are generated from this crate and say all that a user
//! has to know: `writeflush.h`, and `writeflush_mmio.h` of [`mmio`].
//!
//! What crosses the border: numbers, and pointers that are looked at only within the call (but for
//! the memory of a grant). A writer, or a driver, is a number ([`slots`]), so that a closed or foreign
//! one is an error; a struct comes with its size ([`sized`]), so that the library and its user may be of
//! different age; a panic is [`WF_PANIC`](wf_status::WF_PANIC), and poisons the writer.
#![allow(unsafe_code)]
#![allow(non_camel_case_types, reason = "C names")]

mod drivers;
mod facts;
mod failure;
mod fences;
mod mmio;
mod open;
mod options;
mod producer;
mod push;
mod recover;
mod segments;
mod sized;
mod slots;
mod space;
#[cfg(all(test, not(loom), target_os = "linux"))]
mod tests;

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use failure::{closed, invalid, panicked};
use open::Open;
use slots::Slots;

pub use drivers::*;
pub use facts::*;
pub use failure::wf_status;
pub use fences::*;
pub use mmio::*;
pub use open::*;
pub use options::*;
pub use push::*;
pub use recover::*;
pub use segments::*;
pub use space::*;

/// A writer that is open. 0 is none. Any thread may use it, several at once; a number that was
/// closed is refused for ever.
pub type wf_writer = u64;

/// More than anybody opens, and a megabyte of memory at most.
const WRITERS: usize = 4096;

#[cfg(not(loom))]
static OPEN: Slots<Open, WRITERS> = Slots::new();
/// Loom's atomics are made at run time.
#[cfg(loom)]
static OPEN: std::sync::LazyLock<Slots<Open, WRITERS>> = std::sync::LazyLock::new(Slots::new);

/// Does something with an open writer.
///
/// A panic is a defect of the library. It may leave a hole in the file that no fence gets past, so
/// that the writer is poisoned, and whoever waits is let go.
fn with(writer: wf_writer, call: impl FnOnce(&Open) -> wf_status) -> wf_status {
    let Some(open) = OPEN.get(writer) else { return closed() };
    catch_unwind(AssertUnwindSafe(|| call(&open))).unwrap_or_else(|_| {
        // If even this panics, there is nothing left to be done.
        let _ = catch_unwind(AssertUnwindSafe(|| open.control.panicked()));
        panicked()
    })
}

/// The bytes of a call.
///
/// # Safety
/// `bytes` is null or points to `len` bytes.
unsafe fn slice<'a>(bytes: *const c_void, len: usize) -> Result<&'a [u8], wf_status> {
    match len {
        0 => Ok(&[]),
        _ if bytes.is_null() => Err(invalid("the pointer to the bytes is null")),
        _ if len > isize::MAX as usize => Err(invalid("a count is negative, or absurd")),
        // SAFETY: the caller's promise.
        _ => Ok(unsafe { std::slice::from_raw_parts(bytes.cast(), len) }),
    }
}

/// Puts a result where the caller wants it.
///
/// # Safety
/// `place` is null or writable, of any alignment.
unsafe fn put<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: the caller's promise.
        unsafe { place.write_unaligned(value) };
    }
}

/// Copies a text to a buffer with a zero at its end, cut to what fits; returns the bytes that it
/// needs, the zero included.
///
/// # Safety
/// `buffer` is null or points to `size` writable bytes.
unsafe fn copy_text(text: &[u8], buffer: *mut c_char, size: usize) -> usize {
    if let Some(room) = size.checked_sub(1)
        && !buffer.is_null()
    {
        // Never in the middle of a character: where the next byte goes on with one.
        let fits = |&end: &usize| text.get(end).is_none_or(|byte| byte & 0xC0 != 0x80);
        let len = (0..=text.len().min(room)).rev().find(fits).unwrap_or(0);
        // SAFETY: `len` and a zero fit; the caller's promise.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), len);
            buffer.add(len).write(0);
        }
    }
    text.len() + 1
}
