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
//!   READ of bytes that were overwritten since the last fence costs one; a WRITE behind a gap of more than 4 MiB waits until all
//!   before it is written. NTFS fills such a gap with zeros, on the disk, at the first write behind it
//!   (its *valid data length* ends where the gap begins), and a write there is a synchronous one.
//! * winmm hides the −1 of a buffered write, so **every refused WRITE makes CLOSE answer
//!   MMIOERR_CANNOTWRITE**; CLOSE drains, fences and trims.
//! * winmm never sends WRITEFLUSH by itself on Wine (on Windows the documentation says that it
//!   does), so a [periodic fence](Settings::fence_every) makes programs durable that never ask.
//! * Positions are 64 bits wide inside. A message carries 32: past 2 GiB `lDiskOffset` is negative
//!   and its bits are the position, as are those of a negative SEEK from the start in a file that
//!   reaches to within 64 MiB of 2 GiB (else it is refused); a WRITE that would end at 4 GiB − 1 or later
//!   is refused.
//! * MMIO_SHAREMODE is honoured between the files of this procedure, in one process or several; there
//!   is one writer a file, whatever the flags say. It is advisory: other programs are not kept out
//!   (and, without locks on open files, as on macOS, readers are not told from one another's modes).
//!   On Windows nobody, other programs included, renames or deletes a file that is open with
//!   MMIO_EXCLUSIVE; on Linux nothing can prevent that, and the file goes on under its new name.
//! * A second handle of this process (MMIO_DENYNONE) sees what has been written: its READ, and its SEEK
//!   from the end, wait until the kernel has all that was accepted (after an overwrite they cost a
//!   fence). Another process sees what has been submitted, with direct I/O up to whole blocks.
//! * A file stays the one that was opened when it is renamed, or when the process goes to another
//!   folder. Only files that are opened to be read are searched for, in the program's folder (where
//!   winmm looks even before the current one) and along the path: winmm's own procedure searches for
//!   those to be written too, and would overwrite a program of that name.
//! * A name ends with the `+` that chose the procedure. An element of a compound file
//!   (`shapes.bnd+circle`) is refused in every message with MMIOERR_CANNOTOPEN, and nothing is touched:
//!   elements are parts of one file in a format of their own, which this procedure doesn't have. So is
//!   [`MMIO_GETTEMP`].
//! * A relative SEEK or a WRITE that is refused moves nothing, and what follows is taken. After a
//!   refused WRITE nothing is called durable any more; headers can still be made true. A refused SEEK
//!   from the start or the end leaves no position, since winmm's buffers don't look at its answer: READ
//!   and WRITE are refused until one succeeds, so that nothing lands in the wrong place.
//!
//! **None of this has run on a real Windows machine**: only under Wine.
//!
//! [`File`] is the caller's side for programs without winmm. [`Settings`] say how files are opened.
//!
//! Message numbers, layouts and answers follow the public documentation of `mmsystem.h`, except
//! where its current pages print "the return value is  1": a minus sign was lost, older editions
//! say −1.

mod abi;
mod failure;
mod file;
mod name;
mod open_file;
mod procedure;
mod settings;
mod storage;
mod table;
#[cfg(windows)]
mod windows;

#[cfg(windows)]
#[doc(hidden)]
pub use crate::process_end::process_ends;
pub use abi::*;
pub use failure::Failure;
pub use file::{Chunk, File};
#[cfg(all(test, unix, not(any(loom, shuttle))))]
pub(crate) use procedure::direct;
pub use procedure::io_procedure;
#[cfg(windows)]
pub use procedure::io_procedure_w;
pub use settings::Settings;
