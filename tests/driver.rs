//! A driver that writers share: who joins, leaves, fails or stands still harms nobody else.

mod common;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use common::{Config, SMALL, assert_file, bytes, child_succeeds, child_task, each_config, watched};
use writeflush::{BackendChoice, Drive, Driver, DriverOptions, Error, Options, Writer};

fn driver(config: Config) -> Driver {
    DriverOptions::new().backend(config.backend).drive(config.drive).start().unwrap()
}

/// Of a writer on it, with two buffers of [`SMALL`] bytes.
fn sharing(driver: &Driver, config: Config) -> Options {
    Options::new().buffer_size(SMALL).direct(config.direct).driver(driver)
}

fn name(directory: &Path, number: u64) -> std::path::PathBuf {
    directory.join(format!("take-{number}"))
}

/// Pushes, fences and overwrites, and returns what the file has to hold.
fn record(writer: &mut Writer, serial: u64) -> Vec<u8> {
    let mut content = Vec::new();
    for step in 0..12 {
        let record = bytes(100 * serial + step, 700 + 613 * step as usize);
        writer.write(&record).unwrap();
        content.extend(&record);
        match step % 4 {
            0 => assert_eq!(writer.flush().unwrap(), content.len() as u64),
            1 => drop(writer.fence()),
            2 => {
                let at = content.len() / 2;
                writer.control().patch(at as u64, b"overwritten").unwrap();
                content[at..at + 11].copy_from_slice(b"overwritten");
            }
            _ => {}
        }
    }
    content
}

#[test]
fn every_file_is_what_was_written_to_it() {
    each_config(|config, directory| {
        let driver = driver(config);
        let options = sharing(&driver, config);
        let all: Vec<_> = (0..8)
            .map(|serial| {
                let (options, path) = (options.clone(), name(directory, serial));
                std::thread::spawn(move || {
                    // Each comes and goes while the others are at work.
                    for round in 0..6 {
                        let mut writer = options.create(&path).unwrap();
                        let content = record(&mut writer, 10 * serial + round);
                        writer.close().unwrap();
                        assert_file(&path, &content, &config);
                    }
                })
            })
            .collect();
        all.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(driver.memory(), 0, "{config}: everybody has left");
    });
}

#[test]
fn one_thread_serves_many_files_and_their_flushes() {
    each_config(|config, directory| {
        let driver = driver(config);
        let options = sharing(&driver, config);
        let mut writers: Vec<_> =
            (0..20).map(|serial| options.create(name(directory, serial)).unwrap()).collect();
        let mut contents = Vec::new();
        for (serial, writer) in (0..).zip(&mut writers) {
            contents.push(record(writer, serial));
        }
        // Asked for together.
        let tickets: Vec<_> = writers.iter().map(|writer| writer.fence()).collect();
        for (ticket, content) in tickets.into_iter().zip(&contents) {
            assert_eq!(ticket.wait().unwrap(), content.len() as u64, "{config}");
        }
        // The others go on when one leaves, whichever it is.
        while !writers.is_empty() {
            let index = writers.len() / 2;
            let (writer, content) = (writers.remove(index), contents.remove(index));
            let path = writer.control().path().to_owned();
            writer.close().unwrap();
            assert_file(&path, &content, &config);
            for (writer, content) in writers.iter_mut().zip(&mut contents) {
                writer.write_flush(b"on").unwrap();
                content.extend(b"on");
            }
        }
    });
}

#[test]
fn the_writers_outlive_the_last_handle_of_their_driver() {
    each_config(|config, directory| {
        let path = name(directory, 0);
        let mut writer = {
            let driver = driver(config);
            sharing(&driver, config).create(&path).unwrap()
        };
        let content = record(&mut writer, 1);
        writer.close().unwrap();
        assert_file(&path, &content, &config);
    });
}

#[cfg(target_os = "linux")]
mod counted {
    use super::*;
    use crate::common::{descriptors, threads};

    /// In a process of its own, where nobody else starts threads.
    #[test]
    fn many_writers_take_one_thread_and_a_descriptor_each() {
        const TEST: &str = "counted::many_writers_take_one_thread_and_a_descriptor_each";
        if child_task().is_none() {
            return child_succeeds(TEST, "alone", |_| {});
        }
        let (alone, opened) = (threads(), descriptors());
        for config in common::configs() {
            watched(TEST, move || {
                let directory = common::directory();
                // With this thread; that of the last round may still be on its way out.
                let before = alone + 1;
                common::until(|| threads() == before && descriptors() == opened);
                let driver = driver(config);
                let options = sharing(&driver, config);
                let mut writers: Vec<_> = (0..64)
                    .map(|serial| options.create(name(directory.path(), serial)).unwrap())
                    .collect();
                for writer in &mut writers {
                    writer.write_flush(b"x").unwrap();
                }
                let (started, more) = (threads() - before, descriptors() - opened);
                assert!(started <= 1, "{config}: {started} threads");
                assert!(more <= 64 + 4, "{config}: {more} descriptors");
                drop((writers, options, driver));
                common::until(|| threads() == before && descriptors() == opened);
            });
        }
    }
}

