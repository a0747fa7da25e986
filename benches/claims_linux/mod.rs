//! One module a claim.

mod commit;
mod flush;
mod memory;
mod push;
mod recording;
mod rotation;
mod throughput;

use std::path::PathBuf;

use writeflush_workloads::scratch_dir;

/// A line of the table: by which name the README quotes it, what was measured, the figure with its
/// spread, and the bar.
pub struct Row {
    pub id: String,
    pub name: String,
    pub figure: String,
    pub bar: String,
}

pub fn row(
    id: impl Into<String>,
    name: impl Into<String>,
    figure: impl Into<String>,
    bar: impl Into<String>,
) -> Row {
    Row { id: id.into(), name: name.into(), figure: figure.into(), bar: bar.into() }
}

/// A folder for the files of this run, removed at its end.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

type Claim = fn(&Scratch) -> Vec<Row>;

pub fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, path] = &arguments[..]
        && word == recording::FOLLOW
    {
        return recording::follow(path);
    }
    let json = arguments.iter().position(|argument| argument == "--json").map(|at| {
        arguments.remove(at);
        arguments.remove(at)
    });
    let asked: Vec<String> =
        arguments.into_iter().filter(|argument| !argument.starts_with('-')).collect();
    let mut rows = Vec::new();
    let claims: [(&str, Claim); 7] = [
        ("memory", memory::run), // first: what earlier claims freed would hide it
        ("flush", flush::run),
        ("throughput", throughput::run),
        ("push", push::run),
        ("commit", commit::run),
        ("recording", recording::run),
        ("rotation", rotation::run),
    ];
    let scratch = tempfile::tempdir_in(scratch_dir()).map(Scratch).expect("a scratch folder");
    println!("{:<66} {:<34} bar", "claim", "figure [95 % interval]");
    for (name, run) in claims {
        if asked.is_empty() || asked.iter().any(|word| name.contains(word.as_str())) {
            for row in run(&scratch) {
                println!("{:<66} {:<34} {}", row.name, row.figure, row.bar);
                rows.push(row);
            }
        }
    }
    if let Some(file) = json {
        std::fs::write(&file, as_json(&rows)).expect("the rows are kept");
    }
}

/// The same rows, for whoever looks them up by name: `perf/tests/claims.rs` binds the README to them.
fn as_json(rows: &[Row]) -> String {
    let row = |row: &Row| {
        let Row { id, name, figure, bar } = row;
        serde_json::json!({ "id": id, "claim": name, "figure": figure, "bar": bar })
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    let text = serde_json::to_string_pretty(&serde_json::json!({ "rows": rows }));
    text.expect("rows are JSON") + "\n"
}
