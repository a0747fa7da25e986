//! Reading the input on a thread of its own, so that a silent pipe holds up neither a fence nor
//! the end of the recording.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use same_file::Handle;

use super::pipe;
use super::wav::{Format, Found, Header};
use crate::error::Bad;
use crate::stop::{LOOK_EVERY, Stop};

/// Pieces between the reading thread and the recorder: what may be read ahead.
const PIECES: usize = 8;
/// A pipe gives no more than this at once (pipe(7)).
const PIECE: usize = 64 * 1024;

/// Where the bytes come from.
#[derive(Debug)]
pub(crate) enum Source {
    Stdin,
    File(File),
    /// A FIFO that is opened again whenever its writers have gone.
    Fifo(File, PathBuf),
}

impl Source {
    pub(crate) fn open(path: Option<&Path>, reopen: bool) -> Result<Self, Bad> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            if reopen {
                return Err(Bad::new("standard input can't be opened again: give --input FIFO"));
            }
            return Ok(Self::Stdin);
        };
        let name = path.display();
        let file = File::open(path).map_err(|error| {
            Bad::new(format!("could not open the input {name}: {error}; name a file to read"))
        })?;
        let known = file.metadata();
        if known.as_ref().is_ok_and(|known| known.is_dir()) {
            return Err(Bad::new(format!("the input {name} is a directory: name a file to read")));
        }
        if !reopen {
            return Ok(Self::File(file));
        }
        if known.is_ok_and(|known| known.is_file()) {
            return Err(Bad::new(format!(
                "the input {name} is a file, which has one end: leave --reopen out, or name a FIFO"
            )));
        }
        Ok(Self::Fifo(file, path.to_owned()))
    }

    fn reader(&self) -> io::Result<Box<dyn Read>> {
        Ok(match self.file()? {
            Some(file) => Box::new(file),
            None => Box::new(io::stdin().lock()),
        })
    }

    /// Nothing is read ahead of what is asked for: the rest is whoever's reads next.
    fn file(&self) -> io::Result<Option<File>> {
        match self {
            #[cfg(unix)]
            Self::Stdin => {
                use std::os::fd::AsFd;
                Ok(Some(io::stdin().as_fd().try_clone_to_owned()?.into()))
            }
            #[cfg(not(unix))]
            Self::Stdin => Ok(None),
            Self::File(file) | Self::Fifo(file, _) => file.try_clone().map(Some),
        }
    }

    fn pipe(&self) -> io::Result<Option<File>> {
        Ok(self.file()?.filter(pipe::is_pipe))
    }

    /// Whether a length in its header can be relied on: who writes into a pipe does not know it.
    fn knows_its_length(&self) -> bool {
        matches!(self, Self::File(file) if file.metadata().is_ok_and(|known| known.is_file()))
    }

    /// Waits until a FIFO has a writer again; `false`: it is something that has one end.
    fn open_again(&mut self) -> io::Result<bool> {
        let Self::Fifo(file, path) = self else { return Ok(false) };
        // What lies behind the samples of a WAV file: its writer is not yet gone.
        io::copy(file, &mut io::sink())?;
        *file = File::open(path)?;
        Ok(true)
    }

    /// Whether it is this very file, under whatever name.
    pub(crate) fn is(&self, path: &Path) -> bool {
        let this = match self {
            Self::Stdin => Handle::stdin(),
            Self::File(file) | Self::Fifo(file, _) => file.try_clone().and_then(Handle::from_file),
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
    /// The first of all: whether it is a WAV file, where that was asked.
    Begins(Option<Format>),
    Bytes(Piece),
    /// Nothing within the time given.
    Silence,
    /// The writers of a FIFO have gone within a unit, of which so many bytes are left out.
    Torn(usize),
    End,
    Unreadable(io::Error),
}

/// The recorder's end of the reading thread.
#[derive(Debug)]
pub(crate) struct Feed {
    arrivals: Receiver<Arrival>,
    empty: Sender<Box<[u8]>>,
    unit: Sender<usize>,
    gate: Arc<Gate>,
}

/// Whoever takes something out of a pipe holds it until that has arrived.
#[derive(Debug, Default)]
struct Gate {
    is_shut: Mutex<bool>,
}

impl Gate {
    /// `None`: it is shut.
    fn pass(&self) -> Option<MutexGuard<'_, bool>> {
        let is_shut = self.is_shut.lock().unwrap_or_else(PoisonError::into_inner);
        (!*is_shut).then_some(is_shut)
    }

    fn shut(&self) {
        const LOOK_EVERY: Duration = Duration::from_millis(1);
        // Where somebody else was quicker at the same pipe, who holds it may wait for ever.
        for _ in 0..1000 {
            if let Ok(mut is_shut) = self.is_shut.try_lock() {
                *is_shut = true;
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Feed {
    /// Begins to read; with `wav` the header of a WAV file is no part of the bytes.
    pub(crate) fn open(source: Source, wav: bool) -> io::Result<Self> {
        let (arrived, arrivals) = channel();
        let (empty, memory) = channel();
        let (unit, told) = channel();
        let gate = Arc::<Gate>::default();
        let to = Taken { memory, to: arrived, gate: gate.clone() };
        let work = move || {
            if let Some(Err(error)) = read_all(source, wav, &told, &to) {
                let _ = to.to.send(Arrival::Unreadable(error));
            }
        };
        // Never joined: it may sleep in a read for ever.
        std::thread::Builder::new().name("input".into()).spawn(work)?;
        Ok(Self { arrivals, empty, unit, gate })
    }

    /// The format of a WAV file on the input: waits for its first bytes, or a signal.
    pub(crate) fn format(&self, stop: &Stop) -> Result<Option<Format>, Bad> {
        while !stop.asked() {
            match self.next(LOOK_EVERY) {
                Arrival::Silence => {}
                Arrival::Begins(format) => return Ok(format),
                Arrival::Unreadable(error) => {
                    return Err(Bad::new(format!("could not read the input: {error}")));
                }
                _ => break, // it has ended
            }
        }
        Ok(None)
    }

    /// Pieces are of at most `longest` bytes and end between two units of `unit` bytes, so that
    /// losing one never shifts a channel.
    pub(crate) fn begin(&self, unit: usize, longest: usize) {
        let size = PIECE.min(longest).max(unit);
        let size = size - size % unit;
        for _ in 0..PIECES {
            let _ = self.empty.send(vec![0; size].into_boxed_slice());
        }
        let _ = self.unit.send(unit); // the thread may have ended
    }

    pub(crate) fn next(&self, patience: Duration) -> Arrival {
        match self.arrivals.recv_timeout(patience) {
            Ok(arrival) => arrival,
            Err(RecvTimeoutError::Timeout) => Arrival::Silence,
            Err(RecvTimeoutError::Disconnected) => Arrival::End,
        }
    }

    /// From now on nothing more is taken out of a pipe: whoever reads it next finds the rest.
    pub(crate) fn shut(&self) {
        self.gate.shut();
    }

    /// What has been taken already, and can be had nowhere else any more.
    pub(crate) fn leftover(&self) -> Option<Arrival> {
        self.arrivals.try_recv().ok()
    }

    /// Gives the memory back for more.
    pub(crate) fn recycle(&self, arrival: Arrival) {
        if let Arrival::Bytes(piece) = arrival {
            let _ = self.empty.send(piece.memory); // the thread may have ended
        }
    }
}

/// The reading thread's end.
#[derive(Debug)]
struct Taken {
    memory: Receiver<Box<[u8]>>,
    to: Sender<Arrival>,
    gate: Arc<Gate>,
}

/// The input between one beginning and the next.
struct Input {
    from: Box<dyn Read>,
    /// How much of it is to come.
    left: u64,
    /// It can be asked first.
    pipe: Option<File>,
}

impl Input {
    fn new(from: Box<dyn Read>, pipe: Option<File>) -> Self {
        Self { from, left: u64::MAX, pipe }
    }

    /// How much can be taken at once: of a pipe no part of a unit, of which `begun` bytes are here.
    fn wait(&self, unit: usize, begun: usize) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let Some(pipe) = self.pipe.as_ref().filter(|_| most > 0) else { return Ok(most) };
        let rest = (unit - begun).min(most);
        let there = pipe::wait(pipe, rest)?.min(most);
        Ok(if begun > 0 { there.min(rest) } else { there })
    }

    fn read(&mut self, memory: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.from.read(memory) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whoever shares the other end may have made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                result => {
                    self.left -= *result.as_ref().unwrap_or(&0) as u64;
                    return result;
                }
            }
        }
    }
}

/// Reads to the last end. `None`: nobody records any more.
fn read_all(
    mut source: Source,
    wav: bool,
    unit: &Receiver<usize>,
    to: &Taken,
) -> Option<io::Result<()>> {
    let mut known: Option<(usize, Option<Format>)> = None;
    loop {
        let (input, format) = match begin(&mut source, wav) {
            Ok(begun) => begun,
            Err(error) => return Some(Err(error)),
        };
        let unit = match known {
            None => {
                to.to.send(Arrival::Begins(format)).ok()?;
                known.insert((unit.recv().ok()?, format)).0
            }
            Some((unit, first)) if first == format => unit,
            Some(_) => return Some(Err(io::Error::other("it begins again with another format"))),
        };
        let rest = match read_units(input, unit, to)? {
            Ok(rest) => rest,
            Err(error) => return Some(Err(error)),
        };
        match source.open_again() {
            Ok(true) => {}
            Ok(false) => {
                to.to.send(Arrival::Bytes(rest)).ok()?;
                return to.to.send(Arrival::End).ok().map(Ok);
            }
            Err(error) => return Some(Err(error)),
        }
        if rest.len > 0 {
            to.to.send(Arrival::Torn(rest.len)).ok()?;
        }
        // For its memory.
        to.to.send(Arrival::Bytes(Piece { len: 0, ..rest })).ok()?;
    }
}

/// The bytes behind the header, if there is one, and its format. Of a pipe without one nothing is
/// taken: a recorder that can't begin leaves it as it was.
fn begin(source: &mut Source, wav: bool) -> io::Result<(Input, Option<Format>)> {
    loop {
        let (mut from, pipe) = (source.reader()?, source.pipe()?);
        if !wav {
            return Ok((Input::new(from, pipe), None));
        }
        if let Some(pipe) = &pipe {
            let first = pipe::peek(pipe, Header::BEGIN)?;
            // A writer that has gone without a byte.
            if first.is_empty() && source.open_again()? {
                continue;
            }
            if !Header::begins(&first) {
                return Ok((Input::new(from, source.pipe()?), None));
            }
        }
        match Header::read(&mut from)? {
            Ok(found) => {
                let found = found.map_err(|bad| {
                    io::Error::other(format!("a WAV file: {bad}; record it with --raw as it is"))
                })?;
                let left = length(&found, source.knows_its_length());
                return Ok((Input { from, left, pipe }, Some(found.header.format())));
            }
            Err(taken) if taken.is_empty() && source.open_again()? => {}
            Err(taken) => {
                return Ok((Input::new(Box::new(Cursor::new(taken).chain(from)), pipe), None));
            }
        }
    }
}

/// How much of the data is to come. Into a pipe programs write a length that is none.
fn length(found: &Found, certain: bool) -> u64 {
    match found.data {
        0 | 0x7f00_0000..=0xffff_ffff | 0x7fff_ffff_0000_0000.. if !certain => u64::MAX,
        data => data,
    }
}

/// Reads to the next end, and answers what has begun there. `None`: nobody records any more.
fn read_units(mut input: Input, unit: usize, to: &Taken) -> Option<io::Result<Piece>> {
    // The beginning of a unit whose rest has not come yet.
    let mut begun = Vec::with_capacity(unit);
    loop {
        let mut memory = to.memory.recv().ok()?;
        memory[..begun.len()].copy_from_slice(&begun);
        let most = match input.wait(unit, begun.len()) {
            Ok(most) => most.min(memory.len() - begun.len()),
            Err(error) => return Some(Err(error)),
        };
        let _open = if input.pipe.is_some() { Some(to.gate.pass()?) } else { None };
        let len = match input.read(&mut memory[begun.len()..][..most]) {
            Ok(0) => return Some(Ok(Piece { memory, len: begun.len() })),
            Ok(n) => begun.len() + n,
            Err(error) => return Some(Err(error)),
        };
        let whole = len - len % unit;
        begun.clear();
        begun.extend_from_slice(&memory[whole..len]);
        to.to.send(Arrival::Bytes(Piece { memory, len: whole })).ok()?;
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
    fn a_length_in_a_pipe_may_be_none() {
        let format = Format::new(48_000, 2, 16, false).unwrap();
        let of = |data| length(&Found { header: Header::new(format), data }, false);
        assert_eq!(
            (of(4), of(0), of(0xffff_ffff), of(0x7fff_ffc4)),
            (4, u64::MAX, u64::MAX, u64::MAX)
        );
        assert_eq!((of(5_000_000_000), of(u64::MAX)), (5_000_000_000, u64::MAX));
        let certain = Found { header: Header::new(format), data: 0x7fff_fff0 };
        assert_eq!(length(&certain, true), 0x7fff_fff0);
    }

    #[test]
    fn pieces_end_between_units_and_nothing_is_missing() {
        let bytes: Vec<u8> = (0..100).collect();
        for unit in [1, 2, 4, 6, 7] {
            let (arrived, arrivals) = channel();
            let (empty, memory) = channel();
            (0..200).for_each(|_| empty.send(vec![0; 8].into_boxed_slice()).unwrap());
            let to = Taken { memory, to: arrived, gate: Arc::default() };
            let rest = read_units(Input::new(Box::new(Dribble(bytes.clone())), None), unit, &to);
            let rest = rest.unwrap().unwrap();
            let mut all = Vec::new();
            for arrival in arrivals.try_iter() {
                let Arrival::Bytes(piece) = arrival else { panic!("{arrival:?}") };
                assert!(piece.len.is_multiple_of(unit), "unit {unit}");
                all.extend_from_slice(piece.bytes());
            }
            assert_eq!(rest.len, bytes.len() % unit, "unit {unit}");
            all.extend_from_slice(rest.bytes());
            assert!(all == bytes, "unit {unit}");
        }
    }
}
