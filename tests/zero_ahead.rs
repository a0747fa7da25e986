//! Zeros ahead of the data: a fence of a growing file finds its blocks written, and nothing of it shows
//! but on the way.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use common::{
    Config, Mount, assert_file, bytes, child_task, directory, each_config, has_own_mounts,
    run_child, watched,
};
use writeflush::{Direct, Drive, Error, Options, Preallocate, Writer};

const WINDOW: u64 = 1 << 20;

fn len(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

/// Whether zeros can be expected: the file system that cargo builds on may be any.
fn goes_ahead(writer: &Writer) -> bool {
    !writer.fallbacks().iter().any(|reason| reason.contains("no zeros are written ahead"))
}

fn options(config: Config) -> Options {
    config.options().zero_ahead(WINDOW)
}

/// Commits records of `len` bytes, and keeps what they were.
fn commit(writer: &mut Writer, model: &mut Vec<u8>, records: u64, len: usize) {
    for _ in 0..records {
        let record = bytes(model.len() as u64, len);
        writer.write_flush(&record).unwrap();
        model.extend(record);
    }
}

#[test]
fn the_file_is_what_was_written() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = options(config).create(&path).unwrap();
        let mut model = Vec::new();
        commit(&mut writer, &mut model, 300, 700);
        // Who drives by himself gives idle time where he polls.
        while goes_ahead(&writer) && writer.stats().zero_bytes == 0 {
            writer.write(b"polled").unwrap();
            model.extend(b"polled");
            let ticket = writer.fence();
            while !ticket.is_durable().unwrap() {}
        }
        commit(&mut writer, &mut model, 300, 4096);
        // More than the buffers hold, beside zeros on their way.
        let long = bytes(9, 100_000);
        writer.write(&long).unwrap();
        model.extend(&long);
        writer.patch(100, b"a patch").unwrap();
        model[100..107].copy_from_slice(b"a patch");
        commit(&mut writer, &mut model, 40, 1);
        let ahead = goes_ahead(&writer);
        let stats = writer.close().unwrap().stats;
        assert_file(&path, &model, &config);
        assert_eq!(ahead, stats.zero_bytes > 0, "{config}");
        // Closed: it may be appended to, whatever it ends in.
        Options::new().append(&path).unwrap().close().unwrap();
    });
}

/// The length and the blocks of the file change with the window, not with each fence.
#[test]
fn fences_find_the_file_as_long_as_it_will_be() {
    each_config(|config, directory| {
        if config.drive == Drive::Caller {
            return;
        }
        let path = directory.join("take");
        let mut writer = options(config).create(&path).unwrap();
        if !goes_ahead(&writer) {
            return common::skip("fences_find_the_file…", "no zeros are written ahead here");
        }
        let mut model = Vec::new();
        commit(&mut writer, &mut model, 200, 4096);
        let (mut grown, mut before) = (0, len(&path));
        for _ in 0..400 {
            commit(&mut writer, &mut model, 1, 4096);
            let now = len(&path);
            assert!(now >= model.len() as u64);
            grown += u32::from(now != before);
            before = now;
        }
        // 64 KiB at least for each: 16 fences. A fast disk may be ahead of the zeros now and then.
        assert!(grown < 200, "{config}: grown {grown} times in 400 fences");
        writer.close().unwrap();
        assert_file(&path, &model, &config);
    });
}

/// Bytes that go out twice would cost such a stream more than they save.
#[test]
fn who_fences_many_bytes_writes_no_zeros() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = options(config).create(&path).unwrap();
        let mut model = Vec::new();
        commit(&mut writer, &mut model, 60, 40_000);
        let stats = writer.close().unwrap().stats;
        assert_eq!(stats.zero_bytes, 0, "{config}");
        assert_file(&path, &model, &config);
    });
}

