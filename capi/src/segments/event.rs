//! What a C program is told of the segments.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_void};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rust::segments::{Closed, Event, Options};

/// A segment is closed, and durable.
pub const WF_SEGMENT_CLOSED: u32 = 1;
/// A segment was not to be kept any longer, and is gone, durably.
pub const WF_SEGMENT_REMOVED: u32 = 2;
/// A segment should have gone, and is still there; `sentence` says why. It is left alone.
pub const WF_SEGMENT_NOT_REMOVED: u32 = 3;
/// The next segment can't be made; `sentence` says why. The recording goes on in the current one, and it
/// is tried again from time to time; told once.
pub const WF_SEGMENT_NOT_READY: u32 = 4;

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

// Without padding, as all structs that grow.
const _: () = assert!(
    size_of::<wf_segment_event>()
        == size_of::<[u64; 14]>() + size_of::<[u32; 4]>() + size_of::<[*mut c_void; 2]>()
);

/// Has the program's function told of every segment.
pub(super) fn told(options: Options, on_segment: wf_on_segment, context: *mut c_void) -> Options {
    let Some(tell) = on_segment else { return options };
    let context = Context(context);
    options.on_event(move |event| tell_of(&event, tell, &context))
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
