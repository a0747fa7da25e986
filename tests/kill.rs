//! kill −9 at random moments: what was *written* is in the file, what was *durable* all the more,
//! and the next writer finds the lock free.
//!
//! `WRITEFLUSH_KILLS=1000 cargo test --release --test kill` does it so often with each backend.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{assert_same, bytes, child_task, directory, watched};
use writeflush::{BackendChoice, Direct, Drive, Error, Options, Preallocate};

/// What the victim knew, in a page of a file that outlives it.
#[repr(C)]
struct Known {
    /// What the victim is at: see [`AT`].
    at: AtomicU64,
    written: AtomicU64,
    durable: AtomicU64,
}

/// What a victim is at when it is killed.
const AT: [&str; 5] = ["the start", "the open", "records", "patches", "the close"];
const OPEN: u64 = 1;
const RECORDS: u64 = 2;
const PATCHES: u64 = 3;
const CLOSE: u64 = 4;

/// Maps the page; for the life of the process.
fn known(path: &Path) -> &'static Known {
    use std::os::fd::AsRawFd;
    let mut options = std::fs::File::options();
    let file = options.read(true).write(true).create(true).truncate(false).open(path).unwrap();
    file.set_len(4096).unwrap();
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: a new mapping of a page that is there; atomics may be shared between processes.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), 4096, protection, flags, file.as_raw_fd(), 0);
        assert_ne!(page, libc::MAP_FAILED);
        &*page.cast()
    }
}

fn options(turn: u64) -> Options {
    let backend = if turn.is_multiple_of(2) { BackendChoice::Uring } else { BackendChoice::Sync };
    let drive = [Drive::Thread, Drive::Caller, Drive::Poll][(turn / 2 % 3) as usize];
    let direct = if (turn / 6).is_multiple_of(2) { Direct::On } else { Direct::Off };
    let ahead = [Preallocate::None, Preallocate::Reserve(4 << 20), Preallocate::Zero(1 << 20)];
    let options = Options::new().backend(backend).drive(drive).direct(direct).buffer_size(16 << 10);
    options.buffers(3).preallocate(ahead[(turn / 12 % 3) as usize])
}

const CONTENT: usize = 8 << 20;
/// What it is about to record when it is killed at the close.
const SHORT: usize = 100_000;

/// Records until it is killed, or closes, and opens again, until it is killed.
fn victim(task: &str) -> ! {
    // Whoever started it may fail: then it goes, too.
    // SAFETY: a system call with constants.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let (turn, place) = task.split_once(' ').unwrap();
    let (turn, place): (u64, &Path) = (turn.parse().unwrap(), Path::new(place));
    let mut random = fastrand::Rng::with_seed(turn);
    let content = bytes(turn, CONTENT);
    let known = known(&place.join("known"));
    known.at.store(OPEN, Ordering::SeqCst);
    let mut writer = options(turn).create(place.join("take")).unwrap();
    let end = if at(turn) == CLOSE { SHORT } else { CONTENT };
    let mut position = 0;
    while position < end {
        let len = random.usize(1..20_000).min(end - position);
        let data = &content[position..position + len];
        match random.u8(..8) {
            0 => drop(writer.write_flush(data).unwrap()),
            1 => {
                let _ = writer.write(data).unwrap();
                drop(writer.fence());
            }
            _ => drop(writer.write(data).unwrap()),
        }
        position += len;
        // The kill may fall between the two stores: what is durable was told as written before.
        let now = writer.positions();
        known.written.store(now.written, Ordering::SeqCst);
        known.durable.store(now.durable, Ordering::SeqCst);
        if at(turn) == PATCHES {
            // The same bytes: the content stays what it was.
            known.at.store(PATCHES, Ordering::SeqCst);
            let from = random.usize(..position);
            let to = position.min(from + random.usize(..10_000));
            writer.patch(from as u64, &content[from..to]).unwrap();
        } else {
            known.at.store(RECORDS, Ordering::SeqCst);
        }
    }
    known.at.store(CLOSE, Ordering::SeqCst);
    if at(turn) == CLOSE {
        let durable = writer.close().unwrap().positions.durable;
        known.written.store(durable, Ordering::SeqCst);
        known.durable.store(durable, Ordering::SeqCst);
    }
    loop {
        std::thread::park();
    }
}

