//! `std::io::Write` and `Seek`: a drop-in for `BufWriter<File>`.

use std::io::{self, Seek, SeekFrom, Write};

use super::Writer;
use crate::error::Error;
use crate::overrun::{OnFull, Push};

/// `write` takes all bytes; at a cursor that was moved back it overwrites ([`patch`]) and then
/// goes on at the end. A cursor past the end leaves zeros in between. `flush` returns when the
/// kernel has everything (*written*, as for `BufWriter<File>`); it is no fence, though it costs one
/// after an overwrite: for one use [`write_flush`](Writer::write_flush).
///
/// Bytes that the policy [`Fill`](OnFull::Fill) loses count as written: the position is where their
/// fill bytes end. Under [`Drop`](OnFull::Drop) a loss is an error, [`Error::Lost`], though it is
/// counted as ever: whoever reckons with positions, as an encoder does, has to know.
///
/// [`patch`]: crate::Control::patch
impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cursor.is_some() {
            self.repay_all(); // what is owed lies before the end that the cursor was set by
        }
        let end = self.accepted();
        match self.cursor {
            Some(cursor) if cursor < end => {
                let len = bytes.len().min(usize::try_from(end - cursor).unwrap_or(usize::MAX));
                self.patch(cursor, &bytes[..len])?;
                self.move_to(cursor + len as u64);
                Ok(len)
            }
            cursor => {
                if let Some(cursor) = cursor {
                    self.pad_to(cursor)?;
                }
                self.cursor = None;
                match (Writer::write(self, bytes)?, self.core().facts.options.on_full) {
                    (Push::Lost(bytes), OnFull::Drop) => Err(Error::Lost { bytes }.into()),
                    // What `Fill` loses gets its place filled.
                    (Push::Accepted(_) | Push::Lost(_), _) => Ok(bytes.len()),
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.core().drain()?)
    }
}

impl Writer {
    /// Gaps are made of zeros that go through the buffers to the disk.
    const LONGEST_GAP: u64 = 1 << 30;

    /// Where the next byte will lie: behind the fill bytes that are still owed.
    fn end(&self) -> u64 {
        self.accepted().saturating_add(self.owed())
    }

    fn move_to(&mut self, position: u64) {
        self.cursor = (position != self.end()).then_some(position);
    }

    fn pad_to(&mut self, position: u64) -> io::Result<()> {
        let gap = position.saturating_sub(self.accepted());
        if gap > Self::LONGEST_GAP {
            let text = format!(
                "a gap of {gap} bytes would be filled with zeros: leave at most {}, or make it with \
                 File::set_len before the writer appends",
                Self::LONGEST_GAP
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
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

/// A write behind the end fills the gap with zeros, which go through the buffers and to the disk like
/// other bytes (a `File` leaves a hole): a gap of more than 1 GiB is refused with
/// [`InvalidInput`](io::ErrorKind::InvalidInput), and nothing is written.
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
