//! `std::io::Write` and `Seek`: a drop-in for `BufWriter<File>`.

use std::io::{self, IoSlice, Seek, SeekFrom, Write};

use super::parts::{Parts, Record};
use super::{Writer, taken};
use crate::error::Error;
use crate::overrun::{OnFull, Push};

/// `write` takes all bytes; at a cursor that was moved back it overwrites ([`patch`]) and then
/// goes on at the end. A cursor past the end leaves zeros in between. `flush` returns when the
/// kernel has everything (*written*, as for `BufWriter<File>`); it is no fence, though it costs one
/// after an overwrite, unless [`Options::durable_flush`](crate::Options::durable_flush) makes it
/// one: see [`write_flush`](Writer::write_flush).
///
/// Bytes that the policy [`Fill`](OnFull::Fill) loses count as written: the position is where their
/// fill bytes end. Under [`Drop`](OnFull::Drop) a loss is an error, [`Error::Lost`], though it is
/// counted as ever: whoever reckons with positions, as an encoder does, has to know.
///
/// [`patch`]: crate::Control::patch
impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0); // the end stays where it is, as that of a `File`
        }
        match self.overwrite(bytes)? {
            Some(len) => Ok(len),
            None => self.write_at_the_end(bytes),
        }
    }

    /// At the end all the parts are one record, taken whole; before it the first of them that is not
    /// empty overwrites, as `write` does.
    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(first) = parts.iter().find(|part| !part.is_empty()) else { return Ok(0) };
        match self.overwrite(first)? {
            Some(len) => Ok(len),
            None => self.write_at_the_end(Parts::new(parts)?),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.core().facts.options.durable_flush {
            return Ok(Writer::flush(self).map(drop)?);
        }
        Ok(self.core().drain()?)
    }
}

impl Writer {
    /// The longest gap that is filled with zeros; a longer one is made by the file system. (Short in
    /// the crate's own tests, so that the simulated computer meets both.) At least a block of direct
    /// I/O there.
    const LONGEST_FILLED: u64 = if cfg!(test) { 4096 } else { 4 << 20 };

    /// Where the next byte will lie: behind the fill bytes that are still owed.
    fn end(&self) -> u64 {
        self.accepted().saturating_add(self.owed())
    }

    /// Where the cursor was moved back: what lies there is overwritten, as far as the end. Otherwise
    /// `None`.
    fn overwrite(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let Some(cursor) = self.cursor else { return Ok(None) };
        self.repay_all(); // what is owed lies before the end that the cursor was set by
        let before = self.accepted().saturating_sub(cursor);
        if before == 0 {
            return Ok(None);
        }
        let len = bytes.len().min(usize::try_from(before).unwrap_or(usize::MAX));
        self.patch(cursor, &bytes[..len])?;
        self.move_to(cursor + len as u64);
        Ok(Some(len))
    }

    /// At the end, or behind it, where the cursor is.
    fn write_at_the_end(&mut self, record: impl Record) -> io::Result<usize> {
        if let Some(cursor) = self.cursor {
            self.check_length(record.len())?;
            self.leave_gap_to(cursor)?;
        }
        self.cursor = None;
        let push = self.push(record)?;
        taken(push, record.len(), self.core().facts.options.on_full)
    }

    fn move_to(&mut self, position: u64) {
        self.cursor = (position != self.end()).then_some(position);
    }

    /// Refuses what the policy never takes, before a gap is left for it.
    fn check_length(&self, offered: usize) -> Result<(), Error> {
        let limit = self.core().longest_whole();
        match self.core().facts.options.on_full {
            OnFull::Block => Ok(()),
            _ if offered <= limit => Ok(()),
            _ => Err(Error::TooLong { offered, limit }),
        }
    }

    /// What lies between the end and `position` reads as zeros.
    fn leave_gap_to(&mut self, position: u64) -> io::Result<()> {
        // What a recycled file holds there is written over in any case.
        let old_end = self.core().facts.existing.clamp(self.accepted(), position);
        if position - old_end <= Self::LONGEST_FILLED {
            return self.fill_to(position);
        }
        self.fill_to(old_end)?;
        Ok(self.go_on_at(position)?)
    }

    fn fill_to(&mut self, position: u64) -> io::Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while self.accepted() < position {
            let len = (position - self.accepted()).min(ZEROS.len() as u64) as usize;
            // A policy that drops bytes would never get there: say so instead of trying for ever.
            if let Push::Lost(bytes) = Writer::write(self, &ZEROS[..len])? {
                return Err(Error::Lost { bytes }.into());
            }
        }
        Ok(())
    }
}

/// A write behind the end leaves a gap that reads as zeros. Up to 4 MiB of them go through the buffers
/// and to the disk like other bytes; a longer gap is made by the file system, as a `File`
/// leaves it, and takes no space where files can have holes. (On NTFS it does, unless the file is a
/// sparse one: zeros are written by the first write behind it.) Only where a recycled file held bytes
/// ([`Options::open`](crate::Options::open)) zeros are written over all of them.
///
/// The first write behind a gap of more than 4 MiB waits until all that came before is *written*,
/// under any policy, and while [`DiskFull::Wait`](crate::DiskFull::Wait) waits for space. Positions
/// are those of the file: with the write that follows, a gap counts as accepted, submitted and written
/// at once, and the next fence makes it durable. If the file can't be so long the call fails
/// ([`FileTooLarge`](io::ErrorKind::FileTooLarge), behind 2^62 in any case), nothing has changed but
/// for those zeros over old bytes, and the writer goes on.
///
/// ```
/// # use std::io::{Seek, SeekFrom, Write};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// let path = directory.path().join("take");
/// let mut writer = writeflush::Options::new().create(&path)?;
/// writer.write_all(b"size: ????, samples")?;
/// writer.seek(SeekFrom::Start(6))?;
/// writer.write_all(b"0007")?; // a patch, ordered before the next fence
/// writer.seek(SeekFrom::End(0))?;
/// writer.write_all(b" go on")?;
/// writer.close()?;
/// assert_eq!(std::fs::read(&path)?, b"size: 0007, samples go on");
/// # Ok(())
/// # }
/// ```
///
/// The end is the accepted position, and whatever the policy `Fill` still owes. Moving the cursor
/// does no I/O; a write at a cursor that was moved waits for room, if anything is owed.
impl Seek for Writer {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let from = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.end().checked_add_signed(by),
            SeekFrom::Current(by) => self.cursor.unwrap_or(self.end()).checked_add_signed(by),
        };
        // Positions have 63 bits, as the operating system's have.
        let position = from.filter(|&position| position <= i64::MAX as u64).ok_or_else(|| {
            let text = "seek to a position before the start or past what a file can hold";
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        self.move_to(position);
        Ok(position)
    }
}
