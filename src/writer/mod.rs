//! The faces of a producer: [`Writer`] for one, [`SharedWriter`] for many.

use std::io;

use crate::error::Error;
use crate::overrun::{OnFull, Push};

#[cfg(feature = "futures-io")]
mod async_writer;
mod exclusive;
mod grant;
mod limits;
mod parts;
mod room;
mod seek;
mod shared;

#[cfg(feature = "futures-io")]
pub use async_writer::AsyncWriter;
pub use exclusive::Writer;
pub use grant::{Grant, SharedGrant};
pub use parts::Part;
pub use room::Room;
pub use shared::SharedWriter;

/// What `std::io::Write` says of a push: what `Fill` loses gets its place filled, so it counts as
/// taken; what `Drop` loses moves all that follows.
fn taken(push: Push, offered: usize, policy: OnFull) -> io::Result<usize> {
    match (push, policy) {
        (Push::Lost(bytes), OnFull::Drop) => Err(Error::Lost { bytes }.into()),
        (Push::Accepted(_) | Push::Lost(_), _) => Ok(offered),
    }
}

/// Most fill bytes that a call which offers `len` bytes lays down for an earlier loss, so that
/// catching up costs no deadline.
fn fill_budget(len: usize) -> u64 {
    (4 * len as u64).max(64 * 1024)
}
