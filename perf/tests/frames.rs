//! `recover` and `cat`: what a crash has left.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn writeflush(command: &str, path: &Path, options: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_writeflush"));
    program.arg(command).args(options).arg(path).output().unwrap()
}

#[track_caller]
fn assert_says(output: &Output, status: i32, word: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert!(text.contains(word), "no '{word}' in: {text}");
}

/// Three messages, of which the last is not whole.
fn torn(path: &Path) {
    let mut writer = writeflush::frames::Options::default().create(path).unwrap();
    for message in [&b"one"[..], b"two", b"three"] {
        let _ = writer.write(0, message).unwrap();
    }
    writer.into_inner().close().unwrap();
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 2]).unwrap();
}

#[test]
fn a_framed_file_is_printed_and_recovered() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = place.path().join("take");
    torn(&path);
    let output = writeflush("cat", &path, &["--lines"]);
    assert_says(&output, 1, "damaged");
    assert_eq!(output.stdout, b"one\ntwo\n");
    assert_says(&writeflush("recover", &path, &[]), 0, "take.torn-");
    let output = writeflush("cat", &path, &[]);
    assert_says(&output, 0, "");
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"onetwo"[..], &b""[..]));
    let whole = fs::read(&path).unwrap();
    assert_says(&writeflush("recover", &path, &[]), 0, "bytes stay\n");
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn a_raw_file_and_a_wav_file_are_recovered_to_whole_frames() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = place.path().join("take.raw");
    fs::write(&path, b"aaabbbc").unwrap();
    assert_says(&writeflush("recover", &path, &["--frame", "3"]), 0, "take.raw.torn-6");
    assert_eq!(fs::read(&path).unwrap(), b"aaabbb");
    // As a recorder leaves it that had no time for a header.
    let mut wav = Vec::from(*b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0");
    wav.extend([0x80, 0xbb, 0, 0, 0, 0xee, 2, 0, 4, 0, 16, 0]);
    wav.extend(*b"data\0\0\0\0abcdefghi");
    let path = place.path().join("take.wav");
    fs::write(&path, wav).unwrap();
    assert_says(&writeflush("recover", &path, &[]), 0, "52 bytes stay; 1 byte cut off, and kept");
    let wav = fs::read(&path).unwrap();
    assert_eq!((&wav[40..44], &wav[44..]), (&b"\x08\0\0\0"[..], &b"abcdefgh"[..]));
}

#[test]
fn what_can_not_be_recovered_has_a_sentence() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = place.path().join("letter");
    assert_says(&writeflush("recover", &path, &[]), 2, "could not read");
    fs::write(&path, b"to somebody").unwrap();
    assert_says(&writeflush("cat", &path, &[]), 2, "cat(1)");
    fs::write(&path, b"RIFF but no more").unwrap();
    assert_says(&writeflush("recover", &path, &[]), 2, "letter");
    assert_eq!(fs::read(&path).unwrap(), b"RIFF but no more");
    assert_says(&writeflush("recover", &path, &["--frame", "0"]), 2, "--frame");
}
