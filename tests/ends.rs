//! How a stream ends: through somebody who does not own the writer, within a limit on a disk that
//! stands still, and at once.
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use common::{
    Config, Frozen, Mount, assert_file, bytes, configs, directory, each_config, has_own_mounts,
    until, watched,
};
use writeflush::{BackendChoice, CloseError, Control, Direct, Drive, Error, OnFull, Push, Writer};

const SOON: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

#[track_caller]
fn assert_closed(error: &CloseError) {
    assert!(matches!(error.errors[..], [Error::Closed]), "{error}");
}

// ---- somebody else closes ----------------------------------------------------------------------------

/// Pushes until it is told that nothing more is taken; what was taken.
fn push_all(writer: &mut Writer, pushed: &AtomicU64) -> Vec<u8> {
    let mut taken = Vec::new();
    for serial in 0.. {
        let record = bytes(serial, 1 + serial as usize * 37 % 6000);
        match writer.write(&record) {
            Ok(Push::Accepted(position)) => assert_eq!(position, taken.len() as u64),
            Ok(other) => panic!("{other:?}"),
            Err(Error::Closed) => break,
            Err(error) => panic!("{error}"),
        }
        taken.extend(record);
        pushed.fetch_add(1, Ordering::SeqCst);
    }
    taken
}

#[test]
fn a_close_while_the_owner_pushes_takes_all_that_was_accepted_and_nothing_else() {
    each_config(|config, directory| {
        for round in 0..10 {
            let path = directory.join("take");
            let options = config.options().buffer_size(64 << 10);
            let mut writer = options.create(&path).unwrap();
            let control = writer.control().clone();
            let pushed = AtomicU64::new(0);
            let (taken, summary) = std::thread::scope(|scope| {
                let owner = scope.spawn(|| {
                    let taken = push_all(&mut writer, &pushed);
                    assert!(matches!(writer.try_write(b"x"), Err(Error::Closed)));
                    assert!(matches!(writer.grant(1).map(drop), Err(Error::Closed)));
                    taken
                });
                until(|| pushed.load(Ordering::SeqCst) > round * 3);
                let summary = control.close().unwrap();
                (owner.join().unwrap(), summary)
            });
            assert_eq!(summary.positions.accepted, summary.positions.durable);
            // A push that waited for room when the end came has left a part of its bytes.
            let file = std::fs::read(&path).unwrap();
            assert_eq!(summary.positions.durable, file.len() as u64);
            assert!(file.starts_with(&taken), "{config}: an accepted byte is missing");
            assert_closed(&control.close().unwrap_err());
            assert_closed(&writer.close().unwrap_err());
            assert_eq!(std::fs::read(&path).unwrap(), file);
        }
    });
}

/// It never pushes again, and is never dropped.
#[test]
fn an_owner_who_does_nothing_holds_up_no_close() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.create(&path);
        writer.write(&[1; 5000]).unwrap();
        let control = writer.control().clone();
        let summary = control.close().unwrap();
        assert_eq!((summary.positions.durable, summary.file_len), (5000, Some(5000)));
        assert!(matches!(writer.write(b"x"), Err(Error::Closed)));
        assert_eq!(writer.flush().unwrap(), 5000, "it is durable");
        drop(writer);
        assert_file(&path, &[1; 5000], &config);
    });
}

/// Its number is nobody else's as long as somebody may use it.
#[test]
fn what_the_owner_has_borrowed_stays_open_behind_a_close() {
    use std::os::fd::{AsFd, AsRawFd};
    each_config(|config, directory| {
        let path = directory.join("take");
        let writer = config.create(&path);
        let borrowed = writer.as_fd();
        let named = format!("/proc/self/fd/{}", borrowed.as_raw_fd());
        writer.control().close().unwrap();
        assert_eq!(std::fs::read_link(&named).unwrap(), path.canonicalize().unwrap(), "{config}");
        drop(writer);
        let after = std::fs::read_link(&named);
        assert!(after.is_err() || after.is_ok_and(|it| it != path), "{config}");
    });
}

