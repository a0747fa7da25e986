//! What a ring file says, and what is to be done with it. Pure: the bytes may have been damaged by
//! anybody, so nothing is believed that does not fit.

use std::ops::Range;

use crate::blocks::align_down;
use crate::buffers::{Ends, Sequencer, expected, position_of};
use crate::file::MAX_BLOCK;
use crate::survive::{Extent, Head, PatchHead, Word, at, number};

/// The parts of a ring file that say what is in the ring.
pub(super) struct Image {
    pub(super) head: Head,
    pub(super) extent: Extent,
    /// From the start of the file to the end of its cells.
    pub(super) control: Vec<u8>,
}

/// What a recovery writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Of these positions the ring has the last version.
    pub(super) bytes: Range<u64>,
    /// Below this the file had them.
    pub(super) written: u64,
    /// In their order, after the bytes: where they begin, and where in the control part they lie.
    pub(super) patches: Vec<(u64, Range<usize>)>,
    /// The length of the file in the end.
    pub(super) len: u64,
    /// Bytes that a producer was copying.
    pub(super) interrupted: u64,
    /// Where those lie, with bytes that were accepted around them.
    pub(super) uncertain: Vec<Range<u64>>,
}

const DAMAGED: &str = "it is damaged: what it says can't be";

impl Image {
    /// The head, and how large the file has to be.
    pub(super) fn head(bytes: &[u8]) -> Result<(Head, Extent), &'static str> {
        let head = Head::parse(bytes).ok_or(DAMAGED)?;
        let extent = Extent::new(head.capacity, head.total).ok_or(DAMAGED)?;
        let fits = head.block.is_power_of_two() && head.block <= MAX_BLOCK as u64;
        if fits { Ok((head, extent)) } else { Err(DAMAGED) }
    }

    fn number(&self, at: usize) -> u64 {
        self.control.get(at..).map_or(0, number)
    }

    fn cell(&self, index: u64) -> u64 {
        self.number(at::CELLS + 8 * index as usize)
    }

    pub(super) fn plan(&self) -> Result<Plan, &'static str> {
        const LAST: u64 = 1 << 62;
        let written = self.number(Word::Written.at());
        let committed = self.number(at::WORDS + std::mem::offset_of!(Ends, committed));
        let reserved = self.number(at::WORDS + std::mem::offset_of!(Ends, reserved));
        let reserved = position_of(reserved);
        let positions = [written, committed, reserved, self.head.kept];
        if positions.iter().any(|position| *position > LAST) || written < self.head.start {
            return Err(DAMAGED);
        }
        let mut start = align_down(written, self.head.block);
        let arrived = match self.number(Word::Shared.at()) {
            // Of a gap that was just being made: all before it is in the file.
            0 if committed < written => {
                start = written;
                Arrived { end: written, missing: Vec::new() }
            }
            0 => Arrived { end: committed, missing: Vec::new() },
            1 => self.arrived(written, reserved.max(written)),
            _ => return Err(DAMAGED),
        };
        if arrived.end < written || arrived.end - start > self.head.capacity {
            return Err(DAMAGED);
        }
        Ok(Plan {
            bytes: start..arrived.end,
            written,
            patches: self.patches(arrived.end)?,
            len: arrived.end.max(self.head.kept),
            interrupted: arrived.missing.iter().map(|(_, bytes)| bytes).sum(),
            uncertain: arrived.uncertain(),
        })
    }

    /// Producers bring their bytes in any order. Of a cell whose count is not what it would be if all
    /// that was reserved had come, some bytes are missing, and nothing says which: all stay, as they
    /// are in the ring. Behind the last cell into which anything came, nothing was accepted.
    fn arrived(&self, written: u64, reserved: u64) -> Arrived {
        let capacity = self.head.capacity;
        let first = align_down(written, Sequencer::CELL);
        let mut arrived = Arrived { end: written, missing: Vec::new() };
        for cell in (0..capacity / Sequencer::CELL).map(|index| first + index * Sequencer::CELL) {
            let end = (cell + Sequencer::CELL).min(reserved);
            let index = cell % capacity / Sequencer::CELL;
            let from = cell.max(written); // it may begin in the midst of a cell
            let [before, whole] = [from, end].map(|to| expected(capacity, index, to));
            let count = self.cell(index);
            if count > before {
                arrived.end = end;
            }
            if count < whole {
                arrived.missing.push((from..end, whole - count.max(before)));
            }
            if end == reserved {
                break;
            }
        }
        let end = arrived.end;
        arrived.missing.retain(|(range, _)| range.start < end);
        arrived
    }

    /// Those that neither ring nor file show for certain.
    fn patches(&self, end: u64) -> Result<Vec<(u64, Range<usize>)>, &'static str> {
        let [applied, queued] = [Word::Applied, Word::Queued].map(|word| self.number(word.at()));
        if queued.checked_sub(applied).is_none_or(|waiting| waiting > PatchHead::MOST) {
            return Err(DAMAGED);
        }
        let mut patches = Vec::new();
        for number in applied + 1..=queued {
            let place = PatchHead::place(number);
            let slot = self.control.get(place..place + PatchHead::SLOT).ok_or(DAMAGED)?;
            let (from, bytes) = PatchHead::parse(slot, number).ok_or(DAMAGED)?;
            // Nothing is written behind what was accepted.
            let len = (bytes.len() as u64).min(end.saturating_sub(from)) as usize;
            let place = place + PatchHead::BYTES;
            patches.push((from, place..place + len));
        }
        Ok(patches)
    }
}

/// How far producers have come.
#[derive(Debug)]
struct Arrived {
    end: u64,
    /// Cells that are not whole, and how many bytes each lacks.
    missing: Vec<(Range<u64>, u64)>,
}

impl Arrived {
    /// The cells that are not whole; those side by side are one range.
    fn uncertain(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (cell, _) in &self.missing {
            match ranges.last_mut() {
                Some(last) if last.end == cell.start => last.end = cell.end,
                _ => ranges.push(cell.clone()),
            }
        }
        ranges
    }
}
