//! `pace`: a recorder's day. Records come at a fixed rate, whatever the disk does meanwhile.

mod args;
pub(crate) mod neighbour;
mod result;
mod schedule;
mod search;
pub(crate) mod streams;
mod subject;
mod table;
mod take;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use writeflush_workloads::FileState;

pub(crate) use self::args::Args;
use self::neighbour::Neighbour;
use self::result::Below;
pub(crate) use self::result::{Pace, Smallest, Take};
use self::schedule::Schedule;
use self::search::Search;
use self::subject::{SUBJECTS, Setup, Subject};
pub(crate) use self::table::{COLUMNS, columns, company, notes};
use self::take::Pacing;
use crate::document::{self, Document};
use crate::environment::Environment;
use crate::error::{Bad, INTERRUPTED};
use crate::output::{Progress, amount, binary_size, count, duration, print, say};
use crate::scratch::Scratch;
use crate::stop::Stop;

/// Records at a fixed rate with every chosen recorder, and says what came of it.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.replay {
        print(table::render(&Document::load(file)?));
        return Ok(ExitCode::SUCCESS);
    }
    if args.list && args.streams.is_some() {
        streams::list();
        return Ok(ExitCode::SUCCESS);
    }
    if args.list {
        let lines = SUBJECTS.map(|subject| format!("{:20} {}\n", subject.name, subject.about));
        print(lines.concat());
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(streams) = args.streams {
        return streams::run(args, streams);
    }
    let (subjects, schedule) = (args.chosen()?, args.schedule()?);
    let available = available_memory();
    args.check_memory(available)?;
    document::check_free(args.json.as_deref(), args.force)?;
    let stop = Stop::install().context("could not listen for signals")?;
    let scratch = Scratch::new(&args.directory, args.space(&schedule))?;
    let orderly = stop.leave_in_time(scratch.path());
    can_produce(&schedule)?;
    let environment = Environment::of(&args.directory);
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let random = fastrand::Rng::with_seed(seed);
    let folder = scratch.path();
    let mut run = Run { args, subjects, schedule, stop, folder, available, random };
    let Some(pace) = run.pace(seed)? else {
        say("interrupted: nothing was kept");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    drop(orderly);
    keep(&Document::new(environment, pace), args)
}

/// Prints the tables, and keeps the result where that is asked for.
fn keep(document: &Document<Pace>, args: &Args) -> anyhow::Result<ExitCode> {
    print(table::render(document));
    if let Some(path) = &args.json {
        document.save(path, args.force)?;
        say(format_args!("kept in {}", path.display()));
    }
    Ok(if document.result.has_failed() {
        ExitCode::from(crate::error::LOST)
    } else {
        ExitCode::SUCCESS
    })
}

/// Bytes that programs can still get without swapping. `None`: it is not said.
pub(crate) fn available_memory() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        use procfs::Current;
        procfs::Meminfo::current().ok()?.mem_available
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// What does not work when nothing is written is no recorder's fault.
fn can_produce(schedule: &Schedule) -> anyhow::Result<()> {
    let most = take::most_bytes_per_s(schedule)?;
    if schedule.bytes_per_s as f64 <= most {
        return Ok(());
    }
    Err(Bad::new(format!(
        "this machine hands over at most {}/s in records of {} even when nothing is written: give \
         a lower --rate or a larger --record",
        amount(most),
        binary_size(schedule.record as u64)
    ))
    .into())
}

/// Everything that is recorded in one call of the tool.
struct Run<'a> {
    args: &'a Args,
    subjects: Vec<Subject>,
    schedule: Schedule,
    stop: Stop,
    folder: &'a Path,
    /// Memory of the machine.
    available: Option<u64>,
    random: fastrand::Rng,
}

/// A recorder, and whether it has a neighbour.
type Case = (Subject, bool);

