//! The README's figures are claims: each is bound to the run that made it.
//!
//! Behind a figure stands `<!--SOURCE NAME …-->`, which no reader sees. `claims` and
//! `claims-before` are the rows of that name in `results/claims.json` and `claims-before.json`, as
//! `cargo bench --bench claims -- --json FILE` left them; a `*` stands for anything. `compare` is a
//! question to `results/compare.json`, see [`compared`]. The figure is the one value, or the range
//! from the least to the greatest, in as many digits as are shown.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn text(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn json(file: &str) -> Value {
    serde_json::from_str(&text(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The section of the README whose figures are measured ones.
fn figures() -> String {
    let readme = text("README.md");
    let (_, section) = readme.split_once("\n## Figures\n").expect("a section Figures");
    section.split("\n## ").next().unwrap().to_owned()
}

/// A figure as it is shown, and what it is bound to.
#[derive(Debug)]
struct Claim {
    shown: String,
    source: String,
}

fn claims(section: &str) -> Vec<Claim> {
    section
        .match_indices("<!--")
        .map(|(at, _)| {
            let shown = section[..at].rsplit(|c: char| !belongs(c)).next().unwrap();
            let source = section[at + 4..].split("-->").next().unwrap();
            Claim { shown: shown.into(), source: source.into() }
        })
        .collect()
}

fn belongs(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '.' | '–' | ',')
}

/// Whether what is shown is the least and the greatest of these values, or the one of them.
fn holds(shown: &str, values: &[f64]) -> bool {
    let close = |shown: &str, value: f64| {
        let digits = shown.split_once('.').map_or(0, |(_, digits)| digits.len() as i32);
        // Half of the last digit, and what a value of three digits has itself been rounded by.
        let limit = 0.5 * 10f64.powi(-digits) + 1e-9;
        shown.replace(',', "").parse::<f64>().is_ok_and(|shown| (shown - value).abs() <= limit)
    };
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = shown.split_once('–').unwrap_or((shown, shown));
    !values.is_empty() && close(low, least) && close(high, greatest)
}

/// The values that a source names.
fn values(source: &str) -> Vec<f64> {
    let (file, names) = source.split_once(' ').expect("a source and a name");
    match file {
        "claims" | "claims-before" => {
            let rows = json(&format!("results/{file}.json"))["rows"].as_array().unwrap().clone();
            names.split(' ').flat_map(|name| of_rows(&rows, name)).collect()
        }
        "compare" => compared(names),
        other => panic!("there is no source {other}"),
    }
}

fn of_rows(rows: &[Value], name: &str) -> Vec<f64> {
    let (begin, end) = name.split_once('*').unwrap_or((name, ""));
    let is_meant = |id: &str| match name.contains('*') {
        true => id.starts_with(begin) && id.ends_with(end) && id.len() >= name.len() - 1,
        false => id == name,
    };
    let figure = |row: &Value| {
        let figure = row["figure"].as_str().unwrap().split(' ').next().unwrap();
        figure.parse().unwrap_or_else(|error| panic!("{row}: {error}"))
    };
    let of_name: Vec<f64> =
        rows.iter().filter(|row| is_meant(row["id"].as_str().unwrap())).map(figure).collect();
    assert!(!of_name.is_empty(), "no row is called {name}");
    of_name
}

/// `caller/floor`: the ratio of every writer with this drive and one committer to its floor;
/// `16 thread/floor`: with so many committers; `16 thread/BufWriter`: commits of the writer with
/// everything at its default, by those of `BufWriter` + `sync_data`; `… middle`: the median.
fn compared(question: &str) -> Vec<f64> {
    let cells = json("results/compare.json")["result"]["cells"].as_array().unwrap().clone();
    let (committers, question) = match question.split_once(' ') {
        Some((number, rest)) if number.parse::<u64>().is_ok() => (number.parse().unwrap(), rest),
        _ => (1, question),
    };
    let (question, middle) = match question.strip_suffix(" middle") {
        Some(question) => (question, true),
        None => (question, false),
    };
    let (drive, to) = question.split_once('/').expect("a drive, and what it is beside");
    let mut found = Vec::new();
    for cell in cells.iter().filter(|cell| cell["committers"] == committers) {
        let rows = cell["rows"].as_array().unwrap();
        let rate = |name: &str| {
            let row = rows.iter().find(|row| row["subject"] == name).expect("it was measured");
            row["measured"]["mb_per_s"].as_f64().unwrap()
        };
        match to {
            "floor" => found.extend(rows.iter().filter_map(|row| {
                let name = row["subject"].as_str().unwrap();
                let is_meant = name.starts_with("writeflush ") && name.ends_with(drive);
                is_meant.then(|| row["measured"]["ratio"]["value"].as_f64())?
            })),
            "BufWriter" => {
                let ours = rate(&format!("writeflush io_uring {drive}"));
                found.push(ours / rate("BufWriter+sync_data"));
            }
            other => panic!("nothing is beside {other}"),
        }
    }
    found.sort_by(f64::total_cmp);
    if middle { vec![found[found.len() / 2]] } else { found }
}

#[test]
fn every_figure_of_the_readme_is_that_of_the_run_which_made_it() {
    let all = claims(&figures());
    assert!(all.len() > 15, "{all:?}");
    for Claim { shown, source } in all {
        let values = values(&source);
        assert!(holds(&shown, &values), "the README says {shown}, and {source} is {values:?}");
    }
}

#[test]
fn no_figure_of_the_readme_is_bound_to_nothing() {
    let section = figures();
    let code: String = section.split('`').step_by(2).collect(); // commands and names hold no figure
    let mut rest = code.as_str();
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let end = rest[at..].find(|c: char| !belongs(c)).map_or(rest.len(), |end| at + end);
        let word = rest[at..end].trim_end_matches([',', '.']);
        let after = &rest[end..];
        let is_a_quantile = rest[..at].ends_with('p');
        let is_measured = word.contains(['.', '–']) || after.starts_with(" ns");
        let bound = after.starts_with("<!--");
        assert!(!is_measured || bound || is_a_quantile, "{word} is bound to no run");
        rest = if bound { after.split_once("-->").unwrap().1 } else { after };
    }
}

