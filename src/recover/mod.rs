//! Recovery of a file whose writer was killed, whatever is in it: how much of it is good is said by a
//! function, [`wave`] for WAV and RF64, or the caller's own. What is damaged behind that is kept
//! beside the file. (Framed files know by themselves: [`frames::recover`](crate::frames::recover()).)
//! Before that [`ring()`] brings to the file what its writer had accepted, if that
//! [survives a kill](Options::survive_kill).
//!
//! # The order of the steps
//!
//! Under the writer's lock, so that no live recording is touched:
//!
//! 1. The function says where the good bytes end; they are the *prefix*. It may give a header that
//!    describes them.
//! 2. What lies behind is the *tail*, up to the last byte that is not zero. It is copied beside, to
//!    `NAME.torn-OFFSET.part`, that is flushed, renamed to `NAME.torn-OFFSET`, and the directory is
//!    flushed. A file of that name which holds just these bytes is an earlier try's, and serves; one
//!    that holds others stays, and the name becomes `NAME.torn-OFFSET-2`, and so on.
//! 3. Only then the file is cut to its prefix, and flushed, and its name too.
//! 4. Only then the header is written, and flushed: it describes durable bytes.
//!
//! A recovery that ends anywhere, also by a power cut, leaves file and tail such that the next one
//! ends the same way, if the function says the same of the prefix alone as of the whole file. A
//! second recovery finds nothing to do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Operation};
use crate::file::{Handle, OpenMode, end_of_data, open_locked};
use crate::options::Options;
use crate::writer::Writer;
pub(crate) use ground::Beside;
pub(crate) use steps::{Plan, Refused, carry_out};

mod ground;
mod ring;
mod scan;
pub(crate) mod steps;
#[cfg(all(test, target_os = "linux", not(any(loom, shuttle))))]
pub(crate) mod tests;
mod wave;

pub use ring::{Brought, ring};
pub use scan::Scan;
pub use wave::{Wave, wave};

/// What of a file is good: its first bytes, and the header that describes them. A `u64` is one, too:
/// where the good bytes end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    end: u64,
    missing: u64,
    header: Vec<(u64, Vec<u8>)>,
}

impl Prefix {
    /// The bytes before `end`.
    pub fn new(end: u64) -> Self {
        Self { end, missing: 0, header: Vec::new() }
    }

    /// Bytes that ought to be in the file, and are not: for the report.
    #[must_use]
    pub fn missing(mut self, bytes: u64) -> Self {
        self.missing = bytes;
        self
    }

    /// Bytes to write at `offset` once the prefix is durable: a header that says how long it is. They
    /// begin in the prefix, or directly behind it, and may lengthen the file; a second call adds others.
    /// (A power cut may tear them between two sectors: the next recovery puts them right, if the
    /// function reckons with that.)
    #[must_use]
    pub fn header(mut self, offset: u64, bytes: impl Into<Vec<u8>>) -> Self {
        self.header.push((offset, bytes.into()));
        self
    }

    /// The length of the file in the end.
    fn len(&self) -> u64 {
        let ends = self.header.iter().map(|(at, bytes)| at + bytes.len() as u64);
        ends.fold(self.end, u64::max)
    }

    fn check(&self, path: &Path, len: u64) -> Result<(), Error> {
        let begins = self.header.iter().map(|(at, _)| *at).max().unwrap_or(0);
        if self.end <= len && begins <= self.end {
            return Ok(());
        }
        let end = self.end;
        Err(Error::Options(
            format!(
                "{} has {len} bytes: a recovery can't end it at {end} with a header at {begins}",
                path.display()
            )
            .into(),
        ))
    }
}

impl From<u64> for Prefix {
    fn from(end: u64) -> Self {
        Self::new(end)
    }
}

/// What a recovery has found, and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Bytes that stay: the length of the file now.
    pub kept: u64,
    /// Bytes that were cut off: the damaged tail, and zeros.
    pub cut: u64,
    /// Bytes that ought to be there and are not, as far as the file says so: its header describes
    /// them.
    pub missing: u64,
    /// The damaged tail, if there was one.
    pub torn: Option<Torn>,
    /// The header did not describe the bytes that are kept, and does now.
    pub mended: bool,
}

/// A damaged tail that was kept beside its file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Torn {
    /// The file that has it now.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// [`Options::recover`], with default options.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("log");
