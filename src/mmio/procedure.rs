//! The I/O procedure: messages in, answers out. The one place that trusts pointers.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;

use super::abi::*;
use super::failure::Failure;
use super::name::{self, Coding, Named};
use super::open_file::OpenFile;
use super::storage::Storage;
use super::table::{Shared, table};
use crate::canary::Canary;
use crate::sync::ignore_poison;

/// What went wrong last with a file that is not open (any more).
static LAST: Mutex<Option<Failure>> = Mutex::new(None);

const REFUSED: LRESULT = -1;

/// The I/O procedure: for `mmioInstallIOProc`, for [`File`](super::File), or for a program's own
/// dispatcher.
///
/// Thread-safe: messages for one file are taken one after the other, but a WRITEFLUSH, or a fence,
/// that waits for the disk keeps nobody from writing. A panic inside is a refusal outside.
///
/// # Safety
/// `info` is null or a live [`MMIOINFO`]. OPEN and CLOSE have it for themselves. Other messages for
/// an open file may come from several threads at once: of their MMIOINFO they read `adwInfo` and
/// `dwFlags` and change `lDiskOffset`, one after the other; so whoever reads `lDiskOffset` himself does it while
/// no message is under way. Names are null or end with a zero; that of MMIO_PARSE and MMIO_EXIST
/// lies in 128 writable bytes, unless it is complete already. A buffer that comes with a count holds
/// at least as many bytes, for READ and the USER messages writable ones.
pub unsafe extern "system" fn io_procedure(
    info: *mut MMIOINFO,
    message: u32,
    first: LPARAM,
    second: LPARAM,
) -> LRESULT {
    // SAFETY: the caller's promise.
    unsafe { answer(info, message, [first, second], Coding::CodePage) }
}

/// [`io_procedure`] for names with any characters: they come in UTF-16 with a zero at the end, and
/// MMIO_PARSE and MMIO_EXIST complete them in 128 units of that.
///
/// For dispatchers of one's own, and [`File`](super::File) uses it. Not for winmm: that of Wine 8.0
/// hands names of the code page to every procedure, also to one that came by `mmioInstallIOProcW`; what
/// Windows hands over nobody has tried.
///
/// # Safety
/// As [`io_procedure`], with names of aligned 16-bit units.
#[cfg(windows)]
pub unsafe extern "system" fn io_procedure_w(
    info: *mut MMIOINFO,
    message: u32,
    first: LPARAM,
    second: LPARAM,
) -> LRESULT {
    // SAFETY: the caller's promise.
    unsafe { answer(info, message, [first, second], Coding::Wide) }
}

/// # Safety
/// As [`io_procedure`], with names of this coding.
unsafe fn answer(
    info: *mut MMIOINFO,
    message: u32,
    arguments: [LPARAM; 2],
    coding: Coding,
) -> LRESULT {
    // SAFETY: the caller's promise.
    let answer = || unsafe { dispatch(info, message, arguments, coding) };
    catch_unwind(AssertUnwindSafe(answer)).unwrap_or_else(|_| {
        let failure =
            Failure::new(MMIOERR_CANNOTCLOSE, "the I/O procedure panicked; please report this");
        let code = failure.code;
        note(failure);
        if matches!(message, MMIOM_OPEN | MMIOM_CLOSE | MMIOM_RENAME) {
            code as LRESULT
        } else {
            REFUSED
        }
    })
}

/// # Safety
/// As [`answer`].
unsafe fn dispatch(
    info: *mut MMIOINFO,
    message: u32,
    [first, second]: [LPARAM; 2],
    coding: Coding,
) -> LRESULT {
    // SAFETY: the caller's promise, passed on with the arguments that the message has.
    unsafe {
        match message {
            MMIOM_OPEN => status(open(info, Name(first as *mut c_char, coding))),
            MMIOM_CLOSE => status(close(info)),
            MMIOM_RENAME => {
                let [from, to] = [first, second].map(|name| Name(name as *mut c_char, coding));
                rename(info, from.read(), to.read())
            }
            MMIOM_READ => read(info, first as *mut u8, second),
            MMIOM_WRITE => write(info, first as *const u8, second, false),
            MMIOM_WRITEFLUSH => write(info, first as *const u8, second, true),
            MMIOM_SEEK => seek(info, first, second),
            WFM_FENCE => fence(info),
            WFM_DURABLE => durable(info, first as *mut u64),
            WFM_LAST_ERROR => last_error(info, first as *mut u8, second),
            _ => 0,
        }
    }
}

// ---- names ----------------------------------------------------------------------------------------

/// A name in a message: null, or units of its coding with a zero at the end.
#[derive(Clone, Copy)]
struct Name(*mut c_char, Coding);

