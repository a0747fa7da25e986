//! What is in the file, byte by byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

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

#[test]
fn sox_reads_every_frame() {
    let place = directory();
    let Some((_, samples)) = tone(place.path(), "16", "2") else { return };
    for (i, way) in ways().into_iter().enumerate() {
        let ours = place.path().join(format!("{i}.wav"));
        let output =
            fed(record().args(way).args(["--wav", "--fence-every", "1ms"]).arg(&ours), &samples);
        assert_status(&output, 0);
        assert!(described(&fs::read(&ours).unwrap()) == samples, "{way:?}");
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
    assert_eq!(wav.len(), EXTENSIBLE + samples.len() + 1);
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

/// ffmpeg refuses a packet that ends in half a frame ("invalid PCM packet").
#[test]
fn the_header_counts_whole_frames_and_the_rest_stays_in_the_file() {
    let place = directory();
    for (channels, bits, len, whole) in
        [("2", "16", 1_000_003, 1_000_000), ("1", "24", 1000, 999), ("2", "24", 11, 6)]
    {
        let bytes = pattern(len);
        let path = place.path().join(format!("{channels}{bits}.wav"));
        let options = ["--wav", "--channels", channels, "--bits", bits, "--json"];
        let output = fed(record().args(options).arg(&path), &bytes);
        assert_status(&output, 0);
        let wav = fs::read(&path).unwrap();
        assert!(described(&wav) == &bytes[..whole] && wav[data_begins(&wav).unwrap()..] == bytes);

        let warned = json(&output)["warnings"].to_string();
        let words = format!("the last {} byte", len - whole);
        assert!(warned.contains(&words) && stderr(&output).contains(&words), "{warned}");
    }
}

#[test]
fn a_raw_frame_that_has_only_begun_is_recorded_all_the_same() {
    let place = directory();
    let path = place.path().join("take.raw");
    assert_status(&fed(record().args(["--frame", "6"]).arg(&path), &pattern(1000)), 0);
    assert!(fs::read(&path).unwrap() == pattern(1000));
}

#[test]
fn a_link_to_nothing_makes_what_it_names() {
    let place = directory();
    let link = place.path().join("link.raw");
    std::os::unix::fs::symlink("target.raw", &link).unwrap();
    assert_status(&fed(record().args(["--input", "-"]).arg(&link), b"abc"), 0);
    assert_eq!(fs::read(place.path().join("target.raw")).unwrap(), b"abc");
    assert!(link.is_symlink());
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
