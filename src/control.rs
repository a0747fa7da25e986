//! The handle that every thread may hold: positions, fences, patches, statistics.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Backend;
use crate::canary::Canary;
use crate::core::{Core, Goal};
use crate::error::{Error, Operation};
use crate::file::Durability;
use crate::overrun::Overrun;
use crate::stats::Stats;
use crate::stream::Positions;
use crate::summary::{CloseError, Summary};
use crate::sync::Instant;
use crate::ticket::Ticket;

/// Everything about a stream but pushing: cheap to clone, for any thread.
///
/// [`Writer`](crate::Writer) and [`SharedWriter`](crate::SharedWriter) dereference to it; a
/// clone serves a thread of its own, for example one that makes a checkpoint every second while
/// the capture thread owns the writer.
#[derive(Clone, Debug)]
pub struct Control {
    pub(crate) core: Arc<Core>,
}

impl UnwindSafe for Control {}
impl RefUnwindSafe for Control {}

impl Control {
    /// The four positions. No lock, no system call.
    pub fn positions(&self) -> Positions {
        self.core.stream.positions()
    }

    /// A snapshot of the counters and histograms. No lock; allocates.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Where bytes were lost: the first 4096 places; [`Stats::overruns`] counts on for ever.
    pub fn overruns(&self) -> Vec<Overrun> {
        self.core.stream.overruns.places()
    }

    /// Whether the medium is full, and the writer waits for space ([`DiskFull::Wait`]); never of one
    /// that has failed. No lock, no system call.
    ///
    /// [`DiskFull::Wait`]: crate::DiskFull::Wait
    pub fn is_waiting_for_space(&self) -> bool {
        let stream = &self.core.stream;
        stream.is_waiting_for_space() && stream.failure().is_none()
    }

    /// From now on nobody waits for space: a full medium ends the stream, as under
    /// [`DiskFull::Fail`]. For a recorder that has to end although the medium stays full: what waits
    /// for a fence then hears so, and a checkpoint behind it writes the header of what is durable. No
    /// lock; may make a system call, to wake the driver.
    ///
    /// [`DiskFull::Fail`]: crate::DiskFull::Fail
    pub fn stop_waiting_for_space(&self) {
        self.core.stream.end_patience();
    }

    /// The backend in use.
    pub fn backend(&self) -> Backend {
        self.core.facts.backend
    }

    /// Whether data bypasses the page cache.
    pub fn is_direct(&self) -> bool {
        self.core.facts.block > 1
    }

    /// What `durable` stands for here, and why.
    pub fn durability(&self) -> &Durability {
        &self.core.facts.durability
    }

    /// Why something that `Auto` would have preferred was not to be had; empty if nothing was.
    pub fn fallbacks(&self) -> &[String] {
        &self.core.facts.fallbacks
    }

    /// The file, as it was named at open; one that was open already, as /proc names it, or as
    /// "descriptor N".
    pub fn path(&self) -> &Path {
        &self.core.stream.path
    }

    /// The error that poisoned the stream, if one did; [`Error::Closed`] if it was ended through a
    /// `Control`, or by the end of the process.
    pub fn error(&self) -> Option<Error> {
        self.core.stream.failure().cloned()
    }

    /// Whether this process only shares the memory of the one that opened the file (`vfork`): what
    /// lies there is its owner's. Makes a system call.
    #[doc(hidden)]
    pub fn is_lent(&self) -> bool {
        self.core.stream.is_lent()
    }

    /// Poisons the stream because a call on it panicked: bytes that it had reserved never come, and
    /// whoever waits for them would wait for ever.
    #[doc(hidden)]
    pub fn panicked(&self) {
        let error = std::io::Error::other("a call panicked; please report this");
        self.core.stream.fail_io(Operation::Write, error);
    }

    /// The open file once more, for reading, whatever its name is by now.
    pub(crate) fn open_for_reading(&self) -> std::io::Result<Box<dyn crate::file::ReadAt>> {
        self.core.open_for_reading()
    }

    /// Asks for a fence over everything accepted, and every patch, so far. Never waits; with a
    /// polling driver it makes no system call; where callers drive it moves things on, as a push
    /// does. Writes go on meanwhile; fences asked for while one is in flight share the next.
    pub fn fence(&self) -> Ticket {
        let goal = self.core.fence();
        self.core.runner.nudge();
        Ticket::new(self.core.clone(), goal)
    }

