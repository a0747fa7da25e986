//! A program that does one operation when it is asked, so that `cargo perf gate` can compare two
//! builds of it. `PROTOCOL.md` beside this crate says what passes between the two.
//!
//! ```no_run
//! use std::fs::File;
//! use std::io::Write;
//! use std::path::Path;
//! use std::process::ExitCode;
//!
//! use writeflush_operation::{Failure, Kind, Operation, serve};
//!
//! /// One line in a log, durable.
//! struct Line(File);
//!
//! impl Operation for Line {
//!     fn run(&mut self) -> Result<(), Failure> {
//!         self.0.write_all(b"one line\n")?;
//!         Ok(self.0.sync_data()?)
//!     }
//! }
//!
//! fn line(folder: &Path) -> Result<Box<dyn Operation>, Failure> {
//!     Ok(Box::new(Line(File::create(folder.join("log"))?)))
//! }
//!
//! fn main() -> ExitCode {
//!     serve(&[Kind::new("line", line).fences(1).bytes(9)])
//! }
//! ```
//!
//! What it can't do: measure by itself. Without a gate, type the lines of the protocol.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The version of the protocol.
pub const PROTOCOL: u32 = 1;

/// Why an operation could not be done: a sentence for people.
pub type Failure = Box<dyn Error>;

/// Something that can be done again and again.
pub trait Operation {
    /// Does it once. This is timed.
    ///
    /// # Errors
    /// It can't be done; the gate ends.
    fn run(&mut self) -> Result<(), Failure>;

    /// Before so many [`run`](Self::run)s: makes ready for some of them, at least one, and says for
    /// how many; those follow at once. Not timed.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    fn prepare(&mut self, times: u64) -> Result<u64, Failure> {
        Ok(times)
    }

    /// Closes what was opened; in place of a mere drop, whose errors nobody hears.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    fn end(self: Box<Self>) -> Result<(), Failure> {
        Ok(())
    }

    /// Does it `times` times: one loop, so that nothing stands between two of them.
    ///
    /// # Errors
    /// That of the first that fails.
    fn repeat(&mut self, times: u64) -> Result<(), Failure> {
        for _ in 0..times {
            self.run()?;
        }
        Ok(())
    }
}

/// Makes an operation ready in a folder that exists. Not timed.
pub type Begin = fn(&Path) -> Result<Box<dyn Operation>, Failure>;

/// An operation by its name.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    name: &'static str,
    begin: Begin,
    fences: u64,
    bytes: u64,
}

impl Kind {
    /// A name without spaces.
    pub const fn new(name: &'static str, begin: Begin) -> Self {
        Self { name, begin, fences: 0, bytes: 0 }
    }

    /// How often one operation promises that data survives a power cut.
    pub const fn fences(mut self, fences: u64) -> Self {
        self.fences = fences;
        self
    }

    /// Payload of one operation.
    pub const fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Makes it ready, as the gate would.
    ///
    /// # Errors
    /// It can't be made ready in this folder.
    pub fn begin(&self, folder: &Path) -> Result<Box<dyn Operation>, Failure> {
        (self.begin)(folder)
    }
}

