//! A full disk in the middle of a recording: the file ends where its bytes end, its header is true,
//! and whoever waits for space loses nothing.
//!
//! Real file systems in private mounts, filled up by another file; and a limit on the length of
//! files, without a handler for its signal.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod common;

use std::fs::File;
use std::future::Future;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use common::{
    Config, Mount, assert_same, bytes, child_succeeds, child_task, configs, directory,
    has_own_mounts, run, watched,
};
use writeflush::{
    CloseError, Control, DiskFull, Drive, Error, OnFull, Operation, Options, Push, Writer,
};

const KINDS: [&str; 4] = ["tmpfs", "ext4", "xfs", "btrfs"];
/// What the other file leaves of the file system.
const ROOM: i64 = 1 << 20;
/// Its first bytes are the header's.
const RECORD: usize = 3000;

fn mounted(kind: &str, at: &Path) -> Mount {
    if kind == "tmpfs" {
        return Mount::tmpfs(at, "size=8m");
    }
    let image = at.with_extension("image");
    let mib = if kind == "ext4" { 16 } else { 256 };
    File::create(&image).unwrap().set_len(mib << 20).unwrap();
    let (program, args): (_, &[&str]) = match kind {
        "ext4" => ("mkfs.ext4", &["-q", "-F", "-b", "4096", "-m", "0"]),
        "xfs" => ("mkfs.xfs", &["-q", "-f", "--unsupported", "-d", "agcount=1"]),
        _ => ("mkfs.btrfs", &["-q", "-f", "-m", "single", "-d", "single"]),
    };
    run(program, &[args, &[image.to_str().unwrap()]].concat());
    Mount::image(kind, &image, at, "loop")
}

fn fill_up(at: &Path) -> PathBuf {
    common::fill_up(at, ROOM)
}

fn options(config: Config) -> Options {
    config.options().buffer_size(64 << 10).buffers(4)
}

/// The body once for every configuration on every file system, each a mount of its own.
fn everywhere(name: &str, body: impl Fn(Config, &Path) + Copy + Send + 'static) {
    if !has_own_mounts(name) {
        return;
    }
    let directory = directory();
    for kind in KINDS {
        let at = directory.path().join(kind);
        std::fs::create_dir_all(&at).unwrap();
        let mut mount = Some(mounted(kind, &at));
        for config in configs() {
            // One that was full to the last block takes its time.
            if mount.is_none() {
                mount = Some(mounted(kind, &at));
            }
            let place = at.clone();
            watched(&format!("{kind}, {config}"), move || body(config, &place));
            mount.take_if(|_| kind == "btrfs");
        }
    }
}

/// What the file begins with, but for its header.
fn expected(len: usize) -> Vec<u8> {
    let record = bytes(2, RECORD);
    record.iter().copied().cycle().take(len).collect()
}

/// The file ends behind what was written, and its header describes what is durable. A file system
/// that writes every change elsewhere may have had no room for either: then the close says so, an
/// older header is there, or zeros and later bytes where they were pushed, to the end of a block.
#[track_caller]
fn assert_whole(path: &Path, failed: &CloseError, config: Config) {
    let positions = failed.summary.positions;
    assert!(positions.durable >= 256 << 10, "{config}: {positions:?}");
    let mut file = std::fs::read(path).unwrap();
    assert_eq!(failed.summary.file_len, Some(file.len() as u64), "{config}");
    if failed.errors.iter().any(|error| is_of(error, Operation::Trim)) {
        assert!(path.parent().unwrap().ends_with("btrfs"), "{config}: {failed}");
        let padding = file.split_off(positions.written as usize);
        // A later write may have found room where an earlier one found none.
        let (from, to) = (positions.written as usize, positions.submitted as usize);
        let pushed = expected(to).into_iter().skip(from).chain(std::iter::repeat(0));
        let is_right = padding.iter().zip(pushed).all(|(byte, pushed)| [0, pushed].contains(byte));
        let len = padding.len();
        assert!(
            len <= to.next_multiple_of(4096) - from,
            "{config}: {len}, {positions:?}, {failed}"
        );
        assert!(is_right, "{config}: other bytes, {positions:?}, {failed}");
    }
    let mut header = positions.durable.to_le_bytes();
    if failed.errors.iter().skip(1).any(|error| is_of(error, Operation::Write)) {
        assert!(path.parent().unwrap().ends_with("btrfs"), "{config}: {failed}");
        let (first, second) = (failed.errors[0].raw_os_error(), failed.errors[1].raw_os_error());
        assert_eq!(second, first, "{config}: {failed}");
        header.copy_from_slice(&file[..8]);
        let described = u64::from_le_bytes(header);
        let none = header == expected(8)[..];
        assert!(none || described <= positions.durable, "{config}: {described}");
    }
    let mut expected = expected(positions.written as usize);
    expected[..8].copy_from_slice(&header);
    assert_same(&file, &expected, &config);
}

