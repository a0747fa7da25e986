//! A close on a thread of its own, which a disk that does not answer may hold up for ever: whoever has
//! asked for it waits as long as he likes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
#[cfg(feature = "futures-io")]
use std::task::{Context, Poll};
use std::time::Duration;

use super::Core;
use super::closing::Closer;
use crate::driver::thread::spawn;
use crate::error::{Error, Operation};
use crate::stream::{Positions, unharmed};
use crate::summary::{CloseError, Summary};
use crate::sync::{Event, Instant, Mutex, ignore_poison};

/// Once.
fn run(work: &Mutex<Option<impl FnOnce()>>) {
    let work = ignore_poison(work.lock()).take();
    if let Some(work) = work {
        work();
    }
}

#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    state: Mutex<State>,
    /// Announced when it has ended.
    ended: Event,
    /// Of the task that awaits its end.
    waker: Mutex<Option<Waker>>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    NotAsked,
    UnderWay,
    Ended(Box<Result<Summary, CloseError>>),
    /// Somebody has heard how it ended.
    Told,
}

impl Elsewhere {
    /// Whether it is this caller's to begin.
    fn begin(&self) -> bool {
        let mut state = ignore_poison(self.state.lock());
        let is_first = matches!(*state, State::NotAsked);
        if is_first {
            *state = State::UnderWay;
        }
        is_first
    }

    fn end(&self, result: Result<Summary, CloseError>) {
        *ignore_poison(self.state.lock()) = State::Ended(Box::new(result));
        self.ended.announce();
        let waker = ignore_poison(self.waker.lock()).take();
        waker.into_iter().for_each(|waker| unharmed(|| waker.wake()));
    }

    /// Leaves another waker, or none. What was there is dropped under no lock of ours: it is foreign
    /// code, as is its clone.
    #[cfg(feature = "futures-io")]
    fn leave(&self, waker: Option<Waker>) {
        let before = std::mem::replace(&mut *ignore_poison(self.waker.lock()), waker);
        drop(before);
    }

    /// How it ended, for the first who asks; `None` while it is under way.
    fn outcome(&self, closed: impl FnOnce() -> CloseError) -> Option<Result<Summary, CloseError>> {
        let mut state = ignore_poison(self.state.lock());
        match std::mem::replace(&mut *state, State::Told) {
            State::Ended(result) => Some(*result),
            State::Told => Some(Err(closed())),
            before @ (State::NotAsked | State::UnderWay) => {
                *state = before;
                None
            }
        }
    }
}

impl Core {
    /// For whoever does not own the writer: waits for a close that is under way elsewhere, or closes.
    pub(crate) fn close_or_wait(&self) -> Result<Summary, CloseError> {
        if !self.closes_elsewhere() || !self.runner.may_wait() || self.stream.is_not_ours() {
            return self.close_beside_the_owner();
        }
        let ended = self.end_elsewhere(None)?;
        Ok(ended.expect("without a deadline the wait ends with the close"))
    }

    /// Whether that was begun.
    pub(crate) fn closes_elsewhere(&self) -> bool {
        !matches!(*ignore_poison(self.elsewhere.state.lock()), State::NotAsked)
    }

    /// As `close_or_wait`, but waits at most for `limit`.
    pub(crate) fn close_or_wait_for(
        self: &Arc<Self>,
        limit: Duration,
    ) -> Result<Option<Summary>, CloseError> {
        self.may_close_beside_the_owner()?;
        self.close_elsewhere(limit, || self.claimed(Closer::Another))
    }

    /// A close that nobody else begins any more: a writer that is dropped meanwhile waits for nothing.
    fn claimed(
        self: &Arc<Self>,
        closer: Closer,
    ) -> impl FnOnce() -> Result<Summary, CloseError> + Send + 'static {
        let (core, is_ours) = (self.clone(), self.claim_as(closer));
        move || match is_ours {
            true => core.carry_out(closer),
            false => Err(core.not_closed(Error::Closed)),
        }
    }

    /// Has a close done elsewhere, unless that is under way already, and waits for its end at most for
    /// `limit`: `None` if it goes on. In a waker, which must not wait, and in a forked child, it is
    /// done here.
    pub(crate) fn close_elsewhere<C>(
        self: &Arc<Self>,
        limit: Duration,
        close: impl FnOnce() -> C,
    ) -> Result<Option<Summary>, CloseError>
    where
        C: FnOnce() -> Result<Summary, CloseError> + Send + 'static,
    {
        if !self.runner.may_wait() || self.stream.is_not_ours() {
            return close()().map(Some);
        }
        let by = Instant::now().checked_add(limit);
        self.begin_to_close(close);
        self.end_elsewhere(by)
    }

    /// Has a close done elsewhere, unless one is under way already: then this one, and the writer that
    /// it may hold, is only let go of.
    pub(crate) fn begin_to_close<C>(self: &Arc<Self>, close: impl FnOnce() -> C)
    where
        C: FnOnce() -> Result<Summary, CloseError> + Send + 'static,
    {
        if self.elsewhere.begin() {
            self.begin_elsewhere(close());
        }
    }

    /// A poll of the task that awaits the end of that.
    #[cfg(feature = "futures-io")]
    pub(crate) fn poll_closed(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Summary, CloseError>> {
        self.elsewhere.leave(Some(context.waker().clone())); // first, or its end might be missed
        match self.elsewhere.outcome(|| self.not_closed(Error::Closed)) {
            Some(result) => {
                self.elsewhere.leave(None);
                Poll::Ready(result)
            }
            None => Poll::Pending,
        }
    }

    fn begin_elsewhere(
        self: &Arc<Self>,
        close: impl FnOnce() -> Result<Summary, CloseError> + Send + 'static,
    ) {
        let core = self.clone();
        let work = Arc::new(Mutex::new(Some(move || {
            let result = catch_unwind(AssertUnwindSafe(close));
            core.elsewhere.end(result.unwrap_or_else(|_| Err(core.not_closed(core.panicked()))));
        })));
        let theirs = work.clone();
        if spawn("writeflush-close", move || run(&theirs)).is_err() {
            run(&work); // with no thread to be had
        }
    }

    fn panicked(&self) -> Error {
        let error = std::io::Error::other("the close panicked; please report this");
        Error::io(Operation::Close, &self.stream.path, error)
    }

    /// `None` when the deadline has passed.
    fn end_elsewhere(&self, by: Option<Instant>) -> Result<Option<Summary>, CloseError> {
        loop {
            let ticket = self.elsewhere.ended.ticket();
            if let Some(result) = self.elsewhere.outcome(|| self.not_closed(Error::Closed)) {
                return result.map(Some);
            }
            if by.is_some_and(|by| Instant::now() >= by) {
                return Ok(None);
            }
            self.elsewhere.ended.sleep(ticket, by);
        }
    }

    /// Ends the stream with what the kernel has by now, and waits for nothing.
    pub(crate) fn abandon(self: &Arc<Self>) -> Positions {
        if !self.stream.is_not_ours() {
            self.stream.fail(Error::Closed);
            let _ = self.close_elsewhere(Duration::ZERO, || self.claimed(Closer::Owner));
        }
        self.stream.positions()
    }
}
