//! The calls that hand over bytes.
#![allow(unsafe_code)]

use std::ffi::c_void;

use rust::{Error, Push, SharedWriter, Writer};

use crate::failure::{failed, invalid, wf_status};
use crate::producer::{One, Producer};
use crate::{put, slice, wf_writer, with};
use wf_status::*;

/// Offers bytes, one way or another.
///
/// # Safety
/// `bytes` is null or points to `len` bytes.
unsafe fn push(
    number: wf_writer,
    (bytes, len): (*const c_void, usize),
    many: impl FnOnce(&SharedWriter, &[u8]) -> Result<Push, Error>,
    one: impl FnOnce(&mut Writer, &[u8]) -> Result<Push, Error>,
) -> wf_status {
    with(number, |open| {
        // SAFETY: the caller's promise.
        let bytes = match unsafe { slice(bytes, len) } {
            Ok(bytes) => bytes,
            Err(status) => return status,
        };
        let pushed = match &open.producer {
            Producer::Many(writer) => Ok(many(writer, bytes)),
            Producer::One(producer) => producer.push(|writer| one(writer, bytes)),
        };
        match pushed {
            Ok(Ok(Push::Accepted(_))) => WF_OK,
            Ok(Ok(Push::Lost(_))) => WF_LOST,
            Ok(Err(error)) => failed(number, &error),
            Err(status) => status,
        }
    })
}

/// Takes all the bytes, copied, or does what the policy `on_full` says when they don't fit.
///
/// While there is room it never waits, takes no lock, allocates nothing, and with `WF_DRIVE_POLL`
/// makes no system call. When there is none, the default policy (`WF_ON_FULL_BLOCK`) **waits for
/// the disk**: a deadline thread uses `wf_try_write`, or another policy. Any thread; with
/// `WF_PRODUCERS_ONE` one at a time.
///
/// `WF_LOST` by policy. `WF_FULL`, `WF_DEADLINE` by policy, `WF_TOO_LONG` (a policy that does not
/// block, and more bytes than all buffers but one hold), `WF_INVALID`, `WF_BUSY`, `WF_FORKED`: no
/// byte was taken. `WF_IO`, `WF_CLOSED`, `WF_PANIC`: neither; only of a call that blocked may a
/// first part be in the file.
///
/// # Safety
/// `bytes` is null (with `len` 0) or points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_write(
    writer: wf_writer,
    bytes: *const c_void,
    len: usize,
) -> wf_status {
    // SAFETY: passed on.
    unsafe { push(writer, (bytes, len), SharedWriter::write, Writer::write) }
}

/// Takes all the bytes, copied, or none (`WF_FULL`), whatever the policy. For deadline threads.
///
/// Never waits, takes no lock, and allocates nothing, also when it refuses, and when the disk has
/// failed. With `WF_DRIVE_POLL` it makes no system call; otherwise one when it wakes the driver.
/// With `WF_DRIVE_CALLER` nobody makes room unless some call waits: a thread that only tries finds
/// the buffers full for ever. Any thread; with `WF_PRODUCERS_ONE` one at a time.
///
/// `WF_FULL`, `WF_TOO_LONG` (more than all buffers but one hold), `WF_INVALID`, `WF_CLOSED`,
/// `WF_IO`, `WF_FORKED`, `WF_BUSY`, `WF_PANIC`. After `WF_FULL`: try again, or `wf_lose`.
///
/// # Safety
/// `bytes` is null (with `len` 0) or points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_try_write(
    writer: wf_writer,
    bytes: *const c_void,
    len: usize,
) -> wf_status {
    let many = |writer: &SharedWriter, bytes: &[u8]| writer.try_write(bytes).map(Push::Accepted);
    let one = |writer: &mut Writer, bytes: &[u8]| writer.try_write(bytes).map(Push::Accepted);
    // SAFETY: passed on.
    unsafe { push(writer, (bytes, len), many, one) }
}

