//! A writer that waits for space on the medium (`WF_ON_DISK_FULL_WAIT`).
#![allow(unsafe_code)]

use crate::failure::{invalid, wf_status};
use crate::{put, wf_writer, with};
use wf_status::*;

/// Whether the medium is full, and the writer waits for space (`WF_ON_DISK_FULL_WAIT`): 1 or 0 to
/// `*is_waiting`; always 0 of one that has failed.
///
/// No wait, no lock, no allocation, no system call. Any thread. `WF_INVALID` (null), `WF_CLOSED`,
/// `WF_PANIC`.
///
/// # Safety
/// `is_waiting` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_is_waiting_for_space(
    writer: wf_writer,
    is_waiting: *mut u32,
) -> wf_status {
    with(writer, |open| {
        if is_waiting.is_null() {
            return invalid("the pointer to the answer is null");
        }
        // SAFETY: the caller's promise.
        unsafe { put(is_waiting, open.control.is_waiting_for_space().into()) };
        WF_OK
    })
}

/// From now on nobody waits for space: a full medium ends the stream, as with
/// `WF_ON_DISK_FULL_FAIL`. For a recorder that has to end although the medium stays full: what waits
/// for a fence then hears so (`WF_IO`), and a `wf_checkpoint` behind it writes the header of what is
/// durable.
///
/// No wait, no lock, no allocation; may make a system call, to wake the driver. Any thread.
/// `WF_CLOSED`, `WF_PANIC`.
#[unsafe(no_mangle)]
pub extern "C" fn wf_stop_waiting_for_space(writer: wf_writer) -> wf_status {
    with(writer, |open| {
        open.control.stop_waiting_for_space();
        WF_OK
    })
}
