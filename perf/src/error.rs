//! What the user got wrong, and how it is said: one sentence that says what to do, status 2.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::name;
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
    say(format!("error: {error:#}").replace('\n', " ")); // the name of a file may have some
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
    // A word that is no command is what the sentence is about.
    let command = match answer.kind() {
        ErrorKind::InvalidSubcommand => None,
        _ => words.first().and_then(|word| word.to_str()),
    };
    let command = command.filter(|word| word.bytes().all(|b| b.is_ascii_lowercase()));
    let line = one_line(&sentence(answer, &words), &name::called(), command);
    let json = ["--json", "--json-lines"].map(OsStr::new);
    if command == Some("record") && words.iter().any(|word| json.contains(&&**word)) {
        crate::record::print_refusal(None, BAD, line.trim_start_matches("error: "));
    }
    say(line);
    ExitCode::from(BAD)
}

/// What the parser says, with the option and the advice that it leaves out.
fn sentence(answer: &clap::Error, words: &[OsString]) -> String {
    let misread = match answer.kind() {
        ErrorKind::ArgumentConflict => return format!("{answer}\n\nleave one out"),
        // Taken for an option of that name.
        ErrorKind::UnknownArgument => misread(words, "give none that is negative", |word| {
            let rest = word.to_str().and_then(|word| word.strip_prefix('-'));
            rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        }),
        ErrorKind::InvalidUtf8 => {
            misread(words, "only the name of a file may be no Unicode", |word| {
                word.to_str().is_none()
            })
        }
        _ => None,
    };
    misread.unwrap_or_else(|| answer.to_string())
}

/// The sentence on a value that the parser has not connected with its option.
fn misread(words: &[OsString], advice: &str, is_it: impl Fn(&OsStr) -> bool) -> Option<String> {
    let at = words.iter().position(|word| is_it(word))?;
    let value = words[at].to_string_lossy();
    let (option, value) = match value.split_once('=') {
        Some((option, value)) => (option.into(), value),
        None => (words[at.checked_sub(1)?].to_string_lossy(), &*value),
    };
    let said = || format!("error: invalid value '{value}' for '{option}': {advice}");
    option.starts_with('-').then(said)
}

/// Paragraphs become one line; the usage that clap adds is left to `--help`.
fn one_line(text: &str, called: &str, command: Option<&str>) -> String {
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
        return format!("error: nothing to do was named; see '{called} --help'");
    }
    let command = command.map(|word| format!("{word} ")).unwrap_or_default();
    format!("{}; see '{called} {command}--help'", kept.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_the_parser_fits_a_line() {
        let text = "error: the following were not provided:\n  <OUTPUT>\n\nUsage: x [OPTIONS]\n\n\
                    For more information, try '--help'.\n";
        let expected = "error: the following were not provided: <OUTPUT>; \
                        see 'writeflush record --help'";
        assert_eq!(one_line(text, "writeflush", Some("record")), expected);
        assert!(one_line(text, "cargo perf", None).ends_with("see 'cargo perf --help'"));
    }
}
