//! Who makes the next segment, closes the last one, and removes the oldest: all that the producer does
//! not wait for. A state machine that is turned, by a thread of its own or by a test.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::control::{CloseError, Last, Open, Shared, asks, named};
use super::hooks::{Closed, Event, Hooks, Tail};
use super::ledger::{Live, Segment};
use super::pattern::Pattern;
use super::retention::{Kept, Limits, making_room};
use crate::canary::Canary;
use crate::error::{Error, Operation, lacks_space};
use crate::file::{Folder, Original};
use crate::frames::Book;
use crate::options::{DiskFull, Options, Preallocate};
use crate::sync::{Instant, ignore_poison};

/// What a recording found in its folder when it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// Segments of the pattern that were there.
    pub segments: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// The last of them, if it bears the mark of a writer that has not closed it: it may end in padding,
    /// or in space ahead. It stays as it is. (Only files with padding or space ahead are marked.)
    pub unclosed: Option<PathBuf>,
    /// The number of the first segment of this recording.
    pub first_sequence: u64,
}

/// What to do when the disk has less free space than it has to have; looked at ten times a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Floor {
    /// The recording stops: every push answers [`Error::SpaceFloor`]. What was accepted is not lost.
    #[default]
    Stop,
    /// The oldest segments go, as many as it takes; when there are none left, as `Stop`.
    DeleteOldest,
    /// Nothing is taken until there is more: [`OnFull`](crate::OnFull) says what a write does meanwhile.
    Wait,
}

/// When a recording is cut by time, and what is kept of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rules {
    pub(super) every: Option<Duration>,
    pub(super) limits: Limits,
    pub(super) floor: Option<(u64, Floor)>,
    /// What has to go becomes the next segment.
    pub(super) recycle: bool,
}

/// A segment that is closed: of this recording, or one that was found.
#[derive(Clone, Debug)]
pub(super) struct KeptFile {
    pub(super) name: String,
    pub(super) original: Original,
    pub(super) kept: Kept,
    /// Somebody else may be writing it.
    pub(super) was_found: bool,
}

#[derive(Debug)]
pub(crate) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) folder: Box<dyn Folder>,
    /// As errors and segments name it.
    pub(super) path: PathBuf,
    pub(super) pattern: Pattern,
    /// Of each segment.
    pub(super) below: Options,
    pub(super) rules: Rules,
    pub(super) hooks: Hooks,
    pub(super) next_sequence: u64,
    /// Closed, the oldest first.
    pub(super) kept: VecDeque<KeptFile>,
    /// Older than those, and not to be kept: the next segment's file, unless it goes before.
    spare: Option<KeptFile>,
    /// To be closed, the oldest first.
    closing: VecDeque<Open>,
    /// The producer has the next segment, or can have it.
    has_next: bool,
    /// When the current segment began.
    since: Instant,
    retry: Retry,
    space_looked_at: Option<Instant>,
    /// Since the last change of what is kept.
    surplus_looked_at: Option<Instant>,
    errors: Vec<Error>,
}

/// When to try again what has failed.
#[derive(Debug, Default)]
struct Retry {
    at: Option<Instant>,
    pause: Duration,
}

impl Retry {
    /// Whether it is the first failure in a row.
    fn failed(&mut self, now: Instant) -> bool {
        const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
        let is_first = self.pause.is_zero();
        self.pause = (self.pause * 2).clamp(PAUSES.0, PAUSES.1);
        self.at = Some(now + self.pause);
        is_first
    }

    fn is_due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| at <= now)
    }
}

/// What becomes of a keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is more to do at once.
    Again,
    /// Nothing until somebody asks, or until then.
    Rest(Option<Instant>),
    /// The recording has ended.
    Over,
}

