//! The header of a WAV file: what stands in it, and what a header that is read means. No I/O but
//! from the reader that is given.
//!
//! A new header: RIFF/WAVE; a `JUNK` chunk, which becomes the `ds64` of RF64 where 32 bits no longer
//! hold the sizes (EBU Tech 3306); `fmt `, as plain PCM, or as WAVE_FORMAT_EXTENSIBLE for more than
//! two channels, more than 16 bits and float; for float a `fact`; `data`, which is the last chunk.

use std::io::{self, Read};

use crate::error::Bad;

/// What the sizes count is behind the first 8 bytes.
const RIFF_BEGIN: u64 = 8;
/// Where the chunk with the sizes of 64 bits lies: it is the first one.
const LARGE_AT: usize = 12;
/// The bytes of its content.
const LARGE_LEN: u32 = 28;
/// No chunk before the data is longer: what says so is no header.
const LONGEST_CHUNK: u32 = 1 << 20;

const TAG_PCM: u16 = 1;
const TAG_FLOAT: u16 = 3;
const TAG_EXTENSIBLE: u16 = 0xfffe;
/// What follows the tag in the subformat of WAVE_FORMAT_EXTENSIBLE (mmreg.h).
const GUID_TAIL: [u8; 14] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];

/// What the samples look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Format {
    #[serde(rename = "rate_hz")]
    rate: u32,
    channels: u16,
    #[serde(rename = "sample_bits")]
    bits: u16,
    float: bool,
}

impl Format {
    /// A format that the header can say: its fields have 16 and 32 bits.
    pub(crate) fn new(rate: u32, channels: u16, bits: u16, float: bool) -> Result<Self, Bad> {
        if float && !matches!(bits, 32 | 64) || !float && !matches!(bits, 8 | 16 | 24 | 32) {
            return Err(Bad::new(
                "samples have 8 (unsigned), 16, 24 or 32 bits, or with --float 32 or 64: give \
                 another --bits",
            ));
        }
        let frame = u64::from(channels) * u64::from(bits / 8);
        let fits = frame <= u16::MAX.into() && u64::from(rate) * frame <= u32::MAX.into();
        if !fits || frame == 0 || rate == 0 {
            return Err(Bad::new(format!(
                "{channels} channels of {bits} bits at {rate} Hz are more than a WAV header can \
                 say: give a lower --rate or fewer --channels, or record with --raw"
            )));
        }
        Ok(Self { rate, channels, bits, float })
    }

    /// Bytes in a frame: one sample of each channel.
    pub(crate) fn frame(self) -> u64 {
        u64::from(self.channels) * u64::from(self.bits / 8)
    }

    /// Bytes behind the last whole frame, which no header describes: readers refuse half a frame.
    pub(crate) fn rest(self, data: u64) -> u64 {
        data % self.frame()
    }

    /// The bytes of so much time, in whole frames.
    pub(crate) fn bytes_of(self, time: std::time::Duration) -> u64 {
        let frames = time.as_nanos() * u128::from(self.rate) / 1_000_000_000;
        u64::try_from(frames).unwrap_or(u64::MAX).saturating_mul(self.frame())
    }

    /// Whether options that say so much say the same.
    pub(crate) fn is_as_told(
        self,
        rate: Option<u32>,
        channels: Option<u16>,
        bits: Option<u16>,
        float: bool,
    ) -> bool {
        rate.is_none_or(|it| it == self.rate)
            && channels.is_none_or(|it| it == self.channels)
            && bits.is_none_or(|it| it == self.bits)
            && (!float || self.float)
    }

    fn is_extensible(self) -> bool {
        self.float || self.channels > 2 || self.bits > 16
    }

    /// The content of the chunk `fmt `.
    fn chunk(self) -> Vec<u8> {
        let tag = if self.float { TAG_FLOAT } else { TAG_PCM };
        let extensible = self.is_extensible();
        let mut chunk = Vec::new();
        chunk.extend((if extensible { TAG_EXTENSIBLE } else { tag }).to_le_bytes());
        chunk.extend(self.channels.to_le_bytes());
        chunk.extend(self.rate.to_le_bytes());
        // `new` has seen that these fit.
        chunk.extend((self.rate * self.frame() as u32).to_le_bytes());
        chunk.extend((self.frame() as u16).to_le_bytes());
        chunk.extend(self.bits.to_le_bytes());
        if extensible {
            chunk.extend(22u16.to_le_bytes()); // what follows
            chunk.extend(self.bits.to_le_bytes()); // all of them are valid
            chunk.extend(self.speakers().to_le_bytes());
            chunk.extend(tag.to_le_bytes());
            chunk.extend(GUID_TAIL);
        }
        chunk
    }

