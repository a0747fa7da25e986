//! What the driver's thread is, and what it takes over from whoever opens: read from procfs.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc::channel};

use common::{Config, child_succeeds, child_task, configs, directory, skip, watched};
use writeflush::{Drive, Error, Operation, Writer};

/// The directory of a thread of this process in procfs.
fn task_named(name: &str) -> Option<PathBuf> {
    let named = |task: &PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.map(|task| task.unwrap().path()).find(named)
}

/// A line of its `status`.
fn status(task: &Path, key: &str) -> String {
    let status = std::fs::read_to_string(task.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
    line.unwrap_or_else(|| panic!("no {key} in {status}")).into()
}

/// Its scheduling policy, as sched(7) numbers them.
fn policy(task: &Path) -> u32 {
    let stat = std::fs::read_to_string(task.join("stat")).unwrap();
    let behind_name = &stat[stat.rfind(')').unwrap() + 2..];
    // Field 41, and the state, the first one here, is field 3.
    behind_name.split(' ').nth(41 - 3).unwrap().parse().unwrap()
}

fn with_threads() -> impl Iterator<Item = Config> {
    configs().into_iter().filter(|config| config.drive != Drive::Caller)
}

/// Runs in a process of its own, where there are no other drivers.
fn alone(test: &str, work: impl FnOnce() + Send + 'static) {
    match child_task() {
        None => child_succeeds(test, "alone", |_| {}),
        Some(_) => watched(test, work),
    }
}

fn set_policy(policy: i32, priority: i32) -> bool {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: 0 is this thread; the parameter is read.
    unsafe { libc::sched_setscheduler(0, policy, &parameter) == 0 }
}

fn bind_to_one_core() {
    // SAFETY: a set on the stack, of the size that is said; 0 is this thread.
    unsafe {
        let mut cores: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut cores);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&cores), &cores), 0);
    }
}

/// Works, with a fence.
fn works(mut writer: Writer) {
    writer.write_flush(&[1; 5000]).unwrap();
    writer.close().unwrap();
}

#[test]
fn the_driver_takes_over_no_policy_and_no_cores() {
    const TEST: &str = "the_driver_takes_over_no_policy_and_no_cores";
    alone(TEST, || {
        let process: PathBuf = "/proc/self".into();
        let cores = status(&process, "Cpus_allowed");
        for config in with_threads() {
            let opener = std::thread::spawn(move || {
                bind_to_one_core();
                let is_real_time = set_policy(libc::SCHED_FIFO, 10);
                let directory = directory();
                let writer = config.create(&directory.path().join("take"));
                if !is_real_time {
                    skip(TEST, "no real-time policy may be set");
                }
                (writer, directory)
            });
            let (writer, _directory) = opener.join().unwrap();
            let driver = task_named("writeflush").expect("a driver's thread");
            assert_eq!(policy(&driver), libc::SCHED_OTHER as u32, "{config}");
            assert_eq!(status(&driver, "Cpus_allowed"), cores, "{config}");
            works(writer);
        }
    });
}

#[test]
fn no_signal_is_handled_on_the_drivers_thread() {
    alone("no_signal_is_handled_on_the_drivers_thread", || {
        for config in with_threads() {
            let directory = directory();
            let before = status(Path::new("/proc/thread-self"), "SigBlk");
            let writer = config.create(&directory.path().join("take"));
            let driver = task_named("writeflush").expect("a driver's thread");
            let blocked = u64::from_str_radix(&status(&driver, "SigBlk"), 16).unwrap();
            let is_blocked = |signal: i32| blocked & 1 << (signal - 1) != 0;
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGXFSZ, libc::SIGALRM, libc::SIGUSR1]
            {
                assert!(is_blocked(signal), "{config}: signal {signal}");
            }
            for its_own in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL] {
                assert!(!is_blocked(its_own), "{config}: signal {its_own}");
            }
            assert_eq!(status(Path::new("/proc/thread-self"), "SigBlk"), before, "of the opener");
            works(writer);
        }
    });
}

