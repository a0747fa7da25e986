//! Recordings in segments, as numbers: opened, resumed, pushed to, rotated, closed.
#![allow(unsafe_code)]

mod event;
mod options;

use std::ffi::{CStr, c_char, c_void};
use std::sync::{Mutex, TryLockError};

use rust::frames::{Cookie, segments as framed};
use rust::segments::{self, Control, Options};
use rust::{Error, Push, frames};

use crate::facts::{give, wf_positions};
use crate::failure::{
    busy, failed_apart, guarded, invalid, no_segments, panicked, refuse, wf_status,
};
use crate::open::path_of;
use crate::options::wf_options;
use crate::recover::refused;
use crate::slots::{Slots, Then};
use crate::{put, sized, slice};
pub use event::*;
pub use options::*;
use wf_status::*;

/// A recording in segments (`wf_segments_open`). 0 is none. Any thread may use it, several at once; a
/// number that was closed is refused for ever, and that of a writer is none of a recording.
pub type wf_segments = u64;

/// More than anybody records to: each has a thread, and up to six files.
const RECORDINGS: usize = 256;

/// Told from the numbers of writers and drivers by this bit, which no index has.
const KIND: u64 = 1 << 30;

#[cfg(not(loom))]
static RECORDING: Slots<Recording, RECORDINGS> = Slots::new();
/// Loom's atomics are made at run time.
#[cfg(loom)]
static RECORDING: std::sync::LazyLock<Slots<Recording, RECORDINGS>> =
    std::sync::LazyLock::new(Slots::new);

struct Recording {
    control: Control,
    /// `None` once it is being closed. Only ever tried, so that nobody waits for it.
    producer: Mutex<Option<Producer>>,
    /// What the resume has found.
    cookie: Option<Cookie>,
}

enum Producer {
    Raw(segments::Writer),
    Framed(framed::Writer),
}

/// Sets every option that the caller knows to its default. `size`: `sizeof` of the caller's
/// `wf_segments_options`; nothing behind it is touched. Call it before anything else is done with one.
///
/// No wait, no allocation. Any thread. `WF_INVALID`: null, or no such size.
///
/// # Safety
/// `options` is null or points to `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_segments_options_init(
    options: *mut wf_segments_options,
    size: usize,
) -> wf_status {
    // SAFETY: the caller's promise.
    unsafe { sized::init(options, size) }
}

/// Begins a recording in many files, of which the oldest may go, and puts its number to `*segments` (0 if
/// it was refused). The next file is made, and the last one closed, by a thread of the recording's own; no
/// push waits for that.
///
/// `pattern`: the path of a file with fields in its name, that ends with a zero, on Windows UTF-8: `{seq}`
/// for the number of the segment, obligatory (`{seq:06}`: so many digits at least), `{utc}` for the time at
/// which the file was made. Numbers go on behind the highest in the folder, which has to be there. `each`:
/// how each segment is written (`mode` and `producers` don't count); null for the defaults. `options`:
/// null for the defaults, with which a segment ends only when it is told to.
///
/// What an earlier recording has left stays as it is, until it is not to be kept any longer. A recording
/// that nobody closes is there after an exit, but its frames have no footers: `wf_segments_resume`.
///
/// Allocates, starts threads, makes the first file and its name durable. Any thread. `WF_INVALID` (the
/// sentence says which option, or what is wrong with the pattern), `WF_TOO_MANY` (256 are open), else as
/// `wf_open`: no file is left behind.
///
/// # Safety
/// `pattern` is null or a string that ends with a zero; `options` and `each` are null or point to as many
/// bytes as their `size` says; `segments` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_segments_open(
    pattern: *const c_char,
    options: *const wf_segments_options,
    each: *const wf_options,
    segments: *mut wf_segments,
) -> wf_status {
    guarded(|| {
        let opened = |asked: &wf_segments_options, files: Options| match asked.framed {
            0 => files.open().map(Producer::Raw).map_err(|error| failed_apart(&error)),
            _ => {
                let opened = asked.framed(files)?.open();
                opened.map(Producer::Framed).map_err(|error| refused(&error))
            }
        };
        let opened = |asked: &wf_segments_options, files| Ok((opened(asked, files)?, None));
        // SAFETY: the caller's promise.
        unsafe { begin(pattern, options, each, segments, opened) }
    })
}

