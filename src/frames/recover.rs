//! Recovery: the valid prefix stays, the damaged tail is kept beside, and numbers go on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cookie::Cookie;
use super::error::Error;
use super::format::{Entry, HEAD, Head, Header, NoHead};
use super::options::Options;
use super::reader::{End, Footer, read_footer};
use super::scan::{Rest, Scanner, Source, Step};
use super::writer::Book;
use crate::file::Handle;
use crate::recover::{Beside, Plan, Refused, carry_out};

/// What a recovery has found, and done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// How the file ended; `None` if there was nothing in it, not even a head.
    pub found: Option<End>,
    /// Bytes that stay: the length of the file now.
    pub kept: u64,
    /// Data frames in them.
    pub frames: u64,
    /// The number that the next frame will have.
    pub next_sequence: u64,
    /// Numbers that are missing before it: messages that were lost when they were pushed.
    pub missing: u64,
    /// Bytes that were cut off: the damaged tail, zeros, and what an older recording has left in a
    /// recycled file.
    pub cut: u64,
    /// The damaged tail, if there was one.
    pub torn: Option<Torn>,
    /// The last cookie in what stays: see [`flush_with`](super::Writer::flush_with).
    pub cookie: Option<Cookie>,
}

impl Recovered {
    /// Of a file that was not there, or is empty.
    pub(super) fn nothing() -> Self {
        Self {
            found: None,
            kept: 0,
            frames: 0,
            next_sequence: 0,
            missing: 0,
            cut: 0,
            torn: None,
            cookie: None,
        }
    }
}

/// A damaged tail that was kept beside its file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Torn {
    /// The file that has it now.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Whole frames in it, which lie behind a hole: they were never durable.
    pub frames: u64,
}

/// [`Options::recover`], with default options.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("take");
/// # let mut writer = writeflush::frames::Options::default().create(&path)?;
/// # writer.write(0, b"whole")?;
/// # writer.into_inner().close()?;
/// # use std::io::Write;
/// # std::fs::File::options().append(true).open(&path)?.write_all(b"half a fra")?;
/// let found = writeflush::frames::recover(&path)?;
/// println!("{} frames, {} missing, {} bytes cut", found.frames, found.missing, found.cut);
/// if let Some(torn) = found.torn {
///     println!("{} bytes are in {}", torn.bytes, torn.path.display());
/// #   assert_eq!(std::fs::read(torn.path)?, b"half a fra");
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`Options::recover`].
pub fn recover(path: impl AsRef<Path>) -> Result<Recovered, Error> {
    Options::default().recover(path)
}

/// How a recording goes on.
#[derive(Debug)]
pub(super) struct Goes {
    /// `None`: it has to begin anew.
    pub(super) head: Option<Head>,
    pub(super) book: Book,
}

impl Goes {
    pub(super) fn anew() -> Self {
        let mut book = Book::new(&Head::of(0, Some(0), 0));
        book.position = 0;
        Self { head: None, book }
    }
}

/// Recovers the file, whose lock is held; returns what to tell, and how to go on.
pub(super) fn run(
    options: &Options,
    path: &Path,
    file: &Arc<dyn Handle>,
) -> Result<(Recovered, Goes), Error> {
    let mut scanner = Scanner::new(Of(file.clone())).map_err(|error| error.of(path))?;
    scanner.limit(options.limit());
    let survey = survey(&mut scanner).map_err(|error| error.of(path))?;
    let torn = carry_out(&mut Beside::new(path, file.clone()), &survey.plan)
        .map_err(|Refused { operation, source }| Error::io(operation.verb(), Some(path), source))?;
    let Survey { mut recovered, goes, behind, plan } = survey;
    let bytes = plan.tail - plan.end;
    recovered.torn = torn.map(|path| Torn { path, bytes, frames: behind });
    Ok((recovered, goes))
}