impl Name {
    /// # Safety
    /// It is what this type says.
    unsafe fn read(self) -> Option<Named> {
        let Self(name, coding) = self;
        if name.is_null() {
            return None;
        }
        match coding {
            // SAFETY: the caller's promise.
            Coding::CodePage => Some(name::read(unsafe { CStr::from_ptr(name) })),
            #[cfg(windows)]
            Coding::Wide => {
                let name = name.cast::<u16>();
                // SAFETY: the caller's promise: it ends with a zero.
                let units = unsafe {
                    let len = (0..).take_while(|&at| *name.add(at) != 0).count();
                    std::slice::from_raw_parts(name, len)
                };
                name::read_wide(units)
            }
        }
    }

    /// Leaves the full name in its place; writes nothing if it is there already.
    ///
    /// # Safety
    /// It is not null and, if it is not the full name, lies in [`COMPLETED`] writable units.
    unsafe fn complete(self, path: &Path) -> Result<(), Failure> {
        let Self(name, coding) = self;
        let full = on_name(path, "complete the name of", std::path::absolute(path))?;
        let fits = match coding {
            Coding::CodePage => {
                let full = name::for_message(full.as_os_str());
                // SAFETY: the caller's promise.
                full.is_some_and(|full| unsafe { leave(full.as_bytes_with_nul(), name.cast()) })
            }
            #[cfg(windows)]
            Coding::Wide => {
                let full = name::wide(full.as_os_str());
                // SAFETY: the caller's promise.
                full.is_some_and(|full| unsafe { leave(&full, name.cast()) })
            }
        };
        if fits {
            return Ok(());
        }
        let full = full.display();
        let sentence =
            format!("{full} does not fit the {COMPLETED} characters that are there for it");
        Err(Failure::new(MMIOERR_CANNOTOPEN, sentence))
    }
}

/// Whether it fits.
///
/// # Safety
/// `name` ends with a zero; if it differs, it lies in [`COMPLETED`] writable units.
unsafe fn leave<T: Copy + PartialEq>(full: &[T], name: *mut T) -> bool {
    // SAFETY: the first difference comes with the zero of the shorter one, at the latest.
    let is_there = || full.iter().zip(0..).all(|(unit, at)| unsafe { *name.add(at) } == *unit);
    let fits = full.len() <= COMPLETED;
    if fits && !is_there() {
        // SAFETY: the caller's promise; it fits, with its zero.
        unsafe { std::ptr::copy_nonoverlapping(full.as_ptr(), name, full.len()) };
    }
    fits
}

/// # Safety
/// As [`io_procedure`].
unsafe fn open(info: *mut MMIOINFO, name: Name) -> Result<(), Failure> {
    let cannot = |sentence: &str| Failure::new(MMIOERR_CANNOTOPEN, sentence);
    if info.is_null() {
        return Err(cannot("OPEN came without an MMIOINFO"));
    }
    // SAFETY: a live MMIOINFO; the name is null or ends with a zero.
    let (flags, number, asked) = unsafe { ((*info).dwFlags, (*info).adwInfo[0], name.read()) };
    if table().has(number, info) {
        return Err(cannot("OPEN came for an MMIOINFO that has an open file: send CLOSE first"));
    }
    // SAFETY: a live MMIOINFO.
    unsafe { (*info).adwInfo[0] = 0 }; // of no file, until one is open
    if flags & MMIO_GETTEMP != 0 {
        return Err(Failure::temporary()); // before anything is deleted or made
    }
    let path = asked.ok_or_else(|| cannot("OPEN came without a name"))?.file()?;
    if flags & MMIO_DELETE != 0 {
        return on_name(&path, "delete", std::fs::remove_file(&path));
    }
    if flags & MMIO_EXIST != 0 {
        let path = name::find(path);
        on_name(&path, "find", std::fs::metadata(&path))?;
        // SAFETY: as winmm's documentation asks, the name lies in a buffer of COMPLETED bytes.
        return unsafe { name.complete(&path) };
    }
    if flags & MMIO_PARSE != 0 {
        // SAFETY: as above.
        return unsafe { name.complete(&path) };
    }
    let only_reads = flags & (MMIO_CREATE | MMIO_RWMODE) == MMIO_READ;
    let path = if only_reads { name::find(path) } else { path };
    // SAFETY: a live MMIOINFO.
    unsafe { take_in(info, Storage::open(&path, flags)?) };
    Ok(())
}

/// From now on messages with this MMIOINFO are for this file.
///
/// # Safety
/// A live MMIOINFO, of no open file.
unsafe fn take_in(info: *mut MMIOINFO, storage: Storage) {
    let number = table().insert(OpenFile::new(storage), info);
    // SAFETY: the caller's promise.
    unsafe {
        (*info).adwInfo[0] = number;
        (*info).lDiskOffset = 0;
    }
}

