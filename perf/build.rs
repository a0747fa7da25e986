//! Notes which compiler built the tool, from which commit: a measurement says so.

use std::path::Path;
use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = said(&rustc, &["--version"]).unwrap_or_default();
    println!("cargo::rustc-env=WRITEFLUSH_RUSTC={version}");
    println!("cargo::rerun-if-changed=build.rs");
    revision();
}

/// Left out where this is no checkout, or there is no git.
fn revision() {
    let Some(commit) = said("git", &["rev-parse", "--short=12", "HEAD"]) else { return };
    let changed = said("git", &["status", "--porcelain", "--untracked-files=no"]);
    let mark = if changed.is_some_and(|files| !files.is_empty()) { "+" } else { "" };
    println!("cargo::rustc-env=WRITEFLUSH_REVISION={commit}{mark}");
    // A commit, a checkout, a change of this tool or of the crate that it measures.
    for of_git in ["HEAD", "logs/HEAD"] {
        let file = said("git", &["rev-parse", "--git-path", of_git]);
        let file = file.filter(|file| Path::new(file).exists());
        file.iter().for_each(|file| println!("cargo::rerun-if-changed={file}"));
    }
    for sources in ["src", "workloads/src", "../src"] {
        println!("cargo::rerun-if-changed={sources}");
    }
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(text.trim().to_owned())
}
