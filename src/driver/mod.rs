//! From sealed buffers to completed fences.
//!
//! ```text
//!   stream (positions, requests) ──▶ lane ──asks──▶ plan (pure)
//!                                     │
//!                                     └─submits──▶ backend ──completions──▶ lane ──publishes──▶ stream
//! ```
//!
//! A [`Driver`] is a state machine over one backend and any number of lanes, one a file. It knows
//! nothing of threads: [`run`] says who turns it.

mod cadence;
mod company;
mod inline;
mod lane;
mod length;
mod outcome;
mod plan;
mod put_off;
pub(crate) mod run;
pub(crate) mod thread;

use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Completion, Io, Wake};
use crate::canary::Slip;
use crate::error::Operation;
use crate::stream::Stream;
use crate::sync::{Instant, Ordering, fence};

pub(crate) use cadence::Every;
use inline::{Answers, Basket, Commit};
pub(crate) use lane::{Around, Lane, LaneToken};
pub(crate) use plan::{Forms, Geometry, Plan};

#[derive(Debug)]
pub(crate) struct Driver {
    io: Box<dyn Io>,
    lanes: Vec<Lane>,
    /// What waiters have carried out themselves.
    answers: Arc<Answers>,
    /// Its thread sleeps without it, and wakes by itself at that time; `None`: never.
    wakes_at: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(io: Box<dyn Io>, lanes: Vec<Lane>) -> Self {
        Self { io, lanes, answers: Arc::new(Answers::new()), wakes_at: None }
    }

    /// Called once, by the thread that will drive.
    pub(crate) fn begin(&mut self) -> std::io::Result<()> {
        self.io.begin()
    }

    /// Reaps what has completed and starts what can start, until neither is left, and hands it to
    /// the kernel. Never sleeps (a blocking backend works here, though: one operation at a time).
    pub(crate) fn turn(&mut self) {
        self.turn_until(|| false);
        self.kick();
    }

    /// As [`turn`](Self::turn), but starts nothing once `done`, and leaves it to the caller to
    /// [`kick`](Self::kick): whoever waits next does so in the same system call.
    ///
    /// Where producers and device keep each other busy this goes on and on, so waiters are told in
    /// between. Not when it is `done`: the caller may want to know first who waits.
    pub(crate) fn turn_until(&mut self, done: impl Fn() -> bool) {
        loop {
            let mut moved = self.reap();
            if done() {
                return;
            }
            self.announce();
            for lane in &mut self.lanes {
                moved |= lane.advance(&mut *self.io);
                lane.publish();
            }
            if !moved {
                return;
            }
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
            self.lanes.iter_mut().for_each(Lane::publish);
        }
        moved
    }

    fn reap_answers(&mut self) -> bool {
        let mut moved = false;
        while let Some(completion) = self.answers.take() {
            self.complete(completion);
            moved = true;
        }
        moved
    }

    fn complete(&mut self, completion: Completion) {
        let token = LaneToken::unpack(completion.token);
        self.lanes[token.lane].complete(token, completion.result, &mut *self.io);
    }

    // ---- in the hands of whoever waits ------------------------------------------------------------

    /// The next step of the fence that is asked for, if it is a small one, and nothing is under way:
    /// for the caller to [carry out](Commit::carry_out), and to [`bring back`](Self::bring_back).
    pub(crate) fn hand_out(&mut self) -> Option<Commit> {
        let [lane] = &mut self.lanes[..] else { return None };
        let file = lane.inline()?;
        let mut basket = Basket::new(&mut *self.io);
        lane.advance(&mut basket);
        let commit = Commit::of(&basket, file, &self.answers);
        lane.publish();
        commit
    }

    /// What was handed out has been answered. Hears nothing else, and starts nothing: that is for
    /// the thread that owns the ring.
    pub(crate) fn bring_back(&mut self) {
        if self.reap_answers() {
            self.lanes.iter_mut().for_each(Lane::publish);
        }
    }

    /// Whether its thread, which sleeps, has to see to something before it would wake by itself.
    pub(crate) fn needs_its_thread(&mut self) -> bool {
        let due = self.cut_at().into_iter().chain(self.looks_at()).min();
        let sleeps_too_long = due.is_some_and(|due| self.wakes_at.is_none_or(|at| at > due));
        // Pairs with the fence of whoever asks for a fence and sees one in flight: its end was
        // published before this.
        fence(Ordering::SeqCst);
        sleeps_too_long || self.in_flight() || self.is_busy(&|| false)
    }

    /// Tells the threads that wait what has changed. Whether nobody else is left to be told: what the
    /// waker of a task does belongs on the driver's thread.
    pub(crate) fn announce_to_threads(&mut self) -> bool {
        let mut all = true;
        for lane in &mut self.lanes {
            all &= lane.announce_to_threads();
        }
        all
    }