impl Run<'_> {
    /// `None`: interrupted.
    fn pace(&mut self, seed: u64) -> anyhow::Result<Option<Pace>> {
        let fence_every = self.args.fence_every;
        let cases = self.args.neighbour.cases().iter();
        let cases: Vec<Case> =
            cases.flat_map(|with| self.subjects.iter().map(|subject| (*subject, *with))).collect();
        let done = match self.args.find_buffer {
            true => self.searches(&cases)?,
            false => self.takes(&cases)?.map(|takes| (takes, Vec::new())),
        };
        Ok(done.map(|(takes, smallest)| Pace {
            bytes_per_s: self.schedule.bytes_per_s,
            record_bytes: self.schedule.record,
            seconds: self.schedule.length().as_secs_f64(),
            fence_ms: (!fence_every.is_zero()).then_some(fence_every.as_secs_f64() * 1e3),
            file_state: Some(self.args.file.name().into()),
            seed: Some(seed),
            takes,
            smallest,
            streams: None,
        }))
    }

    /// One take of each case, in a random order. `None`: interrupted.
    fn takes(&mut self, cases: &[Case]) -> anyhow::Result<Option<Vec<Take>>> {
        let bar = Progress::bar(cases.len() as u64);
        let mut takes: Vec<Option<Take>> = vec![None; cases.len()];
        for index in self.shuffled(cases.len()) {
            bar.set_message(cases[index].0.name);
            let Some(take) = self.take(cases[index], self.args.memory())? else { return Ok(None) };
            takes[index] = Some(take);
            bar.inc(1);
        }
        drop(bar);
        Ok(Some(takes.into_iter().flatten().collect()))
    }

    /// All searches at once: a take of each in turn, in a random order, so that a bad hour of the
    /// disk is everybody's. `None`: interrupted.
    fn searches(&mut self, cases: &[Case]) -> anyhow::Result<Option<(Vec<Take>, Vec<Smallest>)>> {
        let (least, most) = sizes(self.schedule.record as u64, self.available)?;
        let mut searches: Vec<Search> = cases.iter().map(|_| Search::new(least, most)).collect();
        let mut takes: Vec<Vec<(u64, Take)>> = vec![Vec::new(); cases.len()];
        let most_takes = cases.len() as u64 * u64::from(search::TAKES);
        say(format_args!(
            "searching: at most {} of {} each, {} in all",
            count(most_takes, "take"),
            duration(self.schedule.length()),
            duration(self.schedule.length().saturating_mul(most_takes as u32)),
        ));
        let bar = Progress::bar(most_takes);
        let goes_on = |search: &Search, takes: &[(u64, Take)]| {
            search.next().is_some() && takes.last().is_none_or(|(_, take)| take.error.is_none())
        };
        loop {
            let open: Vec<usize> = (0..cases.len())
                .filter(|index| goes_on(&searches[*index], &takes[*index]))
                .collect();
            if open.is_empty() {
                break;
            }
            for index in self.shuffled(open.len()).into_iter().map(|index| open[index]) {
                let Some(memory) = searches[index].next() else { continue };
                let (subject, _) = cases[index];
                bar.set_message(format!("{}, {}", subject.name, binary_size(memory)));
                let Some(take) = self.take(cases[index], memory)? else { return Ok(None) };
                // What went wrong is no loss of that memory, and ends this search alone.
                if take.error.is_none() {
                    searches[index].saw(memory, take.lost_bytes);
                }
                takes[index].push((memory, take));
                bar.inc(1);
            }
            let left = searches.iter().map(Search::takes_left).sum::<u64>();
            bar.set_left(left);
        }
        drop(bar);
        let done = cases.iter().zip(searches).zip(takes);
        let done = done.map(|((case, search), takes)| of_case(*case, search, takes));
        let (shown, smallest): (Vec<Option<Take>>, Vec<Smallest>) = done.unzip();
        Ok(Some((shown.into_iter().flatten().collect(), smallest)))
    }

    fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        self.random.shuffle(&mut order);
        order
    }

    /// One recording. `None`: interrupted.
    fn take(&self, (subject, neighbour): Case, memory: u64) -> anyhow::Result<Option<Take>> {
        let path = self.folder.join("take");
        self.prepare(&path)?;
        let (args, schedule) = (self.args, self.schedule);
        let (fence_every, give_up) = (args.fence_every, args.find_buffer);
        let pacing = Pacing { schedule, fence_every, give_up, stop: &self.stop };
        let setup = Setup {
            path: &path,
            state: args.file,
            memory,
            backend: args.backend,
            split: args.split.unwrap_or(u64::MAX),
        };
        let recorder = (subject.open)(&setup).map_err(|error| could_not_begin(&subject, error))?;
        let beside = neighbour.then(|| Neighbour::moves_in(self.folder)).transpose()?;
        let seen = take::run(recorder, &pacing);
        let theirs = beside.map(Neighbour::moves_out).transpose()?.unwrap_or_default();
        let Some(mut seen) = seen? else { return Ok(None) };
        if subject.is_split {
            clear(self.folder).context("files of a recording can't be removed")?;
        }
        seen.not_ours(theirs);
        Ok(Some(seen.take(subject.name, neighbour, &schedule)))
    }

    /// A file that was written stays so, and is the same for all.
    fn prepare(&self, path: &Path) -> anyhow::Result<()> {
        let (state, bytes) = (self.args.file, self.schedule.bytes());
        let written = state == FileState::Written
            && std::fs::metadata(path).is_ok_and(|file| file.len() >= bytes);
        if !written {
            state.prepare(path, bytes).context("the file can't be made ready")?;
        }
        Ok(())
    }
}

