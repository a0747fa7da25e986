//! What the producer, the keeper and everybody else share of a pre-roll.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ring::{Ring, Tail};
use crate::driver::run::is_driving;
use crate::error::Error;
use crate::fork::Process;
use crate::stats::Counter;
use crate::sync::{Event, Instant, Mutex, MutexGuard, OnceLock, ignore_poison};

/// A recording that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) number: u64,
    /// What had come, and what had been lost, when it was asked for.
    pub(super) accepted: u64,
    pub(super) lost: u64,
    end: Option<End>,
}

/// Where a recording ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// In the ring.
    pub(super) at: u64,
    pub(super) lost: u64,
}

/// What is asked for, and what has become of it. Behind a lock that no push takes.
struct Course<S> {
    /// The records' other end, while no recording goes on.
    tail: Option<Tail>,
    /// The first is written, or is about to be.
    asked: VecDeque<Asked>,
    /// Recordings that are not closed yet.
    unclosed: u64,
    begun: u64,
    is_over: bool,
    last: Option<S>,
    errors: Vec<Error>,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) overruns: Counter,
    /// Also what the source has lost.
    pub(super) lost: Counter,
    pub(super) high_water: Counter,
    closed: Counter,
}

pub(super) struct Shared<S> {
    pub(super) ring: Arc<Ring>,
    course: Mutex<Course<S>>,
    failure: OnceLock<Error>,
    /// The keeper has something to do.
    pub(super) stirred: Event,
    /// There is room, or a recording has ended, or failed.
    pub(super) changed: Event,
    pub(super) counters: Counters,
    process: Process,
}

impl<S> Shared<S> {
    pub(super) fn new(ring: Arc<Ring>, tail: Tail) -> Self {
        let course = Course {
            tail: Some(tail),
            asked: VecDeque::new(),
            unclosed: 0,
            begun: 0,
            is_over: false,
            last: None,
            errors: Vec::new(),
        };
        Self {
            ring,
            course: Mutex::new(course),
            failure: OnceLock::new(),
            stirred: Event::default(),
            changed: Event::default(),
            counters: Counters::default(),
            process: Process::this(),
        }
    }

