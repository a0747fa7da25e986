//! The operating curve for people: a table, and a figure.

use std::fmt::Write;

use super::case::CASES;
use super::result::{SelfTest, Tally};
use crate::document::Document;
use crate::output::{align_right, table};

/// Everything, as text.
pub(crate) fn render(document: &Document<SelfTest>) -> String {
    let found = &document.result;
    let mut text = document.circumstances();
    let mut table = table();
    table.set_header(["planted", "trials", "pass", "no verdict", "regression", "seen, median"]);
    for case in &CASES {
        let tally = found.tally(|other| other.name == case.name);
        if tally.all() > 0 {
            let counts = [tally.all(), tally.passed, tally.undecided, tally.failed];
            let mut row = vec![case.name.to_owned()];
            row.extend(counts.map(|count| count.to_string()));
            row.push(seen(found, case.name));
            table.add_row(row);
        }
    }
    align_right(&mut table, 0);
    let beside = if found.neighbour { ", beside a neighbour that syncs all the time" } else { "" };
    let operations = found.operations.join(", ");
    write!(
        text,
        "\n{operations}; by {}, {} turns a stage, limit {} %{beside}\n{table}\n",
        found.tier.name(),
        found.turns,
        found.limit_percent
    )
    .expect("a string takes everything");
    let stolen = found.tally(|_| true).stolen;
    if stolen > 0 {
        text += &format!("\nof {stolen} without a verdict the host took the time away\n");
    }
    let failures = found.failures();
    match failures.as_slice() {
        [] => text += "\nthe gate does what is asked of it here\n",
        failures => failures.iter().for_each(|failure| text += &format!("\nfailed: {failure}\n")),
    }
    text
}

/// The median of the changes that were seen.
fn seen(found: &SelfTest, case: &str) -> String {
    let trials = found.trials.iter().filter(|trial| trial.case == case);
    let changes = trials.flat_map(|trial| &trial.findings).filter_map(|told| told.change);
    let mut percents: Vec<f64> = changes.map(|change| change.percent).collect();
    percents.sort_by(f64::total_cmp);
    match percents.get(percents.len() / 2) {
        Some(median) => format!("{median:+.1} %"),
        None => "–".into(),
    }
}

const WIDTH: f64 = 460.0;
const NAMES: f64 = 170.0;
const ROW: f64 = 24.0;
const TOP: f64 = 44.0;
const FOOT: f64 = 34.0;

/// The share of each verdict, as SVG.
pub(crate) fn svg(found: &SelfTest) -> String {
    let tallies = CASES.iter().map(|case| (case, found.tally(|other| other.name == case.name)));
    let rows: Vec<_> = tallies.filter(|(_, tally)| tally.all() > 0).collect();
    let height = TOP + ROW * rows.len() as f64 + FOOT;
    let width = NAMES + WIDTH + 70.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"{NAMES}\" y=\"16\" font-size=\"13\" fill=\"#1f2328\">What the gate said \
         to what was planted{}</text>\n",
        if found.neighbour { ", beside a neighbour" } else { "" }
    );
    for (index, (case, tally)) in rows.iter().enumerate() {
        svg += &row(case.name, *tally, TOP + ROW * index as f64);
    }
    svg += &legend(height - 12.0);
    svg + "</svg>\n"
}

const RED: &str = "#bc1c2c";
const GREY: &str = "#b9c0c8";
const GREEN: &str = "#1a7f37";

fn row(name: &str, tally: Tally, top: f64) -> String {
    let base = top + ROW / 2.0 + 4.0;
    let mut text = format!(
        "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\" fill=\"#1f2328\">{name}</text>\n",
        NAMES - 8.0
    );
    let mut left = NAMES;
    for (count, colour) in [(tally.failed, RED), (tally.undecided, GREY), (tally.passed, GREEN)] {
        let width = WIDTH * count as f64 / tally.all() as f64;
        text += &format!(
            "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" \
             fill=\"{colour}\"/>\n",
            top + 3.0,
            ROW - 6.0
        );
        left += width;
    }
    text + &format!(
        "<text x=\"{}\" y=\"{base}\" fill=\"#59636e\">{} of {}</text>\n",
        NAMES + WIDTH + 6.0,
        tally.failed,
        tally.all()
    )
}

fn legend(base: f64) -> String {
    let entries = [("regression", RED), ("no verdict", GREY), ("pass", GREEN)];
    let entry = |(index, (name, colour)): (usize, (&str, &str))| {
        let left = NAMES + 110.0 * index as f64;
        format!(
            "<rect x=\"{left}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{base}\" fill=\"#1f2328\">{name}</text>\n",
            base - 9.0,
            left + 15.0
        )
    };
    entries.into_iter().enumerate().map(entry).collect()
}
