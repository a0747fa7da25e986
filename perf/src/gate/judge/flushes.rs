//! Whether as many fences reached the device as a program has promised, and as before. Pure.
//!
//! Fewer than promised are an error of the program, whatever time it gains by that.

use super::counts::{Least, Shift, judge};
use super::{Change, Finding, Tier, Word};
use crate::gate::evidence::{Counts, Flushed, FlushedRun};

const FLUSHES: &str = "device flushes";
/// Of one operation: from here on it is one that flushes.
const FLUSHES_AT_ALL: f64 = 0.5;
/// Runs of each before more are taken for more, or fewer for fewer: neighbours flush the device too.
const RUNS: usize = 5;
/// One in so many more, or fewer, is what a file system does by itself now and then.
const STRAY: u64 = 64;

/// Whether another run of both is needed.
pub(crate) fn goes_on(flushed: &Flushed) -> bool {
    let runs = flushed.base.len().min(flushed.candidate.len());
    let unclear = matches!(look(flushed), Look::More | Look::Fewer | Look::Hidden);
    runs == 0 || runs < RUNS && unclear
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Fewer than the candidate has promised.
    Broken,
    /// The candidate promises less than the base.
    PromisesLess,
    More,
    /// Of a program that promises nothing: whether that was right, nobody knows.
    Fewer,
    /// More than promised, but not what it takes each time: what is missing may be hidden by flushes
    /// of neighbours, or by those that a fence takes beyond its first.
    Hidden,
    Kept,
}

fn look(flushed: &Flushed) -> Look {
    let broken = |run: &FlushedRun| run.seen() < run.promised;
    if flushed.candidate.iter().any(broken) {
        return Look::Broken;
    }
    let promised = |runs: &[FlushedRun]| runs.iter().map(|run| run.promised).max().unwrap_or(0);
    let (of_base, of_candidate) = (promised(&flushed.base), promised(&flushed.candidate));
    if of_candidate < of_base {
        return Look::PromisesLess;
    }
    let runs = |runs: &[FlushedRun]| -> Vec<Counts> {
        let each = |run: &FlushedRun| run.seen() as f64 / flushed.operations.max(1) as f64;
        runs.iter().map(|run| Counts::from([(FLUSHES.into(), each(run))])).collect()
    };
    let judged = judge(&runs(&flushed.base), &runs(&flushed.candidate), Least::EXACT);
    match judged.first() {
        Some(judged) if judged.shift == Shift::More => Look::More,
        Some(judged)
            if judged.shift == Shift::Fewer
                && of_candidate == 0
                && judged.base.low >= FLUSHES_AT_ALL =>
        {
            Look::Fewer
        }
        _ if is_hidden(flushed, of_candidate) => Look::Hidden,
        _ => Look::Kept,
    }
}

/// Neighbours only add: what was seen least often is nearest to the truth.
fn least(runs: &[FlushedRun]) -> u64 {
    runs.iter().map(FlushedRun::seen).min().unwrap_or(0)
}

/// Not where a run saw about what was promised; nor where a program takes the same number every
/// time, and no fewer than its base: then it is its own.
fn is_hidden(flushed: &Flushed, promised: u64) -> bool {
    let (base, candidate) = (least(&flushed.base), least(&flushed.candidate));
    let steady = is_steady(&flushed.base) && is_steady(&flushed.candidate);
    let as_before = steady && candidate + base / STRAY >= base;
    promised > 0 && candidate > promised + promised / STRAY && !as_before
}

/// Whether the two runs that saw least agree.
fn is_steady(runs: &[FlushedRun]) -> bool {
    let mut seen: Vec<u64> = runs.iter().map(FlushedRun::seen).collect();
    seen.sort_unstable();
    matches!(seen[..], [least, second, ..] if second <= least + least / STRAY)
}

