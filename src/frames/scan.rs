//! Reading frames one after the other, and finding the next one behind bytes that are none: what a
//! reader and a recovery share. Judges nothing.

use std::io;

use super::cookie::Cookie;
use super::error::Error;
use super::format::{HEADER, Header, Kind, LONGEST, LONGEST_OTHER, MARK};

/// Bytes read at once.
const CHUNK: usize = 1 << 20;

/// A file that is read at positions.
pub(super) trait Source {
    /// As `read` of `std::io::Read`, at a position.
    fn read_at(&mut self, bytes: &mut [u8], at: u64) -> io::Result<usize>;

    fn len(&mut self) -> io::Result<u64>;
}

/// A part of the source in memory.
#[derive(Debug)]
struct Window<S> {
    source: S,
    /// Bytes in the source, as far as it is read.
    len: u64,
    /// Where the part begins.
    start: u64,
    bytes: Vec<u8>,
    filled: usize,
}

impl<S: Source> Window<S> {
    fn new(mut source: S) -> io::Result<Self> {
        let len = source.len()?;
        Ok(Self { source, len, start: 0, bytes: Vec::new(), filled: 0 })
    }

    fn held(&self, at: u64) -> &[u8] {
        match at.checked_sub(self.start) {
            Some(skip) if skip < self.filled as u64 => &self.bytes[skip as usize..self.filled],
            _ => &[],
        }
    }

    /// The bytes from `at` on that are in memory: `least` or more, fewer only at the end.
    fn some(&mut self, at: u64, least: usize) -> io::Result<&[u8]> {
        if self.held(at).len() < least {
            self.slide(at, least)?;
        }
        Ok(self.held(at))
    }

    /// `len` bytes from `at` on, fewer only at the end.
    fn get(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let held = self.some(at, len)?;
        Ok(&held[..held.len().min(len)])
    }

    /// Has the part begin at `at`. Takes no more memory than there are bytes in the source.
    fn slide(&mut self, at: u64, least: usize) -> io::Result<()> {
        let left = self.len.saturating_sub(at);
        let room = (least.max(CHUNK) as u64).min(left) as usize;
        let keep = self.held(at).len();
        self.bytes.copy_within(self.filled - keep..self.filled, 0);
        (self.start, self.filled) = (at, keep);
        if self.bytes.len() < room {
            let more = room - self.bytes.len();
            self.bytes.try_reserve_exact(more).map_err(|_| io::ErrorKind::OutOfMemory)?;
            self.bytes.resize(room, 0);
        }
        while self.filled < least.min(room) {
            let next = at + self.filled as u64;
            match self.source.read_at(&mut self.bytes[self.filled..room], next) {
                Ok(0) => {
                    self.len = next; // somebody has cut it
                    return Ok(());
                }
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What lies at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// A valid frame.
    Frame(Header),
    /// A header of this recording, whose payload is damaged.
    Broken(Header),
    /// A header of this recording, whose payload would end behind the end of the file.
    Short,
    /// A header of another recording.
    Stale,
    /// No header, or one whose number has passed.
    Nothing,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A data frame, and how many numbers are missing before it.
    Frame { position: u64, header: Header, missing: u64 },
    /// Bytes in which no valid frame lies, before one.
    Hole { from: u64, to: u64 },
    /// No more frames.
    End(Rest),
}

/// What lies behind the last valid frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) from: u64,
    /// Behind the last byte that is not zero; `from` if there is none.
    pub(super) data: u64,
    /// Where the last header of this recording says that its frame ends; `from` if there is none.
    pub(super) own: u64,
    /// Where the first header of another recording lies.
    pub(super) stale: Option<u64>,
    /// The end of the file.
    pub(super) to: u64,
    /// The last valid frame was an end.
    pub(super) closed: bool,
    /// Numbers that the last frame says were given, and that no data frame had.
    pub(super) missing: u64,
}

#[derive(Debug)]
pub(super) struct Scanner<S> {
    window: Window<S>,
    generation: u64,
    limit: usize,
    stand: Stand,
}

/// Where a scanner stands, and what it knows there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stand {
    at: u64,
    /// The number of the next data frame, if that is known.
    due: Option<u64>,
    /// What the last frame said of it.
    given: u64,
    /// The last frame was an end.
    closed: bool,
    /// The last one on the way.
    cookie: Option<(u64, Header)>,
}

impl<S: Source> Scanner<S> {
    /// Stands at the start, and knows no generation yet.
    pub(super) fn new(source: S) -> Result<Self, Error> {
        let window = Window::new(source).map_err(failed)?;
        let limit = super::reader::DEFAULT_LIMIT;
        Ok(Self { window, generation: 0, limit, stand: Stand::default() })
    }

