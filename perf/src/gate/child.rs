//! Programs that the gate starts and waits for: a build, git, a program under an instrument.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::error::{Bad, Interrupted};
use crate::stop::Stop;

/// How often a child is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a child has left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program to its end with `input` as its standard input. Its words go through files, so
/// that no pipe can fill up. A signal to the gate, or `patience`, ends it and all that it started.
pub(crate) fn run(
    command: &mut Command,
    input: &str,
    patience: Duration,
    stop: &Stop,
) -> anyhow::Result<Ended> {
    let name = command.get_program().to_string_lossy().into_owned();
    let file = || tempfile::tempfile().context("no temporary file can be made");
    let [mut stdin, mut stdout, mut stderr] = [file()?, file()?, file()?];
    stdin.write_all(input.as_bytes())?;
    stdin.seek(SeekFrom::Start(0))?;
    let again = |file: &File| file.try_clone().context("no descriptor is left");
    command.stdin(stdin).stdout(again(&stdout)?).stderr(again(&stderr)?);
    let mut child = Group::start(command)
        .map_err(|error| Bad::new(format!("{name} can't be started ({error}): is it there?")))?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.0.try_wait()? {
            break status;
        }
        if stop.asked() {
            return Err(Interrupted.into());
        }
        if start.elapsed() > patience {
            let limit = humantime::format_duration(patience);
            return Err(Bad::new(format!("{name} had not ended after {limit}")).into());
        }
        std::thread::sleep(LOOK_EVERY);
    };
    if stop.asked() {
        return Err(Interrupted.into());
    }
    Ok(Ended { status, stdout: text(&mut stdout)?, stderr: text(&mut stderr)? })
}

fn text(file: &mut File) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A child with a process group of its own, which ends with this value: a build starts compilers.
#[derive(Debug)]
struct Group(Child);

impl Group {
    fn start(command: &mut Command) -> std::io::Result<Self> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        command.spawn().map(Self)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return; // its number may be another's by now
        }
        #[cfg(target_os = "linux")]
        if let Some(group) = rustix::process::Pid::from_raw(self.0.id() as i32) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Nothing to say to the child, and nothing that it says is kept.
pub(crate) fn silent(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_child_says_is_kept_and_what_it_started_ends_with_it() {
        let stop = Stop::unset();
        let minute = Duration::from_secs(60);
        let ended = run(&mut shell("cat; echo no >&2; exit 3"), "words", minute, &stop).unwrap();
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("words", "no\n"));
        assert_eq!(ended.status.code(), Some(3));

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let short = Duration::from_millis(300);
        let refused = run(&mut shell(&script), "", short, &stop).unwrap_err().to_string();
        assert!(refused.contains("had not ended"), "{refused}");
        let pid = std::fs::read_to_string(&file).unwrap();
        let alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            stat.is_ok_and(|stat| !stat.contains(") Z"))
        };
        while alive() {
            std::thread::sleep(LOOK_EVERY); // killed, and not gone yet
        }
        stop.ask();
        let ended = run(&mut shell("sleep 1000"), "", minute, &stop).unwrap_err();
        assert!(ended.is::<Interrupted>());
    }
}
