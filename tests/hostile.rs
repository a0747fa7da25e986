//! Odd and hostile use: forks, descriptors closed from outside, panics, ends of threads, and
//! thousands of writers, together and one after the other.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod common;

use std::fs::File;
use std::future::Future;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};
use std::time::Duration;

use common::groups::{self, Group};
use common::{
    Config, Mount, assert_file, bytes, child_succeeds, child_task, configs, directory, each_config,
    may_mount, skip, watched, with_own_mounts,
};
use writeflush::{Backend, BackendChoice, Direct, Drive, Error, Operation, Options, Preallocate};

// ---- forks ------------------------------------------------------------------------------------------

/// How a process makes a child that has a copy of its memory.
#[derive(Clone, Copy, Debug)]
enum Fork {
    Fork,
    /// As `_Fork` of C does: no handler hears of it.
    Clone,
}

impl Fork {
    fn call(self) -> libc::pid_t {
        // SAFETY: what the child may do is up to the caller. clone(2) without a stack and with no
        // flag but the signal is a fork.
        unsafe {
            match self {
                Self::Fork => libc::fork(),
                Self::Clone => libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as _,
            }
        }
    }

    /// Runs `body` in a child; returns its exit status. It may not allocate much or panic: only
    /// this thread is there.
    fn run(self, body: impl FnOnce() -> i32) -> i32 {
        match self.call() {
            // SAFETY: the child leaves without running anything else of this process.
            0 => unsafe { libc::_exit(body()) },
            child => exit_status(child),
        }
    }
}

/// Waits for a child that has to end by itself.
fn exit_status(child: libc::pid_t) -> i32 {
    assert!(child > 0);
    let mut status = 0;
    // SAFETY: a plain system call with a live integer.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, libc::__WALL) }, child);
    assert!(libc::WIFEXITED(status), "the child was killed: {status}");
    libc::WEXITSTATUS(status)
}

/// Runs `body` in a child that shares this memory, as that of `vfork` does, while this thread waits
/// in the kernel; returns its exit status.
fn beside(mut body: impl FnMut() -> i32) -> i32 {
    extern "C" fn run<F: FnMut() -> i32>(body: *mut libc::c_void) -> libc::c_int {
        // SAFETY: what `clone` below was given, and nobody else uses meanwhile.
        unsafe { libc::_exit((*body.cast::<F>())()) }
    }
    fn entry<F: FnMut() -> i32>(_: &F) -> extern "C" fn(*mut libc::c_void) -> libc::c_int {
        run::<F>
    }
    let entry = entry(&body);
    let mut stack = vec![0u128; 1 << 16];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let argument = (&raw mut body).cast();
    // SAFETY: a stack of its own, aligned, and what it is given outlive the child: this thread
    // waits for its end.
    exit_status(unsafe { libc::clone(entry, stack.as_mut_ptr_range().end.cast(), flags, argument) })
}

