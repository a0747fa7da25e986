//! What `write_flush` of 4 KiB costs beside the same system calls written out by hand, and beside
//! `BufWriter` + `sync_data`.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use writeflush::{BackendChoice, Direct, Drive, FenceForm, Options, Writer};
use writeflush_workloads::floor::{Calls, Floor};
use writeflush_workloads::{Arms, FileState};

use super::{Row, Scratch, row};

const RECORD: usize = 4096;
const PER_LAP: usize = 250;
const LAPS: usize = 12;

type Arm = Box<dyn FnMut(&[u8])>;

fn ours(path: &Path, backend: BackendChoice, form: FenceForm) -> Arm {
    let mut writer: Writer = Options::new()
        .backend(backend)
        .direct(Direct::On)
        .drive(Drive::Caller)
        .fence_form(form)
        .open(path)
        .expect("the writer opens");
    Box::new(move |bytes| {
        writer.write_flush(bytes).expect("a flush");
    })
}

fn floor(path: &Path, calls: Calls) -> Arm {
    let mut floor = Floor::open(path, calls, true, RECORD).expect("the floor opens");
    Box::new(move |bytes| floor.write_flush(bytes).expect("a flush"))
}

fn bufwriter(path: &Path) -> Arm {
    let file = OpenOptions::new().write(true).open(path).expect("the file opens");
    let mut writer = BufWriter::new(file);
    Box::new(move |bytes| {
        writer.write_all(bytes).expect("a write");
        writer.flush().expect("a flush");
        writer.get_ref().sync_data().expect("a sync");
    })
}

/// Arms take turns operation by operation; after each lap every arm moves on to the next file, so
/// that no arm keeps a lucky one.
pub fn run(scratch: &Scratch) -> Vec<Row> {
    type Open = fn(&Path) -> Arm;
    let makers: [(&str, Open); 8] = [
        ("io_uring", |path| ours(path, BackendChoice::Uring, FenceForm::Auto)),
        ("its floor, io_uring write RWF_DSYNC", |path| floor(path, Calls::UringDsync)),
        ("io_uring linked", |path| ours(path, BackendChoice::Uring, FenceForm::Link)),
        ("its floor, io_uring write → fdatasync", |path| floor(path, Calls::UringLinked)),
        ("sync", |path| ours(path, BackendChoice::Sync, FenceForm::Auto)),
        ("its floor, pwritev2 RWF_DSYNC", |path| floor(path, Calls::DsyncWrite)),
        ("BufWriter + sync_data", bufwriter),
        ("A/A: its floor, io_uring write RWF_DSYNC", |path| floor(path, Calls::UringDsync)),
    ];
    let paths: Vec<_> = (0..makers.len()).map(|i| scratch.path(&format!("flush-{i}"))).collect();
    for path in &paths {
        FileState::Written.prepare(path, (RECORD * PER_LAP) as u64).expect("a prepared file");
    }
    let mut arms = Arms::new(makers.len(), 0x5eed);
    let bytes = vec![7u8; RECORD];
    for lap in 0..LAPS {
        let path = |arm: usize| &paths[(arm + lap) % paths.len()];
        let mut open: Vec<Arm> =
            makers.iter().enumerate().map(|(arm, (_, open))| open(path(arm))).collect();
        for _ in 0..PER_LAP {
            for arm in arms.order() {
                let start = Instant::now();
                open[arm](&bytes);
                arms.add(arm, start.elapsed().as_nanos() as f64 / 1000.0);
            }
        }
    }
    let p50 = |arm: usize| format!("{:.0} µs", arms.quantile(arm, 0.5));
    let versus = |of: usize, to: usize, bar: &str| {
        let name = format!(
            "write_flush 4 KiB, {} ({}) / {} ({}), p50",
            makers[of].0,
            p50(of),
            makers[to].0,
            p50(to)
        );
        row(name, arms.ratio(of, to, 0.5).to_string(), bar)
    };
    vec![
        versus(0, 1, "≤ 1.05"),
        versus(2, 3, "≤ 1.05"),
        versus(4, 5, "≤ 1.05"),
        versus(0, 6, "≤ 1"),
        versus(4, 6, "≤ 1"),
        versus(7, 1, "the noise of this run: 1"),
    ]
}
