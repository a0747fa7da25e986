//! From sealed buffers to completed fences.
//!
//! ```text
//!   stream (positions, requests) ──▶ lane ──asks──▶ plan (pure)
//!                                     │
//!                                     └─submits──▶ backend ──completions──▶ lane ──publishes──▶ stream
//! ```
//!
//! An [`Engine`] is a state machine over one backend and any number of lanes, one a file. It knows
//! nothing of threads: [`run`] says who turns it, [`own_thread`] how a thread does.

mod ahead;
mod cadence;
mod checksum;
mod company;
mod inline;
mod lane;
mod lane_set;
mod length;
mod outcome;
mod own_thread;
mod plan;
mod put_off;
pub(crate) mod run;
pub(crate) mod shared;
pub(crate) mod thread;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Completion, Io, Wake};
use crate::canary::{Canary, Slip};
use crate::error::Operation;
use crate::stream::{Doorbell, Stream};
use crate::sync::{Instant, Mutex, Ordering, fence, ignore_poison};

pub(crate) use cadence::Every;
use inline::{Answers, Basket, Commit};
pub(crate) use lane::{Around, Lane, LaneToken};
use lane_set::LaneSet;
pub(crate) use plan::{Forms, Geometry, Plan};
use run::CloseLater;
use thread::spawn;

/// What a lane may have in flight beside its data: a flush, a patch, zeros, and a linked pair's second
/// half.
pub(crate) const BESIDE_WRITES: usize = 4;

/// After so many rounds a turn ends though there is more to do: whoever turns has a time limit to
/// keep, other files to let in, a periodic fence to ask for, or came only to look.
const ROUNDS: usize = 16;

/// The most files that a driver can serve.
pub(crate) const FILES: usize = 4096;

#[derive(Debug)]
pub(crate) struct Engine {
    io: Box<dyn Io>,
    doorbell: Arc<Doorbell>,
    /// At most.
    files: usize,
    /// By their place, which their tokens name.
    lanes: Vec<Option<Served>>,
    /// Those that may have something to do: they were asked for it, or something of theirs has
    /// ended, or couldn't begin yet.
    active: LaneSet,
    /// Those with an operation under way in the backend.
    in_backend: LaneSet,
    /// Those whose waiters have not been told of the last changes.
    untold: LaneSet,
    /// Those whose times in `due` may be old.
    stale: LaneSet,
    due: Vec<Due>,
    /// How long the last fence took, from its start to its end.
    last_fence: Duration,
    /// Whose turn it is to be first.
    first: usize,
    /// What comes by time comes to all files together, counted from here.
    began: Instant,
    /// Lanes that want to leave.
    leaving: usize,
    streams: Arc<Streams>,
    /// What waiters have carried out themselves.
    answers: Arc<Answers>,
    /// Its thread sleeps without it, and wakes by itself at that time; `None`: never.
    wakes_at: Option<Instant>,
}

/// When a lane has to be seen to though nothing happens; `None`: never.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    look: Option<Instant>,
    cut: Option<Instant>,
}

/// A lane, and what its driver knows of it.
#[derive(Debug)]
struct Served {
    lane: Lane,
    /// Operations in flight that a waiter carries out.
    lent: usize,
    leaves: Option<Leaves>,
}

/// How a lane leaves.
pub(crate) enum Leaves {
    /// Whoever waits for it is told, on the thread that drives.
    Told(Box<dyn FnOnce() + Send>),
    /// Once all is durable; the rest of its close is for another thread.
    Closes(CloseLater),
}

impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Told(_) => "told",
            Self::Closes(_) => "closes",
        })
    }
}

impl Leaves {
    /// Whether nothing that was asked for is missing.
    fn is_due(&self, stream: &Stream) -> bool {
        match self {
            Self::Told(_) => stream.is_content(),
            Self::Closes(close) => close.is_due(stream),
        }
    }

    /// The file has been let go.
    fn carry_out(self) {
        match self {
            Self::Told(gone) => gone(),
            // It waits for the disk: the others' driver must not.
            Self::Closes(close) => {
                let finish = Arc::new(Mutex::new(Some(close.finish)));
                let taken = finish.clone();
                let work = move || {
                    let finish = ignore_poison(taken.lock()).take();
                    finish.into_iter().for_each(|finish| finish());
                };
                if spawn("writeflush-close", work).is_err() {
                    let finish = ignore_poison(finish.lock()).take();
                    finish.into_iter().for_each(|finish| finish());
                }
            }
        }
    }
}

impl Served {
    /// Whether an operation of it is under way in the backend.
    fn is_in_backend(&self) -> bool {
        self.lent == 0 && self.lane.in_flight()
    }

