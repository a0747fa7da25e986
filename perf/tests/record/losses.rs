//! Losses and failures.

use std::path::PathBuf;

use super::*;

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

/// Each loss is told when it happens, for who is killed before the end.
#[test]
fn losses_are_told_as_they_happen() {
    let place = directory();
    let bytes = pattern(5 * 4096 + 1);
    let (from, to) = (place.path().join("in"), place.path().join("out"));
    fs::write(&from, &bytes).unwrap();
    for policy in ["drop", "fill:7"] {
        let mut command = record();
        command.args(NO_DRIVER).args(["--on-full", policy, "--json-lines", "--force", "--input"]);
        let output = command.args([&from, &to]).output().unwrap();
        assert_status(&output, 1);
        let text = String::from_utf8(output.stdout).unwrap();
        let lines =
            text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let lost: Vec<_> = lines.filter(|line| line["event"] == "lost").collect();
        assert!(lost.iter().all(|loss| loss["position"] == 8192), "{policy}: {text}");
        let sum: u64 = lost.iter().map(|loss| loss["bytes"].as_u64().unwrap()).sum();
        assert_eq!(sum, 3 * 4096 + 1, "{policy}");
    }
}

/// A WAV file loses whole frames, so that its channels never change places.
#[test]
fn a_loss_ends_between_two_frames() {
    let place = directory();
    let bytes = pattern(6 * 4000);
    let (output, file) = lossy(place.path(), "drop", &["--wav", "--bits", "24"], &bytes);
    assert_status(&output, 1);
    // Pieces of 682 frames behind the two that were looked at: the first has room, four have not, the
    // short last one has again.
    let (piece, last) = (684 * 6, 588 * 6);
    assert!(described(&file) == [&bytes[..piece], &bytes[bytes.len() - last..]].concat());
    let report = json(&output);
    assert_eq!(report["overrun_places"][0]["position"], EXTENSIBLE + piece);
    assert_eq!(report["overrun_bytes"], 4 * 682 * 6);
}

/// Raw frames of which the recorder is told are lost whole as well, whatever the policy.
#[test]
fn raw_frames_are_lost_whole() {
    let place = directory();
    let frames: Vec<u8> =
        (0..4000u32).flat_map(|i| [1, 1, i as u8, 2, 2, (i >> 8) as u8]).collect();
    for policy in ["drop", "fail", "fill:0"] {
        let (output, file) = lossy(place.path(), policy, &["--frame", "6"], &frames);
        assert_status(&output, 1);
        let known = |frame: &[u8]| frame[..2] == [1, 1] && frame[3..5] == [2, 2];
        assert!(
            file.len() % 6 == 0 && file.chunks(6).all(|it| known(it) || it == [0; 6]),
            "{policy}"
        );
        let report = json(&output);
        assert_eq!(report["frame_bytes"], 6);
        for place in report["overrun_places"].as_array().unwrap() {
            let at = |name: &str| place[name].as_u64().unwrap() % 6;
            assert_eq!((at("position"), at("bytes")), (0, 0), "{policy}");
        }
    }
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
        let mut command = limited(&way);
        command.args(["--wav", "--fence-every", "1ms", "--json"]).arg(&path);
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
        assert_eq!(report["file_bytes"], wav.len(), "{way:?}: the length on the disk");
        assert_eq!(report["written_bytes"], wav.len(), "{way:?}");
        let data = described(&wav);
        assert!(data.len() + 3 >= wav.len() - HEADER, "{way:?}: the header describes less");
        assert!(data.len() >= sent - 50_000 && bytes.starts_with(data), "{way:?}");
        assert!(HEADER + data.len() <= durable, "{way:?}: the header describes more");
        assert!(wav[HEADER..durable] == bytes[..durable - HEADER], "{way:?}");
    }
}

/// Where there is no header, the file ends with a whole frame: half of one would pass for the next.
#[test]
fn a_full_disk_leaves_whole_raw_frames() {
    let place = directory();
    let bytes = pattern(6 << 20);
    let given = place.path().join("in");
    fs::write(&given, &bytes).unwrap();
    for way in ways() {
        let path = place.path().join(format!("{}{}.raw", way[1], way[3]));
        let mut command = limited(&way);
        command.args(["--raw", "--frame", "23", "--json", "--input"]).args([&given, &path]);
        let output = command.output().unwrap();
        assert_status(&output, 1);
        let (report, file) = (json(&output), fs::read(&path).unwrap());
        assert!(file.len() > 900_000 && bytes.starts_with(&file), "{way:?}: {}", file.len());
        assert_eq!(file.len() % 23, 0, "{way:?}");
        for figure in ["file_bytes", "written_bytes", "durable_bytes"] {
            assert_eq!(report[figure], file.len(), "{way:?}: {figure}");
        }
        let said = format!("the first {} bytes of the file are durable", file.len());
        assert!(stderr(&output).contains(&said), "{way:?}: {}", stderr(&output));
    }
}

