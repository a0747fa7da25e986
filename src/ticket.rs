//! A handle on one fence.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::core::{Core, Goal};
use crate::error::Error;
use crate::sync::Instant;

/// A handle on one fence: everything accepted before it was made, and every patch.
///
/// Wait for it, look at it, or await it; drop it at any time (the fence goes on). It is a
/// `Future` that needs no runtime. Any thread may hold it.
#[derive(Clone, Debug)]
#[must_use = "a ticket says when the fence is through; nobody hears of its error otherwise"]
pub struct Ticket {
    core: Arc<Core>,
    goal: Goal,
}

impl Ticket {
    pub(crate) fn new(core: Arc<Core>, goal: Goal) -> Self {
        Self { core, goal }
    }

    /// The file position that is durable once this fence is through.
    pub fn position(&self) -> u64 {
        self.goal.position
    }

    /// The ticket as two numbers, for interfaces that can't hold one:
    /// [`Control::ticket`](crate::Control::ticket) makes it a ticket again.
    #[doc(hidden)]
    pub fn numbers(&self) -> [u64; 2] {
        [self.goal.position, self.goal.patches]
    }

    /// Waits for the fence; returns its position.
    ///
    /// # Errors
    /// The error that poisoned the stream before the fence was through.
    pub fn wait(&self) -> Result<u64, Error> {
        self.core.wait_durable(self.goal, None).map(|_| self.goal.position)
    }

    /// Waits for at most `limit`; `None` if the fence is not through by then. When the caller
    /// drives the `Sync` backend, an operation in progress is not cut short.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, limit: Duration) -> Result<Option<u64>, Error> {
        let by = Instant::now().checked_add(limit);
        let through = self.core.wait_durable(self.goal, by)?;
        Ok(through.then_some(self.goal.position))
    }

    /// Whether the fence is through, without waiting for another thread. Where the caller drives it
    /// moves things on, which with the `Sync` backend is all there is to write, and the flush.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn is_durable(&self) -> Result<bool, Error> {
        if !self.core.reached(self.goal) {
            self.core.runner.poll();
        }
        match self.core.stream.failure() {
            _ if self.core.reached(self.goal) => Ok(true),
            Some(error) => Err(error.clone()),
            None => Ok(false),
        }
    }
}

impl Future for Ticket {
    type Output = Result<u64, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Registered before the look, so that a fence in between wakes the task.
        self.core.stream.add_future(context.waker());
        match self.is_durable() {
            Ok(true) => Poll::Ready(Ok(self.goal.position)),
            Err(error) => Poll::Ready(Err(error)),
            Ok(false) => {
                if self.core.runner.needs_polling() {
                    context.waker().wake_by_ref(); // nobody else would move it on
                }
                Poll::Pending
            }
        }
    }
}
