//! A made-up procfs and sysfs for every kind of place.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

/// A tree under a folder of its own.
struct Fake(tempfile::TempDir);

/// Field 5 is writes, 7 is sectors, 16 is flushes.
fn stat(writes: u64, flushes: u64) -> String {
    format!("0 0 0 0 {writes} 0 {} 0 0 0 0 0 0 0 0 {flushes} 0\n", writes * 8)
}

impl Fake {
    /// With these mounts: number, point, file system, source, options of the file system.
    fn new(mounts: &[[&str; 5]]) -> Self {
        let fake = Self(tempfile::tempdir().expect("a folder"));
        let lines = mounts.iter().map(|[number, point, kind, source, options]| {
            fs::create_dir_all(fake.file(point)).expect("a folder");
            format!("30 1 {number} / {point} rw - {kind} {source} {options}\n")
        });
        let lines: String = lines.collect();
        fake.write("/proc/self/mountinfo", &lines);
        fake
    }

    fn file(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) {
        let file = self.file(path);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(file, text).expect("a file");
    }

    fn link(&self, to: &str, at: &str) {
        fs::create_dir_all(self.file(at).parent().expect("a folder")).expect("a folder");
        symlink(self.file(to), self.file(at)).expect("a link");
    }

    /// A block device, or, as `sda/sda1`, a partition.
    fn block(&self, name: &str, number: &str) -> &Self {
        let folder = format!("/sys/devices/{name}");
        let last = Path::new(name).file_name().expect("a name").to_str().expect("a name");
        self.write(&format!("{folder}/stat"), &stat(0, 0));
        self.link(&folder, &format!("/sys/dev/block/{number}"));
        self.link(&folder, &format!("/sys/class/block/{last}"));
        if name.contains('/') {
            self.write(&format!("{folder}/partition"), "1\n");
        }
        self
    }

    fn cache(&self, name: &str, cache: &str) -> &Self {
        self.write(&format!("/sys/devices/{name}/queue/write_cache"), &format!("{cache}\n"));
        self
    }

    fn looped(&self, name: &str, file: &str) -> &Self {
        self.write(&format!("/sys/devices/{name}/loop/backing_file"), &format!("{file}\n"));
        self
    }

    fn slave(&self, of: &str, name: &str) -> &Self {
        let last = name.rsplit('/').next().expect("a name");
        self.link(&format!("/sys/devices/{name}"), &format!("/sys/devices/{of}/slaves/{last}"));
        self
    }

    fn under(&self, path: &str) -> Device {
        Device::seen_by(&Kernel::at(self.0.path()), Path::new(path))
    }

    /// What is counted when every disk is flushed so often.
    fn flushed(&self, device: &Device, flushes: &[(&str, u64)]) -> Counts {
        let before = device.counts().expect("counters");
        for (name, flushes) in flushes {
            self.write(&format!("/sys/devices/{name}/stat"), &stat(10, *flushes));
        }
        device.counts().expect("counters").since(&before)
    }
}

fn names(device: &Device) -> Vec<&str> {
    device.disks.iter().map(|disk| disk.name.as_str()).collect()
}

#[test]
fn a_partition_has_the_counters_of_its_disk() {
    let fake = Fake::new(&[["8:1", "/data", "ext4", "/dev/sda1", "rw"]]);
    fake.block("sda", "8:0").cache("sda", "write back").block("sda/sda1", "8:1");
    let device = fake.under("/data");
    assert_eq!(device.way, ["ext4", "sda1", "sda"]);
    assert_eq!((names(&device), &device.end), (vec!["sda"], &End::Disks));
    let counts = fake.flushed(&device, &[("sda", 7), ("sda/sda1", 3)]);
    assert_eq!(counts, Counts { writes: 10, sectors: 80, flushes: 7, fua_writes: None });
}

