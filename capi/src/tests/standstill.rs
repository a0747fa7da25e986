//! A disk that stands still.

use super::mounts::Frozen;
use super::*;

/// Runs `work` on a disk of its own.
fn on_a_disk(work: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir().unwrap();
    let (image, at) = (dir.path().join("image"), dir.path().join("disk"));
    std::fs::create_dir(&at).unwrap();
    mounts::Mount::make_ext4(&image, 32);
    let mount = mounts::Mount::ext4(&image, &at);
    work(&at);
    drop(mount);
}

fn flush_in(writer: wf_writer, milliseconds: i64) -> (wf_status, u64) {
    let mut durable = u64::MAX;
    // SAFETY: a live place.
    (unsafe { wf_flush_timeout(writer, milliseconds, &raw mut durable) }, durable)
}

fn close_in(writer: wf_writer, milliseconds: i64) -> (wf_status, u64) {
    let mut durable = u64::MAX;
    // SAFETY: a live place.
    (unsafe { wf_close_timeout(writer, milliseconds, &raw mut durable) }, durable)
}

fn abandon(writer: wf_writer) -> (wf_status, u64) {
    let mut durable = u64::MAX;
    // SAFETY: a live place.
    (unsafe { wf_abandon(writer, &raw mut durable) }, durable)
}

/// A flush, a close and an abandon that a disk holds up answer all the same, and lose nothing.
#[test]
fn a_disk_that_stands_still_holds_up_nobody_who_has_a_limit() {
    if !mounts::may_mount("a_disk_that_stands_still_holds_up_nobody_who_has_a_limit") {
        return;
    }
    let _alone = alone();
    for producers in [WF_PRODUCERS_MANY, WF_PRODUCERS_ONE] {
        watched(move || on_a_disk(|at| held_up(at, wf_options { producers, ..small() })));
    }
}

fn held_up(at: &Path, options: wf_options) {
    let [kept, again, gone] = ["kept", "again", "gone"].map(|name| at.join(name));
    let writers = [&kept, &again, &gone].map(|path| open_at(path, options));
    for writer in writers {
        assert_eq!(write(writer, &[1; 100]), WF_OK);
        assert_eq!(flush_in(writer, -1), (WF_OK, 100));
        assert_eq!(write(writer, &[2; 100]), WF_OK);
    }
    let frozen = Frozen::new(at);
    for writer in writers {
        assert_eq!(flush_in(writer, 20), (WF_PENDING, 100));
    }
    let [first, second, third] = writers;
    for writer in [first, second] {
        for _ in 0..2 {
            assert_eq!(close_in(writer, 10), (WF_PENDING, 100));
            assert_eq!(write(writer, b"x"), WF_CLOSED);
            assert_eq!(positions(writer).accepted, 200);
        }
    }
    assert_eq!(abandon(third), (WF_OK, 100));
    assert_eq!(write(third, b"x"), WF_CLOSED);
    assert_eq!(flush(third), WF_CLOSED);
    assert_eq!(close_in(third, 10), (WF_PENDING, 100));
    drop(frozen);
    assert_eq!(close_in(first, 60_000), (WF_OK, 200));
    assert_eq!(close(second), (WF_OK, 200));
    let (status, durable) = close_in(third, -1);
    assert_eq!(status, WF_CLOSED);
    assert!([100, 200].contains(&durable), "what was on its way may be durable, too: {durable}");
    for writer in writers {
        assert_eq!(close_in(writer, 0).0, WF_CLOSED, "the number was given up");
    }
    for path in [kept, again] {
        assert_eq!(std::fs::read(path).unwrap(), [[1; 100], [2; 100]].concat());
    }
    assert!(std::fs::read(&gone).unwrap().starts_with(&[1; 100]));
    let next = open_at(&gone, wf_options { mode: WF_APPEND_AT, append_at: 100, ..options });
    assert_eq!(close(next), (WF_OK, 100), "its lock was let go of");
}

/// Every answer to a disk that takes nothing: pending, full, too late, lost; a close lets go of who
/// waits for room, and of who waits for a fence once the disk goes on.
#[test]
fn a_disk_that_stands_still() {
    if !mounts::may_mount("a_disk_that_stands_still") {
        return;
    }
    let _alone = alone();
    watched(|| {
        let dir = tempfile::tempdir().unwrap();
        let (image, at) = (dir.path().join("image"), dir.path().join("disk"));
        std::fs::create_dir(&at).unwrap();
        mounts::Mount::make_ext4(&image, 32);
        let mount = mounts::Mount::ext4(&image, &at);
        let path = |name: &str| at.join(name);
        let (block_for, fill) = (WF_ON_FULL_BLOCK_FOR, WF_ON_FULL_FILL);
        let blocks = open_at(&path("blocks"), small());
        let late =
            open_at(&path("late"), wf_options { on_full: block_for, block_ms: 20, ..small() });
        let fills = wf_options { on_full: fill, fill_byte: 0xEE, ..small() };
        let fills = open_at(&path("fills"), fills);
        let frozen = Frozen::new(&at);

        for writer in [blocks, late, fills] {
            while try_write(writer, &[1; 4000]) != WF_FULL {}
            let ticket = fence(writer);
            assert_eq!(wf_wait(writer, ticket, 0), WF_PENDING);
            assert_eq!(wf_wait(writer, ticket, 20), WF_PENDING);
            assert_eq!(wf_error(writer), WF_OK, "a stall is no error");
        }
        assert_eq!(write(late, &[2; 4000]), WF_DEADLINE);
        assert!(last_error().contains("20ms"), "{}", last_error());
        let before = positions(fills).accepted;
        assert_eq!(write(fills, &[2; 4000]), WF_LOST);
        assert_eq!(wf_lose(fills, 96), WF_OK);

        let started = AtomicU64::new(0);
        let start = || started.fetch_add(1, Ordering::SeqCst);
        std::thread::scope(|scope| {
            let pusher = scope.spawn(|| {
                start();
                write(blocks, &[3; 4000])
            });
            let waiter = scope.spawn(|| {
                let ticket = fence(blocks);
                start();
                wf_wait(blocks, ticket, -1)
            });
            until(|| started.load(Ordering::SeqCst) == 2);
            let accepted = positions(blocks).accepted;
            let closer = scope.spawn(|| close(blocks));
            assert_eq!(pusher.join().unwrap(), WF_CLOSED, "while the disk still stands");
            assert!(!closer.is_finished());
            drop(frozen);
            assert!(matches!(waiter.join().unwrap(), WF_OK | WF_CLOSED));
            assert_eq!(closer.join().unwrap(), (WF_OK, accepted));
        });

        assert_eq!(flush(fills), WF_OK);
        assert_eq!(close(fills), (WF_OK, before + 4096));
        let file = std::fs::read(path("fills")).unwrap();
        assert!(file[..before as usize].iter().all(|&byte| byte == 1));
        assert!(file[before as usize..].iter().all(|&byte| byte == 0xEE), "filled in their place");
        assert_eq!(write(late, &[2; 4000]), WF_OK);
        assert_eq!(close(late).0, WF_OK);
        drop(mount);
    });
}
