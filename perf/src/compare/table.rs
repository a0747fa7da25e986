//! The tables, from the result alone: a replay prints the same.

use super::result::{Cell, Comparison, Figures, Row, Stream, StreamOutcome};
use crate::document::Document;
use crate::output::{align_right, binary_size, digits, or_dash, table};

/// Everything, as text.
pub(crate) fn render(document: &Document<Comparison>) -> String {
    let mut text = document.circumstances();
    for cell in &document.result.cells {
        text += &self::cell(cell);
    }
    if !document.result.streams.is_empty() {
        text += &streams(&document.result.streams);
    }
    text
}

pub(crate) const COLUMNS: [&str; 14] = [
    "", "p50 µs", "p90", "p99", "p99.9", "max", "/ floor", "95 %", "MB/s", "CPU s/GB", "calls",
    "flushes", "B/B", "verdict",
];

/// One table a durability class, since classes are not compared.
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
    text
}

/// The cells of a row, in the order of [`COLUMNS`].
pub(crate) fn columns(row: &Row, figures: &Figures) -> Vec<String> {
    let (flush, cost) = (&figures.flush_us, &figures.cost);
    let (ratio, interval) = match &figures.ratio {
        Some(ratio) => {
            (format!("{:.3}", ratio.value), format!("{:.3}–{:.3}", ratio.low, ratio.high))
        }
        None => ("–".into(), "–".into()),
    };
    vec![
        row.subject.clone(),
        or_dash(flush.p50),
        or_dash(flush.p90),
        or_dash(flush.p99),
        or_dash(flush.p99_9),
        digits(flush.max),
        ratio,
        interval,
        digits(figures.mb_per_s),
        digits(cost.cpu_s_per_gb),
        or_dash(cost.system_calls_per_commit),
        or_dash(cost.device_flushes_per_commit),
        or_dash(cost.device_bytes_per_byte),
        figures.verdict.word.to_string(),
    ]
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
