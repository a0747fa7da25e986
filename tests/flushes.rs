//! A fence reaches the device: as a flush, counted by the kernel in field 16 of the block device's
//! `stat` (Documentation/block/stat.rst), or, where the device takes writes that carry their own
//! fence (FUA), as such a write, counted by the trace point `block_rq_issue`. That the call returned
//! is no evidence.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{skip, watched};
use writeflush::{BackendChoice, Control, Direct, Drive, FenceForm, Medium, Options};
use writeflush_workloads::{Counters, Counts, Device};

const NAME: &str = "every_fence_of_every_form_reaches_the_device";

/// Fences that the device was told of, where it has a volatile cache to flush.
struct FenceCount {
    device: Device,
    takes_fua: bool,
}

impl FenceCount {
    fn of(directory: &Path) -> Result<Self, String> {
        let device = Device::under(directory)?;
        device.counts()?;
        let unknown = device.disks.iter().find(|disk| {
            // Anything but this may have none.
            disk.queue("write_cache") != Some("write back".into())
        });
        if let Some(disk) = unknown {
            return Err(format!("{} is not known to have a volatile write cache", disk.name));
        }
        let takes_fua = device.disks.iter().any(|disk| disk.takes_fua());
        Ok(Self { device, takes_fua })
    }

    fn now(&self) -> Counters {
        self.device.counts().expect("it counted before")
    }
}

#[test]
fn every_fence_of_every_form_reaches_the_device() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut fences = match FenceCount::of(dir.path()) {
        Ok(fences) => fences,
        Err(reason) => return skip(NAME, &format!("fences can't be counted: {reason}")),
    };
    let unseen = fences.device.count_fua().err().filter(|_| fences.takes_fua);
    let fences = Arc::new(fences);
    for backend in [BackendChoice::Uring, BackendChoice::Sync] {
        for direct in [Direct::On, Direct::Off] {
            for form in [FenceForm::Dsync, FenceForm::Link, FenceForm::Flush] {
                for drive in [Drive::Caller, Drive::Thread] {
                    let options = Options::new().backend(backend).direct(direct);
                    let options = options.fence_form(form).drive(drive);
                    let configuration = format!("{backend:?} {direct:?} {form:?} {drive:?}");
                    // Only these leave their fence to the write.
                    let in_the_write = direct == Direct::On && form == FenceForm::Dsync;
                    if let Some(reason) = unseen.as_ref().filter(|_| in_the_write) {
                        let why = "the device takes FUA, and such writes can't be counted";
                        skip(NAME, &format!("{configuration}: {why}: {reason}"));
                        continue;
                    }
                    let (path, fences) = (dir.path().join("x"), fences.clone());
                    watched(&configuration.clone(), move || {
                        count(&options, &path, &fences, &configuration);
                    });
                }
            }
        }
    }
}

/// Other processes only add fences, so "at least one each" can't fail by chance.
fn count(options: &Options, path: &Path, fences: &FenceCount, configuration: &str) {
    const FENCES: u64 = 20;
    let mut writer = options.create(path).unwrap();
    // A file system whose flushes nobody has vouched for has to make them all the same.
    let label = writer.durability();
    let is_unconfirmed = label.reason.contains("has not been confirmed");
    assert!(label.medium == Medium::StableMedia || is_unconfirmed, "{configuration}: {label}");
    let fence = |control: &Control| {
        let before = fences.now();
        control.flush().unwrap();
        let seen: Counts = fences.now().since(&before);
        assert!(
            seen.flushes > 0 || fences.takes_fua && seen.fua_writes > Some(0),
            "{configuration}: a fence that the device was not told of: {seen:?}"
        );
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
