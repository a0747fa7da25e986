//! `record` as its user meets it: a process with an input, a file, two streams and an exit status.
//!
//! Time limits below end a test that would hang; no test asserts how long anything takes.
#![cfg(unix)]

#[path = "../../tests/common/skip.rs"]
mod skip;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

// ---- helpers ------------------------------------------------------------------------------------

const HEADER: usize = 44;
/// When a test that waits gives up.
const PATIENCE: Duration = Duration::from_secs(30);

fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn record() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_writeflush-perf"));
    command.arg("record").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
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

/// The data that a WAV header describes; the file must hold all of it, and the pad byte.
#[track_caller]
fn described(wav: &[u8]) -> &[u8] {
    assert!(wav.len() >= HEADER, "no whole header in {} bytes", wav.len());
    assert_eq!(
        (&wav[..4], &wav[8..16], &wav[36..40]),
        (&b"RIFF"[..], &b"WAVEfmt "[..], &b"data"[..])
    );
    let (riff, data) = (word(wav, 4), word(wav, 40));
    assert_eq!(riff, 36 + data.next_multiple_of(2));
    assert!(8 + riff <= wav.len(), "the header describes {data} of {} bytes", wav.len() - HEADER);
    &wav[HEADER..HEADER + data]
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
        Ok(()) => word(&header, 40),
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

/// Runs sox or soxi; `None`, loudly, where it is not installed (never in CI).
fn sox(program: &str, args: &[&str]) -> Option<Vec<u8>> {
    match Command::new(program).args(args).output() {
        Ok(output) => {
            assert!(output.status.success(), "{program} {args:?}: {}", stderr(&output));
            Some(output.stdout)
        }
        Err(error) => {
            skip::skip(program, &format!("it does not start ({error}): install sox"));
            None
        }
    }
}

/// A WAV file by sox, and the samples in it.
fn tone(place: &Path, bits: &str, channels: &str) -> Option<(PathBuf, Vec<u8>)> {
    let path = place.join("tone.wav");
    let name = path.to_str().unwrap();
    sox(
        "sox",
        &[
            "-n", "-r", "48000", "-c", channels, "-b", bits, name, "synth", "5.0001", "sine",
            "440", "gain", "-3",
        ],
    )?;
    let samples = sox("sox", &[name, "-t", "raw", "-"])?;
    Some((path, samples))
}

// ---- what is recorded ---------------------------------------------------------------------------

#[test]
fn a_wav_file_is_what_sox_writes() {
    let place = directory();
    let Some((theirs, samples)) = tone(place.path(), "16", "2") else { return };
    let theirs = fs::read(theirs).unwrap();
    for (i, way) in ways().into_iter().enumerate() {
        let ours = place.path().join(format!("{i}.wav"));
        let output =
            fed(record().args(way).args(["--wav", "--fence-every", "1ms"]).arg(&ours), &samples);
        assert_status(&output, 0);
        assert!(fs::read(&ours).unwrap() == theirs, "{way:?}: another file than sox writes");
        let frames = sox("soxi", &["-s", ours.to_str().unwrap()]).unwrap();
        let frames: usize = String::from_utf8(frames).unwrap().trim().parse().unwrap();
        assert_eq!(frames * 4, samples.len());
    }
}

#[test]
fn an_odd_length_is_exact_and_padded() {
    let place = directory();
    let Some((_, samples)) = tone(place.path(), "24", "1") else { return };
    assert_eq!(samples.len() % 2, 1, "the test needs an odd number of bytes");
    let ours = place.path().join("ours.wav");
    let output = fed(
        record()
            .args(["--wav", "--channels", "1", "--bits", "24", "--fence-every", "1ms"])
            .arg(&ours),
        &samples,
    );
    assert_status(&output, 0);
    let wav = fs::read(&ours).unwrap();
    assert!(described(&wav) == samples);
    assert_eq!(wav.len(), HEADER + samples.len() + 1);
    let decoded = sox("sox", &[ours.to_str().unwrap(), "-t", "raw", "-"]).unwrap();
    assert!(decoded == samples);
}

#[test]
fn raw_bytes_arrive_as_they_are_and_the_figures_agree() {
    let place = directory();
    let bytes = pattern(3_000_001);
    for way in ways() {
        for drive in ["thread", "caller", "poll"] {
            let path = place.path().join("take.raw");
            let small = ["--buffers", "2", "--buffer-size", "8KiB", "--fence-every", "1ms"];
            let output = fed(
                record()
                    .args(way)
                    .args(small)
                    .args(["--drive", drive, "--json", "--force"])
                    .arg(&path),
                &bytes,
            );
            assert_status(&output, 0);
            assert!(fs::read(&path).unwrap() == bytes, "{way:?} {drive}");
            let report = json(&output);
            assert_eq!(report["schema"], "writeflush.record/1");
            assert_eq!(report["status"], "complete");
            assert_eq!(report["exit_status"], 0);
            for figure in ["file_bytes", "durable_bytes", "input_bytes"] {
                assert_eq!(report[figure], bytes.len(), "{figure}");
            }
            assert_eq!(report["overruns"], 0);
            assert_eq!(report["direct"], way[3] == "on");
            assert!(report["fences"].as_u64() >= Some(1));
            assert!(report["fence_latency_p50_ns"].as_u64() > Some(0));
            assert!(
                report["fence_latency_p50_ns"].as_u64() <= report["fence_latency_max_ns"].as_u64()
            );
        }
    }
}

#[test]
fn a_file_as_input_and_no_fence_but_the_last() {
    let place = directory();
    let (from, to) = (place.path().join("in"), place.path().join("out"));
    let bytes = pattern(200_000);
    fs::write(&from, &bytes).unwrap();
    let output = record()
        .args(["--fence-every", "0", "--preallocate", "1MiB", "--json", "-q", "--input"])
        .args([&from, &to])
        .output()
        .unwrap();
    assert_status(&output, 0);
    assert!(fs::read(&to).unwrap() == bytes);
    assert_eq!(json(&output)["fences"], 1);
}

#[test]
fn empty_input_makes_an_empty_recording() {
    let place = directory();
    let raw = place.path().join("empty.raw");
    assert_status(&fed(record().arg(&raw), b""), 0);
    assert_eq!(fs::read(&raw).unwrap(), b"");
    let wav = place.path().join("empty.wav");
    assert_status(&fed(record().arg("--wav").arg(&wav), b""), 0);
    let wav = fs::read(&wav).unwrap();
    assert_eq!((described(&wav), wav.len()), (&b""[..], HEADER));
}

// ---- ends ---------------------------------------------------------------------------------------

/// Starts a recording whose input stays open, and feeds it.
fn begin(command: &mut Command, bytes: &[u8]) -> (Child, ChildStdin) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(bytes).unwrap();
    (child, stdin)
}

