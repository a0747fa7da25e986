//! A gate as sections of the page: the verdict, and the distributions that it is made of.

use std::time::Duration;

use super::figure::{Axis, Bar, Figure, Mark, Row, Scale, Tone};
use super::section::{Panel, Section, Table};
use crate::gate::{ARMS, COLUMNS, Evidence, Gate, Paired, columns};
use crate::output::duration;

/// Bars of a distribution.
const STEPS: usize = 60;
/// By arm.
const NAMES: [&str; ARMS] = ["base", "base again", "candidate"];

pub(super) fn sections(gate: &Gate) -> Vec<Section> {
    let mut notes: Vec<String> = gate.since.iter().cloned().collect();
    let skipped = gate.skipped.iter();
    notes.extend(skipped.map(|skipped| format!("Skipped: {}: {}", skipped.what, skipped.why)));
    let findings = Table {
        title: "What was found".into(),
        header: COLUMNS.map(Into::into).to_vec(),
        rows: gate.findings.iter().map(|finding| columns(finding).to_vec()).collect(),
        notes,
    };
    let mut panels = vec![Panel { table: findings, ..Panel::default() }];
    for evidence in &gate.evidence {
        match evidence {
            Evidence::Turns(paired) => panels.extend(distributions(paired, "in turns")),
            Evidence::Processes(paired) => panels.extend(distributions(paired, "each alone")),
            Evidence::Floor(beside) => {
                panels.extend(distributions(&beside.paired, "beside its floor"));
            }
            Evidence::Counts(_) | Evidence::Flushes(_) | Evidence::Instructions(_) => {}
        }
    }
    vec![Section {
        title: format!("{}: {} against {}", gate.verdict.name(), gate.candidate, gate.base),
        prose: vec![
            "The base was measured twice: where it differs from itself there is no verdict. A \
             candidate that was slower was measured again, by other processes, before it was called \
             a regression."
                .into(),
        ],
        panels,
    }]
}

/// `None`: nothing was measured.
fn distributions(paired: &Paired, how: &str) -> Option<Panel> {
    let laps = || paired.stages.iter().flat_map(|stage| &stage.blocks).flatten();
    let turns = || laps().flat_map(|lap| &lap.0);
    let mut arms: [Vec<f64>; ARMS] = Default::default();
    for turn in turns() {
        for (arm, took) in arms.iter_mut().zip(turn) {
            arm.push(took.max(1e-3));
        }
    }
    for arm in &mut arms {
        arm.sort_by(f64::total_cmp);
    }
    let quantile = |arm: &[f64], part: f64| arm.get((arm.len() as f64 * part) as usize).copied();
    // The far ends would press everything else together; the table has them.
    let low = arms.iter().filter_map(|arm| quantile(arm, 0.005)).reduce(f64::min)?;
    let high = arms.iter().filter_map(|arm| quantile(arm, 0.995)).reduce(f64::max)?;
    let edges: Vec<f64> = (0..=STEPS)
        .map(|step| low * (high * 1.001 / low).powf(step as f64 / STEPS as f64))
        .collect();
    let count = |arm: &[f64], value: f64| arm.partition_point(|took| *took < value);
    let counts = |arm: &[f64]| -> Vec<usize> {
        edges.windows(2).map(|step| count(arm, step[1]) - count(arm, step[0])).collect()
    };
    let most = arms.iter().flat_map(|arm| counts(arm)).max().unwrap_or(1).max(1) as f64;
    let row = |(name, arm): (&&str, &Vec<f64>)| {
        let steps = edges.windows(2).zip(counts(arm)).filter(|(_, count)| *count > 0);
        let bar = |(step, count): (&[f64], usize)| Bar {
            from: step[0] / 1e3,
            to: step[1] / 1e3,
            height: count as f64 / most,
        };
        let [low, at, high] =
            [0.25, 0.5, 0.75].map(|part| quantile(arm, part).unwrap_or(low) / 1e3);
        Row {
            name: (*name).into(),
            tone: if *name == NAMES[ARMS - 1] { Tone::Ours } else { Tone::Floor },
            bars: steps.map(bar).collect(),
            marks: vec![Mark { at, low, high }],
            note: shown(at * 1e3),
        }
    };
    let title = format!("{}: {} of an operation, {how}", paired.operation, paired.quantity);
    let axis = Axis { label: "µs (log)", scale: Scale::Log, ..Axis::default() };
    let figure = Figure {
        title: title.clone(),
        caption: format!(
            "{} turns of each; the mark is the median, its line the middle half. All on one scale; \
             the outermost 0.5 % at each end are in the table only.",
            arms[0].len()
        ),
        axis,
        rows: NAMES.iter().zip(&arms).map(row).collect(),
        notes: "median",
        traced: false,
    };
    let cells = NAMES.iter().zip(&arms).map(|(name, arm)| {
        let of = |part: f64| quantile(arm, part).map_or("–".into(), shown);
        let ends =
            [arm.first(), arm.last()].map(|end| end.map_or("–".into(), |took| shown(*took)));
        let [least, most] = ends;
        vec![(*name).into(), least, of(0.25), of(0.5), of(0.75), of(0.95), most]
    });
    let header = ["", "least", "p25", "p50", "p75", "p95", "most"];
    let table = Table {
        title,
        header: header.map(Into::into).to_vec(),
        rows: cells.collect(),
        notes: Vec::new(),
    };
    Some(Panel { figure: Some(figure), table, drawn: None })
}

fn shown(nanoseconds: f64) -> String {
    duration(Duration::from_secs_f64(nanoseconds / 1e9))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{LIMIT_PERCENT, Lap, Stage};

    #[test]
    fn both_distributions_are_drawn_of_all_that_was_measured() {
        let turn = |n: usize| [100_000.0 + n as f64, 100_001.0, 110_000.0 + n as f64];
        let lap = Lap((0..100).map(turn).collect());
        let stage = Stage { steal_percent: None, blocks: vec![vec![lap.clone()], vec![lap]] };
        let paired = Paired {
            operation: "flush".into(),
            quantity: "time".into(),
            limit_percent: LIMIT_PERCENT,
            times: 1,
            stages: vec![stage],
        };
        let panel = distributions(&paired, "in turns").unwrap();
        let figure = panel.figure.unwrap();
        assert_eq!(figure.rows.len(), 3);
        assert!(figure.caption.starts_with("200 turns"), "{}", figure.caption);
        let [base, _, candidate] = figure.rows.as_slice() else { panic!("three rows") };
        assert!(base.bars.iter().all(|bar| bar.to < candidate.bars[0].from), "they lie apart");
        assert_eq!(candidate.note, "110 µs");
        assert_eq!(panel.table.rows[2][6], "110 µs");
        let nothing = Paired { stages: Vec::new(), ..paired };
        assert!(distributions(&nothing, "in turns").is_none());
    }
}