/// # std::fs::write(&path, "a line\nanother\nhalf a li")?;
/// use std::io::{BufRead, BufReader};
///
/// // Of a log its whole lines are good.
/// let found = writeflush::recover(&path, |scan| {
///     let (mut lines, mut end) = (BufReader::new(scan), 0);
///     let mut line = Vec::new();
///     while lines.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
///         end += line.len() as u64;
///         line.clear();
///     }
///     Ok(end)
/// })?;
/// println!("{} bytes stay, {} were cut", found.kept, found.cut);
/// if let Some(torn) = found.torn {
///     println!("{} bytes are in {}", torn.bytes, torn.path.display());
/// #   assert_eq!(std::fs::read(torn.path)?, b"half a li");
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`Options::recover`].
pub fn recover<P: Into<Prefix>>(
    path: impl AsRef<Path>,
    judge: impl FnOnce(&mut Scan<'_>) -> io::Result<P>,
) -> Result<Recovered, Error> {
    Options::new().recover(path, judge)
}

impl Options {
    /// Has `judge` say how much of a file is good, whose writer is gone; keeps what is damaged behind
    /// it as `NAME.torn-OFFSET` beside it, and cuts it off: [the module](mod@crate::recover) says how. What
    /// is left is durable. An empty file is not asked about.
    ///
    /// Blocks: writes as much as the tail has, and reads what `judge` reads. Waits for the lock as long
    /// as [`lock_wait`](Self::lock_wait) says, and holds it until it is done. The memory is that of
    /// `judge`, and 2 MiB.
    ///
    /// # Errors
    /// [`Error::Locked`] while a writer has the file; [`Error::Unrecoverable`] with the error of
    /// `judge`; [`Error::Options`] if what it says can't be; [`Error::Io`]. Nothing has been cut then,
    /// unless the operation is [`Flush`](crate::Operation::Flush) or [`Write`](crate::Operation::Write);
    /// another try goes on from there.
    pub fn recover<P: Into<Prefix>>(
        &self,
        path: impl AsRef<Path>,
        judge: impl FnOnce(&mut Scan<'_>) -> io::Result<P>,
    ) -> Result<Recovered, Error> {
        let path = path.as_ref();
        let locked = Locked::new(self, path)?;
        run(path, &locked.file, judge)
    }

    /// [Recovers](Self::recover) the file and goes on behind its prefix, without letting go of the
    /// lock; creates it if it is not there.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("take");
    /// # std::fs::write(&path, [1; 100])?;
    /// // Records of 16 bytes.
    /// let whole = |scan: &mut writeflush::recover::Scan<'_>| Ok(scan.len() / 16 * 16);
    /// let (mut writer, found) = writeflush::Options::new().resume(&path, whole)?;
    /// assert_eq!((found.kept, found.cut, writer.positions().accepted), (96, 4, 96));
    /// writer.write(&[2; 16])?;
    /// writer.close()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`recover`](Self::recover) and [`append`](Self::append). If it is the open that fails, the
    /// file has been recovered all the same.
    pub fn resume<P: Into<Prefix>>(
        &self,
        path: impl AsRef<Path>,
        judge: impl FnOnce(&mut Scan<'_>) -> io::Result<P>,
    ) -> Result<(Writer, Recovered), Error> {
        let (path, mut recovered) = (path.as_ref(), Recovered::default());
        let writer = Writer::resume(self, path, |file| {
            recovered = run(path, file, judge)?;
            Ok::<_, Error>(())
        })?;
        Ok((writer, recovered))
    }
}

/// Recovers a file whose lock is held.
fn run<P: Into<Prefix>>(
    path: &Path,
    file: &Arc<dyn Handle>,
    judge: impl FnOnce(&mut Scan<'_>) -> io::Result<P>,
) -> Result<Recovered, Error> {
    let failed = |operation| move |error| Error::io(operation, &path.into(), error);
    let len = file.len().map_err(failed(Operation::Open))?;
    if len == 0 {
        return Ok(Recovered::default());
    }
    let prefix = match judge(&mut Scan::new(&**file, len)) {
        Ok(prefix) => prefix.into(),
        Err(error) => return Err(refusal(path, error)),
    };
    prefix.check(path, len)?;
    let (kept, missing) = (prefix.len(), prefix.missing);
    let plan = plan(&**file, len, prefix).map_err(failed(Operation::Read))?;
    let torn = carry_out(&mut Beside::new(path, file.clone()), &plan)
        .map_err(|Refused { operation, source }| failed(operation)(source))?;
    let bytes = plan.tail - plan.end;
    Ok(Recovered {
        kept,
        cut: plan.len - plan.end,
        missing,
        torn: torn.map(|path| Torn { path, bytes }),
        mended: !plan.header.is_empty(),
    })
}

fn plan(file: &dyn Handle, len: u64, prefix: Prefix) -> io::Result<Plan> {
    let Prefix { end, header, .. } = prefix;
    Ok(Plan { end, tail: end_of_data(file, end, len)?, len, closed: false, header })
}

/// What the judge said: an error of the system's is its own, any other one a judgement.
fn refusal(path: &Path, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(_) => Error::io(Operation::Read, &path.into(), error),
        None => Error::Unrecoverable { path: path.into(), source: Arc::new(error) },
    }
}

/// A file whose writers are locked out.
pub(crate) struct Locked {
    pub(crate) file: Arc<dyn Handle>,
    is_locked: bool,
}

impl Locked {
    pub(crate) fn new(options: &Options, path: &Path) -> Result<Self, Error> {
        let host = &*options.host;
        let (file, _) = open_locked(host, options, &path.into(), OpenMode::Overwrite)?;
        Ok(Self { file, is_locked: options.lock })
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if self.is_locked {
            self.file.unlock(); // explicitly: a forked child may hold the descriptor still
        }
    }
}
