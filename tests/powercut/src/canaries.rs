//! Whether planted bugs are seen. Each is a bug in the fences of the real driver.

use anyhow::{bail, ensure};
use comfy_table::Table;

use crate::bench::Bench;
use crate::cuts::{Row, combination};
use crate::faults::{CALM, Fault};
use crate::matrix;
use crate::medium::FileSystem;
use crate::run::{CanaryArgs, Wanted};
use crate::scenario::{State, Way};
use crate::table::{grid, save, word};

#[cfg(not(canary))]
mod absent;
#[cfg(canary)]
mod planted;

#[cfg(not(canary))]
use absent as known;
#[cfg(canary)]
use planted as known;

use known::met_by;
pub(crate) use known::{Canary, hidden, provoked};

/// Why no bug can be planted, in a build that has none.
pub(crate) const ABSENT: &str = "this program was built without the planted bugs: build it by \
                                 `cargo powercut`, with no RUSTC_WORKSPACE_WRAPPER of your own";

/// Whether every one that has to be caught was.
pub(crate) fn run(args: &CanaryArgs) -> anyhow::Result<bool> {
    ensure!(cfg!(canary), ABSENT);
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
    println!("{}", table(&rows));
    missed.iter().for_each(|missed| println!("NOT CAUGHT: {missed}"));
    save(args.common.report.as_deref(), &rows)?;
    Ok(missed.is_empty())
}

/// Where a planted bug shows.
#[cfg_attr(not(canary), allow(dead_code, reason = "`--cfg canary` names them all"))]
enum Meeting {
    /// In power cuts, in a way to write and one of these states.
    Cuts(Way, &'static [State]),
    /// On a disk that fails.
    Fault(Way, Fault),
}

/// The way to write and the states in which power cuts show a bug; of one that no way survives, all
/// ways.
pub(crate) fn shown_by_cuts(canary: Canary) -> anyhow::Result<(Vec<Way>, &'static [State])> {
    let name = canary.name();
    match met_by(canary) {
        Some(Meeting::Cuts(_, states)) if name == "no-flush" => Ok((Way::ALL.into(), states)),
        Some(Meeting::Cuts(way, states)) => Ok((vec![way], states)),
        Some(Meeting::Fault(..)) => {
            bail!("{name} shows on a disk that fails: `cargo powercut canaries`")
        }
        None => bail!("{name} shows on the simulated computer only"),
    }
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

fn table(rows: &[Row]) -> Table {
    let label = |row: &Row| format!("{} ({})", row.canary.unwrap_or(""), word(&row.file_state));
    grid(
        rows,
        |row| row.file_system,
        label,
        |row| if row.lost.is_empty() { "hidden" } else { "caught" }.into(),
    )
}
