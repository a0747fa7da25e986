//! What is recorded, and what has to be left of it: the program under test, and its judge.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use crate::content::{HEADER, byte, bytes, header, name, position};
use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use writeflush::{BackendChoice, Direct, Drive, FenceForm, Options, Preallocate, Ticket, Writer};

/// How the writer is set up.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    UringDsync,
    UringLink,
    UringFlush,
    UringPageCache,
    SyncDirect,
    SyncPageCache,
}

/// The file before the recording.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    Growing,
    Reserved,
    Written,
}

impl Way {
    pub(crate) const ALL: [Self; 6] = [
        Self::UringDsync,
        Self::UringLink,
        Self::UringFlush,
        Self::UringPageCache,
        Self::SyncDirect,
        Self::SyncPageCache,
    ];

    pub(crate) fn options(self) -> Options {
        let options = Options::new();
        let uring = |form| Options::new().backend(BackendChoice::Uring).fence_form(form);
        match self {
            Self::UringDsync => uring(FenceForm::Dsync).direct(Direct::On),
            Self::UringLink => uring(FenceForm::Link).direct(Direct::On),
            Self::UringFlush => uring(FenceForm::Flush).direct(Direct::On),
            Self::UringPageCache => uring(FenceForm::Auto).direct(Direct::Off),
            Self::SyncDirect => options.backend(BackendChoice::Sync).direct(Direct::On),
            Self::SyncPageCache => options.backend(BackendChoice::Sync).direct(Direct::Off),
        }
    }
}

impl State {
    pub(crate) const ALL: [Self; 3] = [Self::Growing, Self::Reserved, Self::Written];
}

/// One recording: everything about it follows from these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scenario {
    pub(crate) way: Way,
    pub(crate) state: State,
    pub(crate) seed: u64,
}

/// Files are short: to read them again is what a check costs.
const RESERVED: u64 = 1 << 20;
const STEPS: usize = 60;
const LONGEST: usize = 24_000;
/// Files of one recording, one after the other.
const TAKES: u64 = 2;

// ---- the program under test -------------------------------------------------------------------------

/// Claims, in the order of the disk.
#[derive(Debug)]
pub(crate) struct Claims(File);

impl Claims {
    pub(crate) fn at(path: &Path) -> anyhow::Result<Self> {
        Ok(Self(File::options().write(true).open(path).context("no place for claims")?))
    }

    pub(crate) fn say(&mut self, claim: Claim) -> anyhow::Result<()> {
        let line = serde_json::to_string(&claim)?;
        self.0.write_all(line.as_bytes()).context("the disk took no claim")
    }
}

/// What the program under test says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Claim {
    /// Everything before is preparation.
    Begun,
    /// The file is open: its name survives.
    Named(u64),
    Durable(u64, u64),
    /// A checkpoint is asked for, and perhaps through.
    Asked(u64, u64),
    Checkpoint(u64, u64),
    /// The file is closed, and so long.
    Closed(u64, u64),
    Ended,
}

impl Scenario {
    /// Records, and claims what it knows.
    pub(crate) fn work(&self, folder: &Path, claims: &Path) -> anyhow::Result<()> {
        let mut claims = Claims::at(claims)?;
        let mut random = fastrand::Rng::with_seed(self.seed);
        if self.state == State::Written {
            for take in 0..TAKES {
                let path = folder.join(name(take));
                std::fs::write(&path, vec![0; RESERVED as usize])?;
                File::open(&path)?.sync_all()?;
            }
        }
        File::open(folder)?.sync_all()?;
        claims.say(Claim::Begun)?;
        for take in 0..TAKES {
            self.take(take, folder, &mut random, &mut claims)?;
        }
        claims.say(Claim::Ended)
    }

    fn open(&self, path: &Path, random: &mut fastrand::Rng) -> anyhow::Result<Writer> {
        let drive = if random.bool() { Drive::Caller } else { Drive::Thread };
        let options = self.way.options().drive(drive).buffers(random.usize(2..5));
        let options = options.buffer_size(4096 * random.usize(1..5)).grant_limit(4096);
        Ok(match self.state {
            State::Growing => options.create(path)?,
            State::Reserved => options.preallocate(Preallocate::Reserve(RESERVED)).create(path)?,
            State::Written => options.open(path)?,
        })
    }

