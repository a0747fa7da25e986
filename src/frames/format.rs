//! Bytes of the format, to numbers and back. No I/O.

use crc32c::{crc32c, crc32c_append};

/// Bytes of the head of a file.
pub(super) const HEAD: usize = 64;
/// Bytes of a frame's header.
pub(super) const HEADER: usize = 40;
/// Bytes of an end frame, its header included.
pub(super) const END: usize = HEADER + End::BYTES;
/// What every frame begins with.
pub(super) const MARK: [u8; 3] = [0xF1, b'w', b'f'];

const MAGIC: [u8; 8] = *b"\x89wfFR\r\n\x1a";
const VERSION: u32 = 1;

/// The longest payload that the format knows: 1 GiB.
pub const LONGEST: usize = 1 << 30;

/// The longest payload of what is no message: an index, an end, a cookie.
pub(super) const LONGEST_OTHER: usize = 64 << 10;

/// The greatest number that a recording begins with: far from the end of all numbers.
pub(super) const LAST_FIRST: u64 = 1 << 62;
/// The greatest number that a segment of it begins with.
const LAST_SEGMENT: u64 = 1 << 63;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// What the head of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) generation: u64,
    /// What all segments of a recording have in common; the generation of one file alone.
    pub(super) recording: u64,
    /// Number of the first frame; `None` in a segment whose head was written before that was known.
    pub(super) first: Option<u64>,
    /// Number of the first frame of the whole recording, where this file is a segment of one.
    pub(super) origin: u64,
    /// The number of a segment that was recycled; else 0.
    pub(super) segment: u64,
}

/// In the place of a number that was not known.
const UNKNOWN: u64 = u64::MAX;

/// Why the first bytes of a file are no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// Nothing, or too few bytes, of which those that are there begin one.
    Unfinished,
    /// Zeros.
    Zeros,
    /// It begins as one, and its checksum is wrong.
    Damaged,
    /// A later version.
    Version(u32),
    /// Something else.
    Foreign,
}

impl Head {
    /// Of a file with a generation that is the recording's.
    pub(super) fn of(generation: u64, first: Option<u64>, origin: u64) -> Self {
        Self { generation, recording: generation, first, origin, segment: 0 }
    }

    /// Of a recycled segment whose number is not this.
    pub(super) fn is_of_another(&self, segment: u64) -> bool {
        self.segment != 0 && self.segment != segment
    }

    pub(super) fn encode(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(HEAD as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.generation.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.unwrap_or(UNKNOWN).to_le_bytes());
        bytes[32..40].copy_from_slice(&self.origin.to_le_bytes());
        let recording = if self.recording == self.generation { 0 } else { self.recording };
        bytes[40..48].copy_from_slice(&recording.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.segment.to_le_bytes());
        let sum = crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Of the first bytes of a file, as many of [`HEAD`] as there are.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NoHead> {
        if bytes.len() < HEAD {
            let begins = bytes.iter().zip(&MAGIC).all(|(found, wanted)| found == wanted);
            return Err(match begins {
                true => NoHead::Unfinished,
                false if bytes.iter().all(|byte| *byte == 0) => NoHead::Zeros,
                false => NoHead::Foreign,
            });
        }
        if bytes[..8] != MAGIC {
            let is_zero = bytes[..HEAD].iter().all(|byte| *byte == 0);
            return Err(if is_zero { NoHead::Zeros } else { NoHead::Foreign });
        }
        if crc32c(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(NoHead::Damaged);
        }
        let (version, frames) = (u32_at(bytes, 8), u32_at(bytes, 12));
        if version != VERSION || frames as usize != HEAD {
            return Err(NoHead::Version(version));
        }
        let (generation, origin) = (u64_at(bytes, 16), u64_at(bytes, 32));
        let first = Some(u64_at(bytes, 24)).filter(|first| *first != UNKNOWN);
        if generation == 0 || origin > LAST_FIRST || first.is_some_and(|first| first > LAST_SEGMENT)
        {
            return Err(NoHead::Damaged);
        }
        let recording = Some(u64_at(bytes, 40)).filter(|recording| *recording != 0);
        let (recording, segment) = (recording.unwrap_or(generation), u64_at(bytes, 48));
        Ok(Self { generation, recording, first, origin, segment })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Index,
    End,
    Cookie,
    /// Of a later program.
    Other(u8),
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Index => 2,
            Self::End => 3,
            Self::Cookie => 4,
            Self::Other(number) => number,
        }
    }

    fn of(number: u8) -> Self {
        match number {
            1 => Self::Data,
            2 => Self::Index,
            3 => Self::End,
            4 => Self::Cookie,
            other => Self::Other(other),
        }
    }
}

/// What the header of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Bytes of payload.
    pub(super) len: u32,
    pub(super) sequence: u64,
    pub(super) time: u64,
    pub(super) generation: u64,
    /// CRC32C of the payload.
    pub(super) sum: u32,
}

