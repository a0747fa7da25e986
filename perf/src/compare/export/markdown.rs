//! Markdown: the tables as they are printed.

use super::super::result::Comparison;
use super::super::table::{COLUMNS, columns};
use crate::document::Document;

pub(super) fn text(document: &Document<Comparison>) -> anyhow::Result<String> {
    let mut text = format!("Measured {}.\n", document.made);
    for cell in &document.result.cells {
        for class in cell.classes() {
            text += &format!("\n### {}: {class}\n\n", cell.name());
            text += &line(COLUMNS.map(str::to_owned));
            text += &line(COLUMNS.map(|name| if name.is_empty() { "---" } else { "---:" }.into()));
            for (row, figures) in cell.measured(class) {
                text += &line(columns(row, figures));
            }
            for note in cell.notes(class) {
                text += &format!("\n{}\n", escaped(&note));
            }
        }
        if let Some(why) = &cell.noise.no_verdict {
            text += &format!("\n**{}**\n", escaped(why));
        }
    }
    Ok(text)
}

fn line(cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<String> = cells.into_iter().map(|cell| escaped(&cell)).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}
