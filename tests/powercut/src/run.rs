//! The command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::canaries::{self, Canary};
use crate::claims::Claims;
use crate::devices::{self, JudgeArgs, PlanArgs};
use crate::faults::{self, Fault};
use crate::medium::FileSystem;
use crate::rig::Orders;
use crate::scenario::{Scenario, State, Way};
use crate::{cuts, matrix, server, soak};

/// Cut the power of a real file system at every moment of a recording, let its disk fail, and look
/// what is left
#[derive(Debug, Parser)]
#[command(name = "powercut")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Record and replay; exit status 1 if anything was lost
    Run(CutArgs),
    /// Record with planted bugs; exit status 1 if one that has to be caught was not
    Canaries(CanaryArgs),
    /// Record while the disk fails; exit status 1 if anybody was told a lie, or nothing
    Faults(FaultArgs),
    /// Record for hours, with cuts and faults at random; exit status 1 at the first that is wrong
    Soak(SoakArgs),
    /// Plan recordings for the virtual machine (tests/devices/powercut)
    #[command(hide = true)]
    PlanDevices(PlanArgs),
    #[command(hide = true)]
    RecordDevice { device: PathBuf, folder: PathBuf, scenario: String, canary: Option<String> },
    #[command(hide = true)]
    JudgeDevices(JudgeArgs),
    #[command(hide = true)]
    Serve { base: PathBuf, mount: PathBuf, dump: PathBuf, seed: u64 },
    #[command(hide = true)]
    Work { folder: PathBuf, claims: PathBuf, scenario: String, canary: Option<String> },
    #[command(hide = true)]
    GoOn { folder: PathBuf, scenario: String, durable: u64 },
    #[command(hide = true)]
    Suffer {
        folder: PathBuf,
        claims: PathBuf,
        orders: PathBuf,
        scenario: String,
        fault: Fault,
        calm_ms: u64,
        canary: Option<String>,
    },
}

