//! What the integration tests share: the configurations that every test runs on, a watchdog that
//! turns a hang into a failure, recognisable bytes, and re-executed children.
#![allow(dead_code)] // each test file uses its own part
#![allow(unsafe_code)]

pub mod block_on;
#[cfg(target_os = "linux")]
pub mod fuse;
#[cfg(target_os = "linux")]
pub mod groups;
pub mod hold;
#[cfg(target_os = "linux")]
mod mounts;
pub mod program;
mod skip;

#[cfg(target_os = "linux")]
#[allow(unused_imports)] // each test file uses its own part
pub use mounts::*;
pub use skip::skip;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use writeflush::{
    BackendChoice, Direct, Drive, Driver, DriverOptions, Error, Options, Positions, Writer,
};

/// A buffer small enough to go round the ring many times.
pub const SMALL: usize = 4096;

/// Far longer than any test takes: past it, something hangs. `WRITEFLUSH_HANG` gives other seconds,
/// for tools that slow the tests down.
fn hang() -> Duration {
    let seconds = std::env::var("WRITEFLUSH_HANG").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(180))
}

/// One way to run a writer.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub backend: BackendChoice,
    pub direct: Direct,
    pub drive: Drive,
}

impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { backend, direct, drive } = self;
        write!(f, "{backend:?}/direct {direct:?}/{drive:?}")
    }
}

impl Config {
    /// The one in which nothing moves unless a call waits: "full" comes when the test says so.
    pub const STILL: Self =
        Self { backend: BackendChoice::Sync, direct: Direct::Off, drive: Drive::Caller };

    /// Options with two buffers of [`SMALL`] bytes. With `WRITEFLUSH_SHARE` set all writers with the
    /// same backend and drive share a driver.
    pub fn options(self) -> Options {
        let options = Options::new().buffer_size(SMALL).direct(self.direct);
        match std::env::var_os("WRITEFLUSH_SHARE") {
            Some(_) => options.driver(&self.shared_driver()),
            None => options.backend(self.backend).drive(self.drive),
        }
    }

    fn shared_driver(self) -> Driver {
        static DRIVERS: Mutex<Vec<(BackendChoice, Drive, Driver)>> = Mutex::new(Vec::new());
        let Self { backend, drive, .. } = self;
        let mut drivers = DRIVERS.lock().unwrap_or_else(PoisonError::into_inner);
        let known = drivers.iter().find(|(of, by, _)| (*of, *by) == (backend, drive));
        if let Some((.., driver)) = known {
            return driver.clone();
        }
        let driver = DriverOptions::new().backend(backend).drive(drive).start().unwrap();
        drivers.push((backend, drive, driver.clone()));
        driver
    }

    pub fn create(self, path: &Path) -> Writer {
        self.options().create(path).unwrap_or_else(|error| panic!("{self}: {error}"))
    }
}

/// Every backend × direct or not × who drives.
pub fn configs() -> Vec<Config> {
    let mut all = Vec::new();
    let best = match () {
        _ if cfg!(windows) => Some(BackendChoice::Overlapped),
        _ if cfg!(target_pointer_width = "64") => Some(BackendChoice::Uring),
        _ => None,
    };
    for backend in best.into_iter().chain([BackendChoice::Sync]) {
        for direct in [Direct::On, Direct::Off] {
            if cfg!(windows) && (backend, direct) == (BackendChoice::Sync, Direct::On) {
                continue; // needs the overlapped backend there
            }
            for drive in [Drive::Caller, Drive::Thread, Drive::Poll] {
                all.push(Config { backend, direct, drive });
            }
        }
    }
    all
}

/// A directory of the test's own, on the file system that cargo builds on.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory")
}

/// Runs the test once a configuration, each with a directory of its own and under the watchdog.
pub fn each_config(test: impl Fn(Config, &Path) + Clone + Send + 'static) {
    for config in configs() {
        let test = test.clone();
        watched(&config.to_string(), move || test(config, directory().path()));
    }
}

/// As [`each_config`], where a driver has a thread.
pub fn each_thread(test: impl Fn(Config, &Path) + Clone + Send + 'static) {
    each_config(move |config, directory| {
        if config.drive != Drive::Caller {
            test(config, directory);
        }
    });
}

/// Waits. Under the watchdog: how long it takes is nobody's promise.
pub fn until(holds: impl Fn() -> bool) {
    while !holds() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// That this process has open.
#[cfg(target_os = "linux")]
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Of this process, without those in which the kernel works for io_uring.
#[cfg(target_os = "linux")]
pub fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
    names.filter(|name| name.as_ref().is_ok_and(|name| !name.starts_with("iou-"))).count()
}

