//! From a path to a number, and back to a durable file.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rust::{CloseError, Control, Error, Options, Summary, Writer};

use crate::failure::{busy, closed, failed, guarded, invalid, refuse, refuse_for, wf_status};
use crate::fences::in_header;
use crate::options::*;
use crate::producer::{One, Producer};
use crate::slots::{Then, User};
use crate::{OPEN, WRITERS, put, sized, wf_writer};
use wf_status::*;

/// An open writer.
pub(crate) struct Open {
    pub(crate) control: Control,
    pub(crate) producer: Producer,
}

impl Open {
    fn new(writer: Writer, producers: u32) -> Self {
        let control = writer.control().clone();
        let producer = if producers == WF_PRODUCERS_ONE {
            Producer::One(One::new(writer))
        } else {
            Producer::Many(writer.into_shared())
        };
        Self { control, producer }
    }
}

/// Opens a file and puts the number of its writer to `*writer` (0 if it was refused).
///
/// `path`: bytes that end with a zero, on Windows UTF-8. `options`: null for the defaults, which
/// create the file, or empty the one that is there.
///
/// Allocates; waits for the lock up to `lock_wait_ms`; makes the file's name durable; starts the
/// thread that drives (but with `WF_DRIVE_CALLER`, or a driver that others share). Any thread.
/// `WF_INVALID` (the sentence says which option), `WF_CLOSED` (no such driver is open), `WF_FORKED` (it
/// is the parent's), `WF_LOCKED`, `WF_TOO_MANY` (4096 are open), `WF_UNFINISHED`, `WF_CANCELLED`,
/// `WF_IO`: a file that was there is as it was, and none is there that was not. An old file is emptied
/// last; if that step itself fails, or with `WF_PANIC`, it may be empty.
///
/// # Safety
/// `path` is null or a string that ends with a zero; `options` is null or points to a
/// `wf_options` of as many bytes as its `size` says; `writer` is null or writable.
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
        let opened = || {
            // SAFETY: the caller's promise.
            let (path, asked) = unsafe { (CStr::from_ptr(path), sized::at(options)) };
            let (path, asked) = (path_of(path)?, asked?);
            open(&asked, |options| by_name(options, &path, &asked))
        };
        // SAFETY: the caller's promise, and it is not null.
        unsafe { tell(opened, writer) }
    })
}

/// As `wf_open`, for a file that is open already: one without a name (`O_TMPFILE`, memfd_create(2)), a
/// descriptor that was inherited, one from a sandbox's broker. It is appended to: `options` is null,
/// or its `mode` is `WF_APPEND` or `WF_APPEND_AT` (with `append_at` 0 it is emptied).
///
/// The descriptor stays yours, as it is, whatever the status: the writer has one of its own. Close
/// yours at once; or keep it, for a file without a name ends with its last descriptor, and give it one
/// (linkat(2)) when the writer is closed. Names are yours, too: none is looked at, and no directory
/// flushed. A file without a name is gone after a power cut, whatever was durable, until it has one
/// and that directory is flushed; `wf_durability` says so.
///
/// On Linux the file is opened anew (/proc), with flags and a lock of its own: a `flock` of yours is
/// another's. Where that is refused a duplicate serves, through the page cache; `wf_fallbacks` says
/// so, and there two writers over one descriptor don't find each other.
///
/// Waits and allocates as `wf_open`. Any thread. `WF_INVALID` also if it is no regular file, or open
/// for reading only, as a place only (`O_PATH`), or with `O_APPEND`; if it is sealed; if only a
/// duplicate could serve, and it is open for writing only, or for direct I/O; and on Windows. The
/// sentence says what to do; the file is as it was.
///
/// # Safety
/// `fd` is the caller's; `options` is null or points to a `wf_options` of as many bytes as its `size`
/// says; `writer` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_open_fd(
    fd: i32,
    options: *const wf_options,
    writer: *mut wf_writer,
) -> wf_status {
    guarded(|| {
        if writer.is_null() {
            return invalid("the pointer to the writer is null");
        }
        let opened = || {
            let asked = match options.is_null() {
                true => wf_options { mode: WF_APPEND, ..wf_options::default() },
                // SAFETY: the caller's promise.
                false => unsafe { sized::at(options) }?,
            };
            open(&asked, |options| over(options, fd, &asked))
        };
        // SAFETY: the caller's promise, and it is not null.
        unsafe { tell(opened, writer) }
    })
}