/// Also without a checkpoint on the way the last header describes what there is.
#[test]
fn a_disk_that_was_full_leaves_a_header_of_all_that_is_durable() {
    let place = directory();
    for (name, every) in [("never", "0"), ("often", "1ms")] {
        let path = place.path().join(name);
        let mut command = limited(&["--wav", "--fence-every", every, "--json"]);
        let output = fed(command.arg(&path), &pattern(6 << 20));
        assert_status(&output, 1);
        let report = json(&output);
        let wav = fs::read(&path).unwrap();
        assert!(pattern(6 << 20).starts_with(described(&wav)));
        assert!(wav.len() > 1_000_000 && described(&wav).len() + 3 >= wav.len() - HEADER, "{name}");
        assert_eq!(
            (&report["file_bytes"], &report["durable_bytes"]),
            (&wav.len().into(), &wav.len().into())
        );
    }
}

/// A recorder whose file may get 1 or 2 MiB long: dash counts in blocks of 512 bytes, bash in 1024.
fn limited(options: &[&str]) -> Command {
    limited_to(2048, options)
}

/// To so many blocks of 512 bytes.
fn limited_to(blocks: u32, options: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -f {blocks}; exec \"$@\""), "sh"]);
    command.args([env!("CARGO_BIN_EXE_writeflush"), "record"]).args(options);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_file_that_can_be_no_longer_is_kept_and_split_advised() {
    const LEN: usize = 2_900_000; // more than a file may get, and no second file begins
    let given = directory();
    let input = given.path().join("in");
    fs::write(&input, pattern(LEN)).unwrap();
    for (options, advice) in [
        (&["--wav"][..], "give --split SIZE, for a new file in time"),
        (&["--raw"], "give --split SIZE, for a new file in time"),
        (&["--raw", "--split", "3MB"], "give a smaller --split"),
    ] {
        let place = directory();
        let output = limited(options)
            .arg(place.path().join("take"))
            .stdin(fs::File::open(&input).unwrap())
            .output()
            .unwrap();
        assert_status(&output, 1);
        let words = stderr(&output);
        let errors: Vec<_> = words.lines().filter(|line| line.starts_with("error: ")).collect();
        let [error] = errors[..] else { panic!("{words}") };
        assert!(error.contains("(os error 27): no file may be that long here; "), "{error}");
        assert!(error.contains(advice) && error.contains("bytes of the "), "{error}");
        let mut files = fs::read_dir(place.path()).unwrap();
        let kept = fs::read(files.next().unwrap().unwrap().path()).unwrap();
        let data = if options == ["--wav"] { described(&kept) } else { &kept[..] };
        assert!(data.len() > 900_000 && pattern(LEN).starts_with(data));
        assert!(files.next().is_none());
    }
}

/// What the recorder had taken is in its ring when it is killed on a full disk, and is brought when there
/// is space again: by a recovery, or by who goes on.
#[test]
#[cfg(target_os = "linux")]
fn what_was_taken_survives_a_kill() {
    let place = directory();
    const LIMIT: usize = 8 << 20; // there is room for the ring, too
    let bytes = pattern(LIMIT + (700 << 10));
    for resumes in [false, true] {
        let ring = format!("/dev/shm/writeflush-test-{}-{resumes}.ring", std::process::id());
        let path = place.path().join(resumes.to_string());
        let options = ["--raw", "--on-disk-full", "wait", "--buffer-size", "256KiB"];
        let options = [&options[..], &["--survive-kill", &ring]].concat();
        let mut command = limited_to(LIMIT as u32 / 512, &options);
        let (mut child, stdin) = begin(command.arg(&path), &bytes);
        let words = until_said(&mut child, "the disk is full at");
        child.kill().unwrap();
        child.wait().unwrap();
        drop((words, stdin)); // it stayed open until now
        assert!(fs::metadata(&path).unwrap().len() <= LIMIT as u64);
        let taken = if resumes {
            let output = fed(
                record().args(["--raw", "--resume", "--survive-kill", &ring]).arg(&path),
                b"afterwards",
            );
            assert_status(&output, 0);
            let file = fs::read(&path).unwrap();
            file.strip_suffix(b"afterwards").unwrap().to_vec()
        } else {
            let mut tool = Command::new(env!("CARGO_BIN_EXE_writeflush"));
            let output = tool.args(["recover", "--ring", &ring]).arg(&path).output().unwrap();
            assert_status(&output, 0);
            assert!(stderr(&output).contains("that had been taken are brought"));
            fs::read(&path).unwrap()
        };
        const PIPE: usize = 64 << 10;
        assert!(taken.len() + 2 * PIPE >= bytes.len() && bytes.starts_with(&taken));
        assert!(!Path::new(&ring).exists());
    }
}