/// Goes on with the framed recording that is in the folder, whatever became of its last writer: recovers
/// the segments that nobody has closed, gives them their footers (a damaged end is kept beside as
/// `NAME.torn-OFFSET`), and begins the next one, with the next number, which it puts to `*next_sequence`
/// (null: nobody wants it). Where no recording is, it begins one. `options`: with `framed` 1.
///
/// Reads the segments that were not closed. Else as `wf_segments_open`; also `WF_LOCKED` while a writer has
/// one of them, and `WF_INVALID` if one of them is somebody else's file.
///
/// # Safety
/// As `wf_segments_open`; `next_sequence` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_segments_resume(
    pattern: *const c_char,
    options: *const wf_segments_options,
    each: *const wf_options,
    segments: *mut wf_segments,
    next_sequence: *mut u64,
) -> wf_status {
    guarded(|| {
        let resumed = |asked: &wf_segments_options, files: Options| {
            if asked.framed == 0 {
                return Err(invalid(
                    "only frames say how much of a file is whole: set wf_segments_options.framed \
                     to 1, or begin the next segment with wf_segments_open",
                ));
            }
            let resumed = asked.framed(files)?.resume();
            let (writer, found) = resumed.map_err(|error| refused(&error))?;
            // SAFETY: the caller's promise.
            unsafe { put(next_sequence, found.next_sequence) };
            Ok((Producer::Framed(writer), found.cookie))
        };
        // SAFETY: the caller's promise.
        unsafe { begin(pattern, options, each, segments, resumed) }
    })
}

/// # Safety
/// As `wf_segments_open`.
unsafe fn begin(
    pattern: *const c_char,
    options: *const wf_segments_options,
    each: *const wf_options,
    segments: *mut wf_segments,
    open: impl FnOnce(&wf_segments_options, Options) -> Result<(Producer, Option<Cookie>), wf_status>,
) -> wf_status {
    if pattern.is_null() || segments.is_null() {
        return invalid("the pointer to the pattern, or to the recording, is null");
    }
    // SAFETY: the caller's promise; for a refusal, and a panic.
    unsafe { put(segments, 0) };
    let opened = || {
        // SAFETY: the caller's promise.
        let (pattern, asked, each) = unsafe {
            let asked = sized::at(options)?;
            (CStr::from_ptr(pattern), asked, sized::at(each)?)
        };
        let files = asked.read(&path_of(pattern)?, &each)?;
        let full = || refuse(WF_TOO_MANY, format!("{RECORDINGS} recordings are open: close one"));
        let place = RECORDING.vacant().ok_or_else(full)?;
        let (producer, cookie) = open(&asked, files)?;
        let control = producer.control().clone();
        let producer = Mutex::new(Some(producer));
        Ok(place.fill(Recording { control, producer, cookie }) | KIND)
    };
    match opened() {
        Ok(number) => {
            // SAFETY: as above.
            unsafe { put(segments, number) };
            WF_OK
        }
        Err(status) => status,
    }
}

impl Producer {
    fn control(&self) -> &Control {
        match self {
            Self::Raw(writer) => writer.control(),
            Self::Framed(writer) => writer.control(),
        }
    }
}

fn with(segments: wf_segments, call: impl FnOnce(&Recording) -> wf_status) -> wf_status {
    guarded(|| match RECORDING.get(segments ^ KIND) {
        Some(recording) => call(&recording),
        None => no_segments(),
    })
}

