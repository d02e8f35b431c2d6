//! The command line of `send`, `queue` and `keys`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use southbridge_words::ServerName;

use super::{ConfigFile, parse_listen};
use crate::config::Listen;

/// Where the bus of a running Southbridge is.
#[derive(Clone, Debug, Args)]
pub struct BusPlace {
    #[command(flatten)]
    #[allow(missing_docs, reason = "its type says it")]
    pub config: ConfigFile,
    /// Where the bus listens: an address, or unix:PATH; left out, the configuration says it
    #[arg(long, value_name = "ADDRESS", value_parser = parse_listen)]
    pub bus: Option<Listen>,
    /// The file with the secret of the bus; left out, the configuration says it
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}

/// Of whom something is asked, and how the answer is shown.
#[derive(Clone, Debug, Args)]
pub struct Asking {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its type says it")]
    pub place: BusPlace,
}

/// `send`.
#[derive(Clone, Debug, Args)]
pub struct Send {
    /// The JSON of the PDU, or with --edu the content of the EDU; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
    /// To whom; may be given several times
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub to: Vec<ServerName>,
    /// A file with server names, one on each line
    #[arg(long, value_name = "FILE")]
    pub to_file: Option<PathBuf>,
    /// It is an EDU of this type: `m.typing`, `m.direct_to_device`
    #[arg(long, value_name = "TYPE")]
    pub edu: Option<String>,
    /// A name for it: sent again under the same one, it is not accepted a second time
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// The id of the PDU, for logs and results
    #[arg(long, value_name = "ID", conflicts_with = "edu")]
    pub event_id: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its type says it")]
    pub asking: Asking,
}

/// `queue`.
#[derive(Clone, Debug, Subcommand)]
pub enum Queue {
    /// List the queues: what waits for whom, and why
    Ls(ListQueues),
    /// Show one queue
    Show(ShowQueue),
    /// Try again now: end the back-off of homeservers
    Wake(WakeQueues),
    /// Give up what waits for a homeserver
    ///
    /// Says what is lost, and asks. What was given up is never delivered to this homeserver; others are not concerned.
    Drop(DropQueue),
}

/// `queue ls`.
#[derive(Clone, Debug, Args)]
pub struct ListQueues {
    /// Only those in this state: ready, waiting, reading, asked, beginning, flying
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its type says it")]
    pub asking: Asking,
}

/// `queue show`.
#[derive(Clone, Debug, Args)]
pub struct ShowQueue {
    /// The server name
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub destination: ServerName,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its type says it")]
    pub asking: Asking,
}

/// `queue wake`.
#[derive(Clone, Debug, Args)]
pub struct WakeQueues {
    /// The server names
    #[arg(value_name = "NAME", required = true, value_parser = parse_name)]
    pub destinations: Vec<ServerName>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its type says it")]
    pub asking: Asking,
}

/// `queue drop`.
#[derive(Clone, Debug, Args)]
pub struct DropQueue {
    /// The server name
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub destination: ServerName,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its type says it")]
    pub asking: Asking,
}

/// `keys`.
#[derive(Clone, Debug, Args)]
pub struct Keys {
    /// The server name
    #[arg(value_name = "SERVER", value_parser = parse_name)]
    pub server: ServerName,
    /// Forget its keys first, and that it failed: it was set up anew, and has lost them
    #[arg(long)]
    pub forget: bool,
    /// How long asking may take, in seconds; 0 waits for as long as it takes
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=50))]
    pub timeout: u64,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its type says it")]
    pub asking: Asking,
}

fn parse_name(text: &str) -> Result<ServerName, String> {
    ServerName::parse(text).map_err(|error| error.to_string())
}

pub(super) const SEND_HELP: &str = "\
What is acknowledged as durable is on the disk, and is sent until it is delivered. PDUs travel as they are: they must
be signed already.

Examples:
  southbridge send event.json --to matrix.org --to example.org:8448
  southbridge send event.json --to-file room-members.txt --key '$event-id'
  echo '{\"room_id\":\"!r:a\",\"user_id\":\"@u:a\",\"typing\":true}' | southbridge send --edu m.typing --to b

Exit codes:
  0  accepted
  1  refused, or the bus cannot be asked
  2  the command line, the file or the configuration is wrong";

pub(super) const KEYS_HELP: &str = "\
Examples:
  southbridge keys matrix.org
  southbridge keys matrix.org --json | jq '.keys[] | select(.good_now)'
  southbridge keys example.org --forget               its operator has lost the old key

Exit codes:
  0  done
  1  the bus cannot be asked, or nobody gave an answer that could be believed
  2  the command line or the configuration is wrong";

pub(super) const QUEUE_HELP: &str = "\
Examples:
  southbridge queue ls --state waiting                what waits for homeservers that do not answer
  southbridge queue show matrix.org
  southbridge queue wake matrix.org                   it is back: try now
  southbridge queue drop gone.example                 says what is lost, and asks
  southbridge queue ls --limit 10000 --json | jq '[.queues[].items] | add'

Exit codes:
  0  done
  1  the bus cannot be asked, knows no such queue, or nothing was dropped
  2  the command line or the configuration is wrong";
