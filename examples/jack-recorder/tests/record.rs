//! The recorder against a JACK server without a sound card, and a client whose samples are known.

#[path = "../../../tests/common/skip.rs"]
mod skip;

#[allow(dead_code, unsafe_code)]
#[path = "../../../tests/common/mounts.rs"]
mod mounts;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use jack_recorder::wav::HEADER;

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

/// Whether the server waits for its clients.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// A busy machine costs time and no periods; a client that blocks stops everything.
    Waits,
    /// As with a sound card: who is late has an xrun.
    GoesOn,
}

/// A server of the test's own with a generator that counts; `None`, said loudly, without jackd.
struct Server {
    // In this order: clients before the server.
    _generator: Ends,
    _server: EndsPolitely,
    _turn: File,
    _alone: MutexGuard<'static, ()>,
}

impl Server {
    fn start(test: &str, period: u32, mode: Mode) -> Option<Self> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // And one run of the tests on a machine: they share the name.
        let turn = File::create(std::env::temp_dir().join(NAME)).unwrap();
        turn.lock().unwrap();
        if let Err(error) = Command::new("jackd").arg("--version").stdout(Stdio::null()).status() {
            skip::skip(test, &format!("it needs jackd ({error})"));
            return None;
        }
        let mut says = tempfile::tempfile().unwrap();
        // A server that is asked to end tells so to clients that were killed, and would die of it.
        let mut server = Command::new("env");
        server.args(["--ignore-signal=PIPE", "jackd", "--no-realtime"]);
        if mode == Mode::Waits {
            server.arg("-S");
        }
        server.args(["-n", NAME, "-d", "dummy", "-r", "48000", "-p", &period.to_string()]);
        let server = server.stdout(Stdio::null()).stderr(says.try_clone().unwrap()).spawn();
        let server = server.map(EndsPolitely).unwrap();
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

/// A recorder that shows its progress.
struct Recording {
    process: Ends,
    lines: mpsc::Receiver<String>,
}

/// Frames, by what has become of them; and xruns.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    accepted: u64,
    written: u64,
    described: u64,
    lost: u64,
    xruns: u64,
}

impl Recording {
    fn start(server: &Server, file: &Path, more: &[&str]) -> Self {
        let mut recorder = server.recorder(file, &[&["--progress"], more].concat());
        recorder.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Ends(recorder.spawn().unwrap());
        let errors = BufReader::new(process.0.stderr.take().unwrap());
        let (line, lines) = mpsc::channel();
        // It reads on whatever the test does, or the recorder would stand before a full pipe.
        std::thread::spawn(move || {
            errors.lines().map_while(Result::ok).try_for_each(|it| line.send(it))
        });
        Self { process, lines }
    }

    /// What it shows next. Far more time than it takes: past it, something hangs.
    #[track_caller]
    fn next(&self) -> Progress {
        loop {
            let line =
                self.lines.recv_timeout(Duration::from_secs(60)).expect("a line of progress");
            let words: Vec<_> = line.split(' ').collect();
            let [
                "accepted",
                accepted,
                "written",
                written,
                "durable",
                durable,
                "described",
                described,
                "lost",
                lost,
                "xruns",
                xruns,
            ] = words[..]
            else {
                continue; // another line, or libjack's
            };
            let [accepted, written, durable, described, lost, xruns] =
                [accepted, written, durable, described, lost, xruns].map(|it| it.parse().unwrap());
            let now = Progress { accepted, written, described, lost, xruns };
            assert!(accepted >= written && written >= durable && durable >= described, "{now:?}");
            return now;
        }
    }

    /// What it shows when `ready` holds; it has to come to that.
    #[track_caller]
    fn until(&self, ready: impl Fn(&Progress) -> bool) -> Progress {
        for _ in 0..600 {
            let now = self.next();
            if ready(&now) {
                return now;
            }
        }
        panic!("it does not come to that: {:?}", self.next());
    }

    fn signal(&self, signal: &str) {
        mounts::run("kill", &[signal, &self.process.0.id().to_string()]);
    }

