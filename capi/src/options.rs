//! Options as C gives them: numbers, each looked at before it is believed.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};
use std::time::Duration;

use rust::{BackendChoice, Direct, DiskFull, Drive, FenceForm, OnFull, Options, Preallocate};

use crate::drivers::{driver_of, wf_driver};
use crate::failure::{invalid, wf_status};
use crate::open::path_of;
use crate::sized;

/// How a file is opened.
pub const WF_CREATE: u32 = 0;
/// The file must not exist.
pub const WF_CREATE_NEW: u32 = 1;
/// Goes on at the end; creates a file that is not there.
pub const WF_APPEND: u32 = 2;
/// Overwrites an existing file from its start.
pub const WF_OVERWRITE: u32 = 3;
/// As `WF_APPEND`, but goes on at `append_at`, to which the file is cut.
pub const WF_APPEND_AT: u32 = 4;

/// The best backend that works here.
pub const WF_BACKEND_AUTO: u32 = 0;
/// io_uring, or an error.
pub const WF_BACKEND_URING: u32 = 1;
/// Positional writes and flush calls.
pub const WF_BACKEND_SYNC: u32 = 2;
/// Windows overlapped I/O, or an error. Run under Wine only, never on a real Windows machine.
pub const WF_BACKEND_OVERLAPPED: u32 = 3;

/// Bypass the page cache where that works, and nobody is to follow the recording
/// (`wf_segments_options.followed`).
pub const WF_DIRECT_AUTO: u32 = 0;
/// Bypass it, or an error.
pub const WF_DIRECT_ON: u32 = 1;
/// Through the page cache.
pub const WF_DIRECT_OFF: u32 = 2;

/// A thread that sleeps when there is nothing to do.
pub const WF_DRIVE_THREAD: u32 = 0;
/// Whoever waits. Where nobody does, nothing is written, and full buffers stay full for ever.
pub const WF_DRIVE_CALLER: u32 = 1;
/// A thread that never sleeps: a push makes no system call.
pub const WF_DRIVE_POLL: u32 = 2;

/// `wf_write` waits for room: for the disk. Nothing is ever lost.
pub const WF_ON_FULL_BLOCK: u32 = 0;
/// ... for `block_ms` at most, then `WF_DEADLINE`.
pub const WF_ON_FULL_BLOCK_FOR: u32 = 1;
/// `wf_write` answers `WF_FULL`.
pub const WF_ON_FULL_FAIL: u32 = 2;
/// `wf_write` loses the bytes, and counts them.
pub const WF_ON_FULL_DROP: u32 = 3;
/// ... and later writes `fill_byte` in their place.
pub const WF_ON_FULL_FILL: u32 = 4;

/// A full medium ends the stream: what the file holds without a gap is made durable first, and the
/// close cuts the file there.
pub const WF_ON_DISK_FULL_FAIL: u32 = 0;
/// What was accepted stays in the buffers until there is space, and the writer goes on. Meanwhile
/// the buffers fill up, `on_full` says what happens then, and fences wait. A close does not: it tries
/// once more, then ends as with `WF_ON_DISK_FULL_FAIL`.
pub const WF_ON_DISK_FULL_WAIT: u32 = 1;

/// Any thread may push, several at once.
pub const WF_PRODUCERS_MANY: u32 = 0;
/// One thread at a time may push: cheaper, and the only one that has grants. A second one gets
/// `WF_BUSY`.
pub const WF_PRODUCERS_ONE: u32 = 1;

/// The file grows with the data.
pub const WF_PREALLOCATE_NONE: u32 = 0;
/// Reserves `preallocate_bytes`.
pub const WF_PREALLOCATE_RESERVE: u32 = 1;
/// Writes `preallocate_bytes` zeros: the cheapest fences later.
pub const WF_PREALLOCATE_ZERO: u32 = 2;

