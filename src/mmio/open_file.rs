//! One open file as the messages see it: a position, a storage, and what went wrong.

use super::abi::*;
use super::failure::Failure;
use super::storage::Storage;
use crate::control::Control;
use crate::ticket::Ticket;

/// Positions are 64 bits wide in here; a message carries 32 of them, and `0xFFFF_FFFF` means −1.
pub(super) const LAST_POSITION: u64 = 0xFFFF_FFFE;

/// A LONG wraps at 2 GiB. A negative position is one that has wrapped only in a file that reaches so
/// near to it: more than any buffer of a client; elsewhere it is a mistake.
const NEAR_THE_WRAP: u64 = (2 << 30) - (64 << 20);

const ASTRAY: &str = "an earlier SEEK was refused, so nobody knows where these bytes belong: SEEK \
                      from the start or the end first";

#[derive(Debug)]
pub(super) struct OpenFile {
    storage: Storage,
    position: u64,
    /// A SEEK to a place was refused. Buffered callers hide that, so whatever comes next would be
    /// meant for that place and land here: nothing is read or written until a SEEK has found a
    /// position. A relative SEEK, or a WRITE, that was refused changes nothing.
    astray: bool,
    /// The first WRITE that was refused: CLOSE repeats it, since callers hide the −1 of a WRITE.
    unwritten: Option<Failure>,
    /// The last thing that went wrong.
    last: Option<Failure>,
}

impl OpenFile {
    pub(super) fn new(storage: Storage) -> Self {
        Self { storage, position: 0, astray: false, unwritten: None, last: None }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The handle of the writer that records to it, if one does.
    pub(super) fn recorder(&self) -> Option<Control> {
        self.storage.control().cloned()
    }

    /// What went wrong last; what went wrong on the way to the disk weighs more.
    pub(super) fn last(&self) -> Option<Failure> {
        let poisoned = self.storage.control().and_then(Control::error);
        poisoned.map(Failure::unwritten).or_else(|| self.last.clone())
    }

    /// Refused once bytes are missing, or the way to the disk has failed: a file that is not whole
    /// gets no other name through the handle that writes it.
    pub(super) fn whole(&mut self) -> Result<(), Failure> {
        let poisoned = self.storage.control().and_then(Control::error).map(Failure::unwritten);
        poisoned.or_else(|| self.unwritten.clone()).map_or(Ok(()), Err)
    }

    pub(super) fn durable(&self) -> Option<u64> {
        Some(self.storage.control()?.positions().durable)
    }

    /// Asks for a fence; `None` for a file that is only read. Refused once bytes are missing: they
    /// are among those that the caller takes for written.
    pub(super) fn fence(&mut self) -> Result<Option<Ticket>, Failure> {
        match self.unwritten.clone() {
            Some(failure) => Err(self.note(failure)),
            None => Ok(self.storage.fence()),
        }
    }

    /// The caller's side has bytes that were not handed over yet: a fence would not be one of them.
    pub(super) fn held_back(&mut self) -> Failure {
        let sentence = "winmm still has bytes of this file in its buffer: call mmioFlush first";
        self.note(Failure::new(MMIOERR_CANNOTWRITE, sentence))
    }

    pub(super) fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Failure> {
        if self.astray {
            return Err(self.note(Failure::new(MMIOERR_CANNOTREAD, ASTRAY)));
        }
        let room = usize::try_from(LAST_POSITION - self.position).unwrap_or(usize::MAX);
        let len = bytes.len().min(room);
        match self.storage.read(self.position, &mut bytes[..len]) {
            Ok(n) => {
                self.position += n as u64;
                Ok(n)
            }
            Err(error) => Err(self.note(Failure::new(MMIOERR_CANNOTREAD, error.to_string()))),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.astray {
            return Err(self.refuse(Failure::new(MMIOERR_CANNOTWRITE, ASTRAY)));
        }
        let end = self.position + bytes.len() as u64;
        if end > LAST_POSITION {
            return Err(self.refuse(Failure::new(
                MMIOERR_CANNOTEXPAND,
                format!(
                    "{} bytes at {} would end past what a message can name ({LAST_POSITION}): go on \
                     in another file",
                    bytes.len(),
                    self.position
                ),
            )));
        }
        if let Err(error) = self.storage.write(self.position, bytes) {
            return Err(self.refuse(Failure::unwritten(error)));
        }
        self.position = end;
        Ok(bytes.len())
    }

    /// As [`write`](Self::write), with the ticket of a fence behind the bytes.
    pub(super) fn write_flush(&mut self, bytes: &[u8]) -> Result<Option<Ticket>, Failure> {
        if let Some(failure) = self.unwritten.clone() {
            return Err(self.note(failure));
        }
        self.write(bytes)?;
        self.fence()
    }

    /// The fence behind bytes that a WRITEFLUSH had taken failed: it moves nothing, as every error.
    pub(super) fn flush_failed(&mut self, len: usize, end: u64, failure: Failure) {
        if self.position == end {
            self.position = end - len as u64;
        }
        self.refuse(failure);
    }

    pub(super) fn seek(&mut self, by: LPARAM, origin: LPARAM) -> Result<u64, Failure> {
        match self.target(by, origin) {
            Ok(position) => {
                self.position = position;
                self.astray &= origin == SEEK_CUR as LPARAM; // which only asks then
                Ok(position)
            }
            Err(failure) => {
                self.astray |= origin != SEEK_CUR as LPARAM;
                Err(self.note(failure))
            }
        }
    }

    fn target(&self, by: LPARAM, origin: LPARAM) -> Result<u64, Failure> {
        let cannot = |why: String| Failure::new(MMIOERR_CANNOTSEEK, why);
        let target = match i32::try_from(origin) {
            Ok(SEEK_SET) => match i32::try_from(by) {
                Ok(wrapped) if wrapped < 0 => {
                    let size = self.storage.len().map_err(|error| cannot(error.to_string()))?;
                    let is_near = size.max(self.position) >= NEAR_THE_WRAP;
                    is_near.then_some(u64::from(wrapped as u32)) // its bits are the position
                }
                _ => u64::try_from(by).ok(),
            },
            Ok(SEEK_CUR) if self.astray && by != 0 => return Err(cannot(ASTRAY.into())),
            Ok(SEEK_CUR) => self.position.checked_add_signed(by as i64),
            Ok(SEEK_END) => {
                let size = self.storage.len().map_err(|error| cannot(error.to_string()))?;
                (by as i64).checked_neg().and_then(|by| size.checked_add_signed(by))
            }
            _ => return Err(cannot(format!("{origin} is no origin of a seek: give 0, 1 or 2"))),
        };
        target.filter(|&position| position <= LAST_POSITION).ok_or_else(|| {
            cannot(format!("a seek by {by} from origin {origin} leaves the positions that exist"))
        })
    }

    /// Bytes were not taken, or are not on disk: noted for good.
    pub(super) fn refuse(&mut self, failure: Failure) -> Failure {
        self.unwritten.get_or_insert_with(|| failure.clone());
        self.note(failure)
    }

    pub(super) fn note(&mut self, failure: Failure) -> Failure {
        self.last = Some(failure.clone());
        failure
    }

    pub(super) fn close(self) -> Result<(), Failure> {
        let Self { storage, unwritten, .. } = self;
        let closed = storage.close();
        match unwritten {
            // Whatever the reason of the refusal, its bytes are not on disk.
            Some(failure) => Err(Failure::new(MMIOERR_CANNOTWRITE, failure.sentence)),
            None => closed,
        }
    }
}
