//! `compare` as its user meets it.
#![cfg(target_os = "linux")]

#[path = "../../tests/common/skip.rs"]
mod skip;
#[allow(dead_code)]
#[path = "common/terminals.rs"]
mod terminals;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use skip::skip;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn tool() -> Command {
    Command::new(env!("CARGO_BIN_EXE_writeflush"))
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

/// A comparison in which every cell has an interval, and not much more.
const SMALL: [&str; 8] =
    ["--samples", "200", "--records", "4KiB", "--committers", "1,2", "--states", "written"];

fn measured(arguments: &[&str], code: i32) -> (Value, String) {
    let (folder, results) = (directory(), directory());
    let file = results.path().join("result.json");
    let (place, kept) = (folder.path().to_str().unwrap(), file.to_str().unwrap());
    let output = compare(&[arguments, &["--json", kept, place]].concat());
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    assert!(nothing_left(folder.path()));
    let printed = text(&output.stdout);
    assert_eq!(printed, text(&compare(&["--replay", kept]).stdout), "a replay prints the same");
    (serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap(), printed)
}

fn rows(cell: &Value) -> &Vec<Value> {
    cell["rows"].as_array().unwrap()
}

fn row<'a>(cell: &'a Value, subject: &str) -> &'a Value {
    rows(cell).iter().find(|row| row["subject"] == subject).expect(subject)
}

#[test]
fn every_number_of_the_table_is_in_the_file() {
    let (document, printed) = measured(&[&SMALL[..], &["--quick", "--stream", "8MiB"]].concat(), 0);
    assert_eq!((&document["format"], &document["kind"]), (&2.into(), &"compare".into()));
    let cells = document["result"]["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 2);
    let listed = text(&compare(&["--list"]).stdout);
    for cell in cells {
        let mut listed = listed.lines().filter(|name| !name.starts_with("floor"));
        assert!(listed.all(|name| !row(cell, name).is_null()));
        for row in rows(cell) {
            a_row_is_whole(row, cell["committers"].as_u64().unwrap());
        }
    }
    let mut numbers = 0;
    let mut cell = &Value::Null;
    for line in printed.lines() {
        if let Some(found) = cells.iter().find(|cell| line.starts_with(&heading(cell))) {
            cell = found;
        } else if line.starts_with("8 MiB into a written file") {
            cell = &document["result"]["streams"];
        } else if cell.is_array() {
            numbers += a_line_of_streams(cell, line);
        } else if !cell.is_null() {
            numbers += a_line_of_a_cell(cell, line);
        }
    }
    let figures =
        |cell: &Value| rows(cell).iter().filter(|row| row.get("measured").is_some()).count();
    let least = 5 * cells.iter().map(figures).sum::<usize>() + 4;
    assert!(numbers >= least, "{numbers} were found, and {least} at least are printed");
}

fn heading(cell: &Value) -> String {
    let n = cell["committers"].as_u64().unwrap();
    format!("4 KiB, written file, {n} committer{}:", if n == 1 { "" } else { "s" })
}

/// Where in the figures of a row each printed column comes from, from the second on.
const COLUMNS: [&str; 15] = [
    "/flush_us/p50",
    "/flush_us/p90",
    "/flush_us/p99",
    "/flush_us/p99_9",
    "/flush_us/max",
    "/ratio/value",
    "/ratio/low–/ratio/high",
    "/ratio/p50/value",
    "/ratio/mean/value",
    "/mb_per_s",
    "/cost/cpu_s_per_gb/median",
    "/cost/system_calls_per_commit",
    "/cost/device_flushes_per_commit",
    "/cost/device_bytes_per_byte",
    "/verdict/word",
];

/// How many numbers of the line were looked up.
fn a_line_of_a_cell(cell: &Value, line: &str) -> usize {
    let line = line.trim();
    let of_line = |row: &&Value| {
        let rest = line.strip_prefix(row["subject"].as_str().unwrap());
        rest.is_some_and(|rest| rest.split_whitespace().count() == COLUMNS.len())
    };
    let Some(row) = rows(cell).iter().find(of_line) else { return 0 };
    let rest = &line[row["subject"].as_str().unwrap().len()..];
    let mut numbers = 0;
    for (printed, column) in rest.split_whitespace().zip(COLUMNS) {
        let pointers: Vec<&str> = column.split('–').collect();
        let parts: Vec<&str> = if printed == "–" {
            vec![printed; pointers.len()]
        } else {
            printed.split('–').collect()
        };
        assert_eq!(parts.len(), pointers.len(), "{column}: {line}");
        for (part, pointer) in parts.iter().zip(pointers) {
            let kept = row["measured"].pointer(pointer).unwrap_or(&Value::Null);
            is_printed(part, kept, line);
            numbers += usize::from(kept.is_number());
        }
    }
    numbers
}

#[track_caller]
fn is_printed(printed: &str, kept: &Value, line: &str) {
    let expected = match kept {
        Value::Null => "–".into(),
        Value::String(word) => word.clone(),
        kept => {
            let digits = printed.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            format!("{:.digits$}", kept.as_f64().unwrap())
        }
    };
    assert_eq!(printed, expected, "{line}");
}

fn a_line_of_streams(streams: &Value, line: &str) -> usize {
    let streams = streams.as_array().unwrap();
    let line = line.trim();
    let mut numbers = 0;
    let of = |name: &str| streams.iter().filter(|stream| stream["subject"] == name).collect();
    let mut names: Vec<&str> = streams.iter().map(|s| s["subject"].as_str().unwrap()).collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len())); // `floor` begins another name
    let Some(name) = names.into_iter().find(|name| line.starts_with(name)) else { return 0 };
    let of_name: Vec<&Value> = of(name);
    for (printed, stream) in line[name.len()..].split_whitespace().zip(of_name) {
        if let Some(rates) = stream["mb_per_s"].as_array() {
            is_printed(printed, &rates[rates.len() / 2], line);
            numbers += 1;
        }
    }
    numbers
}

