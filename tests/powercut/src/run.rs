//! The command line: recordings, their replays, and the report.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};
use comfy_table::{Table, presets};
use serde::Serialize;
use writeflush::canary::Canary;

use crate::log::Log;
use crate::replay::{Found, Replay};
use crate::rig::{self, FileSystem, Rig};
use crate::scenario::{Scenario, State, Way};
use crate::server;

/// Cut the power of a real file system at every moment of a recording, and look what is left
#[derive(Debug, Parser)]
#[command(name = "powercut")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Record and replay; exit status 1 if anything was lost
    Run(Args),
    /// Record with planted bugs; exit status 1 if one that has to be caught was not
    Canaries(Args),
    #[command(hide = true)]
    Serve { base: PathBuf, mount: PathBuf, dump: PathBuf, seed: u64 },
    #[command(hide = true)]
    Work { folder: PathBuf, claims: PathBuf, scenario: String, canary: Option<String> },
}

#[derive(Clone, Debug, clap::Args)]
struct Args {
    /// File systems
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["ext4", "xfs", "btrfs"])]
    file_systems: Vec<FileSystem>,

    /// Ways to write
    #[arg(long, value_enum, value_delimiter = ',')]
    ways: Vec<Way>,

    /// File states
    #[arg(long, value_enum, value_delimiter = ',')]
    states: Vec<State>,

    /// Different images to look at in each combination
    #[arg(long, default_value_t = 300)]
    images: usize,

    /// Decides everything but the timing of the kernel
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Images that are looked at at the same time
    #[arg(long, default_value_t = 3)]
    workers: usize,

    /// Keep the result in this file (JSON)
    #[arg(long)]
    report: Option<PathBuf>,
}

/// One combination, and what came of it.
#[derive(Clone, Debug, Serialize)]
struct Row {
    file_system: FileSystem,
    way: Way,
    file_state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    canary: Option<&'static str>,
    first_seed: u64,
    recordings: u64,
    device_writes: usize,
    device_flushes: usize,
    images: usize,
    looks: usize,
    lost: Vec<String>,
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

/// A recording takes a few seconds; one that hangs is a failure.
const PATIENCE: Duration = Duration::from_secs(180);
/// New recordings with other seeds, until there are images enough.
const RECORDINGS: u64 = 400;

pub(crate) fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => ended(run(&args, None)),
        Command::Canaries(args) => ended(canaries(&args)),
        Command::Serve { base, mount, dump, seed } => {
            ended(server::serve(&base, &mount, &dump, seed).map(|()| true))
        }
        Command::Work { folder, claims, scenario, canary } => {
            ended(work(&folder, &claims, &scenario, canary.as_deref()).map(|()| true))
        }
    }
}

