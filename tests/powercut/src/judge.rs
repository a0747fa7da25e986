//! What has to be left of a recording: everything that was claimed, and nothing that nobody wrote.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::claims::Claim;
use crate::content::{HEADER, byte, kept, name, old, patched, pattern, position, segment};
use crate::messages;
use crate::scenario::{Mode, Plan, Scenario, Space, TAKES};

/// What lies where in the files, whenever the power goes.
#[derive(Debug)]
pub(crate) struct Facts {
    scenario: Scenario,
    takes: [Truth; TAKES as usize],
}

/// The bytes of one file, patches aside.
#[derive(Debug, Default)]
struct Truth {
    seed: u64,
    /// What was in it before.
    old: Vec<u8>,
    /// What is in it in the end; empty if nobody knows where that is.
    new: Vec<u8>,
    end: Option<u64>,
    /// Where its segments begin, if it has any.
    begins: Vec<u64>,
}

impl Facts {
    /// From the claims of a whole recording.
    pub(crate) fn new<'a>(
        scenario: Scenario,
        claims: impl Iterator<Item = &'a str> + Clone,
    ) -> anyhow::Result<Self> {
        let mut takes: [Truth; TAKES as usize] = Default::default();
        for (take, (truth, plan)) in (0..).zip(takes.iter_mut().zip(&scenario.takes)) {
            truth.seed = scenario.seed_of(take);
            truth.old = old(truth.seed, plan.old);
        }
        for claim in claims.clone() {
            if let Claim::End(take, end) = parsed(claim)? {
                let (truth, start) =
                    (&mut takes[take as usize], scenario.takes[take as usize].start());
                truth.end = Some(end);
                truth.new = (0..end).map(|at| byte(truth.seed, at)).collect();
                truth.new[..start as usize].copy_from_slice(&truth.old[..start as usize]);
            }
        }
        for claim in claims.clone() {
            if let Claim::Begins(take, position) = parsed(claim)? {
                takes[take as usize].begins.push(position);
            }
        }
        for claim in claims {
            if let Claim::Lies(take, from, len, salt) = parsed(claim)? {
                let new = &mut takes[take as usize].new;
                // A disk that was full may have taken a part of the last one, or nothing.
                let limit = if scenario.space == Space::RunsOut { new.len() } else { usize::MAX };
                let [from, end] = [from, from + len].map(|at| limit.min(at as usize));
                let place = new.get_mut(from..end).context("a record behind the end")?;
                for (at, found) in (0..).zip(place) {
                    *found = if salt == 0 { 0 } else { byte(salt, at) };
                }
            }
        }
        Ok(Self { scenario, takes })
    }

    /// Whether everything is there that was claimed before the power went. The error says what is
    /// not.
    pub(crate) fn judge<'a>(
        &self,
        folder: &Path,
        claims: impl Iterator<Item = &'a str>,
    ) -> anyhow::Result<()> {
        let mut expected = self.scenario.takes.map(Expected::before);
        for claim in claims {
            let claim = parsed(claim)?;
            if let Some(take) = claim.take() {
                expected[take as usize].hear(claim);
            }
        }
        for (take, expected) in (0..).zip(&expected) {
            self.judge_take(take, expected, folder)
                .with_context(|| format!("{}: {}", name(take), expected.in_words()))?;
        }
        Ok(())
    }

    fn judge_take(&self, take: u64, expected: &Expected, folder: &Path) -> anyhow::Result<()> {
        if expected.plan.frames {
            return self.judge_messages(take, expected, folder);
        }
        if expected.plan.rotates {
            return self.judge_segments(take, expected, folder);
        }
        let places = expected.places(take);
        let there: Vec<&PathBuf> =
            places.iter().filter(|place| folder.join(place).exists()).collect();
        ensure!(there.len() <= 1, "it is there under several names: {there:?}");
        let Some(file) = there.first() else {
            ensure!(!expected.named, "it is nowhere: {places:?}");
            return Ok(());
        };
        let content = std::fs::read(folder.join(file));
        let content = content.with_context(|| format!("{} can't be read", file.display()))?;
        Found { content: &content, truth: &self.takes[take as usize], expected }.judge()
    }
}

impl Facts {
    fn judge_messages(&self, take: u64, expected: &Expected, folder: &Path) -> anyhow::Result<()> {
        let recycles = expected.plan.recycles;
        let is_there = recycles || folder.join(segment(take, 1)).exists();
        ensure!(is_there || !expected.named, "its first segment is gone");
        let (pattern, seed) = (folder.join(pattern(take)), self.takes[take as usize].seed);
        if expected.plan.old > 0 {
            messages::judge_tail(folder, seed)?;
        }
        messages::judge(&pattern, seed, expected.durable, expected.closed, recycles)
    }

