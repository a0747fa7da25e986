//! The names of the segments: made from a pattern, and known again by it. Pure.

use std::fmt::Write;
use std::path::{Path, PathBuf, is_separator};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::Error;

/// A folder, and how names in it are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    folder: PathBuf,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// The number of the segment, with zeros in front up to so many digits.
    Sequence {
        width: usize,
    },
    /// A time, as `20261129T182233Z`.
    Utc,
}

/// Digits of the longest number.
const WIDEST: usize = 20;
/// Bytes of a time.
const STAMP: usize = 16;

impl Pattern {
    pub(super) fn parse(pattern: &Path) -> Result<Self, Error> {
        let wrong = |why: &str| {
            let shown = pattern.display();
            Err(Error::Options(format!("the pattern {shown} can't name segments: {why}").into()))
        };
        let Some(text) = pattern.to_str() else {
            return wrong("it has to be Unicode; record to a folder whose name is");
        };
        let first_field = text.find('{').unwrap_or(text.len());
        let name_at = text[..first_field].rfind(is_separator).map_or(0, |at| at + 1);
        let (folder, name) = text.split_at(name_at);
        if name.contains(is_separator) {
            return wrong("all segments lie in one folder, so put no / behind the first {");
        }
        let pieces = match pieces(name) {
            Ok(pieces) => pieces,
            Err(why) => return wrong(why),
        };
        let sequences = pieces.iter().filter(|piece| matches!(piece, Piece::Sequence { .. }));
        if sequences.count() != 1 {
            return wrong(
                "put {seq} into it once, as in take-{seq:06}.raw: no two names are alike",
            );
        }
        let behind = pieces.windows(2).find(|two| matches!(two[0], Piece::Sequence { .. }));
        let is_digit = |piece: &Piece| match piece {
            Piece::Text(text) => text.starts_with(|letter: char| letter.is_ascii_digit()),
            _ => true,
        };
        if behind.is_some_and(|two| is_digit(&two[1])) {
            return wrong("put something that is no digit behind {seq}, so that its end is known");
        }
        Ok(Self { folder: if folder.is_empty() { ".".into() } else { folder.into() }, pieces })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn name(&self, sequence: u64, at: SystemTime) -> String {
        let mut name = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Sequence { width } => {
                    let _ = write!(name, "{sequence:0width$}"); // a String takes everything
                }
                Piece::Utc => name.push_str(&stamp(at)),
            }
        }
        name
    }

    /// The number of a segment that has this name; `None` if the pattern never makes it.
    pub(super) fn sequence_of(&self, name: &str) -> Option<u64> {
        let (mut rest, mut sequence) = (name, None);
        for piece in &self.pieces {
            rest = match piece {
                Piece::Text(text) => rest.strip_prefix(text.as_str())?,
                Piece::Sequence { width } => {
                    let end = rest.find(|letter: char| !letter.is_ascii_digit());
                    let (digits, behind) = rest.split_at(end.unwrap_or(rest.len()));
                    let number: u64 = digits.parse().ok()?;
                    sequence = (format!("{number:0width$}") == digits).then_some(number);
                    behind
                }
                Piece::Utc => {
                    let (time, behind) = rest.split_at_checked(STAMP)?;
                    is_stamp(time).then_some(behind)?
                }
            };
        }
        sequence.filter(|_| rest.is_empty())
    }
}

fn pieces(name: &str) -> Result<Vec<Piece>, &'static str> {
    let (mut pieces, mut rest) = (Vec::new(), name);
    while let Some(at) = rest.find('{') {
        let (text, field) = (&rest[..at], &rest[at + 1..]);
        let end = field.find('}').ok_or("a { has no } behind it")?;
        if !text.is_empty() {
            pieces.push(Piece::Text(text.into()));
        }
        pieces.push(field_of(&field[..end])?);
        rest = &field[end + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.into()));
    }
    Ok(pieces)
}

