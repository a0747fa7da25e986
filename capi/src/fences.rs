//! The calls that say what survives.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::c_void;
use std::time::Duration;

use crate::failure::{failed, invalid, wf_status};
use crate::producer::Producer;
use crate::{put, slice, wf_writer, with};
use wf_status::*;

/// A fence that was asked for. Plain numbers: copy it, keep it, forget it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct wf_ticket {
    /// The writer whose fence it is.
    pub writer: wf_writer,
    /// The position that is durable once the fence is through.
    pub position: u64,
    /// The number of patches before it.
    pub patches: u64,
}

/// Makes the header of a checkpoint: `header` points to as many zeros as `wf_checkpoint` was asked
/// for, to be filled so that they describe a file whose first `durable` bytes are there. It may call
/// the library, but close no writer (`WF_BUSY`); it has to return.
pub type wf_header =
    Option<unsafe extern "C" fn(context: *mut c_void, durable: u64, header: *mut c_void)>;

thread_local! {
    /// Headers that this thread is making: a checkpoint inside another's header is possible.
    static HEADERS: Cell<u32> = const { Cell::new(0) };
}

pub(crate) fn in_header() -> bool {
    HEADERS.with(Cell::get) > 0
}

/// Takes the bytes and returns when they, and all before them, are durable; puts the durable
/// position to `*durable` (null: nobody wants it). With no bytes it is a plain flush.
///
/// Waits for room and for the disk, whatever the policy. Any thread; calls from several share
/// fences. With `WF_PRODUCERS_ONE` a call with bytes is one that pushes (`WF_BUSY`), a plain flush
/// is not; it does not wait for fill bytes that are still owed, which the next push or the close
/// lays down.
///
/// `WF_IO`, `WF_CLOSED`, `WF_PANIC`: the bytes may be in the file, or some of them; what is durable
/// `wf_get_positions` says. `WF_INVALID`, `WF_FORKED`, `WF_BUSY`: nothing was done.
///
/// # Safety
/// `bytes` is null (with `len` 0) or points to `len` bytes; `durable` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_write_flush(
    writer: wf_writer,
    bytes: *const c_void,
    len: usize,
    durable: *mut u64,
) -> wf_status {
    with(writer, |open| {
        // SAFETY: the caller's promise.
        let bytes = match unsafe { slice(bytes, len) } {
            Ok(bytes) => bytes,
            Err(status) => return status,
        };
        let flushed = match &open.producer {
            Producer::Many(writer) => Ok(writer.write_flush(bytes)),
            Producer::One(_) if bytes.is_empty() => Ok(open.control.flush()),
            Producer::One(producer) => producer.push(|writer| writer.write_flush(bytes)),
        };
        match flushed {
            // SAFETY: the caller's promise.
            Ok(Ok(position)) => unsafe {
                put(durable, position);
                WF_OK
            },
            Ok(Err(error)) => failed(writer, &error),
            Err(status) => status,
        }
    })
}

/// As a `wf_write_flush` with no bytes, but waits for at most so many milliseconds (`WF_PENDING`: not
/// everything is durable by then, and the fence goes on); a negative number waits as long as it takes.
/// Puts the durable position to `*durable` (null: nobody wants it), with `WF_PENDING` the one of now.
///
/// Does not wait for fill bytes that are still owed. With `WF_DRIVE_CALLER` an operation of the disk
/// that this call has begun is not cut short. Any thread. `WF_IO`, `WF_CLOSED`, `WF_FORKED`,
/// `WF_PANIC`.
///
/// # Safety
/// `durable` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_flush_timeout(
    writer: wf_writer,
    milliseconds: i64,
    durable: *mut u64,
) -> wf_status {
    with(writer, |open| {
        let flushed = match u64::try_from(milliseconds) {
            Ok(limit) => open.control.flush_timeout(Duration::from_millis(limit)),
            Err(_) => open.control.flush().map(Some),
        };
        let (position, status) = match flushed {
            Ok(Some(position)) => (position, WF_OK),
            Ok(None) => (open.control.positions().durable, WF_PENDING),
            Err(error) => return failed(writer, &error),
        };
        // SAFETY: the caller's promise.
        unsafe { put(durable, position) };
        status
    })
}