impl Keeper {
    #[expect(clippy::too_many_arguments, reason = "its parts, each of another kind")]
    pub(super) fn new(
        shared: Arc<Shared>,
        folder: Box<dyn Folder>,
        path: PathBuf,
        pattern: Pattern,
        below: Options,
        rules: Rules,
        hooks: Hooks,
        kept: VecDeque<KeptFile>,
    ) -> Self {
        Self {
            next_sequence: shared.found.first_sequence,
            shared,
            folder,
            path,
            pattern,
            below,
            rules,
            hooks,
            kept,
            spare: None,
            closing: VecDeque::new(),
            has_next: false,
            since: Instant::now(),
            retry: Retry::default(),
            space_looked_at: None,
            surplus_looked_at: None,
            errors: Vec::new(),
        }
    }

    /// Until the recording has ended.
    pub(super) fn run(mut self) {
        loop {
            let ticket = self.shared.stirred.ticket();
            let turned = catch_unwind(AssertUnwindSafe(|| self.turn(Instant::now())));
            match turned.unwrap_or_else(|_| self.panicked()) {
                Turn::Again => {}
                Turn::Rest(until) => self.shared.stirred.sleep(ticket, until),
                Turn::Over => return,
            }
        }
    }

    /// Does one thing that blocks, at most: first what the producer may need soon.
    pub(crate) fn turn(&mut self, now: Instant) -> Turn {
        // First: what the producer handed over before it said so is there then.
        let is_ending = self.shared.asks() & asks::END != 0;
        self.take_old(now);
        if !is_ending {
            self.watch_space(now);
            self.provide_next(now);
            self.call_time(now);
        }
        // However far behind it is: what goes makes room for what comes.
        if self.remove_surplus(now, !is_ending) {
            return Turn::Again;
        }
        match self.closing.front() {
            Some(open) if !is_ending && self.lacks_space(open) => return Turn::Again,
            Some(_) => {
                let open = self.closing.pop_front();
                open.into_iter().for_each(|open| self.close(open));
                return Turn::Again;
            }
            None => {}
        }
        if is_ending {
            self.end(now);
            return Turn::Over;
        }
        Turn::Rest(self.next_look(now))
    }

    /// A hook has panicked: the recording fails, and still ends.
    fn panicked(&mut self) -> Turn {
        let sentence = "a hook of the recording panicked on the keeper's thread";
        let path: Arc<Path> = self.path.as_path().into();
        self.failed(Error::io(Operation::Close, &path, io::Error::other(sentence)));
        if self.shared.asks() & asks::END == 0 || ignore_poison(self.shared.last.lock()).is_some() {
            return Turn::Again;
        }
        self.tell_the_end();
        Turn::Over
    }

    fn take_old(&mut self, now: Instant) {
        if let Some(old) = self.shared.old.take() {
            drop(old.writer.fence()); // beside the making of the next one, not behind it
            self.closing.push_back(*old);
            self.has_next = false;
            self.since = now;
        }
    }

    // ---- the next segment -------------------------------------------------------------------------

    fn provide_next(&mut self, now: Instant) {
        let has_failed = self.shared.asks() & asks::FAIL != 0;
        let is_behind = self.closing.len() >= MOST_CLOSING;
        if self.has_next || has_failed || is_behind || !self.retry.is_due(now) {
            return;
        }
        if !self.has_room_for_next() {
            return;
        }
        match self.make() {
            Ok(open) => {
                self.retry = Retry::default();
                self.has_next = true;
                self.shared.next.store(Some(Box::new(open)));
                self.shared.changed.announce(); // for a source that waits for it
            }
            Err(error) => {
                if self.retry.failed(now) {
                    (self.hooks.event)(Event::NotReady(error));
                }
            }
        }
    }

    /// A reservation must not go below the floor.
    fn has_room_for_next(&self) -> bool {
        let Some((floor, _)) = self.rules.floor else { return true };
        let space = self.folder.space();
        space.map_or(true, |space| space.free >= floor.saturating_add(self.ahead()))
    }

    /// Bytes that the next segment takes before it begins.
    fn ahead(&self) -> u64 {
        if self.spare.is_some() { 0 } else { self.below.preallocate.kept(0) }
    }

