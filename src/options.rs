//! How a writer is opened.

use std::fs::File;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::buffers::{Memory, Pool};
use crate::driver::Every;
use crate::error::Error;
use crate::file::{MAX_BLOCK, OpenMode, Share};
use crate::host::{Host, System};
use crate::overrun::OnFull;
use crate::shared_driver::Driver;
use crate::writer::Writer;

/// Which backend to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendChoice {
    /// The best that works here at run time: io_uring on Linux of 64 bits, overlapped I/O on
    /// Windows, else `Sync`. A fallback is reported by
    /// [`Control::fallbacks`](crate::Control::fallbacks).
    #[default]
    Auto,
    /// io_uring, or an error where it is refused.
    Uring,
    /// Windows overlapped I/O, or an error elsewhere. NTFS makes writes that extend what was ever
    /// written to a file synchronous, so with [`Drive::Caller`] whoever fills a buffer of a growing
    /// file waits for them. Never run on a real Windows machine.
    Overlapped,
    /// Positional writes and flush calls, on Unix and Windows.
    Sync,
}

/// Whether data bypasses the page cache.
///
/// Direct I/O writes whole blocks: a file that is being written, or whose writer was killed, may
/// end in up to a block of zeros that are no data. The driver's thread cuts them off once nothing
/// has been under way for 100 ms, a close and an `exit` at once; with [`Drive::Caller`] only those
/// do. What the writer pads, it marks: [`Options::append`] says for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Direct {
    /// Where the file system and the alignment allow it, the file takes a mark, and nobody is to
    /// [follow](Options::followed) it; on Windows only `On` does.
    #[default]
    Auto,
    /// Bypass it, or an error where that is refused.
    On,
    /// Through the page cache.
    Off,
}

/// Who carries bytes from the buffers to the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Drive {
    /// A thread of the writer's own that sleeps when there is nothing to do. A push that fills a
    /// buffer while it sleeps makes one system call to wake it. A flush that finds it asleep is
    /// carried out by whoever waits ([`Options::inline_flush`]).
    #[default]
    Thread,
    /// Whoever waits for the writer, and with io_uring and direct I/O **one thread's sleep in the
    /// kernel (`vfork`, a disk or network that hangs) delays another's flush** of what the sleeper
    /// had submitted: where threads that may sleep so share a writer, take `Thread`. The lowest flush
    /// latency, no thread. Work goes on only
    /// inside calls on the writer, its tickets and its control handles. A push that fills a
    /// buffer submits it where the backend is asynchronous, and does whatever else has come up for
    /// the driver; with `Sync` only calls that wait write anything, so a loop of `try_write` alone
    /// stays full for ever. A
    /// ticket awaited as a `Future` is driven by its polls and wakes itself again at once; while a
    /// write has to be tried again later ([`DiskFull::Wait`]) each poll sleeps up to 10 ms. For
    /// async code prefer `Thread`. A limit on the length of files (`RLIMIT_FSIZE`) is looked for at
    /// the open: one that is set later raises `SIGXFSZ` in whoever drives, which ends a program that
    /// neither ignores nor handles it.
    Caller,
    /// A thread of the writer's own that never sleeps: it takes a whole core, and a push never
    /// makes a system call. For real-time producers. Given a real-time policy (Linux) it sleeps for
    /// moments, since the kernel's workers would get no turn beside it.
    Poll,
}

/// What to do about disk space ahead of the data, in bytes of the whole file: on an append to a
/// longer one nothing. The file is cut to its exact length at close; until then, and after a crash,
/// it is as long as what was allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preallocate {
    /// Nothing: the file grows with the data.
    #[default]
    None,
    /// Reserve this many bytes. On Linux (`fallocate`) they can't run out, though a fence still has
    /// to record that they are in use; elsewhere the file only gets its length. A file system that
    /// can't (FUSE, exFAT) is in [`Control::fallbacks`](crate::Control::fallbacks).
    Reserve(u64),
    /// Write this many zero bytes at open: slow to open
    /// ([`Options::cancel_open`] calls it off), and the cheapest fences later.
    Zero(u64),
}

/// Zeros that may be asked for ahead of the data.
const MOST_AHEAD: u64 = 64 << 20;