    /// Of this recording only.
    pub(super) fn belong(&mut self, generation: u64) {
        self.generation = generation;
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn limit(&mut self, bytes: usize) {
        self.limit = bytes.min(LONGEST);
    }

    pub(super) fn position(&self) -> u64 {
        self.stand.at
    }

    /// The number of the next data frame, as far as frames up to here have told.
    pub(super) fn next_number(&self) -> u64 {
        self.stand.due.unwrap_or(0).max(self.stand.given)
    }

    /// Bytes in the file, when it was last asked.
    pub(super) fn len(&self) -> u64 {
        self.window.len
    }

    /// Asks for the length anew, and forgets what it has read.
    pub(super) fn refresh(&mut self) -> Result<(), Error> {
        self.window.filled = 0;
        self.window.len = self.window.source.len().map_err(failed)?;
        Ok(())
    }

    pub(super) fn stand(&mut self, at: u64, due: Option<u64>) {
        let given = due.unwrap_or(0);
        self.stand = Stand { at, due, given, ..Stand::default() };
    }

    /// For [`stand_again`](Self::stand_again).
    pub(super) fn stands(&self) -> Stand {
        self.stand
    }

    pub(super) fn stand_again(&mut self, stood: Stand) {
        self.stand = stood;
    }

    #[cfg(target_os = "linux")] // for followers
    pub(super) fn source(&mut self) -> &mut S {
        &mut self.window.source
    }

    pub(super) fn into_source(self) -> S {
        self.window.source
    }

    /// Bytes of the file, fewer than `len` only at its end.
    pub(super) fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8], Error> {
        self.window.get(at, len).map_err(failed)
    }

    /// The payload of a frame that was just found.
    pub(super) fn payload(&mut self, position: u64, header: &Header) -> Result<&[u8], Error> {
        self.bytes(position + HEADER as u64, header.len as usize)
    }

    fn header(&mut self, at: u64) -> Result<Option<Header>, Error> {
        Ok(Header::decode(self.bytes(at, HEADER)?, at))
    }

    /// The rules of validity, in their order.
    pub(super) fn look(&mut self, at: u64) -> Result<Look, Error> {
        let Some(header) = self.header(at)? else { return Ok(Look::Nothing) };
        if header.generation != self.generation {
            return Ok(Look::Stale);
        }
        if at.saturating_add(header.frame()) > self.window.len {
            return Ok(Look::Short);
        }
        let limit = match header.kind {
            Kind::Data => self.limit,
            _ => self.limit.max(LONGEST_OTHER),
        };
        let bytes = header.len as usize;
        if bytes > limit {
            return Err(Error::TooLong { position: at, bytes, limit });
        }
        let payload = self.payload(at, &header)?;
        if payload.len() < bytes {
            return Ok(Look::Short);
        }
        if !header.fits(payload) {
            return Ok(Look::Broken(header));
        }
        let is_due = self.stand.due.is_none_or(|due| header.sequence >= due);
        Ok(if is_due { Look::Frame(header) } else { Look::Nothing })
    }

