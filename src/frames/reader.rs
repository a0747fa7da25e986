//! Reading a framed file: forwards, from its start, a position, a number or a time.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::cookie::Cookie;
use super::error::Error;
use super::format::{self, END, HEAD, Head, Header, Kind, NoHead};
use super::index::Table;
use super::scan::{Look, Rest, Scanner, Source, Step};
use crate::segments::Segment;

/// The longest payload that is read, unless somebody says otherwise: 64 MiB.
pub(super) const DEFAULT_LIMIT: usize = 64 << 20;

/// A frame, whose payload lies in the reader's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct View<'a> {
    /// Where its header begins in the file.
    pub position: u64,
    /// Its number.
    pub sequence: u64,
    /// Its time, as the producer gave it.
    pub time: u64,
    /// Numbers that are missing directly before it: messages that were lost, or lie in a hole. 0
    /// behind a seek.
    pub missing: u64,
    /// Its payload.
    pub payload: &'a [u8],
}

/// A frame that owns its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// Where its header begins in the file.
    pub position: u64,
    /// Its number.
    pub sequence: u64,
    /// Its time, as the producer gave it.
    pub time: u64,
    /// As [`View::missing`].
    pub missing: u64,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl From<View<'_>> for Frame {
    fn from(view: View<'_>) -> Self {
        let View { position, sequence, time, missing, payload } = view;
        Self { position, sequence, time, missing, payload: payload.to_vec() }
    }
}

/// Bytes between two frames in which no valid frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hole {
    /// Its first byte.
    pub from: u64,
    /// The first byte behind it, where the next frame begins.
    pub to: u64,
}

/// What a reader meets: `F` is a [`Frame`] or a [`View`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<F = Frame> {
    /// A frame.
    Frame(F),
    /// Damage, or bytes that a power cut has lost.
    Hole(Hole),
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// With the footer of a close.
    Closed {
        /// Numbers that were given behind the last frame, to messages that were lost.
        missing: u64,
    },
    /// Behind a whole frame: its writer is at work, or was killed. Zeros may follow.
    Open,
    /// In bytes that were to become a frame, or are damaged.
    Torn {
        /// Behind the last valid frame.
        from: u64,
        /// Behind the last byte that is not zero.
        to: u64,
    },
    /// In bytes of an older recording, in a file that was recycled.
    Stale {
        /// Behind the last valid frame.
        from: u64,
        /// Behind the last byte that is not zero.
        to: u64,
    },
}

impl End {
    pub(super) fn of(rest: &Rest) -> Self {
        let (from, to) = (rest.from, rest.data);
        match rest.stale {
            _ if to == from && rest.closed => Self::Closed { missing: rest.missing },
            _ if to == from => Self::Open,
            Some(_) if rest.own == from => Self::Stale { from, to },
            _ => Self::Torn { from, to },
        }
    }
}

/// A frame that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub(super) position: u64,
    pub(super) header: Header,
    pub(super) missing: u64,
}

/// What a step has met.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stepped {
    Frame(Spot),
    Hole(Hole),
    End(End),
}

/// A source that is read at positions.
#[derive(Debug)]
struct Seekable<R> {
    inner: R,
    at: Option<u64>,
}

impl<R: Read + Seek> Source for Seekable<R> {
    fn read_at(&mut self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        if self.at != Some(at) {
            self.at = None;
            self.inner.seek(SeekFrom::Start(at))?;
        }
        let read = self.inner.read(bytes)?;
        self.at = Some(at + read as u64);
        Ok(read)
    }

    fn len(&mut self) -> io::Result<u64> {
        self.at = None;
        self.inner.seek(SeekFrom::End(0))
    }
}

/// Reads the frames of a file, or of anything that can be read and sought (`File`, `&File`,
/// `Cursor`); [the module](super) says how. The file may be open in a writer: frames that are whole
/// are read, durable or not.
///
/// As an iterator it gives [`Item`]s that own their payload, and ends with [`end`](Self::end), or
/// behind the first error; [`read`](Self::read) lends the payload instead. Every call reads from the
/// source when its memory is used up, and blocks as that does. It keeps 1 MiB of the file in memory,
/// or a frame that is longer: never more than the [`limit`](Self::limit), and never more than there is
/// of the file. No content of the file makes it panic.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("take");
/// use writeflush::frames::{End, Item, Options, Reader};
///
/// let mut writer = Options::default().create(&path)?;
/// writer.write(1_000, b"one")?; // a time, and a message
/// writer.write(2_000, b"two")?;
/// writer.close()?;
///
/// let mut reader = Reader::open(&path)?;
/// assert!(reader.seek_time(1_500)?);
/// while let Some(item) = reader.read()? {
///     match item {
///         Item::Frame(frame) => assert_eq!((frame.sequence, frame.payload), (1, &b"two"[..])),
///         Item::Hole(hole) => eprintln!("damaged from {} to {}", hole.from, hole.to),
///     }
/// }
/// assert_eq!(reader.end(), Some(End::Closed { missing: 0 }));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reader<R> {
    scanner: Scanner<Seekable<R>>,
    /// `None`: it is damaged.
    head: Option<Head>,
    end: Option<End>,
    /// The iterator has met an error.
    failed: bool,
}