#[test]
fn a_silent_input_is_fenced_all_the_same() {
    let place = directory();
    let bytes = pattern(1000);
    for (name, wav) in [("take.raw", None), ("take.wav", Some("--wav"))] {
        let path = place.path().join(name);
        let (child, stdin) =
            begin(record().args(wav).args(["--fence-every", "5ms"]).arg(&path), &bytes);
        // Far less than a buffer: only a fence gets it to the file.
        until("a fence brings the bytes to the file", || match fs::read(&path).ok()? {
            file if wav.is_none() => file.starts_with(&bytes).then_some(()),
            file if file.len() < HEADER => None,
            file => (described(&file) == bytes).then_some(()),
        });
        drop(stdin);
        assert_status(&child.wait_with_output().unwrap(), 0);
    }
}

#[test]
fn a_signal_closes_the_recording_whole() {
    let place = directory();
    let bytes = pattern(50_002);
    for way in ways() {
        for name in ["-INT", "-TERM", "-HUP"] {
            let path = place.path().join(format!("{}{}{name}.wav", way[1], way[3]));
            let options = ["--wav", "--fence-every", "2ms", "--json"];
            let (child, stdin) = begin(record().args(way).args(options).arg(&path), &bytes);
            until_described(&path, 50_000);
            signal(&child, name);
            signal(&child, name); // an impatient user
            let output = ended(child);
            drop(stdin); // open until now: the recorder did not wait for its end
            assert_status(&output, 0);
            let wav = fs::read(&path).unwrap();
            assert!(
                described(&wav) == &bytes[..50_000],
                "{way:?} {name}: whole frames of the input"
            );
            assert_eq!(wav.len(), HEADER + 50_000);
            let report = json(&output);
            assert_eq!(report["status"], "interrupted");
            assert_eq!(report["durable_bytes"], wav.len());
        }
    }
}

