//! Paced recordings as sections of the page.

use super::figure::{Axis, Bar, Figure, Row, Scale, Tone};
use super::section::{Panel, Section, Table};
use crate::output::{amount, binary_size, digits, duration};
use crate::pace::{COLUMNS, Pace, Smallest, Take, columns, company};
use std::time::Duration;

pub(super) fn sections(pace: &Pace) -> Vec<Section> {
    let mut section = Section {
        title: pace.name(),
        prose: vec![
            "Records were due at fixed moments, whatever the disk did. Service is the hand-over \
             alone; response counts from the moment at which a record was due. A record that found \
             no room was lost and counted; a slot is missed when a record was handed over only \
             after the next was due."
                .into(),
        ],
        panels: Vec::new(),
    };
    let table = Table {
        title: "All figures".into(),
        header: COLUMNS.map(Into::into).to_vec(),
        rows: pace.takes.iter().map(columns).collect(),
        notes: errors(&pace.takes),
    };
    section.panels.push(Panel { figure: None, table });
    for neighbour in [false, true] {
        let takes: Vec<&Take> =
            pace.takes.iter().filter(|take| take.neighbour == neighbour).collect();
        if !takes.is_empty() {
            section.panels.push(stalls(pace, &takes, neighbour));
            section.panels.push(lag(&takes, neighbour));
        }
    }
    if !pace.smallest.is_empty() {
        section.panels.push(memory(&pace.smallest));
    }
    vec![section]
}

fn errors(takes: &[Take]) -> Vec<String> {
    let failed = takes.iter().filter_map(|take| Some((take, take.error.as_ref()?)));
    failed.map(|(take, error)| format!("{} failed: {error}", take.subject)).collect()
}

fn tone(name: &str) -> Tone {
    if name.starts_with("writeflush") { Tone::Ours } else { Tone::Standard }
}

const TIME: Axis = Axis { label: "time, s", scale: Scale::Linear, rule: None, tick: digits };

/// What a row needs to span the whole time even where nothing happened: a line at its foot.
fn foot(seconds: f64) -> Bar {
    Bar { from: 0.0, to: seconds, height: 0.0 }
}

/// Missed slots over the time.
fn stalls(pace: &Pace, takes: &[&Take], neighbour: bool) -> Panel {
    let slot = pace.record_bytes as f64 / pace.bytes_per_s as f64 * 1e6;
    let all = takes.iter().flat_map(|take| &take.stalls).map(|(_, micros)| *micros);
    let longest = all.fold(slot * 2.0, f64::max);
    let height = |micros: f64| (micros / slot).max(1.0).ln() / (longest / slot).ln();
    let micros = |micros: f64| duration(Duration::from_secs_f64(micros / 1e6));
    let row = |take: &&Take| {
        let bars = take.stalls.iter().map(|(due, late)| Bar {
            from: *due,
            to: due + pace.seconds / 250.0,
            height: height(*late),
        });
        let worst = take.stalls.iter().map(|(_, late)| *late).fold(0.0, f64::max);
        Row {
            name: take.subject.clone(),
            tone: tone(&take.subject),
            bars: std::iter::once(foot(pace.seconds)).chain(bars).collect(),
            marks: Vec::new(),
            note: if worst > 0.0 { micros(worst) } else { "none".into() },
        }
    };
    let figure = Figure {
        title: format!("Stalls of the producer, {}", company(neighbour)),
        caption: format!(
            "Every missed slot ({} a record): the higher, the longer, on a log scale up to {}. At \
             the right, the longest.",
            micros(slot),
            micros(longest)
        ),
        axis: TIME,
        rows: takes.iter().map(row).collect(),
    };
    let cells = takes.iter().map(|take| {
        let mut late: Vec<f64> = take.stalls.iter().map(|(_, late)| *late).collect();
        late.sort_by(|a, b| b.total_cmp(a));
        let shown: Vec<String> = late.iter().take(5).map(|late| micros(*late)).collect();
        let shown = if shown.is_empty() { "none".into() } else { shown.join(", ") };
        vec![take.subject.clone(), take.missed_slots.to_string(), shown]
    });
    let table = Table {
        title: format!("Stalls, {}", company(neighbour)),
        header: ["", "missed slots", "the longest five"].map(Into::into).to_vec(),
        rows: cells.collect(),
        notes: Vec::new(),
    };
    Panel { figure: Some(figure), table }
}

