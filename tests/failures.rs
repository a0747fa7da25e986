//! A disk that fails under a writer: one typed error, for everyone, for ever; nothing hangs; and
//! every byte that was called durable is there.
//!
//! Real file systems in private mounts: a full one, one that is shut down in mid-write (each call
//! on it then fails with EIO, and what its journal had not committed is gone, as after a power
//! cut), and a limit on the length of files that cuts writes short.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod common;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;

use common::block_on::block_on;
use common::{
    Config, Mount, SMALL, assert_same, assert_same_failure, bytes, child_succeeds, child_task,
    configs, directory, has_own_mounts, run, watched,
};
use writeflush::{Direct, Error, Operation, Preallocate, SharedWriter};

const HEADER: usize = 10_000;
const RECORD: usize = 3000;

/// What the file begins with, whoever wrote which record.
fn expected(len: usize) -> Vec<u8> {
    let mut file = bytes(1, HEADER);
    let record = bytes(2, RECORD);
    while file.len() < len {
        file.extend_from_slice(&record);
    }
    file.truncate(len);
    file
}

/// Has producers, flushers, ticket holders and a patcher at work while `break_it` breaks the
/// disk; each has to end with the same error, and so has every later call. Returns the error and
/// the durable position.
fn everyone_hears(
    config: Config,
    path: &Path,
    break_it: impl FnOnce(&SharedWriter),
) -> (Error, u64) {
    let mut writer = config.options().buffers(3).create(path).unwrap();
    assert_eq!(writer.write_flush(&bytes(1, HEADER)).unwrap(), HEADER as u64);
    let before = writer.fence();
    let writer = writer.into_shared();
    let record = bytes(2, RECORD);

    let until_it_fails = |call: &mut dyn FnMut() -> Result<(), Error>| {
        loop {
            if let Err(error) = call() {
                break error;
            }
        }
    };
    let errors = std::thread::scope(|scope| {
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(scope.spawn(|| until_it_fails(&mut || writer.write(&record).map(drop))));
        }
        all.push(scope.spawn(|| until_it_fails(&mut || writer.write_flush(&record).map(drop))));
        all.push(scope.spawn(|| until_it_fails(&mut || writer.flush().map(drop))));
        all.push(scope.spawn(|| until_it_fails(&mut || writer.fence().wait().map(drop))));
        all.push(scope.spawn(|| until_it_fails(&mut || block_on(writer.fence()).map(drop))));
        // The bytes that are there: the file stays as expected.
        let same = || writer.patch(0, &bytes(1, 99));
        all.push(scope.spawn(move || until_it_fails(&mut { same })));
        break_it(&writer);
        all.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });

    let first = writer.error().expect("a poisoned stream says so");
    for error in &errors {
        assert_same_failure(error, &first);
    }
    let durable = writer.positions().durable;
    for _ in 0..2 {
        assert_same_failure(&writer.write(b"later").unwrap_err(), &first);
        assert_same_failure(&writer.try_write(b"later").unwrap_err(), &first);
        assert_same_failure(&writer.write(&[7; 100_000]).unwrap_err(), &first);
        assert_same_failure(&writer.write_flush(b"later").unwrap_err(), &first);
        assert_same_failure(&writer.flush().unwrap_err(), &first);
        assert_same_failure(&writer.patch(0, b"later").unwrap_err(), &first);
        // A full disk lets it write its header: the bytes that are there.
        assert_same_failure(&writer.checkpoint(0, |_| bytes(1, 5)).unwrap_err(), &first);
        let ticket = writer.fence();
        assert_same_failure(&ticket.wait().unwrap_err(), &first);
        assert_same_failure(&ticket.is_durable().unwrap_err(), &first);
        assert_same_failure(&block_on(ticket).unwrap_err(), &first);
    }
    assert_eq!(before.wait().unwrap(), HEADER as u64, "what was durable is");
    assert_eq!(writer.positions().durable, durable);
    common::assert_ordered(writer.positions());

    let control = writer.control().clone();
    let failed = writer.close().unwrap_err();
    assert_same_failure(&failed.errors[0], &first);
    assert_eq!(failed.summary.positions.durable, durable);
    assert_same_failure(&control.flush().unwrap_err(), &first);
    assert_same_failure(&control.patch(0, b"late").unwrap_err(), &first);
    (first, durable)
}