/// Records that the source lost `len` bytes before they could be offered: a device's own overrun,
/// or a block that a deadline thread drops after `WF_FULL`. With `WF_ON_FULL_FILL` as many
/// `fill_byte`s will be written in their place by the next calls that push: of a long loss each as
/// many as it has time for, and answers `WF_FULL` while some are owed; a `wf_try_write` of no bytes
/// does just that. With any other policy the bytes are only counted.
///
/// Never waits, takes no lock, allocates nothing, makes no system call. Any thread; with
/// `WF_PRODUCERS_ONE` one at a time. `WF_INVALID` (more than a terabyte), `WF_CLOSED`, `WF_BUSY`,
/// `WF_PANIC`.
#[unsafe(no_mangle)]
pub extern "C" fn wf_lose(writer: wf_writer, len: u64) -> wf_status {
    const LIMIT: u64 = 1 << 40;
    with(writer, |open| {
        let len = match usize::try_from(len) {
            Ok(len) if len as u64 <= LIMIT => len,
            _ => return invalid("a loss of more than a terabyte"),
        };
        match &open.producer {
            Producer::Many(writer) => writer.lose(len),
            Producer::One(producer) => {
                if let Err(status) = producer.push(|writer| writer.lose(len)) {
                    return status;
                }
            }
        }
        WF_OK
    })
}

// ---- grants ---------------------------------------------------------------------------------------

/// Puts the address of `len` bytes of the buffers to `*memory`, to be filled in place: no copy. For
/// a writer that was opened with `WF_PRODUCERS_ONE`.
///
/// The memory is the caller's until `wf_grant_commit` or `wf_grant_abandon`, and not a byte longer;
/// meanwhile every other call that pushes, and the close, answers `WF_BUSY`, so that it can't go
/// away. It holds whatever was there before: fill all that is committed.
///
/// Never waits, takes no lock, allocates nothing; system calls as `wf_try_write`. One thread at a
/// time; another may commit. `WF_TOO_LONG` (more than `grant_limit`), `WF_FULL`, `WF_INVALID`,
/// `WF_CLOSED`, `WF_IO`, `WF_FORKED`, `WF_BUSY`, `WF_PANIC`.
///
/// # Safety
/// `memory` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_grant_begin(
    writer: wf_writer,
    len: usize,
    memory: *mut *mut c_void,
) -> wf_status {
    with(writer, |open| {
        if memory.is_null() {
            return invalid("the pointer to the place for the memory is null");
        }
        granting(&open.producer, |one| match one.begin(len)? {
            Ok(bytes) => {
                // SAFETY: the caller's promise.
                unsafe { put(memory, bytes.cast()) };
                Ok(())
            }
            Err(error) => Err(failed(writer, &error)),
        })
    })
}

/// Takes the first `len` bytes of the grant, and ends it.
///
/// Never waits, takes no lock, allocates nothing; system calls as `wf_try_write`. `WF_INVALID`: no
/// grant is open, or it is shorter than that, and stays open. `WF_IO`, `WF_FORKED`, `WF_PANIC`: the
/// grant is ended, no byte was taken. `WF_BUSY`: another thread is being refused at this very moment;
/// call it again. `WF_CLOSED`.
#[unsafe(no_mangle)]
pub extern "C" fn wf_grant_commit(writer: wf_writer, len: usize) -> wf_status {
    with(writer, |open| {
        let commit = |one: &One| one.commit(len)?.map_err(|error| failed(writer, &error));
        granting(&open.producer, commit)
    })
}

/// Ends the grant; nothing is taken.
///
/// Never waits, takes no lock, allocates nothing. `WF_INVALID`: no grant is open. `WF_BUSY`: as
/// `wf_grant_commit`. `WF_CLOSED`, `WF_PANIC`.
#[unsafe(no_mangle)]
pub extern "C" fn wf_grant_abandon(writer: wf_writer) -> wf_status {
    with(writer, |open| granting(&open.producer, One::abandon))
}

/// Does something with the grants of a writer for one producer.
fn granting(producer: &Producer, act: impl FnOnce(&One) -> Result<(), wf_status>) -> wf_status {
    match producer {
        Producer::One(one) => act(one).map_or_else(|status| status, |()| WF_OK),
        Producer::Many(_) => invalid("grants need a writer that was opened with WF_PRODUCERS_ONE"),
    }
}
