//! The messages of MMIO against the contract of `mmsystem.h`.
#![allow(unsafe_code)]

mod caller;
#[path = "../common/mod.rs"]
mod common;
mod crashes;
#[cfg(target_os = "linux")]
mod descriptors;
mod fences;
#[cfg(unix)]
mod forks;
mod front_end;
#[cfg(target_os = "linux")]
mod full_disk;
mod many;
mod names;
mod random;
mod refusals;
mod sharing;

use caller::{CREATE, Caller, name, place};
use writeflush::mmio::*;

#[test]
fn write_and_writeflush_answer_the_bytes_taken_and_move_the_offset() {
    let (_dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    assert_eq!(caller.offset(), 0);
    assert_eq!(caller.write(b"hello "), 6);
    assert_eq!(caller.offset(), 6);
    let bytes = b"world";
    let taken = caller.send(MMIOM_WRITEFLUSH, bytes.as_ptr() as isize, 5);
    assert_eq!((taken, caller.offset()), (5, 11));
    assert_eq!(caller.durable(), 11);
    assert_eq!(caller.send(MMIOM_WRITEFLUSH, 0, 0), 0);
    assert_eq!(caller.close(), 0);
    assert_eq!(std::fs::read(path).unwrap(), b"hello world");
}

#[test]
fn seeks_overwrites_gaps_and_reads_are_those_of_a_file() {
    let (_dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    assert_eq!(caller.write(&[7; 100]), 100);
    assert_eq!(caller.seek(40, SEEK_SET), 40);
    assert_eq!(caller.write(b"abcd"), 4);
    assert_eq!(caller.seek(-2, SEEK_CUR), 42);
    let mut bytes = [0; 4];
    assert_eq!(caller.read(&mut bytes), 4);
    assert_eq!(&bytes, b"cd\x07\x07");
    assert_eq!(caller.seek(10, SEEK_END), 90, "from the end, backwards");
    assert_eq!(caller.seek(-2048, SEEK_END), 2148);
    assert_eq!(caller.write(b"x"), 1);
    assert_eq!(caller.seek(0, SEEK_END), 2149);
    assert_eq!(caller.read(&mut bytes), 0, "at the end of the file");
    assert_eq!(caller.seek(99, SEEK_SET), 99);
    assert_eq!(caller.read(&mut bytes), 4);
    assert_eq!(bytes, [7, 0, 0, 0]);
    assert_eq!(caller.close(), 0);
    let content = std::fs::read(path).unwrap();
    assert_eq!(content.len(), 2149);
    assert!(content[100..2148].iter().all(|&byte| byte == 0));
}

#[test]
fn handles_that_are_not_open_get_an_error() {
    let (_dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    let copy = *caller.info;
    assert_eq!(caller.close(), 0);
    assert_eq!(caller.close(), MMIOERR_CANNOTCLOSE as isize, "twice");
    for word in [0, copy.adwInfo[0], 12, u32::MAX] {
        let mut stranger = Caller { info: Box::new(copy) };
        stranger.info.adwInfo[0] = word;
        assert_eq!(stranger.write(b"x"), -1);
        assert_eq!(stranger.seek(0, SEEK_SET), -1);
        assert_eq!(stranger.read(&mut []), -1, "no bytes of no file");
        assert_eq!(stranger.send(WFM_FENCE, 0, 0), -1);
        assert_eq!(stranger.send(WFM_DURABLE, 0, 0), -1);
        assert_eq!(stranger.close(), MMIOERR_CANNOTCLOSE as isize);
    }
    for message in [MMIOM_READ, MMIOM_WRITE, MMIOM_WRITEFLUSH, MMIOM_SEEK, MMIOM_CLOSE, WFM_FENCE] {
        // SAFETY: null is allowed.
        let answer = unsafe { io_procedure(std::ptr::null_mut(), message, 0, 1) };
        assert_ne!(answer, 0);
    }
}

#[test]
fn positions_past_2_gib_wrap_and_end_before_4() {
    let (_dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    assert_eq!(caller.write(b"1234"), 4);
    // As winmm sends it: a LONG that has wrapped.
    let far = 3_000_000_000u32;
    assert_eq!(caller.seek(0x7FFF_0000, SEEK_SET), 0x7FFF_0000, "near enough");
    assert_eq!(caller.seek(far as i32 as isize, SEEK_SET), far as i32 as isize);
    assert_eq!(caller.write(b"far"), 3);
    assert_eq!(caller.offset(), (far + 3) as i32);
    assert_eq!(caller.write_flush(b""), 0);
    assert_eq!(caller.durable(), u64::from(far) + 3, "with what lies before the gap, and the gap");
    if cfg!(target_pointer_width = "64") {
        assert_eq!(caller.seek(far as isize, SEEK_SET), far as i32 as isize, "as 64 bits");
    }
    assert_eq!(caller.seek(far as i32 as isize, SEEK_SET), far as i32 as isize);
    let mut bytes = [0; 3];
    assert_eq!(caller.read(&mut bytes), 3);
    assert_eq!(&bytes, b"far");
    assert_eq!(caller.send(WFM_FENCE, 0, 0), 0);
    assert_eq!(
        caller.seek(0xFFFF_FFFDu32 as i32 as isize, SEEK_SET),
        0xFFFF_FFFDu32 as i32 as isize
    );
    assert_eq!(caller.write(b"xy"), -1);
    assert!(caller.last_error().1.contains("another file"));
    assert_eq!(caller.seek(-1, SEEK_SET), -1, "the position that means an error");
    assert_eq!(caller.seek(4, SEEK_SET), 4);
    assert_eq!(caller.write(b"head"), 4, "headers can still be patched");
    assert_eq!(caller.send(WFM_FENCE, 0, 0), -1, "but nothing is called durable any more");
    assert_eq!(caller.close(), MMIOERR_CANNOTWRITE as isize);
    let file = std::fs::File::open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), u64::from(far) + 3);
    drop(file);
    let mut caller = Caller::open(&name(&path), MMIO_READ).unwrap();
    let mut bytes = [0; 10];
    assert_eq!(caller.read(&mut bytes), 10);
    assert_eq!(&bytes, b"1234head\0\0");
    assert_eq!(caller.close(), 0);
}

#[test]
fn a_file_that_was_there_goes_on() {
    let (_dir, path) = place();
    std::fs::write(&path, vec![5; 10_000]).unwrap();
    let mut caller = Caller::open(&name(&path), MMIO_READWRITE).unwrap();
    assert_eq!(caller.seek(5000, SEEK_SET), 5000);
    assert_eq!(caller.write(b"new"), 3);
    assert_eq!(caller.seek(0, SEEK_END), 10_000);
    assert_eq!(caller.write(b"end"), 3);
    assert_eq!(caller.close(), 0);
    let mut wanted = vec![5; 10_000];
    wanted[5000..5003].copy_from_slice(b"new");
    wanted.extend_from_slice(b"end");
    assert!(std::fs::read(&path).unwrap() == wanted);
}
