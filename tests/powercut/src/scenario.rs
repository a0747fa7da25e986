//! What a recording is: everything about it follows from its seed. Pure.

use std::path::PathBuf;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use writeflush::{
    BackendChoice, Direct, DiskFull, Drive, Driver, DriverOptions, FenceForm, Options, Preallocate,
};

use crate::content::{HEADER, away, home};
use crate::medium::{FileSystem, Medium};

/// How the writer is set up. Where the planner may choose among forms of a fence, recordings with
/// consecutive seeds take them in turn.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    UringDsync,
    UringLink,
    UringFlush,
    UringPageCache,
    SyncDirect,
    SyncPageCache,
}

/// Where the bytes go. What is reserved is zeroed in every second recording.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    Growing,
    Reserved,
    /// Over the bytes of an older recording.
    Written,
}

/// How the file is opened.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    CreateNew,
    /// `create`, and there is none.
    Create,
    /// `create` over an older recording.
    CreateOver,
    /// `append` to an older recording that ends anywhere in a block.
    Append,
    /// `open` of an older recording.
    Open,
}

/// Who opens the file.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Opener {
    Writer,
    /// The recorder by itself: it hands the file over, and its names stay its own business.
    Recorder,
}

/// Through what the producer writes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Face {
    Exclusive,
    /// Two shared writers that take turns, while another thread flushes.
    Turns,
    /// Shared writers of three threads that run at once, while another flushes.
    Threads,
    Grants,
    /// `std::io::Write` and `Seek`: overwrites and gaps.
    Seeks,
    /// `mmio::File`: WRITE, WRITEFLUSH and SEEK.
    Mmio,
}

/// How it ends.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ending {
    Close,
    Drop,
}

/// When the file gets its other name.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Renamed {
    Never,
    /// By a plain rename; the close makes it durable, or the recorder if it is the opener.
    WhileRecording,
    /// By `MMIOM_RENAME`, when it is complete.
    Complete,
}

/// What becomes of the directory that the file is in, half way through.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Folder {
    Stays,
    /// It gets another name.
    Renamed,
    /// Likewise, and another directory gets its name.
    Replaced,
    /// It moves into another directory.
    Moved,
}

/// How much room there is on the file system.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Space {
    Ample,
    /// For a few blocks, and the writers fail.
    RunsOut,
    /// For a few blocks, and the writers wait until there is more.
    Returns,
}

impl Way {
    pub(crate) const ALL: [Self; 6] = [
        Self::UringDsync,
        Self::UringLink,
        Self::UringFlush,
        Self::UringPageCache,
        Self::SyncDirect,
        Self::SyncPageCache,
    ];

    /// Some that share nothing: direct and not, asynchronous and not.
    pub(crate) const FEW: [Self; 3] = [Self::UringLink, Self::UringPageCache, Self::SyncDirect];

    fn forms(self) -> &'static [FenceForm] {
        use FenceForm::{Auto, Dsync, Flush, Link};
        match self {
            Self::UringDsync => &[Dsync, Auto],
            Self::UringLink => &[Link],
            Self::UringFlush => &[Flush],
            Self::UringPageCache => &[Auto, Link, Flush, Dsync],
            Self::SyncDirect | Self::SyncPageCache => &[Auto, Flush],
        }
    }

    fn form(self, seed: u64) -> FenceForm {
        let forms = self.forms();
        forms[seed as usize % forms.len()]
    }

    fn reaches(self) -> (BackendChoice, Direct) {
        match self {
            Self::UringDsync | Self::UringLink | Self::UringFlush => {
                (BackendChoice::Uring, Direct::On)
            }
            Self::UringPageCache => (BackendChoice::Uring, Direct::Off),
            Self::SyncDirect => (BackendChoice::Sync, Direct::On),
            Self::SyncPageCache => (BackendChoice::Sync, Direct::Off),
        }
    }
}

/// The driver of a recording whose files share one.
fn shared_driver(backend: BackendChoice, drive: Drive) -> &'static Driver {
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    DRIVER.get_or_init(|| {
        let options = DriverOptions::new().backend(backend).drive(drive);
        options.start().expect("what a writer alone is tried with works here")
    })
}

impl State {
    pub(crate) const ALL: [Self; 3] = [Self::Growing, Self::Reserved, Self::Written];
    pub(crate) const CREATED: [Self; 2] = [Self::Growing, Self::Reserved];

