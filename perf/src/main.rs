//! `cargo perf`: records to a durable file, and measures what that costs.

mod compare;
mod document;
mod environment;
mod error;
mod gate;
mod latency;
mod output;
mod pace;
#[cfg(feature = "peers")]
mod peers;
mod printer;
mod probe;
mod record;
mod report;
mod scratch;
mod selftest;
mod stop;
mod system_calls;
mod units;
mod verdict;

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
    Probe(probe::Args),
    Compare(Box<compare::Args>),
    Pace(Box<pace::Args>),
    Gate(Box<gate::Args>),
    #[command(name = "selftest")]
    SelfTest(Box<selftest::Args>),
    Report(report::Args),
}

fn main() -> ExitCode {
    stop::go_on_in_the_background();
    let status = match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(answer) => error::of_parser(&answer),
    };
    printer::finish();
    status
}

fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Record(args) => record::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Pace(args) => pace::run(&args),
        Command::Gate(args) => gate::run(&args),
        Command::SelfTest(args) => selftest::run(&args),
        Command::Report(args) => report::run(&args),
    };
    result.unwrap_or_else(|error| error::report(&error))
}
