//! Instructions of the thread that does the operations, by valgrind's callgrind.

use super::Bench;
use super::counts::count;
use super::instrument::Instrument;
use crate::error::Bad;
use crate::gate::evidence::Evidence;
use crate::gate::judge::counts::Least;
use crate::gate::result::Skipped;

/// Instructions of one operation. `None`: interrupted.
pub(crate) fn measure(bench: &Bench<'_>, operation: &str) -> Result<Option<Evidence>, Bad> {
    let counted = count(bench, operation, Instrument::Instructions, Least::INSTRUCTIONS)?;
    Ok(counted.map(Evidence::Instructions))
}

/// Why they can't be counted here, and what to do about it.
pub(crate) fn absent() -> Option<Skipped> {
    Instrument::Instructions.absent()
}
