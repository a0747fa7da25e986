//! Where everything happens: in memory, in a mount namespace of its own.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::canaries::Canary;
use crate::log::Log;
use crate::medium::Medium;
use crate::rig::{self, Rig};
use crate::scenario::Scenario;

/// What became of a recording.
pub(crate) enum Recorded {
    Whole(Log),
    /// It says that something went wrong, though the disk was well.
    Failed(String),
}

/// A recording takes a few seconds; one that hangs is a failure.
const PATIENCE: Duration = Duration::from_secs(90);

/// Goes, with all mounts, when it is dropped.
#[derive(Debug)]
pub(crate) struct Bench {
    folder: tempfile::TempDir,
    making: Mutex<()>,
}

impl Bench {
    pub(crate) fn new() -> anyhow::Result<Self> {
        rig::leave_mount_namespace()?;
        let folder = tempfile::tempdir()?;
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("powercut", folder.path(), "tmpfs", flags, None)
            .context("no file system in memory")?;
        Ok(Self { folder, making: Mutex::new(()) })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The image of an empty file system.
    pub(crate) fn base(&self, medium: Medium) -> anyhow::Result<PathBuf> {
        let _one_at_a_time = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        medium.make(self.folder())
    }

    /// Recordings at the same time, each on a fresh disk of its own.
    pub(crate) fn record_all(
        &self,
        scenarios: Vec<Scenario>,
        canary: Option<Canary>,
    ) -> anyhow::Result<Vec<(Scenario, Recorded)>> {
        std::thread::scope(|scope| {
            let start = |(number, scenario)| {
                let at = self.folder().join(format!("disk-{number}"));
                let record = move || {
                    let recorded = self.record(&at, &scenario, canary)?;
                    Ok((scenario, recorded))
                };
                scope.spawn(record)
            };
            let recordings: Vec<_> = scenarios.into_iter().enumerate().map(start).collect();
            let ended = recordings.into_iter().map(|recording| {
                recording.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a recording panicked")))
            });
            ended.collect()
        })
    }

    fn record(
        &self,
        at: &Path,
        scenario: &Scenario,
        canary: Option<Canary>,
    ) -> anyhow::Result<Recorded> {
        let base = self.base(scenario.medium)?;
        let rig = Rig::new(scenario.medium, &base, at, scenario.seed)?;
        let mut work = rig::part("work")?;
        work.arg(rig.mount_point()).arg(rig.claims()).arg(serde_json::to_string(scenario)?);
        work.args(canary.map(Canary::name));
        let what = format!("{scenario:?}");
        let output = patiently(work, Duration::ZERO).with_context(|| what.clone())?;
        if output.status.success() {
            return Ok(Recorded::Whole(rig.finish()?));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code().is_some(), "the recording was killed: {what}: {said}");
        Ok(Recorded::Failed(format!("the recording failed: {what}: {said}")))
    }
}

impl Drop for Bench {
    /// Before the folder, which can't go as long as something is mounted on it.
    fn drop(&mut self) {
        let detach = rustix::mount::UnmountFlags::DETACH;
        let _ = rustix::mount::unmount(self.folder.path(), detach);
    }
}

/// Runs a part of this program, which may be calm for so long; one that hangs is killed, and an
/// error.
pub(crate) fn patiently(mut part: Command, calm: Duration) -> anyhow::Result<Output> {
    part.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = part.spawn().context("a part of this program did not start")?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > PATIENCE + calm {
            let _ = child.kill();
            anyhow::bail!("it hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // They say little: it fits into the pipes.
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    child.stdout.take().map(|mut pipe| pipe.read_to_end(&mut stdout)).transpose()?;
    child.stderr.take().map(|mut pipe| pipe.read_to_end(&mut stderr)).transpose()?;
    Ok(Output { status, stdout, stderr })
}
