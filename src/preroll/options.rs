//! How a pre-roll is begun.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::control::{Control, Shared};
use super::keeper::{Beginning, Keeper};
use super::recording::Recording;
use super::ring::{Header, Ring};
use super::writer::Writer;
use crate::driver::thread::spawn;
use crate::error::{Error, Operation};
use crate::frames::now;
use crate::overrun::OnFull;

/// What a record takes in memory beside its bytes.
pub const PER_RECORD: usize = Header::BYTES;

/// How much is kept, and what happens where a disk does not keep up with a recording.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let folder = directory.path().to_owned();
/// use writeflush::preroll::{Options, PER_RECORD};
///
/// // 10 s of blocks of 1920 bytes, 100 a second; in the file 5 s more where its open takes that long.
/// let block = 1920 + PER_RECORD;
/// let mut preroll = Options::new(10 * 100 * block)
///     .headroom(5 * 100 * block)
///     .start(move |it| {
///         let name = format!("event-{}.raw", it.number);
///         writeflush::Options::new().create_new(folder.join(name))
///     })?;
/// preroll.write(&[0; 1920])?;
/// # preroll.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    keep: usize,
    headroom: Option<usize>,
    memory_limit: usize,
    on_full: OnFull,
}

impl Options {
    /// Keeps records of so many bytes in memory, at the most, and less by less than the oldest of them. A
    /// record of n bytes takes n + [`PER_RECORD`].
    pub fn new(keep: usize) -> Self {
        let (memory_limit, on_full) = (1 << 30, OnFull::Drop);
        Self { keep, headroom: None, memory_limit, on_full }
    }

    /// Memory beside it (default: a quarter of what is kept, and 1 MiB at least). From a trigger on
    /// nothing is overwritten, so what comes until the file is open and the past is in it has to find room
    /// here: at R bytes/s an open of S seconds takes `R × S`. Then all of the memory is there for stalls of
    /// the disk.
    pub fn headroom(mut self, bytes: usize) -> Self {
        self.headroom = Some(bytes);
        self
    }

    /// What [`write`](Writer::write) does in a recording when the memory is full (default
    /// [`Drop`](OnFull::Drop)); before a trigger it never is. Losses are told to the recording as well,
    /// where they have their place; under [`Fill`](OnFull::Fill) the fill bytes are written there. The
    /// writer behind it is not asked: it has to wait ([`OnFull::Block`], its default).
    pub fn on_full(mut self, policy: OnFull) -> Self {
        self.on_full = policy;
        self
    }

    /// The most memory that may be taken (default 1 GiB): a guard against a slip.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// Takes all the memory, touches it, and starts the keeper's thread. `open` makes the recording, when
    /// there was a trigger, on that thread: it may take its time, as far as the
    /// [headroom](Self::headroom) goes. What it returns waits for room ([`OnFull::Block`], the default of
    /// a writer). A header is written there, too. Blocks for the memory; no file is touched.
    ///
    /// # Errors
    /// [`Error::Options`] with a sentence; [`Error::Io`] with [`Operation::Start`] if the system has no
    /// memory, or no thread.
    pub fn start<R: Recording>(
        &self,
        open: impl FnMut(&Beginning) -> Result<R, Error> + Send + 'static,
    ) -> Result<Writer<R::Summary>, Error> {
        let headroom = self.check()?;
        let path: Arc<Path> = Path::new("a pre-roll").into();
        let failed = |error| Error::io(Operation::Start, &path, error);
        let ring = Ring::new(self.keep, self.keep + headroom, now());
        let (ring, head, tail) = ring.ok_or_else(|| failed(io::ErrorKind::OutOfMemory.into()))?;
        let shared = Arc::new(Shared::new(ring, tail));
        let fill = match self.on_full {
            OnFull::Fill(byte) => Some(byte),
            _ => None,
        };
        let keeper = Keeper { shared: shared.clone(), open, fill };
        spawn("writeflush-preroll", move || keeper.run()).map_err(failed)?;
        let longest = self.keep.min(headroom) - PER_RECORD;
        Ok(Writer::new(head, Control { shared }, self.on_full, longest))
    }

    /// What can't work. Returns the headroom.
    fn check(&self) -> Result<usize, Error> {
        let Self { keep, memory_limit, .. } = *self;
        let headroom = self.headroom.unwrap_or((keep / 4).max(1 << 20));
        let least = PER_RECORD + 1;
        let sentence = if keep < least || headroom < least {
            format!(
                "a pre-roll of {keep} bytes with {headroom} of headroom has no room for a record, which \
                 takes {PER_RECORD} beside its own bytes: give more"
            )
        } else if keep.checked_add(headroom).is_none_or(|all| all > memory_limit) {
            format!(
                "a pre-roll of {keep} bytes with {headroom} of headroom is more than the memory limit of \
                 {memory_limit}: keep less, or raise the limit"
            )
        } else {
            return Ok(headroom);
        };
        Err(Error::Options(sentence.into()))
    }
}
