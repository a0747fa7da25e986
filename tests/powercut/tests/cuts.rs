//! The tester on a few images: nothing of the real library is lost. The whole matrix, and the planted
//! bugs, are `cargo powercut run` and `cargo powercut canaries`, which continuous integration runs.
#![cfg(target_os = "linux")]

#[path = "../../common/skip.rs"]
mod skip;

use std::process::{Command, Output};

/// Nobody else's.
const TEMPORARY: &str = env!("CARGO_TARGET_TMPDIR");

/// `None`, loudly, where it can't run (never in continuous integration).
fn powercut(arguments: &[&str]) -> Option<Output> {
    if !rustix::process::geteuid().is_root() || !std::path::Path::new("/dev/fuse").exists() {
        skip::skip("power cuts", "they need root and /dev/fuse");
        return None;
    }
    let program = env!("CARGO_BIN_EXE_writeflush-powercut");
    let mut command = Command::new(program);
    Some(command.args(arguments).env("TMPDIR", TEMPORARY).output().expect("it starts"))
}

/// Mounts, loop devices, and entries of the folder for temporary files.
fn left_behind() -> (usize, usize, usize) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let loops = std::fs::read_dir("/sys/block").unwrap().filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        path.join("loop/backing_file").exists()
    });
    let temporary = std::fs::read_dir(TEMPORARY).unwrap();
    (mounts.lines().count(), loops.count(), temporary.count())
}

const FEW: [&str; 6] = ["--file-systems", "ext4", "--states", "growing", "--images", "20"];

#[test]
fn nothing_durable_is_lost_and_nothing_is_left_behind() {
    let before = left_behind();
    let arguments = [&["run", "--ways", "uring-flush,sync-direct"], &FEW[..]].concat();
    let Some(output) = powercut(&arguments) else { return };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let last = said.lines().last().unwrap();
    let images: u32 = last.split(' ').next().unwrap().parse().unwrap();
    assert!(images >= 40 && last.ends_with("; 0 lost"), "{said}");
    // A loop device goes a moment after the last who used it.
    for _ in 0..200 {
        if left_behind() == before {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(left_behind(), before, "mounts, loop devices, files");
}

/// As `cargo test` builds it (`cargo powercut` has the wrapper tests/canary).
#[test]
#[cfg(not(canary))]
fn a_build_without_the_planted_bugs_says_so() {
    for arguments in [&["canaries"][..], &["canaries", "--planted", "no-flush"]] {
        let Some(output) = powercut(arguments) else { return };
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("built without the planted bugs"), "{said}");
    }
}

#[test]
fn bad_input_is_refused_in_one_line() {
    let Some(output) = powercut(&["run", "--file-systems", "ntfs"]) else { return };
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("ext4, xfs, btrfs"), "{said}");
}