/// The next recording needs the space.
fn clear(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("take-") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// From where to where a search goes.
fn sizes(record: u64, available: Option<u64>) -> Result<(u64, u64), Bad> {
    let least = search::LEAST.max((2 * record).next_power_of_two());
    // Three quarters of the machine's memory are left to the page cache and to others.
    let most = available.map_or(search::MOST, |bytes| (bytes / 4).min(search::MOST));
    if least > most {
        return Err(Bad::new(format!(
            "a search with records of {} begins with {} of memory, and this machine can give {}: \
             give a smaller --record",
            binary_size(record),
            binary_size(least),
            amount(most as f64)
        )));
    }
    Ok((least, most))
}

/// What can't work with these options is the user's to change.
fn could_not_begin(subject: &Subject, error: io::Error) -> anyhow::Error {
    let sentence = format!("{} could not begin: {error}", subject.name);
    match error.kind() {
        io::ErrorKind::OutOfMemory => Bad::new(format!("{sentence}; give less --memory")).into(),
        io::ErrorKind::InvalidInput => Bad::new(sentence).into(),
        _ => anyhow::anyhow!(sentence),
    }
}

/// With the take that the figures are shown of: the one that failed, the last with the memory that
/// was found, or the last of all.
fn of_case(
    (subject, neighbour): Case,
    search: Search,
    mut takes: Vec<(u64, Take)>,
) -> (Option<Take>, Smallest) {
    let found = search.found();
    let wanted =
        |(memory, take): &(u64, Take)| take.error.is_some() || Some(*memory) == found.memory;
    let shown = takes.iter().rposition(wanted);
    let shown = shown.or(takes.len().checked_sub(1)).map(|index| takes.swap_remove(index).1);
    let error = shown.as_ref().and_then(|take| take.error.clone());
    let smallest = Smallest {
        subject: subject.name.into(),
        neighbour,
        memory_bytes: found.memory.filter(|_| error.is_none()),
        confirmed: found.confirmed && error.is_none(),
        error,
        held: found.memory.map(|_| found.held),
        below: found.below.map(|(memory_bytes, takes, lost)| Below { memory_bytes, takes, lost }),
        least_held_bytes: found.least_held,
        tried: found.tried,
    };
    (shown, smallest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_takes_a_quarter_of_the_memory_at_most() {
        assert_eq!(sizes(4096, None).unwrap(), (search::LEAST, search::MOST));
        assert_eq!(sizes(4096, Some(64 << 30)).unwrap().1, search::MOST);
        assert_eq!(sizes(1 << 20, Some(1 << 30)).unwrap(), (2 << 20, 256 << 20));
        let refused = sizes(64 << 20, Some(256 << 20)).unwrap_err().to_string();
        assert!(refused.contains("smaller --record"), "{refused}");
    }
}
