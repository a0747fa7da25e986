//! A writer over a file that is open already: one without a name, one from somebody else.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod common;

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use common::{assert_file, bytes, configs, directory, each_config, skip, watched};
use writeflush::{BackendChoice, Direct, Drive, Error, Medium, Operation, Options, Preallocate};

/// A file that has never had a name, or a word for `test` that it is skipped.
fn nameless(directory: &Path, test: &str) -> Option<File> {
    let mut open = File::options();
    open.read(true).write(true).custom_flags(libc::O_TMPFILE).mode(0o600);
    match open.open(directory) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            skip(test, "the file system has no files without a name");
            None
        }
        file => Some(file.unwrap()),
    }
}

fn memory(flags: libc::c_uint) -> File {
    // SAFETY: a live string; the number is nobody else's.
    unsafe { File::from_raw_fd(libc::memfd_create(c"take".as_ptr(), libc::MFD_CLOEXEC | flags)) }
}

fn content(file: &File) -> Vec<u8> {
    std::fs::read(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
}

fn flags(file: &File) -> i32 {
    // SAFETY: a live descriptor.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) }
}

#[test]
fn a_file_without_a_name_is_recorded_to_and_then_named() {
    each_config(|config, directory| {
        let test = "a_file_without_a_name_is_recorded_to_and_then_named";
        let Some(file) = nameless(directory, test) else { return };
        let before = flags(&file);
        let mut writer = config.options().append_file(&file).unwrap();
        assert_eq!(writer.is_direct(), config.direct == Direct::On, "{config}");
        let label = writer.durability();
        assert!(label.reason.contains("no name") && label.medium < Medium::StableMedia, "{label}");
        let take = bytes(1, 30_001);
        writer.write(&take).unwrap();
        assert_eq!(writer.flush().unwrap(), 30_001);
        writer.patch(4090, b"header").unwrap();
        assert_eq!(writer.close().unwrap().file_len, Some(30_001));
        assert_eq!(flags(&file), before, "{config}");
        assert_eq!((&file).stream_position().unwrap(), 0);
        let mut wanted = take;
        wanted[4090..4096].copy_from_slice(b"header");
        let path = directory.join("named");
        let from = format!("/proc/self/fd/{}", file.as_raw_fd());
        let [from, to] = [from, path.to_str().unwrap().into()].map(std::ffi::CString::new);
        let (from, to) = (from.unwrap(), to.unwrap());
        // SAFETY: live strings.
        let linked = unsafe {
            let here = libc::AT_FDCWD;
            libc::linkat(here, from.as_ptr(), here, to.as_ptr(), libc::AT_SYMLINK_FOLLOW)
        };
        assert_eq!(linked, 0, "{}", std::io::Error::last_os_error());
        assert_file(&path, &wanted, &config);
    });
}

#[test]
fn a_descriptor_that_is_closed_at_once_is_not_missed() {
    each_config(|config, directory| {
        let path = directory.join("take");
        std::fs::write(&path, b"old").unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let mut writer = config.options().append_file(&file).unwrap();
        assert_eq!(writer.path().canonicalize().unwrap(), path.canonicalize().unwrap());
        drop(file);
        writer.write(b" new").unwrap();
        std::fs::rename(&path, directory.join("moved")).unwrap(); // names are not the writer's
        writer.close().unwrap();
        assert_file(&directory.join("moved"), b"old new", &config);
    });
}

#[test]
fn memory_is_the_page_cache_whatever_is_asked_for() {
    for direct in [Direct::Auto, Direct::Off] {
        let file = memory(0);
        let mut writer = Options::new().direct(direct).append_file(&file).unwrap();
        assert_eq!(writer.durability().medium, Medium::PageCache);
        let take = bytes(2, 3_000_000);
        writer.write_flush(&take).unwrap();
        writer.close().unwrap();
        assert!(content(&file) == take);
    }
}

#[test]
fn it_goes_on_at_its_end_or_where_it_is_told() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let old = bytes(3, 10_000);
        for (at, end) in [(None, 10_000), (Some(5000), 5000), (Some(0), 0)] {
            std::fs::write(&path, &old).unwrap();
            let mut file = File::options().read(true).write(true).open(&path).unwrap();
            file.seek(SeekFrom::Start(17)).unwrap();
            let options = config.options();
            let opened = match at {
                None => options.append_file(&file),
                Some(at) => options.append_file_at(&file, at),
            };
            let mut writer = opened.unwrap();
            assert_eq!(writer.positions().durable, end as u64);
            writer.write(b"new").unwrap();
            writer.close().unwrap();
            assert_file(&path, &[&old[..end], b"new"].concat(), &config);
            assert_eq!(file.stream_position().unwrap(), 17);
        }
    });
}

