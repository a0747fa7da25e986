//! Recordings on the disks of the virtual machine (`tests/devices/powercut`), and the power cuts of
//! their logs: planned here, recorded there, judged here.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::bench::Bench;
use crate::blklog;
use crate::canaries::{Canary, hidden, provoked, shown_by_cuts};
use crate::claims::Claims;
use crate::medium::{FileSystem, Medium};
use crate::replay::{Counts, Images, Replay};
use crate::rig::give_up_when_full;
use crate::run::{Common, canary_named};
use crate::scenario::{Scenario, State, Way};
use crate::table::{kernel, save, word};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// Where the plan, and the disks to begin with, are put
    folder: PathBuf,

    #[command(flatten)]
    common: Common,

    /// File states (default: all; of a planted bug those that show it, and likewise --ways)
    #[arg(long, value_enum, value_delimiter = ',')]
    states: Vec<State>,

    /// Recordings of each combination
    #[arg(long, default_value_t = 1)]
    recordings: u64,

    /// Record with this bug in the fences
    #[arg(long)]
    planted: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct JudgeArgs {
    /// Where the plan is
    folder: PathBuf,

    /// The logs, one for each recording of the plan, in its order
    logs: Vec<PathBuf>,

    /// The first of them, counted from 0
    #[arg(long, default_value_t = 0)]
    first: usize,

    /// What kind of disk it was
    #[arg(long)]
    kind: String,

    /// Losses have to be found in each way to write that is named; elsewhere they are counted only
    #[arg(long, value_enum, value_delimiter = ',')]
    lies_to: Vec<Way>,

    /// Different images to look at of each recording
    #[arg(long, default_value_t = 150)]
    images: usize,

    /// Images that are looked at at the same time
    #[arg(long, default_value_t = 3)]
    workers: usize,

    /// As of `run`
    #[arg(long, value_name = "FILE")]
    together: Option<PathBuf>,

    /// Keep the result in this file (JSON)
    #[arg(long)]
    report: Option<PathBuf>,
}

/// A recording that is to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Planned {
    scenario: Scenario,
    /// The disk at the start, by its name in the folder.
    base: String,
    canary: Option<String>,
    /// The file system covers the bug up.
    hidden: bool,
}

const PLAN: &str = "plan.json";
/// A line each: the disk at the start, and what the program there is told.
const LINES: &str = "recordings";
/// Behind the file system: room for the claims.
const ROOM: u64 = 16 << 20;

/// Draws the recordings and makes the file systems.
pub(crate) fn plan(args: &PlanArgs) -> anyhow::Result<bool> {
    std::fs::create_dir_all(&args.folder)?;
    let canary = args.planted.as_deref().map(canary_named).transpose();
    let canary = canary.map_err(anyhow::Error::msg)?;
    let shown = canary.map(shown_by_cuts).transpose()?;
    let (mut ways, mut states) = shown.unwrap_or((Way::ALL.into(), &State::ALL));
    if let Some(chosen) = args.common.chosen_ways() {
        ways = chosen.into();
    }
    if !args.states.is_empty() {
        states = &args.states;
    }
    let mut planned = Vec::new();
    let mut lines = String::new();
    for &file_system in &args.common.file_systems {
        for &way in &ways {
            for &state in states {
                for seed in args.common.seed..args.common.seed + args.recordings {
                    let scenario = Scenario::of(file_system, way, state, seed);
                    let one = Planned::new(scenario, canary, &args.folder)?;
                    lines += &format!("{} {}\n", one.base, serde_json::to_string(&one.scenario)?);
                    planned.push(one);
                }
            }
        }
    }
    std::fs::write(args.folder.join(LINES), lines)?;
    save(Some(&args.folder.join(PLAN)), &planned)?;
    Ok(true)
}

impl Planned {
    fn new(scenario: Scenario, canary: Option<Canary>, folder: &Path) -> anyhow::Result<Self> {
        let mut scenario = match canary {
            Some(canary) => provoked(canary, scenario),
            None => scenario,
        };
        // Disks of the virtual machine have sectors of 512 bytes.
        scenario.medium.sector = Medium::plain(scenario.medium.file_system).sector;
        let base = scenario.medium.make(folder)?;
        let file = std::fs::File::options().write(true).open(&base)?;
        file.set_len(scenario.medium.size() + ROOM)?;
        let base = base.file_name().context("a file without a name")?;
        let base = base.to_string_lossy().into_owned();
        let hidden = canary.is_some_and(|canary| hidden(canary, scenario.medium.file_system));
        let canary = canary.map(|canary| canary.name().to_owned());
        Ok(Self { scenario, base, canary, hidden })
    }
}

/// In the virtual machine: mounts a disk, and records on it.
pub(crate) fn record(device: &Path, folder: &Path, scenario: &Scenario) -> anyhow::Result<()> {
    let medium = scenario.medium;
    let claims = Claims::on_disk(device, medium.size())?;
    medium.mount(device, folder).with_context(|| format!("{medium:?} can't be mounted"))?;
    if medium.file_system == FileSystem::Xfs {
        give_up_when_full(device)?;
    }
    scenario.work(folder, &claims)
}