/// Killed, and gone, whatever becomes of the test.
struct Victim(Child);

impl Victim {
    fn begin(turn: u64, place: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["killed_at_random_moments", "--exact", "--nocapture"]);
        command.env("WRITEFLUSH_TEST_CHILD", format!("{turn} {}", place.display()));
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the victim of this turn is at when it is killed.
fn at(turn: u64) -> u64 {
    [RECORDS, OPEN, RECORDS, PATCHES, CLOSE][(turn / 2 % 5) as usize]
}

/// The end of a ring takes the kernel a moment, and with it the lock of its file: an open waits. Where
/// its zeros may be padding it goes on where they begin, which is behind all that was written: no
/// byte of the content is zero.
fn append_when_free(path: &Path, written: u64) -> writeflush::Writer {
    let options = Options::new().lock_wait(LONG);
    match options.append(path) {
        Err(Error::Unfinished { from, .. }) => {
            assert!(from >= written, "zeros from {from} on, {written} bytes were written");
            options.append_at(path, from).unwrap()
        }
        result => result.unwrap(),
    }
}

/// On a busy machine the moment may be longer than a second.
const LONG: Duration = Duration::from_secs(30);

fn kill_and_look(turn: u64) {
    let directory = directory();
    let place = directory.path();
    let known = known(&place.join("known"));
    let mut victim = Victim::begin(turn, place);
    let label = format!("turn {turn}, killed at {}", AT[at(turn) as usize]);
    while known.at.load(Ordering::SeqCst) < at(turn) {
        assert!(victim.0.try_wait().unwrap().is_none(), "{label}: it ended by itself");
        std::thread::yield_now();
    }
    let mut random = fastrand::Rng::with_seed(!turn);
    let within = if at(turn) == RECORDS || at(turn) == PATCHES { 12_000 } else { 3_000 };
    std::thread::sleep(Duration::from_micros(random.u64(..within)));
    victim.kill();

    let path = place.join("take");
    let (written, durable) = (&known.written, &known.durable);
    let (written, durable) = (written.load(Ordering::SeqCst), durable.load(Ordering::SeqCst));
    assert!(durable <= written, "{label}");
    let content = bytes(turn, CONTENT);
    let mut writer = append_when_free(&path, written);
    let found = std::fs::read(&path).unwrap();
    assert!(found.len() as u64 >= written, "{label}: {} of {written}", found.len());
    let end = written as usize;
    assert_same(&found[..end], &content[..end], &label);
    // The next recording goes on where this one was cut off.
    assert_eq!(writer.positions().accepted, found.len() as u64);
    assert_eq!(writer.write_flush(b"and on").unwrap(), found.len() as u64 + 6);
    writer.close().unwrap();
}

#[test]
fn killed_at_random_moments() {
    if let Some(task) = child_task() {
        victim(&task);
    }
    let each: u64 =
        std::env::var("WRITEFLUSH_KILLS").map_or(18, |text| text.parse().expect("a number"));
    for turn in 0..each * 2 {
        watched(&format!("turn {turn}"), move || kill_and_look(turn));
    }
}

/// Half of them are killed, half end by themselves and close nothing.
#[test]
fn who_is_started_again_at_once_finds_its_file() {
    let name = "who_is_started_again_at_once_finds_its_file";
    if let Some(task) = child_task() {
        let (turn, path) = task.split_once(' ').unwrap();
        let turn: u64 = turn.parse().unwrap();
        // SAFETY: a system call with constants.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let mut writer = options(turn).lock_wait(LONG).create(path).unwrap();
        let _ = writer.write_flush(b"durable").unwrap();
        match turn.is_multiple_of(4) {
            // SAFETY: ends the process, with nothing run.
            true => unsafe { libc::_exit(0) },
            // SAFETY: as above.
            false => unsafe { libc::kill(libc::getpid(), libc::SIGKILL) },
        };
    }
    let directory = directory();
    let path = directory.path().join("take");
    for turn in 0..60 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([name, "--exact", "--nocapture"]);
        command.env("WRITEFLUSH_TEST_CHILD", format!("{turn} {}", path.display()));
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        let mut writer = options(turn).lock_wait(LONG).open(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap()[..7], *b"durable", "turn {turn}");
        writer.write_flush(b"and on").unwrap();
        writer.close().unwrap();
    }
}
