//! Recordings, their replays, and what was lost; with planted bugs, whether that is seen.

use std::time::Instant;

use comfy_table::Table;
use serde::Serialize;
use writeflush::canary::Canary;

use crate::bench::{Bench, Recorded};
use crate::claims::Claim;
use crate::coverage::Coverage;
use crate::faults::{CALM, Fault};
use crate::matrix;
use crate::medium::{FileSystem, Mount};
use crate::replay::{Counts, Found, Images, Replay};
use crate::run::{CanaryArgs, CutArgs, Wanted};
use crate::scenario::{Ending, Face, Folder, Mode, Renamed, Scenario, Space, State, Way};
use crate::table::{grid, kernel, save, word};

/// One combination, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    file_system: FileSystem,
    way: Way,
    file_state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    canary: Option<&'static str>,
    first_seed: u64,
    recordings: u64,
    #[serde(skip)]
    scenarios: Vec<Scenario>,
    /// Recordings that met a full disk.
    #[serde(skip)]
    full: usize,
    device_writes: usize,
    device_flushes: usize,
    #[serde(flatten, serialize_with = "counted")]
    pub(crate) images: Images,
    looks: usize,
    pub(crate) lost: Vec<String>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    kernel: String,
    rows: &'a [Row],
    #[serde(flatten)]
    counts: Counts,
    looks: usize,
    coverage: &'a Coverage,
    lost: usize,
    seconds: f64,
}

/// New recordings with other seeds, until there are images enough.
const RECORDINGS: u64 = 400;
/// Recordings that run at the same time. They mostly wait for their disks.
const AT_ONCE: usize = 4;

type Combination = (FileSystem, Way, State);

fn counted<S: serde::Serializer>(images: &Images, serializer: S) -> Result<S::Ok, S::Error> {
    images.counts().serialize(serializer)
}

/// Whether nothing was lost, and everything was met that there is to meet.
pub(crate) fn run(args: &CutArgs) -> anyhow::Result<bool> {
    let begun = Instant::now();
    let bench = Bench::new()?;
    let mut rows = Vec::new();
    let mut coverage = Coverage::of(&args.common.file_systems);
    for &file_system in &args.common.file_systems {
        for &way in args.common.ways() {
            for &state in args.states() {
                let wanted = args.wanted();
                let row = combination(&bench, (file_system, way, state), wanted, None)?;
                println!("{}", row.line());
                row.scenarios.iter().for_each(|scenario| coverage.add(scenario));
                coverage.add_full(row.full);
                rows.push(row);
            }
        }
    }
    println!("{}\n{}", table(&rows), coverage.table());
    let few: Vec<&Row> = rows.iter().filter(|row| row.images.len() < args.images).collect();
    few.iter().for_each(|row| println!("TOO FEW IMAGES: {}", row.line()));
    let missing = if args.is_whole() { coverage.missing(args.each) } else { Vec::new() };
    missing.iter().for_each(|missing| println!("NOT COVERED: {missing}"));
    let lost = rows.iter().flat_map(|row| &row.lost);
    lost.clone().for_each(|lost| println!("LOST: {lost}"));
    let mut images = Images::default();
    rows.iter().for_each(|row| images.extend(&row.images));
    let report = Report {
        kernel: kernel(),
        counts: images.counts(),
        looks: rows.iter().map(|row| row.looks).sum(),
        lost: lost.count(),
        seconds: begun.elapsed().as_secs_f64(),
        rows: &rows,
        coverage: &coverage,
    };
    let Counts { images, torn, reordered } = report.counts;
    println!(
        "{images} different images of a disk looked at ({torn} with a torn write, {reordered} \
         reordered; {} looks) in {:.0} s, seeds from {}; {} lost",
        report.looks, report.seconds, args.common.seed, report.lost
    );
    save(args.common.report.as_deref(), &report)?;
    Ok(report.lost == 0 && few.is_empty() && missing.is_empty())
}

/// Whether every canary that has to be caught was. Each is a bug in the fences of the real driver.
pub(crate) fn canaries(args: &CanaryArgs) -> anyhow::Result<bool> {
    let (planted, args) = (args.planted(), &args.cuts);
    let bench = Bench::new()?;
    let mut rows = Vec::new();
    let mut missed = Vec::new();
    for canary in planted {
        for &file_system in &args.common.file_systems {
            let found = match met_by(canary) {
                Some(Meeting::Cuts(way, states)) => {
                    let wanted = args.wanted();
                    caught_by_cuts(&bench, canary, (file_system, way, states), wanted)?
                }
                Some(Meeting::Fault(way, fault)) => {
                    vec![caught_by_fault(&bench, canary, (file_system, way, fault), args.wanted())?]
                }
                None => continue,
            };
            let caught = found.iter().any(|row| !row.lost.is_empty());
            if !caught && !hidden(canary, file_system) {
                missed.push(format!("{} on {}", canary.name(), file_system.name()));
            }
            rows.extend(found);
        }
    }
    println!("{}", canary_table(&rows));
    missed.iter().for_each(|missed| println!("NOT CAUGHT: {missed}"));
    save(args.common.report.as_deref(), &rows)?;
    Ok(missed.is_empty())
}

