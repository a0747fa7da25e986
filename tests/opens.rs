//! An open that fails changes nothing; names that move, and directories that are held; and what a
//! file system says only at the end.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod common;

use std::fs::File;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use common::fuse::{Faults, on_fuse};
use common::{
    Config, Mount, assert_file, bytes, child_succeeds, child_task, configs, directory, each_config,
    has_own_mounts, run, skip, watched,
};
use writeflush::{
    BackendChoice, Direct, Drive, Error, Medium, Operation, Options, Preallocate, Writer,
};

type Way = fn(&Options, &Path) -> Result<Writer, Error>;

/// Every way to open a file that is there.
const WAYS: [Way; 4] = [
    |options, path| options.create(path),
    |options, path| options.append(path),
    |options, path| options.append_at(path, 3),
    |options, path| options.open(path),
];

#[track_caller]
fn assert_io(error: &Error, operation: Operation, code: i32) {
    assert!(matches!(error, Error::Io { operation: found, .. } if *found == operation), "{error}");
    assert_eq!(error.raw_os_error(), Some(code), "{error}");
}

// ---- an open that fails -----------------------------------------------------------------------------

/// Length and blocks.
fn size(path: &Path) -> (u64, u64) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    let metadata = file.metadata().unwrap();
    (metadata.len(), metadata.blocks())
}

/// Two ways to run a writer, which differ in everything.
fn two() -> [Config; 2] {
    let of = |backend, direct, drive| Config { backend, direct, drive };
    [
        of(BackendChoice::Uring, Direct::On, Drive::Thread),
        of(BackendChoice::Sync, Direct::Off, Drive::Caller),
    ]
}

/// A file system of so many MiB, in a file: `make` makes it.
fn mounted(directory: &Path, make: &[&str], mib: u64) -> Mount {
    let (image, at) = (directory.join("image"), directory.join("mount"));
    std::fs::create_dir_all(&at).unwrap();
    File::create(&image).unwrap().set_len(mib << 20).unwrap();
    run(make[0], &[&make[1..], &[image.to_str().unwrap()]].concat());
    let kind = make[0].trim_start_matches("mkfs.");
    Mount::image(kind, &image, &at, "loop")
}

/// Whatever the file system does with what it has given before it saw that there is no more.
#[test]
fn an_open_that_finds_no_space_changes_nothing() {
    if !has_own_mounts("an_open_that_finds_no_space_changes_nothing") {
        return;
    }
    const MAKERS: [&[&str]; 3] =
        [&["mkfs.ext4", "-q", "-F", "-b", "4096"], &["mkfs.xfs", "-q"], &["mkfs.btrfs", "-q"]];
    for make in MAKERS {
        let directory = directory();
        let mount = mounted(directory.path(), make, 320);
        for config in two() {
            for ahead in [Preallocate::Reserve(1 << 30), Preallocate::Zero(1 << 30)] {
                let place = mount.0.clone();
                watched(&format!("{make:?}, {config}, {ahead:?}"), move || {
                    no_space(&place, &config.options().preallocate(ahead));
                });
            }
        }
    }
}

fn no_space(place: &Path, options: &Options) {
    let (path, content) = (place.join("take"), bytes(1, 5000));
    std::fs::write(&path, &content).unwrap();
    let before = size(&path);
    for way in WAYS {
        let error = way(options, &path).unwrap_err();
        assert_io(&error, Operation::Preallocate, libc::ENOSPC);
        assert_eq!(size(&path), before, "{error}");
        assert_file(&path, &content, &"after a failed open");
    }
    let new = place.join("new");
    let error = options.create_new(&new).unwrap_err();
    assert_io(&error, Operation::Preallocate, libc::ENOSPC);
    assert!(!new.exists(), "a new file is left behind");
}

