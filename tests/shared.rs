//! Many producers on one file: every record in one piece at the position that its call returned,
//! every record accounted for, whatever other threads do meanwhile.

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use common::block_on::block_on;
use common::{Config, SMALL, assert_file, assert_same, bytes, each_config, parts, watched};
use writeflush::{Error, OnFull, Push, SharedWriter};

const PRODUCERS: u64 = 8;
/// Bytes at the start of the file for patches and checkpoints.
const HEADER: usize = 8192;
/// Every record begins with its length, thread, sequence number and version.
const HEAD: usize = 28;

/// A record whose every byte follows from who wrote it.
fn record(thread: u64, sequence: u64, version: u32, len: usize) -> Vec<u8> {
    let len = len.max(HEAD);
    let mut record = Vec::with_capacity(len);
    record.extend_from_slice(&(len as u64).to_le_bytes());
    record.extend_from_slice(&thread.to_le_bytes());
    record.extend_from_slice(&sequence.to_le_bytes());
    record.extend_from_slice(&version.to_le_bytes());
    record.extend(bytes(thread << 40 ^ sequence << 8 ^ u64::from(version), len - HEAD));
    record
}

/// Anything but regular, and the same every time.
fn random_len(thread: u64, sequence: u64, most: usize) -> usize {
    let mix = (thread * 1_000_003 + sequence + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let (small, large) = ((mix >> 20) as usize % 300, (mix >> 33) as usize % most);
    if mix >> 62 == 0 { large } else { small }
}

/// What was accepted: position → (thread, sequence, version).
type Accepted = HashMap<u64, (u64, u64, u32)>;

/// Takes the file apart from `at` on; every record has to be one that was accepted there, and
/// all of them have to be found.
#[track_caller]
fn assert_records(file: &[u8], mut at: usize, accepted: &Accepted, label: &Config) {
    let mut found = 0;
    while at < file.len() {
        let number = |from: usize| u64::from_le_bytes(file[from..from + 8].try_into().unwrap());
        let &(thread, sequence, version) =
            accepted.get(&(at as u64)).unwrap_or_else(|| panic!("{label}: no record at {at}"));
        let len = number(at) as usize;
        let expected = record(thread, sequence, version, len);
        assert!(at + len <= file.len(), "{label}: the record at {at} is cut short");
        assert_same(&file[at..at + len], &expected, &format!("{label}, record at {at}"));
        at += len;
        found += 1;
    }
    assert_eq!(found, accepted.len(), "{label}: records are missing");
}

/// As a task does it.
async fn push(writer: &SharedWriter, data: &[u8]) -> Result<u64, Error> {
    loop {
        match writer.try_write(data) {
            Err(Error::Full { .. }) => writer.room(data.len()).await?,
            result => return result,
        }
    }
}

/// Pushes `count` records in every way there is; goes on past `Closed` never.
fn produce(
    writer: &SharedWriter,
    thread: u64,
    count: u64,
    longest: usize,
) -> (Accepted, Result<(), Error>) {
    let mut accepted = Accepted::new();
    for sequence in 0..count {
        let data = record(thread, sequence, 0, random_len(thread, sequence, longest));
        let position = match sequence % 8 {
            0 | 1 => loop {
                let tried = match sequence % 2 {
                    0 => writer.try_write(&data),
                    _ => writer.try_write_parts(&parts(&data)),
                };
                match tried {
                    Err(Error::Full { .. } | Error::TooLong { .. }) => {
                        if data.len() > SMALL {
                            break writer.write(&data).map(|push| push.position().unwrap());
                        }
                        // Where callers drive, `try_write` alone would wait for nobody.
                        if let Err(error) = writer.fence().is_durable() {
                            break Err(error);
                        }
                        std::thread::yield_now();
                    }
                    result => break result,
                }
            },
            4 if data.len() <= SMALL => loop {
                match writer.grant(data.len()) {
                    Ok(mut grant) => {
                        let position = grant.position();
                        grant.copy_from_slice(&data);
                        break Ok(grant.commit()).inspect(|at| assert_eq!(*at, position));
                    }
                    Err(Error::Full { .. }) => {
                        if let Err(error) = writer.fence().is_durable() {
                            break Err(error);
                        }
                        std::thread::yield_now();
                    }
                    Err(error) => break Err(error),
                }
            },
            5 | 6 if data.len() <= 2 * SMALL => block_on(push(writer, &data)),
            2 | 3 => writer.write_parts(&parts(&data)).map(|push| push.position().unwrap()),
            _ => writer.write(&data).map(|push| push.position().unwrap()),
        };
        let position = match position {
            Ok(position) => position,
            Err(error) => return (accepted, Err(error)),
        };
        accepted.insert(position, (thread, sequence, 0));
        if sequence % 16 == 9 {
            // A second version of a record that may be anywhere on its way.
            let second = record(thread, sequence, 1, data.len());
            match writer.patch(position, &second) {
                Ok(()) => drop(accepted.insert(position, (thread, sequence, 1))),
                Err(error) => return (accepted, Err(error)),
            }
        }
    }
    (accepted, Ok(()))
}

fn producers(
    writer: &SharedWriter,
    count: u64,
    longest: usize,
    meanwhile: impl FnOnce(),
) -> (Accepted, Vec<Result<(), Error>>) {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..PRODUCERS)
            .map(|thread| {
                let writer = writer.clone();
                scope.spawn(move || produce(&writer, thread, count, longest))
            })
            .collect();
        meanwhile();
        let mut all = Accepted::new();
        let ends = threads.into_iter().map(|thread| {
            let (accepted, end) = thread.join().unwrap();
            let mine = accepted.len() + all.len();
            all.extend(accepted);
            assert_eq!(all.len(), mine, "two records at one position");
            end
        });
        let ends = ends.collect();
        (all, ends)
    })
}

