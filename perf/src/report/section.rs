//! A part of the page: what every kind of result becomes before it is set.

use super::figure::Figure;

/// One heading with what belongs under it.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    pub(super) title: String,
    /// Sentences for somebody who chooses.
    pub(super) prose: Vec<String>,
    pub(super) panels: Vec<Panel>,
}

/// A figure and, or, its figures as text.
#[derive(Clone, Debug, Default)]
pub(super) struct Panel {
    pub(super) figure: Option<Figure>,
    /// What most readers want of it.
    pub(super) table: Table,
    /// Everything that the figure draws, where the table has less.
    pub(super) drawn: Option<Table>,
}

/// A table: the first column names the row.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
    pub(super) notes: Vec<String>,
}

impl Table {
    /// A row a subject, with every pair that is drawn of it in one cell.
    pub(super) fn of_pairs<'a>(
        title: String,
        what: &str,
        rows: impl Iterator<Item = (&'a str, Vec<String>)>,
    ) -> Self {
        let row = |(name, pairs): (&str, Vec<String>)| {
            let pairs = if pairs.is_empty() { "none".into() } else { pairs.join(", ") };
            vec![name.to_owned(), pairs]
        };
        let header = vec![String::new(), what.to_owned()];
        Self { title, header, rows: rows.map(row).collect(), notes: Vec::new() }
    }
}
