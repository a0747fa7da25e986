//! The file itself: opening, locking, preallocating, and what its place promises.

mod adopted;
mod ahead;
mod directory;
#[cfg(target_os = "linux")]
mod ground;
mod handle;
#[cfg(unix)]
mod identity;
mod limit;
mod lock;
mod mark;
mod open;
mod place;
mod rename;

pub(crate) use adopted::name_of;
pub(crate) use handle::{Handle, OsFile, ReadAt, open as open_system_file, os_file};
#[cfg(unix)]
pub(crate) use identity::Identity;
pub(crate) use limit::{NoSignal, file_limit};
pub(crate) use lock::{Share, try_share, unlock};
#[cfg(all(test, unix, not(loom)))]
pub(crate) use mark::Mark;
pub(crate) use open::{MAX_BLOCK, OpenFile, OpenMode, below_the_end, close, finish};
pub(crate) use place::Dsync;
#[cfg(all(test, unix, not(loom)))]
pub(crate) use place::Place;
pub use place::{Durability, Medium};
pub(crate) use rename::rename;
