//! A disk that is full: CLOSE says so, and the file is a whole prefix; or nothing is lost.

use std::path::{Path, PathBuf};

use super::caller::{CREATE, Caller, name};
use super::common::{
    Mount, assert_same, bytes, configs, directory, fill_up, has_own_mounts, skip, watched,
};
use writeflush::mmio::*;
use writeflush::{Direct, DiskFull, Options};

/// What the other file leaves of the disk.
const ROOM: i64 = 1 << 20;
const RECORD: usize = 3000;

/// The body once for every configuration, which is the process's meanwhile: in a child of its own, on
/// a small disk that another file has filled up but for [`ROOM`].
fn everywhere(test: &str, policy: DiskFull, body: fn(&Path, PathBuf)) {
    if !has_own_mounts(test) {
        return;
    }
    let directory = directory();
    let _mount = Mount::tmpfs(directory.path(), "size=8m");
    let takes_direct = takes_direct(directory.path());
    for config in configs() {
        if config.direct == Direct::On && !takes_direct {
            skip(test, &format!("{config}: tmpfs takes direct I/O from Linux 6.6 on"));
            continue;
        }
        let options: Options = config.options().buffer_size(64 << 10).buffers(4);
        Settings::new().options(options.on_disk_full(policy)).fence_every(None).apply();
        let path = directory.path().join("take.wav");
        let fill = fill_up(directory.path(), ROOM);
        let (take, filled) = (path.clone(), fill.clone());
        watched(&config.to_string(), move || body(&take, filled));
        let _ = std::fs::remove_file(&fill);
        std::fs::remove_file(&path).unwrap();
    }
}

fn takes_direct(directory: &Path) -> bool {
    let path = directory.join("direct");
    let takes = Options::new().direct(Direct::On).create(&path).is_ok();
    let _ = std::fs::remove_file(&path);
    takes
}

fn expected(len: usize) -> Vec<u8> {
    bytes(2, RECORD).iter().copied().cycle().take(len).collect()
}

/// Whoever meets it, a WRITE or a WRITEFLUSH.
#[test]
fn a_close_on_a_full_disk_answers_262_and_leaves_a_whole_prefix() {
    const NAME: &str = "full_disk::a_close_on_a_full_disk_answers_262_and_leaves_a_whole_prefix";
    everywhere(NAME, DiskFull::Fail, |path, _| {
        let record = bytes(2, RECORD);
        for flush_every in [usize::MAX, 10] {
            let mut caller = Caller::open(&name(path), CREATE).unwrap();
            let mut accepted = 0;
            for number in 1.. {
                let taken = match number % flush_every {
                    0 => caller.write_flush(&record),
                    _ => caller.write(&record),
                };
                match taken {
                    -1 => break,
                    taken => accepted += taken as usize,
                }
                assert!(number < 10_000, "never full");
            }
            assert_eq!(caller.write(&record), -1, "an error stays");
            assert_eq!(caller.write_flush(&record), -1);
            let (code, sentence) = caller.last_error();
            assert_eq!(code, MMIOERR_CANNOTWRITE as isize, "{sentence}");
            assert!(sentence.contains("os error 28"), "{sentence}");
            let renamed = caller.rename(path, &path.with_extension("kept"));
            assert_eq!(renamed, MMIOERR_CANNOTWRITE as isize, "it is not whole");
            assert_eq!(caller.last_error().1, sentence);
            let durable = caller.durable() as usize;
            assert_eq!(caller.close(), MMIOERR_CANNOTWRITE as isize);
            let file = std::fs::read(path).unwrap();
            assert!(durable >= 256 << 10 && durable <= file.len(), "{durable}: {}", file.len());
            assert!(file.len() <= accepted + RECORD, "{accepted}: {}", file.len());
            assert_same(&file, &expected(file.len()), &"full");
        }
    });
}

/// Every WRITE was taken: what does not fit is still in a buffer.
#[test]
fn a_close_that_alone_meets_the_full_disk_answers_262() {
    const NAME: &str = "full_disk::a_close_that_alone_meets_the_full_disk_answers_262";
    everywhere(NAME, DiskFull::Fail, |path, _| {
        let mut caller = Caller::open(&name(path), CREATE).unwrap();
        let bytes = expected(ROOM as usize + (64 << 10) - 1); // a byte less than full buffers
        assert_eq!(caller.write(&bytes), bytes.len() as isize);
        assert_eq!(caller.close(), MMIOERR_CANNOTWRITE as isize);
        assert!(caller.last_error().1.contains("os error 28"), "{}", caller.last_error().1);
        let file = std::fs::read(path).unwrap();
        assert!(file.len() >= ROOM as usize && file.len() < bytes.len(), "{}", file.len());
        assert_same(&file, &bytes[..file.len()], &"full");
    });
}

/// Bytes that the file system can still take.
fn free(at: &Path) -> u64 {
    use std::os::unix::ffi::OsStrExt;
    let at = std::ffi::CString::new(at.as_os_str().as_bytes()).unwrap();
    // SAFETY: a live C string and a live struct.
    unsafe {
        let mut told: libc::statvfs = std::mem::zeroed();
        assert_eq!(libc::statvfs(at.as_ptr(), &raw mut told), 0);
        told.f_bavail * told.f_bsize
    }
}

#[test]
fn who_waits_for_space_loses_nothing() {
    const NAME: &str = "full_disk::who_waits_for_space_loses_nothing";
    everywhere(NAME, DiskFull::Wait, |path, fill| {
        let record = bytes(2, RECORD);
        let mut caller = Caller::open(&name(path), CREATE).unwrap();
        let at = path.parent().unwrap().to_path_buf();
        let other = std::thread::spawn(move || {
            while free(&at) >= 64 << 10 {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            // Time for a write to be refused; with less of it the test only sees less.
            std::thread::sleep(std::time::Duration::from_millis(50));
            std::fs::remove_file(fill).unwrap();
        });
        let mut len = 0;
        while len < 3 << 20 {
            assert_eq!(caller.write(&record), RECORD as isize, "{:?}", caller.last_error());
            len += RECORD;
        }
        other.join().unwrap();
        assert_eq!(caller.write_flush(&record), RECORD as isize);
        len += RECORD;
        assert_eq!(caller.durable(), len as u64);
        assert_eq!(caller.close(), 0);
        assert_same(&std::fs::read(path).unwrap(), &expected(len), &"waited");
    });
}