    /// Makes a segment: named durably, with its head, which is durable as well.
    pub(super) fn make(&mut self) -> Result<Open, Error> {
        const TRIES: u32 = 1000; // others may take numbers, too
        for _ in 0..TRIES {
            let segment = self.next_segment()?;
            if let Some(open) = self.recycle(&segment) {
                return Ok(open);
            }
            let writer = match self.below.create_new(&segment.path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                opened => opened?,
            };
            let begins = self.hooks.begin(&segment, false);
            return self.begin(segment, writer, begins);
        }
        let path: Arc<Path> = self.path.as_path().into();
        let sentence = "others take every number in this folder";
        let taken = io::Error::new(io::ErrorKind::AlreadyExists, sentence);
        Err(Error::io(Operation::Open, &path, taken))
    }

    fn next_segment(&mut self) -> Result<Segment, Error> {
        let sequence = self.next_sequence;
        let name = self.pattern.name(sequence, SystemTime::now());
        self.next_sequence = sequence.checked_add(1).ok_or_else(numbers_end)?;
        Ok(Segment { sequence, path: named(&self.path, &name) })
    }

    /// With its head, which is durable.
    fn begin(
        &mut self,
        segment: Segment,
        mut writer: crate::Writer,
        (head, book): (Vec<u8>, Option<Box<Book>>),
    ) -> Result<Open, Error> {
        let begun = if head.is_empty() { Ok(0) } else { writer.write_flush(&head) };
        let found = self.folder.look(&name_of(&segment)).ok().flatten();
        let original = found.map(|found| found.original);
        let live = Arc::new(Live::new(segment, writer.control().clone(), original));
        self.shared.ledger.add(live.clone());
        let open = Open { writer, live, book };
        match begun {
            Ok(_) => Ok(open),
            Err(error) => {
                self.discard(open);
                Err(error)
            }
        }
    }

    /// Makes a segment of one that is not to be kept. `None`: there is none, or it can't serve, and has gone
    /// as usual.
    ///
    /// First the new head, durably, then the new name: a file with that name and the old head would be
    /// taken for the end of the recording.
    fn recycle(&mut self, segment: &Segment) -> Option<Open> {
        let spare = self.spare.take()?;
        let (begins, name) = (self.hooks.begin(segment, true), name_of(segment));
        let recycled = self.folder.recycle(&spare.name, &spare.original, &begins.0, &name);
        if recycled.is_err() {
            self.kept.push_front(spare);
            self.remove_oldest(1);
            return None;
        }
        let opened = self.below.recycle(&segment.path); // makes the name durable
        let begun = opened.and_then(|writer| self.begin(segment.clone(), writer, begins));
        if begun.is_err() {
            let unused = KeptFile { name, ..spare.clone() };
            let _ = self.remove(&unused).and_then(|_| self.sync()); // nothing is in it
        }
        self.shared.counters.recycled.add(begun.is_ok().into());
        self.was_removed(&spare);
        begun.ok()
    }

    fn call_time(&mut self, now: Instant) {
        let Some(every) = self.rules.every else { return };
        if now.saturating_duration_since(self.since) < every {
            return;
        }
        let is_empty = |live: Arc<Live>| live.control.positions().accepted == live.head;
        match self.shared.ledger.current().is_none_or(is_empty) {
            true => self.since = now, // its time begins with its data
            false => self.shared.ask(asks::ROTATE),
        }
    }

    // ---- the last segment -------------------------------------------------------------------------

    /// A close waits for no space. So that a full disk ends no recording that would wait, its data comes
    /// first, and between two looks the keeper may make room.
    fn lacks_space(&self, open: &Open) -> bool {
        const LONG: Duration = Duration::from_millis(50);
        self.below.on_disk_full == DiskFull::Wait
            && matches!(open.writer.control().flush_timeout(LONG), Ok(None))
    }