/// What it holds in the midst is left out, and nothing stands in its place.
#[test]
fn what_is_committed_too_late_is_not_in_the_file() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.create(&path);
        writer.write(&[1; 3000]).unwrap();
        let control = writer.control().clone();
        let mut grant = writer.grant(100).unwrap();
        grant.fill(7);
        let (closing, ended) = channel();
        let closer = std::thread::spawn(move || {
            closing.send(()).unwrap();
            control.close()
        });
        ended.recv().unwrap();
        until(|| path.metadata().unwrap().len() == 3000 && closer.is_finished());
        grant.commit(100);
        let summary = closer.join().unwrap().unwrap();
        assert_eq!((summary.positions.durable, summary.file_len), (3000, Some(3000)));
        let positions = writer.positions();
        assert_eq!((positions.accepted, positions.durable), (3100, 3000), "it shows");
        assert!(matches!(writer.flush(), Err(Error::Closed)), "it is not durable");
        drop(writer);
        assert_file(&path, &[1; 3000], &config);
    });
}

#[test]
fn a_shared_writer_is_closed_through_a_control_too() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let writer = config.create(&path).into_shared();
        let control = writer.control().clone();
        let taken = AtomicU64::new(0);
        let summary = std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while writer.write(&[1; 700]).is_ok() {
                        taken.fetch_add(700, Ordering::SeqCst);
                    }
                });
            }
            until(|| taken.load(Ordering::SeqCst) > 20_000);
            control.close().unwrap()
        });
        assert_eq!(summary.positions.durable, taken.into_inner(), "{config}");
        assert_eq!(summary.file_len, Some(summary.positions.durable));
    });
}

/// A waker must not wait, and leaves the writer as it is.
#[test]
fn a_close_of_anothers_writer_in_a_waker_does_nothing() {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Wake, Waker};
    struct Closes(Control, Mutex<std::sync::mpsc::Sender<bool>>);
    impl Wake for Closes {
        fn wake(self: Arc<Self>) {
            let closed = [self.0.close().map(drop), self.0.close_timeout(LONG).map(drop)];
            let refused = |it: &Result<(), CloseError>| {
                it.as_ref().is_err_and(|error| matches!(error.errors[..], [Error::InWaker]))
            };
            let _ = self.1.lock().unwrap().send(closed.iter().all(refused));
        }
    }
    each_config(|config, directory| {
        if config.drive == Drive::Caller {
            return;
        }
        let path = directory.join("take");
        let mut writer = config.create(&path);
        let (say, said) = channel();
        let waker = Waker::from(Arc::new(Closes(writer.control().clone(), Mutex::new(say))));
        let mut taken = 0;
        let refused = loop {
            writer.write(&[1; 1000]).unwrap();
            taken += 1000;
            let mut ticket = writer.fence();
            if Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker)).is_pending() {
                break said.recv().unwrap();
            }
        };
        assert!(refused, "{config}");
        writer.write(&[1; 1000]).unwrap();
        assert_eq!(writer.close().unwrap().positions.durable, taken + 1000);
    });
}

// ---- within a limit ----------------------------------------------------------------------------------

#[test]
fn a_limit_that_is_kept_changes_nothing() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.create(&path);
        writer.write(&[1; 5000]).unwrap();
        assert_eq!(writer.control().flush_timeout(LONG).unwrap(), Some(5000));
        writer.write(&[2; 50]).unwrap();
        assert_eq!(writer.flush_timeout(LONG).unwrap(), Some(5050));
        let control = writer.control().clone();
        let summary = writer.close_timeout(LONG).unwrap().unwrap();
        assert_eq!((summary.positions.durable, summary.file_len), (5050, Some(5050)));
        assert_closed(&control.close_timeout(LONG).unwrap_err());
        assert_closed(&control.close().unwrap_err());
        assert_file(&path, &[vec![1; 5000], vec![2; 50]].concat(), &config);

        let writer = config.create(&path).into_shared();
        writer.write(&[3; 5000]).unwrap();
        assert_eq!(writer.flush_timeout(LONG).unwrap(), Some(5000));
        assert_eq!(writer.close_timeout(LONG).unwrap().unwrap().positions.durable, 5000);
    });
}