/// The first of the forms below that is known to flush here, and that trusts no drive of which nothing
/// but its standard says that it obeys FUA (NVMe with a volatile cache).
pub const WF_FENCE_AUTO: u32 = 0;
/// A write that carries its own fence: on a drive that takes FUA no flush, so it trusts that drive.
pub const WF_FENCE_DSYNC: u32 = 1;
/// A flush linked behind the write.
pub const WF_FENCE_LINK: u32 = 2;
/// A flush when the writes have completed.
pub const WF_FENCE_FLUSH: u32 = 3;
/// No flush: trusts the drive to obey write-through. Windows only.
pub const WF_FENCE_WRITE_THROUGH: u32 = 4;

/// What the driver's thread does first, on itself: takes a name, a priority, cores. 0: go on; else an
/// error number of the system, with which `wf_open`, or `wf_driver_start`, is refused (`WF_IO`). It has
/// to return.
pub type wf_thread_setup = Option<unsafe extern "C" fn(context: *mut c_void) -> i32>;

/// Whether the open is to give up: not 0, and `wf_open` answers `WF_CANCELLED`, as if it had failed.
/// It is asked on the thread that opens. It has to return.
pub type wf_cancel = Option<unsafe extern "C" fn(context: *mut c_void) -> i32>;

/// How to open a writer. Set it with `wf_options_init`, then change what you want to. Later versions
/// of the library add fields at the end.
#[allow(non_camel_case_types, reason = "a C name")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct wf_options {
    /// Bytes in this struct, as `wf_options_init` has set it: says which fields the caller knows.
    pub size: u64,
    /// Bytes in a buffer: a multiple of 4096 (default 1 MiB).
    pub buffer_size: u64,
    /// The most memory that the buffers may take, in bytes (default 1 GiB).
    pub memory_limit: u64,
    /// For the kinds of preallocation that need a number, in bytes.
    pub preallocate_bytes: u64,
    /// For `WF_ON_FULL_BLOCK_FOR`, in milliseconds.
    pub block_ms: u64,
    /// The longest grant, in bytes; costs as much memory. 0 (default): 64 KiB, or a buffer if that
    /// is less.
    pub grant_limit: u64,
    /// Number of buffers, 2 to 1000 (default 2).
    pub buffers: u32,
    /// `WF_CREATE` and its sisters.
    pub mode: u32,
    /// `WF_BACKEND_...`
    pub backend: u32,
    /// `WF_DIRECT_...`
    pub direct: u32,
    /// `WF_DRIVE_...`
    pub drive: u32,
    /// `WF_ON_FULL_...`
    pub on_full: u32,
    /// For `WF_ON_FULL_FILL`: 0 to 255.
    pub fill_byte: u32,
    /// `WF_PREALLOCATE_...`
    pub preallocate: u32,
    /// `WF_FENCE_...`
    pub fence: u32,
    /// Permission bits of a new file, 0 to 07777 (default 0644).
    pub permissions: u32,
    /// 1 (default): takes an advisory lock against a second writer; 0: does not.
    pub lock: u32,
    /// `WF_PRODUCERS_...`
    pub producers: u32,
    /// Runs on the driver's thread before `wf_open` returns; once more, on another thread, where the
    /// backend that `WF_BACKEND_AUTO` prefers can't work; never with `WF_DRIVE_CALLER`. Null
    /// (default): the thread has no real-time policy, may run where the main thread may, and is
    /// named `writeflush`. Either way it handles no signals but those that it has caused itself.
    pub thread_setup: wf_thread_setup,
    /// What `thread_setup` gets. It is used on another thread, until `wf_open` has returned.
    pub thread_context: *mut c_void,
    /// How long an open waits for the lock of the file, in milliseconds (default 1000; 0: it tries
    /// once). A recorder that was killed holds it for a moment still.
    pub lock_wait_ms: u64,
    /// For `WF_APPEND_AT`: a position up to the file's length.
    pub append_at: u64,
    /// `WF_ON_DISK_FULL_...`: what happens when the medium is full in the middle of a recording.
    pub on_disk_full: u32,
    /// 1: a flush without a limit of time is always handed to the driver. 0 (default): where nothing
    /// else is under way, the thread that waits for it carries it out, and is inside the kernel then
    /// until the device has answered, whatever `wf_abandon` and `wf_close_timeout` do meanwhile.
    pub no_inline_flush: u32,
    /// Is asked again and again while an open waits for the lock, and between any two pieces of 1 MiB
    /// of `WF_PREALLOCATE_ZERO`, which may take minutes; never once `wf_open` has returned (with
    /// `wf_mmio_settings`: in every OPEN from then on). Null (default): nothing calls an open off.
    pub cancel: wf_cancel,
    /// What `cancel` gets: where another thread, or a signal handler, leaves its mark, atomically. It
    /// has to live as long as `cancel` may be asked.
    pub cancel_context: *mut c_void,
    /// How long an accepted byte may stay in the buffers unasked, in milliseconds (default 100; 0:
    /// until its buffer is full, or somebody asks): then it is handed to the kernel, so that a crash
    /// of the process loses no more than that. Behind a fence bytes wait half as long again. No fence
    /// is made. Not with `WF_DRIVE_CALLER`.
    pub submit_every_ms: u64,
    /// A fence at this interval, in milliseconds, for programs that never ask for one (default 0:
    /// never). Nobody waits for it: `wf_positions` tells how far it got, and an error is sticky. With
    /// `WF_DRIVE_CALLER` only calls that move things on look at the clock.
    pub fence_every_ms: u64,
    /// A fence over so many bytes at the latest (default 0: never), counted when a buffer is full or
    /// something is submitted: never exactly.
    pub fence_bytes: u64,
    /// A driver that other writers share (`wf_driver_start`), in place of one of the writer's own; 0
    /// (default): its own. `backend`, `drive` and `thread_setup` are the driver's then: leave them at
    /// their defaults. The writer keeps the driver, whoever closes its number.
    pub driver: wf_driver,
    /// The most bytes of zeros that are written ahead of the data in idle time, for who fences again
    /// and again after a few bytes (default 0: none; at most 64 MiB): a fence of a growing file costs
    /// what one of a file that was written before does, and each byte goes to the device twice. Until
    /// the close, and after a crash, the file ends in them. Linux, ext4 and xfs; elsewhere
    /// `wf_fallbacks` says why not.
    pub zero_ahead: u64,
    /// The buffers lie in a ring file of this name, so that every byte that was accepted survives the
    /// death of the process, by kill -9 too; null (default): in the heap. A string that ends with a
    /// zero, read by the open. The file has to lie in memory (`/dev/shm`), so no power cut is survived by
    /// it; it is made by the open, which is refused where one of that name has what a killed writer
    /// accepted, and goes with a close that has brought everything to the disk. After a kill
    /// `wf_recover_ring` brings what was accepted to the file, and so does an open with `WF_APPEND` or
    /// `WF_APPEND_AT` and the same name here. Linux; not for MMIO, nor for segments.
    pub survive_kill: *const c_char,
    /// 0.
    pub unused: usize,
}

