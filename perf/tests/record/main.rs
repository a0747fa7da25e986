//! `record` as its user meets it: a process with an input, a file, two streams and an exit status.
//!
//! Time limits below end a test that would hang; no test asserts how long anything takes.
#![cfg(unix)]

mod ends;
mod losses;
mod metrics;
#[cfg(target_os = "linux")]
mod pipes;
mod preroll;
#[path = "../../../tests/common/prometheus.rs"]
mod prometheus;
mod recorded;
mod refusals;
mod resume;
mod running;
mod segments;
#[path = "../../../tests/common/skip.rs"]
mod skip;
#[cfg(target_os = "linux")]
mod terminal;
#[allow(dead_code)]
#[cfg(target_os = "linux")]
#[path = "../common/terminals.rs"]
mod terminals;
mod wav;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// With up to two channels of up to 16 bits.
const HEADER: usize = 80;
/// With more.
const EXTENSIBLE: usize = 104;
/// With floating-point samples.
const FLOAT: usize = 116;
/// When a test that waits gives up.
const PATIENCE: Duration = Duration::from_secs(30);

fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn record() -> Command {
    // Who runs the tests under nohup ignores SIGHUP, and so would a recorder.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_writeflush"), "record"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it with these bytes on standard input.
fn fed(command: &mut Command, bytes: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    // Whoever stops reading early closes the pipe: what they did with the bytes is asserted.
    let feeder = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    let _ = feeder.join().unwrap();
    output
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "one object, and nothing else: {text}");
    serde_json::from_str(&text).unwrap()
}

#[track_caller]
fn assert_status(output: &Output, status: i32) {
    assert_eq!(output.status.code(), Some(status), "{}", stderr(output));
}

/// Bytes that are nowhere alike, so that a hole, a repetition or a swap shows.
fn pattern(len: usize) -> Vec<u8> {
    let words = (1u64..).flat_map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    words.take(len).collect()
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Where the data of a WAV file begins, as its header says.
fn data_begins(wav: &[u8]) -> Option<usize> {
    let begins = [HEADER, EXTENSIBLE, FLOAT].into_iter();
    begins.filter(|at| wav.len() >= *at).find(|at| &wav[at - 8..at - 4] == b"data")
}

/// The data that a WAV header describes; the file must hold all of it, and the pad byte.
#[track_caller]
fn described(wav: &[u8]) -> &[u8] {
    let begin = data_begins(wav).unwrap_or_else(|| panic!("no header in {} bytes", wav.len()));
    assert_eq!((&wav[..4], &wav[8..16]), (&b"RIFF"[..], &b"WAVEJUNK"[..]));
    let (riff, data) = (word(wav, 4), word(wav, begin - 4));
    assert_eq!(riff, begin - 8 + data.next_multiple_of(2));
    assert!(8 + riff <= wav.len(), "the header describes {data} of {} bytes", wav.len() - begin);
    &wav[begin..begin + data]
}

/// Looks again and again until it is so.
#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < limit, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The length of the data that the header describes at this moment. Reads the header only: the
/// file may grow faster than it can be read.
fn described_now(path: &Path) -> usize {
    let mut header = [0; HEADER];
    match fs::File::open(path).and_then(|mut file| file.read_exact(&mut header)) {
        Ok(()) => word(&header, HEADER - 4),
        Err(_) => 0,
    }
}

fn until_described(path: &Path, least: usize) {
    until("the header describes some data", || (described_now(path) >= least).then_some(()));
}

/// Waits for the end of a process whose input may still be open.
#[track_caller]
fn ended(mut child: Child) -> Output {
    let limit = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > limit {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().unwrap()
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// The ways to the disk that this machine has; says loudly which it has not.
fn ways() -> Vec<[&'static str; 4]> {
    let place = directory();
    let mut ways = Vec::new();
    for backend in ["uring", "sync"] {
        for direct in ["on", "off"] {
            let way = ["--backend", backend, "--direct", direct];
            let probe = fed(
                record().args(way).arg("-q").arg(place.path().join(ways.len().to_string())),
                b"",
            );
            if probe.status.success() {
                ways.push(way);
            } else {
                skip::skip(&way.join(" "), stderr(&probe).trim_end());
            }
        }
    }
    assert!(!ways.is_empty(), "not even `--backend sync --direct off` works");
    ways
}

/// Starts a recording whose input stays open, and feeds it.
fn begin(command: &mut Command, bytes: &[u8]) -> (Child, ChildStdin) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(bytes).unwrap();
    (child, stdin)
}

/// Writes the bytes over and over until nobody reads them, or enough is enough. The pipe stays
/// open until the thread is joined.
fn feed(mut pipe: ChildStdin, bytes: Vec<u8>) -> JoinHandle<ChildStdin> {
    std::thread::spawn(move || {
        let _ = (0..256).try_for_each(|_| pipe.write_all(&bytes));
        pipe
    })
}

/// Whether the data is the bytes over and over, cut off somewhere.
fn repeats(data: &[u8], bytes: &[u8]) -> bool {
    data.chunks(bytes.len()).all(|chunk| bytes.starts_with(chunk))
}
