//! Recordings, their replays, and what was lost.

use std::time::Instant;

use comfy_table::Table;
use serde::Serialize;

use crate::bench::{Bench, Recorded};
use crate::canaries::{Canary, provoked};
use crate::claims::Claim;
use crate::coverage::Coverage;
use crate::medium::FileSystem;
use crate::replay::{Counts, Found, Images, Replay};
use crate::run::{CutArgs, Wanted};
use crate::scenario::{Scenario, State, Way};
use crate::table::{grid, kernel, save, word};

/// One combination, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) file_system: FileSystem,
    way: Way,
    pub(crate) file_state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) canary: Option<&'static str>,
    first_seed: u64,
    pub(crate) recordings: u64,
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
    /// With those of earlier runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    together: Option<Counts>,
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
        together: images.together(args.together.as_deref())?,
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
    report.together.iter().for_each(|all| println!("{}", all.in_words()));
    save(args.common.report.as_deref(), &report)?;
    Ok(report.lost == 0 && few.is_empty() && missing.is_empty())
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
        let chosen = |scenario: Scenario| match scenario {
            _ if wanted.adopted => scenario.adopted(),
            _ if wanted.segments => scenario.in_segments(),
            _ if wanted.frames => scenario.in_frames(),
            _ => scenario,
        };
        let scenarios = scenarios.map(chosen).map(|scenario| match canary {
            Some(canary) => provoked(canary, scenario),
            None => scenario,
        });
        for (scenario, recorded) in bench.record_all(scenarios.collect(), canary)? {
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
    pub(crate) fn new(
        (file_system, way, state): Combination,
        seed: u64,
        canary: Option<Canary>,
    ) -> Self {
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
