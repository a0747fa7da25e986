//! A program that does one operation when it is asked (`perf/operation/PROTOCOL.md`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Bad;
use crate::stop::LOOK_EVERY;

const GREETING: &str = "writeflush-gate 1";
/// For one answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// For the end, after the last answer.
const GOODBYE: Duration = Duration::from_secs(5);

/// How a program is started.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) variables: Vec<(String, String)>,
}

impl Start {
    pub(crate) fn of(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), arguments: Vec::new(), variables: Vec::new() }
    }
}

/// What `run` was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Took {
    pub(crate) nanoseconds: u64,
    pub(crate) counts: BTreeMap<String, u64>,
}

/// A running program. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Program {
    shown: String,
    child: Arc<Child_>,
    /// `None` only while it is dropped.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// What it says to people.
    words: PathBuf,
}

/// The process, and until when it has to answer.
#[derive(Debug)]
struct Child_ {
    child: Mutex<Child>,
    due: Mutex<Due>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Nothing was asked.
    Never,
    At(Instant),
    /// It was ended since it did not answer.
    Missed,
    /// Nobody waits for it any more.
    Gone,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Child_ {
    /// Ends the process when it has not answered in time. A read of its output then ends, too.
    fn watch(&self) {
        loop {
            let due = *lock(&self.due);
            match due {
                Due::Gone | Due::Missed => return,
                Due::At(by) if Instant::now() > by => {
                    *lock(&self.due) = Due::Missed;
                    let _ = lock(&self.child).kill(); // it may have ended by itself just now
                }
                Due::At(_) | Due::Never => {}
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn set(&self, due: Due) {
        let mut now = lock(&self.due);
        if *now != Due::Missed || due == Due::Gone {
            *now = due;
        }
    }
}

impl Program {
    /// Starts it; `folder` is for what it says to people.
    pub(crate) fn start(start: &Start, folder: &Path) -> Result<Self, Bad> {
        let shown = start.program.display().to_string();
        let words = tempfile::Builder::new().prefix("words-").tempfile_in(folder);
        let (words, path) = words
            .and_then(|file| file.keep().map_err(|error| error.error))
            .map_err(|error| Bad::new(format!("{} can't be used: {error}", folder.display())))?;
        let mut command = Command::new(&start.program);
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt;
            command.process_group(0); // Ctrl-C is for the gate, which ends it by the end of its input
        }
        command.args(&start.arguments).envs(start.variables.iter().cloned());
        let spawned = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(words as File))
            .spawn();
        let mut child = spawned.map_err(|error| {
            Bad::new(format!("{shown} can't be started ({error}): name a program that can"))
        })?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Bad::new(format!("{shown} has no pipes")));
        };
        let child = Arc::new(Child_ { child: Mutex::new(child), due: Mutex::new(Due::At(due())) });
        let watched = child.clone();
        let spawned =
            std::thread::Builder::new().name("watch".into()).spawn(move || watched.watch());
        spawned.map_err(|error| Bad::new(format!("no thread can be had: {error}")))?;
        let output = BufReader::new(output);
        let mut program = Self { shown, child, input: Some(input), output, words: path };
        let greeting = program.answer()?;
        match greeting.as_str() {
            GREETING => Ok(program),
            other => Err(Bad::new(format!(
                "{} began with '{}', and not with '{GREETING}': name a program that speaks the \
                 protocol (perf/operation/PROTOCOL.md)",
                program.shown,
                shortened(other)
            ))),
        }
    }

    /// The operations that it knows.
    pub(crate) fn list(&mut self) -> Result<Vec<String>, Bad> {
        let answer = self.ask("list")?;
        let mut words = answer.split_whitespace();
        match words.next() {
            Some("operations") => Ok(words.map(str::to_owned).collect()),
            _ => Err(self.nonsense("list", &answer)),
        }
    }

    pub(crate) fn begin(&mut self, operation: &str, folder: &Path) -> Result<(), Bad> {
        let Some(folder) = folder.to_str().filter(|folder| !folder.contains('\n')) else {
            return Err(Bad::new(format!(
                "{} can't be said in a line of UTF-8: name another directory",
                folder.display()
            )));
        };
        self.ask_ok(&format!("begin {operation} {folder}"))
    }

    /// Does the operation so many times.
    pub(crate) fn run(&mut self, times: u64) -> Result<Took, Bad> {
        let question = format!("run {times}");
        let answer = self.ask(&question)?;
        took(&answer).ok_or_else(|| self.nonsense(&question, &answer))
    }

    pub(crate) fn end(&mut self) -> Result<(), Bad> {
        self.ask_ok("end")
    }

    /// Its number, for the kernel.
    pub(crate) fn id(&self) -> u32 {
        lock(&self.child.child).id()
    }

    fn ask_ok(&mut self, question: &str) -> Result<(), Bad> {
        match self.ask(question)?.as_str() {
            "ok" => Ok(()),
            answer => Err(self.nonsense(question, answer)),
        }
    }