    fn take(
        &self,
        take: u64,
        folder: &Path,
        random: &mut fastrand::Rng,
        claims: &mut Claims,
    ) -> anyhow::Result<()> {
        let seed = self.seed ^ take;
        let mut writer = self.open(&folder.join(name(take)), random)?;
        claims.say(Claim::Named(take))?;
        writer.write_all(&header(0))?;
        let mut tickets: Vec<Ticket> = Vec::new();
        for _ in 0..STEPS {
            let position = writer.positions().accepted;
            // Mostly short, now and then longer than all buffers together.
            let longest = if random.u8(..8) == 0 { LONGEST } else { 3000 };
            let len = random.usize(1..longest);
            let data = bytes(seed, position, len);
            match random.u8(..10) {
                0..4 => writer.write_all(&data)?,
                4..6 => {
                    let _ = writer.write_flush(&data)?;
                    let end = position + len as u64;
                    claims.say(Claim::Durable(take, end))?;
                }
                6..8 => {
                    writer.write_all(&data)?;
                    tickets.push(writer.fence());
                }
                8 => {
                    for ticket in std::mem::take(&mut tickets) {
                        claims.say(Claim::Durable(take, ticket.wait()?))?;
                    }
                }
                _ => {
                    let asked = |position| {
                        // Once the header may be on its way, its position may be found.
                        let _ = claims.say(Claim::Asked(take, position));
                        header(position)
                    };
                    let position = writer.checkpoint(0, asked)?;
                    claims.say(Claim::Checkpoint(take, position))?;
                }
            }
            if random.u8(..4) == 0 {
                claims.say(Claim::Durable(take, writer.positions().durable))?;
            }
        }
        let end = writer.positions().accepted;
        writer.close().map_err(|failed| anyhow::anyhow!("{failed}"))?;
        let length = if self.state == State::Written { end.max(RESERVED) } else { end };
        claims.say(Claim::Durable(take, end))?;
        claims.say(Claim::Closed(take, length))
    }

    // ---- the judge ------------------------------------------------------------------------------------

    /// Whether everything that was claimed is there. The error says what is not.
    pub(crate) fn judge<'a>(
        &self,
        folder: &Path,
        claims: impl Iterator<Item = &'a str>,
    ) -> anyhow::Result<()> {
        let mut expected = [Expected::default(); TAKES as usize];
        for claim in claims {
            match serde_json::from_str(claim).context("a claim that nobody understands")? {
                Claim::Begun | Claim::Ended => {}
                Claim::Named(take) => expected[take as usize].named = true,
                Claim::Durable(take, position) => {
                    let known = &mut expected[take as usize].durable;
                    *known = position.max(*known);
                }
                Claim::Asked(take, position) => expected[take as usize].asked = position,
                Claim::Checkpoint(take, position) => expected[take as usize].checkpoint = position,
                Claim::Closed(take, length) => expected[take as usize].closed = Some(length),
            }
        }
        for (take, expected) in (0..).zip(&expected) {
            self.judge_take(take, expected, folder)
                .with_context(|| format!("{}: claimed {expected:?}", name(take)))?;
        }
        Ok(())
    }

    fn judge_take(&self, take: u64, expected: &Expected, folder: &Path) -> anyhow::Result<()> {
        let content = match std::fs::read(folder.join(name(take))) {
            Ok(content) => content,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !expected.named => {
                return Ok(());
            }
            Err(error) => bail!("it can't be read: {error}"),
        };
        if let Some(length) = expected.closed {
            let found = content.len() as u64;
            ensure!(found == length, "it is {found} bytes long after the close");
        }
        self.exact(take, &content, expected.durable)?;
        if expected.durable >= HEADER as u64 {
            let found = content.first_chunk().and_then(position);
            let described = found.context("its header is damaged")?;
            let least = expected.checkpoint;
            ensure!(described >= least, "its header describes {described}, less than was promised");
            let most = expected.asked.max(least);
            ensure!(described <= most, "its header describes {described}, which nobody wrote");
            self.exact(take, &content, described).context("what its header describes")?;
        }
        Ok(())
    }

    /// Every byte before `end` is the one that was written.
    fn exact(&self, take: u64, content: &[u8], end: u64) -> anyhow::Result<()> {
        let end = end as usize;
        ensure!(content.len() >= end, "{} bytes are left of {end} durable ones", content.len());
        let wrong = (HEADER..end).find(|at| content[*at] != byte(self.seed ^ take, *at as u64));
        match wrong {
            Some(at) => bail!("byte {at} of {end} durable ones is lost (it reads {})", content[at]),
            None => Ok(()),
        }
    }
}

/// What has to be there.
#[derive(Clone, Copy, Debug, Default)]
struct Expected {
    named: bool,
    durable: u64,
    asked: u64,
    checkpoint: u64,
    closed: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let claims = [Claim::Begun, Claim::Named(0), Claim::Durable(0, 1000)];
        judged(&content, &claims).unwrap();
        // Another byte behind what is durable is nobody's business, nor is one missing there.
        content.push(0);
        judged(&content, &claims).unwrap();
        content.truncate(999);
        assert!(judged(&content, &claims).unwrap_err().contains("999 bytes are left"));
        content.push(0);
        assert!(judged(&content, &claims).unwrap_err().contains("byte 999"));

        content[..16].copy_from_slice(&header(500));
        let with = |content: &[u8], claim| judged(content, &[Claim::Durable(0, 900), claim]);
        let refused = |claim| with(&content, claim).unwrap_err();
        with(&content, Claim::Asked(0, 500)).unwrap();
        assert!(refused(Claim::Named(0)).contains("nobody wrote"));
        assert!(refused(Claim::Checkpoint(0, 600)).contains("less than"));
        assert!(refused(Claim::Closed(0, 1001)).contains("1000 bytes long"));
        content[3] ^= 1;
        assert!(with(&content, Claim::Asked(0, 500)).unwrap_err().contains("damaged"));
        assert!(judged(&[], &[Claim::Named(1)]).unwrap_err().contains("take-1"));
    }
}
