//! The binary interface of `mmsystem.h`: numbers, structures, and the type of an I/O procedure.
//!
//! Values and layouts are those of the public Windows headers; the layouts are checked when this
//! is compiled, for 32 and 64 bit.
#![allow(non_snake_case, non_camel_case_types, reason = "the names that the headers use")]

use std::ffi::{c_char, c_void};

/// A message's argument: an integer as wide as a pointer.
pub type LPARAM = isize;
/// A message's answer: an integer as wide as a pointer.
pub type LRESULT = isize;

/// An I/O procedure: takes a message, answers it.
///
/// `info` belongs to the caller and is the same for every message of one open file (RENAME may
/// come with none). `first` and `second` depend on the message.
pub type IOProc = unsafe extern "system" fn(
    info: *mut MMIOINFO,
    message: u32,
    first: LPARAM,
    second: LPARAM,
) -> LRESULT;

// ---- messages -------------------------------------------------------------------------------------

/// Takes bytes from the file: buffer, count. Answers the bytes read (0 at its end) or −1. Waits
/// until the kernel has what was written there; after an overwrite it costs a fence.
pub const MMIOM_READ: u32 = 0;
/// Hands bytes to the file: buffer, count. Answers the bytes taken or −1.
///
/// It copies and returns, and waits for the disk only where there is no room in the buffers. The
/// zeros of a gap take room too; a gap of more than 4 MiB is made by the file system instead, which
/// waits until all that came before is written. So a deadline thread makes no such jump.
pub const MMIOM_WRITE: u32 = 1;
/// Moves the position: offset, `SEEK_SET`, `SEEK_CUR` or `SEEK_END`. Answers the new position or −1.
/// After a −1 from the start or the end every READ and WRITE is refused until one succeeds.
pub const MMIOM_SEEK: u32 = 2;
/// Opens: file name. Answers 0 or a MMIOERR.
pub const MMIOM_OPEN: u32 = 3;
/// Closes: flags. Answers 0 or a MMIOERR.
pub const MMIOM_CLOSE: u32 = 4;
/// As WRITE, and returns when the bytes, and all before them, are on disk. After a refused WRITE
/// that can't be: it is refused too.
pub const MMIOM_WRITEFLUSH: u32 = 5;
/// Renames: old name, new name. Never replaces a file (`MMIOERR_ACCESSDENIED`). Answers 0 or the
/// MMIOERR of what went wrong, `MMIOERR_CANNOTWRITE` where the disk failed; [`WFM_LAST_ERROR`] has the
/// sentence. Returns when the new name is durable. With the MMIOINFO of an open file it is refused
/// once bytes of that file are missing or the way to its disk has failed: the answer is that error.
pub const MMIOM_RENAME: u32 = 6;
/// The first of the messages that a procedure may define for itself.
pub const MMIOM_USER: u32 = 0x8000;

/// Ours: makes everything written so far durable. Answers 0 or −1: always −1 after a refused WRITE,
/// and while winmm holds bytes back in a buffer of its own ([`MMIO_DIRTY`]): `mmioFlush` first.
pub const WFM_FENCE: u32 = MMIOM_USER + 1;
/// Ours: the durable position, 64 bits wide, to the `u64` at which the first argument points.
/// Answers 0 or −1.
pub const WFM_DURABLE: u32 = MMIOM_USER + 2;
/// Ours: what went wrong last, as a sentence of UTF-8 with a zero at its end: buffer, size in
/// bytes. Answers the MMIOERR, 0 if nothing went wrong. Of the file, or, without an open file, of
/// the file that was closed, or could not be opened, last in this process.
pub const WFM_LAST_ERROR: u32 = MMIOM_USER + 3;

/// From the start.
pub const SEEK_SET: i32 = 0;
/// From the position.
pub const SEEK_CUR: i32 = 1;
/// From the end, backwards: the new position is size − offset.
pub const SEEK_END: i32 = 2;

