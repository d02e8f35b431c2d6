//! What the keyring wants done.

use std::fmt;

use bytes::Bytes;
use southbridge_words::{ServerName, Ticket};

use super::KeyError;
use crate::signing::VerifyKey;

/// Pairs a fetch with its answer. Never used twice by one keyring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u64);

impl fmt::Display for FetchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k{}", self.0)
    }
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// GET [`SERVER_PATH`] of `server`, unsigned, and tell [`handle_fetched`](super::Keyring::handle_fetched).
    FetchOrigin {
        /// Goes into the answer.
        id: FetchId,
        /// Whom to ask.
        server: ServerName,
        /// The longest body worth reading.
        bytes_max: usize,
    },
    /// POST `body` to [`QUERY_PATH`] of `notary`, unsigned, and tell
    /// [`handle_fetched`](super::Keyring::handle_fetched).
    FetchNotary {
        /// Goes into the answer.
        id: FetchId,
        /// Whom to ask.
        notary: ServerName,
        /// What to ask: JSON.
        body: Bytes,
        /// The longest body worth reading.
        bytes_max: usize,
    },
    /// `ticket` has its answer.
    Answer {
        /// Whose.
        ticket: Ticket,
        /// The key, or why there is none.
        result: Result<VerifyKey, KeyError>,
    },
    /// The search that `ticket` waits for has ended: [`view`](super::Keyring::view) has what is known now.
    Searched {
        /// Whose.
        ticket: Ticket,
        /// Whether keys that are good now are known.
        result: Result<(), KeyError>,
    },
}

/// Where a server publishes its own keys.
pub const SERVER_PATH: &str = "/_matrix/key/v2/server";
/// Where a notary is asked for those of others.
pub const QUERY_PATH: &str = "/_matrix/key/v2/query";
