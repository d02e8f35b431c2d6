//! The `southbridge` command.

use std::process::ExitCode;

use clap::Parser;
use southbridge_daemon::cli::Cli;
use tikv_jemallocator::Jemalloc;

/// Ten thousand hosts at once leave holes of every size: see the decision on the allocator.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    southbridge_daemon::commands::run(Cli::parse())
}
