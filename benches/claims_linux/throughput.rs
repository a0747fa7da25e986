//! Bytes to durable with two buffers of 4 MiB, beside a hand-written loop of the same depth that
//! copies nothing.

use std::path::Path;
use std::time::Instant;

use writeflush::{BackendChoice, Direct, Drive, Options};
use writeflush_workloads::floor::{self, Aligned};
use writeflush_workloads::{Arms, FileState};

use super::{Row, Scratch, row};

const BUFFER: usize = 4 << 20;
const PIECES: u64 = 64;
const RECORD: usize = 64 << 10;
const ROUNDS: usize = 30;

fn ours(path: &Path, drive: Drive) {
    let mut writer = Options::new()
        .buffer_size(BUFFER)
        .buffers(2)
        .backend(BackendChoice::Uring)
        .direct(Direct::On)
        .drive(drive)
        .open(path)
        .expect("the writer opens");
    let record = vec![3u8; RECORD];
    for _ in 0..PIECES * BUFFER as u64 / RECORD as u64 {
        let _ = writer.write(&record).expect("a write");
    }
    writer.flush().expect("a flush");
}

/// Arms 0 and 1 are the floors, from ordinary and from huge pages; the writer's buffers are huge
/// where the system has any.
pub fn run(scratch: &Scratch) -> Vec<Row> {
    let path = scratch.path("throughput");
    FileState::Written.prepare(&path, PIECES * BUFFER as u64).expect("a prepared file");
    let drives = [Drive::Caller, Drive::Thread, Drive::Poll];
    let mut arms = Arms::new(2 + drives.len(), 0x5eed);
    for _ in 0..ROUNDS {
        for arm in arms.order() {
            let start = Instant::now();
            match arm {
                0 => floor::stream(&path, Aligned::new(2 * BUFFER), BUFFER, 2, PIECES).expect("it"),
                1 => {
                    floor::stream(&path, Aligned::huge(2 * BUFFER), BUFFER, 2, PIECES).expect("it")
                }
                _ => ours(&path, drives[arm - 2]),
            }
            let bytes = PIECES as f64 * BUFFER as f64;
            arms.add(arm, bytes / start.elapsed().as_secs_f64() / 1e6);
        }
    }
    let rate = |arm: usize| format!("{:.0} MB/s", arms.quantile(arm, 0.5));
    let mut rows = Vec::new();
    for (to, floor, bar) in [(0, "floor", "≥ 0.97"), (1, "floor in huge pages", "–")] {
        for (index, drive) in drives.iter().enumerate() {
            let of = index + 2;
            let name = format!(
                "to durable, 2 × 4 MiB, {drive:?} ({}) / {floor} ({}), p50",
                rate(of),
                rate(to)
            );
            rows.push(row(name, arms.ratio(of, to, 0.5).to_string(), bar));
        }
    }
    rows
}
