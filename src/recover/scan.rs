//! What a judge of a file may read of it.

use std::io::{self, Read, Seek, SeekFrom};

use crate::file::{Handle, unfinished_from};

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

    /// Where zeros begin that end the file and may be no data: the mark of its writer says that it was
    /// killed, and may have left padding or space ahead there. `None`: its length is true, as far as
    /// anybody knows. Reads those zeros.
    ///
    /// # Errors
    /// Those of reading.
    pub fn padding(&self) -> io::Result<Option<u64>> {
        match self.file.mark() {
            Some(mark) => unfinished_from(self.file, mark, self.len),
            None => Ok(None),
        }
    }

    /// Where a hole begins, at `from` or behind it, in a file whose writer was killed (its
    /// [mark](Self::padding) says so): of writes that are under way together a later one may end first,
    /// and a kill, or a full disk, leaves nothing in the place of the other. What lies behind a hole
    /// follows nothing. (So does what lies behind a gap that the writer has made itself:
    /// `from` is for who knows how far those reach.) `None`: there is none, or the file system can't
    /// tell. Linux; reads nothing. (A file that was written through the page cache bears no mark, and has no
    /// hole: there one write is under way at a time.)
    ///
    /// # Errors
    /// Those of lseek(2).
    pub fn hole(&self, from: u64) -> io::Result<Option<u64>> {
        match self.file.mark() {
            Some(_) => self.file.hole(from),
            None => Ok(None),
        }
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
