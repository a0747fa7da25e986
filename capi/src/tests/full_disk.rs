//! A full disk.

use super::*;

/// What the other file leaves of the disk.
const ROOM: i64 = 1 << 20;

/// The body with every backend and drive, on a small disk of its own, which another file has filled
/// up but for [`ROOM`].
fn on_a_full_disk(test: &str, body: fn(take: &Path, fill: &Path, wf_options)) {
    if !mounts::may_mount(test) {
        return;
    }
    let _alone = alone();
    watched(move || {
        let dir = tempfile::tempdir().unwrap();
        let mount = mounts::Mount::tmpfs(dir.path(), "size=8m");
        for backend in [WF_BACKEND_AUTO, WF_BACKEND_SYNC] {
            for drive in [WF_DRIVE_THREAD, WF_DRIVE_CALLER, WF_DRIVE_POLL] {
                let (buffer_size, buffers) = (64 << 10, 4);
                let options = wf_options { buffer_size, buffers, backend, drive, ..small() };
                let take = dir.path().join("take");
                let fill = mounts::fill_up(dir.path(), ROOM);
                body(&take, &fill, options);
                let _ = std::fs::remove_file(&fill);
                std::fs::remove_file(&take).unwrap();
            }
        }
        drop(mount);
    });
}

/// A number that no other place of the file has; the first one is the header's.
fn piece(place: u64) -> [u8; 3000] {
    let mut bytes = [0; 3000];
    for (word, number) in bytes.chunks_mut(8).zip(place + 1..) {
        word.copy_from_slice(&number.to_ne_bytes());
    }
    bytes
}

fn expected(len: u64) -> Vec<u8> {
    (0..=len / 3000).flat_map(|number| piece(number * 3000)).take(len as usize).collect()
}

fn is_waiting(writer: wf_writer) -> bool {
    let mut is_waiting = 7;
    // SAFETY: a live place.
    assert_eq!(unsafe { wf_is_waiting_for_space(writer, &raw mut is_waiting) }, WF_OK);
    is_waiting == 1
}

/// A checkpoint at the start of the file: its status.
fn checkpoint(writer: wf_writer) -> wf_status {
    unsafe extern "C" fn describe(_: *mut c_void, durable: u64, header: *mut c_void) {
        // SAFETY: there are eight bytes.
        unsafe { header.cast::<u64>().write_unaligned(durable) };
    }
    let nothing = std::ptr::null_mut();
    // SAFETY: null is allowed.
    unsafe { wf_checkpoint(writer, 0, 8, Some(describe), nothing, std::ptr::null_mut()) }
}

fn close_summary(writer: wf_writer) -> (wf_status, wf_summary) {
    let mut told = wf_summary::default();
    // SAFETY: a live place of this size.
    let status = unsafe { wf_close_summary(writer, &raw mut told, size_of::<wf_summary>()) };
    (status, told)
}

/// The file ends behind what was written, and its header describes what is durable.
#[track_caller]
fn assert_failed_whole(take: &Path, (status, told): (wf_status, wf_summary)) {
    assert_eq!(status, WF_IO);
    assert!(last_error().contains("os error 28"), "{}", last_error());
    assert!(told.durable >= 256 << 10 && told.durable <= told.written, "{told:?}");
    assert!(told.accepted > told.written, "{told:?}");
    assert_eq!(told.file_len, told.written);
    let file = std::fs::read(take).unwrap();
    assert_eq!(file.len() as u64, told.file_len);
    assert_eq!(file[..8], told.durable.to_ne_bytes());
    assert!(file[8..] == expected(told.file_len)[8..]);
}

#[test]
fn a_full_disk_leaves_a_durable_prefix_and_a_true_header() {
    on_a_full_disk("a_full_disk_leaves_a_durable_prefix_and_a_true_header", |take, _, options| {
        let writer = open_at(take, options);
        let mut at = 0;
        let refused = loop {
            match write(writer, &piece(at)) {
                WF_OK => at += 3000,
                status => break status,
            }
            assert!(at < 64 << 20, "never full");
        };
        assert_eq!((refused, wf_error(writer)), (WF_IO, WF_IO));
        assert_eq!(wf_last_errno(), libc::ENOSPC, "of a writer that has failed");
        assert_eq!((checkpoint(writer), flush(writer)), (WF_IO, WF_IO));
        assert!(!is_waiting(writer));
        assert_failed_whole(take, close_summary(writer));
    });
}

#[test]
fn who_waits_for_space_loses_nothing() {
    on_a_full_disk("who_waits_for_space_loses_nothing", |take, fill, options| {
        let on_disk_full = WF_ON_DISK_FULL_WAIT;
        let writer = open_at(take, wf_options { on_disk_full, ..options });
        let mut at = 0;
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                until(|| is_waiting(writer) || wf_error(writer) != WF_OK);
                std::fs::remove_file(fill).unwrap();
            });
            while !other.is_finished() {
                assert_eq!(write(writer, &piece(at)), WF_OK, "{}", last_error());
                at += 3000;
            }
        });
        assert_eq!(flush(writer), WF_OK, "{}", last_error());
        assert!(!is_waiting(writer));
        let (status, told) = close_summary(writer);
        assert_eq!((status, told.accepted, told.durable, told.file_len), (WF_OK, at, at, at));
        assert!(std::fs::read(take).unwrap() == expected(at));
    });
}

/// The disk stays full, and the recorder has to end.
#[test]
fn who_stops_waiting_for_space_hears_of_it_and_leaves_a_true_header() {
    on_a_full_disk(
        "who_stops_waiting_for_space_hears_of_it_and_leaves_a_true_header",
        |take, _, options| {
            let (on_disk_full, on_full) = (WF_ON_DISK_FULL_WAIT, WF_ON_FULL_FAIL);
            let writer = open_at(take, wf_options { on_disk_full, on_full, ..options });
            let mut at = 0;
            let ticket = loop {
                while write(writer, &piece(at)) == WF_OK {
                    at += 3000;
                }
                let ticket = fence(writer);
                if wf_wait(writer, ticket, 20) == WF_PENDING && is_waiting(writer) {
                    break ticket;
                }
                assert_eq!(wf_error(writer), WF_OK, "to wait is no error");
            };
            assert_eq!(wf_stop_waiting_for_space(writer), WF_OK);
            assert_eq!((wf_wait(writer, ticket, -1), checkpoint(writer)), (WF_IO, WF_IO));
            assert_failed_whole(take, close_summary(writer));
        },
    );
}