/// Overwrites bytes that were accepted before: any place below the accepted position. Ordered behind
/// every write before it; durable with the next fence, and not before: until then a power cut may
/// leave the old bytes, the new ones, or some sectors of either, also below the durable position.
///
/// Takes a lock, allocates, may wait for the disk. Any thread. `WF_RANGE`, `WF_INVALID`,
/// `WF_FORKED`: nothing was done. `WF_IO`, `WF_CLOSED`, `WF_PANIC`: of a patch of more than 32 KiB
/// some may be in the file.
///
/// # Safety
/// `bytes` is null (with `len` 0) or points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_patch(
    writer: wf_writer,
    offset: u64,
    bytes: *const c_void,
    len: usize,
) -> wf_status {
    with(writer, |open| {
        // SAFETY: the caller's promise.
        match unsafe { slice(bytes, len) }.map(|bytes| open.control.patch(offset, bytes)) {
            Ok(Ok(())) => WF_OK,
            Ok(Err(error)) => failed(writer, &error),
            Err(status) => status,
        }
    })
}

/// Asks for a fence over everything accepted, and every patch, so far, and puts its ticket to
/// `*ticket` (null: nobody will wait for it; a failure is sticky and shows later). Fences that are
/// asked for while one is under way share the next.
///
/// Never waits; with `WF_DRIVE_CALLER` the fence goes on only in calls that wait. Allocates nothing;
/// makes a system call only to wake the driver. Any thread. `WF_CLOSED`, `WF_PANIC`.
///
/// # Safety
/// `ticket` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_fence(writer: wf_writer, ticket: *mut wf_ticket) -> wf_status {
    with(writer, |open| {
        let [position, patches] = open.control.fence().numbers();
        // SAFETY: the caller's promise.
        unsafe { put(ticket, wf_ticket { writer, position, patches }) };
        WF_OK
    })
}

/// Waits until the fence is through (`WF_OK`), for at most so many milliseconds (`WF_PENDING`); a
/// negative number waits as long as it takes, 0 waits for no other thread.
///
/// With `WF_DRIVE_CALLER` a call that finds the fence not through does the work itself, and an
/// operation of the disk that it has begun is not cut short, also with 0. Any thread. `WF_IO`: the
/// writer failed before the fence was through. `WF_INVALID` (another writer's ticket, or none),
/// `WF_CLOSED`, `WF_FORKED`, `WF_PANIC`.
#[unsafe(no_mangle)]
pub extern "C" fn wf_wait(writer: wf_writer, ticket: wf_ticket, milliseconds: i64) -> wf_status {
    with(writer, |open| {
        let ours = (ticket.writer == writer).then_some([ticket.position, ticket.patches]);
        let Some(ticket) = ours.and_then(|numbers| open.control.ticket(numbers)) else {
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
            Err(error) => failed(writer, &error),
        }
    })
}

/// Makes everything accepted so far durable, has `header` make `len` bytes of that durable position,
/// overwrites the bytes at `offset` with them, and makes that durable too: at every instant the
/// header on disk describes durable bytes only. Puts the position that it describes to `*durable`
/// (null: nobody wants it).
///
/// A power cut may tear a header between two sectors of the device (512 bytes or 4096): keep in one
/// what has to be true together, or add a checksum and a second header.
///
/// Waits for the disk, allocates. Any thread, one checkpoint at a time. `WF_INVALID` (null, or a
/// header of more than 32 KiB, which is more than one write), `WF_FORKED`: nothing was done.
/// `WF_RANGE`: the header would reach past the accepted position, and was not written. `WF_IO`,
/// `WF_CLOSED`, `WF_PANIC`: the header may be the old one or the new one.
///
/// # Safety
/// `header` is null or keeps the promise of its type; `durable` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_checkpoint(
    writer: wf_writer,
    offset: u64,
    len: usize,
    header: wf_header,
    context: *mut c_void,
    durable: *mut u64,
) -> wf_status {
    const LIMIT: usize = 32 << 10;
    with(writer, |open| {
        let Some(header) = header else {
            return invalid("the pointer to the function that makes the header is null");
        };
        if len > LIMIT {
            return invalid("a header of more than 32 KiB is more than one write: make it smaller");
        }
        let make = |durable| {
            let mut bytes = vec![0; len];
            HEADERS.with(|it| it.set(it.get() + 1));
            // SAFETY: the caller's promise; `len` writable bytes.
            unsafe { header(context, durable, bytes.as_mut_ptr().cast()) };
            HEADERS.with(|it| it.set(it.get() - 1));
            bytes
        };
        match open.control.checkpoint(offset, make) {
            // SAFETY: the caller's promise.
            Ok(position) => unsafe {
                put(durable, position);
                WF_OK
            },
            Err(error) => failed(writer, &error),
        }
    })
}
