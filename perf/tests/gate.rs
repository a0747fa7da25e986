//! `gate` as its user meets it. The programs are shell scripts that answer what they are told to,
//! so that every verdict is certain.
#![cfg(target_os = "linux")]

#[path = "../../tests/common/skip.rs"]
mod skip;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use skip::skip;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn gate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_writeflush")).arg("gate").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A program that knows one operation, or another, which takes what a line of shell says.
fn program(folder: &Path, name: &str, operation: &str, run: &str) -> PathBuf {
    let path = folder.join(name);
    let script = format!(
        "#!/bin/sh\necho writeflush-gate 1\nwhile read -r word rest; do case $word in\n\
         list) echo operations {operation};;\nrun) {run};;\n\
         begin) begun=${{rest%% *}}; echo ok;;\n*) echo ok;;\nesac; done\n"
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

struct Answer {
    status: Option<i32>,
    printed: String,
    said: String,
    document: Value,
}

/// Compares two programs in few turns, and judges the same evidence again.
fn compared(base: &Path, candidate: &Path, arguments: &[&str]) -> Answer {
    let (place, results) = (directory(), directory());
    let file = results.path().join("gate.json");
    let kept = file.to_str().unwrap();
    let output = gate(
        &[
            &["--tiers", "turns", "--turns", "36", "--ignore-steal"][..],
            &["--json", kept, place.path().to_str().unwrap()],
            &["--base-program", base.to_str().unwrap()],
            &["--candidate-program", candidate.to_str().unwrap()],
            arguments,
        ]
        .concat(),
    );
    assert!(fs::read_dir(place.path()).unwrap().next().is_none(), "nothing is left");
    let (printed, said) = (text(&output.stdout), text(&output.stderr));
    let Ok(kept_text) = fs::read_to_string(&file) else {
        return Answer { status: output.status.code(), printed, said, document: Value::Null };
    };
    let replayed = gate(&["--replay", kept]);
    assert_eq!(printed, text(&replayed.stdout), "a replay prints the same");
    assert_eq!(output.status.code(), replayed.status.code());
    let document = serde_json::from_str(&kept_text).unwrap();
    Answer { status: output.status.code(), printed, said, document }
}

#[test]
fn a_slower_candidate_is_a_regression_and_an_equal_one_passes() {
    let folder = directory();
    let of = |name, run: &str| program(folder.path(), name, "line", run);
    let base = of("base", "echo took 100000 fences=$rest");
    let slower = of("slower", "echo took 105000 fences=$rest");
    let found = compared(&base, &slower, &[]);
    assert_eq!(found.status, Some(1), "{}{}", found.printed, found.said);
    assert!(found.printed.contains("+5.0 % [+5.0 – +5.0]"), "{}", found.printed);
    assert!(
        found.printed.contains("repeat it: writeflush gate --tiers turns"),
        "{}",
        found.printed
    );
    let result = &found.document["result"];
    assert_eq!(result["verdict"], "regression");
    let stages = result["evidence"][0]["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 2, "a first stage is only a suspicion");

    let found = compared(&base, &base, &[]);
    assert_eq!((found.status, &found.document["result"]["verdict"]), (Some(0), &"pass".into()));
    let faster = of("faster", "echo took 50000");
    assert_eq!(compared(&base, &faster, &[]).status, Some(0));
}

#[test]
fn the_limit_is_what_was_asked_for_and_is_kept_with_the_evidence() {
    let folder = directory();
    let of = |name, run: &str| program(folder.path(), name, "line", run);
    let base = of("base", "echo took 100000 fences=$rest");
    let slower = of("slower", "echo took 101500 fences=$rest");
    assert_eq!(compared(&base, &slower, &[]).status, Some(0));
    let found = compared(&base, &slower, &["--limit", "1"]); // and the replay says the same
    assert_eq!(found.status, Some(1), "{}{}", found.printed, found.said);
    assert_eq!(compared(&base, &slower, &["--limit", "1.6%"]).status, Some(0));
    for bad in ["0", "-1", "101", "NaN", "much"] {
        let output = gate(&[&format!("--limit={bad}")]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("from 0.1 to 100"), "{bad}: {said}");
    }
}

/// Without a tool that counts.
#[test]
fn a_baseline_holds_how_many_times_as_long_as_its_floor_an_operation_takes() {
    let (folder, place) = (directory(), directory());
    let of = |name, took: &str| {
        let run = format!(
            "case $begun in line/floor) echo took 100000;; line) echo took {took};; \
             *) echo took 1;; esac"
        );
        program(folder.path(), name, "line other line/floor", &run)
    };
    let kept = folder.path().join("baseline.json");
    let gate = |program: &Path, file: &str| {
        let mut gate = Command::new(env!("CARGO_BIN_EXE_writeflush"));
        gate.args(["gate", "--turns", "36", "--ignore-steal", "--candidate-program"]).arg(program);
        gate.arg(file).arg(&kept).arg(place.path()).env("PATH", place.path());
        let output = gate.output().unwrap();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (status, said) = gate(&of("then", "170000"), "--write-baseline");
    assert_eq!(status, Some(0), "{said}");
    let baseline: Value = serde_json::from_str(&fs::read_to_string(&kept).unwrap()).unwrap();
    let entries = baseline["result"]["entries"].as_array().unwrap();
    let line = entries.iter().find(|entry| entry["operation"] == "line").unwrap();
    assert_eq!(line["times_its_floor"], serde_json::json!([1.7, 1.7, 1.7]), "{line}");

    let (status, said) = gate(&of("a-bit", "180000"), "--baseline");
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("+5.9 %") && said.contains("time by its floor"), "{said}");
    let (status, said) = gate(&of("slower", "190000"), "--baseline");
    assert_eq!(status, Some(1), "{said}");
    assert!(!said.contains("line/floor"), "a floor is no operation of its own: {said}");
}

#[test]
fn a_base_that_differs_from_itself_leaves_no_verdict() {
    let folder = directory();
    // Before the first block three are started; in a block the null arm is the second of three.
    let count = folder.path().join("count");
    fs::write(&count, "0").unwrap();
    let count = count.display();
    let fickle = "echo took $((100000 + (n % 3 == 1) * 20000))";
    let base = program(folder.path(), "fickle", "line", fickle);
    let script = fs::read_to_string(&base).unwrap();
    let counts = format!("n=$(cat {count}); echo $((n + 1)) > {count}\necho writeflush");
    fs::write(&base, script.replacen("echo writeflush", &counts, 1)).unwrap();
    let found = compared(&base, &base, &[]);
    assert_eq!(found.status, Some(3), "{}", found.printed);
    assert_eq!(found.document["result"]["verdict"], "no verdict");
}

#[test]
fn what_can_not_be_compared_is_said_in_a_line() {
    let folder = directory();
    let of = |name, operation, run| program(folder.path(), name, operation, run);
    let base = of("base", "line old", "echo took 100000");
    let refused = |candidate: &Path, arguments: &[&str], says: &str| {
        let found = compared(&base, candidate, arguments);
        assert_eq!(found.status, Some(2), "{}", found.said);
        assert_eq!(found.said.lines().count(), 1, "{}", found.said);
        assert!(found.said.contains(says), "{}", found.said);
    };
    refused(&of("other", "other", "echo took 1"), &[], "no operation in common");
    refused(&base, &["--operations", "what"], "no operation 'what'");
    refused(&of("broken", "line", "echo error no disk"), &[], "no disk");
    refused(&of("dead", "line", "echo oh dear >&2; exit 1"), &[], "its last words: oh dear");
    refused(&of("babble", "line", "echo hello"), &[], "answered 'hello'");
    refused(Path::new("/no/such"), &[], "name a program that was built");
    refused(Path::new("/bin/true"), &[], "ended too early");

    let nowhere = tempfile::tempdir().unwrap(); // in no repository
    let nothing = Command::new(env!("CARGO_BIN_EXE_writeflush"))
        .arg("gate")
        .current_dir(&nowhere)
        .output()
        .unwrap();
    assert_eq!(nothing.status.code(), Some(2));
    assert!(text(&nothing.stderr).contains("--base-program"), "{}", text(&nothing.stderr));
}

#[test]
fn what_only_one_side_has_is_named() {
    let folder = directory();
    let of = |name, operation| program(folder.path(), name, operation, "echo took 100000");
    let found = compared(&of("base", "line old"), &of("candidate", "line new"), &[]);
    assert_eq!(found.status, Some(0), "{}", found.said);
    assert!(found.printed.contains("skipped: new: the base does not have it"), "{}", found.printed);
    assert!(found.printed.contains("skipped: old: the candidate no longer"), "{}", found.printed);
}

/// Evidence of real runs, named after what a gate that is right says to it.
#[test]
fn stored_traces_have_the_verdict_that_they_are_named_after() {
    let mut count = 0;
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/traces")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let words = ["pass-", "regression-", "no-verdict-"];
        let word = words.iter().position(|word| name.starts_with(word)).expect(name);
        let replayed = gate(&["--replay", path.to_str().unwrap()]);
        let printed = text(&replayed.stdout);
        assert_eq!(replayed.status.code(), Some([0, 1, 3][word]), "{name}: {printed}");
        count += 1;
    }
    assert!(count >= 3, "{count}");
}

/// The example of the protocol's page.
#[test]
fn a_program_in_c_speaks_the_protocol() {
    let folder = directory();
    let program = folder.path().join("log");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gated/c/log.c");
    let compiled = Command::new("cc")
        .args(["-O2", "-Wall", "-Wextra", "-Werror", source, "-o"])
        .arg(&program)
        .status();
    match compiled {
        Ok(status) => assert!(status.success()),
        Err(error) => return skip("a_program_in_c_speaks_the_protocol", &error.to_string()),
    }
    let found = compared(&program, &program, &[]);
    // How noisy this machine is while tests run, nobody knows.
    let evidence = &found.document["result"]["evidence"][0];
    assert!(evidence["stages"][0]["blocks"].as_array().unwrap().len() >= 6, "{}", found.said);
    assert_ne!(found.status, Some(2), "{}", found.said);
}

#[test]
fn a_signal_ends_it_and_leaves_nothing() {
    let (folder, place) = (directory(), directory());
    let base = program(folder.path(), "slow", "line", "sleep 0.01; echo took 100000");
    let mut child = Command::new(env!("CARGO_BIN_EXE_writeflush"))
        .args(["gate", "--tiers", "turns", "--base-program"])
        .args([&base, Path::new("--candidate-program"), &base, place.path()])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while fs::read_dir(place.path()).unwrap().next().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(fs::read_dir(place.path()).unwrap().next().is_none());
}
