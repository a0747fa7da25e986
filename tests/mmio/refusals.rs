//! What is refused, and that nobody can overlook it.

use super::caller::{CREATE, Caller, name, place};
use writeflush::mmio::*;

/// winmm hides the −1 of a WRITE: CLOSE has to repeat it, and nothing is called durable before.
#[test]
fn every_refused_write_is_told_again_at_close() {
    let (_dir, path) = place();
    for count in [-1isize, isize::MIN, 1 << 31] {
        let mut caller = Caller::open(&name(&path), CREATE).unwrap();
        assert_eq!(caller.write(b"kept"), 4);
        assert_eq!(caller.send(MMIOM_WRITE, b"lost".as_ptr() as isize, count), -1);
        assert_eq!(caller.offset(), 4, "an error moves nothing");
        let (code, sentence) = caller.last_error();
        assert_eq!(code, MMIOERR_CANNOTWRITE as isize);
        assert!(sentence.contains("can't be taken"), "{sentence}");
        assert_eq!(caller.read(&mut [0; 4]), 0, "nothing else is refused");
        assert_eq!(caller.write(b" on"), 3, "as winmm's own");
        assert_eq!(caller.send(WFM_FENCE, 0, 0), -1, "not all that was written is durable");
        assert_eq!(caller.write_flush(b"x"), -1);
        assert_eq!(caller.offset(), 7);
        assert_eq!(caller.close(), MMIOERR_CANNOTWRITE as isize);
        let (_, sentence) = caller.last_error();
        assert!(sentence.contains("can't be taken"), "after the close too: {sentence}");
        assert_eq!(std::fs::read(&path).unwrap(), b"kept on");
    }
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    assert_eq!(caller.send(MMIOM_WRITE, 0, 4), -1, "no buffer");
    assert_eq!(caller.close(), MMIOERR_CANNOTWRITE as isize);
}

