//! Group commit: how many durable writes a second when fences are shared.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use writeflush::{Drive, Options, Ticket};
use writeflush_workloads::{Arms, Centre, FileState, shuffled};

use super::{Row, Scratch, row};

const STRETCH: Duration = Duration::from_millis(300);
const ROUNDS: usize = 15;
const RECORD: [u8; 256] = [1; 256];

fn options(drive: Drive) -> Options {
    Options::new().drive(drive)
}

/// Durable writes a second of `threads` threads that each call `write_flush` again and again.
fn committers(path: &Path, drive: Drive, threads: usize) -> f64 {
    let writer = options(drive).open(path).expect("the writer opens").into_shared();
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut mine = 0;
                while !stop.load(Ordering::Relaxed) {
                    writer.write_flush(&RECORD).expect("a flush");
                    mine += 1;
                }
                done.fetch_add(mine, Ordering::Relaxed);
            });
        }
        std::thread::sleep(STRETCH);
        stop.store(true, Ordering::Relaxed);
    });
    done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

/// Durable writes a second of one thread that keeps `outstanding` tickets.
fn tickets(path: &Path, outstanding: usize) -> f64 {
    let mut writer = options(Drive::Caller).open(path).expect("the writer opens");
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed() < STRETCH {
        let tickets: Vec<Ticket> = (0..outstanding)
            .map(|_| {
                let _ = writer.write(&RECORD).expect("a write");
                writer.fence()
            })
            .collect();
        for ticket in &tickets {
            ticket.wait().expect("a fence");
        }
        done += tickets.len();
    }
    done as f64 / start.elapsed().as_secs_f64()
}

pub fn run(scratch: &Scratch) -> Vec<Row> {
    let path = scratch.path("commit");
    FileState::Written.prepare(&path, 256 << 20).expect("a prepared file");
    let mut arms = Arms::new(6);
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..ROUNDS {
        for arm in shuffled(6, &mut random) {
            let per_second = match arm {
                0 => committers(&path, Drive::Caller, 1),
                1 => committers(&path, Drive::Caller, 4),
                2 => committers(&path, Drive::Caller, 16),
                3 => tickets(&path, 1000),
                4 => committers(&path, Drive::Thread, 1),
                _ => committers(&path, Drive::Thread, 16),
            };
            arms.add(arm, per_second);
        }
        arms.end_block();
    }
    let rate = |arm: usize| format!("{:.0}/s", arms.quantile(arm, 0.5));
    let versus = |id: &str, arm: usize, lone: usize, who: &str, bar: &str| {
        let name = format!("256 B durable, {who} ({}) / 1 thread ({})", rate(arm), rate(lone));
        let ratio = arms.ratio(arm, lone, Centre::Trimmed).expect("whole rounds");
        row(format!("commit.{id}"), name, ratio.to_string(), bar)
    };
    vec![
        versus("caller.4", 1, 0, "Caller, 4 threads", "–"),
        versus("caller.16", 2, 0, "Caller, 16 threads", "≥ 8"),
        versus("caller.tickets", 3, 0, "Caller, 1,000 tickets of one thread", "≥ 100"),
        versus("thread.16", 5, 4, "Thread, 16 threads", "–"),
    ]
}
