//! What can be refused before a byte is taken, and what a close may still find: each with its own
//! error, and nothing of value touched.

mod common;

use std::io;
use std::path::Path;
use std::time::Duration;

use common::{Config, SMALL, assert_file, assert_same, bytes, directory, each_config};
#[cfg(unix)]
use common::{configs, skip};
use writeflush::{Error, Operation, Options, Preallocate, Writer};

type Way = fn(&Options, &Path) -> Result<Writer, Error>;

/// Every way to open a file.
const WAYS: [Way; 4] = [
    |options, path| options.create(path),
    |options, path| options.create_new(path),
    |options, path| options.append(path),
    |options, path| options.open(path),
];

#[cfg(unix)]
#[track_caller]
fn assert_io(error: &Error, operation: Operation, code: i32) {
    assert!(matches!(error, Error::Io { operation: found, .. } if *found == operation), "{error}");
    assert_eq!(error.raw_os_error(), Some(code), "{error}");
}

#[test]
fn options_that_cannot_work_are_refused_with_what_to_change() {
    let new = Options::new;
    let cases = [
        (new().buffers(0), "give at least 2"),
        (new().buffers(1), "give at least 2"),
        (new().buffers(1001), "give at most 1000"),
        (new().buffer_size(0), "for example 4096"),
        (new().buffer_size(4095), "for example 4096"),
        (new().buffer_size(10_000), "for example 8192"),
        (new().buffer_size((1 << 30) + 4096), "for example 1073741824"),
        (new().buffer_size(8192).grant_limit(8193), "give at most 8192"),
        (new().buffers(1000).buffer_size(2 << 20), "raise the limit"),
        (new().memory_limit(1 << 20), "raise the limit"),
    ];
    let directory = directory();
    let path = directory.path().join("take");
    for (options, advice) in cases {
        for way in WAYS {
            let error = way(&options, &path).unwrap_err();
            assert!(matches!(error, Error::Options(_)), "{options:?}: {error}");
            assert!(error.to_string().contains(advice), "{error}");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(!path.exists(), "{options:?} left a file");
        }
    }
}

#[test]
#[cfg(unix)]
fn a_path_that_leads_nowhere() {
    let directory = directory();
    let file = directory.path().join("file");
    std::fs::write(&file, "kept").unwrap();
    for config in configs() {
        let options = config.options();
        for way in WAYS {
            let missing = directory.path().join("missing/take");
            assert_io(&way(&options, &missing).unwrap_err(), Operation::Open, libc::ENOENT);
            let below_file = file.join("take");
            assert_io(&way(&options, &below_file).unwrap_err(), Operation::Open, libc::ENOTDIR);
            assert_io(&way(&options, Path::new("")).unwrap_err(), Operation::Open, libc::ENOENT);
            let no_name = way(&options, Path::new("take\0more")).unwrap_err();
            assert_eq!(no_name.kind(), io::ErrorKind::InvalidInput, "{no_name}");
        }
        let absent = directory.path().join("absent");
        assert_io(&options.open(&absent).unwrap_err(), Operation::Open, libc::ENOENT);
        assert_io(&options.create_new(&file).unwrap_err(), Operation::Open, libc::EEXIST);
        assert_file(&file, b"kept", &config);
    }
}

#[test]
#[cfg(unix)]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let directory = directory();
    let fifo = directory.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).output().unwrap();
    if String::from_utf8_lossy(&made.stderr).contains("Operation not permitted") {
        let test = "what_is_no_regular_file_is_refused_without_waiting";
        return skip(test, "the file system has no FIFOs");
    }
    assert!(made.status.success(), "{made:?}");
    for config in configs() {
        for path in [directory.path(), &fifo, Path::new("/dev/full"), Path::new("/dev/null")] {
            for way in WAYS {
                let error = way(&config.options(), path).unwrap_err();
                assert!(matches!(error, Error::Options(_)), "{path:?}: {error}");
                assert!(error.to_string().contains("not a regular file"), "{error}");
            }
        }
    }
}

#[test]
fn a_second_writer_is_refused_and_harms_nothing() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut first = config.create(&path);
        let model = bytes(1, 5000);
        first.write_flush(&model).unwrap();
        let options = config.options().lock_wait(Duration::ZERO);
        let cut: Way = |options, path| options.append_at(path, 100);
        for way in [WAYS[0], WAYS[2], WAYS[3], cut] {
            let error = way(&options, &path).unwrap_err();
            assert!(matches!(&error, Error::Locked { path: found, .. } if **found == *path));
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            // Not cut yet: with direct I/O there is padding behind.
            assert_same(&std::fs::read(&path).unwrap()[..5000], &model, &config);
        }
        drop(config.options().lock(false).open(&path).unwrap());

        first.close().unwrap();
        let second = config.options().append(&path).unwrap();
        drop(second);
        let second = config.options().append(&path).unwrap().into_shared();
        assert!(matches!(options.append(&path), Err(Error::Locked { .. })));
        drop(second);
        let third = config.options().open(&path).unwrap();
        assert!(matches!(options.open(&path), Err(Error::Locked { .. })));
        // A control handle that lives on keeps nobody out.
        let control = third.control().clone();
        third.close().unwrap();
        config.options().append(&path).unwrap().close().unwrap();
        assert_eq!(control.positions().accepted, 0);
        assert_file(&path, &model, &config);
    });
}