/// Does something as the one producer.
fn produce(
    segments: wf_segments,
    act: impl FnOnce(&mut Producer) -> Result<wf_status, Error>,
) -> wf_status {
    with(segments, |recording| match recording.producer.try_lock() {
        Ok(mut held) => match held.as_mut() {
            Some(producer) => act(producer).unwrap_or_else(|error| failed_apart(&error)),
            None => no_segments(),
        },
        Err(TryLockError::WouldBlock) => {
            busy("another thread is pushing, and a recording has one producer at a time")
        }
        Err(TryLockError::Poisoned(_)) => panicked(),
    })
}

fn raw(producer: &mut Producer) -> Result<&mut segments::Writer, Error> {
    match producer {
        Producer::Raw(writer) => Ok(writer),
        Producer::Framed(_) => Err(Error::Options(
            "the recording has frames: push with wf_segments_write_frame".into(),
        )),
    }
}

fn of_frames(producer: &mut Producer) -> Result<&mut framed::Writer, Error> {
    match producer {
        Producer::Framed(writer) => Ok(writer),
        Producer::Raw(_) => Err(Error::Options(
            "the recording has no frames: push with wf_segments_write, or set \
             wf_segments_options.framed to 1"
                .into(),
        )),
    }
}

/// Takes all the bytes, copied, as one record, or does what the policy `on_full` says when they don't fit.
/// Puts the position of the first in the whole recording to `*position`, if it answers `WF_OK` (null:
/// nobody wants it). Of a recording that is not `framed`.
///
/// Else as `wf_write`. One thread at a time: `WF_BUSY` for a second one. `WF_IO` also below the floor.
///
/// # Safety
/// `bytes` is null or points to `len` bytes; `position` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_segments_write(
    segments: wf_segments,
    bytes: *const c_void,
    len: usize,
    position: *mut u64,
) -> wf_status {
    let write = |producer: &mut Producer, bytes: &[u8]| raw(producer)?.write(bytes).map(of_bytes);
    // SAFETY: the caller's promise.
    unsafe { push(segments, bytes, len, position, write) }
}

/// As `wf_segments_write`, but never waits: `WF_FULL`, and nothing was taken. No lock, no allocation; a
/// push that begins the next segment may wake a thread (not with `WF_DRIVE_POLL`).
///
/// # Safety
/// As `wf_segments_write`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_segments_try_write(
    segments: wf_segments,
    bytes: *const c_void,
    len: usize,
    position: *mut u64,
) -> wf_status {
    let write = |producer: &mut Producer, bytes: &[u8]| {
        raw(producer)?.try_write(bytes).map(Push::Accepted).map(of_bytes)
    };
    // SAFETY: the caller's promise.
    unsafe { push(segments, bytes, len, position, write) }
}

/// What is told of a push: where it went, or which one it was, and how.
type Told = (Option<u64>, wf_status);

/// Puts what is told to `*told` (null: nobody wants it).
///
/// # Safety
/// As `wf_segments_write`.
unsafe fn push(
    segments: wf_segments,
    bytes: *const c_void,
    len: usize,
    told: *mut u64,
    write: impl FnOnce(&mut Producer, &[u8]) -> Result<Told, Error>,
) -> wf_status {
    // SAFETY: the caller's promise.
    let bytes = match unsafe { slice(bytes, len) } {
        Ok(bytes) => bytes,
        Err(status) => return status,
    };
    produce(segments, |producer| {
        let (number, status) = write(producer, bytes)?;
        if let Some(number) = number {
            // SAFETY: the caller's promise.
            unsafe { put(told, number) };
        }
        Ok(status)
    })
}

fn of_bytes(push: Push) -> Told {
    match push {
        Push::Accepted(at) => (Some(at), WF_OK),
        Push::Lost(_) => (None, WF_LOST),
    }
}

fn of_message(push: frames::Push) -> Told {
    match push {
        frames::Push::Accepted(placed) => (Some(placed.sequence), WF_OK),
        frames::Push::Lost { sequence } => (Some(sequence), WF_LOST),
    }
}

