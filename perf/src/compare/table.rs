//! The tables, from the result alone: a replay prints the same.

use super::result::{Cell, Comparison, Figures, Row, Stream, StreamOutcome};
use crate::document::Document;
use crate::output::{align_right, binary_size, digits, or_dash, table};

/// Everything, as text.
pub(crate) fn render(document: &Document<Comparison>) -> String {
    let comparison = &document.result;
    let mut text = document.circumstances();
    for cell in &comparison.cells {
        text += &self::cell(cell);
    }
    if let Some(note) = too_few(comparison) {
        text += &format!("\n{note}\n");
    }
    if !comparison.streams.is_empty() {
        text += &streams(&comparison.streams);
    }
    for failure in &comparison.failures {
        text += &format!("\nfailed: {failure}\n");
    }
    text
}

pub(crate) const COLUMNS: [&str; 16] = [
    "", "p50 µs", "p90", "p99", "p99.9", "max", "/ floor", "95 %", "p50 /", "mean /", "MB/s",
    "CPU s/GB", "calls", "flushes", "B/B", "verdict",
];

/// One table for what survives the same, since others are not compared.
fn cell(cell: &Cell) -> String {
    let mut text = String::new();
    for class in cell.classes() {
        text += &format!("\n{}: {class}\n", cell.name());
        let mut table = table();
        table.set_header(COLUMNS);
        for (row, figures) in cell.measured(class) {
            table.add_row(columns(row, figures));
        }
        align_right(&mut table, 1);
        text += &format!("{table}\n");
        for note in cell.notes(class) {
            text += &format!("  {note}\n");
        }
    }
    if let Some(why) = &cell.noise.no_verdict {
        text += &format!("  {why}\n");
    }
    text
}

/// The cells of a row, in the order of [`COLUMNS`].
pub(crate) fn columns(row: &Row, figures: &Figures) -> Vec<String> {
    let (flush, cost) = (&figures.flush_us, &figures.cost);
    let ratio = figures.ratio.as_ref();
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "–".into());
    vec![
        row.subject.clone(),
        or_dash(flush.p50),
        or_dash(flush.p90),
        or_dash(flush.p99),
        or_dash(flush.p99_9),
        digits(flush.max),
        or_none(ratio.map(|ratio| format!("{:.3}", ratio.value))),
        or_none(ratio.map(|ratio| format!("{:.3}–{:.3}", ratio.low, ratio.high))),
        or_none(ratio.and_then(|ratio| Some(format!("{:.3}", ratio.p50?.value)))),
        or_none(ratio.map(|ratio| format!("{:.3}", ratio.mean.value))),
        digits(figures.mb_per_s),
        or_dash(cost.cpu_s_per_gb.map(|spread| spread.median)),
        or_dash(cost.system_calls_per_commit),
        or_dash(cost.device_flushes_per_commit),
        or_dash(cost.device_bytes_per_byte),
        figures.verdict.word.to_string(),
    ]
}

/// What quantiles would need that are not there.
pub(crate) fn too_few(comparison: &Comparison) -> Option<String> {
    let classes =
        |cell: &'_ Cell| cell.classes().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let figures = comparison.cells.iter().flat_map(|cell| {
        classes(cell).into_iter().flat_map(|class| {
            cell.measured(&class).map(|(_, figures)| figures.commits).collect::<Vec<_>>()
        })
    });
    let fewest = figures.min()?;
    let needs = [("p50", 200), ("p90", 1_000), ("p99", 10_000), ("p99.9", 100_000)];
    let missing = needs.iter().filter(|(_, least)| fewest < *least);
    let missing: Vec<String> =
        missing.map(|(name, least)| format!("{name} --samples {least}")).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "a quantile is printed where 100 commits lie beyond it, and the fewest of a row are \
             {fewest}: for {}",
            missing.join(", for ")
        )
    })
}

/// Medians of the streams: a row a subject, a column a buffer size.
fn streams(streams: &[Stream]) -> String {
    let mut sizes: Vec<usize> = streams.iter().map(|stream| stream.buffer_bytes).collect();
    sizes.dedup();
    let mut subjects: Vec<&str> = Vec::new();
    for stream in streams {
        if !subjects.contains(&stream.subject.as_str()) {
            subjects.push(&stream.subject);
        }
    }
    let mut table = table();
    let header = sizes.iter().map(|bytes| format!("2 × {}", binary_size(*bytes as u64)));
    table.set_header(std::iter::once(String::new()).chain(header));
    for subject in subjects {
        let of = streams.iter().filter(|stream| stream.subject == subject);
        let cells = of.map(|stream| match &stream.outcome {
            StreamOutcome::MbPerS(rates) => format!("{:.0}", rates[rates.len() / 2]),
            StreamOutcome::Refused(_) => "refused".into(),
        });
        table.add_row(std::iter::once(subject.to_owned()).chain(cells));
    }
    align_right(&mut table, 0);
    let length = binary_size(streams[0].stream_bytes);
    format!("\n{length} into a written file, to durable, by buffer size: MB/s (median)\n{table}\n")
}
