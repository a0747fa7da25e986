//! One subject, for one stretch of the time: the generator, and what is counted around it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use writeflush::BackendChoice;
use writeflush_workloads::{Counters, Device, FileState};

use super::content::{Content, Expected};
use super::ledger::Ledger;
use super::process::Held;
use super::subject::{Recorder, Setup, Subject};
use super::timetable::{Timetable, WARM_UP, What};
use crate::stop::{LOOK_EVERY, Stop};

/// What is the same for all subjects.
#[derive(Debug)]
pub(super) struct Course<'a> {
    pub(super) timetable: Timetable,
    pub(super) content: Content,
    /// A file for each stream.
    pub(super) paths: Vec<PathBuf>,
    pub(super) state: FileState,
    /// Of each stream.
    pub(super) memory: u64,
    pub(super) backend: BackendChoice,
    /// Whose flushes are counted; `None`: nobody's can be.
    pub(super) device: Option<Device>,
    pub(super) stop: &'a Stop,
}

/// What was seen of a subject in one visit.
#[derive(Clone, Debug, Default)]
pub(super) struct Visit {
    pub(super) way: String,
    pub(super) memory: u64,
    pub(super) records: u64,
    pub(super) overruns: u64,
    pub(super) taken_bytes: u64,
    /// Files that were read back and hold what they were given, byte for byte.
    pub(super) exact_files: u64,
    /// Of the fences that count: from the moment at which it was due until it was known.
    pub(super) fences: Vec<Duration>,
    /// Of the whole process, while it was counted, and how long was recorded meanwhile.
    pub(super) cpu: Duration,
    pub(super) time: Duration,
    /// In the same time.
    pub(super) flushes: Option<u64>,
    /// Above what the process had before.
    pub(super) held: Option<Held>,
    /// The most that a record or fence was handed over after its moment.
    pub(super) late: Duration,
    /// Opening all files.
    pub(super) open: Duration,
    pub(super) error: Option<String>,
}

/// Give up waiting for the last fences.
const PATIENCE: Duration = Duration::from_secs(120);
/// Later than this, the generator could not keep up, and the figures are of another rate.
const LATE: Duration = Duration::from_secs(1);
const INTERRUPTED: io::ErrorKind = io::ErrorKind::Interrupted;

/// Lets a subject record to the end of the timetable, closes it, and reads its files back. `None`:
/// interrupted. What goes wrong on the way is part of what was seen.
pub(super) fn run(subject: &Subject, course: &Course<'_>) -> io::Result<Option<Visit>> {
    let table = &course.timetable;
    let ledger = Arc::new(Ledger::new(table.streams, table.fences()));
    let setup = Setup {
        paths: &course.paths,
        state: course.state,
        memory: course.memory,
        backend: course.backend,
        ledger: &ledger,
    };
    let (before, begun) = (Held::now(), Instant::now());
    let mut recorder = (subject.open)(&setup)?;
    let mut visit = Visit {
        open: begun.elapsed(),
        memory: recorder.memory(),
        way: recorder.way(),
        ..Visit::default()
    };
    let mut lost = vec![Vec::new(); table.streams];
    let mut generator = Generator { course, ledger: &ledger, visit: &mut visit, lost: &mut lost };
    let recorded = generator.record(&mut *recorder);
    let held = Held::now();
    visit.held = held.zip(before).map(|(held, before)| held.since(before));
    let closed = recorder.close();
    let checked = recorded.and(closed).and_then(|()| check(subject, course, &lost));
    match checked {
        _ if course.stop.asked() => return Ok(None),
        Ok(exact) => visit.exact_files = exact,
        Err(error) => visit.error = Some(error.to_string()),
    }
    Ok(Some(visit))
}

/// Reads back what was recorded: the number of files, all of which are right.
fn check(subject: &Subject, course: &Course<'_>, lost: &[Vec<u64>]) -> io::Result<u64> {
    if subject.descriptors == 0 {
        return Ok(0); // it writes nothing
    }
    let table = &course.timetable;
    for (stream, path) in course.paths.iter().enumerate() {
        let expected = Expected {
            stream,
            records: table.records(),
            len: table.record,
            lost: &lost[stream],
            ends: course.state == FileState::Growing,
        };
        course.content.check(path, &expected)?;
    }
    Ok(course.paths.len() as u64)
}

