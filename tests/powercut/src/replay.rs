//! Every moment of a recording again: the image of the disk as a power cut may leave it, mounted
//! and looked at.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use memmap2::MmapMut;
use xxhash_rust::xxh3::Xxh3;

use crate::log::{Cut, Log, Moment, Outcome};
use crate::loopdev::LoopDevice;
use crate::rig::{FileSystem, unmount};
use crate::scenario::{Claim, Scenario};

/// What was looked at, and what was missing.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Different images that were mounted.
    pub(crate) images: usize,
    /// Looks at them: one image may have to satisfy different claims.
    pub(crate) looks: usize,
    /// What was lost, in words; the first few.
    pub(crate) lost: Vec<String>,
}

/// A recording to be replayed.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    file_system: FileSystem,
    log: &'a Log,
    scenario: Scenario,
    /// The disk when the recording began.
    start: Vec<u8>,
    /// Writes that are in `start`.
    settled: HashSet<usize>,
    /// Blocks that the rest of the recording touches.
    touched: Vec<usize>,
}

const BLOCK: usize = 4096;
const LOSSES_KEPT: usize = 5;

impl<'a> Replay<'a> {
    pub(crate) fn new(
        file_system: FileSystem,
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
        Ok(Self { file_system, log, scenario, start, settled, touched })
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
        Ok(Found { images: seen.images.len(), looks: seen.looks.len(), lost: seen.lost })
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
    images: HashSet<u64>,
    /// Images with the number of claims that they had to satisfy.
    looks: HashSet<(u64, usize)>,
    lost: Vec<String>,
}

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
        let mut outcome = outcome.clone();
        outcome.kept.extend(replay.unsettled(replay.log.cut(moment)).durable);
        for (at, bytes) in outcome.pieces(replay.log, |at| replay.file_system.sector(at)) {
            self.image[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        }
        let image = self.hash();
        let claims: Vec<&str> = replay.log.claims(moment).collect();
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.images.insert(image);
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
        let device = LoopDevice::new(&self.backing, false).context("no loop device")?;
        self.replay
            .file_system
            .mount(device.path(), self.at)
            .context("the file system can't be mounted any more")?;
        let judgement = self.replay.scenario.judge(self.at, claims.iter().copied());
        unmount(self.at).context("it can't be unmounted")?;
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
        let mut hash = Xxh3::new();
        for block in &self.replay.touched {
            hash.update(&self.image[block * BLOCK..(block + 1) * BLOCK]);
        }
        hash.digest()
    }
}