/// Puts the number of a new writer to where it is wanted, 0 if there is none.
///
/// # Safety
/// `writer` is writable.
unsafe fn tell(
    opened: impl FnOnce() -> Result<wf_writer, wf_status>,
    writer: *mut wf_writer,
) -> wf_status {
    // SAFETY: the caller's promise; the first for a panic.
    unsafe { writer.write_unaligned(0) };
    match opened() {
        Ok(number) => {
            // SAFETY: as above.
            unsafe { writer.write_unaligned(number) };
            WF_OK
        }
        Err(status) => status,
    }
}

/// A writer, or why not; by itself a call that can't be.
type Opened = Result<Result<Writer, Error>, wf_status>;

fn open(asked: &wf_options, way: impl FnOnce(&Options) -> Opened) -> Result<wf_writer, wf_status> {
    let options = asked.read()?;
    // First: a file must not be emptied for a writer that can't be.
    let place = OPEN
        .vacant()
        .ok_or_else(|| refuse(WF_TOO_MANY, format!("{WRITERS} writers are open: close one")))?;
    let writer = way(&options)?.map_err(|error| refuse_for(Some(&error), error.to_string()))?;
    Ok(place.fill(Open::new(writer, asked.producers)))
}

fn by_name(options: &Options, path: &Path, asked: &wf_options) -> Opened {
    Ok(match asked.mode {
        WF_CREATE => options.create(path),
        WF_CREATE_NEW => options.create_new(path),
        WF_APPEND => options.append(path),
        WF_APPEND_AT => options.append_at(path, asked.append_at),
        WF_OVERWRITE => options.open(path),
        _ => return Err(invalid("wf_options.mode is none of WF_CREATE and its sisters")),
    })
}

#[cfg(unix)]
fn over(options: &Options, fd: i32, asked: &wf_options) -> Opened {
    use std::os::fd::FromRawFd;
    if fd < 0 {
        return Err(invalid("a descriptor is never negative: was the open of the file refused?"));
    }
    // SAFETY: the caller's, and never closed here.
    let file = std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(fd) });
    Ok(match asked.mode {
        WF_APPEND => options.append_file(&file),
        WF_APPEND_AT => options.append_file_at(&file, asked.append_at),
        _ => {
            return Err(invalid(
                "a file that is open is appended to: set wf_options.mode to WF_APPEND, or to \
                 WF_APPEND_AT, with append_at 0 to empty it",
            ));
        }
    })
}

#[cfg(not(unix))]
fn over(_: &Options, _: i32, _: &wf_options) -> Opened {
    Err(invalid("Windows has no descriptors: open the file by its name"))
}

#[cfg(unix)]
pub(crate) fn path_of(path: &CStr) -> Result<PathBuf, wf_status> {
    let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(path.to_bytes());
    Ok(path.into())
}

#[cfg(not(unix))]
pub(crate) fn path_of(path: &CStr) -> Result<PathBuf, wf_status> {
    let path = path.to_str().map_err(|_| invalid("the path is not UTF-8: convert it first"))?;
    Ok(path.into())
}

/// Writes out everything, cuts the file to its exact length, makes data, length and name durable,
/// and gives up the number. Puts the durable position to `*durable` (null: nobody wants it); it is
/// true whatever the status.
///
/// Waits for the disk as long as it takes, and for calls of other threads on this writer to leave.
/// Those that wait for room get `WF_CLOSED` at once; a `wf_wait` ends with its fence, which the
/// close brings about, or with the error. Allocates. Any thread.
///
/// `WF_IO`: the first error that the writer, or the close itself, met (also what the file system says
/// only when the file is closed: close(2) on FUSE and NFS); the number is gone, and what
/// got to the file stays. `WF_FORKED` likewise: the parent's writer and file are not touched. With
/// `WF_BUSY` (one producer, which is inside a call or has a grant open; or a `wf_header` of this
/// thread is being called), `WF_CLOSED`, `WF_INVALID` nothing was done. `WF_PANIC`: the number is
/// gone.
///
/// # Safety
/// `durable` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_close(writer: wf_writer, durable: *mut u64) -> wf_status {
    guarded(|| {
        // SAFETY: the caller's promise.
        close_telling(writer, |summary| unsafe { put(durable, summary.positions.durable) })
    })
}