    /// As one file, in which each segment lies where it begins. What is missing reads as zeros, which
    /// no recording has.
    fn judge_segments(&self, take: u64, expected: &Expected, folder: &Path) -> anyhow::Result<()> {
        let truth = &self.takes[take as usize];
        let mut content = Vec::new();
        for (number, begins) in (1..).zip(&truth.begins) {
            let file = match std::fs::read(folder.join(segment(take, number))) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    ensure!(number > 1 || !expected.named, "its first segment is gone");
                    continue;
                }
                file => file.with_context(|| format!("segment {number} can't be read"))?,
            };
            let next = truth.begins.get(number).map(|next| (next - begins) as usize);
            let (data, behind) = file.split_at(next.map_or(file.len(), |len| len.min(file.len())));
            ensure!(
                behind.iter().all(|byte| *byte == 0),
                "segment {number} goes on behind its end"
            );
            content.resize(content.len().max(*begins as usize), 0);
            content.truncate(*begins as usize);
            content.extend(data);
        }
        Found { content: &content, truth, expected }.judge()
    }
}

fn parsed(claim: &str) -> anyhow::Result<Claim> {
    serde_json::from_str(claim).context("a claim that nobody understands")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renaming {
    NotYet,
    Begun,
    Done,
}

/// What has to be there.
#[derive(Clone, Debug)]
struct Expected {
    plan: Plan,
    /// It has a name that survives.
    named: bool,
    /// It is open: what `create` empties is empty.
    opened: bool,
    durable: u64,
    patches: Vec<Patch>,
    /// So many of them have to show.
    patches_durable: u64,
    asked: u64,
    checkpoint: u64,
    closed: Option<u64>,
    renamed: Renaming,
    /// Its directory may be where it is moved to.
    moved: bool,
}

impl Expected {
    /// Before anything was claimed: what was in the file is as durable as it will be.
    fn before(plan: Plan) -> Self {
        let durable = if plan.frames { plan.old } else { plan.start() };
        Self {
            plan,
            named: plan.old > 0,
            opened: false,
            durable,
            patches: Vec::new(),
            patches_durable: 0,
            asked: 0,
            checkpoint: 0,
            closed: None,
            renamed: Renaming::NotYet,
            moved: false,
        }
    }

    /// Where it may be found: nobody makes the new name of a directory durable.
    fn places(&self, take: u64) -> Vec<PathBuf> {
        let names = match self.renamed {
            Renaming::Done => vec![kept(take)],
            Renaming::Begun => vec![kept(take), name(take)],
            Renaming::NotYet => vec![name(take)],
        };
        let [before, after] = self.plan.folder.places(take);
        let folders = if self.moved { vec![before, after] } else { vec![before] };
        folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name))).collect()
    }

    fn hear(&mut self, claim: Claim) {
        match claim {
            Claim::Named(_) => (self.named, self.opened) = (true, true),
            Claim::Durable(_, position, patches) => {
                self.durable = position.max(self.durable);
                self.patches_durable = patches.max(self.patches_durable);
            }
            Claim::Patched(_, number, from, len) => {
                self.patches.push(Patch { number, from, to: from + len });
            }
            Claim::Asked(_, position) => self.asked = position,
            Claim::Checkpoint(_, position) => self.checkpoint = position,
            Claim::Closed(_, length) => self.closed = Some(length),
            Claim::Moving(_) => self.moved = true,
            Claim::Renaming(_) => self.renamed = Renaming::Begun,
            Claim::Renamed(_) => self.renamed = Renaming::Done,
            Claim::Begun | Claim::Ended | Claim::Full | Claim::Lies(..) | Claim::End(..) => {}
            Claim::Begins(..) => {}
        }
    }

    fn in_words(&self) -> String {
        let Self { plan, durable, patches_durable, checkpoint, closed, .. } = self;
        let patches = self.patches.len();
        format!(
            "{plan:?}: {durable} bytes are durable, {patches_durable} of {patches} patches, the \
             checkpoint at {checkpoint}; closed with {closed:?}"
        )
    }

    fn over(&self, at: u64) -> impl Iterator<Item = &Patch> {
        self.patches.iter().filter(move |patch| (patch.from..patch.to).contains(&at))
    }
}

