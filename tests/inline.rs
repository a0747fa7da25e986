//! A flush that nobody shares is carried out by whoever waits for it, and wakes no thread.
#![cfg(target_os = "linux")]

mod common;

use std::fs::read_to_string;

use common::{directory, watched};
use writeflush::{BackendChoice, Direct, Options, Writer};

/// How often the threads of this process that have this name went to sleep by themselves.
fn sleeps(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let of_driver = tasks
        .filter(|task| read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name));
    let sleeps = of_driver.filter_map(|task| {
        let status = read_to_string(task.join("status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    sleeps.sum()
}

const FLUSHES: u64 = 400;

/// Sleeps of the driver's thread while it is flushed so often.
fn sleeps_in_flushes(writer: &mut Writer) -> u64 {
    let before = sleeps("writeflush");
    for number in 0..FLUSHES {
        let position = writer.write_flush(&number.to_le_bytes()).unwrap();
        assert_eq!(writer.positions().durable, position);
    }
    sleeps("writeflush") - before
}

#[test]
fn a_lone_flush_wakes_no_thread() {
    for backend in [BackendChoice::Auto, BackendChoice::Sync] {
        watched(&format!("{backend:?}"), move || {
            let directory = directory();
            let options = Options::new().backend(backend);
            // What is done unasked, and the cut of padding, wake it a few times a second.
            let options = options.submit_every(None).direct(Direct::Off);
            let mut writer = options.create(directory.path().join("inline")).unwrap();
            let few = sleeps_in_flushes(&mut writer);
            writer.close().unwrap();
            let mut writer =
                options.inline_flush(false).create(directory.path().join("handed over")).unwrap();
            let many = sleeps_in_flushes(&mut writer);
            writer.close().unwrap();
            assert!(many >= FLUSHES, "{many}: does it count at all?");
            assert!(few < FLUSHES / 4, "{few} of {FLUSHES} flushes woke the driver's thread");
        });
    }
}
