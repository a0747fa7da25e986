//! What a file lies on: how its file system is mounted, and what is below that, down to the last
//! device in sight. Reads procfs and sysfs; judges nothing.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::place::Fua;

/// How a file system is mounted (proc_pid_mountinfo(5)).
#[derive(Debug)]
pub(super) struct Mount {
    /// `major:minor` of the device; of no device where the major is 0.
    number: String,
    /// What of the file system is mounted.
    root: PathBuf,
    point: PathBuf,
    /// The device, as a path.
    source: PathBuf,
    /// The file system's own options.
    options: String,
}

impl Mount {
    /// By the mount's number, since btrfs shows a device number of its own. `None` without /proc.
    pub(super) fn of(file: &File) -> Option<Self> {
        let about = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
        let about = fs::read_to_string(about).ok()?;
        let number = about.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
        let mounts = fs::read("/proc/self/mountinfo").ok()?;
        let mut mounts = mounts.split(|byte| *byte == b'\n'); // names may be anything
        mounts.find_map(|line| Self::parse(line, number))
    }

    /// A line of mountinfo, if it is about the mount with this number.
    fn parse(line: &[u8], wanted: &str) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        if fields.next()? != wanted.as_bytes() {
            return None;
        }
        let number = String::from_utf8(fields.nth(1)?.to_vec()).ok()?;
        let (root, point) = (path(fields.next()?), path(fields.next()?));
        let mut fields = fields.skip_while(|field| *field != b"-").skip(2);
        let source = path(fields.next()?);
        let options = String::from_utf8_lossy(fields.next()?).into_owned();
        Some(Self { number, root, point, source, options })
    }

    pub(super) fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|it| it == option)
    }

    /// The file in the upper folder of an overlay that stands for this one; `None` if it can't be
    /// seen from here. An overlay that syncs at all hands a sync of its file to that one
    /// (`ovl_fsync` in Linux 6.18).
    pub(super) fn upper_of(&self, file: &File) -> Option<File> {
        let option = |it: &'_ str| it.strip_prefix("upperdir=").map(|it| path(it.as_bytes()));
        let upper = self.options.split(',').find_map(option)?;
        let name = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        let inside = self.root.strip_prefix("/").ok()?.join(name.strip_prefix(&self.point).ok()?);
        let found = open_as_place(&upper.join(inside)).ok()?;
        // The folder's name is that of whoever mounted it: here it may be another one.
        let (it, stands_for) = (found.metadata().ok()?, file.metadata().ok()?);
        let marks = |of: &fs::Metadata| (of.len(), of.ctime(), of.ctime_nsec());
        (marks(&it) == marks(&stands_for)).then_some(found)
    }

    /// Where the ways down from its device end; none if it can't be seen.
    pub(super) fn bottoms(&self, sysfs: &Path) -> Vec<Bottom> {
        self.device(sysfs).map(|device| bottoms(sysfs, device)).unwrap_or_default()
    }

    /// The folder of its device in sysfs.
    fn device(&self, sysfs: &Path) -> Option<PathBuf> {
        let named = || {
            let real = fs::canonicalize(&self.source).unwrap_or_else(|_| self.source.clone());
            let name = real.strip_prefix("/dev").ok()?.to_str()?.replace('/', "!");
            fs::canonicalize(sysfs.join("class/block").join(name)).ok()
        };
        numbered(sysfs, &self.number).or_else(named)
    }
}

/// Where the ways down from a device end; none if it can't be seen.
pub(super) fn bottoms_of(sysfs: &Path, (major, minor): (u32, u32)) -> Vec<Bottom> {
    let device = numbered(sysfs, &format!("{major}:{minor}"));
    device.map(|device| bottoms(sysfs, device)).unwrap_or_default()
}

fn numbered(sysfs: &Path, number: &str) -> Option<PathBuf> {
    fs::canonicalize(sysfs.join("dev/block").join(number)).ok()
}

fn bottoms(sysfs: &Path, device: PathBuf) -> Vec<Bottom> {
    let devices = same_btrfs(sysfs, &device).unwrap_or_else(|| vec![device]);
    let mut found = Vec::new();
    devices.iter().for_each(|device| descend(device, DEEPEST, &mut found));
    found
}