/// Bytes that a power cut would have taken, over the time.
fn lag(takes: &[&Take], neighbour: bool) -> Panel {
    let most = takes.iter().map(|take| take.most_lag()).max().unwrap_or(1).max(1) as f64;
    let row = |take: &&Take| {
        let mut from = 0.0;
        let bars = take.lag.iter().map(|(end, bytes)| {
            let bar = Bar { from, to: *end, height: *bytes as f64 / most };
            from = *end;
            bar
        });
        Row {
            name: take.subject.clone(),
            tone: tone(&take.subject),
            bars: bars.collect(),
            marks: Vec::new(),
            note: amount(take.most_lag() as f64),
        }
    };
    let figure = Figure {
        title: format!("Taken and not yet durable, {}", company(neighbour)),
        caption: format!(
            "The most bytes that a power cut would have taken, in each hundredth of the time, all \
             on one scale up to {}. At the right, the most.",
            amount(most)
        ),
        axis: TIME,
        rows: takes.iter().map(row).collect(),
    };
    let quarter = |take: &Take, index: usize| {
        let length = take.lag.len().div_ceil(4).max(1);
        let part = take.lag.chunks(length).nth(index).unwrap_or_default();
        amount(part.iter().map(|(_, bytes)| *bytes).max().unwrap_or_default() as f64)
    };
    let cells = takes.iter().map(|take| {
        let quarters = (0..4).map(|index| quarter(take, index));
        std::iter::once(take.subject.clone()).chain(quarters).collect()
    });
    let header = ["", "most in the first quarter", "second", "third", "fourth"];
    let table = Table {
        title: format!("Not yet durable, {}", company(neighbour)),
        header: header.map(Into::into).to_vec(),
        rows: cells.collect(),
        notes: Vec::new(),
    };
    Panel { figure: Some(figure), table }
}

/// The smallest memory that lost nothing.
fn memory(found: &[Smallest]) -> Panel {
    let name = |search: &Smallest| match search.neighbour {
        true => format!("{} +", search.subject),
        false => search.subject.clone(),
    };
    let least = found.iter().filter_map(|search| search.memory_bytes).min().unwrap_or(1) as f64;
    let row = |search: &Smallest| {
        let bar = |bytes: u64| Bar { from: least / 2.0, to: bytes as f64, height: 0.8 };
        Row {
            name: name(search),
            tone: tone(&search.subject),
            bars: search.memory_bytes.map(bar).into_iter().collect(),
            marks: Vec::new(),
            note: search.memory_bytes.map_or("none".into(), binary_size),
        }
    };
    let figure = Figure {
        title: "The smallest memory that lost nothing".into(),
        caption: "Searched by recording again and again. A plus: with a neighbour that syncs all \
                  the time. It held for this long on this day; a disk has worse days."
            .into(),
        axis: Axis {
            label: "memory (log)",
            scale: Scale::Log,
            rule: None,
            tick: |bytes| amount(bytes),
        },
        rows: found.iter().map(row).collect(),
    };
    let cells = found.iter().map(|search| {
        let tried = search.tried.iter().map(|(memory, lost)| match lost {
            0 => format!("{} held", binary_size(*memory)),
            _ => format!("{} lost", binary_size(*memory)),
        });
        vec![
            search.subject.clone(),
            company(search.neighbour).into(),
            search.memory_bytes.map_or("none that was tried".into(), binary_size),
            tried.collect::<Vec<_>>().join(", "),
        ]
    });
    let table = Table {
        title: "The search".into(),
        header: ["", "disk", "smallest", "tried"].map(Into::into).to_vec(),
        rows: cells.collect(),
        notes: Vec::new(),
    };
    Panel { figure: Some(figure), table }
}
