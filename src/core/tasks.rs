//! How a task waits for what the driver brings about: a fence, or room.

use std::task::{Context, Poll};
use std::time::Duration;

use super::{Core, Goal};
use crate::buffers::Refused;
use crate::error::Error;
use crate::stream::{Place, Tasks, unharmed};

/// How long a poll may sleep where nothing can be moved on, since it wakes itself at once.
const PAUSE: Duration = Duration::from_millis(10);

impl Core {
    /// A poll of whoever waits, at a `place` among `tasks`, for `goal`: ready when `look` says so,
    /// or fails. The waker of the last poll is kept until then.
    pub(crate) fn poll_task(
        &self,
        (tasks, place): (&Tasks, &mut Place),
        goal: Goal,
        context: &mut Context<'_>,
        look: impl Fn() -> Result<bool, Error>,
    ) -> Poll<Result<(), Error>> {
        let mut through = look();
        if let Ok(false) = through {
            if self.runner.needs_polling() {
                self.runner.poll_and_pause(PAUSE);
                unharmed(|| context.waker().wake_by_ref()); // nobody else would move it on
                return Poll::Pending;
            }
            tasks.register(place, goal, context.waker());
            through = look(); // it may have come about in between
        }
        if let Ok(false) = through {
            return Poll::Pending;
        }
        self.forget_task(tasks, place);
        Poll::Ready(through.map(drop))
    }

    /// Nobody waits there any more.
    pub(crate) fn forget_task(&self, tasks: &Tasks, place: &mut Place) {
        // In a forked child the lock may be taken for ever.
        if !self.stream.is_left_behind() {
            tasks.forget(place);
        }
    }

    /// Whether a fence is through, without waiting for another thread.
    pub(crate) fn is_through(&self, goal: Goal) -> Result<bool, Error> {
        if !self.reached(goal) {
            self.runner.poll();
        }
        match self.stream.failure() {
            _ if self.reached(goal) => Ok(true),
            Some(error) => Err(error.clone()),
            None => Ok(false),
        }
    }

    /// A poll of whoever waits for room for `len` more bytes.
    pub(crate) fn poll_room(
        &self,
        place: &mut Place,
        len: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        let limit = self.longest_whole();
        if len > limit {
            return Poll::Ready(Err(Error::TooLong { offered: len, limit }));
        }
        let len = len as u64;
        let goal = Goal { position: self.stream.sequencer.accepted() + len, patches: 0 };
        self.poll_task((&*self.stream.rooms, place), goal, context, || self.has_more_room(len))
    }

    /// Whether `len` more bytes have room now.
    fn has_more_room(&self, len: u64) -> Result<bool, Error> {
        let sequencer = &self.stream.sequencer;
        if self.stream.is_left_behind() || sequencer.is_shut() {
            return Err(self.stopped());
        }
        match sequencer.room(sequencer.accepted(), len) {
            Ok(()) => Ok(true),
            Err(Refused::Full { .. }) => Ok(false),
            Err(Refused::Stopped) => Err(self.stopped()),
        }
    }
}
