//! The verdict for people, from the result alone: a replay prints the same.

use super::judge::Finding;
use super::result::Gate;
use crate::document::Document;
use crate::output::{align_right, table};

pub(crate) const COLUMNS: [&str; 5] = ["operation", "tier", "candidate / base", "verdict", ""];

/// Everything, as text.
pub(crate) fn render(document: &Document<Gate>) -> String {
    let gate = &document.result;
    let mut text = document.circumstances();
    text += &format!("\nbase       {}\ncandidate  {}\n\n", gate.base, gate.candidate);
    let mut table = table();
    table.set_header(COLUMNS);
    for finding in &gate.findings {
        table.add_row(columns(finding));
    }
    align_right(&mut table, 2);
    text += &format!("{table}\n");
    if let Some(since) = &gate.since {
        text += &format!("{since}\n");
    }
    for skipped in &gate.skipped {
        text += &format!("skipped: {}: {}\n", skipped.what, skipped.why);
    }
    text += &format!("\n{}\nrepeat it: writeflush {}\n", gate.verdict.name(), repeat(document));
    text
}

pub(crate) fn columns(finding: &Finding) -> [String; 5] {
    let Finding { operation, tier, quantity, word, change, reason } = finding;
    let change = change.map_or("–".into(), |change| change.to_string());
    let tier = format!("{}, {quantity}", tier.name());
    [operation.clone(), tier, change, word.name().into(), reason.clone()]
}

/// The command line that made it, without the files that it wrote.
pub(super) fn repeat(document: &Document<Gate>) -> String {
    let mut words = Vec::new();
    let mut command = document.command.iter();
    while let Some(word) = command.next() {
        match word.as_str() {
            "--json" | "--markdown" => drop(command.next()),
            "--force" => {}
            word if word.starts_with("--json=") || word.starts_with("--markdown=") => {}
            word => words.push(quoted(word)),
        }
    }
    words.join(" ")
}

/// For a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_pasted_into_a_shell() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("--seed=1"), "--seed=1");
        assert_eq!(quoted(""), "''");
    }
}
