//! The bounds of the keyring, and whom it asks.

use std::time::Duration;

use southbridge_words::ServerName;

use crate::signing::{KeyId, VerifyKey};

/// How much the keyring remembers and asks. Durations are plain; counts are entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyringLimits {
    /// Servers remembered, those included of which only a failure is known. Default 20 000.
    pub servers_max: usize,
    /// Keys remembered of one server, old ones included; an answer with more is not believed. Default 64: busy
    /// servers that change keys every year have a dozen.
    pub keys_per_server_max: usize,
    /// Bytes remembered in all. Default 16 MiB: about 0.4 KiB a server.
    pub bytes_max: usize,
    /// Tickets waiting in all. Default 20 000.
    pub waiting_max: usize,
    /// Fetches from origins under way. Default 64; further ones wait for their turn.
    pub origin_fetches_max: usize,
    /// Refreshes under way in the background. Default 16, so that they never crowd out those who wait.
    pub background_max: usize,
    /// Servers in one query to a notary. Default 32.
    pub batch_max: usize,
    /// Queries to one notary under way. Default 4; what is asked meanwhile is gathered into the next.
    pub batches_max: usize,
    /// The longest answer of an origin that is read, in bytes. Default 64 KiB.
    pub origin_bytes_max: usize,
    /// The longest answer of a notary that is read, in bytes. Default 1 MiB.
    pub notary_bytes_max: usize,
    /// How long to wait for a fetch that nobody answers for. The driver has a shorter timeout of its own; this one
    /// only makes sure that no ticket hangs. Default 40 s.
    pub fetch_max: Duration,
    /// The longest time a key is believed without asking anew. Default 7 days, the specification's cap.
    pub believed_max: Duration,
    /// How soon after a good answer the same server is asked again, for a key that was not in it. Default 1 min: a
    /// stranger who makes up key ids must not make us ask a third party each time.
    pub again_min: Duration,
    /// How long a server that could not be asked is left alone; doubles up to
    /// [`failure_max`](Self::failure_max), give or take a tenth. Default 10 s.
    pub failure_first: Duration,
    /// The longest time a failing server is left alone. Default 1 h.
    pub failure_max: Duration,
}

impl Default for KeyringLimits {
    fn default() -> Self {
        Self {
            servers_max: 20_000,
            keys_per_server_max: 64,
            bytes_max: 16 * 1024 * 1024,
            waiting_max: 20_000,
            origin_fetches_max: 64,
            background_max: 16,
            batch_max: 32,
            batches_max: 4,
            origin_bytes_max: 64 * 1024,
            notary_bytes_max: 1024 * 1024,
            fetch_max: Duration::from_secs(40),
            believed_max: Duration::from_secs(7 * 24 * 3600),
            again_min: Duration::from_secs(60),
            failure_first: Duration::from_secs(10),
            failure_max: Duration::from_secs(3600),
        }
    }
}

/// Whom the keyring asks, and in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Who is asked first.
    pub first: First,
    /// Notaries, in the order they are asked; each only for what those before it did not answer. Default none.
    pub notaries: Vec<Notary>,
    /// How many notaries must say the same before it is believed. Default 1; 0 means 1. With more, a single notary
    /// that lies, or is lied to, achieves nothing.
    pub agreement_min: usize,
}

/// Who is asked first for a server's keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum First {
    /// The server itself, and notaries where it does not answer: nobody else learns whom we speak with.
    #[default]
    Origin,
    /// Notaries, and the server itself for what they do not know: fewer connections where many servers are met
    /// at once.
    Notaries,
}

/// A server that vouches for the keys of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notary {
    /// Its name. It is never asked about itself.
    pub server: ServerName,
    /// Its own keys, where the operator knows them; otherwise those it publishes are fetched from itself.
    pub keys: Vec<(KeyId, VerifyKey)>,
}
