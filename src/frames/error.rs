//! Every way in which reading, recovering or opening a framed file can fail.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::NoHead;

/// Why a framed file could not be opened, read or recovered. A damaged file is no error of a reader:
/// it tells of holes and ends.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something; `doing` says what, as in "could not read it".
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file, where that is known.
        path: Option<PathBuf>,
        /// The operating system's own error.
        source: Arc<io::Error>,
    },
    /// The file does not begin as a framed file does; `why` says how it begins. It is as it was.
    NotFramed {
        /// The file, where that is known.
        path: Option<PathBuf>,
        /// What is wrong.
        why: &'static str,
    },
    /// The file has a version of the format that this program does not know.
    Version {
        /// That version.
        found: u32,
    },
    /// A frame is longer than the reader's limit.
    TooLong {
        /// Where it begins.
        position: u64,
        /// Bytes of its payload.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A position or a number that is asked for can't be there, or options can't work; the sentence
    /// says what to change.
    Options(&'static str),
    /// The writer below.
    Writer(crate::Error),
}

impl Error {
    pub(super) fn io(doing: &'static str, path: Option<&Path>, source: io::Error) -> Self {
        Self::Io { doing, path: path.map(Path::to_path_buf), source: Arc::new(source) }
    }

    pub(super) fn no_head(found: NoHead, path: Option<&Path>) -> Self {
        let why = match found {
            NoHead::Version(found) => return Self::Version { found },
            NoHead::Unfinished => "it ends before its head does",
            NoHead::Zeros => "it begins with zeros",
            NoHead::Damaged => "its head is damaged",
            NoHead::Foreign => "it begins with something else",
        };
        Self::NotFramed { path: path.map(Path::to_path_buf), why }
    }

    /// The same, of this file.
    pub(super) fn of(self, path: &Path) -> Self {
        let named = Some(path.to_path_buf());
        match self {
            Self::Io { doing, path: None, source } => Self::Io { doing, path: named, source },
            Self::NotFramed { path: None, why } => Self::NotFramed { path: named, why },
            other => other,
        }
    }

    /// The operating system's error code, where one is behind this error.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            Self::Writer(error) => error.raw_os_error(),
            _ => None,
        }
    }

    /// The nearest kind of [`io::Error`].
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Io { source, .. } => source.kind(),
            Self::NotFramed { .. } => io::ErrorKind::InvalidData,
            Self::Version { .. } => io::ErrorKind::Unsupported,
            Self::TooLong { .. } | Self::Options(_) => io::ErrorKind::InvalidInput,
            Self::Writer(error) => error.kind(),
        }
    }
}

fn name(path: &Option<PathBuf>) -> impl fmt::Display + '_ {
    path.as_deref().unwrap_or(Path::new("the source")).display()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, path, source } => {
                write!(f, "could not {doing} {}: {source}", name(path))
            }
            Self::NotFramed { path, why } => write!(
                f,
                "{} is no framed recording, since {why}: name another file (if you know its \
                 generation, Reader::with_generation reads what is left)",
                name(path)
            ),
            Self::Version { found } => write!(
                f,
                "the file has version {found} of the format, and this program knows 1: read it \
                 with a newer one"
            ),
            Self::TooLong { position, bytes, limit } => write!(
                f,
                "the frame at {position} has {bytes} bytes, and the limit is {limit}: raise the \
                 limit if you trust the file"
            ),
            Self::Options(sentence) => f.write_str(sentence),
            Self::Writer(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(&**source),
            Self::Writer(error) => std::error::Error::source(error),
            _ => None,
        }
    }
}

impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        Self::Writer(error)
    }
}

impl From<Error> for io::Error {
    /// Keeps the kind, and the whole error as the inner one.
    fn from(error: Error) -> Self {
        io::Error::new(error.kind(), error)
    }
}
