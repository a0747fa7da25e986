//! What a producer and its fences feel of a rotation, at a rate that keeps the disk busy.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use writeflush::Options;
use writeflush::segments::{self, Control};
use writeflush_workloads::{Arms, Centre, quantile, shuffled};

use super::{Row, Scratch, row};

const RATE: u64 = 500_000_000;
const RECORD: usize = 256 << 10;
const BUFFERS: (usize, usize) = (8 << 20, 4);
/// A rotation each half second.
const SEGMENT: u64 = 256 << 20;
const TURN: Duration = Duration::from_secs(2);
const FENCE_EVERY: Duration = Duration::from_millis(100);
const ROUNDS: usize = 20;

/// What a turn has seen; times in microseconds.
#[derive(Default)]
struct Turn {
    longest_push: f64,
    longest_fence: f64,
    /// Of each push that began a segment, and of each that did not.
    began: Vec<f64>,
    others: Vec<f64>,
    /// Pushes that found no room.
    full: u64,
}

pub fn run(scratch: &Scratch) -> Vec<Row> {
    let (mut pushes, mut fences) = (Arms::new(2), Arms::new(2));
    let (mut more, mut full) = (Vec::new(), [0; 2]);
    let (mut began, mut others) = (Vec::new(), Vec::new());
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..ROUNDS {
        let mut longest = [0.0; 2];
        for arm in shuffled(2, &mut random) {
            let turn = records(&scratch.path("rotation"), (arm == 1).then_some(SEGMENT));
            pushes.add(arm, turn.longest_push);
            fences.add(arm, turn.longest_fence);
            longest[arm] = turn.longest_push;
            full[arm] += turn.full;
            if arm == 1 {
                began.extend(turn.began);
                others.extend(turn.others);
            }
        }
        more.push(longest[1] - longest[0]);
        pushes.end_block();
        fences.end_block();
    }
    let [low, median, high] = quartiles(&mut more);
    let push = format!(
        "longest push of {} s, in segments ({:.0} µs) − in one file ({:.0} µs)",
        TURN.as_secs(),
        pushes.quantile(1, 0.5),
        pushes.quantile(0, 0.5),
    );
    let count = began.len();
    let ([_, of_these, _], [_, of_others, _]) = (quartiles(&mut began), quartiles(&mut others));
    let step = format!(
        "a push that begins a segment ({of_these:.0} µs, {count}) − another ({of_others:.0} µs)"
    );
    let fence = format!(
        "longest fence of {} s, in segments ({:.0} ms) / in one file ({:.0} ms)",
        TURN.as_secs(),
        fences.quantile(1, 0.5) / 1e3,
        fences.quantile(0, 0.5) / 1e3,
    );
    let ratio = fences.ratio(1, 0, Centre::Trimmed).expect("whole rounds");
    let refused = format!("{} / {}", full[1], full[0]);
    vec![
        row("rotation.push", push, format!("{median:+.0} µs [{low:+.0}, {high:+.0}]"), "≤ 50 µs"),
        row("rotation.step", step, format!("{:+.1} µs", of_these - of_others), "≤ 50 µs"),
        row("rotation.fence", fence, ratio.to_string(), "≤ 1.5"),
        row("rotation.full", "pushes that found no room, in segments / in one file", refused, ""),
    ]
}

fn quartiles(values: &mut [f64]) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| quantile(values, f64::from(quarter) / 4.0))
}

/// One recording at the rate, with a fence at a time beside it.
fn records(folder: &Path, size: Option<u64>) -> Turn {
    std::fs::create_dir(folder).expect("a folder");
    let below = Options::new().buffer_size(BUFFERS.0).buffers(BUFFERS.1);
    let mut options = segments::Options::new(folder.join("{seq}")).below(below);
    if let Some(size) = size {
        options = options.size(size);
    }
    let mut writer = options.open().expect("the recording begins");
    let (control, is_over) = (writer.control().clone(), AtomicBool::new(false));
    let turn = std::thread::scope(|scope| {
        let fences = scope.spawn(|| longest_fence(&control, &is_over));
        let pushes = scope.spawn(|| push_all(&mut writer));
        let turn = pushes.join().expect("all is pushed");
        is_over.store(true, Ordering::Relaxed);
        Turn { longest_fence: fences.join().expect("the fences end"), ..turn }
    });
    writer.close().expect("a close");
    std::fs::remove_dir_all(folder).expect("the folder goes");
    // What is left to do for it is none of the next turn's.
    let parent = std::fs::File::open(folder.parent().expect("the scratch folder"));
    parent.and_then(|folder| folder.sync_all()).expect("the folder is synced");
    turn
}

/// As a recorder's thread does; without the right to it the figures are those of any thread.
#[allow(unsafe_code)]
fn ask_for_real_time() {
    let priority = libc::sched_param { sched_priority: 10 };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: of this thread; the parameters live.
    unsafe { libc::sched_setscheduler(0, policy, &raw const priority) };
}

fn push_all(writer: &mut segments::Writer) -> Turn {
    ask_for_real_time();
    let mut turn = Turn::default();
    let record = vec![7; RECORD];
    let gap = Duration::from_nanos(RECORD as u64 * 1_000_000_000 / RATE);
    let start = Instant::now();
    for number in 0.. {
        let due = gap * number;
        if due >= TURN {
            break;
        }
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        let rotations = writer.stats().rotations;
        let before = Instant::now();
        let pushed = writer.try_write(&record);
        let took = before.elapsed().as_secs_f64() * 1e6;
        turn.longest_push = turn.longest_push.max(took);
        turn.full += u64::from(pushed.is_err());
        match writer.stats().rotations == rotations {
            true => turn.others.push(took),
            false => turn.began.push(took),
        }
    }
    turn
}

fn longest_fence(control: &Control, is_over: &AtomicBool) -> f64 {
    let mut longest = 0.0_f64;
    while !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(FENCE_EVERY);
        let before = Instant::now();
        control.flush().expect("a fence");
        longest = longest.max(before.elapsed().as_secs_f64() * 1e6);
    }
    longest
}