/// What a C program hands to a function of its own.
struct Context(*mut c_void);

// SAFETY: the caller of `wf_open` has promised that its functions may be given it on another thread.
unsafe impl Send for Context {}
// SAFETY: as above; one thread at a time is set up, and one opens.
unsafe impl Sync for Context {}

// Without padding, or what a caller does not know could not be told from it.
const _: () = assert!(
    size_of::<wf_options>()
        == size_of::<[u64; 13]>() + size_of::<[u32; 14]>() + size_of::<[*mut c_void; 6]>()
);

impl Default for wf_options {
    fn default() -> Self {
        Self {
            size: size_of::<Self>() as u64,
            buffer_size: 1 << 20,
            memory_limit: 1 << 30,
            preallocate_bytes: 0,
            block_ms: 0,
            grant_limit: 0,
            buffers: 2,
            mode: WF_CREATE,
            backend: WF_BACKEND_AUTO,
            direct: WF_DIRECT_AUTO,
            drive: WF_DRIVE_THREAD,
            on_full: WF_ON_FULL_BLOCK,
            fill_byte: 0,
            preallocate: WF_PREALLOCATE_NONE,
            fence: WF_FENCE_AUTO,
            permissions: 0o644,
            lock: 1,
            producers: WF_PRODUCERS_MANY,
            thread_setup: None,
            thread_context: std::ptr::null_mut(),
            lock_wait_ms: 1000,
            append_at: 0,
            on_disk_full: WF_ON_DISK_FULL_FAIL,
            no_inline_flush: 0,
            cancel: None,
            cancel_context: std::ptr::null_mut(),
            submit_every_ms: 100,
            fence_every_ms: 0,
            fence_bytes: 0,
            driver: 0,
            zero_ahead: 0,
            survive_kill: std::ptr::null(),
            unused: 0,
        }
    }
}