    /// Asks it to end; what it says.
    #[track_caller]
    fn end(self) -> String {
        self.signal("-INT");
        let (succeeded, said) = self.ended();
        assert!(succeeded, "{said}");
        said
    }

    /// Whether it ended well, and what it said.
    fn ended(mut self) -> (bool, String) {
        let mut errors = String::new();
        for line in 0.. {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Ok(text) if line < 600 => errors += &(text + "\n"),
                _ => panic!("it does not end: {errors}"),
            }
        }
        let mut said = String::new();
        self.process.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        (self.process.0.wait().unwrap().success(), said + &errors)
    }
}

/// The frames that the header describes.
#[track_caller]
fn described(file: &Path) -> Vec<(f32, f32)> {
    let bytes = std::fs::read(file).unwrap();
    assert_eq!(&bytes[..4], b"RIFF");
    let header = HEADER as usize;
    let data = u32::from_le_bytes(bytes[header - 4..header].try_into().unwrap()) as usize;
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    let frames = bytes[header..header + data].chunks(8);
    frames.map(|frame| (number(&frame[..4]), number(&frame[4..]))).collect()
}

/// Checks that the header describes consecutive samples from the moment on when both ports were
/// connected, to the last one; those in `silent` are silence. Returns how many there are.
fn consecutive(file: &Path, silent: &[Range<usize>]) -> Result<usize, String> {
    let frames = described(file);
    let both = |frame: &(f32, f32)| frame.0 != 0.0 && frame.1 != 0.0;
    let first = frames.iter().position(both).ok_or("no samples of the generator")?;
    for (index, &found) in frames.iter().enumerate().skip(first) {
        let number = match silent.iter().any(|range| range.contains(&index)) {
            true => 0.0,
            false => frames[first].0 + (index - first) as f32,
        };
        if found != (number, -number) {
            return Err(format!("frame {index} of {} is {found:?}, not {number}", frames.len()));
        }
    }
    Ok(frames.len() - first)
}

/// As `consecutive`; it has to be so.
#[track_caller]
fn counted(file: &Path, said: &str, silent: &[Range<usize>]) -> usize {
    consecutive(file, silent).unwrap_or_else(|wrong| panic!("{wrong}: {said}"))
}

/// Where a recorder says that it lost frames.
fn losses(said: &str) -> Vec<Range<usize>> {
    let lines = said.lines().filter_map(|line| line.strip_prefix("lost: "));
    lines
        .map(|line| {
            let (count, at) = line.split_once(" frames at ").unwrap();
            let (count, at): (usize, usize) = (count.parse().unwrap(), at.parse().unwrap());
            at..at + count
        })
        .collect()
}

#[test]
fn every_sample_arrives_with_short_and_long_periods() {
    let dir = tempfile::tempdir().unwrap();
    for period in [64, 1024] {
        let Some(server) = Server::start("exact", period, Mode::Waits) else { return };
        let file = dir.path().join(format!("{period}.wav"));
        let recording = Recording::start(&server, &file, &[]);
        recording.until(|now| now.described > 96_000);
        let said = recording.end();
        assert!(said.contains("; 0 overruns"), "{said}");
        assert!(counted(&file, &said, &[]) > 48_000, "{said}");
    }
}

// ---- a disk that stands still ---------------------------------------------------------------------

/// A file system of the test's own that can be frozen.
struct Disk {
    at: PathBuf,
    _mount: mounts::Mount,
}

impl Disk {
    fn new(dir: &Path) -> Self {
        let (image, at) = (dir.join("image"), dir.join("disk"));
        std::fs::create_dir(&at).unwrap();
        mounts::Mount::make_ext4(&image, 256);
        Self { _mount: mounts::Mount::ext4(&image, &at), at }
    }
}

/// A file system that takes nothing until it is dropped.
struct Frozen<'a>(&'a Path);

