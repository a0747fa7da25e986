//! What is seen while everybody else waits for the disk: a signal, a full disk, a disk that hangs.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use super::events::{self, Event, State};
use super::progress;
use super::sink::Control;
use crate::output::{count, say};
use crate::stop::{LOOK_EVERY, Stop};

/// Looks after a signal until the user is told what it waits for: two seconds.
const LOOKS: u32 = 40;

/// Looks on, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Dropped to end it.
    over: Sender<()>,
    thread: JoinHandle<Vec<String>>,
}

impl Watch {
    /// `metrics` hears of SIGUSR1, too.
    pub(crate) fn start(
        control: &Control,
        stop: &Stop,
        metrics: Option<Sender<()>>,
    ) -> io::Result<Self> {
        let (over, is_over) = channel();
        let (control, stop) = (control.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || watch(&control, &stop, metrics.as_ref(), &is_over))?;
        Ok(Self { over, thread })
    }

    /// Ends; what it has warned of.
    pub(crate) fn stop(self) -> Vec<String> {
        drop(self.over);
        self.thread.join().unwrap_or_default()
    }
}

fn watch(
    control: &Control,
    stop: &Stop,
    metrics: Option<&Sender<()>>,
    over: &Receiver<()>,
) -> Vec<String> {
    let (mut warned, start) = (Vec::new(), control.positions().accepted);
    let (mut waits, mut looks, mut goes_on) = (false, 0, true);
    // Once more when it is over, so that every wait that was told of has an end.
    while goes_on {
        goes_on = over.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout);
        // Whoever ends the recording waits for no other job to make room.
        if stop.asked() {
            if let Some(file) = control.of_file() {
                file.stop_waiting_for_space();
            }
            looks += 1;
        }
        if stop.state_asked() {
            say(progress::in_words(control, start));
            events::emit(&Event::State(State::of(control)));
            if let Some(bell) = metrics {
                let _ = bell.send(());
            }
        }
        if waits != control.is_waiting_for_space() {
            waits = !waits;
            let sentence = of_space(control, waits);
            events::warn(&sentence);
            warned.push(sentence);
        }
        if goes_on && looks == LOOKS {
            say(format_args!(
                "waiting for the disk, which has yet to take {}: the recording ends when it has",
                count(not_durable(control), "byte")
            ));
        }
    }
    warned
}

fn of_space(control: &Control, waits: bool) -> String {
    let positions = control.positions();
    if waits {
        format!(
            "the disk is full at {}: waiting for space, with {} in the buffers; delete other \
             files, or end the recording with Ctrl-C",
            count(positions.written, "byte"),
            count(not_durable(control), "byte")
        )
    } else {
        format!("no longer waiting for space, at {}", count(positions.written, "byte"))
    }
}

fn not_durable(control: &Control) -> u64 {
    let positions = control.positions();
    positions.accepted - positions.durable.min(positions.accepted)
}
