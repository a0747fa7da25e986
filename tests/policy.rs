//! Every overrun policy, exclusive and shared. The configuration is the one in which nothing
//! leaves the buffers unless a call waits, so "full" is where the test puts it.

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Config, SMALL, assert_file, bytes, each_config, parts, watched};
use writeflush::{Control, Error, OnFull, Overrun, Push, SharedWriter, Summary, Writer};

/// Bytes in both buffers.
const ALL: usize = 2 * SMALL;

/// Either kind of writer; the last two push every record in parts.
enum Face {
    One(Writer),
    Many(SharedWriter),
    OneInParts(Writer),
    ManyInParts(SharedWriter),
}

impl Face {
    fn write(&mut self, bytes: &[u8]) -> Result<Push, Error> {
        match self {
            Self::One(writer) => writer.write(bytes),
            Self::Many(writer) => writer.write(bytes),
            Self::OneInParts(writer) => writer.write_parts(&parts(bytes)),
            Self::ManyInParts(writer) => writer.write_parts(&parts(bytes)),
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        match self {
            Self::One(writer) => writer.try_write(bytes),
            Self::Many(writer) => writer.try_write(bytes),
            Self::OneInParts(writer) => writer.try_write_parts(&parts(bytes)),
            Self::ManyInParts(writer) => writer.try_write_parts(&parts(bytes)),
        }
    }

    fn write_flush(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        match self {
            Self::One(writer) | Self::OneInParts(writer) => writer.write_flush(bytes),
            Self::Many(writer) | Self::ManyInParts(writer) => writer.write_flush(bytes),
        }
    }

    fn control(&self) -> &Control {
        match self {
            Self::One(writer) | Self::OneInParts(writer) => writer.control(),
            Self::Many(writer) | Self::ManyInParts(writer) => writer.control(),
        }
    }

    fn close(self) -> Summary {
        match self {
            Self::One(writer) | Self::OneInParts(writer) => writer.close(),
            Self::Many(writer) | Self::ManyInParts(writer) => writer.close(),
        }
        .unwrap()
    }
}

/// Runs the test on every face of a writer of this policy.
fn both(policy: OnFull, test: impl Fn(Face, &Path) + Clone + Send + 'static) {
    type Make = fn(Writer) -> Face;
    let faces: [(&str, Make); 4] = [
        ("one", Face::One),
        ("many", |writer| Face::Many(writer.into_shared())),
        ("one, in parts", Face::OneInParts),
        ("many, in parts", |writer| Face::ManyInParts(writer.into_shared())),
    ];
    for (name, face) in faces {
        let test = test.clone();
        watched(&format!("{policy:?}, {name}"), move || {
            let directory = common::directory();
            let path: PathBuf = directory.path().join("take");
            let writer = Config::STILL.options().on_full(policy).create(&path).unwrap();
            test(face(writer), &path);
        });
    }
}

/// What a snapshot says of losses.
#[track_caller]
fn assert_losses(control: &Control, places: &[(u64, u64)]) {
    let stats = control.stats();
    let bytes = |&(_, bytes): &(u64, u64)| bytes;
    let found = control.overruns();
    let found: Vec<_> =
        found.iter().map(|&Overrun { position, bytes, .. }| (position, bytes)).collect();
    assert_eq!(found, places);
    assert_eq!(stats.overruns, places.len() as u64);
    assert_eq!(stats.overrun_bytes, places.iter().map(bytes).sum::<u64>());
    assert_eq!(stats.longest_overrun, places.iter().map(bytes).max().unwrap_or(0));
}

#[test]
fn block_waits_and_loses_nothing() {
    both(OnFull::Block, |mut face, path| {
        let mut model = Vec::new();
        for (serial, len) in [ALL, 1, ALL, SMALL + 1, 5 * ALL + 3, 100].into_iter().enumerate() {
            let data = bytes(serial as u64, len);
            assert_eq!(face.write(&data).unwrap(), Push::Accepted(model.len() as u64));
            model.extend(data);
        }
        assert_losses(face.control(), &[]);
        face.close();
        assert_file(path, &model, &"block");
    });
}

#[test]
fn fail_says_so_at_once_and_takes_nothing() {
    both(OnFull::Fail, |mut face, path| {
        let mut model = bytes(1, 8000);
        assert_eq!(face.write(&model).unwrap(), Push::Accepted(0));
        let error = face.write(&bytes(2, 500)).unwrap_err();
        assert!(matches!(error, Error::Full { offered: 500, free: 192 }), "{error}");
        let error = face.write(&bytes(2, SMALL + 1)).unwrap_err();
        assert!(matches!(error, Error::TooLong { offered: 4097, limit: SMALL }), "{error}");
        assert_eq!(face.control().positions().accepted, 8000);
        assert_losses(face.control(), &[]);
        let data = bytes(3, 192);
        assert_eq!(face.write(&data).unwrap(), Push::Accepted(8000));
        model.extend(data);
        assert!(matches!(face.write(b"x"), Err(Error::Full { offered: 1, free: 0 })));
        face.control().flush().unwrap();
        let data = bytes(4, SMALL);
        assert_eq!(face.write(&data).unwrap(), Push::Accepted(8192));
        model.extend(data);
        face.close();
        assert_file(path, &model, &"fail");
    });
}

#[test]
fn block_for_gives_up_in_time_and_takes_nothing() {
    both(OnFull::BlockFor(Duration::ZERO), |mut face, path| {
        let mut model = bytes(1, ALL);
        assert_eq!(face.write(&model).unwrap(), Push::Accepted(0));
        for _ in 0..3 {
            let error = face.write(&bytes(2, 10)).unwrap_err();
            assert!(matches!(error, Error::Deadline { waited: Duration::ZERO }), "{error}");
        }
        let error = face.write(&bytes(2, SMALL + 1)).unwrap_err();
        assert!(matches!(error, Error::TooLong { limit: SMALL, .. }), "{error}");
        assert_eq!(face.control().positions().accepted, ALL as u64);
        assert_losses(face.control(), &[]);
        face.control().flush().unwrap();
        let data = bytes(3, 10);
        assert_eq!(face.write(&data).unwrap(), Push::Accepted(ALL as u64));
        model.extend(data);
        face.close();
        assert_file(path, &model, &"block for no time");
    });
}

#[test]
fn block_for_long_enough_gets_room() {
    each_config(|config, directory| {
        for shared in [false, true] {
            for limit in [Duration::from_secs(3600), Duration::MAX] {
                let path = directory.join("take");
                let options = config.options().on_full(OnFull::BlockFor(limit));
                let writer = options.create(&path).unwrap();
                let mut face =
                    if shared { Face::Many(writer.into_shared()) } else { Face::One(writer) };
                let mut model = Vec::new();
                for serial in 0..40 {
                    let data = bytes(serial, 1 + serial as usize * 997 % SMALL);
                    let push = face.write(&data).unwrap();
                    assert_eq!(push, Push::Accepted(model.len() as u64));
                    model.extend(data);
                }
                face.close();
                assert_file(&path, &model, &config);
            }
        }
    });
}

#[test]
fn drop_counts_what_is_lost_and_where() {
    both(OnFull::Drop, |mut face, path| {
        let mut model = bytes(1, 8000);
        assert_eq!(face.write(&model).unwrap(), Push::Accepted(0));
        // All or nothing: what would fit in part is lost whole.
        assert_eq!(face.write(&bytes(2, 500)).unwrap(), Push::Lost(500));
        assert_losses(face.control(), &[(8000, 500)]);
        let data = bytes(3, 192);
        assert_eq!(face.write(&data).unwrap(), Push::Accepted(8000));
        model.extend(data);
        assert_eq!(face.write(&bytes(4, 10)).unwrap(), Push::Lost(10));
        assert_eq!(face.write(&bytes(5, 5)).unwrap(), Push::Lost(5));
        assert_losses(face.control(), &[(8000, 500), (8192, 15)]);
        // Neither is a loss: the caller keeps the bytes.
        assert!(matches!(face.try_write(b"x"), Err(Error::Full { .. })));
        assert!(matches!(face.write(&bytes(6, SMALL + 1)), Err(Error::TooLong { .. })));
        assert_losses(face.control(), &[(8000, 500), (8192, 15)]);
        face.control().flush().unwrap();
        let data = bytes(7, 100);
        assert_eq!(face.write(&data).unwrap(), Push::Accepted(8192));
        model.extend(data);
        // The calls that wait for the disk wait for room too.
        let data = bytes(8, 3 * ALL);
        assert_eq!(face.write_flush(&data).unwrap(), (model.len() + data.len()) as u64);
        model.extend(data);
        let summary = face.close();
        assert_eq!(summary.overruns.len(), 2);
        assert_eq!(summary.stats.overrun_bytes, 515);
        assert_eq!(summary.positions.durable, model.len() as u64);
        assert_file(path, &model, &"drop");
    });
}

#[test]
fn places_are_kept_to_a_limit_and_counts_for_ever() {
    both(OnFull::Drop, |mut face, _| {
        for _ in 0..3 {
            for _ in 0..2000 {
                while face.write(&[1; 4000]).unwrap() != Push::Lost(4000) {}
                face.control().flush().unwrap();
            }
            let (stats, places) = (face.control().stats(), face.control().overruns());
            assert_eq!(places.len() as u64, stats.overruns.min(4096));
            assert_eq!(stats.overrun_bytes, 4000 * stats.overruns);
            assert!(places.is_sorted_by_key(|place| place.position));
        }
        assert_eq!(face.control().stats().overruns, 6000);
    });
}

const SILENCE: u8 = 0x80;

#[test]
fn fill_keeps_the_time_line() {
    both(OnFull::Fill(SILENCE), |mut face, path| {
        let mut model = bytes(1, ALL);
        assert_eq!(face.write(&model).unwrap(), Push::Accepted(0));
        for len in [300, 7] {
            assert_eq!(face.write(&bytes(2, len)).unwrap(), Push::Lost(len));
            model.extend(vec![SILENCE; len]);
        }
        assert_losses(face.control(), &[(ALL as u64, 307)]);
        face.control().flush().unwrap();
        let data = bytes(3, 100);
        assert_eq!(face.write(&data).unwrap(), Push::Accepted(model.len() as u64));
        model.extend(data);
        face.close();
        assert_file(path, &model, &"fill");
    });
}

/// Whatever was lost when, each accepted byte lies at the place that it has on the time line.
#[test]
fn fill_keeps_the_time_line_through_many_losses() {
    both(OnFull::Fill(SILENCE), |mut face, path| {
        let mut model = Vec::new();
        for serial in 0..2000u64 {
            let data = bytes(serial, 1 + serial as usize * 7919 % 2500);
            match face.write(&data).unwrap() {
                Push::Accepted(position) => {
                    assert_eq!(position, model.len() as u64);
                    model.extend(data);
                }
                Push::Lost(len) => {
                    assert_eq!(len, data.len());
                    model.extend(vec![SILENCE; len]);
                }
            }
            if serial % 7 == 0 {
                face.control().flush().unwrap();
            }
        }
        let lost = face.control().stats().overrun_bytes;
        assert!(lost > 0 && lost < model.len() as u64);
        assert_eq!(face.close().positions.accepted, model.len() as u64);
        assert_file(path, &model, &"fill");
    });
}

/// The end of the time line is behind what is still owed, for a seek as for a write.
#[test]
fn a_seek_goes_by_the_time_line_though_fill_bytes_are_owed() {
    use std::io::{Seek, SeekFrom, Write};
    watched("seek under fill", || {
        let directory = common::directory();
        let path = directory.path().join("take");
        let options = Config::STILL.options().on_full(OnFull::Fill(SILENCE));
        let mut writer = options.create(&path).unwrap();
        let mut model = bytes(1, ALL);
        assert_eq!(writer.write(&model).unwrap(), Push::Accepted(0));
        assert_eq!(writer.write(&[1; 3000]).unwrap(), Push::Lost(3000));
        model.resize(ALL + 3000, SILENCE);

        let end = writer.seek(SeekFrom::End(0)).unwrap();
        assert_eq!(end, model.len() as u64);
        writer.seek(SeekFrom::Start(end + 500)).unwrap();
        writer.write_all(b"behind a gap").unwrap();
        model.resize(ALL + 3500, 0);
        model.extend(b"behind a gap");

        writer.seek(SeekFrom::Start(end - 100)).unwrap();
        writer.write_all(b"over fill bytes").unwrap();
        model[end as usize - 100..][..15].copy_from_slice(b"over fill bytes");
        writer.close().unwrap();
        assert_file(&path, &model, &"seek under fill");
    });
}

#[test]
fn a_loss_at_the_end_is_filled_by_close() {
    both(OnFull::Fill(SILENCE), |mut face, path| {
        let mut model = bytes(1, ALL);
        assert_eq!(face.write(&model).unwrap(), Push::Accepted(0));
        for _ in 0..10 {
            assert_eq!(face.write(&[1; 3000]).unwrap(), Push::Lost(3000));
            model.extend([SILENCE; 3000]);
        }
        face.close();
        assert_file(path, &model, &"fill at close");
    });
}

#[test]
fn a_loss_at_the_end_is_filled_by_dropping_the_writer() {
    both(OnFull::Fill(SILENCE), |mut face, path| {
        let mut model = bytes(1, ALL);
        assert_eq!(face.write(&model).unwrap(), Push::Accepted(0));
        assert_eq!(face.write(&[1; 3000]).unwrap(), Push::Lost(3000));
        model.extend([SILENCE; 3000]);
        drop(face);
        assert_file(path, &model, &"fill at drop");
    });
}

#[test]
fn a_flush_under_fill_lays_down_the_loss_first() {
    both(OnFull::Fill(SILENCE), |mut face, path| {
        let mut model = bytes(1, ALL);
        assert_eq!(face.write(&model).unwrap(), Push::Accepted(0));
        assert_eq!(face.write(&[1; 3000]).unwrap(), Push::Lost(3000));
        model.extend([SILENCE; 3000]);
        let data = bytes(2, 5);
        assert_eq!(face.write_flush(&data).unwrap(), model.len() as u64 + 5);
        model.extend(data);
        face.close();
        assert_file(path, &model, &"write_flush under fill");
    });
}

#[test]
fn a_long_loss_is_filled_a_little_a_call() {
    let directory = common::directory();
    let path = directory.path().join("take");
    let options = Config::STILL.options().buffer_size(1 << 20).on_full(OnFull::Fill(SILENCE));
    let mut writer = options.create(&path).unwrap();
    assert_eq!(writer.write(b"begin").unwrap(), Push::Accepted(0));
    writer.lose(200_000);
    assert_losses(&writer, &[(5, 200_000)]);
    let mut calls = 0;
    let at = loop {
        calls += 1;
        match writer.try_write(b"end") {
            Ok(position) => break position,
            Err(Error::Full { offered: 3, free: 0 }) => assert!(calls < 5),
            Err(error) => panic!("{error}"),
        }
        let filled = writer.positions().accepted - 5;
        assert_eq!(filled, calls * (64 << 10), "no more than 64 KiB a call");
    };
    assert_eq!((calls, at), (4, 200_005));
    assert_eq!(writer.close().unwrap().stats.writes, 2, "filling is no call");
    assert_file(&path, &[&b"begin"[..], &[SILENCE; 200_000], b"end"].concat(), &"a long loss");
}

#[test]
fn a_loss_before_the_first_byte_is_filled_too() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.options().on_full(OnFull::Fill(SILENCE)).create(&path).unwrap();
        writer.lose(10);
        assert_eq!(writer.write(b"abc").unwrap(), Push::Accepted(10));
        writer.close().unwrap();
        assert_file(&path, &[&[SILENCE; 10], &b"abc"[..]].concat(), &config);
        let mut writer = config.options().on_full(OnFull::Fill(SILENCE)).create(&path).unwrap();
        writer.lose(20_000);
        drop(writer);
        assert_file(&path, &[SILENCE; 20_000], &config);
    });
}

#[test]
fn lose_under_other_policies_only_counts() {
    for policy in [OnFull::Block, OnFull::Fail, OnFull::Drop] {
        each_config(move |config, directory| {
            let path = directory.join("take");
            let mut writer = config.options().on_full(policy).create(&path).unwrap();
            writer.lose(11);
            assert_eq!(writer.write(b"abc").unwrap(), Push::Accepted(0));
            writer.lose(22);
            writer.lose(1);
            assert_losses(&writer, &[(0, 11), (3, 23)]);
            writer.close().unwrap();
            assert_file(&path, b"abc", &config);
        });
    }
}
