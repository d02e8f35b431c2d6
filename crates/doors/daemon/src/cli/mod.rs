//! The command line.

mod bus;
mod debug;
mod stats;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use bus::{Asking, BusPlace, DropQueue, Keys, ListQueues, Queue, Send, ShowQueue, WakeQueues};
pub use debug::{Debug, Ps};
pub use stats::Stats;

use crate::config::Listen;

/// Carries the outbound federation of a Matrix homeserver.
///
/// Southbridge stands between a Synapse and the rest of the federation. Synapse hands it every outbound request;
/// Southbridge finds the other homeserver, keeps connections to it, and keeps the slow and the dead from standing in
/// the way of the others.
#[derive(Debug, Parser)]
#[command(name = "southbridge", version, propagate_version = true, after_long_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve, until told to stop
    ///
    /// Opens the doors that the configuration names. SIGHUP starts a successor with the configuration as it is then,
    /// hands it the listening sockets, and lets what is in flight finish; a configuration with mistakes changes
    /// nothing. SIGTERM and SIGINT finish what is in flight and end; said twice, they end at once.
    Serve(Serve),
    /// Check a configuration, and say everything that is wrong with it
    #[command(after_long_help = CHECK_HELP)]
    CheckConfig(CheckConfig),
    /// Find a homeserver: every step, its time, where the answer came from, and the certificate at the end
    #[command(after_long_help = RESOLVE_HELP)]
    Resolve(Resolve),
    /// Print what can be configured: each key with its kind, its default and the reason
    ConfigReference(ConfigReference),
    /// Hand a PDU or an EDU to the bus
    #[command(after_long_help = bus::SEND_HELP)]
    Send(Send),
    /// See what waits for other homeservers, and what to do about it
    #[command(subcommand, after_long_help = bus::QUEUE_HELP)]
    Queue(Queue),
    /// See the keys of a homeserver, as the bus knows them
    ///
    /// The homeserver and the notaries of `[keys]` are asked when no key is known that is good now.
    #[command(after_long_help = bus::KEYS_HELP)]
    Keys(Keys),
    /// Read what a process has counted, whether it lives or not
    #[command(after_long_help = stats::STATS_HELP)]
    Stats(Stats),
    /// List the processes of this user that can be asked what they are doing
    #[command(after_long_help = debug::DEBUG_HELP)]
    Ps(Ps),
    /// Ask a program what it is doing: its requests, its marks, its stack
    #[command(after_long_help = debug::DEBUG_HELP)]
    Debug(Debug),
    /// Prepare an installation
    #[command(subcommand)]
    Init(Init),
    /// Show Southbridge carrying a federation of hundreds of homeservers, on this machine
    #[command(after_long_help = DEMO_HELP)]
    Demo(Demo),
    /// The federation of the demo
    #[command(hide = true)]
    DemoWorld(DemoWorld),
    /// Print the completions of a shell
    Completions(Completions),
    /// Print the manual page, or write one for each command
    Man(Man),
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
pub struct ConfigFile {
    /// The configuration; left out, the defaults hold
    #[arg(long, short, value_name = "FILE", env = "SOUTHBRIDGE_CONFIG")]
    pub config: Option<PathBuf>,
}

/// `serve`.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    #[allow(missing_docs, reason = "its type says it")]
    pub config: ConfigFile,
}

/// `check-config`.
#[derive(Debug, Args)]
pub struct CheckConfig {
    /// The configuration; another way to write --config
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its type says it")]
    pub config: ConfigFile,
    /// Print the reference of all keys as well
    #[arg(long)]
    pub explain: bool,
}

impl CheckConfig {
    /// The file that is meant.
    pub fn path(&self) -> Option<&PathBuf> {
        self.file.as_ref().or(self.config.config.as_ref())
    }
}

/// `resolve`.
#[derive(Debug, Args)]
pub struct Resolve {
    /// The server name, as in the second half of a user id: `matrix.org`, `example.org:8448`, `[::1]:8448`
    pub name: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its type says it")]
    pub config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Only find it; do not connect to it
    #[arg(long)]
    pub no_connect: bool,
}

/// `config-reference`.
#[derive(Debug, Args)]
pub struct ConfigReference {
    /// Only keys whose name, with its table, contains this: `synapse`, `timeout`, `pool.idle`
    #[arg(value_name = "WORD")]
    pub about: Option<String>,
    /// As a page of the book
    #[arg(long, conflicts_with = "about")]
    pub markdown: bool,
}

/// `init`.
#[derive(Debug, Subcommand)]
pub enum Init {
    /// Print what puts Southbridge before a Synapse
    ///
    /// Prints the lines to add to homeserver.yaml, a configuration for Southbridge, and a pair of units for systemd.
    /// With --write the files are written, and a secret is made that Synapse and Southbridge share.
    #[command(after_long_help = INIT_HELP)]
    Synapse(InitSynapse),
}

