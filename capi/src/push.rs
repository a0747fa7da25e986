//! The calls that hand over bytes.
#![allow(unsafe_code)]

use std::ffi::c_void;

use rust::{Error, Part, Push, SharedWriter};

use crate::failure::{failed, invalid, wf_status};
use crate::producer::{One, Producer};
use crate::{put, slice, wf_writer, with};
use wf_status::*;

/// A part of a record.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct wf_part {
    /// Its bytes; null if there are none.
    pub bytes: *const c_void,
    /// How many.
    pub len: usize,
}

/// A part whose pointer and length have been looked at; made by [`parts`] only.
#[repr(transparent)]
struct Checked(wf_part);

// SAFETY: the same slice each time; nothing panics.
unsafe impl Part for Checked {
    fn bytes(&self) -> &[u8] {
        // SAFETY: checked, and the caller's promise, for the length of the call.
        unsafe { slice(self.0.bytes, self.0.len) }.unwrap_or_default()
    }
}

/// The parts of a call.
///
/// # Safety
/// `parts` is null or points to `count` parts; `bytes` of each is null or points to its `len` bytes.
unsafe fn parts<'a>(parts: *const wf_part, count: usize) -> Result<&'a [Checked], wf_status> {
    const LIMIT: usize = isize::MAX as usize / size_of::<wf_part>();
    let parts: &[Checked] = match count {
        0 => &[],
        _ if parts.is_null() => return Err(invalid("the pointer to the parts is null")),
        _ if count > LIMIT => return Err(invalid("a count is negative, or absurd")),
        // SAFETY: the caller's promise; `Checked` is laid out as what it holds.
        _ => unsafe { std::slice::from_raw_parts(parts.cast(), count) },
    };
    for part in parts {
        // SAFETY: the caller's promise.
        unsafe { slice(part.0.bytes, part.0.len) }?;
    }
    Ok(parts)
}

/// Pushes, one way or another.
///
/// # Safety
/// `position` is null or writable.
unsafe fn push(
    number: wf_writer,
    position: *mut u64,
    act: impl FnOnce(&Producer) -> Result<Result<Push, Error>, wf_status>,
) -> wf_status {
    with(number, |open| match act(&open.producer) {
        // SAFETY: the caller's promise.
        Ok(Ok(Push::Accepted(from))) => unsafe {
            put(position, from);
            WF_OK
        },
        Ok(Ok(Push::Lost(_))) => WF_LOST,
        Ok(Err(error)) => failed(number, &error),
        Err(status) => status,
    })
}

/// Takes all the bytes, copied, or does what the policy `on_full` says when they don't fit. Puts the
/// file position of the first to `*position`, if it answers `WF_OK` (null: nobody wants it).
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
/// `bytes` is null (with `len` 0) or points to `len` bytes; `position` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_write(
    writer: wf_writer,
    bytes: *const c_void,
    len: usize,
    position: *mut u64,
) -> wf_status {
    let act = |producer: &Producer| {
        // SAFETY: the caller's promise.
        let bytes = unsafe { slice(bytes, len) }?;
        producer.push(|many| many.write(bytes), |one| one.write(bytes))
    };
    // SAFETY: passed on.
    unsafe { push(writer, position, act) }
}

/// Takes all the bytes, copied, or none (`WF_FULL`), whatever the policy. For deadline threads. Puts
/// the file position of the first to `*position`, if it answers `WF_OK` (null: nobody wants it).
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
/// `bytes` is null (with `len` 0) or points to `len` bytes; `position` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_try_write(
    writer: wf_writer,
    bytes: *const c_void,
    len: usize,
    position: *mut u64,
) -> wf_status {
    let act = |producer: &Producer| {
        // SAFETY: the caller's promise.
        let bytes = unsafe { slice(bytes, len) }?;
        let pushed = producer.push(|many| many.try_write(bytes), |one| one.try_write(bytes))?;
        Ok(pushed.map(Push::Accepted))
    };
    // SAFETY: passed on.
    unsafe { push(writer, position, act) }
}

/// As `wf_write`, of one record that lies in `count` parts: they follow each other in the file,
/// whoever else pushes meanwhile, and the policy holds for the record as a whole, which is taken
/// whole, or lost whole and counted once. `WF_TOO_LONG` also of parts that are together longer than
/// any file.
///
/// # Safety
/// `parts` is null (with `count` 0) or points to `count` parts, each of whose `bytes` is null (with
/// `len` 0) or points to `len` bytes; `position` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_write_parts(
    writer: wf_writer,
    parts: *const wf_part,
    count: usize,
    position: *mut u64,
) -> wf_status {
    let act = |producer: &Producer| {
        // SAFETY: the caller's promise.
        let parts = unsafe { self::parts(parts, count) }?;
        producer.push(|many| many.write_parts(parts), |one| one.write_parts(parts))
    };
    // SAFETY: passed on.
    unsafe { push(writer, position, act) }
}

/// As `wf_try_write`, of one record that lies in `count` parts: takes all of them, one behind the
/// other, or none, whoever else pushes meanwhile.
///
/// # Safety
/// The pointers are as `wf_write_parts` wants them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_try_write_parts(
    writer: wf_writer,
    parts: *const wf_part,
    count: usize,
    position: *mut u64,
) -> wf_status {
    let act = |producer: &Producer| {
        // SAFETY: the caller's promise.
        let parts = unsafe { self::parts(parts, count) }?;
        let many = |many: &SharedWriter| many.try_write_parts(parts);
        let pushed = producer.push(many, |one| one.try_write_parts(parts))?;
        Ok(pushed.map(Push::Accepted))
    };
    // SAFETY: passed on.
    unsafe { push(writer, position, act) }
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
        let lost = open.producer.push(|many| many.lose(len), |one| one.lose(len));
        lost.map_or_else(|status| status, |()| WF_OK)
    })
}

// ---- grants ---------------------------------------------------------------------------------------

/// Puts the address of `len` bytes of the buffers to `*memory`, to be filled in place: no copy. For
/// a writer that was opened with `WF_PRODUCERS_ONE`: of many producers one that forgot its grant would
/// hold up all the others.
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

/// Takes the first `len` bytes of the grant, and ends it. Puts the file position of the first to
/// `*position`, if it answers `WF_OK` (null: nobody wants it).
///
/// Never waits, takes no lock, allocates nothing; system calls as `wf_try_write`. `WF_INVALID`: no
/// grant is open, or it is shorter than that, and stays open. `WF_IO`, `WF_FORKED`, `WF_PANIC`: the
/// grant is ended, no byte was taken. `WF_BUSY`: another thread is being refused at this very moment;
/// call it again. `WF_CLOSED`.
///
/// # Safety
/// `position` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_grant_commit(
    writer: wf_writer,
    len: usize,
    position: *mut u64,
) -> wf_status {
    with(writer, |open| {
        let commit = |one: &One| {
            let from = one.commit(len)?.map_err(|error| failed(writer, &error))?;
            // SAFETY: the caller's promise.
            unsafe { put(position, from) };
            Ok(())
        };
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