fn open(config: Config, path: &Path) -> SharedWriter {
    config.options().buffers(3).create(path).unwrap().into_shared()
}

#[track_caller]
fn all_ended_well(ends: Vec<Result<(), Error>>) {
    for end in ends {
        end.unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn every_record_is_whole_and_where_its_call_said() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let writer = open(config, &path);
        let (accepted, ends) = producers(&writer, 250, 3000, || {});
        all_ended_well(ends);
        let summary = writer.close().unwrap();
        assert_eq!(summary.stats.writes, PRODUCERS * 250);
        assert_records(&std::fs::read(&path).unwrap(), 0, &accepted, &config);
    });
}

#[test]
fn records_longer_than_all_buffers_are_whole() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let writer = open(config, &path);
        let (accepted, ends) = producers(&writer, 60, 60_000, || {});
        all_ended_well(ends);
        writer.close().unwrap();
        assert_records(&std::fs::read(&path).unwrap(), 0, &accepted, &config);
    });
}

/// Runs `work` in a loop until told to stop, from threads of their own.
fn meanwhile(
    writer: &SharedWriter,
    longest: usize,
    count: u64,
    works: &[&(dyn Fn(u64) + Sync)],
) -> Accepted {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for work in works {
            let stop = &stop;
            scope.spawn(move || {
                let mut turn = 0;
                while !stop.load(Ordering::Relaxed) {
                    work(turn);
                    turn += 1;
                }
            });
        }
        let result = producers(writer, count, longest, || {});
        stop.store(true, Ordering::Relaxed);
        all_ended_well(result.1);
        result.0
    })
}

fn disturbed(longest: usize, count: u64) {
    each_config(move |config, directory| {
        let path = directory.join("take");
        let mut writer = config.options().buffers(3).create(&path).unwrap();
        let mut header = bytes(0, HEADER);
        let _ = writer.write(&header).unwrap();
        let writer = writer.into_shared();
        let control = writer.control().clone();
        let patched = Mutex::new((bytes(0, 0), Vec::new()));

        let flush = |_| {
            let before = control.positions().accepted;
            assert!(control.flush().unwrap() >= before);
            assert!(control.positions().durable >= before);
        };
        let tickets = |_| {
            let tickets: Vec<_> = (0..5).map(|_| control.fence()).collect();
            assert!(tickets.is_sorted_by_key(|ticket| ticket.position()));
            assert_eq!(tickets[4].wait().unwrap(), tickets[4].position());
            assert!(tickets[0].is_durable().unwrap());
        };
        let patch = |turn: u64| {
            let (at, data) = (100 + turn % 50 * 61, bytes(turn + 7, 1 + turn as usize % 700));
            control.patch(at, &data).unwrap();
            patched.lock().unwrap().1.push((at as usize, data));
        };
        let checkpoint = |turn: u64| {
            let data = bytes(turn + 9, 90);
            let mut described = 0;
            let position = control.checkpoint(0, |position| {
                described = position;
                patched.lock().unwrap().0.clone_from(&data);
                data
            });
            assert_eq!(position.unwrap(), described);
            assert!(control.positions().durable >= described);
        };
        let watch = |_| common::assert_ordered(control.positions());
        let works: [&(dyn Fn(u64) + Sync); 5] = [&flush, &tickets, &patch, &checkpoint, &watch];
        let accepted = meanwhile(&writer, longest, count, &works);
        writer.close().unwrap();

        let (last, patches) = patched.into_inner().unwrap();
        header[..last.len()].copy_from_slice(&last);
        for (at, data) in patches {
            header[at..at + data.len()].copy_from_slice(&data);
        }
        let file = std::fs::read(&path).unwrap();
        assert_same(&file[..HEADER], &header, &config);
        assert_records(&file, HEADER, &accepted, &config);
    });
}

