//! Recordings with cuts and faults at random, for hours.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bench::Bench;
use crate::cuts;
use crate::faults::{CALM, Fault};
use crate::matrix;
use crate::run::{SoakArgs, Wanted};
use crate::scenario::State;
use crate::table::{kernel, save};

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Report {
    kernel: String,
    first_seed: u64,
    rounds: u64,
    faults: u64,
    /// Of those, with a writer that had been at work for a minute.
    long: u64,
    images: usize,
    seconds: f64,
    wrong: Option<String>,
}

/// Different images that are looked at in a round.
const IMAGES: usize = 100;
/// One round in so many has a writer that is at work for so long before its disk fails.
const EVERY: u64 = 50;
const LONG: Duration = Duration::from_secs(60);
/// After so many rounds it says how far it is, and keeps its report.
const NEWS: u64 = 10;

/// Whether nothing went wrong in all that time. Each round has a seed of its own.
pub(crate) fn run(args: &SoakArgs) -> anyhow::Result<bool> {
    let (begun, length) = (Instant::now(), args.length()?);
    let bench = Bench::new()?;
    let common = &args.common;
    let mut report = Report { kernel: kernel(), first_seed: common.seed, ..Report::default() };
    while begun.elapsed() < length && report.wrong.is_none() {
        let seed = common.seed + report.rounds;
        report.round(&bench, args, seed)?;
        report.rounds += 1;
        report.seconds = begun.elapsed().as_secs_f64();
        if report.rounds.is_multiple_of(NEWS) {
            println!("{}", report.line());
            save(common.report.as_deref(), &report)?;
        }
    }
    println!("{}", report.line());
    if let Some(wrong) = &report.wrong {
        println!("WRONG: {wrong}");
    }
    save(common.report.as_deref(), &report)?;
    Ok(report.wrong.is_none())
}

impl Report {
    fn round(&mut self, bench: &Bench, args: &SoakArgs, seed: u64) -> anyhow::Result<()> {
        let common = &args.common;
        let wanted = Wanted { seed, ..common.wanted(IMAGES) };
        let mut random = fastrand::Rng::with_seed(seed);
        let way = common.ways()[random.usize(..common.ways().len())];
        let file_system = common.file_systems[random.usize(..common.file_systems.len())];
        let long = self.rounds % EVERY == 1;
        if long || random.u8(..3) == 0 {
            let mut possible = Fault::ALL.to_vec();
            possible.retain(|fault| fault.is_possible(file_system, way));
            let fault = possible[random.usize(..possible.len())];
            let calm = if long { LONG } else { CALM };
            let outcome = matrix::one(
                bench,
                (file_system, way, matrix::state_of(seed)),
                (fault, calm),
                wanted,
                None,
            )?;
            self.faults += 1;
            self.long += u64::from(long);
            self.images += outcome.images;
            self.wrong = (!outcome.is_right()).then(|| outcome.line());
        } else {
            let state = State::ALL[random.usize(..State::ALL.len())];
            let row = cuts::combination(bench, (file_system, way, state), wanted, None)?;
            self.images += row.images.len();
            self.wrong = (!row.lost.is_empty()).then(|| format!("{}: {:?}", row.line(), row.lost));
        }
        Ok(())
    }

    fn line(&self) -> String {
        format!(
            "{} rounds, {} of them with a fault ({} after a minute), {} different images, {:.0} s",
            self.rounds, self.faults, self.long, self.images, self.seconds
        )
    }
}
