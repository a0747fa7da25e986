//! Where what lies in a ring file, and what its head says. Pure.

use std::mem::size_of;

use crate::buffers::{Ends, Memory, Sequencer};
use crate::stream::Patch;

/// What ring and file have in common, and no other two: never all zeros.
pub(crate) type Bond = [u8; 16];

/// Places in a ring file.
pub(crate) mod at {
    /// Of [`State`](super::State), behind the head.
    pub(crate) const STATE: usize = 256;
    pub(crate) const WORDS: usize = 4096;
    pub(crate) const PATCHES: usize = 8192;
    pub(crate) const CELLS: usize = PATCHES + super::SLOTS * super::SLOT;
}

/// Patches that may be on their way: one that the driver has at hand, and those that wait.
const SLOTS: usize = Patch::QUEUE + 1;
/// A patch and what is said of it.
const SLOT: usize = 4096 + Patch::MAX;

const _: () = assert!(size_of::<Ends>() <= 2048);

/// The words behind those of the sequencer, in steps of a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// 1: producers share the stream, and the cells count.
    Shared,
    /// Everything below is in the file, but for what patches have changed in the ring since.
    Written,
    /// Number of the last patch that was taken.
    Queued,
    /// Number of the last patch that is not needed any more: ring or file show it.
    Applied,
}

impl Word {
    pub(crate) const fn at(self) -> usize {
        at::WORDS + 2048 + self as usize * 256
    }
}

/// How far a ring file has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing was accepted.
    Making,
    /// The head is whole.
    Ready,
}

impl State {
    pub(crate) const fn word(self) -> u64 {
        match self {
            Self::Making => 0,
            Self::Ready => 0x7964_6165_7220_6677,
        }
    }
}

/// How large the parts of a ring file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) capacity: u64,
    /// Head, words, patches and cells.
    pub(crate) control: u64,
    pub(crate) ring: u64,
    /// Of the whole file.
    pub(crate) len: u64,
}

impl Extent {
    /// `None`: no ring is like that.
    pub(crate) fn new(capacity: u64, total: u64) -> Option<Self> {
        const MOST: u64 = 1 << 44;
        let is_a_ring = capacity > 0 && capacity.is_multiple_of(Sequencer::CELL);
        if !is_a_ring || capacity > total || total > MOST {
            return None;
        }
        let cells = capacity / Sequencer::CELL * size_of::<u64>() as u64;
        let control = (at::CELLS as u64 + cells).next_multiple_of(Memory::ALIGN as u64);
        let ring = control.next_multiple_of(Memory::HUGE as u64);
        Some(Self { capacity, control, ring, len: ring + total })
    }

    /// Where the byte of a position lies.
    pub(crate) fn place(&self, position: u64) -> u64 {
        self.ring + position % self.capacity
    }
}

/// What does not change while the file is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) capacity: u64,
    /// From the first byte of the ring to the end of the ring file.
    pub(crate) total: u64,
    /// Alignment of device writes.
    pub(crate) block: u64,
    pub(crate) start: u64,
    /// The file is never cut below this.
    pub(crate) kept: u64,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// 1: the file bears a mark of this writer's.
    pub(crate) marked: u64,
    pub(crate) bond: Bond,
}

impl Head {
    pub(crate) const LEN: usize = 96;
    const MAGIC: &'static [u8; 12] = b"wfring\r\n\x1a\x01\0\0"; // with a version at its end
    const SUM: usize = Self::LEN - 4;

    pub(crate) fn bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..12].copy_from_slice(Self::MAGIC);
        let numbers = [
            self.capacity,
            self.total,
            self.block,
            self.start,
            self.kept,
            self.device,
            self.inode,
            self.marked,
        ];
        for (place, number) in bytes[12..76].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        bytes[76..92].copy_from_slice(&self.bond);
        let sum = crc32c::crc32c(&bytes[..Self::SUM]);
        bytes[Self::SUM..].copy_from_slice(&sum.to_ne_bytes());
        bytes
    }

    /// `None` of what was never written so.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LEN] = bytes.get(..Self::LEN)?.try_into().ok()?;
        let number = |index: usize| number(&bytes[12 + 8 * index..]);
        let head = Self {
            capacity: number(0),
            total: number(1),
            block: number(2),
            start: number(3),
            kept: number(4),
            device: number(5),
            inode: number(6),
            marked: number(7),
            bond: bytes[76..92].try_into().ok()?,
        };
        (head.bytes() == *bytes).then_some(head)
    }

    /// Whether a ring file of ours begins so, whole or not.
    pub(crate) fn is_begun(bytes: &[u8]) -> bool {
        bytes.starts_with(Self::MAGIC)
    }

    pub(crate) fn magic() -> &'static [u8] {
        Self::MAGIC
    }
}

