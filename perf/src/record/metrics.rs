//! Figures for Prometheus, in a file: node_exporter's textfile collector reads it.
//!
//! A thread of its own writes it, since its disk may hang as well. Nobody who records waits for that.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::events;
use super::sink::Control;

/// How often the file is written: a scrape every 15 seconds finds figures of its own.
const EVERY: Duration = Duration::from_secs(5);
/// Its end waits for the disk of that file no longer.
const LONGEST_END: Duration = Duration::from_secs(1);

/// Writes the file until it is over.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Dropped to end it.
    asked: Sender<()>,
    /// What it has warned of.
    done: Receiver<Option<String>>,
}

impl Metrics {
    /// `recording` is what the figures are labelled with.
    pub(crate) fn start(file: &Path, recording: &Path, control: &Control) -> io::Result<Self> {
        let (asked, asks) = channel();
        let (over, done) = channel();
        let (file, control) = (file.to_path_buf(), control.clone());
        let label = recording.to_string_lossy().into_owned();
        let keep = move || {
            let _ = over.send(keep(&file, &label, &control, &asks));
        };
        std::thread::Builder::new().name("metrics".into()).spawn(keep)?;
        Ok(Self { asked, done })
    }

    /// Who asks for the file to be written now.
    pub(crate) fn bell(&self) -> Sender<()> {
        self.asked.clone()
    }

    /// The recording has ended, and so does the file; what it has warned of. Every [`bell`](Self::bell) is
    /// gone by now.
    pub(crate) fn stop(self) -> Option<String> {
        let Self { asked, done } = self;
        drop(asked);
        done.recv_timeout(LONGEST_END).unwrap_or_else(|_| {
            let sentence = "the disk of --metrics does not answer: its figures are old ones";
            events::warn(sentence);
            Some(sentence.into())
        })
    }
}

fn keep(file: &Path, recording: &str, control: &Control, asks: &Receiver<()>) -> Option<String> {
    let (mut warned, mut goes_on) = (None, true);
    // Once more when it is over.
    loop {
        let written = write(file, &text(control, recording));
        if let (Err(error), None) = (&written, &warned) {
            let file = file.display();
            let sentence =
                format!("could not write --metrics {file}: {error}; the recording goes on");
            events::warn(&sentence);
            warned = Some(sentence);
        }
        if !goes_on {
            return warned;
        }
        goes_on = asks.recv_timeout(EVERY) != Err(RecvTimeoutError::Disconnected);
    }
}

fn text(control: &Control, recording: &str) -> String {
    let sample = control.sample();
    // The one label there is.
    sample.clone().label("recording", recording).unwrap_or(sample).prometheus()
}

/// Who reads it sees one of before, or this one.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let folder = file.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let mut new = tempfile::Builder::new();
    new.prefix(".writeflush-"); // no collector reads a name that does not end in .prom
    #[cfg(unix)]
    new.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)); // another user collects it
    let mut beside = new.tempfile_in(folder)?;
    beside.write_all(text.as_bytes())?;
    beside.persist(file).map(drop).map_err(|error| error.error)
}