    /// Whether it may go: nobody waits for anything that can still come, and nothing is in flight.
    fn may_leave(&self) -> bool {
        let stream = self.lane.stream();
        let is_due = self.leaves.as_ref().is_some_and(|leaves| leaves.is_due(stream));
        (is_due || self.leaves.is_some() && stream.is_lost()) && !self.lane.in_flight()
    }
}

/// The streams of a driver, for whoever has to tell them that it is gone.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<Vec<Arc<Stream>>>);

impl Streams {
    pub(crate) fn is_empty(&self) -> bool {
        ignore_poison(self.0.lock()).is_empty()
    }

    pub(crate) fn each(&self, what: impl Fn(&Stream)) {
        ignore_poison(self.0.lock()).iter().for_each(|stream| what(stream));
    }

    pub(crate) fn fail_all(&self, why: impl Fn(&Stream) -> crate::error::Error) {
        self.each(|stream| stream.fail(why(stream)));
    }
}

impl Engine {
    /// For so many files at most.
    pub(crate) fn new(io: Box<dyn Io>, files: usize) -> Self {
        let began = io.now();
        Self {
            doorbell: Arc::new(Doorbell::new(io.waker(), files)),
            io,
            files,
            lanes: Vec::with_capacity(1),
            active: LaneSet::new(files),
            in_backend: LaneSet::new(files),
            untold: LaneSet::new(files),
            stale: LaneSet::new(files),
            due: Vec::with_capacity(1),
            last_fence: Duration::ZERO,
            first: 0,
            began,
            leaving: 0,
            streams: Arc::default(),
            answers: Arc::new(Answers::new()),
            wakes_at: None,
        }
    }

    pub(crate) fn doorbell(&self) -> &Arc<Doorbell> {
        &self.doorbell
    }

    pub(crate) fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    // ---- who is served ----------------------------------------------------------------------------

    /// Whether there is no place for one more file.
    pub(crate) fn is_full(&self) -> bool {
        self.lanes.len() == self.files && self.lanes.iter().all(Option::is_some)
    }

    /// Takes on a file, if it is not [full](Self::is_full): `lane` makes its lane for the place that it
    /// gets, which is returned.
    pub(crate) fn join<E>(
        &mut self,
        lane: impl FnOnce(&mut dyn Io, usize, &Arc<Doorbell>) -> Result<Lane, E>,
    ) -> Result<usize, E> {
        let free = self.lanes.iter().position(Option::is_none);
        let place = free.unwrap_or(self.lanes.len());
        let mut lane = lane(&mut *self.io, place, &self.doorbell)?;
        lane.in_step_with(self.began);
        ignore_poison(self.streams.0.lock()).push(lane.stream().clone());
        self.answers.reserve(self.lanes.len() + 1);
        let served = Some(Served { lane, lent: 0, leaves: None });
        match free {
            Some(place) => self.lanes[place] = served,
            None => {
                self.lanes.push(served);
                self.due.push(Due::default());
            }
        }
        self.visit(place);
        self.active.insert(place);
        Ok(place)
    }

    /// The file of this place is to be let go: once nothing that was asked for is missing, or its
    /// stream has failed, and nothing is in the kernel's hands.
    pub(crate) fn leave(&mut self, place: usize, leaves: Leaves) {
        if let Some(served) = &mut self.lanes[place] {
            served.leaves = Some(leaves);
            self.leaving += 1;
        }
    }

    /// Lets go of those who are to leave and may.
    pub(crate) fn let_go(&mut self) {
        if self.leaving == 0 {
            return;
        }
        for place in 0..self.lanes.len() {
            let Some(served) = self.lanes[place].take_if(|served| served.may_leave()) else {
                continue;
            };
            self.leaving -= 1;
            self.forget(place);
            self.io.detach(served.lane.file());
            let mut streams = ignore_poison(self.streams.0.lock());
            streams.retain(|stream| !Arc::ptr_eq(stream, served.lane.stream()));
            drop((streams, served.lane));
            served.leaves.into_iter().for_each(Leaves::carry_out);
        }
    }

    /// Nobody is at this place any more.
    fn forget(&mut self, place: usize) {
        for set in [&mut self.active, &mut self.in_backend, &mut self.untold, &mut self.stale] {
            set.remove(place);
        }
        self.due[place] = Due::default();
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().flatten().map(|served| &served.lane)
    }

    // ---- turning ----------------------------------------------------------------------------------

    /// Called once, by the thread that will drive.
    pub(crate) fn begin(&mut self) -> std::io::Result<()> {
        self.io.begin()
    }