/// A child of the child: with one thread more than the writer's own.
#[test]
fn a_forked_child_is_refused_and_disturbs_nobody() {
    let Some(task) = child_task() else {
        for number in 0..2 * configs().len() {
            child_succeeds(
                "a_forked_child_is_refused_and_disturbs_nobody",
                &number.to_string(),
                |_| {},
            );
        }
        return;
    };
    let number = task.parse::<usize>().unwrap();
    let (config, way) = (configs()[number / 2], [Fork::Fork, Fork::Clone][number % 2]);
    watched("a fork", move || {
        let directory = directory();
        let path = directory.path().join("take");
        let mut writer = config.create(&path);
        let control = writer.control().clone();
        let data = bytes(1, 30_000);
        let _ = writer.write(&data[..10_000]).unwrap();
        let before = writer.fence();
        let mut writer = Some(writer);
        let status = way.run(|| {
            let mut mine = writer.take().unwrap();
            let refused = |result: Result<u64, Error>| matches!(result, Err(Error::Forked));
            // What was durable before the fork is no wait and no lie.
            let durable = control.positions().durable == 10_000;
            let told = |result: Result<u64, Error>| match result {
                Ok(position) => durable && position == 10_000,
                Err(error) => matches!(error, Error::Forked),
            };
            let answers = [
                // The first call of all is a push.
                refused(mine.try_write(&data[..5])),
                before.is_durable().is_ok() || refused(before.wait()),
                // Nor any thread of it, nor any child.
                std::thread::scope(|scope| {
                    scope.spawn(|| refused(mine.try_write(&data[..5]))).join().unwrap_or(false)
                }),
                way.run(|| refused(mine.write_flush(&data[..5])).into()) == 1,
                refused(mine.write_flush(&data[..9_000])),
                told(control.flush()),
                told(control.fence().wait()),
                refused(control.checkpoint(0, |_| [1])),
                matches!(control.patch(0, &[1]), Err(Error::Forked)),
                mine.close().is_err_and(|failed| matches!(failed.errors[..], [Error::Forked])),
            ];
            answers.iter().filter(|answer| !**answer).count() as i32
        });
        assert_eq!(status, 0, "{config}: so many answers of the child were wrong");
        // One that does nothing but end, its destructors run; and one that is another program.
        assert_eq!(
            way.run(|| {
                drop(writer.take());
                0
            }),
            0,
            "{config}"
        );
        let exec = || std::process::Command::new("true").exec().raw_os_error().unwrap_or(-1);
        assert_eq!(way.run(exec), 0, "{config}");
        // One that records to a file of its own.
        let own = directory.path().join("child's");
        let record = || -> Result<bool, Error> {
            let mut mine = config.options().create(&own)?;
            mine.write_flush(&data[..9_000])?;
            let stranger = way.run(|| matches!(mine.try_write(b"x"), Err(Error::Forked)).into());
            Ok(stranger == 1 && mine.close().is_ok())
        };
        assert_eq!(way.run(|| i32::from(record().unwrap_or(false))), 1, "{config}");
        assert_file(&own, &data[..9_000], &config);
        let mut writer = writer.unwrap();
        let second = Options::new().lock_wait(Duration::ZERO).append(&path);
        assert!(matches!(second, Err(Error::Locked { .. })), "{config}: the lock is the parent's");
        let _ = writer.write(&data[10_000..]).unwrap();
        assert_eq!(writer.flush().unwrap(), 30_000);
        writer.close().unwrap();
        assert_file(&path, &data, &config);
    });
}

/// Memory that a child shares is not poisoned there: it is its owner's.
#[test]
fn a_child_that_shares_the_memory_ends_nothing_in_it() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let writer = config.create(&path).into_shared();
        writer.write_flush(b"ours, ").unwrap();
        let ticket = writer.fence();
        let status = beside(|| {
            let answers = [
                writer.clone().close().is_err_and(|e| matches!(e.errors[..], [Error::Forked])),
                writer.clone().close().is_err_and(|e| matches!(e.errors[..], [Error::Forked])),
                matches!(writer.patch(0, b"O"), Err(Error::Forked)),
                matches!(writer.checkpoint(0, |_| b"O"), Err(Error::Forked)),
                ticket.wait().is_ok(), // it was through before
            ];
            answers.iter().filter(|answer| !**answer).count() as i32
        });
        assert_eq!(status, 0, "{config}: so many answers of the child were wrong");
        assert!(writer.error().is_none(), "{config}");
        writer.write_flush(b"as before").unwrap();
        writer.close().unwrap();
        assert_file(&path, b"ours, as before", &config);
    });
}

/// Nor is it told to wait for a thread of the parent's. (A fence may be through before the look.)
#[test]
fn a_child_that_shares_the_memory_waits_for_no_thread() {
    each_config(|config, directory| {
        if config.drive == Drive::Caller {
            return; // who waits drives, there too
        }
        let path = directory.join("take");
        let writer = config.create(&path).into_shared();
        let refused = || writer.write_flush(b"x").is_err_and(|e| matches!(e, Error::Forked));
        assert!((0..1000).any(|_| beside(|| refused().into()) == 1), "{config}");
        writer.write_flush(b"on").unwrap();
        let durable = writer.close().unwrap().positions.durable;
        assert_eq!(std::fs::metadata(&path).unwrap().len(), durable, "{config}");
    });
}

