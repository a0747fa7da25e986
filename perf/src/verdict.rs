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

/// What was counted while fences were asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// The fewest flushes of any device on the way; `None` where they can't be seen.
    pub(crate) flushes: Option<u64>,
    /// Writes that carried their own fence (FUA), likewise.
    pub(crate) fua_writes: Option<u64>,
}

impl Verdict {
    /// `least` is the number of device flushes without which `asked` fences can't all be true.
    ///
    /// It shows that the kernel issued a fence, not that a drive obeyed. Other programs on the
    /// device add to what is seen.
    pub(crate) fn of(least: u64, seen: Seen, place: &Environment) -> Self {
        let says = |word, reason: String| Self { word, reason };
        if let Some(name) = &place.in_memory {
            let reason = format!("{name} keeps everything in memory: no power cut is survived");
            return says(Word::Noop, reason);
        }
        if let Some(reason) = &place.out_of_sight {
            let seen = seen.flushes.map(|seen| format!("{}, and then: ", counted(least, seen)));
            return says(Word::Unverifiable, seen.unwrap_or_default() + reason);
        }
        let Some(flushes) = seen.flushes else {
            let reason = place.unseen.first().cloned();
            let reason = reason.unwrap_or_else(|| "the device's counters can't be read".into());
            return says(Word::Unverifiable, reason);
        };
        let takes_fua = place.disks.iter().any(Cache::takes_fua);
        match seen.fua_writes {
            None if takes_fua => of_unseen_fua(least, flushes, place),
            Some(fua @ 1..) if takes_fua => of_fua(least, flushes, fua, place),
            _ => of_flushes(least, flushes, takes_fua, place),
        }
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

fn counted(least: u64, flushes: u64) -> String {
    format!("{least} device flushes needed at least, {flushes} seen")
}

/// No write carried its own fence: flushes are all there is.
fn of_flushes(least: u64, flushes: u64, takes_fua: bool, place: &Environment) -> Verdict {
    let counted = counted(least, flushes);
    if flushes < least {
        let (word, reason) = of_fewer(place);
        return Verdict { word, reason: format!("{counted}{reason}") };
    }
    let all: Vec<&Cache> = place.disks.iter().collect();
    let no_fua = if takes_fua { ", and no write that needs FUA" } else { "" };
    Verdict { word: Word::Honest, reason: format!("{counted} at {}{no_fua}", names(&all)) }
}

/// Some writes carried their own fence: the promise lies with drives that have to honour it.
fn of_fua(least: u64, flushes: u64, fua: u64, place: &Environment) -> Verdict {
    let counted = format!(
        "{least} device flushes or writes with FUA needed at least, {flushes} and {fua} seen"
    );
    let says = |word, reason: String| Verdict { word, reason: counted.clone() + &reason };
    if flushes.saturating_add(fua) < least {
        let (word, reason) = of_fewer(place);
        return says(word, reason);
    }
    let last: Vec<&Cache> = place.disks.iter().filter(|disk| disk.last).collect();
    let trusting = trusting(place);
    if flushes < least && last.len() > 1 {
        let reason = "and which of them a fence had to reach is not counted";
        return says(Word::Unverifiable, format!(" at one of {}, {reason}", names(&last)));
    }
    if trusting.is_empty() {
        let who = names(&last);
        return says(Word::Honest, format!(" at {who}, which says itself that it honours FUA"));
    }
    // On many file systems a commit is a flush and then a write with FUA, in this order.
    let advice = if flushes < least {
        "take a form of fence that ends in a flush (`FenceForm::Link` or `Flush`), or a drive \
         without a volatile cache"
    } else {
        "the flushes may stand before what needs it: take a file that does not grow, on a file \
         system that writes in place, or a drive without a volatile cache"
    };
    let who = names(&trusting);
    says(Word::Unverifiable, format!("; whether {who} honours FUA no program can see: {advice}"))
}

/// There may be writes that carry their own fence, and nobody counts them.
fn of_unseen_fua(least: u64, flushes: u64, place: &Environment) -> Verdict {
    let counted = counted(least, flushes);
    let trusting = trusting(place);
    if flushes >= least && trusting.is_empty() {
        let last: Vec<&Cache> = place.disks.iter().filter(|disk| disk.last).collect();
        let reason = "which says itself that it honours FUA";
        return Verdict {
            word: Word::Honest,
            reason: format!("{counted} at {}, {reason}", names(&last)),
        };
    }
    let behind = if flushes >= least { ": a flush may stand before one" } else { "" };
    let reason = format!(
        "{counted}: the device takes fences with its writes (FUA), and those can't be counted \
         here{behind}; root can count them"
    );
    Verdict { word: Word::Unverifiable, reason }
}

/// Drives whose FUA one has to trust: of which the kernel assumes it.
fn trusting(place: &Environment) -> Vec<&Cache> {
    place.disks.iter().filter(|disk| disk.takes_fua() && !disk.fua_announced).collect()
}

/// What fewer fences than were needed say about devices that all are in sight.
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
        let (name, write_cache) = (name.into(), cache.map(Into::into));
        Cache { name, last, write_cache, fua: Some(fua.into()), fua_announced: false }
    }

