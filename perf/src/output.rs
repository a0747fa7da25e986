//! Words and figures for people.

use std::io::Write;
use std::time::Duration;

/// A line on standard error. A reader that has gone away must not end a recording, so that a
/// failure to print is nobody's business.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Text on standard output, as it is. A reader that has gone away has read enough.
pub(crate) fn print(text: impl std::fmt::Display) {
    let _ = write!(std::io::stdout(), "{text}");
}

/// `1 byte`, `3 bytes`.
pub(crate) fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// A size that was chosen in powers of two, as its user would write it.
pub(crate) fn binary_size(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{} {name}", bytes / unit);
        }
    }
    count(bytes, "byte")
}

/// An amount of data that grew, to three digits.
pub(crate) fn amount(bytes: f64) -> String {
    for (unit, name) in [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")] {
        if bytes >= unit {
            return format!("{} {name}", three_digits(bytes / unit));
        }
    }
    format!("{bytes:.0} B")
}

/// A latency or a length of time, to three digits.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    for (unit, name) in [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")] {
        if seconds >= unit {
            return format!("{} {name}", three_digits(seconds / unit));
        }
    }
    format!("{} ns", time.as_nanos())
}

fn three_digits(value: f64) -> String {
    let decimals = if value < 10.0 {
        2
    } else if value < 100.0 {
        1
    } else {
        0
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_a_unit_and_three_digits() {
        assert_eq!(amount(0.0), "0 B");
        assert_eq!(amount(1_234_567.0), "1.23 MB");
        assert_eq!(amount(999e9), "999 GB");
        assert_eq!(duration(Duration::from_micros(12_345)), "12.3 ms");
        assert_eq!(duration(Duration::from_nanos(999)), "999 ns");
        assert_eq!(binary_size(1 << 20), "1 MiB");
        assert_eq!(binary_size(12 << 10), "12 KiB");
        assert_eq!(binary_size(1), "1 byte");
    }
}
