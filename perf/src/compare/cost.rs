//! What commits cost beside time: counted while one subject has the machine to itself.

use cpu_time::ProcessTime;
use writeflush_workloads::subject::{Class, Kind, Subject};
use writeflush_workloads::{Counts, Device, FileState};

use super::measure::{Field, burst};
use super::plan::{CellPlan, WARM_UP};
use super::result::Cost;
use crate::environment::Environment;
use crate::system_calls::SystemCalls;
use crate::verdict::Verdict;

/// Turns that are counted, at most.
const TURNS: u64 = 200;

/// Counts one subject of the field on a file of its own.
pub(crate) fn count(
    field: &Field<'_>,
    kind: &Kind,
    place: &Environment,
) -> anyhow::Result<(Cost, Verdict)> {
    let plan = CellPlan { turns: field.plan.turns.min(TURNS), ..field.plan.clone() };
    let path = field.path(0);
    if plan.state != FileState::Written {
        plan.state.prepare(&path, field.place(&path).len())?;
    }
    // Before it is opened: a count is inherited by the threads that are born under it.
    let system_calls = SystemCalls::start();
    let subject = (kind.open)(&field.place(&path))?;
    for committer in 0..plan.committers {
        for _ in 0..WARM_UP {
            subject.commit(committer, field.record)?;
        }
    }
    let device = Device::under(field.folder).ok();
    let before = Reading::before(&system_calls, device.as_ref(), subject.as_ref());
    for _ in 0..plan.turns {
        burst(subject.as_ref(), &plan, field.record)?;
    }
    let spent = before.spent(&system_calls, device.as_ref(), subject.as_ref());
    let commits = plan.turns * plan.burst * plan.committers as u64;
    let verdict = match kind.class {
        Class::PageCache => Verdict::unfenced(),
        Class::Durable => {
            // One flush can serve all who wait at the same time.
            let shared = commits.div_ceil(plan.committers as u64);
            let asked = spent.asked.unwrap_or(shared).max(shared);
            Verdict::of(asked, spent.device.map(|counts| counts.flushes), place)
        }
    };
    Ok((spent.cost(commits, field.record.len()), verdict))
}

/// The counters at one moment.
struct Reading {
    cpu: ProcessTime,
    system_calls: Option<u64>,
    device: Option<Counts>,
    asked: Option<u64>,
}

/// What was added since.
struct Spent {
    cpu_s: f64,
    system_calls: Option<u64>,
    device: Option<Counts>,
    asked: Option<u64>,
}

impl Reading {
    /// Looks at the device first: its own system calls are not the subject's.
    fn before(calls: &Option<SystemCalls>, device: Option<&Device>, subject: &dyn Subject) -> Self {
        let device = device.and_then(|device| device.counts().ok());
        let asked = subject.flushes();
        let cpu = ProcessTime::now();
        Self { cpu, system_calls: calls.as_ref().and_then(SystemCalls::read), device, asked }
    }

    /// And last.
    fn spent(
        &self,
        calls: &Option<SystemCalls>,
        device: Option<&Device>,
        subject: &dyn Subject,
    ) -> Spent {
        let both = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before?));
        let system_calls = both(calls.as_ref().and_then(SystemCalls::read), self.system_calls);
        Spent {
            cpu_s: self.cpu.elapsed().as_secs_f64(),
            system_calls,
            device: device
                .and_then(|device| device.counts().ok())
                .zip(self.device)
                .map(|(now, before)| now.since(before)),
            asked: both(subject.flushes(), self.asked),
        }
    }
}

impl Spent {
    fn cost(&self, commits: u64, record: usize) -> Cost {
        let each = |n: u64| n as f64 / commits as f64;
        let bytes = (commits * record as u64) as f64;
        Cost {
            commits,
            cpu_s_per_gb: self.cpu_s / bytes * 1e9,
            system_calls_per_commit: self.system_calls.map(each),
            device_flushes_per_commit: self.device.map(|counts| each(counts.flushes)),
            device_writes_per_commit: self.device.map(|counts| each(counts.writes)),
            device_bytes_per_byte: self.device.map(|counts| counts.sectors as f64 * 512.0 / bytes),
        }
    }
}
