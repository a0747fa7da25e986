//! `cargo perf`: records to a durable file, and measures what that costs.

mod error;
mod output;
mod record;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Record to a durable file, and measure what that costs.
#[derive(Debug, Parser)]
#[command(name = "cargo perf", bin_name = "cargo perf", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Record(Box<record::Args>),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => return error::of_parser(&answer),
    };
    let result = match cli.command {
        Command::Record(args) => record::run(&args),
    };
    result.unwrap_or_else(|error| error::report(&error))
}
