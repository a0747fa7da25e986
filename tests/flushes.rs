//! A fence is a device flush: counted by the kernel, field 16 of the block device's `stat`
//! (Documentation/block/stat.rst). That the call returned is no evidence.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{skip, watched};
use writeflush::{BackendChoice, Control, Direct, Drive, FenceForm, Medium, Options};
use writeflush_workloads::{Counters, Device};

/// Flushes that the device has completed, where it has a volatile cache to flush.
struct FlushCount(Device);

impl FlushCount {
    fn of(directory: &Path) -> Result<Self, String> {
        let device = Device::under(directory)?;
        device.counts()?;
        match device
            .disks
            .iter()
            .find(|disk| disk.queue("write_cache") != Some("write back".into()))
        {
            None => Ok(Self(device)),
            Some(disk) => Err(format!("{} is not known to have a volatile write cache", disk.name)),
        }
    }

    fn now(&self) -> Counters {
        self.0.counts().expect("it counted before")
    }
}

#[test]
fn every_fence_of_every_form_flushes_the_device() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let flushes = match FlushCount::of(dir.path()) {
        Ok(flushes) => flushes,
        Err(reason) => {
            let name = "every_fence_of_every_form_flushes_the_device";
            return skip(name, &format!("flushes can't be counted: {reason}"));
        }
    };
    let flushes = Arc::new(flushes);
    for backend in [BackendChoice::Uring, BackendChoice::Sync] {
        for direct in [Direct::On, Direct::Off] {
            for form in [FenceForm::Dsync, FenceForm::Link, FenceForm::Flush] {
                for drive in [Drive::Caller, Drive::Thread] {
                    let options = Options::new().backend(backend).direct(direct);
                    let options = options.fence_form(form).drive(drive);
                    let configuration = format!("{backend:?} {direct:?} {form:?} {drive:?}");
                    let (path, flushes) = (dir.path().join("x"), flushes.clone());
                    watched(&configuration.clone(), move || {
                        count(&options, &path, &flushes, &configuration);
                    });
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
        assert!(
            flushes.now().since(&before).flushes > 0,
            "{configuration}: a fence without a device flush"
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