/// Writes a message, copied, or does what the policy `on_full` says when its frame has no room. Puts its
/// number to `*sequence` (null: nobody wants it), also with `WF_LOST`: that number is used up, and a reader
/// sees it missing. `time` is yours, in whatever unit (nanoseconds since 1970-01-01 UTC are usual); to find
/// messages by it, let it never descend. Of a recording that is `framed`.
///
/// One pass of CRC32C over the message more than `wf_segments_write`, and 40 bytes; else as that.
///
/// # Safety
/// `bytes` is null or points to `len` bytes; `sequence` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_segments_write_frame(
    segments: wf_segments,
    time: u64,
    bytes: *const c_void,
    len: usize,
    sequence: *mut u64,
) -> wf_status {
    let write = |producer: &mut Producer, bytes: &[u8]| {
        of_frames(producer)?.write(time, bytes).map(of_message)
    };
    // SAFETY: the caller's promise.
    unsafe { push(segments, bytes, len, sequence, write) }
}

/// As `wf_segments_write_frame`, but never waits, as `wf_segments_try_write`: with `WF_FULL` nothing was
/// taken, and no number is used up.
///
/// # Safety
/// As `wf_segments_write_frame`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_segments_try_write_frame(
    segments: wf_segments,
    time: u64,
    bytes: *const c_void,
    len: usize,
    sequence: *mut u64,
) -> wf_status {
    let write = |producer: &mut Producer, bytes: &[u8]| {
        of_frames(producer)?.try_write(time, bytes).map(frames::Push::Accepted).map(of_message)
    };
    // SAFETY: the caller's promise.
    unsafe { push(segments, bytes, len, sequence, write) }
}

/// Records that the source lost so many bytes (with `framed`: messages, whose numbers are used up) before
/// they could be offered. Never waits, allocates nothing. `WF_BUSY`, `WF_CLOSED`, `WF_PANIC`.
#[unsafe(no_mangle)]
pub extern "C" fn wf_segments_lose(segments: wf_segments, count: u64) -> wf_status {
    produce(segments, |producer| {
        match producer {
            Producer::Raw(writer) => writer.lose(usize::try_from(count).unwrap_or(usize::MAX)),
            Producer::Framed(writer) => writer.lose(count),
        }
        Ok(WF_OK)
    })
}

/// Has the segment end with the next push that may end it; one without data goes on.
///
/// Never waits: no lock, no allocation, no system call. Any thread. `WF_CLOSED`, `WF_PANIC`.
#[unsafe(no_mangle)]
pub extern "C" fn wf_segments_rotate(segments: wf_segments) -> wf_status {
    with(segments, |recording| {
        recording.control.rotate();
        WF_OK
    })
}

/// Truncates the recording from the front: the segments with lower numbers than this are not needed any
/// more, those of earlier recordings of the pattern among them. The closed ones go soon, or are recycled;
/// one that is not closed yet goes when it is.
///
/// Waits for nothing; makes one system call, no allocation. Any thread. `WF_CLOSED`, `WF_PANIC`.
#[unsafe(no_mangle)]
pub extern "C" fn wf_segments_truncate_front(segments: wf_segments, segment: u64) -> wf_status {
    with(segments, |recording| {
        recording.control.truncate_front(segment);
        WF_OK
    })
}

/// Waits until everything accepted so far is durable, in whatever segments it lies, and puts the durable
/// position of the whole recording to `*durable` (null: nobody wants it).
///
/// Waits for the disk. Any thread, several at once, also while another one pushes. `WF_IO`, `WF_CLOSED`,
/// `WF_FORKED`, `WF_PANIC`.
///
/// # Safety
/// `durable` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_segments_flush(segments: wf_segments, durable: *mut u64) -> wf_status {
    with(segments, |recording| match recording.control.flush() {
        Ok(position) => {
            // SAFETY: the caller's promise.
            unsafe { put(durable, position) };
            WF_OK
        }
        Err(error) => failed_apart(&error),
    })
}

