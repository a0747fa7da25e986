//! What the criterion suites and the comparison tool both run, written once: the states a file can
//! be in, the subjects that are compared, the floors (the same system calls written out by hand),
//! their interleaving and the ratios that come of it, and the counters of the device below.

mod arms;
mod crew;
mod device;
mod field;
#[cfg(target_os = "linux")]
pub mod floor;
mod kernel;
mod mount;
mod rotation;
#[cfg(test)]
#[path = "../../../tests/common/skip.rs"]
mod skip;
mod state;
mod stream;
pub mod subject;
#[cfg(target_os = "linux")]
mod trace_point;

pub use arms::{Arms, Centre, Ratio, quantile};
pub use crew::{Clock, Crew, Turn, monotonic};
pub use device::{Counters, Counts, Device, Disk, End, FuaWrites};
pub use field::{Company, Conditions, Fate, Field, Go, Length, Times};
pub use mount::Mount;
pub use rotation::{block as seats, shuffled};
pub use state::{FileState, forget, scratch_dir};
pub use stream::{StreamKind, stream_kinds, stream_through};
#[cfg(target_os = "linux")]
pub use trace_point::trace_point;
