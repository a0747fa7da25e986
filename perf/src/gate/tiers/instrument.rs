//! Tools that count what a program does, whatever language it is written in: strace for system
//! calls, valgrind's DHAT for allocations and copies, its callgrind for instructions. A program is
//! run under one with the lines of the protocol as its input. How their output is read is pure.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::error::Bad;
use crate::gate::child;
use crate::gate::evidence::Counts;
use crate::gate::judge::counts::per_operation;
use crate::gate::program::Start;
use crate::gate::result::Skipped;
use crate::stop::Stop;

/// Operations of the two runs, of which the second has more. Their difference is a power of two, so
/// that what one operation comes to is exact.
const SHORT: u64 = 64;
const LONG: u64 = SHORT + 256;
/// The longest that a run may take: under valgrind a program is fifty times slower.
const PATIENCE: Duration = Duration::from_secs(45);

/// One of the tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instrument {
    SystemCalls,
    Allocations,
    Copies,
    Instructions,
}

impl Instrument {
    /// What it counts, for people.
    pub(crate) fn counts(self) -> &'static str {
        match self {
            Self::SystemCalls => "system calls and wake-ups",
            Self::Allocations => "allocations",
            Self::Copies => "bytes copied",
            Self::Instructions => "instructions",
        }
    }

    fn program(self) -> &'static str {
        if self == Self::SystemCalls { "strace" } else { "valgrind" }
    }

    /// Why it can't be used here, and what to do about it.
    pub(crate) fn absent(self) -> Option<Skipped> {
        let program = self.program();
        let mut command = Command::new(program);
        let there = child::silent(command.arg("--version")).status();
        match there {
            Ok(status) if status.success() => None,
            _ => Some(Skipped {
                what: self.counts().into(),
                why: format!("{program} is not installed (Debian: apt-get install {program})"),
            }),
        }
    }

    /// A program under the tool, which leaves what it counts in a file of this folder.
    fn command(self, start: &Start, folder: &Path) -> Command {
        let mut command = Command::new(self.program());
        let file = |option: &str| {
            let mut word = std::ffi::OsString::from(option);
            word.push(folder.join("counts"));
            word
        };
        match self {
            Self::SystemCalls => {
                // With its threads and children; without texts; descriptors by what they are.
                command
                    .args(["-f", "-qq", "-s", "0", "-y", "-e", "signal=none", "-o"])
                    .arg(file(""));
            }
            Self::Allocations => {
                command.args(["--tool=dhat", "--mode=heap"]).arg("--dhat-out-file=/dev/null");
            }
            Self::Copies => {
                command.args(["--tool=dhat", "--mode=copy"]).arg("--dhat-out-file=/dev/null");
            }
            Self::Instructions => {
                command.args(["--quiet", "--tool=callgrind", "--separate-threads=yes"]);
                command.arg(file("--callgrind-out-file="));
            }
        }
        command.arg(&start.program).args(&start.arguments);
        command.envs(start.variables.iter().cloned());
        command
    }

    fn read(self, folder: &Path, stderr: &str) -> Option<BTreeMap<String, u64>> {
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
        match self {
            Self::SystemCalls => Some(system_calls(&text("counts")?)),
            Self::Allocations => {
                let (_, blocks) = dhat_total(stderr)?;
                Some(BTreeMap::from([("allocations".into(), blocks)]))
            }
            Self::Copies => {
                let (bytes, _) = dhat_total(stderr)?;
                Some(BTreeMap::from([("bytes copied".into(), bytes)]))
            }
            // Of the thread that does the operations. Others wait by turning in circles as long as
            // they are let, which is no work.
            Self::Instructions => {
                let instructions = callgrind_total(&text("counts-01")?)?;
                Some(BTreeMap::from([("instructions".into(), instructions)]))
            }
        }
    }

    /// What one operation comes to: two runs of a program, in a folder that is handed to it. `None`:
    /// interrupted.
    pub(crate) fn count(
        self,
        start: &Start,
        operation: &str,
        folder: &Path,
        stop: &Stop,
    ) -> Result<Option<Counts>, Bad> {
        let totals = |times| match self.totals(start, operation, folder, times, stop) {
            Ok(totals) => Ok(Some(totals)),
            Err(_) if stop.asked() => Ok(None),
            Err(error) => Err(Bad::new(format!("{error:#}"))),
        };
        let Some(short) = totals(SHORT)? else { return Ok(None) };
        let Some(long) = totals(LONG)? else { return Ok(None) };
        Ok(Some(per_operation(&short, &long, LONG - SHORT)))
    }

    fn totals(
        self,
        start: &Start,
        operation: &str,
        folder: &Path,
        times: u64,
        stop: &Stop,
    ) -> anyhow::Result<BTreeMap<String, u64>> {
        let kept = tempfile::tempdir()?;
        let input = format!("begin {operation} {}\nrun {times}\nend\n", folder.display());
        let mut command = self.command(start, kept.path());
        let ended = child::run(&mut command, &input, PATIENCE, stop)?;
        let failed = |why: &str| {
            let (name, tool) = (start.program.display(), self.program());
            Bad::new(format!("{name} does not do '{operation}' under {tool}: {why}"))
        };
        if let Some(error) = ended.stdout.lines().find_map(|line| line.strip_prefix("error ")) {
            return Err(failed(error).into());
        }
        if !ended.stdout.lines().any(|line| line.starts_with("took ")) {
            let last = ended.stderr.lines().last().unwrap_or("it says nothing");
            return Err(failed(last).into());
        }
        let unread = || failed("what it counted can't be read");
        Ok(self.read(kept.path(), &ended.stderr).ok_or_else(unread)?)
    }
}

