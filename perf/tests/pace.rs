//! `pace` as its user meets it.
#![cfg(target_os = "linux")]

#[path = "../../tests/common/skip.rs"]
mod skip;
#[allow(dead_code)]
#[path = "common/terminals.rs"]
mod terminals;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn tool() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_writeflush"));
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
    let slow = ["--rate", "2MB/s", "--record", "4KiB", "--for", "500ms"];
    let result = measured(&[&slow[..], &["--split", "100KiB"]].concat());
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
        assert!(take["way"].as_str().unwrap().contains("page cache") || take["subject"] != "ring");
        let ours = take["subject"].as_str().unwrap().starts_with("writeflush");
        assert_eq!(take["way"].as_str().unwrap().contains("durable is"), ours, "{take}");
        assert!(take["offered_mb_per_s"].as_f64().unwrap() > 0.5, "{take}");
        // What is in memory is at risk; what is at risk has mostly left it.
        let held = take["most_held_bytes"].as_u64().unwrap();
        let risks = take["lag"].as_array().unwrap().iter().map(|lag| lag[1].as_u64().unwrap());
        assert!(held <= risks.max().unwrap(), "{take}");
        let figure = |name: &str| take[name]["p50"].as_f64().unwrap();
        assert!(figure("service_us") > 0.0 && figure("response_us") > 0.0, "{take}");
        // A fence every 100 ms: half of the records wait longer than ten of them.
        assert!(figure("durable_us") > 10_000.0, "{take}");
    }
}

#[test]
fn the_backend_the_drive_and_the_file_can_be_chosen() {
    let fast = ["--rate", "1MB/s", "--record", "4KiB", "--for", "200ms", "--neighbour", "without"];
    for file in ["growing", "reserved", "written"] {
        let chosen = ["--backend", "sync", "--drive", "poll", "--file", file];
        let result = measured(&[&fast[..], &chosen].concat());
        assert_eq!(result["file_state"], file);
        let takes = result["takes"].as_array().unwrap();
        let names: Vec<&str> = takes.iter().map(|take| take["subject"].as_str().unwrap()).collect();
        assert_eq!(names, ["writeflush-poll", "ring", "queue"]);
        assert!(takes[0]["way"].as_str().unwrap().starts_with("sync with "), "{}", takes[0]);
    }
}

/// 200,000 bytes are no multiple of a page: there is room for two records all the same.
#[test]
fn memory_is_rounded_up_and_told() {
    let odd = ["--rate", "1MB/s", "--record", "100000", "--memory", "200000", "--for", "300ms"];
    let result = measured(&[&odd[..], &["--neighbour", "without"]].concat());
    for take in result["takes"].as_array().unwrap() {
        let ours = take["subject"].as_str().unwrap().starts_with("writeflush");
        assert_eq!(take["memory_bytes"], if ours { 204_800 } else { 200_000 }, "{take}");
        assert_eq!((&take["lost_bytes"], &take["error"]), (&0.into(), &Value::Null), "{take}");
    }
}

#[test]
fn a_search_ends_at_a_memory_that_lost_nothing() {
    let arguments = ["--rate", "1MB/s", "--record", "4KiB", "--for", "200ms", "--find-buffer"];
    let few = ["--subjects", "thread,ring"];
    let result = measured(&[&arguments[..], &few].concat());
    let found = result["smallest"].as_array().unwrap();
    let of = |neighbour: bool| found.iter().filter(move |one| one["neighbour"] == neighbour);
    assert_eq!((of(false).count(), of(true).count()), (2, 2));
    for search in found {
        let memory = search["memory_bytes"].as_u64().unwrap();
        let tried = search["tried"].as_array().unwrap();
        let with = |memory: u64| tried.iter().filter(move |take| take[0] == memory);
        assert!(with(memory).all(|take| take[1] == 0), "{search}");
        assert_eq!(with(memory).count() as u64, search["held"].as_u64().unwrap(), "{search}");
        if search["confirmed"] == true {
            assert!(search["held"].as_u64().unwrap() >= 3, "{search}");
        }
    }
    assert_eq!(result["takes"].as_array().unwrap().len(), 4);
    assert!(result["takes"].as_array().unwrap().iter().all(|take| take["lost_bytes"] == 0));
}

