//! What commits cost beside time: counted while one subject has the machine to itself, in several
//! rounds, in which all come in a random order.

use std::io;
use std::path::Path;
use std::sync::Arc;

use cpu_time::ProcessTime;
use fastrand::Rng;
use writeflush_workloads::subject::{Class, Family, Kind, Subject};
use writeflush_workloads::{
    Company, Conditions, Counters, Counts, Crew, Device, Field, Go, shuffled,
};

use super::cell::field;
use super::result::{Cost, Spread};
use crate::environment::Environment;
use crate::system_calls::SystemCalls;
use crate::verdict::{Seen, Verdict, Word};

/// Rounds, at most.
const ROUNDS: usize = 9;
/// Processor time varies: fewer rounds say nothing.
const LEAST_ROUNDS: usize = 5;

/// What a round of one subject took and counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Spent {
    cpu_s: f64,
    system_calls: Option<u64>,
    device: Option<Counts>,
    /// Flushes that the subject says it has asked for.
    asked: Option<u64>,
}

/// All rounds of one subject.
#[derive(Clone, Debug, Default)]
struct Account {
    rounds: Vec<Spent>,
    failed: Option<String>,
}

/// What was counted of every subject of a cell.
#[derive(Debug)]
pub(crate) struct Accounts {
    of: Vec<Account>,
    /// Of a subject that does nothing: what the counting itself takes.
    nothing: Account,
    /// Commits of a round.
    commits: u64,
    record: u64,
    committers: u64,
}

/// Commits nothing.
struct Nothing;

impl Subject for Nothing {
    fn commit(&self, _committer: usize, _record: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

const NOTHING: Kind = Kind {
    name: "nothing",
    family: Family::Floor,
    class: Class::PageCache,
    floor: None,
    spins: false,
    open: |_| Ok(Box::new(Nothing)),
};

/// Counts about `commits` commits of each in every round, until `go` says that there is no time for more.
///
/// # Errors
/// Where files can't be prepared or threads can't be started.
pub(crate) fn count(
    kinds: &[Kind],
    conditions: &Conditions,
    folder: &Path,
    commits: u64,
    random: &mut Rng,
    mut go: impl FnMut() -> Go,
) -> io::Result<Accounts> {
    // First of all: a count is inherited by the threads that are born under it.
    let system_calls = SystemCalls::start();
    let mut device = Device::under(folder).ok();
    if let Some(device) = &mut device {
        let _ = device.count_fua(); // where it can't be had, verdicts say so
    }
    let turns = commits.div_ceil(conditions.burst * conditions.committers as u64).max(2);
    let commits = turns * conditions.burst * conditions.committers as u64;
    let mut all = kinds.to_vec();
    all.push(NOTHING);
    let crew = field(&all, conditions, folder, Company::Apart).crew()?;
    let mut accounts = vec![Account::default(); all.len()];
    'rounds: for _ in 0..ROUNDS {
        for index in shuffled(all.len(), random) {
            if go() == Go::Home {
                break 'rounds;
            }
            let account = &mut accounts[index];
            if account.failed.is_none() {
                let one = &all[index..=index];
                let field = field(one, conditions, folder, Company::Apart);
                field.prepare(turns)?;
                let meters = Meters { system_calls: &system_calls, device: device.as_ref() };
                match meters.round(&field, &crew, turns) {
                    Ok(spent) => account.rounds.push(spent),
                    Err(error) => account.failed = Some(error.to_string()),
                }
            }
        }
    }
    let nothing = accounts.pop().unwrap_or_default();
    let (record, committers) = (conditions.record as u64, conditions.committers as u64);
    Ok(Accounts { of: accounts, nothing, commits, record, committers })
}

struct Meters<'a> {
    system_calls: &'a Option<SystemCalls>,
    device: Option<&'a Device>,
}

impl Meters<'_> {
    fn round(&self, field: &Field<'_>, crew: &Crew, turns: u64) -> io::Result<Spent> {
        let subject = field.open(0, 0, turns)?;
        // The device first and last: looking at it makes system calls of its own.
        let device = self.device();
        let asked = subject.flushes();
        let (cpu, calls) = (ProcessTime::now(), self.calls());
        for _ in 0..turns {
            crew.turn(&subject)?;
        }
        let (calls_now, cpu_s) = (self.calls(), cpu.elapsed().as_secs_f64());
        let both = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before?));
        let asked = both(subject.flushes(), asked);
        let device = self.device().zip(device).map(|(now, before)| now.since(&before));
        close(subject);
        Ok(Spent { cpu_s, system_calls: both(calls_now, calls), device, asked })
    }

    fn device(&self) -> Option<Counters> {
        self.device?.counts().ok()
    }

    fn calls(&self) -> Option<u64> {
        self.system_calls.as_ref()?.read()
    }
}