/// Waits until everything accepted so far is durable together with `len` bytes of your own, at most 65528:
/// whatever you need to go on, such as where your source stands. Puts the durable position to `*durable`
/// (null: nobody wants it). The last of them is what `wf_segments_get_cookie` gives after a resume, and it
/// is there only if every message before it is. Of a recording that is `framed`.
///
/// Waits for the disk, and for room; allocates. One thread at a time: `WF_BUSY` for a second one.
/// `WF_TOO_LONG`; `WF_FULL` below the floor with `WF_FLOOR_WAIT`; else as `wf_segments_flush`.
///
/// # Safety
/// `cookie` is null or points to `len` bytes; `durable` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_segments_flush_with(
    segments: wf_segments,
    cookie: *const c_void,
    len: usize,
    durable: *mut u64,
) -> wf_status {
    // SAFETY: the caller's promise.
    let cookie = match unsafe { slice(cookie, len) } {
        Ok(cookie) => cookie,
        Err(status) => return status,
    };
    produce(segments, |producer| {
        let position = of_frames(producer)?.flush_with(cookie)?;
        // SAFETY: the caller's promise.
        unsafe { put(durable, position) };
        Ok(WF_OK)
    })
}

/// What the last `wf_segments_flush_with` before the `wf_segments_resume` gave: as much of it as
/// `capacity` has room for to `bytes`, its whole length to `*len`, and the number of the first message
/// behind it to `*next_sequence` (each null: nobody wants it). Length and number are 0 if there was none.
///
/// Takes a lock for a moment. Any thread. `WF_CLOSED`, `WF_PANIC`.
///
/// # Safety
/// `bytes` is null or points to `capacity` writable bytes; `len` and `next_sequence` are null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_segments_get_cookie(
    segments: wf_segments,
    bytes: *mut c_void,
    capacity: usize,
    len: *mut usize,
    next_sequence: *mut u64,
) -> wf_status {
    with(segments, |recording| {
        let cookie = recording.cookie.as_ref();
        let found = cookie.map_or(&[][..], |cookie| &cookie.bytes);
        if !bytes.is_null() {
            let count = found.len().min(capacity);
            // SAFETY: the caller's promise; the cookie is ours.
            unsafe { std::ptr::copy_nonoverlapping(found.as_ptr(), bytes.cast(), count) };
        }
        // SAFETY: the caller's promise.
        unsafe {
            put(len, found.len());
            put(next_sequence, cookie.map_or(0, |cookie| cookie.next_sequence));
        }
        WF_OK
    })
}

/// The four positions of the whole recording, to a `wf_positions` of `size` bytes (its sizeof): bytes since
/// the open, heads and footers not counted. `durable` passes the end of a segment only when all of that is
/// durable.
///
/// Takes a lock for a moment, which no push takes. Any thread. `WF_INVALID` (null, a wrong size),
/// `WF_CLOSED`, `WF_PANIC`.
///
/// # Safety
/// `positions` is null or points to `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_segments_get_positions(
    segments: wf_segments,
    positions: *mut wf_positions,
    size: usize,
) -> wf_status {
    with(segments, |recording| {
        let now = || wf_positions::from(recording.control.positions());
        // SAFETY: the caller's promise.
        unsafe { give(positions, size, now) }
    })
}

/// What a recording in segments has done so far.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct wf_segments_stats {
    /// Segments that have ended, and the recording went on in the next one.
    pub rotations: u64,
    /// Of those the ones that came late: the next segment was not ready yet.
    pub late_rotations: u64,
    /// Segments that are closed and durable.
    pub closed: u64,
    /// Segments that were removed since they were not to be kept any longer.
    pub removed: u64,
    /// Bytes of those.
    pub removed_bytes: u64,
    /// Times that bytes were lost because no buffer had room.
    pub overruns: u64,
    /// Bytes lost that way.
    pub overrun_bytes: u64,
    /// The number of the segment that is written.
    pub sequence: u64,
    /// How many of the removed have become the next segment (`wf_segments_options.recycle`).
    pub recycled: u64,
}

