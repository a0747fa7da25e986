//! A program that crashes: as with winmm's own procedure, nothing of an unbuffered mmioWrite is lost.

use std::path::Path;

use super::caller::{CREATE, Caller, name, place, settings};
use super::common::{child_task, run_child, until, watched};
use writeflush::mmio::*;

const WRITES: usize = 300;
const RECORD: [u8; 1000] = [b'k'; 1000];

/// Writes, asks for nothing, and crashes when the file has all of it.
fn crash(settings: Settings, path: &Path) -> ! {
    settings.fence_every(None).apply(); // nothing but the writes themselves
    let mut caller = Caller::open(&name(path), CREATE).unwrap();
    for _ in 0..WRITES {
        assert_eq!(caller.write(&RECORD), 1000);
    }
    until(|| std::fs::metadata(path).unwrap().len() == (WRITES * RECORD.len()) as u64);
    assert_eq!(caller.durable(), 0, "no fence was needed");
    std::process::abort();
}

#[test]
fn what_was_written_is_there_after_a_crash() {
    const TEST: &str = "crashes::what_was_written_is_there_after_a_crash";
    if let Some(task) = child_task() {
        let (how, path) = task.split_once(' ').unwrap();
        let (settings, path) = (settings()[how.parse::<usize>().unwrap()].clone(), path.to_owned());
        watched(TEST, move || crash(settings, path.as_ref()));
    }
    for how in 0..settings().len() {
        let (_dir, path) = place();
        let output = run_child(TEST, &format!("{how} {}", path.display()), |_| {});
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && !said.contains("panicked"), "{said}");
        assert!(std::fs::read(&path).unwrap() == RECORD.repeat(WRITES));
    }
}
