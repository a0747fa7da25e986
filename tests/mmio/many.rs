//! Many files at once, on one driver.

use std::path::{Path, PathBuf};

use super::caller::{CREATE, Caller, name};
use super::common::{
    Config, SMALL, assert_file, bytes, child_succeeds, child_task, configs, directory, watched,
};
use super::fences::in_force;
use writeflush::mmio::*;
use writeflush::{DriverOptions, Options};

const FILES: usize = 64;

/// A file, and what it has to hold.
struct Take {
    caller: Caller,
    path: PathBuf,
    content: Vec<u8>,
}

// SAFETY: messages of a file may come from any thread; the pointers in its MMIOINFO are null.
unsafe impl Send for Take {}

impl Take {
    fn open(directory: &Path, number: usize) -> Self {
        let path = directory.join(format!("telemetry-{number}.raw"));
        let caller = Caller::open(&name(&path), CREATE).expect("it opens");
        Self { caller, path, content: Vec::new() }
    }

    /// The next record, by WRITE or WRITEFLUSH.
    fn write(&mut self, serial: usize, is_durable: bool) {
        let record = bytes(serial as u64, 1 + serial * 617 % 5000);
        let taken = match is_durable {
            true => self.caller.write_flush(&record),
            false => self.caller.write(&record),
        };
        assert_eq!(taken, record.len() as isize);
        self.content.extend(&record);
        assert!(!is_durable || self.caller.durable() == self.content.len() as u64);
    }

    /// A header is made true, as a recorder of WAV does.
    fn overwrite(&mut self) {
        assert_eq!(self.caller.seek(4, SEEK_SET), 4);
        let length = (self.content.len() as u32).to_le_bytes();
        assert_eq!(self.caller.write(&length), 4);
        self.content[4..8].copy_from_slice(&length);
        let end = self.content.len() as isize;
        assert_eq!(self.caller.seek(0, SEEK_END), end);
    }

    fn reads_what_it_wrote(&mut self) {
        let mut found = [0; 100];
        assert_eq!(self.caller.seek(0, SEEK_SET), 0);
        let len = self.caller.read(&mut found) as usize;
        assert_eq!(found[..len], self.content[..len.min(100)]);
        assert_eq!(self.caller.seek(0, SEEK_END), self.content.len() as isize);
    }

    fn close(mut self, config: Config) {
        assert_eq!(self.caller.close(), 0);
        assert_file(&self.path, &self.content, &config);
    }
}

/// As a recorder of telemetry: rounds of writes to all files, and a fence of all; opens and closes
/// meanwhile; and its last files outlive settings and handle of their driver.
fn record(config: Config) {
    let directory = directory();
    let driver = DriverOptions::new().backend(config.backend).drive(config.drive).start().unwrap();
    let options = Options::new().buffer_size(SMALL).direct(config.direct).driver(&driver);
    let settings = in_force(Settings::new().options(options).fence_every(None));
    let mut takes: Vec<_> = (0..FILES).map(|number| Take::open(directory.path(), number)).collect();
    for round in 0..3 {
        for step in 0..4 {
            for (number, take) in takes.iter_mut().enumerate() {
                take.write(FILES * (10 * round + step) + number, false);
            }
        }
        for take in &mut takes {
            assert_eq!(take.caller.send(WFM_FENCE, 0, 0), 0);
            assert_eq!(take.caller.durable(), take.content.len() as u64);
        }
        // One in the middle leaves, another one comes, and the others go on.
        let index = FILES / 2 - round;
        takes.remove(index).close(config);
        takes.push(Take::open(directory.path(), FILES + round));
        takes[index].write(round, true);
        takes[index].overwrite();
        takes[index + 1].reads_what_it_wrote();
    }
    assert!(driver.memory() >= (2 * SMALL * FILES) as u64, "{config}: it has them all");
    drop((settings, driver));
    let others = takes.split_off(FILES / 2);
    on_threads([takes, others], config);
}

/// Each thread writes to its files, and closes them.
fn on_threads(parts: [Vec<Take>; 2], config: Config) {
    std::thread::scope(|scope| {
        for takes in parts {
            scope.spawn(move || {
                for (number, mut take) in takes.into_iter().enumerate() {
                    take.write(number, number % 2 == 0);
                    take.close(config);
                }
            });
        }
    });
}

#[test]
fn sixty_four_files_share_a_driver() {
    let test = "many::sixty_four_files_share_a_driver";
    for config in configs() {
        watched(test, move || record(config));
    }
}

#[cfg(target_os = "linux")]
mod counted {
    use super::*;
    use crate::common::{descriptors, threads};

    /// In a process of its own, where nobody else starts threads. (Each with a driver of its own:
    /// 64 threads, and with io_uring 64 rings.)
    #[test]
    fn they_take_one_thread_and_a_descriptor_each() {
        let test = "many::counted::they_take_one_thread_and_a_descriptor_each";
        if child_task().is_none() {
            return child_succeeds(test, "alone", |_| {});
        }
        let alone = (threads(), descriptors());
        for config in configs() {
            watched(test, move || {
                let directory = directory();
                // With this thread; that of the last round may still be on its way out.
                let before = (alone.0 + 1, alone.1);
                crate::common::until(|| (threads(), descriptors()) == before);
                let driver = DriverOptions::new().backend(config.backend).drive(config.drive);
                let driver = driver.start().unwrap();
                let options = Options::new().buffer_size(SMALL).direct(config.direct);
                let settings = in_force(Settings::new().options(options.driver(&driver)));
                let mut takes: Vec<_> =
                    (0..FILES).map(|number| Take::open(directory.path(), number)).collect();
                takes.iter_mut().for_each(|take| take.write(1, true));
                let (started, more) = (threads() - before.0, descriptors() - before.1);
                assert!(started <= 1, "{config}: {started} threads");
                assert!(more <= FILES + 4, "{config}: {more} descriptors");
                drop((settings, driver));
                takes.into_iter().for_each(|take| take.close(config));
                crate::common::until(|| (threads(), descriptors()) == before);
            });
        }
    }
}
