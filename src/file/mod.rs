//! The file itself: opening, locking, preallocating, and what its place promises.

mod adopted;
mod ahead;
mod directory;
mod folder;
#[cfg(target_os = "linux")]
mod ground;
mod handle;
#[cfg(unix)]
mod identity;
#[cfg(target_os = "linux")]
mod lease;
mod limit;
mod lock;
mod mark;
mod open;
mod place;
mod rename;

pub(crate) use adopted::name_of;
pub(crate) use folder::{Folder, Original, folder as system_folder};
#[cfg(all(test, unix, not(loom)))]
pub(crate) use folder::{Found, Space};
pub(crate) use handle::{Handle, OsFile, ReadAt, length, open as open_system_file, os_file};
#[cfg(unix)]
pub(crate) use identity::Identity;
pub(crate) use limit::{NoSignal, file_limit};
pub(crate) use lock::{Share, try_share, unlock};
#[cfg(all(test, unix, not(loom)))]
pub(crate) use mark::Mark;
pub(crate) use mark::{end_of_data, end_of_marked};
pub(crate) use open::{MAX_BLOCK, OpenFile, OpenMode, below_the_end, close, finish, open_locked};
#[cfg(all(test, unix, not(loom)))]
pub(crate) use place::Place;
#[cfg(target_os = "linux")]
pub(crate) use place::free_space;
pub(crate) use place::{Dsync, Fua};
pub use place::{Durability, Medium};
pub(crate) use rename::rename;