/// What a file is at first sight.
pub(super) enum Glance {
    /// Not even a head.
    Nothing,
    /// Its writer has not closed it.
    Open(Head),
    /// It has; and the number behind the last that was given. That is not known where nobody had written
    /// a frame to a segment, when a recovery closed it. And the cookie.
    Closed(Head, Option<u64>, Option<Arc<Cookie>>),
}

/// Reads head and footer. Refuses what is no framed file.
pub(super) fn glance(file: &Arc<dyn Handle>) -> Result<Glance, Error> {
    let mut scanner = Scanner::new(Of(file.clone()))?;
    let head = match Head::decode(scanner.bytes(0, HEAD)?) {
        Ok(head) => head,
        Err(NoHead::Unfinished | NoHead::Zeros) => return Ok(Glance::Nothing),
        Err(found) => return Err(Error::no_head(found, None)),
    };
    scanner.belong(head.generation);
    let footer = read_footer(&mut scanner)?;
    Ok(match footer {
        None => Glance::Open(head),
        Some(footer) => {
            let is_known = footer.end.frames > 0 || head.first.is_some();
            let next = Some(footer.header.sequence).filter(|_| is_known);
            Glance::Closed(head, next, cookie(&mut scanner, footer.cookie)?)
        }
    })
}

/// That of a closed file, whose footer says so much.
fn cookie<S: Source>(
    scanner: &mut Scanner<S>,
    said: Option<Option<Cookie>>,
) -> Result<Option<Arc<Cookie>>, Error> {
    let cookie = match said {
        Some(known) => known,
        None => scanner.cookie_ahead(HEAD as u64)?,
    };
    Ok(cookie.map(Arc::new))
}

/// What is in the file, and what is to be done.
struct Survey {
    recovered: Recovered,
    goes: Goes,
    /// Whole frames in the tail.
    behind: u64,
    plan: Plan,
}

fn survey<S: Source>(scanner: &mut Scanner<S>) -> Result<Survey, Error> {
    let len = scanner.len();
    let head = match Head::decode(scanner.bytes(0, HEAD)?) {
        Ok(head) => head,
        Err(no_head) => return without_a_head(scanner, no_head),
    };
    scanner.belong(head.generation);
    if let Some(Footer { header, end, table, cookie: said }) = read_footer(scanner)? {
        let mut book = Book::new(&head);
        (book.position, book.next, book.last_time) = (len, header.sequence, header.time);
        (book.frames, book.first_time, book.table) = (end.frames, end.first_time, table);
        book.cookie = cookie(scanner, said)?;
        let goes = Goes { head: Some(head), book };
        let first = head.first.or(goes.book.first()).unwrap_or(goes.book.next);
        let given = goes.book.next.saturating_sub(first);
        let missing = given.saturating_sub(end.frames);
        let found = End::Closed { missing: 0 };
        let plan = Plan { end: len, tail: len, len, closed: true, header: Vec::new() };
        return Ok(Survey::new(goes, found, missing, plan, 0));
    }
    scanner.stand(HEAD as u64, head.first);
    Ok(prefix(scanner, head)?.survey(len))
}

impl Survey {
    fn new(goes: Goes, found: End, missing: u64, plan: Plan, behind: u64) -> Self {
        let recovered = Recovered {
            found: Some(found),
            kept: plan.end,
            frames: goes.book.frames,
            next_sequence: goes.book.next,
            missing,
            cut: plan.len - plan.end,
            torn: None,
            cookie: goes.book.cookie.as_deref().cloned(),
        };
        Self { recovered, goes, behind, plan }
    }
}

/// Nothing was ever written behind a head: an open that did not end. Or it is somebody else's file.
fn without_a_head<S: Source>(scanner: &mut Scanner<S>, found: NoHead) -> Result<Survey, Error> {
    let refused = || Error::no_head(found, None);
    if !matches!(found, NoHead::Unfinished | NoHead::Zeros) {
        return Err(refused());
    }
    scanner.stand(0, None);
    let Step::End(rest) = scanner.step()? else { return Err(refused()) };
    if found == NoHead::Zeros && rest.data > 0 {
        return Err(refused());
    }
    let plan = Plan { end: 0, tail: rest.data, len: rest.to, closed: false, header: Vec::new() };
    let recovered = Recovered { cut: rest.to, ..Recovered::nothing() };
    Ok(Survey { recovered, goes: Goes::anew(), behind: 0, plan })
}

