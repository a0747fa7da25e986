//! Panics.

use super::*;

/// A panic inside is a status; the writer is poisoned, and nobody waits for ever.
#[test]
fn a_panic_is_a_status_and_poisons_the_writer() {
    let _alone = alone();
    for options in [small(), still()] {
        for producers in [WF_PRODUCERS_MANY, WF_PRODUCERS_ONE] {
            let options = wf_options { producers, ..options };
            watched(move || {
                let options = options; // whole, since its pointer alone may not go
                let dir = tempfile::tempdir().unwrap();
                let writer = open_at(&dir.path().join("take"), options);
                let other = open_at(&dir.path().join("other"), options);
                assert_eq!(write(writer, b"durable"), WF_OK);
                assert_eq!(flush(writer), WF_OK);
                assert_eq!(write(writer, b", and this is not"), WF_OK);
                let panics = |open: &Open| match &open.producer {
                    Producer::Many(_) => panic!("planted"),
                    Producer::One(one) => {
                        let _inside = one.enter();
                        panic!("planted")
                    }
                };
                assert_eq!(with(writer, panics), WF_PANIC);
                assert!(last_error().contains("report"), "{}", last_error());
                assert_eq!(try_write(writer, b"x"), WF_IO);
                assert!(last_error().contains("panicked"), "{}", last_error());
                assert_eq!((wf_error(writer), flush(writer)), (WF_IO, WF_IO));
                assert_eq!(positions(writer).durable, 7, "what was true stays true");
                assert_eq!(close(writer), (WF_IO, 7));
                assert_eq!(write(writer, b"x"), WF_CLOSED);
                assert_eq!(write(other, b"x"), WF_OK, "another writer goes on");
                assert_eq!(close(other), (WF_OK, 1));
            });
        }
    }
    assert_eq!(failure::guarded(|| panic!("planted")), WF_PANIC);
}