/// Messages for a writer that is open already, whatever it stands on. A panic gets through.
#[cfg(all(test, unix, not(any(loom, shuttle))))]
pub(crate) mod direct {
    use super::{Coding, LPARAM, LRESULT, MMIOINFO, Storage};
    use crate::writer::Writer;

    pub(crate) fn open(info: &mut MMIOINFO, writer: Writer) {
        // SAFETY: a live MMIOINFO.
        unsafe { super::take_in(info, Storage::over(writer)) };
    }

    /// # Safety
    /// As [`io_procedure`](super::io_procedure).
    pub(crate) unsafe fn send(
        info: &mut MMIOINFO,
        message: u32,
        arguments: [LPARAM; 2],
    ) -> LRESULT {
        // SAFETY: the caller's promise.
        unsafe { super::dispatch(info, message, arguments, Coding::CodePage) }
    }
}

/// Units that winmm's documentation asks for in the buffer of MMIO_PARSE and MMIO_EXIST.
const COMPLETED: usize = 128;

/// A failure is the file's, too, if RENAME came with the MMIOINFO of an open one.
///
/// # Safety
/// As [`file`].
unsafe fn rename(info: *mut MMIOINFO, from: Option<Named>, to: Option<Named>) -> LRESULT {
    // SAFETY: passed on.
    let whole = unsafe { with(info, OpenFile::whole) };
    let renamed = whole.unwrap_or(Ok(())).and_then(|()| name::rename(from, to));
    if let Err(failure) = &renamed {
        // SAFETY: passed on.
        unsafe { with(info, |open| open.note(failure.clone())) };
    }
    status(renamed)
}

fn on_name<T>(path: &Path, verb: &str, result: std::io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| {
        let sentence = format!("could not {verb} {}: {error}", path.display());
        Failure::of_name(&error, name::folder_exists(path), sentence)
    })
}

// ---- an open file ---------------------------------------------------------------------------------

/// # Safety
/// Null, or a live MMIOINFO.
unsafe fn file(info: *const MMIOINFO) -> Option<Shared> {
    if info.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    table().get(unsafe { (*info).adwInfo[0] })
}

/// Does something with the open file; `None` if it is not open.
///
/// # Safety
/// As [`file`].
unsafe fn with<T>(info: *mut MMIOINFO, act: impl FnOnce(&mut OpenFile) -> T) -> Option<T> {
    // SAFETY: passed on.
    let shared = unsafe { file(info) }?;
    let mut guard = ignore_poison(shared.lock());
    let open = guard.as_mut()?;
    let result = act(open);
    // The low 32 bits, as winmm keeps them; inside the position has 64.
    let position = open.position() as u32 as i32;
    // SAFETY: not null, or there would be no file.
    unsafe { (*info).lDiskOffset = position };
    Some(result)
}

/// # Safety
/// As [`file`].
unsafe fn close(info: *mut MMIOINFO) -> Result<(), Failure> {
    let not_open = || Failure::new(MMIOERR_CANNOTCLOSE, "CLOSE came for a file that is not open");
    if info.is_null() {
        return Err(not_open());
    }
    // SAFETY: the caller's promise.
    let number = unsafe {
        let words = (*info).adwInfo;
        (*info).adwInfo = [0, words[1], words[2]];
        words[0]
    };
    let shared = table().get(number).ok_or_else(not_open)?;
    let open = ignore_poison(shared.lock()).take().ok_or_else(not_open)?;
    let closed = open.close();
    table().remove(number); // only now: until its end is cut, readers are told where it is
    closed
}

/// # Safety
/// As [`file`]; the buffer holds `count` writable bytes.
unsafe fn read(info: *mut MMIOINFO, buffer: *mut u8, count: LPARAM) -> LRESULT {
    let count = match usize::try_from(count) {
        Ok(0) => 0,
        Ok(count) if !buffer.is_null() && count <= i32::MAX as usize => count,
        _ => return REFUSED,
    };
    let mut nothing = [];
    let bytes = match count {
        0 => &mut nothing[..],
        // SAFETY: the caller's promise.
        count => unsafe { std::slice::from_raw_parts_mut(buffer, count) },
    };
    // SAFETY: passed on.
    match unsafe { with(info, |open| open.read(bytes)) } {
        Some(Ok(taken)) => taken as LRESULT,
        Some(Err(_)) | None => REFUSED,
    }
}