    /// Its tail, then all of it durable; then it is handed on.
    fn close(&mut self, open: Open) {
        let Open { mut writer, live, mut book } = open;
        let closed = {
            let _header = ignore_poison(live.header.lock());
            let mut tail = Tail::new(&mut writer, &live, self.shared.cut);
            let tail = self.hooks.end(&mut tail, book.as_deref_mut());
            let closed = writer.close();
            if let (Ok(_), Err(error)) = (&closed, tail) {
                self.failed(error); // of the hook's own: the data is all there
            }
            closed
        };
        let summary = match closed {
            Ok(summary) => summary,
            Err(failed) => {
                let lacked = failed.errors.first().is_some_and(is_lack_of_space);
                failed.errors.into_iter().for_each(|error| self.failed(error));
                if let Some(len) = failed.summary.file_len.filter(|_| lacked) {
                    self.cut_to_whole_frames(&live, len);
                }
                return;
            }
        };
        self.shared.ledger.settle(&live);
        self.shared.counters.closed.add(1);
        self.keep(&live, summary.file_len.unwrap_or(0));
        let frames = book.map(|book| book.framed());
        (self.hooks.event)(Event::Closed(Box::new(Closed::new(&live, frames, summary))));
    }

    fn keep(&mut self, live: &Live, bytes: u64) {
        let Some(original) = live.original else { return }; // its name was another's before
        self.surplus_looked_at = None;
        self.kept.push_back(KeptFile {
            name: name_of(&live.segment),
            original,
            kept: Kept { sequence: live.segment.sequence, bytes, ended: live.ended() },
            was_found: false,
        });
    }

    /// The disk was full: half a frame goes, and half a tail. The file is `len` bytes long.
    fn cut_to_whole_frames(&mut self, live: &Live, len: u64) {
        let (found, all) = (live.data_in(len), live.data_in(u64::MAX));
        let data = if found == all { all } else { self.shared.cut.whole(found) };
        let whole = live.head + data;
        if whole >= len || Canary::HalfFrame.is_planted() || !self.is_original(live) {
            return;
        }
        let below = self.below.clone().preallocate(Preallocate::None);
        let cut = below.append_at(&live.segment.path, whole);
        if let Err(error) = cut.and_then(|writer| writer.close().map_err(Error::from)) {
            self.failed(error);
        }
    }

    fn is_original(&self, live: &Live) -> bool {
        let found = self.folder.look(&name_of(&live.segment)).ok().flatten();
        found.map(|found| found.original) == live.original && live.original.is_some()
    }

    fn failed(&mut self, error: Error) {
        self.shared.fail(error.clone());
        self.errors.push(error);
    }

    // ---- what goes --------------------------------------------------------------------------------

    /// Whether there was any. `goes_on`: the next segment may be made of the last of it.
    fn remove_surplus(&mut self, now: Instant, goes_on: bool) -> bool {
        let (has_age, needed) = (self.rules.limits.age.is_some(), self.shared.needed());
        if std::mem::replace(&mut self.rules.limits.needed, needed) != needed {
            self.surplus_looked_at = None;
        }
        if self.surplus_looked_at.is_some_and(|at| !has_age || now < at + AGES) {
            return false;
        }
        self.surplus_looked_at = Some(now);
        let kept = self.kept.iter().map(|it| it.kept);
        let surplus = self.rules.limits.surplus(kept, SystemTime::now());
        if surplus == 0 {
            return false;
        }
        let surplus = surplus + self.take_spare_back();
        let is_own = self.kept.get(surplus - 1).is_some_and(|it| !it.was_found);
        if self.rules.recycle && goes_on && is_own {
            self.remove_oldest(surplus - 1);
            self.spare = self.kept.pop_front();
        } else {
            self.remove_oldest(surplus);
        }
        true
    }

    /// How many there were.
    fn take_spare_back(&mut self) -> usize {
        let spare = self.spare.take();
        let count = usize::from(spare.is_some());
        spare.into_iter().for_each(|spare| self.kept.push_front(spare));
        count
    }

