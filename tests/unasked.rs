//! What is done though nobody asks: bytes are submitted, and fences made.

mod common;

use std::path::Path;
use std::time::Duration;

use common::{SMALL, assert_file, bytes, each_config, each_thread, until};
use writeflush::{Control, Drive};

fn len(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

/// Long after everything that would have been done by itself.
fn long_after() {
    std::thread::sleep(Duration::from_millis(400));
}

#[test]
fn what_is_accepted_gets_into_the_file() {
    each_thread(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.options().buffer_size(1 << 20).create(&path).unwrap();
        let mut model = Vec::new();
        for (turn, size) in [1, 300, SMALL, 5000, 1].into_iter().enumerate() {
            let data = bytes(turn as u64, size);
            assert!(writer.write(&data).is_ok());
            model.extend(&data);
            let end = model.len() as u64;
            until(|| writer.positions().written == end);
            // So that somebody who reads along finds it, and nothing behind it.
            until(|| len(&path) == end);
            assert_file(&path, &model, &config);
        }
        let (positions, stats) = (writer.positions(), writer.stats());
        assert_eq!((positions.durable, stats.flushes, stats.fences), (0, 0, 0), "{config}");
        writer.close().unwrap();
        assert_file(&path, &model, &config);
    });
}

#[test]
fn producers_that_share_a_writer_need_not_ask_either() {
    each_thread(|config, directory| {
        let path = directory.join("take");
        let writer = config.options().buffer_size(1 << 20).create(&path).unwrap().into_shared();
        for turn in 1..4 {
            std::thread::scope(|scope| {
                for number in 0..3 {
                    let writer = &writer;
                    scope.spawn(move || assert!(writer.write(&bytes(number, 777)).is_ok()));
                }
            });
            until(|| writer.positions().written == turn * 3 * 777);
        }
        writer.close().unwrap();
    });
}

#[test]
fn who_wants_no_write_unasked_gets_none() {
    each_config(|config, directory| {
        let options = config.options().submit_every(None);
        let mut writer = options.create(directory.join("take")).unwrap();
        assert!(writer.write(&bytes(1, 300)).is_ok());
        long_after();
        assert_eq!(writer.positions().submitted, 0, "{config}");
        writer.close().unwrap();
    });
}

fn fences_itself(control: &Control) {
    until(|| {
        let positions = control.positions();
        positions.durable == positions.accepted
    });
}

#[test]
fn fences_come_by_time_with_what_was_patched() {
    each_thread(|config, directory| {
        let path = directory.join("take");
        let options = config.options().submit_every(None).fence_every(Duration::from_millis(5));
        let mut writer = options.create(&path).unwrap();
        let mut model = bytes(1, 300);
        assert!(writer.write(&model).is_ok());
        fences_itself(&writer);
        writer.patch(10, &bytes(2, 20)).unwrap();
        model[10..30].copy_from_slice(&bytes(2, 20));
        until(|| std::fs::read(&path).unwrap().starts_with(&model));
        // With nothing new there is none.
        until(|| writer.stats().fence_latency.count() >= 2);
        let flushes = writer.stats().flushes;
        long_after();
        assert_eq!(writer.stats().flushes, flushes, "{config}");
        writer.close().unwrap();
        assert_file(&path, &model, &config);
    });
}

#[test]
fn fences_come_by_bytes() {
    each_thread(|config, directory| {
        let options = config.options().fence_bytes(10_000);
        let mut writer = options.create(directory.join("take")).unwrap();
        assert!(writer.write(&bytes(1, 9_999)).is_ok());
        until(|| writer.positions().written == 9_999);
        assert_eq!(writer.stats().fences, 0, "{config}");
        assert!(writer.write(&bytes(2, 1)).is_ok());
        fences_itself(&writer);
        assert_eq!(writer.stats().fences, 1, "{config}");
        writer.close().unwrap();
    });
}

/// Where callers drive there is no thread, so calls look at the clock.
#[test]
fn a_caller_that_drives_fences_by_time_inside_its_calls() {
    each_config(|config, directory| {
        if config.drive == Drive::Caller {
            let options = config.options().fence_every(Duration::from_millis(1));
            let mut writer = options.create(directory.join("take")).unwrap();
            while writer.positions().durable == 0 {
                assert!(writer.write(&bytes(1, SMALL)).is_ok());
            }
            writer.close().unwrap();
        }
    });
}
