//! `tracing` into one log, from every thread: each event is one record, so lines are whole; what was
//! logged is in the file within 100 ms, on the disk within a second, and at once behind an error.
//!
//! `cargo run --bin sink -- service.log`

use std::io::{self, Write};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;
use writeflush::{OnFull, Options, SharedWriter};

/// Never waits: where the disk can't follow, lines are lost, and counted.
fn open(path: &str) -> Result<SharedWriter, writeflush::Error> {
    let options = Options::new().on_full(OnFull::Fail).fence_every(Duration::from_secs(1));
    Ok(options.append(path)?.into_shared())
}

/// What the subscriber writes its events to.
struct Sink(SharedWriter);

/// One event, handed over in one piece.
struct Line<'a> {
    log: &'a SharedWriter,
    is_error: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.log.write(bytes).is_err() {
            self.log.lose(bytes.len()); // to be seen in its statistics
        }
        if self.is_error {
            drop(self.log.fence()); // asked for, not waited for
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { log: &self.0, is_error: false }
    }

    fn make_writer_for(&'a self, event: &tracing::Metadata<'_>) -> Line<'a> {
        Line { log: &self.0, is_error: *event.level() == tracing::Level::ERROR }
    }
}

fn subscriber(log: SharedWriter) -> impl tracing::Subscriber + Send + Sync {
    tracing_subscriber::fmt().with_ansi(false).with_writer(Sink(log)).finish()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let log = open(&std::env::args().nth(1).unwrap_or("service.log".into()))?;
    tracing::subscriber::set_global_default(subscriber(log.clone()))?;
    tracing::info!(answer = 42, "started");
    tracing::error!("this line survives a power cut from now on, or very soon");
    log.close()?; // the subscriber keeps a clone, so it has to be told
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_threads_are_whole_and_an_error_is_fenced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = open(path.to_str().unwrap()).unwrap();
        let dispatch = tracing::Dispatch::new(subscriber(log.clone()));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let dispatch = &dispatch;
                scope.spawn(move || {
                    tracing::dispatcher::with_default(dispatch, || {
                        (0..100).for_each(|line| tracing::info!(thread, line, "a line"));
                    });
                });
            }
        });
        tracing::dispatcher::with_default(&dispatch, || tracing::error!("the last"));
        while log.positions().durable < log.positions().accepted {
            std::thread::yield_now();
        }
        assert_eq!(log.stats().overruns, 0);
        log.close().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().filter(|line| line.contains("a line")).count(), 400);
        assert!(text.lines().last().unwrap().ends_with("the last"));
    }
}
