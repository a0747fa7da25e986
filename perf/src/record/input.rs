//! Reading the input on a thread of its own, so that a silent pipe holds up neither a fence nor
//! the end of the recording.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use same_file::Handle;

use crate::error::Bad;

/// Pieces between the reading thread and the recorder: what may be read ahead.
const PIECES: usize = 8;
/// A pipe gives no more than this at once (pipe(7)).
const PIECE: usize = 64 * 1024;

/// Where the bytes come from.
#[derive(Debug)]
pub(crate) enum Source {
    Stdin,
    File(File),
}

impl Source {
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Bad> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return Ok(Self::Stdin);
        };
        let name = path.display();
        let file = File::open(path).map_err(|error| {
            Bad::new(format!("could not open the input {name}: {error}; name a file to read"))
        })?;
        if file.metadata().is_ok_and(|known| known.is_dir()) {
            return Err(Bad::new(format!("the input {name} is a directory: name a file to read")));
        }
        Ok(Self::File(file))
    }

    /// Whether it is this very file, under whatever name.
    pub(crate) fn is(&self, path: &Path) -> bool {
        let this = match self {
            Self::Stdin => Handle::stdin(),
            Self::File(file) => file.try_clone().and_then(Handle::from_file),
        };
        // Opening a FIFO to look at it would wait for its other end.
        let regular = std::fs::metadata(path).is_ok_and(|known| known.is_file());
        regular && matches!((this, Handle::from_path(path)), (Ok(a), Ok(b)) if a == b)
    }
}

/// A run of whole units (frames, or bytes) from the input.
#[derive(Debug)]
pub(crate) struct Piece {
    memory: Box<[u8]>,
    len: usize,
}

impl Piece {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

/// What has come from the input.
#[derive(Debug)]
pub(crate) enum Arrival {
    Bytes(Piece),
    /// Nothing within the time given.
    Silence,
    End,
    Unreadable(io::Error),
}

/// The recorder's end of the reading thread.
#[derive(Debug)]
pub(crate) struct Feed {
    arrivals: Receiver<Arrival>,
    empty: Sender<Box<[u8]>>,
}

impl Feed {
    /// Starts reading. Pieces are of at most `longest` bytes and end between two units of `unit`
    /// bytes, so that losing one never shifts a channel.
    pub(crate) fn start(source: Source, unit: usize, longest: usize) -> io::Result<Self> {
        let (arrived, arrivals) = channel();
        let (empty, memory) = channel();
        let size = PIECE.min(longest).max(unit + 1);
        for _ in 0..PIECES {
            let _ = empty.send(vec![0; size].into_boxed_slice());
        }
        let work = move || match source {
            Source::Stdin => read_all(io::stdin().lock(), unit, &memory, &arrived),
            Source::File(file) => read_all(file, unit, &memory, &arrived),
        };
        // Never joined: it may sleep in a read for ever.
        std::thread::Builder::new().name("input".into()).spawn(work)?;
        Ok(Self { arrivals, empty })
    }

    pub(crate) fn next(&self, patience: Duration) -> Arrival {
        match self.arrivals.recv_timeout(patience) {
            Ok(arrival) => arrival,
            Err(RecvTimeoutError::Timeout) => Arrival::Silence,
            Err(RecvTimeoutError::Disconnected) => Arrival::End,
        }
    }

    /// What has been read already and can be had nowhere else any more.
    pub(crate) fn leftover(&self) -> Option<Piece> {
        match self.arrivals.try_recv() {
            Ok(Arrival::Bytes(piece)) => Some(piece),
            _ => None,
        }
    }

    /// Gives the memory back for more.
    pub(crate) fn recycle(&self, piece: Piece) {
        let _ = self.empty.send(piece.memory); // the thread may have ended
    }
}

/// Reads to the end. Errors in sending mean that nobody records any more.
fn read_all(
    mut from: impl Read,
    unit: usize,
    memory: &Receiver<Box<[u8]>>,
    to: &Sender<Arrival>,
) -> Option<()> {
    // The beginning of a unit whose rest has not come yet.
    let mut begun = Vec::with_capacity(unit);
    loop {
        let mut memory = memory.recv().ok()?;
        memory[..begun.len()].copy_from_slice(&begun);
        let len = match read(&mut from, &mut memory[begun.len()..]) {
            Ok(0) => {
                to.send(Arrival::Bytes(Piece { memory, len: begun.len() })).ok()?;
                return to.send(Arrival::End).ok();
            }
            Ok(n) => begun.len() + n,
            Err(error) => return to.send(Arrival::Unreadable(error)).ok(),
        };
        let whole = len - len % unit;
        begun.clear();
        begun.extend_from_slice(&memory[whole..len]);
        to.send(Arrival::Bytes(Piece { memory, len: whole })).ok()?;
    }
}

fn read(from: &mut impl Read, memory: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(memory) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Whoever shares the other end may have made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes three at a time.
    struct Dribble(Vec<u8>);

    impl Read for Dribble {
        fn read(&mut self, memory: &mut [u8]) -> io::Result<usize> {
            let len = self.0.len().min(3).min(memory.len());
            memory[..len].copy_from_slice(&self.0[..len]);
            self.0.drain(..len);
            Ok(len)
        }
    }

    #[test]
    fn pieces_end_between_units_and_nothing_is_missing() {
        let bytes: Vec<u8> = (0..100).collect();
        for unit in [1, 2, 4, 6, 7] {
            let (arrived, arrivals) = channel();
            let (empty, memory) = channel();
            (0..200).for_each(|_| empty.send(vec![0; 8].into_boxed_slice()).unwrap());
            read_all(Dribble(bytes.clone()), unit, &memory, &arrived).unwrap();
            let (mut all, mut ended) = (Vec::new(), false);
            for arrival in arrivals.try_iter() {
                match arrival {
                    Arrival::Bytes(piece) => {
                        // Only the last may hold less than a unit.
                        assert!(!ended && all.len().is_multiple_of(unit), "unit {unit}");
                        all.extend_from_slice(piece.bytes());
                    }
                    Arrival::End => ended = true,
                    other => panic!("{other:?}"),
                }
            }
            assert!(ended && all == bytes, "unit {unit}");
        }
    }
}