#[test]
fn a_signal_in_full_flow_leaves_a_prefix() {
    let place = directory();
    let bytes = pattern(1 << 20);
    for wav in [None, Some("--wav")] {
        let path = place.path().join(if wav.is_some() { "take.wav" } else { "take.raw" });
        let mut child = record()
            .args(wav)
            .args(["--fence-every", "2ms", "--json"])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let feeder = feed(child.stdin.take().unwrap(), bytes.clone());
        until("something is recorded", || {
            (fs::metadata(&path).ok()?.len() > 100_000).then_some(())
        });
        signal(&child, "-INT");
        assert_status(&ended(child), 0);
        drop(feeder.join().unwrap());
        let file = fs::read(&path).unwrap();
        let data = if wav.is_some() { described(&file) } else { &file };
        assert!(data.len() > 50_000 && repeats(data, &bytes));
        assert_eq!(file.len(), data.len() + wav.map_or(0, |_| HEADER));
    }
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

/// A crash of the process at any instant: the header on disk describes a prefix of the input.
#[test]
fn after_kill_9_the_header_describes_a_prefix() {
    let place = directory();
    let bytes = pattern(1 << 20);
    for way in ways() {
        for least in [1, 100_000, 1_000_000, 20_000_000] {
            let path = place.path().join(format!("{}{}{least}.wav", way[1], way[3]));
            let options = ["--wav", "--fence-every", "1ms", "--buffer-size", "64KiB"];
            let mut child =
                record().args(way).args(options).arg(&path).stdin(Stdio::piped()).spawn().unwrap();
            let feeder = feed(child.stdin.take().unwrap(), bytes.clone());
            until_described(&path, least);
            child.kill().unwrap();
            child.wait().unwrap();
            drop(feeder.join().unwrap());
            let wav = fs::read(&path).unwrap();
            let data = described(&wav);
            assert!(data.len() >= least && repeats(data, &bytes), "{way:?} after {least} bytes");
            assert_eq!(data.len() % 4, 0);
            fs::remove_file(&path).unwrap();
        }
    }
}

// ---- losses and failures ------------------------------------------------------------------------

/// Nobody drives until the close, so that exactly two buffers have room.
const NO_DRIVER: [&str; 10] = [
    "--drive",
    "caller",
    "--backend",
    "sync",
    "--fence-every",
    "0",
    "--buffers",
    "2",
    "--buffer-size",
    "4096",
];

fn lossy(place: &Path, policy: &str, more: &[&str], bytes: &[u8]) -> (Output, Vec<u8>) {
    let (from, to) = (place.join("in"), place.join("out"));
    fs::write(&from, bytes).unwrap();
    let output = record()
        .args(NO_DRIVER)
        .args(["--on-full", policy, "--json", "--force", "--input"])
        .args([&from, &to])
        .args(more)
        .output()
        .unwrap();
    (output, fs::read(&to).unwrap())
}

#[test]
fn dropped_bytes_are_counted_and_end_in_status_1() {
    let place = directory();
    let bytes = pattern(5 * 4096 + 1);
    let (output, file) = lossy(place.path(), "drop", &[], &bytes);
    assert_status(&output, 1);
    assert!(file == bytes[..8192]);
    let report = json(&output);
    assert_eq!(report["overruns"], 1);
    assert_eq!(report["overrun_bytes"], 3 * 4096 + 1);
    assert_eq!(report["overrun_places"][0]["position"], 8192);
    assert_eq!(report["overrun_places"][0]["bytes"], 3 * 4096 + 1);
    assert_eq!(report["exit_status"], 1);
    assert!(stderr(&output).contains("12289 bytes lost in 1 place (12289 at 8192)"));
}

/// A WAV file loses whole frames, so that its channels never change places.
#[test]
fn a_loss_ends_between_two_frames() {
    let place = directory();
    let bytes = pattern(6 * 4000);
    let (output, file) = lossy(place.path(), "drop", &["--wav", "--bits", "24"], &bytes);
    assert_status(&output, 1);
    // Pieces of 682 frames: the first has room, four have not, the short last one has again.
    let (piece, last) = (682 * 6, 590 * 6);
    assert!(described(&file) == [&bytes[..piece], &bytes[bytes.len() - last..]].concat());
    let report = json(&output);
    assert_eq!(report["overrun_places"][0]["position"], HEADER + piece);
    assert_eq!(report["overrun_bytes"], 4 * piece);
}

#[test]
fn filled_bytes_keep_the_time_line_and_end_in_status_1() {
    let place = directory();
    let bytes = pattern(100 * 4096 + 4);
    for more in [&["--wav"][..], &[]] {
        let (output, file) = lossy(place.path(), "fill:0x80", more, &bytes);
        assert_status(&output, 1);
        let data = if more.is_empty() { &file } else { described(&file) };
        assert_eq!(data.len(), bytes.len());
        let lost = json(&output)["overrun_bytes"].as_u64().unwrap() as usize;
        let (kept, filled) = data.split_at(data.len() - lost);
        assert!(kept.len() >= 4096 && bytes.starts_with(kept));
        assert!(filled.iter().all(|&byte| byte == 0x80));
    }
}

#[test]
fn a_policy_that_fails_says_so_and_keeps_what_it_has() {
    let place = directory();
    let bytes = pattern(5 * 4096);
    for policy in ["fail", "wait:1ms"] {
        let (output, file) = lossy(place.path(), policy, &[], &bytes);
        // Who waits, drives: `wait` gets all of it through unless the disk takes longer.
        if policy == "fail" || output.status.code() != Some(0) {
            assert_status(&output, 1);
            assert!(stderr(&output).contains("bytes of the file are durable"));
            assert_eq!(json(&output)["status"], "failed");
        }
        assert_eq!(json(&output)["durable_bytes"], file.len());
        assert!(file.len() >= 8192 && bytes.starts_with(&file));
    }
}

/// The limit on file sizes stands for a full disk: the kernel refuses in mid-recording. The input
/// is silent at that moment, so that no push meets the error.
#[test]
fn a_full_disk_ends_in_status_1_and_the_header_stays_true() {
    let place = directory();
    let bytes = pattern(6 << 20);
    for way in ways() {
        let path = place.path().join(format!("{}{}.wav", way[1], way[3]));
        // dash counts in blocks of 512 bytes, bash in 1024: 1 or 2 MiB, less than the input.
        let script = "ulimit -f 2048; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_writeflush-perf"), "record"]);
        command.args(way).args(["--wav", "--fence-every", "1ms", "--json"]).arg(&path);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let (mut child, mut stdin) = begin(&mut command, b"");
        let mut sent = 0;
        while child.try_wait().unwrap().is_none() {
            stdin.write_all(&bytes[sent..sent + 50_000]).unwrap();
            sent += 50_000;
            until("a checkpoint or the end", || {
                (described_now(&path) >= sent || child.try_wait().unwrap().is_some()).then_some(())
            });
        }
        let output = child.wait_with_output().unwrap();
        assert_status(&output, 1);
        let report = json(&output);
        assert_eq!(report["status"], "failed", "{way:?}");
        let durable = report["durable_bytes"].as_u64().unwrap() as usize;
        let said = format!("the first {durable} bytes of the file are durable");
        assert!(stderr(&output).contains(&said), "{way:?}: {}", stderr(&output));
        let wav = fs::read(&path).unwrap();
        let data = described(&wav);
        assert!(data.len() >= sent - 50_000 && bytes.starts_with(data), "{way:?}");
        assert!(HEADER + data.len() <= durable, "{way:?}: the header describes more");
        assert!(wav[HEADER..durable] == bytes[..durable - HEADER], "{way:?}");
    }
}

