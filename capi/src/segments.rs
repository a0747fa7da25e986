//! Recordings in segments, as numbers: opened, resumed, pushed to, rotated, closed.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rust::frames::{Cookie, segments as framed};
use rust::segments::{self, Closed, Control, Event, Floor, Options};
use rust::{Error, Push, frames};

use crate::facts::{give, wf_positions};
use crate::failure::{
    busy, failed_apart, guarded, invalid, no_segments, panicked, refuse, wf_status,
};
use crate::open::path_of;
use crate::options::{WF_CREATE, unless_zero, wf_options};
use crate::recover::refused;
use crate::slots::{Slots, Then};
use crate::{put, sized, slice};
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

/// A segment is closed, and durable.
pub const WF_SEGMENT_CLOSED: u32 = 1;
/// A segment was not to be kept any longer, and is gone, durably.
pub const WF_SEGMENT_REMOVED: u32 = 2;
/// A segment should have gone, and is still there; `sentence` says why. It is left alone.
pub const WF_SEGMENT_NOT_REMOVED: u32 = 3;
/// The next segment can't be made; `sentence` says why. The recording goes on in the current one, and it
/// is tried again from time to time; told once.
pub const WF_SEGMENT_NOT_READY: u32 = 4;

/// Below `min_free` the recording stops: every push answers `WF_IO`. What was accepted is not lost.
pub const WF_FLOOR_STOP: u32 = 0;
/// ... the oldest segments go, as many as it takes; when there are none left, as `WF_FLOOR_STOP`.
pub const WF_FLOOR_DELETE_OLDEST: u32 = 1;
/// ... nothing is taken until there is more; `on_full` says what a push does meanwhile.
pub const WF_FLOOR_WAIT: u32 = 2;

/// What has happened to a segment. Fields that a kind does not have are 0.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct wf_segment_event {
    /// Bytes in this struct: a program that knows more fields than that was built with a later header.
    pub size: u64,
    /// The number of the segment, of all kinds but `WF_SEGMENT_NOT_...`
    pub sequence: u64,
    /// Where its data begins in the whole recording.
    pub position: u64,
    /// Bytes of its data; of frames without head and footer.
    pub bytes: u64,
    /// The length of its file.
    pub file_len: u64,
    /// When it began to take data, in nanoseconds since 1970-01-01 UTC.
    pub began: u64,
    /// When it ended, likewise.
    pub ended: u64,
    /// Bytes that were lost while it was written.
    pub lost_bytes: u64,
    /// Frames in it; with `first_sequence` and what follows, only of `wf_segments_options.framed`.
    pub frames: u64,
    /// Number of the first frame.
    pub first_sequence: u64,
    /// The number behind the last that was given in it.
    pub next_sequence: u64,
    /// Numbers that were given in it and that no frame has: messages that were lost.
    pub missing: u64,
    /// Time of the first frame, as it was given.
    pub first_time: u64,
    /// Time of the last.
    pub last_time: u64,
    /// `WF_SEGMENT_...`
    pub kind: u32,
    /// 1: `checksum` is there.
    pub has_checksum: u32,
    /// The CRC32C of all bytes of the file (`wf_segments_options.checksum`).
    pub checksum: u32,
    /// 0.
    pub unused: u32,
    /// Its file; null where there is a sentence.
    pub path: *const c_char,
    /// What is wrong, as a sentence; null if nothing is.
    pub sentence: *const c_char,
}

/// Is told of every segment that is closed or removed. Called on a thread of the recording's own, which
/// makes and closes no segment meanwhile: it has to return soon, and must not close the recording. `event`
/// and its texts are there until it returns.
pub type wf_on_segment =
    Option<unsafe extern "C" fn(context: *mut c_void, event: *const wf_segment_event)>;

