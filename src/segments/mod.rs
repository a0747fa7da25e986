//! Recordings that never end: one stream of bytes in many files, of which the oldest may go.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let folder = directory.path();
//! use writeflush::segments::Options;
//!
//! let pattern = folder.join("take-{seq:06}.raw");
//! let mut writer = Options::new(pattern).size(64 << 20).keep_bytes(10 << 30).open()?;
//! writer.write(b"a record")?; // as of a plain writer: one copy, and no wait
//! let durable = writer.flush()?; // of the whole recording, in whatever segments it lies
//! assert_eq!(durable, 8);
//! writer.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Who does what
//!
//! The *producer* pushes to the segment that is written. Where that has to end it takes the next one,
//! which is ready: made, preallocated where that is asked for, its head in it, its name durable. That is
//! a swap of two pointers; nobody waits, allocates or asks the disk for anything.
//!
//! The *keeper* is a thread of the recording's own. It makes the next segment, closes the last one (its
//! tail, a fence, the trim to its exact length, the flush of file and directory), hands it on
//! ([`Event::Closed`]), and removes the oldest. All segments share one [`Driver`](crate::Driver).
//!
//! If the next segment is *not* ready (a slow disk, none that it could be made on, or four that still
//! wait to be closed) the recording goes on in the current one, past its size or its time, until it is.
//! That is counted ([`Stats::late_rotations`]); nothing is lost by it, and nobody waits. So a program that
//! pushes faster than files can be made gets longer segments than it has asked for, unless it can wait
//! for them: [`Writer::wait_for_next`].
//!
//! # What is told of a segment
//!
//! [`Closed`]: its length, where it lies in the recording, when it began and ended, what was lost in it,
//! and with [`Options::checksum`](crate::Options::checksum) in the options below the CRC32C of all its
//! bytes, head and tail among them; it is computed from the buffers, by whoever drives. (A header that
//! is rewritten once it is on the disk leaves none.)
//!
//! # Where a segment ends
//!
//! By [size](Options::size), by [time](Options::every), or when [told to](Control::rotate), and always
//! with a push: a recording to which nothing comes goes on with its segment. What is pushed at once is a
//! record, and lies in one segment. A raw stream has [frames](Options::frame_bytes) instead, and is cut
//! between two of them, wherever they lie in a push.
//!
//! # Positions
//!
//! There is one: bytes of data from the start of the recording on, heads and tails not counted.
//! [`Control::positions`] says how far the whole is accepted and durable. `durable` passes the end of a
//! segment only when all of that segment is durable, so it is a prefix, as that of a single file is.
//!
//! # After a crash
//!
//! `[0, durable)` is there, in its segments. The last segment may end in later bytes, padding or zeros,
//! as the file of any killed writer; a segment that was ready may be there with its head only, or
//! empty. A recording that is begun again leaves all of that as it is, tells of it ([`Found`]), and goes on
//! with the next number. Numbers are never used twice, also where the clock steps back.
//!
//! # A full disk
//!
//! [`DiskFull`](crate::DiskFull) holds for the segment that is written. Under
//! [`Fail`](crate::DiskFull::Fail) the recording ends; the segment is cut to whole frames, where there
//! are frames (a record that is no frame may be cut anywhere: [`frames`](crate::frames) are found again
//! whole). Better is not to come there: [`Options::min_free`] and the limits on what is kept.
//!
//! # What goes
//!
//! Only closed segments go, the oldest first, and each only if it is the very file that was closed or
//! found: device, number and time of birth are compared in the directory that is held (on vfat and exFAT,
//! whose files keep no number, device and birth), so that a file which has got its name since stays. Nor does one go that another writer has. [`Event::Removed`]
//! comes when the removal is durable. A file whose name the pattern does not make is never touched.
//!
//! With [`Options::recycle`] the oldest becomes the next segment, where nobody has it open: it gets that
//! segment's head, durably, and only then its name. A power cut between the two leaves a segment without
//! frames at the old end, which a resume takes away.
//!
//! # What it does not do
//!
//! One producer; others have the [`Control`]. No reading: of messages,
//! [`frames::segments`](crate::frames::segments) does that, and goes on after a crash.

mod control;
mod cut;
mod hooks;
mod keeper;
mod ledger;
mod listing;
mod options;
mod pattern;
#[cfg(all(test, unix, not(any(loom, shuttle))))]
pub(crate) mod power;
mod retention;
mod writer;

pub use control::{CloseError, Control, Stats, Summary, Ticket};
pub use hooks::{Closed, Event, Tail};
pub(crate) use keeper::MOST_OPEN;
pub use keeper::{Floor, Found};
#[cfg(all(test, unix, not(any(loom, shuttle))))]
pub(crate) use keeper::{Keeper, Turn};
pub use ledger::Segment;
pub(crate) use listing::Listing;
pub use listing::list;
pub use options::Options;
pub(crate) use writer::Place;
pub use writer::Writer;
