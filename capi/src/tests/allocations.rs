//! What is allocated.

use super::count::allocations;
use super::*;

/// In a thread of its own, since what a thread needs for its first refusal counts too.
#[test]
fn a_deadline_thread_allocates_nothing_also_when_the_disk_has_failed() {
    let _alone = alone();
    for producers in [WF_PRODUCERS_MANY, WF_PRODUCERS_ONE] {
        watched(move || {
            let dir = tempfile::tempdir().unwrap();
            let options = wf_options { producers, ..still() };
            let writer = open_at(&dir.path().join("take"), options);
            let failed = failing(&dir.path().join("failed"), options);
            let closed = open_at(&dir.path().join("closed"), options);
            assert_eq!(close(closed).0, WF_OK);

            let said = std::thread::spawn(move || {
                let one = producers == WF_PRODUCERS_ONE;
                let mut memory: *mut c_void = std::ptr::null_mut();
                let mut facts = wf_facts::default();
                let count = allocations(|| {
                    assert_eq!(try_write(failed, &[1; 100]), WF_IO);
                    assert_eq!(write(failed, &[1; 100]), WF_IO);
                    assert_eq!(wf_error(failed), WF_IO);
                    assert_eq!(try_write(closed, &[1]), WF_CLOSED);
                    assert_eq!(try_write(writer, &[1; 4000]), WF_OK);
                    assert_eq!(wf_lose(writer, 10), WF_OK);
                    fence(writer);
                    assert_eq!(positions(writer).accepted, 4000);
                    if one {
                        assert_eq!(grant(writer, &[2; 4096]), WF_OK);
                        assert_eq!(grant(writer, &[2; 4096]), WF_FULL);
                        assert_eq!(grant(failed, &[2; 10]), WF_IO);
                        assert_eq!(wf_grant_abandon(writer), WF_INVALID);
                        // SAFETY: null is allowed.
                        let status = unsafe { wf_grant_commit(writer, 1, null_mut()) };
                        assert_eq!(status, WF_INVALID);
                    } else {
                        assert_eq!(write(writer, &[2; 4096]), WF_OK);
                    }
                    assert_eq!(try_write(writer, &[3; 100_000]), WF_TOO_LONG);
                    // SAFETY: null pointers and a live place.
                    unsafe {
                        assert_eq!(wf_try_write(writer, null(), 1, null_mut()), WF_INVALID);
                        let bytes = [3u8; 50];
                        let parts = [wf_part { bytes: bytes.as_ptr().cast(), len: 50 }; 2000];
                        let refused = wf_try_write_parts(writer, parts.as_ptr(), 2000, null_mut());
                        assert_eq!(refused, WF_TOO_LONG);
                        assert_eq!(wf_try_write_parts(writer, null(), 1, null_mut()), WF_INVALID);
                        assert_eq!(wf_grant_begin(writer, 1, std::ptr::null_mut()), WF_INVALID);
                        let size = size_of::<wf_facts>();
                        assert_eq!(wf_get_facts(writer, &raw mut facts, size), WF_OK);
                        let _ = wf_grant_begin(writer, 0, &raw mut memory);
                        let _ = wf_grant_abandon(writer);
                    }
                    assert_eq!(try_write(writer, &[3; 100]), WF_FULL);
                });
                assert_eq!(count, 0, "producers {producers}");
                assert!(last_error().contains("100 bytes offered"), "{}", last_error());
                assert_eq!(try_write(failed, &[1; 100]), WF_IO);
                last_error()
            });
            let said = said.join().unwrap();
            assert!(said.contains("failed") && said.contains("closed its descriptor"), "{said}");
            assert_eq!(close(failed).0, WF_IO);
            assert!(last_error().contains("closed its descriptor"), "{}", last_error());
            assert_eq!(close(writer).0, WF_OK);
        });
    }
}

#[test]
fn the_count_sees_an_allocation() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7u8)))), 2);
}

#[test]
fn a_sentence_outlives_its_writer_as_a_sentence() {
    let _alone = alone();
    watched(|| {
        let dir = tempfile::tempdir().unwrap();
        let failed = failing(&dir.path().join("failed"), still());
        std::thread::spawn(move || assert_eq!(close(failed).0, WF_IO)).join().unwrap();
        assert!(last_error().contains("wf_close said why"), "{}", last_error());
    });
}