/// The space of the old content is part of what is reserved: there need not be room for both.
#[test]
fn a_create_over_a_large_file_needs_no_second_place_for_it() {
    if !has_own_mounts("a_create_over_a_large_file_needs_no_second_place_for_it") {
        return;
    }
    let directory = directory();
    let make = ["mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0"];
    let mount = mounted(directory.path(), &make, 160);
    let path = mount.0.join("take");
    for config in two() {
        for ahead in [Preallocate::Reserve(100 << 20), Preallocate::Zero(100 << 20)] {
            for old in [5000, 90 << 20, 110 << 20] {
                std::fs::write(&path, vec![7; old]).unwrap();
                let mut writer = config.options().preallocate(ahead).create(&path).unwrap();
                let found = std::fs::read(&path).unwrap();
                assert!(found.len() >= 100 << 20 && found.len() <= 101 << 20, "{ahead:?}");
                assert!(found.iter().all(|byte| *byte == 0), "old content, {ahead:?}, {old}");
                assert!(size(&path).1 * 512 >= 100 << 20, "no space was reserved");
                writer.write_flush(b"new").unwrap();
                writer.close().unwrap();
                assert_file(&path, b"new", &config);
                std::fs::remove_file(&path).unwrap();
            }
        }
    }
}

/// What was behind its place is gone, also where space was asked for ahead.
#[test]
fn an_append_at_a_place_keeps_what_is_before_it_and_nothing_else() {
    const AT: usize = 5000;
    each_config(|config, directory| {
        let ahead = [
            Preallocate::None,
            Preallocate::Reserve(20_000),
            Preallocate::Reserve(100_000),
            Preallocate::Zero(20_000),
            Preallocate::Zero(100_000),
        ];
        for ahead in ahead {
            let path = directory.join("take");
            let old = bytes(1, 50_000);
            std::fs::write(&path, &old).unwrap();
            let options = config.options().preallocate(ahead);
            let mut writer = options.append_at(&path, AT as u64).unwrap();
            let found = std::fs::read(&path).unwrap();
            assert_eq!(found[..AT], old[..AT], "{config}, {ahead:?}");
            assert!(found[AT..].iter().all(|byte| *byte == 0), "old bytes, {config}, {ahead:?}");
            assert_eq!(writer.write_flush(b"new").unwrap(), AT as u64 + 3);
            writer.close().unwrap();
            assert_file(&path, &[&old[..AT], b"new"].concat(), &config);
        }
    });
}

#[test]
fn an_open_that_is_called_off_changes_nothing() {
    each_config(|config, directory| {
        let (path, content) = (directory.join("take"), bytes(1, 50_000));
        std::fs::write(&path, &content).unwrap();
        let before = size(&path);
        let flag = Arc::new(AtomicBool::new(true));
        let options = config.options().cancel_open(flag.clone());
        let zeros = options.clone().preallocate(Preallocate::Zero(8 << 20));
        for way in WAYS {
            assert!(matches!(way(&zeros, &path), Err(Error::Cancelled)));
            assert_eq!(size(&path), before);
            assert_file(&path, &content, &config);
        }
        assert!(matches!(zeros.create_new(directory.join("new")), Err(Error::Cancelled)));
        assert!(!directory.join("new").exists());
        // Also who waits for the lock.
        let other = File::open(&path).unwrap();
        other.lock().unwrap();
        let patient = options.clone().lock_wait(Duration::from_secs(3600));
        assert!(matches!(patient.append(&path), Err(Error::Cancelled)));
        other.unlock().unwrap();
        // An open that has nothing to wait for does not look.
        options.append(&path).unwrap().close().unwrap();
        assert_file(&path, &content, &config);
    });
}

/// What it would be to open it for good, and to fail, where there is no fallocate.
#[test]
fn space_ahead_where_the_file_system_knows_no_reservation() {
    if !has_own_mounts("space_ahead_where_the_file_system_knows_no_reservation") {
        return;
    }
    let directory = directory();
    run("mount", &["-t", "ramfs", "ramfs", directory.path().to_str().unwrap()]);
    let _mount = Mount(directory.path().into());
    for config in configs().into_iter().filter(|config| config.direct == Direct::Off) {
        let path = directory.path().join("take");
        let zeros = config.options().preallocate(Preallocate::Zero(3 << 20));
        let mut writer = zeros.create(&path).unwrap();
        assert_file(&path, &vec![0; 3 << 20], &config);
        writer.write_flush(b"zeros").unwrap();
        writer.close().unwrap();
        assert_file(&path, b"zeros", &config);
        let reserved = config.options().preallocate(Preallocate::Reserve(3 << 20));
        let mut writer = reserved.create(&path).unwrap();
        let told = writer.fallbacks().iter().any(|reason| reason.contains("reserve"));
        assert!(told, "{config}: {:?}", writer.fallbacks());
        writer.write_flush(b"reserved").unwrap();
        writer.close().unwrap();
        assert_file(&path, b"reserved", &config);
    }
}