    /// The states that are opened in the same modes.
    fn kin(self) -> &'static [Self] {
        match self {
            Self::Growing | Self::Reserved => &Self::CREATED,
            Self::Written => &[Self::Written],
        }
    }

    pub(crate) fn modes(self) -> &'static [Mode] {
        match self {
            Self::Growing | Self::Reserved => {
                &[Mode::CreateNew, Mode::CreateOver, Mode::Append, Mode::Create]
            }
            Self::Written => &[Mode::Open],
        }
    }
}

impl Folder {
    /// The directory of a file, before and after.
    pub(crate) fn places(self, take: u64) -> [PathBuf; 2] {
        let [home, away] = [home(take), away(take)].map(PathBuf::from);
        match self {
            Self::Stays => [PathBuf::new(), PathBuf::new()],
            Self::Renamed | Self::Replaced => [home, away],
            Self::Moved => [home.clone(), away.join(home)],
        }
    }
}

impl Mode {
    pub(crate) const ALL: [Self; 5] =
        [Self::CreateNew, Self::Create, Self::CreateOver, Self::Append, Self::Open];
}

impl Face {
    pub(crate) const ALL: [Self; 6] =
        [Self::Exclusive, Self::Threads, Self::Grants, Self::Mmio, Self::Seeks, Self::Turns];

    /// MMIO has no message that insists on a new file.
    pub(crate) fn knows(self, mode: Mode) -> bool {
        self != Self::Mmio || mode != Mode::CreateNew
    }
}

/// One file of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    pub(crate) opener: Opener,
    pub(crate) face: Face,
    /// Bytes that were in it before; messages that a killed recorder has left, where it holds such.
    pub(crate) old: u64,
    pub(crate) ending: Ending,
    pub(crate) renamed: Renamed,
    pub(crate) folder: Folder,
    /// Once it goes on behind a gap that is so long that the file system makes it.
    pub(crate) leaps: bool,
    /// It is cut into segments, each a file.
    pub(crate) rotates: bool,
    /// These hold messages, each in a frame.
    pub(crate) frames: bool,
    /// Of those a few are kept, and the oldest becomes the next one.
    pub(crate) recycles: bool,
}

impl Plan {
    /// Where the first new byte goes. MMIO opens a file as it is: what is in it is overwritten by
    /// patches.
    pub(crate) fn start(&self) -> u64 {
        match self.mode {
            Mode::Append => self.old,
            Mode::Open if self.face == Face::Mmio => self.old,
            Mode::CreateNew | Mode::Create | Mode::CreateOver | Mode::Open => 0,
        }
    }

    /// Old bytes stay where nothing was written yet.
    pub(crate) fn is_recycled(&self) -> bool {
        self.mode == Mode::Open && self.face != Face::Mmio
    }

    /// No writer takes over a file to overwrite what is in it, and MMIO opens files by their names.
    fn can_be_adopted(&self) -> bool {
        self.mode != Mode::Open && self.face != Face::Mmio
    }

    /// Handed over, if it can be in this mode; what would speak MMIO seeks instead.
    pub(crate) fn adopted(mut self) -> Self {
        (self.rotates, self.frames, self.recycles) = (false, false, false);
        if self.face == Face::Mmio && self.mode != Mode::Open {
            self.face = Face::Seeks;
        }
        if self.can_be_adopted() {
            self.opener = Opener::Recorder;
        }
        self
    }

    /// Its first bytes are kept true by checkpoints.
    pub(crate) fn has_header(&self) -> bool {
        self.face != Face::Mmio && !self.rotates
    }

    /// In segments, which are new files that stay where they are.
    pub(crate) fn in_segments(self) -> Self {
        Self {
            opener: Opener::Writer,
            face: Face::Exclusive,
            old: 0,
            renamed: Renamed::Never,
            folder: Folder::Stays,
            leaps: false,
            rotates: true,
            frames: false,
            recycles: false,
            ..self
        }
    }

    /// Likewise, of messages: in turn a new one, or what a killed recorder has left; keeping all, or
    /// recycling.
    pub(crate) fn in_frames(self, turn: u64) -> Self {
        let recycles = (turn / 2) % 2 == 1;
        Self { frames: true, recycles, old: left_by(turn), ..self.in_segments() }
    }
}

