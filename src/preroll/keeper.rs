//! Who writes what is held: a thread that opens, writes and closes recordings, so that the producer
//! does none of it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::control::{Asked, Shared, moment};
use super::recording::Recording;
use super::ring::Tail;
use crate::error::{Error, Operation};
use crate::sync::Instant;

/// Where a recording begins: in the past.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Beginning {
    /// Its number: 1 for the first trigger.
    pub number: u64,
    /// Where its first byte lies, in bytes of all that was ever taken.
    pub position: u64,
    /// Bytes of it that had come before the trigger.
    pub bytes: u64,
    /// When its first record came; the present, where none has come yet.
    pub since: SystemTime,
}

/// How often the keeper looks for more, when it has written all that there was. The producer never wakes
/// it, so that a push makes no system call.
const LOOK: Duration = Duration::from_millis(5);
/// So many bytes are written between two looks at what is asked.
const BATCH: usize = 256 * 1024;

pub(super) struct Keeper<R: Recording, O> {
    pub(super) shared: Arc<Shared<R::Summary>>,
    pub(super) open: O,
    /// What stands in the place of bytes that were lost.
    pub(super) fill: Option<u8>,
}

impl<R: Recording, O: FnMut(&Beginning) -> Result<R, Error>> Keeper<R, O> {
    /// Until the producer is gone, or something has failed.
    pub(super) fn run(mut self) {
        while let Some((asked, tail)) = self.shared.next_asked() {
            let recorded = catch_unwind(AssertUnwindSafe(|| self.record(asked, tail)));
            if let Err(errors) = recorded.unwrap_or_else(|_| Err(vec![panicked()])) {
                return self.shared.fail(errors);
            }
        }
    }

    /// From the open to the close.
    fn record(&mut self, asked: Asked, mut tail: Tail) -> Result<(), Vec<Error>> {
        let (beginning, lost) = begin(asked, &mut tail);
        let recording = (self.open)(&beginning).map_err(|error| vec![error])?;
        let mut writing = Writing { recording, lost, fill: self.fill };
        let written = writing.check().and_then(|()| self.write(&mut writing, &mut tail));
        if written.is_ok() {
            self.shared.written(tail); // before the close, which waits for the disk
        }
        let (summary, mut errors) = writing.recording.close();
        if let (Err(error), true) = (written, errors.is_empty()) {
            errors.push(error);
        }
        self.shared.closed(summary, &errors);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// What is held, and what comes, up to where the recording ends.
    fn write(&self, writing: &mut Writing<R>, tail: &mut Tail) -> Result<(), Error> {
        loop {
            let ticket = self.shared.stirred.ticket();
            let end = self.shared.end_of_first(); // before the look that finds nothing
            let in_use = self.shared.ring.in_use();
            self.shared.counters.high_water.raise(in_use);
            if writing.batch(tail, end.map_or(u64::MAX, |end| end.at))? {
                self.shared.changed.announce(); // for a producer that waits for room
                continue;
            }
            if let Some(end) = end {
                return writing.lose(end.lost);
            }
            self.shared.stirred.sleep(ticket, Instant::now().checked_add(LOOK));
        }
    }
}

/// Where the recording begins, and what had been lost before that.
fn begin(asked: Asked, tail: &mut Tail) -> (Beginning, u64) {
    let Asked { number, accepted, lost, .. } = asked;
    let (position, since, lost) = match tail.next(u64::MAX) {
        Some((first, _)) => (first.position, moment(first.time), lost.min(first.lost)),
        None => (accepted, SystemTime::now(), lost),
    };
    (Beginning { number, position, bytes: accepted.saturating_sub(position), since }, lost)
}

fn panicked() -> Error {
    let path: Arc<Path> = Path::new("the recording of a pre-roll").into();
    let sentence = "it panicked on the keeper's thread";
    Error::io(Operation::Open, &path, io::Error::other(sentence))
}

/// A recording that is written.
struct Writing<R> {
    recording: R,
    /// Of all that was lost, what it has been told.
    lost: u64,
    fill: Option<u8>,
}

impl<R: Recording> Writing<R> {
    fn check(&self) -> Result<(), Error> {
        if self.recording.waits() {
            return Ok(());
        }
        Err(Error::Options(
            "the writer behind a pre-roll has to wait for room: leave its on_full as it is (Block), and \
             choose what is lost by that of preroll::Options"
                .into(),
        ))
    }

    /// Writes some of the records before `end`; whether there were any.
    fn batch(&mut self, tail: &mut Tail, end: u64) -> Result<bool, Error> {
        let mut done = 0;
        while done < BATCH {
            let Some((header, record)) = tail.next(end) else { break };
            self.lose(header.lost)?;
            self.recording.write(record)?;
            done += record.len();
            tail.release(header);
        }
        Ok(done > 0)
    }

    /// So much has been lost in all.
    fn lose(&mut self, lost: u64) -> Result<(), Error> {
        let mut bytes = lost.saturating_sub(self.lost);
        if bytes == 0 {
            return Ok(());
        }
        self.lost = lost;
        self.recording.lose(bytes);
        let Some(byte) = self.fill else { return Ok(()) };
        let fill = vec![byte; BATCH.min(usize::try_from(bytes).unwrap_or(BATCH))];
        while bytes > 0 {
            let part = bytes.min(fill.len() as u64);
            self.recording.write(&fill[..part as usize])?;
            bytes -= part;
        }
        Ok(())
    }
}
