//! `pace --streams`: many files grow at once, each at its rate and with its fences, and what that
//! costs with each way to do it.

mod content;
mod ledger;
mod process;
mod result;
mod subject;
mod table;
mod timetable;
mod visit;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use writeflush_workloads::{Device, FileState};

use self::content::{Content, LONGEST};
pub(crate) use self::result::{Row, Streams};
use self::subject::{NOTHING, SUBJECTS, Subject};
pub(super) use self::table::render;
pub(crate) use self::table::{COLUMNS, columns, notes, rows};
use self::timetable::Timetable;
use self::visit::{Course, Visit};
use super::args::{Args, Phases};
use super::result::Pace;
use super::{available_memory, keep};
use crate::document::{self, Document};
use crate::environment::Environment;
use crate::error::{Bad, INTERRUPTED};
use crate::output::{Progress, amount, binary_size, duration, print, say};
use crate::scratch::Scratch;
use crate::stop::Stop;

/// Of each stream, if nothing is said.
const RATE: u64 = 1_000_000;
const RECORD: u64 = 16 << 10;
/// As a writer has it by default.
const MEMORY: u64 = 2 << 20;
/// Descriptors of the tool itself that come and go.
const SPARE: u64 = 24;

/// For `--list`.
pub(super) fn list() {
    let lines = SUBJECTS.iter().map(|subject| format!("{:18} {}\n", subject.name, subject.about));
    print(lines.collect::<String>());
}