/// # Safety
/// As [`file`]; the buffer holds `count` bytes.
unsafe fn write(info: *mut MMIOINFO, buffer: *const u8, count: LPARAM, flush: bool) -> LRESULT {
    let bytes = match usize::try_from(count) {
        Ok(0) => &[],
        Ok(count) if !buffer.is_null() && count <= i32::MAX as usize => {
            // SAFETY: the caller's promise.
            unsafe { std::slice::from_raw_parts(buffer, count) }
        }
        _ => {
            let sentence = format!("a write of {count} bytes at {buffer:?} can't be taken");
            let refuse = |open: &mut OpenFile| open.refuse(Failure::unwritten(sentence));
            // SAFETY: passed on.
            unsafe { with(info, refuse) };
            return REFUSED;
        }
    };
    let take = |open: &mut OpenFile| {
        let ticket =
            if flush { open.write_flush(bytes)? } else { open.write(bytes).map(|_| None)? };
        Ok::<_, Failure>((ticket, open.position()))
    };
    // SAFETY: passed on.
    match unsafe { with(info, take) } {
        Some(Ok((None, _))) => bytes.len() as LRESULT,
        Some(Ok(_)) if Canary::WriteFlushUnfenced.is_planted() => bytes.len() as LRESULT,
        // Nobody is kept from writing meanwhile.
        Some(Ok((Some(ticket), end))) => match ticket.wait() {
            Ok(_) => bytes.len() as LRESULT,
            Err(error) => {
                let failure = Failure::unwritten(error);
                let note = |open: &mut OpenFile| open.flush_failed(bytes.len(), end, failure);
                // SAFETY: passed on.
                unsafe { with(info, note) };
                REFUSED
            }
        },
        Some(Err(_)) | None => REFUSED,
    }
}

/// # Safety
/// As [`file`].
unsafe fn seek(info: *mut MMIOINFO, by: LPARAM, origin: LPARAM) -> LRESULT {
    // SAFETY: passed on.
    match unsafe { with(info, |open| open.seek(by, origin)) } {
        Some(Ok(position)) => position as u32 as i32 as LRESULT,
        Some(Err(_)) | None => REFUSED,
    }
}

// ---- our own messages -----------------------------------------------------------------------------

/// # Safety
/// As [`file`].
unsafe fn fence(info: *mut MMIOINFO) -> LRESULT {
    let ask = |open: &mut OpenFile| {
        // SAFETY: not null, or there would be no file.
        let is_dirty = unsafe { (*info).dwFlags } & MMIO_DIRTY != 0;
        if is_dirty { Err(open.held_back()) } else { open.fence() }
    };
    // SAFETY: passed on.
    match unsafe { with(info, ask) } {
        Some(Ok(None)) => 0, // nothing is written to a file that is only read
        Some(Ok(Some(ticket))) => match ticket.wait() {
            Ok(_) => 0,
            Err(error) => {
                let note = |open: &mut OpenFile| open.refuse(Failure::unwritten(error));
                // SAFETY: passed on.
                unsafe { with(info, note) };
                REFUSED
            }
        },
        Some(Err(_)) | None => REFUSED,
    }
}

/// # Safety
/// As [`file`]; `position` is null or writable, of any alignment.
unsafe fn durable(info: *mut MMIOINFO, position: *mut u64) -> LRESULT {
    // SAFETY: passed on.
    match unsafe { with(info, |open| open.durable()) } {
        Some(Some(durable)) if !position.is_null() => {
            // SAFETY: the caller's promise.
            unsafe { position.write_unaligned(durable) };
            0
        }
        _ => REFUSED,
    }
}

/// # Safety
/// As [`file`]; `buffer` is null or holds `size` writable bytes.
unsafe fn last_error(info: *mut MMIOINFO, buffer: *mut u8, size: LPARAM) -> LRESULT {
    // SAFETY: passed on.
    let of_file = unsafe { with(info, |open| open.last()) };
    let failure = of_file.unwrap_or_else(|| ignore_poison(LAST.lock()).clone());
    let (code, sentence) = failure.map_or((0, String::new()), |it| (it.code, it.sentence));
    if let Some(room) = usize::try_from(size).ok().and_then(|size| size.checked_sub(1))
        && !buffer.is_null()
    {
        let len = (0..=sentence.len().min(room)).rev().find(|&end| sentence.is_char_boundary(end));
        let len = len.unwrap_or(0);
        // SAFETY: `len` and a zero fit into the caller's buffer.
        unsafe {
            std::ptr::copy_nonoverlapping(sentence.as_ptr(), buffer, len);
            buffer.add(len).write(0);
        }
    }
    code as LRESULT
}

/// The answer of a message that has no file of its own to remember a failure.
fn status(result: Result<(), Failure>) -> LRESULT {
    match result {
        Ok(()) => 0,
        Err(failure) => {
            let code = failure.code;
            note(failure);
            code as LRESULT
        }
    }
}

fn note(failure: Failure) {
    *ignore_poison(LAST.lock()) = Some(failure);
}
