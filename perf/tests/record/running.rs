//! What a recording says while it runs: to who asks, to a reader of events, to a service manager.

use std::os::unix::net::UnixDatagram;

use super::*;

fn lines(output: &Output) -> Vec<serde_json::Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn events_come_as_they_happen() {
    let place = directory();
    let path = place.path().join("take.wav");
    let options = ["--json-lines", "--fence-every", "2ms"];
    let (child, mut stdin) = begin(record().args(options).arg(&path), &pattern(1000));
    until_described(&path, 1000);
    signal(&child, "-USR1");
    stdin.write_all(&pattern(1001)).unwrap();
    until_described(&path, 2000);
    std::thread::sleep(Duration::from_millis(200)); // until the signal has been looked at
    drop(stdin);
    let output = ended(child);
    assert_status(&output, 0);
    let lines = lines(&output);
    let of = |name: &str| lines.iter().filter(|line| line["event"] == name).collect::<Vec<_>>();
    assert_eq!(
        (lines[0]["event"].as_str(), &lines[0]["position"]),
        (Some("began"), &HEADER.into())
    );
    assert!(lines[0]["time"].as_str().unwrap().ends_with('Z'));
    assert!(of("state")[0]["accepted_bytes"].as_u64() >= Some(1000));
    assert!(of("warning").iter().any(|it| it["text"].as_str().unwrap().contains("within a frame")));
    assert_eq!(lines.last().unwrap()["schema"], "writeflush.record/1");
    assert!(stderr(&output).contains("recorded "), "{}", stderr(&output));
}

/// A refusal is the one line there is.
#[test]
fn a_refusal_is_a_line_too() {
    let output = record().args(["--json-lines", "/none/take"]).output().unwrap();
    assert_status(&output, 2);
    assert_eq!(json(&output)["status"], "refused");
}

/// Nobody reads the events: the recording goes on, and ends.
#[test]
fn events_that_nobody_reads_hold_up_nothing() {
    let place = directory();
    let path = place.path().join("take.wav");
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = record();
    command.args(["--json-lines", "--fence-every", "2ms"]).arg(&path).stdout(writer);
    let (child, mut stdin) = begin(&mut command, &[7; 400]);
    until_described(&path, 400);
    for round in 1..100 {
        stdin.write_all(&[7; 400]).unwrap();
        signal(&child, "-USR1");
        until_described(&path, 400 * round);
    }
    signal(&child, "-TERM");
    drop(command); // its end of the pipe
    assert_status(&ended(child), 0);
    drop(reader);
    drop(stdin);
}

#[test]
fn a_service_manager_is_told() {
    let place = directory();
    let (path, socket) = (place.path().join("take.wav"), place.path().join("notify"));
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = |word: &str| {
        until("the manager is told", || {
            let mut said = [0; 4096];
            let len = manager.recv(&mut said).unwrap();
            String::from_utf8_lossy(&said[..len])
                .lines()
                .any(|it| it.starts_with(word))
                .then_some(())
        });
    };
    let mut command = Command::new("sh");
    command.args(["-c", "export WATCHDOG_PID=$$; exec \"$@\"", "sh"]);
    command.args([env!("CARGO_BIN_EXE_writeflush"), "record"]).arg(&path).stderr(Stdio::piped());
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "100000");
    let (child, stdin) = begin(&mut command, &[7; 400]);
    heard("READY=1");
    heard("STATUS=recorded ");
    heard("WATCHDOG=1");
    heard("WATCHDOG=1");
    signal(&child, "-TERM");
    heard("STOPPING=1");
    assert_status(&ended(child), 0);
    drop(stdin);
}

/// Another process reads along, and hears of the end.
#[cfg(target_os = "linux")]
#[test]
fn a_follower_sees_it_all_and_how_it_ends() {
    let place = directory();
    let follow = |path: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_writeflush"));
        command.arg("follow").arg(path).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let bytes = pattern(100_000);
    for is_killed in [false, true] {
        let path = place.path().join(if is_killed { "killed" } else { "closed" });
        let options = ["--followed", "--fence-every", "2ms"];
        let (mut child, mut stdin) = begin(record().args(options).arg(&path), &bytes[..400]);
        until("it is recorded", || (fs::metadata(&path).ok()?.len() >= 400).then_some(()));
        let mut follower = follow(&path);
        let mut seen = vec![0; bytes.len()];
        let mut from = follower.stdout.take().unwrap();
        from.read_exact(&mut seen[..400]).unwrap();
        stdin.write_all(&bytes[400..]).unwrap();
        from.read_exact(&mut seen[400..]).unwrap();
        assert!(seen == bytes);
        if is_killed {
            child.kill().unwrap();
        }
        drop(stdin);
        let recorded = ended(child);
        assert_eq!(recorded.status.success(), !is_killed);
        let output = ended(follower);
        assert_status(&output, i32::from(is_killed));
    }
    let output = ended(follow(&place.path().join("none")));
    assert_status(&output, 2);
    assert!(stderr(&output).contains("name a recording"), "{}", stderr(&output));
}