fn field_of(field: &str) -> Result<Piece, &'static str> {
    const UNKNOWN: &str =
        "its fields are {seq}, {seq:06} (any number of digits up to 20) and {utc}";
    match field {
        "seq" => Ok(Piece::Sequence { width: 1 }),
        "utc" => Ok(Piece::Utc),
        _ => {
            let digits = field.strip_prefix("seq:0").ok_or(UNKNOWN)?;
            let width = digits.parse().ok().filter(|width| (1..=WIDEST).contains(width));
            Ok(Piece::Sequence { width: width.ok_or(UNKNOWN)? })
        }
    }
}

/// `20261129T182233Z`; of a clock that stands before 1970, that year's start.
fn stamp(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years of 365.2425 days that begin in March, so that the day of February 29 is the last of them.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

fn is_stamp(text: &str) -> bool {
    text.len() == STAMP
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(Path::new(text)).unwrap()
    }

    #[test]
    fn a_name_is_known_again_and_no_other_is() {
        let at = UNIX_EPOCH + Duration::from_secs(1_795_976_553);
        for text in ["take-{seq:06}.raw", "{seq}", "a/b/{utc}-{seq:03}", "{utc}{seq}x", "1{seq}"] {
            let pattern = pattern(text);
            for sequence in [0, 1, 999, 1000, 1_234_567, u64::MAX] {
                let name = pattern.name(sequence, at);
                assert_eq!(pattern.sequence_of(&name), Some(sequence), "{text} {name}");
                for other in [format!("{name}x"), format!("x{name}"), name[1..].into()] {
                    let other_sequence = pattern.sequence_of(&other);
                    let is_its = other_sequence.map(|it| pattern.name(it, at)) == Some(other);
                    assert!(other_sequence.is_none() || is_its, "{text} {name}");
                }
            }
        }
        let takes = pattern("takes/take-{seq:06}.raw");
        assert_eq!(takes.folder(), Path::new("takes"));
        assert_eq!(takes.name(7, at), "take-000007.raw");
        let foreign = ["take-7.raw", "take-0000007.raw", "take-.raw", "take-000007.raw.torn-5"];
        for name in
            foreign.into_iter().chain(["take-+00007.raw", "take-99999999999999999999999.raw"])
        {
            assert_eq!(takes.sequence_of(name), None, "{name}");
        }
        assert_eq!(pattern("{seq}").folder(), Path::new("."));
    }

    #[test]
    fn a_time_is_that_of_the_calendar() {
        let at = |seconds| stamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "19700101T000000Z");
        assert_eq!(at(951_782_400), "20000229T000000Z");
        assert_eq!(at(951_868_799), "20000229T235959Z");
        assert_eq!(at(951_868_800), "20000301T000000Z");
        assert_eq!(at(1_795_976_553), "20261129T182233Z");
        assert_eq!(at(4_107_542_399), "21000228T235959Z");
        assert_eq!(at(4_107_542_400), "21000301T000000Z"); // no leap year
        assert_eq!(stamp(UNIX_EPOCH - Duration::from_secs(5)), "19700101T000000Z");
    }

    #[test]
    fn a_pattern_that_can_t_work_is_refused_with_a_sentence() {
        let wrong = [
            ("take.raw", "put {seq} into it once"),
            ("{seq}-{seq}", "put {seq} into it once"),
            ("{utc}.raw", "put {seq} into it once"),
            ("{utc}/{seq}.raw", "no / behind the first {"),
            ("{seq", "no } behind it"),
            ("{sequence}", "its fields are"),
            ("{seq:6}", "its fields are"),
            ("{seq:00}", "its fields are"),
            ("{seq:099}", "its fields are"),
            ("{seq}{utc}", "no digit behind {seq}"),
            ("{seq}0.raw", "no digit behind {seq}"),
        ];
        for (text, why) in wrong {
            let error = Pattern::parse(Path::new(text)).unwrap_err();
            assert!(matches!(error, Error::Options(_)), "{text}");
            assert!(error.to_string().contains(why), "{text}: {error}");
        }
    }
}