/// Its counters, to a `wf_segments_stats` of `size` bytes (its sizeof).
///
/// Takes a lock for a moment, which no push takes; allocates. Any thread. `WF_INVALID` (null, a wrong
/// size), `WF_CLOSED`, `WF_PANIC`.
///
/// # Safety
/// `stats` is null or points to `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_segments_get_stats(
    segments: wf_segments,
    stats: *mut wf_segments_stats,
    size: usize,
) -> wf_status {
    with(segments, |recording| {
        let now = || {
            let (control, now) = (&recording.control, recording.control.stats());
            wf_segments_stats {
                rotations: now.rotations,
                late_rotations: now.late_rotations,
                closed: now.closed,
                removed: now.removed,
                removed_bytes: now.removed_bytes,
                overruns: now.overruns,
                overrun_bytes: now.overrun_bytes,
                sequence: control.segment().map_or(0, |segment| segment.sequence),
                recycled: now.recycled,
            }
        };
        // SAFETY: the caller's promise.
        unsafe { give(stats, size, now) }
    })
}

/// What has ended the recording: `WF_OK` if nothing did, else a status, with its sentence in
/// `wf_last_error`.
///
/// Takes a lock for a moment. Any thread. Also `WF_CLOSED`, `WF_PANIC`.
#[unsafe(no_mangle)]
pub extern "C" fn wf_segments_error(segments: wf_segments) -> wf_status {
    with(segments, |recording| {
        recording.control.error().map_or(WF_OK, |error| failed_apart(&error))
    })
}

/// Ends the recording: writes out everything, closes every segment, makes all of it durable, and gives up
/// the number. Puts the durable position of the whole to `*durable` (null: nobody wants it); it is true
/// whatever the status. `on_segment` has been called for the last time when it returns.
///
/// Waits for the disk, and for calls of other threads on this recording to leave. Allocates. Any thread but
/// that of `on_segment`. `WF_BUSY`: another thread is pushing, and nothing was done. `WF_IO`: the first
/// error; the number is gone, and what got to the files stays. `WF_FORKED` likewise: the parent's files are
/// not touched. `WF_CLOSED`, `WF_PANIC`.
///
/// # Safety
/// `durable` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_segments_close(segments: wf_segments, durable: *mut u64) -> wf_status {
    guarded(|| {
        let producer = match take(segments) {
            Ok(producer) => producer,
            Err(status) => return status,
        };
        let result = match producer {
            Producer::Raw(writer) => writer.close(),
            Producer::Framed(writer) => writer.close(),
        };
        let is_forked =
            result.as_ref().is_err_and(|error| matches!(error.errors.first(), Some(Error::Forked)));
        // In a forked child the threads that were inside are not there, and never leave.
        let then = if is_forked { Then::Leave } else { Then::Drop };
        RECORDING.close(segments ^ KIND, |_| ((), then));
        let (summary, status) = match result {
            Ok(summary) => (summary, WF_OK),
            Err(error) => {
                let status = crate::failure::refuse_for(error.errors.first(), error.to_string());
                (*error.summary, status)
            }
        };
        // SAFETY: the caller's promise.
        unsafe { put(durable, summary.positions.durable) };
        status
    })
}

/// The producer, for the close: every push is refused from now on.
fn take(segments: wf_segments) -> Result<Producer, wf_status> {
    let recording = RECORDING.get(segments ^ KIND).ok_or_else(no_segments)?;
    let mut held = match recording.producer.try_lock() {
        Ok(held) => held,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => {
            return Err(busy("another thread is pushing: close when it is done"));
        }
    };
    held.take().ok_or_else(no_segments)
}
