//! WAV and RF64: what the chunks before the samples say, and what they have to say of a recording
//! that was killed. The arithmetic does no I/O.
//!
//! RIFF and WAVE: "Multimedia Programming Interface and Data Specifications 1.0", IBM and Microsoft,
//! 1991. RF64, with sizes of 64 bits in `ds64`: EBU Tech 3306; BW64 (ITU-R BS.2088) has the same.

use std::io;

use super::Prefix;
use super::scan::Scan;

/// The samples begin before this.
const LONGEST_HEADER: usize = 1 << 20;
/// Where the RIFF size stands.
const RIFF_SIZE: usize = 4;
/// What the RIFF size does not count.
const UNCOUNTED: u64 = 8;
/// Where the first chunk begins: one of `DS64` bytes may hold the sizes of 64 bits.
const FIRST: usize = 12;
const DS64: usize = 28;
/// A size from here on is a placeholder of a recorder that never knew it, or says: look into `ds64`.
const PLACEHOLDER: u64 = 0x7FFF_F000;

/// The judge of a WAV or RF64 file, for [`recover`](super::recover()): keeps every whole frame of
/// samples that is in the file, and has the header describe them. Of a complete file it keeps all.
///
/// What lies behind the length that the header says was not yet described when its writer was killed;
/// it is there, though no fence may have covered it. Zeros at the end of a file that its writer has
/// [marked](Scan::data_end) may be padding: those that the header does not describe are cut, and so
/// is what lies behind a hole.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("take.wav");
/// # let mut file = Vec::from(*b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0");
/// # file.extend([0x80, 0xbb, 0, 0, 0, 0xee, 2, 0, 4, 0, 16, 0]);
/// # file.extend(*b"data\0\0\0\0four and more");
/// # std::fs::write(&path, file)?;
/// let found = writeflush::recover(&path, writeflush::recover::wave)?;
/// println!("{} bytes, {} cut", found.kept, found.cut);
/// # assert_eq!((found.kept, found.cut), (44 + 12, 1));
/// # assert_eq!(std::fs::read(&path)?[40..44], [12, 0, 0, 0]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`Wave::find`].
pub fn wave(scan: &mut Scan<'_>) -> io::Result<Prefix> {
    Wave::find(scan)?.whole_frames(scan)
}

/// The chunks before the samples of a WAV or RF64 file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wave {
    /// The format: 1 integers, 3 floats, 0xFFFE extensible.
    pub tag: u16,
    /// Samples in a frame.
    pub channels: u16,
    /// Frames in a second.
    pub rate: u32,
    /// Bits of a sample.
    pub bits: u16,
    /// Bytes in a frame.
    pub frame: u16,
    /// Bytes of samples that the header describes; 0 where it has a placeholder.
    pub described: u64,
    /// All bytes before the samples.
    header: Vec<u8>,
    /// What the RIFF size says of the whole file, less its first 8 bytes.
    riff: u64,
    /// Where the number of frames stands.
    fact: Option<usize>,
    /// The file has no header yet: all of this one is to be written.
    is_assumed: bool,
    /// It never knew how long the samples are.
    is_placeholder: bool,
}

impl Wave {
    /// Reads the chunks before the samples.
    ///
    /// # Errors
    /// One sentence, if it is no such file; and those of reading.
    pub fn find(scan: &Scan<'_>) -> io::Result<Self> {
        let mut bytes = vec![0; scan.len().min(LONGEST_HEADER as u64) as usize];
        let read = scan.read_full_at(&mut bytes, 0)?;
        let mut wave = Self::parse(&bytes[..read]).map_err(no_wave)?;
        if wave.described >= PLACEHOLDER && wave.described_of(scan.len()) == 0 {
            (wave.described, wave.is_placeholder) = (0, true);
        }
        Ok(wave)
    }

