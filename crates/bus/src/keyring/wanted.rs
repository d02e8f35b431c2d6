//! What is asked of the keyring, and what it answers.

use std::time::Duration;

use southbridge_words::{ServerName, WallTime};

use crate::signing::{KeyId, ServerKeysError};

/// A key somebody needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whose.
    pub server: ServerName,
    /// Its name.
    pub key: KeyId,
    /// What it shall verify.
    pub purpose: Purpose,
}

/// What a key shall verify, and so when it must have been good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A request that has just come in, or an answer: the key must be one that signs now.
    Request,
    /// An event of a room version from 5 on: the key must have been good when the event was made, and may have
    /// ceased to sign since.
    Event {
        /// When it was made, as it says itself (`origin_server_ts`).
        signed_at: WallTime,
    },
    /// An event of room versions 1 to 4, where any key will do that ever was the server's.
    EventOfOldRoom,
}

/// Why there is no key. Cheap to clone: one error may be told to many.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Whoever was asked answered, and knows no such key.
    #[error("{server} has no key {key}")]
    NotListed {
        /// Whose.
        server: ServerName,
        /// Which.
        key: KeyId,
    },
    /// The key is known, and was not good at the time it would have to be.
    #[error("key {key} of {server} is not valid at the time it is wanted for")]
    NotValid {
        /// Whose.
        server: ServerName,
        /// Which.
        key: KeyId,
    },
    /// The event is from a future for which no key can be good yet. Nobody was asked.
    #[error("event of {server} says it was made further from now than any key is good for")]
    FromTheFuture {
        /// Whose.
        server: ServerName,
    },
    /// Nobody gave an answer that could be believed.
    #[error("no keys of {server} to be had, next attempt in {retry_in:?}: {trouble}")]
    Unavailable {
        /// Whose.
        server: ServerName,
        /// What came of the last attempt.
        trouble: Trouble,
        /// Until then nobody is asked again.
        retry_in: Duration,
    },
    /// Too many keys are being asked for already; nothing is remembered against the server.
    #[error("too many keys are being asked for already")]
    Overloaded,
}

impl KeyError {
    /// Whether asking again later may bring another answer.
    pub fn is_repeatable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Overloaded)
    }
}

/// What came of asking one source for keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// It gave no answer.
    #[error("{0}")]
    Fetch(#[from] FetchFailure),
    /// It answered something that cannot be believed.
    #[error("{0}")]
    NotBelieved(#[from] ServerKeysError),
    /// The keys it answered with have had their time.
    #[error("the keys it answered with are valid no longer")]
    Expired,
    /// The notary answered, and not about this server.
    #[error("the notary knows nothing of it")]
    NotAnswered,
    /// The notary's answer is not signed with a key that the server is known to sign with now.
    #[error("the notary's answer is not signed with a key that is known")]
    NotContinued,
    /// The keys of the notary itself are not to be had.
    #[error("the keys of the notary are not to be had")]
    NotaryUnknown,
    /// The notary failed lately and is left alone for now.
    #[error("the notary failed lately")]
    NotaryFailing,
    /// Fewer notaries than are needed say the same.
    #[error("not enough notaries agree about its keys")]
    NotariesDisagree,
}

/// Why a fetch brought no body with status 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum FetchFailure {
    /// Another status.
    #[error("it answered with status {0}")]
    Status(u16),
    /// Its name has no address, or no connection came about, or TLS failed.
    #[error("it cannot be reached")]
    Unreachable,
    /// It took too long.
    #[error("it did not answer in time")]
    TimedOut,
    /// The body is longer than is taken.
    #[error("its answer is larger than is taken")]
    TooLarge,
    /// We ourselves were too busy to ask: says nothing about the server, and is not remembered.
    #[error("this side is too busy to ask")]
    Overloaded,
}
