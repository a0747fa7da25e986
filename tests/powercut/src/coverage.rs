//! What the recordings of a run have met: each of them draws a medium, and for each file how it is
//! opened, written, closed and renamed. Pure.

use std::collections::BTreeMap;

use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::medium::{FileSystem, Medium};
use crate::scenario::{Ending, Face, Folder, Mode, Opener, Renamed, Scenario, Space};
use crate::table::word;

/// Files that met each value.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Coverage {
    values: BTreeMap<&'static str, BTreeMap<String, usize>>,
    /// Combinations of mode, face and medium.
    #[serde(skip)]
    together: BTreeMap<(Mode, Face, Medium), usize>,
}

impl Coverage {
    /// Counters at 0 for everything that recordings on these file systems may meet.
    pub(crate) fn of(file_systems: &[FileSystem]) -> Self {
        let mut coverage = Self::default();
        let media: Vec<Medium> = file_systems.iter().flat_map(|one| one.media()).collect();
        for medium in &media {
            coverage.count("medium", medium.in_words(), 0);
            let each = Mode::ALL.into_iter().flat_map(|mode| Face::ALL.map(|face| (mode, face)));
            for (mode, face) in each.filter(|(mode, face)| face.knows(*mode)) {
                coverage.together.insert((mode, face, *medium), 0);
            }
        }
        coverage.expect::<Mode>("mode");
        coverage.expect::<Opener>("opened by");
        coverage.expect::<Face>("face");
        coverage.expect::<Ending>("ending");
        coverage.expect::<Renamed>("renamed");
        coverage.expect::<Folder>("directory");
        coverage.expect::<Space>("space");
        coverage.count("long gap", YES.into(), 0);
        coverage.count("segments", YES.into(), 0);
        coverage.count("recycled segments", YES.into(), 0);
        coverage.add_full(0);
        for order in ORDERS {
            coverage.count("files", order.into(), 0);
        }
        for whose in DRIVERS {
            coverage.count("driver", whose.into(), 0);
        }
        coverage
    }

    fn expect<Value: ValueEnum>(&mut self, what: &'static str) {
        for value in Value::value_variants() {
            self.count(what, word(value), 0);
        }
    }

    fn count(&mut self, what: &'static str, value: String, times: usize) {
        *self.values.entry(what).or_default().entry(value).or_default() += times;
    }

    /// One more recording, of two files.
    pub(crate) fn add(&mut self, scenario: &Scenario) {
        for plan in &scenario.takes {
            self.count("medium", scenario.medium.in_words(), 1);
            self.count("mode", word(&plan.mode), 1);
            self.count("opened by", word(&plan.opener), 1);
            self.count("face", word(&plan.face), 1);
            self.count("ending", word(&plan.ending), 1);
            self.count("renamed", word(&plan.renamed), 1);
            self.count("directory", word(&plan.folder), 1);
            self.count("space", word(&scenario.space), 1);
            self.count("long gap", YES.into(), plan.leaps.into());
            self.count("segments", YES.into(), plan.rotates.into());
            self.count("recycled segments", YES.into(), plan.recycles.into());
            if plan.frames {
                // Rare in a short run, which need not meet it: `--frames` does.
                self.count("messages in segments", YES.into(), 1);
            }
            self.count("files", ORDERS[usize::from(scenario.side_by_side)].into(), 1);
            self.count("driver", DRIVERS[usize::from(scenario.shares)].into(), 1);
            *self.together.entry((plan.mode, plan.face, scenario.medium)).or_default() += 1;
        }
    }

    /// So many recordings found no room on a disk.
    pub(crate) fn add_full(&mut self, recordings: usize) {
        self.count("full disk", YES.into(), recordings);
    }

    /// What was never met, and combinations met fewer than `each` times.
    pub(crate) fn missing(&self, each: usize) -> Vec<String> {
        let values = self.values.iter().flat_map(|(what, values)| {
            let never = values.iter().filter(|(_, times)| **times == 0);
            never.map(move |(value, _)| format!("{what} {value} was never met"))
        });
        let seldom = self.together.iter().filter(|(_, times)| **times < each);
        let seldom = seldom.map(|((mode, face, medium), times)| {
            let (mode, face, medium) = (word(mode), word(face), medium.in_words());
            format!("{mode} through {face} on {medium} was met {times} times of {each}")
        });
        values.chain(seldom).collect()
    }

    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        for (what, values) in &self.values {
            let counts = values.iter().map(|(value, times)| format!("{value} {times}"));
            table.add_row([(*what).into(), counts.collect::<Vec<_>>().join(", ")]);
        }
        let met = self.together.values().filter(|times| **times > 0).count();
        let least = self.together.values().min().copied().unwrap_or(0);
        let of = self.together.len();
        let said = format!("{met} of {of}, each at least {least} times");
        table.add_row(["mode × face × medium".into(), said]);
        table
    }
}

const YES: &str = "yes";
const ORDERS: [&str; 2] = ["one after the other", "side by side"];
const DRIVERS: [&str; 2] = ["its own", "shared"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{State, Way};

    #[test]
    fn a_value_that_was_never_met_is_missing() {
        let mut coverage = Coverage::of(&[FileSystem::Xfs]);
        let add = |coverage: &mut Coverage, state, seeds: std::ops::Range<u64>| {
            for (way, seed) in
                Way::ALL.iter().flat_map(|way| seeds.clone().map(|seed| (*way, seed)))
            {
                coverage.add(&Scenario::of(FileSystem::Xfs, way, state, seed));
            }
        };
        add(&mut coverage, State::Growing, 1..9);
        add(&mut coverage, State::Reserved, 1..9);
        coverage.add_full(1);
        assert_eq!(coverage.missing(0), ["mode open was never met"]);
        add(&mut coverage, State::Written, 1..9);
        assert!(coverage.missing(1).is_empty());
        assert!(coverage.missing(1000)[0].contains("times of 1000"));
    }
}
