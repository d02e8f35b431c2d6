//! The `southbridge` command.

use std::process::ExitCode;

use clap::Parser;
use southbridge_daemon::cli::Cli;

fn main() -> ExitCode {
    southbridge_daemon::commands::run(Cli::parse())
}