/// The words on standard error as they come.
pub(super) fn until_said(child: &mut Child, words: &'static str) -> JoinHandle<String> {
    let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let (said, heard) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let lines = std::io::BufRead::lines(stderr).map_while(Result::ok);
        let lines = lines.inspect(|line| {
            if line.contains(words) {
                let _ = said.send(());
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    });
    if heard.recv_timeout(PATIENCE).is_err() {
        child.kill().unwrap();
        panic!("nobody said '{words}' in: {}", reader.join().unwrap());
    }
    reader
}

#[test]
fn a_signal_ends_the_wait_for_space() {
    let place = directory();
    for every in ["0", "2ms"] {
        let path = place.path().join(every);
        let options = ["--wav", "--on-disk-full", "wait", "--fence-every", every, "--json"];
        let mut child = limited(&options).arg(&path).stdin(Stdio::piped()).spawn().unwrap();
        let feeder = feed(child.stdin.take().unwrap(), pattern(1 << 20));
        let words = until_said(&mut child, "the disk is full at");
        signal(&child, "-TERM");
        let output = ended(child);
        let words = words.join().unwrap();
        assert_eq!(output.status.code(), Some(1), "{words}");
        drop(feeder.join().unwrap());
        let wav = fs::read(&path).unwrap();
        let report = json(&output);
        assert!(repeats(described(&wav), &pattern(1 << 20)));
        assert!(
            wav.len() > 1_000_000 && described(&wav).len() + 3 >= wav.len() - HEADER,
            "{words}"
        );
        assert_eq!(report["file_bytes"], wav.len());
        assert!(words.contains("of the file are durable"), "{words}");
        assert!(report["warnings"].to_string().contains("waiting for space"));
    }
}

/// Another job deletes a file: nothing that was accepted is missing.
#[cfg(target_os = "linux")]
#[test]
fn space_that_returns_is_waited_for() {
    if !rustix::process::geteuid().is_root() {
        return skip::skip("space that returns", "it needs root, to mount");
    }
    let place = directory();
    let (disk, out) = (place.path().join("disk"), place.path().join("out"));
    fs::create_dir(&disk).unwrap();
    let bytes = pattern(1 << 20);
    let script = "mount -t tmpfs -o size=2m none \"$1\" || exit 99
        head -c 1500000 /dev/zero >\"$1/filler\"
        disk=$1 out=$2; shift 2; \"$@\"; status=$?
        cp \"$disk/take.wav\" \"$out\"; exit $status";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).args([&disk, &out]);
    command.args([env!("CARGO_BIN_EXE_writeflush"), "record", "--wav", "--json"]);
    command.args(["--on-disk-full", "wait", "--fence-every", "2ms"]).arg(disk.join("take.wav"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, stdin) = begin(&mut command, &bytes);
    let words = until_said(&mut child, "the disk is full at");
    // As the child's mounts show it.
    let root = PathBuf::from(format!("/proc/{}/root", child.id()));
    fs::remove_file(root.join(disk.strip_prefix("/").unwrap()).join("filler")).unwrap();
    drop(stdin);
    let output = ended(child);
    let words = words.join().unwrap();
    assert_eq!(output.status.code(), Some(0), "{words}");
    assert!(described(&fs::read(&out).unwrap()) == bytes);
    assert!(words.contains("no longer waiting for space"), "{words}");
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
    // Reading the memory at address 0 fails with EIO (proc_pid_mem(5)).
    for (name, is_made) in [("take.wav", false), ("take.raw", true)] {
        let path = place.path().join(name);
        let output = record().args(["--input", "/proc/self/mem"]).arg(&path).output().unwrap();
        assert_status(&output, 2);
        assert!(stderr(&output).contains("could not read the input"), "{}", stderr(&output));
        // Of a WAV file the first bytes are looked at before anything is made.
        assert_eq!(path.exists(), is_made);
    }
}
