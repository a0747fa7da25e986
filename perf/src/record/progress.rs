//! The progress line, on a terminal only.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use super::sink::Control;
use crate::output::{self, amount, count};

/// How often the line changes: fast enough to look alive, slow enough to read.
const EVERY: Duration = Duration::from_millis(200);

/// Shows how the recording goes. Never waits for the terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    line: Option<output::Progress>,
    next: Instant,
    /// When and where the line was drawn last: for the rate.
    last: (Instant, u64),
    start: u64,
}

impl Progress {
    /// A line on standard error if that is a terminal, and nothing otherwise.
    pub(crate) fn new(quiet: bool, start: u64) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        let now = Instant::now();
        let line = shown.then(output::Progress::words);
        Self { line, next: now, last: (now, start), start }
    }

    pub(crate) fn tick(&mut self, control: &Control, now: Instant) {
        let Some(shown) = self.line.as_ref().filter(|_| now >= self.next) else { return };
        self.next = now + EVERY;
        let positions = control.positions();
        let (since, before) = std::mem::replace(&mut self.last, (now, positions.accepted));
        let seconds = (now - since).as_secs_f64().max(1e-3);
        let rate = (positions.accepted - before) as f64 / seconds;
        shown.set_message(line(
            positions.accepted - self.start,
            rate,
            positions.accepted - positions.durable.min(positions.accepted),
            control.overruns().0,
        ));
    }

    pub(crate) fn end(&mut self) {
        self.line = None;
    }
}

/// How it goes, for those who see no line that changes.
pub(crate) fn in_words(control: &Control, start: u64) -> String {
    let positions = control.positions();
    let overruns = control.overruns().0;
    let lag = amount((positions.accepted - positions.durable.min(positions.accepted)) as f64);
    let recorded = amount((positions.accepted - start) as f64);
    let waits = if control.is_waiting_for_space() { ", waiting for space" } else { "" };
    let kept = match control {
        Control::Preroll(preroll) => format!(", kept {}", amount(preroll.kept().bytes as f64)),
        _ => String::new(),
    };
    format!(
        "recorded {recorded}, durable up to {}, not yet durable {lag}, overruns {overruns}{waits}{kept}",
        count(positions.durable, "byte")
    )
}

fn line(recorded: u64, rate: f64, lag: u64, overruns: u64) -> String {
    let (recorded, rate, lag) = (amount(recorded as f64), amount(rate), amount(lag as f64));
    format!("recorded {recorded}   {rate}/s   not yet durable {lag}   overruns {overruns}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_line() {
        let expected =
            "recorded 2.00 MB   192 kB/s   not yet durable 19.2 kB   overruns 0".to_string();
        assert_eq!(super::line(2_000_000, 192_000.0, 19_200, 0), expected);
    }
}
