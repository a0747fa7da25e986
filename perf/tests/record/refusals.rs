//! What can't be recorded, and how that is said.

use super::*;

/// One line, status 2, nothing on standard output.
#[track_caller]
pub(super) fn assert_refused(output: &Output, word: &str) {
    assert_status(output, 2);
    let text = stderr(output);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("error: ") && text.contains(word), "no '{word}' in: {text}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_recording_is_overwritten_only_by_force() {
    let place = directory();
    let path = place.path().join("take.raw");
    fs::write(&path, b"old").unwrap();
    assert_refused(&fed(record().arg(&path), b"new"), "--force");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_status(&fed(record().arg("--append").arg(&path), b"new"), 0);
    assert_eq!(fs::read(&path).unwrap(), b"oldnew");
    assert_status(&fed(record().arg("--force").arg(&path), b"!"), 0);
    assert_eq!(fs::read(&path).unwrap(), b"!");
    fs::write(&path, b"").unwrap();
    assert_status(&fed(record().arg(&path), b"into an empty file"), 0);
    assert_eq!(fs::read(&path).unwrap(), b"into an empty file");
}

#[test]
fn append_at_goes_on_where_it_is_told_and_drops_what_follows() {
    let place = directory();
    let path = place.path().join("take.raw");
    fs::write(&path, b"0123456789").unwrap();
    let append_at = |position: &str, more: &[&str], bytes: &[u8]| {
        fed(record().args(["--append-at", position]).args(more).arg(&path), bytes)
    };
    assert_refused(&append_at("11", &[], b"far"), "has 10 bytes");
    assert_refused(&append_at("7", &["--frame", "2"], b"half"), "no whole number of frames");
    assert_eq!(fs::read(&path).unwrap(), b"0123456789");
    assert_status(&append_at("10", &[], b"ab"), 0);
    assert_eq!(fs::read(&path).unwrap(), b"0123456789ab");
    assert_status(&append_at("4", &["--frame", "2"], b"cd"), 0);
    assert_eq!(fs::read(&path).unwrap(), b"0123cd");
}

/// As a recording in direct I/O leaves it that is killed: its zeros may be padding.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_was_not_closed_is_appended_to_only_where_it_is_told() {
    const NAME: &str = "a_file_that_was_not_closed_is_appended_to_only_where_it_is_told";
    let place = directory();
    let path = place.path().join("take.raw");
    let mut unfinished = b"data".to_vec();
    unfinished.resize(4096, 0);
    fs::write(&path, &unfinished).unwrap();
    let none = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(&path, "user.writeflush", b"padding", none).is_err() {
        return skip::skip(NAME, "no user attributes here");
    }
    let refused = fed(record().arg("--append").arg(&path), b", more");
    assert_refused(&refused, "--append-at BYTE");
    assert_refused(&refused, "from 4 to 4096");
    assert_eq!(fs::read(&path).unwrap(), unfinished);
    assert_status(&fed(record().args(["--append-at", "4"]).arg(&path), b", more"), 0);
    assert_status(&fed(record().arg("--append").arg(&path), b"!"), 0);
    assert_eq!(fs::read(&path).unwrap(), b"data, more!");
}

/// What is advised can be typed: by the name that the program was called with.
#[test]
fn advice_names_the_command_that_was_typed() {
    let place = directory();
    let link = place.path().join("wf");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_writeflush"), &link).unwrap();
    let said = |program: &std::path::Path, cargo: Option<&str>| {
        let mut command = Command::new(program);
        command.arg("record").env_remove("CARGO_PKG_NAME");
        command.envs(cargo.map(|name| ("CARGO_PKG_NAME", name)));
        stderr(&command.output().unwrap())
    };
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_writeflush"));
    assert!(said(program, None).contains("see 'writeflush record --help'"));
    assert!(said(program, Some("writeflush-cli")).contains("see 'cargo perf record --help'"));
    assert!(said(&link, Some("other")).contains("see 'wf record --help'"));
}

