//! What the place of a file promises: its file system, its alignment, its durability.
#![allow(unsafe_code)]

use std::fs::File;
#[cfg(target_os = "linux")]
use std::path::Path;

#[cfg(target_os = "linux")]
use super::ground::{self, Bottom, Mount};

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
/// assumes that the device honours a flush, and a write with FUA where the reason says so.
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

    /// Says what carries the promise where the drive is sent writes with FUA; `dsync`: ours are among
    /// them.
    pub(crate) fn carried_by(mut self, dsync: bool, fua: &Fua) -> Self {
        let who = match fua {
            Fua::Announced(name) => format!("{name} says itself that it obeys"),
            Fua::Assumed(name) => format!("no program can see {name} obey"),
            Fua::Unsent => return self,
        };
        if self.medium == Medium::StableMedia {
            let what = match dsync {
                true => "a fence may be a write with FUA",
                // Of a file that grows, was only reserved, or lies on btrfs.
                false => "where the file system has to commit, that may be a write with FUA",
            };
            self.reason.push_str(&format!("; {what}, which {who}"));
        }
        self
    }

    /// The data is as durable as it was; the file may be lost all the same.
    pub(crate) fn weaken(&mut self, why: &str) {
        self.medium = self.medium.min(Medium::Device);
        self.reason.push_str("; ");
        self.reason.push_str(why);
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
    pub(crate) dsync: Dsync,
    pub(crate) fua: Fua,
}

/// Whether the disks below are sent writes that carry their own fence (FUA), and who says that they
/// obey them; the worst of all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux shows it"))]
pub(crate) enum Fua {
    /// They are sent none: a flush follows the write, or there is no volatile cache.
    Unsent,
    /// The drive of this name says so itself, as a SCSI disk does in its mode page.
    Announced(String),
    /// Nothing but its standard says it: of NVMe, and of what stands behind a bridge (ATA drives are
    /// known to ignore FUA, bridges of USB to announce what they don't have).
    Assumed(String),
}

impl Fua {
    pub(crate) fn is_assumed(&self) -> bool {
        matches!(self, Self::Assumed(_))
    }
}

/// Whether a write that carries its own fence (RWF_DSYNC) keeps that promise on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux is known to"))]
pub(crate) enum Dsync {
    /// Not known to.
    No,
    /// By a call, not through io_uring. Linux to 7.3, btrfs, a disk with FUA: an unbuffered write that
    /// ends later than its submission is sent as a FUA write, as if it needed no metadata; what its
    /// extent needs is flushed by whoever ends a write within the call only. (Bytes that were called
    /// durable read as zeros in `tests/devices/powercut`.)
    ByCall,
    Yes,
}

impl Dsync {
    /// Of a backend that is `blocking`, or not.
    pub(crate) fn flushes(self, blocking: bool) -> bool {
        match self {
            Self::No => false,
            Self::ByCall => blocking,
            Self::Yes => true,
        }
    }
}

impl Place {
    /// Whether what is written over something needs nothing recorded beside: ext4 and xfs, the very ones
    /// on which a write's own fence is known to be whole in every way.
    pub(crate) fn writes_in_place(&self) -> bool {
        self.dsync == Dsync::Yes
    }

    /// Of a writer that nobody asks for its label: the look is some 60 system calls.
    pub(crate) fn unseen() -> Self {
        let durability = label(Medium::Device, "nobody has looked at what the file lies on");
        Self { durability, dsync: Dsync::No, fua: Fua::Unsent }
    }
}

fn label(medium: Medium, reason: impl Into<String>) -> Durability {
    Durability { medium, reason: reason.into() }
}

#[cfg(target_os = "linux")]
pub(crate) fn look(file: &File) -> Place {
    look_down(file, DEEPEST)
}

/// A loop device on a file on a loop device on …: further than anybody stacks them.
#[cfg(target_os = "linux")]
const DEEPEST: usize = 8;