    /// The next thing in the file. After an error, or at the end, it stands where it stood.
    pub(super) fn step(&mut self) -> Result<Step, Error> {
        loop {
            let position = self.stand.at;
            if let Look::Frame(header) = self.look(position)? {
                self.stand.at += header.frame();
                self.stand.closed = header.kind == Kind::End;
                self.stand.given = header.sequence;
                if header.kind == Kind::Data {
                    let missing = self.stand.due.map_or(0, |due| header.sequence - due);
                    self.stand.due = Some(header.sequence.saturating_add(1));
                    self.stand.given = header.sequence.saturating_add(1);
                    return Ok(Step::Frame { position, header, missing });
                }
                if header.kind == Kind::Cookie {
                    self.stand.cookie = Some((position, header));
                }
                continue;
            }
            let (found, rest) = self.search(position)?;
            match found {
                Some(to) if to > position => {
                    self.stand.at = to;
                    return Ok(Step::Hole { from: position, to });
                }
                Some(_) => {} // it has come to be meanwhile
                None => return Ok(Step::End(rest)),
            }
        }
    }

    /// The last cookie that was stepped over.
    pub(super) fn cookie(&mut self) -> Result<Option<Cookie>, Error> {
        let Some((position, header)) = self.stand.cookie else { return Ok(None) };
        Ok(Cookie::decode(self.payload(position, &header)?))
    }

    /// The last one from here to the first hole, or the end.
    pub(super) fn cookie_ahead(&mut self, from: u64) -> Result<Option<Cookie>, Error> {
        self.stand(from, None);
        while let Step::Frame { .. } = self.step()? {}
        self.cookie()
    }

    /// The next valid frame at `from` or behind, and what else was met.
    fn search(&mut self, from: u64) -> Result<(Option<u64>, Rest), Error> {
        let missing = self.stand.due.map_or(0, |due| self.stand.given.saturating_sub(due));
        let (closed, to) = (self.stand.closed, self.window.len);
        let mut rest = Rest { from, data: from, own: from, stale: None, to, closed, missing };
        let mut at = from;
        while let Some(mark) = self.next_mark(at, u64::MAX, &mut rest.data)? {
            at = mark + 1;
            match self.look(mark)? {
                Look::Frame(_) => return Ok((Some(mark), rest)),
                Look::Broken(header) => {
                    at = mark + header.frame(); // that length is true
                    rest.own = at;
                    let last = last_not_zero(self.bytes(mark, header.frame() as usize)?);
                    rest.data = mark + last.map_or(0, |last| last as u64 + 1);
                }
                Look::Short => rest.own = u64::MAX,
                Look::Stale => rest.stale = rest.stale.or(Some(mark)),
                Look::Nothing => {}
            }
            rest.data = rest.data.max(mark + 1);
        }
        rest.to = self.window.len;
        rest.own = rest.own.min(rest.to);
        Ok((None, rest))
    }

    /// The first header of this recording in `from..to`, whatever its payload is: a signpost.
    pub(super) fn signpost(&mut self, from: u64, to: u64) -> Result<Option<(u64, Header)>, Error> {
        let mut at = from;
        while let Some(mark) = self.next_mark(at, to, &mut 0)? {
            match self.header(mark)? {
                Some(header) if header.generation == self.generation => {
                    return Ok(Some((mark, header)));
                }
                _ => at = mark + 1,
            }
        }
        Ok(None)
    }

    /// The generation of the first header behind `from` that is right and bears this number or a higher
    /// one: that of a file whose head is damaged, since older blocks have lower numbers.
    pub(super) fn generation_ahead(&mut self, from: u64, due: u64) -> Result<Option<u64>, Error> {
        let mut at = from;
        while let Some(mark) = self.next_mark(at, u64::MAX, &mut 0)? {
            match self.header(mark)? {
                Some(header) if header.sequence >= due => return Ok(Some(header.generation)),
                _ => at = mark + 1,
            }
        }
        Ok(None)
    }