impl Reader<File> {
    /// Opens a file for reading, and reads its head.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|error| Error::io("open", Some(path), error))?;
        Self::new(file).map_err(|error| error.of(path))
    }
}

impl Reader<File> {
    /// `None`: the file is gone, has not got a head yet, or has become another segment. One whose head is
    /// damaged is read if it goes on with something, a recording of that generation and number: as of the
    /// first frame in it that can be of that.
    pub(super) fn open_if_begun(
        segment: &Segment,
        goes_on: Option<(u64, u64)>,
    ) -> Result<Option<Self>, Error> {
        let path = &*segment.path;
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| Error::io("open", Some(path), error))?,
        };
        let opened = identity(file.metadata());
        let mut scanner = Scanner::new(Seekable { inner: file, at: None })?;
        let head = Head::decode(scanner.bytes(0, HEAD).map_err(|error| error.of(path))?);
        let (head, generation, due) = match (head, goes_on) {
            (Ok(head), _) => (Some(head), head.generation, head.first),
            (Err(NoHead::Unfinished | NoHead::Zeros), _) => return Ok(None),
            (Err(NoHead::Damaged), Some((generation, due))) => {
                let own = scanner.generation_ahead(HEAD as u64, due);
                let own = own.map_err(|error| error.of(path))?;
                (None, own.unwrap_or(generation), Some(due))
            }
            (Err(found), _) => return Err(Error::no_head(found, Some(path))),
        };
        scanner.belong(generation);
        scanner.stand(HEAD as u64, due);
        // It gets its new name before it gets a frame: what has both was renamed by somebody else.
        if head.is_some_and(|head| head.is_of_another(segment.sequence)) {
            let has_frames = matches!(scanner.look(HEAD as u64)?, Look::Frame(_));
            if !has_frames || opened != identity(std::fs::metadata(path)) {
                return Ok(None);
            }
        }
        Ok(Some(Self { scanner, head, end: None, failed: false }))
    }

    /// Whether it ends with the footer of a close. Stands at the first frame then.
    #[cfg(target_os = "linux")] // for followers
    pub(super) fn is_closed(&mut self) -> Result<bool, Error> {
        let footer = read_footer(&mut self.scanner)?;
        self.stand(HEAD as u64);
        Ok(footer.is_some())
    }
}

/// Which file it is, as far as the system can tell.
fn identity(file: io::Result<std::fs::Metadata>) -> Option<(u64, u64)> {
    #[cfg(unix)]
    return file.ok().map(|it| {
        use std::os::unix::fs::MetadataExt;
        (it.dev(), it.ino())
    });
    #[cfg(not(unix))]
    return file.ok().and(None);
}

impl<R: Read + Seek> Reader<R> {
    /// Reads the head, and stands at the first frame, wherever the source stood.
    ///
    /// # Errors
    /// [`Error::NotFramed`] and [`Error::Version`] by the head, and [`Error::Io`].
    pub fn new(source: R) -> Result<Self, Error> {
        let mut scanner = Scanner::new(Seekable { inner: source, at: None })?;
        let head = read_head(&mut scanner)?;
        scanner.belong(head.generation);
        scanner.stand(HEAD as u64, head.first);
        Ok(Self { scanner, head: Some(head), end: None, failed: false })
    }

