//! Whether a fence was seen to reach the device.

use serde::{Deserialize, Serialize};

use crate::environment::{Cache, Environment};

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
    /// `seen` is the fewest that any device on the way counted, or `None` where it can't be seen.
    ///
    /// It shows that the kernel issued a flush, not that a drive obeyed. Other programs on the
    /// device add to what is seen.
    pub(crate) fn of(least: u64, seen: Option<u64>, place: &Environment) -> Self {
        let says = |word, reason: String| Self { word, reason };
        if let Some(name) = &place.in_memory {
            let reason = format!("{name} keeps everything in memory: no power cut is survived");
            return says(Word::Noop, reason);
        }
        let counted = |seen: u64| format!("{least} device flushes needed at least, {seen} seen");
        if let Some(reason) = &place.out_of_sight {
            let seen = seen.map(|seen| format!("{}, and then: ", counted(seen)));
            return says(Word::Unverifiable, seen.unwrap_or_default() + reason);
        }
        let Some(seen) = seen else {
            let reason = place.unseen.first().cloned();
            let reason = reason.unwrap_or_else(|| "the device's counters can't be read".into());
            return says(Word::Unverifiable, reason);
        };
        let counted = counted(seen);
        if seen >= least {
            let all: Vec<&Cache> = place.disks.iter().collect();
            return says(Word::Honest, format!("{counted} at {}", names(&all)));
        }
        let (word, reason) = of_fewer(place);
        says(word, format!("{counted}{reason}"))
    }

    /// A check that could not be carried out to its end.
    pub(crate) fn failed(error: impl std::fmt::Display) -> Self {
        Self { word: Word::Unverifiable, reason: format!("the check failed: {error}") }
    }

    /// For what asks for no fence at all.
    pub(crate) fn unfenced() -> Self {
        Self { word: Word::Unfenced, reason: "no fence is asked for".into() }
    }
}

fn names(disks: &[&Cache]) -> String {
    let names: Vec<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
    names.join(" and ")
}

/// What fewer flushes than were needed say about devices that all are in sight.
fn of_fewer(place: &Environment) -> (Word, String) {
    let last: Vec<&Cache> = place.disks.iter().filter(|disk| disk.last).collect();
    let has = |disk: &Cache, cache: &str| disk.write_cache.as_deref() == Some(cache);
    // One on the way, such as a loop device, has no cache of its own to excuse it.
    let on_the_way: Vec<&Cache> = place.disks.iter().filter(|disk| !disk.last).collect();
    let unknown: Vec<&Cache> =
        last.iter().filter(|disk| disk.write_cache.is_none()).copied().collect();
    if last.is_empty() {
        (Word::Unverifiable, ": no disk is in sight at which fences end".into())
    } else if on_the_way.is_empty() && last.iter().all(|disk| has(disk, "write through")) {
        (Word::Honest, format!(": {} says that it has no volatile cache", names(&last)))
    } else if place.disks.iter().any(|disk| disk.fua.as_deref() == Some("1")) {
        let reason = "the device takes fences with its writes (FUA), which no counter shows";
        (Word::Unverifiable, format!(": {reason}"))
    } else if !unknown.is_empty() {
        let reason = "has a volatile cache, the kernel does not show";
        (Word::Unverifiable, format!(": whether {} {reason}", names(&unknown)))
    } else if last.len() > 1 {
        let reason = "and which of them a fence had to reach is not counted";
        (Word::Unverifiable, format!(" at one of {}, {reason}", names(&last)))
    } else if !on_the_way.is_empty() {
        (Word::Noop, format!(" on the way to {}", names(&last)))
    } else {
        (Word::Noop, format!(", and {} has a volatile cache", names(&last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str, last: bool, cache: Option<&str>, fua: &str) -> Cache {
        let write_cache = cache.map(Into::into);
        Cache { name: name.into(), last, write_cache, fua: Some(fua.into()) }
    }

    fn place(disks: &[Cache]) -> Environment {
        Environment { disks: disks.to_vec(), ..Environment::default() }
    }

    #[track_caller]
    fn says(seen: Option<u64>, place: &Environment, word: Word, reason: &str) {
        let verdict = Verdict::of(100, seen, place);
        assert_eq!(verdict.word, word, "{verdict:?}");
        assert!(verdict.reason.contains(reason), "{verdict:?}");
    }

    #[test]
    fn fewer_flushes_than_needed_are_never_honest_on_a_volatile_cache() {
        let volatile = place(&[disk("sda", true, Some("write back"), "0")]);
        says(Some(100), &volatile, Word::Honest, "100 seen at sda");
        says(Some(99), &volatile, Word::Noop, "sda has a volatile cache");
        says(None, &volatile, Word::Unverifiable, "");
        let through = place(&[disk("sda", true, Some("write through"), "0")]);
        says(Some(0), &through, Word::Honest, "no volatile cache");
        let fua = place(&[disk("sda", true, Some("write back"), "1")]);
        says(Some(0), &fua, Word::Unverifiable, "FUA");
    }

    #[test]
    fn an_unknown_cache_is_neither_accused_nor_trusted() {
        let unknown = place(&[disk("sda", true, None, "0")]);
        says(Some(99), &unknown, Word::Unverifiable, "whether sda has a volatile cache");
        says(Some(100), &unknown, Word::Honest, "");
    }

    /// All of no disks write through.
    #[test]
    fn without_a_disk_in_sight_fewer_flushes_are_not_honest() {
        says(Some(99), &place(&[]), Word::Unverifiable, "no disk is in sight");
        says(None, &place(&[]), Word::Unverifiable, "");
    }

    #[test]
    fn memory_is_never_durable_whatever_a_device_claims() {
        let through = [disk("ram0", true, Some("write through"), "0")];
        let memory = Environment { in_memory: Some("ram0".into()), ..place(&through) };
        says(Some(100), &memory, Word::Noop, "ram0 keeps everything in memory");
        says(None, &memory, Word::Noop, "memory");
    }

    #[test]
    fn what_ends_out_of_sight_is_not_decided() {
        let away = Some("nfs4: a fence ends at a server".into());
        let away = Environment { out_of_sight: away, ..Environment::default() };
        says(None, &away, Word::Unverifiable, "a server");
        says(Some(100), &away, Word::Unverifiable, "100 seen, and then: nfs4");
    }

    #[test]
    fn a_loop_device_does_not_speak_for_the_disk_below() {
        let both = |upper, lower| {
            place(&[disk("loop0", false, Some(upper), "0"), disk("sda", true, Some(lower), "0")])
        };
        says(Some(100), &both("write back", "write back"), Word::Honest, "");
        says(Some(3), &both("write back", "write back"), Word::Noop, "on the way to sda");
        // It holds fences back, whatever the disk below has.
        says(Some(0), &both("write through", "write through"), Word::Noop, "on the way");
    }

    #[test]
    fn one_of_several_disks_may_rightly_be_left_out() {
        let two = ["sda", "sdb"].map(|name| disk(name, true, Some("write back"), "0"));
        says(Some(99), &place(&two), Word::Unverifiable, "sda and sdb");
    }
}
