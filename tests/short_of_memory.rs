//! The kernel is short of memory, and refuses to enter the ring (EAGAIN, ENOMEM of
//! io_uring_enter(2)): it is asked again after a pause, and not for ever.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod common;
#[path = "common/seccomp.rs"]
mod seccomp;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::{
    Config, assert_file, assert_same_failure, bytes, child_succeeds, child_task, directory, watched,
};
use seccomp::{end, filter, look_at, unless};
use writeflush::{BackendChoice, Direct, Drive, Error, Operation};

const DRIVES: [Drive; 3] = [Drive::Caller, Drive::Thread, Drive::Poll];

/// What io_uring_enter(2) answers in this process; 0: what the kernel does.
static ANSWER: AtomicI32 = AtomicI32::new(0);
/// How often it was that.
static REFUSED: AtomicU32 = AtomicU32::new(0);

/// From now on each io_uring_enter(2) of this thread, and of those that it starts, is decided by
/// another thread of this process (seccomp_unotify(2)).
fn supervise() {
    let mut steps = [
        look_at(0),
        unless(libc::SYS_io_uring_enter as u32, 1),
        end(libc::SECCOMP_RET_USER_NOTIF),
        end(libc::SECCOMP_RET_ALLOW),
    ];
    let listener = filter(&mut steps, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER).unwrap();
    // SAFETY: a descriptor that was just made.
    let listener = unsafe { OwnedFd::from_raw_fd(listener as i32) };
    std::thread::spawn(move || while decide(&listener) {});
}

/// Answers one call; `false`: nobody is left who could make one.
fn decide(listener: &OwnedFd) -> bool {
    /// `_IOWR('!', number, size)` of <linux/seccomp.h>.
    const fn request(number: u64, size: usize) -> u64 {
        3 << 30 | (size as u64) << 16 | 0x21 << 8 | number
    }
    const CONTINUE: u32 = 1;
    // SAFETY: plain data, which has to be zero; the call fills it.
    let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    let receive = request(0, size_of::<libc::seccomp_notif>());
    // SAFETY: a live descriptor and a live struct.
    if unsafe { libc::ioctl(listener.as_raw_fd(), receive as _, &raw mut asked) } != 0 {
        return std::io::Error::last_os_error().kind() == std::io::ErrorKind::NotFound;
    }
    let error = ANSWER.load(Ordering::SeqCst);
    let mut answer = libc::seccomp_notif_resp { id: asked.id, val: 0, error: -error, flags: 0 };
    if error == 0 {
        answer.flags = CONTINUE;
    } else {
        REFUSED.fetch_add(1, Ordering::SeqCst);
    }
    let send = request(1, size_of::<libc::seccomp_notif_resp>());
    // SAFETY: as above. Whoever asked may be gone.
    unsafe { libc::ioctl(listener.as_raw_fd(), send as _, &raw mut answer) };
    true
}

fn config(drive: Drive) -> Config {
    Config { backend: BackendChoice::Uring, direct: Direct::Auto, drive }
}

/// Runs the test for each drive, in processes of their own at the same time.
fn each_drive(name: &'static str, work: fn(Drive)) {
    match child_task() {
        Some(task) => {
            let drive = DRIVES[task.parse::<usize>().unwrap()];
            watched(name, move || {
                supervise();
                work(drive);
            });
        }
        None => std::thread::scope(|scope| {
            for number in 0..DRIVES.len() {
                scope.spawn(move || child_succeeds(name, &number.to_string(), |_| {}));
            }
        }),
    }
}

#[test]
fn a_kernel_that_is_short_of_memory_for_a_moment_is_waited_for() {
    each_drive("a_kernel_that_is_short_of_memory_for_a_moment_is_waited_for", |drive| {
        for error in [libc::EAGAIN, libc::ENOMEM] {
            let directory = directory();
            let path = directory.path().join("take");
            let data = bytes(1, 50_000);
            let mut writer = config(drive).create(&path);
            assert_eq!(writer.write_flush(&data[..20_000]).unwrap(), 20_000);
            REFUSED.store(0, Ordering::SeqCst);
            ANSWER.store(error, Ordering::SeqCst);
            let moment = std::thread::spawn(|| {
                // Until it has been refused, and for some time then.
                while REFUSED.load(Ordering::SeqCst) == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let until = Instant::now() + Duration::from_millis(300);
                while Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(10));
                }
                ANSWER.store(0, Ordering::SeqCst);
                REFUSED.load(Ordering::SeqCst)
            });
            assert_eq!(writer.write_flush(&data[20_000..]).unwrap(), 50_000, "{drive:?}");
            // 300 ms are over with the pauses of 2, 4, 8 … 100 ms between eight calls; a machine that
            // is busy makes fewer.
            let refused = moment.join().unwrap();
            assert!(refused < 40, "{drive:?}: asked {refused} times without a pause");
            writer.close().unwrap();
            assert_file(&path, &data, &format!("{drive:?}"));
        }
    });
}

#[test]
fn one_that_stays_short_of_memory_is_an_error_that_everybody_hears() {
    each_drive("one_that_stays_short_of_memory_is_an_error_that_everybody_hears", |drive| {
        let directory = directory();
        let path = directory.path().join("take");
        let data = bytes(1, 50_000);
        let mut writer = config(drive).create(&path);
        assert_eq!(writer.write_flush(&data[..20_000]).unwrap(), 20_000);
        let control = writer.control().clone();
        ANSWER.store(libc::ENOMEM, Ordering::SeqCst);
        let error = writer.write(&data[20_000..]).and_then(|_| writer.flush()).unwrap_err();
        assert!(
            matches!(error, Error::Io { operation: Operation::Wait, .. }),
            "{drive:?}: {error}"
        );
        assert_eq!(error.raw_os_error(), Some(libc::ENOMEM), "{drive:?}: {error}");
        assert_same_failure(&control.flush().unwrap_err(), &error);
        let closed = writer.close().unwrap_err();
        assert_same_failure(&closed.errors[0], &error);
        let durable = control.positions().durable as usize;
        let found = std::fs::read(&path).unwrap();
        assert!(durable >= 20_000 && found[..durable] == data[..durable], "{drive:?}");
        // And when there is memory again, the next writer finds everything in order.
        ANSWER.store(0, Ordering::SeqCst);
        let mut writer = config(drive).create(&path);
        assert_eq!(writer.write_flush(&data).unwrap(), 50_000);
        writer.close().unwrap();
        assert_file(&path, &data, &format!("{drive:?}"));
    });
}
