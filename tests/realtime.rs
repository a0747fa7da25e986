//! What a producer beside a polling driver is promised: no allocation and no system call, on any
//! path of a push. Both are shown by something that can't be argued with: a global allocator that
//! counts, and a seccomp filter with which the kernel kills whoever enters it.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

#[path = "common/allocations.rs"]
mod count;

mod common;
#[path = "common/system_calls.rs"]
mod system_calls;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use common::{Config, assert_same, child_task, configs, directory, parts, run_child, watched};
use count::allocations;
use system_calls::without_system_calls;
use writeflush::{Control, Drive, Error, OnFull, SharedWriter, Writer};

const PUSHES: u64 = 1_000_000;
const LEN: usize = 64;

fn record(number: u64) -> [u8; LEN] {
    let mut record = [0x55; LEN];
    record[..8].copy_from_slice(&number.to_le_bytes());
    record
}

#[track_caller]
fn assert_records(path: &Path, label: &dyn std::fmt::Display) {
    let file = std::fs::read(path).unwrap();
    let expected: Vec<u8> = (0..PUSHES).flat_map(record).collect();
    assert_same(&file, &expected, label);
}

fn polling() -> impl Iterator<Item = Config> {
    configs().into_iter().filter(|config| config.drive == Drive::Poll)
}

fn create(config: Config, path: &Path) -> Writer {
    // Small enough that it is full many times over, so that this path is taken too.
    config.options().buffer_size(64 * 1024).buffers(4).create(path).unwrap()
}

/// Every call that promises to be quick, over and over; `Full` is tried again.
fn push_all(writer: &mut Writer) {
    let again = |call: &mut dyn FnMut() -> Result<(), Error>| {
        loop {
            match call() {
                Ok(()) => return true,
                Err(Error::Full { .. }) => std::hint::spin_loop(),
                Err(_) => return false,
            }
        }
    };
    for number in 0..PUSHES {
        let record = record(number);
        let done = match number % 4 {
            0 => again(&mut || {
                let mut grant = writer.grant(LEN)?;
                grant.copy_from_slice(&record);
                grant.commit(LEN);
                Ok(())
            }),
            1 => again(&mut || writer.try_write_parts(&parts(&record)).map(drop)),
            _ => again(&mut || writer.try_write(&record).map(drop)),
        };
        if !done {
            return;
        }
        if number % 1000 == 0 {
            let ticket = writer.fence();
            let _ = ticket.is_durable();
            let _ = writer.positions();
        }
    }
}

fn push_shared(writer: &SharedWriter, number: u64) -> Result<u64, Error> {
    match number % 3 {
        0 => writer.try_write(&record(number)),
        1 => writer.try_write_parts(&parts(&record(number))),
        _ => {
            let mut grant = writer.grant(LEN)?;
            grant.copy_from_slice(&record(number));
            Ok(grant.commit())
        }
    }
}

#[test]
fn a_push_allocates_nothing() {
    for config in polling() {
        watched(&config.to_string(), move || {
            let directory = directory();
            let path = directory.path().join("take");
            let mut writer = create(config, &path);
            assert_eq!(allocations(|| push_all(&mut writer)), 0, "{config}");
            writer.close().unwrap();
            assert_records(&path, &config);

            let writer = create(config, &path).into_shared();
            let count = allocations(|| {
                for number in 0..PUSHES {
                    while let Err(error) = push_shared(&writer, number) {
                        assert!(matches!(error, Error::Full { .. }));
                    }
                    if number % 1000 == 0 {
                        drop(writer.fence());
                    }
                }
            });
            assert_eq!(count, 0, "{config}, shared");
            writer.close().unwrap();
            assert_records(&path, &config);
        });
    }
}

