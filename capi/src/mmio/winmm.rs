//! Programs that record through winmm: the procedure for names like `take.wav+`, and what keeps
//! their files whole when they end without closing them.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

use windows_sys::Win32::Media::Multimedia::{
    LPMMIOPROC, MMIO_FINDPROC, MMIO_INSTALLPROC, MMIO_REMOVEPROC, mmioInstallIOProcA,
};
use windows_sys::Win32::System::LibraryLoader::{
    GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GET_MODULE_HANDLE_EX_FLAG_PIN, GetModuleHandleExA,
};
use windows_sys::Win32::System::SystemServices::{DLL_PROCESS_ATTACH, DLL_PROCESS_DETACH};

use crate::failure::{guarded, invalid, refuse, wf_status};
use wf_status::*;

/// As `wf_mmio_procedure`, with names in UTF-16.
///
/// # Safety
/// As there; names are of aligned 16-bit units.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn wf_mmio_procedure_w(
    info: *mut c_void,
    message: u32,
    first: isize,
    second: isize,
) -> isize {
    // SAFETY: the caller's promise.
    unsafe { rust::mmio::io_procedure_w(info.cast(), message, first, second) }
}

/// The procedure with the type that winmm's declaration has.
unsafe extern "system" fn procedure(
    info: *const u8,
    message: u32,
    first: isize,
    second: isize,
) -> isize {
    // SAFETY: winmm keeps the contract of its messages.
    unsafe { crate::wf_mmio_procedure(info.cast_mut().cast(), message, first, second) }
}

/// The four-character code of an extension: upper case, filled up with spaces.
fn code(extension: &[u8]) -> Option<u32> {
    if extension.is_empty() || extension.len() > 4 || extension.contains(&b'.') {
        return None;
    }
    let mut code = [b' '; 4];
    code[..extension.len()].copy_from_slice(&extension.to_ascii_uppercase());
    Some(u32::from_le_bytes(code))
}

/// # Safety
/// `extension` is null or ends with a zero.
unsafe fn with_code(extension: *const c_char, act: impl FnOnce(u32) -> wf_status) -> wf_status {
    guarded(|| {
        // SAFETY: the caller's promise.
        let bytes = (!extension.is_null()).then(|| unsafe { CStr::from_ptr(extension) }.to_bytes());
        match bytes.and_then(code) {
            Some(code) => act(code),
            None => invalid("an extension has one to four characters, without the dot"),
        }
    })
}

/// Sends names with this extension and a `+` at the end (`take.wav+`) through the procedure, in
/// this process.
///
/// # Safety
/// `extension` is null or a string that ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_winmm_install(extension: *const c_char) -> wf_status {
    std::hint::black_box(&AT_ATTACH_AND_DETACH); // a linker that takes this takes that along
    let install = |code| {
        // SAFETY: a procedure that lives as long as the process: the library is pinned.
        let installed = unsafe { mmioInstallIOProcA(code, Some(procedure), MMIO_INSTALLPROC) };
        match installed {
            Some(_) => WF_OK,
            None => refuse(WF_IO, "winmm did not take the procedure"),
        }
    };
    // SAFETY: passed on.
    unsafe { with_code(extension, install) }
}

/// Takes one `wf_winmm_install` back.
///
/// # Safety
/// `extension` is null or a string that ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_winmm_remove(extension: *const c_char) -> wf_status {
    // SAFETY: constants.
    let remove = |code| match unsafe { mmioInstallIOProcA(code, None, MMIO_REMOVEPROC) } {
        Some(_) => WF_OK,
        None => refuse(WF_INVALID, "no procedure was installed for this extension"),
    };
    // SAFETY: passed on.
    unsafe { with_code(extension, remove) }
}

/// Whether names with this extension and a `+` come here: `WF_OK`, or an error. Without it winmm
/// quietly makes a file whose name ends with a plus.
///
/// # Safety
/// `extension` is null or a string that ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wf_winmm_check(extension: *const c_char) -> wf_status {
    let ours: LPMMIOPROC = Some(procedure);
    // SAFETY: constants.
    let check = |code| match unsafe { mmioInstallIOProcA(code, None, MMIO_FINDPROC) } {
        Some(found) if ours.is_some_and(|ours| ours as usize == found as usize) => WF_OK,
        Some(_) => refuse(WF_INVALID, "another procedure is installed for this extension"),
        None => refuse(WF_INVALID, "no procedure is installed for this extension"),
    };
    // SAFETY: passed on.
    unsafe { with_code(extension, check) }
}

/// What Windows calls at the begin and the end of process and threads, for the library as for a
/// program that has it linked in (a TLS callback: section `.CRT$XL?` of the portable executable).
/// A `DllMain` would be the one of whatever DLL the static library is linked into.
#[used]
#[unsafe(link_section = ".CRT$XLC")]
static AT_ATTACH_AND_DETACH: unsafe extern "system" fn(*mut c_void, u32, *mut c_void) = notified;

/// The module with this code stays loaded until the process ends.
static PINNED: AtomicBool = AtomicBool::new(false);

/// Pins the module, since threads of its own run in it; at the end of the process, when those are
/// gone and winmm closes nothing, the files that are open are written out.
unsafe extern "system" fn notified(_: *mut c_void, reason: u32, _: *mut c_void) {
    if reason == DLL_PROCESS_ATTACH {
        let mut module = null_mut();
        // SAFETY: an address in this module; a live place for the result.
        let pinned = unsafe {
            GetModuleHandleExA(
                GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                notified as *const u8,
                &raw mut module,
            )
        };
        PINNED.store(pinned != 0, Ordering::Relaxed);
    } else if reason == DLL_PROCESS_DETACH && PINNED.load(Ordering::Relaxed) {
        // Pinned, so this is the end of the process, whose other threads are gone.
        let _ = std::panic::catch_unwind(rust::mmio::process_ends);
    }
}