/// What came of the recordings of a file system in one way to write.
#[derive(Clone, Debug, Serialize)]
struct Row {
    kind: String,
    file_system: FileSystem,
    way: Way,
    #[serde(skip_serializing_if = "Option::is_none")]
    canary: Option<String>,
    /// The file system covers the bug up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    hidden: bool,
    recordings: usize,
    device_writes: usize,
    device_flushes: usize,
    #[serde(flatten, serialize_with = "counted")]
    images: Images,
    looks: usize,
    /// Recordings with a loss.
    lossy: usize,
    lost: Vec<String>,
}

fn counted<S: serde::Serializer>(images: &Images, serializer: S) -> Result<S::Ok, S::Error> {
    images.counts().serialize(serializer)
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    kernel: String,
    #[serde(flatten)]
    counts: Counts,
    #[serde(skip_serializing_if = "Option::is_none")]
    together: Option<Counts>,
    looks: usize,
    lost: usize,
    seconds: f64,
    rows: &'a [Row],
}

/// Whether nothing was lost that must not be, and something where the disk lies.
pub(crate) fn judge(args: &JudgeArgs) -> anyhow::Result<bool> {
    let begun = Instant::now();
    let text = std::fs::read_to_string(args.folder.join(PLAN)).context("there is no plan")?;
    let planned: Vec<Planned> = serde_json::from_str(&text)?;
    let planned = planned.get(args.first..args.first + args.logs.len());
    let planned = planned.context("there are more logs than recordings in the plan")?;
    let bench = Bench::new()?;
    let mut rows: Vec<Row> = Vec::new();
    for (one, path) in planned.iter().zip(&args.logs) {
        look_at(one, path, args, &bench, &mut rows)
            .with_context(|| format!("{}: {:?}", path.display(), one.scenario))?;
    }
    rows.iter().for_each(|row| println!("{}", row.line()));
    let wrong = wrong(&rows, args);
    wrong.iter().for_each(|wrong| println!("WRONG: {wrong}"));
    let mut images = Images::default();
    rows.iter().for_each(|row| images.extend(&row.images));
    let report = Report {
        kernel: kernel(),
        counts: images.counts(),
        together: images.together(args.together.as_deref())?,
        looks: rows.iter().map(|row| row.looks).sum(),
        lost: rows.iter().map(|row| row.lost.len()).sum(),
        seconds: begun.elapsed().as_secs_f64(),
        rows: &rows,
    };
    let Counts { images, torn, reordered } = report.counts;
    println!(
        "{}: {images} different images ({torn} torn, {reordered} reordered), {} lost",
        args.kind, report.lost
    );
    report.together.iter().for_each(|all| println!("{}", all.in_words()));
    save(args.report.as_deref(), &report)?;
    Ok(wrong.is_empty())
}

fn look_at(
    one: &Planned,
    path: &Path,
    args: &JudgeArgs,
    bench: &Bench,
    rows: &mut Vec<Row>,
) -> anyhow::Result<()> {
    let scenario = one.scenario;
    let size = scenario.medium.size();
    let log = blklog::read(&std::fs::read(path)?, size)?;
    let mut start = std::fs::read(args.folder.join(&one.base))?;
    start.truncate(size as usize);
    let replay = Replay::new(scenario, start, &log)?;
    let mut random = fastrand::Rng::with_seed(scenario.seed);
    let enough = !args.lies_to.is_empty() || one.canary.is_some();
    let found = replay.run(args.images, enough, args.workers, bench.folder(), &mut random)?;
    let of = |row: &Row| (row.file_system, row.way) == (scenario.medium.file_system, scenario.way);
    let index = rows.iter().position(of).unwrap_or_else(|| {
        rows.push(Row::new(one, &args.kind));
        rows.len() - 1
    });
    let row = &mut rows[index];
    row.recordings += 1;
    row.device_writes += log.writes.len();
    row.device_flushes += log.flushes.len();
    row.images.extend(&found.images);
    row.looks += found.looks;
    row.lossy += usize::from(!found.lost.is_empty());
    let (seed, state) = (scenario.seed, word(&scenario.state));
    row.lost.extend(found.lost.iter().map(|lost| format!("seed {seed}, {state}: {lost}")));
    Ok(())
}

/// What should not be.
fn wrong(rows: &[Row], args: &JudgeArgs) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in rows {
        if args.lies_to.contains(&row.way) || row.canary.is_some() {
            if row.lost.is_empty() && !row.hidden {
                wrong.push(format!("{}: nothing was found to be lost", row.line()));
            }
        } else if args.lies_to.is_empty() {
            wrong.extend(row.lost.iter().map(|lost| format!("LOST: {}: {lost}", row.line())));
        }
    }
    if rows.is_empty() {
        wrong.push("there was nothing to judge".into());
    }
    wrong
}

impl Row {
    fn new(one: &Planned, kind: &str) -> Self {
        Self {
            kind: kind.into(),
            file_system: one.scenario.medium.file_system,
            way: one.scenario.way,
            canary: one.canary.clone(),
            hidden: one.hidden,
            recordings: 0,
            device_writes: 0,
            device_flushes: 0,
            images: Images::default(),
            looks: 0,
            lossy: 0,
            lost: Vec::new(),
        }
    }

    fn line(&self) -> String {
        format!(
            "{:8} {:5} {:16} {}{} recordings, {} images, {} looks; {} recordings with losses{}",
            self.kind,
            self.file_system.name(),
            word(&self.way),
            self.canary.as_ref().map(|canary| format!("{canary}: ")).unwrap_or_default(),
            self.recordings,
            self.images.len(),
            self.looks,
            self.lossy,
            if self.hidden { " (hidden there)" } else { "" }
        )
    }
}
