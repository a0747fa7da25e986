//! A comparison as sections of the page.

use super::figure::{Axis, Bar, Figure, Mark, Row, Scale, Tone};
use super::section::{Panel, Section, Table};
use crate::compare::{COLUMNS, Cell, Comparison, Figures, NULL, Stream, StreamOutcome, columns};
use crate::output::{binary_size, digits, or_dash};

pub(super) fn sections(comparison: &Comparison) -> Vec<Section> {
    let mut sections = vec![overview(comparison)];
    sections.extend(comparison.cells.iter().map(cell));
    if !comparison.streams.is_empty() {
        sections.push(throughput(&comparison.streams));
    }
    sections
}

/// What somebody who chooses looks for first: a table for each need.
fn overview(comparison: &Comparison) -> Section {
    let panel = |need: &Need| {
        let cells = comparison.cells.iter().filter(|cell| (need.cells)(cell));
        let rows: Vec<Vec<String>> = cells.filter_map(|cell| need.choice(cell)).collect();
        let header = CHOICE.map(Into::into).to_vec();
        let table = Table { title: need.title.into(), header, rows, notes: vec![need.note.into()] };
        (!table.rows.is_empty()).then(|| Panel { table, ..Panel::default() })
    };
    Section {
        title: "What to choose".into(),
        prose: vec![
            "A flush is one record committed: the time from the call until it is durable. All that \
             ask for a fence took turns in random order on files in the same state, each in every \
             place equally often; what spins took turns with a copy of its floor, and what asks for \
             no fence was alone. Compare within a table, never between two. The floor is the same \
             system calls written out by hand; a ratio to it below 1 is faster. Two rows of the same \
             subject (A/A) show the noise, and where they differ nothing is chosen. What survives \
             different things is listed apart and never compared."
                .into(),
        ]
        .into_iter()
        .chain(comparison.failures.iter().map(|failure| format!("Failed: {failure}.")))
        .collect(),
        panels: NEEDS.iter().filter_map(panel).collect(),
    }
}

/// What a program asks of its writer, and which rows answer that.
struct Need {
    title: &'static str,
    note: &'static str,
    cells: fn(&Cell) -> bool,
    /// How the names of its rows end.
    drives: &'static [&'static str],
}

const NEEDS: [Need; 4] = [
    Need {
        title: "The lowest latency, with no core spent: the caller drives",
        note: "For a log or journal that waits for every record.",
        cells: |cell| cell.committers == 1,
        drives: &[" caller"],
    },
    Need {
        title: "A push that never enters the kernel: a thread polls, and takes a whole core",
        note: "For a real-time callback. Its latency is bought with that core: see CPU s/GB.",
        cells: |cell| cell.committers == 1,
        drives: &[" poll"],
    },
    Need {
        title: "A push that goes on while the disk works, with no core spent: a thread that sleeps",
        note: "For an ordinary program.",
        cells: |cell| cell.committers == 1,
        drives: &[" thread"],
    },
    Need {
        title: "Many who commit at once, and share flushes; with no core spent",
        note: "Below one flush a commit, several committers were served by the same.",
        cells: |cell| cell.committers > 1,
        drives: &[" caller", " thread"],
    },
];

const CHOICE: [&str; 9] = [
    "conditions",
    "choose",
    "p50 µs",
    "p99 µs",
    "to its floor",
    "MB/s",
    "CPU s/GB",
    "flushes a commit",
    "verdict",
];

