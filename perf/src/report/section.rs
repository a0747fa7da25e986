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
#[derive(Clone, Debug)]
pub(super) struct Panel {
    pub(super) figure: Option<Figure>,
    pub(super) table: Table,
}

/// A table: the first column names the row.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
    pub(super) notes: Vec<String>,
}
