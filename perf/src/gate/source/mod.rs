//! From a revision, a checkout or the working tree to a program that can be measured. The user's
//! repository, files and index are only read.

mod git;
mod sides;
#[cfg(all(test, unix))]
mod tests;
mod tree;

use std::fs::{self, File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::Context;

pub(crate) use self::git::{Commit, Repository};
pub(crate) use self::sides::{Sides, Sources, side};
use self::tree::Tree;
use super::child;
use crate::error::{Bad, Interrupted};
use crate::output::say;
use crate::stop::{LOOK_EVERY, Stop};

/// Programs of older commits that are kept.
const KEPT: usize = 20;
/// The longest that a build may take.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How a tree becomes a program.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Recipe {
    /// A line for the shell, run at the top of the tree.
    pub(crate) build: String,
    /// What it makes, seen from there.
    pub(crate) program: PathBuf,
    /// A file without which a tree has no such program, where that is known before a build.
    pub(crate) needs: Option<PathBuf>,
}

impl Recipe {
    /// This project's own operations.
    pub(crate) fn ours() -> Self {
        Self {
            build: "cargo build --quiet --release --locked -p writeflush-operations".into(),
            program: "target/release/writeflush-operations".into(),
            needs: Some("perf/operations/Cargo.toml".into()),
        }
    }
}

/// A program, and what it was made from.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) program: PathBuf,
    /// For people: a commit, a path, `… with uncommitted changes`.
    pub(crate) name: String,
}

/// Where programs of one repository are built and kept. One gate at a time is in it, as long as it
/// uses these programs.
#[derive(Debug)]
pub(crate) struct Workshop {
    pub(crate) repository: Repository,
    recipe: Recipe,
    folder: PathBuf,
    stop: Stop,
    _lock: File,
}

impl Workshop {
    /// Waits for another gate that is at work on the same repository. `cache`: the folder for all
    /// repositories, if it is not to be the user's.
    pub(crate) fn open(recipe: &Recipe, cache: Option<&Path>, stop: &Stop) -> anyhow::Result<Self> {
        let here = std::env::current_dir().context("there is no current directory")?;
        Self::open_at(recipe, &here, cache, stop)
    }

