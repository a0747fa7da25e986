//! Where the kernel shows what it knows: procfs and sysfs of this machine, or a tree that a test
//! has made up.

use std::path::{Path, PathBuf};

/// A root under which `/proc`, `/sys` and everything that they name is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// Without symbolic links.
    root: PathBuf,
}

impl Kernel {
    /// That of this machine.
    pub(crate) fn here() -> Self {
        Self { root: "/".into() }
    }

    /// One in a folder.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.canonicalize().expect("the folder of the test") }
    }

    /// Where a path of that kernel is found.
    pub(crate) fn file(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A path of that kernel without symbolic links. `None`: it does not exist.
    pub(crate) fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let real = self.file(path).canonicalize().ok()?;
        Some(Path::new("/").join(real.strip_prefix(&self.root).ok()?))
    }
}