#[test]
fn memory_is_limited_for_all_together_and_comes_back() {
    each_config(|config, directory| {
        let driver = DriverOptions::new()
            .backend(config.backend)
            .drive(config.drive)
            .memory_limit(1 << 20)
            .start()
            .unwrap();
        let options = sharing(&driver, config).buffer_size(128 << 10);
        let mut writers = Vec::new();
        let refused = loop {
            match options.create(name(directory, writers.len() as u64)) {
                Ok(writer) => writers.push(writer),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, Error::Options(_)), "{refused}");
        assert!(refused.to_string().contains("raise the driver's memory limit"), "{refused}");
        assert!((1..=4).contains(&writers.len()), "{config}: {}", writers.len());
        assert!(!name(directory, writers.len() as u64).exists(), "nothing was made");
        let taken = driver.memory();
        assert!(taken > 0 && taken <= 1 << 20);
        writers.pop().unwrap().close().unwrap();
        assert!(driver.memory() < taken);
        writers.push(options.create(name(directory, 100)).unwrap());
    });
}

#[test]
fn what_the_driver_decides_is_not_chosen_by_a_writer() {
    let directory = common::directory();
    let driver = Driver::new().unwrap();
    let options = Options::new().driver(&driver);
    for wrong in [
        options.clone().drive(Drive::Poll),
        options.clone().drive(Drive::Caller),
        options.clone().backend(BackendChoice::Sync),
        options.clone().thread_setup(|| Ok(())),
    ] {
        let refused = wrong.create(directory.path().join("take")).unwrap_err();
        assert!(refused.to_string().contains("DriverOptions"), "{refused}");
    }
    assert!(!directory.path().join("take").exists());
    let refused = DriverOptions::new().depth(1).start().unwrap_err();
    assert!(refused.to_string().contains("8 to 4096"), "{refused}");
}

#[test]
fn a_set_up_that_fails_is_the_error_of_the_start() {
    let refused = DriverOptions::new().thread_setup(|| Err(std::io::Error::other("no"))).start();
    assert_eq!(refused.unwrap_err().to_string(), "no");
}

/// What a task may do when it is woken, on the driver's thread.
struct OnWake<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send + 'static> Wake for OnWake<F> {
    fn wake(self: Arc<Self>) {
        let act = self.0.lock().unwrap().take();
        act.into_iter().for_each(|act| act());
    }
}

fn when_woken(writer: &mut Writer, act: impl FnOnce() + Send + 'static) {
    let waker = Waker::from(Arc::new(OnWake(Mutex::new(Some(act)))));
    loop {
        writer.write(b"wake").unwrap();
        let mut ticket = writer.fence();
        if Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker)).is_pending() {
            return std::mem::forget(ticket); // it is woken all the same
        }
    }
}

#[test]
fn in_a_waker_nobody_joins_and_a_close_is_finished_elsewhere() {
    common::each_thread(|config, directory| {
        let driver = driver(config);
        let options = sharing(&driver, config);
        let mut first = options.create(name(directory, 0)).unwrap();
        let mut second = options.create(name(directory, 1)).unwrap();
        second.write(b"second").unwrap();
        let (tell, told) = channel();
        let (more, path) = (options.clone(), name(directory, 2));
        when_woken(&mut first, move || {
            let joined = more.create(&path).map(drop);
            let closed = second.close().map(drop).map_err(|error| error.to_string());
            tell.send((joined, closed)).unwrap();
        });
        let (joined, closed) = told.recv().unwrap();
        assert!(matches!(joined, Err(Error::InWaker)), "{config}: {joined:?}");
        assert!(closed.is_err(), "{config}: the rest is done later");
        assert!(!name(directory, 2).exists());
        common::until(|| std::fs::read(name(directory, 1)).is_ok_and(|found| found == b"second"));
        // It still serves the others, and those who come.
        first.write_flush(b"on").unwrap();
        options.create(name(directory, 3)).unwrap().write_flush(b"new").unwrap();
    });
}

/// A task of one stream waits in the driver for nothing of another's.
#[test]
fn a_waker_that_stands_still_is_the_only_thing_that_holds_up_all() {
    common::each_thread(|config, directory| {
        let driver = driver(config);
        let options = sharing(&driver, config);
        let mut first = options.create(name(directory, 0)).unwrap();
        let mut second = options.create(name(directory, 1)).unwrap();
        let control = first.control().clone();
        let held = common::hold::hold_driver(&control, || assert!(first.write(b"x").is_ok()));
        second.write(b"second").unwrap();
        let ticket = second.fence();
        assert_eq!(ticket.wait_timeout(Duration::from_millis(20)).unwrap(), None);
        drop(held);
        assert_eq!(ticket.wait().unwrap(), 6);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_fails_fails_for_its_own_writer() {
    if !common::has_own_mounts("a_file_that_fails_fails_for_its_own_writer") {
        return;
    }
    let (small, ample) = (common::directory(), common::directory());
    let _mount = common::Mount::tmpfs(small.path(), "size=64k");
    for config in common::configs() {
        if config.direct == writeflush::Direct::On {
            continue; // not to be had there before Linux 6.6
        }
        let driver = driver(config);
        let options = sharing(&driver, config);
        let mut well = options.create(name(ample.path(), 0)).unwrap();
        let mut ill = options.create(name(small.path(), 0)).unwrap();
        let mut content = record(&mut well, 1);
        let failed = loop {
            if let Err(error) = ill.write_flush(&[1; 5000]) {
                break error;
            }
        };
        assert_eq!(failed.raw_os_error(), Some(libc::ENOSPC), "{config}");
        for _ in 0..3 {
            content.extend(b"on");
            well.write_flush(b"on").unwrap();
        }
        assert!(ill.close().is_err());
        well.close().unwrap();
        assert_file(&name(ample.path(), 0), &content, &config);
    }
}