/// One recording: everything about it follows from these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scenario {
    pub(crate) way: Way,
    pub(crate) state: State,
    pub(crate) seed: u64,
    pub(crate) medium: Medium,
    pub(crate) takes: [Plan; TAKES as usize],
    /// Both files are recorded at once.
    pub(crate) side_by_side: bool,
    /// One driver serves both.
    pub(crate) shares: bool,
    pub(crate) space: Space,
}

/// Files of one recording.
pub(crate) const TAKES: u64 = 2;
/// Files are short: to read them again is what a check costs.
pub(crate) const RESERVED: u64 = 1 << 20;
/// The longest grant.
pub(crate) const GRANT: usize = 4096;

impl Scenario {
    /// Medium, mode and face come in turn, so that consecutive seeds meet every combination of
    /// them in all the ways of a file system together; disks that are full come in turn, too, so
    /// that a few seeds meet each kind. The rest is at random.
    pub(crate) fn of(file_system: FileSystem, way: Way, state: State, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let media = file_system.media();
        let (turn, count) = (turn(way, state, seed), media.len() as u64);
        // Once around all media: each of them meets the same modes and faces.
        let around = turn / count;
        let medium = media[((turn + around / 2) % count) as usize];
        let plan = |take| {
            let (mode, face) = mode_and_face(state, (around * TAKES + take) as usize);
            let plan = Plan::at_random(mode, face, &mut random);
            // Not by the seed alone, which all ways to write share.
            let hands_over = fastrand::Rng::with_seed(turn * TAKES + take).u8(..3) == 0;
            let is_new = plan.old == 0 && plan.face == Face::Exclusive;
            match hands_over && plan.can_be_adopted() {
                true => plan.adopted(),
                false if is_new && turn % 4 == 1 => plan.in_frames(turn / 4 + take),
                false if is_new && turn % 4 > 0 => plan.in_segments(),
                false => plan,
            }
        };
        let takes = [0, 1].map(plan);
        let side_by_side = random.bool();
        const FULL: u64 = 7; // shares no divisor with the ways
        let space = match turn / state.kin().len() as u64 % FULL {
            _ if state == State::Reserved => Space::Ample, // it can't run out
            0 => Space::Returns,
            // Where a record lies that was taken in part, one of several producers can't tell.
            1 if takes.iter().all(|plan| plan.face != Face::Threads) => Space::RunsOut,
            _ => Space::Ample,
        };
        // Every third, in each way to write, whatever else comes in turn.
        let shares = fastrand::Rng::with_seed(!turn).u8(..3) == 0;
        Self { way, state, seed, medium, takes, side_by_side, shares, space }.on_a_disk_with(space)
    }

    /// Nobody can be sure to rename or lengthen anything on a disk that is full.
    pub(crate) fn on_a_disk_with(mut self, space: Space) -> Self {
        self.space = space;
        if space != Space::Ample {
            for plan in &mut self.takes {
                (plan.folder, plan.renamed, plan.leaps) = (Folder::Stays, Renamed::Never, false);
                (plan.rotates, plan.frames) = (false, false);
            }
        }
        self
    }

    /// With every file handed over that can be.
    pub(crate) fn adopted(mut self) -> Self {
        self.takes = self.takes.map(Plan::adopted);
        self
    }

    /// With new files only, each cut into segments.
    pub(crate) fn in_segments(mut self) -> Self {
        self.takes = self.takes.map(|plan| Plan { mode: Mode::Create, ..plan.in_segments() });
        self.space = Space::Ample;
        self
    }

    /// Likewise, of messages.
    pub(crate) fn in_frames(mut self) -> Self {
        let [first, second] = self.takes;
        let plan =
            |plan: Plan, take| Plan { mode: Mode::Create, ..plan.in_frames(self.seed + take) };
        self.takes = [plan(first, 0), plan(second, 1)];
        self.space = Space::Ample;
        self
    }

    /// One file, opened as its state asks for and recorded through a writer, on the usual medium.
    pub(crate) fn simple(file_system: FileSystem, way: Way, state: State, seed: u64) -> Self {
        let mode = if state == State::Written { Mode::Open } else { Mode::Create };
        let old = if state == State::Written { RESERVED } else { 0 };
        let plan = Plan {
            mode,
            opener: Opener::Writer,
            face: Face::Exclusive,
            old,
            ending: Ending::Close,
            renamed: Renamed::Never,
            folder: Folder::Stays,
            leaps: false,
            rotates: false,
            frames: false,
            recycles: false,
        };
        let (medium, takes, space) = (Medium::plain(file_system), [plan; 2], Space::Ample);
        Self { way, state, seed, medium, takes, side_by_side: false, shares: false, space }
    }