    fn course(&self) -> MutexGuard<'_, Course<S>> {
        ignore_poison(self.course.lock())
    }

    /// Part of each push: two loads.
    #[inline]
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.failure.get() {
            _ if self.process.is_gone() => Err(Error::Forked),
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Not in a child, which has no keeper, nor on the thread of a driver, for which the keeper may wait.
    pub(super) fn may_wait(&self) -> Result<(), Error> {
        self.check_process()?;
        if is_driving() { Err(Error::InWaker) } else { Ok(()) }
    }

    fn check_process(&self) -> Result<(), Error> {
        if self.process.is_this() { Ok(()) } else { Err(Error::Forked) }
    }

    // ---- whoever asks -------------------------------------------------------------------------------

    fn trigger(&self) -> Result<bool, Error> {
        self.check_process()?;
        let mut course = self.course();
        self.check()?;
        match course.asked.back() {
            _ if course.is_over => return Err(Error::Closed),
            Some(asked) if asked.end.is_none() => return Ok(false),
            _ => {}
        }
        if let Some(tail) = &mut course.tail {
            tail.hold(); // else the last recording holds them still
        }
        course.begun += 1;
        course.unclosed += 1;
        let (number, accepted, lost) =
            (course.begun, self.ring.accepted(), self.counters.lost.get());
        course.asked.push_back(Asked { number, accepted, lost, end: None });
        drop(course);
        self.stirred.announce();
        Ok(true)
    }

    fn stop(&self) -> Result<bool, Error> {
        self.check_process()?;
        let mut course = self.course();
        self.check()?;
        let has_stopped = self.stop_in(&mut course);
        drop(course);
        self.stirred.announce();
        Ok(has_stopped)
    }

    fn stop_in(&self, course: &mut Course<S>) -> bool {
        let Some(asked) = course.asked.back_mut().filter(|asked| asked.end.is_none()) else {
            return false;
        };
        asked.end = Some(End { at: self.ring.head(), lost: self.counters.lost.get() });
        true
    }

    /// The producer is gone: nothing can be asked for any more.
    pub(super) fn end(&self) -> Result<(), Error> {
        self.check_process()?;
        let mut course = self.course();
        self.stop_in(&mut course);
        course.is_over = true;
        drop(course);
        self.stirred.announce();
        Ok(())
    }

    // ---- the keeper ---------------------------------------------------------------------------------

    /// Waits for a trigger; `None` when there won't be one any more.
    pub(super) fn next_asked(&self) -> Option<(Asked, Tail)> {
        loop {
            let ticket = self.stirred.ticket();
            let mut course = self.course();
            if let Some(&asked) = course.asked.front() {
                return course.tail.take().map(|tail| (asked, tail));
            }
            if course.is_over {
                return None;
            }
            drop(course);
            self.stirred.sleep(ticket, None);
        }
    }

    /// Where the recording ends that is written, if that is known.
    pub(super) fn end_of_first(&self) -> Option<End> {
        self.course().asked.front().and_then(|asked| asked.end)
    }

    /// All of the first is written. What comes behind it is overwritten again, unless the next one has
    /// been asked for: that goes on right here.
    pub(super) fn written(&self, mut tail: Tail) {
        let mut course = self.course();
        let end = course.asked.pop_front().and_then(|asked| asked.end);
        match (course.asked.front_mut(), end) {
            (Some(next), Some(end)) => next.lost = end.lost,
            _ => tail.let_go(),
        }
        course.tail = Some(tail);
    }

    /// One is closed, and has met these errors.
    pub(super) fn closed(&self, summary: S, errors: &[Error]) {
        let mut course = self.course();
        course.last = Some(summary);
        if errors.is_empty() {
            course.unclosed = course.unclosed.saturating_sub(1); // else they are told first
        }
        drop(course);
        self.counters.closed.add(1);
        self.changed.announce();
    }

    /// Nothing goes on any more.
    pub(super) fn fail(&self, errors: Vec<Error>) {
        let Some(first) = errors.first().cloned() else { return };
        let mut course = self.course();
        course.errors = errors;
        course.asked.clear();
        course.unclosed = 0;
        let _ = self.failure.set(first); // under the lock: nobody asks for a recording behind it
        drop(course);
        self.changed.announce();
    }
}

impl<S> Shared<S> {
    fn stats(&self) -> Stats {
        let counters = &self.counters;
        Stats {
            bytes: self.ring.accepted(),
            recordings: counters.closed.get(),
            overruns: counters.overruns.get(),
            overrun_bytes: counters.lost.get(),
            high_water: counters.high_water.get(),
        }
    }

    fn summary(&self, course: &Course<S>) -> Summary<S>
    where
        S: Clone,
    {
        Summary { stats: self.stats(), last: course.last.clone() }
    }

    /// `None` when the deadline has passed.
    pub(super) fn wait_for_the_end(
        &self,
        by: Option<Instant>,
    ) -> Result<Option<Summary<S>>, CloseError<S>>
    where
        S: Clone,
    {
        loop {
            let ticket = self.changed.ticket();
            let course = self.course();
            if !course.errors.is_empty() {
                let summary = Box::new(self.summary(&course));
                return Err(CloseError { errors: course.errors.clone(), summary });
            }
            if course.unclosed == 0 {
                return Ok(Some(self.summary(&course)));
            }
            drop(course);
            if by.is_some_and(|by| Instant::now() >= by) {
                return Ok(None);
            }
            self.changed.sleep(ticket, by);
        }
    }

    /// A close that can't wait.
    pub(super) fn not_closed(&self, error: Error) -> CloseError<S> {
        let summary = Box::new(Summary { stats: self.stats(), last: None });
        CloseError { errors: vec![error], summary }
    }
}

impl<S> fmt::Debug for Shared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, _) = self.ring.kept();
        f.debug_struct("Preroll")
            .field("accepted", &self.ring.accepted())
            .field("kept", &bytes)
            .field("failure", &self.failure.get())
            .finish_non_exhaustive()
    }
}

/// What is kept at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// Bytes of the records.
    pub bytes: u64,
    /// When the oldest of them came; the present, or the start, where there is none.
    pub since: SystemTime,
}

