//! What the place of a file promises: its file system, its alignment, its durability.
#![allow(unsafe_code)]

use std::fs::File;

/// What a completed fence stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Medium {
    /// Memory of this machine: a power cut loses it.
    PageCache,
    /// Handed to a device, server or file system whose own flush nobody has confirmed.
    Device,
    /// The file system is known to flush the device's write cache.
    StableMedia,
}

impl std::fmt::Display for Medium {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::PageCache => "page cache",
            Self::Device => "device",
            Self::StableMedia => "stable media",
        })
    }
}

/// The durability label of a writer: the medium that `durable` stands for here, and why. It
/// assumes that the device honours a flush.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Durability {
    /// What survives what.
    pub medium: Medium,
    /// The reason, for people.
    pub reason: String,
}

impl Durability {
    /// Of writes that completed on a handle opened for write-through, without a flush.
    pub(crate) fn trusting_the_drive() -> Self {
        label(Medium::Device, "write-through without a flush: trusts the drive to obey FUA")
    }
}

impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.medium, self.reason)
    }
}

/// What was found out about a file's place.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) durability: Durability,
    /// A write with RWF_DSYNC has been seen to flush the device on this file system, through
    /// io_uring as well as by a call.
    pub(crate) dsync_flushes: bool,
}

fn label(medium: Medium, reason: impl Into<String>) -> Durability {
    Durability { medium, reason: reason.into() }
}

#[cfg(target_os = "linux")]
pub(crate) fn look(file: &File) -> Place {
    use std::os::fd::AsRawFd;
    // SAFETY: statfs is plain data, zero is valid; the call fills it.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a live descriptor and a live struct.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut stat) } != 0 {
        let reason = "the file system does not say what it is";
        return Place { durability: label(Medium::Device, reason), dsync_flushes: false };
    }
    let place = place_of(stat.f_type as u32);
    match place.durability.medium {
        Medium::StableMedia => weakened(mount_of(file).as_ref()).unwrap_or(place),
        _ => place,
    }
}

/// How a file system is mounted (proc_pid_mountinfo(5)).
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Mount {
    /// The device, as a path.
    source: String,
    /// The file system's own options.
    options: String,
}

/// By the mount's number, since btrfs shows a device number of its own. `None` without /proc.
#[cfg(target_os = "linux")]
fn mount_of(file: &File) -> Option<Mount> {
    use std::os::fd::AsRawFd;
    let about = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    let about = std::fs::read_to_string(about).ok()?;
    let number = about.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    let mounts = String::from_utf8_lossy(&mounts); // names of other mounts may be anything
    let mount = mounts.lines().find(|line| line.split(' ').next() == Some(number))?;
    let mut fields = mount.rsplit_once(" - ")?.1.split(' ').skip(1);
    Some(Mount { source: fields.next()?.into(), options: fields.next()?.into() })
}

