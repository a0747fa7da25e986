//! writeflush for C. The header `include/writeflush.h` is generated from this file and says all
//! that a user has to know.
//!
//! What crosses the border: numbers, and pointers that are looked at only within the call. A writer
//! is a number ([`slots`]), so that a closed or foreign one is an error; a panic is
//! [`WF_PANIC`](wf_status::WF_PANIC).
#![allow(unsafe_code)]
#![allow(non_camel_case_types, reason = "C names")]

mod failure;
mod mmio;
mod options;
mod slots;
#[cfg(windows)]
mod winmm;

use std::ffi::{CStr, c_char, c_void};
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::time::Duration;

use rust::{Control, Push, SharedWriter};

use failure::{closed, failed, guarded, invalid, last_sentence, refuse};
use slots::Slots;

pub use failure::wf_status;
pub use mmio::*;
pub use options::*;
use wf_status::*;

/// A writer that is open. 0 is none. Any thread may use it, several at once; a number that was
/// closed is refused for ever.
pub type wf_writer = u64;

/// A fence that was asked for. Plain numbers: copy it, keep it, forget it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct wf_ticket {
    /// The position that is durable once the fence is through.
    pub position: u64,
    /// The number of patches before it.
    pub patches: u64,
}

/// Four prefixes of the file: accepted >= submitted >= written >= durable.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct wf_positions {
    /// Taken into a buffer; survives nothing.
    pub accepted: u64,
    /// Handed to the kernel.
    pub submitted: u64,
    /// The kernel has it; survives a crash of the process.
    pub written: u64,
    /// Survives a power cut.
    pub durable: u64,
}

/// Counters since the open; times in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct wf_stats {
    /// Calls that took bytes.
    pub writes: u64,
    /// Bytes taken.
    pub bytes: u64,
    /// Bytes written to the device, padding and rewritten blocks included.
    pub device_bytes: u64,
    /// Fences asked for.
    pub fences: u64,
    /// Fences that shared another's flush.
    pub fences_coalesced: u64,
    /// Flushes of the device, not counting writes that carry their own.
    pub flushes: u64,
    /// Patches.
    pub patches: u64,
    /// Losses.
    pub overruns: u64,
    /// Bytes lost.
    pub overrun_bytes: u64,
    /// The longest loss, in bytes.
    pub longest_overrun: u64,
    /// The most memory in use, as seen whenever a buffer filled up.
    pub high_water: u64,
    /// Memory that was allocated at open.
    pub memory: u64,
    /// From the request of a fence until it was through: median.
    pub fence_p50: u64,
    /// ... 99 of 100.
    pub fence_p99: u64,
    /// ... 999 of 1000.
    pub fence_p999: u64,
    /// ... the longest.
    pub fence_max: u64,
}

/// More than anybody opens, and a megabyte of memory at most.
const WRITERS: usize = 4096;

static OPEN: Slots<SharedWriter, WRITERS> = Slots::new();

// ---- the border -----------------------------------------------------------------------------------