/// What was granted before a fork: the child's is a wiped copy, and the parent's is untouched.
#[test]
fn a_grant_in_a_child_is_zeros_of_its_own() {
    let name = "a_grant_in_a_child_is_zeros_of_its_own";
    if child_task().is_none() {
        return child_succeeds(name, "alone", |_| {});
    }
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.create(&path);
        let mut grant = writer.grant(1000).unwrap();
        grant.fill(7);
        let status = Fork::Fork.run(|| {
            let wiped = grant.iter().all(|byte| *byte == 0);
            grant.fill(8);
            i32::from(wiped && grant.iter().all(|byte| *byte == 8))
        });
        assert_eq!(status, 1, "{config}");
        grant.commit(1000);
        writer.close().unwrap();
        assert_file(&path, &[7; 1000], &config);
    });
}

/// A child of the thread that drives: it finds itself between two steps of a driver whose ring it
/// does not have.
#[test]
fn a_waker_that_forks_leaves_parent_and_child_alive() {
    struct Forks(AtomicI32);
    impl std::task::Wake for Forks {
        fn wake(self: Arc<Self>) {
            if self.0.load(Ordering::SeqCst) == -1 {
                self.0.store(Fork::Clone.call(), Ordering::SeqCst);
            }
        }
    }
    let name = "a_waker_that_forks_leaves_parent_and_child_alive";
    let Some(task) = child_task() else {
        for number in 0..configs().len() {
            child_succeeds(name, &number.to_string(), |_| {});
        }
        return;
    };
    let config = configs()[task.parse::<usize>().unwrap()];
    if (config.backend, config.drive) == (BackendChoice::Sync, Drive::Caller) {
        return; // a poll does all there is to do, and wakes nobody
    }
    watched(name, move || {
        let directory = directory();
        let path = directory.path().join("take");
        let mut writer = config.create(&path);
        let forks = Arc::new(Forks(AtomicI32::new(-1)));
        let waker = Waker::from(forks.clone());
        while forks.0.load(Ordering::SeqCst) == -1 {
            let _ = writer.write(b"x").unwrap();
            let mut ticket = writer.fence();
            let _ = std::pin::Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker));
            let waited = ticket.wait();
            if forks.0.load(Ordering::SeqCst) == 0 {
                // This thread drove: in the child, which has no writer.
                // SAFETY: leaves without running anything else of this process.
                unsafe { libc::_exit(0) };
            }
            waited.unwrap();
        }
        // The driver's thread, alone in the child, ends and the child with it.
        assert_eq!(exit_status(forks.0.load(Ordering::SeqCst)), 0, "{config}");
        writer.write_flush(b"on").unwrap();
        let durable = writer.close().unwrap().positions.durable;
        assert_eq!(std::fs::metadata(&path).unwrap().len(), durable, "{config}");
    });
}

// ---- descriptors ------------------------------------------------------------------------------------

fn descriptor_of(path: &Path) -> RawFd {
    let path = path.canonicalize().unwrap();
    let all = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let mut ours = all.filter(|entry| std::fs::read_link(entry).is_ok_and(|to| to == path));
    ours.next().unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// Runs a test of this program with every configuration, each in a process of its own: of one that
/// closes descriptors others may get the numbers.
fn each_in_a_child(name: &'static str, work: impl FnOnce(Config) + Send + 'static) {
    match child_task() {
        Some(task) => {
            let config = configs()[task.parse::<usize>().unwrap()];
            watched(name, move || work(config));
        }
        None => {
            for number in 0..configs().len() {
                child_succeeds(name, &number.to_string(), |_| {});
            }
        }
    }
}

#[test]
fn a_descriptor_that_someone_else_closed_is_an_error_and_no_lie() {
    let name = "a_descriptor_that_someone_else_closed_is_an_error_and_no_lie";
    each_in_a_child(name, |config| {
        let directory = directory();
        let path = directory.path().join("take");
        let mut writer = config.create(&path);
        let data = bytes(2, 50_000);
        assert_eq!(writer.write_flush(&data[..20_000]).unwrap(), 20_000);
        // SAFETY: just what must not be done.
        assert_eq!(unsafe { libc::close(descriptor_of(&path)) }, 0);
        let rest = writer.write(&data[20_000..]).and_then(|_| writer.flush());
        let durable = writer.positions().durable as usize;
        match &rest {
            // The ring holds the file itself, whatever becomes of the number.
            Ok(position) => assert_eq!(*position, 50_000, "{config}"),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EBADF), "{config}"),
        }
        let failed = writer.close().unwrap_err();
        assert_eq!(failed.errors[0].raw_os_error(), Some(libc::EBADF), "{config}");
        let found = std::fs::read(&path).unwrap();
        assert!(durable >= 20_000 && found[..durable] == data[..durable], "{config}");
    });
}

