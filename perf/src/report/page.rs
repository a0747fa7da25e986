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
    let bodies = parts.iter().enumerate().map(part).collect::<anyhow::Result<Vec<_>>>()?;
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
                    h1 { "What a durable write costs here" }
                    p class="prose" {
                        "Measured by " strong { "writeflush" }
                        ". This page is one file: it needs no network and no script. Below every \
                         figure stand its numbers."
                    }
                    p class="legend" aria-label="Colours" {
                        span class="ours" { "writeflush" }
                        span class="floor" { "floor: the same system calls by hand" }
                        span class="standard" { "what programs do today" }
                        span class="peer" { "other crates" }
                    }
                    (contents(parts))
                }
                main { @for body in bodies { (body) } }
            }
        }
    };
    Ok(page.into_string())
}

/// Links to everything on the page.
fn contents(parts: &[Part]) -> Markup {
    html! {
        nav aria-label="Contents" {
            @for (index, part) in parts.iter().enumerate() {
                details open[parts.len() > 1 && part.sections.len() < 4] {
                    summary { a href=(format!("#{}", name(index, None))) { (part.title) } }
                    ul {
                        @for (place, section) in part.sections.iter().enumerate() {
                            li { a href=(format!("#{}", name(index, Some(place)))) { (section.title) } }
                        }
                    }
                }
            }
        }
    }
}

/// What a link to a part, or a section of it, names.
fn name(part: usize, section: Option<usize>) -> String {
    section.map_or(format!("part-{part}"), |section| format!("part-{part}-{section}"))
}

fn part((index, part): (usize, &Part)) -> anyhow::Result<Markup> {
    let sections = part.sections.iter().enumerate();
    let sections = sections.map(|(place, body)| section(body, &name(index, Some(place))));
    let sections = sections.collect::<anyhow::Result<Vec<_>>>()?;
    let place = &part.environment;
    let facts = [&place.file_system, &place.device, &place.cpu, &place.kernel];
    let facts: Vec<&str> = facts.into_iter().flatten().map(String::as_str).collect();
    Ok(html! {
        article {
            h2 id=(name(index, None)) { (part.title) }
            p class="made" {
                "Made " time datetime=(part.made) { (part.made) } " by "
                code { "writeflush " (part.command.join(" ")) }
            }
            @if let Some(noise) = place.noise() { p class="noise" { strong { "Noisy run: " } (noise) "." } }
            details class="environment" {
                summary { "Environment: " (facts.join(", ")) }
                dl {
                    @for (name, value) in place.lines() {
                        div { dt { (name) } dd { (value) } }
                    }
                }
            }
            @for section in sections { (section) }
        }
    })
}

fn section(section: &Section, name: &str) -> anyhow::Result<Markup> {
    let panels = section.panels.iter().map(panel).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(html! {
        section {
            h3 id=(name) { (section.title) }
            @for sentence in &section.prose { p class="prose" { (sentence) } }
            div class="panels" { @for panel in panels { (panel) } }
        }
    })
}

/// A table on its own, or a figure with its tables below for those who can't see it, or would rather
/// read.
fn panel(panel: &Panel) -> anyhow::Result<Markup> {
    let Some(figure) = &panel.figure else {
        return Ok(html! { div class="wide" { h4 { (panel.table.title) } (table(&panel.table)) } });
    };
    let svg = draw::svg(figure)?;
    let label = format!("{}. The tables below have its figures.", figure.title);
    Ok(html! {
        figure {
            h4 { (figure.title) }
            @match svg {
                Some(svg) => div role="img" aria-label=(label) { (PreEscaped(svg)) },
                None => p { "There is nothing to draw." },
            }
            figcaption { (figure.caption) }
            @for shown in std::iter::once(&panel.table).chain(&panel.drawn) {
                details { summary { (shown.title) } (table(shown)) }
            }
        }
    })
}

fn table(table: &Table) -> Markup {
    let figures: Vec<bool> =
        (0..table.header.len()).map(|column| column > 0 && of_figures(table, column)).collect();
    let kind = |column: usize| figures.get(column).is_some_and(|figures| *figures).then_some("n");
    let long = |cell: &str| (cell.chars().count() > 60).then_some("long");
    html! {
        div class="scroll" tabindex="0" {
            table {
                thead { tr {
                    @for (column, name) in table.header.iter().enumerate() {
                        th scope="col" class=[kind(column)] { (name) }
                    }
                } }
                tbody {
                    @for row in &table.rows {
                        tr { @for (column, cell) in row.iter().enumerate() {
                            @if column == 0 { th scope="row" { (cell) } }
                            @else { td class=[verdict(cell).or(long(cell)).or(kind(column))] { (cell) } }
                        } }
                    }
                }
            }
        }
        @for note in &table.notes { p class="note" { (note) } }
    }
}

/// Whether a column holds figures, and not words.
fn of_figures(table: &Table, column: usize) -> bool {
    let figure = |cell: &str| {
        let begins = cell.chars().next().is_none_or(|c| c.is_ascii_digit() || c == '–');
        begins && cell.len() < 40
    };
    let mut cells = table.rows.iter().filter_map(|row| row.get(column));
    cells.all(|cell| figure(cell))
}

/// How a verdict is set.
fn verdict(cell: &str) -> Option<&'static str> {
    match cell {
        "HONEST" => Some("honest"),
        "NOOP" => Some("noop"),
        "UNVERIFIABLE" => Some("unverifiable"),
        _ => None,
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
        let axis = Axis { label: "µs", scale: Scale::Log, ..Axis::default() };
        let (title, caption) = ("T".into(), "C".into());
        let figure = Figure { title, caption, axis, rows: vec![row], notes: "n", traced: true };
        let table = Table { title: name.into(), ..Table::default() };
        let section = Section {
            title: "S".into(),
            prose: Vec::new(),
            panels: vec![Panel { figure: Some(figure), table, drawn: None }],
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
        let page = page.replace("href=\"#", "");
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
        let mut seen = 0;
        for attribute in ["fill", "stroke"] {
            let begin = format!("{attribute}=\"#");
            for (at, _) in page.match_indices(&begin) {
                let colour = &page[at + begin.len() - 1..at + begin.len() + 6];
                let rule = format!("[{attribute}=\"{colour}\"]");
                assert!(STYLE.contains(&rule), "{rule}");
                seen += 1;
            }
        }
        assert!(seen > 4, "{page}");
    }
}