/// One sentence that says what to do, and nothing has changed.
#[test]
fn what_can_not_be_recorded_to_is_refused() {
    let directory = directory();
    let path = directory.path().join("take");
    let old = bytes(4, 5000);
    std::fs::write(&path, &old).unwrap();
    let opened = |flags: i32| {
        let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: a live string; the number is nobody else's.
        unsafe { File::from_raw_fd(libc::open(path.as_ptr(), flags | libc::O_CLOEXEC)) }
    };
    let sealed = |seal: i32| {
        let file = memory(libc::MFD_ALLOW_SEALING);
        // SAFETY: a live descriptor.
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seal) }, 0);
        file
    };
    let (_read, pipe) = std::io::pipe().unwrap();
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let cases = [
        (File::from(OwnedFd::from(pipe)), "not a regular file"),
        (File::from(OwnedFd::from(socket)), "not a regular file"),
        (File::open(directory.path()).unwrap(), "not a regular file"),
        (File::options().write(true).open("/dev/null").unwrap(), "not a regular file"),
        (opened(libc::O_PATH), "O_PATH"),
        (opened(libc::O_RDONLY), "reading only"),
        (opened(libc::O_RDWR | libc::O_APPEND), "O_APPEND"),
        (opened(libc::O_WRONLY | libc::O_APPEND), "O_APPEND"),
        (sealed(libc::F_SEAL_WRITE), "sealed"),
        (sealed(libc::F_SEAL_GROW), "sealed"),
        (sealed(libc::F_SEAL_SHRINK), "sealed"),
    ];
    for (file, why) in &cases {
        for config in configs() {
            for error in [
                config.options().append_file(file).unwrap_err(),
                config.options().append_file_at(file, 0).unwrap_err(),
            ] {
                assert!(matches!(error, Error::Options(_)), "{why}: {error}");
                assert!(error.to_string().contains(why), "{why}: {error}");
            }
        }
    }
    assert_file(&path, &old, &"after the refusals");
    let file = opened(libc::O_RDWR);
    let error = Options::new().append_file_at(&file, 5001).unwrap_err();
    assert!(error.to_string().contains("5000 bytes"), "{error}");
    let most = Options::new().preallocate(Preallocate::Reserve(u64::MAX));
    for opened in [most.append_file(&file), most.append_file_at(&file, 3)] {
        let error = opened.unwrap_err();
        assert!(matches!(error, Error::Io { operation: Operation::Preallocate, .. }), "{error}");
    }
    assert_file(&path, &old, &"after opens that failed");
    Options::new().append_file(&file).unwrap().close().unwrap(); // no lock is left behind
}

/// As a shell's `3>take` hands it on.
#[test]
fn a_descriptor_for_writing_only_is_opened_anew() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let file = File::create(&path).unwrap();
        let mut writer = config.options().append_file(&file).unwrap();
        writer.write(&[1; 5000]).unwrap();
        writer.flush().unwrap();
        writer.patch(4095, b"ab").unwrap(); // reads the blocks around it
        writer.close().unwrap();
        let found = std::fs::read(&path).unwrap();
        assert!(found.len() == 5000 && found[4095..4097] == *b"ab", "{config}");
    });
}

#[test]
fn a_second_writer_is_kept_out() {
    let directory = directory();
    let path = directory.path().join("take");
    let once = Options::new().lock_wait(Duration::ZERO);
    let file = File::create_new(&path).unwrap();
    let writer = once.append_file(&file).unwrap();
    for second in [once.append_file(&file), once.append(&path), once.append_file_at(&file, 0)] {
        assert!(matches!(second.unwrap_err(), Error::Locked { .. }));
    }
    writer.close().unwrap();
    file.lock().unwrap();
    assert!(matches!(once.append_file(&file).unwrap_err(), Error::Locked { .. }));
    once.clone().lock(false).append_file(&file).unwrap().close().unwrap();
    file.unlock().unwrap();
    once.append_file(&file).unwrap().close().unwrap();
}

/// Who has no right to the file itself: a sandbox's broker opened it.
#[test]
fn where_it_can_not_be_opened_anew_a_duplicate_serves() {
    // SAFETY: a system call without arguments.
    if unsafe { libc::geteuid() } != 0 {
        return skip("where_it_can_not_be_opened_anew_a_duplicate_serves", "it needs root");
    }
    let directory = directory();
    let path = directory.path().join("take");
    std::fs::write(&path, b"").unwrap();
    let of = |flags: i32| {
        let mut open = File::options();
        open.read(flags != libc::O_WRONLY).write(true).custom_flags(flags);
        open.open(&path).unwrap()
    };
    let (both, writes, direct) = (of(0), of(libc::O_WRONLY), of(libc::O_DIRECT));
    watched("as nobody", move || {
        // SAFETY: a system call with plain numbers: of this thread, and those that it starts.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, -1, 65534, -1) }, 0);
        let name = format!("/proc/self/fd/{}", both.as_raw_fd());
        assert!(File::options().write(true).open(name).is_err());
        for backend in [BackendChoice::Auto, BackendChoice::Sync] {
            for drive in [Drive::Caller, Drive::Thread] {
                let options = Options::new().backend(backend).drive(drive).buffer_size(4096);
                let mut writer = options.append_file_at(&both, 0).unwrap();
                let said = writer.fallbacks().join("; ");
                assert!(said.contains("can't be opened anew") && !writer.is_direct(), "{said}");
                let take = bytes(5, 20_001);
                writer.write(&take).unwrap();
                writer.patch(4090, &take[4090..4100]).unwrap();
                writer.close().unwrap();
                let mut found = vec![0; 20_002];
                let read = std::os::unix::fs::FileExt::read_at(&both, &mut found, 0).unwrap();
                assert!(read == 20_001 && found[..read] == take);
                assert_eq!(flags(&both) & (libc::O_DIRECT | libc::O_APPEND), 0);
                let error = options.direct(Direct::On).append_file(&both).unwrap_err();
                assert!(matches!(error, Error::Io { operation: Operation::Open, .. }), "{error}");
            }
        }
        for (file, why) in [(&writes, "writing only"), (&direct, "O_DIRECT")] {
            let error = Options::new().append_file_at(file, 0).unwrap_err();
            assert!(matches!(error, Error::Options(_)), "{error}");
            assert!(error.to_string().contains(why), "{error}");
        }
        assert_eq!(both.metadata().unwrap().len(), 20_001);
    });
}

