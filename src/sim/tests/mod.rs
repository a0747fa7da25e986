//! Random programs on a simulated computer, whose power may go at every moment.
//!
//! `WRITEFLUSH_SIM_SEEDS=100000 cargo test --release --lib sim::` runs so many; a failing seed is
//! printed with its program, shrunk, and `WRITEFLUSH_SIM_SEED=N cargo test --lib sim::` runs it
//! again.

mod messages;
mod model;
mod program;
mod run;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use self::program::{Face, Program};
use super::seeds::{number, seeds};
use super::{Computer, Faults};
use crate::file::OpenMode;
use crate::options::{FenceForm, Options};
use crate::overrun::OnFull;

/// The message of a panic.
fn failure(program: &Program) -> Option<String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| program.run()));
    outcome.err().map(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

/// What a failure is about: its words, without its numbers.
fn words(why: &str) -> Vec<&str> {
    why.split(|letter: char| !letter.is_alphabetic()).filter(|word| !word.is_empty()).collect()
}

/// Leaves out steps as long as it still fails in the same way.
fn shrunk(mut program: Program, why: &str) -> Program {
    let mut length = program.steps.len().div_ceil(2);
    while length > 0 {
        let mut from = 0;
        while from < program.steps.len() {
            let mut shorter = program.clone();
            let to = (from + length).min(shorter.steps.len());
            shorter.steps.drain(from..to);
            match failure(&shorter) {
                Some(found) if words(&found) == words(why) => program = shorter,
                _ => from += length,
            }
        }
        length /= 2;
    }
    program
}

fn again(seed: u64) -> String {
    format!("again: WRITEFLUSH_SIM_SEED={seed} cargo test --lib sim::")
}

/// Runs a seed; a failure is told as the shortest program that shows it.
fn check(face: Face, seed: u64) -> Result<(), String> {
    let program = Program::of(face, seed);
    let Some(first) = failure(&program) else { return Ok(()) };
    let short = shrunk(program, &first);
    let why = failure(&short).unwrap_or_else(|| format!("{first}, and no longer"));
    Err(format!("seed {seed}: {why}\n{short:#?}\n{}", again(seed)))
}

/// A seed that is at work, told to a watchdog.
#[derive(Debug, Default)]
struct AtWork(AtomicU64);

impl AtWork {
    const NONE: u64 = 0;

    fn on(&self, seed: u64) {
        self.0.store(seed + 1, Ordering::Relaxed);
    }

    fn done(&self) {
        self.0.store(Self::NONE, Ordering::Relaxed);
    }
}

/// A program takes a millisecond: one that takes this long will never end. `WRITEFLUSH_HANG` gives
/// other seconds, for tools that slow the tests down.
fn hang() -> Duration {
    Duration::from_secs(number("WRITEFLUSH_HANG").unwrap_or(120))
}

/// Ends the process, and names the seed, where one is at work for too long.
fn watchdog(workers: &[AtWork], over: &mpsc::Receiver<()>) {
    let seeds = || workers.iter().map(|worker| worker.0.load(Ordering::Relaxed));
    let mut before: Vec<u64> = seeds().collect();
    while over.recv_timeout(hang()) == Err(mpsc::RecvTimeoutError::Timeout) {
        let now: Vec<u64> = seeds().collect();
        let stuck = now.iter().zip(&before).find(|(now, before)| now == before);
        if let Some((seed, _)) = stuck.filter(|(seed, _)| **seed != AtWork::NONE) {
            // Not `eprintln!`, which the test harness would keep to itself.
            let text = format!("HANG in seed {}\n{}\n", seed - 1, again(seed - 1));
            let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
            std::process::abort();
        }
        before = now;
    }
}

/// Every seed, on as many threads as there are processors, until one fails.
fn check_all(face: Face, seeds: Range<u64>) {
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let workers: Vec<AtWork> = (0..threads).map(|_| AtWork::default()).collect();
    let work = |worker: &AtWork| {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok(());
            }
            worker.on(seed);
            let checked = check(face, seed);
            worker.done();
            if checked.is_err() {
                next.store(seeds.end, Ordering::Relaxed);
                return checked;
            }
        }
    };
    let (done, over) = mpsc::channel::<()>();
    let failed: Vec<String> = std::thread::scope(|scope| {
        let (workers, work) = (&workers, &work);
        scope.spawn(move || watchdog(workers, &over));
        let threads: Vec<_> =
            workers.iter().map(|worker| scope.spawn(move || work(worker))).collect();
        let ended = threads.into_iter().map(|thread| thread.join().expect("it catches panics"));
        let failed = ended.filter_map(Result::err).collect();
        drop(done);
        failed
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn check_what_is_asked_for(face: Face) {
    check_all(face, seeds());
}

#[test]
fn nothing_durable_is_ever_lost() {
    check_what_is_asked_for(Face::Writer);
}

#[test]
fn nothing_durable_is_ever_lost_by_writers_that_share_a_driver() {
    check_what_is_asked_for(Face::Sharing);
}

#[test]
fn nothing_that_mmio_calls_durable_is_ever_lost() {
    check_what_is_asked_for(Face::Messages);
}

#[test]
fn the_same_seed_is_the_same_program_and_does_the_same() {
    // However fast it runs: it has no clock but the computer's.
    let trace = |face, seed, pause| {
        let events = Arc::new(Mutex::new(Vec::new()));
        let theirs = events.clone();
        Program::of(face, seed).watched(move |medium| {
            let image = medium.cut(&mut fastrand::Rng::with_seed(1));
            theirs.lock().unwrap().push(image.values().map(Vec::len).sum::<usize>());
            std::thread::sleep(pause);
        });
        let events = events.lock().unwrap();
        events.clone()
    };
    for seed in 0..20 {
        for face in [Face::Writer, Face::Messages, Face::Sharing] {
            let pause = Duration::from_millis(if seed < 4 { 2 } else { 0 });
            let (quick, slow) = (trace(face, seed, Duration::ZERO), trace(face, seed, pause));
            assert_eq!(quick, slow, "{face:?}, seed {seed}");
        }
    }
}

/// A writer on a fresh computer.
fn computer(faults: Faults) -> (Computer, Options) {
    let computer = Computer::new(7, 4096, faults);
    let options = computer.options().buffer_size(8192).fence_form(FenceForm::Flush);
    (computer, options)
}

#[test]
fn a_name_without_its_directory_may_be_lost() {
    let (computer, options) = computer(Faults::default());
    let path = Path::new("take");
    let lost = Arc::new(Mutex::new(0));
    let count = lost.clone();
    let mut random = fastrand::Rng::with_seed(3);
    let _watched = computer.watch(Box::new(move |medium| {
        let mut is_lost = || !medium.cut(&mut random).contains_key(Path::new("take"));
        *count.lock().unwrap() += (0..8).map(|_| u32::from(is_lost())).sum::<u32>();
    }));
    let mut writer = options.create(path).unwrap();
    assert!(*lost.lock().unwrap() > 0, "before the directory is flushed");
    *lost.lock().unwrap() = 0;
    let _ = writer.write_flush(&[7; 5000]).unwrap();
    writer.close().unwrap();
    assert_eq!(*lost.lock().unwrap(), 0);
}

#[test]
fn a_name_is_certain_whatever_its_directory_is_called_by_the_time_of_the_flush() {
    let (computer, options) = computer(Faults { moved_at: Some(1), ..Faults::default() });
    let mut writer = options.create(Path::new("take")).unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    let mut is_there = || computer.medium().cut(&mut random).contains_key(Path::new("take"));
    assert!((0..32).all(|_| is_there()), "after the open");
    assert_eq!(writer.write_flush(&[7; 5000]).unwrap(), 5000);
    writer.close().unwrap();
    assert!(computer.medium().find(Path::new("take")).is_none(), "the path leads elsewhere");
}

#[test]
fn a_full_medium_is_survivable() {
    let (computer, options) = computer(Faults { space: Some(20_000), ..Faults::default() });
    let path = Path::new("take");
    let mut writer = options.create(path).unwrap();
    assert_eq!(writer.write_flush(&[1; 10_000]).unwrap(), 10_000);
    let refused = writer.write_flush(&[2; 30_000]).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENOSPC));
    let durable = writer.positions().durable as usize;
    assert!(durable >= 10_000);
    assert!(writer.close().is_err());
    computer.repair();
    let mut random = fastrand::Rng::with_seed(1);
    let image = computer.medium().cut(&mut random);
    assert!(image[path][..10_000].iter().all(|byte| *byte == 1));
    let mut writer = options.append(path).unwrap();
    let start = writer.positions().accepted as usize;
    let _ = writer.write_flush(&[3; 5_000]).unwrap();
    writer.close().unwrap();
    let content = computer.read(path).unwrap();
    assert!(content[..10_000].iter().all(|byte| *byte == 1));
    assert_eq!(content[start..], [3; 5_000]);
}

