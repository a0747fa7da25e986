//! File systems of a test's own, for tests that run as root on Linux.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Whether a test that mounts may run: as root. Otherwise it says so, and fails where the
/// environment sets `CI`.
pub fn may_mount(test: &str) -> bool {
    // SAFETY: a system call without arguments.
    if unsafe { libc::geteuid() } == 0 {
        return true;
    }
    super::skip::skip(test, "it needs root (mounts, control groups)");
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

/// As many bytes as are to be had, or `most`.
fn take_space(path: &Path, most: i64) {
    let file = File::create(path).unwrap();
    let (mut from, mut len) = (0, most.min(1 << 30));
    while len >= 64 << 10 && from < most {
        // SAFETY: a live descriptor; plain integers.
        match unsafe { libc::fallocate64(file.as_raw_fd(), 0, from, len) } {
            0 => from += len,
            _ => len /= 2,
        }
    }
    let _ = file.sync_all(); // a file system that is full may have no room for that either
}

/// Leaves `room` bytes of the file system to others, until the file that is returned is removed.
pub fn fill_up(at: &Path, room: i64) -> PathBuf {
    let (kept, fill) = (at.join("kept"), at.join("fill"));
    take_space(&kept, room);
    take_space(&fill, i64::MAX);
    std::fs::remove_file(&kept).unwrap();
    // SAFETY: a live descriptor. What is removed has to be free.
    unsafe { libc::syncfs(File::open(at).unwrap().as_raw_fd()) };
    fill
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
        File::create(image).unwrap().set_len(mib << 20).unwrap();
        let image = image.to_str().unwrap();
        run("mkfs.ext4", &["-q", "-F", "-b", "4096", "-m", "0", "-J", "size=4", image]);
    }

    pub fn ext4(image: &Path, at: &Path) -> Self {
        Self::image("ext4", image, at, "loop")
    }

    pub fn overlay(at: &Path, options: &str) -> Self {
        run("mount", &["-t", "overlay", "overlay", "-o", options, at.to_str().unwrap()]);
        Self(at.into())
    }

    /// By name: not every mount(8) finds out what it is, and the kernel's module may have to be loaded.
    pub fn image(kind: &str, image: &Path, at: &Path, options: &str) -> Self {
        let (image, at_text) = (image.to_str().unwrap(), at.to_str().unwrap());
        run("mount", &["-t", kind, "-o", options, image, at_text]);
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

/// A file system that takes nothing until this is dropped. Somebody else thaws it, also where this
/// process ends without a drop, or can't end since the disk holds it up: all that calls sync(2) on
/// this computer would wait for it.
#[derive(Debug)]
pub struct Frozen(std::process::Child);

impl Frozen {
    pub fn new(at: &Path) -> Self {
        const THAW: &str = "timeout 50 cat; fsfreeze --unfreeze \"$0\"";
        let mut guard = Command::new("sh");
        guard.args(["-c", THAW]).arg(at).stdin(std::process::Stdio::piped());
        let guard = guard.spawn().unwrap();
        run("fsfreeze", &["--freeze", at.to_str().unwrap()]);
        Self(guard)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let thawed = self.0.wait().is_ok_and(|status| status.success());
        assert!(thawed || std::thread::panicking(), "it stays frozen");
    }
}
