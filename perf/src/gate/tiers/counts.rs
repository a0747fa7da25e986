//! What is exact: system calls, wake-ups, allocations, bytes copied, device flushes.

use std::path::Path;

use writeflush_workloads::{Counters, Device, FuaWrites};

use super::Bench;
use super::instrument::Instrument;
use crate::environment::Environment;
use crate::error::Bad;
use crate::gate::evidence::{BASE, CANDIDATE, Counted, Evidence, Flushed, FlushedRun};
use crate::gate::judge::counts::{self, Least};
use crate::gate::judge::flushes;
use crate::gate::program::{Program, Start};
use crate::gate::result::Skipped;

const INSTRUMENTS: [Instrument; 3] =
    [Instrument::SystemCalls, Instrument::Allocations, Instrument::Copies];
/// Operations between two looks at the device.
const OPERATIONS: u64 = 256;

/// Everything that can be counted here of one operation; what can't is left out (see [`absent`]).
/// `None`: interrupted.
pub(crate) fn measure(
    bench: &Bench<'_>,
    operation: &str,
    device: Option<&Flushes>,
) -> Result<Option<Vec<Evidence>>, Bad> {
    let mut all = Vec::new();
    if let Some(device) = device {
        let Some(flushed) = device.measure(bench, operation)? else { return Ok(None) };
        all.push(Evidence::Flushes(flushed));
    }
    for instrument in INSTRUMENTS.into_iter().filter(|instrument| instrument.absent().is_none()) {
        let counted = count(bench, operation, instrument, Least::EXACT)?;
        let Some(counted) = counted else { return Ok(None) };
        all.push(Evidence::Counts(counted));
    }
    Ok(Some(all))
}

/// Why something can't be counted here, and what to do about it.
pub(crate) fn absent() -> Vec<Skipped> {
    INSTRUMENTS.into_iter().filter_map(Instrument::absent).collect()
}

/// Runs of both programs under an instrument, as many as the verdict needs; none, where the base does
/// not run under it. `None`: interrupted.
pub(super) fn count(
    bench: &Bench<'_>,
    operation: &str,
    instrument: Instrument,
    least: Least,
) -> Result<Option<Counted>, Bad> {
    let folder = bench.place(0)?;
    warm(bench, operation)?;
    let mut counted = Counted {
        operation: operation.into(),
        what: instrument.counts().into(),
        base: Vec::new(),
        candidate: Vec::new(),
    };
    while counts::goes_on(&counted, least) {
        bench.progress.set_message(format!("{operation}: {}", instrument.counts()));
        let run = |start: &Start| instrument.count(start, operation, &folder, bench.stop);
        let base = match run(bench.base) {
            // It has just run without the instrument: that is what can't run it.
            Err(_) if counted.base.is_empty() => break,
            base => base?,
        };
        let candidate = run(bench.candidate)?;
        let Some((base, candidate)) = base.zip(candidate) else { return Ok(None) };
        counted.base.push(base);
        counted.candidate.push(candidate);
    }
    Ok(Some(counted))
}

/// So that every program finds the file that the first would have had to make.
fn warm(bench: &Bench<'_>, operation: &str) -> Result<(), Bad> {
    let mut program = bench.start(BASE)?;
    bench.begin(&mut program, operation, 0, 1)?;
    program.end()
}

/// The device that the files lie on, where fences can be seen on it.
#[derive(Debug)]
pub(crate) struct Flushes {
    device: Device,
}

impl Flushes {
    /// # Errors
    /// Why they can't be seen.
    pub(crate) fn of(environment: &Environment, folder: &Path) -> Result<Self, Skipped> {
        let unseen = |why: String| Skipped { what: "device flushes".into(), why };
        if let Some(memory) = &environment.in_memory {
            let why = format!("{memory} keeps everything in memory: name a directory on a disk");
            return Err(unseen(why));
        }
        if let Some(why) = &environment.out_of_sight {
            return Err(unseen(why.clone()));
        }
        let device = Device::under(folder).map_err(unseen)?;
        device.counts().map_err(unseen)?;
        for disk in device.disks.iter().filter(|disk| disk.last) {
            let name = &disk.name;
            if disk.queue("write_cache").as_deref() != Some("write back") {
                return Err(unseen(format!("{name} has no volatile cache that is known of")));
            }
            let takes_fences = disk.queue("fua").as_deref() != Some("0");
            if takes_fences && FuaWrites::start(&[disk]).is_err() {
                let why = "takes fences with its writes (FUA), which only root can count";
                return Err(unseen(format!("{name} {why}")));
            }
        }
        Ok(Self { device })
    }

    fn measure(&self, bench: &Bench<'_>, operation: &str) -> Result<Option<Flushed>, Bad> {
        let (base, candidate) = (Vec::new(), Vec::new());
        let mut flushed =
            Flushed { operation: operation.into(), operations: OPERATIONS, base, candidate };
        while flushes::goes_on(&flushed) {
            if bench.stop.asked() {
                return Ok(None);
            }
            bench.progress.set_message(format!("{operation}: device flushes"));
            for (arm, runs) in [(BASE, &mut flushed.base), (CANDIDATE, &mut flushed.candidate)] {
                let mut program = bench.start(arm)?;
                bench.begin(&mut program, operation, 0, 1)?;
                runs.push(self.run(&mut program)?);
                program.end()?;
            }
        }
        Ok(Some(flushed))
    }

    fn run(&self, program: &mut Program) -> Result<FlushedRun, Bad> {
        let disks = self.device.disks.iter().filter(|disk| disk.last);
        let mut fenced: Vec<FuaWrites> =
            disks.filter_map(|disk| FuaWrites::start(&[disk]).ok()).collect();
        let look = || -> Result<Counters, Bad> { self.device.counts().map_err(Bad::new) };
        let before = look()?;
        let took = program.run(OPERATIONS)?;
        let flushes = look()?.since(&before).flushes;
        let fenced_writes = fenced.iter_mut().filter_map(FuaWrites::read).sum();
        let promised = took.counts.get("fences").copied().unwrap_or(0);
        Ok(FlushedRun { promised, flushes, fenced_writes })
    }
}