/// winmm's buffered flush does not look at the answer of SEEK.
#[test]
fn no_byte_lands_where_a_refused_seek_left_the_position() {
    let (_dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    assert_eq!(caller.write(b"head body"), 9);
    assert_eq!(caller.seek(4, SEEK_SET), 4);
    for nowhere in [-1, -56, -10_000, i32::MIN as isize] {
        assert_eq!(caller.seek(nowhere, SEEK_SET), -1, "{nowhere}: 2 GiB are far away");
    }
    assert_eq!(caller.write(b"lost"), -1);
    assert_eq!(caller.read(&mut [0; 4]), -1);
    assert_eq!(caller.seek(-2, SEEK_CUR), -1, "from where?");
    assert_eq!(caller.offset(), 4);
    assert_eq!(caller.close(), MMIOERR_CANNOTWRITE as isize);
    assert_eq!(std::fs::read(&path).unwrap(), b"head body");

    let mut caller = Caller::open(&name(&path), MMIO_READWRITE).unwrap();
    assert_eq!(caller.seek(1, 7), -1, "no origin");
    assert_eq!(caller.seek(5, SEEK_SET), 5);
    assert_eq!(caller.write(b"BODY"), 4);
    assert_eq!(caller.close(), 0, "a refused SEEK alone loses nothing");
    assert_eq!(std::fs::read(&path).unwrap(), b"head BODY");
}

#[test]
fn a_relative_seek_that_is_refused_changes_nothing() {
    let (_dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    assert_eq!(caller.write(b"head"), 4);
    assert_eq!(caller.seek(-100, SEEK_CUR), -1);
    assert_eq!(caller.last_error().0, MMIOERR_CANNOTSEEK as isize);
    assert_eq!(caller.write(b"body"), 4);
    assert_eq!(caller.seek(-8, SEEK_CUR), 0);
    let mut found = [0; 8];
    assert_eq!(caller.read(&mut found), 8);
    assert_eq!((&found, caller.close()), (b"headbody", 0));
}

/// Bytes that winmm has in its buffer were handed to nobody yet.
#[test]
fn a_fence_over_bytes_that_winmm_holds_back_is_refused() {
    let (_dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    assert_eq!(caller.write(b"head"), 4);
    caller.info.dwFlags |= MMIO_DIRTY;
    assert_eq!(caller.send(WFM_FENCE, 0, 0), -1);
    assert!(caller.last_error().1.contains("mmioFlush"), "{:?}", caller.last_error());
    assert_eq!(caller.write(b"body"), 4, "its flush");
    caller.info.dwFlags &= !MMIO_DIRTY;
    assert_eq!((caller.send(WFM_FENCE, 0, 0), caller.durable()), (0, 8));
    assert_eq!(caller.close(), 0);
}

#[test]
fn a_stray_write_leaves_a_file_that_is_only_read_readable() {
    let (_dir, path) = place();
    std::fs::write(&path, b"hello").unwrap();
    let mut caller = Caller::open(&name(&path), MMIO_READ).unwrap();
    assert_eq!(caller.write(b"x"), -1);
    let mut found = [0; 5];
    assert_eq!(caller.read(&mut found), 5);
    assert_eq!((&found, caller.close()), (b"hello", MMIOERR_CANNOTWRITE as isize));
}

/// Past 2 GiB winmm sends what a LONG makes of a position.
#[test]
fn a_negative_position_has_wrapped_in_a_file_that_reaches_there() {
    let (_dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    let wrapped = |position: u32| position as i32 as isize;
    assert_eq!(caller.seek(wrapped(0x8000_0000), SEEK_SET), -1, "an empty file");
    assert_eq!(caller.seek(0x7FFF_0000, SEEK_SET), 0x7FFF_0000);
    assert_eq!(caller.write(b"so near"), 7);
    assert_eq!(caller.seek(wrapped(0x8000_1000), SEEK_SET), wrapped(0x8000_1000));
    assert_eq!(caller.write(b"and past it"), 11);
    assert_eq!(caller.seek(0, SEEK_SET), 0);
    assert_eq!(caller.seek(wrapped(0x8000_1004), SEEK_SET), wrapped(0x8000_1004));
    let mut found = [0; 7];
    assert_eq!(caller.read(&mut found), 7);
    assert_eq!((&found, caller.close()), (b"past it", 0));
}

#[test]
fn a_write_only_file_is_not_read() {
    let (_dir, path) = place();
    std::fs::write(&path, b"secret").unwrap();
    let mut caller = Caller::open(&name(&path), MMIO_WRITE).unwrap();
    assert_eq!(caller.read(&mut [0; 6]), -1);
    assert_eq!(caller.last_error().0, MMIOERR_CANNOTREAD as isize);
    assert_eq!(caller.close(), 0);
}

/// Every byte is there, but the name is gone.
#[test]
#[cfg(unix)]
fn a_close_that_can_only_not_keep_the_name_answers_260() {
    let (_dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    assert_eq!(caller.write(b"bytes"), 5);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(caller.close(), MMIOERR_CANNOTCLOSE as isize);
    assert!(caller.last_error().1.contains("removed"));
}

#[test]
fn an_open_file_is_not_opened_over() {
    let (dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    assert_eq!(caller.write(b"first"), 5);
    let other = name(&dir.path().join("other"));
    assert_eq!(caller.send_open(&other), MMIOERR_CANNOTOPEN as isize);
    assert_eq!(caller.write(b" goes on"), 8);
    // A copy, as winmm makes one of what a program hands to mmioOpen, is a file of its own.
    let mut copy = Caller { info: Box::new(*caller.info) };
    assert_eq!(copy.send_open(&other), 0);
    assert_eq!(copy.write(b"second"), 6);
    assert_eq!((copy.close(), caller.close()), (0, 0));
    assert_eq!(std::fs::read(&path).unwrap(), b"first goes on");
    assert_eq!(caller.send_open(&name(&path)), 0, "once it is closed");
    assert_eq!(caller.close(), 0);
}

/// A limit on the length of files stands for a disk that takes no more.
#[cfg(target_os = "linux")]
mod limited {
    use super::super::common::{child_succeeds, child_task, watched};
    use super::*;

    /// Runs the body in a child whose files can't be longer than `limit`.
    fn with_limit(test: &str, limit: u64, body: fn()) {
        if child_task().is_none() {
            return child_succeeds(test, "limited", |_| {});
        }
        // SAFETY: system calls with constants and a live struct.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN); // an error, not the end
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: libc::RLIM_INFINITY };
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
        }
        watched(test, body);
    }

    #[test]
    fn after_a_gap_that_can_not_be_made_nothing_is_called_durable() {
        with_limit(
            "refusals::limited::after_a_gap_that_can_not_be_made_nothing_is_called_durable",
            64 << 20,
            || {
                let (_dir, path) = place();
                let mut caller = Caller::open(&name(&path), CREATE).unwrap();
                assert_eq!(caller.write(&[7; 1000]), 1000);
                assert_eq!(caller.seek(1 << 30, SEEK_SET), 1 << 30);
                assert_eq!(caller.write(b"far"), -1);
                assert_eq!(caller.last_error().0, MMIOERR_CANNOTWRITE as isize);
                assert_eq!(caller.send(WFM_FENCE, 0, 0), -1);
                assert_eq!(caller.write_flush(b""), -1);
                assert_eq!(caller.seek(0, SEEK_SET), 0);
                assert_eq!(caller.write(&[7]), 1, "headers can still be patched");
                assert_eq!(caller.send(WFM_FENCE, 0, 0), -1);
                assert_eq!(caller.close(), MMIOERR_CANNOTWRITE as isize);
                assert_eq!(std::fs::read(&path).unwrap(), [7; 1000]);

                let mut file = File::create(&path).unwrap();
                file.write(&[7; 1000]).unwrap();
                file.seek(std::io::SeekFrom::Start(1 << 30)).unwrap();
                file.write(b"far").unwrap();
                assert!(file.flush().is_err());
                assert!(file.flush().is_err(), "the second flush too");
                assert_eq!(file.close().unwrap_err().code, MMIOERR_CANNOTWRITE);
                assert_eq!(std::fs::read(&path).unwrap(), [7; 1000]);
            },
        );
    }

    #[test]
    fn a_disk_that_takes_no_more_is_the_last_error_and_moves_nothing() {
        with_limit(
            "refusals::limited::a_disk_that_takes_no_more_is_the_last_error_and_moves_nothing",
            64 << 10,
            || {
                let (_dir, path) = place();
                for message in [MMIOM_WRITEFLUSH, WFM_FENCE] {
                    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
                    assert_eq!(caller.write(&[7; 60_000]), 60_000);
                    assert_eq!(caller.seek(-1, SEEK_SET), -1);
                    assert_eq!(caller.last_error().0, MMIOERR_CANNOTSEEK as isize);
                    assert_eq!(caller.seek(0, SEEK_END), 60_000);
                    if message == MMIOM_WRITEFLUSH {
                        assert_eq!(caller.write_flush(&[8; 60_000]), -1);
                        assert_eq!(caller.offset(), 60_000, "an error moves nothing");
                    } else {
                        assert_eq!(caller.write(&[8; 60_000]), 60_000);
                        assert_eq!(caller.send(WFM_FENCE, 0, 0), -1);
                    }
                    let (code, sentence) = caller.last_error();
                    assert_eq!(code, MMIOERR_CANNOTWRITE as isize, "{sentence}");
                    assert!(sentence.contains("write to"), "{sentence}");
                    assert!(caller.durable() <= 64 << 10);
                    assert_eq!(caller.close(), MMIOERR_CANNOTWRITE as isize);
                }
            },
        );
    }
}
