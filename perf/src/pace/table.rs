//! The tables, from the result alone.

use super::result::{Pace, Smallest, Take};
use crate::document::Document;
use crate::output::{align_right, amount, binary_size, digits, or_dash, table};

/// Everything, as text.
pub(crate) fn render(document: &Document<Pace>) -> String {
    let pace = &document.result;
    let fences = match pace.fence_ms {
        Some(ms) => format!("a fence every {} ms", digits(ms)),
        None => "one fence at the end".into(),
    };
    let mut text = document.circumstances();
    text += &format!(
        "\n{}/s in records of {} for {} s, {fences}\n{}\n",
        amount(pace.bytes_per_s as f64),
        binary_size(pace.record_bytes as u64),
        digits(pace.seconds),
        takes(&pace.takes),
    );
    for take in &pace.takes {
        if let Some(error) = &take.error {
            text += &format!("  {} failed: {error}\n", take.subject);
        }
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

const COLUMNS: [&str; 15] = [
    "",
    "memory",
    "disk",
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
    "most lag",
    "CPU s/GB",
];

fn takes(takes: &[Take]) -> String {
    let mut table = table();
    table.set_header(COLUMNS);
    let millis = |micros: f64| micros / 1000.0;
    for take in takes {
        let most = take.lag.iter().map(|(_, bytes)| *bytes).max().unwrap_or_default();
        table.add_row([
            take.subject.clone(),
            binary_size(take.memory_bytes),
            company(take.neighbour).into(),
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
            amount(most as f64),
            digits(take.cpu_s_per_gb),
        ]);
    }
    align_right(&mut table, 0);
    table.to_string()
}

fn smallest(found: &[Smallest]) -> String {
    let mut table = table();
    table.set_header(["smallest memory that lost nothing", "disk", "", "tried"]);
    for search in found {
        let memory = match search.memory_bytes {
            Some(bytes) => binary_size(bytes),
            None => "none that was tried".into(),
        };
        let tried = search.tried.len().to_string();
        table.add_row([search.subject.clone(), company(search.neighbour).into(), memory, tried]);
    }
    align_right(&mut table, 0);
    format!("\n{table}\n")
}
