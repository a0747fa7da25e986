//! The way down: file system, device, the file under a loop device, and so on.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Device, Disk, End};
use crate::Mount;
use crate::kernel::Kernel;

/// A loop device on a loop device on …: further than anybody stacks them.
const DEEPEST: usize = 32;

pub(super) fn from(kernel: &Kernel, path: &Path) -> Device {
    let device = Device { way: Vec::new(), disks: Vec::new(), end: End::Disks, fua: None };
    let mut walk = Walk { kernel, device, first: true };
    walk.path(path);
    walk.device
}

struct Walk<'a> {
    kernel: &'a Kernel,
    device: Device,
    /// No loop device has been passed yet.
    first: bool,
}

/// What a file system stands on.
enum Ground {
    Memory,
    /// Something that answers for it, and where.
    Elsewhere(&'static str),
    Upper,
    Devices,
}

fn ground(file_system: &str) -> Ground {
    match file_system {
        "tmpfs" | "ramfs" | "devtmpfs" | "hugetlbfs" | "rootfs" => Ground::Memory,
        "nfs" | "nfs4" | "cifs" | "smb3" | "ceph" | "afs" | "lustre" | "glusterfs" | "beegfs" => {
            Ground::Elsewhere("a fence ends at a server, whose disk is out of sight")
        }
        "9p" | "virtiofs" | "vboxsf" | "vmhgfs" => {
            Ground::Elsewhere("a fence ends at the host, whose disk is out of sight")
        }
        name if name == "fuse" || name.starts_with("fuse.") => {
            Ground::Elsewhere("a fence ends at a program, and what that does is out of sight")
        }
        "zfs" => Ground::Elsewhere("the kernel does not show the disks of its pool"),
        "overlay" => Ground::Upper,
        _ => Ground::Devices,
    }
}

/// What keeps a device's data, by its name.
fn unseen_behind(name: &str, folder: &Path) -> Option<&'static str> {
    let begins = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
    if begins(&["nbd", "rbd", "drbd"]) {
        Some("is served by another machine, whose disk is out of sight")
    } else if begins(&["pmem", "zd"]) {
        Some("does not count flushes")
    } else if folder.components().any(|part| part.as_os_str() == "nvme-subsystem") {
        Some("has several paths, and which of them a flush took is not counted")
    } else {
        None
    }
}

impl Walk<'_> {
    fn path(&mut self, path: &Path) {
        let mount = match Mount::seen_by(self.kernel, path) {
            Ok(mount) if self.device.way.len() < DEEPEST => mount,
            Ok(_) => return self.ends(End::Unseen("it goes on without an end".into())),
            Err(reason) => return self.ends(End::Unseen(reason)),
        };
        let name = &mount.file_system;
        self.device.way.push(name.clone());
        match ground(name) {
            Ground::Memory => self.ends(End::Memory(name.clone())),
            Ground::Elsewhere(reason) => self.ends(End::Unseen(format!("{name}: {reason}"))),
            Ground::Upper => match mount.option("upperdir").map(Path::new) {
                Some(upper) if self.kernel.resolve(upper).is_some() => self.path(upper),
                Some(upper) => self.ends(End::Unseen(format!(
                    "overlay: its upper folder {} is not in sight from here",
                    upper.display()
                ))),
                None => self.ends(End::Unseen("overlay: it has no upper folder".into())),
            },
            Ground::Devices => self.devices(&mount),
        }
    }

    /// The devices of a mount: one, or all of a btrfs.
    fn devices(&mut self, mount: &Mount) {
        // btrfs numbers its files otherwise: the mount's source says what they lie on.
        let folder = self.numbered(&mount.device).or_else(|| self.named(Path::new(&mount.source)));
        let Some(folder) = folder else {
            return self.ends(End::Unseen(format!(
                "{} is {}, on no disk of this machine in sight",
                mount.point.display(),
                mount.file_system
            )));
        };
        match self.btrfs(&folder) {
            Some(all) => all.into_iter().for_each(|folder| self.block(folder)),
            None => self.block(folder),
        }
    }

    fn block(&mut self, folder: PathBuf) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if folder.join("partition").exists() {
            self.device.way.push(name);
            // Its disk is the folder around it, which has the counters.
            return folder.parent().map(Path::to_owned).into_iter().for_each(|f| self.block(f));
        }
        self.device.way.push(name.clone());
        if self.device.way.len() > DEEPEST {
            return self.ends(End::Unseen("it goes on without an end".into()));
        }
        let mut disk = Disk { folder, name, first: self.first, last: true };
        // A mapped device hands requests on and counts no flush of its own.
        let slaves = listed(&disk.folder.join("slaves"));
        if !slaves.is_empty() {
            return slaves.into_iter().for_each(|slave| self.block(slave));
        }
        if let Some(file) = disk.attribute("loop/backing_file") {
            disk.last = false;
            self.device.disks.push(disk);
            return self.backing(Path::new(&file));
        }
        let (name, folder) = (disk.name.clone(), disk.folder.clone());
        self.device.disks.push(disk);
        if name.starts_with("zram") || is_ram_disk(&name) {
            self.ends(End::Memory(name));
        } else if let Some(reason) = unseen_behind(&name, &folder) {
            self.ends(End::Unseen(format!("{name} {reason}")));
        }
    }

    /// The file, or device, under a loop device.
    fn backing(&mut self, file: &Path) {
        self.device.way.push(file.display().to_string());
        let first = std::mem::replace(&mut self.first, false);
        match file.starts_with("/dev").then(|| self.named(file)).flatten() {
            Some(folder) => self.block(folder),
            None if self.kernel.resolve(file).is_some() => self.path(file),
            None => self.ends(End::Unseen(format!(
                "{}, the file under the loop device, is not in sight from here",
                file.display()
            ))),
        }
        self.first = first;
    }

    /// The worst end of all ways counts.
    fn ends(&mut self, end: End) {
        let rank = |end: &End| match end {
            End::Disks => 0,
            End::Unseen(_) => 1,
            End::Memory(_) => 2,
        };
        if rank(&end) > rank(&self.device.end) {
            self.device.end = end;
        }
    }

    fn numbered(&self, number: &str) -> Option<PathBuf> {
        fs::canonicalize(self.kernel.file("/sys/dev/block").join(number)).ok()
    }

    /// By `/dev/…`, which may be a link such as `/dev/mapper/name`.
    fn named(&self, source: &Path) -> Option<PathBuf> {
        let real = self.kernel.resolve(source).unwrap_or(source.to_owned());
        let name = real.strip_prefix("/dev").ok()?.to_string_lossy().replace('/', "!");
        fs::canonicalize(self.kernel.file("/sys/class/block").join(name)).ok()
    }

    /// All devices of the btrfs that has this one.
    fn btrfs(&self, folder: &Path) -> Option<Vec<PathBuf>> {
        let systems = fs::read_dir(self.kernel.file("/sys/fs/btrfs")).ok()?;
        let mut devices = systems.flatten().map(|system| listed(&system.path().join("devices")));
        devices.find(|devices| devices.iter().any(|device| device == folder))
    }
}

/// The devices that a folder of sysfs links to, by name.
fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.filter_map(|entry| fs::canonicalize(entry.path()).ok()).collect();
    found.sort();
    found
}

/// `ram0`, of the module brd.
fn is_ram_disk(name: &str) -> bool {
    let number = name.strip_prefix("ram").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}