/// The eight bytes at the start; zeros in place of those that are not there.
pub(crate) fn number(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    let len = bytes.len().min(8);
    word[..len].copy_from_slice(&bytes[..len]);
    u64::from_ne_bytes(word)
}

/// What is said of a patch, in front of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PatchHead {
    pub(crate) number: u64,
    pub(crate) from: u64,
    pub(crate) len: u64,
    pub(crate) sum: u64,
}

impl PatchHead {
    pub(crate) const LEN: usize = 32;

    /// Where the patch of a number lies; its bytes begin a page further.
    pub(crate) fn place(number: u64) -> usize {
        at::PATCHES + (number % SLOTS as u64) as usize * SLOT
    }

    pub(crate) const BYTES: usize = SLOT - Patch::MAX;

    pub(crate) fn of(number: u64, from: u64, bytes: &[u8]) -> Self {
        let head = Self { number, from, len: bytes.len() as u64, sum: 0 };
        Self { sum: head.sum_with(bytes), ..head }
    }

    fn sum_with(&self, bytes: &[u8]) -> u64 {
        let head = Self { sum: 0, ..*self }.bytes();
        u64::from(crc32c::crc32c_append(crc32c::crc32c(&head), bytes)) | 1 << 32
    }

    pub(crate) fn bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let numbers = [self.number, self.from, self.len, self.sum];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }

    /// The patch of this number, out of its slot; `None`: something else lies there.
    pub(crate) fn parse(slot: &[u8], number: u64) -> Option<(u64, &[u8])> {
        let word = |index: usize| slot.get(8 * index..).map_or(0, self::number);
        let head = Self { number: word(0), from: word(1), len: word(2), sum: word(3) };
        let len = usize::try_from(head.len).ok().filter(|len| *len <= Patch::MAX)?;
        let bytes = slot.get(Self::BYTES..Self::BYTES + len)?;
        (head.number == number && head.sum == head.sum_with(bytes)).then_some((head.from, bytes))
    }

    /// Of a slot as a whole.
    pub(crate) const SLOT: usize = SLOT;
    /// Patches that may be there at once.
    pub(crate) const MOST: u64 = SLOTS as u64;
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn no_head_with_a_flipped_bit_is_taken() {
        let numbers = (8192, 1 << 20, 4096, 10, 20, 30, 40, 1);
        let (capacity, total, block, start, kept, device, inode, marked) = numbers;
        let bond = [7; 16];
        let head = Head { capacity, total, block, start, kept, device, inode, marked, bond };
        let bytes = head.bytes();
        assert_eq!(Head::parse(&bytes), Some(head));
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::parse(&bytes), None, "bit {bit}");
        }
        (0..bytes.len()).for_each(|len| assert_eq!(Head::parse(&bytes[..len]), None));
    }

    #[test]
    fn parts_lie_behind_each_other_and_absurd_ones_nowhere() {
        for cells in [1, 2, 1000, 1 << 18] {
            let capacity = cells * Sequencer::CELL;
            let extent = Extent::new(capacity, capacity + 100).unwrap();
            assert!(
                extent.control >= at::CELLS as u64 + 8 * cells && extent.ring >= extent.control
            );
            assert!(extent.ring.is_multiple_of(Memory::HUGE as u64));
            assert_eq!(extent.len - extent.ring, capacity + 100);
        }
        for (capacity, total) in [(0, 1), (4095, 4095), (8192, 4096), (!4095, u64::MAX)] {
            assert_eq!(Extent::new(capacity, total), None);
        }
    }

    #[test]
    fn patches_have_places_of_their_own() {
        let mut slot = vec![0; SLOT];
        let head = PatchHead::of(12, 99, b"bytes");
        slot[..PatchHead::LEN].copy_from_slice(&head.bytes());
        slot[PatchHead::BYTES..][..5].copy_from_slice(b"bytes");
        assert_eq!(PatchHead::parse(&slot, 12), Some((99, &b"bytes"[..])));
        assert_eq!(PatchHead::parse(&slot, 13), None);
        slot[PatchHead::BYTES] ^= 1;
        assert_eq!(PatchHead::parse(&slot, 12), None);
        let places: std::collections::HashSet<_> =
            (1..=PatchHead::MOST).map(PatchHead::place).collect();
        assert_eq!(places.len() as u64, PatchHead::MOST);
    }
}
