//! A folder for data files that is gone when a measurement ends, however it ends.

use std::path::Path;

use tempfile::TempDir;

use crate::error::Bad;
use crate::output::amount;

/// A folder of our own inside the directory that is measured. Its signals have to be caught
/// ([`Stop`](crate::stop::Stop)), or it stays behind.
#[derive(Debug)]
pub(crate) struct Scratch(TempDir);

impl Scratch {
    /// Checks first whether the directory can be used and has `space` bytes and a tenth to spare.
    pub(crate) fn new(directory: &Path, space: u64) -> Result<Self, Bad> {
        let shown = directory.display();
        if !directory.is_dir() {
            return Err(Bad::new(if directory.exists() {
                format!("{shown} is no directory: name the one where the files are to go")
            } else {
                format!("{shown} does not exist: name a directory on the disk to be measured")
            }));
        }
        let folder = tempfile::Builder::new().prefix(".writeflush-perf-").tempdir_in(directory);
        let folder = folder.map_err(|error| {
            Bad::new(format!("no file can be made in {shown} ({error}): name another directory"))
        })?;
        let needed = space.saturating_add(space / 10);
        match fs4::available_space(directory) {
            Ok(free) if free < needed => Err(Bad::new(format!(
                "{shown} has {} free and the files take up to {}: free some space, or name \
                 another directory",
                amount(free as f64),
                amount(needed as f64),
            ))),
            _ => Ok(Self(folder)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_work_is_said_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let says = |path: &Path, space| Scratch::new(path, space).unwrap_err().to_string();
        assert!(says(&folder.path().join("no"), 1).contains("does not exist"));
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(says(&file, 1).contains("is no directory"));
        assert!(says(folder.path(), 1 << 62).contains("TB"));
        std::fs::remove_file(&file).unwrap();
        let inside = Scratch::new(folder.path(), 1).unwrap();
        assert!(inside.path().exists());
        drop(inside);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