/// What the mount takes away from the promise of a file system that flushes its device.
#[cfg(target_os = "linux")]
fn weakened(mount: Option<&Mount>) -> Option<Place> {
    let is_memory = |source: &str| {
        let name = source.rsplit('/').next().unwrap_or(source);
        let number = name.strip_prefix("zram").or_else(|| name.strip_prefix("ram"));
        number.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let durability = match mount {
        None => label(Medium::Device, "how the file system is mounted can't be seen (/proc)"),
        Some(Mount { options, .. })
            if options.split(',').any(|it| it == "nobarrier" || it == "barrier=0") =>
        {
            label(Medium::Device, "mounted without barriers: no fence flushes the device")
        }
        Some(Mount { source, .. }) if is_memory(source) => {
            label(Medium::PageCache, format!("{source} keeps the file in memory"))
        }
        Some(_) => return None,
    };
    Some(Place { durability, dsync_flushes: false })
}

/// By the magic number of the file system (statfs(2)).
#[cfg(target_os = "linux")]
fn place_of(magic: u32) -> Place {
    const FLUSHES: [(u32, &str); 3] =
        [(0xEF53, "ext4"), (0x5846_5342, "xfs"), (0x9123_683E, "btrfs")];
    const IN_MEMORY: [(u32, &str); 3] =
        [(0x0102_1994, "tmpfs"), (0x8584_58F6, "ramfs"), (0x9584_58F6, "hugetlbfs")];
    const TRUSTED: [(u32, &str); 7] = [
        (0x6573_5546, "FUSE"),
        (0x794C_7630, "overlay"),
        (0x6969, "NFS"),
        (0xFF53_4D42, "CIFS"),
        (0xFE53_4D42, "SMB2"),
        (0x0102_1997, "9p"),
        (0xF2F5_2010, "f2fs"),
    ];
    let find = |list: &[(u32, &'static str)]| {
        list.iter().find(|(known, _)| *known == magic).map(|&(_, name)| name)
    };
    let (medium, reason) = if let Some(name) = find(&FLUSHES) {
        (Medium::StableMedia, format!("a fence on {name} flushes the device"))
    } else if let Some(name) = find(&IN_MEMORY) {
        (Medium::PageCache, format!("{name} keeps the file in memory"))
    } else if let Some(name) = find(&TRUSTED) {
        (Medium::Device, format!("a fence ends at {name}, whose flush has not been confirmed"))
    } else {
        let reason = format!("file system {magic:#x} is not known to flush its device");
        (Medium::Device, reason)
    };
    Place { durability: label(medium, reason), dsync_flushes: medium == Medium::StableMedia }
}

/// The block to which unbuffered I/O has to be aligned, as the drive says (FileStorageInfo, Windows 8).
#[cfg(windows)]
pub(crate) fn direct_block(file: &File) -> Option<u64> {
    use std::os::windows::io::AsRawHandle;
    use windows_sys::Win32::Storage::FileSystem::{
        FILE_STORAGE_INFO, FileStorageInfo, GetFileInformationByHandleEx,
    };
    // SAFETY: plain data, zero is valid; the call fills it.
    let mut info: FILE_STORAGE_INFO = unsafe { std::mem::zeroed() };
    let size = size_of::<FILE_STORAGE_INFO>() as u32;
    let place = (&raw mut info).cast();
    // SAFETY: a live handle and a live struct of this size. Where it is not known (Wine 8.0), zeros
    // stay.
    unsafe {
        GetFileInformationByHandleEx(file.as_raw_handle(), FileStorageInfo, place, size);
    }
    let physical = info.FileSystemEffectivePhysicalBytesPerSectorForAtomicity;
    Some(block_of_sectors(info.LogicalBytesPerSector, physical))
}

/// At least the page, which is a sector of every known drive.
#[cfg(any(windows, test))]
fn block_of_sectors(logical: u32, physical: u32) -> u64 {
    u64::from(logical.max(physical)).max(4096)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn look(_file: &File) -> Place {
    let reason = "the platform's flush call succeeded; what it reaches has not been confirmed";
    Place { durability: label(Medium::Device, reason), dsync_flushes: false }
}

/// The block to which direct I/O has to be aligned, from statx(2) STATX_DIOALIGN (Linux 6.1), at
/// least 4096: smaller direct writes make a file system block of their own serial. `None` when
/// the file takes no direct I/O.
#[cfg(target_os = "linux")]
pub(crate) fn direct_block(file: &File) -> Option<u64> {
    use std::os::fd::AsRawFd;
    const PAGE: u64 = 4096;
    // SAFETY: statx is plain data, zero is valid; the call fills it.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: a live descriptor, an empty path that stands for it, a live struct.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            &raw mut stat,
        )
    };
    if result != 0 || stat.stx_mask & libc::STATX_DIOALIGN == 0 {
        return Some(PAGE); // an older kernel: the page is what every known device takes
    }
    match (stat.stx_dio_offset_align, stat.stx_dio_mem_align) {
        (0, _) | (_, 0) => None,
        (offset, memory) => Some(u64::from(offset.max(memory)).max(PAGE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_as_large_as_the_sectors_of_the_drive() {
        assert_eq!(block_of_sectors(0, 0), 4096, "the drive does not say");
        assert_eq!(block_of_sectors(512, 512), 4096);
        assert_eq!(block_of_sectors(4096, 4096), 4096);
        assert_eq!(block_of_sectors(512, 16384), 16384);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_mount_takes_from_what_its_file_system_promises() {
        let medium = |source: &str, options: &str| {
            let mount = Mount { source: source.into(), options: options.into() };
            weakened(Some(&mount)).map(|place| place.durability.medium)
        };
        assert_eq!(medium("/dev/vda", "rw,discard"), None);
        assert_eq!(medium("/dev/ramdisk/ram", "rw"), None);
        assert_eq!(medium("/dev/vda", "rw,nobarrier"), Some(Medium::Device));
        assert_eq!(medium("/dev/vda", "rw,barrier=0,discard"), Some(Medium::Device));
        assert_eq!(medium("/dev/zram0", "rw"), Some(Medium::PageCache));
        assert_eq!(medium("/dev/ram1", "rw"), Some(Medium::PageCache));
        assert_eq!(weakened(None).unwrap().durability.medium, Medium::Device);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_label_is_no_better_than_the_fence() {
        assert_eq!(place_of(0xEF53).durability.medium, Medium::StableMedia);
        assert_eq!(place_of(0x0102_1994).durability.medium, Medium::PageCache);
        for unconfirmed in [0x6573_5546, 0x6969, 0x1234_5678] {
            let place = place_of(unconfirmed);
            assert_eq!(place.durability.medium, Medium::Device);
            assert!(!place.dsync_flushes);
        }
    }
}
