//! Recordings that begin before the signal which asks for them.

use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, channel};

use super::segments::{files, names, samples};
use super::*;

/// A recorder that keeps what comes, and what it says.
struct Armed {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<serde_json::Value>,
}

impl Armed {
    /// The first bytes say what a WAV file is of.
    fn start(options: &[&str], output: &Path, first: &[u8]) -> Self {
        let mut command = record();
        command.args(options).args(["--json-lines", "--fence-every", "2ms"]).arg(output);
        let (mut child, input) = begin(&mut command, first);
        let (tell, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let _ = tell.send(serde_json::from_str(&line.unwrap()).unwrap());
            }
        });
        let armed = Self { input: Some(input), child, lines };
        armed.hear("armed");
        armed
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn event(&self) {
        signal(&self.child, "-USR2");
    }

    /// The next line of this kind; others are passed over.
    #[track_caller]
    fn hear(&self, event: &str) -> serde_json::Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("never heard of {event}"));
            if line["event"] == event {
                return line;
            }
        }
    }

    /// Asks how it goes until it goes so far.
    fn until(&self, field: &str, bytes: usize) {
        until(field, || {
            signal(&self.child, "-USR1");
            (self.hear("state")[field] == bytes).then_some(())
        });
    }

    /// The input ends: what is said of the whole.
    #[track_caller]
    fn end(mut self) -> (serde_json::Value, String) {
        drop(self.input.take());
        let output = ended(self.child);
        assert_status(&output, 0);
        let report = self.lines.iter().last().unwrap();
        assert_eq!(report["schema"], "writeflush.record/1");
        (report, stderr(&output))
    }
}

#[test]
fn an_event_begins_with_what_was_kept_and_the_next_one_behind_it() {
    let place = directory();
    let bytes = pattern(170_000);
    let mut armed = Armed::start(&["--preroll", "100KB"], &place.path().join("take.raw"), b"");
    armed.feed(&bytes[..100_000]);
    armed.until("kept_bytes", 100_000);
    assert_eq!(names(place.path()), [""; 0], "nothing is written before");
    armed.event();
    let triggered = armed.hear("triggered");
    assert_eq!((&triggered["number"], &triggered["bytes_before"]), (&1.into(), &100_000.into()));
    assert!(triggered["path"].as_str().unwrap().ends_with("take-000001.raw"));
    armed.feed(&bytes[100_000..150_000]);
    armed.until("accepted_bytes", 150_000);
    armed.event();
    assert_eq!(armed.hear("closed")["bytes"], 150_000);
    armed.feed(&bytes[150_000..150_100]); // a short piece is not held back
    armed.until("kept_bytes", 100);
    armed.event();
    assert_eq!(armed.hear("triggered")["bytes_before"], 100);
    armed.feed(&bytes[150_100..]);
    let (report, words) = armed.end();
    assert_eq!((&report["durable_bytes"], &report["overruns"]), (&170_000.into(), &0.into()));
    assert_eq!(report["segments"]["closed"], 2);
    assert!(words.contains("event 2: ") && words.contains("kill -USR2 "), "{words}");
    assert_eq!(names(place.path()), ["take-000001.raw", "take-000002.raw"]);
    let files = files(place.path());
    assert!(fs::read(&files[0]).unwrap() == bytes[..150_000]);
    assert!(fs::read(&files[1]).unwrap() == bytes[150_000..]);
}

#[test]
fn a_wav_file_begins_in_the_past_with_whole_frames() {
    let place = directory();
    let bytes = pattern(6_000_000); // of frames of 6 bytes
    let options = ["--preroll", "1s", "--rate", "16k", "--bits", "24"];
    let mut armed = Armed::start(&options, &place.path().join("take.wav"), &bytes[..100]);
    armed.feed(&bytes[100..]);
    armed.event();
    let before = armed.hear("triggered")["bytes_before"].as_u64().unwrap();
    armed.event();
    armed.hear("closed");
    armed.end();
    let samples = samples(place.path());
    assert!(before >= 96_000 && samples.len() as u64 >= before, "{before}, {}", samples.len());
    assert!(samples.len() < 3_000_000, "most of it came too early: {}", samples.len());
    let begins = (0..bytes.len()).step_by(6).find(|at| bytes[*at..].starts_with(&samples));
    assert!(begins.is_some(), "one piece of the input");
}

