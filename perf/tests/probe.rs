//! `probe` as its user meets it.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn probe(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_writeflush-perf"))
        .arg("probe")
        .args(arguments)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Probes a place, checks that nothing was left there, and returns the result.
fn result_of(place: &Path) -> (Option<i32>, Value) {
    let results = directory();
    let file = results.path().join("result.json");
    let arguments = ["--fences", "50", "--json", file.to_str().unwrap(), place.to_str().unwrap()];
    let output = probe(&arguments);
    assert!(fs::read_dir(place).unwrap().all(|entry| {
        !entry.unwrap().file_name().to_string_lossy().starts_with(".writeflush-perf")
    }));
    let text = fs::read_to_string(&file).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["kind"], "probe");
    let shown = String::from_utf8(output.stdout.clone()).unwrap();
    for check in document["result"]["checks"].as_array().unwrap() {
        assert!(shown.contains(check["reason"].as_str().unwrap()), "{shown}");
    }
    (output.status.code(), document)
}

fn words(document: &Value) -> Vec<&str> {
    let checks = document["result"]["checks"].as_array().unwrap();
    assert!(!checks.is_empty());
    checks.iter().map(|check| check["word"].as_str().unwrap()).collect()
}

#[test]
fn here_the_answer_agrees_with_the_counters() {
    let folder = directory();
    let (status, document) = result_of(folder.path());
    for check in document["result"]["checks"].as_array().unwrap() {
        if check["word"] == "HONEST" && document["environment"]["write_cache"] == "write back" {
            assert!(check["device_flushes"].as_u64().unwrap() >= 50, "{check}");
        }
    }
    let honest = words(&document).iter().all(|word| *word == "HONEST");
    assert_eq!(status, Some(i32::from(!honest)));
}

#[test]
fn memory_is_a_noop() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        assert!(std::env::var_os("CI").is_none(), "CI has /dev/shm");
        return eprintln!("skipped: there is no /dev/shm");
    };
    let (status, document) = result_of(folder.path());
    assert_eq!(status, Some(1));
    assert!(words(&document).iter().all(|word| *word == "NOOP"), "{document}");
}

/// A file system in a file, mounted for one test.
struct Mounted {
    folder: tempfile::TempDir,
}

impl Mounted {
    /// `None` where it can't be made: that takes root.
    fn new(image_in: &Path, make: &[&str]) -> Option<Self> {
        let image = image_in.join("image");
        fs::File::create(&image).unwrap().set_len(160 << 20).unwrap();
        let folder = directory();
        let run = |program: &str, arguments: &[&str]| {
            Command::new(program).args(arguments).output().is_ok_and(|out| out.status.success())
        };
        let (file, point) = (image.to_str().unwrap(), folder.path().to_str().unwrap());
        let made = run(make[0], &[&make[1..], &[file]].concat())
            && run("mount", &["-o", "loop", file, point]);
        if !made {
            assert!(std::env::var_os("CI").is_none(), "CI can mount, and has {}", make[0]);
            eprintln!("skipped: {} and a loop mount take root", make[0]);
        }
        made.then_some(Self { folder })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.folder.path()).status();
    }
}

#[test]
fn a_loop_device_on_a_disk_is_followed_to_its_file() {
    let images = directory();
    let Some(mounted) = Mounted::new(images.path(), &["mkfs.ext4", "-q"]) else { return };
    let (_, document) = result_of(mounted.folder.path());
    let environment = &document["environment"];
    assert!(environment["device"].as_str().unwrap().starts_with("loop"), "{environment}");
    assert!(environment["backing_file"].as_str().unwrap().ends_with("/image"), "{environment}");
    assert!(environment["backing_file_system"].is_string(), "{environment}");
    assert!(words(&document).iter().all(|word| *word != "UNVERIFIABLE"), "{document}");
}

#[test]
fn a_loop_device_in_memory_keeps_nothing() {
    let Ok(images) = tempfile::tempdir_in("/dev/shm") else {
        return eprintln!("skipped: there is no /dev/shm");
    };
    let Some(mounted) = Mounted::new(images.path(), &["mkfs.ext4", "-q"]) else { return };
    let (status, document) = result_of(mounted.folder.path());
    assert_eq!(document["environment"]["backing_file_system"], "tmpfs");
    assert_eq!(status, Some(1));
    assert!(words(&document).iter().all(|word| *word == "NOOP"), "{document}");
}

/// Its files have a device number that no disk has: the mount says which it is.
#[test]
fn btrfs_is_followed_to_its_disk() {
    let images = directory();
    let Some(mounted) = Mounted::new(images.path(), &["mkfs.btrfs", "-q"]) else { return };
    let (_, document) = result_of(mounted.folder.path());
    assert!(document["environment"]["device"].as_str().unwrap().starts_with("loop"), "{document}");
}

#[test]
fn bad_input_is_answered_in_a_line() {
    let folder = directory();
    let file = folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    let name = file.to_str().unwrap();
    for (arguments, says) in [
        (vec!["/no/such/place"], "does not exist"),
        (vec![name], "is no directory"),
        (vec!["--fences", "0", "."], "--fences"),
        (vec!["--json", name, "."], "--force"),
        (vec!["/proc"], "name another directory"),
    ] {
        let output = probe(&arguments);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert_eq!(stderr(&output).lines().count(), 1);
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}
