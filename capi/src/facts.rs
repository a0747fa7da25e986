//! What is true now: positions, counters, losses, and what the writer stands on.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::panic::catch_unwind;
use std::time::Duration;

use rust::{Histogram, Medium};

use crate::drivers::number_of;
use crate::failure::{invalid, last_number, last_sentence, text_of, wf_status};
use crate::open::Open;
use crate::{copy_text, put, sized, wf_writer, with};
use wf_status::*;

/// Memory of this machine: a power cut loses it.
pub const WF_MEDIUM_PAGE_CACHE: u32 = 1;
/// A device, server or file system whose own flush nobody has confirmed.
pub const WF_MEDIUM_DEVICE: u32 = 2;
/// The file system is known to flush the device's write cache.
pub const WF_MEDIUM_STABLE: u32 = 3;

/// Four prefixes of the file, in bytes: accepted >= submitted >= written >= durable.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct wf_positions {
    /// Taken into a buffer; survives nothing.
    pub accepted: u64,
    /// Handed to the kernel.
    pub submitted: u64,
    /// The kernel has it; survives a crash of the process.
    pub written: u64,
    /// Survives a power cut, as far as `wf_facts.medium` goes.
    pub durable: u64,
}

impl From<rust::Positions> for wf_positions {
    fn from(now: rust::Positions) -> Self {
        Self {
            accepted: now.accepted,
            submitted: now.submitted,
            written: now.written,
            durable: now.durable,
        }
    }
}

/// Latencies, in nanoseconds, each to within 1/16.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct wf_latency {
    /// How many there were.
    pub count: u64,
    /// The median.
    pub p50: u64,
    /// 99 of 100 took no longer.
    pub p99: u64,
    /// 999 of 1000 took no longer.
    pub p999: u64,
    /// The longest, exact.
    pub max: u64,
}

/// Counters since the open.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct wf_stats {
    /// Calls that took bytes.
    pub writes: u64,
    /// Bytes taken.
    pub bytes: u64,
    /// Pieces handed to the device: full buffers, and those that a fence sealed.
    pub sealed: u64,
    /// Bytes handed to the device, padding and rewritten blocks included; patches are not.
    pub device_bytes: u64,
    /// Fences asked for.
    pub fences: u64,
    /// Fences that shared another's flush, or found nothing to do.
    pub fences_coalesced: u64,
    /// Flushes asked of the kernel, as a call or carried by a write.
    pub flushes: u64,
    /// Patches, in pieces of at most 32 KiB.
    pub patches: u64,
    /// Losses: without an accepted byte in between they are one.
    pub overruns: u64,
    /// Bytes lost.
    pub overrun_bytes: u64,
    /// The longest loss, in bytes.
    pub longest_overrun: u64,
    /// The most bytes that were ever in the buffers, as seen whenever one filled up.
    pub high_water: u64,
    /// Bytes copied beside the one copy that takes them in.
    pub copied: u64,
    /// Writes that the kernel cut short, and that went on.
    pub resubmitted: u64,
    /// Bytes of memory that were allocated at open.
    pub memory: u64,
    /// From the moment the driver sees a fence until it is through.
    pub fence: wf_latency,
    /// From the submission of a data write to its completion.
    pub device_write: wf_latency,
    /// From the submission of a flush call to its completion.
    pub device_flush: wf_latency,
    /// Bytes of zeros written ahead of the data (`wf_options.zero_ahead`).
    pub zero_bytes: u64,
}

/// A loss without an accepted byte in it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct wf_overrun {
    /// The file position that the first lost byte would have had.
    pub position: u64,
    /// Bytes lost.
    pub bytes: u64,
}

/// What a writer stands on; it does not change while it is open.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct wf_facts {
    /// `WF_BACKEND_URING`, `WF_BACKEND_SYNC` or `WF_BACKEND_OVERLAPPED`.
    pub backend: u32,
    /// 1 if data bypasses the page cache.
    pub is_direct: u32,
    /// `WF_MEDIUM_...`: what `durable` reaches here.
    pub medium: u32,
    /// How many things that the choice `AUTO` would have preferred were not to be had.
    pub fallbacks: u32,
}

