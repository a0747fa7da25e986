//! Bytes/s to durable: 64 MiB pushed in records of 64 KiB and fenced at the end, by backend,
//! number of buffers and their size, into a file that was written before.

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use writeflush::{BackendChoice, Options};
use writeflush_workloads::{FileState, scratch_dir, stream_through};

const BYTES: u64 = 64 << 20;
const RECORD: usize = 64 << 10;

/// Pushes and fences once; open and close are left out.
fn lap(options: &Options, path: &Path) -> Duration {
    let mut writer = options.open(path).expect("the writer opens");
    let start = Instant::now();
    stream_through(&mut writer, RECORD, BYTES).expect("a stream");
    start.elapsed()
}

fn throughput(criterion: &mut Criterion) {
    let scratch = tempfile::tempdir_in(scratch_dir()).expect("a scratch folder");
    let path = scratch.path().join("throughput");
    FileState::Written.prepare(&path, BYTES).expect("a prepared file");
    for backend in [BackendChoice::Uring, BackendChoice::Sync] {
        let mut group = criterion.benchmark_group(format!("to durable/{backend:?}"));
        group.throughput(Throughput::Bytes(BYTES)).sample_size(10);
        for buffers in [2, 4, 8] {
            for size in [256 << 10, 1 << 20, 4 << 20] {
                let options = Options::new().backend(backend).buffers(buffers).buffer_size(size);
                let name = BenchmarkId::new(format!("{buffers} buffers"), size);
                group.bench_function(name, |bencher| {
                    bencher.iter_custom(|times| (0..times).map(|_| lap(&options, &path)).sum());
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, throughput);
criterion_main!(benches);