#[track_caller]
fn assert_durable(path: &Path, durable: u64, config: Config) {
    let file = std::fs::read(path).unwrap();
    let durable = durable as usize;
    assert!(durable >= HEADER);
    assert!(file.len() >= durable, "{config}: {} bytes of {durable}", file.len());
    assert_same(&file[..durable], &expected(durable), &config);
}

/// Runs the body in a child with mounts of its own, once for every configuration.
fn with_mounts(name: &str, body: impl Fn(Config, &Path) + Clone + Send + 'static) {
    if !has_own_mounts(name) {
        return;
    }
    let directory = directory();
    for config in configs() {
        let (body, at) = (body.clone(), directory.path().to_path_buf());
        watched(&config.to_string(), move || body(config, &at));
    }
}

#[test]
fn a_full_tmpfs() {
    with_mounts("a_full_tmpfs", |config, at| {
        if config.direct == Direct::On {
            return; // not to be had there before Linux 6.6
        }
        let _mount = Mount::tmpfs(at, "size=1m");
        let path = at.join("take");
        let (error, durable) = everyone_hears(config, &path, |_| {});
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{config}: {error}");
        assert!(matches!(error, Error::Io { operation: Operation::Write, .. }), "{error}");
        assert_durable(&path, durable, config);
    });
}

#[test]
fn a_full_ext4() {
    with_mounts("a_full_ext4", |config, at| {
        let (image, at) = (at.join("image"), at.join("mount"));
        std::fs::create_dir_all(&at).unwrap();
        Mount::make_ext4(&image, 7);
        let _mount = Mount::ext4(&image, &at);
        let path = at.join("take");
        let (error, durable) = everyone_hears(config, &path, |_| {});
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{config}: {error}");
        assert_durable(&path, durable, config);
        std::fs::remove_file(&path).unwrap();

        let ahead = Preallocate::Reserve(64 << 20);
        let error = config.options().preallocate(ahead).create(&path).unwrap_err();
        assert!(matches!(error, Error::Io { operation: Operation::Preallocate, .. }), "{error}");
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert!(!path.exists(), "{config}: what could not be finished was left behind");
    });
}

/// Everything on this ext4 fails from now on; the journal is not flushed.
fn shut_down(file: &File) {
    const GOING_DOWN: libc::c_ulong = 0x8004_587D;
    let without_the_journal = 2u32;
    // SAFETY: a live descriptor and a live integer.
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), GOING_DOWN, &raw const without_the_journal) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// What was under way when it went down may also hear that it is read-only by now.
#[track_caller]
fn assert_down(error: &Error, config: &Config) {
    let heard = error.raw_os_error();
    assert!(matches!(heard, Some(libc::EIO | libc::EROFS)), "{config}: {error}");
}

#[test]
fn a_file_system_that_goes_down() {
    with_mounts("a_file_system_that_goes_down", |config, at| {
        for after in [HEADER as u64, 100_000, 500_000] {
            let (image, at) = (at.join("image"), at.join("mount"));
            std::fs::create_dir_all(&at).unwrap();
            Mount::make_ext4(&image, 16);
            let mount = Mount::ext4(&image, &at);
            let path = at.join("take");
            let directory = File::open(&at).unwrap();
            let claimed = std::cell::Cell::new(0);
            let (error, durable) = everyone_hears(config, &path, |writer| {
                while writer.positions().accepted < after {
                    std::thread::yield_now();
                }
                claimed.set(writer.positions().durable);
                shut_down(&directory);
            });
            // An fdatasync of buffered data that is under way at this very moment returns 0 now
            // and then though its data are lost: the kernel's (a few lines of C show it).
            let durable = if config.direct == Direct::Off { claimed.get() } else { durable };
            assert_down(&error, &config);
            drop((directory, mount));
            // The journal is replayed: as after a power cut.
            let _mount = Mount::ext4(&image, &at);
            assert_durable(&path, durable, config);
        }
    });
}