#[test]
fn a_loop_device_is_honest_only_if_the_disk_under_its_file_was_flushed_too() {
    let fake = Fake::new(&[
        ["8:0", "/", "ext4", "/dev/sda", "rw"],
        ["7:0", "/image", "xfs", "/dev/loop0", "rw"],
    ]);
    fake.block("sda", "8:0").cache("sda", "write back").block("loop0", "7:0");
    fake.cache("loop0", "write back").looped("loop0", "/files/of disk");
    fake.write("/files/of disk", "");
    let device = fake.under("/image");
    assert_eq!(device.way, ["xfs", "loop0", "/files/of disk", "ext4", "sda"]);
    assert_eq!((names(&device), &device.end), (vec!["loop0", "sda"], &End::Disks));
    assert_eq!(
        device.disks.iter().map(|d| (d.first, d.last)).collect::<Vec<_>>(),
        [(true, false), (false, true)]
    );
    let counts = fake.flushed(&device, &[("loop0", 100), ("sda", 3)]);
    assert_eq!(counts, Counts { writes: 10, sectors: 80, flushes: 3, fua_writes: None });
    // The loop device holds fences back: the disk below may be flushed by others.
    fake.cache("loop0", "write through");
    assert_eq!(fake.flushed(&device, &[("loop0", 100), ("sda", 90)]).flushes, 0);
    // The disk has nothing to flush: what the loop device hands on is all there is.
    fake.cache("loop0", "write back").cache("sda", "write through");
    assert_eq!(fake.flushed(&device, &[("loop0", 150), ("sda", 90)]).flushes, 50);
}

#[test]
fn a_loop_device_whose_file_is_gone_ends_out_of_sight() {
    let fake = Fake::new(&[["7:0", "/image", "ext4", "/dev/loop0", "rw"]]);
    fake.block("loop0", "7:0").looped("loop0", "/gone (deleted)");
    let device = fake.under("/image");
    assert_eq!(names(&device), ["loop0"]);
    assert!(matches!(&device.end, End::Unseen(reason) if reason.contains("/gone")), "{device:?}");
}

#[test]
fn a_loop_device_may_lie_on_a_device_and_on_itself() {
    let fake = Fake::new(&[
        ["7:0", "/image", "ext4", "/dev/loop0", "rw"],
        ["7:1", "/circle", "ext4", "/dev/loop1", "rw"],
    ]);
    fake.block("sda", "8:0").block("loop0", "7:0").looped("loop0", "/dev/sda");
    assert_eq!(names(&fake.under("/image")), ["loop0", "sda"]);
    fake.block("loop1", "7:1").looped("loop1", "/circle/file");
    fake.write("/circle/file", "");
    assert!(matches!(fake.under("/circle").end, End::Unseen(_)));
}

#[test]
fn memory_is_memory_whatever_lies_above() {
    let fake = Fake::new(&[
        ["0:5", "/dev/shm", "tmpfs", "tmpfs", "rw"],
        ["1:0", "/brd", "ext4", "/dev/ram0", "rw"],
        ["252:0", "/zram", "ext4", "/dev/zram0", "rw"],
        ["7:0", "/loop", "ext4", "/dev/loop0", "rw"],
        ["0:6", "/over", "overlay", "overlay", "rw,lowerdir=/,upperdir=/dev/shm/up,workdir=/w"],
        ["253:0", "/mapped", "ext4", "/dev/mapper/x", "rw"],
    ]);
    fake.block("ram0", "1:0").cache("ram0", "write through").block("zram0", "252:0");
    fake.block("loop0", "7:0").looped("loop0", "/dev/shm/file");
    fake.write("/dev/shm/file", "");
    fake.write("/dev/shm/up/file", "");
    fake.block("dm-0", "253:0").slave("dm-0", "ram0");
    for (path, name) in [
        ("/dev/shm", "tmpfs"),
        ("/brd", "ram0"),
        ("/zram", "zram0"),
        ("/loop", "tmpfs"),
        ("/over", "tmpfs"),
        ("/mapped", "ram0"),
    ] {
        assert_eq!(fake.under(path).end, End::Memory(name.into()), "{path}");
    }
}

#[test]
fn what_another_machine_or_a_program_keeps_is_out_of_sight() {
    for kind in ["nfs4", "cifs", "9p", "virtiofs", "fuse.sshfs", "fuse", "zfs", "unheard-of"] {
        let fake = Fake::new(&[["0:40", "/there", kind, "server:/export", "rw"]]);
        let device = fake.under("/there");
        assert!(matches!(&device.end, End::Unseen(why) if why.contains(kind)), "{device:?}");
        assert!(device.disks.is_empty() && device.counts().is_err());
    }
    for name in ["nbd0", "rbd1", "pmem0"] {
        let source = format!("/dev/{name}");
        let fake = Fake::new(&[["43:0", "/there", "ext4", &source, "rw"]]);
        fake.block(name, "43:0");
        let device = fake.under("/there");
        assert!(matches!(&device.end, End::Unseen(why) if why.contains(name)), "{device:?}");
        assert_eq!(names(&device), [name]);
    }
}

