//! A copy of the user's files, in which a program is built, and which goes when that is done.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::git::{Commit, Repository};
use crate::error::Bad;

/// A folder of the gate's. Base and candidate lie in the same one, one after the other, so that
/// the paths that a compiler puts into a program are alike.
#[derive(Debug)]
pub(super) struct Tree(PathBuf);

impl Tree {
    /// The files of a commit.
    pub(super) fn of_commit(
        repository: &Repository,
        commit: &Commit,
        place: &Path,
    ) -> Result<Self, Bad> {
        let tree = Self::empty(place)?;
        repository.check_out(commit, &tree.0)?;
        Ok(tree)
    }

    /// The files of the working tree, changes and new files included.
    pub(super) fn of_working_tree(repository: &Repository, place: &Path) -> Result<Self, Bad> {
        let tree = Self::empty(place)?;
        for name in repository.files()? {
            copy(&repository.root.join(&name), &tree.0.join(&name)).map_err(|error| {
                Bad::new(format!("{} can't be copied to build it: {error}", name.display()))
            })?;
        }
        Ok(tree)
    }

    fn empty(place: &Path) -> Result<Self, Bad> {
        let fresh = || {
            if place.exists() {
                fs::remove_dir_all(place)?; // left by a gate that was killed
            }
            fs::create_dir_all(place)
        };
        let failed = |error| Bad::new(format!("{} can't be made: {error}", place.display()));
        fresh().map(|()| Self(place.to_owned())).map_err(failed)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What cargo builds outlives the tree, so that the next build finds its dependencies.
    pub(super) fn keep_target(&self, target: &Path) -> io::Result<()> {
        let inside = self.0.join("target");
        if !self.0.join("Cargo.toml").exists() || inside.exists() {
            return Ok(());
        }
        fs::create_dir_all(target)?;
        #[cfg(unix)]
        std::os::unix::fs::symlink(target, inside)?;
        Ok(())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file, a link, or a folder (a submodule). What was deleted since the last commit is left out.
/// The copy's times are of now: cargo takes an older file for one that it has built.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(what) = fs::symlink_metadata(from) else { return Ok(()) };
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    if what.is_dir() {
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
    } else if what.is_symlink() {
        #[cfg(unix)]
        std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
    } else if what.is_file() {
        fs::copy(from, to)?;
        if let Ok(copied) = fs::File::options().append(true).open(to) {
            copied.set_modified(SystemTime::now())?; // macOS keeps the old time
        }
    }
    Ok(())
}