// ---- flags of OPEN and CLOSE ----------------------------------------------------------------------

/// For reading.
pub const MMIO_READ: u32 = 0;
/// For writing.
pub const MMIO_WRITE: u32 = 1;
/// For both.
pub const MMIO_READWRITE: u32 = 2;
/// The bits that hold one of the three above.
pub const MMIO_RWMODE: u32 = 3;
/// Nobody else may open it; on Windows nobody renames or deletes it. (What others may do is advisory
/// else: see the module.)
pub const MMIO_EXCLUSIVE: u32 = 0x10;
/// Nobody else may write it.
pub const MMIO_DENYWRITE: u32 = 0x20;
/// Nobody else may read it.
pub const MMIO_DENYREAD: u32 = 0x30;
/// Anybody may open it.
pub const MMIO_DENYNONE: u32 = 0x40;
/// The bits that hold one of the four above.
pub const MMIO_SHAREMODE: u32 = 0x70;
/// Only completes the name, in the caller's buffer of 128 bytes.
pub const MMIO_PARSE: u32 = 0x100;
/// Only deletes the file. Never searches for it.
pub const MMIO_DELETE: u32 = 0x200;
/// Creates the file, or empties it.
pub const MMIO_CREATE: u32 = 0x1000;
/// Only looks whether the file exists, and completes its name in the caller's buffer of 128 bytes.
pub const MMIO_EXIST: u32 = 0x4000;
/// Asks the caller's side for a buffer; means nothing to a procedure.
pub const MMIO_ALLOCBUF: u32 = 0x1_0000;
/// Only makes a temporary name. Refused (`MMIOERR_CANNOTOPEN`, as by Wine's own procedure), whatever
/// else the flags ask, with nothing made or deleted: such a name is anybody's until its file is
/// created, and a create would empty what has the name by then. Choose a name.
pub const MMIO_GETTEMP: u32 = 0x2_0000;
/// winmm has bytes in its buffer that no WRITE has brought yet.
pub const MMIO_DIRTY: u32 = 0x1000_0000;
/// CLOSE leaves the handle below open. Ours has none to leave.
pub const MMIO_FHOPEN: u32 = 0x10;

// ---- errors ---------------------------------------------------------------------------------------

/// The file is not there.
pub const MMIOERR_FILENOTFOUND: u32 = 257;
/// Not enough memory.
pub const MMIOERR_OUTOFMEMORY: u32 = 258;
/// It can't be opened.
pub const MMIOERR_CANNOTOPEN: u32 = 259;
/// It could not be closed properly: its length or its name may not be durable.
pub const MMIOERR_CANNOTCLOSE: u32 = 260;
/// A read failed.
pub const MMIOERR_CANNOTREAD: u32 = 261;
/// Bytes that were written are not all on disk.
pub const MMIOERR_CANNOTWRITE: u32 = 262;
/// There is no such position.
pub const MMIOERR_CANNOTSEEK: u32 = 263;
/// No room for more.
pub const MMIOERR_CANNOTEXPAND: u32 = 264;
/// There is no such chunk.
pub const MMIOERR_CHUNKNOTFOUND: u32 = 265;
/// The file has no buffer. Of the caller's side: no procedure answers it.
pub const MMIOERR_UNBUFFERED: u32 = 266;
/// The folder is not there.
pub const MMIOERR_PATHNOTFOUND: u32 = 267;
/// Permission denied.
pub const MMIOERR_ACCESSDENIED: u32 = 268;
/// Somebody else has it open.
pub const MMIOERR_SHARINGVIOLATION: u32 = 269;
/// The network does not answer.
pub const MMIOERR_NETWORKERROR: u32 = 270;
/// Too many files are open.
pub const MMIOERR_TOOMANYOPENFILES: u32 = 271;
/// It is not what its name says. Of the caller's side: no procedure answers it.
pub const MMIOERR_INVALIDFILE: u32 = 272;