/// The finding on an operation.
pub(crate) fn finding(flushed: &Flushed) -> Finding {
    let (base, candidate) = (least(&flushed.base), least(&flushed.candidate));
    let promised = flushed.candidate.iter().map(|run| run.promised).max().unwrap_or(0);
    let operations = flushed.operations;
    let figures = format!("{base} → {candidate} in {operations} operations");
    let (word, reason) = match look(flushed) {
        Look::Broken => (
            Word::Regression,
            format!(
                "{promised} fences were promised and {candidate} device flushes seen: a power cut \
                 can take what was called durable"
            ),
        ),
        Look::PromisesLess => {
            (Word::Regression, format!("fewer fences promised than by the base; {figures}"))
        }
        Look::More if goes_on(flushed) => {
            (Word::NoVerdict, format!("not seen often enough: {figures}"))
        }
        Look::More => (Word::Regression, format!("more: {figures}")),
        Look::Fewer => (
            Word::NoVerdict,
            format!("fewer: {figures}, and the program does not say what it promises (`fences=`)"),
        ),
        Look::Hidden => (
            Word::NoVerdict,
            format!(
                "{figures}, of {promised} promised: others flush this disk too, or a fence takes \
                 several, so one that is missing can't be seen; repeat it on a quiet disk"
            ),
        ),
        Look::Kept if goes_on(flushed) => (Word::NoVerdict, "nothing was counted".into()),
        Look::Kept => (Word::Pass, figures),
    };
    let percent = (candidate as f64 / base as f64 - 1.0) * 100.0;
    Finding {
        operation: flushed.operation.clone(),
        tier: Tier::Counts,
        quantity: FLUSHES.into(),
        word,
        change: (base > 0).then_some(Change { percent, low: percent, high: percent }),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of 256 operations: fences promised, flushes seen.
    fn flushed(base: &[(u64, u64)], candidate: &[(u64, u64)]) -> Flushed {
        let runs = |runs: &[(u64, u64)]| {
            let run = |(promised, flushes): &(u64, u64)| FlushedRun {
                promised: *promised,
                flushes: *flushes,
                fenced_writes: 0,
            };
            runs.iter().map(run).collect()
        };
        let (base, candidate) = (runs(base), runs(candidate));
        Flushed { operation: "flush".into(), operations: 256, base, candidate }
    }

    fn word(base: &[(u64, u64)], candidate: &[(u64, u64)]) -> Word {
        finding(&flushed(base, candidate)).word
    }

    #[test]
    fn fewer_flushes_than_promised_are_never_a_speed_up() {
        assert_eq!(word(&[(256, 256)], &[(256, 256)]), Word::Pass);
        assert_eq!(word(&[(256, 256)], &[(256, 255)]), Word::Regression);
        assert!(!goes_on(&flushed(&[(256, 256)], &[(256, 255)])), "one time proves it");
        let found = finding(&flushed(&[(256, 256)], &[(256, 0)]));
        assert!(found.reason.contains("a power cut can take"), "{}", found.reason);
        assert_eq!(word(&[(256, 256)], &[(0, 0)]), Word::Regression, "nor promising nothing");
        assert_eq!(word(&[(0, 256); 5], &[(0, 128); 5]), Word::NoVerdict, "nobody knows");
        assert!(goes_on(&flushed(&[(0, 300)], &[(0, 256)])), "the base may have had a neighbour");
        assert_eq!(word(&[(0, 1)], &[(0, 0)]), Word::Pass, "it is none that flushes");
    }

    #[test]
    fn a_write_that_carries_its_fence_counts_as_a_flush() {
        let mut fenced = flushed(&[(256, 256)], &[(256, 0)]);
        fenced.candidate[0].fenced_writes = 256;
        assert_eq!(finding(&fenced).word, Word::Pass);
    }

    #[test]
    fn one_flush_more_is_seen_beside_neighbours_who_flush_now_and_then() {
        let base = [(256, 256), (256, 259), (256, 256), (256, 256), (256, 258)];
        assert!(goes_on(&flushed(&base[..1], &[(256, 512)])));
        assert_eq!(word(&base[..1], &[(256, 512)]), Word::NoVerdict, "seen once");
        assert_eq!(word(&base, &[(256, 512); 5]), Word::Regression);
        let busy = [(256, 256), (256, 700), (256, 300), (256, 900), (256, 256)];
        assert_eq!(word(&busy, &[(256, 950); 5]), Word::Pass, "they hide it, and accuse nobody");
    }

    /// Of a disk that others flush, too: 26 were left out of these 256.
    #[test]
    fn neighbours_that_may_hide_a_missing_flush_leave_no_verdict() {
        assert!(goes_on(&flushed(&[(256, 408)], &[(256, 372)])), "once more, when it is quiet");
        assert_eq!(word(&[(256, 408); 5], &[(256, 372); 5]), Word::NoVerdict);
        let quiet = [(256, 408), (256, 256)];
        assert_eq!(word(&quiet, &[(256, 372), (256, 230)]), Word::Regression);
        assert_eq!(word(&quiet, &[(256, 372), (256, 257)]), Word::Pass);
        assert_eq!(word(&[(256, 300); 1], &[(256, 300); 1]), Word::NoVerdict, "chance");
        assert_eq!(word(&[(256, 512); 2], &[(256, 511); 2]), Word::Pass, "two a fence, as before");
        let random = [(256, 300), (256, 340), (256, 311), (256, 420), (256, 390)];
        assert_eq!(word(&random, &random), Word::NoVerdict);
        assert_eq!(word(&[(256, 512)], &[(256, 256)]), Word::Pass, "one a fence now");
        assert_eq!(word(&[(256, 512); 5], &[(256, 461); 5]), Word::NoVerdict);
    }

    #[test]
    fn without_a_run_there_is_no_verdict() {
        assert_eq!(word(&[], &[]), Word::NoVerdict);
        assert!(goes_on(&flushed(&[], &[])));
    }
}