impl Need {
    /// The row of a table: with one committer the shortest p50, with several the most bytes a second,
    /// since the median of those who wait for each other misleads. `None`: nothing of this kind was
    /// measured.
    fn choice(&self, cell: &Cell) -> Option<Vec<String>> {
        let fits = |subject: &str| self.drives.iter().any(|drive| subject.ends_with(drive));
        let cost = |figures: &Figures| match cell.committers {
            1 => figures.flush_us.p50,
            _ => Some(1.0 / figures.mb_per_s),
        };
        // What asks for no fence is no choice; of the others all survive the same here.
        let class = cell.classes().into_iter().find(|class| *class != UNFENCED)?;
        let ours = cell.measured(class).filter(|(row, _)| {
            row.family == "writeflush" && !row.subject.starts_with(NULL) && fits(&row.subject)
        });
        let with_cost = ours.filter_map(|(row, figures)| Some((cost(figures)?, row, figures)));
        let (_, row, figures) = with_cost.min_by(|a, b| a.0.total_cmp(&b.0))?;
        if let Some(why) = &cell.noise.no_verdict {
            let dashes = vec!["–".to_owned(); CHOICE.len() - 2];
            return Some([vec![cell.name(), why.clone()], dashes].concat());
        }
        let ratio =
            figures.ratio.as_ref().map(|r| format!("{:.3} ({:.3}–{:.3})", r.value, r.low, r.high));
        let cost = &figures.cost;
        Some(vec![
            cell.name(),
            row.subject.clone(),
            or_dash(figures.flush_us.p50),
            or_dash(figures.flush_us.p99),
            ratio.unwrap_or("–".into()),
            digits(figures.mb_per_s),
            or_dash(cost.cpu_s_per_gb.map(|spread| spread.median)),
            or_dash(cost.device_flushes_per_commit),
            figures.verdict.word.to_string(),
        ])
    }
}

/// The class of what asks for no fence.
const UNFENCED: &str = "page cache";

fn cell(cell: &Cell) -> Section {
    let panels = cell.classes().into_iter().flat_map(|class| {
        let table = Table {
            title: format!("All figures ({class})"),
            header: COLUMNS.map(Into::into).to_vec(),
            rows: cell.measured(class).map(|(row, figures)| columns(row, figures)).collect(),
            notes: cell.notes(class),
        };
        let drawn = latencies(cell, class).map(|_| steps(cell, class));
        [Some(Panel { figure: latencies(cell, class), table, drawn }), ratios(cell, class)]
    });
    Section { title: cell.name(), prose: Vec::new(), panels: panels.flatten().collect() }
}

/// How long flushes took: a ridge a subject.
fn latencies(cell: &Cell, class: &str) -> Option<Figure> {
    let rows = cell.measured(class).map(|(row, figures)| Row {
        name: row.subject.clone(),
        tone: Tone::of_family(&row.family),
        bars: ridge(&figures.steps),
        marks: Vec::new(),
        note: or_dash(figures.flush_us.p50),
    });
    let rows: Vec<Row> = rows.collect();
    (!rows.is_empty()).then(|| Figure {
        title: format!("Flush latency ({class})"),
        caption: "How often a flush took so long: the further left a hill, the faster. Heights are \
                  shares of the row's own highest step; the line below a row goes on wherever there \
                  was even one flush."
            .into(),
        axis: Axis {
            label: "time of a flush, µs (log)",
            scale: Scale::Log,
            tick: round,
            ..Axis::default()
        },
        rows,
        notes: "p50 µs",
        traced: true,
    })
}

/// A round number at an axis.
fn round(value: f64) -> String {
    format!("{}", (value * 1e6).round() / 1e6)
}

/// All that [`latencies`] draws.
fn steps(cell: &Cell, class: &str) -> Table {
    let pairs = cell.measured(class).map(|(row, figures)| {
        let step = |(end, commits): &(f64, u64)| format!("{}: {commits}", digits(*end));
        (row.subject.as_str(), figures.steps.iter().map(step).collect())
    });
    let what = "upper end of the step in µs: commits in it";
    Table::of_pairs(format!("Every step ({class})"), what, pairs)
}