#[test]
fn fences_patches_and_checkpoints_disturb_nobody() {
    disturbed(2000, 120);
}

#[test]
fn nor_do_they_disturb_records_longer_than_all_buffers() {
    disturbed(40_000, 40);
}

#[test]
fn a_close_meanwhile_keeps_exactly_what_was_accepted() {
    each_config(|config, directory| {
        // Where it strikes is chance: often enough to strike everywhere.
        for (round, longest) in (0..12).zip([100, 3000, 40_000].into_iter().cycle()) {
            let path = directory.join("take");
            let writer = open(config, &path);
            let closer = writer.clone();
            let control = writer.control().clone();
            let (accepted, ends) = producers(&writer, 100_000, longest, move || {
                while control.positions().accepted < 3000 * round {
                    std::thread::yield_now();
                }
                closer.close().unwrap();
            });
            for end in ends {
                assert!(matches!(end, Err(Error::Closed)), "{config}: {end:?}");
            }
            assert_records(&std::fs::read(&path).unwrap(), 0, &accepted, &config);
            assert!(matches!(writer.write(b"late"), Err(Error::Closed)));
            assert!(matches!(writer.try_write(b"late"), Err(Error::Closed)));
            assert!(matches!(writer.write_flush(b"late"), Err(Error::Closed)));
            assert!(matches!(writer.patch(0, b""), Err(Error::Closed)));
            let twice = writer.close().unwrap_err();
            assert!(matches!(twice.errors[..], [Error::Closed]));
        }
    });
}

/// Producers that sleep because the buffers are full have to hear of a close too.
#[test]
fn a_close_wakes_producers_that_wait_for_room() {
    each_config(|config, directory| {
        for _ in 0..20 {
            let path = directory.join("take");
            let writer = open(config, &path);
            let started = AtomicU32::new(0);
            std::thread::scope(|scope| {
                for _ in 0..PRODUCERS {
                    let (writer, started) = (writer.clone(), &started);
                    scope.spawn(move || {
                        // All but one buffer at once: there is hardly ever room.
                        let data = bytes(1, 2 * SMALL);
                        let is_task = started.fetch_add(1, Ordering::Relaxed) % 2 == 0;
                        let end = loop {
                            let pushed = match is_task {
                                true => block_on(push(&writer, &data)).map(drop),
                                false => writer.write(&data).map(drop),
                            };
                            if let Err(error) = pushed {
                                break error;
                            }
                        };
                        assert!(matches!(end, Error::Closed), "{end}");
                    });
                }
                while started.load(Ordering::Relaxed) < PRODUCERS as u32 {
                    std::thread::yield_now();
                }
                writer.clone().close().unwrap();
            });
        }
    });
}

/// A fence from before it is through, one behind it as soon as it ends.
#[test]
fn a_grant_holds_back_what_lies_behind_it_until_it_ends() {
    for policy in [OnFull::Block, OnFull::Fill(7)] {
        each_config(move |config, directory| {
            let path = directory.join("take");
            let writer = config.options().on_full(policy).create(&path).unwrap().into_shared();
            let (first, behind) = (bytes(1, 100), bytes(2, 2000));
            writer.write(&first).unwrap();
            let before = writer.fence();
            let grant = writer.grant(50).unwrap();
            writer.try_write(&behind).unwrap();
            assert_eq!(before.wait().unwrap(), 100, "{config}");
            let after = writer.fence();
            assert!(!after.is_durable().unwrap(), "{config}");
            let end = |writer: &SharedWriter| {
                let ticket = writer.fence();
                std::thread::spawn(move || ticket.wait())
            };
            let waiter = end(&writer);
            drop(grant);
            assert_eq!(waiter.join().unwrap().unwrap(), 2150, "{config}");
            assert!(after.is_durable().unwrap(), "{config}");
            let places: Vec<_> =
                writer.overruns().iter().map(|lost| (lost.position, lost.bytes)).collect();
            assert_eq!(places, [(100, 50)], "{config}");
            let summary = writer.close().unwrap();
            assert_eq!((summary.stats.writes, summary.stats.overruns), (2, 1));
            let fill = if policy == OnFull::Block { 0 } else { 7 };
            assert_file(&path, &[&first[..], &[fill; 50], &behind].concat(), &config);
        });
    }
}