/// Where a planted bug shows.
enum Meeting {
    /// In power cuts, in a way to write and one of these states.
    Cuts(Way, &'static [State]),
    /// On a disk that fails.
    Fault(Way, Fault),
}

/// Each way to write meets one. `None`: the simulated computer alone sees it (a flush of a new file
/// takes its name along on all three file systems).
fn met_by(canary: Canary) -> Option<Meeting> {
    use Meeting::{Cuts, Fault};
    const CREATED: &[State] = &[State::Growing, State::Reserved];
    match canary {
        Canary::NoFlush => Some(Cuts(Way::UringDsync, &State::ALL)),
        Canary::FlushTooEarly | Canary::PatchDurableEarly => {
            Some(Cuts(Way::UringFlush, &State::ALL))
        }
        Canary::LinkLastOnly => Some(Cuts(Way::UringLink, &State::ALL)),
        Canary::DurableWhenWritten => Some(Cuts(Way::SyncDirect, &State::ALL)),
        Canary::RangeOnly => Some(Cuts(Way::SyncPageCache, &State::ALL)),
        Canary::HeaderFirst | Canary::NoRenameSync => Some(Cuts(Way::UringPageCache, &State::ALL)),
        Canary::TailZeroed => Some(Cuts(Way::SyncDirect, &[State::Written])),
        Canary::HeadNotRead => Some(Cuts(Way::UringDsync, CREATED)),
        Canary::SpaceUnfenced | Canary::RefusedCounts => {
            Some(Cuts(Way::UringFlush, &[State::Growing]))
        }
        Canary::GapUnfenced => Some(Cuts(Way::SyncDirect, &[State::Growing])),
        Canary::DirectoryByPath => Some(Cuts(Way::UringLink, &[State::Growing])),
        Canary::UnaskedUnfenced => Some(Cuts(Way::SyncPageCache, &[State::Growing])),
        Canary::FlushErrorSwallowed => Some(Fault(Way::UringFlush, crate::faults::Fault::Flushes)),
        Canary::NoDirectorySync
        | Canary::EmptyFirst
        | Canary::AnyName
        | Canary::CloseUnheard
        | Canary::CutShort
        | Canary::RestSkips => None,
    }
}

/// What a bug needs to show at all.
fn provoked(canary: Option<Canary>, mut scenario: Scenario) -> Scenario {
    for plan in &mut scenario.takes {
        match canary {
            Some(Canary::HeadNotRead) => {
                (plan.mode, plan.old) = (Mode::Append, plan.old.max(scenario.seed % 1000 + 1));
            }
            Some(Canary::NoRenameSync) => plan.renamed = Renamed::Complete,
            Some(Canary::GapUnfenced) => {
                (plan.mode, plan.face, plan.old, plan.leaps) = (Mode::Create, Face::Mmio, 0, true);
            }
            Some(Canary::UnaskedUnfenced) => (plan.face, plan.old) = (Face::Mmio, 0),
            // By now the path leads nowhere: where it leads to another directory, the flush of the
            // file takes its name along.
            Some(Canary::DirectoryByPath) => {
                (plan.folder, plan.ending) = (Folder::Moved, Ending::Close);
            }
            // Several threads at once don't meet a disk that stays full.
            Some(Canary::RefusedCounts) if plan.face == Face::Threads => plan.face = Face::Turns,
            _ => {}
        }
    }
    let space = match canary {
        Some(Canary::SpaceUnfenced) => Space::Returns,
        Some(Canary::RefusedCounts) => Space::RunsOut,
        Some(_) => Space::Ample,
        None => scenario.space,
    };
    scenario = scenario.on_a_disk_with(space);
    let medium = &mut scenario.medium;
    match canary {
        // Else an overwrite appears with the data beside it, or not at all.
        Some(Canary::HeaderFirst) if medium.file_system == FileSystem::Btrfs => {
            medium.mount = Mount::NoDataCow;
        }
        // What bypasses the page cache can't on ext4 with data=journal.
        Some(_) if !medium.takes_direct() => medium.mount = Mount::Default,
        _ => {}
    }
    scenario
}

/// Planted bugs that this file system covers up: btrfs writes what is ordered before it commits,
/// also with nodatacow.
fn hidden(canary: Canary, file_system: FileSystem) -> bool {
    file_system == FileSystem::Btrfs && canary == Canary::LinkLastOnly
}

fn caught_by_cuts(
    bench: &Bench,
    canary: Canary,
    (file_system, way, states): (FileSystem, Way, &[State]),
    wanted: Wanted,
) -> anyhow::Result<Vec<Row>> {
    let states = if hidden(canary, file_system) { &states[..1] } else { states };
    let mut rows = Vec::new();
    for &state in states {
        let row = combination(bench, (file_system, way, state), wanted, Some(canary))?;
        println!("{}: {}", canary.name(), row.line());
        rows.push(row);
    }
    Ok(rows)
}

fn caught_by_fault(
    bench: &Bench,
    canary: Canary,
    (file_system, way, fault): (FileSystem, Way, Fault),
    wanted: Wanted,
) -> anyhow::Result<Row> {
    // When the disk fails, and what is under way then, differs from one recording to the next.
    const MOST: u64 = 12;
    // ext4 stops at the first flush that fails in a journal commit; one of a written file is none.
    let state = if file_system == FileSystem::Ext4 { State::Written } else { State::Growing };
    let of = (file_system, way, state);
    let images = wanted.images.div_ceil(wanted.recordings);
    let mut row = Row::new(of, wanted.seed, Some(canary));
    for seed in wanted.seed..wanted.seed + MOST {
        let wanted = Wanted { seed, images, ..wanted };
        let outcome = matrix::one(bench, of, (fault, CALM), wanted, Some(canary))?;
        println!("{}: {}", canary.name(), outcome.line());
        row.recordings += 1;
        row.lost = outcome.everything_wrong();
        if !row.lost.is_empty() {
            break;
        }
    }
    Ok(row)
}

/// Records and replays until there are images enough.
pub(crate) fn combination(
    bench: &Bench,
    (file_system, way, state): Combination,
    wanted: Wanted,
    canary: Option<Canary>,
) -> anyhow::Result<Row> {
    let begun = Instant::now();
    let mut row = Row::new((file_system, way, state), wanted.seed, canary);
    // A share of what is wanted, so that a row has seen several drives, buffers and forms.
    let share = wanted.images.div_ceil(wanted.recordings);
    let full = serde_json::to_string(&Claim::Full)?;
    for first in (wanted.seed..wanted.seed + RECORDINGS).step_by(AT_ONCE) {
        let seeds = first..first + AT_ONCE as u64;
        let scenarios = seeds.map(|seed| Scenario::of(file_system, way, state, seed));
        let scenarios = scenarios.map(|scenario| provoked(canary, scenario)).collect();
        for (scenario, recorded) in bench.record_all(scenarios, canary)? {
            if row.is_done(wanted.images) {
                break;
            }
            row.scenarios.push(scenario);
            row.recordings += 1;
            let log = match recorded {
                Recorded::Whole(log) => log,
                Recorded::Failed(said) => {
                    row.lost.push(said);
                    continue;
                }
            };
            row.device_writes += log.writes.len();
            row.device_flushes += log.flushes.len();
            row.full += usize::from(log.claims.iter().any(|claim| claim.text == full));
            let start = std::fs::read(bench.base(scenario.medium)?)?;
            let replay = Replay::new(scenario, start, &log)?;
            let more = wanted.images.saturating_sub(row.images.len()).min(share);
            let mut random = fastrand::Rng::with_seed(scenario.seed);
            let found =
                replay.run(more, canary.is_some(), wanted.workers, bench.folder(), &mut random)?;
            row.add(found, &scenario);
        }
        if row.is_done(wanted.images) {
            break;
        }
    }
    row.seconds = begun.elapsed().as_secs_f64();
    Ok(row)
}

impl Row {
    fn new((file_system, way, state): Combination, seed: u64, canary: Option<Canary>) -> Self {
        Self {
            file_system,
            way,
            file_state: state,
            canary: canary.map(Canary::name),
            first_seed: seed,
            recordings: 0,
            scenarios: Vec::new(),
            full: 0,
            device_writes: 0,
            device_flushes: 0,
            images: Images::default(),
            looks: 0,
            lost: Vec::new(),
            seconds: 0.0,
        }
    }

