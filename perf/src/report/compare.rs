//! A comparison as sections of the page.

use super::figure::{Axis, Bar, Figure, Mark, Row, Scale, Tone};
use super::section::{Panel, Section, Table};
use crate::compare::{COLUMNS, Cell, Comparison, Stream, StreamOutcome, columns};
use crate::output::{binary_size, digits, or_dash};

pub(super) fn sections(comparison: &Comparison) -> Vec<Section> {
    let mut sections = vec![overview(comparison)];
    sections.extend(comparison.cells.iter().map(cell));
    if !comparison.streams.is_empty() {
        sections.push(throughput(&comparison.streams));
    }
    sections
}

/// The fastest of writeflush under each condition: what somebody who chooses looks for first. A
/// cell in which equal rows differ says nothing.
fn overview(comparison: &Comparison) -> Section {
    let header = ["conditions", "fastest of writeflush", "p50 µs", "to its floor", "verdict"];
    let rows = comparison.cells.iter().filter_map(|cell| {
        let (row, figures) = cell.best_of_ours()?;
        Some(vec![
            cell.name(),
            row.subject.clone(),
            or_dash(figures.flush_us.p50),
            figures.ratio.as_ref().map_or("–".into(), |ratio| format!("{:.3}", ratio.value)),
            figures.verdict.word.to_string(),
        ])
    });
    let silent = comparison.cells.iter().filter_map(|cell| {
        let why = cell.noise.no_verdict.as_ref()?;
        Some(format!("{}: {why}", cell.name()))
    });
    let failures = comparison.failures.iter().map(|failure| format!("failed: {failure}"));
    let table = Table {
        title: "The backend to choose".into(),
        header: header.map(Into::into).to_vec(),
        rows: rows.collect(),
        notes: silent.chain(failures).collect(),
    };
    Section {
        title: "In short".into(),
        prose: vec![
            "A flush is one record committed: from the call until it is durable. All that ask for a \
             fence took turns in random order on files in the same state, each in every place \
             equally often; what spins took turns with a copy of its floor, and what asks for no \
             fence was alone. Compare within a table, never between two. The floor is the same \
             system calls written out by hand; two rows of the same subject (A/A) show the noise, \
             and where they differ there is no verdict. What survives different things is listed \
             apart and never compared."
                .into(),
        ],
        panels: vec![Panel { figure: None, table }],
    }
}

fn cell(cell: &Cell) -> Section {
    let panels = cell.classes().into_iter().flat_map(|class| {
        let table = Table {
            title: format!("All figures ({class})"),
            header: COLUMNS.map(Into::into).to_vec(),
            rows: cell.measured(class).map(|(row, figures)| columns(row, figures)).collect(),
            notes: cell.notes(class),
        };
        let ratios = ratios(cell, class).filter(|(figure, _)| !figure.rows.is_empty());
        let ratios = ratios.map(|(figure, table)| Panel { figure: Some(figure), table });
        [Some(Panel { figure: latencies(cell, class), table }), ratios]
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
        caption: "How often a flush took so long: each row is scaled to its own highest step. At \
                  the right, the p50."
            .into(),
        axis: Axis { label: "µs (log)", scale: Scale::Log, rule: None, tick: digits },
        rows,
    })
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

/// The p50 against the floor, with its interval.
fn ratios(cell: &Cell, class: &str) -> Option<(Figure, Table)> {
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
        caption: "What a commit takes over what the same system calls by hand took in the same \
                  turn, with its 95 % confidence interval; the line is 1, and less is faster."
            .into(),
        axis: Axis { label: "ratio", scale: Scale::Linear, rule: Some(1.0), tick: ratio },
        rows: rows.collect(),
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
    Some((figure, table))
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
            "{length} written and then one flush, with two buffers of each size: the height of a \
             bar is its median rate, all on one scale. At the right, the best in MB/s."
        ),
        axis: Axis {
            label: "buffer size",
            scale: Scale::Linear,
            rule: None,
            tick: |exponent| match exponent.fract() == 0.0 && (0.0..60.0).contains(&exponent) {
                true => binary_size(1 << exponent as u64),
                false => String::new(),
            },
        },
        rows: names.iter().map(row).collect(),
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
        panels: vec![Panel { figure: Some(figure), table }],
    }
}
