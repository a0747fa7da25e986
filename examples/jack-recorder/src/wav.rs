//! The header of a WAV file of 32-bit floats that may grow past 4 GiB: pure arithmetic.
//!
//! A place of 28 bytes is kept free behind the first 12. While the file is shorter than 4 GiB it is a
//! chunk that readers skip (`JUNK`); then it becomes `ds64` with the sizes in 64 bits, and `RIFF`
//! becomes `RF64` (EBU Tech 3306).

/// Bytes of the header; the samples begin here.
pub const HEADER: u64 = 94;
/// WAVE_FORMAT_IEEE_FLOAT.
const FLOAT: u16 = 3;
/// Bytes of a sample.
pub const SAMPLE: u64 = 4;
/// Most channels: the bytes of a frame have a field of 16 bits.
pub const CHANNELS: u16 = u16::MAX / SAMPLE as u16;

/// What the samples look like.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// Frames in a second.
    pub rate: u32,
    /// Samples in a frame.
    pub channels: u16,
}

impl Format {
    /// Bytes of one sample of every channel.
    pub fn frame(self) -> u64 {
        u64::from(self.channels) * SAMPLE
    }

    /// Whole frames in a file of `len` bytes.
    pub fn frames(self, len: u64) -> u64 {
        len.saturating_sub(HEADER) / self.frame()
    }

    /// The header of a file of `len` bytes in all: it describes whole frames only.
    pub fn header(self, len: u64) -> [u8; HEADER as usize] {
        let frames = self.frames(len);
        let data = frames * self.frame();
        let riff = data + HEADER - 8;
        let is_long = riff >= u64::from(u32::MAX);
        // In a long file the sizes of 32 bits say: look into ds64.
        let short = |size: u64| if is_long { u32::MAX } else { size as u32 };
        let mut header = Vec::with_capacity(HEADER as usize);
        header.extend(if is_long { b"RF64" } else { b"RIFF" });
        header.extend(short(riff).to_le_bytes());
        header.extend(b"WAVE");
        header.extend(if is_long { b"ds64" } else { b"JUNK" });
        header.extend(28u32.to_le_bytes());
        let long = |size: u64| if is_long { size } else { 0 };
        for size in [riff, data, frames] {
            header.extend(long(size).to_le_bytes());
        }
        header.extend(0u32.to_le_bytes());
        // What is no PCM has the size of an extension, and a `fact` with the number of frames.
        header.extend(b"fmt ");
        header.extend(18u32.to_le_bytes());
        header.extend(FLOAT.to_le_bytes());
        header.extend(self.channels.to_le_bytes());
        header.extend(self.rate.to_le_bytes());
        header.extend((self.rate.wrapping_mul(self.frame() as u32)).to_le_bytes());
        header.extend((self.frame() as u16).to_le_bytes());
        header.extend((8 * SAMPLE as u16).to_le_bytes());
        header.extend(0u16.to_le_bytes());
        header.extend(b"fact");
        header.extend(4u32.to_le_bytes());
        header.extend(short(frames).to_le_bytes());
        header.extend(b"data");
        header.extend(short(data).to_le_bytes());
        header.try_into().expect("the fields make 94 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEREO: Format = Format { rate: 48_000, channels: 2 };

    #[test]
    fn a_short_file_is_a_plain_wav_of_whole_frames() {
        let header = STEREO.header(HEADER + 1003);
        assert_eq!(&header[..4], b"RIFF");
        assert_eq!(header[90..], 1000u32.to_le_bytes());
        assert_eq!(header[4..8], (1000u32 + 86).to_le_bytes());
        assert_eq!((&header[74..78], &header[82..86]), (&b"fact"[..], &125u32.to_le_bytes()[..]));
        assert_eq!(STEREO.header(0)[90..], [0; 4]);
    }

    #[test]
    fn a_long_file_has_its_sizes_in_ds64() {
        let data = 5u64 << 30;
        let header = STEREO.header(HEADER + data);
        assert_eq!((&header[..4], &header[12..16]), (&b"RF64"[..], &b"ds64"[..]));
        assert_eq!(header[20..28], (data + 86).to_le_bytes());
        assert_eq!(header[28..36], data.to_le_bytes());
        assert_eq!(header[36..44], (data / 8).to_le_bytes());
        assert_eq!(header[82..86], u32::MAX.to_le_bytes());
        assert_eq!(header[90..], u32::MAX.to_le_bytes());
    }
}