/// `init synapse`.
#[derive(Clone, Debug, Args)]
pub struct InitSynapse {
    /// Where Synapse is to connect to: an address, or unix:PATH
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9101", value_parser = parse_listen)]
    pub listen: Listen,
    /// The directory of the configuration and the secret
    #[arg(long, value_name = "DIR", default_value = "/etc/southbridge", value_parser = parse_dir)]
    pub dir: PathBuf,
    /// The user that Southbridge runs as
    #[arg(long, value_name = "USER", default_value = "southbridge")]
    pub user: String,
    /// The group that Synapse runs in: it may read the secret, and connect to a unix socket
    #[arg(long, value_name = "GROUP", default_value = "matrix-synapse")]
    pub synapse_group: String,
    /// Where the southbridge command is; left out, where this one is
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
    /// Write the files into DIR instead of printing them; what is there already is kept
    #[arg(long)]
    pub write: bool,
}

/// `demo`.
#[derive(Clone, Debug, Args)]
pub struct Demo {
    /// How many homeservers there are
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..=20_000))]
    pub hosts: u32,
    /// How long the storm lasts, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub storm_seconds: u64,
}

/// `demo-world`.
#[derive(Clone, Debug, Args)]
pub struct DemoWorld {
    /// How many homeservers there are
    #[arg(long, default_value_t = 300)]
    pub hosts: u32,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// Which shell
    pub shell: clap_complete::Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Write southbridge.1 and a page for each command into this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

fn parse_listen(text: &str) -> Result<Listen, String> {
    let here = std::env::current_dir().unwrap_or_default();
    let listen = Listen::parse(text, &here).map_err(|reason| format!("it {reason}"))?;
    if listen.tls {
        Err("TLS is set up in the configuration; give the bare address".to_owned())
    } else {
        Ok(listen)
    }
}

fn parse_dir(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| error.to_string())
}

const AFTER_HELP: &str = "\
Examples:
  southbridge serve                                   run with the defaults
  southbridge serve --config /etc/southbridge/southbridge.toml
  southbridge check-config /etc/southbridge/southbridge.toml
  southbridge config-reference timeout                what timeouts there are
  southbridge resolve matrix.org                      where a homeserver is, step by step
  southbridge init synapse                            the lines to add to homeserver.yaml
  southbridge queue ls                                what waits for other homeservers
  southbridge stats                                   what processes have counted

Exit codes:
  0  done
  1  failed while running
  2  the command line or the configuration is wrong; standard error says where

Files:
  Without a configuration Southbridge listens for Synapse on 127.0.0.1:9101 and for operators on 127.0.0.1:9110. The
  secret and the database are in the state directory: $STATE_DIRECTORY, /var/lib/southbridge for root, and
  ~/.local/state/southbridge for everyone else.

Environment:
  SOUTHBRIDGE_CONFIG   the configuration, where --config is left out
  SOUTHBRIDGE_SECRET   the secret of the door for Synapse, where the configuration names none
  SOUTHBRIDGE_POSTGRES_PASSWORD
                       the password of the outbox's database, where the configuration names none
  SOUTHBRIDGE_LOG      filter directives of the log, such as info,southbridge_kernel=debug
  LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES, NOTIFY_SOCKET, STATE_DIRECTORY, JOURNAL_STREAM
                       as systemd sets them";

const CHECK_HELP: &str = "\
Nothing is opened and nothing is made: it is safe next to a running Southbridge.

Exit codes:
  0  the configuration is good; a summary is printed
  2  it is not; each mistake is printed as FILE:LINE:COLUMN: what is wrong and what is allowed";

const RESOLVE_HELP: &str = "\
Examples:
  southbridge resolve matrix.org
  southbridge resolve example.org:8448 --json | jq .address

It asks with caches of its own: what it says is what holds now, and not what a running Southbridge remembers.

Exit codes:
  0  found, and reached
  1  not found, or not reached; the report says at which step
  2  the name or the configuration is wrong";

const INIT_HELP: &str = "\
Examples:
  southbridge init synapse
  southbridge init synapse --listen unix:/run/southbridge/synapse.sock
  sudo southbridge init synapse --write && sudo systemctl daemon-reload";

const DEMO_HELP: &str = "\
Three processes on loopback: a federation of fake homeservers with real TLS, .well-known, SRV and DNS; Southbridge as
an operator runs it; and a client that hands messages to its bus as a homeserver does, and asks at its Synapse door as
Synapse does. Messages go to every homeserver: over no connections at all, over those that are open, and in a burst;
presence changes faster than it travels; a fifth of the homeservers hang and a tenth are slow while messages and
questions go on, and then they come back; at last Southbridge is killed in the midst of its work, and started again.
Every line says what the homeservers have seen. It fails if a message is lost, comes twice or in the wrong order.

Nothing leaves this machine, nothing is kept, and no configuration is needed.
";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
