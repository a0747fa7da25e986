//! Durable writing for real-time recorders: a push that never waits for the disk, and a flush
//! that means it.
//!
//! A thread with a deadline (an audio callback, a frame grabber, a market-data feed) hands bytes
//! to a [`Writer`]; a *driver* carries them from aligned buffers to the device; now and then the
//! program asks for a [fence](Control::fence) and *knows* that everything up to byte N survives a
//! power cut.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("take.raw");
//! use writeflush::{OnFull, Options};
//!
//! let mut writer = Options::new().on_full(OnFull::Drop).create(&path)?;
//! for block in [[1u8; 512], [2; 512]] {
//!     writer.write(&block)?; // copied into a buffer; waits for nothing
//! }
//! let ticket = writer.fence(); // asks; writes go on meanwhile
//! let durable = ticket.wait()?; // from now on these bytes survive a power cut
//! assert_eq!(durable, 1024);
//! let summary = writer.close()?; // exact length, synced, every error reported
//! assert_eq!(summary.stats.overruns, 0);
//! # Ok(())
//! # }
//! ```
//!
//! # The contract
//!
//! * **Four positions**, each a prefix of the file, readable from any thread without a lock:
//!   `accepted ≥ submitted ≥ written ≥ durable` ([`Positions`]). *Written* survives a crash of the
//!   process, *durable* a power cut; with [`Options::survive_kill`] *accepted* survives the crash, too.
//!   Where a thread drives, no accepted byte waits longer than
//!   100 ms to be submitted, asked for or not ([`Options::submit_every`]); fences come unasked where
//!   [`Options::fence_every`] says so.
//! * **A push** ([`Writer::try_write`], and [`Writer::write`] while there is room) is one copy into
//!   memory that was allocated and faulted in at open. It takes no lock, allocates nothing, and
//!   waits for nobody. It may make one system call when it fills a buffer while the driver's
//!   thread sleeps; with [`Drive::Caller`] whoever calls is the driver, and a push that fills a buffer
//!   does its work. With [`Drive::Poll`] the driver never sleeps, and a push makes **no system
//!   call at all**; the same holds for [`Writer::grant`] and [`Control::fence`]. (A page that the
//!   system has taken away is faulted in again; io_uring's registered buffers can't be taken.)
//! * **A fence** is: every write before it completed at full length, *then* the device was
//!   flushed. Fences that are asked for while one is in flight share the next.
//! * **What is lost is counted, and its place is known** ([`OnFull`], [`Overrun`]).
//! * **A failure is typed, sticky, and seen by everyone**: the first failed write or flush poisons
//!   the stream; every outstanding ticket, every blocked producer and every later call gets the
//!   same [`Error`], and `durable` stays true. A failed flush is never tried again.
//! * **After close** the file is exactly what was written, to the byte; so it is after an `exit` of
//!   the process without a close ([`Writer`] says how far). After a power cut
//!   `[0, durable)` is there, exactly; behind it may follow later bytes or zeros.
//!   A [checkpoint](Control::checkpoint) keeps a header true at every instant.
//!
//! # What it assumes
//!
//! That the device obeys a flush. [`Control::durability`] says what a fence ends at here (stable
//! media, a device that nobody has confirmed, or the page cache of a memory file system) and why.
//!
//! # What it can't do
//!
//! Read (but [`mmio`], [`frames`] and [`follow`] do). Write one file from two writers (an advisory lock refuses
//! the second one). Promise anything about a file that others change meanwhile: who cuts it
//! (`copytruncate` of logrotate) takes durable bytes away, and what is written next lies behind a gap
//! of zeros, since positions don't move. Rename the file instead, and open a new one.
//!
//! # Platforms
//!
//! Linux has io_uring and direct I/O, both with fallbacks that are reported. Windows has overlapped
//! I/O; it was run under Wine only, never on a real Windows machine. Every other Unix has the `Sync`
//! backend through the page cache. io_uring needs Linux 5.11, direct I/O asks for its alignment from
//! 6.1 on.
//!
//! # Other faces
//!
//! [`frames`] writes messages, each with its number, time and checksum, reads them, and recovers a file
//! whose writer was killed, with its damaged tail kept. [`mod@recover`] does that for WAV, and for any file
//! of which you can say how much is good. [`follow`] reads a recording while another process writes it.
//!
//! [`segments`] cuts a recording that never ends into files, and removes the oldest; [`frames::segments`]
//! does that with messages, and reads, follows and resumes them through all files. [`preroll`] keeps the
//! newest bytes in memory, and makes a recording of them when something has happened.
//!
//! [`observe`] says to an operator how it goes: figures for Prometheus, and for the crates `metrics` and
//! `tracing` where the features of these names are on.
//!
//! [`mmio`] takes the messages of the Windows multimedia file services, on every platform. For C
//! there is a library with a header (the folder `capi`), which on Windows is a DLL for programs that
//! record through winmm.
//!
//! # Threads
//!
//! [`Drive`] says who does the work: a thread that sleeps, a thread that polls, or whoever waits.
//! Who records many streams lets them share a [`Driver`].
//! A [`Writer`] is `Send`; [`SharedWriter`], [`Control`] and [`Ticket`] are `Send + Sync` and
//! cheap to clone, and share what the writer has; dropping the writer closes the file, and
//! [`Control::close`] closes it for whoever does not own it. A [`Ticket`] is a `Future`: what its
//! waker may do is said there. [`Writer::room`] awaits room; with the feature `futures-io` a writer
//! can be an `AsyncWrite` (`AsyncWriter`).

#![cfg_attr(any(loom, shuttle), allow(dead_code, unused_imports, reason = "for other tests"))]

#[cfg(not(any(unix, windows)))]
compile_error!("writeflush needs the positional I/O of Unix or Windows");

mod backend;
mod blocks;
mod buffers;
#[cfg(canary)]
#[doc(hidden)]
pub mod canary;
#[cfg(not(canary))]
mod canary;
mod control;
mod core;
mod driver;
mod error;
mod file;
pub mod follow;
mod fork;
pub mod frames;
mod host;
pub mod mmio;
pub mod observe;
mod options;
mod overrun;
pub mod preroll;
#[cfg(any(windows, all(unix, not(any(loom, shuttle)))))]
mod process_end;
mod random;
#[doc = include_str!("../RECIPES.md")]
pub mod recipes {}
pub mod recover;
pub mod segments;
mod shared_driver;
#[cfg(all(test, unix, not(loom)))]
mod sim;
mod stats;
mod stream;
mod summary;
mod survive;
mod sync;
mod ticket;
mod writer;

pub use backend::Backend;
pub use control::Control;
pub use error::{Error, Operation};
pub use file::{Durability, Medium};
pub use options::{BackendChoice, Direct, DiskFull, Drive, FenceForm, Options, Preallocate};
pub use overrun::{OnFull, Overrun, Push};
pub use recover::recover;
pub use shared_driver::{Driver, DriverOptions};
pub use stats::{Histogram, Stats};
pub use stream::Positions;
pub use summary::{CloseError, Summary};
pub use ticket::Ticket;
#[cfg(feature = "futures-io")]
pub use writer::AsyncWriter;
pub use writer::{Grant, Part, Room, SharedGrant, SharedWriter, Writer};