    /// A recorder's channels are no loudspeakers where there are more than two.
    fn speakers(self) -> u32 {
        match self.channels {
            1 => 0x4,
            2 => 0x3,
            _ => 0,
        }
    }

    /// What a chunk `fmt ` says.
    fn of_chunk(chunk: &[u8]) -> Result<Self, Bad> {
        let field = |at: usize| match chunk.get(at..at + 2) {
            Some(bytes) => u16::from_le_bytes([bytes[0], bytes[1]]),
            None => 0,
        };
        let rate = u32::from(field(4)) | u32::from(field(6)) << 16;
        let tag = match field(0) {
            TAG_EXTENSIBLE if chunk.get(26..40) == Some(&GUID_TAIL) => field(24),
            tag => tag,
        };
        let format = match tag {
            TAG_PCM | TAG_FLOAT => Self::new(rate, field(2), field(14), tag == TAG_FLOAT).ok(),
            _ => None,
        };
        format.filter(|format| format.frame() == u64::from(field(12))).ok_or_else(|| {
            Bad::new("its samples are neither PCM of 8, 16, 24 or 32 bits nor float of 32 or 64")
        })
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rate, channels, bits, float } = self;
        let float = if *float { " float" } else { "" };
        write!(f, "{channels} × {bits} bit{float} at {rate} Hz")
    }
}

/// All that stands before the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    bytes: Vec<u8>,
    format: Format,
    /// There is a chunk for sizes of 64 bits.
    large: bool,
    /// Where the number of frames stands.
    fact: Option<usize>,
}

/// What a header that was read says of its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) header: Header,
    /// Bytes of data.
    pub(crate) data: u64,
}

impl Header {
    pub(crate) fn new(format: Format) -> Self {
        let mut bytes = b"RIFF\0\0\0\0WAVEJUNK".to_vec();
        bytes.extend(LARGE_LEN.to_le_bytes());
        bytes.extend([0; LARGE_LEN as usize]);
        let chunk = format.chunk();
        bytes.extend(b"fmt ");
        bytes.extend((chunk.len() as u32).to_le_bytes());
        bytes.extend(chunk);
        let fact = format.float.then(|| {
            bytes.extend(b"fact\x04\0\0\0\0\0\0\0");
            bytes.len() - 4
        });
        bytes.extend(b"data\0\0\0\0");
        Self { bytes, format, large: true, fact }
    }

    /// As many bytes say whether there is one.
    pub(crate) const BEGIN: usize = 12;

    pub(crate) fn begins(bytes: &[u8]) -> bool {
        bytes.len() >= Self::BEGIN
            && matches!(&bytes[..4], b"RIFF" | b"RF64")
            && &bytes[8..Self::BEGIN] == b"WAVE"
    }

