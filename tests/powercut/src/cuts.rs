//! Recordings, their replays, and what was lost; with planted bugs, whether that is seen.

use std::time::Instant;

use comfy_table::Table;
use serde::Serialize;
use writeflush::canary::Canary;

use crate::bench::Bench;
use crate::replay::{Found, Replay};
use crate::rig::{self, FileSystem};
use crate::run::{CutArgs, Wanted};
use crate::scenario::{Scenario, State, Way};
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
    device_writes: usize,
    device_flushes: usize,
    pub(crate) images: usize,
    looks: usize,
    pub(crate) lost: Vec<String>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    kernel: String,
    rows: &'a [Row],
    images: usize,
    looks: usize,
    lost: usize,
    seconds: f64,
}

/// New recordings with other seeds, until there are images enough.
const RECORDINGS: u64 = 400;
/// Recordings that run at the same time, and at least so many a row: each form of a fence, each
/// kind of space, and drives and buffers at random. They mostly wait for their disks.
const AT_ONCE: usize = 4;

type Combination = (FileSystem, Way, State);

/// Whether nothing was lost.
pub(crate) fn run(args: &CutArgs) -> anyhow::Result<bool> {
    let begun = Instant::now();
    let bench = Bench::new()?;
    let mut rows = Vec::new();
    for &file_system in &args.common.file_systems {
        for &way in args.common.ways() {
            for &state in args.states() {
                let wanted = args.common.wanted(args.images);
                let row = combination(&bench, (file_system, way, state), wanted, None)?;
                println!("{}", row.line());
                rows.push(row);
            }
        }
    }
    println!("{}", table(&rows));
    let few: Vec<&Row> = rows.iter().filter(|row| row.images < args.images).collect();
    few.iter().for_each(|row| println!("TOO FEW IMAGES: {}", row.line()));
    let lost = rows.iter().flat_map(|row| &row.lost);
    lost.clone().for_each(|lost| println!("LOST: {lost}"));
    let report = Report {
        kernel: kernel(),
        images: rows.iter().map(|row| row.images).sum(),
        looks: rows.iter().map(|row| row.looks).sum(),
        lost: lost.count(),
        seconds: begun.elapsed().as_secs_f64(),
        rows: &rows,
    };
    println!(
        "{} different images looked at ({} looks) in {:.0} s, seeds from {}; {} lost",
        report.images, report.looks, report.seconds, args.common.seed, report.lost
    );
    save(args.common.report.as_deref(), &report)?;
    Ok(report.lost == 0 && few.is_empty())
}

/// Whether every canary that has to be caught was. Each is a bug in the fences of the real driver.
pub(crate) fn canaries(args: &CutArgs) -> anyhow::Result<bool> {
    let bench = Bench::new()?;
    let mut rows = Vec::new();
    let mut missed = Vec::new();
    let met = Canary::ALL.into_iter().filter_map(|canary| Some((canary, meets(canary)?)));
    for (canary, way) in met {
        for &file_system in &args.common.file_systems {
            let mut caught = false;
            let states =
                if hidden(canary, file_system) { &[State::Growing][..] } else { &State::ALL };
            for &state in states {
                let wanted = args.common.wanted(args.images);
                let row = combination(&bench, (file_system, way, state), wanted, Some(canary))?;
                println!("{}: {}", canary.name(), row.line());
                caught |= !row.lost.is_empty();
                rows.push(row);
            }
            if !caught && !hidden(canary, file_system) {
                missed.push(format!("{} on {}", canary.name(), file_system.name()));
            }
        }
    }
    println!("{}", canary_table(&rows));
    missed.iter().for_each(|missed| println!("NOT CAUGHT: {missed}"));
    save(args.common.report.as_deref(), &rows)?;
    Ok(missed.is_empty())
}

/// The way to write in which a planted bug shows: each way meets one. `None`: the simulated computer
/// alone sees it (a flush of a new file takes its name along on all three file systems).
fn meets(canary: Canary) -> Option<Way> {
    match canary {
        Canary::NoFlush => Some(Way::UringDsync),
        Canary::FlushTooEarly | Canary::PatchDurableEarly => Some(Way::UringFlush),
        Canary::LinkLastOnly => Some(Way::UringLink),
        Canary::DurableWhenWritten => Some(Way::SyncDirect),
        Canary::RangeOnly => Some(Way::SyncPageCache),
        Canary::HeaderFirst | Canary::NoRenameSync => Some(Way::UringPageCache),
        Canary::NoDirectorySync | Canary::EmptyFirst | Canary::AnyName | Canary::CloseUnheard => {
            None
        }
    }
}

/// Planted bugs that this file system covers up: btrfs writes what is ordered before it commits, and
/// an overwrite appears with the data beside it or not at all.
fn hidden(canary: Canary, file_system: FileSystem) -> bool {
    file_system == FileSystem::Btrfs && matches!(canary, Canary::LinkLastOnly | Canary::HeaderFirst)
}

/// Records and replays until there are images enough.
pub(crate) fn combination(
    bench: &Bench,
    (file_system, way, state): Combination,
    wanted: Wanted,
    canary: Option<Canary>,
) -> anyhow::Result<Row> {
    let begun = Instant::now();
    let mut row = Row {
        file_system,
        way,
        file_state: state,
        canary: canary.map(Canary::name),
        first_seed: wanted.seed,
        recordings: 0,
        device_writes: 0,
        device_flushes: 0,
        images: 0,
        looks: 0,
        lost: Vec::new(),
        seconds: 0.0,
    };
    let base = rig::make(file_system, bench.folder())?;
    let start = std::fs::read(&base)?;
    // A share of what is wanted, so that a row has seen several drives, buffers and forms.
    let share = wanted.images.div_ceil(AT_ONCE);
    for first in (wanted.seed..wanted.seed + RECORDINGS).step_by(AT_ONCE) {
        let seeds = first..first + AT_ONCE as u64;
        let scenarios: Vec<_> = seeds.map(|seed| Scenario { way, state, seed }).collect();
        for (scenario, log) in bench.record_all(file_system, &base, scenarios, canary)? {
            if row.images >= wanted.images || !row.lost.is_empty() {
                break;
            }
            row.recordings += 1;
            row.device_writes += log.writes.len();
            row.device_flushes += log.flushes.len();
            let replay = Replay::new(file_system, scenario, start.clone(), &log)?;
            let more = wanted.images.saturating_sub(row.images).min(share);
            let mut random = fastrand::Rng::with_seed(scenario.seed);
            let found =
                replay.run(more, canary.is_some(), wanted.workers, bench.folder(), &mut random)?;
            row.add(found, scenario.seed);
        }
        if row.images >= wanted.images || !row.lost.is_empty() {
            break;
        }
    }
    row.seconds = begun.elapsed().as_secs_f64();
    Ok(row)
}

impl Row {
    fn add(&mut self, found: Found, seed: u64) {
        self.images += found.images;
        self.looks += found.looks;
        self.lost.extend(found.lost.into_iter().map(|lost| format!("seed {seed}: {lost}")));
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{:5} {:16} {:8}  {} recordings, {} images, {} looks, {} lost, {:.1} s",
            self.file_system.name(),
            word(&self.way),
            word(&self.file_state),
            self.recordings,
            self.images,
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
        |row| format!("{} images, {} lost", row.images, row.lost.len()),
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
