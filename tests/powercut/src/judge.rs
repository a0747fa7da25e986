//! What has to be left of a recording: everything that was claimed, and nothing that nobody wrote.

use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::content::{HEADER, byte, bytes, kept, name, patched, position};
use crate::scenario::{Claim, Scenario, TAKES};

impl Scenario {
    /// Whether everything that was claimed is there. The error says what is not.
    pub(crate) fn judge<'a>(
        &self,
        folder: &Path,
        claims: impl Iterator<Item = &'a str>,
    ) -> anyhow::Result<()> {
        let mut expected: [Expected; TAKES as usize] = Default::default();
        for claim in claims {
            match serde_json::from_str(claim).context("a claim that nobody understands")? {
                Claim::Begun | Claim::Ended => {}
                Claim::Named(take) => expected[take as usize].named = true,
                Claim::Durable(take, position, patches) => {
                    let known = &mut expected[take as usize];
                    known.durable = position.max(known.durable);
                    known.patches_durable = patches.max(known.patches_durable);
                }
                Claim::Patched(take, number, from, len) => {
                    expected[take as usize].patches.push(Patch { number, from, to: from + len });
                }
                Claim::Asked(take, position) => expected[take as usize].asked = position,
                Claim::Checkpoint(take, position) => expected[take as usize].checkpoint = position,
                Claim::Closed(take, length) => expected[take as usize].closed = Some(length),
                Claim::Renaming(take) => expected[take as usize].renaming = true,
                Claim::Renamed(take) => expected[take as usize].renamed = true,
            }
        }
        for (take, expected) in (0..).zip(&expected) {
            self.judge_take(take, expected, folder)
                .with_context(|| format!("{}: {}", name(take), expected.in_words()))?;
        }
        Ok(())
    }

    fn judge_take(&self, take: u64, expected: &Expected, folder: &Path) -> anyhow::Result<()> {
        let file = match (expected.renamed, expected.renaming) {
            (true, _) => kept(take),
            (_, true) if folder.join(kept(take)).exists() => kept(take),
            _ => name(take),
        };
        let content = match std::fs::read(folder.join(&file)) {
            Ok(content) => content,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !expected.named => {
                return Ok(());
            }
            Err(error) => bail!("{file} can't be read: {error}"),
        };
        if let Some(length) = expected.closed {
            let found = content.len() as u64;
            ensure!(found == length, "it is {found} bytes long after the close");
        }
        let content = Found { content: &content, seed: self.seed ^ take, expected };
        content.exact(expected.durable)?;
        content.nothing_strange(expected.durable)?;
        if expected.durable >= HEADER as u64 {
            let found = content.content.first_chunk().and_then(position);
            let described = found.context("its header is damaged")?;
            let least = expected.checkpoint;
            ensure!(described >= least, "its header describes {described}, less than was promised");
            let most = expected.asked.max(least);
            ensure!(described <= most, "its header describes {described}, which nobody wrote");
            content.exact(described).context("what its header describes")?;
        }
        Ok(())
    }
}

/// What has to be there.
#[derive(Clone, Debug, Default)]
struct Expected {
    named: bool,
    durable: u64,
    patches: Vec<Patch>,
    /// So many of them have to show.
    patches_durable: u64,
    asked: u64,
    checkpoint: u64,
    closed: Option<u64>,
    renaming: bool,
    renamed: bool,
}

impl Expected {
    fn in_words(&self) -> String {
        let Self { durable, patches_durable, checkpoint, closed, .. } = self;
        let patches = self.patches.len();
        format!(
            "{durable} bytes are durable, {patches_durable} of {patches} patches, the checkpoint at \
             {checkpoint}; closed with {closed:?}"
        )
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
    seed: u64,
    expected: &'a Expected,
}

impl Found<'_> {
    /// Every byte before `end` is the one that was written, or was put there by a patch; a patch
    /// that has to show leaves nothing that is older.
    fn exact(&self, end: u64) -> anyhow::Result<()> {
        let len = self.content.len() as u64;
        ensure!(len >= end, "{len} bytes are left of {end} durable ones");
        let newest = self.newest(end);
        let wrong = (HEADER..newest.len())
            .filter(|at| self.content[*at] != newest[*at])
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
        let mut newest = bytes(self.seed, 0, end as usize);
        for patch in &self.expected.patches {
            for at in patch.from..patch.to.min(end) {
                newest[at as usize] = patched(self.seed, patch.number, at);
            }
        }
        newest
    }

    /// Behind what is durable there is nothing but later bytes and zeros.
    fn nothing_strange(&self, durable: u64) -> anyhow::Result<()> {
        const STRIDE: usize = 512;
        let least = (durable as usize).max(HEADER);
        let pieces = self.content.chunks(STRIDE).enumerate().skip(least / STRIDE);
        let written = pieces.filter(|(_, piece)| piece.iter().any(|byte| *byte != 0));
        let places = written.flat_map(|(number, piece)| {
            (number * STRIDE..number * STRIDE + piece.len()).filter(|at| *at >= least)
        });
        match { places }.find(|at| self.is_strange(*at as u64, self.content[*at])) {
            Some(at) => bail!(
                "byte {at} behind {durable} durable ones is {}, which nobody wrote",
                self.content[at]
            ),
            None => Ok(()),
        }
    }

    fn is_strange(&self, at: u64, found: u8) -> bool {
        let mut patched = self.over(at).map(|patch| patched(self.seed, patch.number, at));
        found != 0 && found != byte(self.seed, at) && !patched.any(|byte| byte == found)
    }

    fn may_be(&self, at: u64, found: u8) -> bool {
        let mut fine = byte(self.seed, at) == found;
        for patch in self.over(at) {
            let certain = patch.number <= self.expected.patches_durable;
            fine = fine && !certain || patched(self.seed, patch.number, at) == found;
        }
        fine
    }

    fn over(&self, at: u64) -> impl Iterator<Item = &Patch> {
        self.expected.patches.iter().filter(move |patch| (patch.from..patch.to).contains(&at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::header;
    use crate::scenario::{State, Way};

    const SCENARIO: Scenario = Scenario { way: Way::SyncDirect, state: State::Growing, seed: 7 };

    fn judged(content: &[u8], claims: &[Claim]) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("take-0"), content).unwrap();
        let lines: Vec<String> =
            claims.iter().map(|claim| serde_json::to_string(claim).unwrap()).collect();
        SCENARIO
            .judge(folder.path(), lines.iter().map(String::as_str))
            .map_err(|error| format!("{error:#}"))
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
    fn a_name_that_was_promised_has_to_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let content = [&header(0)[..], &bytes(7, 16, 984)].concat();
        std::fs::write(folder.path().join("take-0"), content).unwrap();
        let judged = |claims: &[Claim]| {
            let lines = claims.iter().map(|claim| serde_json::to_string(claim).unwrap());
            let lines: Vec<String> = lines.collect();
            SCENARIO.judge(folder.path(), lines.iter().map(String::as_str))
        };
        let durable = Claim::Durable(0, 1000, 0);
        let named = Claim::Named(0);
        judged(&[named, durable, Claim::Renaming(0)]).unwrap();
        let renamed = [named, durable, Claim::Renaming(0), Claim::Renamed(0)];
        assert!(format!("{:#}", judged(&renamed).unwrap_err()).contains("kept-0 can't be read"));
        let kept = folder.path().join("kept-0");
        std::fs::rename(folder.path().join("take-0"), kept).unwrap();
        judged(&renamed).unwrap();
        judged(&renamed[..3]).unwrap();
        assert!(judged(&renamed[..2]).is_err());
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
