//! The verdict for a pull request, from the result alone.

use super::judge::{Finding, Word};
use super::result::Gate;
use super::table::repeat;
use crate::document::Document;

/// A headline, what did not pass, and the rest behind a fold.
pub(crate) fn text(document: &Document<Gate>) -> String {
    let gate = &document.result;
    let mark = match gate.verdict {
        Word::Pass => "✅",
        Word::NoVerdict => "❔",
        Word::Regression => "❌",
    };
    let mut text = format!(
        "### {mark} gate: {}\n\n`{}` against `{}`\n",
        gate.verdict.name(),
        escaped(&gate.candidate),
        escaped(&gate.base)
    );
    let (passed, others): (Vec<&Finding>, Vec<&Finding>) =
        gate.findings.iter().partition(|finding| finding.word == Word::Pass);
    if !others.is_empty() {
        text += &format!("\n{}", rows(&others));
    }
    if let Some(since) = &gate.since {
        text += &format!("\nSince: {}\n", escaped(since));
    }
    if !passed.is_empty() {
        let count = passed.len();
        text += &format!("\n<details><summary>{count} passed</summary>\n\n");
        text += &format!("{}\n</details>\n", rows(&passed));
    }
    for skipped in &gate.skipped {
        text += &format!("\nSkipped: {}: {}\n", escaped(&skipped.what), escaped(&skipped.why));
    }
    text += &format!("\nRepeat it: `writeflush {}`\n", escaped(&repeat(document)));
    text
}

fn rows(findings: &[&Finding]) -> String {
    let mut text = String::from(
        "| operation | tier | candidate / base | verdict | |\n| --- | --- | ---: | --- | --- |\n",
    );
    for Finding { operation, tier, quantity, word, change, reason } in findings {
        let change = change.map_or("–".into(), |change| change.to_string());
        text += &format!(
            "| {} | {}, {} | {change} | {} | {} |\n",
            escaped(operation),
            tier.name(),
            escaped(quantity),
            word.name(),
            escaped(reason)
        );
    }
    text
}

/// A message of a commit, or a program, says nothing in Markdown.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('`', "'").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;
    use crate::gate::judge::{Change, Tier};

    #[test]
    fn what_did_not_pass_stands_first_and_nobody_elses_words_are_markup() {
        let finding = |operation: &str, word| Finding {
            operation: operation.into(),
            tier: Tier::Counts,
            quantity: "system calls".into(),
            word,
            change: Some(Change { percent: 50.0, low: 50.0, high: 50.0 }),
            reason: "2 → 3 each".into(),
        };
        let mut gate = Gate::new("abc (<b>|`x)".into(), "the tree".into(), 1, Vec::new());
        gate.findings = vec![finding("push", Word::Pass), finding("flush", Word::Regression)];
        gate.verdict = Word::Regression;
        gate.since = Some("flush: since def".into());
        let text = text(&Document::new(Environment::default(), gate));
        assert!(text.starts_with("### ❌ gate: REGRESSION\n"), "{text}");
        assert!(text.find("| flush |").unwrap() < text.find("| push |").unwrap());
        assert!(text.contains("1 passed") && text.contains("Since: flush: since def"), "{text}");
        assert!(!text.contains("<b>") && text.contains("abc (&lt;b>\\|'x)"), "{text}");
        let unequal = text.lines().filter(|line| line.starts_with('|'));
        assert!(unequal.clone().all(|line| line.replace("\\|", "").matches('|').count() == 6));
    }
}