impl<'a> Frozen<'a> {
    fn new(disk: &'a Disk) -> Self {
        mounts::run("fsfreeze", &["-f", disk.at.to_str().unwrap()]);
        Self(&disk.at)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        mounts::run("fsfreeze", &["-u", self.0.to_str().unwrap()]);
    }
}

/// The server waits for its clients: a callback that waited for the disk would stop everything, and
/// no sample would be accepted while the disk takes none.
#[test]
fn a_disk_that_stalls_for_less_than_the_buffer_costs_nothing() {
    if !mounts::may_mount("a_disk_that_stalls_for_less_than_the_buffer_costs_nothing") {
        return;
    }
    let Some(server) = Server::start("stall", 64, Mode::Waits) else { return };
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(dir.path());
    let file = disk.at.join("take.wav");
    let recording = Recording::start(&server, &file, &["--checkpoint", "100"]);
    recording.until(|now| now.described > 24_000);
    let frozen = Frozen::new(&disk);
    let before = stalled(&recording);
    let after = recording.until(|now| now.accepted >= before.accepted + 48_000);
    assert_eq!((after.written, after.lost), (before.written, 0), "{after:?}");
    drop(frozen);
    recording.until(|now| now.described > after.accepted);
    let said = recording.end();
    assert!(said.contains("; 0 overruns"), "{said}");
    assert!(counted(&file, &said, &[]) as u64 > after.accepted / 2, "{said}");
}

/// What it shows once nothing gets to the disk any more.
fn stalled(recording: &Recording) -> Progress {
    let mut before = recording.next();
    loop {
        let now = recording.next();
        if now.written == before.written && now.accepted > now.written {
            return now;
        }
        before = now;
    }
}

/// The server goes on without a client that is late: hundreds of periods in a row without an xrun,
/// while the disk takes nothing. This machine may be late by itself, so there are some attempts; one
/// that waited for the disk would be late in every period of each.
#[test]
fn no_xrun_comes_of_a_disk_that_stalls() {
    if !mounts::may_mount("no_xrun_comes_of_a_disk_that_stalls") {
        return;
    }
    const PERIOD: u64 = 1024;
    let Some(server) = Server::start("xruns", PERIOD as u32, Mode::GoesOn) else { return };
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(dir.path());
    let file = disk.at.join("take.wav");
    let recording = Recording::start(&server, &file, &["--checkpoint", "100"]);
    recording.until(|now| now.described > 24_000);
    let clean = (0..20).any(|_| {
        let frozen = Frozen::new(&disk);
        let before = stalled(&recording);
        let after = recording.until(|now| now.accepted >= before.accepted + 50 * PERIOD);
        assert_eq!(after.written, before.written);
        drop(frozen);
        recording.until(|now| now.described > after.accepted);
        after.xruns == before.xruns
    });
    let said = recording.end();
    assert!(clean, "an xrun in every stall: {said}");
}

/// More sound than the buffers hold: silence of the same length, in its place, and reported.
#[test]
fn what_does_not_fit_is_silence_in_its_place() {
    if !mounts::may_mount("what_does_not_fit_is_silence_in_its_place") {
        return;
    }
    let Some(server) = Server::start("overruns", 1024, Mode::Waits) else { return };
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(dir.path());
    let file = disk.at.join("take.wav");
    let recording = Recording::start(&server, &file, &["--checkpoint", "100", "--buffer", "2"]);
    recording.until(|now| now.described > 24_000);
    let frozen = Frozen::new(&disk);
    let lost = recording.until(|now| now.lost > 24_000);
    drop(frozen);
    recording.until(|now| now.described > lost.accepted + lost.lost + 48_000);
    let said = recording.end();
    let losses = losses(&said);
    assert!(losses.iter().map(Range::len).sum::<usize>() > 24_000, "{said}");
    assert!(said.contains("frames of silence in their place, 0 of them never came"), "{said}");
    counted(&file, &said, &losses);
}

// ---- JACK's own accidents -------------------------------------------------------------------------