    /// As [`find`](Self::find), but of a file that begins with zeros, or ends before its samples do
    /// begin, `header` is taken: the one that its recorder writes first.
    ///
    /// # Errors
    /// As [`find`](Self::find); and if `header` is none.
    pub fn find_or(scan: &Scan<'_>, header: &[u8]) -> io::Result<Self> {
        let mut bytes = vec![0; header.len()];
        let read = scan.read_full_at(&mut bytes, 0)?;
        let is_zero = bytes[..read].iter().all(|byte| *byte == 0);
        if !is_zero && (read == header.len() || !header.starts_with(&bytes[..read])) {
            return Self::find(scan);
        }
        let mut wave = Self::parse(header).map_err(no_wave)?;
        (wave.described, wave.is_assumed) = (0, true);
        Ok(wave)
    }

    /// Where the samples begin.
    pub fn samples(&self) -> u64 {
        self.header.len() as u64
    }

    /// Every whole frame, as [`wave`] has it.
    ///
    /// # Errors
    /// Those of reading.
    pub fn whole_frames(&self, scan: &Scan<'_>) -> io::Result<Prefix> {
        if self.is_complete(scan)? {
            return Ok(Prefix::new(scan.len()));
        }
        Ok(self.prefix(scan.len(), self.there(scan)?, Ends::Padded))
    }

    /// Every whole frame, for a recorder that goes on behind the last one: without the byte that pads
    /// an odd number of bytes. The header that is written describes an even number, which may be one
    /// frame less, until that recorder writes a later one.
    ///
    /// # Errors
    /// If other chunks lie behind the samples, and those of reading.
    pub fn open_end(&self, scan: &Scan<'_>) -> io::Result<Prefix> {
        let there = match self.is_complete(scan)? {
            true if self.has_more(scan.len()) => {
                return Err(no_wave(
                    "other chunks lie behind its samples, where no recording can go on: record to \
                     another file",
                ));
            }
            true => self.described,
            false => self.there(scan)?,
        };
        Ok(self.prefix(scan.len(), there, Ends::Open))
    }

    /// Only what the header describes: with a recorder that keeps its header true, what was durable.
    /// What lies behind is kept beside. If the header describes more than there is, every whole frame.
    ///
    /// # Errors
    /// Those of reading.
    pub fn described(&self, scan: &Scan<'_>) -> io::Result<Prefix> {
        if self.is_complete(scan)? {
            return Ok(Prefix::new(scan.len()));
        }
        Ok(self.prefix(scan.len(), self.described.min(self.there(scan)?), Ends::Padded))
    }

    /// Of a complete file: whether other chunks lie behind its samples.
    fn has_more(&self, len: u64) -> bool {
        len > self.samples() + self.described.next_multiple_of(2)
    }

    /// Bytes of samples in the file, half a frame included, up to the first hole that the header does
    /// not describe: what it does is durable.
    fn there(&self, scan: &Scan<'_>) -> io::Result<u64> {
        let known = self.samples() + self.described_of(scan.len());
        let end = scan.data_end(known, self.samples(), self.unit())?;
        Ok(end.saturating_sub(self.samples()))
    }

    /// What the header describes, if a file of this length has it.
    fn described_of(&self, len: u64) -> u64 {
        if self.described <= len.saturating_sub(self.samples()) { self.described } else { 0 }
    }

    /// Nothing is to be done: the sizes are those of the file, to the last chunk behind the samples.
    fn is_complete(&self, scan: &Scan<'_>) -> io::Result<bool> {
        let (len, data) = (scan.len(), self.described);
        let fits = self.described_of(len) == data && data.is_multiple_of(self.unit());
        if self.is_assumed
            || self.is_placeholder
            || !fits
            || self.riff.checked_add(UNCOUNTED) != Some(len)
        {
            return Ok(false);
        }
        let mut at = self.samples() + data.next_multiple_of(2);
        while at < len {
            let mut chunk = [0; 8];
            if scan.read_full_at(&mut chunk, at)? < chunk.len() || !is_name(&chunk[..4]) {
                return Ok(false);
            }
            at += 8 + u64::from(u32_at(&chunk, 4)).next_multiple_of(2);
        }
        Ok(at == len)
    }

