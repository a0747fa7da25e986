//! Every moment of a recording again: the image of the disk as a power cut may leave it, mounted
//! and looked at.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use memmap2::MmapMut;
use rustix::io::Errno;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::claims::Claim;
use crate::judge::Facts;
use crate::log::{Cut, Log, Moment, Outcome};
use crate::loopdev::LoopDevice;
use crate::medium::Medium;
use crate::rig::unmount;
use crate::scenario::Scenario;

/// What was looked at, and what was missing.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Different images that were mounted.
    pub(crate) images: Images,
    /// Looks at them: one image may have to satisfy different claims.
    pub(crate) looks: usize,
    /// What was lost, in words; the first few.
    pub(crate) lost: Vec<String>,
}

/// Different images, each by a hash of the whole disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Images(HashMap<u64, Kind>);

/// What every outcome that gave an image was.
#[derive(Clone, Copy, Debug)]
struct Kind {
    /// A write was there in part.
    torn: bool,
    /// A write was there and an earlier one was not.
    reordered: bool,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Counts {
    pub(crate) images: usize,
    /// Of those: with a write that is there in part.
    pub(crate) torn: usize,
    /// Of those: with a write without one that had arrived earlier.
    pub(crate) reordered: usize,
}

impl Counts {
    /// Of all runs together.
    pub(crate) fn in_words(&self) -> String {
        let Self { images, torn, reordered } = self;
        format!("with earlier runs {images} different images ({torn} torn, {reordered} reordered)")
    }
}

impl Images {
    fn add(&mut self, image: u64, kind: Kind) {
        let known = self.0.entry(image).or_insert(kind);
        known.torn &= kind.torn;
        known.reordered &= kind.reordered;
    }

    pub(crate) fn extend(&mut self, others: &Self) {
        others.0.iter().for_each(|(image, kind)| self.add(*image, *kind));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            images: self.len(),
            torn: self.0.values().filter(|kind| kind.torn).count(),
            reordered: self.0.values().filter(|kind| kind.reordered).count(),
        }
    }

    /// Adds them to those of earlier runs, which this file keeps, and counts all: what two runs have
    /// both looked at counts once.
    pub(crate) fn together(mut self, kept: Option<&Path>) -> anyhow::Result<Option<Counts>> {
        let Some(path) = kept else { return Ok(None) };
        let failed = || format!("the images of earlier runs, {}", path.display());
        let earlier = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            read => read.with_context(failed)?,
        };
        let (entries, rest) = earlier.as_chunks::<ENTRY>();
        ensure!(rest.is_empty(), "{}: not made by this program, or torn", failed());
        for &[a, b, c, d, e, f, g, h, kind] in entries {
            let kind = Kind { torn: kind & TORN != 0, reordered: kind & REORDERED != 0 };
            self.add(u64::from_le_bytes([a, b, c, d, e, f, g, h]), kind);
        }
        let mut all = Vec::with_capacity(self.len() * ENTRY);
        for (image, kind) in &self.0 {
            all.extend(image.to_le_bytes());
            all.push((u8::from(kind.torn) * TORN) | (u8::from(kind.reordered) * REORDERED));
        }
        let new = path.with_extension("new");
        std::fs::write(&new, all)
            .and_then(|()| std::fs::rename(&new, path))
            .with_context(failed)?;
        Ok(Some(self.counts()))
    }
}

/// Of an image, in a file: its hash, little-endian, and what it was.
const ENTRY: usize = 9;
const TORN: u8 = 1;
const REORDERED: u8 = 2;

/// A recording to be replayed.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    medium: Medium,
    log: &'a Log,
    facts: Facts,
    /// The disk when the recording began.
    start: Vec<u8>,
    /// Writes that are in `start`.
    settled: HashSet<usize>,
    /// Blocks that the rest of the recording touches.
    touched: Vec<usize>,
    /// What all other blocks are worth in the hash of an image.
    untouched: u64,
}

const BLOCK: usize = 4096;
const LOSSES_KEPT: usize = 5;