    /// For a file whose head is damaged: reads the frames of this generation, wherever the first of
    /// them lies.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn with_generation(source: R, generation: u64) -> Result<Self, Error> {
        let mut scanner = Scanner::new(Seekable { inner: source, at: None })?;
        scanner.belong(generation);
        scanner.stand(HEAD as u64, None);
        Ok(Self { scanner, head: None, end: None, failed: false })
    }

    /// The longest payload to read, in bytes (default 64 MiB): no more memory is taken, whatever a
    /// file says.
    #[must_use]
    pub fn limit(mut self, bytes: usize) -> Self {
        self.scanner.limit(bytes);
        self
    }

    /// The generation of the file.
    pub fn generation(&self) -> u64 {
        self.scanner.generation()
    }

    /// Where it stands: behind what it gave last.
    pub fn position(&self) -> u64 {
        self.scanner.position()
    }

    /// How the file ends, once nothing more came.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// The next frame or hole; `None` at the end. A frame's payload is lent until the next call.
    /// Takes memory for a frame longer than all before only.
    ///
    /// # Errors
    /// [`Error::TooLong`] and [`Error::Io`]; the next call tries the same place again.
    pub fn read(&mut self) -> Result<Option<Item<View<'_>>>, Error> {
        match self.step()? {
            Stepped::Frame(spot) => self.view(spot).map(|view| Some(Item::Frame(view))),
            Stepped::Hole(hole) => Ok(Some(Item::Hole(hole))),
            Stepped::End(_) => Ok(None),
        }
    }

    /// As [`read`](Self::read), and lends nothing.
    pub(super) fn step(&mut self) -> Result<Stepped, Error> {
        Ok(match self.scanner.step()? {
            Step::Frame { position, header, missing } => {
                Stepped::Frame(Spot { position, header, missing })
            }
            Step::Hole { from, to } => Stepped::Hole(Hole { from, to }),
            Step::End(rest) => {
                let end = End::of(&rest);
                self.end = Some(end);
                Stepped::End(end)
            }
        })
    }

    /// The frame that was just stepped over.
    pub(super) fn view(&mut self, spot: Spot) -> Result<View<'_>, Error> {
        let Spot { position, header, missing } = spot;
        let Header { sequence, time, .. } = header;
        let payload = self.scanner.payload(position, &header)?;
        Ok(View { position, sequence, time, missing, payload })
    }

    /// Looks at the source anew: what has been written since it was opened, or last refreshed, is
    /// read, from where it stands.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn refresh(&mut self) -> Result<(), Error> {
        (self.end, self.failed) = (None, false);
        self.scanner.refresh()
    }

    /// Goes on at the first frame that begins at `position` or behind; whether there is one. If not,
    /// the next read says how the file ends.
    ///
    /// # Errors
    /// [`Error::TooLong`] and [`Error::Io`].
    pub fn seek_position(&mut self, position: u64) -> Result<bool, Error> {
        self.stand(position);
        match self.frame_ahead()? {
            Step::Frame { position, .. } => {
                self.stand(position);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Goes on at the first frame whose number is `sequence` or higher; whether there is one. If not,
    /// the next read says how the file ends.
    ///
    /// Reads the index of a closed file; else, as between its entries, halves the file some 20 times,
    /// at 1 MiB each.
    ///
    /// # Errors
    /// [`Error::TooLong`] and [`Error::Io`].
    pub fn seek_sequence(&mut self, sequence: u64) -> Result<bool, Error> {
        self.seek_first(|number, _| number < sequence)
    }

    /// As [`seek_sequence`](Self::seek_sequence), by time. Where times descend along the file it goes on
    /// at some frame of that time or later, not for certain at the first.
    ///
    /// # Errors
    /// As [`seek_sequence`](Self::seek_sequence).
    pub fn seek_time(&mut self, time: u64) -> Result<bool, Error> {
        self.seek_first(|_, of| of < time)
    }

    /// The last [cookie](super::Cookie) in the file before its first hole, durable or not. A closed file
    /// says it in its footer; else all of it is read. Goes on where it stood.
    ///
    /// # Errors
    /// [`Error::TooLong`] and [`Error::Io`].
    pub fn cookie(&mut self) -> Result<Option<Cookie>, Error> {
        let stood = self.scanner.stands();
        let footer = read_footer(&mut self.scanner);
        let cookie = match footer.map(|footer| footer.and_then(|footer| footer.cookie)) {
            Ok(Some(known)) => Ok(known),
            Ok(None) => self.scanner.cookie_ahead(HEAD as u64),
            Err(error) => Err(error),
        };
        self.scanner.stand_again(stood);
        cookie
    }

    pub(super) fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Bytes in the source, when it was last looked at.
    #[cfg(target_os = "linux")] // for followers
    pub(super) fn len(&self) -> u64 {
        self.scanner.len()
    }

    /// The source, which the next [`refresh`](Self::refresh) looks at anew.
    #[cfg(target_os = "linux")] // for followers
    pub(super) fn source(&mut self) -> &mut R {
        &mut self.scanner.source().inner
    }

    /// The source, wherever it stands.
    pub fn into_inner(self) -> R {
        self.scanner.into_source().inner
    }

    fn stand(&mut self, at: u64) {
        self.scanner.stand(at.max(HEAD as u64), None);
        (self.end, self.failed) = (None, false);
    }

    fn frame_ahead(&mut self) -> Result<Step, Error> {
        loop {
            match self.scanner.step()? {
                Step::Hole { .. } => {}
                other => return Ok(other),
            }
        }
    }

    /// To the first frame that does not lie before what is sought.
    fn seek_first(&mut self, is_before: impl Fn(u64, u64) -> bool) -> Result<bool, Error> {
        let from = self.narrow(&is_before)?;
        self.stand(from);
        loop {
            match self.frame_ahead()? {
                Step::Frame { position, header, .. } => {
                    if !is_before(header.sequence, header.time) {
                        self.stand(position);
                        return Ok(true);
                    }
                }
                _ => return Ok(false),
            }
        }
    }

    /// A place at or before the first such frame, and near it.
    fn narrow(&mut self, is_before: impl Fn(u64, u64) -> bool) -> Result<u64, Error> {
        const NEAR: u64 = 256 << 10;
        let (mut from, mut to) = (HEAD as u64, self.scanner.len());
        if let Some(footer) = read_footer(&mut self.scanner)? {
            let entries = footer.table.entries();
            let behind = entries.partition_point(|entry| is_before(entry.sequence, entry.time));
            from = behind.checked_sub(1).map_or(from, |last| entries[last].position);
            to = entries.get(behind).map_or(to, |entry| entry.position);
        }
        while to.saturating_sub(from) > NEAR {
            let middle = from + (to - from) / 2;
            match self.scanner.signpost(middle, to)? {
                Some((at, header)) if is_before(header.sequence, header.time) => from = at,
                _ => to = middle,
            }
        }
        Ok(from)
    }
}

impl<R: Read + Seek> Iterator for Reader<R> {
    type Item = Result<Item, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.end.is_some() {
            return None;
        }
        let owned = |item| match item {
            Item::Frame(view) => Item::Frame(Frame::from(view)),
            Item::Hole(hole) => Item::Hole(hole),
        };
        let next = self.read().map(|item| item.map(owned));
        self.failed = next.is_err();
        next.transpose()
    }
}

/// The head of the file.
pub(super) fn read_head<S: Source>(scanner: &mut Scanner<S>) -> Result<Head, Error> {
    Head::decode(scanner.bytes(0, HEAD)?).map_err(|found| Error::no_head(found, None))
}

/// The footer of a closed file.
#[derive(Debug)]
pub(super) struct Footer {
    /// The header of the end frame.
    pub(super) header: Header,
    pub(super) end: format::End,
    /// The index; empty if it is damaged.
    pub(super) table: Table,
    /// The cookie that it repeats, if it has one; `None`: that can't be told.
    pub(super) cookie: Option<Option<Cookie>>,
}

/// The footer, if the file ends with one. The scanner has to be told then where to stand.
pub(super) fn read_footer<S: Source>(scanner: &mut Scanner<S>) -> Result<Option<Footer>, Error> {
    let Some(at) = scanner.len().checked_sub(END as u64) else { return Ok(None) };
    scanner.stand(at, None);
    let (header, end) = match scanner.look(at)? {
        Look::Frame(header) if header.kind == Kind::End => {
            match format::End::decode(scanner.payload(at, &header)?) {
                Some(end) => (header, end),
                None => return Ok(None),
            }
        }
        _ => return Ok(None),
    };
    let (table, cookie) = match scanner.look(end.index)? {
        Look::Frame(index) if index.kind == Kind::Index => {
            let table = Table::decode(scanner.payload(end.index, &index)?, end.index);
            (table, repeated(scanner, end.index + index.frame(), at)?)
        }
        _ => (None, None),
    };
    Ok(Some(Footer { header, end, table: table.unwrap_or_else(Table::new), cookie }))
}

/// The cookie in these bytes of a footer, if there are any.
fn repeated<S: Source>(
    scanner: &mut Scanner<S>,
    from: u64,
    to: u64,
) -> Result<Option<Option<Cookie>>, Error> {
    if from == to {
        return Ok(Some(None));
    }
    Ok(match scanner.look(from)? {
        Look::Frame(header) if header.kind == Kind::Cookie && from + header.frame() == to => {
            Cookie::decode(scanner.payload(from, &header)?).map(Some)
        }
        _ => None,
    })
}
