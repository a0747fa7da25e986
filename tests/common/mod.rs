//! What the integration tests share: the configurations that every test runs on, a watchdog that
//! turns a hang into a failure, recognisable bytes, and re-executed children.
#![allow(dead_code)] // each test file uses its own part
#![allow(unsafe_code)]

pub mod block_on;
pub mod program;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use writeflush::{BackendChoice, Direct, Drive, Error, Options, Positions, Writer};

/// A buffer small enough to go round the ring many times.
pub const SMALL: usize = 4096;

/// Far longer than any test takes: past it, something hangs. `WRITEFLUSH_HANG` gives other seconds,
/// for tools that slow the tests down.
fn hang() -> Duration {
    let seconds = std::env::var("WRITEFLUSH_HANG").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
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

    /// Options with two buffers of [`SMALL`] bytes.
    pub fn options(self) -> Options {
        Options::new()
            .buffer_size(SMALL)
            .backend(self.backend)
            .direct(self.direct)
            .drive(self.drive)
    }

    pub fn create(self, path: &Path) -> Writer {
        self.options().create(path).unwrap_or_else(|error| panic!("{self}: {error}"))
    }
}

/// Every backend × direct or not × who drives.
pub fn configs() -> Vec<Config> {
    let mut all = Vec::new();
    for backend in [BackendChoice::Uring, BackendChoice::Sync] {
        for direct in [Direct::On, Direct::Off] {
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
    prepare(&mut command);
    command.output().expect("this program starts again")
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

/// Whether a test that mounts may run: as root. Otherwise it says so, and fails where the
/// environment sets `CI`.
pub fn may_mount(test: &str) -> bool {
    // SAFETY: a system call without arguments.
    if unsafe { libc::geteuid() } == 0 {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{test} needs root, and CI must not skip it");
    // Not `eprintln!`, which the test harness keeps to itself where a test passes.
    let text = format!("SKIPPED: {test} needs root (it mounts file systems)\n");
    let _ = std::io::stderr().write_all(text.as_bytes());
    false
}

/// Gives the child mounts of its own, which go when it goes, however it ends.
pub fn with_own_mounts(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let isolate = || {
        // SAFETY: system calls with constants and live C strings; allowed between fork and exec.
        let result = unsafe {
            match libc::unshare(libc::CLONE_NEWNS) {
                0 => libc::mount(
                    c"none".as_ptr(),
                    c"/".as_ptr(),
                    std::ptr::null(),
                    libc::MS_REC | libc::MS_PRIVATE,
                    std::ptr::null(),
                ),
                failed => failed,
            }
        };
        if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(isolate) };
}

/// Runs a command that has to succeed.
#[track_caller]
pub fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {err}");
}

/// A mount in a child's own namespace.
#[derive(Debug)]
pub struct Mount(pub PathBuf);

impl Mount {
    pub fn tmpfs(at: &Path, options: &str) -> Self {
        run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", at.to_str().unwrap()]);
        Self(at.into())
    }

    /// Makes an ext4 image of this size.
    pub fn make_ext4(image: &Path, mib: u64) {
        std::fs::File::create(image).unwrap().set_len(mib << 20).unwrap();
        let image = image.to_str().unwrap();
        run("mkfs.ext4", &["-q", "-F", "-b", "4096", "-m", "0", "-J", "size=4", image]);
    }

    pub fn ext4(image: &Path, at: &Path) -> Self {
        run("mount", &["-o", "loop", image.to_str().unwrap(), at.to_str().unwrap()]);
        Self(at.into())
    }
}

impl Drop for Mount {
    /// The kernel lets go of a ring's files a moment after the ring is closed: until then the
    /// mount is busy.
    fn drop(&mut self) {
        use std::os::unix::ffi::OsStrExt;
        let path = std::ffi::CString::new(self.0.as_os_str().as_bytes()).unwrap();
        for attempt in 0.. {
            let flags = if attempt < 2000 { 0 } else { libc::MNT_DETACH };
            // SAFETY: a live C string.
            if unsafe { libc::umount2(path.as_ptr(), flags) } == 0 || flags != 0 {
                assert!(flags == 0 || std::thread::panicking(), "{} stays busy", self.0.display());
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