    /// Reads one, up to the first byte of its data; `None` where this is no RIFF file, with the
    /// bytes that were taken.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Result<Result<Found, Bad>, Vec<u8>>> {
        let mut bytes = Vec::new();
        take(from, Self::BEGIN as u64, &mut bytes)?;
        if !Self::begins(&bytes) {
            return Ok(Err(bytes));
        }
        Self::read_chunks(from, bytes).map(Ok)
    }

    fn read_chunks(from: &mut impl Read, mut bytes: Vec<u8>) -> io::Result<Result<Found, Bad>> {
        let (mut format, mut fact, mut large) = (None, None, false);
        loop {
            let at = bytes.len();
            take(from, 8, &mut bytes)?;
            let Some(chunk) = bytes.get(at..at + 8).map(<[u8]>::to_vec) else {
                return Ok(Err(Bad::new("its header has no data chunk: it is cut off")));
            };
            let len = u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]);
            if &chunk[..4] == b"data" {
                return Ok(match format {
                    Some(Ok(format)) => Ok(found(Self { bytes, format, large, fact }, len)),
                    Some(Err(bad)) => Err(bad),
                    None => Err(Bad::new("its header does not say what the samples are")),
                });
            }
            if len > LONGEST_CHUNK {
                return Ok(Err(Bad::new("its header makes no sense: a chunk is too long")));
            }
            take(from, u64::from(len.next_multiple_of(2)), &mut bytes)?;
            let content = bytes.get(at + 8..).unwrap_or_default();
            match &chunk[..4] {
                b"fmt " => format = Some(Format::of_chunk(content)),
                b"fact" if len >= 4 => fact = Some(at + 8),
                b"JUNK" | b"ds64" if at == LARGE_AT && len >= LARGE_LEN => large = true,
                _ => {}
            }
        }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Its length: the data begins here.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The most data that it can describe: whole frames, and the pad byte.
    pub(crate) fn longest_data(&self) -> u64 {
        let most = if self.large { 1 << 62 } else { u64::from(u32::MAX) };
        let most = most - (self.len() - RIFF_BEGIN) - 1;
        most - self.format.rest(most)
    }

    /// The bytes of data before this position in the file.
    pub(crate) fn data_before(&self, position: u64) -> u64 {
        position.saturating_sub(self.len())
    }

    /// While the recording goes on it describes nothing beyond the data that is durable. Whole frames,
    /// and an even length, since an odd one would count a pad byte that is not there yet.
    pub(crate) fn so_far(&self, durable: u64) -> Vec<u8> {
        let frame = self.format.frame();
        let unit = if frame.is_multiple_of(2) { frame } else { 2 * frame };
        self.describing(durable.min(self.longest_data()) / unit * unit)
    }

    /// Of a finished recording: all whole frames, or the most that it can say.
    pub(crate) fn of_all(&self, data: u64) -> Vec<u8> {
        let data = data.min(self.longest_data());
        self.describing(data - self.format.rest(data))
    }

    /// Whether it can't describe this much data.
    pub(crate) fn is_too_short_for(&self, data: u64) -> bool {
        data > self.longest_data()
    }

    /// Whether a finished recording of this length ends in a pad byte. A rest begins with the byte
    /// that stands for it.
    pub(crate) fn needs_pad(&self, data: u64) -> bool {
        data % 2 == 1 && self.format.rest(data) == 0 && !self.is_too_short_for(data)
    }

    fn describing(&self, data: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let (riff, frames) =
            (self.len() - RIFF_BEGIN + data.next_multiple_of(2), data / self.format.frame());
        // Where it does not fit, the true one is in the chunk of 64 bits.
        let exceeds = riff > u32::MAX.into();
        let word = |value: u64| match u32::try_from(value) {
            Ok(value) if !exceeds => value.to_le_bytes(),
            _ => [0xff; 4],
        };
        put(0, if exceeds { b"RF64" } else { b"RIFF" });
        put(4, &word(riff));
        put(self.bytes.len() - 4, &word(data));
        if let Some(fact) = self.fact {
            put(fact, &word(frames));
        }
        if self.large {
            put(LARGE_AT, if exceeds { b"ds64" } else { b"JUNK" });
            for (i, value) in [riff, data, frames].into_iter().enumerate() {
                let value = if exceeds { value } else { 0 };
                put(LARGE_AT + 8 + 8 * i, &value.to_le_bytes());
            }
        }
        bytes
    }
}

/// RF64 has the true length in its first chunk.
fn found(header: Header, len: u32) -> Found {
    let large = header.bytes.get(LARGE_AT + 16..LARGE_AT + 24);
    let data = match large.and_then(|bytes| bytes.try_into().ok()) {
        Some(large) if &header.bytes[..4] == b"RF64" && len == u32::MAX => {
            u64::from_le_bytes(large)
        }
        _ => len.into(),
    };
    Found { header, data }
}

