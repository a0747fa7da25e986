//! Words and figures for people.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::printer::{self, Moving};
use crate::stop;

/// Looks at a standard output that takes nothing, after a signal: a second in all.
const LOOKS: u32 = 20;

/// A line on standard error, or several. Never waits for it.
pub(crate) fn say(line: impl std::fmt::Display) {
    printer::say(line.to_string().chars().map(visible).collect());
}

/// The name of a file may hold what gives orders to a terminal.
fn visible(c: char) -> char {
    if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }
}

/// Text on standard output, as it is. A reader that has gone away has read enough.
pub(crate) fn print(text: impl std::fmt::Display) {
    let _ = print_whole(text.to_string());
}

/// Text on standard output: waits as long as its reader takes, but no longer than a second once a
/// signal has come.
pub(crate) fn print_whole(text: String) -> io::Result<()> {
    let (done, printed) = channel();
    let print = move || {
        let mut to = io::stdout().lock();
        let _ = done.send(to.write_all(text.as_bytes()).and_then(|()| to.flush()));
    };
    // Left behind where nothing is taken: the end of the process ends it.
    std::thread::Builder::new().name("output".into()).spawn(print)?;
    wait_for_reader(&printed)
}

/// Waits for who prints, as long as the reader takes, but no longer than a second once a signal has
/// come.
pub(crate) fn wait_for_reader(printed: &Receiver<io::Result<()>>) -> io::Result<()> {
    let mut looks = 0;
    while looks < LOOKS {
        match printed.recv_timeout(stop::LOOK_EVERY) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) => looks += u32::from(stop::asked()),
            Err(RecvTimeoutError::Disconnected) => return Err(io::ErrorKind::Other.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads it"))
}

/// A line on standard error that changes in place, if that is a terminal. Whoever changes it never
/// waits for the terminal. It goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Progress;

impl Progress {
    /// With a bar of this length.
    pub(crate) fn bar(length: u64) -> Self {
        printer::show(|moving| {
            *moving = Some(Moving { bar: Some((0, length)), message: String::new() });
        });
        Self
    }

    /// Of words, which come later.
    pub(crate) fn words() -> Self {
        Self
    }

    pub(crate) fn set_message(&self, message: impl Into<String>) {
        printer::show(|moving| moving.get_or_insert_default().message = message.into());
    }

    pub(crate) fn set_position(&self, position: u64) {
        Self::move_to(|_, length| (position, length));
    }

    pub(crate) fn inc(&self, by: u64) {
        Self::move_to(|position, length| (position + by, length));
    }

    /// There are so many more to come.
    pub(crate) fn set_left(&self, left: u64) {
        Self::move_to(|position, _| (position, position + left));
    }

    fn move_to(change: impl FnOnce(u64, u64) -> (u64, u64)) {
        printer::show(|moving| {
            let bar = &mut moving.get_or_insert_default().bar;
            *bar = bar.map(|(position, length)| change(position, length));
        });
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        printer::show(|moving| *moving = None);
    }
}

/// A table without lines, as wide as it needs to be.
pub(crate) fn table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// Every column but the first, whose cells are names, and the last `words`.
pub(crate) fn align_right(table: &mut Table, words: usize) {
    let columns = table.column_count();
    for column in table.column_iter_mut().take(columns - words).skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// A figure of a table, to three digits.
pub(crate) fn digits(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// A figure that may not be known.
pub(crate) fn or_dash(value: Option<f64>) -> String {
    value.map_or("–".into(), digits)
}

/// `1 byte`, `3 bytes`.
pub(crate) fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// A size that was chosen in powers of two, as its user would write it.
pub(crate) fn binary_size(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit / 8) {
            return format!("{} {name}", bytes as f64 / unit as f64);
        }
    }
    count(bytes, "byte")
}

/// An amount of data that grew, to three digits.
pub(crate) fn amount(bytes: f64) -> String {
    for (unit, name) in [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")] {
        if bytes >= unit {
            return format!("{} {name}", digits(bytes / unit));
        }
    }
    format!("{bytes:.0} B")
}

/// A latency or a length of time, to three digits.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    for (unit, name) in [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")] {
        if seconds >= unit {
            return format!("{} {name}", digits(seconds / unit));
        }
    }
    format!("{} ns", time.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_a_unit_and_digits() {
        assert_eq!(amount(0.0), "0 B");
        assert_eq!(amount(1_234_567.0), "1.23 MB");
        assert_eq!(amount(999e9), "999 GB");
        assert_eq!(duration(Duration::from_micros(12_345)), "12.3 ms");
        assert_eq!(duration(Duration::from_nanos(999)), "999 ns");
        assert_eq!(binary_size(1 << 20), "1 MiB");
        assert_eq!(binary_size(12 << 10), "12 KiB");
        assert_eq!(binary_size(2304 << 10), "2.25 MiB");
        assert_eq!(binary_size((1 << 20) + 4096), "1028 KiB");
        assert_eq!(binary_size(1), "1 byte");
    }
}