/// The name under which all system calls together stand.
pub(crate) const SYSTEM_CALLS: &str = "system calls";
/// Calls by which a thread wakes another one.
pub(crate) const WAKE_UPS: &str = "wake-ups";

/// What stands in a log of strace: system calls, each by its name, and how many of them wake
/// somebody.
fn system_calls(log: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in log.lines() {
        // `PID name(…`; a call that another thread has cut in two begins once only.
        let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
        let Some((name, arguments)) = call.split_once('(') else { continue };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            continue; // the rest of a call, an exit, a signal
        }
        let mut add = |name: &str| *counts.entry(name.to_owned()).or_insert(0) += 1;
        add(SYSTEM_CALLS);
        add(&format!("{SYSTEM_CALLS}: {name}"));
        if wakes(name, arguments) {
            add(WAKE_UPS);
        }
    }
    counts
}

fn wakes(name: &str, arguments: &str) -> bool {
    let has = |word: &str| arguments.contains(word);
    match name {
        "futex" => has("FUTEX_WAKE") || has("FUTEX_REQUEUE") || has("FUTEX_CMP_REQUEUE"),
        "write" => has("anon_inode:[eventfd]") || (has("<pipe:[") && !to_its_reader(arguments)),
        "io_uring_enter" => has("IORING_ENTER_SQ_WAKEUP"),
        "tgkill" | "tkill" | "kill" => true,
        _ => false,
    }
}

/// Standard output and standard error: what is written there is for the gate.
fn to_its_reader(arguments: &str) -> bool {
    arguments.starts_with("1<") || arguments.starts_with("2<")
}

/// `Total: 41,245 bytes in 33 blocks`, behind the process number.
fn dhat_total(stderr: &str) -> Option<(u64, u64)> {
    let line = stderr.lines().find_map(|line| line.split_once("Total:").map(|(_, rest)| rest))?;
    let mut figures = line.split_whitespace().filter_map(|word| word.replace(',', "").parse().ok());
    Some((figures.next()?, figures.next()?))
}

/// `summary: 132237`, of one thread.
fn callgrind_total(file: &str) -> Option<u64> {
    let figure =
        |line: &str| line.strip_prefix("summary:")?.split_whitespace().next()?.parse().ok();
    file.lines().find_map(figure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_of_strace_is_counted_by_name_and_by_who_is_woken() {
        let log = "\
12 pwritev2(3</d/f>, [{iov_base=\"\"..., iov_len=4096}], 1, 0, RWF_DSYNC) = 4096
12 futex(0x7f00, FUTEX_WAKE_PRIVATE, 1) = 1
13 futex(0x7f00, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, FUTEX_BITSET_MATCH_ANY <unfinished ...>
12 write(5<anon_inode:[eventfd]>, \"\"..., 8) = 8
13 <... futex resumed>) = 0
12 write(7<pipe:[98]>, \"\"..., 1) = 1
12 write(1<pipe:[99]>, \"\"..., 12) = 12
12 exit_group(0) = ?
13 +++ exited with 0 +++
";
        let counts = system_calls(log);
        let of = |name: &str| counts.get(name).copied().unwrap_or(0);
        assert_eq!((of("system calls"), of("wake-ups")), (7, 3));
        assert_eq!(of("system calls: futex"), 2, "the one that was cut in two is one");
        assert_eq!((of("system calls: pwritev2"), of("system calls: write")), (1, 3));
    }

    #[test]
    fn valgrinds_totals_are_found_among_its_words() {
        let dhat =
            "==1== DHAT\n==1== Total:     41,245 bytes in 1,033 blocks\n==1== At t-gmax: 1\n";
        assert_eq!(dhat_total(dhat), Some((41_245, 1033)));
        assert_eq!(dhat_total("==1== killed\n"), None);
        assert_eq!(
            callgrind_total("version: 1\nsummary: 132237\n\ntotals: 132237\n"),
            Some(132_237)
        );
        assert_eq!(callgrind_total("version: 1\n"), None);
    }
}
