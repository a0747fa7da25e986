//! Names in messages: which file is meant.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::path::{Path, PathBuf};

use super::abi::MMIOERR_FILENOTFOUND;
use super::failure::Failure;
use crate::canary::Canary;

/// How the names in messages are written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Coding {
    /// In the code page of the process; on Unix as the file system takes them.
    CodePage,
    /// In UTF-16.
    #[cfg(windows)]
    Wide,
}

/// What a name asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    File(PathBuf),
    /// `shapes.bnd+circle`: an element of a compound file.
    Element,
}

impl Named {
    pub(super) fn file(self) -> Result<PathBuf, Failure> {
        match self {
            Self::File(path) => Ok(path),
            Self::Element => Err(Failure::element()),
        }
    }
}

/// A `+` at the end chose the procedure (`take.wav+`) and is no part of the name. A `+` behind an
/// extension, with something after it, names an element of a compound file, which we don't have:
/// two elements must not end up in one file unasked.
pub(super) fn read(name: &CStr) -> Named {
    asked(decoded(name))
}

/// As [`read`]; `None` if it is no UTF-16.
#[cfg(windows)]
pub(super) fn read_wide(name: &[u16]) -> Option<Named> {
    String::from_utf16(name).ok().map(|name| asked(name.into_bytes()))
}

fn asked(name: Vec<u8>) -> Named {
    if let Some(file) = name.strip_suffix(b"+") {
        return Named::File(path(file));
    }
    let last = name.rsplit(|&byte| matches!(byte, b'/' | b'\\')).next().unwrap_or(&name);
    match last.iter().rposition(|&byte| byte == b'+') {
        Some(plus) if last[..plus].contains(&b'.') => Named::Element,
        _ => Named::File(path(&name)),
    }
}

/// A name as OPEN carries it; `None` if it can't.
pub(super) fn for_message(name: &OsStr) -> Option<CString> {
    #[cfg(windows)]
    return super::windows::to_code_page(name);
    #[cfg(not(windows))]
    return CString::new(name.as_encoded_bytes()).ok();
}

/// In UTF-16, with a zero at its end; `None` if it holds one.
#[cfg(windows)]
pub(super) fn wide(name: &OsStr) -> Option<Vec<u16>> {
    use std::os::windows::ffi::OsStrExt;
    let units: Vec<u16> = name.encode_wide().chain([0]).collect();
    (units.iter().position(|&unit| unit == 0) == Some(units.len() - 1)).then_some(units)
}

/// Bytes as the file system takes them.
#[cfg(unix)]
fn decoded(name: &CStr) -> Vec<u8> {
    name.to_bytes().to_vec()
}

#[cfg(unix)]
fn path(name: &[u8]) -> PathBuf {
    let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(name);
    name.into()
}

/// UTF-8, from the code page of the process.
#[cfg(windows)]
fn decoded(name: &CStr) -> Vec<u8> {
    super::windows::from_code_page(name).into_bytes()
}

#[cfg(not(unix))]
fn path(name: &[u8]) -> PathBuf {
    String::from_utf8_lossy(name).into_owned().into()
}

/// An existing file: as named or, if the name has no folder, the first of that name in the program's
/// folder and along the search path.
pub(super) fn find(name: PathBuf) -> PathBuf {
    let has_folder = name.parent().is_none_or(|folder| !folder.as_os_str().is_empty());
    if has_folder || name.exists() {
        return name;
    }
    let program = std::env::current_exe().ok();
    let of_program = program.as_deref().and_then(Path::parent).map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = of_program.into_iter().chain(std::env::split_paths(&path));
    let mut found = folders.map(|folder| folder.join(&name));
    found.find(|candidate| candidate.is_file()).unwrap_or(name)
}

/// Renames durably, and never over another file.
pub(super) fn rename(from: Option<Named>, to: Option<Named>) -> Result<(), Failure> {
    let (Some(from), Some(to)) = (from, to) else {
        return Err(Failure::new(MMIOERR_FILENOTFOUND, "RENAME needs the names of two files"));
    };
    let (from, to) = (from.file()?, to.file()?);
    let cannot = |error: io::Error, sentence| {
        let folders_exist = folder_exists(&from) && folder_exists(&to);
        Failure::of_rename(&error, folders_exist, format!("{sentence}: {error}"))
    };
    let (old, new) = (from.display(), to.display());
    let renamed = crate::file::rename(&from, &to)
        .map_err(|error| cannot(error, format!("could not rename {old} to {new}")))?;
    if Canary::NoRenameSync.is_planted() {
        return Ok(());
    }
    renamed.sync().map_err(|error| {
        cannot(error, format!("{new} has its new name, but may lose it in a power cut"))
    })
}

/// Whether the folder that would hold the file is there.
pub(super) fn folder_exists(path: &Path) -> bool {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.is_dir(),
        _ => true,
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_plus_at_the_end_is_no_part_of_the_name() {
        let file = |name: &str| Named::File(name.into());
        assert_eq!(read(c"take.wav+"), file("take.wav"));
        assert_eq!(read(c"take+1.wav+"), file("take+1.wav"));
        assert_eq!(read(c"take.wav"), file("take.wav"));
        assert_eq!(read(c"take+1.wav"), file("take+1.wav"));
        assert_eq!(read(c"take.wav++"), file("take.wav+"));
        assert_eq!(read(c" take..wav+"), file(" take..wav"));
        assert_eq!(read(c"a.b+c/take.wav"), file("a.b+c/take.wav"));
        assert_eq!(read(c"shapes.bnd+circle"), Named::Element);
    }

    #[test]
    fn a_name_without_a_folder_is_searched_for() {
        if cfg!(unix) {
            assert!(find("sh".into()).is_absolute());
            assert_eq!(find("./sh".into()), Path::new("./sh"));
        }
        let nowhere = "no such file anywhere";
        assert_eq!(find(nowhere.into()), Path::new(nowhere));
    }
}
