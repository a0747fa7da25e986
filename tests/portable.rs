//! The contract where nothing but std is to be had: the sync backend through the page cache. Runs
//! on every platform.

use std::time::Duration;

use writeflush::{Backend, BackendChoice, Direct, Drive, Error, OnFull, Options, Push};

fn portable() -> Options {
    Options::new().backend(BackendChoice::Sync).direct(Direct::Off).buffer_size(8192)
}

#[test]
fn every_drive_writes_flushes_patches_and_trims() {
    let dir = tempfile::tempdir().unwrap();
    for drive in [Drive::Caller, Drive::Thread, Drive::Poll] {
        let path = dir.path().join(format!("{drive:?}"));
        let mut writer = portable().drive(drive).create(&path).unwrap();
        assert_eq!(writer.backend(), Backend::Sync);
        let mut model = Vec::new();
        for (index, len) in [1, 511, 4096, 4097, 8191, 8193, 50_000].into_iter().enumerate() {
            let bytes = vec![index as u8 + 1; len];
            model.extend_from_slice(&bytes);
            assert!(matches!(writer.write(&bytes).unwrap(), Push::Accepted(_)));
            assert_eq!(writer.flush().unwrap(), model.len() as u64);
            assert_eq!(writer.positions().durable, model.len() as u64);
        }
        writer.patch(4090, b"across a block").unwrap();
        model[4090..4104].copy_from_slice(b"across a block");
        let summary = writer.close().unwrap();
        assert_eq!(summary.positions.durable, model.len() as u64);
        assert_eq!(std::fs::read(&path).unwrap(), model, "{drive:?}");
    }
}

#[test]
fn many_producers_share_one_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shared");
    let writer = portable().create(&path).unwrap().into_shared();
    std::thread::scope(|scope| {
        for byte in 1..=4u8 {
            let writer = writer.clone();
            scope.spawn(move || {
                for _ in 0..200 {
                    assert!(matches!(writer.write(&[byte; 100]).unwrap(), Push::Accepted(_)));
                }
                writer.write_flush(&[byte; 7]).unwrap();
            });
        }
    });
    writer.close().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 4 * (200 * 100 + 7));
    for byte in 1..=4 {
        assert_eq!(bytes.iter().filter(|&&b| b == byte).count(), 200 * 100 + 7);
    }
}

#[test]
fn a_full_writer_says_so_and_a_second_writer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("full");
    // The caller drives, and no call waits: the buffers fill up for certain.
    let options = portable().drive(Drive::Caller).on_full(OnFull::Drop);
    let mut writer = options.create(&path).unwrap();
    let second = options.clone().lock_wait(Duration::ZERO).create(&path);
    assert!(matches!(second, Err(Error::Locked { .. })));
    let mut lost = 0;
    for _ in 0..5 {
        if let Push::Lost(bytes) = writer.write(&[1; 4096]).unwrap() {
            lost += bytes;
        }
    }
    assert!(matches!(writer.try_write(&[1; 4096]), Err(Error::Full { .. })));
    let summary = writer.close().unwrap();
    assert_eq!((lost, summary.stats.overrun_bytes), (4096, 4096));
    assert_eq!(summary.overruns[0].position, 16384);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 16384);
}
