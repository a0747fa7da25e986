//! A comparison in other formats. A new one is a file here and a line in [`formats`].

mod csv;
mod markdown;

use std::path::Path;

use super::args::Args;
use super::result::Comparison;
use crate::document::{self, Document};

/// Makes the text of a file.
type Export = fn(&Document<Comparison>) -> anyhow::Result<String>;

/// What was asked for, and by whom it is made.
fn formats(args: &Args) -> [(Option<&Path>, Export); 2] {
    [(args.csv.as_deref(), csv::text), (args.markdown.as_deref(), markdown::text)]
}

/// The files that were asked for.
pub(crate) fn paths(args: &Args) -> Vec<&Path> {
    formats(args).into_iter().filter_map(|(path, _)| path).collect()
}

/// Writes them.
pub(crate) fn write(args: &Args, document: &Document<Comparison>) -> anyhow::Result<()> {
    for (path, export) in formats(args) {
        if let Some(path) = path {
            document::save(path, &export(document)?, args.force)?;
            crate::output::say(format_args!("written to {}", path.display()));
        }
    }
    Ok(())
}