/// A signal that comes before the first byte is no death, and no event is forgotten.
#[cfg(target_os = "linux")]
#[test]
fn an_event_before_anything_came_begins_with_what_comes() {
    let place = directory();
    let mut command = record();
    command.args(["--preroll", "10s"]).arg(place.path().join("take.wav"));
    let (child, mut input) = begin(&mut command, b"");
    // Its process is the recorder by then, and listens.
    until("it listens", || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        (caught & 1 << (12 - 1) != 0).then_some(()) // SIGUSR2
    });
    signal(&child, "-USR2");
    input.write_all(&pattern(400)).unwrap();
    until("there is a file", || (names(place.path()).len() == 1).then_some(()));
    drop(input);
    assert_status(&ended(child), 0);
    assert!(samples(place.path()).len() <= 400);
}

#[test]
fn a_long_event_is_cut_into_files() {
    let place = directory();
    let bytes = pattern(450_000);
    let options = ["--preroll", "500KB", "--split", "100000", "--frame", "6"];
    let mut armed = Armed::start(&options, &place.path().join("take.raw"), &bytes);
    armed.until("kept_bytes", 450_000);
    armed.event();
    armed.until("durable_bytes", 450_000);
    signal(&armed.child, "-TERM");
    armed.child.wait().unwrap(); // its input goes on
    let (report, _) = armed.end();
    assert_eq!(report["status"], "interrupted");
    let parts: Vec<_> = files(place.path()).iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(parts.len() > 1 && parts.iter().all(|part| part.len() % 6 == 0));
    assert!(parts.concat() == bytes);
}

#[test]
fn without_an_event_there_is_no_file_and_that_is_said() {
    let place = directory();
    let path = place.path().join("take.raw");
    let output = fed(record().args(["--preroll", "1MB", "--json"]).arg(&path), &pattern(100_000));
    assert_status(&output, 0);
    assert!(stderr(&output).contains("no event: SIGUSR2 never came"), "{}", stderr(&output));
    let report = json(&output);
    assert_eq!((&report["input_bytes"], &report["durable_bytes"]), (&100_000.into(), &0.into()));
    assert_eq!(names(place.path()), [""; 0]);
}

/// Before anything is kept, and not when the event is there.
#[test]
fn what_no_event_could_open_is_said_at_the_start() {
    let place = directory();
    fs::create_dir(place.path().join("events")).unwrap();
    let path = place.path().join("events").join("take.raw");
    for (options, word) in [
        (&["--preroll", "10s"][..], "a size such as 64MiB"),
        (&["--preroll", "soon"], "a size such as 1GiB"),
        (&["--preroll", "0"], "above 0"),
        (&["--preroll", "0s", "--wav"], "above 0"),
        (&["--preroll", "1MB", "--append"], "--append"),
        (&["--preroll", "1000TB"], "keep less"),
        (&["--preroll", "1MB", "--buffers", "1"], "from 2 to 1000"),
        (&["--preroll", "1MB", "--split", "10", "--frame", "12"], "no room for a frame"),
        (&["--preroll", "1MB", "--min-free", "1000TB"], "give less"),
        (&["--preroll", "1MB", "--keep", "0s,x"], "--keep"),
    ] {
        let output = fed(record().args(options).arg(&path), b"samples");
        assert_status(&output, 2);
        assert!(stderr(&output).contains(word), "{options:?}: {}", stderr(&output));
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
        assert_eq!(names(path.parent().unwrap()), [""; 0], "{options:?} left a file behind");
    }
    for name in ["{seq}-{who}.raw", "none/take.raw"] {
        let output = fed(record().args(["--preroll", "1MB"]).arg(path.with_file_name(name)), b"");
        assert_status(&output, 2);
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    }
}
