//! A process that ends without a close: after `exit`, by whatever name and wherever it is called, the
//! file is what was pushed, to the byte, and nobody hangs.
#![cfg(unix)]
#![allow(unsafe_code)]

mod common;

use std::future::Future;
use std::pin::pin;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Wake, Waker};

use common::{Config, assert_file, bytes, child_task, configs, directory, watched};
use writeflush::{Drive, Error, OnFull, Options, SharedWriter, Writer};

/// The end of a child that has done all that it was to do.
const DONE: i32 = 42;

static EXCLUSIVE: OnceLock<Writer> = OnceLock::new();
static SHARED: OnceLock<SharedWriter> = OnceLock::new();

/// Runs `act` in a child for each configuration, which has to end with [`DONE`]; then looks at its
/// file.
fn each_end(
    test: &'static str,
    act: impl Fn(Config, &std::path::Path),
    look: impl Fn(Config, &std::path::Path) + Copy + Send + 'static,
) {
    if let Some(task) = child_task() {
        let (number, path) = task.split_once(' ').unwrap();
        act(configs()[number.parse::<usize>().unwrap()], path.as_ref());
        std::process::exit(0); // it should have ended before
    }
    for (number, config) in configs().into_iter().enumerate() {
        watched(&config.to_string(), move || {
            let directory = directory();
            let path = directory.path().join("take");
            let task = format!("{number} {}", path.display());
            let output = common::run_child(test, &task, |_| {});
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(DONE), "{config}: {}: {said}", output.status);
            look(config, &path);
        });
    }
}

extern "C" fn ends_now(_: i32) {
    // SAFETY: not one of the calls that a handler may make (signal-safety(7)); programs do it.
    unsafe { libc::exit(DONE) };
}

#[test]
fn what_a_static_writer_was_given_is_there_after_an_exit() {
    each_end(
        "what_a_static_writer_was_given_is_there_after_an_exit",
        |config, path| {
            let mut writer = config.create(path);
            let _ = writer.write(&bytes(1, 100_000)).unwrap();
            writer.write_flush(&bytes(2, 5000)).unwrap();
            let _ = writer.write(&bytes(3, 3000)).unwrap();
            writer.patch(10, &bytes(4, 4990)).unwrap();
            EXCLUSIVE.set(writer).unwrap();
            std::process::exit(DONE);
        },
        |config, path| {
            let mut model = [bytes(1, 100_000), bytes(2, 5000), bytes(3, 3000)].concat();
            model[10..5000].copy_from_slice(&bytes(4, 4990));
            assert_file(path, &model, &config);
        },
    );
}

#[test]
fn a_recycled_file_keeps_its_rest_after_an_exit() {
    each_end(
        "a_recycled_file_keeps_its_rest_after_an_exit",
        |config, path| {
            std::fs::write(path, bytes(1, 20_000)).unwrap();
            let mut writer = config.options().open(path).unwrap();
            let _ = writer.write(&bytes(2, 9000)).unwrap();
            EXCLUSIVE.set(writer).unwrap();
            std::process::exit(DONE);
        },
        |config, path| {
            let mut model = bytes(1, 20_000);
            model[..9000].copy_from_slice(&bytes(2, 9000));
            assert_file(path, &model, &config);
        },
    );
}

/// Whatever a push returned before the exit began is there; pushes in other threads meanwhile are
/// there whole, or get `Closed`.
#[test]
fn an_exit_beside_producers_loses_nothing_that_was_accepted_before() {
    const RECORD: usize = 100;
    static STARTED: AtomicBool = AtomicBool::new(false);
    each_end(
        "an_exit_beside_producers_loses_nothing_that_was_accepted_before",
        |config, path| {
            let writer = config.options().on_full(OnFull::Block).create(path).unwrap();
            SHARED.set(writer.into_shared()).unwrap();
            let _ = SHARED.get().unwrap().write(&[b'a'; 1000 * RECORD]).unwrap();
            for byte in [b'b', b'c'] {
                std::thread::spawn(move || {
                    let writer = SHARED.get().unwrap();
                    loop {
                        match writer.write(&[byte; RECORD]) {
                            Ok(_) => STARTED.store(true, Ordering::Release),
                            Err(error) => {
                                return assert!(matches!(error, Error::Closed), "{error}");
                            }
                        }
                    }
                });
            }
            while !STARTED.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            std::process::exit(DONE);
        },
        |config, path| {
            let found = std::fs::read(path).unwrap();
            assert!(found[..1000 * RECORD].iter().all(|byte| *byte == b'a'), "{config}");
            assert_eq!(found.len() % RECORD, 0, "{config}: a record in part");
            for record in found[1000 * RECORD..].chunks(RECORD) {
                let whole = record.iter().all(|byte| *byte == record[0]);
                assert!(whole && b"bc".contains(&record[0]), "{config}: {record:?}");
            }
        },
    );
}

