//! The tables, from the result alone.

use super::result::{Pace, Smallest, Take};
use crate::document::Document;
use crate::output::{align_right, amount, binary_size, digits, or_dash, table};

/// Everything, as text.
pub(crate) fn render(document: &Document<Pace>) -> String {
    let pace = &document.result;
    let mut text = document.circumstances();
    if let Some(streams) = &pace.streams {
        return text + &format!("\n{}\n{}", pace.name(), super::streams::render(streams));
    }
    text += &format!("\n{}\n{}\n", pace.name(), takes(&pace.takes));
    for note in notes(&pace.takes) {
        text += &format!("  {note}\n");
    }
    if !pace.smallest.is_empty() {
        text += &smallest(&pace.smallest);
    }
    text
}

/// How a row says who else was at the disk.
pub(crate) fn company(neighbour: bool) -> &'static str {
    if neighbour { "neighbour" } else { "alone" }
}

/// What went wrong, and how bytes got to the disk, each once.
pub(crate) fn notes(takes: &[Take]) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    let failed = takes.iter().filter_map(|take| {
        let error = take.error.as_ref()?;
        Some(format!("{}, {}: {error}", take.subject, company(take.neighbour)))
    });
    let ways =
        takes.iter().filter_map(|take| Some(format!("{}: {}", take.subject, take.way.as_ref()?)));
    for note in failed.chain(ways) {
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    notes
}

pub(crate) const COLUMNS: [&str; 17] = [
    "",
    "memory",
    "disk",
    "MB/s",
    "lost",
    "overruns",
    "missed",
    "service p50 µs",
    "p99",
    "max",
    "response p99 µs",
    "max",
    "durable p50 ms",
    "max",
    "most held",
    "most at risk",
    "CPU s/GB",
];

fn takes(takes: &[Take]) -> String {
    let mut table = table();
    table.set_header(COLUMNS);
    for take in takes {
        table.add_row(columns(take));
    }
    align_right(&mut table, 0);
    table.to_string()
}

/// The cells of a row, in the order of [`COLUMNS`].
pub(crate) fn columns(take: &Take) -> Vec<String> {
    let millis = |micros: f64| micros / 1000.0;
    vec![
        take.subject.clone(),
        binary_size(take.memory_bytes),
        company(take.neighbour).into(),
        digits(take.mb_per_s),
        amount(take.lost_bytes as f64),
        take.overruns.to_string(),
        take.missed_slots.to_string(),
        or_dash(take.service_us.p50),
        or_dash(take.service_us.p99),
        digits(take.service_us.max),
        or_dash(take.response_us.p99),
        digits(take.response_us.max),
        or_dash(take.durable_us.p50.map(millis)),
        digits(millis(take.durable_us.max)),
        take.most_held_bytes.map_or("–".into(), |bytes| amount(bytes as f64)),
        amount(take.most_at_risk() as f64),
        digits(take.cpu_s_per_gb),
    ]
}

fn smallest(found: &[Smallest]) -> String {
    let mut table = table();
    table.set_header(["smallest memory that lost nothing", "disk", "", "grounds", "held from"]);
    for search in found {
        let company = company(search.neighbour).into();
        let (grounds, range) = (search.grounds(), search.range());
        table.add_row([search.subject.clone(), company, search.answer(), grounds, range]);
    }
    format!("\n{table}\n")
}