#[cfg(target_os = "linux")]
fn look_down(file: &File, deepest: usize) -> Place {
    let Some(stat) = statfs(file) else {
        let reason = "the file system does not say what it is";
        return Place {
            durability: label(Medium::Device, reason),
            dsync: Dsync::No,
            fua: Fua::Unsent,
        };
    };
    if deepest == 0 {
        return Place { durability: below_sight(), dsync: Dsync::No, fua: Fua::Unsent };
    }
    let place = place_of(stat.f_type as u32);
    if stat.f_type as u32 == OVERLAY {
        return overlay(file, Mount::of(file).as_ref(), deepest).unwrap_or(place);
    }
    match place.durability.medium {
        Medium::StableMedia => weakened(place, Mount::of(file).as_ref(), deepest),
        _ => place,
    }
}

/// What the file system of an open file says of itself.
#[cfg(target_os = "linux")]
fn statfs(file: &File) -> Option<libc::statfs64> {
    use std::os::fd::AsRawFd;
    // SAFETY: statfs64 is plain data, zero is valid; the call fills it.
    let mut stat: libc::statfs64 = unsafe { std::mem::zeroed() };
    // SAFETY: a live descriptor and a live struct.
    (unsafe { libc::fstatfs64(file.as_raw_fd(), &raw mut stat) } == 0).then_some(stat)
}

/// Bytes that are free, for whoever may have them; `None` where the count is an estimate.
#[cfg(target_os = "linux")]
pub(crate) fn free_space(file: &File) -> Option<u64> {
    const EXT4_AND_XFS: [u32; 2] = [0xEF53, 0x5846_5342];
    let stat = statfs(file).filter(|stat| EXT4_AND_XFS.contains(&(stat.f_type as u32)))?;
    Some(stat.f_bfree.saturating_mul(stat.f_bsize as u64))
}

/// Whether a file has its number for good. Those of FAT know none: Linux gives a file another one
/// whenever it has forgotten the file meanwhile.
#[cfg(target_os = "linux")]
pub(crate) fn keeps_numbers(file: &File) -> bool {
    statfs(file).is_none_or(|stat| ![VFAT, EXFAT].contains(&(stat.f_type as u32)))
}

/// An overlay is as good as the file system of its upper folder, to which its syncs go on, unless
/// it was told to drop them (Documentation/filesystems/overlayfs.rst, volatile mount). `None` if
/// that can't be seen.
#[cfg(target_os = "linux")]
fn overlay(file: &File, mount: Option<&Mount>, deepest: usize) -> Option<Place> {
    let mount = mount?;
    if mount.has("volatile") || mount.has("fsync=volatile") {
        let reason = "an overlay that was mounted volatile drops every flush";
        let durability = label(Medium::PageCache, reason);
        return Some(Place { durability, dsync: Dsync::No, fua: Fua::Unsent });
    }
    let Place { durability: upper, fua, .. } = look_down(&mount.upper_of(file)?, deepest - 1);
    let durability = label(upper.medium, format!("overlay, on which {}", upper.reason));
    Some(Place { durability, dsync: Dsync::No, fua })
}

/// What the mount, and the devices below it, take away from the promise of a file system that
/// flushes its device.
#[cfg(target_os = "linux")]
fn weakened(place: Place, mount: Option<&Mount>, deepest: usize) -> Place {
    let Some(mount) = mount else {
        let reason = "how the file system is mounted can't be seen (/proc)";
        return Place {
            durability: label(Medium::Device, reason),
            dsync: Dsync::No,
            fua: Fua::Unsent,
        };
    };
    let silent = mount.has("nobarrier") || mount.has("barrier=0");
    let silence = silent
        .then(|| label(Medium::Device, "mounted without barriers: no fence flushes the device"));
    let bottoms = mount.bottoms(Path::new("/sys"));
    let fua = worst_fua(&bottoms);
    let below = weakest(bottoms, deepest);
    let weakest = [silence, below].into_iter().flatten().min_by_key(|label| label.medium);
    Place {
        durability: weakest.unwrap_or(place.durability),
        dsync: if silent { Dsync::No } else { place.dsync },
        fua,
    }
}