    /// Reaps what has completed and starts what can start, until neither is left or for [`ROUNDS`],
    /// and hands it to the kernel; says whether there is more to do. Never sleeps (a blocking backend
    /// works here, though: one operation at a time).
    pub(crate) fn turn(&mut self) -> bool {
        let more = self.turn_until(|| false);
        self.kick();
        more
    }

    /// As [`turn`](Self::turn), but starts nothing once `done`, and leaves it to the caller to
    /// [`kick`](Self::kick): whoever waits next does so in the same system call.
    ///
    /// Where producers and device keep each other busy there is always more, so waiters are told in
    /// between. Not when it is `done`: the caller may want to know first who waits.
    pub(crate) fn turn_until(&mut self, done: impl Fn() -> bool) -> bool {
        for _ in 0..ROUNDS {
            let mut moved = self.reap();
            if done() {
                return false;
            }
            self.announce();
            moved |= self.advance();
            if !moved {
                return false;
            }
        }
        true
    }

    /// Whoever turns comes for this file: it is looked at though nobody has rung.
    pub(crate) fn ask(&mut self, place: usize) {
        self.active.insert(place);
    }

    /// Starts what can start, of each lane in turn.
    fn advance(&mut self) -> bool {
        self.doorbell.take_rung(|word, lanes| self.active.insert_word(word, lanes));
        if Canary::FlushesAnother.is_planted() {
            let first = self.lanes().next().map(Lane::file);
            let lanes = self.lanes.iter_mut().flatten();
            lanes.for_each(|served| served.lane.mix_up(first));
        }
        let (first, end) = (self.first, self.lanes.len());
        let mut moved = false;
        for (from, to) in [(first, end), (0, first)] {
            let mut at = from;
            while let Some(place) = self.active.next(&mut at).filter(|&place| place < to) {
                moved |= self.advance_lane(place);
            }
        }
        self.first = if first + 1 < end { first + 1 } else { 0 };
        moved
    }

    fn advance_lane(&mut self, place: usize) -> bool {
        let Some(served) = &mut self.lanes[place] else {
            self.active.remove(place); // who rang has left
            return false;
        };
        let moved = served.lane.advance(&mut *self.io);
        // Else nothing has changed for it until it rings, or something of it ends.
        let goes_on = moved || self.io.room() < 2 || served.lane.pauses_until().is_some();
        self.active.set(place, goes_on);
        self.visit(place);
        moved
    }

    /// Something has changed there: publishes it, and keeps the sets.
    fn visit(&mut self, place: usize) {
        let Some(served) = &mut self.lanes[place] else { return };
        if served.lane.publish() {
            self.last_fence = served.lane.last_fence();
        }
        self.in_backend.set(place, served.is_in_backend());
        self.untold.insert(place);
        self.stale.insert(place);
    }

    fn visit_active(&mut self) {
        let mut at = 0;
        while let Some(place) = self.active.next(&mut at) {
            self.visit(place);
        }
    }

    /// Hands what was started to the kernel.
    pub(crate) fn kick(&mut self) {
        if let Err(error) = self.io.kick() {
            self.fail(error);
        }
    }

    fn reap(&mut self) -> bool {
        let mut moved = self.reap_answers();
        while let Some(completion) = self.io.reap() {
            self.complete(completion);
            moved = true;
        }
        if moved {
            self.visit_active();
        }
        moved
    }

    fn reap_answers(&mut self) -> bool {
        let mut moved = false;
        while let Some(completion) = self.answers.take() {
            self.complete(completion).lent -= 1;
            moved = true;
        }
        moved
    }

    fn complete(&mut self, completion: Completion) -> &mut Served {
        let token = LaneToken::unpack(completion.token);
        self.active.insert(token.lane);
        let served = self.lanes[token.lane].as_mut();
        let served = served.expect("a lane with something in flight stays");
        served.lane.complete(token, completion.result, &mut *self.io);
        served
    }

    // ---- in the hands of whoever waits ------------------------------------------------------------

    /// The next step of the fence that is asked for at this place, if it is a small one, and nothing
    /// of it is under way: for the caller to [carry out](Commit::carry_out), and to
    /// [`bring back`](Self::bring_back).
    pub(crate) fn hand_out(&mut self, place: usize) -> Option<Commit> {
        let served = self.lanes.get_mut(place)?.as_mut()?;
        let file = served.lane.inline()?;
        let mut basket = Basket::new(&mut *self.io);
        served.lane.advance(&mut basket);
        served.lent = basket.len();
        let commit = Commit::of(&basket, file, &self.answers);
        self.visit(place);
        commit
    }

