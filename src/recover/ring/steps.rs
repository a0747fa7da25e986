//! The order of the steps, apart from what carries them out. The ring file stays as it is until all of
//! it is durable in the file, so that a recovery that was broken off begins anew.

use std::io;
use std::ops::Range;

use super::found::Plan;
use crate::error::Operation;
use crate::recover::steps::{Ground, Refused, refused};

/// Bytes that are brought at once.
const PIECE: u64 = 1 << 20;

/// A ring file.
pub(super) trait Ring {
    /// The bytes of these positions, at most a ring full.
    fn read(&mut self, positions: Range<u64>) -> io::Result<Vec<u8>>;

    /// The bytes of a patch.
    fn patch(&self, place: Range<usize>) -> &[u8];

    /// Takes its name away.
    fn remove(&mut self) -> io::Result<()>;
}

/// `marked`: the writer has marked the file, whose end may be padding.
pub(super) fn carry_out(
    ground: &mut impl Ground,
    ring: &mut impl Ring,
    plan: &Plan,
    marked: bool,
) -> Result<(), Refused> {
    let Range { start, end } = plan.bytes;
    for at in (start..end).step_by(PIECE as usize) {
        let bytes = ring.read(at..end.min(at + PIECE)).map_err(refused(Operation::Read))?;
        ground.overwrite(at, &bytes).map_err(refused(Operation::Write))?;
    }
    for (at, place) in &plan.patches {
        let bytes = ring.patch(place.clone());
        if !bytes.is_empty() {
            ground.overwrite(*at, bytes).map_err(refused(Operation::Write))?;
        }
    }
    ground.cut(plan.len).map_err(refused(Operation::Trim))?;
    if marked {
        ground.unmark().map_err(refused(Operation::Trim))?;
    }
    ground.sync_file().map_err(refused(Operation::Flush))?;
    ring.remove().map_err(refused(Operation::Remove))?;
    ground.unbind().map_err(refused(Operation::Trim))
}
