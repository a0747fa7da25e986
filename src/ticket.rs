//! A handle on one fence.

use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::core::Core;
use crate::error::Error;
use crate::stream::{Goal, Place};
use crate::sync::Instant;

/// A handle on one fence: everything accepted before it was made, and every patch.
///
/// Wait for it, look at it, or await it; drop it at any time (the fence goes on). Any thread may
/// hold it.
///
/// It is a `Future` that needs no runtime. A poll that is not through takes a lock and may
/// allocate: not for a deadline thread. The waker of the last poll, and no other, is kept until the
/// ticket has its answer or is dropped; a clone is a task of its own.
///
/// Wakers run on the driver's thread, where no lock of this crate is held, and may call anything of
/// it. Nothing is written meanwhile, so keep them short, and let them wait for no lock that a
/// thread holds while it waits for this writer. A call that would have to wait for a driver
/// answers [`Error::InWaker`] there.
///
/// ```
/// # use std::task::{Context, Poll, Waker};
/// # fn block_on<T>(future: impl std::future::Future<Output = T>) -> T {
/// #     let mut future = std::pin::pin!(future);
/// #     loop {
/// #         match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
/// #             Poll::Ready(done) => return done,
/// #             Poll::Pending => std::thread::yield_now(),
/// #         }
/// #     }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// let mut writer = writeflush::Options::new().create(directory.path().join("take"))?;
/// writer.write(b"a record")?;
/// let ticket = writer.fence(); // asks, and goes on
/// writer.write(b"another")?;
/// # block_on(async {
/// let durable = ticket.await?; // in any runtime; or ticket.wait(), which blocks the thread
/// assert!(durable >= 8);
/// # Ok::<(), writeflush::Error>(())
/// # })?;
/// # writer.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a ticket says when the fence is through; nobody hears of its error otherwise"]
pub struct Ticket {
    core: Arc<Core>,
    goal: Goal,
    place: Place,
}

impl Clone for Ticket {
    fn clone(&self) -> Self {
        Self::new(self.core.clone(), self.goal)
    }
}

impl UnwindSafe for Ticket {}
impl RefUnwindSafe for Ticket {}

impl Ticket {
    pub(crate) fn new(core: Arc<Core>, goal: Goal) -> Self {
        Self { core, goal, place: Place::default() }
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

    /// Whether it is that of a fence over all of this.
    #[cfg(feature = "futures-io")]
    pub(crate) fn covers(&self, goal: Goal) -> bool {
        self.goal.position >= goal.position && self.goal.patches >= goal.patches
    }

    /// Waits for the fence; returns its position.
    ///
    /// # Errors
    /// The error that poisoned the stream before the fence was through; [`Error::InWaker`].
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
        self.core.is_through(self.goal)
    }
}

impl Future for Ticket {
    type Output = Result<u64, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { core, goal, place } = &mut *self;
        let tasks = (&*core.stream.tasks, place);
        let through = core.poll_task(tasks, *goal, context, || core.is_through(*goal));
        through.map_ok(|()| goal.position)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.core.forget_task(&self.core.stream.tasks, &mut self.place);
    }
}
