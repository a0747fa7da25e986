//! The header of a WAV file: pure arithmetic, no I/O.
//!
//! Layout: the 44 bytes of RIFF/WAVE with a 16-byte `fmt ` chunk and a `data` chunk
//! (Multimedia Programming Interface and Data Specifications 1.0, IBM and Microsoft, 1991).

use crate::error::Bad;

/// Length of the header; the data begins here.
pub(crate) const HEADER: u64 = 44;
/// What the RIFF size counts beside the data: the header less its own first 8 bytes.
const RIFF_EXTRA: u64 = HEADER - 8;
const TAG_PCM: u16 = 1;

/// What the samples look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Format {
    #[serde(rename = "rate_hz")]
    rate: u32,
    channels: u16,
    #[serde(rename = "sample_bits")]
    bits: u16,
}

impl Format {
    /// A format that the header can say: its fields have 16 and 32 bits.
    pub(crate) fn new(rate: u32, channels: u16, bits: u16) -> Result<Self, Bad> {
        let frame = u64::from(channels) * u64::from(bits / 8);
        let fits = frame <= u16::MAX.into() && u64::from(rate) * frame <= u32::MAX.into();
        if !fits {
            return Err(Bad::new(format!(
                "{channels} channels of {bits} bits at {rate} Hz are more than a WAV header can \
                 say: give a lower --rate, or record without --wav"
            )));
        }
        Ok(Self { rate, channels, bits })
    }

    /// Bytes in a frame: one sample of each channel.
    pub(crate) fn frame(self) -> u64 {
        u64::from(self.channels) * u64::from(self.bits / 8)
    }

    /// The most data that a header can describe: whole frames, a whole number of words, below
    /// what the 32 bits of the RIFF size can say.
    pub(crate) fn longest_data(self) -> u64 {
        self.whole(u64::from(u32::MAX) - RIFF_EXTRA)
    }

    /// The header while the recording goes on: it describes nothing beyond `durable`. Whole
    /// frames, and an even length, since an odd one would count a pad byte that is not there yet.
    pub(crate) fn header_so_far(self, durable: u64) -> [u8; HEADER as usize] {
        self.header(self.whole(durable.saturating_sub(HEADER)))
    }

    /// The header of a finished recording: all whole frames, or the most that it can say.
    pub(crate) fn header_of_all(self, data: u64) -> [u8; HEADER as usize] {
        let longest = self.is_too_long(data).then(|| self.longest_data());
        self.header(longest.unwrap_or(data - self.rest(data)))
    }

    /// Bytes behind the last whole frame, which no header describes: readers refuse half a frame.
    pub(crate) fn rest(self, data: u64) -> u64 {
        data % self.frame()
    }

    /// Whether a header can't describe this much data.
    pub(crate) fn is_too_long(self, data: u64) -> bool {
        data > self.longest_data()
    }

    /// Whether a finished recording of this length ends in a pad byte. A rest begins with the byte
    /// that stands for it.
    pub(crate) fn needs_pad(self, data: u64) -> bool {
        data % 2 == 1 && self.rest(data) == 0 && !self.is_too_long(data)
    }

    fn whole(self, data: u64) -> u64 {
        let unit = if self.frame().is_multiple_of(2) { self.frame() } else { 2 * self.frame() };
        let longest = (u64::from(u32::MAX) - RIFF_EXTRA) / unit * unit;
        (data / unit * unit).min(longest)
    }