/// What a pre-roll has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes that were taken.
    pub bytes: u64,
    /// Recordings that are closed.
    pub recordings: u64,
    /// Times that bytes were lost, because the disk did not keep up with a recording.
    pub overruns: u64,
    /// Bytes lost that way, or [by the source](super::Writer::lose).
    pub overrun_bytes: u64,
    /// The most bytes of memory that were in use in a recording, as seen by the keeper.
    pub high_water: u64,
}

/// What a pre-roll has done, from its close.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Summary<S> {
    /// Counters.
    pub stats: Stats,
    /// What the close of the last recording has told; `None` where there was none.
    pub last: Option<S>,
}

/// An end that is not a good one: every error, and what is true all the same.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CloseError<S> {
    /// The errors, the one that came first at the front; never empty.
    pub errors: Vec<Error>,
    /// What was done. Its `last` is of the recording that failed, if that has a file.
    pub summary: Box<Summary<S>>,
}

impl<S> fmt::Display for CloseError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.errors.iter().enumerate() {
            let before = if number > 0 { "; " } else { "" };
            write!(f, "{before}{error}")?;
        }
        Ok(())
    }
}

impl<S: fmt::Debug> std::error::Error for CloseError<S> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.errors.first().map(|error| error as _)
    }
}

/// The error that came first.
impl<S> From<CloseError<S>> for Error {
    fn from(error: CloseError<S>) -> Self {
        error.errors.into_iter().next().unwrap_or(Error::Closed)
    }
}

/// Everything about a pre-roll but pushing: cheap to clone, for any thread but one with a deadline. Its
/// calls take a lock for a moment, which no push takes, and may make system calls; where one waits for a
/// disk it says so.
pub struct Control<S = crate::Summary> {
    pub(super) shared: Arc<Shared<S>>,
}

impl<S> Clone for Control<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<S> fmt::Debug for Control<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shared, f)
    }
}

impl<S> UnwindSafe for Control<S> {}
impl<S> RefUnwindSafe for Control<S> {}

impl<S> Control<S> {
    /// Begins a recording in the past: nothing that is kept now is overwritten any more, and the keeper
    /// opens the file, and writes it there, with all that comes from now on. Does not wait for that.
    /// `false`: a recording goes on, and nothing changes.
    ///
    /// Behind a [`stop`](Self::stop) whose recording is still being written, the new one begins where that
    /// ends; no byte is in both.
    ///
    /// # Errors
    /// The error that ended the pre-roll; [`Error::Closed`]; [`Error::Forked`].
    pub fn trigger(&self) -> Result<bool, Error> {
        self.shared.trigger()
    }

    /// Ends the recording behind what was taken so far. What comes next is kept, and overwritten, as
    /// before the trigger. Does not wait for the recording's close: for that there is
    /// [`wait_for_the_end`](Self::wait_for_the_end). `false`: no recording goes on.
    ///
    /// # Errors
    /// As [`trigger`](Self::trigger).
    pub fn stop(&self) -> Result<bool, Error> {
        self.shared.stop()
    }

    /// What a trigger would begin with now; in a recording what has still to be written. Takes no lock.
    pub fn kept(&self) -> Kept {
        let (bytes, since) = self.shared.ring.kept();
        Kept { bytes, since: moment(since) }
    }

    /// A snapshot of the counters. Takes no lock.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The error that has ended the pre-roll, if one did.
    pub fn error(&self) -> Option<Error> {
        self.shared.failure.get().cloned()
    }

    /// Waits until no recording goes on and all are closed, for `limit` at most; `None` if one is not by
    /// then. Blocks: for the disk, and for somebody to [`stop`](Self::stop) it.
    ///
    /// # Errors
    /// Every error that has ended the pre-roll.
    pub fn wait_for_the_end(&self, limit: Duration) -> Result<Option<Summary<S>>, CloseError<S>>
    where
        S: Clone,
    {
        self.shared.may_wait().map_err(|error| self.shared.not_closed(error))?;
        self.shared.wait_for_the_end(Instant::now().checked_add(limit))
    }
}

pub(super) fn moment(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}