/// The policies that never wait lose bytes without allocating.
#[test]
fn a_loss_allocates_nothing() {
    for config in polling() {
        for policy in [OnFull::Drop, OnFull::Fill(0), OnFull::Fail] {
            let directory = directory();
            let path = directory.path().join("take");
            let mut writer = config.options().on_full(policy).create(&path).unwrap();
            let count = allocations(|| {
                for number in 0..200_000 {
                    let _ = writer.write(&record(number));
                    if number % 5000 == 0 {
                        writer.lose(10);
                    }
                }
            });
            assert_eq!(count, 0, "{config}, {policy:?}");
            writer.close().unwrap();
        }
    }
}

#[test]
fn the_count_sees_an_allocation() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7u8)))), 2);
    let directory = directory();
    let writer = Config::STILL.create(&directory.path().join("take"));
    assert!(allocations(|| drop(writer.stats())) > 0, "a snapshot allocates, as it says");
}

// ---- no system call -----------------------------------------------------------------------------

/// What the child does: the configuration's number, what its producer does beside, and the path.
fn child(task: &str) -> ! {
    let mut words = task.splitn(3, ' ');
    let config = configs()[words.next().unwrap().parse::<usize>().unwrap()];
    let beside = words.next().unwrap().to_owned();
    let path = Path::new(words.next().unwrap()).to_path_buf();
    let mut writer = create(config, &path);
    let control: Control = writer.control().clone();
    if beside == "shared" {
        let writer = writer.into_shared();
        without_system_calls(move || {
            for number in 0..PUSHES {
                while let Err(Error::Full { .. }) = push_shared(&writer, number) {}
                if number % 1000 == 0 {
                    drop(writer.fence());
                }
            }
            std::mem::forget(writer); // closing is no part of the promise
        });
    } else {
        without_system_calls(move || {
            if beside == "pauses" {
                pause_and_push(&mut writer);
            }
            push_all(&mut writer);
            match beside.as_str() {
                // SAFETY: a system call without arguments.
                "getpid" => drop(unsafe { libc::syscall(libc::SYS_getpid) }),
                "flush" => drop(writer.control().flush()),
                _ => {}
            }
            std::mem::forget(writer);
        });
    }
    assert_eq!(control.flush().unwrap(), PUSHES * LEN as u64);
    // Nothing is closed: the parent cuts the file.
    std::process::exit(0);
}

/// Gives a driver that sleeps the time to do so, then fills a buffer; again and again.
fn pause_and_push(writer: &mut Writer) {
    for _ in 0..200 {
        while writer.try_write(&[0; 64 * 1024]).is_err() {}
        while writer.positions().written < writer.positions().accepted {
            std::hint::spin_loop();
        }
        (0..200_000).for_each(|_| std::hint::spin_loop());
    }
}

/// How a child ended whose producer pushed a million records and did something beside.
fn ends(name: &str, config: Config, beside: &str) -> ExitStatus {
    let directory = directory();
    let path = directory.path().join("take");
    let number = configs().iter().position(|other| other.to_string() == config.to_string());
    let task = format!("{} {beside} {}", number.unwrap(), path.display());
    let name = name.to_owned();
    let output = watched(&format!("{config}, {beside}"), move || run_child(&name, &task, |_| {}));
    if output.status.success() {
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(PUSHES * LEN as u64).unwrap();
        assert_records(&path, &config);
    } else if output.status.signal().is_none() {
        panic!("{config}, {beside}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status
}

#[test]
fn a_push_makes_no_system_call() {
    if let Some(task) = child_task() {
        child(&task);
    }
    for config in polling() {
        for beside in ["nothing", "shared"] {
            let status = ends("a_push_makes_no_system_call", config, beside);
            assert!(status.success(), "{config}, {beside}: {status}");
        }
    }
}

/// The same run with one system call in it, or with a driver that has to be woken: killed.
#[test]
fn a_system_call_would_be_seen() {
    if let Some(task) = child_task() {
        child(&task);
    }
    let killed = |config, beside| {
        let status = ends("a_system_call_would_be_seen", config, beside);
        assert_eq!(status.signal(), Some(libc::SIGSYS), "{config}, {beside}: {status}");
    };
    for config in polling() {
        killed(config, "getpid");
        killed(config, "flush");
        killed(Config { drive: Drive::Thread, ..config }, "pauses");
    }
}
