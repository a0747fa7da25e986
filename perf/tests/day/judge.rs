//! Whether what a recorder has left is what its log says, to the frame. Pure.

use std::ops::Range;

/// One recorder, from its start to its death.
#[derive(Clone, Debug)]
pub struct Life {
    /// The numbers of the frames that left the pipe while it lived.
    pub took: Vec<Range<u64>>,
    /// What is left of them, in order.
    pub kept: Vec<Kept>,
    /// Where in its log `kept` begins, in frames.
    pub base: u64,
    /// The losses that its log names: where, and how many frames.
    pub lost: Vec<(u64, u64)>,
    pub end: End,
}

#[derive(Clone, Debug)]
pub enum Kept {
    /// These frames.
    Frames(Range<u64>),
    /// So many of a segment that was not to be kept.
    Removed(u64),
    /// A segment begins that nobody has closed: from the end of the one before it something may be
    /// missing that was not yet written.
    Border,
    /// Segments behind these, which a later recorder removed: what they had is in no log.
    Gone,
}

#[derive(Clone, Debug)]
pub enum End {
    /// By kill -9. What the log has called written is there, and more than fits its memory was not
    /// taken from it.
    Killed { written: u64, memory: u64 },
    /// In good order: every frame that it says to have taken is there, or named as lost.
    Ended { input: u64 },
    /// On a disk that failed: what it has called durable is there.
    Failed { input: u64, durable: u64 },
    /// Before anything was recorded: nothing was taken.
    Refused,
}

/// Frames, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub kept: u64,
    /// As the policy says, and the log.
    pub lost: u64,
    /// With a process that was killed.
    pub killed: u64,
    /// On a disk that failed.
    pub failed: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.kept += more.kept;
        self.lost += more.lost;
        self.killed += more.killed;
        self.failed += more.failed;
    }
}

/// `Err` says what is not as it should be.
pub fn judge(life: &Life) -> Result<Tally, String> {
    let least = match life.end {
        End::Killed { written: least, .. } | End::Failed { durable: least, .. } => least,
        End::Ended { .. } | End::Refused => u64::MAX,
    };
    let took = Took::new(&life.took);
    let mut walk =
        Walk { took, at: life.base, lost: &life.lost, least, is_border: false, missing: 0 };
    let mut tally = Tally { lost: life.lost.iter().map(|lost| lost.1).sum(), ..Tally::default() };
    for kept in &life.kept {
        tally.kept += walk.over(kept)?;
    }
    walk.skip_losses()?;
    check_end(life, walk, &mut tally)?;
    Ok(tally)
}

fn check_end(life: &Life, mut walk: Walk<'_>, tally: &mut Tally) -> Result<(), String> {
    let (at, total) = (walk.at, len(&life.took));
    let said = |input, taken| {
        format!("{taken} frames left the pipe, and the log says that {input} were taken")
    };
    match life.end {
        End::Killed { written, memory } => {
            walk.skip_losses_behind()?;
            tally.killed = walk.took.left() + walk.missing;
            if at < written {
                return Err(format!("frames up to {written} were written, and {at} are there"));
            }
            if tally.killed > memory {
                let killed = tally.killed;
                return Err(format!("a kill took {killed} frames, and {memory} fit the memory"));
            }
        }
        End::Ended { input } | End::Failed { input, .. } if input != total => {
            return Err(said(input, total));
        }
        End::Failed { durable, .. } => {
            walk.skip_losses_behind()?;
            tally.failed = walk.took.left() + walk.missing;
            if at < durable {
                return Err(format!("{durable} frames were called durable, and {at} are there"));
            }
        }
        End::Ended { .. } => {
            if let Some(missing) = walk.took.next() {
                let left = walk.took.left();
                return Err(format!(
                    "frame {missing} and behind it {left} in all were taken: they are neither \
                     in the file nor in the log"
                ));
            }
            if let Some(lost) = walk.lost.first() {
                return Err(format!("the log names a loss {lost:?} behind the end at {at}"));
            }
        }
        End::Refused if total > 0 => return Err(said(0, total)),
        End::Refused => {}
    }
    Ok(())
}

