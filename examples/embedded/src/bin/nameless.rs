//! A recording without a name until it is complete: nobody finds half of one, and a program that dies
//! leaves nothing behind. The program opens the file itself (`O_TMPFILE`) and lends it to a writer; so
//! do those that inherit a descriptor, or get one from a sandbox's broker.
//!
//! `cargo run --bin nameless -- take.raw` (Linux)

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    linux::record(std::path::Path::new(&std::env::args().nth(1).unwrap_or("take.raw".into())))
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("files without a name exist on Linux only");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::CString;
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    use writeflush::Options;

    pub fn record(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let nameless = libc::O_TMPFILE | libc::O_CLOEXEC;
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(nameless).open(directory)?;
        let mut writer = Options::new().append_file(&file)?;
        for block in 0..100u8 {
            writer.write(&[block; 1000])?;
        }
        writer.close()?; // every byte is durable; the name is ours to give
        link(&file, path)?;
        File::open(directory)?.sync_all()?; // and to make durable
        Ok(())
    }

    /// As open(2) says under `O_TMPFILE`. It must not exist.
    fn link(file: &File, path: &Path) -> io::Result<()> {
        let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let to = CString::new(path.as_os_str().as_bytes())?;
        let (here, follow) = (libc::AT_FDCWD, libc::AT_SYMLINK_FOLLOW);
        // SAFETY: names that end with a zero and live until the call has returned.
        match unsafe { libc::linkat(here, from.as_ptr(), here, to.as_ptr(), follow) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn it_has_its_name_when_it_is_complete() {
        // Beside this program: what is temporary may lie in memory, without such files.
        let program = std::env::current_exe().unwrap();
        let directory = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        let path = directory.path().join("take");
        super::linux::record(&path).unwrap();
        let expected: Vec<u8> = (0..100).flat_map(|block| [block; 1000]).collect();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
        assert!(super::linux::record(&path).is_err(), "it is there already");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