// ---- names that move --------------------------------------------------------------------------------

#[test]
fn a_directory_that_is_renamed_and_moved_keeps_its_recording() {
    each_config(|config, directory| {
        for name_is_taken in [false, true] {
            let (takes, later) = (directory.join("takes"), directory.join("later"));
            std::fs::create_dir(&takes).unwrap();
            std::fs::create_dir(&later).unwrap();
            let mut writer = config.create(&takes.join("take"));
            assert_eq!(writer.write_flush(b"before, ").unwrap(), 8);
            std::fs::rename(&takes, later.join("takes-2026")).unwrap();
            if name_is_taken {
                std::fs::create_dir(&takes).unwrap();
                std::fs::write(takes.join("take"), "another").unwrap();
            }
            assert_eq!(writer.write_flush(b"after").unwrap(), 13);
            writer.close().unwrap_or_else(|error| panic!("{config}: {error}"));
            assert_file(&later.join("takes-2026/take"), b"before, after", &config);
            if name_is_taken {
                assert_file(&takes.join("take"), b"another", &config);
                std::fs::remove_dir_all(&takes).unwrap();
            }
            std::fs::remove_dir_all(&later).unwrap();
        }
    });
}

#[test]
fn a_file_that_is_moved_to_another_directory_is_whole_there() {
    each_config(|config, directory| {
        let (path, moved) = (directory.join("take"), directory.join("done"));
        std::fs::create_dir(&moved).unwrap();
        let mut writer = config.create(&path);
        assert_eq!(writer.write_flush(b"before, ").unwrap(), 8);
        std::fs::rename(&path, moved.join("take")).unwrap();
        std::fs::write(&path, "another").unwrap();
        assert_eq!(writer.write_flush(b"after").unwrap(), 13);
        writer.close().unwrap_or_else(|error| panic!("{config}: {error}"));
        assert_file(&moved.join("take"), b"before, after", &config);
        assert_file(&path, b"another", &config);
    });
}

/// In a child: its working directory, and its root, are others then.
#[test]
fn a_working_directory_too_deep_to_be_named() {
    let name = "a_working_directory_too_deep_to_be_named";
    if child_task().is_none() {
        if has_links(name) {
            child_succeeds(name, "alone", |_| {});
        }
        return;
    }
    let directory = directory();
    std::env::set_current_dir(directory.path()).unwrap();
    let deep = "d".repeat(250);
    for _ in 0..20 {
        std::fs::create_dir(&deep).unwrap();
        std::env::set_current_dir(&deep).unwrap();
    }
    std::fs::create_dir("below").unwrap();
    symlink("below/target", "link").unwrap();
    for config in configs() {
        for (path, found) in [("take", "take"), ("link", "below/target"), ("./below/x", "below/x")]
        {
            let mut writer = config.options().create(path).unwrap();
            assert_eq!(writer.write_flush(b"deep").unwrap(), 4);
            writer.close().unwrap_or_else(|error| panic!("{config}: {error}"));
            assert_file(Path::new(found), b"deep", &config);
            std::fs::remove_file(found).unwrap();
        }
    }
    std::env::set_current_dir(directory.path()).unwrap();
}