fn a_row_is_whole(row: &Value, committers: u64) {
    let Some(figures) = row.get("measured") else {
        assert!(row["refused"].as_str().is_some_and(|reason| !reason.is_empty()), "{row}");
        return;
    };
    let commits = figures["commits"].as_u64().unwrap();
    assert!(commits >= 200, "{row}");
    let steps = figures["steps"].as_array().unwrap();
    assert_eq!(steps.iter().map(|step| step[1].as_u64().unwrap()).sum::<u64>(), commits);
    assert!(figures["flush_us"]["max"].as_f64().unwrap() > 0.0);
    if commits < 10_000 {
        assert_eq!(figures["flush_us"]["p99"], Value::Null, "too few samples for it");
    }
    let fenced = row["class"] != "page cache";
    assert_eq!(fenced, figures["verdict"]["word"] != "UNFENCED", "{row}");
    if figures["verdict"]["word"] == "HONEST" && committers == 1 {
        let flushes = figures["cost"]["device_flushes_per_commit"].as_f64();
        assert!(flushes.is_none_or(|flushes| flushes >= 1.0), "{row}");
    }
    if row["family"] == "writeflush" {
        let ratio = &figures["ratio"];
        assert!(ratio["low"].as_f64().unwrap() <= ratio["value"].as_f64().unwrap(), "{row}");
        assert!(ratio["value"].as_f64().unwrap() <= ratio["high"].as_f64().unwrap(), "{row}");
        assert_eq!(ratio["p50"].is_null(), committers > 1, "{row}");
    }
}

#[test]
fn a_subject_brings_its_floor_and_is_there_twice() {
    let small = ["--samples", "200", "--records", "256", "--states", "growing"];
    let rest = ["--committers", "1", "--stream", "0", "--subjects", "sync caller"];
    let direct = ["--direct", "off"];
    let (document, _) = measured(&[&small[..], &rest, &direct].concat(), 0);
    let cell = &document["result"]["cells"][0];
    assert_eq!((&cell["direct"], rows(cell).len()), (&false.into(), 3));
    let ratio = |subject: &str| &row(cell, subject)["measured"]["ratio"];
    assert_eq!(ratio("writeflush sync caller")["to"], "floor pwritev2 DSYNC");
    assert_eq!(ratio("A/A writeflush sync caller")["to"], "writeflush sync caller");
    assert_eq!(&cell["noise"]["ratio"], ratio("A/A writeflush sync caller"));
}

#[test]
fn who_dies_on_the_way_is_told_and_what_was_measured_is_kept() {
    let (folder, results) = (directory(), directory());
    let file = results.path().join("result.json");
    // A file may have 25 blocks: 52 records of 256 bytes fit, of 4 KiB they don't; a written
    // file can't even be made.
    let output = Command::new("prlimit")
        .args(["--fsize=102400", env!("CARGO_BIN_EXE_writeflush"), "compare"])
        .args(["--samples", "2000", "--records", "256,4KiB", "--states", "growing,written"])
        .args(["--committers", "1", "--stream", "0", "--subjects", "sync caller"])
        .args(["--json", file.to_str().unwrap(), folder.path().to_str().unwrap()])
        .output();
    let Ok(output) = output else {
        return skip("who_dies_on_the_way_is_told", "there is no prlimit");
    };
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(nothing_left(folder.path()));
    let document: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let result = &document["result"];
    let cells = result["cells"].as_array().unwrap();
    let of = |record: u64, state: &str| {
        let same = |cell: &&Value| cell["record_bytes"] == record && cell["file_state"] == state;
        cells.iter().find(same)
    };
    for state in ["growing", "written"] {
        let whole = of(256, state).expect("it was measured");
        assert!(rows(whole).iter().all(|row| row.get("measured").is_some()), "{whole}");
    }
    let dying = of(4096, "growing").expect("it was begun");
    for row in rows(dying) {
        assert!(row["died"].as_str().is_some_and(|why| why.contains("too large")), "{row}");
    }
    assert!(of(4096, "written").is_none());
    let failures = result["failures"].as_array().unwrap();
    assert_eq!(failures.len(), rows(dying).len() + 1, "{failures:?}");
    assert!(text(&output.stdout).contains("failed: 4 KiB, written file"));
}

