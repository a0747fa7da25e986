//! What happens, as it happens: a JSON object a line on standard output.
//!
//! Nobody who records waits for its reader: what finds no room is counted, and told by the next
//! line that has room.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;
use std::{io, io::Write};

use serde::Serialize;
use writeflush::Positions;

use super::sink::Control;
use crate::output::{say, wait_for_reader};

/// The version of the objects: the number changes when a field changes its meaning.
const SCHEMA: &str = "writeflush.record.event/1";
/// Lines that are kept while nobody reads.
const LINES: usize = 1000;

/// What has happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// The file is open, and the first byte will come to this position.
    Began {
        path: &'a str,
        position: u64,
    },
    /// So many bytes are kept in memory, at least, until there is a trigger.
    Armed {
        path: &'a str,
        bytes: u64,
    },
    /// An event begins in this file, with so many bytes that had come before the trigger.
    Triggered {
        path: String,
        number: u64,
        bytes_before: u64,
    },
    Warning {
        text: &'a str,
    },
    Error {
        text: &'a str,
    },
    /// So many bytes of the input are lost, more than was said of this position before.
    Lost {
        position: u64,
        bytes: u64,
    },
    /// A segment is closed and durable; its data begins at this position of the recording's.
    Closed {
        path: String,
        sequence: u64,
        position: u64,
        bytes: u64,
        overruns: u64,
        overrun_bytes: u64,
    },
    /// A segment was not to be kept any longer.
    Removed {
        path: String,
    },
    /// As it was asked for by SIGUSR1.
    State(State),
}

/// How a recording goes. Positions and lengths are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct State {
    pub(crate) accepted_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) durable_bytes: u64,
    pub(crate) overruns: u64,
    pub(crate) overrun_bytes: u64,
    pub(crate) waiting_for_space: bool,
    /// In memory, with --preroll.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kept_bytes: Option<u64>,
}

impl State {
    pub(crate) fn of(control: &Control) -> Self {
        let Positions { accepted, written, durable, .. } = control.positions();
        let (overruns, overrun_bytes) = control.overruns();
        Self {
            accepted_bytes: accepted,
            written_bytes: written,
            durable_bytes: durable,
            overruns,
            overrun_bytes,
            waiting_for_space: control.is_waiting_for_space(),
            kept_bytes: match control {
                Control::Preroll(preroll) => Some(preroll.kept().bytes),
                _ => None,
            },
        }
    }
}

#[derive(Serialize)]
struct Line<'a, T> {
    schema: &'static str,
    time: String,
    /// Events before this one that nobody has read in time.
    #[serde(skip_serializing_if = "is_zero")]
    events_lost: u64,
    #[serde(flatten)]
    event: &'a T,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[derive(Debug)]
struct Stream {
    lines: SyncSender<String>,
    lost: u64,
    done: Receiver<io::Result<()>>,
}

static STREAM: OnceLock<Mutex<Option<Stream>>> = OnceLock::new();

fn stream() -> MutexGuard<'static, Option<Stream>> {
    STREAM.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on events are printed.
pub(crate) fn start() -> io::Result<()> {
    let (lines, printed) = sync_channel::<String>(LINES);
    let (end, done) = sync_channel(1);
    let print = move || {
        let _ = end.send(printed.iter().try_for_each(|line| {
            let mut to = io::stdout().lock();
            to.write_all(line.as_bytes()).and_then(|()| to.flush())
        }));
    };
    std::thread::Builder::new().name("events".into()).spawn(print)?;
    *stream() = Some(Stream { lines, lost: 0, done });
    Ok(())
}

/// Prints an event, if events are asked for. Never waits.
pub(crate) fn emit(event: &Event<'_>) {
    let mut stream = stream();
    let Some(stream) = stream.as_mut() else { return };
    let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let line = Line { schema: SCHEMA, time, events_lost: stream.lost, event };
    let Ok(line) = serde_json::to_string(&line) else { return };
    match stream.lines.try_send(line + "\n") {
        Ok(()) => stream.lost = 0,
        Err(TrySendError::Full(_)) => stream.lost += 1,
        Err(TrySendError::Disconnected(_)) => {} // the reader has gone away
    }
}

/// Says what is not as it could be.
pub(crate) fn warn(sentence: &str) {
    say(format_args!("warning: {sentence}"));
    emit(&Event::Warning { text: sentence });
}

/// Ends: waits for the reader as for that of the report, which is the next line.
pub(crate) fn finish() -> io::Result<()> {
    let Some(Stream { lines, done, .. }) = stream().take() else { return Ok(()) };
    drop(lines);
    wait_for_reader(&done)
}