/// Whoever closes all numbers, and then opens files of his own.
#[test]
fn a_file_that_has_our_old_number_is_touched_by_nobody() {
    let name = "a_file_that_has_our_old_number_is_touched_by_nobody";
    each_in_a_child(name, |config| {
        use std::os::unix::fs::MetadataExt;
        let directory = directory();
        let (path, strangers) =
            (directory.path().join("take"), directory.path().join("stranger's"));
        let precious = bytes(3, 30_000);
        std::fs::write(&strangers, &precious).unwrap();
        let before = std::fs::metadata(&strangers).unwrap();
        let mut writer = config.create(&path);
        let data = bytes(2, 50_000);
        assert_eq!(writer.write_flush(&data[..20_000]).unwrap(), 20_000);
        let number = descriptor_of(&path);
        // SAFETY: just what must not be done; the stranger's descriptor is never closed by a drop.
        let stranger = unsafe {
            let opened = File::options().read(true).write(true).open(&strangers).unwrap();
            assert_eq!(libc::dup2(opened.as_raw_fd(), number), number);
            std::mem::ManuallyDrop::new(File::from_raw_fd(number))
        };
        assert!(stranger.try_lock().is_ok());
        let _ = writer.write(&data[20_000..]);
        let _ = writer.flush();
        let durable = writer.positions().durable as usize;
        let failed = writer.close().unwrap_err();
        assert!(failed.to_string().contains("somebody else closed its descriptor"), "{failed}");
        assert_eq!(std::fs::read(&strangers).unwrap(), precious, "{config}");
        let after = std::fs::metadata(&strangers).unwrap();
        assert_eq!((after.len(), after.mtime_nsec()), (before.len(), before.mtime_nsec()));
        let another = File::open(&strangers).unwrap();
        assert!(another.try_lock().is_err(), "{config}: the stranger's lock is gone");
        // SAFETY: plain integers.
        assert!(unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0, "{config}: it was closed");
        let found = std::fs::read(&path).unwrap();
        assert!(durable >= 20_000 && found[..durable] == data[..durable], "{config}");
    });
}

/// One that sits in a `vfork`, where nothing of the kernel's runs on it, while another flushes what
/// it has pushed. Where callers drive that may last as long as the sleep does (`Drive::Caller`).
#[test]
fn no_threads_sleep_delays_anothers_flush_but_where_callers_drive() {
    use std::io::{Read, Write};
    const LONG: usize = 1 << 20;
    each_config(|config, directory| {
        let path = directory.join("take");
        // Long enough to be under way still when its thread sits in the kernel, and over blocks that
        // are there: a file that grows is written by a worker of the kernel's.
        let ahead = Preallocate::Zero(LONG as u64);
        let options = config.options().buffer_size(LONG).preallocate(ahead);
        let mut writer = options.create(&path).unwrap();
        let control = writer.control().clone();
        let (mut ended, mut end) = std::io::pipe().unwrap();
        let asleep = Arc::new(AtomicBool::new(false));
        let sleeps = asleep.clone();
        let sleeper = std::thread::spawn(move || {
            writer.try_write(&[7; LONG]).unwrap(); // a whole buffer: on its way
            let status = beside(|| {
                sleeps.store(true, Ordering::SeqCst);
                i32::from(ended.read_exact(&mut [0]).is_err())
            });
            assert_eq!(status, 0);
            writer
        });
        while !asleep.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        let flusher = std::thread::spawn(move || control.flush());
        let mut wake = || end.write_all(b"!").unwrap();
        if config.drive == Drive::Caller {
            wake();
            assert_eq!(flusher.join().unwrap().unwrap(), LONG as u64, "{config}");
        } else {
            assert_eq!(flusher.join().unwrap().unwrap(), LONG as u64, "{config}");
            wake(); // not before
        }
        sleeper.join().unwrap().close().unwrap();
        assert_file(&path, &[7; LONG], &config);
    });
}