    /// Who drives differs between the recordings with consecutive seeds, whatever form and space
    /// they have.
    pub(crate) fn options(&self, random: &mut fastrand::Rng) -> Options {
        let drive = match random.u8(..8) {
            0 => Drive::Poll,
            _ if (self.seed ^ self.seed >> 1) & 1 == 0 => Drive::Caller,
            _ => Drive::Thread,
        };
        let (backend, direct) = self.way.reaches();
        let options = Options::new().fence_form(self.way.form(self.seed)).direct(direct);
        let options = match self.shares {
            true => options.driver(shared_driver(backend, drive)),
            false => options.backend(backend).drive(drive),
        };
        let options = options.buffers(random.usize(2..5));
        let options = options.buffer_size(4096 * random.usize(1..5)).grant_limit(GRANT);
        let options = match self.space {
            Space::Ample | Space::RunsOut => options,
            Space::Returns => options.on_disk_full(DiskFull::Wait),
        };
        let options = match self.medium.takes_direct() {
            true => options,
            false => options.direct(Direct::Off),
        };
        match (self.state, (self.seed / 2).is_multiple_of(2)) {
            (State::Reserved, true) => options.preallocate(Preallocate::Reserve(RESERVED)),
            (State::Reserved, false) => options.preallocate(Preallocate::Zero(RESERVED)),
            (State::Growing, true) => options.zero_ahead(RESERVED),
            (State::Growing, false) | (State::Written, _) => options,
        }
    }

    /// What tells the bytes of one file from those of the other.
    pub(crate) fn seed_of(&self, take: u64) -> u64 {
        self.seed ^ take
    }
}

impl Plan {
    fn at_random(mode: Mode, face: Face, random: &mut fastrand::Rng) -> Self {
        let mode = if face.knows(mode) { mode } else { Mode::Create };
        let old = match mode {
            Mode::CreateNew | Mode::Create => 0,
            // Now and then so short that it is outgrown.
            Mode::Open if random.u8(..4) > 0 => RESERVED,
            Mode::CreateOver | Mode::Append | Mode::Open => random.u64(1..40_000),
        };
        // A header begins where an append does: in one sector, since a power cut may tear one that
        // lies in two.
        const SECTOR: u64 = 512;
        let torn = old % SECTOR > SECTOR - HEADER as u64;
        let old = if torn { old - HEADER as u64 } else { old };
        let ending = if random.u8(..3) == 0 { Ending::Drop } else { Ending::Close };
        let renamed = match random.u8(..4) {
            0 => Renamed::Never,
            1 => Renamed::WhileRecording,
            _ => Renamed::Complete,
        };
        let folder = match random.u8(..8) {
            0 => Folder::Renamed,
            1 => Folder::Replaced,
            2 => Folder::Moved,
            _ => Folder::Stays,
        };
        let leaps = matches!(face, Face::Mmio | Face::Seeks) && random.u8(..3) == 0;
        let opener = Opener::Writer;
        let (rotates, frames, recycles) = (false, false, false);
        Self { mode, opener, face, old, ending, renamed, folder, leaps, rotates, frames, recycles }
    }
}

/// Of every other recording: messages that its last recorder has left.
fn left_by(turn: u64) -> u64 {
    if turn.is_multiple_of(2) { 0 } else { fastrand::Rng::with_seed(turn).u64(2..30) }
}

/// Counts through the ways of all states that are opened in the same modes, then to the next seed.
fn turn(way: Way, state: State, seed: u64) -> u64 {
    let place = |all: &[State]| all.iter().position(|other| *other == state).unwrap_or(0);
    let row = Way::ALL.iter().position(|other| *other == way).unwrap_or(0) * state.kin().len()
        + place(state.kin());
    seed * (Way::ALL.len() * state.kin().len()) as u64 + row as u64
}

