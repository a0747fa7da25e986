//! The header is current, and C programs built with it do what it says: against the static and the
//! shared library.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_header_is_current() {
    let config = cbindgen::Config::from_file(here("cbindgen.toml")).unwrap();
    let builder = cbindgen::Builder::new().with_config(config).with_crate(here(""));
    let mut generated = Vec::new();
    builder.generate().unwrap().write(&mut generated);
    let generated = String::from_utf8(generated).unwrap();
    let path = here("include/writeflush.h");
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "run this test with UPDATE_HEADER=1 and commit the header");
}

/// The folder of the libraries. Cargo does not build them for a test by itself.
fn libraries() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let test = std::env::current_exe().unwrap();
        let target = test.ancestors().nth(3).unwrap(); // target/debug/deps/c-…
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--package", "writeflush-capi"]);
        cargo.arg("--target-dir").arg(target);
        assert!(cargo.status().unwrap().success(), "the libraries build");
        target.join("debug")
    });
    &FOLDER
}

#[derive(Clone, Copy)]
enum Link {
    Static,
    Shared,
}

/// Compiles a C program strictly; what it needs beside the library comes last.
fn compile(source: &str, link: Link, into: &Path, more: &[&str]) -> PathBuf {
    let program = into.join(Path::new(source).file_stem().unwrap());
    let folder = libraries();
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pedantic", "-pthread"]);
    cc.arg("-I").arg(here("include")).arg(here(source)).arg("-o").arg(&program);
    match link {
        Link::Static => cc.arg(folder.join("libwriteflush.a")).args(["-lm", "-ldl"]),
        Link::Shared => {
            let rpath = format!("-Wl,-rpath,{}", folder.display());
            cc.arg(folder.join("libwriteflush.so")).arg(rpath)
        }
    };
    let output = cc.args(more).output().expect("a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

fn run(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {}: {said}", program.display(), output.status);
    String::from_utf8_lossy(&output.stdout).into()
}

#[test]
fn every_function_keeps_its_contract_also_with_hostile_arguments() {
    for link in [Link::Static, Link::Shared] {
        let dir = tempfile::tempdir().unwrap();
        let program = compile("tests/contract.c", link, dir.path(), &[]);
        run(&program, &[dir.path().to_str().unwrap()]);
    }
}

#[test]
fn a_recorder_with_a_capture_thread() {
    const BLOCKS: u64 = 5_000;
    let dir = tempfile::tempdir().unwrap();
    let take = dir.path().join("take.raw");
    let program = compile("examples/recorder.c", Link::Shared, dir.path(), &[]);
    let said = run(&program, &[take.to_str().unwrap(), &BLOCKS.to_string()]);
    let content = std::fs::read(&take).unwrap();
    assert!(said.starts_with(&format!("{} bytes durable", 16 + BLOCKS * 1024)), "{said}");
    let (header, blocks) = content.split_at(16);
    assert_eq!(header[..8], 0x3148_5355_4645_5257u64.to_ne_bytes());
    assert_eq!(header[8..], (content.len() as u64).to_ne_bytes(), "it describes all of it");
    for (block, number) in blocks.chunks(1024).zip(0u64..) {
        assert!(block.chunks(8).all(|word| word == number.to_ne_bytes()), "block {number}");
    }
}

/// A tool's output; `None`, said loudly, where it is not installed. CI fails then.
fn tool(name: &str, args: &[&str]) -> Option<String> {
    match Command::new(name).args(args).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name} {args:?}: {said}");
            Some(String::from_utf8_lossy(&output.stdout).into())
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{name}: {error}");
            eprintln!("SKIPPED: {name} is not installed ({error})");
            None
        }
    }
}

#[test]
fn a_muxer_through_custom_io_makes_what_a_plain_file_makes() {
    let libraries = ["libavformat", "libavcodec", "libavutil"];
    let there = Command::new("pkg-config").arg("--exists").args(libraries).status();
    if !there.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI must not skip libavformat");
        return eprintln!("SKIPPED: pkg-config finds no libavformat");
    }
    let flags = [&["--cflags", "--libs"], &libraries[..]].concat();
    let Some(flags) = tool("pkg-config", &flags) else { return };
    let flags: Vec<_> = flags.split_whitespace().collect();
    let dir = tempfile::tempdir().unwrap();
    let program = compile("examples/muxer.c", Link::Static, dir.path(), &flags);
    for kind in ["mp4", "mkv"] {
        let (ours, plain) = (format!("ours.{kind}"), format!("plain.{kind}"));
        let (ours, plain) = (dir.path().join(ours), dir.path().join(plain));
        let (ours, plain) = (ours.to_str().unwrap(), plain.to_str().unwrap());
        run(&program, &[ours, "8"]);
        run(&program, &["--plain", plain, "8"]);
        let entries = "stream=nb_read_frames,width,height:format=duration";
        let look = ["-v", "error", "-count_frames", "-show_entries", entries, "-of", "csv"];
        let probe = |path| tool("ffprobe", &[&look[..], &[path]].concat());
        let Some(probed) = probe(ours) else { return };
        assert!(probed.contains("stream,320,240,200"), "{probed}");
        assert_eq!(Some(probed), probe(plain));
        let frames = |path| tool("ffmpeg", &["-v", "error", "-i", path, "-f", "framemd5", "-"]);
        let decoded = frames(ours).unwrap();
        assert_eq!(decoded.lines().filter(|line| !line.starts_with('#')).count(), 200);
        assert_eq!(decoded, frames(plain).unwrap());
    }
}
