//! Loop devices that vanish by themselves: nothing stays behind, whoever is killed.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

// <linux/loop.h>
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// A loop device, as long as it is held or mounted.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    path: PathBuf,
    _open: File,
}

impl LoopDevice {
    /// A device on a file, with sectors of so many bytes. `direct`: not through the page cache,
    /// which would serialise requests and hide writes that nobody fenced.
    pub(crate) fn new(backing: &File, direct: bool, sector: u32) -> io::Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        let flags = LO_FLAGS_AUTOCLEAR | if direct { LO_FLAGS_DIRECT_IO } else { 0 };
        // SAFETY: plain integers and bytes, for which zero is a value.
        let mut config: LoopConfig = unsafe { std::mem::zeroed() };
        config.fd = backing.as_raw_fd() as u32;
        config.block_size = sector;
        config.info.flags = flags;
        for _ in 0..1000 {
            // SAFETY: the request takes no argument.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            if number < 0 {
                return Err(io::Error::last_os_error());
            }
            let path = node(number)?;
            // Somebody else may be quicker: LOOP_CONFIGURE says so.
            let device = OpenOptions::new().read(true).write(true).open(&path)?;
            // SAFETY: the structure that the request expects, alive during the call.
            match unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } {
                0 => return Ok(Self { path, _open: device }),
                _ => {
                    let error = io::Error::last_os_error();
                    if error.raw_os_error() != Some(libc::EBUSY) {
                        return Err(error);
                    }
                }
            }
        }
        Err(io::Error::other("no loop device was free for a thousand tries"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Requests reach the file as they are: not merged, and none so long that FUSE would split it. If
    /// the second part of a split write fails, the device calls the whole of it good.
    pub(crate) fn leave_requests_alone(&self) -> io::Result<()> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let queue = PathBuf::from(format!("/sys/block/{name}/queue"));
        std::fs::write(queue.join("max_sectors_kb"), "1024")?;
        std::fs::write(queue.join("nomerges"), "2")
    }
}

/// The device's node, made where nobody else makes it (containers without udev).
fn node(number: i32) -> io::Result<PathBuf> {
    let path = PathBuf::from(format!("/dev/loop{number}"));
    if !path.exists() {
        let kind = rustix::fs::FileType::BlockDevice;
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let device = rustix::fs::makedev(7, number as u32);
        match rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, device) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(path)
}
