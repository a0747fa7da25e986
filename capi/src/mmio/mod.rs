//! The MMIO procedure, for C: what `writeflush_mmio.h` holds is all in this folder.

#[cfg(windows)]
mod winmm;

use std::ffi::c_void;
use std::time::Duration;

use rust::Options;
use rust::mmio::{Settings, io_procedure};

use crate::failure::{guarded, invalid, wf_status};
use crate::options::{unless_zero, wf_options};
use crate::sized;

/// The I/O procedure of MMIO messages: for `mmioInstallIOProc` on Windows (where `info` is the
/// `MMIOINFO` of mmsystem.h), for a program's own dispatcher everywhere (`wf_mmioinfo`). A WRITE
/// copies and returns; a WRITEFLUSH returns when its bytes, and all before them, are durable; both
/// return the bytes taken or -1 and leave lDiskOffset at the new position.
///
/// # Safety
/// As mmsystem.h asks: `info` is null or points to a live MMIOINFO, names end with a zero, a buffer
/// holds as many bytes as its count says.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn wf_mmio_procedure(
    info: *mut c_void,
    message: u32,
    first: isize,
    second: isize,
) -> isize {
    // SAFETY: the caller's promise.
    unsafe { io_procedure(info.cast(), message, first, second) }
}

fn read(asked: wf_options) -> Result<Options, wf_status> {
    match asked.survive_kill.is_null() {
        true => asked.read(),
        false => {
            Err(invalid("survive_kill names one ring file for one file: leave it out of MMIO"))
        }
    }
}

/// How the MMIO procedure opens files from now on: with `options` (null: the defaults of MMIO; their
/// `mode`, `on_full` and `producers` don't matter), and a fence of its own every `fence_ms`
/// milliseconds and every `fence_bytes` bytes (0: none of that kind). Before this call: the defaults
/// of MMIO, and a fence a second. They are those of `wf_options`, but on Linux with
/// `WF_BACKEND_SYNC` and `WF_DIRECT_OFF`, so that what other programs read is exact.
///
/// Files that are open keep what they have. For many files at once: one driver for all,
/// `wf_options.driver`, which these settings keep until others take their place. No wait for the disk;
/// allocates. Any thread. `WF_INVALID`, `WF_CLOSED` (no such driver is open), `WF_PANIC`.
///
/// # Safety
/// `options` is null or points to a `wf_options` of as many bytes as its `size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_mmio_settings(
    options: *const wf_options,
    fence_ms: u64,
    fence_bytes: u64,
) -> wf_status {
    guarded(|| {
        // SAFETY: the caller's promise.
        match unsafe { sized::at(options) }.and_then(read) {
            Ok(asked) => {
                let interval = unless_zero(fence_ms).map(Duration::from_millis);
                let bytes = unless_zero(fence_bytes);
                let settings = match options.is_null() {
                    true => Settings::new(),
                    false => Settings::new().options(asked),
                };
                settings.fence_every(interval).fence_bytes(bytes).apply();
                wf_status::WF_OK
            }
            Err(status) => status,
        }
    })
}