    fn place(disks: &[Cache]) -> Environment {
        Environment { disks: disks.to_vec(), ..Environment::default() }
    }

    #[track_caller]
    fn says(flushes: Option<u64>, place: &Environment, word: Word, reason: &str) {
        counts((flushes, None), place, word, reason);
    }

    #[track_caller]
    fn counts(
        (flushes, fua_writes): (Option<u64>, Option<u64>),
        place: &Environment,
        word: Word,
        reason: &str,
    ) {
        let verdict = Verdict::of(100, Seen { flushes, fua_writes }, place);
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
    }

    fn taking_fua(announced: bool) -> Environment {
        let disk = disk("sda", true, Some("write back"), "1");
        place(&[Cache { fua_announced: announced, ..disk }])
    }

    #[test]
    fn what_needs_fua_is_honest_only_where_the_drive_itself_announces_it() {
        let (assumed, announced) = (taking_fua(false), taking_fua(true));
        let in_the_write = (Some(0), Some(100));
        counts(in_the_write, &announced, Word::Honest, "0 and 100 seen at sda, which says itself");
        counts(in_the_write, &assumed, Word::Unverifiable, "ends in a flush");
        // As a commit of btrfs: a flush, and then a superblock with FUA.
        let before_it = (Some(100), Some(100));
        counts(before_it, &announced, Word::Honest, "");
        counts(before_it, &assumed, Word::Unverifiable, "the flushes may stand before");
        counts((Some(100), Some(1)), &assumed, Word::Unverifiable, "");
        // Without a cache there is nothing to honour.
        let through = place(&[disk("sda", true, Some("write through"), "1")]);
        counts(in_the_write, &through, Word::Honest, "no volatile cache");
    }

    #[test]
    fn a_form_that_ends_in_a_flush_needs_no_fua() {
        for place in [taking_fua(false), taking_fua(true)] {
            counts((Some(100), Some(0)), &place, Word::Honest, "no write that needs FUA");
            counts((Some(99), Some(0)), &place, Word::Noop, "volatile cache");
            counts((Some(49), Some(50)), &place, Word::Noop, "49 and 50 seen");
        }
    }

    #[test]
    fn fua_that_nobody_counts_is_not_decided_where_it_would_have_to_be_trusted() {
        counts((Some(100), None), &taking_fua(false), Word::Unverifiable, "may stand before one");
        counts((Some(0), None), &taking_fua(false), Word::Unverifiable, "root can count them");
        counts((Some(0), None), &taking_fua(true), Word::Unverifiable, "root can count them");
        counts((Some(100), None), &taking_fua(true), Word::Honest, "which says itself");
    }

    /// The flushes are those of the disk with the fewest; writes with FUA are those of all.
    #[test]
    fn one_of_several_disks_does_not_speak_for_the_others() {
        let two = ["sda", "sdb"]
            .map(|name| Cache { fua_announced: true, ..disk(name, true, Some("write back"), "1") });
        counts((Some(0), Some(200)), &place(&two), Word::Unverifiable, "sda and sdb");
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