#[test]
fn gaps_and_space_ahead_are_what_they_were() {
    for ahead in [Preallocate::None, Preallocate::Reserve(300_000), Preallocate::Zero(300_000)] {
        each_config(move |config, directory| {
            use std::io::{Seek, SeekFrom, Write};
            let path = directory.join("take");
            let mut writer = options(config).preallocate(ahead).create(&path).unwrap();
            let mut model = Vec::new();
            for turn in 0..6 {
                commit(&mut writer, &mut model, 30, 3000);
                // Into the zeros, and beyond them.
                let gap = [100, 5000, 40_000, 3 << 20][turn % 4];
                writer.seek(SeekFrom::Current(gap)).unwrap();
                model.resize(model.len() + gap as usize, 0);
                writer.write_all(b"behind a gap").unwrap();
                model.extend(b"behind a gap");
            }
            writer.close().unwrap();
            assert_file(&path, &model, &config);
        });
    }
}

/// A killed writer's zeros are no data: an append refuses them, and recovery knows where they begin.
#[test]
fn a_killed_writers_zeros_are_told_from_data() {
    const NAME: &str = "a_killed_writers_zeros_are_told_from_data";
    if let Some(path) = child_task() {
        let mut writer = Options::new().zero_ahead(WINDOW).create(path).unwrap();
        let mut model = Vec::new();
        while writer.stats().zero_bytes == 0 && goes_ahead(&writer) {
            commit(&mut writer, &mut model, 1, 1000);
        }
        // SAFETY: a plain system call.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        unreachable!("killed");
    }
    watched(NAME, || {
        let directory = directory();
        let path = directory.path().join("take");
        run_child(NAME, path.to_str().unwrap(), |_| {});
        let (found, blocks) = (std::fs::read(&path).unwrap(), std::fs::metadata(&path).unwrap());
        let data = found.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        if found.len() - data < 8192 {
            return common::skip(NAME, "no zeros are written ahead here");
        }
        assert!(blocks.blocks() * 512 >= found.len() as u64, "written, not a hole");
        let refused = Options::new().lock_wait(Duration::from_secs(10)).append(&path).unwrap_err();
        assert!(
            matches!(refused, Error::Unfinished { from, .. } if from == data as u64),
            "{refused}"
        );
        let mut writer = Options::new().append_at(&path, data as u64).unwrap();
        writer.write_flush(b"goes on").unwrap();
        writer.close().unwrap();
        assert_file(&path, &[&found[..data], b"goes on"].concat(), &"resumed");
    });
}

/// Fills a disk of 32 MiB, 16 KiB a fence, under a neighbour; says how much got there, and how many
/// zeros.
fn filled(at: &Path, options: Options) -> (u64, u64) {
    let path = at.join("take");
    let mut writer = options.create(&path).unwrap();
    let mut model = Vec::new();
    let failed = loop {
        let record = bytes(model.len() as u64, 16 << 10);
        match writer.write_flush(&record) {
            Ok(_) => model.extend(record),
            Err(error) => break error,
        }
    };
    assert!(failed.to_string().contains("No space"), "{failed}");
    let left = writer.close().unwrap_err().summary;
    assert_eq!(left.positions.durable, model.len() as u64);
    assert_file(&path, &model, &"a full disk");
    std::fs::remove_file(&path).unwrap();
    (model.len() as u64, left.stats.zero_bytes)
}

/// Zeros take no space that data could have, and none that is scarce.
#[test]
fn a_disk_is_full_no_earlier_than_without_them() {
    const NAME: &str = "a_disk_is_full_no_earlier_than_without_them";
    if !has_own_mounts(NAME) {
        return;
    }
    watched(NAME, || {
        let directory = directory();
        let (image, at) = (directory.path().join("image"), directory.path().join("at"));
        std::fs::create_dir(&at).unwrap();
        Mount::make_ext4(&image, 32);
        let _mount = Mount::ext4(&image, &at);
        for direct in [Direct::On, Direct::Off] {
            let options = Options::new().direct(direct);
            let (without, none) = filled(&at, options.clone());
            let (with, zeros) = filled(&at, options.zero_ahead(8 << 20));
            // A block of the file system's own more or less.
            assert!(with + (64 << 10) >= without, "{with} bytes with zeros, {without} without");
            assert!(none == 0 && zeros > 0, "{zeros} zeros");
            assert!(zeros < with, "{zeros} zeros on {with} bytes: the last megabytes had none");
        }
    });
}
