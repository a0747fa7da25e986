//! A file that somebody else has opened: what can be recorded to, and how a writer comes to have it.
//! The descriptor stays its owner's, with its flags and its place.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::handle::{Handle, adopted_handle};
use crate::error::{Error, Operation};

type Adopted = (Arc<dyn Handle>, Option<String>);

/// The writer's own handle on it, and why that shares its owner's flags and lock, if it does. Nothing
/// of the file has changed.
pub(super) fn adopt(file: &File, name: &Arc<Path>) -> Result<Adopted, Error> {
    let fail = |error| Error::io(Operation::Open, name, error);
    let refuse = |why: &str| Error::Options(format!("{} {why}", name.display()).into());
    if !file.metadata().map_err(fail)?.is_file() {
        return Err(refuse("is not a regular file: open a file to record to"));
    }
    if let Some(why) = access::refusal(file).map_err(fail)? {
        return Err(refuse(why));
    }
    match access::anew(file) {
        Ok(own) => Ok((adopted_handle(own, None), None)),
        Err(reason) => match access::refusal_of_a_copy(file).map_err(fail)? {
            Some(why) => Err(refuse(&format!("can't be opened anew ({reason}), and {why}"))),
            None => {
                let copy = file.try_clone().map_err(fail)?;
                Ok((adopted_handle(copy, Some(reason.clone())), Some(reason)))
            }
        },
    }
}

/// What people call it.
pub(crate) fn name_of(file: &File) -> Arc<Path> {
    #[cfg(unix)]
    {
        use std::os::fd::AsRawFd;
        let number = file.as_raw_fd();
        let link = std::fs::read_link(format!("/proc/self/fd/{number}"));
        link.unwrap_or_else(|_| format!("descriptor {number}").into()).into()
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        Path::new("an open file").into()
    }
}

#[cfg(unix)]
mod access {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;

    fn flags(file: &File) -> io::Result<i32> {
        // SAFETY: a live descriptor.
        match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) } {
            -1 => Err(io::Error::last_os_error()),
            flags => Ok(flags),
        }
    }

    /// Why nothing can be recorded through it.
    pub(super) fn refusal(file: &File) -> io::Result<Option<&'static str>> {
        let flags = flags(file)?;
        #[cfg(target_os = "linux")]
        if flags & libc::O_PATH != 0 {
            return Ok(Some("is open as a place only (O_PATH): open it for reading and writing"));
        }
        Ok(if flags & libc::O_ACCMODE == libc::O_RDONLY {
            Some("is open for reading only: open it for reading and writing")
        } else if flags & libc::O_APPEND != 0 {
            Some("is open with O_APPEND, which sends every write to the end: open it without")
        } else if is_sealed(file) {
            Some("is sealed against changes (F_ADD_SEALS): seal it when its writer is closed")
        } else {
            None
        })
    }

    /// Why a duplicate can't serve, which has the flags of the descriptor.
    pub(super) fn refusal_of_a_copy(file: &File) -> io::Result<Option<&'static str>> {
        let flags = flags(file)?;
        #[cfg(target_os = "linux")]
        if flags & libc::O_DIRECT != 0 {
            return Ok(Some("is open with O_DIRECT: open it without"));
        }
        let writes_only = flags & libc::O_ACCMODE == libc::O_WRONLY;
        Ok(writes_only.then_some("is open for writing only: open it for reading and writing"))
    }

    /// Whether what a writer does, which cuts the file at its end too, is forbidden for ever (memfd_create(2)).
    #[cfg(target_os = "linux")]
    fn is_sealed(file: &File) -> bool {
        const FORBID: i32 = libc::F_SEAL_WRITE
            | libc::F_SEAL_FUTURE_WRITE
            | libc::F_SEAL_GROW
            | libc::F_SEAL_SHRINK;
        // SAFETY: a live descriptor. A file that knows no seals answers with an error.
        let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
        seals > 0 && seals & FORBID != 0
    }

    #[cfg(not(target_os = "linux"))]
    fn is_sealed(_file: &File) -> bool {
        false
    }

    /// The same file with a description of its own: flags and lock are nobody else's. Or why not.
    #[cfg(target_os = "linux")]
    pub(super) fn anew(file: &File) -> Result<File, String> {
        use crate::file::identity::Identity;
        let number = file.as_raw_fd();
        let path = format!("/proc/self/fd/{number}");
        let own = File::options().read(true).write(true).open(path);
        let own = own.map_err(|error| error.to_string())?;
        match (Identity::of(number), Identity::of(own.as_raw_fd())) {
            (Ok(theirs), Ok(ours)) if theirs == ours => Ok(own),
            _ => Err("/proc shows another file".into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn anew(_file: &File) -> Result<File, String> {
        Err("this platform has no way".into())
    }
}

/// A duplicate serves; what it may do shows at the flush of the open.
#[cfg(not(unix))]
mod access {
    use std::fs::File;
    use std::io;

    pub(super) fn refusal(_file: &File) -> io::Result<Option<&'static str>> {
        Ok(None)
    }

    pub(super) fn refusal_of_a_copy(_file: &File) -> io::Result<Option<&'static str>> {
        Ok(None)
    }

    pub(super) fn anew(_file: &File) -> Result<File, String> {
        Err("this platform has no way".into())
    }
}
