//! A disk that stands still.

use super::*;

/// A file system that takes nothing until it is dropped.
struct Frozen<'a>(&'a Path);

impl<'a> Frozen<'a> {
    fn new(at: &'a Path) -> Self {
        mounts::run("fsfreeze", &["-f", at.to_str().unwrap()]);
        Self(at)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        mounts::run("fsfreeze", &["-u", self.0.to_str().unwrap()]);
    }
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
