//! MMIO_SHAREMODE: who may have a file open beside whom.

use super::caller::{CREATE, Caller, name, place, settings};
use super::common::{child_succeeds, child_task};
use super::fences::in_force;
use writeflush::mmio::*;

const MODES: [u32; 3] = [MMIO_READ, MMIO_WRITE, MMIO_READWRITE];
const SHARES: [u32; 5] = [0, MMIO_EXCLUSIVE, MMIO_DENYWRITE, MMIO_DENYREAD, MMIO_DENYNONE];

/// What an open does (reads, writes), and what it denies to others.
fn rights(flags: u32) -> ([bool; 2], [bool; 2]) {
    let does = match flags & MMIO_RWMODE {
        MMIO_READ => [true, false],
        MMIO_WRITE => [false, true],
        _ => [true, true],
    };
    let denies = match flags & MMIO_SHAREMODE {
        MMIO_EXCLUSIVE => [true, true],
        MMIO_DENYWRITE => [false, true],
        MMIO_DENYREAD => [true, false],
        _ => [false, false],
    };
    (does, denies)
}

fn may_be_open_beside(one: u32, other: u32) -> bool {
    let ((does, denies), (other_does, other_denies)) = (rights(one), rights(other));
    let both = |a: [bool; 2], b: [bool; 2]| (a[0] && b[0]) || (a[1] && b[1]);
    // One writer a file, whatever the flags say.
    !(both(does, other_denies) || both(denies, other_does) || does[1] && other_does[1])
}

#[test]
fn every_pair_of_modes_is_let_in_or_kept_out() {
    let (_dir, path) = place();
    std::fs::write(&path, b"content").unwrap();
    let flags = || MODES.iter().flat_map(|mode| SHARES.map(|share| mode | share));
    for first in flags() {
        for second in flags() {
            let label = format!("{second:#x} beside {first:#x}");
            let mut holder = Caller::open(&name(&path), first).unwrap();
            let other = Caller::open(&name(&path), second);
            if may_be_open_beside(first, second) {
                assert_eq!(other.expect(&label).close(), 0, "{label}");
            } else {
                assert_eq!(other.err(), Some(MMIOERR_SHARINGVIOLATION as isize), "{label}");
            }
            assert_eq!(holder.close(), 0);
        }
    }
    assert_eq!(std::fs::read(path).unwrap(), b"content");
}

#[test]
fn a_create_that_is_kept_out_empties_nothing() {
    let (_dir, path) = place();
    std::fs::write(&path, b"content").unwrap();
    let mut reader = Caller::open(&name(&path), MMIO_READ | MMIO_DENYNONE).unwrap();
    let kept_out = Caller::open(&name(&path), CREATE | MMIO_EXCLUSIVE);
    assert_eq!(kept_out.err(), Some(MMIOERR_SHARINGVIOLATION as isize));
    assert_eq!(std::fs::read(&path).unwrap(), b"content");
    assert_eq!(reader.close(), 0);
    let mut writer = Caller::open(&name(&path), CREATE | MMIO_EXCLUSIVE).unwrap();
    // The hold outlives a gap that the file system makes.
    assert_eq!(writer.seek(1 << 28, SEEK_SET), 1 << 28);
    assert_eq!(writer.write(b"far"), 3);
    let kept_out = Caller::open(&name(&path), MMIO_READ | MMIO_DENYNONE);
    assert_eq!(kept_out.err(), Some(MMIOERR_SHARINGVIOLATION as isize));
    assert_eq!(writer.close(), 0);
}

/// As with winmm's own procedure, where every write is in the file at once.
#[test]
fn a_second_handle_reads_what_has_been_written() {
    for settings in settings() {
        let _in_force = in_force(settings);
        reads_what_has_been_written();
    }
}

fn reads_what_has_been_written() {
    let (_dir, path) = place();
    let mut found = [0; 16];
    for writes in [1, 1000] {
        let mut writer = Caller::open(&name(&path), CREATE | MMIO_DENYNONE).unwrap();
        let mut early = Caller::open(&name(&path), MMIO_READ | MMIO_DENYNONE).unwrap();
        assert_eq!((early.seek(0, SEEK_END), early.read(&mut found)), (0, 0), "no bytes so far");
        for _ in 0..writes {
            assert_eq!(writer.write(b"0123456789"), 10);
        }
        let mut late = Caller::open(&name(&path), MMIO_READ | MMIO_DENYNONE).unwrap();
        let end = writes * 10;
        for reader in [&mut early, &mut late] {
            assert_eq!(reader.seek(0, SEEK_END), end);
            assert_eq!(reader.seek(10, SEEK_END), end - 10);
            assert_eq!(reader.read(&mut found), 10, "and no padding");
            assert_eq!(&found[..10], b"0123456789");
        }
        assert_eq!(writer.seek(-3, SEEK_CUR), end - 3);
        assert_eq!(writer.write(b"abcde"), 5, "an overwrite, and two more");
        assert_eq!(late.seek(5, SEEK_END), end - 3);
        assert_eq!((late.read(&mut found), &found[..5]), (5, &b"abcde"[..]));
        assert_eq!(writer.close(), 0);
        assert_eq!(late.seek(0, SEEK_END), end + 2, "after the close too");
        assert_eq!((early.close(), late.close()), (0, 0));
    }
}

/// On Linux nothing can keep a name: the file goes on under whatever it is called.
#[test]
#[cfg(windows)]
fn nobody_renames_or_deletes_a_file_that_is_open_exclusively() {
    let (dir, path) = place();
    let kept = dir.path().join("kept.wav");
    for flags in [CREATE | MMIO_EXCLUSIVE, MMIO_READ | MMIO_EXCLUSIVE] {
        let mut holder = Caller::open(&name(&path), flags).unwrap();
        assert!(std::fs::rename(&path, &kept).is_err(), "{flags:#x}");
        assert!(std::fs::remove_file(&path).is_err(), "{flags:#x}");
        assert_eq!(super::caller::rename(&path, &kept), MMIOERR_SHARINGVIOLATION as isize);
        assert_eq!(holder.close(), 0);
    }
    std::fs::rename(&path, &kept).unwrap();
    std::fs::remove_file(&kept).unwrap();
}

#[test]
fn another_process_is_kept_out_too() {
    const TEST: &str = "sharing::another_process_is_kept_out_too";
    if let Some(task) = child_task() {
        let (flags, name) = task.split_once(' ').unwrap();
        let answer = Caller::open(name, flags.parse().unwrap()).err();
        assert_eq!(answer, Some(MMIOERR_SHARINGVIOLATION as isize));
        return;
    }
    let (_dir, path) = place();
    std::fs::write(&path, b"content").unwrap();
    let pairs = [
        (MMIO_READWRITE | MMIO_EXCLUSIVE, MMIO_READ | MMIO_DENYNONE),
        (MMIO_READ | MMIO_DENYREAD, MMIO_READ),
        (MMIO_READ | MMIO_DENYNONE, CREATE | MMIO_EXCLUSIVE),
        (MMIO_READ | MMIO_DENYWRITE, MMIO_WRITE),
    ];
    for (held, asked) in pairs {
        let mut holder = Caller::open(&name(&path), held).unwrap();
        child_succeeds(TEST, &format!("{asked} {}", name(&path)), |_| {});
        assert_eq!(holder.close(), 0);
    }
}