/// Sets every option that the caller knows to its default. `size`: `sizeof` of the caller's
/// `wf_options`; nothing behind it is touched. Call it before anything else is done with one.
///
/// No wait, no allocation. Any thread. `WF_INVALID`: null, or no such size.
///
/// # Safety
/// `options` is null or points to `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_options_init(options: *mut wf_options, size: usize) -> wf_status {
    // SAFETY: the caller's promise.
    unsafe { sized::init(options, size) }
}

// SAFETY: numbers and pointers, the size first; without padding, see above.
unsafe impl sized::Options for wf_options {
    const WRONG_SIZE: &'static str = "wf_options.size is wrong: set it with wf_options_init";
    const UNKNOWN: &'static str = "wf_options asks for something that this version does not know";
}

impl wf_options {
    /// The driver that the writer shares.
    fn shared(&self) -> Result<rust::Driver, wf_status> {
        let own = self.backend != WF_BACKEND_AUTO
            || self.drive != WF_DRIVE_THREAD
            || self.thread_setup.is_some()
            || self.fence == WF_FENCE_WRITE_THROUGH;
        if own {
            return Err(invalid(
                "wf_options.driver has a backend, drive and thread set-up of its own: choose those in \
                 wf_driver_options, leave them at their defaults here, and fence without write-through",
            ));
        }
        driver_of(self.driver)
    }

