//! Block arithmetic of the tail and of patches. Pure numbers.

/// The largest multiple of `block` at or below `position`.
pub(crate) fn align_down(position: u64, block: u64) -> u64 {
    position - position % block
}

/// The smallest multiple of `block` at or above `position`.
pub(crate) fn align_up(position: u64, block: u64) -> u64 {
    align_down(position + block - 1, block)
}

/// A patch, split where memory takes over from the file: bytes below the floor lie in blocks that
/// were written for good, bytes from it on will still be written from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// The part to write over the file.
    pub(crate) disk: Option<(u64, u64)>,
    /// The part to change in the ring.
    pub(crate) memory: Option<(u64, u64)>,
}

/// Splits `from..to` at `floor`.
pub(crate) fn split_patch(from: u64, to: u64, floor: u64) -> Split {
    let span = |from: u64, to: u64| (from < to).then_some((from, to));
    Split { disk: span(from, to.min(floor)), memory: span(from.max(floor), to) }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_block_of_one_aligns_everything() {
        assert_eq!((align_down(4097, 1), align_up(4097, 1)), (4097, 4097));
    }

    proptest! {
        #[test]
        fn alignment_brackets_a_position(position in 0u64..1 << 40, shift in 0u32..15) {
            let block = 1 << shift;
            let (low, high) = (align_down(position, block), align_up(position, block));
            prop_assert!(low <= position && position <= high && high - low <= block);
            prop_assert!(low.is_multiple_of(block) && high.is_multiple_of(block));
            prop_assert_eq!(low == high, position.is_multiple_of(block));
        }

        #[test]
        fn a_split_loses_no_byte(from in 0u64..100, len in 1u64..100, floor in 0u64..200) {
            let split = split_patch(from, from + len, floor);
            let bytes = |part: Option<(u64, u64)>| part.map_or(0, |(from, to)| to - from);
            prop_assert_eq!(bytes(split.disk) + bytes(split.memory), len);
            prop_assert!(split.disk.is_none_or(|(start, end)| start == from && end <= floor));
            prop_assert!(split.memory.is_none_or(|(start, end)| start >= floor && end == from + len));
        }
    }
}
