//! The progress line, on a terminal only.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget};
use writeflush::Control;

use crate::output::{amount, say};

/// How often the line changes: fast enough to look alive, slow enough to read.
const EVERY: Duration = Duration::from_millis(200);

/// Shows how the recording goes.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    next: Instant,
    /// When and where the line was drawn last: for the rate.
    last: (Instant, u64),
    start: u64,
}

impl Progress {
    /// A line on standard error if that is a terminal, and nothing otherwise.
    pub(crate) fn new(quiet: bool, start: u64) -> Self {
        let bar = if quiet {
            ProgressBar::hidden()
        } else {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        };
        let style = indicatif::ProgressStyle::with_template("{msg}");
        bar.set_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_spinner()));
        let now = Instant::now();
        Self { bar, next: now, last: (now, start), start }
    }

    pub(crate) fn tick(&mut self, control: &Control, now: Instant) {
        if now < self.next || self.bar.is_hidden() {
            return;
        }
        self.next = now + EVERY;
        let positions = control.positions();
        let (since, before) = std::mem::replace(&mut self.last, (now, positions.accepted));
        let seconds = (now - since).as_secs_f64().max(1e-3);
        let rate = (positions.accepted - before) as f64 / seconds;
        self.bar.set_message(line(
            positions.accepted - self.start,
            rate,
            positions.accepted - positions.durable.min(positions.accepted),
            control.stats().overruns,
        ));
        self.bar.tick();
    }

    /// Says something without tearing the line.
    pub(crate) fn say(&self, text: impl std::fmt::Display) {
        self.bar.suspend(|| say(text));
    }

    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
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