/// Closing is not counted.
fn close(subject: Arc<dyn Subject>) {
    drop(subject);
}

impl Accounts {
    /// What was counted of one subject, or why nothing was; and whether its fences were seen.
    pub(crate) fn of(
        &self,
        index: usize,
        kind: &Kind,
        place: &Environment,
    ) -> Result<(Cost, Verdict), String> {
        let account = &self.of[index];
        match &account.failed {
            Some(reason) => Err(reason.clone()),
            None => Ok((self.cost(account), self.verdict(account, kind, place))),
        }
    }

    fn cost(&self, account: &Account) -> Cost {
        let commits = self.commits as f64;
        let bytes = (self.commits * self.record) as f64;
        // What the counting itself takes is not the subject's.
        let idle = |value: fn(&Spent) -> Option<f64>| {
            Spread::of(&self.nothing.rounds.iter().filter_map(value).collect::<Vec<_>>())
                .map_or(0.0, |spread| spread.median)
        };
        let spread = |value: fn(&Spent) -> Option<f64>, idle: f64, by: f64| {
            let all = account.rounds.iter().map(|round| Some((value(round)? - idle).max(0.0) / by));
            Spread::of(&all.collect::<Option<Vec<_>>>()?)
        };
        let median = |value: fn(&Spent) -> Option<f64>, by: f64| {
            spread(value, 0.0, by).map(|spread| spread.median)
        };
        let cpu: fn(&Spent) -> Option<f64> = |round| Some(round.cpu_s);
        let calls: fn(&Spent) -> Option<f64> = |round| round.system_calls.map(|n| n as f64);
        let enough = account.rounds.len() >= LEAST_ROUNDS;
        Cost {
            rounds: account.rounds.len() as u64,
            commits: self.commits * account.rounds.len() as u64,
            cpu_s_per_gb: spread(cpu, idle(cpu), bytes / 1e9).filter(|_| enough),
            system_calls_per_commit: spread(calls, idle(calls), commits).map(|s| s.median),
            device_flushes_per_commit: median(|r| Some(r.device?.flushes as f64), commits),
            device_writes_per_commit: median(|r| Some(r.device?.writes as f64), commits),
            device_bytes_per_byte: median(|r| Some(r.device?.sectors as f64 * 512.0), bytes),
        }
    }