/// Fill bytes that are owed are part of what a writer's own flush and close wait for.
#[test]
fn what_is_owed_is_laid_down_first() {
    let directory = directory();
    let path = directory.path().join("take");
    let options = Config::STILL.options().on_full(OnFull::Fill(9));
    let mut writer = options.create(&path).unwrap();
    for count in [100, 3] {
        writer.lose(count);
        assert!(writer.flush_timeout(LONG).unwrap().is_some());
    }
    writer.lose(7);
    assert_eq!(writer.close_timeout(LONG).unwrap().unwrap().positions.durable, 110);
    assert_file(&path, &[9; 110], &"owed");
}

/// Each way to run a writer that a disk can hold up without holding up its caller.
fn each_on_a_disk(test: &str, work: impl Fn(Config, &Mount) + Clone + Send + 'static) {
    if !has_own_mounts(test) {
        return;
    }
    let directory = directory();
    let (image, at) = (directory.path().join("image"), directory.path().join("disk"));
    std::fs::create_dir(&at).unwrap();
    Mount::make_ext4(&image, 64);
    let mount = std::sync::Arc::new(Mount::ext4(&image, &at));
    for config in configs() {
        // With io_uring and the page cache the call that submits writes itself.
        let writes = config.drive == Drive::Caller
            && (config.backend == BackendChoice::Sync || config.direct == Direct::Off);
        if !writes {
            let (work, mount) = (work.clone(), mount.clone());
            watched(&config.to_string(), move || work(config, &mount));
        }
    }
}

/// One writer with 3000 durable bytes, and 3000 more.
fn half_durable(config: Config, path: &Path) -> (Writer, Vec<u8>) {
    let content = bytes(1, 6000);
    let mut writer = config.options().buffer_size(64 << 10).create(path).unwrap();
    writer.write_flush(&content[..3000]).unwrap();
    writer.write(&content[3000..]).unwrap();
    (writer, content)
}

#[test]
fn a_disk_that_stands_still_holds_up_no_flush_and_no_close() {
    const NAME: &str = "a_disk_that_stands_still_holds_up_no_flush_and_no_close";
    each_on_a_disk(NAME, |config, mount| {
        let path = mount.0.join("take");
        let (mut writer, content) = half_durable(config, &path);
        let control = writer.control().clone();
        let frozen = Frozen::new(&mount.0);
        assert_eq!(writer.flush_timeout(SOON).unwrap(), None, "{config}");
        assert_eq!(control.flush_timeout(SOON).unwrap(), None);
        assert!(writer.close_timeout(SOON).unwrap().is_none());
        assert!(control.close_timeout(SOON).unwrap().is_none());
        assert_eq!(control.positions().durable, 3000);
        drop(frozen);
        let summary = control.close_timeout(LONG).unwrap().unwrap();
        assert_eq!((summary.positions.durable, summary.file_len), (6000, Some(6000)), "{config}");
        assert_file(&path, &content, &config);
        assert_closed(&control.close().unwrap_err());
    });
}

#[test]
fn a_close_waits_on_for_one_that_a_disk_has_held_up() {
    const NAME: &str = "a_close_waits_on_for_one_that_a_disk_has_held_up";
    each_on_a_disk(NAME, |config, mount| {
        let path = mount.0.join("take");
        let (mut writer, content) = half_durable(config, &path);
        let control = writer.control().clone();
        let frozen = Frozen::new(&mount.0);
        assert!(control.close_timeout(Duration::ZERO).unwrap().is_none(), "{config}");
        assert!(matches!(writer.write(b"x"), Err(Error::Closed)));
        drop(writer); // waits for nothing
        std::thread::scope(|scope| {
            let closer = scope.spawn(|| control.close());
            drop(frozen);
            assert_eq!(closer.join().unwrap().unwrap().file_len, Some(6000), "{config}");
        });
        assert_file(&path, &content, &config);
    });
}

