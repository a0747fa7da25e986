//! What the user got wrong, and how it is said: one sentence that says what to do, status 2.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::output::say;

/// Exit status: bytes were lost, or could not be made durable.
pub(crate) const LOST: u8 = 1;
/// Exit status: options, input or output can't work.
pub(crate) const BAD: u8 = 2;

/// Exit status: a signal ended it early.
pub(crate) const INTERRUPTED: u8 = 130;

/// Options, input or output that can't work. The sentence says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad(String);

impl Bad {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Bad {}

/// A signal came before anything was done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted before anything was recorded")
    }
}

impl std::error::Error for Interrupted {}

/// Says on one line what stopped the tool before it could do anything.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    say(format_args!("error: {error:#}"));
    ExitCode::from(status(error))
}

/// The exit status of what stopped the tool before it could do anything.
pub(crate) fn status(error: &anyhow::Error) -> u8 {
    match error {
        error if error.is::<Bad>() => BAD,
        error if error.is::<Interrupted>() => INTERRUPTED,
        _ => LOST,
    }
}

/// Help and version as clap prints them; a bad option on one line.
pub(crate) fn of_parser(answer: &clap::Error) -> ExitCode {
    if !answer.use_stderr() {
        let _ = answer.print(); // a reader that has gone away wants no help
        return ExitCode::SUCCESS;
    }
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let command = words.first().and_then(|word| word.to_str());
    let command = command.filter(|word| word.bytes().all(|b| b.is_ascii_lowercase()));
    let line = one_line(&answer.to_string(), command);
    if command == Some("record") && words.iter().any(|word| word == "--json") {
        crate::record::print_refusal(None, BAD, line.trim_start_matches("error: "));
    }
    say(line);
    ExitCode::from(BAD)
}

/// Paragraphs become one line; the usage that clap adds is left to `--help`.
fn one_line(text: &str, command: Option<&str>) -> String {
    let boilerplate = ["Usage:", "For more information"];
    let paragraphs = text.trim().split("\n\n").map(|paragraph| {
        let words: Vec<&str> = paragraph.split_whitespace().collect();
        words.join(" ")
    });
    let kept: Vec<String> = paragraphs
        .filter(|paragraph| !boilerplate.iter().any(|begin| paragraph.starts_with(begin)))
        .collect();
    // A command without its subcommand is answered with the whole help: say it in a sentence.
    if !kept.first().is_some_and(|first| first.starts_with("error:")) {
        return "error: nothing to do was named; see 'cargo perf --help'".into();
    }
    let command = command.map(|word| format!("{word} ")).unwrap_or_default();
    format!("{}; see 'cargo perf {command}--help'", kept.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_the_parser_fits_a_line() {
        let text = "error: the following were not provided:\n  <OUTPUT>\n\nUsage: x [OPTIONS]\n\n\
                    For more information, try '--help'.\n";
        let expected = "error: the following were not provided: <OUTPUT>; \
                        see 'cargo perf record --help'";
        assert_eq!(one_line(text, Some("record")), expected);
        assert!(one_line(text, None).ends_with("see 'cargo perf --help'"));
    }
}
