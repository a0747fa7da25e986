//! Framed files: a stream of messages that says by itself where each begins, whether it is whole,
//! and which are missing.
//!
//! What follows is the format, what makes a frame valid, how a reader goes, and how a file is
//! recovered. The code stands on it, and changes only together with it.
//!
//! # The format, version 1
//!
//! A file is a head of 64 bytes, then frames, one directly behind the other, with no padding between
//! them. All numbers are little-endian and unsigned. Positions are bytes from the start of the file.
//!
//! The head:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `89 77 66 46 52 0D 0A 1A`: damaged by any transfer that takes it for text |
//! | 8 | 4 | version: 1 |
//! | 12 | 4 | position of the first frame: 64 |
//! | 16 | 8 | generation, never 0 |
//! | 24 | 8 | sequence number of the first frame; all ones: that which it has (see [`segments`]) |
//! | 32 | 8 | of a segment: sequence number of the first frame of the whole recording; else 0 |
//! | 40 | 8 | of a segment: the generation of the recording, where its own is another; else 0 |
//! | 48 | 8 | of a segment that was made of an older one: its number; else 0 |
//! | 56 | 4 | zeros; a reader does not look at them |
//! | 60 | 4 | CRC32C of the 60 bytes before it |
//!
//! The **generation** is a random number that each recording draws for itself. A file that is
//! recycled keeps its old blocks behind what was written anew, whole frames among them; they bear
//! another generation, and that is how they are known. So a segment that is made of an older one of the
//! same recording draws a generation of its own, and says beside it which recording it belongs to.
//! Whoever goes on with a file goes on with its generation.
//!
//! A frame is a header of 40 bytes, then its payload:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 3 | `F1 77 66` |
//! | 3 | 1 | kind: 1 data, 2 index, 3 end, 4 cookie; a reader steps over a kind that it does not know |
//! | 4 | 4 | bytes of payload, 0 to 1 GiB |
//! | 8 | 8 | sequence number: of data its own, of every other kind that of the next data |
//! | 16 | 8 | time, as the producer gave it; nanoseconds since 1970-01-01 UTC are usual |
//! | 24 | 8 | generation, as in the head |
//! | 32 | 4 | CRC32C of the payload |
//! | 36 | 4 | CRC32C of the 36 bytes before it and the frame's position as 8 bytes |
//!
//! CRC32C is that of RFC 3720 (Castagnoli, reflected, with both inversions): `123456789` gives
//! `E3069283`.
//!
//! The header has a checksum of its own, so that the length is known to be true before anything is
//! read, or memory taken, by it; a frame whose payload is damaged still says how long it is and which
//! one it was. That checksum covers the **position**, though it is not stored: a frame that lies
//! elsewhere than it was written (a misdirected write, a framed file inside a payload) is none.
//!
//! **Sequence numbers** rise by one from data frame to data frame. A number that is missing is a
//! message that was lost: under [`OnFull::Drop`](crate::OnFull::Drop) each loss takes one.
//!
//! A close makes everything durable, and only then writes the **footer**, two frames. *Index*: entries
//! of 24 bytes, in the order of their positions, each the position, the sequence number and the time
//! of a data frame; at most 1024, evenly spread over the file. *End*, the last 64 bytes of a closed
//! file, with a payload of 24:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | position of the index frame |
//! | 8 | 8 | data frames in the file |
//! | 16 | 8 | time of the first data frame; 0 if there is none |
//!
//! If there is a cookie, the footer repeats the last one between the two.
//!
//! So an end frame at the end of the file vouches for all that lies before it. A recording that goes
//! on behind its footer leaves it where it is; readers step over it, and the next footer counts again
//! from the start of the file.
//!
//! A **cookie** is the application's own: what it needs to go on where it stopped. Its payload is a
//! number of 8 bytes, that of the next message when it was written, and up to 65528 bytes. One flush
//! makes it durable together with all that lies before it; so whoever finds it, and reads the file
//! from its start without a hole, has every message below that number. The last one counts.
//!
//! # When a frame is valid
//!
//! All of these hold, looked at in this order:
//!
//! 1. Its 40 bytes are in the file and begin with `F1 77 66`.
//! 2. Its header's checksum is right, for the position that it lies at.
//! 3. Its generation is that of the head. (If not, it is *stale*: a whole header of another
//!    recording.)
//! 4. Its payload ends in the file.
//! 5. Its payload's checksum is right.
//! 6. Its sequence number is not below that which is due: the number behind the last valid data
//!    frame's.
//!
//! A message that is longer than the reader's limit, or any other frame of more than 64 KiB, is an error of the call, and no judgement on the
//! frame: nothing is allocated, and a reader with a higher limit reads it.
//!
//! # How a reader goes
//!
//! It reads the head, and stands at the first frame. Then, again and again:
//!
//! * A valid frame where it stands: that is the next one, and it stands behind it. If its number is
//!   higher than the one that is due, the numbers between are missing.
//! * Else it looks for the next valid frame at every later position, by the three bytes. (Behind a
//!   header that is right and of its own generation it goes on at the frame's end, since that length
//!   is true: so one pass is enough, whatever the bytes are.) If it finds one, what lies between is a
//!   **hole**, told with its bounds: damage, or writes that a power cut kept while it lost earlier
//!   ones.
//! * If it finds none, the file ends here. The rest says how: nothing, or zeros alone (padding, space
//!   ahead), and the last frame was an end: *closed*. The same behind another frame: *open*. A header
//!   of its own generation whose payload is short or damaged: *torn*. A whole header of another
//!   generation, and none of its own: *stale*. Anything else: *torn*.
//!
//! Numbers rise along the file, so a number, or a time if times do not descend, is found by halving:
//! between two entries of the index, and without an index between the ends of the file, since a
//! reader finds the next frame from anywhere.
//!
//! # How a file is recovered
//!
//! Under the writer's lock, so that no live recording is touched:
//!
//! 1. If its last 64 bytes are a valid end frame, the file was closed, and all of it is good. Done.
//! 2. It is read from its start to the first place where no valid frame lies: its **valid prefix**.
//!    Whatever was durable is in there, since a durable prefix is exact.
//! 3. What lies behind is read on. Zeros at the end are nobody's. Behind the first stale header, and
//!    behind the last frame of the own generation, lie the older bytes of a recycled file. The rest is
//!    the tail. (Valid frames may be in it, behind a hole. They were never durable; they are counted.)
//! 4. The tail, unless it is empty, is copied beside: to `NAME.torn-OFFSET.part`, that is flushed,
//!    renamed to `NAME.torn-OFFSET`, and the directory is flushed. A file of that name which holds
//!    just these bytes is an earlier try's, and serves; one that holds others stays, and the name
//!    becomes `NAME.torn-OFFSET-2`, and so on.
//! 5. Only then the file is cut, and flushed, and its name too.
//!
//! A recovery that ends anywhere, also by a power cut, leaves file and tail such that the next one
//! ends the same way: until step 5 the file is as it was, and step 5 is one cut. A second recovery
//! finds nothing to do.
//!
//! Nothing is taken for a framed file that has no head: a file that somebody else made is refused as
//! it is. (The head is durable before an open returns, so a crash leaves a file without one only in
//! the midst of an open: it is empty, or zeros, or shorter than a head and the beginning of one.)
//!
//! # In segments
//!
//! A recording that never ends lies in many files ([`segments`]), each of which is a framed file of
//! its own, with its head and its footer. They have one generation, but for those that were recycled, and
//! numbers rise through all of them. A recycled one bears its number, since it has its old name for a
//! moment: a reader that finds another number in it than in its name, and no frame, passes it over. The
//! head of a segment is durable before it is known which frame will be its first, so all but the first
//! leave that open. A cookie goes on as well: the footer of a segment without one repeats that of the
//! segment before it.
//!
//! # Costs
//!
//! 40 bytes a frame, and one pass of CRC32C over the payload by whoever pushes (crate `crc32c`: the
//! CPU's instruction, three at a time, and tables where there is none).

mod cookie;
mod error;
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
mod follow;
mod format;
mod index;
mod options;
#[cfg(all(test, unix, not(any(loom, shuttle))))]
mod power;
mod reader;
mod recover;
mod scan;
pub mod segments;
mod writer;

pub use cookie::{Cookie, LONGEST_COOKIE};
pub use error::Error;
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
pub use follow::Follower;
pub use format::LONGEST;
pub use options::Options;
pub use reader::{End, Frame, Hole, Item, Reader, View};
#[cfg(all(test, target_os = "linux", not(any(loom, shuttle))))]
pub(crate) use recover::plan_of;
pub use recover::{Recovered, Torn, recover};
pub(crate) use segments::Framing;
#[cfg(all(test, canary, unix, not(any(loom, shuttle))))]
pub(crate) use segments::power::run as segments_power;
pub(crate) use writer::Book;
pub use writer::{Framed, Grant, Placed, Push, Writer, now};