// ---- threads, panics, futures -------------------------------------------------------------------------

#[test]
fn a_panicking_producer_loses_nothing_that_was_accepted() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let data = bytes(3, 20_000);
        let mut writer = config.create(&path);
        let panic = catch_unwind(AssertUnwindSafe(|| {
            let _ = writer.write(&data).unwrap();
            let mut grant = writer.grant(1000).unwrap();
            grant[..5].copy_from_slice(b"never");
            std::panic::resume_unwind(Box::new(())); // the grant is dropped on the way
        }));
        assert!(panic.is_err());
        let _ = writer.write(b"on").unwrap();
        // And one that takes the writer with it: the drop closes.
        let panic = catch_unwind(AssertUnwindSafe(move || {
            let _writer = writer;
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(panic.is_err());
        assert_file(&path, &[&data[..], b"on"].concat(), &config);
    });
}

#[test]
fn a_panicking_producer_leaves_the_others_alone() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let writer = config.create(&path).into_shared();
        let record = bytes(4, 700);
        let mine = writer.clone();
        let theirs = record.clone();
        let panic = std::thread::spawn(move || {
            let _ = mine.write(&theirs).unwrap();
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(panic.join().is_err());
        let _ = writer.write(&record).unwrap();
        assert_eq!(writer.flush().unwrap(), 1400);
        writer.close().unwrap();
        assert_file(&path, &record.repeat(2), &config);
    });
}

/// Also leaked: nothing is taken that was not committed.
#[test]
fn a_thread_may_end_with_a_grant() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.create(&path);
        writer = std::thread::spawn(move || {
            let _ = writer.write(b"before ").unwrap();
            let mut grant = writer.grant(500).unwrap();
            grant.fill(b'x');
            let _ = std::mem::ManuallyDrop::new(grant);
            writer
        })
        .join()
        .unwrap();
        let mut grant = writer.grant(5).unwrap();
        grant.copy_from_slice(b"after");
        assert_eq!(grant.commit(5), 7);
        let owner = std::thread::spawn(move || {
            let mut writer = writer;
            let _grant = writer.grant(500).unwrap();
        });
        owner.join().unwrap(); // it ends with the writer and the grant
        assert_file(&path, b"before after", &config);
    });
}

#[test]
fn a_ticket_or_future_may_be_dropped_half_way() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let mut writer = config.options().buffers(4).create(&path).unwrap();
        let mut data = Vec::new();
        for turn in 0..50 {
            let piece = bytes(turn, 300);
            let _ = writer.write(&piece).unwrap();
            data.extend_from_slice(&piece);
            let ticket = writer.fence();
            match turn % 3 {
                0 => drop(ticket),
                1 => {
                    let mut future = pin!(ticket);
                    let mut context = Context::from_waker(Waker::noop());
                    let _ = future.as_mut().poll(&mut context);
                }
                _ => {
                    let _ = ticket.wait_timeout(std::time::Duration::ZERO).unwrap();
                }
            }
        }
        assert_eq!(writer.flush().unwrap(), data.len() as u64);
        writer.close().unwrap();
        assert_file(&path, &data, &config);
    });
}

// ---- numbers ----------------------------------------------------------------------------------------

#[derive(Debug, PartialEq)]
struct Held {
    descriptors: usize,
    threads: usize,
    /// Resident pages of anonymous memory, in KiB.
    kib: u64,
}

fn held() -> Held {
    let count = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib = line.trim().trim_end_matches(" kB").parse().unwrap();
    Held { descriptors: count("/proc/self/fd"), threads: count("/proc/self/task"), kib }
}

