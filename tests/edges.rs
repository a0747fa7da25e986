//! Numbers at the ends of their range, and what is left of a writer when it is closed.
#![allow(unsafe_code)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(unix)]
use common::skip;
use common::{Config, child_succeeds, child_task, configs, each_config, watched};
use writeflush::{Error, OnFull, Operation, Options, Overrun};

/// Bytes that are allocated.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::SeqCst);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// README, 9; in a process of its own, where nobody else allocates.
#[test]
fn a_writer_takes_its_buffers_a_512th_of_them_and_less_than_a_mebibyte() {
    const TEST: &str = "a_writer_takes_its_buffers_a_512th_of_them_and_less_than_a_mebibyte";
    if child_task().is_none() {
        return child_succeeds(TEST, "alone", |_| {});
    }
    for (size, count) in [(4096, 2), (1 << 20, 2), (1 << 20, 64), (64 << 20, 4)] {
        for config in configs() {
            let directory = common::directory();
            let before = ALLOCATED.load(Ordering::SeqCst);
            let options = config.options().buffer_size(size).buffers(count);
            let writer = options.create(directory.path().join("take")).unwrap().into_shared();
            let beside = ALLOCATED.load(Ordering::SeqCst) - before - size * count;
            let limit = (1 << 20) + size * count / 512;
            assert!(beside < limit, "{config}: {beside} bytes beside {count} buffers of {size}");
            writer.close().unwrap();
        }
    }
}

/// Of this process, in bytes.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[cfg(target_os = "linux")]
#[test]
fn a_handle_that_outlives_the_close_keeps_no_buffers() {
    const TEST: &str = "a_handle_that_outlives_the_close_keeps_no_buffers";
    const RING: usize = 64 << 20;
    if child_task().is_none() {
        return child_succeeds(TEST, "alone", |_| {});
    }
    for config in configs() {
        watched(&config.to_string(), move || {
            let directory = common::directory();
            let options = config.options().buffer_size(RING / 2);
            let mut writer = options.create(directory.path().join("take")).unwrap();
            writer.write_flush(&[7; 100_000]).unwrap();
            let (control, ticket) = (writer.control().clone(), writer.fence());
            let open = resident();
            writer.close().unwrap();
            let closed = resident();
            assert!(open > closed + RING / 4 * 3, "{config}: {open} bytes, then {closed}");
            assert_eq!(control.positions().durable, 100_000);
            assert!(control.stats().flushes > 0 && control.error().is_none());
            assert!(ticket.is_durable().unwrap());
            assert!(matches!(control.patch(0, b"x"), Err(Error::Closed)), "{config}");
        });
    }
}

#[test]
fn losses_of_nothing_and_of_everything_are_counted_right() {
    let all = (usize::MAX as u64).saturating_mul(2); // of 64 bits: a count stops at its end
    let directory = common::directory();
    for policy in [OnFull::Drop, OnFull::Fill(0)] {
        for shares in [false, true] {
            let options = Config::STILL.options().on_full(policy);
            let name = format!("{policy:?} {shares}"); // each keeps its lock
            let mut writer = options.create(directory.path().join(name)).unwrap();
            writer.lose(0);
            writer.write_flush(&[1]).unwrap();
            writer.lose(0);
            assert_eq!((writer.stats().overruns, writer.overruns().len()), (0, 0));
            let control = writer.control().clone();
            if shares {
                let writer = writer.into_shared();
                (0..2).for_each(|_| writer.lose(usize::MAX));
                std::mem::forget(writer); // whose debt of all there is would be laid down
            } else {
                (0..2).for_each(|_| writer.lose(usize::MAX));
                std::mem::forget(writer);
            }
            let stats = control.stats();
            assert_eq!((stats.overruns, stats.overrun_bytes), (1, all), "{policy:?}");
            let [Overrun { position: 1, bytes, .. }] = control.overruns()[..] else {
                panic!("{policy:?}: {:?}", control.overruns());
            };
            assert_eq!(bytes, all, "{policy:?}");
        }
    }
}