/// Goes along what was taken, what is kept, and the log.
struct Walk<'a> {
    took: Took<'a>,
    at: u64,
    lost: &'a [(u64, u64)],
    /// Up to here everything is there, however it ended.
    least: u64,
    /// What is next begins a segment that nobody has closed.
    is_border: bool,
    /// Missing at such borders.
    missing: u64,
}

impl Walk<'_> {
    fn over(&mut self, kept: &Kept) -> Result<u64, String> {
        let (mut number, count) = match kept {
            Kept::Frames(frames) => (Some(frames.start), frames.end - frames.start),
            Kept::Removed(count) => (None, *count),
            Kept::Border => {
                self.is_border = true;
                return Ok(0);
            }
            Kept::Gone => {
                self.took.skip(u64::MAX);
                (self.at, self.lost) = (u64::MAX, &[]);
                return Ok(0);
            }
        };
        if let (Some(number), true) = (number, std::mem::take(&mut self.is_border)) {
            self.skip_border(number)?;
        }
        let mut left = count;
        while left > 0 {
            self.skip_losses()?;
            let until_loss = self.lost.first().map_or(left, |lost| lost.0 - self.at);
            let step = left.min(until_loss);
            match &mut number {
                Some(number) => {
                    self.expect(*number, step)?;
                    *number += step;
                }
                None => self.skip(step)?,
            }
            self.at += step;
            left -= step;
        }
        Ok(count)
    }

    /// Goes to the first frame of a segment.
    fn skip_border(&mut self, number: u64) -> Result<(), String> {
        let (from, mut gap) = (self.at, self.took.before(number));
        while let Some((&(at, count), rest)) = self.lost.split_first() {
            let step = at.saturating_sub(self.at);
            if step + count > gap {
                break;
            }
            self.skip(step + count)?;
            (self.at, self.lost) = (self.at + step, rest);
            gap -= step + count;
        }
        self.skip(gap)?;
        self.at += gap;
        self.missing += self.at - from;
        if self.at > from && from < self.least {
            return Err(format!("what lies behind {from} is missing before frame {number}"));
        }
        Ok(())
    }

    fn skip_losses(&mut self) -> Result<(), String> {
        while let Some((&(at, count), rest)) = self.lost.split_first() {
            if at > self.at {
                break;
            }
            if at < self.at {
                return Err(format!("the log names a loss at {at} behind one at {}", self.at));
            }
            self.skip(count)?;
            self.lost = rest;
        }
        Ok(())
    }

    /// Of those that lie behind what is left of the file.
    fn skip_losses_behind(&mut self) -> Result<(), String> {
        let count = self.lost.iter().map(|lost| lost.1).sum();
        self.lost = &[];
        self.skip(count)
    }

    fn skip(&mut self, count: u64) -> Result<(), String> {
        let left = self.took.left();
        if count > left {
            return Err(format!(
                "at {} there are {count} frames, kept or lost, where {left} were taken",
                self.at
            ));
        }
        self.took.skip(count);
        Ok(())
    }

    fn expect(&mut self, number: u64, count: u64) -> Result<(), String> {
        let mut done = 0;
        while done < count {
            let Some(taken) = self.took.run() else {
                return Err(format!("frame {} is there, and was not taken", number + done));
            };
            if taken.start != number + done {
                return Err(format!(
                    "frame {} was taken, and in its place, {}, stands frame {}: the log says nothing",
                    taken.start,
                    self.at + done,
                    number + done
                ));
            }
            let step = (taken.end - taken.start).min(count - done);
            self.took.skip(step);
            done += step;
        }
        Ok(())
    }
}

/// Numbers of frames, as they were taken.
struct Took<'a> {
    runs: &'a [Range<u64>],
    /// Of the first run.
    done: u64,
}