/// Bytes that were, or may have been, overwritten.
#[derive(Clone, Copy, Debug)]
struct Patch {
    number: u64,
    from: u64,
    to: u64,
}

/// What is there.
struct Found<'a> {
    content: &'a [u8],
    truth: &'a Truth,
    expected: &'a Expected,
}

impl Found<'_> {
    fn judge(&self) -> anyhow::Result<()> {
        let Expected { plan, durable, closed, .. } = self.expected;
        let len = self.content.len() as u64;
        if let Some(length) = closed {
            ensure!(len == *length, "it is {len} bytes long after the close");
        }
        if plan.is_recycled() {
            ensure!(len >= plan.old, "it is {len} bytes long, and had {}", plan.old);
        }
        if plan.mode == Mode::CreateOver && !self.expected.opened && self.is_untouched() {
            return Ok(());
        }
        self.exact(*durable)?;
        self.nothing_strange(*durable)?;
        if plan.has_header() { self.header(*durable) } else { Ok(()) }
    }

    /// An open that is under way has emptied nothing yet.
    fn is_untouched(&self) -> bool {
        let behind = self.content.strip_prefix(&self.truth.old[..]);
        behind.is_some_and(|behind| behind.iter().all(|byte| *byte == 0))
    }

    fn header(&self, durable: u64) -> anyhow::Result<()> {
        let place = self.header_at();
        if durable < place.end as u64 {
            return Ok(());
        }
        let described = self.content[place].first_chunk().and_then(position);
        let described = described.context("its header is damaged")?;
        let least = self.expected.checkpoint;
        ensure!(described >= least, "its header describes {described}, less than was promised");
        let most = self.expected.asked.max(least);
        ensure!(described <= most, "its header describes {described}, which nobody wrote");
        self.exact(described).context("what its header describes")
    }

    /// Where it has one: nowhere, if it has none.
    fn header_at(&self) -> std::ops::Range<usize> {
        let start = self.expected.plan.start() as usize;
        start..start + if self.expected.plan.has_header() { HEADER } else { 0 }
    }

    /// Every byte before `end` is the one that was written, or was put there by a patch; a patch
    /// that has to show leaves nothing that is older.
    fn exact(&self, end: u64) -> anyhow::Result<()> {
        let len = self.content.len() as u64;
        ensure!(len >= end, "{len} bytes are left of {end} durable ones");
        let newest = self.newest(end);
        let header = self.header_at();
        let wrong = differences(&self.content[..newest.len()], &newest)
            .filter(|at| !header.contains(at))
            .find(|at| !self.may_be(*at as u64, self.content[*at]));
        match wrong {
            Some(at) => {
                bail!("byte {at} of {end} durable ones is lost (it reads {})", self.content[at])
            }
            None => Ok(()),
        }
    }

    /// The bytes before `end` if every patch shows.
    fn newest(&self, end: u64) -> Vec<u8> {
        let mut newest: Vec<u8> = match self.truth.new.get(..end as usize) {
            Some(known) => known.into(),
            None => (0..end).map(|at| self.written(at).unwrap_or(0)).collect(),
        };
        for patch in &self.expected.patches {
            for at in patch.from..patch.to.min(end) {
                newest[at as usize] = patched(self.truth.seed, patch.number, at);
            }
        }
        newest
    }

    /// The byte that was ever written to a place, patches aside.
    fn written(&self, at: u64) -> Option<u8> {
        let truth = self.truth;
        match truth.new.get(at as usize) {
            Some(known) => Some(*known),
            None if at < self.expected.plan.start() => truth.old.get(at as usize).copied(),
            None => truth.end.is_none().then(|| byte(truth.seed, at)),
        }
    }

    /// Behind what is durable there are later bytes, those that a recycled file held, zeros where it
    /// held none, and nothing else.
    fn nothing_strange(&self, durable: u64) -> anyhow::Result<()> {
        const STRIDE: usize = 512;
        let (old, header) = (self.old(), self.header_at());
        for at in (durable as usize / STRIDE * STRIDE..self.content.len()).step_by(STRIDE) {
            let piece = &self.content[at..self.content.len().min(at + STRIDE)];
            let is_old = old.get(at..).is_some_and(|old| old.starts_with(piece));
            if is_old || at >= old.len() && piece.iter().all(|byte| *byte == 0) {
                continue;
            }
            let places = (at..at + piece.len()).filter(|at| *at as u64 >= durable);
            let strange = |at: &usize| self.is_strange(*at, self.content[*at]);
            if let Some(at) = places.filter(|at| !header.contains(at)).find(strange) {
                let found = self.content[at];
                bail!("byte {at} behind {durable} durable ones is {found}, which nobody wrote")
            }
        }
        Ok(())
    }

    /// What shows where nothing has been written yet.
    fn old(&self) -> &[u8] {
        if self.expected.plan.is_recycled() { &self.truth.old } else { &[] }
    }

    fn is_strange(&self, at: usize, found: u8) -> bool {
        let before = self.old().get(at).copied().unwrap_or(0);
        let at = at as u64;
        let mut over = self.expected.over(at);
        found != before
            && self.written(at) != Some(found)
            && !over.any(|patch| patched(self.truth.seed, patch.number, at) == found)
    }

    fn may_be(&self, at: u64, found: u8) -> bool {
        let mut fine = self.written(at) == Some(found);
        for patch in self.expected.over(at) {
            let certain = patch.number <= self.expected.patches_durable;
            fine = fine && !certain || patched(self.truth.seed, patch.number, at) == found;
        }
        fine
    }
}

