//! Where bytes wait between a producer and the device.
//!
//! The buffers lie end to end and form one ring; the byte at file position `p` always lies at
//! ring offset `p % capacity`. So a reservation is one step on one position, a write may cross
//! buffers, and the alignment of the file is the alignment of memory. The [`Sequencer`] decides
//! who may touch which positions; [`Memory`] is the bytes.

mod memory;
mod pool;
mod sequencer;
mod zeros;

pub(crate) use memory::{Memory, Region, Sizes};
pub(crate) use pool::Pool;
#[cfg_attr(any(not(target_os = "linux"), loom, shuttle), allow(unused_imports))]
pub(crate) use sequencer::{Ends, Words, expected, position_of};
pub(crate) use sequencer::{Refused, Sequencer};
pub(crate) use zeros::{ZEROS, are_there as zeros_are_there, zeros};