/// Grants of many threads, across the end of the ring, committed and dropped.
#[test]
fn every_grant_is_whole_or_zeros() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let writer = open(config, &path);
        let grant_some = &|thread: u64| {
            let mut ends = Vec::new();
            for sequence in 0..200 {
                let data = record(thread, sequence, 0, random_len(thread, sequence, 2000));
                let mut grant = loop {
                    match writer.grant(data.len()) {
                        Err(Error::Full { .. }) => _ = writer.fence().is_durable().unwrap(),
                        grant => break grant.unwrap(),
                    }
                };
                grant.copy_from_slice(&data);
                let at = grant.position() as usize;
                if sequence % 3 == 0 {
                    drop(grant);
                    ends.push((at, vec![0; data.len()]));
                } else {
                    grant.commit();
                    ends.push((at, data));
                }
            }
            ends
        };
        let mut ends: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|thread| scope.spawn(move || grant_some(thread))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        ends.sort();
        assert_eq!(writer.close().unwrap().stats.overruns, 4 * 67);
        let expected: Vec<u8> = ends.into_iter().flat_map(|(_, data)| data).collect();
        assert_file(&path, &expected, &config);
    });
}

#[test]
fn dropping_the_last_clone_closes() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let writer = open(config, &path);
        let control = writer.control().clone();
        let clones: Vec<_> = (0..4).map(|_| writer.clone()).collect();
        drop(writer);
        std::thread::scope(|scope| {
            for (index, clone) in clones.into_iter().enumerate() {
                scope.spawn(move || {
                    let push = clone.write(&record(index as u64, 0, 0, 2000)).unwrap();
                    assert!(matches!(push, Push::Accepted(_)));
                });
            }
        });
        // The control handle lives; the file is finished and its lock free all the same.
        assert_eq!(control.positions().durable, 8000, "{config}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 8000, "{config}");
        drop(config.options().append(&path).unwrap());
        assert!(matches!(control.patch(0, b"x"), Err(Error::Closed)));
        assert_eq!(control.flush().unwrap(), 8000);
    });
}

#[test]
fn calls_of_many_threads_share_fences() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let writer = open(config, &path);
        std::thread::scope(|scope| {
            for thread in 0..PRODUCERS {
                let writer = writer.clone();
                scope.spawn(move || {
                    for sequence in 0..50 {
                        let end = writer.write_flush(&record(thread, sequence, 0, 64)).unwrap();
                        assert!(writer.positions().durable >= end);
                    }
                });
            }
        });
        let summary = writer.close().unwrap();
        assert_eq!(summary.positions.durable, PRODUCERS * 50 * 64);
        assert!(summary.stats.fences >= PRODUCERS * 50);
        assert!(summary.stats.fences_coalesced <= summary.stats.fences);
    });
}

#[test]
fn high_water_is_never_more_than_the_buffers() {
    let directory = common::directory();
    let path = directory.path().join("take");
    let writer = open(Config::STILL, &path);
    let data = bytes(1, 10 * SMALL);
    assert_eq!(writer.write(&data).unwrap(), Push::Accepted(0));
    let summary = writer.close().unwrap();
    assert!(summary.stats.high_water <= 3 * SMALL as u64, "{}", summary.stats.high_water);
    assert_file(&path, &data, &Config::STILL);
}

/// A caller that drives sleeps while another producer is in mid-copy; that producer has to wake it
/// when it is done, also across a buffer's end and where nothing completes by itself.
#[test]
fn a_flush_that_waits_for_a_copy_is_woken_by_its_end() {
    each_config(|config, directory| {
        let path = directory.join("take");
        let writer = config.options().buffer_size(1 << 20).create(&path).unwrap().into_shared();
        let label = format!("{config}: flush against copies");
        watched(&label, move || {
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        // Long copies: a flush often meets one half done.
                        let data = bytes(5, 1_000_000);
                        for _ in 0..15 {
                            assert!(writer.write(&data).unwrap().position().is_some());
                        }
                        stop.store(true, Ordering::Relaxed);
                    });
                }
                while !stop.load(Ordering::Relaxed) {
                    writer.flush().unwrap();
                }
            });
            writer.close().unwrap();
        });
    });
}
