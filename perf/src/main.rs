//! `writeflush`: records to a durable file, and measures what that costs.

mod cat;
mod compare;
mod document;
mod environment;
mod error;
#[cfg(target_os = "linux")]
mod follow;
mod gate;
mod latency;
mod name;
mod output;
mod pace;
mod pages;
#[cfg(feature = "peers")]
mod peers;
mod printer;
mod probe;
mod record;
mod recover;
mod report;
mod scratch;
mod selftest;
mod stop;
mod system_calls;
mod units;
mod verdict;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Record to a durable file, and measure what that costs
#[derive(Debug, Parser)]
#[command(name = "writeflush", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Record(Box<record::Args>),
    #[cfg(target_os = "linux")]
    Follow(follow::Args),
    Recover(recover::Args),
    Cat(cat::Args),
    Probe(probe::Args),
    Compare(Box<compare::Args>),
    Pace(Box<pace::Args>),
    Gate(Box<gate::Args>),
    #[command(name = "selftest")]
    SelfTest(Box<selftest::Args>),
    Report(report::Args),
    #[command(hide = true)]
    Pages(pages::Args),
}

fn main() -> ExitCode {
    stop::go_on_in_the_background();
    let command = Cli::command().bin_name(name::called());
    let parsed = command.try_get_matches().and_then(|given| Cli::from_arg_matches(&given));
    let status = match parsed {
        Ok(cli) => run(cli),
        Err(answer) => error::of_parser(&answer),
    };
    printer::finish();
    status
}

fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Record(args) => record::run(&args),
        #[cfg(target_os = "linux")]
        Command::Follow(args) => follow::run(&args),
        Command::Recover(args) => recover::run(&args),
        Command::Cat(args) => cat::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Pace(args) => pace::run(&args),
        Command::Gate(args) => gate::run(&args),
        Command::SelfTest(args) => selftest::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Pages(args) => pages::run(&args, Cli::command()),
    };
    result.unwrap_or_else(|error| error::report(&error))
}