fn is_of(error: &Error, operation: Operation) -> bool {
    matches!(error, Error::Io { operation: at, .. } if *at == operation)
}

fn write_until_full(writer: &mut Writer) -> Error {
    let record = bytes(2, RECORD);
    for number in 0.. {
        if let Err(error) = writer.write(&record) {
            return error;
        }
        if number % 64 == 10 {
            drop(writer.fence());
        }
        assert!(number < 10_000, "never full");
    }
    unreachable!()
}

/// Records until `meet` has met the full disk, and closes: everything in the file is whole.
fn everywhere_full(name: &str, meet: impl Fn(&mut Writer) -> Error + Copy + Send + 'static) {
    everywhere(name, move |config, at| {
        let path = at.join("take");
        let mut writer = options(config).create(&path).unwrap();
        let fill = fill_up(at);
        let error = meet(&mut writer);
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{config}: {error}");
        let failed = writer.close().unwrap_err();
        assert_whole(&path, &failed, config);
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&fill).unwrap();
    });
}

#[test]
fn a_full_disk_leaves_a_whole_file_and_a_true_header() {
    everywhere_full("a_full_disk_leaves_a_whole_file_and_a_true_header", |writer| {
        let first = write_until_full(writer);
        assert!(matches!(first, Error::Io { operation: Operation::Write, .. }), "{first}");
        for _ in 0..2 {
            let error = writer.checkpoint(0, u64::to_le_bytes).unwrap_err();
            assert_eq!(error.to_string(), first.to_string());
        }
        first
    });
}

/// A checkpoint is what meets the full disk: bytes that no write before it brought to the disk.
#[test]
fn a_checkpoint_that_meets_a_full_disk_leaves_a_true_header() {
    everywhere_full("a_checkpoint_that_meets_a_full_disk_leaves_a_true_header", |writer| {
        let record = bytes(2, RECORD);
        loop {
            for _ in 0..50 {
                if writer.try_write(&record).is_err() {
                    break;
                }
            }
            if let Err(error) = writer.checkpoint(0, u64::to_le_bytes) {
                break error;
            }
        }
    });
}

/// Nobody closes it, and it was longer before.
/// Nobody hears what the drop finds, but whoever has kept a handle can ask.
#[test]
fn what_a_drop_finds_is_known_to_who_asks() {
    everywhere("what_a_drop_finds_is_known_to_who_asks", |config, at| {
        const LEN: usize = 60_000; // less than a buffer: nothing is written before the drop
        let path = at.join("take");
        let mut writer = options(config).submit_every(None).create(&path).unwrap();
        let fill = common::fill_up(at, 4096);
        let _ = writer.write(&bytes(2, LEN)).unwrap();
        let control = writer.control().clone();
        assert!(control.error().is_none(), "{config}");
        drop(writer);
        let error = control.error().expect("an error that the drop has left");
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{config}: {error}");
        let asked = control.flush().unwrap_err();
        assert_eq!(asked.raw_os_error(), Some(libc::ENOSPC), "{config}: {asked}");
        assert!(control.positions().durable < LEN as u64, "{config}");
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&fill).unwrap();
    });
}

#[test]
fn a_dropped_writer_cuts_its_file_too() {
    everywhere("a_dropped_writer_cuts_its_file_too", |config, at| {
        let path = at.join("take");
        let mut writer = options(config).create(&path).unwrap();
        let fill = fill_up(at);
        write_until_full(&mut writer);
        let written = writer.positions().written;
        drop(writer);
        let file = std::fs::read(&path).unwrap();
        assert_same(&file, &expected(written as usize), &config);
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&fill).unwrap();
    });
}