#[test]
fn the_table_of_claims_is_that_of_its_rows() {
    let table = text("results/claims.txt");
    let runs: Vec<&str> = table.split("\nclaim  ").skip(1).collect();
    for (run, file) in runs.iter().zip(["claims", "claims-before"]) {
        let rows = json(&format!("results/{file}.json"))["rows"].as_array().unwrap().clone();
        let mut lines = run.lines().skip(1);
        for row in rows {
            let of = |key: &str| row[key].as_str().unwrap().to_owned();
            let line = format!("{:<66} {:<34} {}", of("claim"), of("figure"), of("bar"));
            assert_eq!(lines.next(), Some(line.as_str()), "results/claims.txt beside {file}.json");
        }
        assert_eq!(lines.next().unwrap_or_default(), "", "{file}.json has a row for every line");
    }
}

#[test]
fn a_figure_that_moved_is_seen() {
    assert!(holds("1.01–1.03", &[1.023, 1.010, 1.025]));
    assert!(!holds("1.01–1.03", &[1.023, 1.010, 1.036]));
    assert!(!holds("1.01–1.03", &[1.023, 1.004]));
    assert!(holds("9.4", &[9.4, 9.4]) && !holds("9.4", &[9.4, 9.5]) && !holds("9.4", &[]));
    assert!(holds("1,024", &[1024.4]) && !holds("x", &[1.0]));
    let bound = claims("costs 1.5–2<!--claims a b--> × and 7<!--compare c-->.");
    let shown: Vec<&str> = bound.iter().map(|claim| claim.shown.as_str()).collect();
    assert_eq!((shown, bound[0].source.as_str()), (vec!["1.5–2", "7"], "claims a b"));
}
