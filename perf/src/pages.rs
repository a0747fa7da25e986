//! `pages`: the manual pages and the completions of shells, made from the options as they are.
//! A test looks that those in `man/` and `completions/` are current.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Command;
use clap_complete::Shell;

/// Write the manual pages and the completions below this directory
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// It gets two directories: man and completions
    directory: PathBuf,
}

pub(crate) fn run(args: &Args, command: Command) -> anyhow::Result<ExitCode> {
    write(&args.directory, command)
        .with_context(|| format!("could not write to {}", args.directory.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn write(directory: &Path, command: Command) -> std::io::Result<()> {
    let mut command = command.disable_help_subcommand(true); // a page for each would say nothing
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    std::fs::create_dir_all(&man)?;
    std::fs::create_dir_all(&completions)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, "writeflush", &completions)?;
    }
    clap_mangen::generate_to(command, &man)
}
