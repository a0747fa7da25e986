//! The caller's side, for programs without winmm: a buffer, messages, and RIFF chunks.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::io::SeekFrom;
use std::path::Path;

use super::abi::*;
use super::failure::Failure;
use super::name;
use super::open_file::LAST_POSITION;
#[cfg(windows)]
use super::procedure::io_procedure_w;

/// An open file behind an I/O procedure: what `mmioOpen` gives elsewhere.
///
/// Small writes are collected in a buffer and go out as WRITE; [`flush`](Self::flush) sends what is
/// in it as **WRITEFLUSH**, so that it returns when everything written is durable. Dropping it
/// closes it, and nobody hears of an error: close it.
///
/// ```
/// # fn main() -> Result<(), writeflush::mmio::Failure> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("take.wav");
/// use writeflush::mmio::File;
///
/// let mut file = File::create(&path)?;
/// let riff = file.create_list(*b"RIFF", *b"WAVE")?;
/// let format = file.create_chunk(*b"fmt ")?;
/// file.write(&[1, 0, 1, 0, 0x80, 0xbb, 0, 0, 0x80, 0xbb, 0, 0, 1, 0, 8, 0])?;
/// file.ascend(format)?;
/// let data = file.create_chunk(*b"data")?;
/// file.write(&[128; 48_000])?;
/// file.flush()?; // these bytes survive a power cut; the chunks' lengths come with `ascend`
/// file.ascend(data)?;
/// file.ascend(riff)?;
/// file.close()
/// # }
/// ```
#[derive(Debug)]
pub struct File {
    procedure: IOProc,
    info: Box<MMIOINFO>,
    /// Bytes that were not sent yet: they end at `position`.
    buffer: Vec<u8>,
    position: u64,
    /// A message was refused: no more is sent until a seek says where it belongs.
    astray: bool,
    closed: bool,
}

// SAFETY: the raw pointers in `info` are null, and the procedure takes messages from any thread.
unsafe impl Send for File {}

const ASTRAY: &str = "an earlier write was refused, and these bytes would close over its gap: seek \
                      to where they belong";

/// A chunk of a RIFF file that is being written or was found: `MMCKINFO`, with the id first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its four-character code.
    pub id: [u8; 4],
    /// Bytes of data; of a list (RIFF, LIST) its type is among them. 0 while it is written.
    pub size: u32,
    /// The type of a list.
    pub list: Option<[u8; 4]>,
    /// Where the data begins: of a list, at its type.
    pub data: u64,
    /// It was made here, and its size is written by `ascend`.
    is_new: bool,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.data + u64::from(self.size) + u64::from(self.size % 2)
    }
}