/// How to record in segments. Set it with `wf_segments_options_init`, then change what you want to. Later
/// versions of the library add fields at the end.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct wf_segments_options {
    /// Bytes in this struct, as `wf_segments_options_init` has set it: says which fields the caller
    /// knows.
    pub size: u64,
    /// A segment has at most so many bytes of data (default 0: any number). What is pushed at once lies in
    /// one segment, also if it is longer.
    pub segment_bytes: u64,
    /// A segment ends after so long, in milliseconds, with the next push (default 0: never).
    pub every_ms: u64,
    /// A raw stream whose segments end between frames of so many bytes, also in the midst of one push
    /// (default 0: each push is a record, which is never split). Not with `framed`.
    pub frame_bytes: u64,
    /// Closed segments have so many bytes together at the most; the oldest go (default 0: all stay).
    pub keep_bytes: u64,
    /// So many closed segments are kept at the most (default 0: all).
    pub keep_count: u64,
    /// A closed segment is kept for so long, in milliseconds (default 0: for ever).
    pub keep_ms: u64,
    /// The disk keeps so many bytes free (default 0: none), and `floor` says what happens where it does not.
    pub min_free: u64,
    /// With `framed`: the number of the first message of a new recording (default 0, at most 2^62).
    pub first_sequence: u64,
    /// With `framed`: the longest message, in bytes (default 64 MiB, at most 1 GiB).
    pub longest: u64,
    /// `WF_FLOOR_...`
    pub floor: u32,
    /// 1: messages, each with a number, a time and checksums, in framed files (`wf_segments_write_frame`);
    /// 0 (default): plain bytes (`wf_segments_write`).
    pub framed: u32,
    /// 1: the CRC32C of each file is computed as it is written, not in a push, and told when it is closed;
    /// 0 (default): it is not.
    pub checksum: u32,
    /// 1: other processes may follow the recording while it is written (the crate's `follow`; Linux);
    /// 0 (default): they may not.
    pub followed: u32,
    /// Is told of every segment; null (default): nobody is.
    pub on_segment: wf_on_segment,
    /// What `on_segment` gets. It is used on another thread, until the recording is closed.
    pub context: *mut c_void,
    /// 1: the oldest segment that has to go, by `keep_bytes`, `keep_count`, `keep_ms` or
    /// `wf_segments_truncate_front`, becomes the next one, unless somebody has it open: its blocks are there, so that fences cost less. With `framed`, on
    /// Linux; until then it is kept, one more than was said. 0 (default): it goes.
    pub recycle: u32,
    /// 0.
    pub unused: u32,
}

// Without padding, or what a caller does not know could not be told from it.
const _: () = assert!(
    size_of::<wf_segments_options>()
        == size_of::<[u64; 10]>() + size_of::<[u32; 6]>() + size_of::<[*mut c_void; 2]>()
);
const _: () = assert!(
    size_of::<wf_segment_event>()
        == size_of::<[u64; 14]>() + size_of::<[u32; 4]>() + size_of::<[*mut c_void; 2]>()
);

