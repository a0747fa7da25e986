//! `AsyncWrite`: nothing waits on the thread that polls, and nothing is lost.
#![cfg(feature = "futures-io")]

mod common;

use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::block_on::block_on;
use common::hold::hold_driver;
use common::{Config, assert_file, assert_same, bytes, each_config, each_thread};
use futures_io::AsyncWrite;
use writeflush::{AsyncWriter, OnFull, Positions};

async fn write_all(writer: &mut AsyncWriter, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        let taken = poll_fn(|task| Pin::new(&mut *writer).poll_write(task, rest)).await?;
        rest = &rest[taken..];
    }
    Ok(())
}

async fn flush(writer: &mut AsyncWriter) -> io::Result<()> {
    poll_fn(|task| Pin::new(&mut *writer).poll_flush(task)).await
}

async fn close(writer: &mut AsyncWriter) -> io::Result<()> {
    poll_fn(|task| Pin::new(&mut *writer).poll_close(task)).await
}

/// One poll, by a task that nobody wakes.
fn once<T>(act: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    act(&mut Context::from_waker(Waker::noop()))
}

fn create(config: Config, path: &Path) -> AsyncWriter {
    config.create(path).into_async()
}

#[test]
fn what_is_written_is_durable_with_the_flush_and_whole_after_the_close() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = create(config, &path);
        let all = bytes(1, 100_000); // many times round the buffers
        block_on(async {
            let mut done = 0;
            for len in [1, 5000, 8192, 8193, 40_000] {
                write_all(&mut writer, &all[done..done + len]).await.unwrap();
                done += len;
                flush(&mut writer).await.unwrap();
                assert!(writer.positions().durable >= done as u64, "{config}");
            }
            write_all(&mut writer, &all[done..]).await.unwrap();
            assert!(writer.summary().is_none());
            close(&mut writer).await.unwrap();
            close(&mut writer).await.unwrap(); // once more: nothing is left to be done
            assert!(write_all(&mut writer, b"late").await.is_err());
        });
        let summary = writer.summary().expect("it is closed");
        assert_eq!(summary.positions.durable, all.len() as u64);
        assert_file(&path, &all, &config);
    });
}

/// The driver stands still, as beside a disk that does: every call answers all the same.
#[test]
fn no_call_waits_for_the_driver() {
    each_thread(|config, directory| {
        let path = directory.join("take");
        let mut writer = create(config, &path);
        let mut model = Vec::new();
        let control = writer.control().clone();
        let held = hold_driver(&control, || {
            let taken = once(|task| Pin::new(&mut writer).poll_write(task, &bytes(1, 100)));
            let Poll::Ready(Ok(taken)) = taken else { panic!("{config}: {taken:?}") };
            model.extend(&bytes(1, 100)[..taken]);
        });
        let data = bytes(2, 3000);
        while let Poll::Ready(taken) = once(|task| Pin::new(&mut writer).poll_write(task, &data)) {
            model.extend(&data[..taken.unwrap()]);
        }
        assert!(once(|task| Pin::new(&mut writer).poll_write(task, &data)).is_pending());
        assert!(once(|task| Pin::new(&mut writer).poll_flush(task)).is_pending());
        assert!(once(|task| Pin::new(&mut writer).poll_close(task)).is_pending(), "{config}");
        drop(held);
        block_on(close(&mut writer)).unwrap();
        assert_same(&std::fs::read(&path).unwrap(), &model, &config);
    });
}

/// A flush that nobody waited for says nothing of what was written since.
#[test]
fn a_flush_that_was_given_up_answers_for_no_later_bytes() {
    each_thread(|config, directory| {
        let path = directory.join("take");
        let mut writer = create(config, &path);
        let control = writer.control().clone();
        let push = |writer: &mut AsyncWriter| {
            let taken = once(|task| Pin::new(&mut *writer).poll_write(task, b"more"));
            assert!(matches!(taken, Poll::Ready(Ok(4))), "{config}: {taken:?}");
        };
        let flushed = |writer: &mut AsyncWriter| {
            once(|task| Pin::new(&mut *writer).poll_flush(task)).map(Result::unwrap)
        };
        for patched in [false, true] {
            let held = hold_driver(&control, || push(&mut writer));
            push(&mut writer);
            assert!(flushed(&mut writer).is_pending(), "given up");
            drop(held);
            control.flush().unwrap();
            let held = hold_driver(&control, || match patched {
                true => control.patch(0, b"M").unwrap(),
                false => push(&mut writer),
            });
            match patched {
                true => control.patch(0, b"N").unwrap(),
                false => push(&mut writer),
            }
            assert!(flushed(&mut writer).is_pending(), "{config}: {:?}", control.positions());
            drop(held);
            block_on(flush(&mut writer)).unwrap();
            let Positions { accepted, durable, .. } = control.positions();
            assert_eq!(accepted, durable, "{config}");
        }
        block_on(close(&mut writer)).unwrap();
    });
}

#[test]
fn a_task_that_waits_for_room_is_kept_by_nobody_when_the_writer_is_dropped() {
    struct Task;
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    each_thread(|config, directory| {
        let path = directory.join("take");
        let mut writer = create(config, &path);
        let mut model = Vec::new();
        let control = writer.control().clone();
        let held = hold_driver(&control, || {
            let _ = once(|task| Pin::new(&mut writer).poll_write(task, b"x"));
            model.push(b'x');
        });
        let task = Arc::new(Task);
        let waker = Waker::from(task.clone());
        let data = bytes(1, 3000);
        let mut context = Context::from_waker(&waker);
        while let Poll::Ready(taken) = Pin::new(&mut writer).poll_write(&mut context, &data) {
            model.extend(&data[..taken.unwrap()]);
        }
        drop(waker);
        assert_eq!(Arc::strong_count(&task), 2, "{config}");
        drop(writer); // does not wait: the driver stands still
        assert_eq!(Arc::strong_count(&task), 1, "{config}");
        drop(held);
        // Closed by a thread; an append waits for the lock, and finds all of it.
        let options = config.options().lock_wait(Duration::from_secs(60));
        assert_eq!(options.append(&path).unwrap().positions().durable, model.len() as u64);
        assert_file(&path, &model, &config);
    });
}

/// What the policy `Fill` owes is laid down before a flush is through.
#[test]
fn a_flush_lays_down_what_is_owed() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let options = config.options().on_full(OnFull::Fill(b'-'));
        let mut writer = options.create(&path).unwrap();
        writer.write(b"before").unwrap();
        writer.lose(20_000);
        let mut writer = writer.into_async();
        block_on(async {
            flush(&mut writer).await.unwrap();
            assert_eq!(writer.positions().durable, 20_006, "{config}");
            write_all(&mut writer, b"behind").await.unwrap();
            close(&mut writer).await.unwrap();
        });
        let expected = [&b"before"[..], &[b'-'; 20_000], b"behind"].concat();
        assert_file(&path, &expected, &config);
    });
}
