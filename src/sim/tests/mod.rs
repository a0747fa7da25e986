//! Random programs on a simulated computer, whose power may go at every moment.
//!
//! `WRITEFLUSH_SIM_SEEDS=100000 cargo test --release --lib sim::` runs so many; a failing seed is
//! printed with its program, shrunk, and `WRITEFLUSH_SIM_SEED=N cargo test --lib sim::` runs it
//! again.

mod model;
mod program;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};

use self::program::Program;
use super::{Computer, Faults};
use crate::file::OpenMode;
use crate::options::{FenceForm, Options};
use crate::overrun::OnFull;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// The message of a panic.
fn failure(program: &Program) -> Option<String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| program.run()));
    outcome.err().map(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

/// Leaves out steps as long as it still fails.
fn shrunk(mut program: Program) -> Program {
    let mut length = program.steps.len().div_ceil(2);
    while length > 0 {
        let mut from = 0;
        while from < program.steps.len() {
            let mut shorter = program.clone();
            let to = (from + length).min(shorter.steps.len());
            shorter.steps.drain(from..to);
            match failure(&shorter) {
                Some(_) => program = shorter,
                None => from += length,
            }
        }
        length /= 2;
    }
    program
}

/// Runs a seed; a failure is printed as the shortest program that shows it.
fn check(seed: u64) {
    let program = Program::of(seed);
    if failure(&program).is_some() {
        let short = shrunk(program);
        let why = failure(&short).unwrap_or_else(|| "it no longer fails".into());
        panic!(
            "seed {seed}: {why}\n{short:#?}\nagain: WRITEFLUSH_SIM_SEED={seed} cargo test --lib sim::"
        );
    }
}

#[test]
fn nothing_durable_is_ever_lost() {
    if let Some(seed) = number("WRITEFLUSH_SIM_SEED") {
        return Program::of(seed).run();
    }
    let seeds = number("WRITEFLUSH_SIM_SEEDS").unwrap_or(1500);
    let next = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    check(seed);
                }
            });
        }
    });
}

#[test]
fn the_same_seed_is_the_same_program_and_does_the_same() {
    let trace = |seed| {
        let events = Arc::new(Mutex::new(Vec::new()));
        let theirs = events.clone();
        Program::of(seed).watched(move |medium| {
            let image = medium.cut(&mut fastrand::Rng::with_seed(1));
            theirs.lock().unwrap().push(image.values().map(Vec::len).sum::<usize>());
        });
        let events = events.lock().unwrap();
        events.clone()
    };
    for seed in 0..20 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
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
        *count.lock().unwrap() +=
            u32::from(!medium.cut(&mut random).contains_key(Path::new("take")));
    }));
    let mut writer = options.create(path).unwrap();
    assert!(*lost.lock().unwrap() > 0, "before the directory is flushed");
    *lost.lock().unwrap() = 0;
    let _ = writer.write_flush(&[7; 5000]).unwrap();
    writer.close().unwrap();
    assert_eq!(*lost.lock().unwrap(), 0);
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

/// The tester itself: each planted lie has to be seen within a few seeds.
#[test]
#[cfg(feature = "canary")]
fn planted_bugs_are_caught() {
    // Canaries break every writer of the process: run it alone (see TESTING.md).
    if std::env::var_os("WRITEFLUSH_SIM_CANARY").is_none() {
        return;
    }
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for canary in crate::canary::Canary::ALL {
        canary.plant();
        let caught = (0..500).find(|seed| failure(&Program::of(*seed)).is_some());
        eprintln!("{}: caught by seed {caught:?}", canary.name());
        assert!(caught.is_some(), "{} was not caught", canary.name());
    }
    std::panic::set_hook(hook);
}