impl Preallocate {
    /// How long a file of `existing` bytes is when it is open, the space ahead included.
    pub(crate) fn kept(self, existing: u64) -> u64 {
        match self {
            Self::None => existing,
            Self::Reserve(bytes) => existing.max(bytes),
            Self::Zero(bytes) if bytes > existing => bytes.next_multiple_of(MAX_BLOCK as u64),
            Self::Zero(_) => existing,
        }
    }
}

/// What happens when the medium is full in the middle of a recording: a *write* that answers ENOSPC,
/// EDQUOT or EFBIG. Not when the buffers are full: that is [`OnFull`]. A flush that fails, for
/// whatever reason, ends the stream under either policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskFull {
    /// What is in flight ends, what the file holds without a gap is made durable, then the stream
    /// fails: with the system's error, for everyone and for ever. The close cuts the file to the
    /// `written` position, so that nothing lies behind a gap; a checkpoint that meets the failure,
    /// or comes after it, still writes the header of what is durable. Other patches that were on
    /// their way are lost, and bytes that lay only in the buffers.
    #[default]
    Fail,
    /// Accepted bytes stay in the buffers, and the write is tried again, after 10 ms and then after
    /// pauses that grow to half a second, until there is space: then the same writer goes on, with
    /// nothing lost that was accepted. Meanwhile the buffers fill up, and [`OnFull`] says what
    /// happens then; fences, flushes and drains wait (tickets can wait for a limited time), and
    /// [`Control::is_waiting_for_space`](crate::Control::is_waiting_for_space) says why.
    ///
    /// A close, or a drop, waits for no space: it tries once more, then ends as under `Fail`. Who
    /// wants to wait flushes first. No write carries its own fence under this policy (`RWF_DSYNC`):
    /// an error of its flush could not be told from one of the write. So a single short commit is a
    /// write and a flush instead of one request; where `RWF_DSYNC` is the cheaper form that is the
    /// price, paid also while there is space.
    Wait,
}

/// How a fence is carried out, for those who compare; `Auto` is right for everybody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FenceForm {
    /// The first of the forms below that is known to flush here; not `Dsync` where it would trust a
    /// drive of which nothing but its standard says that it obeys FUA (NVMe with a volatile cache).
    #[default]
    Auto,
    /// A write that is all that is dirty carries its own fence (`RWF_DSYNC`). Only where that is known
    /// to keep the promise, else a flush follows: so on btrfs through io_uring. On a drive that takes
    /// FUA it is a write with FUA, and no flush: whoever asks for it by name trusts that drive.
    Dsync,
    /// A flush is linked behind the write, in one submission.
    Link,
    /// The flush is submitted when the writes have completed. As with `Link` nothing of it needs FUA,
    /// in a file that was written before (`Preallocate::Zero`), on a file system that writes in place
    /// (ext4, xfs); where a file grows, the file system's own commit may.
    Flush,
    /// No flush is sent: a write that has completed on a handle opened for write-through counts as
    /// durable. **It trusts the drive** to obey FUA, which many consumer drives don't, and the
    /// [durability label](crate::Control::durability) says so. Windows, overlapped backend only.
    WriteThrough,
}

/// What the driver's thread does first, if anything.
#[derive(Clone, Default)]
pub(crate) struct ThreadSetup(pub(crate) Option<Arc<SetUp>>);

type SetUp = dyn Fn() -> std::io::Result<()> + Send + Sync;

impl std::fmt::Debug for ThreadSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "a function" } else { "nothing" })
    }
}

/// Whether an open is to give up.
#[derive(Clone, Default)]
struct Cancel(Option<Arc<IsCancelled>>);

type IsCancelled = dyn Fn() -> bool + Send + Sync;

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "somebody may" } else { "nobody" })
    }
}

