//! Terminals and pipes that take nothing: they hold up neither a recording nor its end.

use std::fs::File;

use rustix::termios::Action;

use super::terminals::{Terminal, fill, full_pipe};
use super::*;

/// Feeds it on until so much is in the file, again and again: nothing holds it up for ever.
fn goes_on(path: &Path, stdin: &mut ChildStdin, from: usize) -> usize {
    let rounds = 200;
    for round in 1..=rounds {
        stdin.write_all(&[7; 400]).unwrap();
        until_described(path, from + round * 400);
    }
    from + rounds * 400
}

const OFTEN: [&str; 3] = ["--wav", "--fence-every", "2ms"];

#[test]
fn a_terminal_that_stops_does_not_stop_the_recording() {
    let place = directory();
    for from_the_start in [true, false] {
        let path = place.path().join(format!("{from_the_start}.wav"));
        let terminal = Terminal::open();
        if from_the_start {
            terminal.flow(Action::OOff);
        }
        let mut command = record();
        command.args(OFTEN).arg("--json").arg(&path).stderr(terminal.stderr());
        let (child, mut stdin) = begin(&mut command, &[7; 400]);
        until_described(&path, 400);
        terminal.flow(Action::OOff);
        let len = goes_on(&path, &mut stdin, 400);
        drop(stdin);
        let output = ended(child);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(json(&output)["durable_bytes"], HEADER + len);
        assert!(described(&fs::read(&path).unwrap()) == vec![7; len]);
    }
}

/// As behind a connection that is gone: nobody reads the window.
#[test]
fn a_signal_ends_a_recording_whose_terminal_takes_nothing() {
    let place = directory();
    for name in ["-INT", "-TERM", "-HUP"] {
        let path = place.path().join(format!("{name}.wav"));
        let terminal = Terminal::open();
        fill(&terminal.programs);
        let mut command = record();
        command.args(OFTEN).arg("--json").arg(&path).stderr(terminal.stderr());
        let (child, mut stdin) = begin(&mut command, &[7; 400]);
        let len = goes_on(&path, &mut stdin, 0);
        signal(&child, name);
        let output = ended(child);
        assert_eq!(output.status.code(), Some(0), "{name}");
        assert_eq!(json(&output)["status"], "interrupted");
        assert_eq!(json(&output)["durable_bytes"], HEADER + len + 400);
        drop((stdin, terminal.window));
    }
}

#[test]
fn a_terminal_that_goes_on_shows_what_was_said() {
    let place = directory();
    let path = place.path().join("take.wav");
    let terminal = Terminal::open();
    terminal.flow(Action::OOff);
    let mut command = record();
    command.args(OFTEN).args(["--on-full", "drop"]).arg(&path).stderr(terminal.stderr());
    let (child, stdin) = begin(&mut command, &[7; 402]);
    until_described(&path, 400);
    terminal.flow(Action::OOn);
    drop((stdin, command, terminal.programs));
    // Reading ends with an error when nobody has the other end open any more (pty(7)).
    let mut shown = Vec::new();
    let _ = File::from(terminal.window).read_to_end(&mut shown);
    assert_eq!(ended(child).status.code(), Some(0));
    let shown = String::from_utf8(shown).unwrap();
    for words in ["ended within a frame of 4 bytes: the last 2 bytes", "the whole input"] {
        assert!(shown.contains(words), "no '{words}' in: {shown}");
    }
}

#[test]
fn a_full_pipe_for_words_holds_up_nothing() {
    let place = directory();
    let path = place.path().join("take.wav");
    let (_reader, full) = full_pipe();
    // Half a frame at the end is worth a warning, beside the summary.
    let (child, mut stdin) =
        begin(record().args(OFTEN).arg("--json").arg(&path).stderr(full), &[7; 402]);
    stdin.write_all(&[7; 1000]).unwrap();
    drop(stdin);
    let output = ended(child);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(json(&output)["durable_bytes"], HEADER + 1402);
    assert_eq!(described(&fs::read(&path).unwrap()), [7; 1400]);
}

#[test]
fn json_waits_for_its_reader_and_after_a_signal_no_more() {
    let place = directory();
    for patient in [true, false] {
        let path = place.path().join(patient.to_string());
        let (mut reader, full) = full_pipe();
        let (child, stdin) = begin(record().arg("--json").arg(&path).stdout(full), b"abc");
        drop(stdin);
        until("the recording is over", || (fs::read(&path).ok()? == b"abc").then_some(()));
        if patient {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            let object = text.trim_start_matches('x');
            let report: serde_json::Value = serde_json::from_str(object).unwrap();
            assert_eq!(report["durable_bytes"], 3);
            assert_eq!(ended(child).status.code(), Some(0));
        } else {
            signal(&child, "-TERM");
            let output = ended(child);
            assert_status(&output, 0);
            let text = stderr(&output);
            assert!(text.contains("could not print the JSON object: nobody reads it"), "{text}");
        }
    }
}

/// `stty tostop` stops whoever writes to the terminal from the background.
#[test]
fn in_the_background_of_a_terminal_it_goes_on() {
    let place = directory();
    let (from, to) = (place.path().join("in"), place.path().join("out"));
    fs::write(&from, pattern(100_000)).unwrap();
    let terminal = Terminal::open();
    let mut command = Command::new("setsid");
    let script = "stty tostop; \"$@\" & wait $!";
    command.args(["--ctty", "--wait", "sh", "-mc", script, "sh"]);
    command.args([env!("CARGO_BIN_EXE_writeflush"), "record", "--input"]).args([&from, &to]);
    command.stdin(terminal.stderr()).stdout(Stdio::null()).stderr(terminal.stderr());
    let output = ended(command.spawn().unwrap());
    assert_eq!(output.status.code(), Some(0));
    assert!(fs::read(&to).unwrap() == pattern(100_000));
}

#[test]
fn under_nohup_it_outlives_its_terminal() {
    let place = directory();
    let path = place.path().join("take.wav");
    let mut command = Command::new("nohup");
    command.args([env!("CARGO_BIN_EXE_writeflush"), "record", "--json"]).args(OFTEN);
    command.arg(&path).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (child, mut stdin) = begin(&mut command, &[7; 400]);
    until_described(&path, 400);
    signal(&child, "-HUP");
    stdin.write_all(&[7; 400]).unwrap();
    until_described(&path, 800);
    signal(&child, "-HUP");
    drop(stdin);
    let output = ended(child);
    assert_status(&output, 0);
    assert_eq!(json(&output)["status"], "complete");
}