    fn open_at(
        recipe: &Recipe,
        here: &Path,
        cache: Option<&Path>,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let repository = Repository::around(here)?;
        let name = repository.root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("{name}-{:016x}", digest(&repository.root));
        let folder = cache.map_or_else(users_cache, Path::to_owned).join(name);
        // Trees lie in it, with links to what it holds and commands that run in them.
        let folder = std::path::absolute(folder)?;
        let failed = |error: std::io::Error| {
            let shown = folder.display();
            Bad::new(format!("{shown} can't be used to build in ({error}): name one with --cache"))
        };
        fs::create_dir_all(folder.join("programs")).map_err(failed)?;
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        let mut waits = false;
        while let Err(refused) = lock.try_lock() {
            match refused {
                TryLockError::Error(error) => return Err(failed(error).into()),
                TryLockError::WouldBlock if stop.asked() => return Err(Interrupted.into()),
                TryLockError::WouldBlock => {}
            }
            if !std::mem::replace(&mut waits, true) {
                say(format_args!("another gate builds in {}: waiting for it", folder.display()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(Self { repository, recipe: recipe.clone(), folder, stop: stop.clone(), _lock: lock })
    }

    /// The program of a commit: built, or kept from an earlier run.
    pub(crate) fn at(&self, commit: &Commit) -> anyhow::Result<Made> {
        let name = commit.to_string();
        let kept = self.kept(commit);
        if !kept.exists() {
            let tree = Tree::of_commit(&self.repository, commit, &self.folder.join("tree"))?;
            self.build(&tree, &name, &kept)?;
        } else if let Ok(file) = File::options().append(true).open(&kept) {
            let _ = file.set_modified(SystemTime::now()); // the longest unused is forgotten first
        }
        Ok(Made { program: kept, name })
    }

    /// The program of the working tree as it is now.
    pub(crate) fn working_tree(&self) -> anyhow::Result<Made> {
        let head = self.repository.commit("HEAD")?;
        if !self.repository.is_changed()? {
            return self.at(&head);
        }
        let name = format!("{} with uncommitted changes", head.short());
        let tree = Tree::of_working_tree(&self.repository, &self.folder.join("tree"))?;
        let program = self.folder.join("programs/working-tree");
        self.build(&tree, &name, &program)?;
        Ok(Made { program, name })
    }

    /// Where the program of a commit is kept: it also depends on how it is built, and by what.
    fn kept(&self, commit: &Commit) -> PathBuf {
        let compiler = Command::new("rustc").arg("-vV").output().map(|output| output.stdout);
        let flags = ["RUSTFLAGS", "CFLAGS", "CC"].map(std::env::var_os);
        let how = digest(&(&self.recipe, compiler.unwrap_or_default(), flags));
        self.folder.join(format!("programs/{}-{how:016x}", commit.short()))
    }

    fn build(&self, tree: &Tree, name: &str, kept: &Path) -> anyhow::Result<()> {
        tree.keep_target(&self.folder.join("target")).context("no folder for what cargo builds")?;
        let log = self.folder.join("build.log");
        let program = build(&self.recipe, tree.path(), name, &log, &self.stop)?;
        self.forget_old_programs();
        // Whole or not at all: a copy that was cut short must not be taken for the program.
        let place = tempfile::NamedTempFile::new_in(self.folder.join("programs"))?;
        fs::copy(&program, place.path())
            .with_context(|| format!("{} can't be kept: is there room?", program.display()))?;
        place.persist(kept).context("the program can't be kept")?;
        Ok(())
    }

    fn forget_old_programs(&self) {
        let Ok(all) = fs::read_dir(self.folder.join("programs")) else { return };
        let age = |entry: &fs::DirEntry| entry.metadata().and_then(|what| what.modified()).ok();
        let mut all: Vec<_> = all.filter_map(Result::ok).collect();
        all.sort_by_key(age);
        let old = all.len().saturating_sub(KEPT);
        all.iter().take(old).for_each(|entry| drop(fs::remove_file(entry.path())));
    }
}

/// Builds in a checkout of the user's, where it lies.
pub(crate) fn in_place(recipe: &Recipe, folder: &Path, stop: &Stop) -> anyhow::Result<Made> {
    let shown = folder.display();
    if !folder.is_dir() {
        return Err(Bad::new(format!("{shown} is no directory: name a checkout")).into());
    }
    let folder = folder.canonicalize().with_context(|| format!("{shown} can't be read"))?;
    let logs = tempfile::NamedTempFile::new()?;
    let program = build(recipe, &folder, &shown.to_string(), logs.path(), stop)?;
    Ok(Made { program, name: shown.to_string() })
}

/// Runs the recipe in a tree. The program is where the recipe puts it.
fn build(
    recipe: &Recipe,
    tree: &Path,
    name: &str,
    log: &Path,
    stop: &Stop,
) -> anyhow::Result<PathBuf> {
    let lacking = |file: &Path| {
        Bad::new(format!(
            "{name} lacks the workload: there is no {} in it; take a base that has one",
            file.display()
        ))
    };
    if let Some(file) = recipe.needs.as_ref().filter(|file| !tree.join(file).exists()) {
        return Err(lacking(file).into());
    }
    say(format_args!("building {name}"));
    let mut command = Command::new(if cfg!(windows) { "cmd" } else { "sh" });
    command.arg(if cfg!(windows) { "/C" } else { "-c" }).arg(&recipe.build).current_dir(tree);
    // The program is looked for in the tree; a hook's repository is not the tree's.
    for variable in ["CARGO_TARGET_DIR", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    let ended = child::run(&mut command, "", PATIENCE, stop)?;
    if !ended.status.success() {
        let _ = fs::write(log, format!("{}{}", ended.stdout, ended.stderr));
        return Err(Bad::new(format!(
            "{name} does not build by `{}`: {} (all of it: {})",
            recipe.build,
            first_error(&ended.stderr),
            log.display()
        ))
        .into());
    }
    let program = tree.join(&recipe.program);
    if program.is_file() { Ok(program) } else { Err(lacking(&recipe.program).into()) }
}

/// The line of a compiler's output that says most.
fn first_error(output: &str) -> &str {
    let mut lines = output.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines.clone().find(|line| line.contains("error"));
    error.or(lines.next_back()).unwrap_or("it says nothing")
}

/// The user's folder for what can be made again.
fn users_cache() -> PathBuf {
    let named =
        |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    named("XDG_CACHE_HOME")
        .or_else(|| named("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("writeflush-gate")
}

fn digest(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