/// A number that could not be had.
pub const WF_UNKNOWN: u64 = u64::MAX;

/// What a close tells.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct wf_summary {
    /// The last positions, as in `wf_positions`; all four are equal after a close without error.
    pub accepted: u64,
    /// Handed to the kernel.
    pub submitted: u64,
    /// The kernel has it.
    pub written: u64,
    /// Survives a power cut; true whatever the status.
    pub durable: u64,
    /// The length of the file that the close leaves, in bytes; `WF_UNKNOWN` if it could not be asked,
    /// or the file was not this writer's to close. After a failure it may be more than what is
    /// durable, and less than what was accepted.
    pub file_len: u64,
}

/// As `wf_close`; tells more of it, to a `wf_summary` of `size` bytes (its sizeof). It is filled in
/// where the number is gone, also with an error, but not with `WF_PANIC`. Also `WF_INVALID` (null, a
/// wrong size): nothing was done.
///
/// # Safety
/// `summary` is null or points to `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_close_summary(
    writer: wf_writer,
    summary: *mut wf_summary,
    size: usize,
) -> wf_status {
    guarded(|| {
        if summary.is_null() {
            return invalid("the pointer to the summary is null");
        }
        if let Err(status) = sized::check(size) {
            return status;
        }
        // SAFETY: the caller's promise; the struct has no padding.
        close_telling(writer, |told| unsafe { sized::put(summary, size, &summed_up(told)) })
    })
}

fn summed_up(summary: &Summary) -> wf_summary {
    wf_summary {
        accepted: summary.positions.accepted,
        submitted: summary.positions.submitted,
        written: summary.positions.written,
        durable: summary.positions.durable,
        file_len: summary.file_len.unwrap_or(WF_UNKNOWN),
    }
}

/// As `wf_close`, but waits for at most so many milliseconds, whatever the disk does; a negative number
/// waits as long as it takes. `WF_PENDING`: the close goes on, on a thread of its own, nothing that was
/// accepted is lost as long as the process lives, and the number stays, for `wf_get_positions`,
/// `wf_abandon`, and another `wf_close_timeout` or `wf_close`, which waits on and gives it up; pushes
/// answer `WF_CLOSED`. Puts the durable position to `*durable` (null: nobody wants it), with
/// `WF_PENDING` the one of now.
///
/// Allocates, and starts that thread; where none can be had it is as `wf_close`, and waits. Any thread,
/// one at a time: of several at once the others may be answered `WF_CLOSED`. Else as `wf_close`.
///
/// # Safety
/// `durable` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_close_timeout(
    writer: wf_writer,
    milliseconds: i64,
    durable: *mut u64,
) -> wf_status {
    guarded(|| {
        // SAFETY: the caller's promise.
        let tell = |summary: &Summary| unsafe { put(durable, summary.positions.durable) };
        let Ok(limit) = u64::try_from(milliseconds) else { return close_telling(writer, tell) };
        match close_in_time(writer, Duration::from_millis(limit)) {
            Ok(Ok(result)) => told(result, tell),
            Ok(Err(now)) => {
                // SAFETY: as above.
                unsafe { put(durable, now) };
                WF_PENDING
            }
            Err(status) => status,
        }
    })
}