/// Does something with an open writer.
fn with(writer: wf_writer, call: impl FnOnce(&SharedWriter) -> wf_status) -> wf_status {
    guarded(|| match OPEN.get(writer) {
        Some(writer) => call(&writer),
        None => closed(),
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

/// Offers bytes to a writer, one way or another.
///
/// # Safety
/// `bytes` is null or points to `len` bytes.
unsafe fn push(
    writer: wf_writer,
    bytes: *const c_void,
    len: usize,
    take: impl FnOnce(&SharedWriter, &[u8]) -> Result<Push, rust::Error>,
) -> wf_status {
    with(writer, |writer| {
        // SAFETY: the caller's promise.
        match unsafe { slice(bytes, len) }.map(|bytes| take(writer, bytes)) {
            Ok(Ok(Push::Accepted(_))) => WF_OK,
            Ok(Ok(Push::Lost(_))) => WF_LOST,
            Ok(Err(error)) => failed(&error),
            Err(status) => status,
        }
    })
}

// ---- open and close -------------------------------------------------------------------------------

/// Sets every option to its default. Call it before anything else is done with a `wf_options`.
///
/// # Safety
/// `options` is null or points to a `wf_options`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_options_default(options: *mut wf_options) -> wf_status {
    if options.is_null() {
        return invalid("the pointer to the options is null");
    }
    // SAFETY: the caller's promise.
    unsafe { put(options, wf_options::default()) };
    WF_OK
}

/// Opens a file as `options` say (null: the defaults, which create it) and puts the number of its
/// writer to `*writer`. `path`: bytes that end with a zero, on Windows UTF-8.
///
/// Allocates, makes the file's name durable, and starts the thread that drives.
///
/// # Safety
/// `path` is null or a string that ends with a zero; `options` is null or points to a
/// `wf_options`; `writer` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_open(
    path: *const c_char,
    options: *const wf_options,
    writer: *mut wf_writer,
) -> wf_status {
    guarded(|| {
        if path.is_null() || writer.is_null() {
            return invalid("the pointer to the path, or to the writer, is null");
        }
        // SAFETY: the caller's promise.
        let (path, asked) = unsafe {
            writer.write_unaligned(0);
            (path_of(CStr::from_ptr(path)), wf_options::at(options))
        };
        match open(&path, &asked) {
            Ok(number) => {
                // SAFETY: the caller's promise.
                unsafe { writer.write_unaligned(number) };
                WF_OK
            }
            Err(status) => status,
        }
    })
}

fn open(path: &std::path::Path, asked: &wf_options) -> Result<wf_writer, wf_status> {
    let options = asked.read()?;
    let opened = match asked.mode {
        WF_CREATE => options.create(path),
        WF_CREATE_NEW => options.create_new(path),
        WF_APPEND => options.append(path),
        WF_OVERWRITE => options.open(path),
        _ => return Err(invalid("wf_options.mode is none of WF_CREATE and its sisters")),
    };
    let writer = opened.map_err(|error| failed(&error))?.into_shared();
    OPEN.insert(writer)
        .map_err(|_| refuse(WF_TOO_MANY, format!("{WRITERS} writers are open: close one")))
}

#[cfg(unix)]
fn path_of(path: &CStr) -> PathBuf {
    let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(path.to_bytes());
    path.into()
}

#[cfg(not(unix))]
fn path_of(path: &CStr) -> PathBuf {
    path.to_string_lossy().into_owned().into()
}

/// Writes out everything, cuts the file to its exact length, makes data, length and name durable,
/// and gives up the number. Puts the durable position to `*durable`, unless that is null: it is
/// true whatever the status. Calls of other threads that wait get `WF_CLOSED`.
///
/// # Safety
/// `durable` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_close(writer: wf_writer, durable: *mut u64) -> wf_status {
    guarded(|| {
        let Some(result) = OPEN.close(writer, |writer| writer.clone().close()) else {
            return closed();
        };
        let (status, position) = match result {
            Ok(summary) => (WF_OK, summary.positions.durable),
            Err(error) => {
                let status = error.errors.first().map_or(WF_IO, failed);
                (refuse(status, error.to_string()), error.summary.positions.durable)
            }
        };
        // SAFETY: the caller's promise.
        unsafe { put(durable, position) };
        status
    })
}

// ---- pushing --------------------------------------------------------------------------------------

/// Takes all the bytes, copied, or does what the policy `on_full` says when they don't fit.
/// `WF_OK`, `WF_LOST`, or an error. Never waits for the disk while there is room.
///
/// # Safety
/// `bytes` is null or points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_write(
    writer: wf_writer,
    bytes: *const c_void,
    len: usize,
) -> wf_status {
    // SAFETY: passed on.
    unsafe { push(writer, bytes, len, SharedWriter::write) }
}

/// Takes all the bytes or none (`WF_FULL`); never waits, takes no lock, allocates nothing, and with
/// `WF_DRIVE_POLL` makes no system call. For deadline threads.
///
/// # Safety
/// `bytes` is null or points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_try_write(
    writer: wf_writer,
    bytes: *const c_void,
    len: usize,
) -> wf_status {
    let take = |writer: &SharedWriter, bytes: &[u8]| writer.try_write(bytes).map(Push::Accepted);
    // SAFETY: passed on.
    unsafe { push(writer, bytes, len, take) }
}

/// Takes the bytes and returns when they, and all before them, are durable; puts the durable
/// position to `*durable`, unless that is null. With no bytes it is a plain flush.
///
/// # Safety
/// `bytes` is null or points to `len` bytes; `durable` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_write_flush(
    writer: wf_writer,
    bytes: *const c_void,
    len: usize,
    durable: *mut u64,
) -> wf_status {
    with(writer, |writer| {
        // SAFETY: the caller's promise.
        let bytes = match unsafe { slice(bytes, len) } {
            Ok(bytes) => bytes,
            Err(status) => return status,
        };
        match writer.write_flush(bytes) {
            // SAFETY: the caller's promise.
            Ok(position) => unsafe {
                put(durable, position);
                WF_OK
            },
            Err(error) => failed(&error),
        }
    })
}

/// Overwrites bytes that were accepted before: any place below the accepted position. Takes a lock,
/// allocates, and may wait for the disk.
///
/// # Safety
/// `bytes` is null or points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_patch(
    writer: wf_writer,
    offset: u64,
    bytes: *const c_void,
    len: usize,
) -> wf_status {
    with(writer, |writer| {
        // SAFETY: the caller's promise.
        match unsafe { slice(bytes, len) }.map(|bytes| writer.patch(offset, bytes)) {
            Ok(Ok(())) => WF_OK,
            Ok(Err(error)) => failed(&error),
            Err(status) => status,
        }
    })
}

