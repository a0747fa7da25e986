//! Status codes, and the sentence behind the last one of a thread.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rust::Error;

/// What a call answers. Negative: nothing was done, and [`wf_last_error`](crate::wf_last_error)
/// has a sentence.
#[allow(non_camel_case_types, reason = "a C name")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum wf_status {
    /// Done.
    WF_OK = 0,
    /// Not yet: the fence is not through.
    WF_PENDING = 1,
    /// The bytes were lost by the policy drop or fill, and counted.
    WF_LOST = 2,
    /// An argument can't be: a null pointer, an absurd count, an option out of its range.
    WF_INVALID = -1,
    /// The number stands for no open writer: never opened, or closed.
    WF_CLOSED = -2,
    /// No room for all the bytes, so none were taken.
    WF_FULL = -3,
    /// No room within the policy's time, so none were taken.
    WF_DEADLINE = -4,
    /// More bytes than such a call can ever take.
    WF_TOO_LONG = -5,
    /// The system refused an operation; sticky, once it was a write or a flush.
    WF_IO = -6,
    /// Another writer has the file.
    WF_LOCKED = -7,
    /// A patch past the accepted position.
    WF_RANGE = -8,
    /// The writer belongs to the parent of this forked process.
    WF_FORKED = -9,
    /// Too many writers are open.
    WF_TOO_MANY = -10,
    /// A defect of the library; please report it.
    WF_PANIC = -11,
}

use wf_status::*;

/// What went wrong last in this thread. On the way of a push only numbers are kept, so that a
/// deadline thread that meets a full buffer allocates nothing.
#[derive(Clone, Copy)]
enum Last {
    Nothing,
    Full { offered: usize, free: usize },
    TooLong { offered: usize, limit: usize },
    Sentence,
}

thread_local! {
    static LAST: Cell<Last> = const { Cell::new(Last::Nothing) };
    static SENTENCE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a call; a panic in it is a status.
pub(crate) fn guarded(call: impl FnOnce() -> wf_status) -> wf_status {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| refuse(WF_PANIC, "writeflush panicked; please report this"))
}

pub(crate) fn refuse(status: wf_status, sentence: impl Into<String>) -> wf_status {
    // A thread that is ending has no sentences any more.
    let _ = SENTENCE.try_with(|it| it.replace(sentence.into()));
    LAST.set(Last::Sentence);
    status
}

pub(crate) fn invalid(sentence: &str) -> wf_status {
    refuse(WF_INVALID, sentence)
}

pub(crate) fn closed() -> wf_status {
    refuse(WF_CLOSED, "the number stands for no open writer: it was closed, or is none")
}

pub(crate) fn failed(error: &Error) -> wf_status {
    let status = match error {
        Error::Options(_) => WF_INVALID,
        Error::Locked { .. } => WF_LOCKED,
        &Error::Full { offered, free } => {
            LAST.set(Last::Full { offered, free });
            return WF_FULL;
        }
        &Error::TooLong { offered, limit } => {
            LAST.set(Last::TooLong { offered, limit });
            return WF_TOO_LONG;
        }
        Error::Deadline { .. } => WF_DEADLINE,
        Error::PatchRange { .. } => WF_RANGE,
        Error::Closed => WF_CLOSED,
        Error::Forked => WF_FORKED,
        _ => WF_IO,
    };
    refuse(status, error.to_string())
}

/// The sentence of this thread's last refusal; empty if there was none.
pub(crate) fn last_sentence() -> String {
    match LAST.get() {
        Last::Nothing => String::new(),
        Last::Full { offered, free } => Error::Full { offered, free }.to_string(),
        Last::TooLong { offered, limit } => Error::TooLong { offered, limit }.to_string(),
        Last::Sentence => SENTENCE.with(|it| it.borrow().clone()),
    }
}