    /// Durably, before anybody is told. What can't be removed is told, and left alone from then on.
    fn remove_oldest(&mut self, count: usize) {
        let oldest: Vec<KeptFile> = self.kept.drain(..count).collect();
        let mut removed = Vec::new();
        for it in oldest {
            match self.remove(&it) {
                Ok(true) => removed.push(it),
                Ok(false) => {} // somebody else has
                Err(error) => (self.hooks.event)(Event::NotRemoved(error)),
            }
        }
        if removed.is_empty() {
            return;
        }
        let synced = match Canary::RemovalUnsynced.is_planted() {
            true => Ok(()),
            false => self.sync(),
        };
        match synced {
            Ok(()) => removed.iter().for_each(|it| self.was_removed(it)),
            Err(error) => (self.hooks.event)(Event::NotRemoved(error)),
        }
    }

    fn sync(&self) -> Result<(), Error> {
        let path: Arc<Path> = self.path.as_path().into();
        self.folder.sync().map_err(|error| Error::io(Operation::SyncDirectory, &path, error))
    }

    /// Durably: it is told.
    fn was_removed(&mut self, it: &KeptFile) {
        self.shared.counters.removed.add(1);
        self.shared.counters.removed_bytes.add(it.kept.bytes);
        let path = named(&self.path, &it.name);
        (self.hooks.event)(Event::Removed(Segment { sequence: it.kept.sequence, path }));
    }

    /// `false`: it is gone already.
    fn remove(&self, it: &KeptFile) -> Result<bool, Error> {
        let path = named(&self.path, &it.name);
        let fail = |error| Error::io(Operation::Remove, &path, error);
        let Some(found) = self.folder.look(&it.name).map_err(fail)? else { return Ok(false) };
        if found.original != it.original && !Canary::RemovedByName.is_planted() {
            let sentence = "another file has the name by now, and is left alone";
            return Err(fail(io::Error::new(io::ErrorKind::AlreadyExists, sentence)));
        }
        if it.was_found && self.folder.is_in_use(&it.name).map_err(fail)? {
            return Err(Error::Locked { path, waited: Duration::ZERO });
        }
        self.folder.remove(&it.name).map_err(fail).map(|()| true)
    }

    // ---- the floor --------------------------------------------------------------------------------

    fn watch_space(&mut self, now: Instant) {
        let Some((floor, policy)) = self.rules.floor else { return };
        if self.space_looked_at.is_some_and(|at| now < at + LOOK) {
            return;
        }
        self.space_looked_at = Some(now);
        let Ok(mut space) = self.folder.space() else { return }; // whoever writes hears what is wrong
        if space.free < floor && self.take_spare_back() > 0 {
            self.remove_oldest(1);
            self.folder.reclaim();
            space = self.folder.space().unwrap_or(space);
        }
        match policy {
            Floor::Stop if space.free < floor => self.stop(space.free, floor),
            Floor::Stop => {}
            Floor::DeleteOldest => self.make_room(space.free, floor),
            Floor::Wait if space.free < floor => self.shared.ask(asks::PAUSE),
            Floor::Wait => {
                if self.shared.ask_no_more(asks::PAUSE) & asks::PAUSE != 0 {
                    self.shared.changed.announce();
                }
            }
        }
    }

    /// Nothing is lost: it is no failure of the close.
    fn stop(&self, free: u64, floor: u64) {
        self.shared.fail(Error::SpaceFloor { path: self.path.as_path().into(), free, floor });
    }

    /// Also for what the next segment takes ahead.
    fn make_room(&mut self, free: u64, floor: u64) {
        let ahead = if self.has_next { 0 } else { self.ahead() };
        let missing = floor.saturating_add(ahead).saturating_sub(free);
        if missing == 0 {
            return;
        }
        match making_room(self.kept.iter().map(|it| it.kept), missing) {
            0 if free < floor => self.stop(free, floor),
            0 => {}
            count => {
                self.remove_oldest(count);
                self.folder.reclaim();
            }
        }
    }

    // ---- the end ----------------------------------------------------------------------------------