/// A script that asks for JSON gets it, whatever happens.
#[test]
fn a_refusal_is_told_in_json_too() {
    let place = directory();
    let at = |name: &str| place.path().join(name);
    fs::write(at("old"), b"12345").unwrap();
    for (options, output, word) in [
        (&["--buffers", "1"][..], "take", "from 2 to 1000"),
        (&["--bits", "12"], "take", "8, 16, 24 or 32"),
        (&["--input", "missing"], "take", "missing"),
        (&[], "old", "--force"),
        (&["--append", "--frame", "4"], "old", "no whole number of frames of 4 bytes"),
        (&[], "none/take", "no directory"),
    ] {
        let output = record().args(options).arg("--json").arg(at(output)).output().unwrap();
        assert_status(&output, 2);
        let report = json(&output);
        assert_eq!(report["schema"], "writeflush.record/1");
        assert_eq!((&report["status"], &report["exit_status"]), (&"refused".into(), &2.into()));
        let said = report["errors"][0].as_str().unwrap();
        assert!(said.contains(word), "no '{word}' in: {said}");
        assert_eq!(stderr(&output), format!("error: {said}\n"));
        assert_eq!(report["warnings"].as_array().unwrap().len(), 0);
    }
    assert_eq!(fs::read(at("old")).unwrap(), b"12345");
}

#[test]
fn places_that_cannot_be_recorded_to() {
    let place = directory();
    let at = |name: &str| place.path().join(name);
    fs::create_dir(at("directory")).unwrap();
    fs::write(at("plain"), b"x").unwrap();
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    for (name, word) in [
        ("missing/take", "no directory"),
        ("directory", "not a regular file"),
        ("fifo", "not a regular file"),
        ("plain/take", "another file"),
    ] {
        assert_refused(&fed(record().arg("--force").arg(at(name)), b"abc"), word);
    }
    std::os::unix::fs::symlink("gone/take", at("link")).unwrap();
    assert_refused(&fed(record().arg(at("link")), b"abc"), "no directory");
    assert_refused(&fed(record().arg("-").current_dir(place.path()), b"abc"), "./-");
    assert!(!at("-").exists());
}

#[test]
fn inputs_that_cannot_be_read() {
    let place = directory();
    let at = |name: &str| place.path().join(name);
    fs::write(at("both"), b"precious").unwrap();
    fs::hard_link(at("both"), at("link")).unwrap();
    let with = |input: &str, output: &str| {
        record().arg("--force").arg("--input").args([at(input), at(output)]).output().unwrap()
    };
    assert_refused(&with("missing", "take"), "missing");
    assert_refused(&with(".", "take"), "directory");
    assert_refused(&with("both", "link"), "input itself");
    let stdin = fs::File::open(at("both")).unwrap();
    let output = record().arg("--force").arg(at("both")).stdin(stdin).output().unwrap();
    assert_refused(&output, "input itself");
    assert_eq!(fs::read(at("both")).unwrap(), b"precious");
    assert!(!at("take").exists());
}

#[test]
fn the_help_tells_the_exit_status() {
    let output = record().arg("--help").output().unwrap();
    assert_status(&output, 0);
    assert!(String::from_utf8(output.stdout).unwrap().contains("Exit status:"));
}

#[test]
fn quiet_says_nothing_and_a_weaker_label_is_said() {
    let place = directory();
    let output = fed(record().arg("-q").arg(place.path().join("take")), b"abc");
    assert_status(&output, 0);
    assert!(output.stdout.is_empty());
    // Only where the place is as good as can be: elsewhere a note is due even then.
    let label = fed(record().args(["--json", "-q"]).arg(place.path().join("2")), b"");
    let stable = json(&label)["durability"]["medium"] == "stable media";
    let plain = json(&label)["fallbacks"].as_array().unwrap().is_empty();
    assert_eq!(stderr(&output).is_empty(), stable && plain, "{}", stderr(&output));
    assert_eq!(stderr(&label).contains("not stable media"), !stable);
}