impl<'a> Took<'a> {
    fn new(runs: &'a [Range<u64>]) -> Self {
        Self { runs, done: 0 }
    }

    fn run(&mut self) -> Option<Range<u64>> {
        let first = self.runs.first()?;
        Some(first.start + self.done..first.end)
    }

    fn next(&mut self) -> Option<u64> {
        Some(self.run()?.start)
    }

    /// How many come before this one.
    fn before(&self, number: u64) -> u64 {
        len(&part(self.runs, &(0..number))).saturating_sub(self.done)
    }

    fn left(&self) -> u64 {
        len(self.runs) - self.done
    }

    fn skip(&mut self, mut count: u64) {
        while let (Some(run), 1..) = (self.run(), count) {
            let step = (run.end - run.start).min(count);
            count -= step;
            self.done += step;
            if run.start + step == run.end {
                (self.runs, self.done) = (&self.runs[1..], 0);
            }
        }
    }
}

pub fn len(runs: &[Range<u64>]) -> u64 {
    runs.iter().map(|run| run.end - run.start).sum()
}

/// The part of `runs`, which are in order, that lies in `within`.
pub fn part(runs: &[Range<u64>], within: &Range<u64>) -> Vec<Range<u64>> {
    let part = runs.iter().map(|run| run.start.max(within.start)..run.end.min(within.end));
    part.filter(|run| run.start < run.end).collect()
}

/// The part of `whole` that none of `runs` has, which are in order.
pub fn without(whole: &Range<u64>, runs: &[Range<u64>]) -> Vec<Range<u64>> {
    let (mut left, mut from) = (Vec::new(), whole.start);
    for run in part(runs, whole) {
        left.push(from..run.start);
        from = run.end;
    }
    left.push(from..whole.end);
    left.retain(|run| run.start < run.end);
    left
}