    /// A ticket from its [numbers](Ticket::numbers); `None` if no ticket of this stream has them.
    /// Asks again for its fence, so that it never waits for something that nobody has asked for.
    #[doc(hidden)]
    pub fn ticket(&self, [position, patches]: [u64; 2]) -> Option<Ticket> {
        let stream = &self.core.stream;
        let exists = position <= stream.sequencer.accepted() && patches <= stream.patches_queued();
        exists.then(|| {
            let goal = Goal { position, patches };
            if !self.core.reached(goal) {
                stream.want_durable(position, patches);
            }
            Ticket::new(self.core.clone(), goal)
        })
    }

    /// Waits until everything accepted so far, and every patch, is durable; returns the durable
    /// position that it waited for. MMIOM_WRITEFLUSH with no bytes.
    ///
    /// On a shared stream it also waits for copies that other producers have in progress below
    /// that position, so a producer that is preempted in mid-copy delays it. Fill bytes that the
    /// policy `Fill` still owes are none of its: the flush of a writer lays them down first.
    ///
    /// # Errors
    /// The error that poisoned the stream; [`Error::InWaker`].
    pub fn flush(&self) -> Result<u64, Error> {
        self.core.flush()
    }

    /// As [`flush`](Self::flush), but waits for at most `limit`; `None` if not everything is durable by
    /// then: the fence goes on. When the caller drives the `Sync` backend, an operation in progress is
    /// not cut short.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # use std::time::Duration;
    /// let mut writer = writeflush::Options::new().create(directory.path().join("take"))?;
    /// let control = writer.control().clone(); // for a thread that watches the disk
    /// writer.write(b"a record")?;
    /// if control.flush_timeout(Duration::from_secs(10))?.is_none() {
    ///     eprintln!("durable so far: {}", control.positions().durable);
    /// }
    /// # writer.close()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn flush_timeout(&self, limit: Duration) -> Result<Option<u64>, Error> {
        self.core.flush_by(Instant::now().checked_add(limit))
    }

    /// Closes the writer for whoever does not own it: a callback that was given away (`'static`) has
    /// it, and can't close it. As [`Writer::close`](crate::Writer::close), but from any thread, while
    /// the owner may be pushing. Its pushes, one that waits for room too, get [`Error::Closed`] from
    /// then on; one that is under way is let in whole, for which the call waits until the owner
    /// pushes again or drops the writer, for a quarter of a second at most: of an owner who is in the
    /// midst of one for longer, or has a [grant](crate::Grant) open, those bytes are left out
    /// ([`positions`](Self::positions) tell more accepted than durable then). Fill bytes that are owed
    /// are left out, too. A [`SharedWriter`](crate::SharedWriter) is closed so as well.
    ///
    /// If a close with a limit is under way, waits for its end. In a waker it answers
    /// [`Error::InWaker`], and does nothing.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// let mut writer = writeflush::Options::new().create(directory.path().join("take"))?;
    /// let control = writer.control().clone();
    /// let mut callback = move |samples: &[u8]| writer.write(samples).is_ok(); // owns it
    /// assert!(callback(b"samples"));
    /// let summary = control.close()?;
    /// assert_eq!(summary.positions.durable, 7);
    /// assert!(!callback(b"too late"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Writer::close`](crate::Writer::close).
    pub fn close(&self) -> Result<Summary, CloseError> {
        self.core.close_or_wait()
    }

    /// As [`close`](Self::close), but waits for at most `limit`, whatever the disk does; `None`: the
    /// close goes on, as behind [`Writer::close_timeout`](crate::Writer::close_timeout), and another
    /// call waits on for its end. Who hears of that end first has its result; later calls answer
    /// [`Error::Closed`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # use std::time::Duration;
    /// let mut writer = writeflush::Options::new().create(directory.path().join("take"))?;
    /// writer.write(b"a record")?;
    /// let control = writer.control().clone();
    /// let mut summary = writer.close_timeout(Duration::ZERO)?;
    /// while summary.is_none() {
    ///     eprintln!("durable so far: {}", control.positions().durable);
    ///     summary = control.close_timeout(Duration::from_secs(1))?;
    /// }
    /// assert_eq!(summary.unwrap().positions.durable, 8);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub fn close_timeout(&self, limit: Duration) -> Result<Option<Summary>, CloseError> {
        self.core.close_or_wait_for(limit)
    }

    /// Whether a close on a thread of its own was begun: [`close`](Self::close) waits for its end then.
    #[doc(hidden)]
    pub fn closes_elsewhere(&self) -> bool {
        self.core.closes_elsewhere()
    }

    /// Ends the stream at once: for a disk that no longer answers, or a recording that nobody wants.
    /// Nothing more is taken or handed to the kernel, and whoever waits, and every later call, gets
    /// [`Error::Closed`]. What was accepted and is not durable is lost, or may be in the file, which is
    /// not cut: a later [`append`](crate::Options::append) looks at its end as at a killed writer's.
    /// Where everything was durable it is as good as a close. Returns the positions: `durable` is
    /// true, now and later.
    ///
    /// Waits for no disk. What the kernel holds can't be taken back: descriptor, lock and memory are
    /// let go by a thread of its own when that has ended, at once if nothing is under way, and never
    /// while the disk does not answer, since its bytes may still land in the file.
    /// [`close_timeout`](Self::close_timeout) waits for it. (A [`Drive::Caller`] with the
    /// `Sync` backend is held up in the call that writes, and so is who carries out his own flush,
    /// [`Options::inline_flush`](crate::Options::inline_flush); nobody can let go of that.)
    ///
    /// [`Drive::Caller`]: crate::Drive::Caller
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// let mut writer = writeflush::Options::new().create(directory.path().join("take"))?;
    /// writer.write_flush(b"durable")?;
    /// writer.write(b" and not")?;
    /// let positions = writer.control().abandon();
    /// assert!(positions.durable >= 7);
    /// assert!(matches!(writer.write(b"more"), Err(writeflush::Error::Closed)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn abandon(&self) -> Positions {
        self.core.abandon()
    }

    /// Overwrites accepted bytes: ordered after every write accepted before it, and before the
    /// next fence. Any alignment, anywhere below the accepted position. Takes a lock, allocates,
    /// and may wait for the disk: not for a deadline thread.
    ///
    /// Patches of up to 32 KiB reach the device as one write; of a power cut before the next
    /// fence any of its sectors may or may not show.
    ///
    /// # Errors
    /// [`Error::PatchRange`] when it reaches past the accepted position, [`Error::Closed`],
    /// [`Error::InWaker`] if the patch can't be queued whole at once, or the error that poisoned the stream.
    pub fn patch(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.core.patch(offset, bytes).map(drop)
    }

    /// Makes everything accepted so far durable, then overwrites the bytes at `offset` with what
    /// `header` makes of that durable position, then makes that durable too: at every instant the
    /// header on disk describes durable bytes only. Returns the position that it describes.
    ///
    /// A power cut may tear a header between two sectors of the device (512 bytes or 4096), and one
    /// of more than 32 KiB between two writes: keep in one sector what has to be true together, or
    /// add a checksum and a second header. One checkpoint at a time: of two, the older position may
    /// come last.
    ///
    /// If the medium turns out to be full, or was, the header is made for what is durable all the
    /// same and written over what is there, and the call returns the error: so the header is true
    /// for the file that the close leaves. (Not with a header that reaches past the durable position,
    /// and not after a failed flush.)
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("take");
    /// let mut writer = writeflush::Options::new().create(&path)?;
    /// writer.write(&0u64.to_le_bytes())?; // the header: how many bytes are behind it
    /// writer.write(b"samples")?;
    /// writer.checkpoint(0, |durable| (durable - 8).to_le_bytes())?;
    /// writer.close()?;
    /// assert_eq!(std::fs::read(&path)?[..8], 7u64.to_le_bytes());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`flush`](Self::flush) and [`patch`](Self::patch).
    pub fn checkpoint<H: AsRef<[u8]>>(
        &self,
        offset: u64,
        header: impl FnOnce(u64) -> H,
    ) -> Result<u64, Error> {
        self.core.may_wait()?;
        let position = match Canary::HeaderFirst.is_planted() {
            true => self.core.stream.sequencer.accepted(),
            false => match self.core.flush() {
                Ok(position) => position,
                Err(error) => {
                    self.core.last_header(offset, header);
                    return Err(error);
                }
            },
        };
        let header = header(position);
        let patched = self.core.patch(offset, header.as_ref()).and_then(|patches| {
            let goal = Goal { position, patches };
            self.core.want(goal);
            self.core.wait_durable(goal, None)
        });
        if let Err(error) = patched {
            self.core.last_header(offset, |_| header);
            return Err(error);
        }
        Ok(position)
    }
}
