//! Bytes to durable with two buffers of 4 MiB, beside a hand-written loop of the same depth that
//! copies nothing.

use std::path::Path;
use std::time::Instant;

use writeflush::{BackendChoice, Direct, Drive, Options};
use writeflush_workloads::{Arms, FileState, floor};

use super::{Row, Scratch, row};

const BUFFER: usize = 4 << 20;
const PIECES: u64 = 64;
const RECORD: usize = 64 << 10;
const ROUNDS: usize = 40;

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

pub fn run(scratch: &Scratch) -> Vec<Row> {
    let path = scratch.path("throughput");
    FileState::Written.prepare(&path, PIECES * BUFFER as u64).expect("a prepared file");
    let drives = [Drive::Caller, Drive::Thread, Drive::Poll];
    let mut arms = Arms::new(1 + drives.len(), 0x5eed);
    for _ in 0..ROUNDS {
        for arm in arms.order() {
            let start = Instant::now();
            if arm == 0 {
                floor::stream(&path, BUFFER, 2, PIECES).expect("the floor");
            } else {
                ours(&path, drives[arm - 1]);
            }
            let bytes = PIECES as f64 * BUFFER as f64;
            arms.add(arm, bytes / start.elapsed().as_secs_f64() / 1e6);
        }
    }
    let rate = |arm: usize| format!("{:.0} MB/s", arms.quantile(arm, 0.5));
    let versus = |arm: usize| {
        let drive = format!("{:?}", drives[arm - 1]);
        let name = format!("to durable, 2 × 4 MiB, {drive} ({}) / floor ({})", rate(arm), rate(0));
        row(name, arms.ratio(arm, 0, 0.5).to_string(), "≥ 0.97 (one drive mode)")
    };
    (1..=drives.len()).map(versus).collect()
}
