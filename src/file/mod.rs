//! The file itself: opening, locking, preallocating, and what its place promises.

mod open;
mod place;

pub(crate) use open::{Directory, MAX_BLOCK, OpenFile, OpenMode, finish};
pub use place::{Durability, Medium};