/// Feeds all streams, each at its rate.
struct Generator<'a> {
    course: &'a Course<'a>,
    ledger: &'a Ledger,
    visit: &'a mut Visit,
    /// Of each stream the records that found no room.
    lost: &'a mut [Vec<u64>],
}

impl Generator<'_> {
    fn record(&mut self, recorder: &mut dyn Recorder) -> io::Result<()> {
        let (table, epoch) = (&self.course.timetable, Instant::now() + Duration::from_millis(5));
        let mut meter = None;
        for event in table.events() {
            if meter.is_none() && event.due >= table.begin() {
                self.wait(epoch + table.begin())?;
                meter = Some(Meter::start(self.course.device.as_ref()));
            }
            self.wait(epoch + event.due)?;
            self.visit.late = self.visit.late.max(epoch.elapsed().saturating_sub(event.due));
            match event.what {
                What::Record(record) => self.offer(recorder, event.stream, record)?,
                What::Fence(_) => recorder.fence(event.stream)?,
            }
        }
        self.settle(recorder)?;
        if let Some(meter) = meter {
            meter.stop(self.course.device.as_ref(), self.visit);
            // What was recorded, however long its last fences took.
            self.visit.time = table.length();
        }
        self.visit.fences = self.latencies(epoch);
        match self.visit.late > LATE.max(table.end() / 100) {
            true => Err(io::Error::other(format!(
                "the generator could not keep up: it was {} ms late; give fewer --streams, a lower \
                 --rate or a larger --record",
                self.visit.late.as_millis()
            ))),
            false => Ok(()),
        }
    }

    /// Until a moment, or a signal.
    fn wait(&self, due: Instant) -> io::Result<()> {
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if self.course.stop.asked() {
                return Err(INTERRUPTED.into());
            }
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }

    fn offer(&mut self, recorder: &mut dyn Recorder, stream: usize, record: u64) -> io::Result<()> {
        let bytes = self.course.content.record(stream, record, self.course.timetable.record);
        self.visit.records += 1;
        if recorder.offer(stream, bytes)? {
            self.visit.taken_bytes += bytes.len() as u64;
        } else {
            self.visit.overruns += 1;
            self.lost[stream].push(record);
        }
        Ok(())
    }

    /// Until every fence is through.
    fn settle(&self, recorder: &mut dyn Recorder) -> io::Result<()> {
        let begun = Instant::now();
        while !self.ledger.is_full() {
            recorder.check()?;
            if begun.elapsed() > PATIENCE {
                return Err(io::Error::other("the last fence has not come back for two minutes"));
            }
            self.wait(Instant::now() + Duration::from_millis(1))?;
        }
        recorder.check()
    }

    /// Of the fences that count.
    fn latencies(&self, epoch: Instant) -> Vec<Duration> {
        let table = &self.course.timetable;
        let counted = (0..table.streams)
            .flat_map(|stream| (WARM_UP..table.fences()).map(move |fence| (stream, fence)));
        let latency = |(stream, fence)| {
            self.ledger.known_after(stream, fence, epoch + table.fence_due(stream, fence))
        };
        counted.filter_map(latency).collect()
    }
}

/// What is counted of the process and of the device, from here on.
struct Meter {
    cpu: ProcessTime,
    flushes: Option<Counters>,
}

impl Meter {
    fn start(device: Option<&Device>) -> Self {
        let flushes = device.and_then(|device| device.counts().ok());
        Self { cpu: ProcessTime::now(), flushes }
    }

    fn stop(self, device: Option<&Device>, visit: &mut Visit) {
        visit.cpu = self.cpu.elapsed();
        let now = device.and_then(|device| device.counts().ok());
        visit.flushes = now.zip(self.flushes).map(|(now, before)| now.since(&before).flushes);
    }
}