impl File {
    const BUFFER: usize = 8192;

    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// What OPEN answered.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Failure> {
        Self::open(path, MMIO_CREATE | MMIO_READWRITE)
    }

    /// Opens with the flags of `mmioOpen`.
    ///
    /// # Errors
    /// What OPEN answered.
    pub fn open(path: impl AsRef<Path>, flags: u32) -> Result<Self, Failure> {
        #[cfg(windows)]
        {
            let path = path.as_ref();
            let name = name::wide(&plus(path)).ok_or_else(|| no_name(path))?;
            Self::send_open(io_procedure_w, name.as_ptr() as LPARAM, flags)
        }
        // SAFETY: our own procedure keeps the contract of its type.
        #[cfg(not(windows))]
        unsafe {
            Self::open_with(super::procedure::io_procedure, path, flags)
        }
    }

    /// Opens behind another procedure. On Windows the name goes to it in the code page, and one that
    /// can't is refused; [`open`](Self::open) takes any.
    ///
    /// # Safety
    /// The procedure takes the messages of this module with pointers as
    /// [`io_procedure`](super::io_procedure) does, from whatever thread the file moves to.
    ///
    /// # Errors
    /// What OPEN answered.
    pub unsafe fn open_with(
        procedure: IOProc,
        path: impl AsRef<Path>,
        flags: u32,
    ) -> Result<Self, Failure> {
        let path = path.as_ref();
        let name = name::for_message(&plus(path)).ok_or_else(|| no_name(path))?;
        Self::send_open(procedure, name.as_ptr() as LPARAM, flags)
    }

    fn send_open(procedure: IOProc, name: LPARAM, flags: u32) -> Result<Self, Failure> {
        let info = MMIOINFO { dwFlags: flags, pIOProc: Some(procedure), ..MMIOINFO::default() };
        let mut file = Self {
            procedure,
            info: Box::new(info),
            buffer: Vec::with_capacity(Self::BUFFER),
            position: 0,
            astray: false,
            closed: true, // until it is open
        };
        match file.send(MMIOM_OPEN, name, 0) {
            0 => {
                file.closed = false;
                Ok(file)
            }
            code => Err(file.failure(code as u32)),
        }
    }

    /// Where the next byte is read or written.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Writes at the position: copied, and on its way when the buffer is full.
    ///
    /// # Errors
    /// What WRITE was refused for: neither these bytes nor those that were in the buffer were taken,
    /// the position is where the first of them would have gone, and `close` will say so too. Later
    /// writes are refused, so that they don't close over the gap, until [`seek`](Self::seek) says
    /// where they belong; `flush` is refused for good.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.buffer.len() + bytes.len() > Self::BUFFER {
            self.send_buffer(MMIOM_WRITE)?;
        }
        if bytes.len() > Self::BUFFER {
            return self.send_bytes(MMIOM_WRITE, bytes);
        }
        self.buffer.extend_from_slice(bytes);
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Waits until everything written is durable.
    ///
    /// # Errors
    /// What WRITEFLUSH was refused for.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.send_buffer(MMIOM_WRITEFLUSH)
    }

    /// Reads at the position; fewer bytes than asked for at the end only.
    ///
    /// # Errors
    /// What READ, or a WRITE before it, was refused for.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Failure> {
        self.send_buffer(MMIOM_WRITE)?;
        self.go_to(self.position)?;
        let count = i32::try_from(bytes.len()).unwrap_or(i32::MAX) as LPARAM;
        let answer = self.send(MMIOM_READ, bytes.as_mut_ptr() as LPARAM, count);
        let taken = usize::try_from(answer).map_err(|_| self.refused(MMIOERR_CANNOTREAD))?;
        self.position += taken as u64;
        Ok(taken)
    }

    /// Moves the position; past the end is allowed, and leaves zeros in between once something is
    /// written there.
    ///
    /// # Errors
    /// There is no such position, or what a WRITE before it was refused for.
    pub fn seek(&mut self, to: SeekFrom) -> Result<u64, Failure> {
        let from = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => {
                self.send_buffer(MMIOM_WRITE)?;
                self.end()?.checked_add_signed(by)
            }
        };
        let Some(position) = from.filter(|&position| position <= LAST_POSITION) else {
            let sentence = format!("{to:?} is before the start or past what a message can name");
            return Err(Failure::new(MMIOERR_CANNOTSEEK, sentence));
        };
        if position != self.position || self.astray {
            self.send_buffer(MMIOM_WRITE)?;
            self.position = position;
        }
        if std::mem::take(&mut self.astray) {
            self.send_seek(position)?;
        }
        Ok(position)
    }

    /// Sends what is left, then CLOSE.
    ///
    /// # Errors
    /// What CLOSE answered: any bytes that are not on disk are reported here at the latest.
    pub fn close(mut self) -> Result<(), Failure> {
        let sent = self.send_buffer(MMIOM_WRITE);
        self.finish().and(sent)
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.closed = true;
        match self.send(MMIOM_CLOSE, 0, 0) {
            0 => Ok(()),
            code => Err(self.failure(code as u32)),
        }
    }

    // ---- chunks -----------------------------------------------------------------------------------

    /// Begins a chunk at the position: `mmioCreateChunk`.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn create_chunk(&mut self, id: [u8; 4]) -> Result<Chunk, Failure> {
        self.write(&[id, [0; 4]].concat())?;
        Ok(Chunk { id, size: 0, list: None, data: self.position, is_new: true })
    }

    /// Begins a list (`RIFF` or `LIST`) of chunks, of this type.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn create_list(&mut self, id: [u8; 4], list: [u8; 4]) -> Result<Chunk, Failure> {
        let chunk = self.create_chunk(id)?;
        self.write(&list)?;
        Ok(Chunk { list: Some(list), ..chunk })
    }

    /// Reads the header of the chunk at the position and goes to its data (of a list: to its first
    /// chunk). `None` at the end of `within`, or of the file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn descend(&mut self, within: Option<&Chunk>) -> Result<Option<Chunk>, Failure> {
        let end = within.map_or(u64::MAX, Chunk::end);
        let mut header = [0; 8];
        if self.position + 8 > end || self.read(&mut header)? < 8 {
            return Ok(None);
        }
        let [a, b, c, d, size @ ..] = header;
        let id = [a, b, c, d];
        let data = self.position;
        let mut list = None;
        if matches!(&id, b"RIFF" | b"LIST") {
            let mut kind = [0; 4];
            if self.read(&mut kind)? < 4 {
                return Ok(None);
            }
            list = Some(kind);
        }
        Ok(Some(Chunk { id, size: u32::from_le_bytes(size), list, data, is_new: false }))
    }

    /// Leaves a chunk: the position goes behind it. A chunk that was made here gets its size, and
    /// a zero behind an odd one. The size is true also after a refused write: it counts what was
    /// taken.
    ///
    /// # Errors
    /// As [`write`](Self::write), of bytes that were still in the buffer; `MMIOERR_CANNOTSEEK` at a
    /// position before the chunk's data.
    pub fn ascend(&mut self, chunk: Chunk) -> Result<(), Failure> {
        if !chunk.is_new {
            return self.seek(SeekFrom::Start(chunk.end())).map(drop);
        }
        let sent = self.send_buffer(MMIOM_WRITE);
        self.seek(SeekFrom::Start(self.position))?;
        let size = self.position.checked_sub(chunk.data).and_then(|size| u32::try_from(size).ok());
        let size = size.ok_or_else(|| {
            Failure::new(MMIOERR_CANNOTSEEK, "the position is before the chunk: seek to its end")
        })?;
        if !size.is_multiple_of(2) {
            self.write(&[0])?;
        }
        let end = self.position;
        self.seek(SeekFrom::Start(chunk.data - 4))?;
        self.write(&size.to_le_bytes())?;
        self.seek(SeekFrom::Start(end))?;
        sent
    }

    // ---- messages ---------------------------------------------------------------------------------

    fn send(&mut self, message: u32, first: LPARAM, second: LPARAM) -> LRESULT {
        // SAFETY: a live MMIOINFO of our own; the callers pass live buffers with their lengths.
        unsafe { (self.procedure)(&raw mut *self.info, message, first, second) }
    }

    /// Sends the buffer. If it is refused, the position is where its bytes would have gone.
    fn send_buffer(&mut self, message: u32) -> Result<(), Failure> {
        if self.buffer.is_empty() && message == MMIOM_WRITE {
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.buffer);
        self.position -= bytes.len() as u64;
        let sent = self.send_bytes(message, &bytes);
        bytes.clear();
        self.buffer = bytes;
        sent
    }

    /// Sends bytes for the position, which goes on with what is taken.
    fn send_bytes(&mut self, message: u32, bytes: &[u8]) -> Result<(), Failure> {
        if self.astray && !bytes.is_empty() {
            return Err(Failure::new(MMIOERR_CANNOTWRITE, ASTRAY));
        }
        self.go_to(self.position)?;
        // A count is a LONG.
        let mut pieces = bytes.chunks(1 << 30);
        let mut piece = pieces.next().unwrap_or_default();
        loop {
            let next = pieces.next();
            let message = if next.is_none() { message } else { MMIOM_WRITE };
            let len = piece.len() as LPARAM;
            if self.send(message, piece.as_ptr() as LPARAM, len) != len {
                return Err(self.refused(MMIOERR_CANNOTWRITE));
            }
            self.position += piece.len() as u64;
            match next {
                Some(next) => piece = next,
                None => return Ok(()),
            }
        }
    }

    /// Brings the procedure's position here. Not after a refusal: a seek does.
    fn go_to(&mut self, position: u64) -> Result<(), Failure> {
        if { self.info.lDiskOffset } == as_long(position) || self.astray {
            return Ok(());
        }
        self.send_seek(position)
    }

    fn send_seek(&mut self, position: u64) -> Result<(), Failure> {
        match self.send(MMIOM_SEEK, as_long(position) as LPARAM, SEEK_SET as LPARAM) {
            -1 => Err(self.refused(MMIOERR_CANNOTSEEK)),
            _ => Ok(()),
        }
    }

    fn end(&mut self) -> Result<u64, Failure> {
        match self.send(MMIOM_SEEK, 0, SEEK_END as LPARAM) {
            -1 => Err(self.refused(MMIOERR_CANNOTSEEK)),
            end => Ok(u64::from(end as u32)),
        }
    }

    fn refused(&mut self, code: u32) -> Failure {
        self.astray = true;
        self.failure(code)
    }

    /// The sentence behind a refusal, where the procedure has one.
    fn failure(&mut self, code: u32) -> Failure {
        let mut text = vec![0u8; 1024];
        let len = text.len() as LPARAM;
        self.send(WFM_LAST_ERROR, text.as_mut_ptr() as LPARAM, len);
        text.truncate(text.iter().position(|&byte| byte == 0).unwrap_or(0));
        Failure::new(code, String::from_utf8_lossy(&text))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if !self.closed {
            let _ = self.send_buffer(MMIOM_WRITE);
            let _ = self.finish();
        }
    }
}

/// With a plus at the end, so that no other in the name means anything.
fn plus(path: &Path) -> OsString {
    let mut name = path.as_os_str().to_owned();
    name.push("+");
    name
}

fn no_name(path: &Path) -> Failure {
    let sentence = format!("no message can carry the name {}", path.display());
    Failure::new(MMIOERR_CANNOTOPEN, sentence)
}

/// A LONG whose bits are the position, which is no more than [`LAST_POSITION`].
fn as_long(position: u64) -> i32 {
    position as u32 as i32
}