/// As with a file that has a name: it is cut only where the number is still its own.
#[test]
fn a_stranger_who_has_the_number_by_now_is_left_alone() {
    let directory = directory();
    let test = "a_stranger_who_has_the_number_by_now_is_left_alone";
    let Some(file) = nameless(directory.path(), test) else { return };
    let stranger = directory.path().join("stranger's");
    std::fs::write(&stranger, [7; 9000]).unwrap();
    let options = Options::new().backend(BackendChoice::Sync).drive(Drive::Caller);
    let mut writer = options.append_file(&file).unwrap();
    writer.write_flush(&[1; 5000]).unwrap();
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let ours = identity(file.metadata().unwrap());
    let numbers = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let is_ours = |path: &Path| std::fs::metadata(path).is_ok_and(|it| identity(it) == ours);
    let numbers: Vec<i32> = numbers
        .filter(|path| is_ours(path))
        .map(|path| path.file_name().unwrap().to_str().unwrap().parse().unwrap())
        .filter(|number| *number != file.as_raw_fd())
        .collect();
    assert_eq!(numbers.len(), 1);
    let his = File::options().read(true).write(true).open(&stranger).unwrap();
    // SAFETY: just what must not be done.
    assert_eq!(unsafe { libc::dup2(his.as_raw_fd(), numbers[0]) }, numbers[0]);
    let error = writer.close().unwrap_err();
    assert!(error.to_string().contains("somebody else closed"), "{error}");
    assert_file(&stranger, &[7; 9000], &"the stranger's");
    // SAFETY: ours alone by now.
    drop(unsafe { OwnedFd::from_raw_fd(numbers[0]) });
}

/// Also of a file that has a name; and nothing stays open behind a close or a drop.
#[test]
fn the_descriptor_can_be_borrowed_and_goes_with_the_writer() {
    use std::os::fd::AsFd;
    each_config(|config, directory| {
        let path = directory.join("take");
        let open = || {
            let of = |path: &Path| std::fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
            let all = std::fs::read_dir("/proc/self/fd").unwrap().map(|one| one.unwrap().path());
            all.filter(|one| of(one) == of(&path)).count()
        };
        for close in [true, false] {
            let mut writer = config.create(&path);
            writer.write_flush(&[1; 5000]).unwrap();
            let file = File::from(writer.as_fd().try_clone_to_owned().unwrap());
            assert_eq!(file.metadata().unwrap().ino(), std::fs::metadata(&path).unwrap().ino());
            // SAFETY: a live descriptor; plain numbers.
            let advised = unsafe {
                libc::posix_fadvise(writer.as_fd().as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED)
            };
            assert_eq!(advised, 0);
            drop(file);
            if close {
                drop(writer.close().unwrap())
            } else {
                drop(writer)
            }
            assert_eq!(open(), 0, "{config}");
            assert_file(&path, &[1; 5000], &config);
        }
    });
}

/// O_TMPFILE, named through the writer: the file is there under its name when it is closed.
#[test]
fn a_file_is_named_through_its_writer() {
    use std::os::fd::AsFd;
    let directory = directory();
    let path = directory.path().join("named");
    let test = "a_file_is_named_through_its_writer";
    let Some(file) = nameless(directory.path(), test) else { return };
    let mut writer = Options::new().append_file(&file).unwrap();
    drop(file); // the writer's own holds it
    writer.write_flush(&[1; 5000]).unwrap();
    let from = std::ffi::CString::new(format!("/proc/self/fd/{}", writer.as_fd().as_raw_fd()));
    let (from, to) = (from.unwrap(), std::ffi::CString::new(path.to_str().unwrap()).unwrap());
    // SAFETY: live strings.
    let linked = unsafe {
        let here = libc::AT_FDCWD;
        libc::linkat(here, from.as_ptr(), here, to.as_ptr(), libc::AT_SYMLINK_FOLLOW)
    };
    assert_eq!(linked, 0, "{}", std::io::Error::last_os_error());
    writer.write(&[2; 5000]).unwrap();
    writer.close().unwrap();
    assert_file(&path, &[[1; 5000], [2; 5000]].concat(), &"named");
}