/// What all of them take.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// File systems
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["ext4", "xfs", "btrfs"])]
    pub(crate) file_systems: Vec<FileSystem>,

    /// Ways to write (default: all)
    #[arg(long, value_enum, value_delimiter = ',')]
    ways: Vec<Way>,

    /// Decides everything but the timing of the kernel
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Images that are looked at at the same time
    #[arg(long, default_value_t = 3)]
    pub(crate) workers: usize,

    /// Keep the result in this file (JSON)
    #[arg(long)]
    pub(crate) report: Option<PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CutArgs {
    #[command(flatten)]
    pub(crate) common: Common,

    /// File states (default: all)
    #[arg(long, value_enum, value_delimiter = ',')]
    states: Vec<State>,

    /// Only files that the recorder opens by itself and hands over; those that are written over stay
    /// the writer's (default: in every third file, without --states written)
    #[arg(long)]
    adopted: bool,

    /// Only new files that are cut into segments (default: some of the new files)
    #[arg(long, conflicts_with = "adopted")]
    segments: bool,

    /// Only messages in segments (default: some of the new files)
    #[arg(long, conflicts_with_all = ["adopted", "segments"])]
    frames: bool,

    /// Different images to look at in each combination
    #[arg(long, default_value_t = 300)]
    pub(crate) images: usize,

    /// Recordings in each combination, at least: each with another medium, mode and face
    #[arg(long, default_value_t = RECORDINGS)]
    recordings: usize,

    /// Files that meet each mode through each face on each medium, at least (without --ways and
    /// --states)
    #[arg(long, default_value_t = 0)]
    pub(crate) each: usize,

    /// Add the images to those of earlier runs in this file, and count the different ones of all
    #[arg(long, value_name = "FILE")]
    pub(crate) together: Option<PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CanaryArgs {
    #[command(flatten)]
    pub(crate) cuts: CutArgs,

    /// Planted bugs (default: all)
    #[arg(long, value_parser = canary_named, value_delimiter = ',')]
    planted: Vec<Canary>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FaultArgs {
    #[command(flatten)]
    pub(crate) common: Common,

    /// What happens to the disk (default: everything)
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Fault>,

    /// Different images to look at after each
    #[arg(long, default_value_t = 30)]
    pub(crate) images: usize,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SoakArgs {
    #[command(flatten)]
    pub(crate) common: Common,

    /// How long, in minutes
    #[arg(long = "for", default_value_t = 10.0, value_name = "MINUTES")]
    minutes: f64,
}

/// What is looked at, and how much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Different images.
    pub(crate) images: usize,
    pub(crate) seed: u64,
    pub(crate) recordings: usize,
    /// Only files that are handed over, where they can be.
    pub(crate) adopted: bool,
    /// Only files that are cut into segments.
    pub(crate) segments: bool,
    /// Only messages in segments.
    pub(crate) frames: bool,
    /// Looked at at the same time.
    pub(crate) workers: usize,
}

impl Common {
    pub(crate) fn wanted(&self, images: usize) -> Wanted {
        let (seed, workers) = (self.seed, self.workers);
        let recordings = RECORDINGS;
        let (adopted, segments, frames) = (false, false, false);
        Wanted { images, seed, recordings, adopted, segments, frames, workers }
    }

    pub(crate) fn ways(&self) -> &[Way] {
        self.chosen_ways().unwrap_or(&Way::ALL)
    }

    pub(crate) fn chosen_ways(&self) -> Option<&[Way]> {
        Some(&self.ways[..]).filter(|ways| !ways.is_empty())
    }
}

/// Recordings of a combination: each form of a fence, each kind of space.
const RECORDINGS: usize = 4;

impl CutArgs {
    pub(crate) fn wanted(&self) -> Wanted {
        let recordings = self.recordings.max(1);
        let (adopted, segments, frames) = (self.adopted, self.segments, self.frames);
        Wanted { recordings, adopted, segments, frames, ..self.common.wanted(self.images) }
    }

    /// All there is to meet can be met.
    pub(crate) fn is_whole(&self) -> bool {
        let is_chosen = self.is_chosen();
        self.common.ways.is_empty() && self.states.is_empty() && !is_chosen
    }

    /// Only some kinds of files.
    fn is_chosen(&self) -> bool {
        self.adopted || self.segments || self.frames
    }

    pub(crate) fn states(&self) -> &[State] {
        match (self.states.is_empty(), self.is_chosen()) {
            (true, false) => &State::ALL,
            (true, true) => &State::CREATED,
            (false, _) => &self.states,
        }
    }
}

impl CanaryArgs {
    pub(crate) fn planted(&self) -> Vec<Canary> {
        if self.planted.is_empty() { Canary::ALL.into() } else { self.planted.clone() }
    }
}

pub(crate) fn canary_named(name: &str) -> Result<Canary, String> {
    if cfg!(not(canary)) {
        return Err(canaries::ABSENT.into());
    }
    let named = Canary::ALL.into_iter().find(|canary| canary.name() == name);
    let all = || Canary::ALL.map(Canary::name).join(", ");
    named.ok_or_else(|| format!("no such bug can be planted: name one of {}", all()))
}

impl FaultArgs {
    /// Every way on ext4; on the others three that share nothing.
    pub(crate) fn ways(&self, file_system: FileSystem) -> Vec<Way> {
        match file_system {
            FileSystem::Xfs | FileSystem::Btrfs if self.common.ways.is_empty() => Way::FEW.into(),
            _ => self.common.ways().into(),
        }
    }

    /// Every fault; a stall, which takes seconds, in two ways.
    pub(crate) fn faults(&self, file_system: FileSystem, way: Way) -> Vec<Fault> {
        let stalls = matches!(way, Way::UringLink | Way::UringPageCache);
        let chosen = |fault: &Fault| match self.faults.is_empty() {
            true => stalls || fault.is_failure(),
            false => self.faults.contains(fault),
        };
        let possible = |fault: &Fault| fault.is_possible(file_system, way);
        Fault::ALL.into_iter().filter(chosen).filter(possible).collect()
    }
}

impl SoakArgs {
    pub(crate) fn length(&self) -> anyhow::Result<Duration> {
        Duration::try_from_secs_f64(self.minutes * 60.0).context("give a number of minutes")
    }
}

pub(crate) fn main() -> ExitCode {
    let done = |result: anyhow::Result<()>| result.map(|()| true);
    let result = match Cli::parse().command {
        Command::Run(args) => cuts::run(&args),
        Command::Canaries(args) => canaries::run(&args),
        Command::Faults(args) => matrix::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::PlanDevices(args) => devices::plan(&args),
        Command::RecordDevice { device, folder, scenario, canary } => {
            let planted = plant(canary.as_deref());
            let scenario = planted.and_then(|()| Ok(serde_json::from_str::<Scenario>(&scenario)?));
            done(scenario.and_then(|scenario| devices::record(&device, &folder, &scenario)))
        }
        Command::JudgeDevices(args) => devices::judge(&args),
        Command::Serve { base, mount, dump, seed } => {
            done(server::serve(&base, &mount, &dump, seed))
        }
        Command::Work { folder, claims, scenario, canary } => {
            done(work(&folder, &claims, &scenario, canary.as_deref()))
        }
        Command::GoOn { folder, scenario, durable } => done(go_on(&folder, &scenario, durable)),
        Command::Suffer { folder, claims, orders, scenario, fault, calm_ms, canary } => {
            let calm = Duration::from_millis(calm_ms);
            let planted = plant(canary.as_deref());
            done(planted.and_then(|()| suffer(&folder, &claims, orders, &scenario, (fault, calm))))
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn plant(name: Option<&str>) -> anyhow::Result<()> {
    let planted = name.map(canary_named).transpose().map_err(anyhow::Error::msg)?;
    planted.into_iter().for_each(Canary::plant);
    Ok(())
}

fn work(folder: &Path, claims: &Path, scenario: &str, canary: Option<&str>) -> anyhow::Result<()> {
    plant(canary)?;
    let scenario: Scenario = serde_json::from_str(scenario)?;
    scenario.work(folder, &Claims::at(claims)?)
}

fn go_on(folder: &Path, scenario: &str, durable: u64) -> anyhow::Result<()> {
    let wrong = faults::go_on(&serde_json::from_str(scenario)?, folder, durable)?;
    println!("{}", serde_json::to_string(&wrong)?);
    Ok(())
}

fn suffer(
    folder: &Path,
    claims: &Path,
    orders: PathBuf,
    scenario: &str,
    fault: (Fault, Duration),
) -> anyhow::Result<()> {
    let scenario: Scenario = serde_json::from_str(scenario)?;
    let told = faults::suffer(&scenario, fault, folder, claims, &Orders(orders))?;
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}