    fn header(self, data: u64) -> [u8; HEADER as usize] {
        let word = |value: u64| -> [u8; 4] {
            u32::try_from(value).expect("the length was capped before").to_le_bytes()
        };
        let frame = self.frame();
        let mut header = [0; HEADER as usize];
        header[0..4].copy_from_slice(b"RIFF");
        header[4..8].copy_from_slice(&word(RIFF_EXTRA + data.next_multiple_of(2)));
        header[8..16].copy_from_slice(b"WAVEfmt ");
        header[16..20].copy_from_slice(&word(16));
        header[20..22].copy_from_slice(&TAG_PCM.to_le_bytes());
        header[22..24].copy_from_slice(&self.channels.to_le_bytes());
        header[24..28].copy_from_slice(&self.rate.to_le_bytes());
        header[28..32].copy_from_slice(&word(u64::from(self.rate) * frame));
        header[32..34].copy_from_slice(&(frame as u16).to_le_bytes());
        header[34..36].copy_from_slice(&self.bits.to_le_bytes());
        header[36..40].copy_from_slice(b"data");
        header[40..44].copy_from_slice(&word(data));
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stereo() -> Format {
        Format::new(48_000, 2, 16).unwrap()
    }

    fn mono24() -> Format {
        Format::new(44_100, 1, 24).unwrap()
    }

    fn word(header: &[u8; 44], at: usize) -> u64 {
        u32::from_le_bytes(header[at..at + 4].try_into().unwrap()).into()
    }

    fn sizes(header: [u8; 44]) -> (u64, u64) {
        (word(&header, 4), word(&header, 40))
    }

    #[test]
    fn the_bytes_that_every_reader_knows() {
        let mut expected = Vec::from(*b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0");
        expected.extend([0x80, 0xbb, 0, 0, 0, 0xee, 2, 0, 4, 0, 16, 0]);
        expected.extend(*b"data\x08\0\0\0");
        assert_eq!(stereo().header_of_all(8).to_vec(), expected);
    }

    /// For every position that may become durable.
    #[test]
    fn a_header_never_describes_more_than_is_durable() {
        for format in [stereo(), mono24(), Format::new(8000, 1, 8).unwrap()] {
            let step = format.frame() * if format.frame() % 2 == 0 { 1 } else { 2 };
            for durable in 0..200 {
                let (riff, data) = sizes(format.header_so_far(durable));
                assert_eq!(riff, data + 36);
                assert_eq!(data % step, 0);
                assert!(data == 0 || 44 + data <= durable, "{data} of {durable}");
                assert!(44 + data + step > durable, "{data} of {durable} is less than it could be");
            }
        }
    }

    #[test]
    fn an_odd_end_is_padded() {
        assert_eq!(sizes(mono24().header_of_all(9)), (46, 9));
        assert!(mono24().needs_pad(9));
        assert!(!mono24().needs_pad(6));
    }

    #[test]
    fn half_a_frame_is_not_described() {
        assert_eq!(sizes(stereo().header_of_all(7)), (40, 4));
        assert_eq!((stereo().rest(7), stereo().needs_pad(7)), (3, false));
        // The pad byte of nine bytes is the first of the rest.
        for data in [10, 11] {
            assert_eq!(sizes(mono24().header_of_all(data)), (46, 9));
            assert!(!mono24().needs_pad(data));
        }
    }

    #[test]
    fn beyond_4_gib_the_header_says_the_most_it_can() {
        for format in [stereo(), mono24(), Format::new(1, 1, 8).unwrap()] {
            let most = format.longest_data();
            assert!(most + 36 <= u32::MAX.into() && most + 36 > u64::from(u32::MAX) - 8);
            assert_eq!(most % format.frame(), 0);
            assert!(!format.is_too_long(most) && format.is_too_long(most + 1));
            assert!(!format.needs_pad(most + 1) || (most + 1) % 2 == 0);
            for data in [most, most + 1, 1 << 32, 1 << 40, u64::MAX - 44] {
                assert_eq!(sizes(format.header_of_all(data)), (most + 36, most));
                assert_eq!(sizes(format.header_so_far(data + 44)), (most + 36, most));
            }
        }
    }

    #[test]
    fn a_format_that_the_fields_cannot_hold_is_refused() {
        assert!(Format::new(u32::MAX, 2, 16).is_err());
        assert!(Format::new(48_000, 1024, 32).is_ok());
    }
}
