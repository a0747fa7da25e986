//! Names in a code page.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr};
use std::os::windows::ffi::OsStrExt;
use std::ptr::null_mut;

use windows_sys::Win32::Globalization::{CP_ACP, MultiByteToWideChar, WideCharToMultiByte};

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