#[test]
fn the_time_of_a_search_is_told_before_it_begins() {
    let folder = directory();
    let place = folder.path().to_str().unwrap();
    let arguments = ["--rate", "1MB/s", "--for", "100ms", "--find-buffer", "--subjects", "ring"];
    let output = pace(&[&arguments[..], &["--neighbour", "without", place]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let first = text(&output.stderr).lines().next().unwrap().to_owned();
    assert!(first.contains("at most 32 takes") && first.contains("in all"), "{first}");
}

/// Of 1 MB/s in records of 16 KiB: 1.2 s, of which the first two tenths do not count.
#[test]
fn four_streams_take_turns_and_every_file_is_exact() {
    let options = ["--streams", "4", "--rate", "1MB/s", "--every", "100ms", "--for", "1s"];
    let result = measured(&[&options[..], &["--laps", "1", "--memory", "8MiB"]].concat());
    assert_eq!(
        (&result["bytes_per_s"], &result["record_bytes"]),
        (&1_000_000.into(), &16384.into())
    );
    assert_eq!((&result["fence_ms"], &result["seconds"]), (&100.0.into(), &1.0.into()));
    assert_eq!(result["takes"], Value::Array(Vec::new()));
    let streams = &result["streams"];
    assert_eq!((&streams["streams"], &streams["rounds"]), (&4.into(), &10.into()));
    let rows = streams["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["subject"].as_str().unwrap()).collect();
    assert_eq!(names, ["threads", "writeflush-shared", "writeflush-own", "ring"]);
    for row in rows {
        assert_eq!(row["error"], Value::Null, "{row}");
        assert_eq!((&row["records"], &row["fences"]), (&292.into(), &40.into()), "{row}");
        let lost = row["lost_bytes"].as_u64().unwrap();
        assert_eq!(lost, row["overruns"].as_u64().unwrap() * 16384, "{row}");
        assert_eq!(row["bytes"].as_u64().unwrap() + lost, 292 * 16384, "{row}");
        assert_eq!(row["exact_files"], 4, "{row}");
        assert!(row["memory_bytes"].as_u64().unwrap() >= 4 * (8 << 20), "{row}");
        assert_eq!(row["cpu_ms_by_lap"].as_array().unwrap().len(), 1, "{row}");
        assert!(row["fence_us"]["mean"].as_f64().unwrap() > 0.0, "{row}");
    }
    let of = |row: usize, what: &str| rows[row][what].as_u64().unwrap();
    assert_eq!((of(0, "threads"), of(0, "descriptors")), (4, 4));
    assert!(of(1, "threads") <= 3 && of(1, "descriptors") <= 4 + 8, "{}", rows[1]);
    assert_eq!(of(2, "threads"), 4);
    assert_eq!((of(3, "threads"), of(3, "descriptors")), (1, 6));
    let generator = &streams["generator"];
    assert_eq!((&generator["fences"], &generator["descriptors"]), (&40.into(), &0.into()));
}

#[test]
fn streams_can_be_chosen_and_their_fences_fall_due_together() {
    let options = ["--streams", "3", "--for", "400ms", "--laps", "2", "--phases", "together"];
    let chosen = ["--subjects", "shared", "--backend", "sync", "--file", "written"];
    let result = measured(&[&options[..], &chosen].concat());
    let streams = &result["streams"];
    assert_eq!((&streams["phases"], &streams["laps"]), (&"together".into(), &2.into()));
    let rows = streams["rows"].as_array().unwrap();
    assert_eq!(
        (rows.len(), &rows[0]["fences"], &rows[0]["exact_files"]),
        (1, &12.into(), &6.into())
    );
    assert!(rows[0]["way"].as_str().unwrap().contains("sync with"), "{}", rows[0]);
    let listed = text(&pace(&["--streams", "1", "--list"]).stdout);
    assert_eq!(listed.lines().count(), 4, "{listed}");
}

#[test]
fn more_streams_than_descriptors_are_refused_with_what_to_do() {
    let folder = directory();
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 64; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_writeflush")])
        .args(["pace", "--streams", "50", "--for", "1s"])
        .arg(folder.path())
        .output()
        .unwrap();
    let error = text(&output.stderr);
    assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{error}");
    assert!(error.contains("raise the limit (ulimit -n "), "{error}");
    assert!(nothing_left(folder.path()));
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
    refused(&["--rate", "1MB/s", "--for", "0", place], "more than 0");
    refused(&["--rate", "1MB/s", "--record", "1MiB", "--memory", "1MiB", place], "2 MiB");
    refused(&["--rate", "1MB/s", "--memory", "64TiB", place], "has free: give less");
    refused(&["--rate", "1MB/s", "--subjects", "tape", place], "--list");
    refused(&["--rate", "1MB/s", "--subjects", "poll", "--drive", "thread", place], "no recorder");
    refused(&["--rate", "1MB/s", "--drive", "caller", place], "thread or poll");
    refused(&["--rate", "1MB/s", "--backend", "spdk", place], "auto, uring or sync");
    refused(&["--rate", "1MB/s", "--file", "melted", place], "growing, reserved or written");
    refused(&["--rate", "1MB/s", "--json", "/proc/x.json", place], "another directory");
    refused(&["--rate", "1MB/s", "/no/such/place"], "does not exist");
    refused(&["--rate", "1EB/s", "--for", "1h", place], "free");
    refused(&["--streams", "0", place], "from 1 to 4096");
    refused(&["--streams", "many", place], "from 1 to 4096");
    refused(&["--streams", "2", "--every", "0", place], "--every 0");
    refused(&["--streams", "2", "--rate", "10kB/s", place], "a smaller --record");
    refused(&["--streams", "2", "--for", "100ms", place], "fewer --laps");
    refused(&["--streams", "2", "--subjects", "tape", place], "--list");
    refused(&["--streams", "2", "--find-buffer", place], "cannot be used with");
    refused(&["--streams", "2", "--memory", "64TiB", place], "fewer --streams");
    refused(&["--rate", "1MB/s", "--laps", "2", place], "--streams");
    refused(&["--rate", "1MB/s", "--json", kept.to_str().unwrap(), place], "--force");
    assert_eq!(fs::read_to_string(&kept).unwrap(), "mine");
    // A record of one byte each nanosecond.
    let fast = ["--rate", "1GB/s", "--record", "1", "--for", "100ms", place];
    refused(&fast, "hands over at most");
    fs::remove_file(&kept).unwrap();
    assert!(nothing_left(folder.path()));
}

/// The ring's memory is there when it is asked for, and is not when the process may have no more.
#[test]
fn memory_that_is_refused_is_no_crash() {
    let folder = directory();
    for subject in ["ring", "writeflush-thread"] {
        let output = Command::new("sh")
            .args(["-c", "ulimit -v 1500000; exec \"$@\"", "sh"])
            .args([env!("CARGO_BIN_EXE_writeflush"), "pace", "--subjects", subject])
            .args(["--rate", "1MB/s", "--for", "100ms", "--memory", "2GiB"])
            .arg(folder.path())
            .output()
            .unwrap();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{subject}: {error}");
        assert!(error.contains("give less --memory"), "{subject}: {error}");
        assert!(nothing_left(folder.path()));
    }
}

/// The disk fails in the middle of a recording: here, files may not be longer than a megabyte.
#[test]
fn a_recording_that_fails_is_told_and_its_search_ends() {
    let (folder, results) = (directory(), directory());
    let file = results.path().join("pace.json");
    for (search, key) in [(None, "takes"), (Some("--find-buffer"), "smallest")] {
        let output = Command::new("sh")
            .args(["-c", "ulimit -f 1000; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_writeflush")])
            .args(["pace", "--rate", "10MB/s", "--for", "500ms", "--neighbour", "without"])
            .args(["--force", "--json", file.to_str().unwrap()])
            .args(search)
            .arg(folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        assert!(nothing_left(folder.path()));
        let document: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        for one in document["result"][key].as_array().unwrap() {
            let error = one["error"].as_str().unwrap_or_else(|| panic!("{one}"));
            assert!(text(&output.stdout).contains(error), "{}", text(&output.stdout));
            assert_eq!(one["memory_bytes"].is_null(), search.is_some(), "{one}");
        }
    }
}

/// A small file system that is full of what was asked for, but for the neighbour's file.
#[test]
fn the_file_of_the_neighbour_takes_space_as_well() {
    let image = directory();
    let mount = |options: &[&str]| Command::new("mount").args(options).output().unwrap();
    let place = image.path().to_str().unwrap();
    if !mount(&["-t", "tmpfs", "-o", "size=64m", "tmpfs", place]).status.success() {
        return skip::skip("the_file_of_the_neighbour_takes_space_as_well", "a mount takes root");
    }
    let arguments = ["--rate", "1MB/s", "--for", "500ms", "--subjects", "ring", "--neighbour"];
    let with = pace(&[&arguments[..], &["with", place]].concat());
    let without = pace(&[&arguments[..], &["without", place]].concat());
    Command::new("umount").arg(place).status().unwrap();
    assert_eq!(with.status.code(), Some(2), "{}", text(&with.stderr));
    assert!(text(&with.stderr).contains("free"), "{}", text(&with.stderr));
    assert_eq!(without.status.code(), Some(0), "{}", text(&without.stderr));
}

/// Interrupts a recording so long after its first file is there, and sees that it ends well.
fn interrupted(arguments: &[&str], signal: rustix::process::Signal, after: Duration) {
    let (folder, results) = (directory(), directory());
    let file = results.path().join("result.json");
    let mut child = tool()
        .args(arguments)
        .args(["--json", file.to_str().unwrap()])
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
    std::thread::sleep(after);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
    let told = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if told.elapsed() > Duration::from_secs(30) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{arguments:?}: it goes on after {signal:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(130), "{arguments:?}");
    assert!(nothing_left(folder.path()), "{arguments:?}");
    assert_eq!(fs::read_dir(results.path()).unwrap().count(), 0, "{arguments:?}");
}

#[test]
fn an_interrupted_recording_leaves_nothing_whenever_the_signal_comes() {
    use rustix::process::Signal;
    // A record is due every five minutes; one each millisecond; 4 GB are written beforehand.
    let slow = ["--rate", "1000", "--record", "300kB", "--for", "1h"];
    let fast = ["--rate", "1MB/s", "--record", "1kB", "--for", "1h"];
    let prepared = ["--rate", "4GB", "--record", "1MiB", "--for", "1s", "--file", "written"];
    let search = ["--rate", "1MB/s", "--for", "10s", "--find-buffer"];
    let many = ["--streams", "8", "--rate", "200kB/s", "--for", "1h"];
    for (signal, after) in [(Signal::INT, 50), (Signal::TERM, 1500)] {
        for arguments in [&slow[..], &fast, &search, &many] {
            interrupted(arguments, signal, Duration::from_millis(after));
        }
    }
    interrupted(&prepared, Signal::TERM, Duration::from_millis(100));
}

/// From the start: its first words already meet it.
#[test]
fn a_terminal_that_is_stopped_holds_up_no_recording() {
    let folder = directory();
    let terminal = terminals::Terminal::open();
    terminal.flow(rustix::termios::Action::OOff);
    let mut command = tool();
    command.args(["--rate", "2MB/s", "--record", "4KiB", "--for", "300ms"]).arg(folder.path());
    let child = command.stdout(Stdio::piped()).stderr(terminal.stderr()).spawn().unwrap();
    let output = terminals::ends(child);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("writeflush"));
    assert!(nothing_left(folder.path()));
}