impl<'a> Replay<'a> {
    pub(crate) fn new(
        scenario: Scenario,
        mut start: Vec<u8>,
        log: &'a Log,
    ) -> anyhow::Result<Self> {
        let begun = log.cut(begun(log)?).durable;
        let mut touched: Vec<usize> = Vec::new();
        let settled: HashSet<usize> = begun.into_iter().collect();
        for (index, write) in log.writes.iter().enumerate() {
            let (from, to) = (write.at as usize, write.at as usize + write.bytes.len());
            if settled.contains(&index) {
                start[from..to].copy_from_slice(&write.bytes);
            } else {
                touched.extend(from / BLOCK..to.div_ceil(BLOCK));
            }
        }
        touched.sort_unstable();
        touched.dedup();
        let others = start.chunks(BLOCK).enumerate();
        let others = others.filter(|(number, _)| touched.binary_search(number).is_err());
        let untouched = others.fold(0, |sum, (number, bytes)| sum ^ worth(number, bytes));
        let facts = Facts::new(scenario, log.claims.iter().map(|claim| claim.text.as_str()))?;
        let medium = scenario.medium;
        Ok(Self { medium, log, facts, start, settled, touched, untouched })
    }

    /// Looks at outcomes in a random order until `wanted` different images were seen, or all.
    /// With `one_is_enough` the first loss ends it.
    pub(crate) fn run(
        &self,
        wanted: usize,
        one_is_enough: bool,
        workers: usize,
        folder: &Path,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<Found> {
        let mut all: Vec<(Moment, Outcome)> = Vec::new();
        for moment in begun(self.log)? + 1..=self.log.end {
            let outcomes = self.unsettled(self.log.cut(moment)).outcomes(random);
            all.extend(outcomes.into_iter().map(|outcome| (moment, outcome)));
        }
        random.shuffle(&mut all);
        let shared = Shared { next: AtomicUsize::new(0), done: AtomicBool::new(false) };
        let seen = Mutex::new(Seen::default());
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..workers)
                .map(|number| {
                    let (all, shared, seen) = (&all, &shared, &seen);
                    let at = folder.join(format!("look-{number}"));
                    scope.spawn(move || {
                        let mut look = Look::new(self, &at)?;
                        while let Some((moment, outcome)) = shared.take(all) {
                            look.at(*moment, outcome, seen)?;
                            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                            let lost = one_is_enough && !seen.lost.is_empty();
                            if seen.images.len() >= wanted || lost {
                                shared.done.store(true, Ordering::Relaxed);
                            }
                        }
                        anyhow::Ok(())
                    })
                })
                .collect();
            for worker in workers {
                let ended = worker.join();
                ended.unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked")))?;
            }
            anyhow::Ok(())
        })?;
        let seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Found { images: seen.images, looks: seen.looks.len(), lost: seen.lost })
    }

    fn unsettled(&self, mut cut: Cut) -> Cut {
        cut.durable.retain(|write| !self.settled.contains(write));
        cut
    }
}

/// When the preparations were over.
fn begun(log: &Log) -> anyhow::Result<Moment> {
    let line = serde_json::to_string(&Claim::Begun)?;
    let claim = log.claims.iter().find(|claim| claim.text == line);
    Ok(claim.context("the recording never began")?.said)
}

struct Shared {
    next: AtomicUsize,
    done: AtomicBool,
}

impl Shared {
    fn take<'a, T>(&self, all: &'a [T]) -> Option<&'a T> {
        if self.done.load(Ordering::Relaxed) {
            return None;
        }
        all.get(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

#[derive(Debug, Default)]
struct Seen {
    images: Images,
    /// Images with the number of claims that they had to satisfy.
    looks: HashSet<(u64, usize)>,
    lost: Vec<String>,
}

/// Whoever went on with a recording may hold its folder for a moment longer.
fn unmount_soon(at: &Path) -> rustix::io::Result<()> {
    for _ in 0..LOOKS {
        match unmount(at) {
            Err(Errno::BUSY) => std::thread::sleep(Duration::from_millis(1)),
            result => return result,
        }
    }
    unmount(at)
}

/// For ten seconds, which nobody needs.
const LOOKS: u32 = 10_000;

/// One worker: an image in memory that is cut, mounted, and restored.
struct Look<'a> {
    replay: &'a Replay<'a>,
    backing: File,
    image: MmapMut,
    /// A mount has changed blocks that nobody knows.
    mounted: bool,
    at: &'a Path,
}