/// What one pass over the file has found.
struct Pass {
    goes: Goes,
    missing: u64,
    /// The first hole, and where the last frame behind it ends.
    hole: Option<(u64, u64)>,
    /// Whole frames behind it.
    behind: u64,
    rest: Rest,
}

fn prefix<S: Source>(scanner: &mut Scanner<S>, head: Head) -> Result<Pass, Error> {
    let goes = Goes { head: Some(head), book: Book::new(&head) };
    let (mut goes, mut missing, mut hole, mut behind) = (goes, 0, None, 0);
    let rest = loop {
        match (scanner.step()?, &mut hole) {
            (Step::Frame { position, header, missing: before }, None) => {
                let Header { sequence, time, .. } = header;
                goes.book.note(Entry { position, sequence, time }, header.frame());
                missing += before;
            }
            (Step::Frame { .. }, Some((_, end))) => {
                *end = scanner.position();
                behind += 1;
            }
            (Step::Hole { from, .. }, None) => {
                goes.book.cookie = scanner.cookie()?.map(Arc::new);
                missing += goes.ends(from, scanner.next_number());
                hole = Some((from, from));
            }
            (Step::Hole { .. }, Some(_)) => {}
            (Step::End(rest), _) => break rest,
        }
    };
    if hole.is_none() {
        goes.book.cookie = scanner.cookie()?.map(Arc::new);
        missing += goes.ends(rest.from, scanner.next_number());
    }
    Ok(Pass { goes, missing, hole, behind, rest })
}

impl Goes {
    /// The prefix ends here, and a footer in it may know of more numbers that were given; returns how
    /// many of them no frame has.
    fn ends(&mut self, position: u64, next: u64) -> u64 {
        self.book.position = position;
        let more = next.saturating_sub(self.book.next);
        self.book.next += more;
        more
    }
}

impl Pass {
    fn survey(self, len: u64) -> Survey {
        let Self { goes, missing, hole, behind, rest } = self;
        let end = goes.book.position;
        let own = hole.map_or(rest.own, |(_, last)| rest.own.max(last));
        // Behind the last of our own frames, older ones are nobody's any more.
        let tail = match rest.stale {
            Some(stale) => rest.data.min(own.max(stale)),
            None => rest.data,
        };
        let found = match hole {
            Some(_) => End::Torn { from: end, to: rest.data },
            None => End::of(&rest),
        };
        let plan = Plan {
            end,
            tail: tail.max(end),
            len: rest.to.max(len),
            closed: false,
            header: Vec::new(),
        };
        Survey::new(goes, found, missing, plan, behind)
    }
}

/// What a recovery would do to this file.
#[cfg(all(test, target_os = "linux", not(any(loom, shuttle))))]
pub(crate) fn plan_of(file: &Arc<dyn Handle>) -> Plan {
    survey(&mut Scanner::new(Of(file.clone())).unwrap()).unwrap().plan
}

/// Where a recovery would end a file with this content.
#[cfg(all(test, unix, not(any(loom, shuttle))))]
pub(super) fn prefix_of(content: &[u8]) -> Result<u64, Error> {
    struct Content<'a>(&'a [u8]);
    impl Source for Content<'_> {
        fn read_at(&mut self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
            let rest = self.0.get(at as usize..).unwrap_or(&[]);
            let len = rest.len().min(bytes.len());
            bytes[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        }

        fn len(&mut self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }
    }
    Ok(survey(&mut Scanner::new(Content(content))?)?.plan.end)
}

/// A file that is locked.
struct Of(Arc<dyn Handle>);

impl Source for Of {
    fn read_at(&mut self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(bytes, at)
    }

    fn len(&mut self) -> io::Result<u64> {
        self.0.len()
    }
}
