//! A caller that sends messages by hand.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use writeflush::mmio::*;

pub const CREATE: u32 = MMIO_CREATE | MMIO_READWRITE;

/// A caller that sends messages by hand.
pub struct Caller {
    /// At one address, as a program's is while the file is open.
    pub info: Box<MMIOINFO>,
}

impl Caller {
    pub fn new(flags: u32) -> Self {
        Self { info: Box::new(MMIOINFO { dwFlags: flags, ..MMIOINFO::default() }) }
    }

    pub fn open(name: &str, flags: u32) -> Result<Self, isize> {
        let mut caller = Self::new(flags);
        match caller.send_open(name) {
            0 => Ok(caller),
            code => Err(code),
        }
    }

    /// OPEN with the flags as they are.
    pub fn send_open(&mut self, name: &str) -> isize {
        let name = CString::new(name).unwrap();
        self.send(MMIOM_OPEN, name.as_ptr() as isize, 0)
    }

    pub fn send(&mut self, message: u32, first: isize, second: isize) -> isize {
        // SAFETY: every test passes live buffers with their lengths.
        unsafe { io_procedure(&raw mut *self.info, message, first, second) }
    }

    pub fn write(&mut self, bytes: &[u8]) -> isize {
        self.send(MMIOM_WRITE, bytes.as_ptr() as isize, bytes.len() as isize)
    }

    pub fn write_flush(&mut self, bytes: &[u8]) -> isize {
        self.send(MMIOM_WRITEFLUSH, bytes.as_ptr() as isize, bytes.len() as isize)
    }

    pub fn read(&mut self, bytes: &mut [u8]) -> isize {
        self.send(MMIOM_READ, bytes.as_mut_ptr() as isize, bytes.len() as isize)
    }

    pub fn seek(&mut self, by: isize, origin: i32) -> isize {
        self.send(MMIOM_SEEK, by, origin as isize)
    }

    pub fn durable(&mut self) -> u64 {
        let mut position = 0u64;
        assert_eq!(self.send(WFM_DURABLE, &raw mut position as isize, 0), 0);
        position
    }

    pub fn last_error(&mut self) -> (isize, String) {
        let mut text = [0u8; 512];
        let code = self.send(WFM_LAST_ERROR, text.as_mut_ptr() as isize, text.len() as isize);
        let len = text.iter().position(|&byte| byte == 0).unwrap();
        (code, String::from_utf8_lossy(&text[..len]).into())
    }

    /// RENAME with the MMIOINFO of this file.
    pub fn rename(&mut self, from: &Path, to: &Path) -> isize {
        let (from, to) = (CString::new(name(from)).unwrap(), CString::new(name(to)).unwrap());
        self.send(MMIOM_RENAME, from.as_ptr() as isize, to.as_ptr() as isize)
    }

    pub fn offset(&self) -> i32 {
        self.info.lDiskOffset
    }

    pub fn close(&mut self) -> isize {
        self.send(MMIOM_CLOSE, 0, 0)
    }
}

pub fn name(path: &Path) -> String {
    format!("{}+", path.display())
}

pub fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("take.wav");
    (dir, path)
}

/// RENAME, which may come without an MMIOINFO.
pub fn rename(from: &Path, to: &Path) -> isize {
    let (from, to) = (CString::new(name(from)).unwrap(), CString::new(name(to)).unwrap());
    // SAFETY: both names end with a zero.
    unsafe {
        let (from, to) = (from.as_ptr() as isize, to.as_ptr() as isize);
        io_procedure(std::ptr::null_mut(), MMIOM_RENAME, from, to)
    }
}

/// OPEN with MMIO_PARSE or MMIO_EXIST: the answer, and the name that was left in the buffer.
pub fn completed(name: &[u8], flags: u32) -> (isize, Vec<u8>) {
    let mut buffer = [0xEEu8; 128];
    buffer[..name.len()].copy_from_slice(name);
    buffer[name.len()] = 0;
    let answer = Caller::new(flags).send(MMIOM_OPEN, buffer.as_mut_ptr() as isize, 0);
    let len = buffer.iter().position(|&byte| byte == 0).unwrap();
    (answer, buffer[..len].to_vec())
}

/// As the procedure writes by itself, and as a writer does.
pub fn settings() -> [Settings; 2] {
    [Settings::new(), Settings::new().options(writeflush::Options::new())]
}
