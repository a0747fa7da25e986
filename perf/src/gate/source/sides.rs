//! Which two programs are compared, by the options.

use std::path::{Path, PathBuf};

use super::{Commit, Made, Recipe, Workshop, in_place};
use crate::error::Bad;
use crate::gate::program::Start;
use crate::gate::steps::{Pair, Side};
use crate::output::say;
use crate::stop::Stop;

/// Where base and candidate come from.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Base and candidate")]
pub(crate) struct Sources {
    /// The revision to measure against [default: the merge base with main]
    #[arg(long, value_name = "REV", conflicts_with_all = ["base_path", "base_program"])]
    base: Option<String>,

    /// In place of a revision: a checkout, in which the program is built
    #[arg(long, hide_short_help = true, value_name = "DIR", conflicts_with = "base_program")]
    base_path: Option<PathBuf>,

    /// In place of a revision: the program as it was
    #[arg(long, value_name = "FILE")]
    base_program: Option<PathBuf>,

    /// In place of the working tree: a checkout, in which the program is built
    #[arg(long, hide_short_help = true, value_name = "DIR", conflicts_with = "candidate_program")]
    candidate_path: Option<PathBuf>,

    /// In place of the working tree: the program as it is to become
    #[arg(long, value_name = "FILE")]
    candidate_program: Option<PathBuf>,

    /// How a checkout becomes the program: a command for the shell, run at its top
    ///
    /// Without it this project's own operations are built.
    #[arg(long, value_name = "COMMAND", requires = "program")]
    build: Option<String>,

    /// The program that it makes, seen from there
    #[arg(long, value_name = "FILE", requires = "build")]
    program: Option<PathBuf>,

    /// Where programs are built and kept by commit [default: the user's cache]
    #[arg(long, hide_short_help = true, value_name = "DIR")]
    cache: Option<PathBuf>,
}

/// The two programs, and what more can be built.
#[derive(Debug)]
pub(crate) struct Sides {
    pub(crate) pair: Pair,
    /// Open as long as its programs are in use. `None`: nothing came from the repository.
    pub(crate) workshop: Option<Workshop>,
    /// Where the base is one of the repository's.
    pub(crate) base: Option<Commit>,
}

impl Sources {
    /// Builds what has to be built.
    pub(crate) fn sides(&self, stop: &Stop) -> anyhow::Result<Sides> {
        let recipe = self.recipe();
        let mut workshop = None;
        let mut commit = None;
        let base = match (&self.base_program, &self.base_path) {
            (Some(program), _) => ready(program)?,
            (_, Some(folder)) => in_place(&recipe, folder, stop)?,
            _ => {
                let opened = self.workshop(&mut workshop, &recipe, stop)?;
                let chosen = match &self.base {
                    Some(revision) => opened.repository.commit(revision)?,
                    None => {
                        let chosen = opened.repository.default_base()?;
                        say(format_args!("base: {} ({})", chosen.commit.short(), chosen.why));
                        chosen.commit
                    }
                };
                let made = opened.at(&chosen)?;
                commit = Some(chosen);
                made
            }
        };
        let candidate = self.candidate(&mut workshop, &recipe, stop)?;
        let pair = Pair { base: side(base), candidate: side(candidate) };
        Ok(Sides { pair, workshop, base: commit })
    }

    /// Builds the candidate only, which is its own base.
    pub(crate) fn candidate_alone(&self, stop: &Stop) -> anyhow::Result<Sides> {
        let mut workshop = None;
        let candidate = side(self.candidate(&mut workshop, &self.recipe(), stop)?);
        let pair = Pair { base: candidate.clone(), candidate };
        Ok(Sides { pair, workshop, base: None })
    }

    fn candidate(
        &self,
        workshop: &mut Option<Workshop>,
        recipe: &Recipe,
        stop: &Stop,
    ) -> anyhow::Result<Made> {
        match (&self.candidate_program, &self.candidate_path) {
            (Some(program), _) => Ok(ready(program)?),
            (_, Some(folder)) => in_place(recipe, folder, stop),
            _ => self.workshop(workshop, recipe, stop)?.working_tree(),
        }
    }

    fn workshop<'a>(
        &self,
        open: &'a mut Option<Workshop>,
        recipe: &Recipe,
        stop: &Stop,
    ) -> anyhow::Result<&'a Workshop> {
        let opened = match open.take() {
            Some(opened) => opened,
            None => Workshop::open(recipe, self.cache.as_deref(), stop)?,
        };
        Ok(open.insert(opened))
    }

    fn recipe(&self) -> Recipe {
        match (&self.build, &self.program) {
            (Some(build), Some(program)) => {
                Recipe { build: build.clone(), program: program.clone(), needs: None }
            }
            _ => Recipe::ours(),
        }
    }
}

/// A program that was built before.
fn ready(program: &Path) -> Result<Made, Bad> {
    let name = program.display().to_string();
    let program = std::fs::canonicalize(program).map_err(|error| {
        Bad::new(format!("{name} can't be used ({error}): name a program that was built"))
    })?;
    Ok(Made { program, name })
}

pub(crate) fn side(made: Made) -> Side {
    Side { name: made.name, start: Start::of(made.program) }
}