/// Whether no frame stands there twice, or behind a later one.
pub fn check_order(runs: &[Range<u64>]) -> Result<(), String> {
    match runs.windows(2).find(|pair| pair[1].start < pair[0].end) {
        Some(pair) => {
            let (last, next) = (pair[0].end - 1, pair[1].start);
            Err(format!("frame {next} stands behind frame {last}"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // runs of numbers, of which there may be one
mod tests {
    use super::*;

    fn life(kept: &[Range<u64>], lost: &[(u64, u64)], end: End) -> Life {
        Life {
            took: vec![100..150, 160..200],
            kept: kept.iter().cloned().map(Kept::Frames).collect(),
            base: 1000,
            lost: lost.to_vec(),
            end,
        }
    }

    fn ended(kept: &[Range<u64>], lost: &[(u64, u64)]) -> Result<Tally, String> {
        judge(&life(kept, lost, End::Ended { input: 90 }))
    }

    #[track_caller]
    fn assert_red(judged: Result<Tally, String>, words: &str) {
        let said = judged.unwrap_err();
        assert!(said.contains(words), "no '{words}' in: {said}");
    }

    #[test]
    fn everything_is_there_or_named() {
        let tally = Tally { kept: 90, ..Tally::default() };
        assert_eq!(ended(&[100..150, 160..200], &[]), Ok(tally));
        let tally = Tally { kept: 80, lost: 10, ..tally };
        assert_eq!(ended(&[100..120, 130..150, 160..200], &[(1020, 10)]), Ok(tally));
        // Across what never came in, and at both ends.
        assert_eq!(ended(&[100..145, 165..200], &[(1045, 10)]), Ok(tally));
        assert_eq!(ended(&[105..150, 160..195], &[(1000, 5), (1080, 5)]), Ok(tally));
        assert_eq!(ended(&[100..150, 160..190], &[(1080, 4), (1080, 6)]), Ok(tally));
    }

    #[test]
    fn what_nobody_names_is_seen() {
        assert_red(ended(&[100..120, 121..150, 160..200], &[]), "frame 120 was taken");
        assert_red(ended(&[100..150, 160..199], &[]), "frame 199 and behind it 1");
        assert_red(ended(&[101..150, 160..200], &[]), "frame 100 was taken");
        // A loss that was none, or of another length, or in another place.
        assert_red(ended(&[100..150, 160..200], &[(1010, 1)]), "frame 111 was taken");
        assert_red(ended(&[100..120, 130..150, 160..200], &[(1020, 9)]), "frame 129 was taken");
        assert_red(ended(&[100..120, 130..150, 160..200], &[(1021, 10)]), "frame 120 was taken");
        assert_red(ended(&[100..150, 160..200], &[(1095, 1)]), "behind the end");
        // What never came.
        assert_red(ended(&[100..151, 160..200], &[]), "frame 160 was taken");
        assert_red(ended(&[100..150, 160..201], &[]), "frame 200 is there");
        assert_red(judge(&life(&[], &[], End::Ended { input: 89 })), "89 were taken");
        assert_red(judge(&life(&[], &[], End::Refused)), "0 were taken");
    }

    #[test]
    fn a_kill_takes_no_more_than_memory_holds_and_nothing_written() {
        let killed =
            |kept, written| judge(&life(&[100..kept], &[], End::Killed { written, memory: 60 }));
        assert_eq!(killed(130, 1030).unwrap().killed, 60);
        assert_red(killed(130, 1031), "up to 1031 were written");
        assert_red(killed(129, 1000), "a kill took 61");
        let hole = life(&[100..110, 111..140], &[], End::Killed { written: 0, memory: 60 });
        assert_red(judge(&hole), "frame 110 was taken");
        let lost = life(&[100..130], &[(1035, 5)], End::Killed { written: 0, memory: 60 });
        assert_eq!(judge(&lost).unwrap().killed, 55);
    }

    #[test]
    fn a_failure_keeps_what_it_calls_durable() {
        let failed = |durable| judge(&life(&[100..130], &[], End::Failed { input: 90, durable }));
        assert_eq!(failed(1030).unwrap().failed, 60);
        assert_red(failed(1031), "1031 frames were called durable");
    }

    #[test]
    fn a_removed_segment_counts_what_it_had() {
        let mut life = life(&[130..150, 160..200], &[(1010, 10)], End::Ended { input: 90 });
        life.kept.insert(0, Kept::Removed(20));
        assert_eq!(judge(&life).unwrap().lost, 10);
        life.kept[0] = Kept::Removed(19);
        assert_red(judge(&life), "frame 129 was taken");
        life.kept = vec![Kept::Removed(20), Kept::Gone];
        life.end = End::Killed { written: 1090, memory: 0 };
        assert_eq!(judge(&life).unwrap().kept, 20);
    }

    #[test]
    fn what_was_not_written_may_be_missing_before_a_segment_that_nobody_closed() {
        let with = |written, lost: &[(u64, u64)]| {
            let end = End::Killed { written, memory: 65 };
            let mut life = life(&[100..120, 165..170], lost, end);
            life.kept.insert(1, Kept::Border);
            judge(&life)
        };
        assert_eq!(with(1020, &[]).unwrap().killed, 35 + 30);
        assert_eq!(with(1020, &[(1030, 5)]).unwrap().killed, 30 + 30);
        assert_red(with(1021, &[]), "behind 1020 is missing");
        // Behind the gap the log's positions are right again.
        assert_red(with(1020, &[(1056, 1)]), "frame 167 was taken");
    }

    #[test]
    fn parts_of_runs() {
        assert_eq!(without(&(10..50), &[0..12, 20..21, 49..60]), [12..20, 21..49]);
        assert_eq!(without(&(10..50), &[]), [10..50]);
        assert_eq!(part(&[0..12, 20..21], &(10..20)), [10..12]);
        assert!(check_order(&[0..10, 9..12]).is_err() && check_order(&[0..10, 11..12]).is_ok());
    }
}