/// Who vouches for it, as sysfs shows it.
fn fua(folder: &Path, name: &str) -> Fua {
    let is = |it: &str, value: &str| {
        fs::read_to_string(folder.join(it)).is_ok_and(|text| text.trim() == value)
    };
    if !is("queue/fua", "1") || is("queue/write_cache", "write through") {
        return Fua::Unsent;
    }
    let mut parts = folder.components().map(|part| part.as_os_str().to_string_lossy());
    let bridged = parts.any(|part| part.starts_with("usb") || part.starts_with("ata"));
    let scsi = name.starts_with("sd") && folder.join("device/vendor").exists();
    match scsi && !bridged && !is("device/vendor", "ATA") {
        true => Fua::Announced(name.into()),
        false => Fua::Assumed(name.into()),
    }
}

/// Where data ends, as far as sysfs shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bottom {
    /// A disk.
    Disk(Fua),
    /// A device in memory.
    Memory(String),
    /// A device that another machine serves.
    Away(String),
    /// A device that takes flushes and hands none on.
    Deaf(String),
    /// A file, or another device, under a loop device.
    Under { name: String, file: PathBuf },
    /// Further down than anybody stacks devices.
    TooDeep,
}

/// A loop device on a mapped device on …
const DEEPEST: usize = 16;

fn descend(folder: &Path, deepest: usize, found: &mut Vec<Bottom>) {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if deepest == 0 {
        return found.push(Bottom::TooDeep);
    }
    if folder.join("partition").exists() {
        return folder.parent().into_iter().for_each(|disk| descend(disk, deepest - 1, found));
    }
    let slaves = listed(&folder.join("slaves"));
    if !slaves.is_empty() {
        return slaves.iter().for_each(|slave| descend(slave, deepest - 1, found));
    }
    let begins = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
    let attribute = |it: &str| fs::read(folder.join(it)).ok();
    found.push(match attribute("loop/backing_file") {
        // The kernel sends no flush to a device that claims to have no cache.
        Some(_) if attribute("queue/write_cache").is_some_and(|it| it == b"write through\n") => {
            Bottom::Deaf(name)
        }
        Some(mut file) => {
            file.pop_if(|byte| *byte == b'\n');
            let file = PathBuf::from(std::ffi::OsString::from_vec(file));
            Bottom::Under { name, file }
        }
        None if begins(&["zram"]) || is_ram_disk(&name) => Bottom::Memory(name),
        None if begins(&["nbd", "rbd", "drbd"]) => Bottom::Away(name),
        None => Bottom::Disk(fua(folder, &name)),
    });
}

/// `ram0`, of the module brd.
fn is_ram_disk(name: &str) -> bool {
    let number = name.strip_prefix("ram").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// All devices of the btrfs that has this one.
fn same_btrfs(sysfs: &Path, device: &Path) -> Option<Vec<PathBuf>> {
    let systems = fs::read_dir(sysfs.join("fs/btrfs")).ok()?;
    let mut devices = systems.flatten().map(|system| listed(&system.path().join("devices")));
    devices.find(|devices| devices.iter().any(|it| it == device))
}

/// The devices that a folder of sysfs links to, by name.
fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.filter_map(|it| fs::canonicalize(it.path()).ok()).collect();
    found.sort();
    found
}

/// Only to ask where it lies (O_PATH): takes no right to read it.
pub(super) fn open_as_place(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_PATH).open(path)
}

