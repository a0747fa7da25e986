//! What is shown and kept: tables with a column a file system, and files.

use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::medium::FileSystem;

/// The word of the command line.
pub(crate) fn word(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map(|value| value.get_name().to_owned()).unwrap_or_default()
}

pub(crate) fn grid<Row>(
    rows: &[Row],
    place: impl Fn(&Row) -> FileSystem,
    label: impl Fn(&Row) -> String,
    cell: impl Fn(&Row) -> String,
) -> Table {
    let mut labels: Vec<String> = Vec::new();
    for row in rows {
        if !labels.contains(&label(row)) {
            labels.push(label(row));
        }
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["", "ext4", "xfs", "btrfs"]);
    for name in labels {
        let cells = FileSystem::ALL.map(|file_system| {
            let row = rows.iter().find(|row| place(row) == file_system && label(row) == name);
            row.map_or(String::new(), &cell)
        });
        table.add_row(std::iter::once(name).chain(cells));
    }
    table
}

/// Keeps a result, where a file for it was named.
pub(crate) fn save(path: Option<&Path>, result: &impl Serialize) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(result)? + "\n";
    std::fs::write(path, text).with_context(|| format!("{} can't be written", path.display()))
}

/// The release of the kernel.
pub(crate) fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}
