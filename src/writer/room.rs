//! Room in the buffers, as a future.

use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::core::Core;
use crate::error::Error;
use crate::stream::Place;

/// Resolves when there is room; see [`Writer::room`](crate::Writer::room).
///
/// It needs no runtime, and waits in none. A poll that is not through takes a lock and may allocate:
/// not for a deadline thread. The waker of the last poll, and no other, is kept until there is room
/// or the future is dropped. It runs where those of a [`Ticket`](crate::Ticket) do, and in the close
/// of another clone; what is said of them there holds here too. With
/// [`Drive::Caller`](crate::Drive::Caller) a poll does the driver's work, which with the `Sync`
/// backend waits for the disk: in a runtime choose a driver with a thread.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Room<'a> {
    core: &'a Core,
    len: usize,
    place: Place,
}

impl UnwindSafe for Room<'_> {}
impl RefUnwindSafe for Room<'_> {}

impl<'a> Room<'a> {
    pub(super) fn new(core: &'a Core, len: usize) -> Self {
        Self { core, len, place: Place::default() }
    }
}

impl Future for Room<'_> {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { core, len, place } = &mut *self;
        core.poll_room(place, *len, context)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.core.forget_task(&self.core.stream.rooms, &mut self.place);
    }
}