/// How to open a [`Writer`]. Nothing is looked at before it is opened.
///
/// ```
/// # fn main() -> Result<(), writeflush::Error> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("take.raw");
/// use writeflush::{Drive, OnFull, Options};
///
/// let writer = Options::new()
///     .buffer_size(256 * 1024)
///     .buffers(8)
///     .drive(Drive::Poll)
///     .on_full(OnFull::Fill(0))
///     .create(&path)?;
/// # writer.close().unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) buffer_size: usize,
    pub(crate) buffers: usize,
    pub(crate) backend: BackendChoice,
    pub(crate) direct: Direct,
    pub(crate) drive: Drive,
    pub(crate) on_full: OnFull,
    /// Whether the flush of `std::io::Write` is a fence.
    pub(crate) durable_flush: bool,
    /// What is done though nobody asks.
    pub(crate) inline_flush: bool,
    pub(crate) every: Every,
    pub(crate) preallocate: Preallocate,
    /// Bytes of zeros that may lie ahead of the data.
    pub(crate) zero_ahead: u64,
    pub(crate) on_disk_full: DiskFull,
    pub(crate) fence_form: FenceForm,
    pub(crate) mode: u32,
    pub(crate) lock: bool,
    pub(crate) lock_wait: Duration,
    cancel: Cancel,
    /// Other processes may follow the recording.
    pub(crate) followed: bool,
    pub(crate) checksum: bool,
    /// The ring file, if what is accepted is to survive a kill.
    pub(crate) ring: Option<Arc<Path>>,
    /// What the lock says beyond "one writer".
    pub(crate) share: Share,
    /// Somebody may ask what the fences stand on, or which forms of them flush.
    pub(crate) labelled: bool,
    grant_limit: Option<usize>,
    /// Where an append goes on, if not at the end.
    pub(crate) append_at: Option<u64>,
    pub(crate) memory_limit: usize,
    pub(crate) thread_setup: ThreadSetup,
    /// That others share; `None`: one of its own.
    pub(crate) driver: Option<Driver>,
    /// Of memory that has served.
    pub(crate) pool: Option<Arc<Pool>>,
    pub(crate) host: Arc<dyn Host>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            buffer_size: 1 << 20,
            buffers: 2,
            backend: BackendChoice::default(),
            direct: Direct::default(),
            drive: Drive::default(),
            on_full: OnFull::default(),
            durable_flush: false,
            inline_flush: true,
            every: Every { submit: Some(Duration::from_millis(100)), ..Every::default() },
            preallocate: Preallocate::default(),
            zero_ahead: 0,
            on_disk_full: DiskFull::default(),
            fence_form: FenceForm::default(),
            mode: 0o644,
            lock: true,
            lock_wait: Duration::from_secs(1),
            cancel: Cancel::default(),
            followed: false,
            checksum: false,
            ring: None,
            share: Share::default(),
            labelled: true,
            grant_limit: None,
            append_at: None,
            memory_limit: 1 << 30,
            thread_setup: ThreadSetup::default(),
            driver: None,
            pool: None,
            host: Arc::new(System),
        }
    }
}

impl UnwindSafe for Options {}
impl RefUnwindSafe for Options {}

impl Options {
    /// Two buffers of 1 MiB, everything else at its default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes in a buffer: the unit in which data goes to the device when nobody asks for a
    /// fence (in pieces of 1 MiB, where it is a multiple of that). A multiple of 4096 (more on devices with larger blocks).
    pub fn buffer_size(mut self, bytes: usize) -> Self {
        self.buffer_size = bytes;
        self
    }

    /// Number of buffers, 2 to 1000. Two are a double buffer; more ride out longer stalls of the
    /// device: at R bytes/s the writer takes `buffers × buffer_size / R` seconds of stall.
    pub fn buffers(mut self, count: usize) -> Self {
        self.buffers = count;
        self
    }

    /// Which backend to use.
    pub fn backend(mut self, choice: BackendChoice) -> Self {
        self.backend = choice;
        self
    }

    /// Whether data bypasses the page cache.
    pub fn direct(mut self, direct: Direct) -> Self {
        self.direct = direct;
        self
    }

    /// Who drives.
    pub fn drive(mut self, drive: Drive) -> Self {
        self.drive = drive;
        self
    }

    /// Whether a flush without a limit of time may be carried out by the thread that waits for it
    /// (default yes): where nothing else is under way it takes the one write, or flush, that is
    /// missing out of the driver's hands, and no thread has to wake for it. It is inside the
    /// kernel then until the device has answered, so that neither
    /// [`Control::abandon`](crate::Control::abandon) nor a close elsewhere ends its wait before;
    /// with `false`, and in all waits with a limit, they do. A push never carries out anything. (Beside
    /// io_uring before Linux 6.7, and on Windows beside overlapped I/O, the driver's thread can't
    /// sleep without the backend, and every flush is handed to it.)
    pub fn inline_flush(mut self, inline: bool) -> Self {
        self.inline_flush = inline;
        self
    }