    /// There are images enough, or something was lost.
    fn is_done(&self, images: usize) -> bool {
        self.images.len() >= images || !self.lost.is_empty()
    }

    fn add(&mut self, found: Found, scenario: &Scenario) {
        self.images.extend(&found.images);
        self.looks += found.looks;
        let (seed, medium) = (scenario.seed, scenario.medium.in_words());
        let lost = found.lost.into_iter().map(|lost| format!("seed {seed}, {medium}: {lost}"));
        self.lost.extend(lost);
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{:5} {:16} {:8}  {} recordings, {} images, {} looks, {} lost, {:.1} s",
            self.file_system.name(),
            word(&self.way),
            word(&self.file_state),
            self.recordings,
            self.images.len(),
            self.looks,
            self.lost.len(),
            self.seconds
        )
    }
}

/// A row a way and file state, a column a file system.
fn table(rows: &[Row]) -> Table {
    let label = |row: &Row| format!("{} {}", word(&row.way), word(&row.file_state));
    grid(
        rows,
        |row| row.file_system,
        label,
        |row| format!("{} images, {} lost", row.images.len(), row.lost.len()),
    )
}

fn canary_table(rows: &[Row]) -> Table {
    let label = |row: &Row| format!("{} ({})", row.canary.unwrap_or(""), word(&row.file_state));
    grid(
        rows,
        |row| row.file_system,
        label,
        |row| if row.lost.is_empty() { "hidden" } else { "caught" }.into(),
    )
}
