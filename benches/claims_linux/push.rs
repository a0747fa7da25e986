//! What a push costs its thread: 256 B while the device flushes all the time, and 64 KiB beside a
//! copy into memory of the same size.

use std::hint::black_box;
use std::time::{Duration, Instant};

use writeflush::{Drive, Options, Ticket, Writer};
use writeflush_workloads::{Arms, floor::Aligned, quantile, shuffled};

use super::{Row, Scratch, row};

pub fn run(scratch: &Scratch) -> Vec<Row> {
    let mut rows = Vec::new();
    for drive in [Drive::Thread, Drive::Poll] {
        rows.extend(small(scratch, drive));
    }
    rows.push(large(scratch));
    rows
}

/// Reads the clock with as little around it as the machine allows.
struct Clock {
    nanoseconds_per_tick: f64,
}

impl Clock {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    fn ticks() -> u64 {
        use std::arch::x86_64::{_mm_lfence, _rdtsc};
        // The fences keep the processor from reading the counter before the work is done, or from
        // beginning the work before it is read (Intel SDM, RDTSC).
        // SAFETY: every x86-64 has both.
        unsafe {
            _mm_lfence();
            let ticks = _rdtsc();
            _mm_lfence();
            ticks
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn ticks() -> u64 {
        use std::sync::OnceLock;
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }

    fn calibrate() -> Self {
        let (start, ticks) = (Instant::now(), Self::ticks());
        std::thread::sleep(Duration::from_millis(50));
        let ticks = (Self::ticks() - ticks) as f64;
        Self { nanoseconds_per_tick: start.elapsed().as_nanos() as f64 / ticks }
    }

    /// Nanoseconds of one call, each sample in turn with an empty one.
    fn pair(&self, mut call: impl FnMut()) -> (f64, f64) {
        let a = Self::ticks();
        black_box(());
        let b = Self::ticks();
        call();
        let c = Self::ticks();
        ((b - a) as f64 * self.nanoseconds_per_tick, (c - b) as f64 * self.nanoseconds_per_tick)
    }
}

fn pause(until: Instant) {
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

/// The mean of the middle half of sorted values: a median for a clock whose steps (10 ns here) are
/// as long as what it measures.
fn midmean(sorted: &[f64]) -> f64 {
    let middle = &sorted[sorted.len() / 4..sorted.len() * 3 / 4];
    middle.iter().sum::<f64>() / middle.len() as f64
}

/// Asks for the next fence as soon as the last is through, so that the device always flushes.
fn keep_flushing(writer: &Writer, ticket: &mut Ticket) {
    if ticket.is_durable().expect("no failure") {
        *ticket = writer.fence();
    }
}

fn small(scratch: &Scratch, drive: Drive) -> Vec<Row> {
    const PUSHES: usize = 400_000;
    let clock = Clock::calibrate();
    let mut writer = Options::new()
        .buffers(8)
        .drive(drive)
        .create(scratch.path("push-small"))
        .expect("the writer opens");
    let record = [5u8; 256];
    // What no writer can go below: the copy alone, into as much memory of the same kind.
    let mut plain = Aligned::huge(8 << 20);
    let [mut empty, mut push, mut copy] = [(); 3].map(|()| Vec::with_capacity(PUSHES));
    let mut ticket = writer.fence();
    let mut next = Instant::now();
    for index in 0..PUSHES {
        next += Duration::from_micros(5);
        pause(next);
        let (nothing, call) =
            clock.pair(|| _ = black_box(writer.try_write(black_box(&record)).expect("room")));
        empty.push(nothing);
        push.push(call);
        keep_flushing(&writer, &mut ticket);
        if index % 8 != 0 {
            continue; // seldom, so that it does not take the cache from the pushes
        }
        next += Duration::from_micros(5);
        pause(next);
        let at = index / 8 * record.len() % (8 << 20);
        let target = &mut plain.bytes()[at..at + record.len()];
        let (_, call) = clock.pair(|| black_box(&mut *target).copy_from_slice(black_box(&record)));
        copy.push(call);
    }
    let fences = writer.stats().fences;
    writer.close().expect("a close");
    for samples in [&mut empty, &mut push, &mut copy] {
        samples.sort_by(f64::total_cmp);
    }
    let middle = |samples: &[f64]| format!("{:.1} ns", midmean(samples) - midmean(&empty));
    let tail =
        |samples: &[f64]| format!("{:.0} ns", quantile(samples, 0.999) - quantile(&empty, 0.999));
    let name = |what: &str, q: &str| {
        format!("{what} 256 B, {drive:?}, {fences} fences meanwhile, {q} above empty")
    };
    let (p50, p999) = ("p50 (mean of the middle half)", "p99.9");
    let id = |what: &str, q: &str| format!("{what}.{drive:?}.{q}").to_lowercase();
    vec![
        row(id("push", "p50"), name("push", p50), middle(&push), "≤ 15 ns"),
        row(id("copy", "p50"), name("the copy alone,", p50), middle(&copy), "–"),
        row(id("push", "p99.9"), name("push", p999), tail(&push), "≤ 250 ns"),
        row(id("copy", "p99.9"), name("the copy alone,", p999), tail(&copy), "–"),
    ]
}

fn large(scratch: &Scratch) -> Row {
    const RECORD: usize = 64 << 10;
    const PUSHES: usize = 20_000;
    let clock = Clock::calibrate();
    let mut writer =
        Options::new().buffers(8).create(scratch.path("push-large")).expect("the writer opens");
    let record = vec![5u8; RECORD];
    let mut plain = Aligned::new(8 << 20);
    let mut arms = Arms::new(2);
    let mut random = fastrand::Rng::with_seed(1);
    let mut next = Instant::now();
    for index in 0..PUSHES {
        for arm in shuffled(2, &mut random) {
            next = (next + Duration::from_micros(100)).max(Instant::now());
            pause(next);
            let (_, call) = if arm == 0 {
                clock.pair(|| _ = writer.write(black_box(&record)).expect("a write"))
            } else {
                let at = index * RECORD % (8 << 20);
                let target = &mut plain.bytes()[at..at + RECORD];
                clock.pair(|| black_box(&mut *target).copy_from_slice(black_box(&record)))
            };
            arms.add(arm, call);
        }
        if (index + 1) % (PUSHES / 10) == 0 {
            arms.end_block();
        }
    }
    writer.close().expect("a close");
    let name = format!(
        "push 64 KiB ({:.1} µs) / memcpy ({:.1} µs), 8 MiB each, p50",
        arms.quantile(0, 0.5) / 1000.0,
        arms.quantile(1, 0.5) / 1000.0
    );
    let ratio = arms.ratio_of_medians(0, 1).expect("whole blocks");
    row("push.large", name, ratio.to_string(), "≤ 1.15")
}