    /// One flush can serve all who wait at the same time: with several committers fewer are needed
    /// than there are commits.
    fn verdict(&self, account: &Account, kind: &Kind, place: &Environment) -> Verdict {
        if kind.class == Class::PageCache {
            return Verdict::unfenced();
        }
        if account.rounds.is_empty() {
            let reason = "there was no time to count flushes: give --for more".into();
            return Verdict { word: Word::Unverifiable, reason };
        }
        let sum = |value: fn(&Spent) -> Option<u64>| {
            account.rounds.iter().map(value).collect::<Option<Vec<_>>>().map(|all| all.iter().sum())
        };
        let commits = self.commits * account.rounds.len() as u64;
        let shared = commits.div_ceil(self.committers);
        let asked: Option<u64> = sum(|round| round.asked);
        let least = asked.unwrap_or(shared).max(shared);
        let seen = Seen {
            flushes: sum(|round| round.device.map(|counts| counts.flushes)),
            fua_writes: sum(|round| round.device.and_then(|counts| counts.fua_writes)),
        };
        let mut verdict = Verdict::of(least, seen, place);
        let by = match (asked, self.committers) {
            (Some(asked), _) => format!("{commits} commits asked for {asked} flushes"),
            (None, 1) => format!("{commits} commits, a fence each"),
            (None, n) => format!("{commits} commits of {n} committers, who may share flushes"),
        };
        verdict.reason = format!("{by}: {}", verdict.reason);
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Cache;

    fn disk() -> Environment {
        let (write_cache, fua) = (Some("write back".into()), Some("0".into()));
        let disk = Cache { name: "sda".into(), last: true, write_cache, fua, fua_announced: false };
        Environment { disks: vec![disk], ..Environment::default() }
    }

    /// Two rounds of 100 commits in which the device counted so many flushes each.
    fn accounts(flushes: u64, asked: Option<u64>, committers: u64) -> Accounts {
        let counts = Counts { flushes, writes: 100, sectors: 800, fua_writes: None };
        let device = Some(counts);
        let round = Spent { cpu_s: 0.002, system_calls: Some(210), device, asked };
        let nothing = Spent { cpu_s: 0.001, system_calls: Some(10), ..Spent::default() };
        Accounts {
            of: vec![Account { rounds: vec![round; 6], failed: None }],
            nothing: Account { rounds: vec![nothing; 6], failed: None },
            commits: 100,
            record: 4096,
            committers,
        }
    }

    fn kind() -> Kind {
        Kind { class: Class::Durable, ..NOTHING }
    }

    fn verdict(accounts: &Accounts) -> Verdict {
        accounts.of(0, &kind(), &disk()).unwrap().1
    }

    #[test]
    fn who_skips_a_flush_is_called_a_noop() {
        assert_eq!(verdict(&accounts(100, None, 1)).word, Word::Honest);
        assert_eq!(verdict(&accounts(99, None, 1)).word, Word::Noop);
        assert_eq!(verdict(&accounts(0, Some(0), 1)).word, Word::Noop, "it can't talk itself out");
        // Sixteen may share one; who says that it asked for more has to have got more.
        assert_eq!(verdict(&accounts(6, None, 16)).word, Word::Noop);
        assert_eq!(verdict(&accounts(10, Some(20), 16)).word, Word::Noop);
        let shared = verdict(&accounts(20, Some(20), 16));
        assert_eq!(shared.word, Word::Honest);
        assert!(shared.reason.contains("600 commits asked for 120 flushes"), "{}", shared.reason);
    }

    #[test]
    fn what_the_counting_takes_is_taken_off_and_too_few_rounds_say_nothing() {
        let mut accounts = accounts(100, None, 1);
        let cost = accounts.of(0, &kind(), &disk()).unwrap().0;
        assert_eq!(cost.system_calls_per_commit, Some(2.0));
        let cpu = cost.cpu_s_per_gb.unwrap();
        assert!((cpu.median - 0.001 / 409_600.0 * 1e9).abs() < 1e-9, "{cpu:?}");
        assert_eq!((cost.rounds, cost.commits), (6, 600));
        assert_eq!(cost.device_bytes_per_byte, Some(1.0));
        accounts.of[0].rounds.truncate(LEAST_ROUNDS - 1);
        assert_eq!(accounts.of(0, &kind(), &disk()).unwrap().0.cpu_s_per_gb, None);
        accounts.of[0].rounds.clear();
        let (cost, verdict) = accounts.of(0, &kind(), &disk()).unwrap();
        assert_eq!((cost.commits, cost.device_bytes_per_byte), (0, None));
        assert_eq!(verdict.word, Word::Unverifiable);
    }

    /// The real counting, of a subject that writes and never flushes.
    #[test]
    fn a_planted_subject_without_a_flush_asks_the_device_for_none() {
        #[derive(Debug)]
        struct Skips;
        impl Subject for Skips {
            fn commit(&self, _committer: usize, _record: &[u8]) -> io::Result<()> {
                Ok(())
            }
            fn flushes(&self) -> Option<u64> {
                Some(0)
            }
        }
        let skips = Kind { open: |_| Ok(Box::new(Skips)), ..kind() };
        let folder = tempfile::tempdir_in(writeflush_workloads::scratch_dir()).unwrap();
        let state = writeflush_workloads::FileState::Growing;
        for committers in [1, 4] {
            let conditions = Conditions { record: 64, state, committers, direct: true, burst: 5 };
            let mut random = Rng::with_seed(1);
            let found = count(&[skips], &conditions, folder.path(), 30, &mut random, || Go::On);
            let mut found = found.unwrap();
            assert_eq!(found.of[0].rounds.len(), ROUNDS);
            // Others use the disk of a test: what it counted is theirs.
            for round in &mut found.of[0].rounds {
                round.device = Some(Counts::default());
            }
            assert_eq!(found.of(0, &skips, &disk()).unwrap().1.word, Word::Noop);
        }
    }
}