/// Panics that are expected print nothing.
#[cfg(canary)]
fn in_silence<T>(work: impl FnOnce() -> T) -> T {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = work();
    std::panic::set_hook(hook);
    result
}

/// What is printed of a seed that fails. Alone, for the same reason as the next.
#[test]
#[cfg(canary)]
#[ignore = "breaks every writer of this process: run it alone"]
fn a_planted_bug_is_reported_by_a_shorter_program() {
    crate::canary::Canary::NoFlush.plant();
    let long = |seed: &u64| Program::of(Face::Writer, *seed).steps.len() > 10;
    let fails = |seed: &u64| failure(&Program::of(Face::Writer, *seed)).is_some();
    let (seed, panic, long, short, same) = in_silence(|| {
        let seed = (0..500).filter(long).find(fails).expect("a long program that fails");
        let panic = catch_unwind(|| check_all(Face::Writer, seed..seed + 1)).expect_err("it fails");
        let long = Program::of(Face::Writer, seed);
        let why = failure(&long).unwrap();
        let short = shrunk(long.clone(), &why);
        let same = failure(&short).is_some_and(|found| words(&found) == words(&why));
        (seed, panic, long, short, same)
    });
    let report = *panic.downcast::<String>().expect("a formatted message");
    assert!(short.steps.len() < long.steps.len() && same, "{report}");
    assert!(report.starts_with(&format!("seed {seed}: ")), "{report}");
    assert!(report.contains(&format!("\n{short:#?}\n")), "{report}");
    let command = format!("again: WRITEFLUSH_SIM_SEED={seed} cargo test --lib sim::");
    assert!(report.ends_with(&command), "{report}");
}

