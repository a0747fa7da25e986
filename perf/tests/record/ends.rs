//! How a recording ends: its input, signals, kill -9.

use super::*;

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
            assert_eq!(stderr(&output).contains("ended by SIGHUP"), name == "-HUP");
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

/// Zeros ahead may take minutes: nothing has been recorded, and nothing stays behind.
#[test]
fn a_signal_is_heard_while_zeros_are_written() {
    use std::os::unix::fs::MetadataExt;
    let place = directory();
    for name in ["-INT", "-TERM"] {
        let path = place.path().join("take.raw");
        let options = ["--preallocate", "zero:2GiB", "--json"];
        let (child, stdin) = begin(record().args(options).arg(&path), b"");
        until("space is taken", || (fs::metadata(&path).ok()?.blocks() > 0).then_some(()));
        signal(&child, name);
        let output = ended(child);
        assert_status(&output, 130);
        assert_eq!(json(&output)["status"], "refused");
        assert_eq!(stderr(&output), "error: interrupted before anything was recorded\n");
        assert!(!path.exists());
        drop(stdin);
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
