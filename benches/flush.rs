//! What a durable write costs: `write_flush` by backend, size and file state, each beside the same
//! system calls written out by hand.
//!
//! Criterion runs one after the other, so compare figures of one group with care: the device
//! drifts. `cargo bench --bench claims` interleaves.

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use writeflush_workloads::subject::{self, Kind, Place, Subject};
use writeflush_workloads::{FileState, scratch_dir};

const SIZES: [usize; 4] = [4 << 10, 16 << 10, 128 << 10, 1 << 20];
/// Bytes of a file; a bench gets a new one when they are used up.
const FILE: u64 = 64 << 20;

const SUBJECTS: [&str; 6] = [
    "writeflush io_uring caller",
    "writeflush sync caller",
    "floor io_uring write DSYNC",
    "floor io_uring write→fdatasync",
    "floor pwritev2 DSYNC",
    "floor pwrite+fdatasync",
];

/// Commits until the file is full; then another one takes its place, and the clock stands still.
struct Commits<'a> {
    kind: &'a Kind,
    path: &'a Path,
    state: FileState,
    record: &'a [u8],
    open: Option<Box<dyn Subject>>,
    left: u64,
}

impl Commits<'_> {
    fn run(&mut self, times: u64) -> Duration {
        (0..times).map(|_| self.one()).sum()
    }

    fn one(&mut self) -> Duration {
        if self.left == 0 {
            self.open = None; // closed before another is opened
            self.left = FILE / self.record.len() as u64;
            let (record, commits) = (self.record.len(), self.left);
            let (path, state) = (self.path, self.state);
            let place = Place { path, state, committers: 1, record, direct: true, commits };
            state.prepare(path, FILE).expect("a prepared file");
            self.open = Some((self.kind.open)(&place).expect("it opens"));
        }
        self.left -= 1;
        let subject = self.open.as_ref().expect("it is open");
        let start = Instant::now();
        subject.commit(0, self.record).expect("a commit");
        start.elapsed()
    }
}

fn flush(criterion: &mut Criterion) {
    let scratch = tempfile::tempdir_in(scratch_dir()).expect("a scratch folder");
    let path = scratch.path().join("flush");
    let kinds: Vec<Kind> =
        subject::kinds().into_iter().filter(|kind| SUBJECTS.contains(&kind.name)).collect();
    for state in FileState::ALL {
        let mut group = criterion.benchmark_group(format!("write_flush/{}", state.name()));
        group.sample_size(20);
        for size in SIZES {
            group.throughput(Throughput::Bytes(size as u64));
            let record = vec![3u8; size];
            for kind in &kinds {
                let (path, record) = (path.as_path(), record.as_slice());
                let mut commits = Commits { kind, path, state, record, open: None, left: 0 };
                group.bench_function(BenchmarkId::new(kind.name, size), |bencher| {
                    bencher.iter_custom(|times| commits.run(times));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, flush);
criterion_main!(benches);