    /// Has this driver carry the bytes, which other writers share, in place of one of the writer's
    /// own. Backend, drive and thread set-up are the driver's then, and must not be chosen here.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use writeflush::{Driver, Options};
    ///
    /// let driver = Driver::new()?;
    /// let options = Options::new().driver(&driver);
    /// let mut cameras = Vec::new();
    /// for number in 0..4 {
    ///     cameras.push(options.create(dir.join(format!("camera-{number}.raw")))?);
    /// }
    /// for camera in &mut cameras {
    ///     camera.write(b"a frame")?;
    ///     camera.flush()?;
    /// }
    /// # for camera in cameras { camera.close()?; }
    /// # Ok(())
    /// # }
    /// ```
    pub fn driver(mut self, driver: &Driver) -> Self {
        self.driver = Some(driver.clone());
        self
    }

    /// What `write` does when there is no room.
    pub fn on_full(mut self, policy: OnFull) -> Self {
        self.on_full = policy;
        self
    }

    /// Whether the `flush` of `std::io::Write` is a fence (default no). Generic code knows only that
    /// one, and calls it where a `BufWriter<File>` would hand its bytes to the kernel: some encoders
    /// after each packet. So by default it returns when the kernel has everything, and costs no flush
    /// of the device; with `true` it is [`Writer::flush`], returns when everything is durable, and
    /// waits for the disk each time. (The C library has only the durable one.)
    pub fn durable_flush(mut self, durable: bool) -> Self {
        self.durable_flush = durable;
        self
    }

    /// How long an accepted byte may stay in the buffers unasked (default 100 ms, at least 2 ms;
    /// `None`: until its buffer is full, or somebody asks): then it is handed to the kernel, so that
    /// a crash of the process loses no more than that. No fence, and no wait of anybody; a stream
    /// that fills its buffers in less time gets no write more, a slow one with direct I/O a device
    /// write of a block each time. Behind a fence bytes wait half as long again: whoever asks for one
    /// in that time, on and on, gets one write for it and not two. The driver's thread wakes up twice
    /// in the time, for all its files together, and not at all while each gets its fences; with
    /// [`Drive::Caller`] there is none, and nothing is done unasked.
    pub fn submit_every(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.every.submit = limit.into().map(|limit| limit.max(Duration::from_millis(2)));
        self
    }