impl Header {
    /// For the frame at `position`.
    #[inline]
    pub(super) fn encode(self, position: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..3].copy_from_slice(&MARK);
        bytes[3] = self.kind.number();
        bytes[4..8].copy_from_slice(&self.len.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.time.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.generation.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.sum.to_le_bytes());
        let sum = Self::sum(&bytes[..36], position);
        bytes[36..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Of the bytes at `position`, if they are a header that was written there.
    pub(super) fn decode(bytes: &[u8], position: u64) -> Option<Self> {
        if bytes.len() < HEADER || bytes[..3] != MARK {
            return None;
        }
        if Self::sum(&bytes[..36], position) != u32_at(bytes, 36) {
            return None;
        }
        let len = u32_at(bytes, 4);
        (len as usize <= LONGEST).then(|| Self {
            kind: Kind::of(bytes[3]),
            len,
            sequence: u64_at(bytes, 8),
            time: u64_at(bytes, 16),
            generation: u64_at(bytes, 24),
            sum: u32_at(bytes, 32),
        })
    }

    #[inline]
    fn sum(bytes: &[u8], position: u64) -> u32 {
        crc32c_append(crc32c(bytes), &position.to_le_bytes())
    }

    /// Bytes of the whole frame.
    pub(super) fn frame(&self) -> u64 {
        HEADER as u64 + u64::from(self.len)
    }

    pub(super) fn fits(&self, payload: &[u8]) -> bool {
        crc32c(payload) == self.sum
    }
}

/// The payload of an end frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) index: u64,
    pub(super) frames: u64,
    pub(super) first_time: u64,
}

impl End {
    pub(super) const BYTES: usize = 24;

    pub(super) fn encode(self) -> [u8; Self::BYTES] {
        three_numbers(self.index, self.frames, self.first_time)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == Self::BYTES).then(|| Self {
            index: u64_at(bytes, 0),
            frames: u64_at(bytes, 8),
            first_time: u64_at(bytes, 16),
        })
    }
}

/// An entry of the index: a data frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) position: u64,
    pub(super) sequence: u64,
    pub(super) time: u64,
}

impl Entry {
    pub(super) const BYTES: usize = 24;

    pub(super) fn encode(self) -> [u8; Self::BYTES] {
        three_numbers(self.position, self.sequence, self.time)
    }

    pub(super) fn decode(bytes: &[u8]) -> Self {
        Self { position: u64_at(bytes, 0), sequence: u64_at(bytes, 8), time: u64_at(bytes, 16) }
    }
}

fn three_numbers(first: u64, second: u64, third: u64) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&first.to_le_bytes());
    bytes[8..16].copy_from_slice(&second.to_le_bytes());
    bytes[16..].copy_from_slice(&third.to_le_bytes());
    bytes
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    const HEADER_OF: Header =
        Header { kind: Kind::Data, len: 5, sequence: 6, time: 7, generation: 8, sum: 9 };

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    /// What is on disks can't change: these are the bytes of version 1.
    #[test]
    fn the_bytes_are_those_of_the_page() {
        let head = Head::of(0x0102_0304_0506_0708, Some(3), 2).encode();
        assert_eq!(&head[..16], b"\x89wfFR\r\n\x1a\x01\0\0\0\x40\0\0\0");
        assert_eq!(&head[16..32], b"\x08\x07\x06\x05\x04\x03\x02\x01\x03\0\0\0\0\0\0\0");
        assert_eq!(head[32..40], 2u64.to_le_bytes());
        assert_eq!(head[40..60], [0; 20]);
        let ahead = Head { recording: 9, segment: 4, ..Head::of(1, None, 0) }.encode();
        let (recording, segment) = (9u64.to_le_bytes(), 4u64.to_le_bytes());
        let expected = [&[0xFF; 8][..], &[0; 8], &recording, &segment, &[0; 4]].concat();
        assert_eq!(ahead[24..60], expected);
        let frame = HEADER_OF.encode(64);
        assert_eq!(&frame[..16], b"\xF1wf\x01\x05\0\0\0\x06\0\0\0\0\0\0\0");
        assert_eq!(&frame[16..36], b"\x07\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x09\0\0\0");
        let mut summed = frame[..36].to_vec();
        summed.extend(64u64.to_le_bytes());
        assert_eq!(frame[36..], crc32c(&summed).to_le_bytes());
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else_is() {
        let ahead = Head { recording: 8, segment: 4, ..Head::of(7, None, 5) };
        assert_eq!(Head::decode(&ahead.encode()), Ok(ahead));
        let head = Head::of(7, Some(9), 0);
        let bytes = head.encode();
        assert_eq!(Head::decode(&bytes), Ok(head));
        for at in 0..HEAD {
            let mut damaged = bytes;
            damaged[at] ^= 0x10;
            assert!(Head::decode(&damaged).is_err(), "{at}");
        }
        let bytes = HEADER_OF.encode(1000);
        assert_eq!(Header::decode(&bytes, 1000), Some(HEADER_OF));
        assert_eq!(Header::decode(&bytes, 1001), None, "at another place");
        for at in 0..HEADER {
            let mut damaged = bytes;
            damaged[at] ^= 0x10;
            assert_eq!(Header::decode(&damaged, 1000), None, "{at}");
        }
    }

    #[test]
    fn a_file_without_a_head_says_why() {
        let head = Head::of(7, Some(9), 0).encode();
        assert_eq!(Head::decode(&[]), Err(NoHead::Unfinished));
        assert_eq!(Head::decode(&head[..30]), Err(NoHead::Unfinished));
        assert_eq!(Head::decode(&[0; 100]), Err(NoHead::Zeros));
        assert_eq!(Head::decode(b"RIFF"), Err(NoHead::Foreign));
        assert_eq!(Head::decode(&[b'R'; 64]), Err(NoHead::Foreign));
        let mut later = head;
        later[8] = 2;
        let sum = crc32c(&later[..60]);
        later[60..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(Head::decode(&later), Err(NoHead::Version(2)));
    }

    #[test]
    fn a_length_beyond_the_format_is_none() {
        let long = Header { len: LONGEST as u32 + 1, ..HEADER_OF };
        assert_eq!(Header::decode(&long.encode(0), 0), None);
    }
}
