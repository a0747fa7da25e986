//! What the criterion suites and the comparison tool both run, written once: the states a file can
//! be in, the subjects that are compared, the floors (the same system calls written out by hand),
//! the interleaving of arms, and the counters of the device below.

mod device;
#[cfg(target_os = "linux")]
pub mod floor;
mod mount;
mod pairs;
mod state;
mod stream;
pub mod subject;

pub use device::{Counts, Device};
pub use mount::Mount;
pub use pairs::{Arms, Ratio, quantile};
pub use state::{FileState, scratch_dir};
pub use stream::{StreamKind, stream_kinds};
