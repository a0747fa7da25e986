//! A name in a directory that is held open: it stays that directory, whatever it is called by now,
//! and however deep it lies.
#![allow(unsafe_code)]

#[cfg(not(target_os = "linux"))]
pub(crate) use by_path::Entry;
#[cfg(target_os = "linux")]
pub(crate) use held::Entry;

/// Whether a file has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It is there.
    Old,
    /// It is made, and was not there.
    New,
}

/// Symbolic links that a name may lead through: as many as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

#[cfg(target_os = "linux")]
mod held {
    use std::collections::BTreeMap;
    use std::ffi::{CStr, CString, OsStr, OsString};
    use std::fs::File;
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, RawFd};
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use std::sync::{Arc, Mutex, TryLockError, Weak};

    use super::{MOST_LINKS, Wanted};
    use crate::file::handle::OsFile;

    /// A name, and the directory that it is in.
    #[derive(Clone, Debug)]
    pub(crate) struct Entry {
        directory: Arc<Directory>,
        name: CString,
    }

    impl Entry {
        /// Where the path leads, symbolic links followed, the last one too. Nothing need be there.
        pub(crate) fn find(path: &Path) -> io::Result<Self> {
            const TRIES: usize = 3;
            for _ in 0..TRIES {
                let (entry, seen) = Self::follow(path)?;
                // A link of procfs to a file without a name does not lead where its text says; and
                // any link may be turned meanwhile.
                if seen.is_none() || entry.identity()? == seen {
                    return Ok(entry);
                }
            }
            let sentence = "the link does not lead to a file that has a name";
            Err(io::Error::new(io::ErrorKind::NotFound, sentence))
        }

        /// Beside the entry: what the kernel finds at the end of the first link.
        fn follow(path: &Path) -> io::Result<(Self, Option<Identity>)> {
            let (mut from, mut rest, mut seen) = (None, path.as_os_str().to_owned(), None);
            for _ in 0..=MOST_LINKS {
                let entry = Self::of(from.as_deref(), &rest)?;
                let Some(target) = entry.link()? else { return Ok((entry, seen)) };
                if from.is_none() {
                    // Also asks whether this link may be followed at all (protected_symlinks in
                    // proc_sys_fs(5)).
                    seen = entry.directory.look(&entry.name, 0)?;
                }
                (from, rest) = (Some(entry.directory), target);
            }
            Err(io::Error::from_raw_os_error(libc::ELOOP))
        }

        /// The name itself, be it a link.
        pub(crate) fn at(path: &Path) -> io::Result<Self> {
            Self::of(None, path.as_os_str())
        }

        fn of(from: Option<&Directory>, path: &OsStr) -> io::Result<Self> {
            let path = path.as_bytes();
            let end = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            let (directory, name) = path.split_at(end);
            let directory = if directory.is_empty() { b"." } else { directory };
            match name {
                _ if path.is_empty() => Err(io::Error::from_raw_os_error(libc::ENOENT)),
                b"" | b"." | b".." => Err(io::Error::from_raw_os_error(libc::EISDIR)),
                name => Ok(Self {
                    directory: Directory::hold(from, &CString::new(directory)?)?,
                    name: CString::new(name)?,
                }),
            }
        }

        /// Where it points to, if it is a symbolic link.
        fn link(&self) -> io::Result<Option<OsString>> {
            let mut target = vec![0u8; libc::PATH_MAX as usize];
            let number = self.directory.number()?;
            // SAFETY: a live descriptor, a live string, and as many writable bytes as are named.
            let len = unsafe {
                let place = target.as_mut_ptr().cast();
                libc::readlinkat(number, self.name.as_ptr(), place, target.len())
            };
            let Ok(len) = usize::try_from(len) else {
                let error = io::Error::last_os_error();
                return match error.raw_os_error() {
                    Some(libc::EINVAL | libc::ENOENT) => Ok(None), // no link; nothing at all
                    _ => Err(error),
                };
            };
            target.truncate(len);
            Ok(Some(OsString::from_vec(target)))
        }

        /// Opens it for reading and writing. A link is refused (ELOOP): it came meanwhile.
        pub(crate) fn open(&self, wanted: Wanted, mode: u32) -> io::Result<File> {
            let flags = libc::O_RDWR | libc::O_LARGEFILE | libc::O_NOFOLLOW;
            let flags = match wanted {
                Wanted::Old => flags,
                Wanted::New => flags | libc::O_CREAT | libc::O_EXCL,
            };
            open_at(self.directory.number()?, &self.name, flags, mode)
        }

        fn identity(&self) -> io::Result<Option<Identity>> {
            self.directory.look(&self.name, libc::AT_SYMLINK_NOFOLLOW)
        }

        /// Whether the name is still that of this very file.
        pub(crate) fn names(&self, file: &File) -> io::Result<bool> {
            let metadata = file.metadata()?;
            Ok(self.identity()? == Some((metadata.dev(), metadata.ino())))
        }

        /// Removes the name, unless another file has it by now. (One that takes it between the look
        /// and the removal can't be told.)
        pub(crate) fn remove(&self, file: &File) -> io::Result<()> {
            if !self.names(file)? {
                return Ok(());
            }
            let number = self.directory.number()?;
            // SAFETY: a live descriptor and a live string.
            answer(unsafe { libc::unlinkat(number, self.name.as_ptr(), 0) })
        }

        /// Gives the file another name, which nobody may have (renameat2(2), RENAME_NOREPLACE).
        pub(crate) fn rename(&self, to: &Self) -> io::Result<()> {
            let [from, into] = [self, to].map(|entry| entry.directory.number());
            let (from, into) = (from?, into?);
            // SAFETY: live descriptors and strings; plain integers.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_renameat2,
                    from,
                    self.name.as_ptr(),
                    into,
                    to.name.as_ptr(),
                    libc::RENAME_NOREPLACE,
                )
            };
            let renamed = answer(result as i32);
            match &renamed {
                // Kernels before 3.15, and file systems that know no such rename.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => {
                    self.rename_by_link(to)
                }
                _ => renamed,
            }
        }

        /// A link is never made over a name that is taken.
        pub(crate) fn rename_by_link(&self, to: &Self) -> io::Result<()> {
            let [from, into] = [self, to].map(|entry| entry.directory.number());
            let (from, into) = (from?, into?);
            let (old, new) = (self.name.as_ptr(), to.name.as_ptr());
            // SAFETY: live descriptors and strings.
            answer(unsafe { libc::linkat(from, old, into, new, 0) })?;
            // SAFETY: as above.
            answer(unsafe { libc::unlinkat(from, old, 0) })
        }

        /// Makes the names in the directory durable.
        pub(crate) fn sync(&self) -> io::Result<()> {
            self.directory.sync(None)
        }

        /// Makes the name of this file durable; also the one that somebody has moved it to since, if
        /// /proc shows that.
        pub(crate) fn sync_name_of(&self, file: &File) -> io::Result<()> {
            let moved = match self.names(file) {
                Ok(false) => Self::now(file),
                _ => None,
            };
            self.directory.sync(Some(file))?;
            moved.map_or(Ok(()), |entry| entry.directory.sync(Some(file)))
        }

        fn now(file: &File) -> Option<Self> {
            let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
            let entry = Self::at(&path).ok()?;
            entry.names(file).ok()?.then_some(entry)
        }
    }

    /// A directory of the file system, once for all writers of this process that have it.
    #[derive(Debug)]
    struct Directory {
        file: OsFile,
        /// One that may be searched and not read can't be flushed by itself.
        is_readable: bool,
    }

    /// Device and number.
    type Identity = (u64, u64);

    /// What makes two descriptors of directories the same for us: device, number, and the mount,
    /// which may forbid to write.
    type Key = (u32, u32, u64, u64);

    /// Those that are held. Nobody waits for it: who finds it locked (in a forked child perhaps for
    /// ever) holds a descriptor of its own.
    static HELD: Mutex<BTreeMap<Key, Weak<Directory>>> = Mutex::new(BTreeMap::new());

    impl Directory {
        fn hold(from: Option<&Self>, path: &CStr) -> io::Result<Arc<Self>> {
            let from = from.map_or(Ok(libc::AT_FDCWD), Self::number)?;
            let open = |flags| open_at(from, path, flags | libc::O_DIRECTORY, 0);
            let (file, is_readable) = match open(libc::O_RDONLY) {
                Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
                    (open(libc::O_PATH)?, false)
                }
                file => (file?, true),
            };
            let key = key(&file);
            let directory = Arc::new(Self { file: OsFile::new(file), is_readable });
            Ok(key.map_or_else(|| directory.clone(), |key| shared(key, &directory)))
        }

        /// Its descriptor, unless somebody has closed it behind our back.
        fn number(&self) -> io::Result<RawFd> {
            self.file.ours().map(AsRawFd::as_raw_fd)
        }

        /// Device and number of what has this name; `None`: nothing has.
        fn look(&self, name: &CStr, flags: i32) -> io::Result<Option<Identity>> {
            let number = self.number()?;
            // SAFETY: stat64 is plain data, zero is valid; the call fills it.
            let mut stat: libc::stat64 = unsafe { std::mem::zeroed() };
            // SAFETY: a live descriptor, a live string and a live struct.
            let looked = unsafe { libc::fstatat64(number, name.as_ptr(), &raw mut stat, flags) };
            match answer(looked) {
                Ok(()) => Ok(Some((stat.st_dev, stat.st_ino))),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
                Err(error) => Err(error),
            }
        }

        /// Where the directory may not be read all of the file system is flushed, of which `file` is
        /// one file.
        fn sync(&self, file: Option<&File>) -> io::Result<()> {
            let directory = self.file.ours()?;
            match file {
                _ if self.is_readable => directory.sync_all(),
                // SAFETY: a live descriptor.
                Some(file) => answer(unsafe { libc::syncfs(file.as_raw_fd()) }),
                None => Err(io::Error::from_raw_os_error(libc::EACCES)),
            }
        }
    }

    fn shared(key: Key, directory: &Arc<Directory>) -> Arc<Directory> {
        let mut held = match HELD.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return directory.clone(),
        };
        let known = held.get(&key).and_then(Weak::upgrade);
        match known.filter(|known| known.number().is_ok()) {
            Some(known) if known.is_readable || !directory.is_readable => known,
            _ => {
                held.retain(|_, directory| directory.strong_count() > 0);
                held.insert(key, Arc::downgrade(directory));
                directory.clone()
            }
        }
    }

    fn key(directory: &File) -> Option<Key> {
        // SAFETY: statx is plain data, zero is valid; the call fills it.
        let mut stat: libc::statx = unsafe { std::mem::zeroed() };
        // SAFETY: a live descriptor, an empty path that stands for it, a live struct.
        let result = unsafe {
            libc::statx(
                directory.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                libc::STATX_INO | libc::STATX_MNT_ID,
                &raw mut stat,
            )
        };
        let is_known = result == 0 && stat.stx_mask & libc::STATX_MNT_ID != 0; // Linux 5.8
        is_known.then_some((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino, stat.stx_mnt_id))
    }

    fn open_at(from: RawFd, path: &CStr, flags: i32, mode: u32) -> io::Result<File> {
        loop {
            // SAFETY: a live descriptor or AT_FDCWD, and a live string.
            let number =
                unsafe { libc::openat(from, path.as_ptr(), flags | libc::O_CLOEXEC, mode) };
            if number >= 0 {
                // SAFETY: a descriptor that was just made and belongs to nobody else.
                return Ok(unsafe { File::from_raw_fd(number) });
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    fn answer(result: i32) -> io::Result<()> {
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Platforms without a descriptor to hold: the path, links resolved, stands for it.
#[cfg(not(target_os = "linux"))]
mod by_path {
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::path::{Path, PathBuf};

    use super::{MOST_LINKS, Wanted};

    #[derive(Clone, Debug)]
    pub(crate) struct Entry(PathBuf);

    impl Entry {
        /// Where the path leads, symbolic links followed. Nothing need be there.
        pub(crate) fn find(path: &Path) -> io::Result<Self> {
            let mut path = path.to_path_buf();
            // Windows follows them by itself, and has no directory to flush.
            for _ in 0..if cfg!(unix) { MOST_LINKS } else { 0 } {
                let Ok(target) = std::fs::read_link(&path) else { break };
                path.pop();
                path.push(target);
            }
            Self::at(&path)
        }

        /// The name itself, be it a link.
        pub(crate) fn at(path: &Path) -> io::Result<Self> {
            if cfg!(windows) {
                return Ok(Self(path.into()));
            }
            let name = path.file_name().ok_or(io::ErrorKind::NotFound)?;
            let directory = match path.parent() {
                Some(directory) if !directory.as_os_str().is_empty() => directory,
                _ => Path::new("."),
            };
            // The working directory may be another one by the time of the close.
            Ok(Self(std::fs::canonicalize(directory)?.join(name)))
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }

        pub(crate) fn open(&self, wanted: Wanted, mode: u32) -> io::Result<File> {
            let mut open = OpenOptions::new();
            open.read(true).write(true).create_new(wanted == Wanted::New);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut open, mode);
            #[cfg(not(unix))]
            let _ = mode;
            open.open(&self.0)
        }

        /// Whether the name is still that of this very file.
        pub(crate) fn names(&self, file: &File) -> io::Result<bool> {
            #[cfg(unix)]
            {
                use std::os::unix::fs::MetadataExt;
                let file = file.metadata()?;
                let named = std::fs::symlink_metadata(&self.0);
                Ok(named.is_ok_and(|it| (it.dev(), it.ino()) == (file.dev(), file.ino())))
            }
            #[cfg(not(unix))]
            {
                let _ = file; // nobody else removes or renames it while it is open, or hardly
                Ok(true)
            }
        }

        /// Removes the name, unless another file has it by now.
        pub(crate) fn remove(&self, file: &File) -> io::Result<()> {
            if self.names(file)? { std::fs::remove_file(&self.0) } else { Ok(()) }
        }

        /// Makes the names in the directory durable. Windows has no such call; NTFS journals names
        /// with the file's flush.
        pub(crate) fn sync(&self) -> io::Result<()> {
            #[cfg(unix)]
            return File::open(self.0.parent().unwrap_or(Path::new(".")))?.sync_all();
            #[cfg(not(unix))]
            Ok(())
        }

        pub(crate) fn sync_name_of(&self, _file: &File) -> io::Result<()> {
            self.sync()
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_another_file_has_taken_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("take");
        let entry = Entry::find(&path).unwrap();
        let file = entry.open(Wanted::New, 0o644).unwrap();
        assert!(entry.names(&file).unwrap());
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        entry.remove(&file).unwrap(); // nothing has the name
        std::fs::write(&path, "another").unwrap();
        assert!(!entry.names(&file).unwrap());
        entry.remove(&file).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"another");
        std::fs::rename(dir.path().join("moved"), &path).unwrap();
        entry.remove(&file).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn names_of_directories_are_no_files() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", ".", "..", "missing/take", "missing/"] {
            assert!(Entry::find(&dir.path().join(name).join("x/..")).is_err(), "{name}");
        }
        #[cfg(target_os = "linux")]
        {
            let code =
                |path: &str| Entry::find(path.as_ref()).map(drop).unwrap_err().raw_os_error();
            assert_eq!(code(""), Some(libc::ENOENT));
            assert_eq!(code("new/"), Some(libc::EISDIR));
            assert_eq!(code("."), Some(libc::EISDIR));
        }
    }
}
