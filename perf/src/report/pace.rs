//! Paced recordings as sections of the page.

use super::figure::{Axis, Bar, Figure, Mark, Row, Scale, Tone};
use super::section::{Panel, Section, Table};
use crate::output::{amount, binary_size, duration};
use crate::pace::streams::{self, Streams};
use crate::pace::{COLUMNS, Pace, Smallest, Take, columns, company, notes};
use std::time::Duration;

pub(super) fn title(pace: &Pace) -> &'static str {
    match pace.smallest.is_empty() {
        true if pace.streams.is_some() => "Many recordings at once",
        true => "A recording at a fixed rate",
        false => "How much buffer loses nothing",
    }
}

/// Many streams: all figures, and no plot.
fn of_streams(name: &str, streams: &Streams) -> Section {
    let table = Table {
        title: "All figures".into(),
        header: streams::COLUMNS.map(Into::into).to_vec(),
        rows: streams::rows(streams).map(streams::columns).collect(),
        notes: streams::notes(streams),
    };
    Section {
        title: format!("{}; {name}", streams.name()),
        prose: vec![
            "So many files grew at once, each at this rate and with these fences, fed by one \
             generator. A fence counts from the moment at which it was due until it was known to be \
             durable. Processor time is the process's, for a second of one stream, without what the \
             generator takes alone (the last row). A round is a fence of every stream."
                .into(),
        ],
        panels: vec![Panel { table, ..Panel::default() }],
    }
}

pub(super) fn sections(pace: &Pace) -> Vec<Section> {
    if let Some(streams) = &pace.streams {
        return vec![of_streams(&pace.name(), streams)];
    }
    let mut section = Section {
        title: pace.name(),
        prose: vec![
            "Records were due at fixed moments, whatever the disk did. Service is the hand-over \
             alone; response counts from the moment at which a record was due. A record that found \
             no room was lost and counted; a slot is missed when a record was handed over only \
             after the next was due. Held is what was in the recorder's own memory; at risk is what \
             a power cut would have taken, most of which is written and waits for the next fence."
                .into(),
        ],
        panels: Vec::new(),
    };
    if !pace.smallest.is_empty() {
        section.panels.push(memory(&pace.smallest));
    }
    let table = Table {
        title: match pace.smallest.is_empty() {
            true => "All figures".into(),
            false => "The last recording with each answer".into(),
        },
        header: COLUMNS.map(Into::into).to_vec(),
        rows: pace.takes.iter().map(columns).collect(),
        notes: notes(&pace.takes),
    };
    section.panels.push(Panel { table, ..Panel::default() });
    for neighbour in [false, true] {
        let takes: Vec<&Take> =
            pace.takes.iter().filter(|take| take.neighbour == neighbour).collect();
        if !takes.is_empty() {
            section.panels.push(stalls(pace, &takes, neighbour));
            section.panels.push(at_risk(&takes, pace.seconds, neighbour));
        }
    }
    vec![section]
}

/// Who else was at the disk, in a title.
fn beside(neighbour: bool) -> &'static str {
    if neighbour { "beside a neighbour that syncs all the time" } else { "alone" }
}

fn tone(name: &str) -> Tone {
    if name.starts_with("writeflush") { Tone::Ours } else { Tone::Standard }
}

/// The time of a recording.
fn time(seconds: f64) -> Axis {
    let tick = |value: f64| format!("{}", (value * 1e6).round() / 1e6);
    Axis {
        label: "time since the first record, s",
        span: Some((0.0, seconds)),
        tick,
        ..Axis::default()
    }
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
            bars: bars.collect(),
            marks: Vec::new(),
            note: if worst > 0.0 { micros(worst) } else { "none".into() },
        }
    };
    let cut = takes.iter().any(|take| take.missed_slots > take.stalls.len() as u64);
    let which = match cut {
        true => {
            "Of each recorder the longest missed slots that were kept (the table says how many of all)"
        }
        false => "Every missed slot",
    };
    let figure = Figure {
        title: format!("Stalls of the producer, {}", beside(neighbour)),
        caption: format!(
            "{which}: where a bar stands, a record came late; the higher, the later, on a log scale \
             from one slot ({}) to {}.",
            micros(slot),
            micros(longest)
        ),
        axis: time(pace.seconds),
        rows: takes.iter().map(row).collect(),
        notes: "longest",
        traced: true,
    };
    let cells = takes.iter().map(|take| {
        let mut late: Vec<f64> = take.stalls.iter().map(|(_, late)| *late).collect();
        late.sort_by(|a, b| b.total_cmp(a));
        let shown: Vec<String> = late.iter().take(5).map(|late| micros(*late)).collect();
        let shown = if shown.is_empty() { "none".into() } else { shown.join(", ") };
        let kept = take.stalls.len().to_string();
        vec![take.subject.clone(), take.missed_slots.to_string(), kept, shown]
    });
    let table = Table {
        title: format!("Stalls, {}", beside(neighbour)),
        header: ["", "missed slots", "kept", "the longest five"].map(Into::into).to_vec(),
        rows: cells.collect(),
        notes: Vec::new(),
    };
    let pairs = takes.iter().map(|take| {
        let stall = |(due, late): &(f64, f64)| format!("{due:.3}: {}", micros(*late));
        (take.subject.as_str(), take.stalls.iter().map(stall).collect())
    });
    let what = "due, in s: late by";
    let drawn =
        Table::of_pairs(format!("Every stall that is drawn, {}", beside(neighbour)), what, pairs);
    Panel { figure: Some(figure), table, drawn: Some(drawn) }
}

