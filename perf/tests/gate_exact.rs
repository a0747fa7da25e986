//! What `gate` counts exactly, of a program in C: each planted slip is seen, and nothing else is.
#![cfg(target_os = "linux")]

#[path = "../../tests/common/skip.rs"]
mod skip;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use skip::skip;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

const NONE: &[&str] = &[];

/// The flushes of a disk are everybody's: one test at a time, or they are taken for one another's.
static DISK: Mutex<()> = Mutex::new(());

/// Programs of one source, each with a slip or none.
struct Rig(tempfile::TempDir, #[allow(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Rig {
    /// `None`: said, and skipped.
    fn new(test: &str) -> Option<Self> {
        if let Some(missing) = ["cc", "strace", "valgrind"].into_iter().find(|tool| !there(tool)) {
            skip(test, &format!("there is no {missing}"));
            return None;
        }
        let alone = DISK.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Self(directory(), alone))
    }

    fn program(&self, slips: &[impl AsRef<str>]) -> PathBuf {
        let names: Vec<&str> = slips.iter().map(AsRef::as_ref).collect();
        let program = self.0.path().join(format!("record-{}", names.join("-")));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exact/record.c");
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-w", "-o"]).arg(&program).arg(source);
        cc.args(names.iter().map(|name| format!("-D{name}")));
        assert!(cc.status().unwrap().success());
        program
    }

    /// The gate's answer, its exit status and its document.
    fn gate(&self, on: &Path, base: &Path, candidate: &Path) -> (Output, Value) {
        let kept = self.0.path().join("gate.json");
        let mut gate = Command::new(env!("CARGO_BIN_EXE_writeflush"));
        gate.args(["gate", "--tiers", "counts,instructions", "--force", "--json"]).arg(&kept);
        gate.arg("--markdown").arg(self.0.path().join("gate.md"));
        gate.arg("--base-program").arg(base).arg("--candidate-program").arg(candidate);
        let output = gate.arg(on).output().unwrap();
        let text = fs::read_to_string(&kept).unwrap_or_else(|_| panic!("{}", said(&output)));
        (output, serde_json::from_str::<Value>(&text).unwrap()["result"].clone())
    }
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// The quantities that did not pass.
fn red(result: &Value) -> Vec<String> {
    let findings = result["findings"].as_array().unwrap();
    let quantity = |finding: &Value| finding["quantity"].as_str().unwrap().to_owned();
    findings.iter().filter(|finding| finding["word"] != "pass").map(quantity).collect()
}

/// Whether the disk here shows its flushes.
fn flushes_are_seen(result: &Value) -> bool {
    let skipped = result["skipped"].as_array().unwrap();
    !skipped.iter().any(|skipped| skipped["what"] == "device flushes")
}

/// On a disk, and in memory, where no flush can be seen.
#[test]
fn a_program_beside_itself_passes_and_what_can_not_be_counted_is_named() {
    let Some(rig) = Rig::new("a program beside itself") else { return };
    let (base, again) = (rig.program(NONE), rig.program(&["NOTHING"]));
    let (output, result) = rig.gate(rig.0.path(), &base, &again);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let quantities = result["findings"].as_array().unwrap().len();
    assert_eq!(quantities, 4 + usize::from(flushes_are_seen(&result)), "{}", said(&output));

    let (output, result) = rig.gate(Path::new("/dev/shm"), &base, &again);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!flushes_are_seen(&result), "{}", said(&output));
    assert!(said(&output).contains("skipped: device flushes: "), "{}", said(&output));
}

/// All at once, since each run takes its time: every quantity has a slip that only it shows.
#[test]
fn every_slip_is_seen_by_what_counts_it_and_a_file_replays_to_the_same_words() {
    let Some(rig) = Rig::new("every slip") else { return };
    let slips = [
        ("COPY", "bytes copied"),
        ("ALLOCATION", "allocations"),
        ("WAKE_UP", "wake-ups"),
        ("CALL", "system calls"),
        ("INSTRUCTIONS", "instructions"),
        ("FLUSH", "device flushes"),
    ];
    let candidate = rig.program(&slips.map(|(slip, _)| format!("EXTRA_{slip}")));
    let (output, result) = rig.gate(rig.0.path(), &rig.program(NONE), &candidate);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let red = red(&result);
    for (slip, quantity) in slips {
        if quantity == "device flushes" && !flushes_are_seen(&result) {
            skip(slip, "the disk does not show its flushes");
            continue;
        }
        assert!(red.iter().any(|found| found == quantity), "{slip}: {red:?}");
    }
    let summary = fs::read_to_string(rig.0.path().join("gate.md")).unwrap();
    assert!(summary.starts_with("### ❌ gate: REGRESSION"), "{summary}");
    assert!(summary.contains("lseek 0 → 1"), "{summary}");
    let replay = Command::new(env!("CARGO_BIN_EXE_writeflush"))
        .args(["gate", "--replay"])
        .arg(rig.0.path().join("gate.json"))
        .output()
        .unwrap();
    assert_eq!(replay.status.code(), Some(1));
    assert_eq!(output.stdout, replay.stdout);
}

#[test]
fn a_skipped_flush_is_no_speed_up() {
    let Some(rig) = Rig::new("a skipped flush") else { return };
    let (base, candidate) = (rig.program(NONE), rig.program(&["SKIPPED_FLUSH"]));
    let (output, result) = rig.gate(rig.0.path(), &base, &candidate);
    if !flushes_are_seen(&result) {
        return skip("a skipped flush", "the disk does not show its flushes");
    }
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(red(&result), ["device flushes"], "fewer calls are no regression");
    assert!(said(&output).contains("256 fences were promised and"), "{}", said(&output));
}

#[test]
fn without_the_instruments_the_answer_says_what_to_install() {
    let Some(rig) = Rig::new("without the instruments") else { return };
    let program = rig.program(NONE);
    let kept = rig.0.path().join("without.json");
    let output = Command::new(env!("CARGO_BIN_EXE_writeflush"))
        .args(["gate", "--tiers", "instructions", "--json"])
        .arg(&kept)
        .arg("--base-program")
        .arg(&program)
        .arg("--candidate-program")
        .arg(&program)
        .arg(rig.0.path())
        .env("PATH", rig.0.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let advice =
        "skipped: instructions: valgrind is not installed (Debian: apt-get install valgrind)";
    assert!(said(&output).contains(advice), "{}", said(&output));
}
