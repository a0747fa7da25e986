//! The seeds that a test runs: `WRITEFLUSH_SIM_SEED` names one, `WRITEFLUSH_SIM_SEEDS` how many.

use std::ops::Range;

/// What the environment asks for.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

pub(crate) fn seeds() -> Range<u64> {
    match number("WRITEFLUSH_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WRITEFLUSH_SIM_SEEDS").unwrap_or(1500),
    }
}

/// Runs each of them, which says how many cuts of the power it has looked at: enough of them.
pub(crate) fn each_seed(run: impl Fn(u64) -> Result<u64, String>) {
    let seeds = seeds();
    let count = seeds.end - seeds.start;
    let cuts: Result<Vec<u64>, String> = seeds.map(run).collect();
    let cuts: u64 = cuts.unwrap_or_else(|wrong| panic!("{wrong}")).into_iter().sum();
    let is_one = number("WRITEFLUSH_SIM_SEED").is_some();
    assert!(is_one || cuts > 10 * count, "{cuts} cuts");
}