/// The handler of a signal may come in the midst of a push, which never ends, and while this thread
/// turns the driver: then the file stays as it is.
#[test]
fn an_exit_from_a_signal_within_a_push_hangs_nobody() {
    each_end(
        "an_exit_from_a_signal_within_a_push_hangs_nobody",
        |config, path| {
            let mut writer = config.create(path);
            let act = ends_now as extern "C" fn(i32) as libc::sighandler_t;
            // SAFETY: plain calls; the handler lives for ever.
            let pusher = unsafe {
                libc::signal(libc::SIGALRM, act);
                libc::pthread_self()
            };
            // To this thread: a timer's signal goes to the first that takes it, which is another.
            std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(50));
                // SAFETY: the thread pushes until the process ends.
                unsafe { libc::pthread_kill(pusher, libc::SIGALRM) };
            });
            loop {
                let _ = writer.write(&[7; 1000]);
            }
        },
        |config, path| {
            let found = std::fs::read(path).unwrap();
            let end = found.iter().position(|byte| *byte != 7).unwrap_or(found.len());
            let (_, padding) = found.split_at(end);
            let is_left = config.drive == Drive::Caller && padding.len() < 4096;
            assert!(padding.is_empty() || is_left, "{config}: {} at {end}", padding.len());
            assert!(padding.iter().all(|byte| *byte == 0), "{config}");
        },
    );
}

/// A waker runs on the driver's thread, or on that of whoever drives: then no driver is left.
#[test]
fn an_exit_from_a_waker_hangs_nobody() {
    struct Ends;
    impl Wake for Ends {
        fn wake(self: Arc<Self>) {
            std::process::exit(DONE);
        }
    }
    each_end(
        "an_exit_from_a_waker_hangs_nobody",
        |config, path| {
            let writer = config.create(path).into_shared();
            writer.write_flush(&bytes(1, 5000)).unwrap();
            let waker = Waker::from(Arc::new(Ends));
            loop {
                let _ = writer.write(&bytes(1, 5000));
                // Until one is not through at once, and its waker is kept.
                let mut ticket = pin!(writer.fence());
                let polled = ticket.as_mut().poll(&mut Context::from_waker(&waker));
                if polled.is_ready() && config.drive == Drive::Caller {
                    waker.wake_by_ref(); // where one drives a poll may always be enough
                }
                let _ = writer.flush();
            }
        },
        |config, path| {
            let found = std::fs::read(path).unwrap();
            assert_eq!(found[..5000], bytes(1, 5000), "{config}");
        },
    );
}

/// A child has the handler, and the list of its parent's writers.
#[test]
fn an_exit_of_a_forked_child_touches_nothing() {
    each_end(
        "an_exit_of_a_forked_child_touches_nothing",
        |config, path| {
            let mut writer = config.create(path);
            let _ = writer.write(&bytes(1, 6000)).unwrap();
            // SAFETY: the child only ends.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: as above.
                unsafe { libc::exit(7) };
            }
            let mut status = 0;
            // SAFETY: the child of this process, and a live integer.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(libc::WEXITSTATUS(status), 7);
            writer.write_flush(&bytes(2, 6000)).unwrap();
            let _ = writer.write(&bytes(3, 100)).unwrap();
            EXCLUSIVE.set(writer).unwrap();
            std::process::exit(DONE);
        },
        |config, path| {
            let model = [bytes(1, 6000), bytes(2, 6000), bytes(3, 100)].concat();
            assert_file(path, &model, &config);
        },
    );
}

/// Many writers are ended at once, and the lock of each is free.
#[test]
fn all_writers_of_a_process_are_ended() {
    const NAME: &str = "all_writers_of_a_process_are_ended";
    if let Some(folder) = child_task() {
        for number in 0..20 {
            let options = Options::new().buffer_size(4096).drive(Drive::Caller);
            let mut writer = options.create(format!("{folder}/{number}")).unwrap();
            let _ = writer.write(&bytes(number, 3000)).unwrap();
            std::mem::forget(writer);
        }
        std::process::exit(DONE);
    }
    let directory = directory();
    let prepare = |_: &mut Command| {};
    let output = common::run_child(NAME, directory.path().to_str().unwrap(), prepare);
    assert_eq!(output.status.code(), Some(DONE));
    for number in 0..20 {
        let path = directory.path().join(number.to_string());
        assert_file(&path, &bytes(number, 3000), &number);
        Options::new().append(&path).unwrap().close().unwrap();
    }
}
