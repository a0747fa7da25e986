//! `AsyncWrite` of the crate `futures-io`, over a writer.

use std::io;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::AsyncWrite;

use super::Writer;
use crate::control::Control;
use crate::error::Error;
use crate::stream::Place;
use crate::summary::Summary;
use crate::ticket::Ticket;

/// A [`Writer`] for tasks: its calls never wait on the thread of the runtime.
///
/// Made by [`Writer::into_async`] (feature `futures-io`; for tokio wrap it in `compat_write` of
/// `tokio-util`). It dereferences to [`Control`]. A write goes to the end of the file, takes what has
/// room, and is pending while nothing has, whatever the overrun policy. A flush is a fence: when it is
/// through, everything written, and every patch that was made before, survives a power cut. A flush
/// that was given up goes on; the next one is a new fence if something came since.
///
/// The close writes out, trims and flushes on a thread of its own, since all of that waits for the
/// disk; [`summary`](Self::summary) has its answer. Dropped without a close it is closed the same way,
/// and nobody hears of an error. Two things remain that may wait: a close for which no thread is to be
/// had, and, with [`Drive::Caller`](crate::Drive::Caller), a poll that does the driver's work. So
/// choose a driver with a thread.
///
/// A call that is pending takes a lock and allocates; its waker runs on the driver's thread, or on
/// that of the close (see [`Ticket`]). An error is sticky, as the writer's.
///
/// ```
/// # use std::future::poll_fn;
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
/// # let path = directory.path().join("take");
/// use futures_io::AsyncWrite;
/// use std::pin::Pin;
///
/// let mut writer = writeflush::Options::new().create(&path)?.into_async();
/// # block_on(async {
/// // What `write_all`, `flush` and `close` of the crate `futures` come to:
/// let taken = poll_fn(|task| Pin::new(&mut writer).poll_write(task, b"a record")).await?;
/// assert_eq!(taken, 8); // there was room
/// poll_fn(|task| Pin::new(&mut writer).poll_flush(task)).await?; // durable
/// poll_fn(|task| Pin::new(&mut writer).poll_close(task)).await?;
/// assert_eq!(writer.summary().unwrap().positions.durable, 8);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # assert_eq!(std::fs::read(&path)?, b"a record");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AsyncWriter {
    control: Control,
    /// `None` once it is being closed.
    writer: Option<Writer>,
    /// Of the task that waits for room.
    place: Place,
    /// The flush that was asked for.
    fence: Option<Ticket>,
    /// Once it is closed.
    summary: Option<Summary>,
}

impl UnwindSafe for AsyncWriter {}
impl RefUnwindSafe for AsyncWriter {}

impl AsyncWriter {
    pub(super) fn new(writer: Writer) -> Self {
        Self {
            control: writer.control().clone(),
            writer: Some(writer),
            place: Place::default(),
            fence: None,
            summary: None,
        }
    }

    /// A handle for other tasks and threads.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// What the close told, also one that failed; `None` before.
    pub fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }

    /// Lays down what the policy `Fill` owes, as there is room.
    fn poll_repay(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while let Some(writer) = &mut self.writer
            && writer.owed() > 0
        {
            match writer.try_write(&[]) {
                Err(Error::Full { .. }) => {
                    ready!(self.control.core.poll_room(&mut self.place, 1, context))?;
                }
                done => _ = done?,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Hands the writer to a thread that closes it; says whether it was still here.
    fn begin_close(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        self.fence = None;
        let core = &self.control.core;
        core.forget_task(&core.stream.rooms, &mut self.place);
        core.begin_to_close(|| move || writer.close());
    }
}

impl AsyncWrite for AsyncWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { control, writer, place, fence, .. } = &mut *self;
        let Some(writer) = writer else { return Poll::Ready(Err(Error::Closed.into())) };
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let most = bytes.len().min(control.core.longest_whole());
        let mut len = most;
        loop {
            match writer.try_write(&bytes[..len]) {
                Ok(_) => break,
                Err(Error::Full { free: 0, .. }) => {
                    ready!(control.core.poll_room(place, 1, context))?;
                    len = most;
                }
                Err(Error::Full { free, .. }) => len = free,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        *fence = None; // one that was given up does not cover this
        control.core.forget_task(&control.core.stream.rooms, place);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.writer.is_none() {
            return self.poll_close(context);
        }
        ready!(self.poll_repay(context))?;
        let asked = self.control.core.goal();
        let Self { control, fence, .. } = &mut *self;
        if fence.as_ref().is_none_or(|fence| !fence.covers(asked)) {
            *fence = Some(control.fence());
        }
        let through = fence.as_mut().map(|fence| Pin::new(fence).poll(context));
        if let Some(through) = through {
            ready!(through)?;
        }
        *fence = None;
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.begin_close();
        if self.summary.is_some() {
            return Poll::Ready(Ok(()));
        }
        let (summary, result) = match ready!(self.control.core.poll_closed(context)) {
            Ok(summary) => (summary, Ok(())),
            Err(error) => ((*error.summary).clone(), Err(error.into())),
        };
        self.summary = Some(summary);
        Poll::Ready(result)
    }
}

impl Deref for AsyncWriter {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Drop for AsyncWriter {
    fn drop(&mut self) {
        self.begin_close();
    }
}