/// Of all disks on which a file system lies.
#[cfg(target_os = "linux")]
fn worst_fua(bottoms: &[Bottom]) -> Fua {
    let disks = bottoms.iter().filter_map(|bottom| match bottom {
        Bottom::Disk(fua) => Some(fua),
        _ => None,
    });
    disks.max().cloned().unwrap_or(Fua::Unsent)
}

/// The weakest promise of all devices on which a file system lies; `None` if they are disks.
#[cfg(target_os = "linux")]
fn weakest(bottoms: Vec<Bottom>, deepest: usize) -> Option<Durability> {
    if bottoms.is_empty() {
        return Some(label(Medium::Device, "the device below can't be seen (/sys)"));
    }
    let labels = bottoms.into_iter().filter_map(|bottom| of_bottom(bottom, deepest));
    labels.min_by_key(|label| label.medium)
}

#[cfg(target_os = "linux")]
fn of_bottom(bottom: Bottom, deepest: usize) -> Option<Durability> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let (name, path) = match bottom {
        Bottom::Disk(_) => return None,
        Bottom::Memory(name) => {
            return Some(label(Medium::PageCache, format!("{name} keeps the file in memory")));
        }
        Bottom::Away(name) => {
            let reason =
                format!("{name} is served by another machine, whose flush has not been confirmed");
            return Some(label(Medium::Device, reason));
        }
        Bottom::Deaf(name) => {
            let reason = format!("{name} claims to have no cache, and hands no flush on");
            return Some(label(Medium::Device, reason));
        }
        Bottom::TooDeep => return Some(below_sight()),
        Bottom::Under { name, file } => (name, file),
    };
    let under = ground::open_as_place(&path).and_then(|file| Ok((file.metadata()?, file)));
    let label_under = match under {
        Err(_) => Some(label(Medium::Device, "which can't be seen from here")),
        Ok((about, _)) if about.file_type().is_block_device() => {
            let number = (libc::major(about.rdev()), libc::minor(about.rdev()));
            weakest(ground::bottoms_of(Path::new("/sys"), number), deepest.checked_sub(1)?)
        }
        Ok((_, file)) => Some(look_down(&file, deepest - 1).durability),
    };
    let Durability { medium, reason } = label_under?;
    let reason = format!("{name} lies on {}: {reason}", path.display());
    (medium < Medium::StableMedia).then(|| label(medium, reason))
}

#[cfg(target_os = "linux")]
fn below_sight() -> Durability {
    label(Medium::Device, "what it lies on goes on without an end")
}

#[cfg(target_os = "linux")]
const OVERLAY: u32 = 0x794C_7630;

#[cfg(target_os = "linux")]
const BTRFS: u32 = 0x9123_683E;

#[cfg(target_os = "linux")]
const VFAT: u32 = 0x4D44;

#[cfg(target_os = "linux")]
const EXFAT: u32 = 0x2011_BAB0;