impl Default for wf_segments_options {
    fn default() -> Self {
        Self {
            size: size_of::<Self>() as u64,
            segment_bytes: 0,
            every_ms: 0,
            frame_bytes: 0,
            keep_bytes: 0,
            keep_count: 0,
            keep_ms: 0,
            min_free: 0,
            first_sequence: 0,
            longest: 64 << 20,
            floor: WF_FLOOR_STOP,
            framed: 0,
            checksum: 0,
            followed: 0,
            on_segment: None,
            context: std::ptr::null_mut(),
            recycle: 0,
            unused: 0,
        }
    }
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

// SAFETY: numbers and pointers, the size first; without padding, see above.
unsafe impl sized::Options for wf_segments_options {
    const WRONG_SIZE: &'static str =
        "wf_segments_options.size is wrong: set it with wf_segments_options_init";
    const UNKNOWN: &'static str =
        "wf_segments_options asks for something that this version does not know";
}

impl wf_segments_options {
    /// The options of the crate; the sentence says what can't be.
    fn read(&self, pattern: &Path, each: &wf_options) -> Result<Options, wf_status> {
        if each.mode != WF_CREATE {
            return Err(invalid("each segment is a new file: leave wf_options.mode at WF_CREATE"));
        }
        if [self.framed, self.checksum, self.followed, self.recycle].iter().any(|it| *it > 1) {
            return Err(invalid(
                "framed, checksum, followed or recycle of wf_segments_options is neither 0 nor 1",
            ));
        }
        if self.unused != 0 {
            return Err(invalid("wf_segments_options.unused is not 0"));
        }
        let floor = match self.floor {
            WF_FLOOR_STOP => Floor::Stop,
            WF_FLOOR_DELETE_OLDEST => Floor::DeleteOldest,
            WF_FLOOR_WAIT => Floor::Wait,
            _ => return Err(invalid("wf_segments_options.floor is none of WF_FLOOR_...")),
        };
        let below = each.read()?.checksum(self.checksum == 1).followed(self.followed == 1);
        let mut options = Options::new(pattern).below(below).recycle(self.recycle == 1);
        let set = |options: Options, value: u64, set: fn(Options, u64) -> Options| {
            if value > 0 { set(options, value) } else { options }
        };
        let milliseconds = Duration::from_millis;
        options = set(options, self.segment_bytes, Options::size);
        options = set(options, self.frame_bytes, Options::frame_bytes);
        options = set(options, self.keep_bytes, Options::keep_bytes);
        options = set(options, self.keep_count, Options::keep_count);
        if let Some(every) = unless_zero(self.every_ms) {
            options = options.every(milliseconds(every));
        }
        if let Some(time) = unless_zero(self.keep_ms) {
            options = options.keep_for(milliseconds(time));
        }
        if let Some(bytes) = unless_zero(self.min_free) {
            options = options.min_free(bytes, floor);
        }
        Ok(match self.on_segment {
            Some(tell) => {
                let context = Context(self.context);
                options.on_event(move |event| tell_of(&event, tell, &context))
            }
            None => options,
        })
    }

    fn framed(&self, options: Options) -> Result<framed::Options, wf_status> {
        let longest = usize::try_from(self.longest)
            .map_err(|_| invalid("wf_segments_options.longest is too large"))?;
        Ok(framed::Options::from(options).first_sequence(self.first_sequence).longest(longest))
    }
}

/// What a C program gets back.
struct Context(*mut c_void);

// SAFETY: the caller of `wf_segments_open` has promised that its function may be given it on another thread.
unsafe impl Send for Context {}

type Tell = unsafe extern "C" fn(context: *mut c_void, event: *const wf_segment_event);

const NOTHING: wf_segment_event = wf_segment_event {
    size: size_of::<wf_segment_event>() as u64,
    sequence: 0,
    position: 0,
    bytes: 0,
    file_len: 0,
    began: 0,
    ended: 0,
    lost_bytes: 0,
    frames: 0,
    first_sequence: 0,
    next_sequence: 0,
    missing: 0,
    first_time: 0,
    last_time: 0,
    kind: 0,
    has_checksum: 0,
    checksum: 0,
    unused: 0,
    path: std::ptr::null(),
    sentence: std::ptr::null(),
};

/// On the keeper's thread.
fn tell_of(event: &Event, tell: Tell, context: &Context) {
    let (event, text) = match event {
        Event::Closed(closed) => (of_closed(closed), text_of_path(&closed.segment.path)),
        Event::Removed(segment) => {
            let (kind, sequence) = (WF_SEGMENT_REMOVED, segment.sequence);
            (wf_segment_event { kind, sequence, ..NOTHING }, text_of_path(&segment.path))
        }
        Event::NotRemoved(error) => {
            let kind = WF_SEGMENT_NOT_REMOVED;
            (wf_segment_event { kind, ..NOTHING }, error.to_string().into_bytes())
        }
        Event::NotReady(error) => {
            let kind = WF_SEGMENT_NOT_READY;
            (wf_segment_event { kind, ..NOTHING }, error.to_string().into_bytes())
        }
        _ => return, // of a later version
    };
    let text = CString::new(text).unwrap_or_default(); // no path, and no sentence, has a zero
    let event = match event.kind {
        WF_SEGMENT_CLOSED | WF_SEGMENT_REMOVED => wf_segment_event { path: text.as_ptr(), ..event },
        _ => wf_segment_event { sentence: text.as_ptr(), ..event },
    };
    // SAFETY: the caller's promise; event and text live until it returns.
    unsafe { tell(context.0, &event) };
}

fn of_closed(closed: &Closed) -> wf_segment_event {
    let event = wf_segment_event {
        kind: WF_SEGMENT_CLOSED,
        sequence: closed.segment.sequence,
        position: closed.position,
        bytes: closed.bytes,
        file_len: closed.summary.file_len.unwrap_or(0),
        began: nanoseconds(closed.began),
        ended: nanoseconds(closed.ended),
        lost_bytes: closed.summary.stats.overrun_bytes,
        has_checksum: closed.summary.checksum.is_some().into(),
        checksum: closed.summary.checksum.unwrap_or(0),
        ..NOTHING
    };
    match closed.frames {
        Some(framed) => wf_segment_event {
            frames: framed.frames,
            first_sequence: framed.first_sequence,
            next_sequence: framed.next_sequence,
            missing: framed.missing,
            first_time: framed.first_time,
            last_time: framed.last_time,
            ..event
        },
        None => event,
    }
}

fn nanoseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(unix)]
fn text_of_path(path: &Path) -> Vec<u8> {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec()
}

