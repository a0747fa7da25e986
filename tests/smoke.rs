//! First light.

use writeflush::*;
#[test]
fn smoke() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for backend in [BackendChoice::Uring, BackendChoice::Sync] {
        for direct in [Direct::On, Direct::Off] {
            for drive in [Drive::Caller, Drive::Thread, Drive::Poll] {
                eprintln!("{backend:?} {direct:?} {drive:?}");
                let path = dir.path().join("x");
                let mut w = Options::new()
                    .buffer_size(8192)
                    .backend(backend)
                    .direct(direct)
                    .drive(drive)
                    .create(&path)
                    .unwrap();
                let mut model = Vec::new();
                for (i, n) in
                    [1usize, 511, 512, 4095, 4096, 4097, 8191, 8192, 8193, 3 * 16384, 100000]
                        .into_iter()
                        .enumerate()
                {
                    let b = vec![i as u8 + 1; n];
                    if i % 2 == 0 {
                        let _ = w.write(&b).unwrap();
                    } else {
                        assert_eq!(w.write_flush(&b).unwrap(), (model.len() + n) as u64);
                    }
                    model.extend_from_slice(&b);
                    if i == 3 {
                        w.patch(2, b"hello").unwrap();
                        model[2..7].copy_from_slice(b"hello");
                    }
                    if i == 5 {
                        w.checkpoint(4000, |_| vec![9; 300]).unwrap();
                        model[4000..4300].fill(9);
                    }
                }
                let s = w.close().unwrap();
                assert_eq!(
                    std::fs::read(&path).unwrap(),
                    model,
                    "{backend:?} {direct:?} {drive:?}"
                );
                println!("{backend:?} {direct:?} {drive:?} {} {:?}", s.durability, s.stats);
            }
        }
    }
}