/// Runs `work`; if it has not ended long after it should have, names `label` and ends the process.
pub fn watched<T: Send + 'static>(label: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, ended) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        let result = work();
        let _ = done.send(());
        result
    });
    if let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(hang()) {
        // Not `eprintln!`, which the test harness would keep to itself.
        let text = format!("HANG in {label}: nothing after {:?}\n", hang());
        let _ = std::io::stderr().write_all(text.as_bytes());
        std::process::abort();
    }
    worker.join().unwrap_or_else(|panic| {
        eprintln!("failed in {label}");
        std::panic::resume_unwind(panic)
    })
}

/// `len` bytes that no other `serial` has; never zero, so that a lost byte shows.
pub fn bytes(serial: u64, len: usize) -> Vec<u8> {
    let mut state = serial.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8 | 1
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// The same bytes in four parts, of which at least one is empty.
pub fn parts(bytes: &[u8]) -> [&[u8]; 4] {
    let (first, rest) = bytes.split_at(bytes.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    [first, second, &[], third]
}

/// Asserts equality of long byte strings and, where they differ, says where.
#[track_caller]
pub fn assert_same(found: &[u8], expected: &[u8], label: &dyn std::fmt::Display) {
    if found != expected {
        let at = found.iter().zip(expected).position(|(a, b)| a != b);
        let at = at.unwrap_or(found.len().min(expected.len()));
        panic!(
            "{label}: {} bytes found, {} expected, first difference at {at}: {:?} for {:?}",
            found.len(),
            expected.len(),
            &found[at..found.len().min(at + 8)],
            &expected[at..expected.len().min(at + 8)],
        );
    }
}

#[track_caller]
pub fn assert_file(path: &Path, expected: &[u8], label: &dyn std::fmt::Display) {
    assert_same(&std::fs::read(path).unwrap(), expected, label);
}

/// `accepted ≥ submitted ≥ written ≥ durable`.
#[track_caller]
pub fn assert_ordered(positions: Positions) {
    let Positions { accepted, submitted, written, durable, .. } = positions;
    assert!(
        accepted >= submitted && submitted >= written && written >= durable,
        "positions out of order: {positions:?}"
    );
}

/// Whether two errors are the same failure of the operating system.
#[track_caller]
pub fn assert_same_failure(found: &Error, expected: &Error) {
    assert_eq!(found.to_string(), expected.to_string());
    assert_eq!(found.raw_os_error(), expected.raw_os_error());
    match (found, expected) {
        (Error::Io { operation: found, .. }, Error::Io { operation: expected, .. }) => {
            assert_eq!(found, expected);
        }
        _ => panic!("not failures of the operating system: {found:?}, {expected:?}"),
    }
}

// ---- children ---------------------------------------------------------------------------------------

const CHILD: &str = "WRITEFLUSH_TEST_CHILD";

/// What the parent told this process to do, if it is a child.
pub fn child_task() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// Runs test `name` of this program in a child with `task`, prepared by `prepare`.
pub fn run_child(name: &str, task: &str, prepare: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, task);
    #[cfg(target_os = "linux")]
    end_with_its_parent(&mut command);
    prepare(&mut command);
    command.output().expect("this program starts again")
}

/// When a child kills itself: of three one at a moment after its start, so that the open is met; the
/// others after their open, which on a slow machine takes longer than all moments.
#[cfg(target_os = "linux")]
pub struct End {
    after: Duration,
    opened: bool,
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
impl End {
    /// So many microseconds after, drawn from a seed.
    pub fn of(seed: u64, micros: std::ops::Range<u64>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let after = Duration::from_micros(random.u64(micros));
        let end = Self { after, opened: random.u8(..3) > 0 };
        if !end.opened {
            end.comes();
        }
        end
    }

    pub fn opened(self) {
        if self.opened {
            self.comes();
        }
    }

    fn comes(&self) {
        let after = self.after;
        std::thread::spawn(move || {
            std::thread::sleep(after);
            // SAFETY: a plain system call.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        });
    }
}

/// A watchdog that ends the parent leaves no child behind (PR_SET_PDEATHSIG, prctl(2)).
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn end_with_its_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let end = || {
        // SAFETY: plain integers, and all that may be called between fork and exec.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: see above.
    unsafe { command.pre_exec(end) };
}

/// As [`run_child`]; the child has to succeed.
#[track_caller]
pub fn child_succeeds(name: &str, task: &str, prepare: impl FnOnce(&mut Command)) {
    let output = run_child(name, task, prepare);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{name} {task}: {}\n{out}\n{err}", output.status);
    assert!(out.contains("1 passed"), "{name} is no test of this program: {out}");
}

/// Whether this is the child of that test, with mounts of its own. Its parent runs it, if it may.
#[cfg(target_os = "linux")]
pub fn has_own_mounts(test: &str) -> bool {
    if child_task().is_some() {
        return true;
    }
    if may_mount(test) {
        child_succeeds(test, "mount", with_own_mounts);
    }
    false
}