/// A directory whose fences cost nothing: the numbers are what matters here.
fn memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| directory())
}

/// In a child: nobody else opens files or starts threads there.
#[test]
fn ten_thousand_times_open_and_close_leave_nothing_behind() {
    let name = "ten_thousand_times_open_and_close_leave_nothing_behind";
    if child_task().is_none() {
        return child_succeeds(name, "alone", |_| {});
    }
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let directory = memory();
    let _ = PATH.set(directory.path().join("take"));
    let once = |number: u32| {
        let path = PATH.get().expect("it was set");
        let backend = [BackendChoice::Uring, BackendChoice::Sync][number as usize % 2];
        let drive = [Drive::Caller, Drive::Thread][number as usize / 2 % 2];
        let options = Options::new().backend(backend).drive(drive).direct(Direct::Off);
        let mut writer = options.buffer_size(4096).create(path).unwrap();
        assert_eq!(writer.write_flush(&[number as u8; 100]).unwrap(), 100);
        writer.close().unwrap();
    };
    let threads = held().threads;
    // A thread that was joined is in the list of tasks for a moment still.
    let settled = || {
        let mut now = held();
        for _ in 0..1000 {
            if now.threads == threads {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
            now = held();
        }
        now
    };
    let a_hundred = || watched(name, move || (0..100).for_each(once));
    a_hundred();
    let before = settled();
    (0..100).for_each(|_| a_hundred());
    let after = settled();
    assert_eq!((after.descriptors, after.threads), (before.descriptors, threads));
    assert!(after.kib <= before.kib + 512, "{before:?} {after:?}");
}

#[test]
fn a_thousand_writers_at_once() {
    let name = "a_thousand_writers_at_once";
    if child_task().is_none() {
        return child_succeeds(name, "alone", |command| {
            // Descriptors: a file, a ring and a doorbell each.
            let raise = || {
                let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
                // SAFETY: a system call on a live struct.
                match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            };
            // SAFETY: the closure allocates nothing and takes no lock.
            unsafe { command.pre_exec(raise) };
        });
    }
    watched(name, a_thousand_writers);
}

fn a_thousand_writers() {
    let directory = memory();
    let path = |number: usize| directory.path().join(number.to_string());
    let record = |number: usize| bytes(number as u64, 5000);
    let open = |number: usize| {
        let drive = if number.is_multiple_of(2) { Drive::Thread } else { Drive::Caller };
        let writer = Options::new().drive(drive).buffer_size(4096).create(path(number)).unwrap();
        assert_eq!(writer.backend(), Backend::Uring, "{:?}", writer.fallbacks());
        writer
    };
    let mut writers: Vec<_> = (0..1000).map(open).collect();
    for (number, writer) in writers.iter_mut().enumerate() {
        let _ = writer.write(&record(number)).unwrap();
    }
    let tickets: Vec<_> = writers.iter().map(|writer| writer.fence()).collect();
    for ticket in tickets {
        assert_eq!(ticket.wait().unwrap(), 5000);
    }
    for writer in writers {
        writer.close().unwrap();
    }
    for number in 0..1000 {
        assert_file(&path(number), &record(number), &number);
    }
}

// ---- limits -----------------------------------------------------------------------------------------

/// A limit that is raised again when this is dropped.
struct Limited {
    resource: libc::__rlimit_resource_t,
    before: libc::rlimit,
}

impl Limited {
    fn to(resource: libc::__rlimit_resource_t, most: u64) -> Self {
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a system call that fills a live struct.
        assert_eq!(unsafe { libc::getrlimit(resource, &raw mut before) }, 0);
        let limit = libc::rlimit { rlim_cur: most, ..before };
        // SAFETY: a system call on a live struct.
        assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
        Self { resource, before }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // SAFETY: a system call on a live struct.
        unsafe { libc::setrlimit(self.resource, &raw const self.before) };
    }
}

/// Skips a test where so much memory is not to be had: it would fail with words about something else.
fn has_memory(test: &str, mib: u64) -> bool {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    let available = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10;
    if available < mib {
        skip(test, &format!("it wants {mib} MiB of memory, and {available} MiB are available"));
    }
    available >= mib
}

/// Each limit at which an open gives way: an error that names it, and no file that was not there
/// before. (Little locked memory: `tests/fallback.rs`.)
#[test]
fn limits_are_told() {
    let name = "limits_are_told";
    let Some(task) = child_task() else {
        // A thousand buffers of a mebibyte, before the limit on descriptors is met.
        if !has_memory(name, 1500) {
            return;
        }
        for task in ["descriptors", "memory"] {
            child_succeeds(name, task, |_| {});
        }
        return;
    };
    watched(name, move || where_a_limit_is_met(&task));
}

fn where_a_limit_is_met(task: &str) {
    let directory = memory();
    let path = directory.path().join("take");
    let (limited, operation) = match task {
        // No number is left but those of the standard streams.
        "descriptors" => (Limited::to(libc::RLIMIT_NOFILE, 3), Operation::Open),
        _ => (Limited::to(libc::RLIMIT_AS, 512 << 20), Operation::Start),
    };
    for backend in [BackendChoice::Auto, BackendChoice::Sync] {
        for drive in [Drive::Thread, Drive::Caller] {
            let options = Options::new().backend(backend).drive(drive).buffers(1000);
            let error = options.memory_limit(usize::MAX).create(&path).unwrap_err();
            assert!(
                matches!(error, Error::Io { operation: found, .. } if found == operation),
                "{task}: {error}"
            );
            match operation {
                Operation::Open => assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}"),
                _ => assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory, "{error}"),
            }
            assert!(!path.exists(), "{task}: {error}, and a file is left");
        }
    }
    drop(limited); // what is temporary can go again
}