    /// What was handed out has been answered. Hears nothing else, and starts nothing: that is for
    /// the thread that owns the ring.
    pub(crate) fn bring_back(&mut self) {
        if self.reap_answers() {
            self.visit_active();
        }
    }

    /// Whether its thread, which sleeps, has to see to something before it would wake by itself.
    pub(crate) fn needs_its_thread(&mut self) -> bool {
        let sleeps_too_long =
            self.due_at().is_some_and(|due| self.wakes_at.is_none_or(|at| at > due));
        // Pairs with the fence of whoever asks for a fence and sees one in flight: its end was
        // published before this.
        fence(Ordering::SeqCst);
        sleeps_too_long || self.is_in_backend() || self.is_busy(&|| false)
    }

    /// Tells the threads that wait what has changed. Whether nobody else is left to be told: what the
    /// waker of a task does belongs on the driver's thread.
    pub(crate) fn announce_to_threads(&mut self) -> bool {
        let mut at = 0;
        while let Some(place) = self.untold.next(&mut at) {
            let served = self.lanes[place].as_mut();
            if served.is_none_or(|served| served.lane.announce_to_threads()) {
                self.untold.remove(place);
            }
        }
        self.untold.is_empty()
    }

    /// Says that its thread is about to sleep without it, and returns what it sleeps on: unless there
    /// is work, a `reason`, or a bell that only the backend hears.
    pub(crate) fn leave_for_sleep(
        &mut self,
        deadline: Option<Instant>,
        reason: impl Fn() -> bool,
    ) -> Option<Arc<dyn Wake>> {
        let waker = self.io.waker();
        if self.is_in_backend() || !waker.sleeps_apart() {
            return None;
        }
        waker.goes_apart(true);
        if self.pauses_until().is_some() || !self.falls_asleep(&reason) {
            waker.goes_apart(false);
            self.wakes_up();
            return None;
        }
        self.wakes_at = deadline;
        Some(waker)
    }

    /// Whoever drives says that he is about to sleep. Whether he may: there is nothing to do, and no
    /// `reason` not to. Looked at once the doorbell works, so that a reason followed by a doorbell is
    /// never slept through.
    fn falls_asleep(&mut self, reason: &impl Fn() -> bool) -> bool {
        let early = Slip::LateSleep.is_planted().then(|| self.is_busy(reason));
        self.doorbell.going_to_sleep();
        !early.unwrap_or_else(|| self.is_busy(reason))
    }

    pub(crate) fn wakes_up(&mut self) {
        self.doorbell.awake();
    }

    fn in_flight(&self) -> bool {
        self.lanes().any(Lane::in_flight)
    }

    fn is_in_backend(&self) -> bool {
        !self.in_backend.is_empty()
    }

    /// The lanes that may have something to do.
    fn active(&self) -> impl Iterator<Item = &Served> {
        let mut at = 0;
        let places = std::iter::from_fn(move || self.active.next(&mut at));
        places.filter_map(|place| self.lanes[place].as_ref())
    }

    /// When something that had to wait is to be tried again.
    fn pauses_until(&self) -> Option<Instant> {
        self.active().filter_map(|served| served.lane.pauses_until()).min()
    }

    /// Sleeps until a completion, a doorbell or the deadline, unless there is work to submit.
    pub(crate) fn wait(&mut self, deadline: Option<Instant>) {
        self.wait_unless(deadline, || false);
    }

    /// As [`wait`](Self::wait), unless `reason`.
    pub(crate) fn wait_unless(&mut self, deadline: Option<Instant>, reason: impl Fn() -> bool) {
        let falls_asleep = self.falls_asleep(&reason);
        let deadline = self.pauses_until().into_iter().chain(deadline).min();
        if falls_asleep && let Err(error) = self.io.wait(deadline) {
            self.fail(error);
        }
        self.wakes_up();
    }

    /// Where something has to be tried again later, sleeps until then, until a completion, or for
    /// `longest`: for whoever is going to look again at once.
    pub(crate) fn pause(&mut self, longest: Duration) {
        let waits =
            |lane: &Lane| lane.pauses_until().is_some() || lane.stream().is_waiting_for_space();
        if self.lanes().any(waits) {
            self.wait(Some(self.io.now() + longest));
        }
    }

    fn is_busy(&mut self, reason: &impl Fn() -> bool) -> bool {
        reason() || !self.answers.is_empty() || self.has_work()
    }

