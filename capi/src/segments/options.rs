//! How a C program records in segments.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::path::Path;
use std::time::Duration;

use rust::frames::segments as framed;
use rust::segments::{Floor, Options};

use super::event::{told, wf_on_segment};
use crate::failure::{invalid, wf_status};
use crate::options::{WF_CREATE, unless_zero, wf_options};
use crate::sized;

/// Below `min_free` the recording stops: every push answers `WF_IO`. What was accepted is not lost.
pub const WF_FLOOR_STOP: u32 = 0;
/// ... the oldest segments go, as many as it takes; when there are none left, as `WF_FLOOR_STOP`.
pub const WF_FLOOR_DELETE_OLDEST: u32 = 1;
/// ... nothing is taken until there is more; `on_full` says what a push does meanwhile.
pub const WF_FLOOR_WAIT: u32 = 2;

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

// SAFETY: numbers and pointers, the size first; without padding, see above.
unsafe impl sized::Options for wf_segments_options {
    const WRONG_SIZE: &'static str =
        "wf_segments_options.size is wrong: set it with wf_segments_options_init";
    const UNKNOWN: &'static str =
        "wf_segments_options asks for something that this version does not know";
}

impl wf_segments_options {
    /// The options of the crate; the sentence says what can't be.
    pub(super) fn read(&self, pattern: &Path, each: &wf_options) -> Result<Options, wf_status> {
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
        Ok(told(options, self.on_segment, self.context))
    }

    pub(super) fn framed(&self, options: Options) -> Result<framed::Options, wf_status> {
        let longest = usize::try_from(self.longest)
            .map_err(|_| invalid("wf_segments_options.longest is too large"))?;
        Ok(framed::Options::from(options).first_sequence(self.first_sequence).longest(longest))
    }
}
