//! Durable writing for real-time recorders: a push that never waits, and a flush that means it.
//!
//! (The crate's contract stands here; filled in below.)
#![deny(missing_docs)]

mod backend;
mod buffers;
mod control;
mod core;
mod driver;
mod error;
mod file;
mod options;
mod overrun;
mod stats;
mod stream;
mod sync;
mod ticket;
mod writer;

pub use backend::Backend;
pub use control::{CloseError, Control, Summary};
pub use error::{Error, Operation};
pub use file::{Durability, Medium};
pub use options::{BackendChoice, Direct, Drive, FenceForm, Options, Preallocate};
pub use overrun::{OnFull, Overrun, Push};
pub use stats::{Histogram, Stats};
pub use stream::Positions;
pub use ticket::Ticket;
pub use writer::{Grant, SharedWriter, Writer};
