//! `ps` and `debug`: the command line of the debug sockets.

use std::path::PathBuf;

use clap::Args;

/// `ps`.
#[derive(Clone, Debug, Args)]
pub struct Ps {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the sockets are; left out, where programs of this user put them
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `debug`.
#[derive(Clone, Debug, Args)]
pub struct Debug {
    /// The process
    #[arg(value_name = "PID")]
    pub pid: u32,
    /// The Python stack of its main thread
    #[arg(long)]
    pub stack: bool,
    /// The Python stacks of all its threads
    #[arg(long)]
    pub stacks: bool,
    /// Its requests under way
    #[arg(long)]
    pub requests: bool,
    /// The marks that it is in
    #[arg(long)]
    pub marks: bool,
    /// Print the pages as JSON
    #[arg(long)]
    pub json: bool,
    /// Ask anew every second, for as long as it answers
    #[arg(long)]
    pub watch: bool,
    /// Where its socket is; left out, where programs of this user put theirs
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

impl Debug {
    /// The pages that are meant: all, when none is named.
    pub fn pages(&self) -> Vec<&'static str> {
        let asked = [
            (self.marks, "marks"),
            (self.requests, "requests"),
            (self.stack, "stack"),
            (self.stacks, "stacks"),
        ];
        let named: Vec<&str> =
            asked.iter().filter(|(is_asked, _)| *is_asked).map(|(_, page)| *page).collect();
        if named.is_empty() { vec!["process", "marks", "requests", "stack"] } else { named }
    }
}

pub(super) const DEBUG_HELP: &str = "\
A program that embeds Southbridge answers at a unix socket of its own, also while it hangs. Its stack is read from
beside it: nobody is interrupted.

Examples:
  southbridge ps                       which processes can be asked
  southbridge debug 4711               what this one is doing
  southbridge debug 4711 --stack --watch
  southbridge debug 4711 --stacks --json

Exit codes:
  0  it has answered
  1  there is no such process, it does not answer, or not to everything
  2  the command line is wrong";
