//! The page: HTML with its style and its plots inside.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::draw;
use super::section::{Panel, Section, Table};
use crate::environment::Environment;

/// One result file, ready to be set.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) title: &'static str,
    pub(super) made: String,
    pub(super) command: Vec<String>,
    pub(super) environment: Environment,
    pub(super) sections: Vec<Section>,
}

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub(super) fn html(parts: &[Part]) -> anyhow::Result<String> {
    let bodies = parts.iter().map(part).collect::<anyhow::Result<Vec<_>>>()?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "writeflush: measurements" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "writeflush: measurements" }
                    p class="legend" aria-label="Colours" {
                        span class="floor" { "floor, by hand" }
                        span class="ours" { "writeflush" }
                        span class="standard" { "standard library" }
                        span class="peer" { "other crates" }
                    }
                }
                main { @for body in bodies { (body) } }
            }
        }
    };
    Ok(page.into_string())
}

fn part(part: &Part) -> anyhow::Result<Markup> {
    let sections = part.sections.iter().map(section).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(html! {
        article {
            h2 { (part.title) }
            p { "Made " time datetime=(part.made) { (part.made) } " by " code { "cargo perf " (part.command.join(" ")) } }
            details class="environment" open {
                summary { "Environment" }
                dl {
                    @for (name, value) in part.environment.lines() {
                        div { dt { (name) } dd { (value) } }
                    }
                }
            }
            @for section in sections { (section) }
        }
    })
}

fn section(section: &Section) -> anyhow::Result<Markup> {
    let panels = section.panels.iter().map(panel).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(html! {
        section {
            h3 { (section.title) }
            @for sentence in &section.prose { p class="prose" { (sentence) } }
            div class="panels" { @for panel in panels { (panel) } }
        }
    })
}

/// A table on its own, or a figure with its table below for those who can't see it, or would rather
/// read.
fn panel(panel: &Panel) -> anyhow::Result<Markup> {
    let Some(figure) = &panel.figure else {
        return Ok(html! { div class="wide" { h4 { (panel.table.title) } (table(&panel.table)) } });
    };
    let svg = draw::svg(figure)?;
    Ok(html! {
        figure {
            h4 { (figure.title) }
            @match svg {
                Some(svg) => div role="img" aria-label=(format!("{}. The table below has its figures.", figure.title)) { (PreEscaped(svg)) },
                None => p { "There is nothing to draw." },
            }
            figcaption { (figure.caption) }
            details { summary { (panel.table.title) } (table(&panel.table)) }
        }
    })
}

fn table(table: &Table) -> Markup {
    html! {
        div class="scroll" tabindex="0" {
            table {
                thead { tr { @for name in &table.header { th scope="col" { (name) } } } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (column, cell) in row.iter().enumerate() {
                                @if column == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
        @for note in &table.notes { p class="note" { (note) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figure::{Axis, Bar, Figure, Mark, Row, Scale, Tone};

    fn page(name: &str, note: &str) -> String {
        let row = Row {
            name: name.into(),
            tone: Tone::Peer,
            bars: vec![Bar { from: 1.0, to: 10.0, height: 0.5 }],
            marks: vec![Mark { at: 5.0, low: 4.0, high: 6.0 }],
            note: note.into(),
        };
        let axis = Axis { label: "µs", scale: Scale::Log, rule: None, tick: |v| v.to_string() };
        let figure = Figure { title: "T".into(), caption: "C".into(), axis, rows: vec![row] };
        let table = Table { title: name.into(), ..Table::default() };
        let section = Section {
            title: "S".into(),
            prose: Vec::new(),
            panels: vec![Panel { figure: Some(figure), table }],
        };
        html(&[Part {
            title: "P",
            made: "then".into(),
            command: vec!["compare".into()],
            environment: Environment::default(),
            sections: vec![section],
        }])
        .unwrap()
    }

    #[test]
    fn a_page_needs_nothing_from_outside() {
        let page = page("name", "12.3");
        for outside in ["<script", "http-equiv", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("<svg") && page.contains("12.3"));
    }

    #[test]
    fn what_a_file_says_is_never_markup() {
        let page = page("<b>&", "<i>\"");
        assert!(!page.contains("<b>") && !page.contains("<i>"), "{page}");
        assert!(page.contains("&lt;b&gt;&amp;"));
    }

    #[test]
    fn every_colour_has_its_like_in_the_dark() {
        let page = page("name", "");
        let colours = page.match_indices("fill=\"#").map(|(at, _)| &page[at + 6..at + 13]);
        for colour in colours {
            assert!(STYLE.contains(&format!("[fill=\"{colour}\"]")), "{colour}");
        }
    }
}