#[test]
fn a_lock_taken_elsewhere_counts() {
    let directory = directory();
    let path = directory.path().join("take");
    std::fs::write(&path, "kept").unwrap();
    let other = std::fs::File::open(&path).unwrap();
    other.lock().unwrap();
    // Waited for, in vain; and tried once.
    let limit = Duration::from_millis(30);
    let error = Options::new().lock_wait(limit).create(&path).unwrap_err();
    assert!(matches!(error, Error::Locked { waited, .. } if waited == limit), "{error}");
    assert!(error.to_string().contains("(waited 30ms)"), "{error}");
    let error = Options::new().lock_wait(Duration::ZERO).create(&path).unwrap_err();
    assert!(matches!(error, Error::Locked { waited: Duration::ZERO, .. }), "{error}");
    assert_file(&path, b"kept", &"locked");
    other.unlock().unwrap();
    Options::new().append(&path).unwrap().close().unwrap();
}

#[test]
#[cfg(unix)]
fn a_file_that_was_removed_meanwhile_is_reported_by_close() {
    each_config(|config, directory| {
        for whole_directory in [false, true] {
            let inner = directory.join("inner");
            std::fs::create_dir_all(&inner).unwrap();
            let path = inner.join("take");
            let mut writer = config.create(&path);
            assert_eq!(writer.write_flush(&bytes(1, 5000)).unwrap(), 5000);
            if whole_directory {
                std::fs::remove_dir_all(&inner).unwrap();
            } else {
                std::fs::remove_file(&path).unwrap();
            }
            assert_eq!(writer.write_flush(&bytes(2, 5000)).unwrap(), 10_000);
            let failed = writer.close().unwrap_err();
            let [Error::Io { operation: Operation::SyncDirectory, source, .. }] =
                &failed.errors[..]
            else {
                panic!("{config}: {failed}");
            };
            assert_eq!(source.kind(), io::ErrorKind::NotFound);
            assert_eq!(failed.summary.positions.durable, 10_000);
            assert!(failed.to_string().contains("the first 10000 bytes are durable"), "{failed}");
            assert_eq!(io::Error::from(failed).kind(), io::ErrorKind::NotFound);
        }
    });
}

#[test]
fn more_space_than_there_can_be() {
    each_config(|config, directory| {
        let path = directory.join("take");
        for ahead in [u64::MAX, i64::MAX as u64, 1 << 60] {
            for ahead in [Preallocate::Reserve(ahead), Preallocate::Zero(ahead)] {
                let error = config.options().preallocate(ahead).create(&path).unwrap_err();
                let operation = Operation::Preallocate;
                assert!(
                    matches!(error, Error::Io { operation: found, .. } if found == operation),
                    "{config}: {error}"
                );
                assert!(!path.exists(), "{config}: {ahead:?} left a file");
            }
        }
    });
}

#[test]
fn an_error_keeps_what_is_behind_it() {
    let error = Options::new().open(directory().path().join("absent")).unwrap_err();
    assert!(error.to_string().starts_with("could not open "), "{error}");
    assert!(std::error::Error::source(&error).is_some());
    let outer = io::Error::from(error.clone());
    assert_eq!(outer.kind(), io::ErrorKind::NotFound);
    let inner = outer.get_ref().unwrap().downcast_ref::<Error>().unwrap();
    assert_eq!(inner.raw_os_error(), error.raw_os_error());
}

#[test]
fn a_seek_to_nowhere_moves_nothing() {
    use std::io::{Seek, SeekFrom, Write};
    let directory = directory();
    let path = directory.path().join("take");
    let mut writer = Config::STILL.create(&path);
    writer.write_all(&bytes(1, SMALL)).unwrap();
    for to in [
        SeekFrom::End(-(SMALL as i64) - 1),
        SeekFrom::Current(i64::MIN),
        SeekFrom::Start(u64::MAX),
        SeekFrom::Start(i64::MAX as u64 + 1),
    ] {
        let error = writer.seek(to).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(writer.stream_position().unwrap(), SMALL as u64);
    }
    writer.close().unwrap();
    assert_file(&path, &bytes(1, SMALL), &"after refused seeks");
}