/// Positions have 63 bits; a file may be as long as that, if it is sparse.
#[cfg(target_os = "linux")]
#[test]
fn an_append_near_the_end_of_all_positions_is_refused() {
    const TEST: &str = "an_append_near_the_end_of_all_positions_is_refused";
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else {
        return common::skip(TEST, "no /dev/shm");
    };
    let path = directory.path().join("take");
    for len in [i64::MAX as u64, i64::MAX as u64 - 8191, (1 << 62) + 1] {
        let file = std::fs::File::create(&path).unwrap();
        if file.set_len(len).is_err() {
            return common::skip(TEST, "no file system with files so long");
        }
        let error = Options::new().append(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge, "{error}");
        assert!(matches!(error, Error::Io { operation: Operation::Open, .. }));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), len);
    }
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(1 << 62).unwrap();
    let mut writer = Options::new().append(&path).unwrap();
    assert_eq!(writer.write_flush(&[7; 10]).unwrap(), (1 << 62) + 10);
    writer.close().unwrap();
}

#[cfg(unix)]
fn has_holes() -> bool {
    use std::os::unix::fs::MetadataExt;
    let file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.set_len(1 << 20).unwrap();
    file.metadata().unwrap().blocks() * 512 < 1 << 20
}

#[test]
fn a_long_gap_is_the_hole_that_a_file_would_leave() {
    use std::io::{Seek, SeekFrom, Write};
    const FAR: u64 = (3 << 30) + 123;
    #[cfg(unix)]
    if !has_holes() {
        let test = "a_long_gap_is_the_hole_that_a_file_would_leave";
        return skip(test, "the file system has no holes");
    }
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.create(&path);
        let control = writer.control().clone();
        writer.write_all(b"start").unwrap();
        let before = writer.fence();
        writer.seek(SeekFrom::Start(FAR)).unwrap();
        assert_eq!(Write::write(&mut writer, b"").unwrap(), 0);
        assert_eq!(writer.positions().accepted, 5, "{config}: no byte, no gap");
        writer.write_all(b"far").unwrap();
        let now = control.positions();
        assert!(now.accepted == FAR + 3 && now.written >= FAR, "{config}: {now:?}");
        assert_eq!(before.wait().unwrap(), 5);
        control.patch(1 << 30, b"patched").unwrap();
        assert_eq!(writer.flush().unwrap(), FAR + 3);
        let summary = writer.close().unwrap();
        assert_eq!((summary.stats.bytes, summary.stats.gap_bytes), (8, FAR - 5), "{config}");
        assert_eq!(summary.file_len, Some(FAR + 3));

        let mut file = std::fs::File::open(&path).unwrap();
        let mut read = |at, wanted: &[u8]| {
            let mut found = vec![1; wanted.len()];
            file.seek(SeekFrom::Start(at)).unwrap();
            std::io::Read::read_exact(&mut file, &mut found).unwrap();
            assert_eq!(found, wanted, "{config}");
        };
        read(0, &[b"start", &[0; 9000][..]].concat());
        read((1 << 30) - 9, b"\0\0\0\0\0\0\0\0\0patched\0\0");
        read(FAR - 9000, &[&[0; 9000][..], b"far"].concat());
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let metadata = file.metadata().unwrap();
            assert_eq!(metadata.len(), FAR + 3, "{config}");
            assert!(metadata.blocks() * 512 <= 1 << 20, "{config}: the gap takes space");
        }
    });
}

/// As from a `File`; `patch` and `flush` go on.
#[test]
fn a_gap_that_can_not_be_made_takes_nothing_and_harms_nobody() {
    use std::io::{Seek, SeekFrom, Write};
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.create(&path);
        writer.write_all(b"start").unwrap();
        for position in [(1 << 62) + 1, i64::MAX as u64] {
            writer.seek(SeekFrom::Start(position)).unwrap();
            let error = writer.write_all(b"x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::FileTooLarge, "{config}: {error}");
            assert!(error.to_string().contains("at most 4611686018427387904"), "{error}");
            assert_eq!(writer.positions().accepted, 5, "{config}");
        }
        assert!(writer.seek(SeekFrom::Start(1 << 63)).is_err());
        assert!(writer.seek(SeekFrom::Current(i64::MAX)).is_err());
        writer.seek(SeekFrom::End(0)).unwrap();
        writer.write_all(b", end").unwrap();
        writer.patch(0, b"S").unwrap();
        writer.flush().unwrap();
        writer.close().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"Start, end", "{config}");
    });
}
