//! Sizes and times as a user writes them.

use std::time::Duration;

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

/// `0`, `100ms`, `2s`.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|_| "give a time such as 100ms, 2s or 500us".into())
}
