//! What each command does.

pub mod bus;
pub mod check_config;
pub mod debug;
pub mod demo;
pub mod init;
pub mod manual;
pub mod resolve;
pub mod stats;

use std::process::ExitCode;

use crate::cli::{Cli, Command, Init};

/// Done.
pub const DONE: u8 = 0;
/// Failed while running.
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
pub const MISCONFIGURED: u8 = 2;

/// Runs the command of `cli`. The code says how it ended; the reasons are on standard error.
pub fn run(cli: Cli) -> ExitCode {
    let code = match cli.command {
        Command::Serve(arguments) => crate::serve::run(&arguments),
        Command::CheckConfig(arguments) => check_config::run(&arguments),
        Command::Resolve(arguments) => resolve::run(&arguments),
        Command::ConfigReference(arguments) => check_config::print_reference(&arguments),
        Command::Send(arguments) => bus::send::run(&arguments),
        Command::Queue(what) => bus::queue::run(&what),
        Command::Keys(arguments) => bus::keys::run(&arguments),
        Command::Stats(arguments) => stats::run(&arguments),
        Command::Ps(arguments) => debug::list(&arguments),
        Command::Debug(arguments) => debug::run(&arguments),
        Command::Init(Init::Synapse(arguments)) => init::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::DemoWorld(arguments) => demo::run_world(arguments.hosts as usize),
        Command::Completions(arguments) => manual::print_completions(&arguments),
        Command::Man(arguments) => manual::run(&arguments),
    };
    ExitCode::from(code)
}

/// Writes `text` to standard output. A reader that has gone (`| head`) is not a failure.
pub(crate) fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}