// ---- fences ---------------------------------------------------------------------------------------

/// Asks for a fence over everything accepted, and every patch, so far; never waits. Fences that are
/// asked for while one is under way share the next.
///
/// # Safety
/// `ticket` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_fence(writer: wf_writer, ticket: *mut wf_ticket) -> wf_status {
    with(writer, |writer| {
        let [position, patches] = writer.fence().numbers();
        // SAFETY: the caller's promise.
        unsafe { put(ticket, wf_ticket { position, patches }) };
        WF_OK
    })
}

/// Waits until the fence is through (`WF_OK`), for at most so many milliseconds (`WF_PENDING`).
/// 0 only looks; a negative number waits as long as it takes.
#[unsafe(no_mangle)]
pub extern "C" fn wf_wait(writer: wf_writer, ticket: wf_ticket, milliseconds: i64) -> wf_status {
    with(writer, |writer| {
        let Some(ticket) = writer.ticket([ticket.position, ticket.patches]) else {
            return invalid("the ticket is not one of this writer's");
        };
        let through = match u64::try_from(milliseconds) {
            Ok(0) => ticket.is_durable(),
            Ok(limit) => ticket.wait_timeout(Duration::from_millis(limit)).map(|it| it.is_some()),
            Err(_) => ticket.wait().map(|_| true),
        };
        match through {
            Ok(true) => WF_OK,
            Ok(false) => WF_PENDING,
            Err(error) => failed(&error),
        }
    })
}

// ---- what is true now -----------------------------------------------------------------------------

/// The four positions. No lock, no system call.
///
/// # Safety
/// `positions` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_get_positions(
    writer: wf_writer,
    positions: *mut wf_positions,
) -> wf_status {
    with(writer, |writer| {
        let now = writer.positions();
        let now = wf_positions {
            accepted: now.accepted,
            submitted: now.submitted,
            written: now.written,
            durable: now.durable,
        };
        // SAFETY: the caller's promise.
        unsafe { put(positions, now) };
        WF_OK
    })
}

/// The counters so far. Allocates.
///
/// # Safety
/// `stats` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_get_stats(writer: wf_writer, stats: *mut wf_stats) -> wf_status {
    with(writer, |writer| {
        // SAFETY: the caller's promise.
        unsafe { put(stats, counted(writer.control())) };
        WF_OK
    })
}

fn counted(control: &Control) -> wf_stats {
    let stats = control.stats();
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let fence = |fraction| nanoseconds(stats.fence_latency.quantile(fraction));
    wf_stats {
        writes: stats.writes,
        bytes: stats.bytes,
        device_bytes: stats.device_bytes,
        fences: stats.fences,
        fences_coalesced: stats.fences_coalesced,
        flushes: stats.flushes,
        patches: stats.patches,
        overruns: stats.overruns,
        overrun_bytes: stats.overrun_bytes,
        longest_overrun: stats.longest_overrun,
        high_water: stats.high_water,
        memory: stats.memory,
        fence_p50: fence(0.5),
        fence_p99: fence(0.99),
        fence_p999: fence(0.999),
        fence_max: nanoseconds(stats.fence_latency.max()),
    }
}

/// What `durable` stands for here, and why, as a sentence: copied to `buffer` as `wf_last_error`
/// does.
///
/// # Safety
/// `buffer` is null or points to `size` writable bytes; `needed` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_durability(
    writer: wf_writer,
    buffer: *mut c_char,
    size: usize,
    needed: *mut usize,
) -> wf_status {
    with(writer, |writer| {
        let sentence = writer.durability().to_string();
        // SAFETY: the caller's promise.
        unsafe { put(needed, copy_text(&sentence, buffer, size)) };
        WF_OK
    })
}

/// The sentence of the last refusal in this thread, copied to `buffer` with a zero at its end, cut
/// to what fits. Returns the bytes that it needs, the zero included; 1 if nothing was refused.
///
/// # Safety
/// `buffer` is null or points to `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_last_error(buffer: *mut c_char, size: usize) -> usize {
    let sentence = catch_unwind(last_sentence).unwrap_or_default();
    // SAFETY: the caller's promise.
    unsafe { copy_text(&sentence, buffer, size) }
}

/// # Safety
/// `buffer` is null or points to `size` writable bytes.
unsafe fn copy_text(text: &str, buffer: *mut c_char, size: usize) -> usize {
    if let Some(room) = size.checked_sub(1)
        && !buffer.is_null()
    {
        let len = (0..=text.len().min(room)).rev().find(|&end| text.is_char_boundary(end));
        let len = len.unwrap_or(0);
        // SAFETY: `len` and a zero fit; the caller's promise.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), len);
            buffer.add(len).write(0);
        }
    }
    text.len() + 1
}

/// The version of the library, for example "0.1.0". Never null; lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn wf_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version holds no zero"),
        };
    VERSION.as_ptr()
}
