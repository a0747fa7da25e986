//! Whether a fence was seen to reach the device.

use serde::{Deserialize, Serialize};

use crate::environment::Environment;

/// The answer, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Word {
    /// The device was flushed at least as often as had to be, or has nothing to flush.
    Honest,
    /// It was flushed less often: a power cut can take what was called durable.
    Noop,
    /// The kernel shows nothing that would decide.
    Unverifiable,
    /// No fence was asked for.
    Unfenced,
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Honest => "HONEST",
            Self::Noop => "NOOP",
            Self::Unverifiable => "UNVERIFIABLE",
            Self::Unfenced => "UNFENCED",
        })
    }
}

/// The answer and its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) word: Word,
    pub(crate) reason: String,
}

impl Verdict {
    /// `least` is the number of device flushes without which `asked` fences can't all be true;
    /// `seen` is what the device counted, or `None` where it can't be seen.
    ///
    /// It shows that the kernel issued a flush, not that a drive obeyed. Other programs on the
    /// device add to what is seen.
    pub(crate) fn of(least: u64, seen: Option<u64>, place: &Environment) -> Self {
        let says = |word, reason: String| Self { word, reason };
        if place.in_memory() {
            return says(
                Word::Noop,
                "the file system is in memory: no power cut is survived".into(),
            );
        }
        let Some(seen) = seen else {
            let reason = place.unseen.first().cloned();
            return says(
                Word::Unverifiable,
                reason.unwrap_or_else(|| "no device flush can be counted here".into()),
            );
        };
        let counted = format!("{least} device flushes needed at least, {seen} seen");
        if seen >= least {
            says(Word::Honest, counted)
        } else if place.write_cache.as_deref() == Some("write through") {
            says(Word::Honest, format!("{counted}: the device says that it has no volatile cache"))
        } else if place.fua.as_deref() == Some("1") {
            let reason = "the device takes fences with its writes (FUA), which no counter shows";
            says(Word::Unverifiable, format!("{counted}: {reason}"))
        } else {
            says(Word::Noop, format!("{counted}, and the device has a volatile cache"))
        }
    }

    /// For what asks for no fence at all.
    pub(crate) fn unfenced() -> Self {
        Self { word: Word::Unfenced, reason: "no fence is asked for".into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(cache: &str, fua: &str) -> Environment {
        Environment {
            file_system: Some("ext4".into()),
            write_cache: Some(cache.into()),
            fua: Some(fua.into()),
            ..Environment::default()
        }
    }

    #[test]
    fn fewer_flushes_than_needed_are_never_honest_on_a_volatile_cache() {
        let word = |seen, place: &Environment| Verdict::of(100, seen, place).word;
        let volatile = place("write back", "0");
        assert_eq!(word(Some(100), &volatile), Word::Honest);
        assert_eq!(word(Some(99), &volatile), Word::Noop);
        assert_eq!(word(Some(0), &place("write through", "0")), Word::Honest);
        assert_eq!(word(Some(0), &place("write back", "1")), Word::Unverifiable);
        assert_eq!(word(None, &volatile), Word::Unverifiable);
        let memory = Environment { file_system: Some("tmpfs".into()), ..Environment::default() };
        assert_eq!(word(None, &memory), Word::Noop);
    }
}