/// Where two strings of the same length are not the same: most of the time nowhere.
fn differences(found: &[u8], known: &[u8]) -> impl Iterator<Item = usize> {
    const STRIDE: usize = 4096;
    let pieces = found.chunks(STRIDE).zip(known.chunks(STRIDE)).enumerate();
    pieces.filter(|(_, (found, known))| found != known).flat_map(|(number, (found, known))| {
        let places =
            found.iter().zip(known).enumerate().filter(|(_, (found, known))| found != known);
        places.map(move |(at, _)| number * STRIDE + at)
    })
}

impl Claim {
    /// The file that it is about.
    fn take(&self) -> Option<u64> {
        match *self {
            Self::Begun | Self::Ended | Self::Full => None,
            Self::Named(take)
            | Self::Durable(take, ..)
            | Self::Patched(take, ..)
            | Self::Asked(take, _)
            | Self::Checkpoint(take, _)
            | Self::Closed(take, _)
            | Self::Moving(take)
            | Self::Renaming(take)
            | Self::Renamed(take)
            | Self::Lies(take, ..)
            | Self::Begins(take, _)
            | Self::End(take, _) => Some(take),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{bytes, header, salt};
    use crate::medium::FileSystem;
    use crate::scenario::{Face, Folder, State, Way};

    /// Both files in one state, which had so many bytes before.
    fn scenario(mode: Mode, face: Face, old: u64) -> Scenario {
        let mut scenario = Scenario::simple(FileSystem::Ext4, Way::SyncDirect, State::Growing, 7);
        scenario.takes.iter_mut().for_each(|plan| {
            *plan = Plan { mode, face, old, ..*plan };
        });
        scenario
    }

    /// What is found wrong in the first file with this content; the second is as it was.
    fn judged_in(
        scenario: Scenario,
        content: &[u8],
        claims: &[Claim],
        facts: &[Claim],
    ) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("take-0"), content).unwrap();
        if scenario.takes[1].old > 0 {
            let other = old(scenario.seed_of(1), scenario.takes[1].old);
            std::fs::write(folder.path().join("take-1"), other).unwrap();
        }
        judged_at(scenario, folder.path(), claims, facts)
    }

    fn judged_at(
        scenario: Scenario,
        folder: &Path,
        claims: &[Claim],
        facts: &[Claim],
    ) -> Result<(), String> {
        let lines = |claims: &[Claim]| -> Vec<String> {
            claims.iter().map(|claim| serde_json::to_string(claim).unwrap()).collect()
        };
        let (facts, lines) = (lines(&[claims, facts].concat()), lines(claims));
        let facts = Facts::new(scenario, facts.iter().map(String::as_str)).unwrap();
        facts.judge(folder, lines.iter().map(String::as_str)).map_err(|error| format!("{error:#}"))
    }

    fn judged(content: &[u8], claims: &[Claim]) -> Result<(), String> {
        judged_in(scenario(Mode::Create, Face::Exclusive, 0), content, claims, &[])
    }

