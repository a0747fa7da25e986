//! Frames in a recording that never ends: messages in many files, of which the oldest may go.
//!
//! Each file is a framed file of its own: [`Reader`](super::Reader) reads it, and
//! [`recover`](super::recover) recovers it. What is told here is of all of them together.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let folder = directory.path();
//! use writeflush::frames::{self, segments::{Item, Options, Reader}};
//!
//! let pattern = folder.join("take-{seq:06}.frames");
//! let files = writeflush::segments::Options::new(&pattern).size(64 << 20).keep_bytes(10 << 30);
//! let (mut writer, found) = Options::from(files).resume()?; // what a killed recorder has left
//! # assert_eq!(found.next_sequence, 0);
//! writer.write(frames::now(), b"a message")?;
//! writer.flush()?; // of the whole recording, in whatever segments it lies
//! writer.close()?;
//!
//! let mut reader = Reader::open(&pattern)?;
//! while let Some(item) = reader.read()? {
//!     match item {
//!         Item::Segment(begins) => println!("{}", begins.segment.path.display()),
//!         Item::Frame(frame) => assert_eq!((frame.sequence, frame.payload), (0, &b"a message"[..])),
//!         Item::Hole(hole) => eprintln!("damaged from {} to {}", hole.from, hole.to),
//!         Item::Gap(gap) => eprintln!("{} messages are missing", gap.messages),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What goes on from file to file
//!
//! A frame lies in one segment, whole. All segments of a recording have one generation, and numbers
//! rise through all of them, so a number finds a message, whatever file it is in. The positions that a
//! push tells are those of [`segments`](crate::segments): bytes of frames since the open, heads and
//! footers not counted. A frame's `position` in what is *read* is that in its file.
//!
//! Each segment that has ended gets its footer and its index, on the keeper's thread.
//!
//! # After a crash
//!
//! Up to six files have no footer then: the one that was written, those that waited to be closed, and
//! the one that was ready. [`Options::resume`] looks at so many, and on until it meets one that was
//! closed: of a thousand segments it opens the last few. It recovers those without a footer and gives
//! each its own, takes those away in which nothing is, and goes on in a new file, with the next number.
//! A power cut may have taken frames at the end of one segment and left some in the next one: those
//! were never durable, and stay. Readers see what is missing between them by the numbers.

mod chain;
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
mod follow;
mod item;
mod options;
#[cfg(all(test, unix, not(any(loom, shuttle))))]
pub(super) mod power;
mod reader;
mod resume;
mod writer;

#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
pub use follow::Follower;
pub use item::{Begins, Gap, Item};
pub(crate) use options::Framing;
pub use options::Options;
pub use reader::Reader;
pub use resume::Resumed;
pub use writer::Writer;
