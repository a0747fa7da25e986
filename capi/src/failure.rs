//! Status codes, and the sentence behind the last one of a thread.

use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rust::Error;

use crate::{OPEN, wf_writer};

/// What a call answers. Negative: it was refused, and `wf_last_error` has a sentence. What a
/// refused call may have done all the same is said at `wf_write`, `wf_write_flush`, `wf_patch`,
/// `wf_checkpoint` and `wf_close`; every other one has done nothing.
#[allow(non_camel_case_types, reason = "a C name")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum wf_status {
    /// Done.
    WF_OK = 0,
    /// Not yet: the fence is not through, or the close has not ended.
    WF_PENDING = 1,
    /// The bytes were lost by the policy drop or fill, and counted.
    WF_LOST = 2,
    /// An argument can't be: a null pointer, an absurd count, an option out of its range.
    WF_INVALID = -1,
    /// The number stands for no open writer, driver or recording: never opened, or closed.
    WF_CLOSED = -2,
    /// No room for all the bytes, so none were taken.
    WF_FULL = -3,
    /// No room within the policy's time, so none were taken.
    WF_DEADLINE = -4,
    /// More bytes than such a call can ever take.
    WF_TOO_LONG = -5,
    /// The system refused an operation. Sticky, once it was a write or a flush: from then on every
    /// call that pushes or waits answers this.
    WF_IO = -6,
    /// Another writer has the file.
    WF_LOCKED = -7,
    /// A patch past the accepted position.
    WF_RANGE = -8,
    /// The writer, or its driver, belongs to the parent of this forked process: nothing is taken here,
    /// and nobody waits. (What was durable before the fork still answers `WF_OK`.)
    WF_FORKED = -9,
    /// Too many writers, drivers or recordings are open.
    WF_TOO_MANY = -10,
    /// A defect of the library; please report it. The writer is poisoned: later calls answer
    /// `WF_IO`, and it can be closed.
    WF_PANIC = -11,
    /// The one producer of this writer is inside a call, or has a grant open.
    WF_BUSY = -12,
    /// The call would have to wait for a driver on the thread of a driver, which runs the wakers of
    /// Rust's futures. Nothing was taken; a close is finished by the driver.
    WF_IN_WAKER = -13,
    /// The file was not closed, and ends in zeros that may be padding: `WF_APPEND_AT` goes on at a
    /// position that you know.
    WF_UNFINISHED = -14,
    /// The open was called off (`wf_options.cancel`).
    WF_CANCELLED = -15,
}

use wf_status::*;

/// What went wrong last in this thread. The calls of a deadline thread keep plain numbers here, and
/// the sentence is made when somebody asks for it: they allocate nothing, whatever they meet.
#[derive(Clone, Copy)]
enum Last {
    Nothing,
    Text(&'static str),
    Full {
        offered: usize,
        free: usize,
    },
    TooLong {
        offered: usize,
        limit: usize,
    },
    Deadline {
        waited: Duration,
    },
    PatchRange {
        offset: u64,
        len: usize,
        accepted: u64,
    },
    InWaker,
    Closed,
    Forked,
    /// What poisoned this writer, which keeps the error itself.
    Poisoned(wf_writer),
    /// It is in `SENTENCE`.
    Sentence,
}

thread_local! {
    static LAST: Cell<Last> = const { Cell::new(Last::Nothing) };
    static SENTENCE: RefCell<String> = const { RefCell::new(String::new()) };
    /// The system's number that belongs to `SENTENCE`; 0 for none.
    static NUMBER: Cell<i32> = const { Cell::new(0) };
}

/// Runs a call that is no writer's; a panic in it is a status.
pub(crate) fn guarded(call: impl FnOnce() -> wf_status) -> wf_status {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| panicked())
}

pub(crate) fn panicked() -> wf_status {
    remember(WF_PANIC, Last::Text("writeflush panicked; please report this"))
}

/// Allocates: for calls that do anyway.
pub(crate) fn refuse(status: wf_status, sentence: impl Into<String>) -> wf_status {
    refuse_with(status, sentence, 0)
}

/// An open or a close failed, for the first of these errors. Allocates.
pub(crate) fn refuse_for(error: Option<&Error>, sentence: impl Into<String>) -> wf_status {
    let number = error.and_then(Error::raw_os_error).unwrap_or(0);
    refuse_with(error.map_or(WF_IO, status_of), sentence, number)
}

pub(crate) fn refuse_with(
    status: wf_status,
    sentence: impl Into<String>,
    number: i32,
) -> wf_status {
    // A thread that is ending has no sentences any more.
    let _ = SENTENCE.try_with(|it| it.replace(sentence.into()));
    NUMBER.set(number);
    remember(status, Last::Sentence)
}

pub(crate) fn invalid(sentence: &'static str) -> wf_status {
    remember(WF_INVALID, Last::Text(sentence))
}

pub(crate) fn closed() -> wf_status {
    let sentence = "the number stands for no open writer: it was closed, or is none";
    remember(WF_CLOSED, Last::Text(sentence))
}

pub(crate) fn no_driver() -> wf_status {
    let sentence = "the number stands for no open driver: it was closed, or is none";
    remember(WF_CLOSED, Last::Text(sentence))
}

pub(crate) fn no_segments() -> wf_status {
    let sentence = "the number stands for no open recording: it was closed, or is none";
    remember(WF_CLOSED, Last::Text(sentence))
}

