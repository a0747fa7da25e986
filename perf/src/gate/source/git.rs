//! What git is asked about the user's repository. Nothing in it is changed: no worktree is added to
//! it, no reference, and its index is not refreshed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::error::Bad;

/// Branches that a change is usually measured against, the first that exists.
const MAINS: [&str; 5] = ["main", "origin/main", "master", "origin/master", "origin/HEAD"];

/// The repository that the gate was started in.
#[derive(Debug)]
pub(crate) struct Repository {
    /// Its working tree.
    pub(crate) root: PathBuf,
}

/// One commit of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// All 40 digits.
    pub(crate) hash: String,
    /// The first line of its message.
    pub(crate) subject: String,
}

impl Commit {
    /// The first twelve digits.
    pub(crate) fn short(&self) -> &str {
        self.hash.get(..12).unwrap_or(&self.hash)
    }
}

impl std::fmt::Display for Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.short(), self.subject)
    }
}

/// What the candidate is measured against where nobody names it, and why.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) commit: Commit,
    pub(crate) why: String,
}

impl Repository {
    /// The one that holds `folder`.
    pub(crate) fn around(folder: &Path) -> Result<Self, Bad> {
        let output = git(folder, &["rev-parse", "--show-toplevel"])?;
        match answer(&output) {
            Some(root) => Ok(Self { root: root.into() }),
            None => Err(Bad::new(format!(
                "{} is in no git repository that can be read ({}): start the gate in one, or name \
                 two programs with --base-program and --candidate-program",
                folder.display(),
                first_line(&output.stderr)
            ))),
        }
    }

    /// The commit that a revision names.
    pub(crate) fn commit(&self, revision: &str) -> Result<Commit, Bad> {
        let name = format!("{revision}^{{commit}}");
        // After it no word that begins with a dash is an option.
        let found = self.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &name])?;
        let Some(hash) = found else {
            return Err(Bad::new(format!(
                "there is no revision {revision} here: fetch it (in CI a checkout needs its whole \
                 history, fetch-depth: 0), or name another one with --base"
            )));
        };
        let subject = self.ask(&["show", "--no-patch", "--format=%s", &hash])?;
        Ok(Commit { hash, subject: subject.unwrap_or_default() })
    }

    /// Whether files differ from the last commit, new files included.
    pub(crate) fn is_changed(&self) -> Result<bool, Bad> {
        let changed = self.ask(&["status", "--porcelain"])?;
        Ok(changed.is_none_or(|files| !files.is_empty()))
    }

    /// The merge base with main. Where that is the last commit itself: what the changes in the
    /// working tree were made to, or, without changes, the commit before.
    pub(crate) fn default_base(&self) -> Result<Chosen, Bad> {
        let head = self.commit("HEAD")?;
        let Some(main) = MAINS.into_iter().find(|name| self.commit(name).is_ok()) else {
            return Err(Bad::new(
                "there is no branch main or master to measure against: name a revision with --base",
            ));
        };
        let merged = self.ask(&["merge-base", "HEAD", main])?.ok_or_else(|| {
            Bad::new(format!(
                "HEAD and {main} have no commit in common here: fetch the whole history \
                 (fetch-depth: 0), or name a revision with --base"
            ))
        })?;
        if merged != head.hash {
            let why = format!("the merge base with {main}");
            return Ok(Chosen { commit: self.commit(&merged)?, why });
        }
        if self.is_changed()? {
            return Ok(Chosen { commit: head, why: "what the working tree was made from".into() });
        }
        match self.commit("HEAD^") {
            Ok(commit) => Ok(Chosen { commit, why: format!("before the last commit of {main}") }),
            Err(_) => Err(Bad::new(
                "the first commit has nothing before it: name what to measure against with --base",
            )),
        }
    }

    /// The commits after `base` up to HEAD, the oldest first, merges as one.
    pub(crate) fn commits_since(&self, base: &Commit) -> Result<Vec<Commit>, Bad> {
        let range = format!("{}..HEAD", base.hash);
        let list = self.ask(&["rev-list", "--first-parent", "--reverse", &range])?;
        list.unwrap_or_default().lines().map(|hash| self.commit(hash)).collect()
    }

    /// The files of the working tree as they are: tracked ones, and new ones that are not ignored.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>, Bad> {
        let listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let output = git(&self.root, &listed)?;
        if !output.status.success() {
            return Err(Bad::new(format!(
                "git can't list the files of {} ({})",
                self.root.display(),
                first_line(&output.stderr)
            )));
        }
        let mut names: Vec<PathBuf> = output
            .stdout
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| PathBuf::from(String::from_utf8_lossy(name).as_ref()))
            .collect();
        names.dedup(); // a file in conflict stands there three times
        Ok(names)
    }

    /// Lays the files of a commit into an empty folder, which becomes a repository that borrows the
    /// objects of this one.
    pub(super) fn check_out(&self, commit: &Commit, into: &Path) -> Result<(), Bad> {
        let failed = |why: String| {
            let into = into.display();
            Bad::new(format!("commit {} can't be laid out in {into}: {why}", commit.short()))
        };
        let path = |name: &str| -> Result<Option<PathBuf>, Bad> {
            let found = self.ask(&["rev-parse", "--path-format=absolute", "--git-path", name])?;
            Ok(found.map(PathBuf::from))
        };
        let step = |arguments: &[&str]| -> Result<(), Bad> {
            let output = git(into, arguments)?;
            let well = output.status.success();
            if well { Ok(()) } else { Err(failed(first_line(&output.stderr))) }
        };
        let objects = path("objects")?.ok_or_else(|| failed("no objects are found".into()))?;
        step(&["init", "--quiet"])?;
        let written = |error: std::io::Error| failed(error.to_string());
        let alternates = into.join(".git/objects/info/alternates");
        std::fs::write(alternates, format!("{}\n", objects.display())).map_err(written)?;
        if let Some(shallow) = path("shallow")?.filter(|file| file.exists()) {
            std::fs::copy(shallow, into.join(".git/shallow")).map_err(written)?;
        }
        step(&["checkout", "--quiet", "--detach", &commit.hash])
    }

    /// What git answers; `None`: it has no answer.
    fn ask(&self, arguments: &[&str]) -> Result<Option<String>, Bad> {
        Ok(answer(&git(&self.root, arguments)?))
    }
}

fn answer(output: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.trim().to_owned())
}

pub(super) fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or("it says nothing").to_owned()
}

/// Runs git in `folder`. A hook that runs the gate has its own repository and index in the
/// environment: they are not meant.
fn git(folder: &Path, arguments: &[&str]) -> Result<Output, Bad> {
    let mut command = Command::new("git");
    command.arg("--no-optional-locks").arg("-C").arg(folder).args(arguments);
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
        command.env_remove(name);
    }
    command.output().map_err(|error| {
        Bad::new(format!("git can't be started ({error}): install it, or name two programs"))
    })
}