/// Puts a struct that grows to where the caller wants it.
///
/// # Safety
/// `place` is null or points to `size` writable bytes.
pub(crate) unsafe fn give<T: Copy>(
    place: *mut T,
    size: usize,
    value: impl FnOnce() -> T,
) -> wf_status {
    if place.is_null() {
        return invalid("the pointer to the struct is null");
    }
    if let Err(status) = sized::check(size) {
        return status;
    }
    // SAFETY: the caller's promise; the structs above have no padding.
    unsafe { sized::put(place, size, &value()) };
    WF_OK
}

/// The four positions, to a `wf_positions` of `size` bytes (its sizeof).
///
/// No wait, no lock, no allocation, no system call. Any thread. `WF_INVALID` (null, a wrong size),
/// `WF_CLOSED`, `WF_PANIC`.
///
/// # Safety
/// `positions` is null or points to `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_get_positions(
    writer: wf_writer,
    positions: *mut wf_positions,
    size: usize,
) -> wf_status {
    // SAFETY: passed on.
    with(writer, |open| unsafe { give(positions, size, || open.control.positions().into()) })
}

/// The counters so far, to a `wf_stats` of `size` bytes (its sizeof). The figures may be a few
/// operations apart.
///
/// No wait, no lock; allocates. Any thread. `WF_INVALID` (null, a wrong size), `WF_CLOSED`,
/// `WF_PANIC`.
///
/// # Safety
/// `stats` is null or points to `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_get_stats(
    writer: wf_writer,
    stats: *mut wf_stats,
    size: usize,
) -> wf_status {
    // SAFETY: passed on.
    with(writer, |open| unsafe { give(stats, size, || counted(&open.control.stats())) })
}

fn counted(stats: &rust::Stats) -> wf_stats {
    wf_stats {
        writes: stats.writes,
        bytes: stats.bytes,
        sealed: stats.sealed,
        device_bytes: stats.device_bytes,
        fences: stats.fences,
        fences_coalesced: stats.fences_coalesced,
        flushes: stats.flushes,
        patches: stats.patches,
        overruns: stats.overruns,
        overrun_bytes: stats.overrun_bytes,
        longest_overrun: stats.longest_overrun,
        high_water: stats.high_water,
        copied: stats.copied,
        resubmitted: stats.resubmitted,
        memory: stats.memory,
        fence: latency(&stats.fence_latency),
        device_write: latency(&stats.device_writes),
        device_flush: latency(&stats.device_flushes),
        zero_bytes: stats.zero_bytes,
    }
}

fn latency(histogram: &Histogram) -> wf_latency {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let quantile = |fraction| nanoseconds(histogram.quantile(fraction));
    wf_latency {
        count: histogram.count(),
        p50: quantile(0.5),
        p99: quantile(0.99),
        p999: quantile(0.999),
        max: nanoseconds(histogram.max()),
    }
}

/// What the writer stands on, to a `wf_facts` of `size` bytes (its sizeof).
///
/// No wait, no lock, no allocation, no system call. Any thread. `WF_INVALID` (null, a wrong size),
/// `WF_CLOSED`, `WF_PANIC`.
///
/// # Safety
/// `facts` is null or points to `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_get_facts(
    writer: wf_writer,
    facts: *mut wf_facts,
    size: usize,
) -> wf_status {
    with(writer, |open| {
        let now = || wf_facts {
            backend: number_of(open.control.backend()),
            is_direct: open.control.is_direct().into(),
            medium: match open.control.durability().medium {
                Medium::StableMedia => WF_MEDIUM_STABLE,
                Medium::PageCache => WF_MEDIUM_PAGE_CACHE,
                _ => WF_MEDIUM_DEVICE,
            },
            fallbacks: open.control.fallbacks().len() as u32,
        };
        // SAFETY: the caller's promise.
        unsafe { give(facts, size, now) }
    })
}

/// Where bytes were lost: the first `room` places to `places`, and to `*found` (null: nobody wants
/// it) how many are known, which are the first 4096. `wf_stats.overruns` counts on for ever.
///
/// No wait, no lock; allocates. Any thread. `WF_INVALID` (null with room), `WF_CLOSED`, `WF_PANIC`.
///
/// # Safety
/// `places` is null (with `room` 0) or points to `room` writable `wf_overrun`s; `found` is null or
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_get_overruns(
    writer: wf_writer,
    places: *mut wf_overrun,
    room: usize,
    found: *mut usize,
) -> wf_status {
    with(writer, |open| {
        if places.is_null() && room > 0 {
            return invalid("the pointer to the places is null");
        }
        let overruns = open.control.overruns();
        for (index, overrun) in overruns.iter().take(room).enumerate() {
            let place = wf_overrun { position: overrun.position, bytes: overrun.bytes };
            // SAFETY: the caller's promise: the index is below `room`.
            unsafe { put(places.add(index), place) };
        }
        // SAFETY: the caller's promise.
        unsafe { put(found, overruns.len()) };
        WF_OK
    })
}

