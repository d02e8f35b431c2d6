//! `stats`: the command line of the statistics.

use std::path::PathBuf;

use clap::Args;

/// `stats`.
#[derive(Clone, Debug, Args)]
pub struct Stats {
    /// A process id, or a file that a process left; left out, those that are found are listed
    #[arg(value_name = "FILE|PID")]
    pub of: Option<PathBuf>,
    /// Print JSON
    #[arg(long, conflicts_with = "prometheus")]
    pub json: bool,
    /// Print the text format of Prometheus
    #[arg(long, requires = "of")]
    pub prometheus: bool,
    /// Print anew every second, for as long as the process lives
    #[arg(long, requires = "of")]
    pub watch: bool,
    /// Where the files are; left out, where a Southbridge of this user or of systemd puts them
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

impl Stats {
    /// The process that is meant, unless it is a file.
    pub fn pid(&self) -> Option<u32> {
        self.of.as_ref()?.to_str()?.parse().ok()
    }
}

pub(super) const STATS_HELP: &str = "\
A process that embeds Southbridge keeps its figures in a memory-mapped file. They are read without asking it, so also
while it hangs, and after it has crashed: the files of the last 8 crashes are kept for a week.

Examples:
  southbridge stats                                   which processes there are, and were
  southbridge stats 4711                              what it has counted
  southbridge stats 4711 --watch
  southbridge stats /run/user/1000/southbridge/4711-1764356400000-0.stats --prometheus

Exit codes:
  0  read
  1  there is no such file, or it cannot be read, or not to its end
  2  the command line is wrong";
