//! The messages of the Windows multimedia file services, on every platform.
//!
//! A program that records through MMIO messages (`mmioOpen`, `mmioWrite`, or a dispatcher of its
//! own) keeps its code, and gets the same writer as everybody else: WRITE copies and returns,
//! **WRITEFLUSH** returns when its bytes, and all before them, are durable.
//!
//! ```text
//!   winmm, or File, or a dispatcher ──messages──▶ io_procedure ──▶ OpenFile ──▶ Storage ──▶ Writer
//!                                                 pointers          32 bits      64 bits
//! ```
//!
//! * [`io_procedure`] handles OPEN, CLOSE, READ, SEEK, WRITE, WRITEFLUSH and RENAME, and messages of
//!   our own: [`WFM_FENCE`], [`WFM_DURABLE`], [`WFM_LAST_ERROR`].
//! * WRITE and WRITEFLUSH answer the bytes taken, or −1, and leave `lDiskOffset` at the new position.
//! * It is random access: overwrites, gaps (which read as zeros), and reads of what was written. A
//!   READ after an overwrite costs a fence.
//! * winmm hides the −1 of a buffered write, so **every refused WRITE makes CLOSE answer
//!   MMIOERR_CANNOTWRITE**; CLOSE drains, fences and trims.
//! * winmm never sends WRITEFLUSH by itself on Wine (on Windows the documentation says that it
//!   does), so a [periodic fence](Settings::fence_every) makes programs durable that never ask.
//! * Positions are 64 bits wide inside. A message carries 32: past 2 GiB `lDiskOffset` is negative
//!   and its bits are the position; a WRITE that would end at 4 GiB − 1 or later is refused.
//! * Opening to write takes the advisory lock of a [`Writer`](crate::Writer). Files that are only
//!   read honour MMIO_EXCLUSIVE, MMIO_DENYREAD and MMIO_DENYWRITE with the same lock.
//!
//! [`File`] is the caller's side for programs without winmm. [`Settings`] say how files are opened.
//!
//! Message numbers, layouts and answers follow the public documentation of `mmsystem.h`, except
//! where its current pages print "the return value is  1": a minus sign was lost, older editions
//! say −1.

mod abi;
mod failure;
mod fences;
mod file;
mod name;
mod open_file;
mod procedure;
mod settings;
mod storage;
mod table;
#[cfg(windows)]
mod windows;

pub use abi::*;
pub use failure::Failure;
pub use file::{Chunk, File};
pub use procedure::io_procedure;
pub use settings::Settings;
#[cfg(windows)]
pub use windows::process_ends;