/// Does what the gate asks for, until it asks no more. Blocks.
pub fn serve(kinds: &[Kind]) -> ExitCode {
    match session(kinds, io::stdin().lock(), io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the gate is gone: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The lines of one gate.
fn session(kinds: &[Kind], input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let mut server = Server { kinds, under_way: None };
    let mut say = |line: String| {
        output.write_all(format!("{line}\n").as_bytes())?; // one piece, so that one read sees it
        output.flush()
    };
    say(format!("writeflush-gate {PROTOCOL}"))?;
    for line in input.lines() {
        say(server.answer(&line?).unwrap_or_else(|error| format!("error {}", one_line(&*error))))?;
    }
    Ok(())
}

fn one_line(error: &dyn Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

struct Server<'a> {
    kinds: &'a [Kind],
    under_way: Option<(Kind, Box<dyn Operation>)>,
}

impl Server<'_> {
    fn answer(&mut self, line: &str) -> Result<String, Failure> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "list" => {
                let names = self.kinds.iter().map(|kind| kind.name);
                Ok(["operations"].into_iter().chain(names).collect::<Vec<_>>().join(" "))
            }
            "begin" => self.begin(rest),
            "run" => self.run(rest),
            "end" => {
                let (_, operation) = self.under_way.take().ok_or("nothing has begun")?;
                operation.end()?;
                Ok("ok".into())
            }
            _ => Err(format!("'{word}' is not in protocol {PROTOCOL}").into()),
        }
    }

    fn begin(&mut self, rest: &str) -> Result<String, Failure> {
        let (name, folder) = rest.split_once(' ').ok_or("begin needs a name and a folder")?;
        let kind = self.kinds.iter().find(|kind| kind.name == name);
        let kind = *kind.ok_or_else(|| format!("there is no operation '{name}' here"))?;
        self.under_way = None; // its files may be the ones that are opened now
        self.under_way = Some((kind, kind.begin(Path::new(folder))?));
        Ok("ok".into())
    }

    fn run(&mut self, rest: &str) -> Result<String, Failure> {
        let times: u64 = rest.parse().map_err(|_| "run needs a number")?;
        let (kind, operation) = self.under_way.as_mut().ok_or("nothing has begun")?;
        let (mut took, mut left) = (Duration::ZERO, times);
        while left > 0 {
            let now = operation.prepare(left)?.clamp(1, left);
            took += measured(operation.as_mut(), now)?;
            left -= now;
        }
        let mut answer = format!("took {}", took.as_nanos());
        for (key, of_one) in [("fences", kind.fences), ("bytes", kind.bytes)] {
            if of_one > 0 {
                write!(answer, " {key}={}", of_one.saturating_mul(times))?;
            }
        }
        Ok(answer)
    }
}

/// Not inlined, so that a tool which counts instructions can be told to count inside of it.
#[inline(never)]
fn measured(operation: &mut dyn Operation, times: u64) -> Result<Duration, Failure> {
    let start = Instant::now();
    operation.repeat(times)?;
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static RUNS: Cell<u64> = const { Cell::new(0) };
        static PREPARED: Cell<u64> = const { Cell::new(0) };
    }

    struct Count;

    impl Operation for Count {
        fn run(&mut self) -> Result<(), Failure> {
            RUNS.set(RUNS.get() + 1);
            Ok(())
        }
        fn prepare(&mut self, _times: u64) -> Result<u64, Failure> {
            PREPARED.set(PREPARED.get() + 1);
            Ok(4)
        }
    }

    fn count(_: &Path) -> Result<Box<dyn Operation>, Failure> {
        Ok(Box::new(Count))
    }

    fn never(folder: &Path) -> Result<Box<dyn Operation>, Failure> {
        Err(format!("no room\nin {}", folder.display()).into())
    }

    const KINDS: [Kind; 2] =
        [Kind::new("count", count).fences(1).bytes(256), Kind::new("never", never)];

    fn answers(lines: &str) -> Vec<String> {
        let mut output = Vec::new();
        session(&KINDS, lines.as_bytes(), &mut output).unwrap();
        String::from_utf8(output).unwrap().lines().skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn a_session_is_that_of_the_protocol_page() {
        let mut greeting = Vec::new();
        session(&KINDS, &b""[..], &mut greeting).unwrap();
        assert_eq!(greeting, b"writeflush-gate 1\n");
        let answers = answers("list\nbegin count /a folder\nrun 10\nend\nbegin count /\nend\n");
        assert_eq!([&answers[0], &answers[1]], ["operations count never", "ok"]);
        assert!(answers[2].starts_with("took ") && answers[2].ends_with(" fences=10 bytes=2560"));
        assert_eq!(answers[3..], ["ok", "ok", "ok"]);
        assert_eq!((RUNS.get(), PREPARED.get()), (10, 3), "4, 4 and 2 at a time");
    }

    #[test]
    fn what_can_not_be_done_is_one_line_and_the_session_goes_on() {
        let bad = "run 1\nend\nbegin no /\nbegin count\nhello\nbegin never /x y\nlist\n";
        let answers = answers(bad);
        assert!(answers[..6].iter().all(|answer| answer.starts_with("error ")), "{answers:?}");
        assert_eq!(answers[5], "error no room in /x y");
        assert_eq!(answers[6], "operations count never");
    }
}