#[test]
fn an_exclusive_writer_hears_too() {
    with_mounts("an_exclusive_writer_hears_too", |config, at| {
        let (image, at) = (at.join("image"), at.join("mount"));
        std::fs::create_dir_all(&at).unwrap();
        Mount::make_ext4(&image, 16);
        let _mount = Mount::ext4(&image, &at);
        let path = at.join("take");
        let mut writer = config.create(&path);
        let control = writer.control().clone();
        writer.write_flush(&bytes(1, 5000)).unwrap();
        shut_down(&File::open(&at).unwrap());
        let error = loop {
            if let Err(error) = writer.write(&bytes(2, 1000)) {
                break error;
            }
        };
        assert_down(&error, &config);
        assert_same_failure(&writer.try_write(b"x").unwrap_err(), &error);
        assert_same_failure(&writer.grant(10).unwrap_err(), &error);
        assert_same_failure(&writer.write_flush(b"").unwrap_err(), &error);
        assert_same_failure(&writer.write(&[1; 5 * SMALL]).unwrap_err(), &error);
        let outer = std::io::Write::flush(&mut writer).unwrap_err();
        let inner = outer.into_inner().unwrap().downcast::<Error>().unwrap();
        assert_same_failure(&inner, &error);
        assert_eq!(control.positions().durable, 5000);
        let failed = writer.close().unwrap_err();
        assert_same_failure(&failed.errors[0], &error);
        assert_eq!(failed.summary.positions.durable, 5000);

        // Not even opened.
        let error = config.options().create(at.join("other")).unwrap_err();
        assert_down(&error, &config);
    });
}

#[test]
fn a_read_only_file_system() {
    with_mounts("a_read_only_file_system", |config, at| {
        let mount = Mount::tmpfs(at, "size=1m");
        std::fs::write(at.join("there"), "kept").unwrap();
        run("mount", &["-o", "remount,ro", at.to_str().unwrap()]);
        let options = config.options();
        for error in [
            options.create(at.join("take")).unwrap_err(),
            options.create(at.join("there")).unwrap_err(),
            options.append(at.join("there")).unwrap_err(),
            options.open(at.join("there")).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Io { operation: Operation::Open, .. }), "{error}");
            assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{config}: {error}");
        }
        common::assert_file(&at.join("there"), b"kept", &config);
        drop(mount);
    });
}

/// In a child of its own, since the limit is the whole process's.
#[test]
fn a_limit_on_the_length_of_files_cuts_writes_short() {
    const NAME: &str = "a_limit_on_the_length_of_files_cuts_writes_short";
    let Some(task) = child_task() else {
        for limit in [100_000u64, 102_400, 100_352] {
            child_succeeds(NAME, &limit.to_string(), |command| {
                let set = move || {
                    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
                    // SAFETY: plain system calls, allowed between fork and exec.
                    unsafe {
                        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                        libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
                    }
                    Ok(())
                };
                // SAFETY: the closure allocates nothing and takes no lock.
                unsafe { command.pre_exec(set) };
            });
        }
        return;
    };
    let limit: u64 = task.parse().unwrap();
    for config in configs() {
        watched(&format!("{config}, limit {limit}"), move || {
            let directory = directory();
            let path = directory.path().join("take");
            let (error, durable) = everyone_hears(config, &path, |_| {});
            assert_eq!(error.raw_os_error(), Some(libc::EFBIG), "{config}: {error}");
            assert!(matches!(error, Error::Io { operation: Operation::Write, .. }), "{error}");
            assert!(durable <= limit);
            assert_durable(&path, durable, config);
        });
    }
}