#[test]
fn a_process_that_has_another_root_by_now_closes_its_recording() {
    let name = "a_process_that_has_another_root_by_now_closes_its_recording";
    if child_task().is_none() {
        if common::may_mount(name) {
            child_succeeds(name, "alone", |_| {});
        }
        return;
    }
    let directory = directory();
    let root = directory.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let name = |number: usize| directory.path().join(number.to_string());
    let writers = configs().into_iter().enumerate();
    let mut writers: Vec<_> =
        writers.map(|(number, config)| (config, config.create(&name(number)))).collect();
    let outside = File::open(directory.path()).unwrap();
    std::os::unix::fs::chroot(&root).unwrap();
    for (config, writer) in &mut writers {
        assert_eq!(writer.write_flush(b"whole").unwrap(), 5, "{config}");
    }
    for (config, writer) in writers {
        writer.close().unwrap_or_else(|error| panic!("{config}: {error}"));
    }
    // Out again, to look, and to take away what is temporary.
    let number = std::os::fd::AsRawFd::as_raw_fd(&outside);
    // SAFETY: a live descriptor.
    assert_eq!(unsafe { libc::fchdir(number) }, 0);
    for _ in 0..64 {
        std::env::set_current_dir("..").unwrap();
    }
    std::os::unix::fs::chroot(".").unwrap();
    for (number, config) in configs().into_iter().enumerate() {
        assert_file(&name(number), b"whole", &config);
    }
}

/// Whether the file system has symbolic links, or a word for `test` that it is skipped.
fn has_links(test: &str) -> bool {
    let directory = directory();
    match symlink("nowhere", directory.path().join("link")) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            skip(test, "the file system has no symbolic links");
            false
        }
        made => made.is_ok(),
    }
}

#[test]
fn links_lead_to_their_file_or_say_why_not() {
    if !has_links("links_lead_to_their_file_or_say_why_not") {
        return;
    }
    each_config(|config, directory| {
        let at = |name: &str| directory.join(name);
        std::fs::create_dir(at("far")).unwrap();
        // To a link in another directory, and from there, relative, to what is not there yet.
        symlink(at("far/second"), at("first")).unwrap();
        symlink("../take", at("far/second")).unwrap();
        assert_io(&config.options().open(at("first")).unwrap_err(), Operation::Open, libc::ENOENT);
        for make in [Options::create, Options::create_new, Options::append] {
            make(&config.options(), at("first")).unwrap().close().unwrap();
            assert_file(&at("take"), b"", &config);
            assert!(at("first").is_symlink() && at("far/second").is_symlink());
            std::fs::remove_file(at("take")).unwrap();
        }
        symlink("round", at("round")).unwrap();
        symlink("far", at("to-directory")).unwrap();
        symlink("missing/take", at("nowhere")).unwrap();
        for (name, code) in [("round", libc::ELOOP), ("nowhere", libc::ENOENT)] {
            for way in WAYS {
                assert_io(&way(&config.options(), &at(name)).unwrap_err(), Operation::Open, code);
            }
        }
        let error = config.options().create(at("to-directory")).unwrap_err();
        assert!(matches!(error, Error::Options(_)), "{error}");
        // One of procfs, to a file that has no name any more: its text is no name either.
        let file = File::create(at("gone")).unwrap();
        std::fs::remove_file(at("gone")).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&file);
        let link = PathBuf::from(format!("/proc/self/fd/{number}"));
        let error = config.options().create(&link).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        assert!(!at("gone (deleted)").exists());
    });
}

/// Descriptors of this process that lead there.
fn descriptors_of(path: &Path) -> usize {
    let path = path.canonicalize().unwrap();
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    all.filter(|entry| {
        std::fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|to| to == path)
    })
    .count()
}

#[test]
fn writers_in_one_directory_hold_it_once() {
    each_config(|config, directory| {
        let at = |number: u32| directory.join(number.to_string());
        let writers: Vec<_> = (0..5).map(|number| config.create(&at(number))).collect();
        assert_eq!(descriptors_of(directory), 1, "{config}");
        for writer in writers {
            writer.close().unwrap();
        }
        assert_eq!(descriptors_of(directory), 0, "{config}");
        config.create(&at(7)).close().unwrap();
    });
}

/// What a rotation of logs does between the open and the lock.
#[test]
fn a_file_that_loses_its_name_before_its_lock_is_had_is_opened_again() {
    each_config(|config, directory| {
        for way in WAYS {
            let (path, old) = (directory.join("take"), directory.join("take.1"));
            std::fs::write(&path, "old").unwrap();
            let other = File::open(&path).unwrap();
            other.lock().unwrap();
            let asked = path.clone();
            let opener = std::thread::spawn(move || {
                way(&config.options().lock_wait(Duration::from_secs(3600)), &asked)
            });
            // This one's, and the one that waits for the lock.
            while descriptors_of(&path) < 2 {
                std::thread::yield_now();
            }
            std::fs::rename(&path, &old).unwrap();
            std::fs::write(&path, "new").unwrap();
            other.unlock().unwrap();
            let mut writer = opener.join().unwrap().unwrap();
            let end = writer.write_flush(b"and on").unwrap();
            writer.close().unwrap();
            assert_file(&old, b"old", &config);
            let expected: &[u8] = if end == 9 { b"newand on" } else { b"and on" };
            assert_file(&path, expected, &config);
        }
    });
}