    fn ask(&mut self, question: &str) -> Result<String, Bad> {
        self.child.set(Due::At(due()));
        let line = format!("{question}\n");
        let said = self.input.as_mut().map(|input| input.write_all(line.as_bytes()));
        if !matches!(said, Some(Ok(()))) {
            return Err(self.ended());
        }
        let answer = self.answer()?;
        match answer.strip_prefix("error ") {
            Some(sentence) => {
                Err(Bad::new(format!("{} says to '{question}': {sentence}", self.shown)))
            }
            None => Ok(answer),
        }
    }

    fn answer(&mut self) -> Result<String, Bad> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line);
        self.child.set(Due::Never);
        match read {
            Ok(1..) if line.ends_with('\n') => Ok(line.trim_end().to_owned()),
            _ => Err(self.ended()),
        }
    }

    /// Its output has ended: why.
    fn ended(&self) -> Bad {
        if *lock(&self.child.due) == Due::Missed {
            let seconds = PATIENCE.as_secs();
            return Bad::new(format!("{} did not answer within {seconds} s", self.shown));
        }
        let words = std::fs::read(&self.words).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let last = words.lines().rev().find(|line| !line.trim().is_empty());
        let last = last.map(|line| format!("; its last words: {}", shortened(line)));
        let last = last.unwrap_or_default();
        Bad::new(format!(
            "{} ended too early{last}; perf/operation/PROTOCOL.md says what it is asked",
            self.shown
        ))
    }

    fn nonsense(&self, question: &str, answer: &str) -> Bad {
        let answer = shortened(answer);
        Bad::new(format!(
            "{} answered '{answer}' to '{question}': see perf/operation/PROTOCOL.md",
            self.shown
        ))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.input.take()); // the end of its input ends it
        let by = Instant::now() + GOODBYE;
        while matches!(lock(&self.child.child).try_wait(), Ok(None)) {
            if Instant::now() > by {
                let mut child = lock(&self.child.child);
                let _ = child.kill();
                let _ = child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.child.set(Due::Gone);
        let _ = std::fs::remove_file(&self.words);
    }
}

fn due() -> Instant {
    Instant::now() + PATIENCE
}

/// An answer to `run`. `None`: it is none.
fn took(answer: &str) -> Option<Took> {
    let mut words = answer.split_whitespace();
    if words.next()? != "took" {
        return None;
    }
    let nanoseconds = words.next()?.parse().ok()?;
    let count = |word: &str| {
        let (key, count) = word.split_once('=')?;
        Some((key.to_owned(), count.parse().ok()?))
    };
    Some(Took { nanoseconds, counts: words.map(count).collect::<Option<_>>()? })
}

/// For a sentence.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(120).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_run_is_a_time_and_counts() {
        let answer = took("took 12 fences=3 other=4").unwrap();
        assert_eq!(answer.nanoseconds, 12);
        assert_eq!(answer.counts["fences"], 3);
        assert_eq!(took("took 12").unwrap(), Took { nanoseconds: 12, ..Took::default() });
        for nonsense in ["", "took", "took x", "took 1 x", "took 1 x=y", "ok", "took -1"] {
            assert_eq!(took(nonsense), None, "{nonsense}");
        }
    }

    #[cfg(unix)]
    fn of_shell(script: &str) -> (Start, tempfile::TempDir) {
        let mut start = Start::of("/bin/sh");
        start.arguments = vec!["-c".into(), script.into()];
        (start, tempfile::tempdir().unwrap())
    }

    #[cfg(unix)]
    #[test]
    fn a_program_in_any_language_is_asked() {
        let script = r#"
            echo writeflush-gate 1
            while read word rest; do
              case $word in
                list) echo operations one two;;
                begin|end) echo ok;;
                run) echo took 5 fences=$rest;;
              esac
            done"#;
        let (start, folder) = of_shell(script);
        let mut program = Program::start(&start, folder.path()).unwrap();
        assert_eq!(program.list().unwrap(), ["one", "two"]);
        program.begin("one", folder.path()).unwrap();
        assert_eq!(program.run(7).unwrap().counts["fences"], 7);
        program.end().unwrap();
        drop(program);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_does_not_speak_the_protocol_is_told_in_a_sentence() {
        let says = |script: &str| {
            let (start, folder) = of_shell(script);
            let asked = Program::start(&start, folder.path()).and_then(|mut p| p.list());
            asked.unwrap_err().to_string()
        };
        let greeted = |rest: &str| says(&format!("echo writeflush-gate 1; {rest}"));
        assert!(says("echo hello").contains("began with 'hello'"));
        assert!(says("echo oh dear >&2").contains("its last words: oh dear"));
        assert!(greeted("exit 3").contains("ended too early"));
        assert!(greeted("read x; echo error no disk").ends_with("says to 'list': no disk"));
        assert!(greeted("read x; echo what").contains("answered 'what' to 'list'"));
        let missing = Program::start(&Start::of("/no/program"), Path::new("/tmp")).unwrap_err();
        assert!(missing.to_string().contains("can't be started"), "{missing}");
    }
}
