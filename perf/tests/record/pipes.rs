//! A pipe that outlives its recorders, as a service manager holds it: what one has not taken is the
//! next one's, and none takes half a frame.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use super::*;

/// A FIFO that stays, and its end for reading, which does not wait.
fn pipe(place: &Path) -> (std::path::PathBuf, fs::File) {
    let path = place.join("in");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let end = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
    (path, end.unwrap())
}

/// What nobody has taken.
fn rest(mut end: &fs::File) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = end.read_to_end(&mut rest); // at last it would wait
    rest
}

/// Told to stop and started again while the input goes on, as a service that is restarted.
#[test]
fn what_is_left_in_a_pipe_is_the_next_recorders() {
    let place = directory();
    let (fifo, end) = pipe(place.path());
    let bytes = pattern(6_000_000);
    let mut writer = OpenOptions::new().write(true).open(&fifo).unwrap();
    let input = bytes.clone();
    let feeder = std::thread::spawn(move || {
        for piece in input.chunks(1021) {
            writer.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_micros(100)); // so that many recorders have a part
        }
        writer
    });
    let path = place.path().join("take.wav");
    let start = || {
        let mut command = record();
        command.args(["--resume", "--bits", "24", "--json"]).arg(&path);
        command.stdin(fs::File::open(&fifo).unwrap()).spawn().unwrap()
    };
    let mut len = 0;
    while !feeder.is_finished() {
        let child = start();
        until("more is recorded", || {
            let is_more = fs::metadata(&path).map_or(0, |known| known.len()) > len;
            (is_more || feeder.is_finished()).then_some(())
        });
        signal(&child, "-TERM");
        assert_status(&ended(child), 0);
        len = fs::metadata(&path).unwrap().len();
    }
    let child = start();
    drop(feeder.join().unwrap());
    assert_status(&ended(child), 0);
    let file = fs::read(&path).unwrap();
    assert!(described(&file) == bytes, "{} of {}", file.len(), bytes.len());
    assert_eq!(rest(&end), b"");
}

/// Whatever is taken with a killed recorder, it is whole frames.
#[test]
fn a_kill_takes_no_half_frame_out_of_a_pipe() {
    let place = directory();
    let (fifo, end) = pipe(place.path());
    let mut writer = OpenOptions::new().write(true).open(&fifo).unwrap();
    let frames =
        |from: u8| (0..9363).flat_map(move |i| [from, i as u8, (i >> 8) as u8, 7, 7, 7, 7]);
    for (name, round, format) in [
        ("take.raw", 1, &["--frame", "7"][..]),
        ("take.wav", 2, &["--channels", "7", "--bits", "8"]),
    ] {
        let mut command = record();
        command.args(format).args(["--resume", "--input"]).arg(&fifo).arg(place.path().join(name));
        let child = command.spawn().unwrap();
        // 9362 frames and the first bytes of one more: nothing of it is taken.
        let bytes: Vec<u8> = frames(round).collect();
        writer.write_all(&bytes[..bytes.len() - 4]).unwrap();
        let is_there = |len: u64| len >= 9000 * 7;
        until("it is recorded", || {
            let known = fs::metadata(place.path().join(name));
            known.is_ok_and(|known| is_there(known.len())).then_some(())
        });
        signal(&child, "-KILL");
        child.wait_with_output().unwrap();
        writer.write_all(&bytes[bytes.len() - 4..]).unwrap();
        assert_eq!(rest(&end), bytes[bytes.len() - 7..], "{name}");
    }
}

/// No pipe has room for it as a whole.
#[test]
fn a_frame_may_be_larger_than_a_pipe() {
    let place = directory();
    let path = place.path().join("take.raw");
    let bytes = pattern(1_000_000);
    let mut command = record();
    command.args(["--frame", "250000", "--buffers", "2"]).arg(&path);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), bytes.clone());
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    assert_status(&ended(child), 0);
    feeder.join().unwrap().unwrap();
    assert!(fs::read(&path).unwrap() == bytes);
}

#[test]
fn a_recorder_that_cannot_begin_takes_nothing() {
    let place = directory();
    let (fifo, end) = pipe(place.path());
    let mut writer = OpenOptions::new().write(true).open(&fifo).unwrap();
    writer.write_all(&pattern(1000)).unwrap();
    // What is there is no recording, which is seen when it is opened.
    let path = place.path().join("take.wav");
    fs::write(&path, "a letter to somebody").unwrap();
    let output = record().args(["--resume", "--input"]).arg(&fifo).arg(&path).output();
    assert_status(&output.unwrap(), 2);
    assert_eq!(rest(&end), pattern(1000));
}

/// A disk that has failed takes nothing more: what has been read is in the count, and named.
#[test]
fn what_was_taken_for_a_disk_that_failed_is_counted() {
    let place = directory();
    let (fifo, end) = pipe(place.path());
    let mut writer = OpenOptions::new().write(true).open(&fifo).unwrap();
    let feeder = std::thread::spawn(move || {
        (0..8192).for_each(|_| writer.write_all(&[7; 1024]).unwrap());
    });
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 2048; exec \"$@\"", "sh"]);
    command.args([env!("CARGO_BIN_EXE_writeflush"), "record", "--json", "--input"]).arg(&fifo);
    command.arg(place.path().join("take.raw")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().unwrap();
    assert_status(&output, 1);
    let taken = json(&output)["input_bytes"].as_u64().unwrap();
    let mut left = 0;
    while !feeder.is_finished() {
        left += rest(&end).len();
        std::thread::sleep(Duration::from_millis(1));
    }
    feeder.join().unwrap();
    left += rest(&end).len();
    assert_eq!(taken + left as u64, 8 << 20);
}
