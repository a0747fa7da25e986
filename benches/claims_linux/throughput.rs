//! Bytes to durable with two buffers of 4 MiB, beside a hand-written loop of the same depth that
//! copies nothing.

use std::time::Instant;

use writeflush_workloads::{Arms, Centre, FileState, shuffled, stream_kinds};

use super::{Row, Scratch, row};

const BUFFER: usize = 4 << 20;
const BYTES: u64 = 64 * BUFFER as u64;
const ROUNDS: usize = 30;

/// The writer's buffers are in huge pages where the system has any.
pub fn run(scratch: &Scratch) -> Vec<Row> {
    let path = scratch.path("throughput");
    FileState::Written.prepare(&path, BYTES).expect("a prepared file");
    let names =
        ["floor", "floor in huge pages", "io_uring caller", "io_uring thread", "io_uring poll"];
    let kinds = names.map(|name| {
        stream_kinds().into_iter().find(|kind| kind.name.ends_with(name)).expect("it is built in")
    });
    let mut arms = Arms::new(kinds.len());
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..ROUNDS {
        for arm in shuffled(kinds.len(), &mut random) {
            let start = Instant::now();
            (kinds[arm].run)(&path, BUFFER, BYTES).expect("a stream");
            arms.add(arm, BYTES as f64 / start.elapsed().as_secs_f64() / 1e6);
        }
        arms.end_block();
    }
    let rate = |arm: usize| format!("{:.0} MB/s", arms.quantile(arm, 0.5));
    let mut rows = Vec::new();
    for (to, short, floor, bar) in
        [(0, "floor", "floor", "≥ 0.97"), (1, "huge", "floor in huge pages", "–")]
    {
        for (of, name) in names.iter().enumerate().skip(2) {
            let id = format!("throughput.{}/{short}", name.replace("io_uring ", ""));
            let name =
                format!("to durable, 2 × 4 MiB, {name} ({}) / {floor} ({})", rate(of), rate(to));
            let ratio = arms.ratio(of, to, Centre::Trimmed).expect("whole rounds");
            rows.push(row(id, name, ratio.to_string(), bar));
        }
    }
    rows
}
