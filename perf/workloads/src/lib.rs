//! What the criterion suites and the comparison tool both run, written once: the states a file can
//! be in, the floors (the same system calls written out by hand), and the interleaving of arms.

#[cfg(target_os = "linux")]
pub mod floor;
mod pairs;
mod state;

pub use pairs::{Arms, Ratio, quantile};
pub use state::{FileState, scratch_dir};
