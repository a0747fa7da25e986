//! A fence is a device flush: counted by the kernel, field 16 of the block device's `stat`
//! (Documentation/block/stat.rst). That the call returned is no evidence.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use writeflush::{BackendChoice, Control, Direct, Drive, FenceForm, Medium, Options};

/// Flushes that the device under a directory has completed.
struct FlushCount(PathBuf);

impl FlushCount {
    /// `None` where no device with a volatile write cache is in sight.
    fn of(directory: &Path) -> Option<Self> {
        let number = fs::metadata(directory).ok()?.dev();
        let (major, minor) = (libc_major(number), libc_minor(number));
        let device = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
        let partition = device.join("partition").exists();
        let disk = if partition { device.parent()?.to_owned() } else { device };
        let cache = fs::read_to_string(disk.join("queue/write_cache")).ok()?;
        (cache.trim() == "write back").then(|| Self(disk.join("stat")))
    }

    fn now(&self) -> u64 {
        let stat = fs::read_to_string(&self.0).expect("the device's stat");
        let figure = stat.split_whitespace().nth(15).expect("sixteen fields");
        figure.parse().expect("a number")
    }
}

// The kernel's encoding of a 64-bit device number (makedev(3)).
fn libc_major(number: u64) -> u64 {
    (number >> 8) & 0xfff | (number >> 32) & !0xfff
}

fn libc_minor(number: u64) -> u64 {
    number & 0xff | (number >> 12) & !0xff
}

#[test]
fn every_fence_of_every_form_flushes_the_device() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some(flushes) = FlushCount::of(dir.path()) else {
        assert!(std::env::var_os("CI").is_none(), "no device whose flushes can be counted");
        println!("SKIPPED: no device with a volatile write cache under {}", dir.path().display());
        return;
    };
    for backend in [BackendChoice::Uring, BackendChoice::Sync] {
        for direct in [Direct::On, Direct::Off] {
            for form in [FenceForm::Dsync, FenceForm::Link, FenceForm::Flush] {
                for drive in [Drive::Caller, Drive::Thread] {
                    let options = Options::new()
                        .backend(backend)
                        .direct(direct)
                        .fence_form(form)
                        .drive(drive);
                    let configuration = format!("{backend:?} {direct:?} {form:?} {drive:?}");
                    count(&options, &dir.path().join("x"), &flushes, &configuration);
                }
            }
        }
    }
}

/// Other processes only add flushes, so "at least one a fence" can't fail by chance.
fn count(options: &Options, path: &Path, flushes: &FlushCount, configuration: &str) {
    const FENCES: u64 = 20;
    let mut writer = options.create(path).unwrap();
    assert_eq!(writer.durability().medium, Medium::StableMedia, "{configuration}");
    let fence = |control: &Control| {
        let before = flushes.now();
        control.flush().unwrap();
        assert!(flushes.now() > before, "{configuration}: a fence without a device flush");
    };
    for index in 0..FENCES {
        let len = [4096, 1, 5000, 300_000][index as usize % 4];
        let _ = writer.write(&vec![index as u8; len]).unwrap();
        fence(&writer);
        // A patch of what is durable already is a fence of its own.
        writer.patch(0, &[index as u8; 10]).unwrap();
        fence(&writer);
    }
    let asked = writer.stats().flushes;
    assert!(asked >= 2 * FENCES, "{configuration}: {asked} flushes for {} fences", 2 * FENCES);
    writer.close().unwrap();
}