#[test]
fn a_reader_that_has_gone_away_changes_nothing() {
    let place = directory();
    for (i, full) in [false, true].into_iter().enumerate() {
        let path = place.path().join(i.to_string());
        let out = if full {
            let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") else { continue };
            Stdio::from(full)
        } else {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            Stdio::from(writer)
        };
        let output = fed(record().arg("--json").arg(&path).stdout(out), b"abc");
        assert_status(&output, 0);
        assert!(stderr(&output).contains("could not print the JSON object"), "{}", stderr(&output));
        assert_eq!(fs::read(&path).unwrap(), b"abc");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let path = place.path().join("mute");
    let output = fed(record().arg("--json").arg(&path).stderr(writer), b"abc");
    assert_status(&output, 0);
    assert_eq!(json(&output)["durable_bytes"], 3);
}

#[cfg(target_os = "linux")]
#[test]
fn an_input_that_fails_ends_in_status_2() {
    let place = directory();
    let path = place.path().join("take.wav");
    // Reading the memory at address 0 fails with EIO (proc_pid_mem(5)).
    let output = record().args(["--wav", "--input", "/proc/self/mem"]).arg(&path).output().unwrap();
    assert_status(&output, 2);
    assert!(stderr(&output).contains("could not read the input"), "{}", stderr(&output));
    assert_eq!(described(&fs::read(&path).unwrap()), b"");
}

// ---- refusals -----------------------------------------------------------------------------------

/// One line, status 2, nothing on standard output.
#[track_caller]
fn assert_refused(output: &Output, word: &str) {
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
fn bad_options_get_one_line_each() {
    let place = directory();
    let path = place.path().join("take");
    for (options, word) in [
        (&["--bits", "12"][..], "8, 16, 24 or 32"),
        (&["--rate", "0"], "--rate"),
        (&["--wav", "--rate", "4000000000"], "--rate"),
        (&["--channels", "0"], "--channels"),
        (&["--wav", "--append"], "--append"),
        (&["--append", "--force"], "--force"),
        (&["--fence-every", "soon"], "100ms"),
        (&["--buffers", "1"], "at least 2"),
        (&["--buffers", "0"], "at least 2"),
        (&["--buffers", "many"], "--buffers"),
        (&["--buffer-size", "1000"], "multiple of 4096"),
        (&["--buffer-size", "big"], "64KiB"),
        (&["--buffers", "1000", "--buffer-size", "1GiB"], "memory limit"),
        (&["--backend", "magic"], "uring"),
        (&["--direct", "maybe"], "auto"),
        (&["--drive", "me"], "caller"),
        (&["--on-full", "fill:300"], "fill:BYTE"),
        (&["--preallocate", "lots"], "64KiB"),
        (&["--preallocate", "9000000000000000000"], "--preallocate"),
        (&["--loud"], "--loud"),
    ] {
        let output = record().args(options).arg(&path).output().unwrap();
        assert_refused(&output, word);
        assert!(!path.exists(), "{options:?} left a file behind");
    }
    assert_refused(&record().output().unwrap(), "<OUTPUT>");
    let nothing = Command::new(env!("CARGO_BIN_EXE_writeflush-perf")).output().unwrap();
    assert_refused(&nothing, "--help");
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