/// By the magic number of the file system (statfs(2)).
#[cfg(target_os = "linux")]
fn place_of(magic: u32) -> Place {
    const FLUSHES: [(u32, &str); 3] = [(0xEF53, "ext4"), (0x5846_5342, "xfs"), (BTRFS, "btrfs")];
    const IN_MEMORY: [(u32, &str); 3] =
        [(0x0102_1994, "tmpfs"), (0x8584_58F6, "ramfs"), (0x9584_58F6, "hugetlbfs")];
    const TRUSTED: [(u32, &str); 9] = [
        (0x6573_5546, "FUSE"),
        (OVERLAY, "overlay"),
        (0x6969, "NFS"),
        (0xFF53_4D42, "CIFS"),
        (0xFE53_4D42, "SMB2"),
        (0x0102_1997, "9p"),
        (0xF2F5_2010, "f2fs"),
        (VFAT, "vfat"),
        (EXFAT, "exFAT"),
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
    let dsync = match medium {
        Medium::StableMedia if magic == BTRFS => Dsync::ByCall,
        Medium::StableMedia => Dsync::Yes,
        _ => Dsync::No,
    };
    Place { durability: label(medium, reason), dsync, fua: Fua::Unsent }
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
    Place { durability: label(Medium::Device, reason), dsync: Dsync::No, fua: Fua::Unsent }
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

    #[cfg(target_os = "linux")]
    const DISK: Bottom = Bottom::Disk(Fua::Unsent);

    #[test]
    fn blocks_are_as_large_as_the_sectors_of_the_drive() {
        assert_eq!(block_of_sectors(0, 0), 4096, "the drive does not say");
        assert_eq!(block_of_sectors(512, 512), 4096);
        assert_eq!(block_of_sectors(4096, 4096), 4096);
        assert_eq!(block_of_sectors(512, 16384), 16384);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_weakest_device_below_counts() {
        let medium = |bottoms: &[Bottom]| {
            weakest(bottoms.to_vec(), DEEPEST).map(|durability| durability.medium)
        };
        let (memory, away) = (Bottom::Memory("zram0".into()), Bottom::Away("nbd0".into()));
        assert_eq!(medium(&[DISK, DISK]), None);
        assert_eq!(medium(&[DISK, away.clone()]), Some(Medium::Device));
        assert_eq!(medium(&[away, memory, DISK]), Some(Medium::PageCache));
        assert_eq!(medium(&[Bottom::Deaf("loop0".into())]), Some(Medium::Device));
        assert_eq!(medium(&[]), Some(Medium::Device), "out of sight");
        let under = |file: &str| Bottom::Under { name: "loop0".into(), file: file.into() };
        assert_eq!(medium(&[under("/no/such file (deleted)")]), Some(Medium::Device));
        assert_eq!(medium(&[under("/proc/self/maps")]), Some(Medium::Device));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_label_is_no_better_than_the_fence() {
        assert_eq!(place_of(0xEF53).durability.medium, Medium::StableMedia);
        assert_eq!(place_of(0x0102_1994).durability.medium, Medium::PageCache);
        for unconfirmed in [0x6573_5546, 0x6969, VFAT, 0x1234_5678] {
            let place = place_of(unconfirmed);
            assert_eq!(place.durability.medium, Medium::Device);
            assert_eq!(place.dsync, Dsync::No);
        }
        assert!(place_of(0xEF53).dsync.flushes(false));
        let btrfs = place_of(BTRFS).dsync;
        assert!(btrfs.flushes(true) && !btrfs.flushes(false));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_worst_drive_below_says_what_fua_is_worth() {
        let announced = Fua::Announced("sda".into());
        let assumed = Fua::Assumed("nvme0n1".into());
        assert_eq!(worst_fua(&[]), Fua::Unsent);
        assert_eq!(worst_fua(&[DISK, Bottom::Disk(announced.clone())]), announced);
        let all = [assumed.clone(), announced, Fua::Unsent].map(Bottom::Disk);
        assert_eq!(worst_fua(&all), assumed);
    }

    #[test]
    fn the_label_says_what_carries_the_promise() {
        let said =
            |medium, dsync, fua: &Fua| label(medium, "flushes").carried_by(dsync, fua).reason;
        let (announced, assumed) = (Fua::Announced("sda".into()), Fua::Assumed("nvme0n1".into()));
        assert_eq!(said(Medium::StableMedia, true, &Fua::Unsent), "flushes");
        assert_eq!(said(Medium::Device, true, &assumed), "flushes");
        let trusting = said(Medium::StableMedia, true, &assumed);
        assert!(trusting.contains("a fence may be a write with FUA, which no program can see"));
        let flushing = said(Medium::StableMedia, false, &assumed);
        assert!(flushing.contains("where the file system has to commit"), "{flushing}");
        assert!(
            said(Medium::StableMedia, true, &announced).ends_with("sda says itself that it obeys")
        );
    }
}