/// Makes space a moment after the writer has said that it waits.
fn make_space_when_asked(
    control: Control,
    make_space: impl FnOnce() + Send + 'static,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while !control.is_waiting_for_space() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(50));
        make_space();
    })
}

/// Records until, and while, the writer waits for space, which `make_space` brings; gives the length.
fn record_while_it_waits(writer: &mut Writer, make_space: impl FnOnce() + Send + 'static) -> u64 {
    let other = make_space_when_asked(writer.control().clone(), make_space);
    let record = bytes(2, RECORD);
    let mut len = 0;
    while !other.is_finished() {
        let Push::Accepted(at) = writer.write(&record).unwrap() else { panic!("lost") };
        len = at + RECORD as u64;
        if len.is_multiple_of(7) {
            drop(writer.fence());
        }
    }
    other.join().unwrap();
    assert_eq!(writer.flush().unwrap(), len);
    assert!(!writer.is_waiting_for_space());
    len
}

#[test]
fn who_waits_for_space_loses_nothing() {
    everywhere("who_waits_for_space_loses_nothing", |config, at| {
        let path = at.join("take");
        let mut writer = options(config).on_disk_full(DiskFull::Wait).create(&path).unwrap();
        let mut len = 0;
        let times = if at.ends_with("btrfs") { 1 } else { 2 };
        for _ in 0..times {
            let fill = fill_up(at);
            len = record_while_it_waits(&mut writer, || std::fs::remove_file(fill).unwrap());
        }
        let summary = writer.close().unwrap();
        assert_eq!(summary.file_len, Some(len));
        let file = std::fs::read(&path).unwrap();
        assert_same(&file, &expected(len as usize), &config);
        std::fs::remove_file(&path).unwrap();
    });
}

/// Where the caller drives, a poll that is not through wakes its task again at once.
#[test]
fn a_task_that_awaits_a_fence_does_not_spin_while_the_disk_is_full() {
    struct Again(AtomicUsize);
    impl Wake for Again {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    const NAME: &str = "a_task_that_awaits_a_fence_does_not_spin_while_the_disk_is_full";
    if !has_own_mounts(NAME) {
        return;
    }
    let directory = directory();
    let _mount = mounted("tmpfs", directory.path());
    for config in configs().into_iter().filter(|config| config.drive == Drive::Caller) {
        let at = directory.path().to_path_buf();
        watched(&config.to_string(), move || {
            let (path, fill) = (at.join("take"), fill_up(&at));
            let mut writer = options(config).on_disk_full(DiskFull::Wait).create(&path).unwrap();
            let (mut len, record) = (0, bytes(2, RECORD));
            while let Err(Error::Full { .. }) | Ok(_) = writer.try_write(&record) {
                len = writer.positions().accepted;
                let _ = writer.fence().wait_timeout(Duration::from_millis(1)).unwrap();
                if writer.is_waiting_for_space() {
                    break;
                }
            }
            let make_space = || std::fs::remove_file(fill).unwrap();
            let other = make_space_when_asked(writer.control().clone(), make_space);
            let again = Arc::new(Again(AtomicUsize::new(0)));
            let waker = Waker::from(again.clone());
            let mut ticket = std::pin::pin!(writer.fence());
            let (mut polls, mut full) = (0, 0);
            while ticket.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                polls += 1;
                full += u32::from(writer.is_waiting_for_space());
                assert_eq!(again.0.load(Ordering::Relaxed), polls, "{config}: nobody wakes it");
            }
            assert!(full < 1000, "{config}: {full} polls of a full disk");
            other.join().unwrap();
            assert_eq!(writer.close().unwrap().file_len, Some(len));
            assert_same(&std::fs::read(&path).unwrap(), &expected(len as usize), &config);
            std::fs::remove_file(&path).unwrap();
        });
    }
}

