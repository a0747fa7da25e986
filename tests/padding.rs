//! Direct I/O pads the end of a file with zeros: in idle time they go, and a killed writer's file is
//! told from a closed one.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Config, assert_file, bytes, child_task, configs, directory, run_child, watched};
use writeflush::{Direct, Drive, Error, Options, Preallocate, Writer};

/// Those that pad.
fn direct_configs() -> impl Iterator<Item = Config> {
    configs().into_iter().filter(|config| config.direct == Direct::On)
}

fn len(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

/// Under the watchdog: how long it takes is nobody's promise.
fn until_exact(path: &Path, wanted: u64) {
    while len(path) != wanted {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_file_that_is_left_alone_is_as_long_as_its_bytes() {
    for config in direct_configs().filter(|config| config.drive != Drive::Caller) {
        watched(&config.to_string(), move || {
            let directory = directory();
            let path = directory.path().join("take");
            let mut writer = config.create(&path);
            let mut model = Vec::new();
            for turn in 0..3 {
                let data = bytes(turn, 5000 + 300 * turn as usize);
                writer.write_flush(&data).unwrap();
                model.extend(&data);
                assert!(len(&path) >= model.len() as u64);
                until_exact(&path, model.len() as u64);
                assert_file(&path, &model, &config);
            }
            // What was not asked for is not in the file, and no claim covers it.
            let _ = writer.write(&bytes(9, 100)).unwrap();
            writer.patch(10, &bytes(10, 20)).unwrap();
            model.extend(bytes(9, 100));
            model[10..30].copy_from_slice(&bytes(10, 20));
            writer.close().unwrap();
            assert_file(&path, &model, &config);
        });
    }
}

/// Longer than what is written, and not by padding: it was so before, or was asked for.
#[test]
fn what_was_there_or_asked_for_is_not_cut() {
    for config in direct_configs().filter(|config| config.drive != Drive::Caller) {
        watched(&config.to_string(), move || {
            let directory = directory();
            let at = |name: &str| directory.path().join(name);
            let old = bytes(1, 20_000);
            std::fs::write(at("recycled"), &old).unwrap();
            let mut recycled = config.options().open(at("recycled")).unwrap();
            recycled.write_flush(&bytes(2, 300)).unwrap();
            let reserve = config.options().preallocate(Preallocate::Reserve(50_000));
            let mut reserved = reserve.create(at("reserved")).unwrap();
            reserved.write_flush(&bytes(2, 300)).unwrap();
            // One beside them that is cut says when it would have happened.
            let mut padded = config.create(&at("padded"));
            padded.write_flush(&bytes(2, 300)).unwrap();
            until_exact(&at("padded"), 300);
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!((len(&at("recycled")), len(&at("reserved"))), (20_000, 50_000));
            recycled.write_flush(&bytes(3, 20_000)).unwrap();
            until_exact(&at("recycled"), 20_300);
            let summary = recycled.close().unwrap();
            assert_eq!(summary.positions.durable, 20_300);
            reserved.close().unwrap();
            assert_eq!(len(&at("reserved")), 300);
        });
    }
}

/// Writes in a child that is killed at once, and waits for its lock to go.
fn killed(test: &str, task: &str, path: &Path) {
    let output = run_child(test, &format!("{task} {}", path.display()), |_| {});
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(9), "{said}");
}

fn kill_yourself() -> ! {
    // SAFETY: a plain system call.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    unreachable!("killed");
}

/// An append right behind a kill may find the lock taken for a moment.
fn patiently(open: impl Fn() -> Result<Writer, Error>) -> Result<Writer, Error> {
    loop {
        match open() {
            Err(Error::Locked { .. }) => std::thread::sleep(Duration::from_millis(2)),
            result => return result,
        }
    }
}

/// Whether files take marks (vfat has no attributes), or a word for `test` that it is skipped.
fn has_marks(test: &str) -> bool {
    let directory = directory();
    let writer = Options::new().create(directory.path().join("take")).unwrap();
    let refused = writer.fallbacks().iter().find(|reason| reason.contains("user.writeflush"));
    refused.iter().for_each(|reason| common::skip(test, reason));
    refused.is_none()
}

#[test]
fn an_append_to_a_killed_writers_file_goes_on_at_its_end_or_not_at_all() {
    const NAME: &str = "an_append_to_a_killed_writers_file_goes_on_at_its_end_or_not_at_all";
    if let Some(task) = child_task() {
        let (task, path) = task.split_once(' ').unwrap();
        let options = Options::new().direct(Direct::On).drive(Drive::Caller).buffer_size(4096);
        let (options, data) = match task {
            "padded" => (options, bytes(1, 10_000)),
            "whole" => (options, bytes(1, 8192)),
            "reserved" => (options.preallocate(Preallocate::Reserve(30_001)), bytes(1, 10_000)),
            "zeroed" => (options.preallocate(Preallocate::Zero(40_000)), bytes(1, 10_000)),
            "cached" => (options.direct(Direct::Off), bytes(1, 10_000)),
            "zeros" => (options, vec![0; 4096]),
            _ => panic!("{task}"),
        };
        let mut writer = options.create(path).unwrap();
        writer.write_flush(&data).unwrap();
        kill_yourself();
    }
    if !has_marks(NAME) {
        return;
    }
    watched(NAME, || {
        let directory = directory();
        for (task, refused) in [
            ("padded", Some((10_000, 12_288))),
            ("whole", None),
            ("reserved", Some((10_000, 30_001))),
            ("zeroed", Some((10_000, 40_000u64.next_multiple_of(16 << 10)))),
            ("cached", None),
            ("zeros", Some((0, 4096))), // they may be data
        ] {
            let path = directory.path().join(task);
            killed(NAME, task, &path);
            let before = std::fs::read(&path).unwrap();
            let options = Options::new();
            match (patiently(|| options.append(&path)), refused) {
                (Ok(writer), None) => {
                    writer.close().unwrap();
                    assert_file(&path, &before, &task);
                }
                (Err(Error::Unfinished { from, to, .. }), Some(expected)) => {
                    assert_eq!((from, to), expected, "{task}");
                    assert_file(&path, &before, &task);
                    assert!(options.append_at(&path, to + 1).is_err(), "{task}: behind its end");
                    assert_file(&path, &before, &task);
                    let mut writer = options.append_at(&path, from).unwrap();
                    writer.write_flush(b"goes on").unwrap();
                    writer.close().unwrap();
                    let model = [&before[..from as usize], b"goes on"].concat();
                    assert_file(&path, &model, &task);
                    // Closed: whatever its last byte is.
                    let mut writer = options.append(&path).unwrap();
                    writer.write_flush(&[0; 4096]).unwrap();
                    writer.close().unwrap();
                    options.append(&path).unwrap().close().unwrap();
                }
                (result, _) => panic!("{task}: {result:?}"),
            }
        }
    });
}

/// A file that another open takes over is no longer unfinished, and one that fails leaves it so.
#[test]
fn a_mark_lasts_as_long_as_it_is_true() {
    const NAME: &str = "a_mark_lasts_as_long_as_it_is_true";
    if let Some(task) = child_task() {
        let path = task.split_once(' ').unwrap().1;
        let options = Options::new().direct(Direct::On).drive(Drive::Caller);
        let mut writer = options.create(path).unwrap();
        writer.write_flush(&bytes(1, 100)).unwrap();
        kill_yourself();
    }
    if !has_marks(NAME) {
        return;
    }
    watched(NAME, || {
        let directory = directory();
        let path = directory.path().join("take");
        let cached = Options::new().direct(Direct::Off);
        let is_unfinished =
            || matches!(Options::new().append(&path), Err(Error::Unfinished { .. }));
        killed(NAME, "x", &path);
        patiently(|| cached.open(&path)).unwrap().close().unwrap(); // overwrites nothing of it
        assert!(is_unfinished(), "recycled, and its end is as it was");
        let mut writer = cached.create(&path).unwrap();
        writer.write_flush(&[0; 4096]).unwrap();
        writer.close().unwrap();
        assert!(!is_unfinished(), "written anew");
        killed(NAME, "x", &path);
        patiently(|| Options::new().open(&path)).unwrap().close().unwrap();
        assert!(is_unfinished(), "recycled with direct I/O, and its end is as it was");
    });
}

/// Attributes of a file until no more fit (ENOSPC): ext4 and btrfs have a limit.
fn fill_attributes(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    let (mut number, value) = (0, [7u8; 2000]);
    for size in [2000, 500, 100, 20, 0] {
        loop {
            let name = std::ffi::CString::new(format!("user.{number:04}")).unwrap();
            // SAFETY: live strings, and as many bytes.
            let set = unsafe {
                libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), size, 0)
            };
            number += 1;
            if set != 0 {
                break;
            } else if number == 1000 {
                return false;
            }
        }
    }
    true
}

/// Where no mark can be set nothing is padded, unless that is asked for.
#[test]
fn a_file_that_takes_no_mark_is_written_through_the_page_cache() {
    let directory = directory();
    let path = directory.path().join("take");
    std::fs::write(&path, "").unwrap();
    if !fill_attributes(&path) {
        let test = "a_file_that_takes_no_mark_is_written_through_the_page_cache";
        return common::skip(test, "here a file has room for a thousand attributes");
    }
    let mut writer = Options::new().append(&path).unwrap();
    writer.write_flush(&bytes(1, 100)).unwrap();
    let said = writer.fallbacks().join("; ");
    assert!(!writer.is_direct() && said.contains("user.writeflush"), "{said}");
    assert_eq!(len(&path), 100);
    writer.close().unwrap();
    let mut writer = Options::new().direct(Direct::On).append(&path).unwrap();
    writer.write_flush(&bytes(2, 100)).unwrap();
    assert!(writer.is_direct() && writer.fallbacks().is_empty(), "as asked");
    writer.close().unwrap();
    assert_file(&path, &[bytes(1, 100), bytes(2, 100)].concat(), &"both");
}
