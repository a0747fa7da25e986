//! The mount that holds a path (proc(5), /proc/pid/mountinfo).

use std::path::{Path, PathBuf};

use crate::kernel::Kernel;

/// What the kernel says of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `ext4`, `tmpfs`, `overlay`, …
    pub file_system: String,
    /// Where it is mounted.
    pub point: PathBuf,
    /// `/dev/…` for a local disk, whatever the file system likes otherwise.
    pub source: String,
    /// The device number of its files, as `major:minor`; that of no device where the major is 0.
    pub device: String,
    /// `name` or `name=value`: those of the mount and those of the file system, sorted.
    pub options: Vec<String>,
}

impl Mount {
    /// The deepest mount that holds `path`, which has to exist; of several at one point, the last.
    ///
    /// # Errors
    /// Why it can't be seen.
    pub fn of(path: &Path) -> Result<Self, String> {
        let path = std::path::absolute(path).map_err(|error| error.to_string())?;
        Self::seen_by(&Kernel::here(), &path)
    }

    /// As above, of an absolute path.
    #[cfg(target_os = "linux")]
    pub(crate) fn seen_by(kernel: &Kernel, path: &Path) -> Result<Self, String> {
        use procfs::FromRead;

        let real = kernel.resolve(path).ok_or(format!("{} is not in sight", path.display()))?;
        let mounts = procfs::process::MountInfos::from_file(kernel.file("/proc/self/mountinfo"));
        let found = mounts
            .map_err(|error| error.to_string())?
            .into_iter()
            .map(|mount| (PathBuf::from(plain(&mount.mount_point.to_string_lossy())), mount))
            .filter(|(point, _)| real.starts_with(point))
            .max_by_key(|(point, _)| point.components().count());
        let (point, found) = found.ok_or("no mount holds it")?;
        let all = found.mount_options.iter().chain(&found.super_options);
        let mut options: Vec<String> = all
            .map(|(name, value)| match value {
                Some(value) => format!("{name}={}", plain(value)),
                None => name.clone(),
            })
            .collect();
        options.sort();
        options.dedup();
        Ok(Self {
            file_system: found.fs_type,
            point,
            source: plain(&found.mount_source.unwrap_or_default()),
            device: found.majmin,
            options,
        })
    }

    /// As above: this platform has no mountinfo.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn seen_by(_kernel: &Kernel, _path: &Path) -> Result<Self, String> {
        Err("mounts are read from procfs, which exists on Linux only".into())
    }

    /// The value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        let value = |option: &'_ str| option.strip_prefix(name)?.strip_prefix('=').map(str::len);
        self.options.iter().find_map(|option| {
            let len = value(option)?;
            Some(&option[option.len() - len..])
        })
    }
}

/// Without the escapes of mountinfo: `\040` is a space.
#[cfg(target_os = "linux")]
fn plain(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(char::from(byte));
                plain += &part[3..];
            }
            None => {
                plain.push('\\');
                plain += part;
            }
        }
    }
    plain
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_root_and_proc_are_found() {
        assert_eq!(Mount::of(Path::new("/")).expect("a mount").point, Path::new("/"));
        assert_eq!(Mount::of(Path::new("/proc/self")).expect("a mount").file_system, "proc");
        assert!(Mount::of(Path::new("/no/such/path")).is_err());
    }

    #[test]
    fn a_space_is_written_as_a_number() {
        assert_eq!(plain(r"/mnt/a\040b\134c"), r"/mnt/a b\c");
        assert_eq!(plain(r"\x"), r"\x");
    }

    #[test]
    fn an_option_has_a_value_or_not() {
        let mount = Mount {
            file_system: "overlay".into(),
            point: "/".into(),
            source: "overlay".into(),
            device: "0:30".into(),
            options: vec!["rw".into(), "upperdir=/upper".into(), "upperdirs=no".into()],
        };
        assert_eq!(mount.option("upperdir"), Some("/upper"));
        assert_eq!(mount.option("rw"), None);
    }
}