/// Ends a writer at once: for a disk that no longer answers, or a recording that nobody wants. Nothing
/// more is taken or handed to the kernel; whoever waits, and every later call, gets `WF_CLOSED`. What
/// was accepted and is not durable is lost, or may be in the file, which is not cut. Puts the durable
/// position to `*durable` (null: nobody wants it); it is true, now and later.
///
/// Waits for no disk; allocates, and starts a thread, which lets go of descriptor, lock and memory when
/// what the kernel holds has ended: never while the disk does not answer, since those bytes may still
/// land in the file. The number stays until a `wf_close` or `wf_close_timeout`, which waits for that
/// thread, gives it up, and answers `WF_CLOSED`; `WF_OK` if everything was durable: then it was as good
/// as a close. Any thread, also while another one pushes. `WF_CLOSED`, `WF_FORKED`, `WF_PANIC`.
///
/// # Safety
/// `durable` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_abandon(writer: wf_writer, durable: *mut u64) -> wf_status {
    crate::with(writer, |open| {
        if open.control.is_lent() {
            return failed(writer, &Error::Forked);
        }
        let positions = open.control.abandon();
        match open.control.error() {
            Some(error @ Error::Forked) => failed(writer, &error),
            _ => {
                // SAFETY: the caller's promise.
                unsafe { put(durable, positions.durable) };
                WF_OK
            }
        }
    })
}

fn close_telling(writer: wf_writer, tell: impl FnOnce(&Summary)) -> wf_status {
    match close(writer) {
        Ok(result) => told(result, tell),
        Err(status) => status,
    }
}

fn told(result: Result<Summary, CloseError>, tell: impl FnOnce(&Summary)) -> wf_status {
    match result {
        Ok(summary) => {
            tell(&summary);
            WF_OK
        }
        Err(error) => {
            tell(&error.summary);
            refuse_for(error.errors.first(), error.to_string())
        }
    }
}

/// The writer of a close, where it may be closed.
fn to_be_closed(number: wf_writer) -> Result<User<'static, Open>, wf_status> {
    if in_header() {
        // The checkpoint may be this writer's, and a close waits for it.
        return Err(busy("a checkpoint waits for its header: close after it"));
    }
    let open = OPEN.get(number).ok_or_else(closed)?;
    match open.control.is_lent() {
        true => Err(failed(number, &Error::Forked)), // the number is the parent's as well
        false => Ok(open),
    }
}

fn close(number: wf_writer) -> Result<Result<Summary, CloseError>, wf_status> {
    let open = to_be_closed(number)?;
    let elsewhere = open.control.closes_elsewhere();
    // The one producer has to be outside, and its writer is taken before the number is given up.
    let alone = match &open.producer {
        Producer::One(one) if !elsewhere => Some(one.take()?),
        _ => None,
    };
    drop(open);
    let end = |open: &Open| {
        let result = match (&open.producer, alone) {
            (_, Some(writer)) => writer.close(),
            (Producer::Many(writer), None) if !elsewhere => writer.clone().close(),
            _ => open.control.close(),
        };
        let then = then(&result);
        (result, then)
    };
    OPEN.close(number, end).ok_or_else(closed)
}

/// In a forked child the threads that were inside are not there, and never leave.
fn then(result: &Result<Summary, CloseError>) -> Then {
    match result {
        Err(error) if matches!(error.errors.first(), Some(Error::Forked)) => Then::Leave,
        _ => Then::Drop,
    }
}

/// What a close answers, if it ends within the limit; else the durable position of now.
type InTime = Result<Result<Summary, CloseError>, u64>;

/// Gives up the number when the close has ended.
fn close_in_time(number: wf_writer, limit: Duration) -> Result<InTime, wf_status> {
    let open = to_be_closed(number)?;
    let ended = match &open.producer {
        _ if open.control.closes_elsewhere() => open.control.close_timeout(limit),
        Producer::Many(writer) => writer.clone().close_timeout(limit),
        Producer::One(one) => one.take()?.close_timeout(limit),
    };
    let Some(result) = ended.transpose() else {
        return Ok(Err(open.control.positions().durable));
    };
    drop(open);
    OPEN.close(number, |_| ((), then(&result)));
    Ok(Ok(result))
}

/// What poisoned the writer: `WF_OK` if nothing did, else the status that its calls answer from now
/// on, with its sentence in `wf_last_error`.
///
/// Never waits, allocates nothing. Any thread. Also `WF_CLOSED`.
#[unsafe(no_mangle)]
pub extern "C" fn wf_error(writer: wf_writer) -> wf_status {
    crate::with(writer, |open| open.control.error().map_or(WF_OK, |error| failed(writer, &error)))
}