/// Steps are tenths of a factor of ten and less: their upper ends are kept.
fn ridge(steps: &[(f64, u64)]) -> Vec<Bar> {
    let most = steps.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1) as f64;
    let width = 10f64.powf(1.0 / crate::compare::STEPS_A_DECADE);
    let bar = |(end, count): &(f64, u64)| Bar {
        from: end / width,
        to: *end,
        height: *count as f64 / most,
    };
    steps.iter().map(bar).collect()
}

/// The p50 against the floor, with its interval. `None`: nothing has a floor.
fn ratios(cell: &Cell, class: &str) -> Option<Panel> {
    let with: Vec<_> = cell
        .measured(class)
        .filter_map(|(row, figures)| figures.ratio.as_ref().map(|ratio| (row, ratio)))
        .collect();
    let rows = with.iter().map(|(row, ratio)| Row {
        name: row.subject.clone(),
        tone: Tone::of_family(&row.family),
        bars: Vec::new(),
        marks: vec![Mark { at: ratio.value, low: ratio.low, high: ratio.high }],
        note: format!("{:.3}", ratio.value),
    });
    let figure = Figure {
        title: format!("Ratio to the floor ({class})"),
        caption:
            "What a commit takes over what the same system calls by hand took in the same turn: \
                  what is left of the red line is faster. The thin line is the 95 % confidence \
                  interval: one that crosses the red line shows no difference."
                .into(),
        axis: Axis {
            label: "time of a commit ÷ that of its floor",
            rule: Some(1.0),
            tick: ratio,
            ..Axis::default()
        },
        rows: rows.collect(),
        notes: "ratio",
        traced: false,
    };
    let cells = with.iter().map(|(row, ratio)| {
        let figures = [ratio.value, ratio.low, ratio.high].map(|value| format!("{value:.3}"));
        [vec![row.subject.clone(), ratio.to.clone()], figures.to_vec()].concat()
    });
    let table = Table {
        title: format!("Ratios ({class})"),
        header: ["", "floor", "ratio", "from", "to"].map(Into::into).to_vec(),
        rows: cells.collect(),
        notes: Vec::new(),
    };
    (!figure.rows.is_empty()).then_some(Panel { figure: Some(figure), table, drawn: None })
}

fn ratio(value: f64) -> String {
    format!("{value:.2}")
}

