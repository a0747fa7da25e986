//! What a judge of a file may read of it.

use std::io::{self, Read, Seek, SeekFrom};

use crate::file::{Handle, end_of_marked};

/// A file that is being recovered, for whoever says how much of it is good: to be read from any place,
/// as often as it takes. It stands at the start, and is as long as when it was locked. Every read is
/// a system call: put a [`BufReader`](std::io::BufReader) over it.
#[derive(Debug)]
pub struct Scan<'a> {
    file: &'a dyn Handle,
    len: u64,
    at: u64,
}

impl<'a> Scan<'a> {
    pub(super) fn new(file: &'a dyn Handle, len: u64) -> Self {
        Self { file, len, at: 0 }
    }

    /// The length of the file in bytes; never 0.
    #[expect(clippy::len_without_is_empty, reason = "an empty file is not asked about")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Where the data ends, of which a frame of `unit` bytes begins at `first`: the length of the file,
    /// unless its writer was killed and has left a mark that says so. Then zeros at the end may be
    /// padding, or space ahead; and of writes that were under way together a later one may have ended
    /// first, so that there is a hole which nothing follows, with such zeros before it. All of those
    /// zeros are left out but the ones that end a frame, and none below `known`, which is durable.
    /// (Through the page cache one write is under way at a time: such a file bears no mark.) Holes are
    /// known on Linux, where the file system tells. Reads the zeros.
    ///
    /// # Errors
    /// Those of reading.
    pub fn data_end(&self, known: u64, first: u64, unit: u64) -> io::Result<u64> {
        let Some(mark) = self.file.mark() else { return Ok(self.len) };
        let end = end_of_marked(self.file, mark, known, self.len)?;
        let frames = end.zeros.saturating_sub(first).next_multiple_of(unit.max(1));
        Ok(first.saturating_add(frames).max(known).min(end.at))
    }

    /// Fills `bytes` from a position on, as far as the file reaches; returns how many it has filled.
    ///
    /// # Errors
    /// Those of reading.
    pub fn read_full_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let wanted = self.len.saturating_sub(at).min(bytes.len() as u64) as usize;
        let mut filled = 0;
        while filled < wanted {
            match self.file.read_at(&mut bytes[filled..wanted], at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

impl Read for Scan<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.read_full_at(bytes, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Scan<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(from) => self.len.checked_add_signed(from),
            SeekFrom::Current(from) => self.at.checked_add_signed(from),
        };
        let before = || io::Error::new(io::ErrorKind::InvalidInput, "before the start of the file");
        self.at = at.ok_or_else(before)?;
        Ok(self.at)
    }
}