/// Bytes that a power cut would have taken, over the time.
fn at_risk(takes: &[&Take], seconds: f64, neighbour: bool) -> Panel {
    let most = takes.iter().map(|take| take.most_at_risk()).max().unwrap_or(1).max(1) as f64;
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
            note: amount(take.most_at_risk() as f64),
        }
    };
    let figure = Figure {
        title: format!("At risk in a power cut, {}", beside(neighbour)),
        caption: format!(
            "The most bytes that a power cut would have taken in each hundredth of the time: taken \
             from the producer and not covered by a fence that had come back. All on one scale from \
             0 to {}.",
            amount(most)
        ),
        axis: time(seconds),
        rows: takes.iter().map(row).collect(),
        notes: "most",
        traced: false,
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
        title: format!("Bytes at risk, {}", beside(neighbour)),
        header: header.map(Into::into).to_vec(),
        rows: cells.collect(),
        notes: Vec::new(),
    };
    let pairs = takes.iter().map(|take| {
        let stretch = |(end, bytes): &(f64, u64)| format!("{end:.2}: {}", amount(*bytes as f64));
        (take.subject.as_str(), take.lag.iter().map(stretch).collect())
    });
    let what = "until, in s: the most at risk";
    let drawn = Table::of_pairs(format!("Every stretch, {}", beside(neighbour)), what, pairs);
    Panel { figure: Some(figure), table, drawn: Some(drawn) }
}

/// The smallest memory that lost nothing.
fn memory(found: &[Smallest]) -> Panel {
    let row = |search: &Smallest| {
        let mark = search.memory_bytes.map(|bytes| Mark {
            at: bytes as f64,
            low: search.least_held_bytes.unwrap_or(bytes) as f64,
            high: bytes as f64,
        });
        Row {
            name: format!("{}, {}", search.subject, company(search.neighbour)),
            tone: tone(&search.subject),
            bars: Vec::new(),
            marks: mark.into_iter().collect(),
            note: search.answer(),
        }
    };
    let figure = Figure {
        title: "The smallest memory that lost nothing".into(),
        caption:
            "The block: with this memory, and with all that is more, no take lost anything. The \
                  line begins at the smallest with which any take lost nothing: between the two it \
                  was luck. It held for this long on this day; a disk has worse days."
                .into(),
        axis: Axis {
            label: "memory (log)",
            scale: Scale::Log,
            tick: |bytes| binary_size(bytes as u64),
            only: (12..40).map(|exponent| f64::from(exponent).exp2()).collect(),
            ..Axis::default()
        },
        rows: found.iter().map(row).collect(),
        notes: "memory",
        traced: false,
    };
    let cells = found.iter().map(|search| {
        let company = company(search.neighbour).to_owned();
        vec![search.subject.clone(), company, search.answer(), search.grounds(), search.range()]
    });
    let table = Table {
        title: "The answers and their grounds".into(),
        header: ["", "disk", "smallest", "grounds", "held from"].map(Into::into).to_vec(),
        rows: cells.collect(),
        notes: Vec::new(),
    };
    let names: Vec<String> = found
        .iter()
        .map(|search| format!("{}, {}", search.subject, company(search.neighbour)))
        .collect();
    let pairs = found.iter().zip(&names).map(|(search, name)| {
        let take = |(memory, lost): &(u64, u64)| {
            format!("{} {}", binary_size(*memory), if *lost == 0 { "held" } else { "lost" })
        };
        (name.as_str(), search.tried.iter().map(take).collect())
    });
    let drawn = Table::of_pairs("Every take, in order".into(), "memory, and what it did", pairs);
    Panel { figure: Some(figure), table, drawn: Some(drawn) }
}
