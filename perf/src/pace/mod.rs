//! `pace`: a recorder's day. Records come at a fixed rate, whatever the disk does meanwhile.

mod args;
mod neighbour;
mod result;
mod schedule;
mod search;
mod subject;
mod table;
mod take;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

pub(crate) use self::args::Args;
use self::neighbour::Neighbour;
pub(crate) use self::result::{Pace, Smallest, Take};
use self::schedule::Schedule;
use self::subject::{SUBJECTS, Subject};
pub(crate) use self::table::{COLUMNS, columns, company};
use self::take::Pacing;
use crate::document::{self, Document};
use crate::environment::Environment;
use crate::error::{Bad, INTERRUPTED};
use crate::output::{amount, binary_size, print, progress, say};
use crate::scratch::Scratch;
use crate::stop::Stop;

/// Records at a fixed rate with every chosen recorder, and says what came of it.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.replay {
        print(table::render(&Document::load(file)?));
        return Ok(ExitCode::SUCCESS);
    }
    if args.list {
        let lines = SUBJECTS.map(|subject| format!("{:18} {}\n", subject.name, subject.about));
        print(lines.concat());
        return Ok(ExitCode::SUCCESS);
    }
    let (subjects, schedule) = (args.chosen()?, args.schedule()?);
    document::check_free(args.json.as_deref(), args.force)?;
    let stop = Stop::install().context("could not listen for signals")?;
    let scratch = Scratch::new(&args.directory, schedule.bytes())?;
    can_produce(&schedule)?;
    let run = Run { args, subjects, schedule, stop, folder: scratch.path() };
    let Some(pace) = run.pace()? else {
        say("interrupted: nothing was kept");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let document = Document::new(Environment::of(&args.directory), pace);
    print(table::render(&document));
    if let Some(path) = &args.json {
        document.save(path)?;
        say(format_args!("kept in {}", path.display()));
    }
    let failed = document.result.takes.iter().any(|take| take.error.is_some());
    Ok(if failed { ExitCode::from(crate::error::LOST) } else { ExitCode::SUCCESS })
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
}

impl Run<'_> {
    /// `None`: interrupted.
    fn pace(&self) -> anyhow::Result<Option<Pace>> {
        let fence_every = self.args.fence_every;
        let mut pace = Pace {
            bytes_per_s: self.schedule.bytes_per_s,
            record_bytes: self.schedule.record,
            seconds: self.schedule.length().as_secs_f64(),
            fence_ms: (!fence_every.is_zero()).then_some(fence_every.as_secs_f64() * 1e3),
            takes: Vec::new(),
            smallest: Vec::new(),
        };
        let cases = self.args.neighbour.cases();
        let bar = progress((cases.len() * self.subjects.len()) as u64);
        for &neighbour in cases {
            for subject in &self.subjects {
                bar.set_message(subject.name);
                if self.args.find_buffer {
                    let Some((smallest, take)) = self.search(subject, neighbour)? else {
                        return Ok(None);
                    };
                    pace.smallest.push(smallest);
                    pace.takes.push(take);
                } else {
                    let take = self.take(subject, self.args.memory, neighbour)?;
                    let Some(take) = take else { return Ok(None) };
                    pace.takes.push(take);
                }
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(Some(pace))
    }

    /// One recording; its file is gone afterwards. `None`: interrupted.
    fn take(
        &self,
        subject: &Subject,
        memory: u64,
        neighbour: bool,
    ) -> anyhow::Result<Option<Take>> {
        let path = self.folder.join("take");
        let (schedule, give_up) = (self.schedule, self.args.find_buffer);
        let fence_every = self.args.fence_every;
        let pacing = Pacing { schedule, fence_every, give_up, stop: &self.stop };
        let recorder = (subject.open)(&path, memory)
            .with_context(|| format!("{} could not begin", subject.name))?;
        let beside = neighbour.then(|| Neighbour::moves_in(self.folder)).transpose()?;
        let seen = take::run(recorder, &pacing);
        let theirs = beside.map(Neighbour::moves_out).transpose()?.unwrap_or_default();
        std::fs::remove_file(&path)?;
        let Some(mut seen) = seen? else { return Ok(None) };
        seen.not_ours(theirs);
        Ok(Some(seen.take(subject.name, memory, neighbour, schedule.record)))
    }

    /// The smallest memory that loses nothing, and the last take with it; where there is none, the
    /// last take of all.
    fn search(
        &self,
        subject: &Subject,
        neighbour: bool,
    ) -> anyhow::Result<Option<(Smallest, Take)>> {
        let least = search::LEAST.max((2 * self.schedule.record as u64).next_power_of_two());
        let (mut kept, mut failed) = (None, None);
        let outcome =
            search::smallest(least, |memory| match self.take(subject, memory, neighbour) {
                Ok(Some(take)) if take.error.is_none() => {
                    let lost = take.lost_bytes;
                    if lost == 0 || kept.is_none() {
                        kept = Some(take);
                    }
                    Some(lost)
                }
                Ok(Some(take)) => {
                    failed = Some(anyhow::anyhow!(
                        "{}: {}",
                        subject.name,
                        take.error.unwrap_or_default()
                    ));
                    None
                }
                Ok(None) => None,
                Err(error) => {
                    failed = Some(error);
                    None
                }
            });
        if let Some(error) = failed {
            return Err(error);
        }
        let (Some((memory_bytes, tried)), Some(take)) = (outcome, kept) else { return Ok(None) };
        let subject = subject.name.into();
        Ok(Some((Smallest { subject, neighbour, memory_bytes, tried }, take)))
    }
}