/// The tester itself: each planted lie has to be seen within a few seeds. Canaries break every
/// writer of the process, so it runs alone, and only where it is asked for (see TESTING.md).
#[test]
#[cfg(canary)]
#[ignore = "breaks every writer of this process: run it alone"]
fn planted_bugs_are_caught() {
    use crate::canary::Canary;
    // No file is renamed there.
    let planted = Canary::ALL.into_iter().filter(|canary| *canary != Canary::NoRenameSync);
    let caught = planted.map(|canary| {
        canary.plant();
        let fails = |face, seed| Some((face, seed, failure(&Program::of(face, seed))?));
        let caught = (0..3000).find_map(|seed| {
            let all = [Face::Writer, Face::Messages, Face::Sharing];
            let found = all.into_iter().find_map(|face| fails(face, seed));
            found.map(|(face, seed, why)| (format!("{face:?}"), seed, why)).or_else(|| {
                let why = crate::segments::power::run(seed).err();
                let why = why.or_else(|| crate::frames::segments_power(seed).err())?;
                Some(("segments".into(), seed, why))
            })
        });
        (canary.name(), caught)
    });
    let caught: Vec<_> = in_silence(|| caught.collect());
    for (name, caught) in &caught {
        match caught {
            Some((face, seed, why)) => {
                eprintln!("{name}: caught by seed {seed} ({face}): {why}");
            }
            None => eprintln!("{name}: NOT CAUGHT"),
        }
    }
    assert!(caught.iter().all(|(_, caught)| caught.is_some()));
    // At a rotation, too.
    Canary::NoDirectorySync.plant();
    let rotation =
        in_silence(|| (0..3000).find_map(|seed| crate::segments::power::run(seed).err()));
    eprintln!("no-directory-sync at a rotation: {}", rotation.as_deref().unwrap_or("NOT CAUGHT"));
    assert!(rotation.is_some());
}