#[test]
fn the_same_figures_in_other_formats() {
    let (folder, results) = (directory(), directory());
    let path = |name: &str| results.path().join(name).to_str().unwrap().to_owned();
    let (json, csv, markdown) = (path("r.json"), path("r.csv"), path("r.md"));
    let small = ["--samples", "200", "--records", "256", "--states", "growing"];
    let rest = ["--committers", "1", "--stream", "0", "--subjects", "BufWriter"];
    let files = ["--json", &json, "--csv", &csv, folder.path().to_str().unwrap()];
    let output = compare(&[&small[..], &rest, &files].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    refused(&["--replay", &json, "--csv", &csv], "--force");
    let output = compare(&["--replay", &json, "--csv", &csv, "--markdown", &markdown, "--force"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let document: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let rows = rows(&document["result"]["cells"][0]);
    let markdown = fs::read_to_string(&markdown).unwrap();
    let mut lines = csv::Reader::from_path(&csv).unwrap();
    let lines: Vec<HashMap<String, String>> = lines.deserialize().map(Result::unwrap).collect();
    assert_eq!(lines.len(), rows.len());
    for row in rows {
        let (subject, figures) = (row["subject"].as_str().unwrap(), &row["measured"]);
        let line = lines.iter().find(|line| line["subject"] == subject).expect(subject);
        let same = |column: &str, kept: &Value| {
            assert_eq!(line[column].parse().ok(), kept.as_f64(), "{column}: {line:?}");
        };
        same("mb_per_s", &figures["mb_per_s"]);
        same("commits", &figures["commits"]);
        same("p50_us", &figures["flush_us"]["p50"]);
        same("ratio", &figures["ratio"]["value"]);
        assert!(markdown.contains(&format!("| {subject} |")), "{markdown}");
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
    refused(&["--quick", "--json", "/proc/x.json", place], "can't be written");
    refused(&["--quick", "--csv", "/proc/x.csv", place], "can't be written");
    refused(&["--direct", "perhaps", place], "on or off");
    refused(&["--for", "1m", "--samples", "200", place], "cannot be used with");
    let older = folder.path().join("older.json");
    fs::write(&older, r#"{"format":1,"kind":"compare"}"#).unwrap();
    refused(&["--replay", older.to_str().unwrap()], "has format 1");
    if !cfg!(feature = "peers") {
        refused(&["--quick", "--peers", place], "--features peers");
    }
}

#[test]
fn too_little_space_is_said_before_anything_is_written() {
    // Small, whatever room the disk has.
    let folder = directory();
    let place = folder.path().to_str().unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=64m", "tmpfs", place];
    if !Command::new("mount").args(mount).output().unwrap().status.success() {
        return skip("too_little_space_is_said_before", "a mount takes root");
    }
    let records = ["--records", "64MiB", "--committers", "64,1", "--samples", "100"];
    let output = compare(&[&records[..], &[place]].concat());
    let nothing = nothing_left(folder.path());
    Command::new("umount").arg(place).status().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("free"), "{}", text(&output.stderr));
    assert!(nothing);
}

#[test]
fn memory_is_never_called_durable() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        return skip("memory_is_never_called_durable", "there is no /dev/shm");
    };
    let results = directory();
    let file = results.path().join("result.json");
    let (place, kept) = (folder.path().to_str().unwrap(), file.to_str().unwrap());
    let output = compare(&[&SMALL[..], &["--quick", "--json", kept, place]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let document: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let measured: Vec<&Value> = rows(&document["result"]["cells"][0])
        .iter()
        .filter(|row| row.get("measured").is_some())
        .collect();
    assert!(!measured.is_empty());
    for row in measured {
        let word = row["measured"]["verdict"]["word"].as_str().unwrap();
        assert!(["NOOP", "UNFENCED"].contains(&word), "{row}");
        assert!(["memory", "page cache"].contains(&row["class"].as_str().unwrap()), "{row}");
    }
    assert!(!text(&output.stdout).contains(": durable"));
}

#[test]
fn an_interrupted_comparison_leaves_nothing() {
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
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
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(130), "{signal:?}");
        assert!(nothing_left(folder.path()) && nothing_left(results.path()), "{signal:?}");
    }
}

/// From the start: its first words already meet it.
#[test]
fn a_terminal_that_is_stopped_holds_up_no_comparison() {
    let folder = directory();
    let terminal = terminals::Terminal::open();
    terminal.flow(rustix::termios::Action::OOff);
    let mut command = tool();
    let small =
        ["--samples", "200", "--records", "4KiB", "--committers", "1", "--states", "written"];
    command.arg("compare").args(small).arg("--quick").arg(folder.path());
    let child = command.stdout(Stdio::piped()).stderr(terminal.stderr()).spawn().unwrap();
    let output = terminals::ends(child);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("4 KiB, written file, 1 committer:"));
    assert!(nothing_left(folder.path()));
}