/// Measures, and says what came of it.
pub(super) fn run(args: &Args, streams: usize) -> anyhow::Result<ExitCode> {
    let subjects = chosen(args)?;
    let timetable = timetable(args, streams)?;
    let memory = memory(args, &timetable, available_memory())?;
    check_descriptors(&subjects, streams as u64, process::descriptors_left())?;
    document::check_free(args.json.as_deref(), args.force)?;
    let stop = Stop::install().context("could not listen for signals")?;
    let space = timetable.bytes().saturating_mul(streams as u64);
    let scratch = Scratch::new(&args.directory, space)?;
    let orderly = stop.leave_in_time(scratch.path());
    let environment = Environment::of(&args.directory);
    let course = Course {
        timetable,
        content: Content::new(),
        paths: (0..streams).map(|n| scratch.path().join(format!("stream-{n:04}"))).collect(),
        state: args.file,
        memory,
        backend: args.backend,
        device: Device::under(scratch.path()).ok(),
        stop: &stop,
    };
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let Some(found) = measure(&course, &subjects, args.laps, seed)? else {
        say("interrupted: nothing was kept");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    drop(orderly);
    let pace = Pace {
        bytes_per_s: timetable.bytes_per_s,
        record_bytes: timetable.record,
        seconds: timetable.length().saturating_mul(args.laps).as_secs_f64(),
        fence_ms: Some(timetable.every.as_secs_f64() * 1e3),
        file_state: Some(args.file.name().into()),
        seed: Some(seed),
        takes: Vec::new(),
        smallest: Vec::new(),
        streams: Some(found),
    };
    keep(&Document::new(environment, pace), args)
}

/// In each lap every subject and the generator alone, in random order. `None`: interrupted.
fn measure(
    course: &Course<'_>,
    subjects: &[Subject],
    laps: u32,
    seed: u64,
) -> anyhow::Result<Option<Streams>> {
    let all: Vec<Subject> = subjects.iter().copied().chain([NOTHING]).collect();
    let mut visits: Vec<Vec<Visit>> = vec![Vec::new(); all.len()];
    let mut random = fastrand::Rng::with_seed(seed);
    let bar = Progress::bar(u64::from(laps) * all.len() as u64);
    for _ in 0..laps {
        let mut order: Vec<usize> = (0..all.len()).collect();
        random.shuffle(&mut order);
        for index in order {
            bar.inc(1);
            // What has failed once is not tried again.
            if visits[index].iter().any(|visit| visit.error.is_some()) {
                continue;
            }
            bar.set_message(all[index].name);
            let Some(visit) = one_visit(&all[index], course)? else { return Ok(None) };
            visits[index].push(visit);
        }
    }
    drop(bar);
    let base = visits.pop().unwrap_or_default();
    let table = &course.timetable;
    let row =
        |(subject, visits): (&Subject, &Vec<Visit>)| Row::of(subject.name, visits, &base, table);
    Ok(Some(Streams {
        streams: table.streams,
        laps,
        rounds: table.rounds * u64::from(laps),
        phases: if table.spread { "spread" } else { "together" }.into(),
        generator: Row::of(NOTHING.name, &base, &[], table),
        rows: subjects.iter().zip(&visits).map(row).collect(),
    }))
}

/// With files that are as they have to be. `None`: interrupted.
fn one_visit(subject: &Subject, course: &Course<'_>) -> anyhow::Result<Option<Visit>> {
    prepare(course).context("the files can't be made ready")?;
    if course.stop.asked() {
        return Ok(None);
    }
    visit::run(subject, course).map_err(|error| could_not_begin(subject, &error))
}

/// Growing files are new each time. Those that were written stay so, and are the same for all.
fn prepare(course: &Course<'_>) -> io::Result<()> {
    let bytes = course.timetable.bytes();
    let is_there = |path| std::fs::metadata(path).is_ok_and(|file| file.len() >= bytes);
    match course.state == FileState::Written && course.paths.iter().all(is_there) {
        true => Ok(()),
        false => course.state.prepare_all(&course.paths, bytes),
    }
}

/// What can't work with these options is the user's to change.
fn could_not_begin(subject: &Subject, error: &io::Error) -> anyhow::Error {
    let sentence = format!("{} could not begin: {error}", subject.name);
    match error.kind() {
        io::ErrorKind::OutOfMemory => {
            Bad::new(format!("{sentence}; give less --memory, or fewer --streams")).into()
        }
        io::ErrorKind::InvalidInput => Bad::new(sentence).into(),
        _ => anyhow::anyhow!("{sentence}; fewer --streams may do"),
    }
}

fn chosen(args: &Args) -> Result<Vec<Subject>, Bad> {
    let has = |subject: &Subject, word: &String| subject.name.contains(word.as_str());
    if let Some(word) = args.subjects.iter().find(|word| !SUBJECTS.iter().any(|s| has(s, word))) {
        return Err(Bad::new(format!(
            "no recorder of many streams has a name with '{word}' in it: see 'writeflush pace \
             --streams 1 --list'"
        )));
    }
    let named = |subject: &&Subject| {
        args.subjects.is_empty() || args.subjects.iter().any(|word| has(subject, word))
    };
    Ok(SUBJECTS.iter().filter(named).copied().collect())
}

fn timetable(args: &Args, streams: usize) -> Result<Timetable, Bad> {
    let (every, rate) = (args.fence_every, args.rate.unwrap_or(RATE));
    let record = args.record.unwrap_or(RECORD);
    if every < Duration::from_millis(1) {
        return Err(Bad::new(
            "--every 0 asks for no fence, and fences are what is measured: give a time such as \
             100ms, 1ms at least",
        ));
    }
    if record > LONGEST as u64 {
        let longest = binary_size(LONGEST as u64);
        return Err(Bad::new(format!("--record may be {longest} at most with --streams")));
    }
    if rate as f64 * every.as_secs_f64() < record as f64 {
        return Err(Bad::new(format!(
            "a stream of {}/s has no record of {} between two fences of {}: give a smaller \
             --record, a higher --rate or a longer --every",
            amount(rate as f64),
            binary_size(record),
            duration(every)
        )));
    }
    let rounds = (args.time / args.laps).as_nanos() / every.as_nanos();
    let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
    if rounds == 0 {
        return Err(Bad::new(format!(
            "--for {} leaves no fence for each of {} laps: give a longer time, or fewer --laps",
            duration(args.time),
            args.laps
        )));
    }
    let (record, rounds, spread) =
        (record as usize, u64::from(rounds), args.phases == Phases::Spread);
    Ok(Timetable { streams, bytes_per_s: rate, record, every, rounds, spread })
}

/// Of each stream.
fn memory(args: &Args, table: &Timetable, available: Option<u64>) -> Result<u64, Bad> {
    let memory = args.memory.unwrap_or(MEMORY);
    if memory < 4 * table.record as u64 {
        return Err(Bad::new(format!(
            "--memory {} has no room for four records of {}: give at least {}",
            binary_size(memory),
            binary_size(table.record as u64),
            binary_size(4 * table.record as u64)
        )));
    }
    let all = memory.saturating_mul(table.streams as u64);
    match available {
        Some(available) if all > available => Err(Bad::new(format!(
            "{} of {} each are more than the {} of memory that this machine has free: give fewer \
             --streams, or less --memory",
            crate::output::count(table.streams as u64, "stream"),
            binary_size(memory),
            amount(available as f64)
        ))),
        _ => Ok(memory),
    }
}

/// `left`: how many descriptors this process may have, and has.
fn check_descriptors(
    subjects: &[Subject],
    streams: u64,
    left: Option<(u64, u64)>,
) -> Result<(), Bad> {
    let (Some((limit, have)), Some(most)) = (left, subjects.iter().max_by_key(|s| s.descriptors))
    else {
        return Ok(());
    };
    let needed = streams * most.descriptors + have + SPARE;
    if needed <= limit {
        return Ok(());
    }
    let can = limit.saturating_sub(have + SPARE) / most.descriptors;
    Err(Bad::new(format!(
        "{streams} streams of {} may take {needed} descriptors, and this process may have {limit}: \
         raise the limit (ulimit -n {needed}), give at most --streams {can}, or leave that recorder \
         out (--subjects)",
        most.name
    )))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::pace::args::tests::parsed;

    fn course<'a>(folder: &Path, state: FileState, stop: &'a Stop) -> Course<'a> {
        let every = Duration::from_millis(100);
        let (streams, bytes_per_s, record, rounds) = (4, 1_000_000, 10_000, 9);
        Course {
            timetable: Timetable { streams, bytes_per_s, record, every, rounds, spread: true },
            content: Content::new(),
            paths: (0..streams).map(|n| folder.join(n.to_string())).collect(),
            state,
            memory: MEMORY,
            backend: writeflush::BackendChoice::Auto,
            device: None,
            stop,
        }
    }

    /// The files are looked at here byte by byte, whatever the tool thinks of them.
    #[test]
    fn four_streams_of_every_subject_are_exact_after_a_second() {
        let stop = Stop::unset();
        for (index, subject) in SUBJECTS.iter().enumerate() {
            let folder = tempfile::tempdir_in(writeflush_workloads::scratch_dir()).unwrap();
            let state = FileState::ALL[index % 3];
            let course = course(folder.path(), state, &stop);
            let visit = one_visit(subject, &course).unwrap().unwrap();
            // 1.1 s of 1 MB/s.
            assert_eq!((visit.error, visit.exact_files), (None, 4), "{}", subject.name);
            assert_eq!((visit.records, visit.overruns), (440, 0), "{}", subject.name);
            assert_eq!(visit.taken_bytes, 4_400_000);
            assert_eq!(visit.fences.len(), 36, "nine fences each that count");
            for (stream, path) in course.paths.iter().enumerate() {
                let expected: Vec<u8> = (0..110)
                    .flat_map(|record| course.content.record(stream, record, 10_000).to_vec())
                    .collect();
                let found = std::fs::read(path).unwrap();
                assert!(found.len() >= expected.len() && found[..expected.len()] == expected);
                assert!(state != FileState::Growing || found.len() == expected.len());
            }
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_and_the_files_hold_the_rest() {
        let stop = Stop::unset();
        for subject in SUBJECTS {
            let folder = tempfile::tempdir_in(writeflush_workloads::scratch_dir()).unwrap();
            let mut course = course(folder.path(), FileState::Growing, &stop);
            // 400 kB between two fences, and room for some of it only.
            course.timetable.bytes_per_s = 4_000_000;
            course.timetable.every = Duration::from_millis(100);
            course.timetable.rounds = 2;
            course.memory = 40_000;
            let visit = one_visit(subject, &course).unwrap().unwrap();
            assert_eq!((visit.error, visit.exact_files), (None, 4), "{}", subject.name);
            assert_eq!(visit.taken_bytes, (visit.records - visit.overruns) * 10_000);
        }
    }

    #[test]
    fn a_subject_that_fails_is_told_and_the_others_go_on() {
        fn fails(_: &subject::Setup<'_>) -> io::Result<Box<dyn subject::Recorder>> {
            struct Fails;
            impl subject::Recorder for Fails {
                fn memory(&self) -> u64 {
                    0
                }
                fn way(&self) -> String {
                    "badly".into()
                }
                fn offer(&mut self, _: usize, _: &[u8]) -> io::Result<bool> {
                    Ok(true)
                }
                fn fence(&mut self, _: usize) -> io::Result<()> {
                    Err(io::Error::other("worn out"))
                }
                fn check(&mut self) -> io::Result<()> {
                    Ok(())
                }
                fn close(self: Box<Self>) -> io::Result<()> {
                    Ok(())
                }
            }
            Ok(Box::new(Fails))
        }
        let (stop, folder) = (Stop::unset(), tempfile::tempdir().unwrap());
        let mut course = course(folder.path(), FileState::Growing, &stop);
        course.timetable.rounds = 1;
        let bad = Subject { name: "bad", about: "", descriptors: 1, open: fails };
        // Takes everything and keeps nothing, which is seen in the files.
        let liar = Subject { descriptors: 1, name: "liar", ..NOTHING };
        let found = measure(&course, &[bad, liar], 2, 1).unwrap().unwrap();
        assert_eq!(found.rows[0].error.as_deref(), Some("worn out"));
        assert!(found.rows[1].error.is_some() && found.rows[1].exact_files == 0);
        assert_eq!((found.generator.fences, &found.generator.error), (8, &None));
        assert!(render(&found).contains("bad: worn out"));
    }

    #[test]
    fn a_signal_ends_a_visit() {
        let (stop, folder) = (Stop::unset(), tempfile::tempdir().unwrap());
        stop.ask();
        let course = course(folder.path(), FileState::Growing, &stop);
        assert!(visit::run(&NOTHING, &course).unwrap().is_none());
        assert!(measure(&course, &[], 1, 1).unwrap().is_none());
    }

    #[test]
    fn more_streams_than_descriptors_allow_is_said_with_what_to_do() {
        let check = |streams, left| check_descriptors(SUBJECTS, streams, left);
        let most = SUBJECTS.iter().map(|subject| subject.descriptors).max().unwrap();
        assert_eq!(check(1000, None), Ok(()));
        assert_eq!(check(100, Some((100 * most + 10 + SPARE, 10))), Ok(()));
        let refused = check(101, Some((100 * most + 10 + SPARE, 10))).unwrap_err().to_string();
        let needed = 101 * most + 10 + SPARE;
        assert!(refused.contains(&format!("ulimit -n {needed}")), "{refused}");
        assert!(refused.contains("at most --streams 100,"), "{refused}");
        assert!(check(1, Some((8, 7))).unwrap_err().to_string().contains("--streams 0"));
    }

    #[test]
    fn the_options_make_a_timetable_or_a_sentence() {
        let of = |options: &[&str]| timetable(&parsed(options), 64).map_err(|bad| bad.to_string());
        let table = of(&["--streams", "64", "--every", "50ms", "--for", "10s"]).unwrap();
        assert_eq!((table.bytes_per_s, table.record, table.rounds), (RATE, 16 << 10, 40));
        assert!(table.spread);
        let table = of(&["--streams", "64", "--laps", "1", "--phases", "together"]).unwrap();
        assert_eq!((table.rounds, table.spread), (100, false));
        let says = |options: &[&str], sentence: &str| {
            let refused = of(&[&["--streams", "64"], options].concat()).unwrap_err();
            assert!(refused.contains(sentence), "{refused}");
        };
        says(&["--every", "0"], "--every 0");
        says(&["--record", "2MiB"], "1 MiB at most");
        says(&["--rate", "100kB/s"], "a smaller --record");
        says(&["--for", "100ms"], "fewer --laps");
        let few = parsed(&["--streams", "64", "--memory", "32KiB"]);
        assert!(memory(&few, &table, None).unwrap_err().to_string().contains("64 KiB"));
        let all = memory(&parsed(&["--streams", "64"]), &table, Some(100 << 20));
        assert!(all.unwrap_err().to_string().contains("less --memory"));
    }
}
