//! `gate` in somebody's repository: what it builds, since which commit, and what it leaves. The
//! programs are shell scripts that a build copies, so that every verdict is certain.
#![cfg(target_os = "linux")]

#[path = "../../tests/common/skip.rs"]
mod skip;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// A repository of a program, of which each commit takes so many ns.
struct Rig(tempfile::TempDir);

const BUILD: [&str; 4] = ["--build", "cp program.in built && chmod +x built", "--program", "built"];
const SHORT: [&str; 5] = ["--tiers", "turns", "--turns", "36", "--ignore-steal"];

impl Rig {
    fn new(took: &[u32]) -> Self {
        let rig = Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        for folder in [rig.root(), rig.place()] {
            fs::create_dir(folder).unwrap();
        }
        rig.git(&["init", "--quiet", "-b", "main"]);
        for (number, took) in took.iter().enumerate() {
            rig.write(*took, number);
            rig.git(&["add", "."]);
            rig.git(&["commit", "--quiet", "-m", &format!("commit {number}")]);
        }
        rig
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("project")
    }

    /// Where the gate's files go.
    fn place(&self) -> PathBuf {
        self.0.path().join("place")
    }

    fn write(&self, took: u32, number: usize) {
        let script = format!(
            "#!/bin/sh\n# {number}\necho writeflush-gate 1\nwhile read -r word rest; do case $word in\n\
             list) echo operations line;;\nrun) echo took {took};;\n*) echo ok;;\nesac; done\n"
        );
        fs::write(self.root().join("program.in"), script).unwrap();
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.arg("-C").arg(self.root()).args(["-c", "user.name=x", "-c", "user.email=x@y.z"]);
        let output = git.args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn gate(&self, arguments: &[&str]) -> Command {
        let mut gate = Command::new(env!("CARGO_BIN_EXE_writeflush"));
        gate.current_dir(self.root()).arg("gate").args(arguments);
        gate.args(["--cache", "../cache"]).arg(self.place());
        gate
    }

    fn answer(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.gate(arguments).output().unwrap();
        self.nothing_is_left();
        (output.status.code(), said(&output))
    }

    /// No copy of a tree, no data, and nothing in the user's repository.
    fn nothing_is_left(&self) {
        assert!(fs::read_dir(self.place()).unwrap().next().is_none());
        for project in fs::read_dir(self.0.path().join("cache")).unwrap() {
            assert!(!project.unwrap().path().join("tree").exists());
        }
        let mut files: Vec<_> =
            fs::read_dir(self.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, [".git", "program.in"]);
        assert!(!self.root().join(".git/worktrees").exists());
    }
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn with<'a>(parts: &[&[&'a str]]) -> Vec<&'a str> {
    parts.concat()
}

#[test]
fn the_commit_since_which_it_is_slower_is_found() {
    let rig = Rig::new(&[100_000, 100_000, 100_000, 110_000, 110_000, 110_000]);
    let (status, said) = rig.answer(&with(&[&BUILD, &SHORT, &["--base", "HEAD~5", "--bisect"]]));
    assert_eq!(status, Some(1), "{said}");
    let culprit = rig.git(&["rev-parse", "--short=12", "HEAD~2"]);
    let since = format!("line, turns, time: since {culprit} (commit 3)");
    assert!(said.contains(&since), "{said}");

    rig.write(130_000, 9);
    let (status, said) = rig.answer(&with(&[&BUILD, &SHORT, &["--bisect"]]));
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("base: ") && said.contains("what the working tree was made from"));
    assert!(said.contains("since the uncommitted changes"), "{said}");
}