/// Periods for which the recorder was not there are silence: what comes behind them is where it would
/// have been.
#[test]
fn a_recorder_that_stood_still_keeps_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = String::new();
    // The generator may be late too on a busy machine, and counts on from where it was.
    for attempt in 0..8 {
        let Some(server) = Server::start("gap", 1024, Mode::GoesOn) else { return };
        let file = dir.path().join(format!("take{attempt}.wav"));
        let recording = Recording::start(&server, &file, &["--checkpoint", "100"]);
        recording.until(|now| now.described > 24_000);
        recording.signal("-STOP");
        std::thread::sleep(Duration::from_millis(300));
        recording.signal("-CONT");
        let gap = recording.until(|now| now.lost > 0);
        recording.until(|now| now.described > gap.accepted + gap.lost + 24_000);
        let said = recording.end();
        let losses = losses(&said);
        assert!(!losses.is_empty() && !said.contains(", 0 of them never came"), "{said}");
        match consecutive(&file, &losses) {
            Ok(_) => return,
            Err(error) => wrong += &format!("{error}: {said}\n"),
        }
    }
    panic!("{wrong}");
}

/// The file is whole, and the recorder says why it ends.
#[test]
fn a_server_that_ends_ends_the_recording() {
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Server::start("shutdown", 1024, Mode::Waits) else { return };
    let file = dir.path().join("take.wav");
    let recording = Recording::start(&server, &file, &[]);
    let before = recording.until(|now| now.accepted > 24_000);
    drop(server);
    let (succeeded, said) = recording.ended();
    assert!(!succeeded && said.contains("the JACK server is gone"), "{said}");
    let frames = described(&file);
    assert!(frames.len() as u64 >= before.accepted, "{said}");
    assert!(said.contains(&format!("{} frames", frames.len())), "{said}");
}

// ---- what the callback does -----------------------------------------------------------------------

/// Under strace, which slows the threads down but hides no call of theirs. JACK waits for its server,
/// and tells the next client, by futexes that processes share; our own, and those of the standard
/// library, are private to the process. (`tests/callback.rs` has the body of the callback alone, where
/// no call is allowed at all.)
#[test]
fn the_callback_makes_no_system_call_but_jacks_own() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        return skip::skip(
            "the_callback_makes_no_system_call_but_jacks_own",
            "strace is not installed",
        );
    }
    let Some(server) = Server::start("calls", 1024, Mode::Waits) else { return };
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
    let is_jacks = |line: &&str| line.starts_with("futex(") && !line.contains("_PRIVATE");
    let busiest = traces.max_by_key(|trace| trace.lines().filter(is_jacks).count()).unwrap();
    let calls: Vec<_> = busiest.lines().collect();
    let periods = frames / 1024;
    assert!(calls.iter().filter(|call| is_jacks(call)).count() > periods, "{said}");
    // But for how a thread begins and ends.
    let rest: Vec<_> = calls[20..calls.len() - 20].iter().filter(|line| !is_jacks(line)).collect();
    assert!(rest.is_empty(), "{rest:#?}");
}

/// The last checkpoint that was seen is there, and every sample that the header describes.
#[test]
fn kill_9_leaves_a_file_that_sox_reads() {
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Server::start("kill", 64, Mode::Waits) else { return };
    for round in 1..=3 {
        let file = dir.path().join(format!("take{round}.wav"));
        let recording = Recording::start(&server, &file, &["--checkpoint", "100"]);
        let last = recording.until(|now| now.described > round * 24_000);
        drop(recording); // SIGKILL
        let frames = described(&file).len();
        assert!(frames as u64 >= last.described, "{frames} frames, {last:?}");
        assert!(counted(&file, "killed", &[]) > 0);
        let length = Command::new("soxi").arg("-s").arg(&file).output();
        let Ok(length) = length else {
            return skip::skip("kill_9_leaves_a_file_that_sox_reads", "sox is not installed");
        };
        let length = String::from_utf8_lossy(&length.stdout).trim().parse();
        assert_eq!(length, Ok(frames));
        mounts::run("sox", &[file.to_str().unwrap(), "-n", "stat"]);
    }
}
