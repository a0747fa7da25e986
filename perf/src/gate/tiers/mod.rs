//! What is measured: one file a tier. Each turns two programs into evidence, and judges nothing.

pub(crate) mod counts;
pub(crate) mod instructions;
mod instrument;
pub(crate) mod processes;
pub(crate) mod turns;
mod visit;

use std::path::Path;

use super::program::Start;
use crate::output::Progress;
use crate::stop::Stop;

/// Two programs, and where they are measured.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) base: &'a Start,
    pub(crate) candidate: &'a Start,
    /// A folder of the gate's, on the file system that is measured.
    pub(crate) folder: &'a Path,
    pub(crate) seed: u64,
    pub(crate) ignore_steal: bool,
    /// Slower by more than this is looked for.
    pub(crate) limit_percent: f64,
    pub(crate) stop: &'a Stop,
    pub(crate) progress: &'a Progress,
}