/// A control group whose members may start no more threads: not the writer's own, nor the kernel's
/// for io_uring, without which a flush would wait for ever.
#[test]
fn no_more_threads() {
    let name = "no_more_threads";
    if let Some(members) = child_task() {
        return watched(name, move || where_no_thread_starts(Path::new(&members)));
    }
    if !may_mount(name) {
        return;
    }
    // The harness, the test, the watchdog.
    let Some(group) = Group::new(name, groups::TASKS, 3) else { return };
    child_succeeds(name, group.members().to_str().unwrap(), |_| {});
}

/// A control group with less memory than is recorded: the page cache has to give way, and the
/// recording is whole.
#[test]
fn more_is_recorded_than_there_is_memory() {
    const LIMIT: u64 = 48 << 20;
    let name = "more_is_recorded_than_there_is_memory";
    if let Some(members) = child_task() {
        Group::join(Path::new(&members));
        for config in configs().into_iter().filter(|config| config.drive != Drive::Poll) {
            watched(&config.to_string(), move || record_more_than(LIMIT, config));
        }
        return;
    }
    if !may_mount(name) {
        return;
    }
    // The kernel wants memory beside the group's: with less, writing back fails with EIO.
    if !has_memory(name, 1500) {
        return;
    }
    let Some(group) = Group::new(name, groups::MEMORY, LIMIT) else { return };
    child_succeeds(name, group.members().to_str().unwrap(), |_| {});
    assert!(group.memory_was_short() > 0, "the limit was never met");
}

fn record_more_than(limit: u64, config: Config) {
    use std::io::Read;
    let directory = directory();
    let path = directory.path().join("take");
    let mut writer = config.options().buffer_size(1 << 20).create(&path).unwrap();
    // Pieces that are no multiple of anything; each begins with its number.
    let mut piece = bytes(9, 1_000_003);
    let pieces = 2 * limit / piece.len() as u64;
    for number in 0..pieces {
        piece[..8].copy_from_slice(&number.to_le_bytes());
        let _ = writer.write(&piece).unwrap();
        // Groups of the first version do not slow down who dirties pages faster than they are
        // written: the kernel ends them. A recorder's fences do.
        if number % 8 == 7 {
            writer.flush().unwrap();
        }
    }
    let end = pieces * piece.len() as u64;
    assert_eq!(writer.close().unwrap().positions.durable, end, "{config}");
    let mut file = std::fs::File::open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), end, "{config}");
    let mut found = vec![0; piece.len()];
    for number in 0..pieces {
        piece[..8].copy_from_slice(&number.to_le_bytes());
        file.read_exact(&mut found).unwrap();
        assert!(found == piece, "{config}: piece {number} of {pieces}");
    }
}