#[test]
fn an_overlay_is_followed_to_its_upper_folder() {
    let fake = Fake::new(&[
        ["8:0", "/", "ext4", "/dev/sda", "rw"],
        ["0:50", "/over", "overlay", "overlay", r"rw,lowerdir=/low,upperdir=/up\040here"],
        ["0:51", "/lost", "overlay", "overlay", "rw,lowerdir=/low,upperdir=/of/the/host"],
        ["0:52", "/read", "overlay", "overlay", "ro,lowerdir=/low:/lower"],
    ]);
    fake.block("sda", "8:0");
    fake.write("/up here/file", "");
    assert_eq!(fake.under("/over").way, ["overlay", "ext4", "sda"]);
    for (path, says) in [("/lost", "/of/the/host"), ("/read", "no upper")] {
        let end = fake.under(path).end;
        assert!(matches!(&end, End::Unseen(why) if why.contains(says)), "{end:?}");
    }
}

#[test]
fn a_mapped_device_is_as_good_as_the_worst_of_those_below() {
    let fake = Fake::new(&[["253:0", "/data", "ext4", "/dev/mapper/vg-data", "rw"]]);
    fake.block("sda", "8:0").block("sdb", "8:16").block("sda/sda1", "8:1");
    fake.block("dm-0", "253:0").slave("dm-0", "sda/sda1").slave("dm-0", "sdb");
    let device = fake.under("/data");
    assert_eq!(device.way, ["ext4", "dm-0", "sda1", "sda", "sdb"]);
    assert_eq!(names(&device), ["sda", "sdb"]);
    let counts = fake.flushed(&device, &[("sda", 50), ("sdb", 49)]);
    assert_eq!(counts, Counts { writes: 20, sectors: 160, flushes: 49, fua_writes: None });
}

#[test]
fn all_devices_of_a_btrfs_are_seen() {
    let fake = Fake::new(&[["0:33", "/data", "btrfs", "/dev/sda", "rw"]]);
    fake.block("sda", "8:0").block("sdb", "8:16");
    assert_eq!(names(&fake.under("/data")), ["sda"]);
    for name in ["sda", "sdb"] {
        fake.link(&format!("/sys/devices/{name}"), &format!("/sys/fs/btrfs/uuid/devices/{name}"));
    }
    assert_eq!(names(&fake.under("/data")), ["sda", "sdb"]);
}

#[test]
fn a_kernel_that_counts_no_flushes_still_shows_the_disk() {
    let fake = Fake::new(&[["8:0", "/", "ext4", "/dev/sda", "rw"]]);
    fake.block("sda", "8:0").cache("sda", "write back");
    fake.write("/sys/devices/sda/stat", "1 2 3 4 5 6 7 8 9 10 11\n");
    let device = fake.under("/");
    assert_eq!(device.disks[0].queue("write_cache").as_deref(), Some("write back"));
    assert!(device.counts().unwrap_err().contains("Linux 5.5"));
}

#[test]
fn nvme_with_several_paths_is_not_accused() {
    let fake = Fake::new(&[["259:0", "/", "ext4", "/dev/nvme0n1", "rw"]]);
    fake.block("nvme-subsystem/nvme0n1", "259:0");
    fs::remove_file(fake.file("/sys/devices/nvme-subsystem/nvme0n1/partition")).expect("a file");
    assert!(matches!(fake.under("/").end, End::Unseen(_)));
}

#[test]
fn a_drive_announces_fua_itself_or_its_standard_does() {
    let announces = |name: &str, vendor: &str| {
        let fake = Fake::new(&[["8:0", "/", "ext4", "/dev/disk", "rw"]]);
        fake.block(name, "8:0").cache(name, "write back");
        fs::remove_file(fake.file(&format!("/sys/devices/{name}/partition"))).expect("a file");
        fake.write(&format!("/sys/devices/{name}/queue/fua"), "1\n");
        fake.write(&format!("/sys/devices/{name}/device/vendor"), &format!("{vendor}\n"));
        let device = Device::seen_by(&Kernel::at(fake.0.path()), Path::new("/"));
        assert!(device.disks[0].takes_fua(), "{device:?}");
        device.disks[0].announces_fua()
    };
    assert!(announces("pci0/host0/block/sda", "SEAGATE"));
    assert!(!announces("pci0/host0/block/sda", "ATA"));
    assert!(!announces("pci0/ata1/host0/block/sda", "SEAGATE"));
    assert!(!announces("pci0/usb1/host0/block/sda", "SEAGATE"));
    assert!(!announces("pci0/nvme0/nvme0n1", "0x8086"));
}
