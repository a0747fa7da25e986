//! Against repositories that are made for it. A "program" here is a script that a build copies.

use super::*;
use crate::error;

/// A repository with three commits, the last two on a branch of its own.
struct Rig {
    folder: tempfile::TempDir,
    recipe: Recipe,
    stop: Stop,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recipe = Recipe {
            build:
                "cp program.in built && test ! -e broken || { echo 'error: broken'; exit 1; } >&2"
                    .into(),
            program: "built".into(),
            needs: Some("program.in".into()),
        };
        let rig = Self { folder, recipe, stop: Stop::unset() };
        fs::create_dir(rig.root()).unwrap();
        rig.git(&["init", "--quiet", "-b", "main"]);
        rig.commit("program.in", "one");
        rig.git(&["checkout", "--quiet", "-b", "change"]);
        rig.commit("program.in", "two");
        rig.commit("program.in", "three");
        rig
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.arg("-C").arg(self.root()).args(["-c", "user.name=x", "-c", "user.email=x@y.z"]);
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.root().join(file), text).unwrap();
    }

    fn commit(&self, file: &str, text: &str) {
        self.write(file, text);
        self.git(&["add", file]);
        self.git(&["commit", "--quiet", "-m", text]);
    }

    fn workshop(&self) -> Workshop {
        let cache = self.folder.path().join("cache");
        Workshop::open_at(&self.recipe, &self.root(), Some(&cache), &self.stop).unwrap()
    }

    /// Everything in the user's repository that a gate could change, with when it was changed.
    fn state(&self) -> Vec<(PathBuf, std::time::SystemTime)> {
        fn walk(folder: &Path, all: &mut Vec<(PathBuf, std::time::SystemTime)>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let what = fs::symlink_metadata(&path).unwrap();
                all.push((path.clone(), what.modified().unwrap()));
                if what.is_dir() {
                    walk(&path, all);
                }
            }
        }
        let mut all = Vec::new();
        walk(&self.root(), &mut all);
        all.sort();
        all
    }
}

fn says(made: &Made) -> String {
    fs::read_to_string(&made.program).unwrap()
}

fn refusal<T: std::fmt::Debug>(result: anyhow::Result<T>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error::status(&error), error::BAD, "{error:#}");
    let sentence = format!("{error:#}");
    assert!(!sentence.contains('\n'), "{sentence}");
    sentence
}

#[test]
fn base_and_candidate_are_built_and_nothing_of_the_users_is_touched() {
    let rig = Rig::new();
    rig.write("program.in", "four");
    rig.write("new file", "");
    let before = rig.state();
    let workshop = rig.workshop();
    let chosen = workshop.repository.default_base().unwrap();
    assert!(chosen.why.contains("merge base with main"), "{}", chosen.why);
    let base = workshop.at(&chosen.commit).unwrap();
    assert_eq!(says(&base), "one");
    let candidate = workshop.working_tree().unwrap();
    assert_eq!(says(&candidate), "four");
    assert!(candidate.name.contains("with uncommitted changes"));
    let named = workshop.repository.commit("change~1").unwrap();
    assert_eq!(says(&workshop.at(&named).unwrap()), "two");
    assert!(workshop.repository.commits_since(&chosen.commit).unwrap().len() == 2);
    assert!(!workshop.folder.join("tree").exists(), "the copy is gone");
    assert_eq!(rig.state(), before);
}

#[test]
fn a_commit_is_built_once() {
    let rig = Rig::new();
    let workshop = rig.workshop();
    let commit = workshop.repository.commit("HEAD").unwrap();
    let made = workshop.at(&commit).unwrap();
    fs::write(&made.program, "kept").unwrap();
    assert_eq!(says(&workshop.at(&commit).unwrap()), "kept");
    let clean = workshop.working_tree().unwrap();
    assert_eq!(says(&clean), "kept", "a tree without changes is its commit");
    let other = Recipe { build: format!("{} && true", rig.recipe.build), ..rig.recipe.clone() };
    drop(workshop);
    let cache = rig.folder.path().join("cache");
    let workshop = Workshop::open_at(&other, &rig.root(), Some(&cache), &rig.stop).unwrap();
    assert_eq!(says(&workshop.at(&commit).unwrap()), "three", "another way to build it");
}

#[test]
fn without_a_branch_the_base_is_what_was_there_before() {
    let rig = Rig::new();
    rig.git(&["checkout", "--quiet", "main"]);
    let workshop = rig.workshop();
    let sentence = workshop.repository.default_base().unwrap_err().to_string();
    assert!(sentence.contains("--base"), "{sentence}");
    rig.git(&["merge", "--quiet", "change"]);
    let before = workshop.repository.default_base().unwrap();
    assert_eq!(before.commit, workshop.repository.commit("main~1").unwrap());
    rig.write("program.in", "changed");
    let before = workshop.repository.default_base().unwrap();
    assert_eq!(before.commit, workshop.repository.commit("main").unwrap());
}

#[test]
fn what_can_not_be_built_is_said_in_a_line() {
    let rig = Rig::new();
    rig.commit("broken", "a build that fails");
    rig.git(&["rm", "--quiet", "broken", "program.in"]);
    rig.git(&["commit", "--quiet", "-m", "nothing to build"]);
    let workshop = rig.workshop();
    let unknown = workshop.repository.commit("no-such").unwrap_err().to_string();
    assert!(unknown.contains("no revision no-such") && unknown.contains("--base"), "{unknown}");
    let option = workshop.repository.commit("--all").unwrap_err().to_string();
    assert!(option.contains("no revision --all"), "{option}");
    let lacks = workshop.repository.commit("HEAD").unwrap();
    assert!(refusal(workshop.at(&lacks)).contains("lacks the workload: there is no program.in"));
    let broken = workshop.repository.commit("HEAD~1").unwrap();
    let sentence = refusal(workshop.at(&broken));
    assert!(sentence.contains("does not build by `cp ") && sentence.contains("error: broken"));
    assert!(!workshop.folder.join("tree").exists(), "the copy is gone");

    let elsewhere = tempfile::tempdir().unwrap();
    let none = Workshop::open_at(&rig.recipe, elsewhere.path(), None, &rig.stop);
    assert!(refusal(none).contains("--base-program"));
    rig.stop.ask();
    let stopped = workshop.at(&workshop.repository.commit("HEAD~2").unwrap()).unwrap_err();
    assert!(stopped.is::<Interrupted>());
    assert!(!workshop.folder.join("tree").exists(), "also after Ctrl-C");
}

#[test]
fn a_checkout_is_built_where_it_lies() {
    let rig = Rig::new();
    assert_eq!(says(&in_place(&rig.recipe, &rig.root(), &rig.stop).unwrap()), "three");
    let file = rig.root().join("program.in");
    assert!(refusal(in_place(&rig.recipe, &file, &rig.stop)).contains("is no directory"));
}

#[test]
fn the_line_that_says_why_a_build_failed_is_found() {
    let rustc = "   Compiling x\nerror[E0425]: no `y`\n --> z\n";
    assert_eq!(first_error(rustc), "error[E0425]: no `y`");
    assert_eq!(first_error("cc: gone\nmake: stopped\n\n"), "make: stopped");
    assert_eq!(first_error("\n"), "it says nothing");
}
