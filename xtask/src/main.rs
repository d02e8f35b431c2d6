//! The chores of Southbridge, one command each: `cargo xtask --help` lists them.
//!
//! Output is plain and colourless: a line when a step begins, a line when it ends, and for what
//! fails, the remedy. Exit status 0 means that everything asked for was done and holds.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

mod adapters;
mod check;
mod debian;
mod fuzz;
mod guided;
mod order;
mod picture;
mod programs;
mod python;
mod shell;
mod simulate;
mod suite;
mod synapse;
mod synapses;
mod tidy;
mod trace;
mod wheel;

use shell::Failure;
use suite::Extent;

/// The chores of Southbridge.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Format, clippy, cargo deny, docs, tidy, ruff, pyright, mypy: no warnings.
    Check(Check),
    /// Every test: units, doc tests, then real peers such as Synapse.
    Test(Test),
    /// A federation of hundreds of homeservers on this machine, carried by Southbridge.
    Demo(Passed),
    /// What Southbridge costs, beside a bare client in the same run; `--synapse`: what it saves a Synapse; `--module`: the
    /// same inside of it; `--python`: what the package costs, beside other clients.
    Bench(Passed),
    /// Builds the wheel and the source distribution, and runs the suite on every CPython that is here.
    Wheel(Wheel),
    /// Writes anew in which order the functions of the native module lie, so that those that run lie together.
    Order,
    /// The own tests of httpx, requests, aiohttp, treq and Twisted, with the kernel under their clients.
    Adapters(Adapters),
    /// The module in each release of Synapse that it is for, in an environment of its own: a table of what came of it.
    Synapses(Synapses),
    /// Throws made-up input at a parser that reads what strangers send.
    Fuzz(Fuzz),
    /// Stories of the bus among hosts, networks and disks that fail: `--seeds N [--from S]`, or `--seed X [--verbose]`.
    Simulate(Passed),
    /// The floor plan, the size of files, and that docs/conformance.md tells the truth.
    Tidy,
    /// Runs the demo and draws what it printed, for the README.
    Picture(Passed),
    /// Writes the manual pages and shell completions to target/man.
    Man,
}

#[derive(Debug, Args)]
struct Check {
    /// Also ask the advisory database (fetched from the network) about our dependencies.
    #[arg(long)]
    advisories: bool,
}

#[derive(Debug, Args)]
struct Test {
    /// Leave out the tests that need a real peer.
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Also the counts (1,000 forks and exits, 100,000 cancellations), the wheel on every interpreter, the module in every
    /// release of Synapse: an hour.
    #[arg(long)]
    full: bool,
    /// Run the tests whose name contains this, and nothing else.
    filter: Option<String>,
}

#[derive(Debug, Args)]
struct Wheel {
    /// One interpreter, such as 3.12; all that are found when left out.
    only: Option<String>,
}

#[derive(Debug, Args)]
struct Adapters {
    /// One project, such as httpx; all of them, one after another, when left out.
    only: Option<String>,
}

#[derive(Debug, Args)]
struct Synapses {
    /// One release, such as 1.162.0; all of them, one after another, when left out.
    only: Option<String>,
}

/// What is handed on to another program, untouched.
#[derive(Debug, Args)]
struct Passed {
    /// Arguments of the program itself; `--help` shows them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

#[derive(Debug, Args)]
struct Fuzz {
    /// Which target; all of them, one after another, when left out.
    target: Option<String>,
    /// How long each target runs, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

impl Test {
    fn extent(&self) -> Extent {
        match (self.quick, self.full) {
            (true, _) => Extent::Quick,
            (false, true) => Extent::Full,
            (false, false) => Extent::Usual,
        }
    }
}

fn main() -> ExitCode {
    let done = match Xtask::parse().chore {
        Chore::Check(asked) => check::run(asked.advisories),
        Chore::Test(asked) => suite::run(asked.extent(), asked.filter.as_deref()),
        Chore::Demo(asked) => programs::demo(&asked.args),
        Chore::Bench(asked) => programs::bench(&asked.args),
        Chore::Wheel(asked) => wheel::run(asked.only.as_deref()),
        Chore::Order => order::run(),
        Chore::Adapters(asked) => adapters::run(asked.only.as_deref()),
        Chore::Synapses(asked) => synapses::run(asked.only.as_deref()),
        Chore::Fuzz(asked) => fuzz::run(asked.target.as_deref(), asked.seconds),
        Chore::Simulate(asked) => simulate::run(&asked.args),
        Chore::Tidy => tidy::run(),
        Chore::Picture(asked) => picture::run(&asked.args),
        Chore::Man => programs::man(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    eprintln!("xtask: {}", failure.what);
    if let Some(remedy) = &failure.remedy {
        eprintln!("xtask: remedy: {remedy}");
    }
    ExitCode::FAILURE
}