    /// The options of the crate; the sentence says what can't be.
    pub(crate) fn read(&self) -> Result<Options, wf_status> {
        let number = |value: u64| {
            usize::try_from(value).map_err(|_| invalid("a size in wf_options is too large"))
        };
        let backend = backend_of(self.backend)
            .ok_or_else(|| invalid("wf_options.backend is none of WF_BACKEND_..."))?;
        let direct = match self.direct {
            WF_DIRECT_AUTO => Direct::Auto,
            WF_DIRECT_ON => Direct::On,
            WF_DIRECT_OFF => Direct::Off,
            _ => return Err(invalid("wf_options.direct is none of WF_DIRECT_...")),
        };
        let drive = drive_of(self.drive)
            .ok_or_else(|| invalid("wf_options.drive is none of WF_DRIVE_..."))?;
        let fill = u8::try_from(self.fill_byte)
            .map_err(|_| invalid("wf_options.fill_byte is more than 255"))?;
        let on_full = match self.on_full {
            WF_ON_FULL_BLOCK => OnFull::Block,
            WF_ON_FULL_BLOCK_FOR => OnFull::BlockFor(Duration::from_millis(self.block_ms)),
            WF_ON_FULL_FAIL => OnFull::Fail,
            WF_ON_FULL_DROP => OnFull::Drop,
            WF_ON_FULL_FILL => OnFull::Fill(fill),
            _ => return Err(invalid("wf_options.on_full is none of WF_ON_FULL_...")),
        };
        let preallocate = match self.preallocate {
            WF_PREALLOCATE_NONE => Preallocate::None,
            WF_PREALLOCATE_RESERVE => Preallocate::Reserve(self.preallocate_bytes),
            WF_PREALLOCATE_ZERO => Preallocate::Zero(self.preallocate_bytes),
            _ => return Err(invalid("wf_options.preallocate is none of WF_PREALLOCATE_...")),
        };
        let fence = match self.fence {
            WF_FENCE_AUTO => FenceForm::Auto,
            WF_FENCE_DSYNC => FenceForm::Dsync,
            WF_FENCE_LINK => FenceForm::Link,
            WF_FENCE_FLUSH => FenceForm::Flush,
            WF_FENCE_WRITE_THROUGH => FenceForm::WriteThrough,
            _ => return Err(invalid("wf_options.fence is none of WF_FENCE_...")),
        };
        let on_disk_full = match self.on_disk_full {
            WF_ON_DISK_FULL_FAIL => DiskFull::Fail,
            WF_ON_DISK_FULL_WAIT => DiskFull::Wait,
            _ => return Err(invalid("wf_options.on_disk_full is none of WF_ON_DISK_FULL_...")),
        };
        if self.no_inline_flush > 1 {
            return Err(invalid("wf_options.no_inline_flush is neither 0 nor 1"));
        }
        if self.lock > 1 {
            return Err(invalid("wf_options.lock is neither 0 nor 1"));
        }
        if self.permissions > 0o7777 {
            return Err(invalid("wf_options.permissions has more than permission bits"));
        }
        if self.producers > WF_PRODUCERS_ONE {
            return Err(invalid("wf_options.producers is none of WF_PRODUCERS_..."));
        }
        let mut options = match number(self.grant_limit)? {
            0 => Options::new(),
            limit => Options::new().grant_limit(limit),
        };
        if let Some(setup) = set_up_by(self.thread_setup, self.thread_context) {
            options = options.thread_setup(setup);
        }
        if !self.survive_kill.is_null() {
            // SAFETY: the caller's promise: a string that ends with a zero.
            let ring = unsafe { CStr::from_ptr(self.survive_kill) };
            options = options.survive_kill(path_of(ring)?);
        }
        if self.driver != 0 {
            options = options.driver(&self.shared()?);
        }
        if let Some(cancel) = self.cancel {
            let context = Context(self.cancel_context);
            options = options.cancel_open_if(move || {
                let Context(context) = &context;
                // SAFETY: the caller's promise; it has to return.
                unsafe { cancel(*context) != 0 }
            });
        }
        Ok(options
            .buffer_size(number(self.buffer_size)?)
            .buffers(self.buffers as usize)
            .memory_limit(number(self.memory_limit)?)
            .backend(backend)
            .direct(direct)
            .drive(drive)
            .inline_flush(self.no_inline_flush == 0)
            .on_full(on_full)
            .on_disk_full(on_disk_full)
            .preallocate(preallocate)
            .zero_ahead(self.zero_ahead)
            .fence_form(fence)
            .mode(self.permissions)
            .lock(self.lock != 0)
            .lock_wait(Duration::from_millis(self.lock_wait_ms))
            .submit_every(unless_zero(self.submit_every_ms).map(Duration::from_millis))
            .fence_every(unless_zero(self.fence_every_ms).map(Duration::from_millis))
            .fence_bytes(unless_zero(self.fence_bytes)))
    }
}

pub(crate) fn backend_of(number: u32) -> Option<BackendChoice> {
    Some(match number {
        WF_BACKEND_AUTO => BackendChoice::Auto,
        WF_BACKEND_URING => BackendChoice::Uring,
        WF_BACKEND_SYNC => BackendChoice::Sync,
        WF_BACKEND_OVERLAPPED => BackendChoice::Overlapped,
        _ => return None,
    })
}

pub(crate) fn drive_of(number: u32) -> Option<Drive> {
    Some(match number {
        WF_DRIVE_THREAD => Drive::Thread,
        WF_DRIVE_CALLER => Drive::Caller,
        WF_DRIVE_POLL => Drive::Poll,
        _ => return None,
    })
}

/// A set-up of the caller's, if it has one.
pub(crate) fn set_up_by(
    setup: wf_thread_setup,
    context: *mut c_void,
) -> Option<impl Fn() -> std::io::Result<()> + Send + Sync + 'static> {
    let context = Context(context);
    setup.map(|setup| {
        move || {
            let Context(context) = &context;
            // SAFETY: the caller's promise; it has to return.
            match unsafe { setup(*context) } {
                0 => Ok(()),
                error => Err(std::io::Error::from_raw_os_error(error)),
            }
        }
    })
}

pub(crate) fn unless_zero(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}
