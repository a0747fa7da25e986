//! Numbers, sizes and times as a user writes them.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// A whole number of a range.
pub(crate) fn whole<N>(
    range: RangeInclusive<N>,
) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync + 'static
where
    N: FromStr + Display + PartialOrd + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number
            .ok_or_else(|| format!("give a whole number from {} to {}", range.start(), range.end()))
    }
}

/// `4096`, `64KiB`, `4GB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    parse_size::parse_size(text)
        .map_err(|_| "give a number of bytes, or a size such as 64KiB, 1MiB or 4GB".into())
}

/// `200MB/s`, `1.5GiB`, `96000`: bytes a second, at least one.
pub(crate) fn rate(text: &str) -> Result<u64, String> {
    match size(text.strip_suffix("/s").unwrap_or(text)) {
        Ok(bytes @ 1..) => Ok(bytes),
        _ => Err("give bytes a second, such as 200MB/s or 96000".into()),
    }
}

/// `48000`, `48k`, `44.1kHz`: sample frames a second, at least one.
pub(crate) fn hertz(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("Hz").unwrap_or(text);
    let (number, unit) = match number.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1000.0),
        None => (number, 1.0),
    };
    let hertz = number.parse::<f64>().unwrap_or(0.0) * unit;
    if hertz >= 1.0 && hertz <= u32::MAX.into() && hertz.fract().abs() < 1e-6 {
        return Ok(hertz as u32);
    }
    Err("give sample frames a second, such as 48000, 48k or 44.1k".into())
}

/// So much of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    Bytes(u64),
    Time(Duration),
}

/// `1GiB`, `1.5kB`, `500M`, `4096`: bytes; `10m`, `1h 30m`: time. A unit of bytes has a capital.
pub(crate) fn span(text: &str) -> Result<Span, String> {
    let is_size = text.ends_with('B')
        || text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase() || b == b'i');
    let parsed = if is_size { size(text).map(Span::Bytes) } else { time(text).map(Span::Time) };
    parsed.map_err(|_| "give a size such as 1GiB or 4096, or a time such as 10m or 1h".into())
}

/// As [`span`], and not nothing.
pub(crate) fn some_span(text: &str) -> Result<Span, String> {
    match span(text)? {
        Span::Bytes(0) | Span::Time(Duration::ZERO) => Err("give more than 0".into()),
        some => Ok(some),
    }
}

/// As [`time`], and not nothing.
pub(crate) fn some_time(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err("give more than 0, such as 100ms, 2s or 1h".into()),
        some => Ok(some),
    }
}

/// `0`, `100ms`, `2s`.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|_| "give a time such as 100ms, 2s or 500us".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_is_of_its_range_or_told_it() {
        let channels = whole(1..=1024_u16);
        assert_eq!((channels("1"), channels("1024")), (Ok(1), Ok(1024)));
        for text in ["", "0", "1025", "70000", "-1", "1.5", "two", "0x2"] {
            let said = channels(text).unwrap_err();
            assert_eq!(said, "give a whole number from 1 to 1024", "{text}");
        }
    }

    #[test]
    fn rates_that_people_write() {
        for (text, expected) in
            [("48000", 48_000), ("48k", 48_000), ("44.1k", 44_100), ("192kHz", 192_000), ("1", 1)]
        {
            assert_eq!(hertz(text), Ok(expected), "{text}");
        }
        for text in ["", "0", "k", "-48k", "44.10001k", "5000000k", "NaN", "inf", "48 kHz!"] {
            assert!(hertz(text).is_err(), "{text}");
        }
    }

    #[test]
    fn minutes_are_no_megabytes() {
        assert_eq!(span("10m"), Ok(Span::Time(Duration::from_secs(600))));
        assert_eq!(span("10M"), Ok(Span::Bytes(10_000_000)));
        assert_eq!(span("1GiB"), Ok(Span::Bytes(1 << 30)));
        assert_eq!(span("1.5kB"), Ok(Span::Bytes(1500)));
        assert_eq!(span("4096"), Ok(Span::Bytes(4096)));
        assert_eq!(span("1h 30m"), Ok(Span::Time(Duration::from_secs(5400))));
        assert!(span("long").is_err() && span("").is_err());
        assert!(some_span("0").is_err() && some_span("0s").is_err() && some_span("1s").is_ok());
        assert!(some_time("0").is_err() && some_time("0s").is_err() && some_time("1s").is_ok());
    }
}
