//! Recordings that are cut into files, of which the oldest go.

use std::path::PathBuf;

use super::*;

/// The files of a folder, in the order of their names.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    files(folder).into_iter().map(name).collect()
}

/// The samples of all WAV files of a folder.
pub(crate) fn samples(folder: &Path) -> Vec<u8> {
    files(folder).iter().flat_map(|path| described(&fs::read(path).unwrap()).to_vec()).collect()
}

/// Feeds a recorder no faster than the next file is made, which is there before the one before it is
/// full: what comes faster than a disk makes files finds longer ones.
fn feed_in_step(
    mut to: ChildStdin,
    bytes: Vec<u8>,
    size: usize,
    folder: PathBuf,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut fed = 0_usize;
        for piece in bytes.chunks(size / 2) {
            // A file that is just full ends with the next push; a WAV file is made behind the first.
            let live = fed.saturating_sub(100) / size + 1;
            let is_ready = || (fed == 0 || highest(&folder) > live).then_some(());
            until("the next file is there", is_ready);
            if to.write_all(piece).is_err() {
                return; // what became of it is asserted
            }
            fed += piece.len();
        }
    })
}

/// The highest number in a name.
fn highest(folder: &Path) -> usize {
    let numbers = names(folder).into_iter().filter_map(|name| {
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    numbers.max().unwrap_or(0)
}

fn fed_in_step(command: &mut Command, bytes: &[u8], size: usize, folder: &Path) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    let feeder = feed_in_step(stdin, bytes.to_vec(), size, folder.to_owned());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

#[test]
fn files_follow_each_other_without_a_gap() {
    let place = directory();
    let bytes = pattern(1_000_002);
    let options = ["--split", "100000", "--frame", "6", "--json"];
    let mut command = record();
    command.args(options).arg(place.path().join("take.raw"));
    let output = fed_in_step(&mut command, &bytes, 100_000, place.path());
    assert_status(&output, 0);
    let files = files(place.path());
    assert!(files.len() >= 10, "{files:?}");
    assert!(files[0].ends_with("take-000001.raw") && files[9].ends_with("take-000010.raw"));
    let parts: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(parts.iter().all(|part| part.len() % 6 == 0));
    assert!(parts.concat() == bytes);
    let report = json(&output);
    assert_eq!(
        (&report["durable_bytes"], &report["segments"]["closed"]),
        (&bytes.len().into(), &files.len().into())
    );
    // Numbers go on behind those that are there.
    let count = files.len();
    assert_status(&fed(record().args(options).arg(place.path().join("take.raw")), b"abcdef"), 0);
    assert_eq!(names(place.path())[count], format!("take-{:06}.raw", count + 1));
}

#[test]
fn each_file_is_a_wav_file_of_its_own() {
    let place = directory();
    // Of three bytes, so that every other length is odd.
    let bytes = pattern(300_000);
    let mut command = record();
    command.args(["--channels", "1", "--bits", "24", "--split", "30001", "--fence-every", "1ms"]);
    command.arg(place.path().join("{seq:03}.wav"));
    assert_status(&fed_in_step(&mut command, &bytes, 30_001, place.path()), 0);
    assert!(samples(place.path()) == bytes);
    assert_eq!(names(place.path())[0], "001.wav");
    for path in files(place.path()) {
        match Command::new("soxi").arg("-s").arg(&path).output() {
            Ok(output) => {
                let frames: usize = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
                assert_eq!(frames * 3, described(&fs::read(&path).unwrap()).len());
            }
            Err(_) => return skip::skip("sox", "it is not installed"),
        }
    }
}

#[test]
fn what_is_not_to_be_kept_goes_and_nothing_else() {
    let place = directory();
    for name in ["take.txt", "take.raw", "other-000001.raw"] {
        fs::write(place.path().join(name), "of somebody else").unwrap();
    }
    let options = ["--split", "50000", "--keep", "3", "--json-lines"];
    let mut command = record();
    command.args(options).arg(place.path().join("take.raw"));
    let output = fed_in_step(&mut command, &pattern(1 << 20), 50_000, place.path());
    assert_status(&output, 0);
    let names = names(place.path());
    assert_eq!(names.iter().filter(|name| name.starts_with("take-0")).count(), 3, "{names:?}");
    assert_eq!(names.len(), 6, "{names:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (closed, removed) =
        (text.matches("\"closed\"").count(), text.matches("\"removed\"").count());
    assert!(closed >= 20 && removed >= 18, "{text}");
}

#[test]
fn a_hangup_begins_the_next_file() {
    let place = directory();
    let (first, second) =
        (place.path().join("take-000001.wav"), place.path().join("take-000002.wav"));
    let options = ["--split", "1h", "--fence-every", "2ms"];
    let output = place.path().join("take.wav");
    let (child, mut stdin) = begin(record().args(options).arg(output), &pattern(400));
    until_described(&first, 400);
    signal(&child, "-HUP");
    std::thread::sleep(Duration::from_millis(200)); // until the signal has been looked at
    stdin.write_all(&pattern(800)).unwrap();
    until_described(&second, 800);
    signal(&child, "-TERM");
    assert_status(&ended(child), 0);
    drop(stdin);
    assert!(described(&fs::read(first).unwrap()) == pattern(400));
    assert!(described(&fs::read(second).unwrap()) == pattern(800));
}

/// A small disk, with a job beside the recorder that takes files away: no frame is lost.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_with_a_cleaner_loses_nothing() {
    if !rustix::process::geteuid().is_root() {
        return skip::skip("a cleaner", "it needs root, to mount");
    }
    let place = directory();
    let (disk, out) = (place.path().join("disk"), place.path().join("out"));
    fs::create_dir(&disk).unwrap();
    let bytes = pattern(24 << 20);
    // It moves what is closed elsewhere: three files stay, one that may be closing, the live one and the
    // next. It begins when the disk is full.
    let script = r#"mount -t tmpfs -o size=8m none "$1" || exit 99
        disk=$1 out=$2; shift 2; mkdir "$disk/files"; keep=3
        move() {
            while set -- "$disk"/files/*; [ -e "$1" ] && [ $# -gt $keep ]; do
                cat "$1" >>"$out" && rm "$1"
            done
        }
        {
            until [ -e "$disk/go" ]; do sleep 0.02; done
            until [ -e "$disk/end" ]; do move; sleep 0.02; done
        } &
        "$@"; status=$?
        touch "$disk/end"; wait $!; keep=0; move
        exit $status"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).args([&disk, &out]);
    command.args([env!("CARGO_BIN_EXE_writeflush"), "record", "--split", "1MiB", "--json", "-q"]);
    command.args(["--min-free", "2MiB", "--on-disk-full", "wait", "--buffers", "2"]);
    command.args(["--buffer-size", "64KiB"]).arg(disk.join("files/take.raw"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // As the child's mounts show it.
    let root = PathBuf::from(format!("/proc/{}/root", child.id()));
    let disk = root.join(disk.strip_prefix("/").unwrap());
    let (mut stdin, input) = (child.stdin.take().unwrap(), bytes.clone());
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let words = super::losses::until_said(&mut child, "the disk is full at");
    fs::write(disk.join("go"), "").unwrap();
    let output = ended(child);
    feeder.join().unwrap().unwrap();
    let words = words.join().unwrap();
    assert_eq!(output.status.code(), Some(0), "{words}");
    assert_eq!(json(&output)["overruns"], 0);
    let moved = fs::read(&out).unwrap();
    assert!(moved == bytes, "{} of {}: {words}", moved.len(), bytes.len());
}

/// A signal ends the wait for space, too.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_ends_the_wait_for_a_floor() {
    if !rustix::process::geteuid().is_root() {
        return skip::skip("a floor", "it needs root, to mount");
    }
    let place = directory();
    let script = r#"mount -t tmpfs -o size=4m none "$1" || exit 99; shift; exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(place.path());
    command.args([env!("CARGO_BIN_EXE_writeflush"), "record", "--split", "1MiB", "--json", "-q"]);
    command.args(["--min-free", "2MiB", "--on-disk-full", "wait"]).arg(place.path().join("take"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let feeder = feed(child.stdin.take().unwrap(), pattern(1 << 20));
    let words = super::losses::until_said(&mut child, "the disk is full at");
    signal(&child, "-TERM");
    let output = ended(child);
    let words = words.join().unwrap();
    drop(feeder.join().unwrap());
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("of the recording are durable"), "{words}");
    assert!(json(&output)["durable_bytes"].as_u64() > Some(0));
}