fn where_no_thread_starts(members: &Path) {
    Group::join(members);
    let directory = directory();
    let path = directory.path().join("take");
    let error = Options::new().create(&path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "{error}");
    assert!(error.to_string().starts_with("could not start"), "{error}");
    // A recording that is there stays as it is, with the blocks that it has.
    let (old, content) = (directory.path().join("old"), bytes(1, 5000));
    let size = || {
        let file = std::fs::File::open(&old).unwrap();
        file.sync_all().unwrap();
        let metadata = file.metadata().unwrap();
        (metadata.len(), std::os::unix::fs::MetadataExt::blocks(&metadata))
    };
    std::fs::write(&old, &content).unwrap();
    let before = size();
    for ahead in [Preallocate::None, Preallocate::Reserve(8 << 20), Preallocate::Zero(8 << 20)] {
        let options = Options::new().preallocate(ahead);
        for way in [Options::create, Options::append, Options::open] {
            assert_eq!(way(&options, &old).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
            assert_eq!(size(), before, "{ahead:?}");
            assert_file(&old, &content, &"after a failed open");
        }
    }
    let options = Options::new().drive(Drive::Caller);
    let error = options.clone().backend(BackendChoice::Uring).create(&path).unwrap_err();
    assert!(error.to_string().contains("raise the limit on threads"), "{error}");
    assert!(!path.exists(), "a file is left");
    // Where the choice is free it works without.
    let mut writer = options.create(&path).unwrap();
    assert_eq!(writer.backend(), Backend::Sync);
    assert!(writer.fallbacks()[0].contains("worker thread"), "{:?}", writer.fallbacks());
    assert_eq!(writer.write_flush(b"works").unwrap(), 5);
    writer.close().unwrap();
}

// ---- targets ----------------------------------------------------------------------------------------

#[test]
fn a_symlink_is_followed_and_its_target_is_made_durable() {
    each_config(|config, directory| {
        std::fs::create_dir(directory.join("elsewhere")).unwrap();
        let (link, target) = (directory.join("link"), directory.join("elsewhere/take"));
        std::os::unix::fs::symlink("elsewhere/take", &link).unwrap();
        let mut writer = config.create(&link); // dangling until now
        assert_eq!(writer.write_flush(b"through a link").unwrap(), 14);
        writer.close().unwrap();
        assert_file(&target, b"through a link", &config);
        assert!(link.is_symlink());
    });
}

/// As `copytruncate` of logrotate does: positions don't move, so a gap is left.
#[test]
fn a_file_that_somebody_else_cuts_goes_on_behind_a_gap() {
    each_config(|config, directory| {
        let path = directory.join("log");
        let mut writer = config.create(&path);
        writer.write_flush(&[b'a'; 10_000]).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        assert_eq!(writer.write_flush(&[b'b'; 100]).unwrap(), 10_100);
        writer.close().unwrap();
        let found = std::fs::read(&path).unwrap();
        // The block that the new bytes share with old ones is written whole by direct I/O.
        assert_eq!(found[..8192], [0; 8192], "{config}");
        assert_eq!(found[10_000..], [b'b'; 100], "{config}");
    });
}

#[test]
fn a_directory_that_became_read_only_says_so() {
    if !may_mount("a_directory_that_became_read_only_says_so") {
        return;
    }
    let name = "a_directory_that_became_read_only_says_so";
    if child_task().is_none() {
        return child_succeeds(name, "alone", with_own_mounts);
    }
    let directory = directory();
    let _mount = Mount::tmpfs(directory.path(), "size=1m,ro");
    let config =
        Config { backend: BackendChoice::Auto, direct: Direct::Auto, drive: Drive::Thread };
    let error = config.options().create(directory.path().join("take")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    assert!(matches!(error, Error::Io { operation: Operation::Open, .. }), "{error}");
}