    #[test]
    fn the_judge_accepts_what_was_claimed_and_misses_nothing() {
        let mut content = [&header(0)[..], &bytes(7, 16, 984)].concat();
        let claims = [Claim::Begun, Claim::Named(0), Claim::Durable(0, 1000, 0)];
        judged(&content, &claims).unwrap();
        // A zero behind what is durable is nobody's business, another byte is.
        content.push(0);
        judged(&content, &claims).unwrap();
        content[1000] = byte(7, 1000) ^ 1;
        assert!(judged(&content, &claims).unwrap_err().contains("byte 1000 behind 1000"));
        content.truncate(999);
        assert!(judged(&content, &claims).unwrap_err().contains("999 bytes are left"));
        content.push(0);
        assert!(judged(&content, &claims).unwrap_err().contains("byte 999"));

        content[..16].copy_from_slice(&header(500));
        let with = |content: &[u8], claim| judged(content, &[Claim::Durable(0, 900, 0), claim]);
        let refused = |claim| with(&content, claim).unwrap_err();
        with(&content, Claim::Asked(0, 500)).unwrap();
        assert!(refused(Claim::Named(0)).contains("nobody wrote"));
        assert!(refused(Claim::Checkpoint(0, 600)).contains("less than"));
        assert!(refused(Claim::Closed(0, 1001)).contains("1000 bytes long"));
        content[3] ^= 1;
        assert!(with(&content, Claim::Asked(0, 500)).unwrap_err().contains("damaged"));
        assert!(judged(&[], &[Claim::Named(1)]).unwrap_err().contains("take-1"));
    }

    #[test]
    fn a_recycled_file_keeps_every_old_byte_that_nothing_was_written_over() {
        let (old, new) = (old(7, 3000), [&header(0)[..], &bytes(7, 16, 1984)].concat());
        let claims = [Claim::Named(0), Claim::Durable(0, 1000, 0)];
        let judged = |content: &[u8]| {
            let recycled = scenario(Mode::Open, Face::Exclusive, 3000);
            judged_in(recycled, content, &claims, &[Claim::End(0, 2000)])
        };
        let mut content = [&new[..1000], &old[1000..]].concat();
        judged(&content).unwrap();
        content[1000..1700].copy_from_slice(&new[1000..1700]); // later bytes
        judged(&content).unwrap();
        for at in [1700, 1999, 2000, 2999] {
            let mut zeroed = content.clone();
            zeroed[at] = 0;
            assert!(judged(&zeroed).unwrap_err().contains(&format!("byte {at} behind")));
        }
        content[2000] = byte(7, 2000); // nobody ever wrote so far
        assert!(judged(&content).unwrap_err().contains("byte 2000 behind"));
        content.truncate(2999);
        assert!(judged(&content).unwrap_err().contains("2999 bytes long, and had 3000"));
        // Behind its old end it grows like any other.
        content = [&new[..1000], &old[1000..], &[0; 100]].concat();
        judged(&content).unwrap();
        content.push(old[0]);
        assert!(judged(&content).unwrap_err().contains("byte 3100 behind"));
    }

    #[test]
    fn what_was_there_before_an_append_is_durable_before_anything_is() {
        let append = scenario(Mode::Append, Face::Exclusive, 700);
        let before = old(7, 700);
        let judged = |content: &[u8], claims: &[Claim]| judged_in(append, content, claims, &[]);
        judged(&before, &[]).unwrap();
        assert!(judged(&before[..699], &[]).unwrap_err().contains("699 bytes are left"));
        let mut content = [&before[..], &header(0), &bytes(7, 716, 84)].concat();
        let claims = [Claim::Named(0), Claim::Durable(0, 800, 0)];
        judged(&content, &claims).unwrap();
        // The block that old and new bytes share.
        content[699] = 0;
        assert!(judged(&content, &claims).unwrap_err().contains("byte 699 of"));
        assert!(judged(&content, &[]).unwrap_err().contains("byte 699 of"));
    }

    #[test]
    fn what_create_empties_is_whole_or_gone_and_gone_once_it_is_open() {
        let over = scenario(Mode::CreateOver, Face::Exclusive, 900);
        let before = old(7, 900);
        let judged = |content: &[u8], claims: &[Claim]| judged_in(over, content, claims, &[]);
        let reserved = [&before[..], &[0; 100]].concat();
        for content in [&before[..], &reserved, &[], &[0; 50]] {
            judged(content, &[]).unwrap();
        }
        assert!(judged(&before[..899], &[]).unwrap_err().contains("byte 16 behind"));
        assert!(judged(&before, &[Claim::Named(0)]).unwrap_err().contains("byte 16 behind"));
        judged(&[], &[Claim::Named(0)]).unwrap();
    }

