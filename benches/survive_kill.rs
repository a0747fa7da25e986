//! What it costs that accepted bytes survive a kill: a ring in a file beside one in the heap, in turn,
//! with medians of each and of their ratios.

use std::path::Path;
use std::time::{Duration, Instant};

use writeflush::{BackendChoice, Drive, Options, Writer};
use writeflush_workloads::{FileState, scratch_dir, stream_through};

const ROUNDS: usize = 31;
const BUFFER: usize = 1 << 20;
const BUFFERS: usize = 8;
/// Pushed while nobody else runs: half of what has room.
const BURST: usize = BUFFER * BUFFERS / 2;
const BYTES: u64 = 256 << 20;

fn options(ring: Option<&Path>) -> Options {
    let options = Options::new().buffer_size(BUFFER).buffers(BUFFERS);
    ring.map_or_else(|| options.clone(), |ring| options.clone().survive_kill(ring))
}

/// A burst of pushes into room, the time of one in nanoseconds.
fn pushes(writer: &mut Writer, record: &[u8]) -> f64 {
    let count = BURST / record.len();
    let start = Instant::now();
    for _ in 0..count {
        writer.try_write(std::hint::black_box(record)).expect("room");
    }
    let took = start.elapsed();
    let _ = writer.flush().expect("a flush");
    took.as_secs_f64() * 1e9 / count as f64
}

fn stream(options: &Options, path: &Path) -> Duration {
    let mut writer = options.open(path).expect("the writer opens");
    let start = Instant::now();
    stream_through(&mut writer, 64 << 10, BYTES).expect("a stream");
    start.elapsed()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Both in turn: the medians, and the median of what the second is beside the first.
fn in_turn(mut heap: impl FnMut() -> f64, mut ring: impl FnMut() -> f64) -> [f64; 3] {
    let (mut all, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    for _ in 0..ROUNDS {
        let round = [heap(), ring()];
        all.iter_mut().zip(round).for_each(|(all, value)| all.push(value));
        ratios.push(round[1] / round[0]);
    }
    let [heap, ring] = all.map(median);
    [heap, ring, median(ratios)]
}

fn main() {
    let scratch = tempfile::tempdir_in(scratch_dir()).expect("a scratch folder");
    let memory = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let (name, path) = (memory.path().join("ring"), scratch.path().join("take"));
    for len in [16, 64, 256, 4096] {
        let still = |ring: Option<&Path>, path: &str| {
            let options = options(ring).backend(BackendChoice::Sync).drive(Drive::Caller);
            options.create(memory.path().join(path)).expect("the writer opens")
        };
        let (mut heap, mut ring) = (still(None, "heap"), still(Some(&name), "mapped"));
        let record = vec![7; len];
        let [heap, ring, ratio] =
            in_turn(|| pushes(&mut heap, &record), || pushes(&mut ring, &record));
        println!(
            "push of {len} bytes: heap {heap:.2} ns, ring file {ring:.2} ns, {ratio:.3} times"
        );
    }
    FileState::Written.prepare(&path, BYTES).expect("a prepared file");
    for backend in [BackendChoice::Uring, BackendChoice::Sync] {
        let rate = |ring| {
            let took = stream(&options(ring).backend(backend), &path);
            BYTES as f64 / took.as_secs_f64() / 1e6
        };
        let [heap, ring, ratio] = in_turn(|| rate(None), || rate(Some(&name)));
        println!("{backend:?}: heap {heap:.0} MB/s, ring file {ring:.0} MB/s, {ratio:.3} times");
    }
}
