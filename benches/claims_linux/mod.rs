//! One module a claim.

mod commit;
mod flush;
mod memory;
mod push;
mod throughput;

use std::path::PathBuf;

use writeflush_workloads::scratch_dir;

/// A line of the table: what was measured, the figure with its spread, and the bar.
pub struct Row {
    pub name: String,
    pub figure: String,
    pub bar: String,
}

pub fn row(name: impl Into<String>, figure: impl Into<String>, bar: impl Into<String>) -> Row {
    Row { name: name.into(), figure: figure.into(), bar: bar.into() }
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
    let asked: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let claims: [(&str, Claim); 5] = [
        ("memory", memory::run), // first: what earlier claims freed would hide it
        ("flush", flush::run),
        ("throughput", throughput::run),
        ("push", push::run),
        ("commit", commit::run),
    ];
    let scratch = tempfile::tempdir_in(scratch_dir()).map(Scratch).expect("a scratch folder");
    println!("{:<66} {:<34} bar", "claim", "figure [95 % interval]");
    for (name, run) in claims {
        if asked.is_empty() || asked.iter().any(|word| name.contains(word.as_str())) {
            for row in run(&scratch) {
                println!("{:<66} {:<34} {}", row.name, row.figure, row.bar);
            }
        }
    }
}