pub(crate) fn driver_of_parent() -> wf_status {
    let sentence = "the driver belongs to the parent of this forked process: leave it alone";
    remember(WF_FORKED, Last::Text(sentence))
}

pub(crate) fn busy(sentence: &'static str) -> wf_status {
    remember(WF_BUSY, Last::Text(sentence))
}

/// A call on an open writer failed.
pub(crate) fn failed(writer: wf_writer, error: &Error) -> wf_status {
    let last = match *error {
        Error::Full { offered, free } => Last::Full { offered, free },
        Error::TooLong { offered, limit } => Last::TooLong { offered, limit },
        Error::Deadline { waited } => Last::Deadline { waited },
        Error::PatchRange { offset, len, accepted } => Last::PatchRange { offset, len, accepted },
        Error::InWaker => Last::InWaker,
        Error::Closed => Last::Closed,
        Error::Forked => Last::Forked,
        _ => Last::Poisoned(writer),
    };
    remember(status_of(error), last)
}

/// A call failed on something that keeps no error for later. Allocates, but for what a deadline thread
/// may meet.
pub(crate) fn failed_apart(error: &Error) -> wf_status {
    match error {
        Error::Full { .. }
        | Error::TooLong { .. }
        | Error::Deadline { .. }
        | Error::InWaker
        | Error::Closed
        | Error::Forked => failed(0, error),
        _ => refuse_for(Some(error), error.to_string()),
    }
}

fn remember(status: wf_status, last: Last) -> wf_status {
    LAST.set(last);
    status
}

pub(crate) fn status_of(error: &Error) -> wf_status {
    match error {
        Error::Options(_) => WF_INVALID,
        Error::Locked { .. } => WF_LOCKED,
        Error::Unfinished { .. } => WF_UNFINISHED,
        Error::Cancelled => WF_CANCELLED,
        Error::Full { .. } => WF_FULL,
        Error::TooLong { .. } => WF_TOO_LONG,
        Error::Deadline { .. } => WF_DEADLINE,
        Error::PatchRange { .. } => WF_RANGE,
        Error::InWaker => WF_IN_WAKER,
        Error::Lost { .. } => WF_LOST, // of std::io::Write only
        Error::Closed => WF_CLOSED,
        Error::Forked => WF_FORKED,
        _ => WF_IO,
    }
}

/// The system's number behind this thread's last refusal; 0 if there was none.
pub(crate) fn last_number() -> i32 {
    match LAST.get() {
        Last::Sentence => NUMBER.get(),
        Last::Poisoned(writer) => {
            let error = OPEN.get(writer).and_then(|open| open.control.error());
            error.and_then(|error| error.raw_os_error()).unwrap_or(0)
        }
        _ => 0,
    }
}

/// What a status means, for a message; not why it was given.
pub(crate) fn text_of(status: i32) -> &'static CStr {
    const ALL: [(wf_status, &CStr); 18] = [
        (WF_OK, c"done"),
        (WF_PENDING, c"the fence is not through yet, or the close"),
        (WF_LOST, c"the bytes were lost by policy, and counted"),
        (WF_INVALID, c"an argument can't be"),
        (WF_CLOSED, c"the number stands for no open writer, driver or recording"),
        (WF_FULL, c"there is no room for all the bytes"),
        (WF_DEADLINE, c"there was no room in time"),
        (WF_TOO_LONG, c"such a call never takes so many bytes"),
        (WF_IO, c"the system refused an operation"),
        (WF_LOCKED, c"another writer has the file"),
        (WF_RANGE, c"the patch lies past the accepted position"),
        (WF_FORKED, c"the writer, or its driver, belongs to the parent of this process"),
        (WF_TOO_MANY, c"too many writers, drivers or recordings are open"),
        (WF_PANIC, c"a defect of the library"),
        (WF_BUSY, c"the one producer of this writer is inside a call"),
        (WF_IN_WAKER, c"a waker can't wait for a driver"),
        (WF_UNFINISHED, c"the file was not closed: its end is not known"),
        (WF_CANCELLED, c"the open was called off"),
    ];
    let known = ALL.iter().find(|(known, _)| *known as i32 == status);
    known.map_or(c"no status of this library", |(_, text)| text)
}

/// The sentence of this thread's last refusal; empty if there was none.
pub(crate) fn last_sentence() -> String {
    let error = match LAST.get() {
        Last::Nothing => return String::new(),
        Last::Text(sentence) => return sentence.into(),
        Last::Sentence => return SENTENCE.with(|it| it.borrow().clone()),
        Last::Poisoned(writer) => {
            let error = OPEN.get(writer).and_then(|open| open.control.error());
            return error.map_or_else(
                || "the writer had failed, and was closed since; wf_close said why".into(),
                |error| error.to_string(),
            );
        }
        Last::Full { offered, free } => Error::Full { offered, free },
        Last::TooLong { offered, limit } => Error::TooLong { offered, limit },
        Last::Deadline { waited } => Error::Deadline { waited },
        Last::PatchRange { offset, len, accepted } => Error::PatchRange { offset, len, accepted },
        Last::InWaker => Error::InWaker,
        Last::Closed => Error::Closed,
        Last::Forked => Error::Forked,
    };
    error.to_string()
}
