//! The recorder against a JACK server without a sound card, and a client whose samples are known.

#[allow(dead_code, unsafe_code)]
#[path = "../../../tests/common/mounts.rs"]
mod mounts;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The one name of the tests' server. JACK has eight places for servers on a machine, and one that
/// had a client killed doesn't give its place back until another of the same name comes.
const NAME: &str = "writeflush-tests";

/// A server ends politely. Of a client that was killed it leaves the semaphores.
struct EndsPolitely(Child);

impl Drop for EndsPolitely {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
        let semaphores = format!("rm -f /dev/shm/jack_sem.*_{NAME}_*");
        let _ = Command::new("sh").args(["-c", &semaphores]).status();
    }
}

/// One test at a time: each has a thread that takes a whole core, beside threads with deadlines.
static ALONE: Mutex<()> = Mutex::new(());

/// A server of the test's own with a generator that counts; `None`, said loudly, without jackd.
struct Server {
    // In this order: clients before the server.
    _generator: Ends,
    _server: EndsPolitely,
    _turn: File,
    _alone: MutexGuard<'static, ()>,
}

impl Server {
    fn start(test: &str, period: u32) -> Option<Self> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // And one run of the tests on a machine: they share the name.
        let turn = File::create(std::env::temp_dir().join(NAME)).unwrap();
        turn.lock().unwrap();
        let period = period.to_string();
        // -S: the server waits for its clients, so that a busy machine costs time and no periods.
        let args = ["--no-realtime", "-S", "-n", NAME, "-d", "dummy", "-r", "48000", "-p", &period];
        if let Err(error) = Command::new("jackd").arg("--version").stdout(Stdio::null()).status() {
            assert!(std::env::var_os("CI").is_none(), "jackd: {error}; CI must not skip it");
            eprintln!("SKIPPED: {test} needs jackd ({error})");
            return None;
        }
        let mut says = tempfile::tempfile().unwrap();
        // A server that is asked to end tells so to clients that were killed, and would die of it.
        let server = Command::new("env")
            .args(["--ignore-signal=PIPE", "jackd"])
            .args(args)
            .stdout(Stdio::null())
            .stderr(says.try_clone().unwrap())
            .spawn()
            .map(EndsPolitely)
            .unwrap();
        for _ in 0..200 {
            std::thread::sleep(Duration::from_millis(100));
            let mut generator = Ends(
                Command::new(env!("CARGO_BIN_EXE_jack-generator"))
                    .env("JACK_DEFAULT_SERVER", NAME)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap(),
            );
            let mut line = String::new();
            BufReader::new(generator.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
            if line == "ready\n" {
                return Some(Self {
                    _generator: generator,
                    _server: server,
                    _turn: turn,
                    _alone: alone,
                });
            }
        }
        let mut text = String::new();
        says.rewind().unwrap();
        says.read_to_string(&mut text).unwrap();
        panic!(
            "the JACK server does not come up (JACK has eight places on a machine; servers that \
             were killed keep theirs until /dev/shm/jack* are removed): {text}"
        );
    }

    fn recorder(&self, file: &Path, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jack-recorder"));
        command.env("JACK_DEFAULT_SERVER", NAME).arg(file);
        command.args(["generator:up", "generator:down"]).args(more);
        command
    }
}

/// Runs a recorder to its end; what it says.
#[track_caller]
fn said(mut recorder: Command) -> String {
    let output = recorder.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into()
}

/// Checks that the header describes consecutive samples; returns their number. Silence is allowed
/// before the ports were connected, and after JACK has disconnected them, which it does before it
/// calls for the last time.
#[track_caller]
fn counted(file: &Path, said: &str) -> usize {
    let bytes = std::fs::read(file).unwrap();
    assert_eq!(&bytes[..4], b"RIFF");
    let data = u32::from_le_bytes(bytes[76..80].try_into().unwrap()) as usize;
    let samples = &bytes[80..80 + data];
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    let frames = samples.chunks(8).map(|frame| (number(&frame[..4]), number(&frame[4..])));
    let frames: Vec<_> = frames.collect();
    // The ports are connected, and disconnected, one after the other.
    let both = |frame: &(f32, f32)| frame.0 != 0.0 && frame.1 != 0.0;
    let first = frames.iter().position(both).expect("samples of the generator");
    let end = frames.iter().rposition(both).map_or(0, |last| last + 1);
    for (index, &(up, down)) in frames[first..end].iter().enumerate() {
        let expected = frames[first].0 + index as f32;
        assert_eq!((up, down), (expected, -expected), "after {index} samples: {said}");
    }
    end - first
}

