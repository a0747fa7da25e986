//! What went wrong, as a number for the message and a sentence for a person.

use std::io;
use std::path::Path;

use super::abi::*;
use crate::error::{Error, Operation};
use crate::summary::CloseError;

/// A refusal: the number that travels in messages, and the sentence behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One of the MMIOERR numbers.
    pub code: u32,
    /// What happened, and what to do about it.
    pub sentence: String,
}

impl Failure {
    pub(super) fn new(code: u32, sentence: impl Into<String>) -> Self {
        Self { code, sentence: sentence.into() }
    }

    /// Bytes were refused: `CLOSE` has to say so.
    pub(super) fn unwritten(error: impl std::fmt::Display) -> Self {
        Self::new(MMIOERR_CANNOTWRITE, error.to_string())
    }

    /// Of a close: bytes that are missing weigh more than a name that may be.
    pub(super) fn of_close(error: &CloseError) -> Self {
        let is_data = |error: &Error| {
            !matches!(
                error,
                Error::Closed
                    | Error::Io { operation: Operation::Trim | Operation::SyncDirectory, .. }
            )
        };
        let code = match error.errors.iter().any(is_data) {
            true => MMIOERR_CANNOTWRITE,
            false => MMIOERR_CANNOTCLOSE,
        };
        Self::new(code, error.to_string())
    }

    /// Of an operation on a name: open, delete, rename.
    pub(super) fn of_name(error: &io::Error, folder_exists: bool, sentence: String) -> Self {
        use io::ErrorKind as Kind;
        // ENFILE and EMFILE; ERROR_TOO_MANY_OPEN_FILES.
        let too_many: &[i32] = if cfg!(windows) { &[4] } else { &[23, 24] };
        // ERROR_SHARING_VIOLATION and ERROR_LOCK_VIOLATION: std has no kind for them.
        let held: &[i32] = if cfg!(windows) { &[32, 33] } else { &[] };
        let is_one_of = |codes: &[i32]| error.raw_os_error().is_some_and(|it| codes.contains(&it));
        let code = match error.kind() {
            _ if is_one_of(too_many) => MMIOERR_TOOMANYOPENFILES,
            _ if is_one_of(held) => MMIOERR_SHARINGVIOLATION,
            Kind::NotFound if folder_exists => MMIOERR_FILENOTFOUND,
            Kind::NotFound | Kind::NotADirectory => MMIOERR_PATHNOTFOUND,
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => MMIOERR_ACCESSDENIED,
            Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
            | Kind::StaleNetworkFileHandle => MMIOERR_NETWORKERROR,
            Kind::OutOfMemory => MMIOERR_OUTOFMEMORY,
            Kind::StorageFull | Kind::QuotaExceeded => MMIOERR_CANNOTEXPAND,
            _ => MMIOERR_CANNOTOPEN,
        };
        Self::new(code, sentence)
    }

    /// Of a name like `shapes.bnd+circle`, in any message.
    pub(super) fn element() -> Self {
        let sentence = "elements of compound files (a name behind the +) don't exist here, and two of \
                        them must not end up in one file: end the name with +";
        Self::new(MMIOERR_CANNOTOPEN, sentence)
    }

    /// Of MMIO_GETTEMP.
    pub(super) fn temporary() -> Self {
        let sentence = "no temporary names are made here, since such a name is anybody's until its \
                        file is created: choose a name, and open it with MMIO_CREATE";
        Self::new(MMIOERR_CANNOTOPEN, sentence)
    }

    /// Of a RENAME: a disk that fails is no missing file, and a name that is taken is none either.
    pub(super) fn of_rename(error: &io::Error, folders_exist: bool, sentence: String) -> Self {
        let mut failure = Self::of_name(error, folders_exist, sentence);
        if error.kind() == io::ErrorKind::AlreadyExists {
            failure.code = MMIOERR_ACCESSDENIED; // as DOS answered
        } else if failure.code == MMIOERR_CANNOTOPEN {
            failure.code = MMIOERR_CANNOTWRITE;
        }
        failure
    }

    /// Somebody else has the file open.
    pub(super) fn shared(path: &Path) -> Self {
        let sentence = format!(
            "{} is open elsewhere, in a mode that does not go with this one: close it there first, \
             or ask for another mode here",
            path.display()
        );
        Self::new(MMIOERR_SHARINGVIOLATION, sentence)
    }

    /// Of an open for writing.
    pub(super) fn of_open(error: &Error, folder_exists: bool) -> Self {
        match error {
            Error::Io { source, .. } => Self::of_name(source, folder_exists, error.to_string()),
            Error::Locked { path, .. } => Self::shared(path),
            _ => Self::new(MMIOERR_CANNOTOPEN, error.to_string()),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MMIO error {}: {}", self.code, self.sentence)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(windows)]
    fn a_file_that_another_program_holds_is_a_sharing_violation() {
        for code in [32, 33] {
            let error = io::Error::from_raw_os_error(code);
            let failure = Failure::of_name(&error, true, String::new());
            assert_eq!(failure.code, MMIOERR_SHARINGVIOLATION);
        }
    }

    #[test]
    fn every_reason_has_its_number() {
        let wanted = [
            (io::ErrorKind::NotFound, MMIOERR_FILENOTFOUND),
            (io::ErrorKind::PermissionDenied, MMIOERR_ACCESSDENIED),
            (io::ErrorKind::NetworkUnreachable, MMIOERR_NETWORKERROR),
            (io::ErrorKind::StorageFull, MMIOERR_CANNOTEXPAND),
            (io::ErrorKind::Other, MMIOERR_CANNOTOPEN),
        ];
        for (kind, code) in wanted {
            assert_eq!(Failure::of_name(&kind.into(), true, String::new()).code, code, "{kind}");
        }
        let nowhere = Failure::of_name(&io::ErrorKind::NotFound.into(), false, String::new());
        assert_eq!(nowhere.code, MMIOERR_PATHNOTFOUND);
    }

    #[test]
    fn a_rename_that_the_disk_refused_is_no_missing_file() {
        let code = |error: io::Error| Failure::of_rename(&error, true, String::new()).code;
        assert_eq!(code(io::ErrorKind::NotFound.into()), MMIOERR_FILENOTFOUND);
        assert_eq!(code(io::ErrorKind::AlreadyExists.into()), MMIOERR_ACCESSDENIED);
        assert_eq!(code(io::ErrorKind::StorageFull.into()), MMIOERR_CANNOTEXPAND);
        let broken = if cfg!(windows) { 1117 } else { 5 }; // ERROR_IO_DEVICE; EIO
        assert_eq!(code(io::Error::from_raw_os_error(broken)), MMIOERR_CANNOTWRITE);
    }
}
