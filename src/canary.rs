//! Bugs in the fences that can be planted on purpose, so that a power-cut test shows that it is not
//! blind (`--cfg canary`; never in a recorder). Without it all of this is constant `false`.

mod slip;

pub use slip::Slip;

/// A planted bug: each breaks a promise that only a power cut, or a disk that fails, shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(canary), allow(dead_code, reason = "`--cfg canary` names them all"))]
pub enum Canary {
    /// A fence flushes nothing.
    NoFlush,
    /// A fence waits until the page cache has handed the data to the device (sync_file_range), and
    /// flushes neither that nor what is needed to find the data.
    RangeOnly,
    /// A flush is submitted beside the writes that it should cover, without waiting for them.
    FlushTooEarly,
    /// Only the last write is linked to the flush; those before it are still in flight.
    LinkLastOnly,
    /// What is written counts as durable.
    DurableWhenWritten,
    /// A new file's directory is not flushed.
    NoDirectorySync,
    /// MMIOM_RENAME does not flush the directories.
    NoRenameSync,
    /// MMIOM_WRITEFLUSH answers as soon as its bytes are taken.
    WriteFlushUnfenced,
    /// A checkpoint writes its header without waiting for the data that it describes.
    HeaderFirst,
    /// A patch counts as durable once it is written.
    PatchDurableEarly,
    /// An old file is emptied before the open can no longer fail.
    EmptyFirst,
    /// Nobody looks whether the file that was locked still has its name.
    AnyName,
    /// The error of a close is thrown away.
    CloseUnheard,
    /// The tail's last block is completed with zeros, over what a recycled file holds there.
    TailZeroed,
    /// The block that the first write of an append shares with older bytes is not read back.
    HeadNotRead,
    /// A flush that failed counts as success.
    FlushErrorSwallowed,
    /// A write that found no space counts as written.
    RefusedCounts,
    /// What is left of a short write goes out again one block too far.
    RestSkips,
    /// The cut in idle time takes the last bytes along with the padding.
    CutShort,
    /// What has waited for space is granted as soon as it is written.
    SpaceUnfenced,
    /// A gap that the file system makes is granted, with all before it, as soon as it is there.
    GapUnfenced,
    /// The directory that is flushed is the one that has the path by now.
    DirectoryByPath,
    /// A fence that nobody asks for is granted over what is written, without a flush.
    UnaskedUnfenced,
    /// The write that a waiter carries out by himself lacks its fence.
    InlineUnfenced,
    /// The flush of a file that shares a driver goes to the file that joined first.
    FlushesAnother,
    /// Of a recording in segments what is durable in the next segment counts before the end of the last
    /// one is.
    BoundaryUnfenced,
    /// A segment that is kept no longer is removed by its name, whatever file has that by now.
    RemovedByName,
    /// A segment that met a full disk ends wherever its bytes end, be it in the midst of a frame.
    HalfFrame,
    /// Names that were removed are told before the directory is flushed.
    RemovalUnsynced,
    /// The zeros that are written ahead are whatever lay in that memory.
    DirtyZeros,
    /// Data goes out beside zeros on their way to the same place.
    ZerosBesideData,
    /// Zeros ahead begin a block too early, where data lies.
    ZerosOverData,
    /// Through the page cache a write goes out beside an earlier one.
    LaterBeside,
    /// A cookie is written before the segments before its own are durable.
    CookieAhead,
    /// A segment that is recycled gets its new name before its new head is on the disk.
    RecycledUnflushed,
    /// A segment that is recycled bears the generation that its old frames have.
    SameGeneration,
}

#[cfg(canary)]
mod planted {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Canary;

    static PLANTED: AtomicU8 = AtomicU8::new(0);

    impl Canary {
        /// Every one.
        pub const ALL: [Self; 36] = [
            Self::NoFlush,
            Self::RangeOnly,
            Self::FlushTooEarly,
            Self::LinkLastOnly,
            Self::DurableWhenWritten,
            Self::NoDirectorySync,
            Self::NoRenameSync,
            Self::WriteFlushUnfenced,
            Self::HeaderFirst,
            Self::PatchDurableEarly,
            Self::EmptyFirst,
            Self::AnyName,
            Self::CloseUnheard,
            Self::TailZeroed,
            Self::HeadNotRead,
            Self::FlushErrorSwallowed,
            Self::RefusedCounts,
            Self::RestSkips,
            Self::CutShort,
            Self::SpaceUnfenced,
            Self::GapUnfenced,
            Self::DirectoryByPath,
            Self::UnaskedUnfenced,
            Self::InlineUnfenced,
            Self::FlushesAnother,
            Self::BoundaryUnfenced,
            Self::RemovedByName,
            Self::HalfFrame,
            Self::RemovalUnsynced,
            Self::DirtyZeros,
            Self::ZerosBesideData,
            Self::ZerosOverData,
            Self::LaterBeside,
            Self::CookieAhead,
            Self::RecycledUnflushed,
            Self::SameGeneration,
        ];

        /// Its name in reports.
        pub fn name(self) -> &'static str {
            match self {
                Self::NoFlush => "no-flush",
                Self::RangeOnly => "range-only",
                Self::FlushTooEarly => "flush-too-early",
                Self::LinkLastOnly => "link-last-only",
                Self::DurableWhenWritten => "durable-when-written",
                Self::NoDirectorySync => "no-directory-sync",
                Self::NoRenameSync => "no-rename-sync",
                Self::WriteFlushUnfenced => "write-flush-unfenced",
                Self::HeaderFirst => "header-first",
                Self::PatchDurableEarly => "patch-durable-early",
                Self::EmptyFirst => "empty-first",
                Self::AnyName => "any-name",
                Self::CloseUnheard => "close-unheard",
                Self::TailZeroed => "tail-zeroed",
                Self::HeadNotRead => "head-not-read",
                Self::FlushErrorSwallowed => "flush-error-swallowed",
                Self::RefusedCounts => "refused-counts",
                Self::RestSkips => "rest-skips",
                Self::CutShort => "cut-short",
                Self::SpaceUnfenced => "space-unfenced",
                Self::GapUnfenced => "gap-unfenced",
                Self::DirectoryByPath => "directory-by-path",
                Self::UnaskedUnfenced => "unasked-unfenced",
                Self::InlineUnfenced => "inline-unfenced",
                Self::FlushesAnother => "flushes-another",
                Self::BoundaryUnfenced => "boundary-unfenced",
                Self::RemovedByName => "removed-by-name",
                Self::HalfFrame => "half-frame",
                Self::RemovalUnsynced => "removal-unsynced",
                Self::DirtyZeros => "dirty-zeros",
                Self::ZerosBesideData => "zeros-beside-data",
                Self::ZerosOverData => "zeros-over-data",
                Self::LaterBeside => "later-beside",
                Self::CookieAhead => "cookie-ahead",
                Self::RecycledUnflushed => "recycled-unflushed",
                Self::SameGeneration => "same-generation",
            }
        }

        /// Breaks every writer of this process from now on.
        pub fn plant(self) {
            PLANTED.store(self as u8 + 1, Ordering::Relaxed);
        }

        pub(crate) fn is_planted(self) -> bool {
            PLANTED.load(Ordering::Relaxed) == self as u8 + 1
        }
    }
}

#[cfg(not(canary))]
impl Canary {
    pub(crate) const fn is_planted(self) -> bool {
        false
    }
}

impl Canary {
    /// Nothing is flushed, in one way or another.
    pub(crate) fn flushes_nothing() -> bool {
        Self::NoFlush.is_planted() || Self::RangeOnly.is_planted()
    }
}