    #[test]
    fn records_of_several_producers_and_gaps_lie_where_the_whole_recording_says() {
        let threads = scenario(Mode::Create, Face::Threads, 0);
        let salt = salt(7, 1, 3);
        let content = [&header(0)[..], &bytes(salt, 0, 100), &[0; 50], &bytes(7, 166, 34)].concat();
        let claims = [Claim::Named(0), Claim::Durable(0, 200, 0)];
        let facts = [Claim::Lies(0, 16, 100, salt), Claim::Lies(0, 116, 50, 0), Claim::End(0, 200)];
        judged_in(threads, &content, &claims, &facts).unwrap();
        for at in [16, 115, 116, 165, 166] {
            let mut damaged = content.clone();
            damaged[at] ^= 1;
            let wrong = judged_in(threads, &damaged, &claims, &facts).unwrap_err();
            assert!(wrong.contains(&format!("byte {at} of")), "{wrong}");
        }
    }

    #[test]
    fn a_name_that_was_promised_has_to_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let content = [&header(0)[..], &bytes(7, 16, 984)].concat();
        std::fs::write(folder.path().join("take-0"), content).unwrap();
        let create = scenario(Mode::Create, Face::Exclusive, 0);
        let judged = |claims: &[Claim]| judged_at(create, folder.path(), claims, &[]);
        let durable = Claim::Durable(0, 1000, 0);
        let named = Claim::Named(0);
        judged(&[named, durable, Claim::Renaming(0)]).unwrap();
        let renamed = [named, durable, Claim::Renaming(0), Claim::Renamed(0)];
        assert!(judged(&renamed).unwrap_err().contains("nowhere"));
        let kept = folder.path().join("kept-0");
        std::fs::rename(folder.path().join("take-0"), kept).unwrap();
        judged(&renamed).unwrap();
        judged(&renamed[..3]).unwrap();
        assert!(judged(&renamed[..2]).is_err());
    }

    #[test]
    fn a_file_whose_directory_moves_is_in_one_place_or_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut moved = scenario(Mode::Create, Face::Exclusive, 0);
        moved.takes[0].folder = Folder::Moved;
        let [before, after] = Folder::Moved.places(0).map(|place| folder.path().join(place));
        let judged = |claims: &[Claim]| judged_at(moved, folder.path(), claims, &[]);
        let claims = [Claim::Named(0), Claim::Durable(0, 1000, 0), Claim::Moving(0)];
        assert!(judged(&claims).unwrap_err().contains("nowhere"));
        std::fs::create_dir_all(&before).unwrap();
        std::fs::write(before.join("take-0"), [&header(0)[..], &bytes(7, 16, 984)].concat())
            .unwrap();
        judged(&claims).unwrap();
        std::fs::create_dir_all(&after).unwrap();
        std::fs::copy(before.join("take-0"), after.join("take-0")).unwrap();
        assert!(judged(&claims).unwrap_err().contains("under several names"));
        std::fs::remove_file(before.join("take-0")).unwrap();
        judged(&claims).unwrap();
        assert!(judged(&claims[..2]).unwrap_err().contains("nowhere"));
    }

    #[test]
    fn a_record_that_a_full_disk_has_taken_in_part_ends_with_the_file() {
        let mut full = scenario(Mode::Create, Face::Seeks, 0);
        let content = [&header(0)[..], &bytes(7, 16, 84), &[0; 20]].concat();
        let claims = [Claim::Named(0), Claim::Durable(0, 120, 0)];
        let facts = [Claim::Lies(0, 100, 50, 0), Claim::Lies(0, 300, 5, 0), Claim::End(0, 120)];
        full.space = Space::RunsOut;
        judged_in(full, &content, &claims, &facts).unwrap();
        assert!(judged_in(full, &content[..119], &claims, &facts).is_err());
    }

    #[test]
    fn a_patch_that_was_fenced_has_to_show_and_another_may() {
        let mut content = [&header(0)[..], &bytes(7, 16, 984)].concat();
        let asked = [Claim::Patched(0, 1, 100, 50), Claim::Durable(0, 1000, 0)];
        let fenced = [Claim::Patched(0, 1, 100, 50), Claim::Durable(0, 1000, 1)];
        judged(&content, &asked).unwrap();
        assert!(judged(&content, &fenced).unwrap_err().contains("byte 100 of"));
        (100..149).for_each(|at| content[at] = patched(7, 1, at as u64));
        judged(&content, &asked).unwrap(); // torn
        assert!(judged(&content, &fenced).unwrap_err().contains("byte 149 of"));
        content[149] = patched(7, 1, 149);
        judged(&content, &fenced).unwrap();
        assert!(judged(&content, &fenced[1..]).unwrap_err().contains("byte 100 of"));
    }
}