// ---- texts ----------------------------------------------------------------------------------------

/// # Safety
/// The buffer is null or as long as its size; the place for what is needed is null or writable.
unsafe fn give_text(
    writer: wf_writer,
    (buffer, size, needed): (*mut c_char, usize, *mut usize),
    text: impl FnOnce(&Open) -> Vec<u8>,
) -> wf_status {
    with(writer, |open| {
        // SAFETY: the caller's promise.
        unsafe { put(needed, copy_text(&text(open), buffer, size)) };
        WF_OK
    })
}

/// What `durable` stands for here, and why, as a sentence: copied to `buffer` with a zero at its
/// end, cut to what fits; the bytes that it needs, the zero included, to `*needed` (null: nobody
/// wants it). A null `buffer` only asks for those.
///
/// No wait, no lock; allocates. Any thread. `WF_CLOSED`, `WF_PANIC`.
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
    let text = |open: &Open| open.control.durability().to_string().into_bytes();
    // SAFETY: passed on.
    unsafe { give_text(writer, (buffer, size, needed), text) }
}

/// The name of the backend in use ("io_uring"); otherwise as `wf_durability`.
///
/// # Safety
/// As `wf_durability`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_backend(
    writer: wf_writer,
    buffer: *mut c_char,
    size: usize,
    needed: *mut usize,
) -> wf_status {
    let text = |open: &Open| open.control.backend().to_string().into_bytes();
    // SAFETY: passed on.
    unsafe { give_text(writer, (buffer, size, needed), text) }
}

/// Why something that the choice `AUTO` would have preferred was not to be had, a line each; empty
/// if nothing was. Otherwise as `wf_durability`.
///
/// # Safety
/// As `wf_durability`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_fallbacks(
    writer: wf_writer,
    buffer: *mut c_char,
    size: usize,
    needed: *mut usize,
) -> wf_status {
    let text = |open: &Open| open.control.fallbacks().join("\n").into_bytes();
    // SAFETY: passed on.
    unsafe { give_text(writer, (buffer, size, needed), text) }
}

/// The path, as it was given at open. Otherwise as `wf_durability`.
///
/// # Safety
/// As `wf_durability`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_path(
    writer: wf_writer,
    buffer: *mut c_char,
    size: usize,
    needed: *mut usize,
) -> wf_status {
    let text = |open: &Open| open.control.path().as_os_str().as_encoded_bytes().to_vec();
    // SAFETY: passed on.
    unsafe { give_text(writer, (buffer, size, needed), text) }
}

/// The sentence of the last refusal in this thread, copied to `buffer` with a zero at its end, cut
/// to what fits. Returns the bytes that it needs, the zero included; 1 if nothing was refused. A
/// call that succeeds leaves it as it is.
///
/// Allocates: call it where there is time. Of a failed writer that was closed since, `wf_close` had
/// the sentence.
///
/// # Safety
/// `buffer` is null or points to `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_last_error(buffer: *mut c_char, size: usize) -> usize {
    let sentence = catch_unwind(last_sentence).unwrap_or_default();
    // SAFETY: the caller's promise.
    unsafe { copy_text(sentence.as_bytes(), buffer, size) }
}

/// The operating system's error number behind this thread's last refusal: an errno, on Windows what
/// GetLastError gives; 0 where no call of the system failed. Of a failed writer that was closed
/// since, `wf_close` had it. Takes a lock for a moment. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn wf_last_errno() -> i32 {
    catch_unwind(last_number).unwrap_or(0)
}

/// What a status means, in a few words; why it was given says `wf_last_error`. Never null; lives for
/// ever; takes any number. No lock, no allocation. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn wf_status_text(status: i32) -> *const c_char {
    text_of(status).as_ptr()
}

/// The version of the library, for example "0.1.0"; that of the header is
/// `WF_VERSION`. Never null; lives for ever. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn wf_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version holds no zero"),
        };
    VERSION.as_ptr()
}