/// Long streams by buffer size.
fn throughput(streams: &[Stream]) -> Section {
    let mut names: Vec<&str> = Vec::new();
    let mut sizes: Vec<usize> = Vec::new();
    for stream in streams {
        if !names.contains(&stream.subject.as_str()) {
            names.push(&stream.subject);
        }
        if !sizes.contains(&stream.buffer_bytes) {
            sizes.push(stream.buffer_bytes);
        }
    }
    let of = |name: &str, size: usize| {
        let mut found = streams.iter().filter(|s| s.subject == name && s.buffer_bytes == size);
        found.next().and_then(|stream| match &stream.outcome {
            StreamOutcome::MbPerS(rates) => rates.get(rates.len() / 2).copied(),
            StreamOutcome::Refused(_) => None,
        })
    };
    let rates = |name: &str| sizes.iter().map(|size| of(name, *size)).collect::<Vec<_>>();
    let best = names.iter().flat_map(|name| rates(name)).flatten().fold(1e-9, f64::max);
    let row = |name: &&str| Row {
        name: (*name).into(),
        tone: Tone::of_name(name),
        bars: sizes
            .iter()
            .zip(rates(name))
            .filter_map(|(size, rate)| {
                let middle = (*size as f64).log2();
                rate.map(|rate| Bar { from: middle - 0.7, to: middle + 0.7, height: rate / best })
            })
            .collect(),
        marks: Vec::new(),
        note: digits(rates(name).into_iter().flatten().fold(0.0, f64::max)),
    };
    let length = binary_size(streams.first().map_or(0, |stream| stream.stream_bytes));
    let figure = Figure {
        title: "Throughput by buffer size".into(),
        caption: format!(
            "{length} written and then one flush, with two buffers of each size: the higher a bar, \
             the faster (the median), all on one scale from 0 to {} MB/s.",
            digits(best)
        ),
        axis: Axis {
            label: "size of each of two buffers",
            tick: |exponent| binary_size(exponent.exp2() as u64),
            only: sizes.iter().map(|size| (*size as f64).log2()).collect(),
            ..Axis::default()
        },
        rows: names.iter().map(row).collect(),
        notes: "best MB/s",
        traced: false,
    };
    let header = sizes.iter().map(|bytes| format!("2 × {}, MB/s", binary_size(*bytes as u64)));
    let cells = |name: &&str| {
        let rates = rates(name).into_iter();
        let rates = rates.map(|rate| rate.map_or("refused".into(), |rate| format!("{rate:.0}")));
        std::iter::once((*name).to_owned()).chain(rates).collect()
    };
    let table = Table {
        title: "Median rates".into(),
        header: std::iter::once(String::new()).chain(header).collect(),
        rows: names.iter().map(cells).collect(),
        notes: Vec::new(),
    };
    Section {
        title: "Streams".into(),
        prose: Vec::new(),
        panels: vec![Panel { figure: Some(figure), table, drawn: None }],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn row(subject: &str, family: &str, class: &str, p50: f64) -> Value {
        let latency = json!({"mean": p50, "p50": p50, "p90": p50, "p99": p50, "p99_9": null,
            "max": p50});
        let cost = json!({"rounds": 5, "commits": 100, "cpu_s_per_gb": null,
            "system_calls_per_commit": 1.0, "device_flushes_per_commit": 1.0,
            "device_writes_per_commit": 1.0, "device_bytes_per_byte": 1.0});
        let verdict = json!({"word": "HONEST", "reason": "seen"});
        json!({"subject": subject, "family": family, "class": class, "measured": {
            "commits": 1000, "flush_us": latency, "steps": [[p50, 1000]], "ratio": null,
            "no_ratio": null, "mb_per_s": 1.0 / p50, "cost": cost, "verdict": verdict}})
    }

    fn cell(committers: usize, no_verdict: Option<&str>) -> Cell {
        let ours = |name, p50| row(name, "writeflush", "durable", p50);
        let rows = json!([
            row("BufWriter, no sync", "standard library", "page cache", 1.0),
            row("floor io_uring write DSYNC", "floor", "durable", 5.0),
            row("writeflush unfenced caller", "writeflush", "page cache", 2.0),
            ours("writeflush io_uring caller", 12.0),
            ours("writeflush sync caller", 10.0),
            ours("writeflush io_uring thread", 20.0),
            ours("writeflush io_uring poll", 7.0),
            ours("A/A writeflush sync caller", 9.0),
        ]);
        let cell = json!({"record_bytes": 4096, "file_state": "growing", "direct": true,
            "committers": committers, "commits_a_turn": committers,
            "noise": {"ratio": null, "no_verdict": no_verdict}, "rows": rows});
        serde_json::from_value(cell).unwrap()
    }

    fn choices(cell: &Cell) -> Vec<String> {
        let fits = NEEDS.iter().filter(|need| (need.cells)(cell));
        fits.map(|need| need.choice(cell).unwrap()[1].clone()).collect()
    }

    #[test]
    fn each_need_has_its_own_choice_within_one_class() {
        let alone =
            ["writeflush sync caller", "writeflush io_uring poll", "writeflush io_uring thread"];
        assert_eq!(choices(&cell(1, None)), alone);
        // One who spins is no choice for many.
        assert_eq!(choices(&cell(16, None)), ["writeflush sync caller"]);
    }

    #[test]
    fn a_cell_without_a_verdict_chooses_nothing() {
        let choices = choices(&cell(1, Some("no verdict: too noisy")));
        assert_eq!(choices, ["no verdict: too noisy"; 3]);
    }
}