    fn end(&mut self, now: Instant) {
        let last = ignore_poison(self.shared.last.lock()).take();
        if let Some(Last { mut current, spare }) = last {
            current.writer.repay_all();
            let begins = current.live.begins().unwrap_or(0);
            let data = current.writer.accepted().saturating_sub(current.live.head);
            current.live.end(begins.saturating_add(data), SystemTime::now());
            let is_only = self.shared.counters.rotations.get() == 0;
            match data == 0 && !is_only && current.writer.error().is_none() {
                true => self.discard(current),
                false => self.close(current),
            }
            let unused = spare.or_else(|| self.shared.next.take());
            unused.into_iter().for_each(|open| self.discard(*open));
        }
        if self.take_spare_back() > 0 {
            self.surplus_looked_at = None;
        }
        self.remove_surplus(now, false);
        self.tell_the_end();
    }

    /// A segment without data: its number is used up.
    fn discard(&mut self, open: Open) {
        let Open { writer, live, .. } = open;
        let is_original = self.is_original(&live);
        drop(writer); // whatever is wrong with it, nothing is lost
        self.shared.ledger.settle(&live);
        if is_original && self.folder.remove(&name_of(&live.segment)).is_ok() {
            self.errors.extend(self.sync().err());
        }
    }

    fn tell_the_end(&mut self) {
        let summary = self.shared.summary();
        let errors = std::mem::take(&mut self.errors);
        let outcome = match errors.is_empty() {
            true => Ok(summary),
            false => Err(CloseError { errors, summary: Box::new(summary) }),
        };
        self.shared.fail(Error::Closed); // for whoever still asks
        *ignore_poison(self.shared.outcome.lock()) = Some(outcome);
        self.shared.changed.announce();
    }

    fn next_look(&self, now: Instant) -> Option<Instant> {
        let is_asked = self.shared.asks() & asks::ROTATE != 0;
        let every = self.rules.every.filter(|_| !is_asked); // the producer is next
        let time = every.map(|every| (self.since + every).max(now + SOON));
        let space = self.rules.floor.and(self.space_looked_at).map(|at| at + LOOK);
        let age = self.rules.limits.age.map(|_| now + AGES);
        let retry = self.retry.at.filter(|_| !self.has_next).map(|at| at.max(now + SOON));
        let own = (!self.shared.wakes).then(|| now + SOON);
        [time, space, age, retry, own].into_iter().flatten().min()
    }
}

/// Segments that may wait to be closed before no other is begun. Each has its buffers, its descriptor and
/// its space on the disk, and a disk that is full or slow would let them pile up for ever.
const MOST_CLOSING: usize = 4;
/// Segments that are open at a time: those, the one that is written, and the one that is ready.
pub(crate) const MOST_OPEN: usize = MOST_CLOSING + 2;
/// How often the free space is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often ages are.
const AGES: Duration = Duration::from_secs(1);
/// How often a keeper looks that nobody wakes.
const SOON: Duration = Duration::from_millis(1);

fn name_of(segment: &Segment) -> String {
    let name = segment.path.file_name().unwrap_or_default(); // made from a pattern: it has one
    name.to_string_lossy().into_owned()
}

fn is_lack_of_space(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if lacks_space(source))
}

fn numbers_end() -> Error {
    Error::Options("the numbers of the segments are at their end: record to another folder".into())
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::segments::Options;

    fn turn_until_rest(keeper: &mut Keeper) {
        while keeper.turn(Instant::now()) == Turn::Again {}
    }

    #[test]
    fn the_memory_of_a_closed_segment_serves_the_next_one_made() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, mut keeper) = Options::new(folder.path().join("{seq}")).begin().unwrap();
        let pool = keeper.below.pool.clone().unwrap();
        let mut seen = Vec::new();
        for _ in 0..5 {
            let _ = writer.write(b"a record").unwrap();
            turn_until_rest(&mut keeper);
            let rotated = writer.rotate().unwrap();
            turn_until_rest(&mut keeper);
            let by = Instant::now() + Duration::from_secs(2);
            while pool.idle() == 0 && Instant::now() < by {
                std::thread::yield_now(); // the driver lets go of its handle soon
            }
            seen.push((rotated, pool.idle()));
        }
        // The end first: a writer that is dropped waits for its keeper.
        writer.end().unwrap();
        turn_until_rest(&mut keeper);
        assert_eq!(seen, [(true, 1); 5], "one goes round");
    }
}
