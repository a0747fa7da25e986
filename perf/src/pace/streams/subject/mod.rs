//! Recorders of many streams: this crate with a driver that all share, or one each; a thread each;
//! and one ring by hand.

mod nothing;
#[cfg(target_os = "linux")]
mod one_ring;
mod ours;
mod threads;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use writeflush::BackendChoice;
use writeflush_workloads::FileState;

use super::ledger::Ledger;

/// What a recorder is given.
#[derive(Clone, Debug)]
pub(super) struct Setup<'a> {
    /// A file for each stream, in this state; where they are to grow they are empty.
    pub(super) paths: &'a [PathBuf],
    pub(super) state: FileState,
    /// Of each stream, for bytes that are not yet written.
    pub(super) memory: u64,
    /// Of writeflush.
    pub(super) backend: BackendChoice,
    /// Where it is noted that a fence is through.
    pub(super) ledger: &'a Arc<Ledger>,
}

/// A recorder of many streams on its way.
pub(super) trait Recorder {
    /// The bytes that it really has for what is not yet written, of all streams together.
    fn memory(&self) -> u64;

    /// How bytes get to the disk here, and what durable means, for people.
    fn way(&self) -> String;

    /// Takes a record or, where there is no room, does not; never waits for the disk. Returns
    /// whether it took it.
    fn offer(&mut self, stream: usize, record: &[u8]) -> io::Result<bool>;

    /// Asks that everything that the stream was given so far becomes durable; does not wait. Each
    /// stream counts its fences from 0, and notes in the ledger when one is through.
    fn fence(&mut self, stream: usize) -> io::Result<()>;

    /// Whether all is well so far.
    fn check(&mut self) -> io::Result<()>;

    /// Makes everything durable and ends.
    fn close(self: Box<Self>) -> io::Result<()>;
}

/// A recorder before it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Descriptors that it needs for each stream, at most.
    pub(super) descriptors: u64,
    pub(super) open: fn(&Setup<'_>) -> io::Result<Box<dyn Recorder>>,
}

/// All there are.
pub(super) const SUBJECTS: &[Subject] = &[
    Subject {
        name: "threads",
        about: "a thread each that writes through a BufWriter and calls sync_data",
        descriptors: 1,
        open: threads::open,
    },
    Subject {
        name: "writeflush-shared",
        about: "this crate, all writers on one driver",
        descriptors: 1,
        open: ours::open_shared,
    },
    Subject {
        name: "writeflush-own",
        about: "this crate, each writer with a driver of its own",
        descriptors: 4,
        open: ours::open_own,
    },
    #[cfg(target_os = "linux")]
    Subject {
        name: "ring",
        about: "one io_uring by hand: the floor",
        descriptors: 1,
        open: one_ring::open,
    },
];

/// The generator alone: what every subject's figures contain, and its processor time is taken off.
pub(super) const NOTHING: Subject = Subject {
    name: "generator",
    about: "records and fences fall due, and nothing is done about them",
    descriptors: 0,
    open: nothing::open,
};
