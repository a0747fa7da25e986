//! What a killed writer has left in a file.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::io;

use rust::{Error, frames, recover};

use crate::failure::{failed_apart, guarded, invalid, refuse_with, wf_status};
use crate::open::path_of;
use crate::{put, sized};
use wf_status::*;

/// Messages in frames: of `wf_segments_options.framed`, or of the crate's `frames`.
pub const WF_RECOVER_FRAMES: u32 = 1;
/// A WAV or RF64 file: whole sample frames stay, and the header says how many.
pub const WF_RECOVER_WAVE: u32 = 2;

/// What a recovery has found and done.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct wf_recovered {
    /// Bytes that stay.
    pub kept: u64,
    /// Bytes that were cut off: the damaged end, and zeros.
    pub cut: u64,
    /// Bytes of the damaged end, which is kept beside the file as `NAME.torn-OFFSET`; 0: there was none.
    pub torn: u64,
    /// Bytes that ought to be there and are not; of frames: messages.
    pub missing: u64,
    /// Of `WF_RECOVER_FRAMES`: whole frames that stay; else 0.
    pub frames: u64,
    /// Of `WF_RECOVER_FRAMES`: the number that the next frame will have; else 0.
    pub next_sequence: u64,
}

/// Recovers a file whose writer was killed: finds what is whole, keeps the damaged end beside it as
/// `NAME.torn-OFFSET`, durably, and only then cuts it off. A second call changes nothing. Tells of it to a
/// `wf_recovered` of `size` bytes (its sizeof; null with 0: nobody wants it). `kind`: `WF_RECOVER_...`.
///
/// Blocks: reads the file once (of closed frames only the end), and writes as much as the end has. Allocates.
/// Any thread. `WF_LOCKED` while a writer has the file; `WF_INVALID` also if it is no such file: nothing has
/// been changed then. `WF_IO`, `WF_TOO_LONG` (a frame of more than 64 MiB), `WF_PANIC`.
///
/// # Safety
/// `path` is null or a string that ends with a zero; `found` is null or points to `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_recover(
    path: *const c_char,
    kind: u32,
    found: *mut wf_recovered,
    size: usize,
) -> wf_status {
    guarded(|| {
        if path.is_null() {
            return invalid("the pointer to the path is null");
        }
        if !found.is_null()
            && let Err(status) = sized::check(size)
        {
            return status;
        }
        // SAFETY: the caller's promise.
        let recovered = path_of(unsafe { CStr::from_ptr(path) }).and_then(|path| match kind {
            WF_RECOVER_FRAMES => of_frames(&path),
            WF_RECOVER_WAVE => of_wave(&path),
            _ => Err(invalid("the kind is none of WF_RECOVER_...")),
        });
        match recovered {
            Ok(_) if found.is_null() => WF_OK,
            Ok(recovered) => {
                // SAFETY: the caller's promise; the struct has no padding.
                unsafe { sized::put(found, size, &recovered) };
                WF_OK
            }
            Err(status) => status,
        }
    })
}

/// Brings what a killed writer had accepted from its ring file (`wf_options.survive_kill`) to its file: all
/// bytes in their order, then the patches; makes them durable, cuts the file to its exact length, and takes
/// the ring file away. Puts the bytes that were brought to `*bytes` (null: nobody wants it); 0 also if there
/// is no ring file, or nothing had been accepted.
///
/// It may be killed at any moment, and called again. Blocks: writes as much as the buffers hold. Allocates
/// some 3 MiB. Any thread. `WF_LOCKED` while the writer lives; `WF_INVALID` of a ring file that is damaged,
/// belongs to another file, or to one that others have written since: nothing has been changed then. `WF_IO`:
/// another try goes on. `WF_PANIC`.
///
/// # Safety
/// `ring` and `path` are null or strings that end with a zero; `bytes` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_recover_ring(
    ring: *const c_char,
    path: *const c_char,
    bytes: *mut u64,
) -> wf_status {
    guarded(|| {
        if ring.is_null() || path.is_null() {
            return invalid("the pointer to the ring file, or to the path, is null");
        }
        // SAFETY: the caller's promise.
        let names = unsafe { [CStr::from_ptr(ring), CStr::from_ptr(path)] }.map(path_of);
        let (ring, path) = match names {
            [Ok(ring), Ok(path)] => (ring, path),
            [Err(status), _] | [_, Err(status)] => return status,
        };
        match recover::ring(ring, path) {
            Ok(brought) => {
                // SAFETY: the caller's promise.
                unsafe { put(bytes, brought.map_or(0, |brought| brought.bytes)) };
                WF_OK
            }
            Err(error) => not_judged(&error),
        }
    })
}

fn of_frames(path: &std::path::Path) -> Result<wf_recovered, wf_status> {
    let found = frames::recover(path).map_err(|error| refused(&error))?;
    Ok(wf_recovered {
        kept: found.kept,
        cut: found.cut,
        torn: found.torn.map_or(0, |torn| torn.bytes),
        missing: found.missing,
        frames: found.frames,
        next_sequence: found.next_sequence,
    })
}

fn of_wave(path: &std::path::Path) -> Result<wf_recovered, wf_status> {
    let found = recover::recover(path, recover::wave).map_err(|error| not_judged(&error))?;
    Ok(wf_recovered {
        kept: found.kept,
        cut: found.cut,
        torn: found.torn.map_or(0, |torn| torn.bytes),
        missing: found.missing,
        ..wf_recovered::default()
    })
}

/// A file that is not what it ought to be is the caller's mistake.
fn not_judged(error: &Error) -> wf_status {
    match error {
        Error::Unrecoverable { .. } => refuse_with(WF_INVALID, error.to_string(), 0),
        error => failed_apart(error),
    }
}

/// What frames refuse.
pub(crate) fn refused(error: &frames::Error) -> wf_status {
    let status = match error {
        frames::Error::Writer(error) => return failed_apart(error),
        frames::Error::TooLong { .. } => WF_TOO_LONG,
        frames::Error::Io { .. } => WF_IO,
        error if error.kind() == io::ErrorKind::Other => WF_IO,
        _ => WF_INVALID,
    };
    refuse_with(status, error.to_string(), error.raw_os_error().unwrap_or(0))
}