/// EDQUOT: of a limit on what a subvolume holds (btrfs-qgroup(8)), which needs nothing of the kernel
/// but btrfs.
#[test]
fn a_quota_that_is_used_up_is_a_full_disk() {
    const NAME: &str = "a_quota_that_is_used_up_is_a_full_disk";
    if !has_own_mounts(NAME) {
        return;
    }
    let limit = |at: &Path, bytes: &str| {
        run("btrfs", &["qgroup", "limit", bytes, "0/5", at.to_str().unwrap()]);
    };
    let directory = directory();
    let at = directory.path().join("btrfs");
    std::fs::create_dir(&at).unwrap();
    for config in configs() {
        let _mount = mounted("btrfs", &at);
        run("btrfs", &["quota", "enable", at.to_str().unwrap()]);
        let at = at.clone();
        watched(&config.to_string(), move || {
            let path = at.join("fails");
            // One more block, and another step of the close is the first without room.
            for blocks in 0..16 {
                limit(&at, &((3 << 20) + blocks * 4096).to_string());
                let mut writer = options(config).create(&path).unwrap();
                let error = write_until_full(&mut writer);
                assert_eq!(error.raw_os_error(), Some(libc::EDQUOT), "{config}: {error}");
                let again = writer.checkpoint(0, u64::to_le_bytes).unwrap_err();
                assert_eq!(again.to_string(), error.to_string());
                let failed = writer.close().unwrap_err();
                assert_whole(&path, &failed, config);
                std::fs::remove_file(&path).unwrap();
                run("btrfs", &["filesystem", "sync", at.to_str().unwrap()]);
            }

            limit(&at, "6m");
            let path = at.join("waits");
            let mut writer = options(config).on_disk_full(DiskFull::Wait).create(&path).unwrap();
            let place = at.clone();
            let len = record_while_it_waits(&mut writer, move || limit(&place, "none"));
            writer.close().unwrap();
            assert_same(&std::fs::read(&path).unwrap(), &expected(len as usize), &config);
        });
    }
}

#[test]
fn while_the_disk_is_full_the_overrun_policy_applies_and_a_close_ends() {
    const NAME: &str = "while_the_disk_is_full_the_overrun_policy_applies_and_a_close_ends";
    if !has_own_mounts(NAME) {
        return;
    }
    let directory = directory();
    let _mount = mounted("tmpfs", directory.path());
    let at = directory.path().to_path_buf();
    for config in configs() {
        let at = at.clone();
        watched(&config.to_string(), move || {
            let fill = fill_up(&at);
            let limit = Duration::from_millis(20);
            for policy in [OnFull::Fail, OnFull::Drop, OnFull::BlockFor(limit)] {
                let path = at.join("take");
                let options = options(config).on_disk_full(DiskFull::Wait).on_full(policy);
                let mut writer = options.create(&path).unwrap();
                let record = bytes(2, RECORD);
                loop {
                    match (writer.write(&record), policy) {
                        // Where the caller drives, and nothing waits, a push moves nothing on.
                        (Err(Error::Full { .. }), OnFull::Fail)
                        | (Ok(Push::Lost(RECORD)), OnFull::Drop) => {
                            let waited = writer.fence().wait_timeout(limit).unwrap();
                            if writer.is_waiting_for_space() {
                                assert_eq!(waited, None);
                                break;
                            }
                        }
                        // On a busy machine the time is over before the disk has been met.
                        (Err(Error::Deadline { .. }), OnFull::BlockFor(_)) => {
                            if writer.is_waiting_for_space() {
                                break;
                            }
                        }
                        (Ok(Push::Accepted(_)), _) => {}
                        other => panic!("{config}: {other:?}"),
                    }
                }
                assert!(writer.is_waiting_for_space(), "{config}");
                assert!(writer.error().is_none());
                let failed = writer.close().unwrap_err();
                assert_eq!(failed.errors[0].raw_os_error(), Some(libc::ENOSPC));
                let written = failed.summary.positions.written;
                assert_eq!(failed.summary.file_len, Some(written));
                let file = std::fs::read(&path).unwrap();
                assert_same(&file, &expected(written as usize), &config);
                std::fs::remove_file(&path).unwrap();
            }
            std::fs::remove_file(&fill).unwrap();
        });
    }
}

/// Whether SIGXFSZ waits for this thread or is blocked in it.
fn signal_state() -> (bool, bool) {
    // SAFETY: plain system calls with live sets.
    unsafe {
        let (mut pending, mut blocked) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigpending(&raw mut pending);
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut blocked);
        let is_in = |set| libc::sigismember(set, libc::SIGXFSZ) == 1;
        (is_in(&raw const pending), is_in(&raw const blocked))
    }
}

