//! The table of many streams, from the result alone.

use super::result::{Row, Streams};
use crate::output::{align_right, amount, digits, or_dash, table};

pub(crate) const COLUMNS: [&str; 14] = [
    "",
    "fence p50 µs",
    "p99",
    "max",
    "CPU ms/stream-s",
    "flushes/round",
    "threads",
    "workers",
    "descriptors",
    "memory",
    "open µs",
    "overruns",
    "lost",
    "files exact",
];

/// The subjects, and the generator alone as the last.
pub(crate) fn rows(streams: &Streams) -> impl Iterator<Item = &Row> {
    streams.rows.iter().chain([&streams.generator])
}

/// The table and its notes, as text.
pub(in crate::pace) fn render(streams: &Streams) -> String {
    let mut table = table();
    table.set_header(COLUMNS);
    for row in rows(streams) {
        table.add_row(columns(row));
    }
    align_right(&mut table, 0);
    let mut text = format!("{}\n{table}\n", streams.name());
    for note in notes(streams) {
        text += &format!("  {note}\n");
    }
    text
}

/// The cells of a row, in the order of [`COLUMNS`].
pub(crate) fn columns(row: &Row) -> Vec<String> {
    let whole = |number: Option<u64>| number.map_or("–".into(), |number| number.to_string());
    vec![
        row.subject.clone(),
        or_dash(row.fence_us.p50),
        or_dash(row.fence_us.p99),
        digits(row.fence_us.max),
        or_dash(row.cpu_ms_per_stream_s),
        or_dash(row.device_flushes_per_round),
        whole(row.threads),
        whole(row.kernel_workers),
        whole(row.descriptors),
        amount(row.memory_bytes as f64),
        digits(row.open_us),
        row.overruns.to_string(),
        amount(row.lost_bytes as f64),
        row.exact_files.to_string(),
    ]
}

/// What went wrong, and how bytes got to the disk.
pub(crate) fn notes(streams: &Streams) -> Vec<String> {
    let failed =
        rows(streams).filter_map(|row| Some(format!("{}: {}", row.subject, row.error.as_ref()?)));
    let ways = rows(streams).map(|row| format!("{}: {}", row.subject, row.way));
    failed.chain(ways).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latency;

    fn streams() -> Streams {
        let fence_us = Latency { p50: Some(321.0), max: 1234.0, ..Latency::default() };
        let row = Row {
            subject: "threads".into(),
            way: "write and fdatasync".into(),
            memory_bytes: 128 << 20,
            fence_us,
            cpu_ms_per_stream_s: Some(3.61),
            device_flushes_per_round: Some(64.04),
            threads: Some(65),
            exact_files: 320,
            ..Row::default()
        };
        let bad = Row { subject: "ring".into(), error: Some("worn out".into()), ..Row::default() };
        let generator = Row { subject: "generator".into(), ..Row::default() };
        let rows = vec![row, bad];
        Streams { streams: 64, laps: 5, rounds: 100, phases: "spread".into(), generator, rows }
    }

    #[test]
    fn every_figure_has_its_column_and_what_is_not_known_a_dash() {
        let text = render(&streams());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "64 streams, fences one after the other, 5 laps");
        let cells = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
        let expected = "threads 321 – 1234 3.61 64.0 65 – – 134 MB 0.00 0 0 B 320";
        assert_eq!(cells(lines[2]).join(" "), expected);
        assert!(lines[3].trim_start().starts_with("ring") && lines[4].contains("generator"));
        assert!(text.contains("ring: worn out") && text.contains("threads: write and fdatasync"));
        assert_eq!(columns(&streams().rows[0]).len(), COLUMNS.len());
    }

    #[test]
    fn the_json_reads_back_to_the_same_table() {
        let kept = serde_json::to_string(&streams()).unwrap();
        assert_eq!(render(&serde_json::from_str(&kept).unwrap()), render(&streams()));
        let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(kept["rows"][0]["fence_us"]["p99"], serde_json::Value::Null);
    }
}