/// Every mode through every face, in an order in which neighbours, and those a few places further,
/// differ in both.
fn mode_and_face(state: State, turn: usize) -> (Mode, Face) {
    const STRIDE: usize = 5; // shares no divisor with 6 faces in 1 or 4 modes
    let (modes, faces) = (state.modes(), Face::ALL);
    let count = modes.len() * faces.len();
    let place = (turn + turn / count) * STRIDE % count;
    (modes[place / faces.len()], faces[place % faces.len()])
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use clap::ValueEnum;

    use super::*;
    use crate::table::word;

    /// Of so many recordings in each way and state, as many as the nightly run makes.
    fn met(file_system: FileSystem, recordings: u64) -> BTreeMap<(Mode, Face, Medium), usize> {
        let mut met = BTreeMap::new();
        for (way, state) in Way::ALL.iter().flat_map(|way| State::ALL.map(|state| (*way, state))) {
            for seed in 20_261_125..20_261_125 + recordings {
                let scenario = Scenario::of(file_system, way, state, seed);
                for plan in scenario.takes {
                    *met.entry((plan.mode, plan.face, scenario.medium)).or_default() += 1;
                }
            }
        }
        met
    }

    #[test]
    fn consecutive_seeds_meet_every_mode_with_every_face_on_every_medium() {
        for file_system in FileSystem::ALL {
            let met = met(file_system, 20);
            for medium in file_system.media() {
                let each =
                    Mode::ALL.into_iter().flat_map(|mode| Face::ALL.map(|face| (mode, face)));
                for (mode, face) in each.filter(|(mode, face)| face.knows(*mode)) {
                    let times = met.get(&(mode, face, medium)).copied().unwrap_or(0);
                    assert!(times >= 2, "{mode:?} {face:?} {medium:?}: {times} times");
                }
            }
        }
    }

    #[test]
    fn a_few_seeds_meet_several_media_and_modes_in_each_way() {
        for (file_system, way) in
            FileSystem::ALL.iter().flat_map(|one| Way::ALL.map(|way| (one, way)))
        {
            let of = |seed| Scenario::of(*file_system, way, State::Growing, seed);
            let some: Vec<Scenario> = (1..5).map(of).collect();
            let media: BTreeSet<Medium> = some.iter().map(|scenario| scenario.medium).collect();
            let plans = some.iter().flat_map(|scenario| scenario.takes);
            let modes: BTreeSet<Mode> = plans.map(|plan| plan.mode).collect();
            assert!(media.len() >= 2 && modes.len() >= 3, "{file_system:?} {way:?}: {some:?}");
        }
    }

    #[test]
    fn a_few_seeds_meet_every_kind_of_full_disk_on_every_file_system() {
        for (file_system, state) in FileSystem::ALL
            .iter()
            .flat_map(|one| [State::Growing, State::Written].map(|at| (one, at)))
        {
            let each = Way::ALL.into_iter().flat_map(|way| (1..5).map(move |seed| (way, seed)));
            let of = |(way, seed)| word(&Scenario::of(*file_system, way, state, seed).space);
            let met: BTreeSet<String> = each.map(of).collect();
            assert_eq!(
                met.len(),
                Space::value_variants().len(),
                "{file_system:?} {state:?}: {met:?}"
            );
        }
    }

    #[test]
    fn a_few_seeds_hand_over_files_in_every_mode_that_allows_it_and_in_no_other() {
        for file_system in FileSystem::ALL {
            let each = Way::ALL.iter().flat_map(|way| State::ALL.map(|state| (*way, state)));
            let each = each.flat_map(|(way, state)| (1..5).map(move |seed| (way, state, seed)));
            let scenarios =
                each.map(|(way, state, seed)| Scenario::of(file_system, way, state, seed));
            let plans = scenarios.flat_map(|scenario| scenario.takes);
            let adopted = plans.filter(|plan| plan.opener == Opener::Recorder);
            let (modes, faces): (BTreeSet<Mode>, BTreeSet<Face>) =
                adopted.map(|plan| (plan.mode, plan.face)).unzip();
            let created = BTreeSet::from_iter(State::Growing.modes().iter().copied());
            assert_eq!(modes, created, "{file_system:?}");
            assert!(
                faces.len() == Face::ALL.len() - 1 && !faces.contains(&Face::Mmio),
                "{file_system:?}: {faces:?}"
            );
        }
    }

    #[test]
    fn a_scenario_follows_from_its_seed_and_is_the_same_in_another_process() {
        let of = |seed| Scenario::of(FileSystem::Btrfs, Way::UringLink, State::Written, seed);
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        let text = serde_json::to_string(&of(7)).unwrap();
        assert_eq!(serde_json::from_str::<Scenario>(&text).unwrap(), of(7));
    }
}
