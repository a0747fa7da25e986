//! Standard error, by a thread of its own: a terminal that takes nothing (Ctrl-S, a dead
//! connection), or a full pipe, holds up nobody who records or measures.
//!
//! Whoever has something to say leaves it in [`Pending`], under a lock that is never held while
//! something is written.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Lines that are kept while nothing is taken. The moving line is none of them.
const LINES: usize = 100;
/// How long the end of the process waits for a standard error that takes nothing.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often a bar is drawn although it has not moved: its time left goes on.
const REDRAW: Duration = Duration::from_millis(500);

/// The line at the bottom of a terminal that changes in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moving {
    /// How far it is, and how far it goes; `None` for a line of words only.
    pub(crate) bar: Option<(u64, u64)>,
    pub(crate) message: String,
}

/// What is to be shown next.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pending {
    lines: VecDeque<String>,
    /// Lines for which there was no room.
    dropped: u64,
    moving: Option<Moving>,
    /// The moving line is not what the terminal shows.
    moved: bool,
}

impl Pending {
    fn say(&mut self, line: String) {
        if self.lines.len() < LINES {
            self.lines.push_back(line);
        } else {
            self.dropped += 1;
        }
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty() && !self.moved
    }

    /// What is to be shown now. The moving line stays, for the next time.
    fn take(&mut self) -> Self {
        let mut lines = std::mem::take(&mut self.lines);
        if self.dropped > 0 {
            lines.push_back(format!(
                "warning: {} more lines were not shown, since nothing was taken here meanwhile",
                self.dropped
            ));
        }
        Self {
            lines,
            dropped: std::mem::take(&mut self.dropped),
            moving: self.moving.clone(),
            moved: std::mem::take(&mut self.moved),
        }
    }
}

#[derive(Debug, Default)]
struct Desk {
    pending: Pending,
    /// The thread is writing.
    busy: bool,
}

/// Where words are left, and the thread that shows them.
#[derive(Debug, Default)]
struct Printer {
    desk: Mutex<Desk>,
    changed: Condvar,
}

/// The process's one, from the first word on.
fn printer() -> &'static Printer {
    static PRINTER: OnceLock<Printer> = OnceLock::new();
    static STARTED: OnceLock<()> = OnceLock::new();
    let printer = PRINTER.get_or_init(Printer::default);
    STARTED.get_or_init(|| {
        let thread = std::thread::Builder::new().name("printer".into());
        // Without a thread nothing is shown: a process that has none left can't record either,
        // and its exit status tells.
        let _ = thread.spawn(|| printer.run());
    });
    printer
}

/// Leaves a line to be shown. Never waits for standard error.
pub(crate) fn say(line: String) {
    printer().change(|pending| pending.say(line));
}

/// Changes the moving line, or takes it away. Never waits for standard error.
pub(crate) fn show(change: impl FnOnce(&mut Option<Moving>)) {
    printer().change(|pending| {
        change(&mut pending.moving);
        pending.moved = true;
    });
}

/// Takes the moving line away, and waits a moment for all that has been said. For the end of the
/// process.
pub(crate) fn finish() {
    show(|moving| *moving = None);
    printer().wait(LAST_WORDS);
}

impl Printer {
    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.lock().pending);
        self.changed.notify_all();
    }

    /// Waits until everything is shown, or for so long.
    fn wait(&self, limit: Duration) {
        let desk = self.lock();
        let not_yet = |desk: &mut Desk| desk.busy || !desk.pending.is_empty();
        drop(self.changed.wait_timeout_while(desk, limit, not_yet));
    }

    /// The thread.
    fn run(&self) {
        let mut screen = Screen::default();
        loop {
            let pending = self.next();
            screen.show(&pending);
            self.lock().busy = false;
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Pending {
        let by = Instant::now() + REDRAW;
        let mut desk = self.lock();
        loop {
            let draws = desk.pending.moving.as_ref().is_some_and(|moving| moving.bar.is_some());
            let left = by.saturating_duration_since(Instant::now());
            if !desk.pending.is_empty() || (draws && left.is_zero()) {
                desk.busy = true;
                return desk.pending.take();
            }
            desk = if draws {
                self.changed.wait_timeout(desk, left).unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.changed.wait(desk).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }
}

/// What is on the terminal now.
#[derive(Debug, Default)]
struct Screen {
    bar: Option<ProgressBar>,
}

impl Screen {
    fn show(&mut self, pending: &Pending) {
        if !pending.lines.is_empty() {
            match &self.bar {
                Some(bar) => bar.suspend(|| write(&pending.lines)),
                None => write(&pending.lines),
            }
        }
        match &pending.moving {
            Some(moving) => self.draw(moving),
            None => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
            }
        }
    }

    fn draw(&mut self, moving: &Moving) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let target = ProgressDrawTarget::stderr();
            let bar = ProgressBar::with_draw_target(moving.bar.map(|(_, length)| length), target);
            let template = match moving.bar {
                Some(_) => "{bar:30} {percent}%, {eta} left: {msg}",
                None => "{msg}",
            };
            let style = ProgressStyle::with_template(template);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        if let Some((position, length)) = moving.bar {
            bar.set_length(length);
            bar.set_position(position);
        }
        bar.set_message(moving.message.clone());
        bar.tick();
    }
}

/// A reader that has gone away must not end a recording: a failure to print is nobody's business.
fn write(lines: &VecDeque<String>) {
    let mut to = std::io::stderr().lock();
    for line in lines {
        let _ = writeln!(to, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_and_told() {
        let mut pending = Pending::default();
        assert!(pending.is_empty());
        (0..LINES + 3).for_each(|i| pending.say(i.to_string()));
        let taken = pending.take();
        assert!(pending.is_empty() && pending.dropped == 0);
        assert_eq!(taken.lines.len(), LINES + 1);
        assert_eq!(taken.lines[LINES - 1], (LINES - 1).to_string());
        assert!(taken.lines[LINES].contains("3 more lines were not shown"));
        pending.say("again".into());
        assert_eq!(pending.take().lines, ["again"]);
    }

    #[test]
    fn the_moving_line_takes_no_room_and_only_its_last_state_is_shown() {
        let printer = Printer::default();
        let move_to = |position| {
            printer.change(|pending| {
                let bar = Some((position, 10_000));
                pending.moving = Some(Moving { bar, message: String::new() });
                pending.moved = true;
            });
        };
        (0..10_000).for_each(move_to);
        let shown = printer.next();
        assert!(shown.lines.is_empty() && shown.moved);
        assert_eq!(shown.moving.unwrap().bar, Some((9_999, 10_000)));
        assert!(printer.lock().pending.is_empty());
    }
}