// ---- what a file system says at the end -------------------------------------------------------------

#[test]
fn what_close_says_is_an_error_of_the_close() {
    let faults = [libc::EIO, libc::EDQUOT].map(|flush| Faults { flush, ..Faults::default() });
    on_fuse("what_close_says_is_an_error_of_the_close", &faults, |faults, place| {
        for config in configs() {
            let path = place.join("take");
            let mut writer = config.create(&path);
            assert_eq!(writer.write_flush(b"durable").unwrap(), 7);
            let failed = writer.close().unwrap_err();
            let [error] = &failed.errors[..] else { panic!("{config}: {failed}") };
            assert_io(error, Operation::Close, faults.flush);
            assert_eq!(failed.summary.positions.durable, 7);
            assert!(failed.to_string().starts_with("could not close "), "{failed}");
            drop(config.create(&path)); // nobody hears of it
        }
        use writeflush::mmio::{File, MMIOERR_CANNOTWRITE};
        let mut file = File::create(place.join("take.wav")).unwrap();
        file.write(b"RIFF").unwrap();
        assert_eq!(file.close().unwrap_err().code, MMIOERR_CANNOTWRITE);
    });
}

#[test]
fn a_directory_that_cannot_be_flushed_weakens_the_label() {
    let codes = [libc::EINVAL, libc::EOPNOTSUPP];
    let faults = codes.map(|fsyncdir| Faults { fsyncdir, ..Faults::default() });
    on_fuse("a_directory_that_cannot_be_flushed_weakens_the_label", &faults, |_, place| {
        for config in configs() {
            let path = place.join("take");
            let mut writer = config.create(&path);
            let durability = writer.durability();
            assert!(durability.medium <= Medium::Device, "{durability}");
            assert!(durability.reason.contains("can't flush a directory"), "{durability}");
            let told = writer.fallbacks().iter().any(|reason| reason.contains("directory"));
            assert!(told, "{config}: {:?}", writer.fallbacks());
            assert_eq!(writer.write_flush(b"durable").unwrap(), 7);
            writer.close().unwrap_or_else(|error| panic!("{config}: {error}"));
            assert_file(&path, b"durable", &config);
        }
    });
}

#[test]
fn a_directory_whose_flush_fails_is_fatal_and_nothing_is_changed() {
    let name = "a_directory_whose_flush_fails_is_fatal_and_nothing_is_changed";
    on_fuse(name, &[Faults { fsyncdir: libc::EIO, ..Faults::default() }], |_, place| {
        assert_untouched(place, Operation::SyncDirectory);
    });
}

#[test]
fn a_file_whose_flush_fails_is_fatal_and_nothing_is_changed() {
    let name = "a_file_whose_flush_fails_is_fatal_and_nothing_is_changed";
    on_fuse(name, &[Faults { fsync: libc::EIO, ..Faults::default() }], |_, place| {
        assert_untouched(place, Operation::Flush);
    });
}

fn assert_untouched(place: &Path, operation: Operation) {
    let (path, new, content) = (place.join("take"), place.join("new"), bytes(1, 5000));
    for config in configs() {
        for ahead in [Preallocate::None, Preallocate::Reserve(90_000), Preallocate::Zero(90_000)] {
            std::fs::write(&path, &content).unwrap();
            let options = config.options().preallocate(ahead);
            for way in WAYS {
                assert_io(&way(&options, &path).unwrap_err(), operation, libc::EIO);
                assert_file(&path, &content, &config);
            }
            assert_io(&options.create_new(&new).unwrap_err(), operation, libc::EIO);
            assert!(!new.exists(), "{config}: a new file is left behind");
        }
    }
}