impl<'a> Look<'a> {
    fn new(replay: &'a Replay<'a>, at: &'a Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(at)?;
        let backing = rustix::fs::memfd_create("cut", rustix::fs::MemfdFlags::CLOEXEC)?;
        let backing = File::from(backing);
        backing.set_len(replay.start.len() as u64)?;
        // SAFETY: a file of our own that nobody shortens; the kernel writes to it only while a
        // loop device is on it, and we don't touch the map then.
        #[allow(unsafe_code)]
        let mut image = unsafe { MmapMut::map_mut(&backing)? };
        image.copy_from_slice(&replay.start);
        Ok(Self { replay, backing, image, mounted: false, at })
    }

    /// Cuts the power at a moment, and looks what is left.
    fn at(&mut self, moment: Moment, outcome: &Outcome, seen: &Mutex<Seen>) -> anyhow::Result<()> {
        self.restore();
        let replay = self.replay;
        // In the order of arrival: nothing older shows where something newer is certain.
        let cut = replay.unsettled(replay.log.cut(moment));
        let sector = |at| replay.medium.sector_at(at);
        let kind = Kind {
            torn: outcome.is_torn(replay.log, sector),
            reordered: outcome.is_reordered(&cut.volatile),
        };
        let mut outcome = outcome.clone();
        outcome.kept.extend(cut.durable);
        for (at, bytes) in outcome.pieces(replay.log, sector) {
            self.image[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        }
        let image = self.hash();
        let claims: Vec<&str> = replay.log.claims(moment).collect();
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.images.add(image, kind);
            if !seen.looks.insert((image, claims.len())) {
                return Ok(());
            }
        }
        if let Err(lost) = self.mount_and_judge(&claims) {
            let lost = format!("power cut at {moment} of {}: {lost:#}", replay.log.end);
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.lost.len() < LOSSES_KEPT {
                seen.lost.push(lost);
            }
        }
        Ok(())
    }

    fn mount_and_judge(&mut self, claims: &[&str]) -> anyhow::Result<()> {
        self.mounted = true;
        let device = LoopDevice::new(&self.backing, false, self.replay.medium.sector);
        let device = device.context("no loop device")?;
        self.replay
            .medium
            .mount(device.path(), self.at)
            .context("the file system can't be mounted any more")?;
        let judgement = self.replay.facts.judge(self.at, claims.iter().copied());
        unmount_soon(self.at).context("it can't be unmounted")?;
        judgement
    }

    /// The image as it was at the start.
    fn restore(&mut self) {
        let start = &self.replay.start;
        if std::mem::take(&mut self.mounted) {
            let pieces = self.image.chunks_mut(16 * BLOCK).zip(start.chunks(16 * BLOCK));
            for (image, start) in pieces {
                if image != start {
                    image.copy_from_slice(start);
                }
            }
        } else {
            for block in &self.replay.touched {
                let range = block * BLOCK..(block + 1) * BLOCK;
                self.image[range.clone()].copy_from_slice(&start[range]);
            }
        }
    }

    fn hash(&self) -> u64 {
        self.replay.touched.iter().fold(self.replay.untouched, |sum, block| {
            sum ^ worth(*block, &self.image[block * BLOCK..(block + 1) * BLOCK])
        })
    }
}

/// What a block is worth in the hash of an image: of zeros nothing.
fn worth(block: usize, bytes: &[u8]) -> u64 {
    match bytes.iter().all(|byte| *byte == 0) {
        true => 0,
        false => xxh3_64_with_seed(bytes, block as u64 + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_two_runs_counts_once_and_the_plainer_outcome_decides_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("images");
        let images = |all: &[(u64, bool, bool)]| {
            let mut images = Images::default();
            all.iter().for_each(|&(n, torn, reordered)| images.add(n, Kind { torn, reordered }));
            images
        };
        let counts = |all: &[_], kept| {
            let counts = images(all).together(kept).unwrap();
            counts.map(|Counts { images, torn, reordered }| (images, torn, reordered))
        };
        assert_eq!(counts(&[(1, true, false)], None), None);
        let first = [(1, true, false), (2, true, true), (u64::MAX, false, false)];
        assert_eq!(counts(&first, Some(&file)), Some((3, 2, 1)));
        assert_eq!(counts(&[(1, false, false), (3, false, true)], Some(&file)), Some((4, 1, 2)));
        assert_eq!(counts(&[], Some(&file)), Some((4, 1, 2)));
        std::fs::write(&file, [0; ENTRY + 1]).unwrap();
        assert!(images(&[]).together(Some(&file)).is_err());
    }
}