#[cfg(not(unix))]
fn text_of_path(path: &Path) -> Vec<u8> {
    path.to_string_lossy().into_owned().into_bytes()
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
    // SAFETY: the caller's promise.
    unsafe { push(segments, bytes, len, position, |writer, bytes| writer.write(bytes)) }
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
    let write =
        |writer: &mut segments::Writer, bytes: &[u8]| writer.try_write(bytes).map(Push::Accepted);
    // SAFETY: the caller's promise.
    unsafe { push(segments, bytes, len, position, write) }
}

/// # Safety
/// As `wf_segments_write`.
unsafe fn push(
    segments: wf_segments,
    bytes: *const c_void,
    len: usize,
    position: *mut u64,
    write: impl FnOnce(&mut segments::Writer, &[u8]) -> Result<Push, Error>,
) -> wf_status {
    // SAFETY: the caller's promise.
    let bytes = match unsafe { slice(bytes, len) } {
        Ok(bytes) => bytes,
        Err(status) => return status,
    };
    produce(segments, |producer| {
        Ok(match write(raw(producer)?, bytes)? {
            Push::Accepted(at) => {
                // SAFETY: the caller's promise.
                unsafe { put(position, at) };
                WF_OK
            }
            Push::Lost(_) => WF_LOST,
        })
    })
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
    let write = |writer: &mut framed::Writer, bytes: &[u8]| writer.write(time, bytes);
    // SAFETY: the caller's promise.
    unsafe { push_frame(segments, bytes, len, sequence, write) }
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
    let write = |writer: &mut framed::Writer, bytes: &[u8]| {
        writer.try_write(time, bytes).map(frames::Push::Accepted)
    };
    // SAFETY: the caller's promise.
    unsafe { push_frame(segments, bytes, len, sequence, write) }
}

/// # Safety
/// As `wf_segments_write_frame`.
unsafe fn push_frame(
    segments: wf_segments,
    bytes: *const c_void,
    len: usize,
    sequence: *mut u64,
    write: impl FnOnce(&mut framed::Writer, &[u8]) -> Result<frames::Push, Error>,
) -> wf_status {
    // SAFETY: the caller's promise.
    let bytes = match unsafe { slice(bytes, len) } {
        Ok(bytes) => bytes,
        Err(status) => return status,
    };
    produce(segments, |producer| {
        let (number, status) = match write(of_frames(producer)?, bytes)? {
            frames::Push::Accepted(placed) => (placed.sequence, WF_OK),
            frames::Push::Lost { sequence } => (sequence, WF_LOST),
        };
        // SAFETY: the caller's promise.
        unsafe { put(sequence, number) };
        Ok(status)
    })
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