    /// Says that its thread is about to sleep without it, and returns what it sleeps on: unless there
    /// is work, a `reason`, or a bell that only the backend hears.
    pub(crate) fn leave_for_sleep(
        &mut self,
        deadline: Option<Instant>,
        reason: impl Fn() -> bool,
    ) -> Option<Arc<dyn Wake>> {
        let waker = self.io.waker();
        if self.in_flight() || !waker.sleeps_apart() {
            return None;
        }
        let pauses = self.lanes.iter().any(|lane| lane.pauses_until().is_some());
        if pauses || !self.falls_asleep(&reason) {
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
        self.lanes.iter().for_each(|lane| lane.stream().going_to_sleep());
        !early.unwrap_or_else(|| self.is_busy(reason))
    }

    pub(crate) fn wakes_up(&mut self) {
        self.lanes.iter().for_each(|lane| lane.stream().awake());
    }

    fn in_flight(&self) -> bool {
        self.lanes.iter().any(Lane::in_flight)
    }

    /// Sleeps until a completion, a doorbell or the deadline, unless there is work to submit.
    pub(crate) fn wait(&mut self, deadline: Option<Instant>) {
        self.wait_unless(deadline, || false);
    }

    /// As [`wait`](Self::wait), unless `reason`.
    pub(crate) fn wait_unless(&mut self, deadline: Option<Instant>, reason: impl Fn() -> bool) {
        let falls_asleep = self.falls_asleep(&reason);
        let pauses = self.lanes.iter().filter_map(Lane::pauses_until);
        let deadline = pauses.chain(deadline).min();
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
        if self.lanes.iter().any(waits) {
            self.wait(Some(self.io.now() + longest));
        }
    }

    fn is_busy(&mut self, reason: &impl Fn() -> bool) -> bool {
        // A waker may have forked on this thread: nobody would wake the child.
        let gone = |lane: &Lane| lane.stream().is_left_behind();
        reason()
            || !self.answers.is_empty()
            || self.lanes.iter().any(|lane| gone(lane) || lane.has_work(&mut *self.io))
    }

    /// When somebody has to look whether something is due that nobody asks for. (As for the cuts.)
    pub(crate) fn looks_at(&self) -> Option<Instant> {
        if cfg!(any(loom, shuttle)) {
            return None;
        }
        self.lanes.iter().filter_map(Lane::looks_at).min()
    }

    /// Asks in nobody's name for what is due by now.
    pub(crate) fn look(&mut self, now: Instant) {
        self.lanes.iter_mut().for_each(|lane| lane.look(now));
    }

    /// Whether some file is fenced by time.
    pub(crate) fn fences_by_time(&self) -> bool {
        self.lanes.iter().any(Lane::fences_by_time)
    }

    /// When a file has been left alone for so long that its padding is cut off; `None` while there
    /// is none, or something under way. (The checkers of interleavings know no time.)
    pub(crate) fn cut_at(&mut self) -> Option<Instant> {
        if cfg!(any(loom, shuttle)) {
            return None;
        }
        self.lanes.iter_mut().filter_map(Lane::cut_at).min()
    }

    /// Cuts off the padding of every file that has been left alone until now.
    pub(crate) fn cut_padding(&mut self, now: Instant) {
        for lane in &mut self.lanes {
            if lane.cut_at().is_some_and(|at| at <= now) {
                lane.cut_padding(&mut *self.io);
            }
        }
    }

    /// Whether no file has anything under way.
    #[cfg(all(test, unix, not(any(loom, shuttle))))]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.lanes.iter().all(Lane::is_at_rest)
    }

    /// Waits until nothing is in the kernel's hands any more: memory and file may go then.
    pub(crate) fn settle(&mut self) {
        while self.in_flight() && !Slip::FreedEarly.is_planted() {
            self.lanes.iter().for_each(|lane| lane.stream().going_to_sleep());
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
        self.lanes.iter_mut().for_each(Lane::announce);
    }

    pub(crate) fn streams(&self) -> impl Iterator<Item = &Arc<Stream>> {
        self.lanes.iter().map(Lane::stream)
    }

    /// A whole buffer waits to be written, or a patch: what should not wait for company.
    pub(crate) fn is_urgent(&self) -> bool {
        self.lanes.iter().any(Lane::is_urgent)
    }

    /// How long the last fence took, from its start to its end.
    pub(crate) fn last_fence(&self) -> Duration {
        self.lanes.iter().map(Lane::last_fence).max().unwrap_or_default()
    }

    fn fail(&mut self, error: std::io::Error) {
        let kind = error.kind();
        let mut error = Some(error);
        for lane in &self.lanes {
            let error = error.take().unwrap_or_else(|| kind.into());
            lane.stream().fail_io(Operation::Wait, error);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, unix, not(any(loom, shuttle))))]
mod tests;
