//! From a path to a number, and back to a durable file.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::path::PathBuf;

use rust::{CloseError, Control, Error, Summary, Writer};

use crate::failure::{busy, closed, failed, guarded, invalid, refuse, refuse_for, wf_status};
use crate::fences::in_header;
use crate::options::*;
use crate::producer::{One, Producer};
use crate::slots::Then;
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
/// thread that drives (but with `WF_DRIVE_CALLER`). Any thread. `WF_INVALID` (the sentence says which
/// option), `WF_LOCKED`, `WF_TOO_MANY` (4096 are open), `WF_UNFINISHED`, `WF_CANCELLED`, `WF_IO`: a
/// file that was there is as it was, and none is there that was not. An old file is emptied last; if
/// that step itself fails, or with `WF_PANIC`, it may be empty.
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
        // SAFETY: the caller's promise.
        let asked = unsafe {
            writer.write_unaligned(0);
            path_of(CStr::from_ptr(path)).and_then(|path| Ok((path, wf_options::at(options)?)))
        };
        match asked.and_then(|(path, asked)| open(&path, &asked)) {
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
    // First: a file must not be emptied for a writer that can't be.
    let place = OPEN
        .vacant()
        .ok_or_else(|| refuse(WF_TOO_MANY, format!("{WRITERS} writers are open: close one")))?;
    let opened = match asked.mode {
        WF_CREATE => options.create(path),
        WF_CREATE_NEW => options.create_new(path),
        WF_APPEND => options.append(path),
        WF_APPEND_AT => options.append_at(path, asked.append_at),
        WF_OVERWRITE => options.open(path),
        _ => return Err(invalid("wf_options.mode is none of WF_CREATE and its sisters")),
    };
    let writer = opened.map_err(|error| refuse_for(Some(&error), error.to_string()))?;
    Ok(place.fill(Open::new(writer, asked.producers)))
}

#[cfg(unix)]
fn path_of(path: &CStr) -> Result<PathBuf, wf_status> {
    let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(path.to_bytes());
    Ok(path.into())
}

#[cfg(not(unix))]
fn path_of(path: &CStr) -> Result<PathBuf, wf_status> {
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

fn close_telling(writer: wf_writer, tell: impl FnOnce(&Summary)) -> wf_status {
    match close(writer) {
        Ok(Ok(summary)) => {
            tell(&summary);
            WF_OK
        }
        Ok(Err(error)) => {
            tell(&error.summary);
            refuse_for(error.errors.first(), error.to_string())
        }
        Err(status) => status,
    }
}

fn close(number: wf_writer) -> Result<Result<Summary, CloseError>, wf_status> {
    if in_header() {
        // The checkpoint may be this writer's, and a close waits for it.
        return Err(busy("a checkpoint waits for its header: close after it"));
    }
    let open = OPEN.get(number).ok_or_else(closed)?;
    if open.control.is_lent() {
        return Err(failed(number, &Error::Forked)); // the number is the parent's as well
    }
    // The one producer has to be outside, and its writer is taken before the number is given up.
    let alone = match &open.producer {
        Producer::Many(_) => None,
        Producer::One(one) => Some(one.take()?),
    };
    drop(open);
    let end = |open: &Open| {
        let result = match (&open.producer, alone) {
            (_, Some(writer)) => writer.close(),
            (Producer::Many(writer), None) => writer.clone().close(),
            (Producer::One(_), None) => unreachable!("taken above"),
        };
        // In a forked child the threads that were inside are not there, and never leave.
        let is_forked =
            matches!(&result, Err(error) if matches!(error.errors.first(), Some(Error::Forked)));
        (result, if is_forked { Then::Leave } else { Then::Drop })
    };
    OPEN.close(number, end).ok_or_else(closed)
}

/// What poisoned the writer: `WF_OK` if nothing did, else the status that its calls answer from now
/// on, with its sentence in `wf_last_error`.
///
/// Never waits, allocates nothing. Any thread. Also `WF_CLOSED`.
#[unsafe(no_mangle)]
pub extern "C" fn wf_error(writer: wf_writer) -> wf_status {
    crate::with(writer, |open| open.control.error().map_or(WF_OK, |error| failed(writer, &error)))
}
