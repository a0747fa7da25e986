//! `compare` as its user meets it.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn tool() -> Command {
    Command::new(env!("CARGO_BIN_EXE_writeflush-perf"))
}

fn compare(arguments: &[&str]) -> Output {
    tool().arg("compare").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn refused(arguments: &[&str], says: &str) {
    let output = compare(arguments);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains(says), "{error}");
}

fn nothing_left(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

/// The smallest comparison there is: 20 laps of 5 commits.
const SMALL: [&str; 6] = ["--samples", "100", "--records", "4KiB", "--committers", "1,2"];

#[test]
fn every_number_of_the_table_is_in_the_file_and_a_replay_prints_the_same() {
    let (folder, results) = (directory(), directory());
    let file = results.path().join("result.json");
    let (place, kept) = (folder.path().to_str().unwrap(), file.to_str().unwrap());
    let output =
        compare(&[&SMALL[..], &["--quick", "--states", "written", "--json", kept, place]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(nothing_left(folder.path()));

    let printed = text(&output.stdout);
    let replayed = compare(&["--replay", kept]);
    assert_eq!(printed, text(&replayed.stdout));

    let document: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!((&document["format"], &document["kind"]), (&1.into(), &"compare".into()));
    let cells = document["result"]["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 2);
    for cell in cells {
        let rows = cell["rows"].as_array().unwrap();
        let listed = compare(&["--list"]);
        assert_eq!(rows.len(), text(&listed.stdout).lines().count());
        for row in rows {
            a_row_is_whole(row, cell["committers"].as_u64().unwrap());
        }
    }
}

fn a_row_is_whole(row: &Value, committers: u64) {
    let Some(figures) = row.get("measured") else {
        assert!(row["refused"].as_str().is_some_and(|reason| !reason.is_empty()), "{row}");
        return;
    };
    let commits = figures["commits"].as_u64().unwrap();
    assert!(commits >= 100, "{row}");
    let steps = figures["steps"].as_array().unwrap();
    assert_eq!(steps.iter().map(|step| step[1].as_u64().unwrap()).sum::<u64>(), commits);
    assert!(figures["flush_us"]["max"].as_f64().unwrap() > 0.0);
    assert_eq!(figures["flush_us"]["p99"], Value::Null, "too few samples for it");
    let durable = row["class"] == "durable";
    assert_eq!(durable, figures["verdict"]["word"] != "UNFENCED", "{row}");
    if figures["verdict"]["word"] == "HONEST" && committers == 1 {
        let flushes = figures["cost"]["device_flushes_per_commit"].as_f64();
        assert!(flushes.is_none_or(|flushes| flushes >= 1.0), "{row}");
    }
    if row["family"] == "writeflush" {
        assert!(figures["ratio"]["low"].as_f64() <= figures["ratio"]["high"].as_f64(), "{row}");
    }
}

#[test]
fn a_result_is_not_overwritten_and_bad_input_is_answered_in_a_line() {
    let folder = directory();
    let file = folder.path().join("kept.json");
    fs::write(&file, "mine").unwrap();
    let (place, kept) = (folder.path().to_str().unwrap(), file.to_str().unwrap());
    refused(&["--quick", "--json", kept, place], "--force");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    refused(&["--quick", "/no/such/place"], "does not exist");
    refused(&["--quick", kept], "is no directory");
    refused(&["--subjects", "spdk", place], "--list");
    refused(&["--states", "melted", place], "growing, reserved, written");
    refused(&["--records", "0", place], "64 MiB");
    refused(&["--committers", "65", place], "65");
    refused(&["--replay", kept], "no result of this tool");
    refused(&["--replay", "/no/such/file"], "can't be read");
    refused(&["--quick", "--json", "/no/such/place/x.json", place], "make it first");
    if !cfg!(feature = "peers") {
        refused(&["--quick", "--peers", place], "--features peers");
    }
}

#[test]
fn too_little_space_is_said_before_anything_is_written() {
    let folder = directory();
    let place = folder.path().to_str().unwrap();
    let records = ["--records", "64MiB", "--committers", "64,1", "--samples", "100"];
    // 64 committers of 64 MiB for each subject: more than most disks have free.
    let output = compare(&[&records[..], &[place]].concat());
    if output.status.code() == Some(2) {
        assert!(text(&output.stderr).contains("free"), "{}", text(&output.stderr));
    } else {
        eprintln!("skipped: this disk has room for everything");
    }
    assert!(nothing_left(folder.path()));
}

#[test]
fn memory_is_never_called_durable() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        assert!(std::env::var_os("CI").is_none(), "CI has /dev/shm");
        return eprintln!("skipped: there is no /dev/shm");
    };
    let results = directory();
    let file = results.path().join("result.json");
    let (place, kept) = (folder.path().to_str().unwrap(), file.to_str().unwrap());
    let output =
        compare(&[&SMALL[..], &["--states", "written", "--quick", "--json", kept, place]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let document: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let rows = document["result"]["cells"][0]["rows"].as_array().unwrap();
    let measured: Vec<&Value> = rows.iter().filter_map(|row| row.get("measured")).collect();
    assert!(!measured.is_empty());
    for figures in measured {
        let word = figures["verdict"]["word"].as_str().unwrap();
        assert!(["NOOP", "UNFENCED"].contains(&word), "{figures}");
    }
}

#[test]
fn an_interrupted_comparison_leaves_nothing() {
    let (folder, results) = (directory(), directory());
    let file = results.path().join("result.json");
    let mut child = tool()
        .args(["compare", "--samples", "1000000", "--json", file.to_str().unwrap()])
        .arg(folder.path())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while nothing_left(folder.path()) {
        assert!(begun.elapsed() < Duration::from_secs(30), "it never began");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(300));
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::INT,
    )
    .unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(nothing_left(folder.path()) && !file.exists());
}