    fn unit(&self) -> u64 {
        u64::from(self.frame)
    }

    /// Of a file of `len` bytes that has so many bytes of samples.
    fn prefix(&self, len: u64, there: u64, ends: Ends) -> Prefix {
        let data = there - there % self.unit();
        let end = self.samples() + data;
        let mut prefix = Prefix::new(end.min(len)).missing(self.described.saturating_sub(data));
        if ends == Ends::Padded && data % 2 == 1 {
            prefix = prefix.header(end, [0]);
        }
        let header = self.header_of(data, ends);
        let old: &[u8] = if self.is_assumed { &[] } else { &self.header };
        match changed(old, &header) {
            Some((from, to)) => prefix.header(from as u64, &header[from..to]),
            None => prefix,
        }
    }
}

/// How the samples end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// With a byte behind an odd number of bytes.
    Padded,
    /// With the last frame: another recorder goes on.
    Open,
}

/// The arithmetic: bytes of a header to what they say, and back.
impl Wave {
    fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let is_long = matches!(bytes.get(..4), Some(b"RF64" | b"BW64"));
        if !is_long && !bytes.starts_with(b"RIFF") || bytes.get(8..FIRST) != Some(b"WAVE") {
            return Err("it is no WAV or RF64 file");
        }
        let (mut at, mut format, mut fact) = (FIRST, None, None);
        loop {
            let chunk = bytes.get(at..).unwrap_or(&[]);
            if chunk.len() < 8 {
                return Err("no samples begin in the first MiB of this WAV file");
            }
            let (size, body) = (u32_at(chunk, 4), &chunk[8..]);
            match &chunk[..4] {
                b"data" => break,
                b"fmt " if size >= 16 && body.len() >= 16 => format = Some(body),
                b"fact" if size >= 4 && body.len() >= 4 => fact = Some(at + 8),
                name if !is_name(name) => return Err("the header of this WAV file is damaged"),
                _ => {}
            }
            let next = at as u64 + 8 + u64::from(size).next_multiple_of(2);
            at = usize::try_from(next).unwrap_or(usize::MAX);
        }
        let format = format.ok_or("the header of this WAV file says nothing of its samples")?;
        let mut wave = Self {
            tag: u16_at(format, 0),
            channels: u16_at(format, 2),
            rate: u32_at(format, 4),
            frame: u16_at(format, 12),
            bits: u16_at(format, 14),
            described: u32_at(bytes, at + 4).into(),
            riff: u32_at(bytes, RIFF_SIZE).into(),
            header: bytes[..at + 8].to_vec(),
            fact,
            is_assumed: false,
            is_placeholder: false,
        };
        if wave.frame == 0 {
            return Err("the header of this WAV file says that a frame has no bytes");
        }
        if is_long {
            if wave.place_of_ds64() != Some(*b"ds64") {
                return Err("the header of this RF64 file has no ds64 for its sizes");
            }
            let sizes = &bytes[FIRST + 8..];
            if wave.described == u32::MAX.into() {
                wave.described = u64_at(sizes, 8);
            }
            wave.riff = u64_at(sizes, 0);
        }
        Ok(wave)
    }

    /// The name of the first chunk, if it has room for sizes of 64 bits.
    fn place_of_ds64(&self) -> Option<[u8; 4]> {
        let size = u32_at(&self.header, FIRST + 4) as usize;
        let fits = size >= DS64 && self.header.len() >= FIRST + 8 + DS64 + 8;
        fits.then(|| self.header[FIRST..FIRST + 4].try_into().expect("four bytes"))
    }

    /// The header of a file with so many bytes of samples, whole frames. Where there is no place for
    /// sizes of 64 bits it describes the most that 32 bits can say.
    fn header_of(&self, data: u64, ends: Ends) -> Vec<u8> {
        let mut header = self.header.clone();
        let even = if self.unit().is_multiple_of(2) { self.unit() } else { 2 * self.unit() };
        let counted = self.samples() - UNCOUNTED;
        let data = if ends == Ends::Open { data - data % even } else { data };
        let riff = counted + data.next_multiple_of(2);
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        let is_long = riff >= u32::MAX.into();
        let place = self.place_of_ds64();
        let frames;
        if place == Some(*b"ds64") || is_long && place == Some(*b"JUNK") {
            frames = data / self.unit();
            if place == Some(*b"JUNK") {
                put(0, b"RF64");
                put(FIRST, b"ds64");
                put(FIRST + 8 + 24, &[0; 4]); // no other sizes
            }
            for (number, size) in [riff, data, frames].into_iter().enumerate() {
                put(FIRST + 8 + 8 * number, &size.to_le_bytes());
            }
            put(RIFF_SIZE, &u32::MAX.to_le_bytes());
            put(self.header.len() - 4, &u32::MAX.to_le_bytes());
        } else {
            let most = u64::from(u32::MAX - 1) - counted;
            let data = if is_long { most - most % even } else { data };
            frames = data / self.unit();
            let riff = counted + data.next_multiple_of(2);
            put(RIFF_SIZE, &(riff as u32).to_le_bytes());
            put(self.header.len() - 4, &(data as u32).to_le_bytes());
        }
        // What the number of another format counts is not known here.
        if let Some(at) = self.fact.filter(|_| matches!(self.tag, 1 | 3 | 0xFFFE)) {
            put(at, &u32::try_from(frames).unwrap_or(u32::MAX).to_le_bytes());
        }
        header
    }
}