/// It waits for room, and is let go while the disk still stands.
#[test]
fn an_owner_who_waits_for_room_is_let_go() {
    const NAME: &str = "an_owner_who_waits_for_room_is_let_go";
    each_on_a_disk(NAME, |config, mount| {
        let path = mount.0.join("take");
        let mut writer = config.create(&path);
        let control = writer.control().clone();
        let frozen = Frozen::new(&mount.0);
        let pushed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            // A thread that has submitted a direct write itself can't end before that.
            let (say, said) = channel();
            let (writer, pushed) = (&mut writer, &pushed);
            scope.spawn(move || say.send(push_all(writer, pushed)).unwrap());
            until(|| pushed.load(Ordering::SeqCst) > 0);
            assert!(control.close_timeout(SOON).unwrap().is_none(), "{config}");
            let taken = said.recv().unwrap();
            drop(frozen);
            let summary = control.close().unwrap();
            let file = std::fs::read(&path).unwrap();
            assert_eq!(summary.positions.durable, file.len() as u64);
            assert!(file.starts_with(&taken), "{config}");
        });
    });
}

// ---- at once -----------------------------------------------------------------------------------------

#[test]
fn a_writer_that_is_abandoned_has_let_go_of_its_file() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let (mut writer, content) = half_durable(config, &path);
        let control = writer.control().clone();
        let ticket = writer.fence();
        let positions = control.abandon();
        assert!(positions.durable >= 3000);
        assert!(matches!(writer.write(b"x"), Err(Error::Closed)), "{config}");
        assert!(ticket.wait().is_ok() || matches!(control.error(), Some(Error::Closed)));
        match control.close() {
            Ok(summary) => assert_eq!(summary.positions.durable, 6000), // it was all there
            Err(error) => assert_closed(&error),
        }
        drop(writer);
        let file = std::fs::read(&path).unwrap();
        assert!(file.starts_with(&content[..positions.durable as usize]));
        let next = config.options().append_at(&path, positions.durable).unwrap();
        next.close().unwrap(); // its lock is free
        assert_file(&path, &content[..positions.durable as usize], &config);
    });
}

#[test]
fn a_disk_that_stands_still_holds_up_nobody_who_gives_up() {
    const NAME: &str = "a_disk_that_stands_still_holds_up_nobody_who_gives_up";
    each_on_a_disk(NAME, |config, mount| {
        for is_closing in [false, true] {
            let path = mount.0.join("take");
            let (writer, content) = half_durable(config, &path);
            let control = writer.control().clone();
            let frozen = Frozen::new(&mount.0);
            let ticket = writer.fence();
            assert_eq!(control.flush_timeout(SOON).unwrap(), None, "{config}"); // it is on its way
            let writer = match is_closing {
                true => {
                    assert!(writer.close_timeout(SOON).unwrap().is_none());
                    None
                }
                false => Some(writer),
            };
            assert_eq!(control.abandon().durable, 3000);
            assert!(matches!(ticket.wait(), Err(Error::Closed)), "{config}");
            assert!(matches!(control.flush(), Err(Error::Closed)));
            drop(writer);
            assert!(control.close_timeout(SOON).unwrap().is_none(), "the kernel has it still");
            drop(frozen);
            let error = control.close_timeout(LONG).unwrap_err();
            assert_closed(&error);
            let durable = error.summary.positions.durable; // what was on its way may be, too
            assert!([3000, 6000].contains(&durable), "{config}: {durable}");
            let file = std::fs::read(&path).unwrap();
            assert!(file.starts_with(&content[..3000]), "{config}");
            config.options().append_at(&path, 3000).unwrap().close().unwrap();
        }
    });
}