/// In a child of its own, since the limit is the whole process's, and its signal would end it.
#[test]
fn a_limit_on_the_length_of_files_is_an_error_and_no_signal() {
    const NAME: &str = "a_limit_on_the_length_of_files_is_an_error_and_no_signal";
    const LIMIT: u64 = 1 << 20;
    if child_task().is_none() {
        return child_succeeds(NAME, "limited", |_| {});
    }
    let limit = libc::rlimit { rlim_cur: LIMIT, rlim_max: LIMIT };
    // SAFETY: a plain system call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
    for config in configs() {
        watched(&config.to_string(), move || {
            let directory = directory();
            let path = directory.path().join("take");
            let mut writer = options(config).create(&path).unwrap();
            let error = write_until_full(&mut writer);
            assert_eq!(error.raw_os_error(), Some(libc::EFBIG), "{config}: {error}");
            let failed = writer.close().unwrap_err();
            assert_eq!(failed.summary.positions.written, LIMIT, "{config}");
            let file = std::fs::read(&path).unwrap();
            assert_same(&file, &expected(LIMIT as usize), &config);
            for ahead in [
                writeflush::Preallocate::Reserve(2 * LIMIT),
                writeflush::Preallocate::Zero(2 * LIMIT),
            ] {
                let refused = options(config).preallocate(ahead).create(&path).unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(libc::EFBIG), "{config}: {refused}");
            }
            assert_eq!(signal_state(), (false, false), "{config}");
        });
    }
}

/// Here the limit comes when the writer is open, so that nobody has blocked the signal.
#[test]
fn a_gap_past_the_limit_is_refused_and_the_writer_goes_on() {
    const NAME: &str = "a_gap_past_the_limit_is_refused_and_the_writer_goes_on";
    if child_task().is_none() {
        return child_succeeds(NAME, "limited", |_| {});
    }
    let limit_files_to = |len| {
        let limit = libc::rlimit { rlim_cur: len, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: a plain system call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
    };
    for config in configs() {
        watched(&config.to_string(), move || {
            let directory = directory();
            let path = directory.path().join("take");
            limit_files_to(libc::RLIM_INFINITY);
            let mut writer = options(config).create(&path).unwrap();
            writer.write_all(b"start").unwrap();
            limit_files_to(1 << 20);
            writer.seek(SeekFrom::Start(100 << 20)).unwrap();
            let refused = writer.write_all(b"far").unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::FileTooLarge, "{config}: {refused}");
            assert!(writer.error().is_none() && writer.positions().accepted == 5, "{config}");
            writer.seek(SeekFrom::End(0)).unwrap();
            writer.write_all(b", end").unwrap();
            assert_eq!(writer.flush().unwrap(), 10, "{config}");
            writer.close().unwrap();
            assert_same(&std::fs::read(&path).unwrap(), b"start, end", &config);
            assert_eq!(signal_state(), (false, false), "{config}");
        });
    }
}

/// A child of the process that met it: the file is its parent's.
#[test]
fn a_forked_child_writes_no_header_after_a_full_disk() {
    const NAME: &str = "a_forked_child_writes_no_header_after_a_full_disk";
    if child_task().is_none() {
        return child_succeeds(NAME, "limited", |_| {});
    }
    let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
    // SAFETY: a plain system call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
    for config in configs() {
        watched(&config.to_string(), move || {
            let directory = directory();
            let path = directory.path().join("take");
            let mut writer = options(config).create(&path).unwrap();
            write_until_full(&mut writer);
            // SAFETY: the child makes one call that is refused, and leaves.
            unsafe {
                match libc::fork() {
                    0 => libc::_exit(writer.checkpoint(0, |_| [9; 8]).is_ok().into()),
                    child => {
                        let mut status = 0;
                        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                        assert_eq!(status, 0, "{config}");
                    }
                }
            }
            let written = writer.close().unwrap_err().summary.positions.written;
            let file = std::fs::read(&path).unwrap();
            assert_same(&file, &expected(written as usize), &config);
        });
    }
}