/// Without the escapes of mountinfo: `\040` is a space.
fn path(text: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|it| std::str::from_utf8(it).ok());
        match digits.and_then(|it| u8::from_str_radix(it, 8).ok()) {
            Some(escaped) if byte == b'\\' => {
                plain.push(escaped);
                rest = &after[3..];
            }
            _ => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(plain))
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const DISK: Bottom = Bottom::Disk(Fua::Unsent);

    /// A made-up sysfs.
    struct Fake(tempfile::TempDir);

    impl Fake {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn block(&self, name: &str, number: &str) -> PathBuf {
            let folder = self.0.path().join("devices").join(name);
            fs::create_dir_all(folder.join("queue")).unwrap();
            let at = self.0.path().join("dev/block").join(number);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            symlink(&folder, at).unwrap();
            folder
        }

        fn slave(&self, of: &Path, folder: &Path) {
            fs::create_dir_all(of.join("slaves")).unwrap();
            symlink(folder, of.join("slaves").join(folder.file_name().unwrap())).unwrap();
        }

        fn under(&self, number: &str) -> Vec<Bottom> {
            let line = format!(r"36 35 {number} / /m\040nt rw shared:1 - ext4 /dev/none rw,x=\054");
            let mount = Mount::parse(line.as_bytes(), "36").unwrap();
            assert_eq!(mount.point, Path::new("/m nt"));
            let mut found = mount.bottoms(self.0.path());
            found.sort();
            found
        }
    }

    #[test]
    fn a_mapped_device_and_a_partition_are_followed_to_their_disks() {
        let fake = Fake::new();
        let (disk, memory) = (fake.block("sda", "8:0"), fake.block("zram0", "252:0"));
        let partition = fake.block("sda/sda1", "8:1");
        fs::write(partition.join("partition"), "1\n").unwrap();
        let array = fake.block("md0", "9:0");
        fake.slave(&array, &partition);
        fake.slave(&array, &memory);
        let mapped = fake.block("dm-0", "253:0");
        fake.slave(&mapped, &array);
        assert_eq!(fake.under("8:1"), [DISK]);
        assert_eq!(fake.under("253:0"), [DISK, Bottom::Memory("zram0".into())]);
        assert!(fake.under("8:7").is_empty(), "out of sight");
        fake.slave(&disk, &mapped);
        assert!(fake.under("253:0").contains(&Bottom::TooDeep), "a circle");
    }

    #[test]
    fn a_loop_device_names_its_file_unless_it_hands_no_flush_on() {
        let fake = Fake::new();
        let folder = fake.block("loop3", "7:3");
        fs::create_dir(folder.join("loop")).unwrap();
        fs::write(folder.join("loop/backing_file"), "/a file\n").unwrap();
        let under = Bottom::Under { name: "loop3".into(), file: "/a file".into() };
        assert_eq!(fake.under("7:3"), [under]);
        fs::write(folder.join("queue/write_cache"), "write through\n").unwrap();
        assert_eq!(fake.under("7:3"), [Bottom::Deaf("loop3".into())]);
    }

    #[test]
    fn memory_and_other_machines_are_known_by_their_names() {
        let fake = Fake::new();
        for (number, name) in ["ram0", "ramdisk", "nbd1", "drbd0", "vda"].iter().enumerate() {
            fake.block(name, &format!("1:{number}"));
        }
        assert_eq!(fake.under("1:0"), [Bottom::Memory("ram0".into())]);
        assert_eq!(fake.under("1:1"), [DISK]);
        assert_eq!(fake.under("1:2"), [Bottom::Away("nbd1".into())]);
        assert_eq!(fake.under("1:3"), [Bottom::Away("drbd0".into())]);
        assert_eq!(fake.under("1:4"), [DISK]);
    }
    #[test]
    fn fua_is_announced_by_a_drive_itself_or_assumed_of_it() {
        let fua = |folder: &str, name: &str, vendor: &str, cache: &str| {
            let fake = Fake::new();
            let disk = fake.block(folder, "8:0");
            fs::create_dir(disk.join("device")).unwrap();
            fs::write(disk.join("device/vendor"), format!("{vendor}\n")).unwrap();
            fs::write(disk.join("queue/fua"), "1\n").unwrap();
            fs::write(disk.join("queue/write_cache"), format!("{cache}\n")).unwrap();
            let found = fake.under("8:0");
            let [Bottom::Disk(fua)] = &found[..] else { panic!("{found:?}") };
            let told = |known: &str| assert_eq!(known, name);
            match fua {
                Fua::Unsent => "unsent",
                Fua::Announced(known) => (told(known), "announced").1,
                Fua::Assumed(known) => (told(known), "assumed").1,
            }
        };
        assert_eq!(fua("host0/sda", "sda", "SEAGATE", "write back"), "announced");
        assert_eq!(fua("host0/sda", "sda", "ATA", "write back"), "assumed");
        assert_eq!(fua("ata1/host0/sda", "sda", "SEAGATE", "write back"), "assumed");
        assert_eq!(fua("usb1/host0/sda", "sda", "SEAGATE", "write back"), "assumed");
        assert_eq!(fua("nvme0/nvme0n1", "nvme0n1", "0x8086", "write back"), "assumed");
        assert_eq!(fua("nvme0/nvme0n1", "nvme0n1", "0x8086", "write through"), "unsent");
    }
}