#[test]
fn a_base_may_be_a_revision_a_checkout_or_a_program() {
    let rig = Rig::new(&[100_000, 100_000]);
    let other = Rig::new(&[100_000]);
    let program = other.root().join("program.in");
    assert!(Command::new("chmod").arg("+x").arg(&program).status().unwrap().success());
    let copy = other.0.path().join("checkout");
    let cloned = Command::new("cp").arg("-r").arg(other.root()).arg(&copy).status().unwrap();
    assert!(cloned.success());
    for base in [
        vec![],
        vec!["--base", "HEAD^"],
        vec!["--base-path", copy.to_str().unwrap()],
        vec!["--base-program", program.to_str().unwrap()],
    ] {
        let (status, said) = rig.answer(&with(&[&BUILD, &SHORT, &base]));
        assert_eq!(status, Some(0), "{base:?}: {said}");
    }
    let (status, said) = rig.answer(&with(&[&BUILD, &SHORT, &["--base", "nowhere"]]));
    assert_eq!(status, Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// Where trees link to what cargo has built before.
#[test]
fn a_cache_may_be_named_from_where_the_gate_is_called() {
    let rig = Rig::new(&[100_000]);
    fs::write(rig.root().join("Cargo.toml"), "").unwrap();
    let build = "cp program.in target/built && chmod +x target/built";
    let here = ["--build", build, "--program", "target/built", "--base", "HEAD"];
    let output = rig.gate(&with(&[&here, &SHORT])).output().unwrap();
    // HEAD has nothing that cargo builds, and so no target.
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    rig.git(&["add", "."]);
    rig.git(&["commit", "--quiet", "-m", "cargo's"]);
    let output = rig.gate(&with(&[&here, &SHORT])).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn a_signal_while_it_builds_leaves_nothing() {
    let rig = Rig::new(&[100_000, 100_000]);
    let started = rig.0.path().join("started");
    let build = format!("touch {}; sleep 1000 & wait", started.display());
    let mut gate =
        rig.gate(&["--build", &build, "--program", "built"]).stderr(Stdio::null()).spawn().unwrap();
    while !started.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let killed = Command::new("kill").args(["-INT", &gate.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(gate.wait().unwrap().code(), Some(130));
    rig.nothing_is_left();
}

/// With strace alone: the others take their time.
#[test]
fn counts_are_kept_and_what_became_more_is_seen() {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|folder| folder.join("strace"))
        .find(|strace| strace.exists());
    let Some(strace) = found else {
        return skip::skip("counts that are kept", "there is no strace");
    };
    let rig = Rig::new(&[100_000]);
    let tools = rig.0.path().join("tools");
    fs::create_dir(&tools).unwrap();
    let link = |from: &Path| {
        std::os::unix::fs::symlink(from, tools.join(from.file_name().unwrap())).unwrap();
    };
    link(&strace);
    // A shell that reads its input by bytes makes as many calls as a word has letters.
    let program = |name: &str, run: &str| {
        let path = tools.join(name);
        let script = fs::read_to_string(rig.root().join("program.in")).unwrap();
        fs::write(&path, script.replace("run) echo", &format!("run) {run} echo"))).unwrap();
        assert!(Command::new("chmod").arg("+x").arg(&path).status().unwrap().success());
        path
    };
    let loops = |each: &str| format!("n=$rest; while [ $n -gt 0 ]; do n=$((n-1)); {each} done;");
    let (same, more) = (program("same", &loops("")), program("more", &loops("[ -e / ];")));
    let kept = rig.0.path().join("baseline.json");
    let gate = |program: &Path, file: &str| {
        let file = format!("{file}={}", kept.display());
        let mut gate = rig.gate(&["--candidate-program", program.to_str().unwrap(), &file]);
        let output = gate.env("PATH", &tools).output().unwrap();
        (output.status.code(), said(&output))
    };
    let (status, said) = gate(&same, "--write-baseline");
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("skipped: allocations: valgrind is not installed"), "{said}");
    let (status, said) = gate(&same, "--baseline");
    assert_eq!(status, Some(0), "{said}");
    let (status, said) = gate(&more, "--baseline");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("more: ") && said.contains("REGRESSION"), "{said}");
}
