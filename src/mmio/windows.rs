//! What only Windows asks for: names in a code page, and handles that keep them.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle};
use std::ptr::null_mut;

use windows_sys::Win32::Foundation::{GENERIC_READ, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Globalization::{CP_ACP, MultiByteToWideChar, WideCharToMultiByte};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_SHARE_READ, FILE_SHARE_WRITE, GetFileInformationByHandle,
    ReOpenFile,
};

/// A name as messages carry it, in the code page of the process.
pub(super) fn from_code_page(name: &CStr) -> String {
    let from = name.to_bytes();
    let len = from.len() as i32;
    let mut wide = vec![0u16; from.len()]; // no code page has characters of less than a byte
    // SAFETY: both buffers live, with their lengths.
    let n = unsafe {
        MultiByteToWideChar(CP_ACP, 0, from.as_ptr(), len, wide.as_mut_ptr(), wide.len() as i32)
    };
    String::from_utf16_lossy(&wide[..n.max(0) as usize])
}

/// `None` if a character has no place in the code page, or the name holds a zero.
pub(super) fn to_code_page(name: &OsStr) -> Option<CString> {
    let wide: Vec<u16> = name.encode_wide().collect();
    let mut bytes = vec![0u8; wide.len() * 4];
    let mut replaced = 0;
    // SAFETY: all buffers live, with their lengths; a null default is allowed.
    let n = unsafe {
        WideCharToMultiByte(
            CP_ACP,
            0,
            wide.as_ptr(),
            wide.len() as i32,
            bytes.as_mut_ptr(),
            bytes.len() as i32,
            null_mut(),
            &raw mut replaced,
        )
    };
    bytes.truncate(n.max(0) as usize);
    if replaced == 0 { CString::new(bytes).ok() } else { None }
}

/// Which file it is: its volume, and its number there.
pub(super) fn identity(file: &File) -> io::Result<(u64, u64)> {
    // SAFETY: plain data, zero is valid; the call fills it.
    let mut found: BY_HANDLE_FILE_INFORMATION = unsafe { std::mem::zeroed() };
    // SAFETY: a live handle and a live struct.
    if unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut found) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let number = u64::from(found.nFileIndexHigh) << 32 | u64::from(found.nFileIndexLow);
    Ok((found.dwVolumeSerialNumber.into(), number))
}

/// The open file once more, for reading. As long as this handle lives nobody can rename or delete it:
/// it does not share that.
pub(super) fn hold_name(file: &File) -> io::Result<File> {
    let share = FILE_SHARE_READ | FILE_SHARE_WRITE;
    // SAFETY: a live handle; plain numbers.
    let handle = unsafe { ReOpenFile(file.as_raw_handle(), GENERIC_READ, share, 0) };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new handle, which nobody else has.
    Ok(unsafe { File::from_raw_handle(handle) })
}
