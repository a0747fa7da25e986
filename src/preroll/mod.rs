//! Recordings that begin in the past: the newest bytes are kept in memory, and a trigger makes a file of
//! them, and of what comes.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let folder = directory.path().to_owned();
//! # let found = folder.join("event-1.raw");
//! use writeflush::preroll::Options;
//!
//! let mut preroll = Options::new(10 << 20).start(move |beginning| {
//!     let name = format!("event-{}.raw", beginning.number);
//!     writeflush::Options::new().create_new(folder.join(name))
//! })?;
//! let control = preroll.control().clone(); // for the thread that sees the event
//!
//! preroll.write(b"before, ")?; // one copy, over what is oldest; waits for nothing
//! control.trigger()?; // the file is made, and begins with what is kept
//! preroll.write(b"after")?; // as before: waits for nothing
//! control.stop()?; // what comes next is kept for the next event
//! preroll.write(b"later")?;
//! preroll.close()?; // the recording is durable
//! assert_eq!(std::fs::read(found)?, b"before, after");
//! # Ok(())
//! # }
//! ```
//!
//! # Who does what
//!
//! The *producer* copies records into a ring of memory, allocated and faulted in at the start. As long as
//! no recording goes on, a push overwrites the oldest records; what is kept begins with a whole one
//! always. What is pushed at once is a record: push whole frames of a raw stream.
//!
//! The *keeper* is a thread of the pre-roll's own. It sleeps until there is a trigger; then it opens the
//! file, and writes record after record into it, first those of the past. The producer goes on in the
//! same ring meanwhile, and knows nothing of it, but that now nothing is overwritten before it is written.
//! That is one bit beside the position of the oldest record, so a push that meets the trigger either has
//! overwritten a record before that, or leaves it alone: nothing is copied, moved or handed over, however
//! much is kept, and at the seam no byte is lost or there twice.
//!
//! So that the producer has room while the file is opened and the past is written, there is
//! [headroom](Options::headroom). Then the whole ring is a buffer against stalls of the disk, before
//! those of the writer.
//!
//! # What is written, and when it is durable
//!
//! The function that is given to [`start`](Options::start) says: it returns a [`Writer`](crate::Writer), a
//! [`segments::Writer`](crate::segments::Writer), or a [`Recording`] of your own. Positions, fences and
//! durability are that writer's: keep a clone of its [`Control`](crate::Control), or give it
//! [`fence_every`](crate::Options::fence_every). What was pushed comes to it within 5 ms, where the disk
//! keeps up.
//!
//! # One recording after the other
//!
//! A trigger in a recording changes nothing. [`Control::stop`] ends it with what was taken so far; while
//! its rest is written and its file is closed the next trigger may come, and then begins where this one
//! has ended, or later: no byte is in two files. What was lost, since the disk did not keep up, is
//! counted, and has its place in the [summary](crate::Summary::overruns) of the recording that it is
//! missing in.
//!
//! # What fails
//!
//! A recording that can't be opened or written ends the pre-roll: every push, trigger and close answers
//! the same error, and what is kept is gone with it. Who has a second disk opens there in the same
//! function. Nothing that is only kept survives the end of the process.

mod control;
mod ends;
mod keeper;
mod options;
mod recording;
mod ring;
mod writer;

pub use control::{CloseError, Control, Kept, Stats, Summary};
pub use keeper::Beginning;
pub use options::{Options, PER_RECORD};
pub use recording::Recording;
pub use writer::Writer;
