//! The mount that holds a path (proc(5), /proc/pid/mountinfo).

use std::path::{Path, PathBuf};

/// What the kernel says of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `ext4`, `tmpfs`, `overlay`, …
    pub file_system: String,
    /// Where it is mounted.
    pub point: PathBuf,
    /// `/dev/…` for a local disk, whatever the file system likes otherwise.
    pub source: String,
    /// `name` or `name=value`: those of the mount and those of the file system, sorted.
    pub options: Vec<String>,
}

impl Mount {
    /// The deepest mount that holds `path`, which has to exist; of several at one point, the last.
    ///
    /// # Errors
    /// Why it can't be seen.
    #[cfg(target_os = "linux")]
    pub fn of(path: &Path) -> Result<Self, String> {
        let path = path.canonicalize().map_err(|error| error.to_string())?;
        let mounts = procfs::process::Process::myself().and_then(|process| process.mountinfo());
        let found = mounts
            .map_err(|error| error.to_string())?
            .into_iter()
            .filter(|mount| path.starts_with(&mount.mount_point))
            .max_by_key(|mount| mount.mount_point.components().count())
            .ok_or("no mount holds it")?;
        let all = found.mount_options.iter().chain(&found.super_options);
        let mut options: Vec<String> = all
            .map(|(name, value)| match value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            })
            .collect();
        options.sort();
        options.dedup();
        Ok(Self {
            file_system: found.fs_type,
            point: found.mount_point,
            source: found.mount_source.unwrap_or_default(),
            options,
        })
    }

    /// As above.
    ///
    /// # Errors
    /// Always: this platform has no mountinfo.
    #[cfg(not(target_os = "linux"))]
    pub fn of(_path: &Path) -> Result<Self, String> {
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
    fn an_option_has_a_value_or_not() {
        let mount = Mount {
            file_system: "overlay".into(),
            point: "/".into(),
            source: "overlay".into(),
            options: vec!["rw".into(), "upperdir=/upper".into(), "upperdirs=no".into()],
        };
        assert_eq!(mount.option("upperdir"), Some("/upper"));
        assert_eq!(mount.option("rw"), None);
    }
}
