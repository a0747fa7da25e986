//! A ring that outlives its process: its bytes, and the words that say which of them were accepted,
//! lie in a *ring file* in memory (tmpfs), which a kill leaves there.
//!
//! ```text
//!  0      4096    8192             cells        ring (a multiple of 2 MiB)
//!  │ head │ words │ patches (9) │  │ …cells │ ┄ │ buffers │ overhang │ bounces │
//! ```
//!
//! - The *head* ([`Head`]) says which file the ring belongs to, and is written once, at the end of the
//!   open: before, nothing was accepted. Ring and file bear the same number, the *bond*, the file in an
//!   extended attribute: whoever writes to the file by other means takes it away, and the ring is
//!   nobody's from then on.
//! - The *words* are what producers and driver move anyway: a push stores them here and not in the
//!   heap.
//! - A *patch* lies here from before its call returns until the ring or the file shows it.
//!
//! What a recovery does with it: [`recover::ring`](crate::recover::ring()).

#[cfg(any(not(target_os = "linux"), loom, shuttle))]
mod absent;
#[cfg_attr(not(all(target_os = "linux", not(any(loom, shuttle)))), allow(dead_code))]
mod layout;
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
mod make;
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
mod mapped;

#[cfg(any(not(target_os = "linux"), loom, shuttle))]
pub(crate) use absent::{RingFile, make};
#[cfg(all(test, target_os = "linux", not(any(loom, shuttle))))]
pub(crate) use layout::State;
pub(crate) use layout::{Bond, Head};
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
pub(crate) use layout::{Extent, PatchHead, Word, at, number};
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
pub(crate) use make::{found, make};
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
pub(crate) use mapped::{Found, RingFile, remove};