    /// A fence at this interval, for programs that never ask for one (default `None`: never; at
    /// least 1 ms). Nobody waits for it: [`positions`](crate::Control::positions) tell how far it
    /// got, and an error is sticky. Costs a device flush each time something is new. With
    /// [`Drive::Caller`] only calls that move things on look at the clock.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("take");
    /// use std::time::Duration;
    /// use writeflush::Options;
    ///
    /// // A power cut loses at most what came in the last 50 ms, or the last 8 MiB.
    /// let options = Options::new().fence_every(Duration::from_millis(50)).fence_bytes(8 << 20);
    /// let mut writer = options.create(&path)?;
    /// writer.write(b"nobody asks")?;
    /// while writer.positions().durable < 11 {
    ///     std::thread::yield_now();
    /// }
    /// # writer.close()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn fence_every(mut self, interval: impl Into<Option<Duration>>) -> Self {
        let least = Duration::from_millis(1);
        self.every.fence = interval.into().map(|interval| interval.max(least));
        self
    }

    /// A fence over so many bytes at the latest (default `None`: never), as
    /// [`fence_every`](Self::fence_every). The driver counts them when a buffer is full, or when it
    /// [looks](Self::submit_every) for what is left in one: never exactly.
    pub fn fence_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.every.fence_bytes = bytes.into().map(|bytes| bytes.max(1));
        self
    }

    /// What to do about disk space ahead of the data.
    pub fn preallocate(mut self, ahead: Preallocate) -> Self {
        self.preallocate = ahead;
        self
    }

    /// Writes zeros ahead of the data in idle time, so many bytes at most (default 0: none), for who
    /// fences again and again after a few bytes: then a fence of a growing file costs what one of a
    /// file that was written before does. Each byte goes to the device twice for it, but the file
    /// system records nothing beside: it pays where fences are less than 32 KiB apart, and is not done
    /// where they are further. The window follows the rate, from 64 KiB to this; 4 MiB is enough for any.
    ///
    /// Like space ahead it makes the file longer than its data until the close, and after a crash: a
    /// killed writer's file ends in zeros, which [`append`](Self::append) refuses to take for data and
    /// [`recover`](crate::recover()) cuts off. It takes no space that is scarce (64 times as much has to
    /// be free). Done on Linux where the file system writes in place (ext4, xfs) and marks the file;
    /// elsewhere it is in [`Control::fallbacks`](crate::Control::fallbacks). With [`Drive::Caller`] it is
    /// done while somebody waits, or polls.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("journal");
    /// let mut journal = writeflush::Options::new().zero_ahead(4 << 20).create(&path)?;
    /// for number in 0..100u32 {
    ///     journal.write_flush(&number.to_le_bytes())?;
    /// }
    /// journal.close()?;
    /// assert_eq!(std::fs::metadata(&path)?.len(), 400);
    /// # Ok(())
    /// # }
    /// ```
    pub fn zero_ahead(mut self, bytes: u64) -> Self {
        self.zero_ahead = bytes;
        self
    }

    /// What happens when the medium is full.
    pub fn on_disk_full(mut self, policy: DiskFull) -> Self {
        self.on_disk_full = policy;
        self
    }

    /// How a fence is carried out.
    pub fn fence_form(mut self, form: FenceForm) -> Self {
        self.fence_form = form;
        self
    }

    /// Permission bits of a file that is created (default `0o644`, less the umask; Unix only).
    pub fn mode(mut self, bits: u32) -> Self {
        self.mode = bits;
        self
    }

    /// Whether to take an advisory lock (`flock`) against a second writer (default yes).
    pub fn lock(mut self, lock: bool) -> Self {
        self.lock = lock;
        self
    }

    /// How long an open waits for the lock of the file (default 1 s; zero: it tries once). A recorder
    /// that is killed, or ends without a close, holds it for a moment still: until the kernel has
    /// taken its ring apart, which was up to 76 ms. So whoever starts it again at once finds its file.
    pub fn lock_wait(mut self, limit: Duration) -> Self {
        self.lock_wait = limit;
        self
    }

    /// Whether other processes may [follow](crate::follow) the recording while it is written (default
    /// no; Linux). Costs a push nothing, and the driver a system call where it publishes positions.
    /// With [`Direct::Auto`] the file goes through the page cache, from which followers read it: beside a
    /// follower that is up to twice as fast as direct I/O, after which they read it from the disk.
    /// Whoever may read the file may follow it.
    pub fn followed(mut self, followed: bool) -> Self {
        self.followed = followed;
        self
    }

    /// Whether the close tells a checksum of the new file,
    /// [`Summary::checksum`](crate::Summary::checksum) (default no). It is computed from the buffers,
    /// behind each write, by whoever drives: one pass of CRC32C over what is written, at some 10 GB/s
    /// where the processor has an instruction for it, and none in a push beside a driver's thread.
    pub fn checksum(mut self, wanted: bool) -> Self {
        self.checksum = wanted;
        self
    }

    /// Has the buffers lie in a *ring file* of this name, so that every byte that was accepted survives
    /// the death of the process, by kill −9 too (default: in the heap, where what was not *written* dies
    /// with it; Linux). The file has to lie in memory (`/dev/shm`), so no power cut is survived by it. It
    /// is made by the open, which is refused where one of that name has what a killed writer accepted,
    /// and goes with a close that has brought everything to the disk.
    ///
    /// After a kill [`recover_ring`](Self::recover_ring) brings what was accepted to the file, in its
    /// order and with its patches; [`append`](Self::append), [`append_at`](Self::append_at) and
    /// [`resume`](Self::resume) with the same name here do so by themselves, before anything else.
    /// Whoever opens the file to write without it gives up what the ring file has. A stream that fails
    /// leaves its ring file, too: when the disk is well again, a recovery brings what did not get there.
    ///
    /// Of one producer exactly what was accepted survives: each push that has returned. Of
    /// [shared](crate::SharedWriter) producers every such push, too; but between them, in the place of
    /// pushes that were under way, part of those bytes and zeros may lie: how many, and where within
    /// 4 KiB, the recovery says.
    ///
    /// A push costs what it costs. The open takes longer: the memory of tmpfs comes page by page, and in
    /// huge pages where the kernel gives them when asked (Linux 6.1). Where producers share, the driver
    /// fills what it gives back to them with zeros. A forked child has no such buffers: there a
    /// [`Grant`](crate::Grant) that it has inherited must not be touched.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("take");
    /// # let ring = format!("/dev/shm/writeflush-doc-{}.ring", std::process::id());
    /// let options = writeflush::Options::new().survive_kill(&ring);
    /// let mut writer = options.append(&path)?; // with all that an earlier one had accepted
    /// writer.write(b"killed from here on it is not lost")?;
    /// writer.close()?;
    /// assert!(!std::path::Path::new(&ring).exists());
    /// # Ok(())
    /// # }
    /// # #[cfg(not(target_os = "linux"))]
    /// # fn main() {}
    /// ```
    pub fn survive_kill(mut self, ring: impl AsRef<Path>) -> Self {
        self.ring = Some(ring.as_ref().into());
        self
    }

    /// Has an open give up with [`Error::Cancelled`] once the flag is true, as if it had failed: it
    /// looks while it waits for the lock, and between any two pieces of 1 MiB of
    /// [`Preallocate::Zero`], which may take minutes. An open that has returned never looks again.
    pub fn cancel_open(self, flag: Arc<AtomicBool>) -> Self {
        self.cancel_open_if(move || flag.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// As [`cancel_open`](Self::cancel_open), for those who have no such flag: C. Called on the
    /// thread that opens.
    #[doc(hidden)]
    pub fn cancel_open_if(
        mut self,
        is_cancelled: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        self.cancel = Cancel(Some(Arc::new(is_cancelled)));
        self
    }

    /// The same on a driver that has what was asked for.
    pub(crate) fn on_driver(self, driver: &Driver) -> Self {
        Self {
            backend: BackendChoice::default(),
            drive: Drive::default(),
            thread_setup: ThreadSetup::default(),
            driver: Some(driver.clone()),
            ..self
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.0.as_ref().is_some_and(|is_cancelled| is_cancelled())
    }

    /// The longest grant, in bytes (default: 64 KiB, or a buffer if that is less); costs as much
    /// memory.
    pub fn grant_limit(mut self, bytes: usize) -> Self {
        self.grant_limit = Some(bytes);
        self
    }

    /// The most memory that the buffers may take (default 1 GiB): a guard against a slip in the
    /// other options.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// What the driver's thread does first, on itself: takes a name, a priority, cores (default:
    /// nothing). With [`Drive::Caller`] there is no such thread, and nothing runs.
    ///
    /// Without it the thread is named `writeflush` and takes over nothing from the thread that
    /// opens: it has no real-time policy (Linux; a nice value stays), may run where the main thread
    /// may, and handles no signal but those that it has caused itself (`SIGSEGV` and the like).
    ///
    /// It runs before the open returns; once more, on another thread, where the backend that `Auto`
    /// prefers can't work. An error or a panic of it is the open's, with
    /// [`Operation::Start`](crate::Operation::Start).
    ///
    /// ```no_run
    /// # fn set_priority(_: i32) -> std::io::Result<()> { Ok(()) }
    /// # fn main() -> Result<(), writeflush::Error> {
    /// let writer = writeflush::Options::new()
    ///     .drive(writeflush::Drive::Poll)
    ///     .thread_setup(|| set_priority(10))
    ///     .create("take.raw")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn thread_setup(
        mut self,
        setup: impl Fn() -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.thread_setup = ThreadSetup(Some(Arc::new(setup)));
        self
    }

    /// Creates the file, or empties the one that is there, as the last step: once the lock is held,
    /// space is had, and the driver runs. (Space is asked for beside the blocks that the old content
    /// has, not beside all of it.) What can still fail then is that step itself: the cut, the space
    /// that it freed and that is taken again at once, and the flush; it leaves the file empty. So
    /// does a [`cancel_open`](Self::cancel_open) that comes while zeros are written then.
    ///
    /// A symbolic link is followed, also one whose target is not there yet. The directory is held
    /// open: if it is renamed or moved meanwhile, nothing changes. The file may be renamed, too; if
    /// it is moved to another directory, the close makes its name durable there if /proc shows where
    /// that is, else that is left to whoever has moved it.
    ///
    /// # Errors
    /// [`Error::Options`], [`Error::Locked`], [`Error::Cancelled`], or [`Error::Io`] with the
    /// operation that failed. An open that fails, of any kind, leaves everything as it was: length,
    /// space and content of a file that was there; and none that was not.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<Writer, Error> {
        Writer::open(self, path.as_ref(), OpenMode::Create)
    }

    /// Creates the file; it must not exist.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_new(&self, path: impl AsRef<Path>) -> Result<Writer, Error> {
        Writer::open(self, path.as_ref(), OpenMode::CreateNew)
    }

    /// Opens or creates the file and goes on at its end, which is its length. A file whose writer
    /// was killed may end in padding or in space ahead of the data ([`Direct`], [`Preallocate`]):
    /// such a file bears a mark (the extended attribute `user.writeflush`), and is refused unless
    /// its last byte, or its length, shows that it doesn't, and that it has no hole: a killed writer may
    /// have left one between two writes, or a gap. After a power cut zeros may follow what
    /// was durable in any file: there go on at a position that you know.
    ///
    /// # Errors
    /// [`Error::Unfinished`], and as [`create`](Self::create).
    pub fn append(&self, path: impl AsRef<Path>) -> Result<Writer, Error> {
        Writer::open(self, path.as_ref(), OpenMode::Append)
    }

    /// As [`append`](Self::append), but goes on at `position`, to which the file is cut under the
    /// lock: for who knows how far its bytes are good. The cut is the last step of the open, so that
    /// one that fails before it changes nothing.
    ///
    /// # Errors
    /// [`Error::Options`] if the file is shorter, and as [`create`](Self::create).
    pub fn append_at(&self, path: impl AsRef<Path>, position: u64) -> Result<Writer, Error> {
        let options = Self { append_at: Some(position), ..self.clone() };
        Writer::open(&options, path.as_ref(), OpenMode::Append)
    }

    /// Goes on at the end of a file that is open already: one without a name (`O_TMPFILE`,
    /// memfd_create(2)), a descriptor that was inherited, or one from a sandbox's broker.
    ///
    /// `file` stays yours, as it is: the writer has a descriptor of its own. Close yours at once; or
    /// keep it, for a file without a name ends with its last descriptor, and give it one (linkat(2))
    /// when the writer is closed. Names are yours, too: none is looked at, and no directory is
    /// flushed. **A file without a name is gone after a power cut, whatever was durable**, until it
    /// has one and that directory is flushed; the [label](crate::Control::durability) says so.
    ///
    /// On Linux the file is opened anew (/proc), with flags and a lock that are not those of `file`: a
    /// `flock` of yours is another's. Where that is refused a duplicate serves, through the page
    /// cache; that is in [`Control::fallbacks`](crate::Control::fallbacks), and there two writers over
    /// one descriptor don't find each other.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::Read;
    ///
    /// let mut file = tempfile::tempfile()?; // without a name
    /// let mut writer = writeflush::Options::new().append_file(&file)?;
    /// writer.write(b"a take")?;
    /// writer.close()?;
    /// let mut found = String::new();
    /// file.read_to_string(&mut found)?; // its place is where it was
    /// assert_eq!(found, "a take");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Options`] if it is no regular file, or open for reading only, as a place only
    /// (`O_PATH`), or with `O_APPEND`; if it is sealed; or if only a duplicate could serve, and it is
    /// open for writing only, or for direct I/O. And as [`append`](Self::append). The file is as it
    /// was.
    pub fn append_file(&self, file: &File) -> Result<Writer, Error> {
        Writer::adopt(self, file)
    }

    /// As [`append_file`](Self::append_file), but goes on at `position`, to which the file is cut as
    /// by [`append_at`](Self::append_at): 0 empties it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::io::{Seek, Write};
    /// let mut file = tempfile::tempfile()?;
    /// file.write_all(b"old old")?;
    /// let mut writer = writeflush::Options::new().append_file_at(&file, 4)?;
    /// writer.write(b"new")?;
    /// writer.close()?;
    /// # file.rewind()?;
    /// assert_eq!(std::io::read_to_string(file)?, "old new");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Options`] if the file is shorter, and as [`append_file`](Self::append_file).
    pub fn append_file_at(&self, file: &File, position: u64) -> Result<Writer, Error> {
        Writer::adopt(&Self { append_at: Some(position), ..self.clone() }, file)
    }

    /// Opens an existing file and overwrites it from its start: a recycled segment. What lies
    /// past the last byte written stays, and so does the length if it is greater.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Writer, Error> {
        Writer::open(self, path.as_ref(), OpenMode::Overwrite)
    }

    /// As [`open`](Self::open), but the close cuts off what is old.
    pub(crate) fn recycle(&self, path: &Path) -> Result<Writer, Error> {
        Writer::open(self, path, OpenMode::Recycle)
    }

    pub(crate) fn longest_grant(&self) -> usize {
        self.grant_limit.unwrap_or(self.buffer_size.min(64 << 10))
    }

    /// What goes to the device at once: a buffer, or 1 MiB of a larger one. Two buffers of 4 MiB
    /// in pieces keep the device as busy as eight of 1 MiB (ARCHITECTURE.md, facts).
    pub(crate) fn device_write(&self) -> usize {
        const PIECE: usize = 1 << 20;
        if self.buffer_size.is_multiple_of(PIECE) { PIECE } else { self.buffer_size }
    }

    /// What can't work, whatever the file.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let page = Memory::ALIGN;
        let wrong = |sentence: String| Err(Error::Options(sentence.into()));
        let (size, count) = (self.buffer_size, self.buffers);
        if count < 2 {
            return wrong(format!(
                "{count} buffers can't work: give at least 2, so that one fills while the other \
                 is written"
            ));
        }
        if count > 1000 {
            return wrong(format!("{count} buffers are too many: give at most 1000, larger ones"));
        }
        if size < page || !size.is_multiple_of(page) || size > 1 << 30 {
            let below = (size / page).clamp(1, (1 << 30) / page) * page;
            return wrong(format!(
                "a buffer of {size} bytes can't work: give a multiple of {page} up to 1 GiB, \
                 for example {below}"
            ));
        }
        if self.fence_form == FenceForm::WriteThrough
            && (!cfg!(windows) || self.backend == BackendChoice::Sync)
        {
            return wrong(
                "write-through alone exists with the overlapped backend on Windows only: choose \
                 another fence form"
                    .into(),
            );
        }
        if self.ring.is_some() && !cfg!(target_os = "linux") {
            return wrong("a ring file that survives a kill exists on Linux only".into());
        }
        if self.ring.is_some() && !self.lock {
            return wrong(
                "without its lock a file may still be written by a killed writer's kernel when its \
                 ring is recovered: leave survive_kill or lock(false) out"
                    .into(),
            );
        }
        if self.zero_ahead > MOST_AHEAD {
            return wrong(format!(
                "{} bytes of zeros ahead are more than any stream needs: give at most {MOST_AHEAD}",
                self.zero_ahead
            ));
        }
        let own = self.drive != Drive::default()
            || self.backend != BackendChoice::default()
            || self.thread_setup.0.is_some()
            || self.fence_form == FenceForm::WriteThrough;
        if own && self.driver.is_some() {
            return wrong(
                "a writer that shares a driver has its drive, backend and thread set-up: choose \
                 those in DriverOptions, and no write-through"
                    .into(),
            );
        }
        if self.longest_grant() > size {
            return wrong(format!(
                "a grant limit of {} bytes is more than a buffer: give at most {size}",
                self.longest_grant()
            ));
        }
        match size.checked_mul(count) {
            Some(total) if total <= self.memory_limit => Ok(()),
            _ => wrong(format!(
                "{count} buffers of {size} bytes are more than the memory limit of {} bytes: \
                 give fewer or smaller buffers, or raise the limit",
                self.memory_limit
            )),
        }
    }
}
