//! What a push costs its thread, in bytes/s: exclusive and shared, beside a plain copy into memory
//! of the same size.
//!
//! The file lies in memory where it can (`/dev/shm`), so that the device does not set the pace;
//! a push that finds no room waits for the driver, and that is in the figure.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use writeflush::{Drive, Options, Writer};

const BUFFER: usize = 1 << 20;
const BUFFERS: usize = 8;
const SIZES: [usize; 5] = [16, 256, 1 << 10, 4 << 10, 64 << 10];
/// A new file after so many bytes, so that memory holds it.
const LAP: u64 = 256 << 20;

fn folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.into() } else { std::env::temp_dir() }
}

fn open(path: &Path) -> Writer {
    let options = Options::new().buffer_size(BUFFER).buffers(BUFFERS).drive(Drive::Poll);
    options.create(path).expect("the writer opens")
}

fn push(criterion: &mut Criterion) {
    let scratch = tempfile::tempdir_in(folder()).expect("a scratch folder");
    let path = scratch.path().join("push");
    let mut group = criterion.benchmark_group("push");
    for size in SIZES {
        let record = vec![7u8; size];
        group.throughput(Throughput::Bytes(size as u64));

        let mut memory = vec![1u8; BUFFER * BUFFERS];
        let mut at = 0;
        group.bench_function(BenchmarkId::new("memcpy", size), |bencher| {
            bencher.iter(|| {
                at = (at + size) % (memory.len() - size);
                black_box(&mut memory[at..at + size]).copy_from_slice(black_box(&record));
            });
        });

        let mut writer = open(&path);
        group.bench_function(BenchmarkId::new("exclusive", size), |bencher| {
            bencher.iter(|| {
                let _ = writer.write(black_box(&record)).expect("a write");
                if writer.positions().accepted >= LAP {
                    writer = open_again(&path);
                }
            });
        });
        drop(writer);

        let mut writer = open(&path).into_shared();
        group.bench_function(BenchmarkId::new("shared", size), |bencher| {
            bencher.iter(|| {
                let at = writer.write(black_box(&record)).expect("a write").position();
                if at.is_some_and(|at| at >= LAP) {
                    writer = open_again(&path).into_shared();
                }
            });
        });
    }
    group.finish();
}

/// The old writer still holds its lock on the old file: the new one gets a new file.
fn open_again(path: &Path) -> Writer {
    std::fs::remove_file(path).expect("the file is there");
    open(path)
}

criterion_group!(benches, push);
criterion_main!(benches);
