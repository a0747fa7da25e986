//! `pace` as its user meets it.
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
    let mut command = Command::new(env!("CARGO_BIN_EXE_writeflush-perf"));
    command.arg("pace");
    command
}

fn pace(arguments: &[&str]) -> Output {
    tool().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn nothing_left(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

fn measured(arguments: &[&str]) -> Value {
    let (folder, results) = (directory(), directory());
    let file = results.path().join("pace.json");
    let (place, kept) = (folder.path().to_str().unwrap(), file.to_str().unwrap());
    let output = pace(&[arguments, &["--json", kept, place]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(nothing_left(folder.path()));
    assert_eq!(text(&output.stdout), text(&pace(&["--replay", kept]).stdout));
    let document: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!((&document["format"], &document["kind"]), (&1.into(), &"pace".into()));
    document["result"].clone()
}

#[test]
fn every_recorder_is_paced_with_and_without_a_neighbour() {
    let result = measured(&["--rate", "2MB/s", "--record", "4KiB", "--for", "500ms"]);
    let takes = result["takes"].as_array().unwrap();
    let listed = text(&pace(&["--list"]).stdout);
    assert_eq!(takes.len(), 2 * listed.lines().count());
    assert_eq!(takes.iter().filter(|take| take["neighbour"] == true).count(), takes.len() / 2);
    for take in takes {
        // 1 MB in records of 4,096 bytes.
        assert_eq!(take["records"], 244, "{take}");
        assert_eq!(take["error"], Value::Null, "{take}");
        assert_eq!(take["lag"].as_array().unwrap().len(), 100, "{take}");
        let lost = take["lost_bytes"].as_u64().unwrap();
        assert_eq!(lost, take["overruns"].as_u64().unwrap() * 4096, "{take}");
        let figure = |name: &str| take[name]["p50"].as_f64().unwrap();
        assert!(figure("service_us") > 0.0 && figure("response_us") > 0.0, "{take}");
        // A fence every 100 ms: half of the records wait longer than ten of them.
        assert!(figure("durable_us") > 10_000.0, "{take}");
    }
}

#[test]
fn a_search_ends_at_a_memory_that_lost_nothing() {
    let arguments = ["--rate", "1MB/s", "--record", "4KiB", "--for", "200ms", "--find-buffer"];
    let few = ["--subjects", "thread,ring", "--neighbour", "without"];
    let result = measured(&[&arguments[..], &few].concat());
    let found = result["smallest"].as_array().unwrap();
    assert_eq!(found.len(), 2);
    for search in found {
        let memory = search["memory_bytes"].as_u64().unwrap();
        let tried = search["tried"].as_array().unwrap();
        assert!(tried.iter().any(|try_| try_[0] == memory && try_[1] == 0), "{search}");
    }
    assert!(result["takes"].as_array().unwrap().iter().all(|take| take["lost_bytes"] == 0));
}

#[track_caller]
fn refused(arguments: &[&str], says: &str) {
    let output = pace(arguments);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains(says), "{error}");
}

#[test]
fn what_can_not_work_is_said_in_a_line() {
    let folder = directory();
    let place = folder.path().to_str().unwrap();
    let kept = folder.path().join("kept.json");
    fs::write(&kept, "mine").unwrap();
    refused(&[place], "--rate");
    refused(&["--rate", "0", place], "bytes a second");
    refused(&["--rate", "fast", place], "bytes a second");
    refused(&["--rate", "1MB/s", "--for", "0", place], "--for 0");
    refused(&["--rate", "1MB/s", "--record", "1MiB", "--memory", "1MiB", place], "2 MiB");
    refused(&["--rate", "1MB/s", "--subjects", "tape", place], "--list");
    refused(&["--rate", "1MB/s", "/no/such/place"], "does not exist");
    refused(&["--rate", "1EB/s", "--for", "1h", place], "free");
    refused(&["--rate", "1MB/s", "--json", kept.to_str().unwrap(), place], "--force");
    assert_eq!(fs::read_to_string(&kept).unwrap(), "mine");
    // A record of one byte each nanosecond.
    let fast = ["--rate", "1GB/s", "--record", "1", "--for", "100ms", place];
    refused(&fast, "hands over at most");
    fs::remove_file(&kept).unwrap();
    assert!(nothing_left(folder.path()));
}

#[test]
fn an_interrupted_recording_leaves_nothing() {
    let (folder, results) = (directory(), directory());
    let file = results.path().join("result.json");
    let mut child = tool()
        .args(["--rate", "1MB/s", "--for", "1h", "--json", file.to_str().unwrap()])
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
    std::thread::sleep(Duration::from_millis(1500));
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::INT,
    )
    .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(nothing_left(folder.path()) && !file.exists());
}