    /// Where the next frame might begin, before `to`. Moves `data` behind the last byte on the way
    /// that is not zero.
    fn next_mark(&mut self, from: u64, to: u64, data: &mut u64) -> Result<Option<u64>, Error> {
        let mut at = from;
        while at < to {
            let held = self.window.some(at, HEADER).map_err(failed)?;
            let is_last = held.len() < HEADER;
            let found = find_mark(held);
            // The beginning of a mark may lie at the end of what is held.
            let passed = found.unwrap_or(if is_last { held.len() } else { held.len() - 2 });
            if let Some(last) = last_not_zero(&held[..passed]) {
                *data = at + last as u64 + 1;
            }
            at += passed as u64;
            if found.is_some() {
                return Ok((at < to).then_some(at));
            }
            if is_last {
                return Ok(None);
            }
        }
        Ok(None)
    }
}

fn failed(source: io::Error) -> Error {
    Error::io("read", None, source)
}

/// Bytes that are looked at together where all are zero: space ahead of the data is long.
const BLOCK: usize = 64;

fn is_zero(block: &[u8]) -> bool {
    block.iter().fold(0, |all, byte| all | byte) == 0
}

fn find_mark(bytes: &[u8]) -> Option<usize> {
    let zeros = bytes.chunks(BLOCK).take_while(|block| is_zero(block)).map(<[u8]>::len).sum();
    let mut at: usize = zeros;
    loop {
        at += bytes[at..].iter().position(|byte| *byte == MARK[0])?;
        if bytes[at..].starts_with(&MARK) {
            return Some(at);
        }
        at += 1;
    }
}

fn last_not_zero(bytes: &[u8]) -> Option<usize> {
    let zeros: usize =
        bytes.rchunks(BLOCK).take_while(|block| is_zero(block)).map(<[u8]>::len).sum();
    bytes[..bytes.len() - zeros].iter().rposition(|byte| *byte != 0)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::frames::format::{HEAD, Head};
    use crate::frames::{End, Hole, Item, Reader};

    /// Rule 6: a number that has passed, of whatever origin, is no frame.
    #[test]
    fn a_frame_whose_number_has_passed_is_none() {
        let (generation, sum) = (9, crc32c::crc32c(b""));
        let mut file = Head::of(generation, Some(5), 0).encode().to_vec();
        for sequence in [5, 3, 6, 5] {
            let header = Header { kind: Kind::Data, len: 0, sequence, time: 0, generation, sum };
            file.extend(header.encode(file.len() as u64));
        }
        let mut reader = Reader::new(io::Cursor::new(&file)).unwrap();
        let items: Vec<Item> = reader.by_ref().map(Result::unwrap).collect();
        let [Item::Frame(five), Item::Hole(hole), Item::Frame(six)] = &items[..] else {
            panic!("{items:?}");
        };
        assert_eq!((five.sequence, six.sequence), (5, 6));
        let (from, to) = ((HEAD + HEADER) as u64, (HEAD + 2 * HEADER) as u64);
        assert_eq!(*hole, Hole { from, to });
        let (from, to) = (to + HEADER as u64, file.len() as u64);
        assert_eq!(reader.end(), Some(End::Torn { from, to }));
    }

    #[test]
    fn marks_and_zeros_are_found_wherever_they_lie() {
        for at in 0..200 {
            let mut bytes = vec![0; at];
            assert_eq!((find_mark(&bytes), last_not_zero(&bytes)), (None, None));
            bytes.extend(MARK);
            assert_eq!((find_mark(&bytes), last_not_zero(&bytes)), (Some(at), Some(at + 2)));
            bytes.extend([0; 100]);
            assert_eq!((find_mark(&bytes), last_not_zero(&bytes)), (Some(at), Some(at + 2)));
            bytes.splice(0..0, [MARK[0]; 5]);
            assert_eq!(find_mark(&bytes), Some(at + 5));
        }
    }
}