    fn has_work(&mut self) -> bool {
        self.doorbell.take_rung(|word, lanes| self.active.insert_word(word, lanes));
        let mut at = 0;
        while let Some(place) = self.active.next(&mut at) {
            let served = self.lanes[place].as_ref();
            if served.is_some_and(|served| served.lane.has_work(&mut *self.io)) {
                return true;
            }
        }
        // A waker may have forked on this thread: nobody would wake the child.
        let gone = self.lanes().next().is_some_and(|lane| lane.stream().is_left_behind());
        gone || self.leaving > 0 && self.lanes.iter().flatten().any(Served::may_leave)
    }

    // ---- what comes by time ------------------------------------------------------------------------

    /// By the backend's clock: a simulated computer has one of its own, so that its programs do not depend
    /// on how fast they run.
    pub(crate) fn now(&self) -> Instant {
        self.io.now()
    }

    /// When some file has to be seen to though nothing happens; `None`: never. (The checkers of
    /// interleavings know no time.)
    pub(crate) fn due_at(&mut self) -> Option<Instant> {
        self.refresh_due();
        self.due.iter().flat_map(|due| due.look.into_iter().chain(due.cut)).min()
    }

    fn refresh_due(&mut self) {
        let mut at = 0;
        while let Some(place) = self.stale.next(&mut at) {
            self.stale.remove(place);
            if let Some(served) = &mut self.lanes[place]
                && !cfg!(any(loom, shuttle))
            {
                let (look, cut) = (served.lane.looks_at(), served.lane.cut_at());
                self.due[place] = Due { look, cut };
            }
        }
    }

    /// Asks in nobody's name for what is due by now.
    pub(crate) fn look(&mut self, now: Instant) {
        self.refresh_due();
        for (place, due) in self.due.iter().enumerate() {
            if due.look.is_some_and(|at| at <= now)
                && let Some(served) = &mut self.lanes[place]
            {
                served.lane.look(now);
                self.active.insert(place);
                self.stale.insert(place);
            }
        }
    }

    /// Whether some file is fenced by time.
    pub(crate) fn fences_by_time(&self) -> bool {
        self.lanes().any(Lane::fences_by_time)
    }

    /// Cuts off the padding of every file that has been left alone until now.
    pub(crate) fn cut_padding(&mut self, now: Instant) {
        self.refresh_due();
        for (place, due) in self.due.iter().enumerate() {
            if due.cut.is_some_and(|at| at <= now)
                && let Some(served) = &mut self.lanes[place]
            {
                if served.lane.cut_at().is_some_and(|at| at <= now) {
                    served.lane.cut_padding(&mut *self.io);
                }
                self.stale.insert(place);
            }
        }
    }

    /// When the last is to look.
    #[cfg(all(test, unix, not(any(loom, shuttle))))]
    pub(crate) fn all_have_looked_at(&mut self) -> Option<Instant> {
        self.refresh_due();
        self.due.iter().filter_map(|due| due.look).max()
    }

    /// Whether no file has anything under way.
    #[cfg(all(test, unix, not(any(loom, shuttle))))]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.lanes().all(Lane::is_at_rest)
    }

    /// Waits until nothing is in the kernel's hands any more: memory and file may go then.
    pub(crate) fn settle(&mut self) {
        while self.in_flight() && !Slip::FreedEarly.is_planted() {
            self.doorbell.going_to_sleep();
            // An answer rings.
            if self.answers.is_empty() && self.io.wait(None).is_err() {
                break; // dropping the backend is the last resort
            }
            self.turn();
        }
        self.announce();
    }

    /// Completions come by themselves while the driver waits.
    pub(crate) fn is_asynchronous(&self) -> bool {
        !self.io.abilities().blocking
    }

    /// Tells waiters what has changed since the last call.
    pub(crate) fn announce(&mut self) {
        let mut at = 0;
        while let Some(place) = self.untold.next(&mut at) {
            self.untold.remove(place);
            if let Some(served) = &mut self.lanes[place] {
                served.lane.announce();
            }
        }
    }

    pub(crate) fn each_stream(&self) -> impl Iterator<Item = &Arc<Stream>> {
        self.lanes().map(Lane::stream)
    }

    /// A whole buffer waits to be written, or a patch: what should not wait for company.
    pub(crate) fn is_urgent(&self) -> bool {
        self.lanes().any(Lane::is_urgent)
    }

    /// How long the last fence took, from its start to its end.
    pub(crate) fn last_fence(&self) -> Duration {
        self.last_fence
    }

    fn fail(&mut self, error: std::io::Error) {
        let kind = error.kind();
        let mut error = Some(error);
        for lane in self.lanes() {
            let error = error.take().unwrap_or_else(|| kind.into());
            lane.stream().fail_io(Operation::Wait, error);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, unix, not(any(loom, shuttle))))]
mod tests;
