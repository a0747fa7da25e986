//! The checksum that a close tells is that of the file, or there is none.
#![cfg(not(any(loom, shuttle)))]
#![allow(unsafe_code)] // of what is shared with other tests

mod common;

use std::path::Path;

use common::{bytes, directory, each_config};
use writeflush::{Options, Preallocate, Summary};

fn of_file(path: &Path) -> Option<u32> {
    Some(crc32c::crc32c(&std::fs::read(path).unwrap()))
}

/// Records of any length, flushes between them, many laps of the ring.
#[test]
fn it_is_that_of_the_file_with_every_backend_and_drive() {
    each_config(|config, folder| {
        for seed in 0..6 {
            let mut random = fastrand::Rng::with_seed(seed);
            let path = folder.join(format!("take-{seed}"));
            let ahead =
                [Preallocate::None, Preallocate::Reserve(20_000), Preallocate::Zero(20_000)];
            let options = config.options().checksum(true).preallocate(ahead[seed as usize % 3]);
            let mut writer = options.create(&path).unwrap();
            for number in 0..random.u64(..60) {
                let record = bytes(number, random.usize(..9000));
                match random.u8(..4) {
                    0 => assert!(writer.write_flush(&record).unwrap() > 0 || record.is_empty()),
                    1 if record.len() <= 4000 => {
                        writer.flush().unwrap();
                        let mut grant = writer.grant(record.len()).unwrap();
                        grant.copy_from_slice(&record);
                        grant.commit(record.len());
                    }
                    _ => {
                        writer.write(&record).unwrap();
                    }
                }
            }
            let summary = writer.close().unwrap();
            assert_eq!(summary.checksum, of_file(&path), "{config}, {seed}");
        }
    });
}

/// Patches of bytes in the ring, in the file, and in a tail that has been written and is written again.
#[test]
fn a_patched_file_has_its_own_or_none() {
    each_config(|config, folder| {
        let mut known = 0;
        for seed in 0..60 {
            let mut random = fastrand::Rng::with_seed(seed);
            let path = folder.join(format!("take-{seed}"));
            let mut writer = config.options().checksum(true).create(&path).unwrap();
            let _ = writer.write(&bytes(seed, random.usize(1..9000))).unwrap();
            for number in 0..random.u64(1..6) {
                let end = writer.positions().accepted;
                match random.u8(..4) {
                    0 => drop(writer.flush().unwrap()),
                    1 => drop(writer.write(&bytes(number, random.usize(1..5000))).unwrap()),
                    _ => writer.patch(random.u64(..end), &[9]).map(drop).unwrap(),
                }
            }
            let summary = writer.close().unwrap();
            known += u32::from(summary.checksum.is_some());
            assert!(
                summary.checksum.is_none_or(|it| Some(it) == of_file(&path)),
                "{config}, {seed}"
            );
        }
        assert!(known > 0);
    });
}

fn recorded(options: &Options, path: &Path, work: impl FnOnce(&mut writeflush::Writer)) -> Summary {
    let mut writer = options.create(path).unwrap();
    work(&mut writer);
    writer.close().unwrap()
}

/// A patch that finds its bytes in the ring still is in the checksum; behind one that does not there is none.
#[test]
fn there_is_none_where_it_could_not_be_known() {
    let directory = directory();
    let path = directory.path().join("take");
    let plain = common::Config::STILL.options();
    let asked = plain.clone().checksum(true);
    let summary = recorded(&plain, &path, |writer| {
        writer.write(b"data").unwrap();
    });
    assert_eq!(summary.checksum, None, "nobody has asked");
    let summary = recorded(&asked, &path, |_| {});
    assert_eq!(summary.checksum, Some(0));
    let summary = recorded(&asked, &path, |writer| {
        writer.write(&[1; 1000]).unwrap();
        writer.patch(10, &[2; 10]).unwrap();
    });
    assert_eq!(summary.checksum, of_file(&path));
    let summary = recorded(&asked, &path, |writer| {
        writer.write_flush(&[1; 1000]).unwrap();
        writer.patch(10, &[2; 10]).unwrap();
        writer.write(&[3; 1000]).unwrap();
    });
    assert_eq!(summary.checksum, None, "patched");
    let mut writer = asked.append(&path).unwrap();
    writer.write(b"more").unwrap();
    assert_eq!(writer.close().unwrap().checksum, None, "appended");
    let mut writer = asked.open(&path).unwrap();
    writer.write(b"over").unwrap();
    assert_eq!(writer.close().unwrap().checksum, None, "overwritten");
}
