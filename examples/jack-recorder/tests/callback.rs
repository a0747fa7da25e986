//! The body of the callback, without JACK: what it promises on every path, also where the buffers are
//! full all the time, and that it keeps the time.
#![cfg(target_os = "linux")]

#[path = "../../../tests/common/skip.rs"]
mod skip;

#[allow(unsafe_code)]
#[path = "../../../tests/common/system_calls.rs"]
mod system_calls;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use jack_recorder::tape::Tape;
use jack_recorder::wav::{Format, HEADER};
use system_calls::without_system_calls;
use writeflush::{Drive, OnFull, Options, Writer};

const STEREO: Format = Format { rate: 48_000, channels: 2 };
const CHILD: &str = "JACK_RECORDER_TEST_CHILD";

/// As the recorder opens it, but with buffers that are full most of the time.
fn writer(path: &Path) -> Writer {
    let options = Options::new().drive(Drive::Poll).on_full(OnFull::Fill(0));
    let options = options.buffer_size(256 << 10).grant_limit(Tape::grant_limit(STEREO));
    let mut writer = options.create(path).unwrap();
    writer.write_flush(&STEREO.header(0)).unwrap();
    writer
}

/// Frames that say their number, and how many: up and down as the generator's.
fn period(first: u32, frames: usize) -> [Vec<f32>; 2] {
    let up: Vec<f32> = (first..).take(frames).map(|number| number as f32).collect();
    let down = up.iter().map(|sample| -sample).collect();
    [up, down]
}

/// The frames of a file, without its header.
fn frames(path: &Path) -> Vec<(f32, f32)> {
    let bytes = std::fs::read(path).unwrap();
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    let samples = bytes[HEADER as usize..].chunks(8);
    samples.map(|frame| (number(&frame[..4]), number(&frame[4..]))).collect()
}

/// Periods of every length, far faster than any disk; xruns among them.
fn record_with_losses(path: &Path, beside: fn()) {
    let writer = writer(path);
    let control = writer.control().clone();
    let mut tape = Tape::new(writer, STEREO);
    let periods = [64, 1024, 8192, 20_000].map(|frames| period(1, frames));
    let periods: &'static [[Vec<f32>; 2]] = Box::leak(Box::new(periods));
    without_system_calls(move || {
        let mut time = u32::MAX - 100_000; // it goes round on the way
        for round in 0..200 {
            for period in periods {
                if round % 2 == 1 {
                    // Time for the disk, or the buffers would be full for ever.
                    (0..50_000).for_each(|_| std::hint::spin_loop());
                }
                let frames = period[0].len();
                let missed = tape.take(time, frames, |channel| &period[channel]);
                assert_eq!(missed, 0);
                time = time.wrapping_add(frames as u32);
            }
            time = time.wrapping_add(100);
            assert_eq!(tape.take(time, 64, |channel| &periods[0][channel]), 100);
            time = time.wrapping_add(64);
        }
        beside();
        std::mem::forget(tape); // closing is no part of the promise
    });
    let stats = control.stats();
    assert!(stats.overrun_bytes > 200 * 100 * 8, "it was never full: {stats:?}");
    assert!(stats.bytes > 0 && stats.writes > 200, "it was always full: {stats:?}");
}

/// How a child ended that recorded under the filter and did something beside.
fn ends(test: &str, beside: &str) -> ExitStatus {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([test, "--exact", "--nocapture"]);
    let child = child.env(CHILD, format!("{beside} {}", dir.path().join("take").display()));
    child.output().unwrap().status
}

#[test]
fn the_callback_makes_no_system_call_whatever_it_meets() {
    let test = "the_callback_makes_no_system_call_whatever_it_meets";
    if let Ok(task) = std::env::var(CHILD) {
        let (beside, path) = task.split_once(' ').unwrap();
        let beside = if beside == "getpid" { || drop(std::fs::metadata("/")) } else { || () };
        record_with_losses(Path::new(path), beside);
        std::process::exit(0);
    }
    assert!(ends(test, "nothing").success());
    // The same run with a system call in it is killed: it would be seen.
    assert_eq!(ends(test, "getpid").signal(), Some(libc::SIGSYS));
}

/// A period longer than a grant, as when JACK's is changed while it records.
#[test]
fn a_period_of_any_length_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("take");
    let mut tape = Tape::new(writer(&path), STEREO);
    let mut next = 1;
    for frames in [64, 8192, 8193, 1, 20_000] {
        let samples = period(next, frames);
        tape.take(next, frames, |channel| &samples[channel]);
        next += frames as u32;
    }
    let summary = tape.into_writer().close().unwrap();
    assert_eq!(summary.stats.overruns, 0);
    let found = frames(&path);
    assert_eq!(found.len(), next as usize - 1);
    assert!((1..).zip(&found).all(|(number, frame)| *frame == (number as f32, -(number as f32))));
}

/// What JACK never offered is silence of the same length, and reported with its place.
#[test]
fn an_xrun_leaves_the_time_line_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("take");
    let mut tape = Tape::new(writer(&path), STEREO);
    for first in [1u32, 65, 65 + 64 + 300, 65 + 64 + 300 + 64] {
        let samples = period(first, 64);
        let missed = tape.take(first, 64, |channel| &samples[channel]);
        assert_eq!(missed, if first == 429 { 300 } else { 0 });
    }
    let summary = tape.into_writer().close().unwrap();
    let place = summary.overruns[0];
    assert_eq!((summary.overruns.len(), place.position), (1, HEADER + 128 * 8));
    assert_eq!(place.bytes, 300 * 8);
    for (number, frame) in (1..).zip(frames(&path)) {
        let lost = (129..429).contains(&number);
        assert_eq!(frame.0, if lost { 0.0 } else { number as f32 });
    }
}

/// A file of more than 4 GiB, mostly a hole, as another reader sees it.
#[test]
fn a_long_file_is_read_by_ffprobe() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.wav");
    let data: u64 = (5 << 30) + 8;
    let file = std::fs::File::create(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &STEREO.header(HEADER + data), 0).unwrap();
    file.set_len(HEADER + data).unwrap();
    let look = ["-v", "error", "-of", "csv=p=0", "-show_entries", "stream=codec_name,duration_ts"];
    if let Err(error) = Command::new("ffprobe").arg("-version").output() {
        return skip::skip(
            "a_long_file_is_read_by_ffprobe",
            &format!("ffprobe is not installed ({error})"),
        );
    }
    // A header that is wrong may send it through all of the file.
    let output = Command::new("timeout").args(["60", "ffprobe"]).args(look).arg(&path).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), format!("pcm_f32le,{}", data / 8), "{output:?}");
}