fn ended(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn work(folder: &Path, claims: &Path, scenario: &str, canary: Option<&str>) -> anyhow::Result<()> {
    if let Some(name) = canary {
        let planted = Canary::ALL.into_iter().find(|canary| canary.name() == name);
        planted.context("no such canary")?.plant();
    }
    let scenario: Scenario = serde_json::from_str(scenario)?;
    scenario.work(folder, claims)
}

/// Whether nothing was lost.
fn run(args: &Args, canary: Option<Canary>) -> anyhow::Result<bool> {
    let begun = Instant::now();
    let bench = Bench::new()?;
    let mut rows = Vec::new();
    for combination in args.combinations() {
        let row = bench.combination(args, combination, canary)?;
        println!("{}", row.line());
        rows.push(row);
    }
    println!("{}", table(&rows));
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
        "{} different images looked at ({} looks) in {:.0} s; {} lost",
        report.images, report.looks, report.seconds, report.lost
    );
    if let Some(path) = &args.report {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    Ok(report.lost == 0)
}

/// Whether every canary that has to be caught was. Each is a bug in the fences of the real driver.
fn canaries(args: &Args) -> anyhow::Result<bool> {
    let bench = Bench::new()?;
    let mut rows = Vec::new();
    let mut missed = Vec::new();
    for canary in Canary::ALL {
        for &file_system in &args.file_systems {
            let way = meets(canary);
            let mut caught = false;
            for state in State::ALL {
                let row = bench.combination(args, (file_system, way, state), Some(canary))?;
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
    if let Some(path) = &args.report {
        std::fs::write(path, serde_json::to_string_pretty(&rows)? + "\n")?;
    }
    Ok(missed.is_empty())
}

/// The way to write in which a planted bug shows.
fn meets(canary: Canary) -> Way {
    match canary {
        Canary::NoFlush | Canary::FlushTooEarly | Canary::DurableWhenWritten => Way::UringFlush,
        Canary::LinkLastOnly => Way::UringLink,
        Canary::NoDirectorySync => Way::SyncPageCache,
    }
}

/// Planted bugs that this file system covers up: btrfs writes what is ordered before it commits,
/// and a flush of a new file takes its name along on all three. The simulated computer sees those.
fn hidden(canary: Canary, file_system: FileSystem) -> bool {
    canary == Canary::NoDirectorySync
        || (canary, file_system) == (Canary::LinkLastOnly, FileSystem::Btrfs)
}

type Combination = (FileSystem, Way, State);

impl Args {
    fn combinations(&self) -> Vec<Combination> {
        let ways = if self.ways.is_empty() { &Way::ALL[..] } else { &self.ways };
        let states = if self.states.is_empty() { &State::ALL[..] } else { &self.states };
        let mut all = Vec::new();
        for &file_system in &self.file_systems {
            for &way in ways {
                all.extend(states.iter().map(|&state| (file_system, way, state)));
            }
        }
        all
    }
}

/// Where everything happens: in memory, in a mount namespace of its own.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> anyhow::Result<Self> {
        rig::leave_mount_namespace()?;
        let folder = tempfile::tempdir()?;
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("powercut", folder.path(), "tmpfs", flags, None)
            .context("no file system in memory")?;
        Ok(Self { folder })
    }

    fn combination(
        &self,
        args: &Args,
        (file_system, way, state): Combination,
        canary: Option<Canary>,
    ) -> anyhow::Result<Row> {
        let begun = Instant::now();
        let mut row = Row {
            file_system,
            way,
            file_state: state,
            canary: canary.map(Canary::name),
            first_seed: args.seed,
            recordings: 0,
            device_writes: 0,
            device_flushes: 0,
            images: 0,
            looks: 0,
            lost: Vec::new(),
            seconds: 0.0,
        };
        let base = rig::make(file_system, self.folder.path())?;
        for seed in args.seed..args.seed + RECORDINGS {
            let scenario = Scenario { way, state, seed };
            let log = self.record(file_system, &base, &scenario, canary)?;
            row.recordings += 1;
            row.device_writes += log.writes.len();
            row.device_flushes += log.flushes.len();
            let replay = Replay::new(file_system, scenario, std::fs::read(&base)?, &log)?;
            let wanted = args.images.saturating_sub(row.images);
            let mut random = fastrand::Rng::with_seed(seed);
            let found = replay.run(
                wanted,
                canary.is_some(),
                args.workers,
                self.folder.path(),
                &mut random,
            )?;
            row.add(found, seed);
            let enough = row.images >= args.images || canary.is_some() && row.recordings >= 3;
            if enough || !row.lost.is_empty() {
                break;
            }
        }
        row.seconds = begun.elapsed().as_secs_f64();
        Ok(row)
    }

    /// One recording on a fresh disk.
    fn record(
        &self,
        file_system: FileSystem,
        base: &Path,
        scenario: &Scenario,
        canary: Option<Canary>,
    ) -> anyhow::Result<Log> {
        let rig = Rig::new(file_system, base, self.folder.path(), scenario.seed)?;
        let mut work = rig::part("work")?;
        work.arg(rig.mount_point()).arg(rig.claims()).arg(serde_json::to_string(scenario)?);
        work.args(canary.map(Canary::name));
        let mut work = work.spawn().context("the recording did not start")?;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = work.try_wait()? {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                let _ = work.kill();
                anyhow::bail!("the recording hangs: {scenario:?} on {}", file_system.name());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        ensure!(status.success(), "the recording failed: {scenario:?} on {}", file_system.name());
        rig.finish()
    }
}

impl Row {
    fn add(&mut self, found: Found, seed: u64) {
        self.images += found.images;
        self.looks += found.looks;
        self.lost.extend(found.lost.into_iter().map(|lost| format!("seed {seed}: {lost}")));
    }

    fn line(&self) -> String {
        let word = |value: &dyn erased::Name| value.name();
        format!(
            "{:5} {:16} {:8}  {} images, {} looks, {} lost, {:.1} s",
            self.file_system.name(),
            word(&self.way),
            word(&self.file_state),
            self.images,
            self.looks,
            self.lost.len(),
            self.seconds
        )
    }
}

/// The words of the command line, for tables.
mod erased {
    use clap::ValueEnum;

    pub(super) trait Name {
        fn name(&self) -> String;
    }

    impl<T: ValueEnum> Name for T {
        fn name(&self) -> String {
            let value = self.to_possible_value();
            value.map(|value| value.get_name().to_owned()).unwrap_or_default()
        }
    }
}

/// A row a way and file state, a column a file system.
fn table(rows: &[Row]) -> Table {
    let label = |row: &Row| {
        format!("{} {}", erased::Name::name(&row.way), erased::Name::name(&row.file_state))
    };
    grid(rows, label, |row| format!("{} images, {} lost", row.images, row.lost.len()))
}

fn canary_table(rows: &[Row]) -> Table {
    let label = |row: &Row| {
        format!("{} ({})", row.canary.unwrap_or(""), erased::Name::name(&row.file_state))
    };
    grid(rows, label, |row| if row.lost.is_empty() { "hidden" } else { "caught" }.into())
}

fn grid(rows: &[Row], label: impl Fn(&Row) -> String, cell: impl Fn(&Row) -> String) -> Table {
    let mut labels: Vec<String> = Vec::new();
    for row in rows {
        if !labels.contains(&label(row)) {
            labels.push(label(row));
        }
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["", "ext4", "xfs", "btrfs"]);
    for name in labels {
        let cells = FileSystem::ALL.map(|file_system| {
            let row = rows.iter().find(|row| row.file_system == file_system && label(row) == name);
            row.map_or(String::new(), &cell)
        });
        table.add_row(std::iter::once(name).chain(cells));
    }
    table
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}
