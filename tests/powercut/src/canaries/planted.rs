//! The planted bugs, and what each of them needs to show.

pub(crate) use writeflush::canary::Canary;

use super::Meeting;
use crate::medium::{FileSystem, Mount};
use crate::scenario::{Ending, Face, Folder, Mode, Opener, Renamed, Scenario, Space, State, Way};

/// Each way to write meets one. `None`: the simulated computer alone sees it (a flush of a new file
/// takes its name along on all three file systems, and what is in it; what a killed process leaves
/// is no power cut).
pub(super) fn met_by(canary: Canary) -> Option<Meeting> {
    use Meeting::{Cuts, Fault};
    match canary {
        Canary::NoFlush | Canary::InlineUnfenced => Some(Cuts(Way::UringDsync, &State::ALL)),
        Canary::FlushTooEarly | Canary::PatchDurableEarly => {
            Some(Cuts(Way::UringFlush, &State::ALL))
        }
        Canary::FlushesAnother => Some(Cuts(Way::UringFlush, &[State::Growing])),
        Canary::LinkLastOnly => Some(Cuts(Way::UringLink, &State::ALL)),
        Canary::DurableWhenWritten => Some(Cuts(Way::SyncDirect, &State::ALL)),
        Canary::RangeOnly => Some(Cuts(Way::SyncPageCache, &State::ALL)),
        Canary::HeaderFirst | Canary::NoRenameSync => Some(Cuts(Way::UringPageCache, &State::ALL)),
        Canary::TailZeroed => Some(Cuts(Way::SyncDirect, &[State::Written])),
        Canary::HeadNotRead => Some(Cuts(Way::UringDsync, &State::CREATED)),
        Canary::SpaceUnfenced | Canary::RefusedCounts => {
            Some(Cuts(Way::UringFlush, &[State::Growing]))
        }
        Canary::DirtyZeros => Some(Cuts(Way::UringDsync, &[State::Growing])),
        Canary::SameGeneration => Some(Cuts(Way::UringFlush, &State::CREATED)),
        Canary::BoundaryUnfenced => Some(Cuts(Way::UringFlush, &State::CREATED)),
        Canary::GapUnfenced => Some(Cuts(Way::SyncDirect, &[State::Growing])),
        Canary::DirectoryByPath => Some(Cuts(Way::UringLink, &[State::Growing])),
        Canary::UnaskedUnfenced => Some(Cuts(Way::SyncPageCache, &[State::Growing])),
        Canary::FlushErrorSwallowed => Some(Fault(Way::UringFlush, crate::faults::Fault::Flushes)),
        Canary::NoDirectorySync
        | Canary::WriteFlushUnfenced
        | Canary::EmptyFirst
        | Canary::AnyName
        | Canary::CloseUnheard
        | Canary::CutShort
        | Canary::RestSkips
        | Canary::RemovedByName
        | Canary::HalfFrame
        | Canary::RemovalUnsynced
        | Canary::ZerosBesideData
        | Canary::ZerosOverData
        | Canary::LaterBeside
        | Canary::CookieAhead
        | Canary::RecycledUnflushed => None,
    }
}

/// What a bug needs to show at all.
pub(crate) fn provoked(canary: Canary, mut scenario: Scenario) -> Scenario {
    for plan in &mut scenario.takes {
        match canary {
            Canary::HeadNotRead => {
                (plan.mode, plan.old) = (Mode::Append, plan.old.max(scenario.seed % 1000 + 1));
                *plan = plan.adopted();
            }
            Canary::NoRenameSync => plan.renamed = Renamed::Complete,
            Canary::GapUnfenced => {
                (plan.mode, plan.face, plan.old, plan.leaps) = (Mode::Create, Face::Mmio, 0, true);
                plan.opener = Opener::Writer;
            }
            Canary::UnaskedUnfenced => {
                (plan.face, plan.opener, plan.old) = (Face::Mmio, Opener::Writer, 0);
            }
            // By now the path leads nowhere: where it leads to another directory, the flush of the
            // file takes its name along.
            Canary::DirectoryByPath => {
                (plan.folder, plan.ending) = (Folder::Moved, Ending::Close);
                plan.opener = Opener::Writer; // whoever hands a file over has its names to flush
            }
            Canary::BoundaryUnfenced => {
                plan.mode = Mode::Create;
                *plan = match scenario.state {
                    State::Reserved => plan.in_frames(0),
                    _ => plan.in_segments(),
                };
            }
            Canary::SameGeneration => {
                plan.mode = Mode::Create;
                *plan = plan.in_frames(2);
            }
            // Several threads at once don't meet a disk that stays full.
            Canary::RefusedCounts if plan.face == Face::Threads => plan.face = Face::Turns,
            _ => {}
        }
    }
    let space = match canary {
        Canary::SpaceUnfenced => Space::Returns,
        Canary::RefusedCounts => Space::RunsOut,
        _ => Space::Ample,
    };
    scenario = scenario.on_a_disk_with(space);
    if canary == Canary::FlushesAnother {
        (scenario.shares, scenario.side_by_side) = (true, true);
    }
    let medium = &mut scenario.medium;
    match canary {
        // Else an overwrite appears with the data beside it, or not at all.
        Canary::HeaderFirst if medium.file_system == FileSystem::Btrfs => {
            medium.mount = Mount::NoDataCow;
        }
        // What bypasses the page cache can't on ext4 with data=journal.
        _ if !medium.takes_direct() => medium.mount = Mount::Default,
        _ => {}
    }
    scenario
}

/// Planted bugs that this file system covers up: btrfs writes what is ordered before it commits,
/// also with nodatacow; and no zeros are written ahead there.
pub(crate) fn hidden(canary: Canary, file_system: FileSystem) -> bool {
    let on_btrfs = [Canary::LinkLastOnly, Canary::DirtyZeros];
    file_system == FileSystem::Btrfs && on_btrfs.contains(&canary)
}