#[test]
fn a_setup_makes_the_drivers_thread_what_it_likes() {
    const TEST: &str = "a_setup_makes_the_drivers_thread_what_it_likes";
    alone(TEST, || {
        for config in with_threads() {
            let directory = directory();
            let options = config.options().thread_setup(|| {
                bind_to_one_core();
                if !set_policy(libc::SCHED_RR, 5) {
                    skip(TEST, "no real-time policy may be set");
                }
                // SAFETY: a string that ends with a zero.
                unsafe { libc::prctl(libc::PR_SET_NAME, c"my recorder".as_ptr()) };
                Ok(())
            });
            let writer = options.create(directory.path().join("take")).unwrap();
            let driver = task_named("my recorder").expect("the driver's thread");
            assert_eq!(status(&driver, "Cpus_allowed_list"), "0", "{config}");
            assert!([0, libc::SCHED_RR as u32].contains(&policy(&driver)), "{config}");
            works(writer);
        }
    });
}

#[test]
fn a_setup_that_fails_or_panics_fails_the_open() {
    for config in configs() {
        let directory = directory();
        let path = directory.path().join("take");
        let calls = Arc::new(AtomicUsize::new(0));
        for panics in [false, true] {
            let counted = calls.clone();
            let options = config.options().thread_setup(move || {
                counted.fetch_add(1, Ordering::SeqCst);
                match panics {
                    // Not `panic!`, whose message would stand among the results.
                    true => std::panic::resume_unwind(Box::new("a setup's own trouble")),
                    false => Err(std::io::Error::from_raw_os_error(libc::EPERM)),
                }
            });
            match (options.create(&path), config.drive) {
                (Ok(writer), Drive::Caller) => works(writer), // there is no such thread
                (Err(Error::Io { operation: Operation::Start, source, .. }), _) => {
                    let expected = if panics { None } else { Some(libc::EPERM) };
                    assert_eq!(source.raw_os_error(), expected, "{config}");
                    assert!(!path.exists(), "{config}: left behind");
                }
                (answer, _) => panic!("{config}: {answer:?}"),
            }
        }
        let expected = if config.drive == Drive::Caller { 0 } else { 2 };
        assert_eq!(calls.load(Ordering::SeqCst), expected, "{config}");
    }
}

/// The setup is foreign code as well, and may record elsewhere.
#[test]
fn a_setup_may_use_another_writer() {
    for config in with_threads() {
        let directory = directory();
        let (tell, told) = channel();
        let other = directory.path().join("other");
        let options = config.options().thread_setup(move || {
            works(config.create(&other));
            tell.send(()).map_err(std::io::Error::other)
        });
        works(options.create(directory.path().join("take")).unwrap());
        told.recv().unwrap();
    }
}

/// A polling driver with a real-time policy that never sleeps keeps the kernel's workers away from
/// its core, which end its own writes: what it is in the kernel for tells, without a clock.
#[test]
fn a_polling_driver_with_a_real_time_policy_sleeps() {
    const TEST: &str = "a_polling_driver_with_a_real_time_policy_sleeps";
    alone(TEST, || {
        for config in with_threads().filter(|config| config.drive == Drive::Poll) {
            let directory = directory();
            let options = config.options().thread_setup(|| {
                if !set_policy(libc::SCHED_FIFO, 1) {
                    skip(TEST, "no real-time policy may be set");
                }
                Ok(())
            });
            let writer = options.create(directory.path().join("take")).unwrap();
            let driver = task_named("writeflush").expect("a driver's thread");
            if policy(&driver) != libc::SCHED_FIFO as u32 {
                return;
            }
            let sleeps = || status(&driver, "voluntary_ctxt_switches").parse::<u64>().unwrap();
            let before = sleeps();
            while sleeps() < before + 100 {
                std::thread::yield_now();
            }
            works(writer);
        }
    });
}