#[test]
fn every_sample_arrives_with_short_and_long_periods() {
    let dir = tempfile::tempdir().unwrap();
    for period in [64, 1024] {
        let Some(server) = Server::start("exact", period) else { return };
        let file = dir.path().join(format!("{period}.wav"));
        let said = said(server.recorder(&file, &["--seconds", "4"]));
        assert!(said.contains("; 0 overruns"), "{said}");
        assert!(counted(&file, &said) > 48_000, "{said}");
    }
}

#[test]
fn a_disk_that_stalls_for_less_than_the_buffer_costs_nothing() {
    /// A file system that takes nothing until it is dropped.
    struct Frozen<'a>(&'a Path);
    impl Drop for Frozen<'_> {
        fn drop(&mut self) {
            mounts::run("fsfreeze", &["-u", self.0.to_str().unwrap()]);
        }
    }
    if !mounts::may_mount("a_disk_that_stalls_for_less_than_the_buffer_costs_nothing") {
        return;
    }
    let Some(server) = Server::start("stall", 64) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (image, at) = (dir.path().join("image"), dir.path().join("disk"));
    std::fs::create_dir(&at).unwrap();
    mounts::Mount::make_ext4(&image, 64);
    let mount = mounts::Mount::ext4(&image, &at);
    let file = at.join("take.wav");
    let recorder = server.recorder(&file, &["--seconds", "6", "--checkpoint", "100"]);
    let recording = std::thread::spawn(move || said(recorder));
    std::thread::sleep(Duration::from_secs(2));
    let frozen = Frozen(&at);
    mounts::run("fsfreeze", &["-f", at.to_str().unwrap()]);
    std::thread::sleep(Duration::from_secs(2));
    drop(frozen);
    let said = recording.join().unwrap();
    assert!(said.contains("; 0 overruns"), "{said}");
    assert!(counted(&file, &said) > 48_000, "{said}");
    drop(mount);
}

/// Under strace, which slows the threads down but hides no call of theirs.
#[test]
fn the_callback_makes_no_system_call_but_jacks_own() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI must not skip strace");
        return eprintln!("SKIPPED: strace is not installed");
    }
    let Some(server) = Server::start("calls", 1024) else { return };
    let dir = tempfile::tempdir().unwrap();
    let recorder = server.recorder(&dir.path().join("take.wav"), &["--seconds", "6"]);
    let mut traced = Command::new("strace");
    traced.arg("-ff").arg("-o").arg(dir.path().join("calls")).arg(recorder.get_program());
    traced.args(recorder.get_args()).env("JACK_DEFAULT_SERVER", NAME);
    let said = said(traced);
    let frames: usize = said.split(' ').next().unwrap().parse().unwrap();
    let is_trace = |path: &Path| path.extension().is_some() && !path.ends_with("take.wav");
    let traces = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let traces =
        traces.filter(|path| is_trace(path)).map(|path| std::fs::read_to_string(path).unwrap());
    // JACK's thread waits for the server, and tells the next client, once a period each.
    let is_jacks = |line: &&str| line.starts_with("futex(");
    let busiest = traces.max_by_key(|trace| trace.lines().filter(is_jacks).count()).unwrap();
    let calls: Vec<_> = busiest.lines().collect();
    let periods = frames / 1024;
    assert!(calls.len() > periods && calls.len() < 3 * periods + 60, "{} {said}", calls.len());
    // But for how a thread begins and ends.
    let rest: Vec<_> = calls[20..calls.len() - 20].iter().filter(|line| !is_jacks(line)).collect();
    assert!(rest.is_empty(), "{rest:#?}");
}

#[test]
fn kill_9_leaves_a_file_that_sox_reads() {
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Server::start("kill", 64) else { return };
    let file = dir.path().join("take.wav");
    let mut recorder = server.recorder(&file, &["--checkpoint", "100"]);
    let recorder = Ends(recorder.stderr(Stdio::null()).spawn().unwrap());
    std::thread::sleep(Duration::from_secs(3));
    drop(recorder); // SIGKILL
    let count = counted(&file, "killed");
    assert!(count > 4800, "{count} samples of some 3 s");
    let frames = Command::new("soxi").arg("-s").arg(&file).output();
    let Ok(frames) = frames else {
        assert!(std::env::var_os("CI").is_none(), "CI must not skip sox");
        return eprintln!("SKIPPED: sox is not installed");
    };
    let frames: usize = String::from_utf8_lossy(&frames.stdout).trim().parse().unwrap();
    assert!(frames >= count);
    mounts::run("sox", &[file.to_str().unwrap(), "-n", "stat"]);
}