// ---- structures -----------------------------------------------------------------------------------

/// What the caller's side and the procedure share about an open file. Of these fields a procedure
/// changes `lDiskOffset` and `adwInfo` only.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed)]
pub struct MMIOINFO {
    /// The flags it was opened with.
    pub dwFlags: u32,
    /// The four-character code of the procedure.
    pub fccIOProc: u32,
    /// The procedure.
    pub pIOProc: Option<IOProc>,
    /// Why an open failed.
    pub wErrorRet: u32,
    /// The task, of 16-bit days.
    pub htask: *mut c_void,
    /// Size of the caller's buffer.
    pub cchBuffer: i32,
    /// The caller's buffer.
    pub pchBuffer: *mut c_char,
    /// The next byte in it.
    pub pchNext: *mut c_char,
    /// The end of what can be read from it.
    pub pchEndRead: *mut c_char,
    /// The end of what can be written to it.
    pub pchEndWrite: *mut c_char,
    /// Where the buffer begins in the file.
    pub lBufOffset: i32,
    /// The position of the next read or write: the procedure's to keep.
    pub lDiskOffset: i32,
    /// The procedure's own.
    pub adwInfo: [u32; 3],
    /// Reserved.
    pub dwReserved1: u32,
    /// Reserved.
    pub dwReserved2: u32,
    /// The handle on the caller's side.
    pub hmmio: *mut c_void,
}

impl Default for MMIOINFO {
    fn default() -> Self {
        Self {
            dwFlags: 0,
            fccIOProc: 0,
            pIOProc: None,
            wErrorRet: 0,
            htask: std::ptr::null_mut(),
            cchBuffer: 0,
            pchBuffer: std::ptr::null_mut(),
            pchNext: std::ptr::null_mut(),
            pchEndRead: std::ptr::null_mut(),
            pchEndWrite: std::ptr::null_mut(),
            lBufOffset: 0,
            lDiskOffset: 0,
            adwInfo: [0; 3],
            dwReserved1: 0,
            dwReserved2: 0,
            hmmio: std::ptr::null_mut(),
        }
    }
}

/// A chunk of a RIFF file, as `mmioDescend`, `mmioCreateChunk` and `mmioAscend` pass it. Messages
/// carry none; [`File`](super::File) has [`Chunk`](super::Chunk) instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, packed)]
pub struct MMCKINFO {
    /// Its four-character code.
    pub ckid: u32,
    /// Bytes of data.
    pub cksize: u32,
    /// The type of a list.
    pub fccType: u32,
    /// Where the data begins in the file.
    pub dwDataOffset: u32,
    /// Whether its size has to be written.
    pub dwFlags: u32,
}

const _: () = assert!(size_of::<MMCKINFO>() == 20);

macro_rules! laid_out {
    ($($field:ident at $wide:literal / $narrow:literal),* ; $total_wide:literal / $total_narrow:literal) => {
        $(const _: () = assert!(
            std::mem::offset_of!(MMIOINFO, $field) == if cfg!(target_pointer_width = "64") { $wide } else { $narrow }
        );)*
        const _: () = assert!(
            size_of::<MMIOINFO>() == if cfg!(target_pointer_width = "64") { $total_wide } else { $total_narrow }
        );
    };
}

laid_out! {
    dwFlags at 0 / 0, fccIOProc at 4 / 4, pIOProc at 8 / 8, wErrorRet at 16 / 12,
    htask at 20 / 16, cchBuffer at 28 / 20, pchBuffer at 32 / 24, pchNext at 40 / 28,
    pchEndRead at 48 / 32, pchEndWrite at 56 / 36, lBufOffset at 64 / 40, lDiskOffset at 68 / 44,
    adwInfo at 72 / 48, dwReserved1 at 84 / 60, dwReserved2 at 88 / 64, hmmio at 92 / 68;
    100 / 72
}
