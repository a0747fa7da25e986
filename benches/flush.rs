//! What a durable write costs: `write_flush` by backend, size and file state, each beside the same
//! system calls written out by hand.
//!
//! Criterion runs one after the other, so compare figures of one group with care: the device
//! drifts. `cargo bench --bench claims` interleaves.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use writeflush::{BackendChoice, Drive, Options, Writer};
use writeflush_workloads::{FileState, scratch_dir};

const SIZES: [usize; 4] = [4 << 10, 16 << 10, 128 << 10, 1 << 20];
/// Bytes prepared in a file; a bench starts again at its beginning when they are used up.
const FILE: u64 = 64 << 20;

/// Opens for the state: a growing file starts empty each time.
fn open(options: &Options, path: &std::path::Path, state: FileState) -> Writer {
    let writer = match state {
        FileState::Growing => options.create(path),
        FileState::Reserved | FileState::Written => options.open(path),
    };
    writer.expect("the writer opens")
}

fn flush(criterion: &mut Criterion) {
    let scratch = tempfile::tempdir_in(scratch_dir()).expect("a scratch folder");
    let path = scratch.path().join("flush");
    for state in FileState::ALL {
        let mut group = criterion.benchmark_group(format!("write_flush/{}", state.name()));
        group.sample_size(20);
        for size in SIZES {
            group.throughput(Throughput::Bytes(size as u64));
            let record = vec![3u8; size];
            for backend in [BackendChoice::Uring, BackendChoice::Sync] {
                let options = Options::new()
                    .backend(backend)
                    .drive(Drive::Caller)
                    .buffer_size(size.max(1 << 20));
                state.prepare(&path, FILE).expect("a prepared file");
                let mut writer = Some(open(&options, &path, state));
                group.bench_function(BenchmarkId::new(format!("{backend:?}"), size), |bencher| {
                    bencher.iter(|| {
                        let open_writer = writer.as_mut().expect("open");
                        let durable = open_writer.write_flush(&record).expect("a flush");
                        if durable + size as u64 > FILE {
                            writer = None; // closed before it is opened again
                            writer = Some(open(&options, &path, state));
                        }
                    });
                });
            }
            #[cfg(target_os = "linux")]
            floors(&mut group, &path, state, &record);
        }
        group.finish();
    }
}

#[cfg(target_os = "linux")]
fn floors(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    path: &std::path::Path,
    state: FileState,
    record: &[u8],
) {
    use writeflush_workloads::floor::{Calls, Floor};
    for calls in [Calls::UringDsync, Calls::UringLinked, Calls::DsyncWrite, Calls::WriteThenSync] {
        state.prepare(path, FILE).expect("a prepared file");
        let mut floor = Floor::open(path, calls, true, record.len()).expect("the floor opens");
        let mut left = FILE / record.len() as u64;
        let name = BenchmarkId::new(format!("floor {calls:?}"), record.len());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                floor.write_flush(record).expect("a flush");
                left -= 1;
                if left == 0 && state != FileState::Growing {
                    floor.rewind();
                    left = FILE / record.len() as u64;
                }
                left = left.max(1);
            });
        });
    }
}

criterion_group!(benches, flush);
criterion_main!(benches);
