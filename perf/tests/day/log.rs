//! What a recorder has said: the lines of `--json-lines`.

use std::path::{Path, PathBuf};

use serde_json::Value;

#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Whether a file was open.
    pub began: bool,
    /// The last position that was called written.
    pub written: u64,
    /// Losses: place and length, in bytes.
    pub lost: Vec<(u64, u64)>,
    pub closed: Vec<Closed>,
    pub removed: Vec<PathBuf>,
    /// Waits for space that it told of.
    pub waits: u64,
    /// The object at the end.
    pub report: Option<Value>,
}

/// A segment.
#[derive(Clone, Debug)]
pub struct Closed {
    pub path: PathBuf,
    pub position: u64,
    pub bytes: u64,
}

impl Log {
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let mut log = Self::default();
        // A killed process may have left half a line.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            log.hear(serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?)?;
        }
        Ok(log)
    }

    fn hear(&mut self, line: Value) -> Result<(), String> {
        if line.get("events_lost").is_some() {
            return Err(format!("the log has lost events: {line}"));
        }
        if line["schema"] == "writeflush.record/1" {
            self.report = Some(line);
            return Ok(());
        }
        match line["event"].as_str() {
            Some("began") => self.began = true,
            Some("state") => self.written = number(&line, "written_bytes"),
            Some("lost") => self.lost.push((number(&line, "position"), number(&line, "bytes"))),
            Some("closed") => self.closed.push(Closed {
                path: of_path(&line),
                position: number(&line, "position"),
                bytes: number(&line, "bytes"),
            }),
            Some("removed") => self.removed.push(of_path(&line)),
            Some("warning") if line["text"].to_string().contains("waiting for space, with") => {
                self.waits += 1;
            }
            Some("warning" | "error") => {}
            _ => return Err(format!("what is this: {line}")),
        }
        Ok(())
    }

    pub fn status(&self) -> Option<&str> {
        self.report.as_ref()?["status"].as_str()
    }

    /// A figure of the object at the end.
    pub fn figure(&self, name: &str) -> u64 {
        self.report.as_ref().map_or(0, |report| number(report, name))
    }

    /// Whether the object at the end names the losses that were told one by one.
    pub fn check_losses(&self) -> Result<(), String> {
        let Some(report) = self.report.as_ref().filter(|_| self.status() != Some("refused")) else {
            return Ok(());
        };
        let told = by_place(self.lost.iter().copied());
        let places = report["overrun_places"].as_array().into_iter().flatten();
        let places = places.map(|place| (number(place, "position"), number(place, "bytes")));
        // Of one loss two segments may have a part.
        let (is_all, places) = (places.clone().count() < 1024, by_place(places));
        let sum: u64 = told.iter().map(|loss| loss.1).sum();
        if sum == number(report, "overrun_bytes") && (!is_all || told == places) {
            return Ok(());
        }
        Err(format!("losses as they happened: {told:?}, and at the end: {places:?}"))
    }
}

/// Adds up what stands at one place.
fn by_place(losses: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut sums = Vec::<(u64, u64)>::new();
    for (at, bytes) in losses {
        match sums.last_mut() {
            Some(last) if last.0 == at => last.1 += bytes,
            _ => sums.push((at, bytes)),
        }
    }
    sums
}

fn number(line: &Value, name: &str) -> u64 {
    line[name].as_u64().unwrap_or_default()
}

fn of_path(line: &Value) -> PathBuf {
    line["path"].as_str().unwrap_or_default().into()
}