/// Appends so many bytes, or fewer at the end.
fn take(from: &mut impl Read, len: u64, to: &mut Vec<u8>) -> io::Result<()> {
    from.by_ref().take(len).read_to_end(to).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stereo() -> Header {
        Header::new(Format::new(48_000, 2, 16, false).unwrap())
    }

    fn mono24() -> Header {
        Header::new(Format::new(44_100, 1, 24, false).unwrap())
    }

    fn float() -> Header {
        Header::new(Format::new(96_000, 8, 32, true).unwrap())
    }

    fn read(mut bytes: &[u8]) -> Found {
        Header::read(&mut bytes).unwrap().unwrap().unwrap()
    }

    /// What a reader takes it for: the length of the data, after all that it says was looked at.
    fn data(header: &Header, bytes: &[u8]) -> u64 {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let found = read(bytes);
        assert_eq!(found.header.format, header.format);
        assert_eq!(bytes.len() as u64, header.len());
        let riff = header.len() - 8 + found.data.next_multiple_of(2);
        let frames = found.data / header.format.frame();
        if &bytes[..4] == b"RF64" {
            assert_eq!((word(4), &bytes[12..16], word(16)), (u32::MAX, &b"ds64"[..], 28));
            assert_eq!((long(20), long(36), word(44)), (riff, frames, 0));
        } else {
            assert_eq!((u64::from(word(4)), &bytes[12..16]), (riff, &b"JUNK"[..]));
        }
        found.data
    }

    #[test]
    fn the_bytes_that_every_reader_knows() {
        let mut expected = Vec::from(*b"RIFF\x50\0\0\0WAVEJUNK\x1c\0\0\0");
        expected.extend([0; 28]);
        expected.extend(*b"fmt \x10\0\0\0\x01\0\x02\0");
        expected.extend([0x80, 0xbb, 0, 0, 0, 0xee, 2, 0, 4, 0, 16, 0]);
        expected.extend(*b"data\x08\0\0\0");
        assert_eq!(stereo().of_all(8), expected);
    }

    /// For every position that may become durable.
    #[test]
    fn a_header_never_describes_more_than_is_durable() {
        for header in [stereo(), mono24(), float()] {
            let (len, frame) = (header.len(), header.format.frame());
            let step = frame * if frame % 2 == 0 { 1 } else { 2 };
            let at_4_gib = (1u64 << 32) - 100..(1 << 32) + 200;
            for durable in (0..200).chain(at_4_gib) {
                let data = data(&header, &header.so_far(header.data_before(durable)));
                assert_eq!(data % step, 0);
                assert!(data == 0 || len + data <= durable, "{data} of {durable}");
                assert!(len + data + step > durable, "{data} of {durable} is less than could be");
            }
        }
    }

    #[test]
    fn an_odd_end_is_padded() {
        let header = mono24();
        assert_eq!(data(&header, &header.of_all(9)), 9);
        assert!(header.needs_pad(9) && !header.needs_pad(6));
    }

    #[test]
    fn half_a_frame_is_not_described() {
        assert_eq!(data(&stereo(), &stereo().of_all(7)), 4);
        assert_eq!((stereo().format.rest(7), stereo().needs_pad(7)), (3, false));
        // The pad byte of nine bytes is the first of the rest.
        for len in [10, 11] {
            assert_eq!(data(&mono24(), &mono24().of_all(len)), 9);
            assert!(!mono24().needs_pad(len));
        }
    }

    #[test]
    fn beyond_4_gib_it_is_rf64() {
        for header in [stereo(), mono24(), float()] {
            let frame = header.format.frame();
            let most = u64::from(u32::MAX) - (header.len() - 8) - 1;
            let most = most - most % frame;
            assert_eq!(&header.of_all(most)[..4], b"RIFF");
            for len in [most + 2 * frame, 5_000_000_000 / frame * frame, (1 << 40) / frame * frame]
            {
                let bytes = header.of_all(len);
                assert_eq!((&bytes[..4], data(&header, &bytes)), (&b"RF64"[..], len));
                assert!(!header.is_too_short_for(len));
            }
        }
    }

    /// A header that somebody else has made, without a reserve for 64 bits.
    #[test]
    fn a_foreign_header_says_the_most_it_can() {
        let mut bytes = Vec::from(*b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0");
        bytes.extend([0x80, 0xbb, 0, 0, 0, 0xee, 2, 0, 4, 0, 16, 0]);
        bytes.extend(*b"data\x08\0\0\0");
        let Found { header, data } = read(&bytes);
        assert_eq!((data, header.len(), header.of_all(8)), (8, 44, bytes));
        assert_eq!(header.format, stereo().format);
        let most = header.longest_data();
        assert!(header.is_too_short_for(most + 4) && most % 4 == 0);
        assert_eq!(read(&header.of_all(1 << 33)).data, most);
    }

    #[test]
    fn what_is_no_header_is_given_back_and_a_damaged_one_has_a_sentence() {
        let given = |mut bytes: &[u8]| Header::read(&mut bytes).unwrap();
        assert_eq!(given(b"RIFFxxxxAVI abc").unwrap_err(), b"RIFFxxxxAVI ");
        assert_eq!(given(b"abc").unwrap_err(), b"abc");
        let whole = mono24().of_all(3);
        for cut in 12..whole.len() {
            assert!(given(&whole[..cut]).unwrap().is_err(), "cut at {cut}");
        }
        for at in 12..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x80;
            let _ = given(&flipped); // whatever it is taken for, it ends
        }
    }

    #[test]
    fn a_format_that_the_fields_cannot_hold_is_refused() {
        assert!(Format::new(u32::MAX, 2, 16, false).is_err());
        assert!(Format::new(48_000, 1024, 32, false).is_ok());
        assert!(Format::new(48_000, 2, 12, false).is_err());
        assert!(Format::new(48_000, 2, 16, true).is_err());
        assert!(Format::new(48_000, 2, 64, true).is_ok());
    }

    #[test]
    fn time_is_whole_frames() {
        let format = stereo().format;
        assert_eq!(format.bytes_of(std::time::Duration::from_millis(1500)), 72_000 * 4);
        assert_eq!(format.bytes_of(std::time::Duration::from_nanos(20_900)), 4);
        assert_eq!(format.bytes_of(std::time::Duration::MAX), u64::MAX);
    }
}