/// The bytes of `new` in which the two differ.
fn changed(old: &[u8], new: &[u8]) -> Option<(usize, usize)> {
    let differs = |at: &usize| old.get(*at) != new.get(*at);
    let from = (0..new.len()).find(differs)?;
    let last = (0..new.len()).rfind(differs)?;
    Some((from, last + 1))
}

fn is_name(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| (b' '..=b'~').contains(byte))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn no_wave(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn format(tag: u16, channels: u16, bits: u16) -> Vec<u8> {
        let frame = channels * bits / 8;
        let mut format = Vec::from(*b"fmt \x10\0\0\0");
        [tag, channels].iter().for_each(|number| format.extend(number.to_le_bytes()));
        format.extend(48_000u32.to_le_bytes());
        format.extend((48_000 * u32::from(frame)).to_le_bytes());
        [frame, bits].iter().for_each(|number| format.extend(number.to_le_bytes()));
        format
    }

    fn header(chunks: &[&[u8]], riff: u32, data: u32) -> Vec<u8> {
        let mut header = Vec::from(*b"RIFF");
        header.extend(riff.to_le_bytes());
        header.extend(*b"WAVE");
        chunks.iter().for_each(|chunk| header.extend(*chunk));
        header.extend(*b"data");
        header.extend(data.to_le_bytes());
        header
    }

    fn plain(tag: u16, channels: u16, bits: u16, data: u32) -> Vec<u8> {
        let riff = 36 + data.next_multiple_of(2);
        header(&[&format(tag, channels, bits)], riff, data)
    }

    /// What a recovery leaves of these bytes, and its report.
    fn recovered(
        bytes: &[u8],
        judge: impl Fn(&mut Scan<'_>) -> io::Result<Prefix>,
    ) -> (Vec<u8>, super::super::Recovered) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("take.wav");
        fs::write(&path, bytes).unwrap();
        let found = crate::recover(&path, &judge).unwrap();
        let left = fs::read(&path).unwrap();
        assert_eq!(left.len() as u64, found.kept);
        let again = crate::recover(&path, &judge).unwrap();
        let untouched = (again.kept, again.cut, again.torn, again.mended);
        assert_eq!(untouched, (found.kept, 0, None, false), "nothing more to do");
        assert_eq!(fs::read(&path).unwrap(), left);
        (left, found)
    }

    /// Cut anywhere, and whatever an older header describes.
    #[test]
    fn every_prefix_of_a_recording_keeps_its_whole_frames() {
        for (channels, bits) in [(2, 16), (1, 24), (1, 8)] {
            let frame = usize::from(channels * bits / 8);
            let samples: Vec<u8> = (1..=60).collect();
            for described in [0, 12, 0xFFFF_FFFF, 0x7FFF_FFFF] {
                let whole = [&plain(1, channels, bits, 0)[..40], &u32::to_le_bytes(described)];
                let whole = [&whole.concat()[..], &samples].concat();
                for len in 44..=whole.len() {
                    let data = (len - 44) / frame * frame;
                    let (left, found) = recovered(&whole[..len], wave);
                    let mut wanted = plain(1, channels, bits, data as u32);
                    wanted.extend(&samples[..data]);
                    wanted.resize(wanted.len().next_multiple_of(2), 0);
                    assert_eq!(left, wanted, "{channels} × {bits}, {described:#x}, {len}");
                    assert_eq!(found.cut as usize, len - 44 - data);
                    assert_eq!(found.torn.map_or(0, |torn| torn.bytes), found.cut);
                    let missing = (12usize).saturating_sub(data) as u64;
                    assert_eq!(found.missing, if described == 12 { missing } else { 0 });
                }
            }
        }
    }

    #[test]
    fn a_complete_file_stays_with_all_its_chunks() {
        let mut file = plain(1, 1, 24, 9);
        file.extend(1..=9);
        file.push(0);
        let (left, found) = recovered(&file, wave);
        assert_eq!((left, found.mended), (file.clone(), false));
        file.extend(*b"LIST\x03\0\0\0abc\0");
        let riff = file.len() as u32 - 8;
        file[4..8].copy_from_slice(&riff.to_le_bytes());
        let (left, found) = recovered(&file, wave);
        assert_eq!((left, found.mended), (file.clone(), false));
        // A recorder could not go on behind it.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("take.wav");
        fs::write(&path, &file).unwrap();
        let open_end = |scan: &mut Scan<'_>| Wave::find(scan)?.open_end(scan);
        let refused = crate::Options::new().resume(&path, open_end).unwrap_err();
        assert!(refused.to_string().contains("record to another file"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), file);
    }

    #[test]
    fn a_recorder_goes_on_behind_the_last_frame() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("take.wav");
        let open_end = |scan: &mut Scan<'_>| Wave::find(scan)?.open_end(scan);
        for (data, extra) in [(9u8, &[0][..]), (9, &[]), (9, &[1, 2]), (6, &[])] {
            let described = if extra == [0] { 9 } else { 3 };
            let samples: Vec<u8> = (1..=data).chain(extra.iter().copied()).collect();
            fs::write(&path, [plain(1, 1, 24, described), samples].concat()).unwrap();
            let (mut writer, found) = crate::Options::new().resume(&path, open_end).unwrap();
            assert_eq!(found.kept, 44 + u64::from(data), "{extra:?}");
            assert!(matches!(crate::recover(&path, wave), Err(crate::Error::Locked { .. })));
            writer.write(&[7; 3]).unwrap();
            writer.close().unwrap();
            let file = fs::read(&path).unwrap();
            let wanted: Vec<u8> = (1..=data).chain([7; 3]).collect();
            assert_eq!(file[44..], wanted);
            assert_eq!(u32_at(&file, 40), u32::from(data) / 6 * 6);
        }
    }

    #[test]
    fn what_is_not_described_may_be_kept_beside() {
        let mut file = plain(1, 2, 16, 8);
        file.extend(1..=19);
        let described = |scan: &mut Scan<'_>| Wave::find(scan)?.described(scan);
        let (left, found) = recovered(&file, described);
        assert_eq!(left, file[..52]);
        assert_eq!((found.cut, found.torn.unwrap().bytes), (11, 11));
    }

    #[test]
    fn a_file_without_a_header_takes_its_recorders() {
        let header = plain(3, 1, 32, 0);
        let judge = |scan: &mut Scan<'_>| Wave::find_or(scan, &header)?.whole_frames(scan);
        let (left, _) = recovered(&[vec![0; 44], vec![1; 10]].concat(), judge);
        assert_eq!(left, [plain(3, 1, 32, 8), vec![1; 8]].concat());
        for short in [vec![0; 20], header[..30].to_vec()] {
            assert_eq!(recovered(&short, judge).0, header);
        }
        let (left, _) = recovered(&[plain(1, 1, 8, 0), vec![5; 4]].concat(), judge);
        assert_eq!(left, [plain(1, 1, 8, 4), vec![5; 4]].concat(), "its own");
    }

    /// Two writes were under way, and the writer was killed before the first of them: what is described
    /// is durable, and may hold a gap, but nothing follows a hole behind that.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_lies_behind_a_hole_is_kept_beside() {
        use std::os::unix::fs::FileExt;
        let program = std::env::current_exe().unwrap(); // beside it files take marks
        let directory = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        let path = directory.path().join("take.wav");
        let (hole, behind, len) = (64 << 10, 128 << 10, (128 << 10) + 100);
        // In the block before the hole, too, something may be missing.
        for (described, marked, missing, kept) in [
            (0, true, 0, hole),
            (0, true, 4000, hole - 4000),
            (len as u32 - 44, true, 0, len),
            (hole as u32 - 1044, true, 4000, hole - 1000),
            (0, false, 0, len),
        ] {
            let there = vec![1; hole as usize - missing - 44];
            let start = [&plain(1, 2, 16, described)[..], &there, &vec![0; missing]].concat();
            fs::write(&path, start).unwrap();
            let locked = super::super::Locked::new(&crate::Options::new(), &path).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[2; 100], behind).unwrap();
            if marked {
                locked.file.set_mark(Some(crate::file::Mark::Padding)).unwrap();
            }
            if locked.file.hole(0).unwrap() != Some(hole) {
                println!("SKIPPED: no holes are told of here");
                return;
            }
            drop(locked);
            let found = crate::recover(&path, wave).unwrap();
            assert_eq!(found.kept, kept);
            let torn = found.torn.map(|torn| fs::read(torn.path).unwrap());
            assert_eq!(torn.map(|torn| torn.len() as u64), (kept < len).then_some(len - kept));
            fs::remove_file(&path).unwrap();
        }
    }

    /// Padding is told from samples by the mark, and by what the header describes.
    #[cfg(target_os = "linux")]
    #[test]
    fn zeros_that_may_be_padding_are_cut() {
        let program = std::env::current_exe().unwrap(); // beside it files take marks
        let directory = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        let path = directory.path().join("take.wav");
        for (described, wanted) in [(0, 8), (12, 12)] {
            let file = [&plain(1, 2, 16, described)[..], &[1, 2, 3, 4, 5, 6], &[0; 102]].concat();
            fs::write(&path, file).unwrap();
            let locked = super::super::Locked::new(&crate::Options::new(), &path).unwrap();
            locked.file.set_mark(Some(crate::file::Mark::Ahead)).unwrap();
            drop(locked);
            let found = crate::recover(&path, wave).unwrap();
            assert_eq!((found.kept, found.torn), (44 + wanted, None));
            assert_eq!(found.cut, 108 - wanted);
            assert!(crate::Options::new().append(&path).is_ok(), "the mark is gone");
        }
    }

    #[test]
    fn sizes_beyond_32_bits_go_where_there_is_place_for_them() {
        let junk = [&b"JUNK\x1c\0\0\0"[..], &[9; 28]].concat();
        let fact = b"fact\x04\0\0\0\0\0\0\0";
        let float = format(3, 2, 32);
        let short = Wave::parse(&header(&[&junk, &float, fact], 0, 0)).unwrap();
        let counted = short.samples() - 8;
        let header_of = |data: u64| short.header_of(data, Ends::Padded);
        let again = Wave::parse(&header_of(800)).unwrap();
        assert_eq!((again.described, again.riff), (800, counted + 800));
        assert_eq!(u32_at(&header_of(800), again.fact.unwrap()), 100);
        assert!(header_of(800).starts_with(b"RIFF"));
        let data = 5u64 << 30;
        let long = header_of(data);
        assert_eq!((&long[..4], &long[12..16]), (&b"RF64"[..], &b"ds64"[..]));
        assert_eq!((u64_at(&long, 36), u32_at(&long, 44)), (data / 8, 0));
        let long = Wave::parse(&long).unwrap();
        assert_eq!((long.described, long.riff), (data, counted + data));
        // It stays one when less is left of it.
        let less = Wave::parse(&long.header_of(800, Ends::Open)).unwrap();
        assert_eq!((less.described, less.riff), (800, counted + 800));
        // Without a place: the most that can be said.
        let plain = Wave::parse(&plain(1, 1, 24, 0)).unwrap();
        let most = Wave::parse(&plain.header_of(data, Ends::Padded)).unwrap();
        assert_eq!(most.described % 6, 0);
        assert!(u64::from(u32::MAX) - 8 < most.riff && most.riff == most.described + 36);
    }

    #[test]
    fn what_is_no_wave_file_is_left_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("take");
        let mut no_frame = plain(1, 2, 16, 0);
        no_frame[32] = 0;
        let mut damaged = plain(1, 2, 16, 0);
        damaged[13] = 200;
        let mut no_sizes = plain(1, 2, 16, 0);
        no_sizes[..4].copy_from_slice(b"RF64");
        let cases: [(&[u8], &str); 7] = [
            (&no_sizes, "the header of this RF64 file has no ds64 for its sizes"),
            (b"x", "it is no WAV or RF64 file"),
            (&[0; 100], "it is no WAV or RF64 file"),
            (&plain(1, 2, 16, 0)[..40], "no samples begin in the first MiB of this WAV file"),
            (&header(&[], 0, 0), "the header of this WAV file says nothing of its samples"),
            (&no_frame, "the header of this WAV file says that a frame has no bytes"),
            (&damaged, "the header of this WAV file is damaged"),
        ];
        for (bytes, sentence) in cases {
            fs::write(&path, bytes).unwrap();
            let error = crate::recover(&path, wave).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("{} is left as it was: {sentence}", path.display())
            );
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }

    /// No content makes it panic, or end the file where there is none.
    #[test]
    fn any_bytes_are_judged() {
        let mut random = fastrand::Rng::with_seed(7);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("take");
        for _ in 0..500 {
            let mut bytes = plain(1, random.u16(..5), 8 * random.u16(..5), random.u32(..40));
            bytes.extend((0..random.usize(..40)).map(|_| random.u8(..)));
            for _ in 0..random.usize(..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            fs::write(&path, &bytes).unwrap();
            judge_twice(&path, &bytes);
        }
    }

    fn judge_twice(path: &Path, bytes: &[u8]) {
        let Ok(found) = crate::recover(path, wave) else {
            assert_eq!(fs::read(path).unwrap(), bytes);
            return;
        };
        let left = fs::read(path).unwrap();
        assert_eq!(left.len() as u64, found.kept);
        crate::recover(path, wave).unwrap();
        assert_eq!(fs::read(path).unwrap(), left);
        if let Some(torn) = found.torn {
            fs::remove_file(torn.path).unwrap();
        }
    }
}
